//! SIGINT and SIGTERM: the first one asks to stop, a second one ends the process at once.

use anyhow::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::Exit;

/// Listens for the two signals.
pub(crate) struct Signals {
    stop: watch::Receiver<Option<Exit>>,
}

impl Signals {
    /// Starts listening.
    pub(crate) fn listen() -> Result<Self, Error> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let (tell, stop) = watch::channel(None);
        tokio::spawn(listen(interrupt, terminate, tell));
        Ok(Self { stop })
    }

    /// Resolves with the exit status once a signal came.
    ///
    /// Cancellation safety: may be dropped at any await.
    pub(crate) async fn stop(&mut self) -> Exit {
        match self.stop.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit(130)),
            // The listener ends only with the process.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn listen(mut interrupt: Signal, mut terminate: Signal, tell: watch::Sender<Option<Exit>>) {
    let mut asked = false;
    loop {
        // 128 and the signal's number, as shells say it.
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit(130),
            _ = terminate.recv() => Exit(143),
        };
        if asked {
            std::process::exit(i32::from(exit.0));
        }
        asked = true;
        crate::logging::to_stderr("redress: stopping; once more to stop at once");
        tell.send_replace(Some(exit));
    }
}
