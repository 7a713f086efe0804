//! A folder of policies, and a request to ask them about.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tempfile::TempDir;
use tidegate::config::PolicyLimits;
use tidegate::policy::decision::{DeliverDecision, HitDecision, RequestDecision, ResponseDecision};
use tidegate::policy::view::{CacheView, EntryView, RequestView, ResponseView};
use tidegate::policy::{
    Normalized, Policy, PolicyError, PolicySet, call_deliver, call_hit, call_request, call_response, normalize,
};

pub const LIMITS: PolicyLimits = PolicyLimits { time: Duration::from_millis(5), memory: 16 << 20 };

/// For tests that are not about time: a busy machine must not make them fail.
pub const PATIENT: PolicyLimits = PolicyLimits { time: Duration::from_secs(2), memory: 16 << 20 };

pub struct Folder {
    root: TempDir,
}

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Folder { root: tempfile::tempdir().unwrap() };
        std::fs::create_dir(folder.path()).unwrap();
        for (name, source) in files {
            folder.write(name, source);
        }
        folder
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.root.path().join("policies")
    }

    pub fn write(&self, name: &str, source: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, source).unwrap();
    }

    pub fn load(&self, names: &[&str], limits: &PolicyLimits) -> (PolicySet, Vec<PolicyError>) {
        PolicySet::load(&self.path(), names, limits)
    }
}

/// A policy that must load.
pub fn policy(source: &str) -> Arc<Policy> {
    policy_within(source, &PATIENT)
}

pub fn policy_within(source: &str, limits: &PolicyLimits) -> Arc<Policy> {
    let folder = Folder::new(&[("p.lua", source)]);
    let (set, errors) = folder.load(&["p.lua"], limits);
    assert_eq!(errors, []);
    Arc::clone(set.get("p.lua").unwrap())
}

/// The error of a policy that must not load.
pub fn load_error(source: impl AsRef<[u8]>) -> PolicyError {
    let folder = Folder::new(&[]);
    folder.write("p.lua", source);
    let (_, mut errors) = folder.load(&["p.lua"], &LIMITS);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

pub struct Request {
    pub path: &'static str,
    pub query: &'static str,
    pub headers: HeaderMap,
    pub normalized: Normalized,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            path: "/album/1.jpg",
            query: "w=640&h=480&utm_source=x&utm_id=1",
            headers: headers(&[
                ("accept", "image/avif,image/webp,*/*;q=0.8"),
                ("accept-language", "de, en"),
                ("cookie", "id=1; theme=dark"),
            ]),
            normalized: Normalized::new(),
        }
    }
}

impl Request {
    pub fn view(&self) -> RequestView<'_> {
        RequestView {
            method: "GET",
            scheme: "https",
            host: "img.example.com",
            path: self.path,
            query: self.query,
            headers: &self.headers,
            normalized: &self.normalized,
            client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            bucket: "media",
            now: 1_700_000_000.0,
        }
    }
}

pub fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

pub fn request(policy: &Policy) -> Result<RequestDecision, PolicyError> {
    call_request(policy, &Request::default().view())
}

pub fn stored_headers() -> HeaderMap {
    headers(&[("content-type", "image/jpeg"), ("content-length", "1024"), ("etag", "\"1\"")])
}

pub fn response(policy: &Policy) -> Result<ResponseDecision, PolicyError> {
    let headers = stored_headers();
    call_response(policy, &Request::default().view(), &ResponseView { status: 200, headers: &headers })
}

pub fn hit(policy: &Policy) -> Result<HitDecision, PolicyError> {
    let headers = stored_headers();
    let tags = [String::from("media")];
    let entry = EntryView {
        status: 200,
        headers: &headers,
        age: 30.0,
        ttl: 30.0,
        stale: false,
        tags: &tags,
        tier: "memory",
        hits: 7,
        size: 1024,
    };
    call_hit(policy, &Request::default().view(), &entry)
}

pub fn deliver(policy: &Policy) -> Result<DeliverDecision, PolicyError> {
    let headers = stored_headers();
    let cache = CacheView { status: "hit", reason: "", tier: "memory", age: Some(30.0), ttl: Some(30.0) };
    call_deliver(policy, &Request::default().view(), &ResponseView { status: 200, headers: &headers }, &cache)
}

pub fn normalized(policy: &Policy, fields: &[(&str, &str)]) -> Result<Normalized, PolicyError> {
    normalize(policy, &headers(fields))
}

/// The parts of the key that a policy chose.
pub fn key(policy: &Policy) -> Vec<String> {
    request(policy).unwrap().key.unwrap().to_strings()
}

/// What an expression about `req` is, as text.
pub fn eval(expression: &str) -> String {
    let source = format!("return {{ request = function(req) return {{ key = tostring({expression}) }} end }}");
    key(&policy(&source)).remove(0)
}

/// The error of an expression about `req`.
pub fn eval_error(expression: &str) -> String {
    let source = format!("return {{ request = function(req) return {{ key = tostring({expression}) }} end }}");
    request(&policy(&source)).unwrap_err().to_string()
}

pub fn touch(path: &Path, source: &str) {
    std::fs::write(path, source).unwrap();
}
