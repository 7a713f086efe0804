//! `origins`

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::reader::Section;
use crate::config::value::Value;
use crate::config::{Balance, Health, HttpOrigin, Origin, OriginKind, OriginServer, S3Credentials, S3Origin, S3Style};

/// By name; `None` where the name is there and what it says is wrong.
pub(super) type Origins = BTreeMap<String, Option<Arc<Origin>>>;

/// `origins`
pub(super) fn origins(root: &mut Section<'_>) -> Origins {
    if !root.has("origins") {
        let hint = "add `origins: { NAME: { http: { servers: [\"127.0.0.1:8000\"] } } }`";
        root.place_of("origins").problem("is missing", hint);
    }
    root.named("origins", |name, s| origin(name, s).map(Arc::new)).into_iter().collect()
}

/// What `http` and `s3` have in common.
struct Common {
    connect_timeout: Duration,
    read_timeout: Duration,
    retries: usize,
    ca: Option<PathBuf>,
    verify: bool,
}

fn origin(name: &str, s: &mut Section<'_>) -> Option<Origin> {
    let hint = "write `http: { servers: […] }` or `s3: { endpoint: …, bucket: … }`";
    match (s.has("http"), s.has("s3")) {
        (true, true) => s.place.problem("has both `http` and `s3`", "keep one of them, or make two origins"),
        (false, false) => s.place.problem("says neither `http` nor `s3`", hint),
        (true, false) | (false, true) => {}
    }
    let http = s.optional("http", |s| {
        let common = common(s);
        http(s, &common).map(|http| (OriginKind::Http(http), common))
    });
    let s3 = s.optional("s3", |s| {
        let common = common(s);
        s3(s, &common).map(|s3| (OriginKind::S3(s3), common))
    });
    let (kind, common) = http.or(s3).flatten()?;
    Some(Origin {
        name: name.to_owned(),
        kind,
        connect_timeout: common.connect_timeout,
        read_timeout: common.read_timeout,
        retries: common.retries,
    })
}

fn common(s: &mut Section<'_>) -> Common {
    let verify = s.get("verify", |value| {
        let verify = value.boolean()?;
        if !verify {
            value.place.warn("certificates of this origin are not checked", "name its authority in `ca` instead");
        }
        Some(verify)
    });
    Common {
        connect_timeout: s.get("connect_timeout", |value| value.positive_duration()).unwrap_or(Duration::from_secs(1)),
        read_timeout: s.get("read_timeout", |value| value.positive_duration()).unwrap_or(Duration::from_secs(30)),
        retries: s.get("retries", |value| value.whole(0..=100)).unwrap_or(1),
        ca: s.get("ca", |value| value.file()),
        verify: verify.unwrap_or(true),
    }
}

fn http(s: &mut Section<'_>, common: &Common) -> Option<HttpOrigin> {
    let mut given = 0;
    let servers = s.require("servers", "[\"127.0.0.1:8000\"]", |value| {
        let items = value.items();
        given = items.len();
        Some(items.iter().filter_map(server).collect::<Vec<_>>())
    });
    if servers.is_some() && given == 0 {
        s.place_of("servers").problem("is empty", "give at least one server, such as \"127.0.0.1:8000\"");
    }
    let balances = [("round_robin", Balance::RoundRobin), ("random", Balance::Random), ("key_hash", Balance::KeyHash)];
    let balance = s.get("balance", |value| value.word(&balances)).unwrap_or_default();
    let health = s.optional("health", |s| Health {
        path: s.get("path", health_path).unwrap_or_else(|| "/".to_owned()),
        interval: s.get("interval", |value| value.positive_duration()).unwrap_or(Duration::from_secs(5)),
    });
    let host = s.get("host", |value| {
        let text = value.text()?;
        if split_authority(&text).is_some_and(|(host, _)| is_host(host)) {
            return Some(text);
        }
        value.place.problem(format!("`{text}` is not a host"), "write one such as `www.example.com`");
        None
    });
    Some(HttpOrigin { servers: servers?, balance, health, host, ca: common.ca.clone(), verify: common.verify })
}

fn health_path(value: &Value<'_>) -> Option<String> {
    let path = value.text()?;
    if path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic()) {
        return Some(path);
    }
    value.place.problem(format!("`{path}` is not a path"), "write one such as `/healthz`");
    None
}

fn s3(s: &mut Section<'_>, common: &Common) -> Option<S3Origin> {
    let endpoint = s.require("endpoint", "\"https://s3.eu-west-1.amazonaws.com\"", |value| {
        let endpoint = server(value)?;
        if !value.text()?.contains("://") {
            value.place.problem("says no scheme", "begin it with `https://` or `http://`");
        }
        Some(endpoint)
    });
    let region = s.get("region", |value| value.text()).unwrap_or_else(|| "us-east-1".to_owned());
    let bucket = s.require("bucket", "NAME", |value| {
        let bucket = value.text()?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if bucket.chars().all(good) {
            return Some(bucket);
        }
        value.place.problem(format!("`{bucket}` is not the name of a bucket"), "put what follows it in `prefix`");
        None
    });
    let prefix = s.get("prefix", |value| value.text_or_empty()).unwrap_or_default();
    let styles = [("path", S3Style::Path), ("virtual_host", S3Style::VirtualHost)];
    let style = s.get("style", |value| value.word(&styles)).unwrap_or_default();
    if style == S3Style::VirtualHost
        && endpoint.as_ref().is_some_and(|endpoint| endpoint.host.parse::<IpAddr>().is_ok())
    {
        s.place_of("style").problem("an address cannot carry the bucket in its host name", "write `path`");
    }
    let credentials = credentials(s);
    let subresources = s.get("subresources", |value| value.boolean()).unwrap_or(false);
    Some(S3Origin {
        endpoint: endpoint?,
        region,
        bucket: bucket?,
        prefix,
        style,
        credentials: credentials?,
        subresources,
        ca: common.ca.clone(),
        verify: common.verify,
    })
}

fn credentials(s: &mut Section<'_>) -> Option<S3Credentials> {
    let words = [("env", false), ("anonymous", true)];
    let given = s.has("credentials");
    let read = s.word_or_section(
        "credentials",
        |value| match value.word(&words)? {
            true => Some(S3Credentials::Anonymous),
            false => Some(S3Credentials::Env),
        },
        credentials_section,
    );
    let credentials = if given { read } else { Some(S3Credentials::Env) };
    if credentials == Some(S3Credentials::Env) {
        let missing = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .into_iter()
            .find(|name| (s.place.reader.env)(name).is_none_or(|value| value.is_empty()));
        if let Some(missing) = missing {
            s.place_of("credentials").warn(
                format!("requests are signed with the environment's key, and `{missing}` is not set"),
                "set it, or write `anonymous` for a public bucket",
            );
        }
    }
    credentials
}

fn credentials_section(s: &mut Section<'_>) -> Option<S3Credentials> {
    let uses_profile = s.has("profile") || s.has("file");
    let uses_key = s.has("access_key_id") || s.has("secret_access_key") || s.has("session_token");
    let access_key_id = s.get("access_key_id", |value| value.text());
    let secret_access_key = s.get("secret_access_key", |value| value.text());
    let session_token = s.get("session_token", |value| {
        // Set to nothing by `${AWS_SESSION_TOKEN:-}`: there is none.
        value.text_or_empty().filter(|token| !token.is_empty())
    });
    let profile = s.get("profile", |value| value.text());
    let file = s.get("file", |value| value.file());
    match (uses_profile, uses_key) {
        (true, true) => {
            s.place.problem("has both a profile and a key", "keep one of them");
            None
        }
        (false, false) => {
            s.place.problem("says neither a profile nor a key", "write `{ profile: NAME }`, or `env` or `anonymous`");
            None
        }
        (false, true) => {
            for (key, value) in [("access_key_id", &access_key_id), ("secret_access_key", &secret_access_key)] {
                if value.is_none() && !s.has(key) {
                    s.place_of(key).problem("is missing", "a key has two halves: add it");
                }
            }
            Some(S3Credentials::Static {
                access_key_id: access_key_id?,
                secret_access_key: secret_access_key?,
                session_token,
            })
        }
        (true, false) => {
            let file = if s.has("file") { file } else { default_credentials_file(s) };
            Some(S3Credentials::Profile { file: file?, profile: profile.unwrap_or_else(|| "default".to_owned()) })
        }
    }
}

/// Where the AWS tools keep profiles.
fn default_credentials_file(s: &Section<'_>) -> Option<PathBuf> {
    let env = s.place.reader.env;
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let file = set("AWS_SHARED_CREDENTIALS_FILE")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".aws/credentials")));
    match file {
        Some(file) if file.is_file() => Some(file),
        Some(file) => {
            s.place.problem(
                format!("the file `{}` does not exist", file.display()),
                "create it, or name another in `file`",
            );
            None
        }
        None => {
            s.place.problem("no file of profiles is known, as `HOME` is not set", "name one in `file`");
            None
        }
    }
}

/// `host:port`, `http://host[:port]` or `https://host[:port]`
fn server(value: &Value<'_>) -> Option<OriginServer> {
    let text = value.text()?;
    match parse_server(&text) {
        Ok(server) => Some(server),
        Err((message, hint)) => {
            value.place.problem(message, hint);
            None
        }
    }
}

fn parse_server(text: &str) -> Result<OriginServer, (String, String)> {
    let example = "write one such as `10.0.0.1:8000` or `https://api.example.com`".to_owned();
    let bad = || (format!("`{text}` is not a server"), example.clone());
    let (tls, default_port, authority) = match text.split_once("://") {
        Some(("http", rest)) => (false, Some(80), rest),
        Some(("https", rest)) => (true, Some(443), rest),
        Some((scheme, _)) => {
            return Err((format!("`{scheme}` is not a scheme that is spoken"), "write `http://` or `https://`".into()));
        }
        None => (false, None, text),
    };
    // The slash that a copied address ends in means nothing; a path would be dropped in silence.
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err((format!("`{text}` has a path"), "write the scheme, host and port only".into()));
    }
    if authority.contains('@') {
        return Err(("an address cannot carry a user name".into(), "write the scheme, host and port only".into()));
    }
    let (host, port) = split_authority(authority).ok_or_else(bad)?;
    if !is_host(host) {
        return Err(bad());
    }
    let port = match (port, default_port) {
        (Some(0), _) => return Err(("a server has no port 0".into(), example)),
        (Some(port), _) | (None, Some(port)) => port,
        (None, None) => {
            return Err((format!("`{text}` has no port"), format!("write `{text}:80`, or `https://{text}` for TLS")));
        }
    };
    Ok(OriginServer { host: host.trim_matches(['[', ']']).to_owned(), port, tls })
}

/// Host, in brackets if it is an IPv6 address, and port.
fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let border = text.rfind(']').map_or(0, |at| at + 1);
    match text.get(border..)?.split_once(':') {
        Some((rest, port)) => {
            let host = text.get(..border + rest.len())?;
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            Some((host, Some(port.parse().ok().filter(|_| digits)?)))
        }
        None => Some((text, None)),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.len() <= 253 && host.chars().all(good)
}
