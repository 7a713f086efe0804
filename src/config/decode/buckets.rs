//! `buckets`

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use super::cache::on_error;
use super::origins::Origins;
use crate::config::reader::{Place, Section, nearest, quoted};
use crate::config::routes::parse_host_pattern;
use crate::config::value::Value;
use crate::config::{Bucket, HostPattern, OriginKind, Policies};

/// Which bucket has a host and path, and where it says so.
type Claims<'a> = HashMap<(HostPattern, String), (String, Place<'a>)>;

/// `buckets`
pub(super) fn buckets<'a>(root: &mut Section<'a>, policies: &Policies, origins: &Origins) -> Vec<Arc<Bucket>> {
    if !root.has("buckets") {
        let hint = "add `buckets: { NAME: { match: { hosts: [\"*\"] }, origin: NAME } }`";
        root.place_of("buckets").problem("is missing", hint);
    }
    let mut claims = Claims::new();
    let buckets = root.named("buckets", |name, s| bucket(name, s, policies, origins, &mut claims));
    buckets.into_iter().filter_map(|(_, bucket)| bucket).collect()
}

fn bucket<'a>(
    name: &str,
    s: &mut Section<'a>,
    policies: &Policies,
    origins: &Origins,
    claims: &mut Claims<'a>,
) -> Option<Arc<Bucket>> {
    let (hosts, path) = s.section("match", |s| {
        let hosts = s.require("hosts", "[\"www.example.com\"]", |value| {
            let items = value.items();
            if items.is_empty() {
                value.place.problem("is empty, so the bucket serves nothing", "give a host, or \"*\" for any");
            }
            Some(items.iter().filter_map(|item| Some((host(item)?, item.place.clone()))).collect::<Vec<_>>())
        });
        (hosts, s.get("path", path).unwrap_or_else(|| "/".to_owned()))
    });
    let hosts = hosts.map(|hosts| claim(name, hosts, &path, claims));
    let origin = s.require("origin", "NAME", |value| {
        let wanted = value.text()?;
        if let Some(origin) = origins.get(&wanted) {
            return origin.clone();
        }
        let names: Vec<&str> = origins.keys().map(String::as_str).collect();
        let hint = match nearest(&wanted, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "add it to `origins`".to_owned(),
            None => format!("the origins are {}", quoted(&names)),
        };
        value.place.problem(format!("no origin is called `{wanted}`"), hint);
        None
    });
    let policy = s.get("policy", |value| policy(value, policies));
    let methods = s.list("methods", method);
    if methods.as_ref().is_some_and(Vec::is_empty) {
        s.place_of("methods").problem("lets no method through", "name at least one, such as `GET`");
    }
    let is_s3 = origin.as_ref().is_some_and(|origin| matches!(origin.kind, OriginKind::S3(_)));
    let writes = methods.iter().flatten().find(|method| !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS"));
    if let (true, Some(method)) = (is_s3, writes) {
        s.place_of("methods").warn(
            format!("`{method}` is let through to an S3 origin and signed with its key"),
            "keep to `GET` and `HEAD` unless clients may change the bucket",
        );
    }
    let host_in_key = s.get("host_in_key", |value| value.boolean()).unwrap_or(true);
    let heuristic = s.get("heuristic", |value| value.boolean()).unwrap_or(true);
    let stale = s.get("stale_on_disconnect", |value| value.duration_or_off()).unwrap_or(Duration::from_secs(3600));
    let client_refetch = s.get("client_refetch", |value| value.boolean()).unwrap_or(true);
    let keep_tag_headers = s.get("keep_tag_headers", |value| value.boolean()).unwrap_or(false);
    let on_error = s.get("on_error", on_error).unwrap_or(policies.on_error);
    Some(Arc::new(Bucket {
        name: name.into(),
        hosts: hosts?,
        path,
        origin: origin?,
        policy,
        host_in_key,
        heuristic,
        stale_on_disconnect: stale,
        client_refetch,
        keep_tag_headers,
        methods,
        on_error,
    }))
}

/// Two buckets with the same host and path would leave the choice to chance.
fn claim<'a>(
    name: &str,
    hosts: Vec<(HostPattern, Place<'a>)>,
    path: &str,
    claims: &mut Claims<'a>,
) -> Vec<HostPattern> {
    let mut patterns = Vec::with_capacity(hosts.len());
    for (pattern, place) in hosts {
        let claimed = (pattern.clone(), path.to_owned());
        if let Some((other, first)) = claims.get(&claimed) {
            let line = first.at.line;
            if other == name {
                place.problem(
                    format!("the host `{pattern}` is given twice, first on line {line}"),
                    "remove one of them",
                );
            } else {
                place.problem(
                    format!("the bucket `{other}` on line {line} has the same host `{pattern}` and path `{path}`"),
                    "change one of them: a request goes to one bucket",
                );
            }
            continue;
        }
        claims.insert(claimed, (name.to_owned(), place));
        patterns.push(pattern);
    }
    patterns
}

fn host(value: &Value<'_>) -> Option<HostPattern> {
    let text = value.text()?;
    parse_host_pattern(&text).map_err(|(message, hint)| value.place.problem(message, hint)).ok()
}

fn path(value: &Value<'_>) -> Option<String> {
    let path = value.text()?;
    let (message, hint) = if !path.starts_with('/') {
        (format!("`{path}` does not begin with `/`"), format!("write `/{path}`"))
    } else if path.contains('*') {
        let prefix = path.split('*').next().unwrap_or("/");
        ("a path is a prefix and has no `*`".to_owned(), format!("write `{prefix}`"))
    } else if path.contains(['?', '#']) || !path.chars().all(|c| c.is_ascii_graphic()) {
        (format!("`{path}` is not a path"), "write it as it is sent: percent-encoded, without a query".to_owned())
    } else {
        return Some(path);
    };
    value.place.problem(message, hint);
    None
}

fn method(value: &Value<'_>) -> Option<http::Method> {
    let text = value.text()?;
    let upper = text.to_ascii_uppercase();
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(http::Method::CONNECT) => {
            value.place.problem("`CONNECT` asks for a tunnel, which a cache does not open", "remove it");
            None
        }
        Ok(method) if text == upper => Some(method),
        Ok(_) => {
            value.place.problem(format!("methods are upper case, not `{text}`"), format!("write `{upper}`"));
            None
        }
        Err(_) => {
            value.place.problem(format!("`{text}` is not a method"), "write one such as `GET`");
            None
        }
    }
}

/// A policy file that is there, inside of the folder of policies.
fn policy(value: &Value<'_>, policies: &Policies) -> Option<Arc<str>> {
    let name = value.text()?;
    let inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        let message = format!("`{name}` leaves the folder of policies");
        value.place.problem(message, "name a file inside of `policies.dir`");
        return None;
    }
    let dir = &policies.dir;
    if dir.join(&name).is_file() {
        return Some(name.into());
    }
    let Ok(entries) = std::fs::read_dir(dir) else {
        let message = format!("there is no file `{name}`, as the folder `{}` cannot be read", dir.display());
        value.place.problem(message, "correct `policies.dir`");
        return None;
    };
    let files: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let policies = files.iter().map(String::as_str).filter(|file| file.ends_with(".lua"));
    let hint = match nearest(&name, policies) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "create it, or remove the key for plain RFC 9111".to_owned(),
    };
    value.place.problem(format!("there is no file `{name}` in `{}`", dir.display()), hint);
    None
}
