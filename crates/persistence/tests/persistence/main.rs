//! The persistence step against real tables: every story runs on SQLite and on Postgres, those of the cache against
//! a Redis of their own. `world` holds the log and delivers what it owes; the other files tell the stories.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation fails the test"
)]

mod cache;
mod comments;
mod engine;
mod race;
mod reading;
mod reconcile;
mod servers;
mod tables;
mod tls;
mod together;
mod world;

/// Runs a story on both backends.
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            #[tokio::test]
            async fn on_sqlite() {
                super::super::$story(crate::servers::Db::sqlite()).await;
            }

            #[tokio::test]
            #[ignore = "needs Postgres: ./test runs it"]
            async fn on_postgres() {
                super::super::$story(crate::servers::Db::postgres().await).await;
            }
        }
    )+};
}
pub(crate) use on_both;
