//! The configuration files that are shipped load, and say what their comments promise.

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
