//! [`until`] and [`until_async`]: looking until there is something to see.
//!
//! Only for what another process does: within one, wait for its signal (a [`Gate`](crate::Gate), a watch, a receipt).

use std::error::Error;
use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Why a look saw nothing, or why nothing was seen in time.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What a look sees: `None`, or a failure, when it is not there yet.
pub type Look<T> = Result<Option<T>, Failure>;

/// Looks until there is something to see. Blocks its thread.
///
/// # Errors
/// When there was nothing within the limit, with what was missed and the last failure.
#[expect(clippy::disallowed_methods, reason = "other processes know nothing of a paused clock")]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Look<T>) -> Result<T, Failure> {
    let began = std::time::Instant::now();
    loop {
        let looked = look();
        if let Ok(Some(seen)) = looked {
            return Ok(seen);
        }
        if began.elapsed() > limit {
            return Err(missed(limit, what, looked.err()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], without blocking. Cancellation safe as far as `look` is.
///
/// # Errors
/// As those of [`until`].
pub async fn until_async<T, F>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Look<T>>,
{
    let began = tokio::time::Instant::now();
    loop {
        let looked = look().await;
        if let Ok(Some(seen)) = looked {
            return Ok(seen);
        }
        if began.elapsed() > limit {
            return Err(missed(limit, what, looked.err()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn missed(limit: Duration, what: &str, last: Option<Failure>) -> Failure {
    let last = last.map(|failure| format!("; at last: {failure}")).unwrap_or_default();
    format!("not seen within {limit:?}: {what}{last}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing, then a failure, then the answer.
    fn third(looks: &mut u32) -> Look<u32> {
        *looks += 1;
        match looks {
            1 => Ok(None),
            2 => Err("not there".into()),
            _ => Ok(Some(*looks)),
        }
    }

    #[test]
    fn looks_again_until_it_sees() {
        let mut looks = 0;
        assert_eq!(until(Duration::from_secs(60), "the third", || third(&mut looks)).unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_limit_and_says_what_it_missed() {
        let mut looks = 0;
        let look = || std::future::ready(third(&mut looks));
        assert_eq!(until_async(Duration::from_secs(60), "the third", look).await.unwrap(), 3);
        let never = until_async(Duration::from_secs(60), "a sign", async || Look::<()>::Err("gone".into()));
        assert_eq!(never.await.unwrap_err().to_string(), "not seen within 60s: a sign; at last: gone");
    }
}
