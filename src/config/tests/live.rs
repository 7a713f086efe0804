//! Which changes wait for a restart.

use super::config;

fn changes(old: &str, new: &str) -> Vec<String> {
    config(old).changes_that_need_restart(&config(new))
}

#[test]
fn the_same_file_changes_nothing() {
    assert_eq!(changes("", ""), [""; 0]);
}

#[test]
fn what_applies_at_once_is_not_listed() {
    let new = "server: { limits: { body_bytes: 1MiB } }
admin: { token: other }
policies: { on_error: defaults }
cache: { lock: { wait: 1s } }
log: { level: debug, access: stdout }
";
    assert_eq!(changes("", new), [""; 0]);
}

#[test]
fn the_order_of_listeners_means_nothing() {
    let listen = |list: &str| format!("server: {{ listen: [{list}] }}\n");
    let (one, two) = ("\"127.0.0.1:1\", \"127.0.0.1:2\"", "\"127.0.0.1:2\", \"127.0.0.1:1\"");
    assert_eq!(changes(&listen(one), &listen(two)), [""; 0]);
}

#[test]
fn what_waits_for_a_restart_is_listed() {
    let old = "server: { threads: 2 }\n";
    let new = "server:
  listen: \"127.0.0.1:80\"
  threads: 4
  upgrade_socket: /run/a.sock
  pid_file: /run/a.pid
admin: off
cache: { memory: { capacity: 1GiB } }
log: { format: json }
";
    assert_eq!(
        changes(old, new),
        [
            "`server.listen` stays `0.0.0.0:8080` until a restart; the file now says `127.0.0.1:80`",
            "`server.threads` stays `2` until a restart; the file now says `4`",
            "`server.upgrade_socket` stays `/tmp/tidegate.sock` until a restart; the file now says `/run/a.sock`",
            "`server.pid_file` stays `/tmp/tidegate.pid` until a restart; the file now says `/run/a.pid`",
            "`admin.listen` stays `127.0.0.1:9090` until a restart; the file now says `off`",
            "`cache.memory.capacity` stays `512MiB` until a restart; the file now says `1GiB`",
            "`log.format` stays `auto` until a restart; the file now says `json`",
        ]
    );
}

/// A disk tier with these settings besides its path.
fn disk(path: &str, rest: &str) -> String {
    format!("cache: {{ disk: {{ path: {path}, {rest} }} }}\n")
}

#[test]
fn what_a_disk_tier_was_opened_with_waits_for_a_restart() {
    assert_eq!(
        changes(&disk("/a", "capacity: 1GiB"), &disk("/b", "capacity: 2GiB, max_open: 16")),
        [
            "`cache.disk.path` stays `/a` until a restart; the file now says `/b`",
            "`cache.disk.capacity` stays `1GiB` until a restart; the file now says `2GiB`",
            "`cache.disk.max_open` stays `8192` until a restart; the file now says `16`",
        ]
    );
}

#[test]
fn a_disk_tier_comes_and_goes_with_a_restart() {
    let on = disk("/a", "capacity: 1GiB");
    assert_eq!(changes("", &on), ["`cache.disk` stays `off` until a restart; the file now says `on`"]);
    assert_eq!(
        changes(&on, &disk("/a", "capacity: 0")),
        ["`cache.disk` stays `on` until a restart; the file now says `off`"]
    );
}

#[test]
fn the_other_settings_of_a_disk_tier_apply_at_once() {
    let new =
        "capacity: 1GiB, max_object: 1MiB, promote_after: 0, promote_rate: 9, write: behind, timeout: 5s, min_free: 0";
    assert_eq!(changes(&disk("/a", "capacity: 1GiB"), &disk("/a", new)), [""; 0]);
}

/// A Redis tier with these settings.
fn redis(keys: &str) -> String {
    format!("cache: {{ redis: {{ {keys} }} }}\n")
}

#[test]
fn how_redis_is_reached_waits_for_a_restart() {
    let old = redis("url: \"redis://a\"");
    let new = redis(
        "url: \"rediss://b:1\", cluster: true, prefix: \"x:\", tls: { ca: ca.pem, cert: cert.pem, key: key.pem }",
    );
    let found: Vec<String> = changes(&old, &new);
    assert_eq!(
        found[0],
        "`cache.redis.url` stays `redis://a:6379` until a restart; the file now says `rediss://b:1 (a cluster)`"
    );
    assert!(found[1].starts_with("`cache.redis.tls` stays `none` until a restart"), "{found:?}");
    assert_eq!(found[2], "`cache.redis.prefix` stays `tidegate:` until a restart; the file now says `x:`");
    assert_eq!(changes("", &old), ["`cache.redis` stays `off` until a restart; the file now says `on`"]);
}

#[test]
fn a_changed_password_of_redis_is_noticed_and_not_shown() {
    let found = changes(&redis("url: \"redis://:old@a\""), &redis("url: \"redis://:new@a\""));
    assert_eq!(found, ["`cache.redis.url` stays as it was until a restart"]);
}

#[test]
fn the_other_settings_of_redis_apply_at_once() {
    let new = redis("url: \"redis://a\", max_object: 1MiB, timeout: 1s, promote_after: 3");
    assert_eq!(changes(&redis("url: \"redis://a\""), &new), [""; 0]);
}
