//! TLS, users and passwords; and what is said when something is wrong with them.

use super::*;
use crate::support::cli::run;
use crate::support::tls::{Authority, Identity};
use ::redis::cmd;

/// What the user of a node may do; the README says the same.
const ACL: [&str; 7] = ["~tidegate:*", "&tidegate:*", "+@all", "-@admin", "-@dangerous", "+info", "+role"];

async fn with_user() -> RedisServer {
    let redis = RedisServer::start().await;
    redis.ask::<()>(cmd("ACL").arg("SETUSER").arg("tide").arg("on").arg(">gate").arg("resetkeys").arg(&ACL));
    redis.ask::<()>(cmd("ACL").arg("SETUSER").arg("default").arg("resetkeys").arg("resetchannels"));
    redis
}

#[tokio::test]
async fn a_user_with_a_password_and_its_own_keys_is_enough() {
    let (origin, redis) = (Origin::start().await, with_user().await);
    origin.on("/a", lasting("a"));
    let url = format!("redis://tide:gate@127.0.0.1:{}", redis.port());
    let first = connected(redis.alone(&origin).set("cache.redis.url", &url)).await;
    let second = connected(redis.alone(&origin).set("cache.redis.url", &url)).await;
    store(&first, "/a").await;
    assert!(second.get("/a").await.is_hit());
    assert_eq!(second.call("PUT", "/a").body("x").await.status, 200);
    assert!(!first.get("/a").await.is_hit());
    eventually("how full it is", async || (told(&first).await["bytes"] != 0).then_some(())).await;
    assert_eq!(errors(&first, "io").await, 0.0, "{}", first.log());
}

#[tokio::test]
async fn with_a_wrong_password_requests_are_served_without_redis_and_the_log_says_why() {
    let (origin, redis) = (Origin::start().await, with_user().await);
    origin.on("/a", lasting("a"));
    let url = format!("redis://tide:hunter2@127.0.0.1:{}", redis.port());
    let proxy = redis.below_memory(&origin).set("cache.redis.url", &url).start().await;
    let line = proxy.wait_for_log("WRONGPASS").await;
    assert!(line.contains("cache.redis.url") && line.contains("write the user and the password"), "{line}");
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.cache_status().detail()), (200, "redis-unavailable"));
    assert!(proxy.get("/a").await.is_hit(), "memory has it");
    assert_eq!(told(&proxy).await["state"], "unavailable");
    assert!(!proxy.log().contains("hunter2"));
}

/// A server that speaks TLS alone, with a certificate of this authority, and asks for one.
struct Secure {
    server: RedisServer,
    authority: Authority,
}

impl Secure {
    async fn start(asks_for_certificates: bool) -> Self {
        let authority = Authority::new();
        let Identity { chain, key, .. } = authority.identity("127.0.0.1");
        let files = tempfile::tempdir().unwrap().keep();
        for (name, text) in [("ca.pem", &authority.pem()), ("cert.pem", &chain), ("key.pem", &key)] {
            std::fs::write(files.join(name), text).unwrap();
        }
        let file = |name: &str| files.join(name).display().to_string();
        let asks = if asks_for_certificates { "yes" } else { "no" };
        let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        let own = ["--tls-cert-file", &cert, "--tls-key-file", &key];
        let others = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", asks];
        let server = RedisServer::with_tls(&[own, others].concat()).await;
        std::fs::remove_dir_all(files).unwrap();
        Secure { server, authority }
    }

    /// A node that trusts the authority, and shows this.
    fn node(&self, origin: &Origin, identity: Option<Identity>) -> Builder {
        let url = format!("rediss://127.0.0.1:{}", self.server.tls_port());
        let builder = self.server.alone(origin).set("cache.redis.url", &url).file("ca.pem", &self.authority.pem());
        let builder = builder.set("cache.redis.tls.ca", "ca.pem");
        let Some(Identity { chain, key, .. }) = identity else { return builder };
        let builder = builder.file("node.pem", &chain).file("node-key.pem", &key);
        builder.set("cache.redis.tls.cert", "node.pem").set("cache.redis.tls.key", "node-key.pem")
    }
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_reached_by_tls() {
    let (origin, secure) = (Origin::start().await, Secure::start(false).await);
    origin.on("/a", lasting("a"));
    let first = connected(secure.node(&origin, None)).await;
    let second = connected(secure.node(&origin, None)).await;
    store(&first, "/a").await;
    assert!(second.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    let (origin, secure) = (Origin::start().await, Secure::start(true).await);
    origin.on("/a", lasting("a"));
    let identity = || Some(secure.authority.identity("node"));
    let first = connected(secure.node(&origin, identity())).await;
    let second = connected(secure.node(&origin, identity())).await;
    store(&first, "/a").await;
    assert!(second.get("/a").await.is_hit());
    let without = secure.node(&origin, None).start().await;
    let line = without.wait_for_log("it is tried again until it can").await;
    assert!(line.contains("cache.redis."), "{line}");
    assert_eq!(without.get("/a").await.status, 200);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (origin, secure) = (Origin::start().await, Secure::start(false).await);
    origin.on("/a", lasting("a"));
    let builder = secure.node(&origin, None).file("ca.pem", &Authority::new().pem());
    let proxy = builder.start().await;
    let line = proxy.wait_for_log("it is tried again until it can").await;
    assert!(line.contains("cache.redis.tls") && line.contains("authority"), "{line}");
    assert_eq!(proxy.get("/a").await.cache_status().detail(), "redis-unavailable");
}

/// What `check` says of this `cache.redis`.
fn check(redis: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let text = format!(
        "cache: {{ redis: {{ {redis} }} }}\n\
         origins: {{ main: {{ http: {{ servers: [\"127.0.0.1:9\"] }} }} }}\n\
         buckets: {{ main: {{ match: {{ hosts: [\"*\"] }}, origin: main }} }}\n"
    );
    std::fs::write(folder.path().join("tidegate.yaml"), text).unwrap();
    let output = run(&["check", "-c", "tidegate.yaml"], folder.path());
    (output.code, output.all())
}

/// `check` refuses it, and says these words.
fn is_refused(redis: &str, words: &[&str]) {
    let (code, said) = check(redis);
    assert_eq!(code, 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[tokio::test]
async fn check_says_what_is_wrong_with_redis_and_what_to_do() {
    let redis = with_user().await;
    let (port, gone) = (redis.port(), crate::support::Port::reserve());
    assert_eq!(check(&format!("url: \"redis://tide:gate@127.0.0.1:{port}\"")).0, 0);
    let url = format!("url: \"redis://127.0.0.1:{}\"", gone.addr().port());
    is_refused(&url, &["cache.redis.url: `redis://127.0.0.1:", "refused", "see that Redis runs there"]);
    let url = format!("url: \"redis://tide:wrong@127.0.0.1:{port}\"");
    is_refused(&url, &["cache.redis.url", "WRONGPASS", "write the user and the password"]);
    let url = format!("url: \"redis://tide:gate@127.0.0.1:{port}\", cluster: true");
    is_refused(&url, &["cache.redis.cluster", "cluster support disabled", "remove `cluster`"]);
    let url = format!("url: \"redis://tide:gate@127.0.0.1:{port}/99\"");
    is_refused(&url, &["cache.redis.url", "smaller number"]);
}

#[tokio::test]
async fn check_says_what_is_wrong_with_sentinels_and_clusters() {
    let master = RedisServer::start().await;
    let sentinel = RedisServer::sentinel(&master).await;
    let url = |server: &RedisServer, rest: &str| format!("url: \"{}\"{rest}", server.url());
    assert_eq!(check(&url(&sentinel, ", sentinel: { master: mymaster }")).0, 0);
    is_refused(&url(&sentinel, ", sentinel: { master: other }"), &["cache.redis.sentinel.master", "monitor it by"]);
    is_refused(&url(&master, ", sentinel: { master: mymaster }"), &["name Sentinels there"]);
    is_refused(&url(&sentinel, ""), &["cache.redis.sentinel", "it is a Sentinel"]);
    let cluster = RedisCluster::start().await;
    is_refused(&url(&cluster.masters[0], ""), &["cache.redis.cluster", "write `cluster: true`"]);
    assert_eq!(check(&format!("url: {}, cluster: true", cluster.urls())).0, 0);
}
