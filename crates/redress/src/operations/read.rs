//! Reading one operation, as the HTTP service does it, with a hint for people at a terminal.

use anyhow::{Error, bail};
use redress_api::read::{self, Error as ReadError};
use redress_operation_log::{Head, OperationHistory};

use crate::text::short;

/// The operation that a UUID, a name, a unique beginning or end of one, or an alert's id means.
pub(crate) async fn find(history: &dyn OperationHistory, text: &str) -> Result<Head, Error> {
    match read::find(history, text).await {
        Err(ReadError::Unknown(text)) if text.is_empty() => {
            bail!("the operation's id is empty; `redress operations list` shows what there is")
        }
        Err(error @ ReadError::Unknown(_)) => bail!("{error}; `redress operations list` shows what there is"),
        found => Ok(found?),
    }
}

/// The head's target and title as they stand in a line.
pub(crate) fn about(head: &Head) -> (String, String) {
    let target = if head.target.service.is_empty() {
        "(no service)".to_owned()
    } else {
        short(&head.target.to_string(), 40)
    };
    (target, short(&head.title, 60))
}
