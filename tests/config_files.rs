//! The configuration files that are shipped load, and say what their comments promise.

#[expect(dead_code, unused_imports, reason = "what other tests need of it as well")]
mod support;

use std::path::Path;

use tidegate::config::{AccessLog, Config, Loaded, OriginKind, OriginServer, S3Credentials, S3Style};

/// Loads a shipped file from a folder that is laid out like the repository, with empty policies.
fn load(name: &str, env: &[(&str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    for sub in ["config", "policies"] {
        std::fs::create_dir(folder.path().join(sub)).unwrap();
    }
    for policy in ["static.lua", "api.lua"] {
        std::fs::write(folder.path().join("policies").join(policy), "return {}\n").unwrap();
    }
    let file = folder.path().join("config").join(name);
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name), &file).unwrap();
    let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    match Config::load(&file, &get) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn server(host: &str, port: u16, tls: bool) -> OriginServer {
    OriginServer { host: host.into(), port, tls }
}

#[test]
fn the_reference_loads_and_warns_of_nothing_but_the_missing_key() {
    let warnings = load("reference.yaml", &[]).warnings;
    let paths: Vec<&str> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["origins.media.s3.credentials"]);
    let key = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
    assert!(load("reference.yaml", &key).warnings.is_empty());
}

#[test]
fn the_quickstart_listens_on_loopback_only() {
    let loaded = load("tidegate.yaml", &[]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(loaded.config.admin.unwrap().listen, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(loaded.config.log.access, AccessLog::Stdout);
}

#[test]
fn the_quickstart_reaches_both_buckets_through_any_host() {
    let config = load("tidegate.yaml", &[]).config;
    for (path, bucket, policy) in [
        ("/", "media", "static.lua"),
        ("/hello.txt", "media", "static.lua"),
        ("/apis", "media", "static.lua"),
        ("/api/users", "api", "api.lua"),
    ] {
        let found = config.bucket_for("127.0.0.1:8080", path).unwrap();
        assert_eq!((&*found.name, found.policy.as_deref()), (bucket, Some(policy)), "{path}");
    }
}

#[test]
fn the_quickstart_has_origins_on_this_machine() {
    let config = load("tidegate.yaml", &[]).config;
    let OriginKind::S3(s3) = &config.origins["media"].kind else { panic!("media is no S3 origin") };
    assert_eq!(
        (&s3.endpoint, s3.bucket.as_str(), s3.style),
        (&server("127.0.0.1", 9000, false), "media", S3Style::Path)
    );
    let key = S3Credentials::Static {
        access_key_id: "tidegate".into(),
        secret_access_key: "tidegate-secret".into(),
        session_token: None,
    };
    assert!(s3.credentials == key);
    let OriginKind::Http(http) = &config.origins["api"].kind else { panic!("api is no HTTP origin") };
    assert_eq!(http.servers, [server("127.0.0.1", 9001, false)]);
}

#[test]
fn the_quickstart_follows_the_environment() {
    let env = [
        ("TIDEGATE_QUICKSTART_S3", "https://s3.example.com"),
        ("TIDEGATE_QUICKSTART_API", "api.example.com:81"),
        ("TIDEGATE_ADMIN_TOKEN", "mine"),
    ];
    let config = load("tidegate.yaml", &env).config;
    let OriginKind::S3(s3) = &config.origins["media"].kind else { panic!("media is no S3 origin") };
    assert_eq!(s3.endpoint, server("s3.example.com", 443, true));
    let OriginKind::Http(http) = &config.origins["api"].kind else { panic!("api is no HTTP origin") };
    assert_eq!(http.servers, [server("api.example.com", 81, false)]);
    assert_eq!(config.admin.unwrap().token.as_deref(), Some("mine"));
}

/// `check` of a configuration whose disk tier is in `cache`, beside the file, after `prepare` has seen to that folder; what
/// it returns is held meanwhile.
fn check_with_disk<T>(prepare: impl FnOnce(&Path) -> T) -> (support::cli::Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let text = "cache: { disk: { path: cache, capacity: 1GiB } }\n\
                origins: { main: { http: { servers: [\"127.0.0.1:9\"] } } }\n\
                buckets: { main: { match: { hosts: [\"*\"] }, origin: main } }\n";
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("tidegate.yaml"), text).unwrap();
    let _held = prepare(&folder.path().join("cache"));
    (support::cli::run(&["check", "-c", "tidegate.yaml"], folder.path()), folder)
}

#[test]
fn a_directory_for_the_disk_tier_need_not_be_there_and_check_does_not_create_it() {
    let (output, folder) = check_with_disk(|_| ());
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!folder.path().join("cache").exists());
}

#[test]
fn a_directory_that_the_disk_tier_made_is_good_while_it_is_in_use() {
    use tidegate::store::disk::probe::{TAG, TAG_FILE};
    let (output, _folder) = check_with_disk(|cache| {
        std::fs::create_dir(cache).unwrap();
        std::fs::write(cache.join(TAG_FILE), TAG).unwrap();
        std::fs::write(cache.join("lock"), std::process::id().to_string()).unwrap();
        let lock = std::fs::File::open(cache.join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    });
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn a_directory_of_somebody_else_is_refused_for_the_disk_tier_with_what_to_do() {
    let (output, _folder) = check_with_disk(|cache| {
        std::fs::create_dir(cache).unwrap();
        std::fs::write(cache.join("thesis.tex"), "").unwrap();
    });
    assert_eq!(output.code, 1, "{output:?}");
    let told = "cache.disk.path: `cache` is not empty and was not made by tidegate; name an empty directory";
    assert!(output.stderr.contains(told), "{output:?}");
}
