//! Walking through index sets, and taking members out of them: for reconciliation only.

use fred::interfaces::{ClientLike, KeysInterface, SetsInterface};
use fred::types::{ClusterHash, CustomCommand};

use super::Cache;
use crate::error::Error;

/// Members asked for at once: a hint to the server.
const PAGE: &str = "500";

impl Cache {
    /// A page of the members of a set, and where the next begins (`0`: there is none). A member may come twice.
    pub(crate) async fn members(&self, set: &str, from: &str) -> Result<(String, Vec<String>), Error> {
        let arguments = vec![set.to_owned(), from.to_owned(), "COUNT".to_owned(), PAGE.to_owned()];
        self.scan("SSCAN", arguments).await
    }

    /// A page of the keys that look like `pattern`.
    pub(crate) async fn keys_like(&self, pattern: &str, from: &str) -> Result<(String, Vec<String>), Error> {
        let arguments = [from, "MATCH", pattern, "COUNT", PAGE, "TYPE", "set"].map(str::to_owned);
        self.scan("SCAN", arguments.to_vec()).await
    }

    async fn scan(
        &self,
        command: &'static str,
        arguments: Vec<String>,
    ) -> Result<(String, Vec<String>), Error> {
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.client.custom(command, arguments).await.map_err(|error| self.error("reading", error))
    }

    /// Takes a member out of a set.
    pub(crate) async fn remove(&self, set: &str, member: &str) -> Result<(), Error> {
        let removed = self.client.srem::<i64, _, _>(set, member).await;
        removed.map(|_| ()).map_err(|error| self.error("trimming", error))
    }

    /// Whether a key is there.
    pub(crate) async fn is_there(&self, key: &str) -> Result<bool, Error> {
        let there = self.client.exists::<i64, _>(key).await;
        there.map(|count| count > 0).map_err(|error| self.error("reading", error))
    }
}
