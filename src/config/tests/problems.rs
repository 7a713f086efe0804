//! Each kind of problem, in its exact words.

use super::{Folder, problems, problems_of, warnings_of};

/// A file whose first line is an origin that works, and `bucket` as the bucket `b` on the second.
fn bucket(rest: &str) -> Vec<String> {
    problems_of(&format!(
        "origins: {{ api: {{ http: {{ servers: \"a:1\" }} }} }}\nbuckets: {{ b: {{ match: {{ hosts: \"*\" }}, {rest} }} }}\n"
    ))
}

fn origin(text: &str) -> Vec<String> {
    problems_of(&format!("origins:\n  o: {{ {text} }}\nbuckets: {{ b: {{ match: {{ hosts: \"*\" }}, origin: o }} }}\n"))
}

fn hosts(text: &str) -> Vec<String> {
    problems_of(&format!(
        "origins: {{ o: {{ http: {{ servers: \"a:1\" }} }} }}\nbuckets:\n  b:\n    match: {{ hosts: {text} }}\n    origin: o\n"
    ))
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = "
server:
  listen: \":8080\"
  threds: 4
  limits: { header_timeout: 10 }
buckets:
  api: { match: { hosts: [\"*\"] }, origin: apis }
origins:
  api: { http: { servers: [\"a\"] } }
log: { level: loud }
";
    assert_eq!(
        problems_of(text),
        [
            "3:11: server.listen: `:8080` is not an IP address and a port; write `0.0.0.0:8080`, or `[::]:8080` for IPv6",
            "4:3: server.threds: unknown key; did you mean `threads`?",
            "5:29: server.limits.header_timeout: `10` has no unit; write `10s`, `10ms` or `10m`",
            "7:43: buckets.api.origin: no origin is called `apis`; did you mean `api`?",
            "9:28: origins.api.http.servers[0]: `a` has no port; write `a:80`, or `https://a` for TLS",
            "10:15: log.level: `loud` is not known here; the words here are `error`, `warn`, `info`, `debug` and `trace`",
        ]
    );
}

#[test]
fn a_file_with_everything_in_it_is_right() {
    let text = r#"
server:
  listen: ["0.0.0.0:8080"]
  tls: [{ listen: "0.0.0.0:8443", cert: cert.pem, key: key.pem }]
  threads: auto
  trusted_proxies: ["10.0.0.0/8"]
  limits: { header_bytes: 64KiB, uri_bytes: 16KiB, body_bytes: 100MiB, header_timeout: 10s, idle_timeout: 60s }
admin:
  listen: "127.0.0.1:9090"
  token: ${TIDEGATE_ADMIN_TOKEN:-x}
policies:
  dir: policies
  watch: true
  limits: { time: 5ms, memory: 16MiB }
  on_error: bypass
cache:
  memory: { capacity: 512MiB, max_object: 8MiB }
  disk:   { path: /var/cache/tidegate, capacity: 50GiB, max_object: 5GiB, promote_after: 2 }
  redis:  { url: "redis://127.0.0.1:6379", prefix: "tidegate:", max_object: 8MiB, timeout: 50ms }
  lock:   { wait: 10s, age: 30s, max_waiters: 10000, cluster: true }
origins:
  media: { s3: { endpoint: "https://s3.eu-west-1.amazonaws.com", region: eu-west-1, bucket: media, credentials: env } }
  api:   { http: { servers: ["10.0.0.1:8000", "10.0.0.2:8000"], balance: round_robin, health: { path: /healthz, interval: 5s },
                   connect_timeout: 1s, read_timeout: 30s, retries: 1 } }
buckets:
  media: { match: { hosts: ["img.example.com"], path: "/" }, origin: media, policy: static.lua }
  api:   { match: { hosts: ["*.example.com"], path: "/api/" }, origin: api, policy: api.lua }
"#;
    assert_eq!(problems_of(text), [""; 0]);
}

#[test]
fn a_file_that_is_not_yaml_has_only_that_problem() {
    assert_eq!(
        problems("server: { listen: [*] }\nlgo: 1\n"),
        [
            "1:20: this is not YAML: while scanning an anchor or alias, did not find expected alphabetic or numeric character; \
          a value that begins with `*` needs quotes: \"*.example.com\""
        ]
    );
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    assert_eq!(
        problems_of(""),
        [
            "1:1: origins: is missing; add `origins: { NAME: { http: { servers: [\"127.0.0.1:8000\"] } } }`",
            "1:1: buckets: is missing; add `buckets: { NAME: { match: { hosts: [\"*\"] }, origin: NAME } }`",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = Folder::new();
    let problems = super::Config::load(&folder.file(), &|_| None).unwrap_err();
    assert_eq!(
        problems[0].to_string().replace(&folder.0.path().display().to_string(), "DIR"),
        "DIR/t.yaml: this file cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_that_is_not_utf8_says_where() {
    let folder = Folder::new();
    std::fs::write(folder.file(), b"a: 1\nb: \xff\n").unwrap();
    let problems = super::Config::load(&folder.file(), &|_| None).unwrap_err();
    assert_eq!(folder.printed(&problems), ["2:4: a byte here is not UTF-8; save the file as UTF-8"]);
}

#[test]
fn an_unknown_key_gets_the_nearest_right_one() {
    assert_eq!(
        problems("cahce: {}\nadmin: { Token: x, lsiten: \"127.0.0.1:1\" }\ncache: { max-variants: 3 }\n"),
        [
            "1:1: cahce: unknown key; did you mean `cache`?",
            "2:10: admin.Token: unknown key; did you mean `token`?",
            "2:20: admin.lsiten: unknown key; did you mean `listen`?",
            "3:10: cache.max-variants: unknown key; did you mean `max_variants`?",
        ]
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    assert_eq!(
        bucket("origin: api, hosts: [a]"),
        ["2:53: buckets.b.hosts: unknown key; that key belongs to `buckets.b.match`"]
    );
    assert_eq!(
        origin("http: { servers: \"a:1\" }, read_timeout: 5s"),
        ["2:34: origins.o.read_timeout: unknown key; that key belongs to `origins.o.http`"]
    );
    assert_eq!(problems("token: x\n"), ["1:1: token: unknown key; that key belongs to `admin`"]);
}

#[test]
fn a_key_like_no_other_gets_the_list() {
    assert_eq!(
        problems("log: { colour: red }\n"),
        ["1:8: log.colour: unknown key; the keys here are `level`, `format` and `access`"]
    );
    assert_eq!(
        problems("log: { <<: { level: info } }\n"),
        ["1:8: log.<<: unknown key; YAML 1.2 has no merge keys: write the keys out"]
    );
}

#[test]
fn a_repeated_key_is_a_problem_at_each_place() {
    assert_eq!(
        problems("log:\n  level: info\n  level: warn\nserver:\n  drain: 1s\n  drain: 2s\n"),
        [
            "3:3: log.level: is given twice, first on line 2; keep one of them",
            "6:3: server.drain: is given twice, first on line 5; keep one of them",
        ]
    );
    assert_eq!(
        problems_of(
            "origins:\n  a: { http: { servers: \"a:1\" } }\n  a: { http: { servers: \"b:1\" } }\nbuckets: { b: { match: { hosts: \"*\" }, origin: a } }\n"
        ),
        ["3:3: origins.a: is given twice, first on line 2; keep one of them"]
    );
}

#[test]
fn wrong_types_say_what_was_expected() {
    assert_eq!(
        problems(
            "server: 5\nadmin: [1]\npolicies: { watch: yes, limits: [a] }\ncache: { lock: { cluster: \"false\", wait: [1s], max_waiters: many } }\nlog: { level: { a: b }, access: true }\n"
        ),
        [
            "1:1: server: expected a mapping, found a single value; write `key: value` lines",
            "2:8: admin: expected a mapping or `off`; write `admin: { listen: \"127.0.0.1:9090\" }`",
            "3:20: policies.watch: expected `true` or `false`, found `yes`; write `true`",
            "3:25: policies.limits: expected a mapping, found a list; write `key: value` lines",
            "4:27: cache.lock.cluster: expected `true` or `false`, found `\"false\"`; remove the quotes",
            "4:42: cache.lock.wait: expected a duration, found a list; write a single value",
            "4:61: cache.lock.max_waiters: expected a whole number, found `many`; write digits only",
            "5:15: log.level: expected a word, found a mapping; write a value after the `:`",
            "5:33: log.access: expected text, found `true`; write \"true\" if you mean the word",
        ]
    );
    assert_eq!(
        problems_of("origins: 5\nbuckets: [a]\n"),
        [
            "1:1: origins: expected a mapping of names, found a single value; write `name: { … }` lines",
            "2:1: buckets: expected a mapping of names, found a list; write `name: { … }` lines",
        ]
    );
    assert_eq!(
        problems_of("- a\n"),
        [
            "1:1: expected a mapping, found a list; write `key: value` lines",
            "1:1: origins: is missing; add `origins: { NAME: { http: { servers: [\"127.0.0.1:8000\"] } } }`",
            "1:1: buckets: is missing; add `buckets: { NAME: { match: { hosts: [\"*\"] }, origin: NAME } }`"
        ]
    );
}

#[test]
fn a_key_without_a_value_is_a_problem() {
    assert_eq!(
        problems("log:\n  level:\n"),
        ["2:3: log.level: has no value; give one, or remove the key for its default"]
    );
}

#[test]
fn numbers_have_bounds() {
    assert_eq!(
        problems("server: { threads: 0 }\ncache: { lock: { max_waiters: -1 }, max_variants: 1.5 }\n"),
        [
            "1:20: server.threads: `0` is out of range; write a number from 1 to 1024",
            "2:31: cache.lock.max_waiters: `-1` is out of range; write a number from 0 to 10000000",
            "2:51: cache.max_variants: expected a whole number, found `1.5`; write digits only",
        ]
    );
}

#[test]
fn bad_sizes_and_durations_say_what_to_write() {
    assert_eq!(
        problems(
            "cache: { memory: { capacity: 512, max_object: 8M } }\nserver: { drain: 60, limits: { idle_timeout: 0, body_bytes: big } }\n"
        ),
        [
            "1:30: cache.memory.capacity: `512` has no unit; write `512B`, `512KiB` or `512MiB`",
            "1:47: cache.memory.max_object: `M` is not a unit of size; write `8MiB`",
            "2:18: server.drain: `60` has no unit; write `60s`, `60ms` or `60m`",
            "2:46: server.limits.idle_timeout: must be more than 0; write a duration such as `10s`",
            "2:61: server.limits.body_bytes: `big` is not a size; write a number and a unit, such as `64KiB` or `2GB`",
        ]
    );
}

#[test]
fn an_object_cannot_be_larger_than_its_tier() {
    assert_eq!(
        problems("cache: { memory: { capacity: 1MiB, max_object: 2MiB } }\n"),
        ["1:48: cache.memory.max_object: is larger than `capacity`; lower it, or give more capacity"]
    );
}

#[test]
fn bad_listen_addresses_say_what_to_write() {
    assert_eq!(
        problems("server:\n  listen: [\"localhost:80\", 8080, \"10.0.0.1\", \"::1\", nowhere, \"[::1]:99999\"]\n"),
        [
            "2:12: server.listen[0]: `localhost:80` is not an IP address and a port; write `127.0.0.1:80`",
            "2:28: server.listen[1]: `8080` is not an IP address and a port; write `0.0.0.0:8080`",
            "2:34: server.listen[2]: `10.0.0.1` is not an IP address and a port; add a port: `10.0.0.1:8080`",
            "2:46: server.listen[3]: `::1` is not an IP address and a port; add a port: `[::1]:8080`",
            "2:53: server.listen[4]: `nowhere` is not an IP address and a port; write one such as `0.0.0.0:8080` or `[::1]:8080`",
            "2:62: server.listen[5]: `[::1]:99999` is not an IP address and a port; write one such as `0.0.0.0:8080` or `[::1]:8080`",
        ]
    );
    assert_eq!(
        problems("server: { trusted_proxies: [\"10.0.0.0/33\"] }\n"),
        [
            "1:29: server.trusted_proxies[0]: `10.0.0.0/33` is not a network; write one such as `10.0.0.0/8` or `192.0.2.7`"
        ]
    );
}

#[test]
fn two_listeners_cannot_share_a_port() {
    assert_eq!(
        problems(
            "server:\n  listen: [\"127.0.0.1:80\", \"127.0.0.1:80\"]\n  tls: [{ listen: \"0.0.0.0:80\", cert: cert.pem, key: key.pem }]\nadmin: { listen: \"127.0.0.1:80\" }\n"
        ),
        [
            "2:28: server.listen[1]: `127.0.0.1:80` is already listened on, see line 2; choose another port, or remove one of them",
            "3:19: server.tls[0].listen: `0.0.0.0:80` and `127.0.0.1:80` on line 2 need the same port; choose another port, or remove one of them",
            "4:18: admin.listen: `127.0.0.1:80` is already listened on, see line 2; choose another port, or remove one of them",
        ]
    );
    assert_eq!(
        problems("server: { listen: [\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:80\", \"[::]:80\"] }\n"),
        [""; 0]
    );
}

#[test]
fn a_proxy_needs_a_listener() {
    assert_eq!(
        problems("server: { listen: [] }\n"),
        ["1:19: server.listen: there is nothing to listen on; give an address here or in `tls`"]
    );
    assert_eq!(
        problems("server: { listen: [], tls: [] }\n"),
        ["1:19: server.listen: there is nothing to listen on; give an address here or in `tls`"]
    );
}

#[test]
fn files_that_do_not_exist_are_named() {
    let next = "correct the path; relative ones begin at the folder of this file";
    assert_eq!(
        problems_of(
            "server: { tls: [{ listen: \"0.0.0.0:1\", cert: c.pem, key: policies }] }
policies: { dir: nowhere }
origins: { o: { http: { servers: \"https://a\", ca: x.pem } } }
buckets: { b: { match: { hosts: \"*\" }, origin: o, policy: a.lua } }
"
        ),
        [
            format!("1:46: server.tls[0].cert: the file `DIR/c.pem` does not exist; {next}"),
            format!("1:58: server.tls[0].key: the file `DIR/policies` is not a file; {next}"),
            format!("2:18: policies.dir: the folder `DIR/nowhere` does not exist; {next}"),
            format!("3:51: origins.o.http.ca: the file `DIR/x.pem` does not exist; {next}"),
            "4:59: buckets.b.policy: there is no file `a.lua`, as the folder `DIR/nowhere` cannot be read; correct `policies.dir`"
                .to_owned(),
        ]
    );
}

#[test]
fn a_policy_file_must_be_in_the_folder() {
    assert_eq!(
        bucket("origin: api, policy: statik.lua"),
        ["2:61: buckets.b.policy: there is no file `statik.lua` in `DIR/policies`; did you mean `static.lua`?"]
    );
    assert_eq!(
        bucket("origin: api, policy: other.lua"),
        [
            "2:61: buckets.b.policy: there is no file `other.lua` in `DIR/policies`; create it, or remove the key for plain RFC 9111"
        ]
    );
    assert_eq!(
        bucket("origin: api, policy: ../cert.pem"),
        ["2:61: buckets.b.policy: `../cert.pem` leaves the folder of policies; name a file inside of `policies.dir`"]
    );
}

#[test]
fn required_keys_are_missed_where_they_belong() {
    assert_eq!(
        problems_of(
            "server: { tls: [{}] }\norigins:\n  o: {}\n  p: { http: {} }\n  q: { s3: {} }\nbuckets:\n  b: {}\n"
        ),
        [
            "1:17: server.tls[0].listen: is missing; add `listen: \"0.0.0.0:8443\"`",
            "1:17: server.tls[0].cert: is missing; add `cert: cert.pem`",
            "1:17: server.tls[0].key: is missing; add `key: key.pem`",
            "3:3: origins.o: says neither `http` nor `s3`; write `http: { servers: […] }` or `s3: { endpoint: …, bucket: … }`",
            "4:8: origins.p.http.servers: is missing; add `servers: [\"127.0.0.1:8000\"]`",
            "5:8: origins.q.s3.endpoint: is missing; add `endpoint: \"https://s3.eu-west-1.amazonaws.com\"`",
            "5:8: origins.q.s3.bucket: is missing; add `bucket: NAME`",
            "7:3: buckets.b.match.hosts: is missing; add `hosts: [\"www.example.com\"]`",
            "7:3: buckets.b.origin: is missing; add `origin: NAME`",
        ]
    );
}

#[test]
fn a_missing_variable_is_named_with_its_line() {
    assert_eq!(
        problems("server: { drain: \"${DRAIN}\" }\nadmin:\n  token: ${TIDEGATE_ADMIN_TOKEN}\n"),
        [
            "1:18: server.drain: the environment variable `DRAIN` is not set; set it, or give a default with `${DRAIN:-value}`",
            "3:10: admin.token: the environment variable `TIDEGATE_ADMIN_TOKEN` is not set; set it, or give a default with `${TIDEGATE_ADMIN_TOKEN:-value}`",
        ]
    );
}

#[test]
fn a_token_must_fit_into_a_header() {
    assert_eq!(
        problems("admin: { token: \"two words\" }\n"),
        ["1:17: admin.token: holds a character that a bearer token cannot have; use visible ASCII without spaces"]
    );
}

#[test]
fn a_disk_tier_is_checked() {
    assert_eq!(
        problems("cache:\n  disk: { max_objekt: 5GiB }\n"),
        [
            "2:3: cache.disk.path: is missing; add `path: /var/cache/tidegate`",
            "2:3: cache.disk.capacity: is missing; add `capacity: 50GiB`",
            "2:11: cache.disk.max_objekt: unknown key; did you mean `max_object`?",
        ]
    );
    assert_eq!(
        problems(
            "cache:\n  disk: { path: \"\", capacity: 50, max_object: 1TiB, promote_after: -1, promote_rate: 1.5, write: back }\n"
        ),
        [
            "2:17: cache.disk.path: is empty; give a value, or remove the key",
            "2:31: cache.disk.capacity: `50` has no unit; write `50B`, `50KiB` or `50MiB`",
            "2:68: cache.disk.promote_after: `-1` is out of range; write a number from 0 to 1000000",
            "2:86: cache.disk.promote_rate: expected a whole number, found `1.5`; write digits only",
            "2:98: cache.disk.write: `back` is not known here; the words here are `through` and `behind`",
        ]
    );
    assert_eq!(
        problems(
            "cache:\n  disk: { path: c, capacity: 1MiB, max_object: 2MiB, timeout: 0, min_free: 5, max_open: 15 }\n"
        ),
        [
            "2:48: cache.disk.max_object: is larger than `capacity`; lower it, or give more capacity",
            "2:63: cache.disk.timeout: must be more than 0; write a duration such as `10s`",
            "2:76: cache.disk.min_free: `5` has no unit; write `5B`, `5KiB` or `5MiB`",
            "2:89: cache.disk.max_open: `15` is out of range; write a number from 16 to 1000000",
        ]
    );
}

#[test]
fn a_disk_tier_needs_a_directory_of_its_own() {
    let next = "name a directory that nothing else uses; it is created if it is not there";
    let path = |path: &str| problems(&format!("cache: {{ disk: {{ path: {path}, capacity: 1GiB }} }}\n"));
    for root in ["/", "//.", "/tmp/.."] {
        let problem = format!("is the root of the file system, and not the cache's alone; {next}");
        assert_eq!(path(root), [format!("1:24: cache.disk.path: `{root}` {problem}")]);
    }
    assert_eq!(path("cert.pem"), [format!("1:24: cache.disk.path: `DIR/cert.pem` is a file, not a directory; {next}")]);
    for inside in ["policies", "policies/cache"] {
        let problem = "is in the folder of the policies, which is watched for changes; name a directory outside of it";
        assert_eq!(path(inside), [format!("1:24: cache.disk.path: `DIR/{inside}` {problem}")]);
    }
    assert_eq!(path("not/there"), [""; 0]);
}

#[test]
fn the_address_of_redis_is_one_without_repeating_what_may_be_a_password() {
    let what = "is not the address of a Redis server; write one such as `redis://user:password@127.0.0.1:6379/0`, \
                `rediss://…` for TLS, `unix:///run/redis.sock`, or `off`; characters of a password that mean something in a URL \
                are written as `%40`";
    for url in ["http://a", "a:6379", "redis://", "redis://u:p/w@a", "redis://a:x", "redis://a/b", "unix://a"] {
        let found = problems(&format!("cache: {{ redis: {{ url: \"{url}\" }} }}\n"));
        assert_eq!(found, [format!("1:24: cache.redis.url: {what}")], "{url}");
    }
    assert_eq!(
        problems("cache: { redis: {} }\n"),
        ["1:10: cache.redis.url: is missing; add `url: \"redis://127.0.0.1:6379\"`"]
    );
}

#[test]
fn addresses_of_redis_that_do_not_go_together_say_why() {
    let redis = |keys: &str| problems(&format!("cache: {{ redis: {{ {keys} }} }}\n"));
    let alike = "1:24: cache.redis.url: the addresses differ in more than host and port; give all the same scheme, login and database";
    for other in ["rediss://b", "redis://u:p@b", "redis://b/1"] {
        assert_eq!(redis(&format!("url: [\"redis://a\", \"{other}\"]")), [alike], "{other}");
    }
    let socket = "1:24: cache.redis.url: has a Unix socket among servers that name each other by host and port; write `redis://host:port`";
    assert_eq!(redis("url: \"unix:///a\", cluster: true"), [socket]);
    assert_eq!(redis("url: \"unix:///a\", sentinel: { master: m }"), [socket]);
    assert_eq!(
        redis("url: \"redis://a/1\", cluster: true"),
        ["1:24: cache.redis.url: names a database, and a Redis Cluster has none but 0; remove the number"]
    );
    assert_eq!(redis("url: []"), ["1:24: cache.redis.url: is empty; name a server, such as `redis://127.0.0.1:6379`"]);
    assert_eq!(
        redis("cluster: true, url: \"redis://a\", sentinel: { master: m }"),
        [
            "1:28: cache.redis.cluster: a Redis Cluster has no Sentinels; keep `cluster` for a Redis Cluster, or `sentinel` for a \
          master with replicas"
        ]
    );
    assert_eq!(
        redis("url: \"redis://a\", sentinel: {}"),
        ["1:37: cache.redis.sentinel.master: is missing; add `master: mymaster`"]
    );
}

#[test]
fn the_other_keys_of_redis_say_what_is_wrong() {
    let redis = |keys: &str| problems(&format!("cache: {{ redis: {{ url: \"redis://a\", {keys} }} }}\n"));
    assert_eq!(
        redis("prefix: \"a{b\""),
        [
            "1:45: cache.redis.prefix: has a brace; leave the braces out: they would decide in which slot of a cluster keys are"
        ]
    );
    assert_eq!(
        redis("max_object: 1GiB"),
        [
            "1:49: cache.redis.max_object: is more than is good for a server that others wait for; write `256MiB` at most"
        ]
    );
    assert_eq!(redis("timeout: 0s").len(), 1);
    let only_one = "1:37: cache.redis.tls: has only one of `cert` and `key`; give both, or none";
    assert_eq!(redis("tls: { cert: cert.pem }"), [only_one]);
    assert_eq!(redis("tls: { ca: nowhere.pem }").len(), 1);
    assert_eq!(redis("prefx: a"), ["1:37: cache.redis.prefx: unknown key; did you mean `prefix`?"]);
}

#[test]
fn nodes_agree_on_fills_through_redis_alone() {
    assert_eq!(
        problems("cache: { lock: { cluster: true } }\n"),
        [
            "1:27: cache.lock.cluster: nodes agree on who fetches through Redis, which is not set up; write `false`, or set up \
          `cache.redis`"
        ]
    );
    let off = "cache: { redis: { url: off }, lock: { cluster: true } }\n";
    assert_eq!(problems(off).len(), 1);
}

#[test]
fn tls_settings_without_tls_are_pointed_out() {
    let redis = |url: &str| {
        warnings_of(&format!("cache: {{ redis: {{ url: \"{url}\", tls: {{ ca: ca.pem }} }} }}\n{}", super::REST))
    };
    assert_eq!(
        redis("redis://a"),
        ["1:42: cache.redis.tls: is not used, as `url` does not ask for TLS; write `rediss://` in `url`"]
    );
    assert_eq!(redis("rediss://a"), [""; 0]);
}

#[test]
fn an_origin_is_either_http_or_s3() {
    assert_eq!(
        origin("http: { servers: \"a:1\" }, s3: { endpoint: \"http://a\", bucket: b }"),
        ["2:3: origins.o: has both `http` and `s3`; keep one of them, or make two origins"]
    );
}

#[test]
fn bad_servers_say_what_to_write() {
    for (server, problem) in [
        ("ftp://a", "`ftp` is not a scheme that is spoken; write `http://` or `https://`"),
        ("http://a/b", "`http://a/b` has a path; write the scheme, host and port only"),
        ("http://u:p@a", "an address cannot carry a user name; write the scheme, host and port only"),
        ("a:b", "`a:b` is not a server; write one such as `10.0.0.1:8000` or `https://api.example.com`"),
        ("a b:1", "`a b:1` is not a server; write one such as `10.0.0.1:8000` or `https://api.example.com`"),
        ("::1:80", "`::1:80` is not a server; write one such as `10.0.0.1:8000` or `https://api.example.com`"),
        ("a:0", "a server has no port 0; write one such as `10.0.0.1:8000` or `https://api.example.com`"),
    ] {
        assert_eq!(
            origin(&format!("http: {{ servers: [\"{server}\"] }}")),
            [format!("2:26: origins.o.http.servers[0]: {problem}")]
        );
    }
    assert_eq!(
        origin("http: { servers: [] }"),
        ["2:25: origins.o.http.servers: is empty; give at least one server, such as \"127.0.0.1:8000\""]
    );
}

#[test]
fn the_rest_of_an_http_origin_is_checked() {
    assert_eq!(
        origin("http: { servers: \"a:1\", balance: robin, health: { path: x }, host: \"a/b\", retries: 1000 }"),
        [
            "2:41: origins.o.http.balance: `robin` is not known here; the words here are `round_robin`, `random` and `key_hash`",
            "2:64: origins.o.http.health.path: `x` is not a path; write one such as `/healthz`",
            "2:75: origins.o.http.host: `a/b` is not a host; write one such as `www.example.com`",
            "2:91: origins.o.http.retries: `1000` is out of range; write a number from 0 to 100",
        ]
    );
}

#[test]
fn an_s3_origin_is_checked() {
    assert_eq!(
        origin("s3: { endpoint: \"a:9000\", bucket: a/b, style: host, credentials: anon }"),
        [
            "2:24: origins.o.s3.endpoint: says no scheme; begin it with `https://` or `http://`",
            "2:42: origins.o.s3.bucket: `a/b` is not the name of a bucket; put what follows it in `prefix`",
            "2:54: origins.o.s3.style: `host` is not known here; the words here are `path` and `virtual_host`",
            "2:73: origins.o.s3.credentials: `anon` is not known here; the words here are `env` and `anonymous`",
        ]
    );
    assert_eq!(
        origin("s3: { endpoint: \"http://127.0.0.1:9000\", bucket: b, style: virtual_host, credentials: anonymous }"),
        ["2:67: origins.o.s3.style: an address cannot carry the bucket in its host name; write `path`"]
    );
}

#[test]
fn credentials_are_a_profile_or_a_key() {
    let credentials = |text: &str| origin(&format!("s3: {{ endpoint: \"http://a\", bucket: b, credentials: {text} }}"));
    assert_eq!(
        credentials("{}"),
        [
            "2:47: origins.o.s3.credentials: says neither a profile nor a key; write `{ profile: NAME }`, or `env` or `anonymous`"
        ]
    );
    assert_eq!(
        credentials("{ profile: p, access_key_id: k }"),
        ["2:47: origins.o.s3.credentials: has both a profile and a key; keep one of them"]
    );
    assert_eq!(
        credentials("{ access_key_id: k }"),
        ["2:47: origins.o.s3.credentials.secret_access_key: is missing; a key has two halves: add it"]
    );
    assert_eq!(
        credentials("{ profile: p }"),
        ["2:47: origins.o.s3.credentials: no file of profiles is known, as `HOME` is not set; name one in `file`"]
    );
}

#[test]
fn bad_host_patterns_say_what_to_write() {
    for (host, problem) in [
        ("a.example.com:80", "`a.example.com:80` has a port, which does not count; write `a.example.com`"),
        ("https://a.example.com/x", "`https://a.example.com/x` has a scheme; write `a.example.com`"),
        ("a.example.com/x", "`a.example.com/x` has a path; put it in `path`"),
        (
            "*example.com",
            "`*example.com` is not a host pattern; write one such as `img.example.com`, `*.example.com` or `*`",
        ),
        ("a.*.com", "`a.*.com` has a `*` in its middle; a `*` stands alone or for the first labels: `*.example.com`"),
        ("a..com", "`a..com` is not a host pattern; write one such as `img.example.com`, `*.example.com` or `*`"),
        ("*.", "`*.` is not a host pattern; write one such as `img.example.com`, `*.example.com` or `*`"),
        ("[::1]:80", "`[::1]:80` is not a host pattern; write one such as `img.example.com`, `*.example.com` or `*`"),
        ("bücher.example", "`bücher.example` is not ASCII; write it as browsers send it, as `xn--…`"),
    ] {
        assert_eq!(hosts(&format!("[\"{host}\"]")), [format!("4:22: buckets.b.match.hosts[0]: {problem}")]);
    }
    assert_eq!(
        hosts("[]"),
        ["4:21: buckets.b.match.hosts: is empty, so the bucket serves nothing; give a host, or \"*\" for any"]
    );
}

#[test]
fn a_path_is_a_prefix() {
    let path = |path: &str| {
        problems_of(&format!(
            "origins: {{ o: {{ http: {{ servers: \"a:1\" }} }} }}\nbuckets:\n  b:\n    match: {{ hosts: \"*\", path: \"{path}\" }}\n    origin: o\n"
        ))
    };
    assert_eq!(path("api/"), ["4:32: buckets.b.match.path: `api/` does not begin with `/`; write `/api/`"]);
    assert_eq!(path("/api/*"), ["4:32: buckets.b.match.path: a path is a prefix and has no `*`; write `/api/`"]);
    assert_eq!(
        path("/a?b"),
        ["4:32: buckets.b.match.path: `/a?b` is not a path; write it as it is sent: percent-encoded, without a query"]
    );
}

#[test]
fn two_buckets_cannot_have_the_same_host_and_path() {
    assert_eq!(
        problems_of(
            "origins: { o: { http: { servers: \"a:1\" } } }
buckets:
  a: { match: { hosts: [a.example, \"*.b.example\"], path: /x }, origin: o }
  b: { match: { hosts: [A.Example.], path: /x }, origin: o }
  c: { match: { hosts: [a.example, a.example] }, origin: o }
"
        ),
        [
            "4:25: buckets.b.match.hosts[0]: the bucket `a` on line 3 has the same host `a.example` and path `/x`; change one of them: a request goes to one bucket",
            "5:36: buckets.c.match.hosts[1]: the host `a.example` is given twice, first on line 5; remove one of them",
        ]
    );
}

#[test]
fn an_unknown_origin_lists_the_known_ones() {
    assert_eq!(
        bucket("origin: elsewhere"),
        ["2:48: buckets.b.origin: no origin is called `elsewhere`; the origins are `api`"]
    );
}

#[test]
fn an_origin_that_is_wrong_is_not_also_unknown() {
    assert_eq!(
        origin("http: { servers: \"a\" }"),
        ["2:25: origins.o.http.servers: `a` has no port; write `a:80`, or `https://a` for TLS"]
    );
}

#[test]
fn methods_are_methods() {
    assert_eq!(
        bucket("origin: api, methods: [get, \"G T\", CONNECT]"),
        [
            "2:63: buckets.b.methods[0]: methods are upper case, not `get`; write `GET`",
            "2:68: buckets.b.methods[1]: `G T` is not a method; write one such as `GET`",
            "2:75: buckets.b.methods[2]: `CONNECT` asks for a tunnel, which a cache does not open; remove it",
        ]
    );
    assert_eq!(
        bucket("origin: api, methods: []"),
        ["2:62: buckets.b.methods: lets no method through; name at least one, such as `GET`"]
    );
}

#[test]
fn names_are_plain() {
    assert_eq!(
        problems_of(
            "origins: { \"a b\": { http: { servers: \"a:1\" } } }\nbuckets: { b: { match: { hosts: \"*\" }, origin: a b } }\n"
        ),
        ["1:12: origins.a b: is not a good name; use 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`"]
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    assert_eq!(
        warnings_of(
            "cache: { memory: { capacity: 0 } }
origins:
  a: { http: { servers: \"https://a\", verify: false } }
  b: { s3: { endpoint: \"http://a\", bucket: b } }
  c: { http: { servers: \"c:1\" } }
buckets:
  a: { match: { hosts: a }, origin: a }
  b: { match: { hosts: b }, origin: b, methods: [GET, PUT] }
"
        ),
        [
            "1:30: cache.memory.capacity: every tier is off, so nothing is stored; give the memory tier a capacity",
            "3:3: origins: no bucket uses the origin `c`; name it in a bucket's `origin`, or remove it",
            "3:46: origins.a.http.verify: certificates of this origin are not checked; name its authority in `ca` instead",
            "4:8: origins.b.s3.credentials: requests are signed with the environment's key, and `AWS_ACCESS_KEY_ID` is not set; set it, or write `anonymous` for a public bucket",
            "8:49: buckets.b.methods: `PUT` is let through to an S3 origin and signed with its key; keep to `GET` and `HEAD` unless clients may change the bucket",
        ]
    );
}

#[test]
fn only_a_cache_without_any_tier_is_probably_not_meant() {
    let warnings = |cache: &str| warnings_of(&format!("cache: {{ {cache} }}\n{}", super::REST));
    let off = "cache.memory.capacity: every tier is off, so nothing is stored";
    assert_eq!(
        warnings("memory: { capacity: 0 }, disk: { path: c, capacity: 0 }"),
        [format!("1:30: {off}; give one of them a capacity")]
    );
    assert_eq!(warnings("memory: { capacity: 0 }, disk: { path: c, capacity: 1GiB }"), [""; 0]);
    assert_eq!(warnings("disk: { path: c, capacity: 0 }"), [""; 0]);
}

#[test]
fn secrets_are_not_printed() {
    let folder = Folder::new();
    let text = "admin: { token: hunter2 }
origins: { o: { s3: { endpoint: \"http://a\", bucket: b, credentials: { access_key_id: k, secret_access_key: hunter2 } } } }
buckets: { b: { match: { hosts: \"*\" }, origin: o } }
";
    let loaded = folder.parse_with(text, &[]).unwrap();
    assert_eq!(loaded.config.admin.as_ref().unwrap().token.as_deref(), Some("hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
}
