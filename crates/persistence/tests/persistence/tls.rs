//! The cache over TLS, against a Redis that listens on two ports: one with TLS, and one without, to look into it.
//!
//! Whom a process trusts it reads from its environment, which is fixed: each story is told in a process of its own,
//! which trusts a CA of the test and nobody else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use redress_operation_log::OperationHistory as _;
use redress_persistence::{Cache, CacheSettings, Error, Persistence, Scope, Settings};
use redress_testkit::servers::free_address;
use redress_testkit::until_async;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::servers::{Db, Redis};
use crate::world::World;

const HERE: &str = "DNS:localhost,IP:127.0.0.1";
/// Where the process that tells the story finds the certificates.
const FOLDER: &str = "REDRESS_TEST_CERTIFICATES";

/// CAs, and what they have signed: `name.pem` and `name.key`, made by the command line of OpenSSL.
struct Certificates(PathBuf);

impl Certificates {
    /// Tells the story `test` in another process, which trusts what `trusted` names; in that one: the certificates.
    fn trusting(test: &str, trusted: &str) -> Option<Self> {
        if let Some(folder) = std::env::var_os(FOLDER) {
            return Some(Self(folder.into()));
        }
        let folder = TempDir::new().unwrap();
        let made = Self(folder.path().to_owned());
        made.authority("ca");
        made.authority("stranger");
        std::fs::write(made.file("nobody.pem"), "").unwrap();
        let told = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("tls::{test}"), "--include-ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .env("SSL_CERT_FILE", made.file(trusted))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&told.stdout);
        assert!(
            told.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&told.stderr)
        );
        None
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn authority(&self, name: &str) {
        self.request(name, &["-addext", "basicConstraints=critical,CA:TRUE"]);
    }

    /// A server's certificate for these names, signed by a CA.
    fn sign(&self, authority: &str, name: &str, names: &str) {
        let ca = |kind: &str| self.file(&format!("{authority}.{kind}")).display().to_string();
        let names = format!("subjectAltName={names}");
        let constraints = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let signed_by = ["-CA", &ca("pem"), "-CAkey", &ca("key"), "-addext", &names];
        self.request(name, &[&constraints[..], &signed_by].concat());
    }

    fn request(&self, name: &str, more: &[&str]) {
        let made = Command::new("openssl")
            .args(["req", "-new", "-x509", "-days", "2", "-nodes", "-subj", &format!("/CN={name}")])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(more)
            .arg("-keyout")
            .arg(self.file(&format!("{name}.key")))
            .arg("-out")
            .arg(self.file(&format!("{name}.pem")))
            .output()
            .unwrap_or_else(|error| panic!("this test needs openssl: {error}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A Redis with a certificate for these names, signed by that CA; and the port where it speaks TLS.
fn redis(certificates: &Certificates, authority: &str, names: &str, more: &[&str]) -> (Redis, u16) {
    certificates.sign(authority, "server", names);
    let port = free_address().unwrap().port();
    let file = |name: &str| certificates.file(name).display().to_string();
    let mut options = vec!["--tls-port".to_owned(), port.to_string()];
    options.extend(["--tls-cert-file".to_owned(), file("server.pem")]);
    options.extend(["--tls-key-file".to_owned(), file("server.key")]);
    options.extend(["--tls-ca-cert-file".to_owned(), file("ca.pem")]);
    if !more.contains(&"--tls-auth-clients") {
        options.extend(["--tls-auth-clients".to_owned(), "no".to_owned()]);
    }
    // Its first user is for who looks into it.
    let user = ["--user", "redress", "on", ">s3cret", "~*", "&*", "+@all"];
    options.extend(user.iter().chain(more).map(|option| (*option).to_owned()));
    (Redis::with(options), port)
}

fn settings(url: &str) -> CacheSettings {
    CacheSettings::from_url("test", url).unwrap()
}

async fn opened(world: &World, db: &Db, url: &str) -> Persistence {
    let cache = Some(settings(url));
    world.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap()
}

/// A cache at this URL is down, and says so and why; the tables go on without it, and its rows stay owed.
async fn down(world: &World, db: &Db, url: &str, says: &[&str]) -> Persistence {
    let persistence = opened(world, db, url).await;
    world.accepted("a").await;
    let errors = world.deliver(&persistence).await;
    assert!(matches!(errors.as_slice(), [redress_action::Error::Retryable { .. }]), "{errors:?}");
    assert_eq!(db.issues().await, ["a Open Pending"]);
    assert_eq!(world.log.outbox_owed(10).await.unwrap().len(), 1);

    let readiness = persistence.readiness().await;
    assert_eq!(readiness.tables, None);
    let status = readiness.cache.unwrap();
    assert!(!status.connected, "{status:?}");
    let behind = status.behind.clone().unwrap().error;
    let shown = url.replace("redress:s3cret@", "");
    for said in [&errors[0].to_string(), &behind, &readiness.cache_error.unwrap()] {
        assert!(says.iter().chain([&shown.as_str()]).all(|part| said.contains(part)), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    persistence
}

/// Delivers until nothing is owed any more.
async fn delivered(world: &World, persistence: &Persistence) {
    let deliver = async || {
        world.clock.advance(Duration::from_secs(6));
        world.deliver(persistence).await;
        let delivered = world.log.outbox_owed(10).await?.is_empty();
        if delivered { Ok(Some(())) } else { Err(format!("{:?}", persistence.cache_status()).into()) }
    };
    until_async(Duration::from_secs(30), "all is delivered", deliver).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_restored_alert_is_in_a_cache_over_tls() {
    let Some(certificates) = Certificates::trusting("a_restored_alert_is_in_a_cache_over_tls", "ca.pem")
    else {
        return;
    };
    let (redis, port) = redis(&certificates, "ca", HERE, &[]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let persistence = opened(&world, &db, &format!("rediss://redress:s3cret@localhost:{port}/0")).await;
    let mut story = world.acting("a").await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;

    let see = redis.client().await;
    assert!(see.text("GET alert:issue:a").await.unwrap().contains(r#""alertState":"Restored""#));
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a"]);
    assert_eq!(see.members("alert:index:open").await, [""; 0]);
    assert_eq!(see.members("service_state:index:health:Normal").await, ["service_state:shop:1"]);
    let rows = world.log.outbox_of(story.id).await.unwrap();
    let last = format!("{:020}", rows.last().unwrap().position);
    for key in ["alert:issue:a", "service_state:shop:1"] {
        let version = see.text(&format!("GET redress:version:{key}")).await;
        assert_eq!(version.as_ref(), Some(&last), "{key}");
    }
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
    // It came through the port that speaks TLS.
    let clients = see.text("CLIENT LIST").await.unwrap();
    let ours: Vec<&str> = clients.lines().filter(|line| line.contains(" user=redress ")).collect();
    assert!(!ours.is_empty(), "{clients}");
    assert!(ours.iter().all(|line| line.contains(&format!(" laddr=127.0.0.1:{port} "))), "{clients}");

    let readiness = persistence.readiness().await;
    assert_eq!(readiness.cache_error, None);
    let status = readiness.cache.unwrap();
    assert!(status.connected && status.behind.is_none(), "{status:?}");
    assert_eq!(status.server, format!("rediss://localhost:{port}/0"));
    // The certificate names the address too.
    let by_address = opened(&world, &db, &format!("rediss://redress:s3cret@127.0.0.1:{port}/0")).await;
    assert_eq!(by_address.readiness().await.cache_error, None);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_certificate_of_a_stranger_is_not_trusted_until_it_is_replaced() {
    let test = "a_certificate_of_a_stranger_is_not_trusted_until_it_is_replaced";
    let Some(certificates) = Certificates::trusting(test, "ca.pem") else { return };
    let (mut redis, port) = redis(&certificates, "stranger", HERE, &[]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{port}/0");
    let persistence =
        down(&world, &db, &url, &["signed by nobody that is trusted here; add the CA", "SSL_CERT_FILE"])
            .await;
    assert_eq!(redis.client().await.keys().await, [""; 0]);
    // Nobody starts the engine again for that.
    redis.down();
    certificates.sign("ca", "server", HERE);
    redis.up();
    delivered(&world, &persistence).await;
    assert_eq!(redis.client().await.members("alert:index:open").await, ["a"]);
    assert_eq!(persistence.readiness().await.cache_error, None);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_machine_that_trusts_nobody_says_so() {
    let Some(certificates) = Certificates::trusting("a_machine_that_trusts_nobody_says_so", "nobody.pem")
    else {
        return;
    };
    let (_redis, port) = redis(&certificates, "ca", HERE, &[]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{port}/0");
    down(&world, &db, &url, &["trusted here (the certificate store is empty); add the CA"]).await;
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_certificate_for_another_name_is_refused() {
    let Some(certificates) = Certificates::trusting("a_certificate_for_another_name_is_refused", "ca.pem")
    else {
        return;
    };
    let (redis, port) = redis(&certificates, "ca", "DNS:cache.internal,IP:10.1.2.3", &[]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{port}/0");
    let says = ["its certificate is not for localhost but for cache.internal, 10.1.2.3; write a host"];
    down(&world, &db, &url, &says).await;
    // An address is checked as a name is.
    let url = format!("rediss://redress:s3cret@127.0.0.1:{port}/0");
    let by_address = opened(&world, &db, &url).await.readiness().await.cache_error.unwrap();
    assert!(by_address.contains("is not for 127.0.0.1 but for cache.internal"), "{by_address}");
    assert_eq!(redis.client().await.keys().await, [""; 0]);
}

/// What `openssl req -x509` makes unless it is told otherwise.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_ca_is_no_server() {
    let Some(certificates) = Certificates::trusting("a_ca_is_no_server", "ca.pem") else { return };
    let (mut redis, port) = redis(&certificates, "ca", HERE, &[]);
    redis.down();
    for kind in ["pem", "key"] {
        std::fs::copy(certificates.file(&format!("ca.{kind}")), certificates.file(&format!("server.{kind}")))
            .unwrap();
    }
    redis.up();
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{port}/0");
    down(&world, &db, &url, &["its certificate is a CA's own; give it one that the CA has signed"]).await;
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_redis_without_tls_is_refused_over_tls() {
    let Some(_) = Certificates::trusting("a_redis_without_tls_is_refused_over_tls", "ca.pem") else { return };
    let redis = Redis::start();
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{}/0", redis.address().port());
    down(&world, &db, &url, &["does not speak TLS at this port, write redis://"]).await;
    assert_eq!(redis.client().await.keys().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_redis_with_tls_says_nothing_without_it() {
    let Some(certificates) = Certificates::trusting("a_redis_with_tls_says_nothing_without_it", "ca.pem")
    else {
        return;
    };
    let (redis, port) = redis(&certificates, "ca", HERE, &[]);
    for login in ["redress:s3cret@", ""] {
        let (world, db) = (World::new(true).await, Db::sqlite());
        let url = format!("redis://{login}localhost:{port}/0");
        down(&world, &db, &url, &["if it expects TLS at this port, write rediss://"]).await;
    }
    assert_eq!(redis.client().await.keys().await, [""; 0]);
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_server_that_wants_to_see_a_certificate_says_which_option() {
    let test = "a_server_that_wants_to_see_a_certificate_says_which_option";
    let Some(certificates) = Certificates::trusting(test, "ca.pem") else { return };
    let (_redis, port) = redis(&certificates, "ca", HERE, &["--tls-auth-clients", "yes"]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let url = format!("rediss://redress:s3cret@localhost:{port}/0");
    down(&world, &db, &url, &["a client's certificate", "set tls-auth-clients to no there"]).await;
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_server_that_was_started_again_is_spoken_to_again() {
    let test = "a_server_that_was_started_again_is_spoken_to_again";
    let Some(certificates) = Certificates::trusting(test, "ca.pem") else { return };
    let (mut redis, port) = redis(&certificates, "ca", HERE, &[]);
    let (world, db) = (World::new(true).await, Db::sqlite());
    let persistence = opened(&world, &db, &format!("rediss://redress:s3cret@localhost:{port}/0")).await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    redis.down();
    world.admit(&mut story).await;
    let errors = world.deliver(&persistence).await;
    assert!(matches!(errors.as_slice(), [redress_action::Error::Retryable { .. }]), "{errors:?}");
    // A server that is gone is gone, and nothing is wrong with how it was spoken to.
    let said = persistence.readiness().await.cache_error.unwrap();
    assert!(said.contains("does not answer") && !said.contains("TLS"), "{said}");
    redis.up();
    delivered(&world, &persistence).await;
    let status = persistence.cache_status().unwrap();
    assert!(status.connected && status.behind.is_none() && status.incomplete, "{status:?}");
    persistence.reconcile(Scope::default()).await.unwrap();
    let see = redis.client().await;
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, ["a"]);
    assert!(persistence.reconcile(Scope::default()).await.unwrap().is_clean());
}

#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cluster_is_refused_over_tls_too() {
    let Some(certificates) = Certificates::trusting("a_cluster_is_refused_over_tls_too", "ca.pem") else {
        return;
    };
    let bus = free_address().unwrap().port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus];
    let (_redis, port) = redis(&certificates, "ca", HERE, &cluster);
    let world = World::new(true).await;
    let settings = settings(&format!("rediss://redress:s3cret@localhost:{port}/0"));
    let clock = Arc::new(world.clock.clone());
    let error = Cache::connect(&settings, clock, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(error, Error::Cluster { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("rediss://localhost:{port}/0 ")), "{error}");
}

/// No server is needed for what comes first on the wire.
#[tokio::test]
async fn the_first_message_names_the_host_and_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://redress:s3cret@localhost:{}/0", listener.local_addr().unwrap().port());
    let world = World::new(true).await;
    let (settings, clock) = (settings(&url), Arc::new(world.clock.clone()));
    let connects = Cache::connect(&settings, clock, Duration::from_millis(500));
    let hears = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        stream.read_exact(&mut hello).await.unwrap();
        (header[0], hello)
    };
    let (_, (kind, hello)) = tokio::join!(connects, hears);
    let has = |text: &str| hello.windows(text.len()).any(|window| window == text.as_bytes());
    // 22: the record of a handshake.
    assert!(kind == 22 && has("localhost") && !has("s3cret"), "{kind} {hello:?}");
}

/// Not every server that expects TLS resets the connection of who does not begin it.
#[tokio::test]
async fn who_ends_a_connection_without_tls_may_expect_it() {
    // Fatal, unexpected message; and nothing at all.
    for farewell in [&[21, 3, 3, 0, 2, 2, 10][..], &[]] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://localhost:{}/0", listener.local_addr().unwrap().port());
        let ends = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(farewell).await.unwrap();
            }
        });
        let world = World::new(true).await;
        let (settings, clock) = (settings(&url), Arc::new(world.clock.clone()));
        let cache = Cache::connect(&settings, clock, Duration::from_secs(2)).await.unwrap();
        let told = [cache.status().behind.unwrap().error, cache.ping().await.unwrap_err().chain()];
        for said in told {
            assert!(said.contains("if it expects TLS at this port, write rediss://"), "{said}");
        }
        ends.abort();
    }
}
