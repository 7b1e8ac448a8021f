//! Where the tables and the cache are: from the environment names that other programs use already (contracts §7)
//! and from URLs. No secret shows in `Debug` or in an error.

use std::path::PathBuf;
use std::str::FromStr;

use redress_types::url::without_password;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::comment::Language;
use crate::error::Error;

/// Everything the persistence step is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the tables are.
    pub tables: TablesSettings,
    /// Where the cache is; `None`: there is none.
    pub cache: Option<CacheSettings>,
    /// The language of comments.
    pub language: Language,
    /// Make the tables that are missing, where that is allowed.
    pub create_tables: bool,
}

impl Settings {
    /// Tables at this place, made when missing; no cache; comments in Chinese.
    pub fn new(tables: TablesSettings) -> Self {
        Self { tables, cache: None, language: Language::default(), create_tables: true }
    }
}

/// Where the tables are.
#[derive(Clone)]
pub enum TablesSettings {
    /// A Postgres database.
    Postgres(Box<PgConnectOptions>),
    /// A SQLite file; not the log's own, see [`Tables::beside`](crate::Tables::beside).
    Sqlite(PathBuf),
}

impl std::fmt::Debug for TablesSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // sqlx shows the password in its own Debug.
        f.write_str(&self.shown())
    }
}

impl TablesSettings {
    /// From `DB_HOST DB_PORT DB_USER DB_PASSWORD DB_NAME DB_SSLMODE`; `None` when `DB_HOST` is not set or empty.
    /// `get` answers an environment name.
    ///
    /// # Errors
    /// [`Error::Setting`] names the name at fault.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let Some(host) = get("DB_HOST") else { return Ok(None) };
        let mut options = PgConnectOptions::new_without_pgpass().host(&host);
        if let Some(port) = get("DB_PORT") {
            let parsed = port.parse().ok().filter(|port: &u16| *port > 0);
            let port = parsed
                .ok_or_else(|| Error::setting("DB_PORT", format!("{port:?} is not a port (1 to 65535)")))?;
            options = options.port(port);
        }
        let user = get("DB_USER").ok_or_else(|| Error::setting("DB_USER", "is needed beside DB_HOST"))?;
        let name = get("DB_NAME").ok_or_else(|| Error::setting("DB_NAME", "is needed beside DB_HOST"))?;
        options = options.username(&user).database(&name);
        if let Some(password) = get("DB_PASSWORD") {
            options = options.password(&password);
        }
        if let Some(mode) = get("DB_SSLMODE") {
            let parsed = PgSslMode::from_str(&mode).map_err(|_| {
                let known = "disable, allow, prefer, require, verify-ca, verify-full";
                Error::setting("DB_SSLMODE", format!("{mode:?} is none of {known}"))
            })?;
            options = options.ssl_mode(parsed);
        }
        Ok(Some(Self::Postgres(Box::new(options))))
    }

    /// From `postgres://user:password@host:port/database`, `sqlite://file`, or a path.
    ///
    /// # Errors
    /// [`Error::Setting`]; never repeats the URL, which may hold a password.
    pub fn from_url(setting: &str, url: &str) -> Result<Self, Error> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|_| {
                Error::setting(
                    setting,
                    "is not a Postgres URL; write postgres://user:password@host:5432/database",
                )
            })?;
            return Ok(Self::Postgres(Box::new(options)));
        }
        let path = url.strip_prefix("sqlite://").unwrap_or(url);
        if path.is_empty() || path.contains("://") || path.contains('\0') {
            return Err(Error::setting(setting, "is neither postgres://… nor sqlite://… nor a path"));
        }
        Ok(Self::Sqlite(path.into()))
    }

    /// For people: where, without secrets.
    pub fn shown(&self) -> String {
        match self {
            // Built here: the options' own URL panics on what no URL can hold, `::1` among it.
            Self::Postgres(options) => {
                let database = options.get_database().unwrap_or_else(|| options.get_username());
                let place = match options.get_socket() {
                    Some(socket) => socket.display().to_string(),
                    None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
                };
                without_password(&format!("postgres://{}@{place}", options.get_username()))
            }
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
        }
    }
}

/// Where the cache is.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheSettings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u8,
    /// Over TLS, with the server's certificate checked.
    pub(crate) tls: bool,
}

impl std::fmt::Debug for CacheSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

const REDIS_URL: &str = "write redis://host:6379/0, or redis://:password@host:6379/0; with TLS rediss://…";

impl CacheSettings {
    /// From `REDIS_ADDR` (`host:port`, or a URL), `REDIS_PASSWORD`, `REDIS_DB`; `None` when `REDIS_ADDR` is not set
    /// or empty. `get` answers an environment name.
    ///
    /// # Errors
    /// [`Error::Setting`] names the name at fault.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let Some(address) = get("REDIS_ADDR") else { return Ok(None) };
        let mut settings = if address.contains("://") {
            Self::from_url("REDIS_ADDR", &address)?
        } else {
            let (host, port) = address_of(&address)
                .ok_or_else(|| Error::setting("REDIS_ADDR", format!("{address:?} is not host:port")))?;
            Self { host, port, user: None, password: None, database: 0, tls: false }
        };
        if let Some(password) = get("REDIS_PASSWORD") {
            settings.password = Some(password);
        }
        if let Some(database) = get("REDIS_DB") {
            settings.database = number("REDIS_DB", &database)?;
        }
        Ok(Some(settings))
    }

    /// From `redis://[[user]:password@]host[:port][/database]`, or the same with `rediss://` for TLS: then the server's
    /// certificate must be for that host, and signed by a CA that the system trusts.
    ///
    /// # Errors
    /// [`Error::Setting`]; never repeats the URL, which may hold a password.
    pub fn from_url(setting: &str, url: &str) -> Result<Self, Error> {
        let wrong = || Error::setting(setting, format!("is not a Redis URL; {REDIS_URL}"));
        let (tls, rest) = match url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        if rest.contains(['?', '#']) {
            return Err(wrong());
        }
        // A password may hold an `@` that nobody escaped: the last one ends it.
        let (login, place) =
            rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = address_of(address).ok_or_else(wrong)?;
        if tls && ServerName::try_from(host.as_str()).is_err() {
            return Err(Error::setting(
                setting,
                "the host is no name or address that a certificate can be for",
            ));
        }
        let database = if database.is_empty() { 0 } else { number(setting, database)? };
        let (user, password) = match login {
            None => (None, None),
            Some(login) => {
                let (user, password) = login.split_once(':').ok_or_else(wrong)?;
                let part = |text: &str| -> Result<Option<String>, Error> {
                    let text = unescaped(text).ok_or_else(wrong)?;
                    Ok(Some(text).filter(|text| !text.is_empty()))
                };
                (part(user)?, part(password)?)
            }
        };
        Ok(Self { host, port, user, password, database, tls })
    }

    /// For people: where, without secrets.
    pub fn shown(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{host}:{}/{}", self.port, self.database)
    }
}

fn number(setting: &str, text: &str) -> Result<u8, Error> {
    text.parse()
        .map_err(|_| Error::setting(setting, format!("database {text:?} is not a number from 0 to 255")))
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn address_of(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(6379), |port| port.parse().ok().filter(|port| *port > 0))?;
    let named = !host.is_empty() && !host.contains(['/', '@', ' ', '\0']);
    named.then(|| (host.to_owned(), port))
}

/// Percent-encoding undone; `None` when it is broken.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_database_comes_from_its_names() {
        assert!(TablesSettings::from_environment(env(&[("DB_USER", "u")])).unwrap().is_none());
        let all = [
            ("DB_HOST", "db"),
            ("DB_PORT", "6432"),
            ("DB_USER", "u"),
            ("DB_PASSWORD", "s3cret"),
            ("DB_NAME", "alerts"),
            ("DB_SSLMODE", "disable"),
        ];
        let settings = TablesSettings::from_environment(env(&all)).unwrap().unwrap();
        assert_eq!(format!("{settings:?}"), "postgres://u@db:6432/alerts");
        for (host, shown) in [
            ("::1", "postgres://u@::1:6432/alerts"),
            ("db:1 ", "postgres://u@db:1 :6432/alerts"),
            ("/run/postgresql", "postgres://u@/run/postgresql:6432/alerts"),
        ] {
            let changed = all.map(|(known, value)| (known, if known == "DB_HOST" { host } else { value }));
            let settings = TablesSettings::from_environment(env(&changed)).unwrap().unwrap();
            assert_eq!(settings.shown(), shown);
        }
        for (name, wrong) in [("DB_PORT", "0"), ("DB_PORT", "x"), ("DB_SSLMODE", "maybe"), ("DB_NAME", "")] {
            let changed = all.map(|(known, value)| (known, if known == name { wrong } else { value }));
            let error = TablesSettings::from_environment(env(&changed)).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn redis_comes_from_its_names_or_a_url() {
        let read = |pairs: &[(&str, &str)]| CacheSettings::from_environment(env(pairs));
        assert_eq!(read(&[("REDIS_DB", "3")]).unwrap(), None);
        let plain = read(&[("REDIS_ADDR", "r:7000"), ("REDIS_PASSWORD", "s3cret"), ("REDIS_DB", "3")]);
        let url = CacheSettings::from_url("--redis", "redis://:s3cret@r:7000/3").unwrap();
        assert_eq!(plain.unwrap().unwrap(), url);
        assert_eq!(format!("{url:?}"), "redis://r:7000/3");
        let short = CacheSettings::from_url("--redis", "redis://[::1]").unwrap();
        assert_eq!(short.shown(), "redis://[::1]:6379/0");
        let escaped = CacheSettings::from_url("--redis", "redis://u:a%40b%2F@h/1").unwrap();
        assert_eq!((escaped.user.as_deref(), escaped.password.as_deref()), (Some("u"), Some("a@b/")));
        let tls = read(&[("REDIS_ADDR", "rediss://u:s3cret@h:6380/2")]).unwrap().unwrap();
        assert_eq!((tls.tls, tls.shown().as_str()), (true, "rediss://h:6380/2"));
        assert_ne!(tls, CacheSettings::from_url("--redis", "redis://u:s3cret@h:6380/2").unwrap());
        let address = CacheSettings::from_url("--redis", "rediss://[::1]").unwrap();
        assert_eq!(address.shown(), "rediss://[::1]:6379/0");
        for wrong in [
            "redis://",
            "redis://:s3cret@",
            "http://s3cret",
            "rediss://:s3cret@",
            "rediss://:s3cret@no name/0",
            "rediss://:s3cret@-h/0",
            "redisss://:s3cret@h",
            "redis://s3cret@h",
            "redis://:s3cret%zz@h",
            "redis://h:0",
            "redis://h/256",
            "redis://h/1?s3cret",
            "redis://:s3cret@h/x",
        ] {
            let error = CacheSettings::from_url("--redis", wrong).unwrap_err().to_string();
            assert!(error.starts_with("--redis: ") && !error.contains("s3cret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn urls_name_the_tables_and_errors_hold_no_secret() {
        let url = TablesSettings::from_url("--tables", "postgres://u:s3cret@db:1/alerts").unwrap();
        assert_eq!(url.shown(), "postgres://u@db:1/alerts");
        assert_eq!(
            TablesSettings::from_url("--tables", "sqlite:///a/b.db").unwrap().shown(),
            "sqlite:///a/b.db"
        );
        for wrong in ["postgres://u:s3cret@db:x/alerts", "mysql://u:s3cret@db", ""] {
            let error = TablesSettings::from_url("--tables", wrong).unwrap_err().to_string();
            assert!(error.starts_with("--tables: ") && !error.contains("s3cret"), "{wrong}: {error}");
        }
    }
}
