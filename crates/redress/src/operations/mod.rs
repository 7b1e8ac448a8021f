//! `redress operations`: the history for people, and the two requests that a person can leave.
//!
//! [`read`] finds and folds one operation, [`words`] says its events, [`list`], [`show`] and [`entries`] print,
//! [`ask`] leaves a request in the inbox.

mod ask;
mod entries;
mod list;
pub(crate) mod read;
mod show;
pub(crate) mod words;

pub(crate) use self::ask::me;

use anyhow::Error;

use crate::Exit;
use crate::cli::{Global, Operations};
use crate::database::Place;

/// One of its commands.
pub(crate) async fn operations(global: &Global, asked: Operations) -> Result<Exit, Error> {
    let place = Place::of(global)?;
    let log = place.open_existing().await?;
    match asked {
        Operations::List(asked) => list::list(global, &*log, &place, &asked).await,
        Operations::Show(which) => show::show(global, &*log, &place, &which.id).await,
        Operations::Log(which) => entries::entries(global, &*log, &which.id).await,
        Operations::Cancel(asked) => ask::cancel(global, &*log, &place, asked).await,
        Operations::Resolve(asked) => ask::resolve(global, &*log, &place, asked).await,
    }
}
