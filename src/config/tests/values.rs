//! What the keys mean once they are right.

use std::path::Path;
use std::time::Duration;

use super::{Folder, config, whole};
use crate::config::{
    AccessLog, Balance, DiskTier, HostPattern, LogFormat, LogLevel, MemoryTier, OnError, OriginKind, OriginServer,
    S3Credentials, S3Style, WriteMode,
};

#[test]
fn one_origin_and_one_bucket_are_a_configuration() {
    let config = config("");
    assert_eq!(config.server.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert!(config.server.threads >= 1);
    assert_eq!(config.server.limits.header_bytes, 64 << 10);
    assert_eq!(config.server.upgrade_socket, Path::new("/tmp/tidegate.sock"));
    assert_eq!(config.policies.limits.time, Duration::from_millis(5));
    assert_eq!(config.cache.memory, Some(MemoryTier { capacity: 512 << 20, max_object: 8 << 20 }));
    assert_eq!(
        (config.cache.lock.max_waiters, config.cache.lock.cluster, config.cache.max_variants),
        (10_000, false, 64)
    );
    assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Auto));
    assert_eq!(config.log.access, AccessLog::Off);
    let bucket = &config.buckets[0];
    assert_eq!((bucket.path.as_str(), &bucket.policy, &bucket.methods), ("/", &None, &None));
    assert!(bucket.host_in_key && bucket.heuristic && bucket.client_refetch && !bucket.keep_tag_headers);
    assert!(config.server.purge_from.is_empty() && !config.server.node.is_empty());
    assert_eq!(bucket.stale_on_disconnect, Duration::from_secs(3600));
    assert_eq!(bucket.origin.connect_timeout, Duration::from_secs(1));
    assert_eq!((bucket.origin.read_timeout, bucket.origin.retries), (Duration::from_secs(30), 1));
}

#[test]
fn admin_left_out_is_on_loopback_without_a_token() {
    let admin = config("").admin.unwrap();
    assert_eq!((admin.listen, admin.token), ("127.0.0.1:9090".parse().unwrap(), None));
}

#[test]
fn admin_is_turned_off_in_three_spellings() {
    for text in ["admin: off\n", "admin: false\n", "admin:\n", "admin: null\n"] {
        assert_eq!(config(text).admin, None, "{text:?}");
    }
}

#[test]
fn an_empty_token_is_no_token() {
    assert_eq!(config("admin: { token: \"${NONE:-}\" }\n").admin.unwrap().token, None);
}

#[test]
fn a_single_value_is_a_list_of_one() {
    let config = config(
        "server: { listen: \"127.0.0.1:80\", trusted_proxies: 10.0.0.1, purge_from: 10.0.0.2, node: cache-1 }\n",
    );
    assert_eq!(config.server.listen, ["127.0.0.1:80".parse().unwrap()]);
    assert_eq!(config.server.trusted_proxies, ["10.0.0.1/32".parse().unwrap()]);
    assert_eq!(config.server.purge_from, ["10.0.0.2/32".parse().unwrap()]);
    assert_eq!(config.server.node, "cache-1");
}

#[test]
fn tls_alone_is_enough() {
    let config = config("server: { listen: [], tls: [{ listen: \"[::]:443\", cert: cert.pem, key: key.pem }] }\n");
    assert!(config.server.listen.is_empty());
    assert!(config.server.tls[0].cert.is_absolute() && config.server.tls[0].cert.ends_with("cert.pem"));
}

#[test]
fn a_size_of_0_turns_the_thing_off() {
    assert_eq!(config("cache: { memory: { capacity: 0 } }\n").cache.memory, None);
    assert_eq!(config("server: { limits: { body_bytes: 0 } }\n").server.limits.body_bytes, u64::MAX);
    let memory = config("cache: { memory: { capacity: 64MiB, max_object: 0 } }\n").cache.memory.unwrap();
    assert_eq!(memory.max_object, memory.capacity);
}

#[test]
fn the_default_object_fits_a_small_tier() {
    let memory = config("cache: { memory: { capacity: 1MiB } }\n").cache.memory.unwrap();
    assert_eq!(memory, MemoryTier { capacity: 1 << 20, max_object: 1 << 20 });
}

#[test]
fn a_disk_tier_needs_a_path_and_a_capacity_only() {
    let folder = Folder::new();
    let text = format!("cache: {{ disk: {{ path: cache, capacity: 50GiB }} }}\n{}", super::REST);
    let disk = folder.parse_with(&text, &[]).unwrap().config.cache.disk;
    let expected = DiskTier {
        path: folder.0.path().join("cache"),
        capacity: 50 << 30,
        max_object: 5 << 30,
        promote_after: 2,
        promote_rate: 0,
        write: WriteMode::Through,
        timeout: Duration::from_secs(1),
        min_free: 256 << 20,
        max_open: 8192,
    };
    assert_eq!(disk, Some(expected));
    assert_eq!(config("").cache.disk, None);
    assert_eq!(config("cache: { disk: }\n").cache.disk, None);
}

#[test]
fn every_key_of_a_disk_tier_arrives() {
    let disk = config(
        "cache:
  disk:
    path: /nowhere/at/all
    capacity: 1GiB
    max_object: 0
    promote_after: 0
    promote_rate: 30
    write: behind
    timeout: 20ms
    min_free: 0
    max_open: 16
",
    );
    let expected = DiskTier {
        path: "/nowhere/at/all".into(),
        capacity: 1 << 30,
        max_object: 1 << 30,
        promote_after: 0,
        promote_rate: 30,
        write: WriteMode::Behind,
        timeout: Duration::from_millis(20),
        min_free: 0,
        max_open: 16,
    };
    assert_eq!(disk.cache.disk, Some(expected));
}

#[test]
fn a_disk_tier_without_capacity_is_off_whatever_else_is_said_of_it() {
    let text = "cache: { disk: { path: /var/cache/tidegate, capacity: 0, max_object: 5GiB } }\n";
    assert_eq!(config(text).cache.disk, None);
}

#[test]
fn the_default_object_fits_a_small_disk() {
    let text = "cache: { disk: { path: /var/cache/tidegate, capacity: 1GiB } }\n";
    assert_eq!(config(text).cache.disk.unwrap().max_object, 1 << 30);
}

#[test]
fn empty_sections_have_their_defaults() {
    let config = config("server:\ncache:\n  lock:\nlog: {}\npolicies: ~\n");
    assert_eq!(config.cache.lock.wait, Duration::from_secs(10));
}

#[test]
fn threads_are_auto_or_a_number() {
    assert_eq!(config("server: { threads: 3 }\n").server.threads, 3);
    assert!(config("server: { threads: auto }\n").server.threads >= 1);
}

#[test]
fn variables_may_stand_for_any_value_and_add_no_keys() {
    let folder = Folder::new();
    let text = "server: { threads: \"${THREADS}\", drain: \"${DRAIN:-5}s\" }
admin: { token: \"${TOKEN}\" }
policies: { watch: \"${WATCH}\" }
origins: { o: { http: { servers: \"a:1\" } } }
buckets: { b: { match: { hosts: \"*\" }, origin: o } }
";
    let env = [("THREADS", "7"), ("WATCH", "false"), ("TOKEN", "x,listen:0.0.0.0:1")];
    let config = folder.parse_with(text, &env).unwrap().config;
    assert_eq!((config.server.threads, config.server.drain), (7, Duration::from_secs(5)));
    assert!(!config.policies.watch);
    let admin = config.admin.unwrap();
    assert_eq!((admin.token.as_deref(), admin.listen.port()), (Some("x,listen:0.0.0.0:1"), 9090));
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let folder = Folder::new();
    let text = format!("log: {{ access: logs/access.log }}\nserver: {{ pid_file: t.pid }}\n{}", super::REST);
    let config = folder.parse_with(&text, &[]).unwrap().config;
    assert_eq!(config.policies.dir, folder.0.path().join("policies"));
    assert_eq!(config.server.pid_file, folder.0.path().join("t.pid"));
    assert_eq!(config.log.access, AccessLog::File(folder.0.path().join("logs/access.log")));
}

#[test]
fn sockets_go_where_systemd_says() {
    let folder = Folder::new();
    let env = [("RUNTIME_DIRECTORY", "/run/tidegate"), ("XDG_RUNTIME_DIR", "/run/user/1")];
    let config = folder.parse_with(super::REST, &env).unwrap().config;
    assert_eq!(config.server.upgrade_socket, Path::new("/run/tidegate/tidegate.sock"));
    let config = folder.parse_with(super::REST, &env[1..]).unwrap().config;
    assert_eq!(config.server.pid_file, Path::new("/run/user/1/tidegate.pid"));
}

#[test]
fn every_key_of_an_http_origin_arrives() {
    let config = whole(
        "origins:
  o:
    http:
      servers: [\"a:1\", \"http://b\", \"https://c/\", \"https://[::1]:8443\", \"[::2]:80\"]
      balance: key_hash
      health: { path: /up, interval: 2s }
      host: api.internal:81
      ca: ca.pem
      verify: false
      connect_timeout: 2s
      read_timeout: 3s
      retries: 0
buckets: { b: { match: { hosts: \"*\" }, origin: o } }
",
    );
    let origin = &config.origins["o"];
    assert_eq!((origin.connect_timeout.as_secs(), origin.read_timeout.as_secs(), origin.retries), (2, 3, 0));
    let OriginKind::Http(http) = &origin.kind else { panic!("{origin:?}") };
    let server = |host: &str, port, tls| OriginServer { host: host.into(), port, tls };
    assert_eq!(
        http.servers,
        [
            server("a", 1, false),
            server("b", 80, false),
            server("c", 443, true),
            server("::1", 8443, true),
            server("::2", 80, false)
        ]
    );
    assert_eq!(http.balance, Balance::KeyHash);
    let health = http.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.interval.as_secs()), ("/up", 2));
    assert_eq!(http.host.as_deref(), Some("api.internal:81"));
    assert!(!http.verify && http.ca.as_ref().unwrap().ends_with("ca.pem"));
}

#[test]
fn every_key_of_an_s3_origin_arrives() {
    let config = whole(
        "origins:
  o:
    s3:
      endpoint: https://s3.example.com:9443
      region: eu-west-1
      bucket: 2024
      prefix: site/
      style: virtual_host
      credentials: { access_key_id: k, secret_access_key: s, session_token: t }
      subresources: true
      read_timeout: 3s
buckets: { b: { match: { hosts: \"*\" }, origin: o } }
",
    );
    let OriginKind::S3(s3) = &config.origins["o"].kind else { panic!() };
    assert_eq!(s3.endpoint, OriginServer { host: "s3.example.com".into(), port: 9443, tls: true });
    assert_eq!((s3.region.as_str(), s3.bucket.as_str(), s3.prefix.as_str()), ("eu-west-1", "2024", "site/"));
    assert_eq!(s3.style, S3Style::VirtualHost);
    assert!(s3.subresources && s3.verify);
    let expected = S3Credentials::Static {
        access_key_id: "k".into(),
        secret_access_key: "s".into(),
        session_token: Some("t".into()),
    };
    assert!(s3.credentials == expected);
}

#[test]
fn credentials_have_four_kinds() {
    let folder = Folder::new();
    let read = |credentials: &str, env: &[(&str, &str)]| {
        let text = format!(
            "origins: {{ o: {{ s3: {{ endpoint: \"http://a\", bucket: b{credentials} }} }} }}\nbuckets: {{ b: {{ match: {{ hosts: \"*\" }}, origin: o }} }}\n"
        );
        let config = folder.parse_with(&text, env).unwrap().config;
        let OriginKind::S3(s3) = &config.origins["o"].kind else { panic!() };
        s3.credentials.clone()
    };
    let file = folder.0.path().join("credentials");
    assert_eq!(read("", &[]), S3Credentials::Env);
    assert_eq!(read(", credentials: env", &[]), S3Credentials::Env);
    assert_eq!(read(", credentials: anonymous", &[]), S3Credentials::Anonymous);
    let default = S3Credentials::Profile { file: file.clone(), profile: "default".into() };
    assert_eq!(read(", credentials: { file: credentials }", &[]), default);
    let named = S3Credentials::Profile { file: file.clone(), profile: "p".into() };
    let env = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    assert_eq!(read(", credentials: { profile: p }", &env), named);
}

#[test]
fn every_key_of_a_bucket_arrives() {
    let config = whole(
        "policies: { on_error: defaults }
origins: { o: { http: { servers: \"a:1\" } } }
buckets:
  b:
    match: { hosts: [IMG.example.com., \"*.Example.com\", \"*\", \"::1\", \"[0:0::2]\"], path: /x/ }
    origin: o
    policy: static.lua
    host_in_key: false
    heuristic: false
    stale_on_disconnect: off
    client_refetch: false
    keep_tag_headers: true
    methods: [GET, PURGE]
  c: { match: { hosts: c }, origin: o, on_error: bypass, stale_on_disconnect: 0 }
",
    );
    let bucket = &config.buckets[0];
    assert_eq!(
        bucket.hosts,
        [
            HostPattern::Exact("img.example.com".into()),
            HostPattern::Suffix(".example.com".into()),
            HostPattern::Any,
            HostPattern::Exact("[::1]".into()),
            HostPattern::Exact("[::2]".into()),
        ]
    );
    assert_eq!((&*bucket.name, bucket.path.as_str(), bucket.policy.as_deref()), ("b", "/x/", Some("static.lua")));
    assert!(!bucket.host_in_key && !bucket.heuristic && !bucket.client_refetch && bucket.keep_tag_headers);
    assert_eq!(bucket.stale_on_disconnect, Duration::ZERO);
    let methods: Vec<_> = bucket.methods.iter().flatten().map(http::Method::as_str).collect();
    assert_eq!(methods, ["GET", "PURGE"]);
    assert_eq!((bucket.on_error, config.buckets[1].on_error), (OnError::Defaults, OnError::Bypass));
    assert_eq!(config.buckets[1].stale_on_disconnect, Duration::ZERO);
}

#[test]
fn buckets_keep_the_order_of_the_file() {
    let config = whole(
        "origins: { o: { http: { servers: \"a:1\" } } }
buckets:
  z: { match: { hosts: z }, origin: o }
  a: { match: { hosts: a }, origin: o }
",
    );
    let names: Vec<_> = config.buckets.iter().map(|bucket| &*bucket.name).collect();
    assert_eq!(names, ["z", "a"]);
}
