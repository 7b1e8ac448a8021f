//! What reaches an operation from outside its holder: joins, repeats, requests, late results, switches.

use redress_types::Timestamp;

use super::state::Tables;
use crate::error::Error;
use crate::record::{
    AlertRecord, Claim, Delivered, InboxRow, Join, LateResult, Post, Posted, Repeat, Request, Switch,
};

impl Tables {
    pub(super) fn repeat(&mut self, repeat: &Repeat) -> Result<AlertRecord, Error> {
        let Some(record) = self.alerts.get_mut(&repeat.id) else {
            return Err(Error::Unstorable { what: format!("alert {} is not known", repeat.id) });
        };
        if repeat.conflict {
            record.conflicts += 1;
        } else {
            record.count += 1;
            record.last_seen = record.last_seen.max(repeat.at);
        }
        self.commits += 1;
        Ok(record.clone())
    }

    pub(super) fn join(&mut self, join: Join) -> Result<Delivered, Error> {
        let request = Request::Join { alert: join.content };
        let row = self.operations.get(&join.operation);
        if let Some(known) = self.alerts.get(&join.alert.id) {
            // The same join again: its answer was lost.
            let before = row.filter(|_| known.joined && known.operation == join.operation);
            let before = before.and_then(|row| row.inbox.iter().find(|row| row.request == request));
            return match before {
                Some(before) => Ok(Delivered { record: known.clone(), request: before.seq }),
                None => Err(Error::KnownAlert(Box::new(known.clone()))),
            };
        }
        let Some(row) = row else { return Err(Error::NotFound(join.operation)) };
        if row.head.state.is_ended() {
            return Err(Error::Ended { operation: join.operation, state: row.head.state });
        }
        let claim = Claim::Fingerprint(join.alert.fingerprint.as_str().to_owned());
        let holder = self.claims.get(&claim).copied();
        if let Some(holder) = holder.filter(|holder| *holder != join.operation) {
            return Err(Error::Lost { claim, holder });
        }
        let (key, at) = (format!("join:{}", join.alert.id), join.alert.seen_at);
        let record = self.record_alert(join.alert, join.operation, true);
        self.claims.insert(claim.clone(), join.operation);
        let mut seq = 0;
        self.change(join.operation, |row| {
            if holder.is_none() {
                row.claims.push(claim);
            }
            row.head.inbox += 1;
            seq = row.head.inbox;
            row.inbox.push(InboxRow { seq, key, request, actor: join.actor, at });
        });
        self.commits += 1;
        self.woke = true;
        Ok(Delivered { record, request: seq })
    }

    pub(super) fn post(&mut self, post: Post, log_now: Timestamp) -> Result<Posted, Error> {
        let Some(row) = self.operations.get(&post.operation) else {
            return Err(Error::NotFound(post.operation));
        };
        let held_by = row.head.session.filter(|session| !self.is_over(*session, log_now));
        if let Some(first) = row.inbox.iter().find(|first| first.key == post.key) {
            if first.request != post.request {
                let what = format!("request {:?} to operation {}", post.key, post.operation);
                return Err(Error::DifferentContent { what });
            }
            return Ok(Posted { request: first.seq, before: true, held_by });
        }
        if row.head.state.is_ended() {
            return Err(Error::Ended { operation: post.operation, state: row.head.state });
        }
        let seq = row.head.inbox + 1;
        let Post { operation, key, request, actor, at } = post;
        self.change(operation, |row| {
            row.head.inbox = seq;
            row.inbox.push(InboxRow { seq, key, request, actor, at });
        });
        self.commits += 1;
        self.woke = true;
        Ok(Posted { request: seq, before: false, held_by })
    }

    pub(super) fn keep_late(&mut self, late: LateResult) -> Result<(), Error> {
        let id = late.key.operation;
        let Some(row) = self.operations.get_mut(&id) else { return Err(Error::NotFound(id)) };
        if !row.late.contains(&late) {
            row.late.push(late);
            self.commits += 1;
        }
        Ok(())
    }

    pub(super) fn set_switch(&mut self, key: &str, switch: Option<Switch>) {
        let switch = switch.map(|switch| Switch { key: key.to_owned(), ..switch });
        if self.switches.get(key) == switch.as_ref() {
            return;
        }
        match switch {
            Some(switch) => self.switches.insert(key.to_owned(), switch),
            None => self.switches.remove(key),
        };
        self.switch_changes += 1;
        self.commits += 1;
        self.woke = true;
    }
}
