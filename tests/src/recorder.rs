//! [`Recorder`]: an HTTP server on the loopback that counts effects by idempotency key, and stops where told.
//!
//! What is asked is decided by a [`Target`]: [`crate::recorder_steps`] is one with scripted answers,
//! [`crate::recorder_deployments`] a deployment system. The wire is in [`crate::recorder_http`]. Effects are
//! counted here and nowhere else: what a log says was done proves nothing about the world.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::recorder_http::{self as http, Request};

/// The world behind the server. It is asked about one request at a time.
pub trait Target: Send + 'static {
    /// Does what is asked, writes down in the ledger what was done, and says what to answer.
    fn answer(&mut self, request: &Request, ledger: &mut Ledger) -> Reply;
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A status and a JSON body.
    Json(u16, Value),
    /// Nothing: the connection is closed.
    Close,
}

/// What was seen of one idempotency key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// POSTs received.
    pub posts: u64,
    /// How often it was done.
    pub applied: u64,
    /// The fencing token of each POST, in order.
    pub tokens: Vec<(u64, u64)>,
}

/// Everything that was seen, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    effects: BTreeMap<String, Effect>,
    complaints: Vec<String>,
}

impl Ledger {
    /// What was seen of a key.
    #[must_use]
    pub fn effect(&self, key: &str) -> Effect {
        self.effects.get(key).cloned().unwrap_or_default()
    }

    /// All keys.
    #[must_use]
    pub fn effects(&self) -> &BTreeMap<String, Effect> {
        &self.effects
    }

    /// What no engine may do: a POST without a key or token, a token that went back.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Writes down that the effect of a key was done.
    pub fn apply(&mut self, key: &str) {
        self.effects.entry(key.to_owned()).or_default().applied += 1;
    }

    fn received(&mut self, request: &Request) {
        let what = format!("{} {}", request.method, request.path);
        let Some(key) = request.headers.get("idempotency-key") else {
            self.complaints.push(format!("{what} has no idempotency key"));
            return;
        };
        let effect = self.effects.entry(key.clone()).or_default();
        effect.posts += 1;
        let Some(token) = request.headers.get("redress-fencing-token").and_then(|text| fencing(text)) else {
            self.complaints.push(format!("{what} under {key} has no fencing token"));
            return;
        };
        if let Some(newest) = effect.tokens.iter().max().filter(|newest| **newest > token) {
            self.complaints.push(format!("{what} under {key} came with token {token:?} after {newest:?}"));
        }
        effect.tokens.push(token);
    }
}

/// Incarnation and epoch; they are compared as numbers.
fn fencing(text: &str) -> Option<(u64, u64)> {
    let (incarnation, epoch) = text.split_once('.')?;
    Some((incarnation.parse().ok()?, epoch.parse().ok()?))
}

/// A moment in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It was read. Stopped here, it is never carried out.
    Arrived,
    /// It was carried out. Stopped here, it is never answered.
    CarriedOut,
    /// Its answer was written.
    Answered,
}

impl Moment {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::Arrived, Self::CarriedOut, Self::Answered];
}

/// The server. Dropped, it answers nothing more and its port is free.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: Box<dyn Target>,
    ledger: Ledger,
    requests: u64,
    /// Connections that are not done.
    open: u64,
    stop: Option<(u64, Moment)>,
    stopped: bool,
    ended: bool,
}

impl Recorder {
    /// Starts on a free port.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub fn start(target: impl Target) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            target: Box::new(target),
            ledger: Ledger::default(),
            requests: 0,
            open: 0,
            stop: None,
            stopped: false,
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was seen so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.lock().ledger.clone()
    }

    /// How many requests arrived so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.lock().requests
    }

    /// Waits until everything that was sent before has been dealt with.
    ///
    /// # Errors
    /// When the server cannot be spoken to.
    pub fn settle(&self) -> io::Result<()> {
        // Connections are accepted in order: once this one is, all before it were.
        let mut last = TcpStream::connect(self.address)?;
        last.shutdown(Shutdown::Write)?;
        last.read_to_end(&mut Vec::new())?;
        let state = self.shared.lock();
        let idle = self.shared.changed.wait_while(state, |state| state.open > 0);
        drop(idle.unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Holds the `request`th request from now on (from 1) at this moment, until [`release`](Self::release).
    pub fn stop_at(&self, request: u64, moment: Moment) {
        let mut state = self.shared.lock();
        state.stop = Some((state.requests + request, moment));
        state.stopped = false;
    }

    /// Waits until a request is held. False: none was within the limit.
    #[must_use]
    pub fn wait_until_stopped(&self, limit: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, limit, |state| !state.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    /// Lets a held request go, and holds no other.
    pub fn release(&self) {
        self.shared.lock().stop = None;
        self.shared.changed.notify_all();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.stop = None;
        drop(state);
        self.shared.changed.notify_all();
        // Whoever accepts waits for a connection: it gets one.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True: the request was held at this moment.
    fn pass(&self, request: u64, moment: Moment) -> bool {
        let mut state = self.lock();
        let here = Some((request, moment));
        if state.stop != here {
            return false;
        }
        state.stopped = true;
        self.changed.notify_all();
        while state.stop == here {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.lock().ended {
            return;
        }
        let Ok((stream, _)) = accepted else { continue };
        shared.lock().open += 1;
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that was killed breaks its connection; that is what is being tested.
            serve(stream, &shared).unwrap_or_default();
            shared.lock().open -= 1;
            shared.changed.notify_all();
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = http::read(&mut stream)?;
    let number = {
        let mut state = shared.lock();
        state.requests += 1;
        if request.method == "POST" {
            state.ledger.received(&request);
        }
        state.requests
    };
    if shared.pass(number, Moment::Arrived) {
        return Ok(());
    }
    let reply = {
        let state = &mut *shared.lock();
        state.target.answer(&request, &mut state.ledger)
    };
    if shared.pass(number, Moment::CarriedOut) {
        return Ok(());
    }
    if let Reply::Json(status, body) = reply {
        http::write(stream.get_mut(), status, &body)?;
    }
    shared.pass(number, Moment::Answered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(ledger: &mut Ledger, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = Request { method: "POST".into(), path: "/x".into(), headers, body: String::new() };
        ledger.received(&request);
    }

    #[test]
    fn a_token_that_goes_back_is_noticed() {
        let mut ledger = Ledger::default();
        for token in ["0.9", "0.10", "1.1"] {
            post(&mut ledger, &[("idempotency-key", "k"), ("redress-fencing-token", token)]);
        }
        assert_eq!(ledger.complaints(), [] as [String; 0]);
        post(&mut ledger, &[("idempotency-key", "k"), ("redress-fencing-token", "0.11")]);
        assert_eq!(ledger.complaints(), ["POST /x under k came with token (0, 11) after (1, 1)"]);
        assert_eq!(ledger.effect("k").posts, 4);
    }

    #[test]
    fn what_cannot_be_counted_is_noticed() {
        let mut ledger = Ledger::default();
        post(&mut ledger, &[]);
        post(&mut ledger, &[("idempotency-key", "k")]);
        assert_eq!(
            ledger.complaints(),
            ["POST /x has no idempotency key", "POST /x under k has no fencing token"]
        );
    }
}
