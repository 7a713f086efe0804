//! `cache.redis`.

use std::time::Duration;

use super::cache::narrow;
use crate::config::reader::Section;
use crate::config::value::Value;
use crate::config::{RedisLogin, RedisServer, RedisTier, RedisTls, RedisTopology};
use http::Uri;
use percent_encoding::percent_decode_str;

const MAX_OBJECT: u64 = 8 << 20;

/// Beyond it a value is longer than Redis takes by default.
const LARGEST: u64 = 256 << 20;

/// `cache.redis`
pub(super) fn redis(s: &mut Section<'_>) -> Option<RedisTier> {
    let sentinel = s.optional("sentinel", |s| {
        let login = RedisLogin {
            username: s.get("username", |value| value.text()),
            password: s.get("password", |value| value.text()),
        };
        s.require("master", "mymaster", |value| value.text()).map(|master| RedisTopology::Sentinel { master, login })
    });
    let cluster = s.get("cluster", |value| value.boolean()).unwrap_or(false);
    if cluster && s.has("sentinel") {
        let hint = "keep `cluster` for a Redis Cluster, or `sentinel` for a master with replicas";
        s.place_of("cluster").problem("a Redis Cluster has no Sentinels", hint);
    }
    let port = if sentinel.is_some() { 26379 } else { 6379 };
    let servers = if s.has("url") {
        s.list("url", |value| server_or_off(value, port))
    } else {
        s.require("url", "\"redis://127.0.0.1:6379\"", |value| server_or_off(value, port)).map(|server| vec![server])
    };
    // `off` leaves none of them.
    let servers = servers.and_then(|servers| servers.into_iter().collect::<Option<Vec<_>>>());
    if let Some(servers) = &servers {
        refuse_unfit(s, servers, cluster || sentinel.is_some(), cluster);
    }
    let tls = s.optional("tls", tls);
    if tls.is_some() && servers.as_ref().is_some_and(|servers| !servers.iter().any(|server| server.tls)) {
        s.place_of("tls").warn("is not used, as `url` does not ask for TLS", "write `rediss://` in `url`");
    }
    let topology = match sentinel {
        Some(sentinel) => sentinel,
        None if cluster => Some(RedisTopology::Cluster),
        None => Some(RedisTopology::Standalone),
    };
    // Everything is asked for, whatever is wrong with the rest.
    let tier = RedisTier {
        topology: topology.clone().unwrap_or(RedisTopology::Standalone),
        tls: tls.flatten(),
        prefix: s.get("prefix", prefix).unwrap_or_else(|| "tidegate:".to_owned()),
        max_object: s.get("max_object", max_object).unwrap_or(MAX_OBJECT),
        timeout: s.get("timeout", |value| value.positive_duration()).unwrap_or(Duration::from_millis(50)),
        promote_after: s.get("promote_after", |value| value.whole(0..=1_000_000)).map_or(1, narrow),
        servers: servers.clone().unwrap_or_default(),
    };
    topology.and(servers).map(|_| tier)
}

fn refuse_unfit(s: &Section<'_>, servers: &[RedisServer], several: bool, cluster: bool) {
    let place = s.place_of("url");
    let Some(first) = servers.first() else {
        return place.problem("is empty", "name a server, such as `redis://127.0.0.1:6379`");
    };
    let is_alike = |server: &RedisServer| {
        (&server.login, server.tls, server.database) == (&first.login, first.tls, first.database)
    };
    if !servers.iter().all(is_alike) {
        place
            .problem("the addresses differ in more than host and port", "give all the same scheme, login and database");
    }
    if several && servers.iter().any(|server| server.socket.is_some()) {
        place.problem(
            "has a Unix socket among servers that name each other by host and port",
            "write `redis://host:port`",
        );
    }
    if cluster && first.database > 0 {
        place.problem("names a database, and a Redis Cluster has none but 0", "remove the number");
    }
}

fn prefix(value: &Value<'_>) -> Option<String> {
    let prefix = value.text_or_empty()?;
    if prefix.contains(['{', '}']) {
        let hint = "leave the braces out: they would decide in which slot of a cluster keys are";
        value.place.problem("has a brace", hint);
        return None;
    }
    Some(prefix)
}

fn max_object(value: &Value<'_>) -> Option<u64> {
    let size = value.size()?;
    if size > LARGEST {
        value.place.problem("is more than is good for a server that others wait for", "write `256MiB` at most");
        return None;
    }
    Some(size)
}

fn tls(s: &mut Section<'_>) -> Option<RedisTls> {
    let ca = s.get("ca", |value| value.file());
    let cert = s.get("cert", |value| value.file());
    let key = s.get("key", |value| value.file());
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            if s.has("cert") != s.has("key") {
                s.place.problem("has only one of `cert` and `key`", "give both, or none");
            }
            return None;
        }
    };
    Some(RedisTls { ca, identity })
}

/// `None` inside is `off`: what a file with everything else in it can be told for a while.
fn server_or_off(value: &Value<'_>, default_port: u16) -> Option<Option<RedisServer>> {
    if value.text()? == "off" { Some(None) } else { server(value, default_port).map(Some) }
}

/// `redis://user:password@host:port/database`, `rediss://…`, or `unix:///path`. The value may hold a password, so messages do not
/// repeat it.
fn server(value: &Value<'_>, default_port: u16) -> Option<RedisServer> {
    let text = value.text()?;
    let parsed = parse(&text, default_port);
    if parsed.is_none() {
        let hint = "write one such as `redis://user:password@127.0.0.1:6379/0`, `rediss://…` for TLS, `unix:///run/redis.sock`, or `off`; \
                    characters of a password that mean something in a URL are written as `%40`";
        value.place.problem("is not the address of a Redis server", hint);
    }
    parsed
}

fn parse(text: &str, default_port: u16) -> Option<RedisServer> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        "unix" | "redis+unix" => {
            let socket = rest.starts_with('/').then(|| rest.into())?;
            return Some(RedisServer {
                host: String::new(),
                port: 0,
                socket: Some(socket),
                tls: false,
                login: RedisLogin::default(),
                database: 0,
            });
        }
        _ => return None,
    };
    let uri: Uri = format!("http://{rest}").parse().ok()?;
    let authority = uri.authority()?.as_str();
    let login = match authority.rsplit_once('@') {
        None => RedisLogin::default(),
        Some((login, _)) => {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
            let (username, password) = login.split_once(':').unwrap_or((login, ""));
            let some = |text: String| (!text.is_empty()).then_some(text);
            RedisLogin { username: some(decoded(username)?), password: some(decoded(password)?) }
        }
    };
    if uri.query().is_some() {
        return None;
    }
    let host = uri.host().filter(|host| !host.is_empty())?;
    let address = authority.rsplit('@').next().unwrap_or_default();
    let port = match address.strip_prefix(host)? {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let database = uri.path().strip_prefix('/').unwrap_or_default();
    Some(RedisServer {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        socket: None,
        tls,
        login,
        database: if database.is_empty() { 0 } else { database.parse().ok()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_defaults_for_all_but_the_host() {
        let server = parse("redis://cache.local", 6379).unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls, server.database), ("cache.local", 6379, false, 0));
        assert_eq!(server.login, RedisLogin::default());
    }

    #[test]
    fn an_address_tells_user_password_port_and_database() {
        let server = parse("rediss://tide:p%40ss%3A1@[::1]:7000/3", 6379).unwrap();
        assert_eq!((server.host.as_str(), server.port, server.tls, server.database), ("::1", 7000, true, 3));
        let login = RedisLogin { username: Some("tide".to_owned()), password: Some("p@ss:1".to_owned()) };
        assert_eq!(server.login, login);
        assert_eq!(parse("redis://:secret@a", 6379).unwrap().login.password.as_deref(), Some("secret"));
    }

    #[test]
    fn a_unix_socket_is_a_path() {
        let server = parse("unix:///run/redis.sock", 6379).unwrap();
        assert_eq!(server.socket.as_deref(), Some(std::path::Path::new("/run/redis.sock")));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in ["", "redis", "redis://", "http://a", "redis://a:x", "redis://a/b", "redis://a?b=1", "unix://a"] {
            assert!(parse(text, 6379).is_none(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let server = parse("redis://u:hunter2@a", 6379).unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
