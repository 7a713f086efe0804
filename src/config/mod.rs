//! The configuration as the program uses it: every value checked, every default filled in.
//!
//! A file goes through four steps: `yaml` makes a tree of located nodes of it, `reader` and `value` take the tree apart
//! and note each problem with its place, `decode` says which keys there are and what they mean, and what holds in the end
//! is a [`Config`]. `routes` answers which bucket serves a request.

mod cache;
mod changes;
mod decode;
mod expand;
mod load;
mod problem;
mod reader;
pub mod routes;
mod shared;
pub mod units;
mod value;
mod yaml;

#[cfg(test)]
mod tests;

pub use cache::{Cache, DiskTier, Lock, MemoryTier, WriteMode};
pub use expand::Env;
pub use load::{Loaded, known_keys};
pub use problem::{Position, Problem};
pub use routes::Routes;
pub use shared::{RedisLogin, RedisServer, RedisTier, RedisTls, RedisTopology};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration. Built by [`Config::load`], which reports every problem at once.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from; relative paths in it are relative to its folder.
    pub file: PathBuf,
    /// Listeners and their limits.
    pub server: Server,
    /// The admin listener. `None`: there is none.
    pub admin: Option<Admin>,
    /// Where policies live and what they may use.
    pub policies: Policies,
    /// Tiers and the lock.
    pub cache: Cache,
    /// Origins by name.
    pub origins: BTreeMap<String, Arc<Origin>>,
    /// Buckets in the order of the file.
    pub buckets: Vec<Arc<Bucket>>,
    /// `buckets`, arranged for [`Config::bucket_for`].
    pub routes: Routes,
    /// Logs.
    pub log: Log,
}

/// `server`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Plain HTTP listeners.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners, HTTP/2 by ALPN.
    pub tls: Vec<TlsListener>,
    /// Worker threads. Default `auto`: one for each processor.
    pub threads: usize,
    /// Peers whose `Forwarded`/`X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Who may purge by the method `PURGE`. Default: nobody, and it is a method like any other.
    pub purge_from: Vec<ipnet::IpNet>,
    /// The name of this node among others. Default: the host's.
    pub node: String,
    /// What a client may send.
    pub limits: Limits,
    /// How long a stopping process waits for requests under way. Default 60 s.
    pub drain: Duration,
    /// Where a running process hands its sockets to the next. Default `tidegate.sock` in `$RUNTIME_DIRECTORY` (systemd),
    /// else in `$XDG_RUNTIME_DIR`, else in `/tmp`.
    pub upgrade_socket: PathBuf,
    /// Where the process id is written. Default `tidegate.pid`, beside `upgrade_socket`.
    pub pid_file: PathBuf,
}

/// One entry of `server.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsListener {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// `server.limits`. A size of 0 in the file is no limit, `u64::MAX` here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest header block. Default 64 KiB. Beyond: 431.
    pub header_bytes: u64,
    /// Longest request target. Default 16 KiB. Beyond: 414.
    pub uri_bytes: u64,
    /// Largest request body. Default 100 MiB. Beyond: 413.
    pub body_bytes: u64,
    /// How long a client may take for its header block. Default 10 s.
    pub header_timeout: Duration,
    /// How long an idle connection is kept. Default 60 s.
    pub idle_timeout: Duration,
}

/// `admin`
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address and port. Default `127.0.0.1:9090`.
    pub listen: SocketAddr,
    /// Bearer token for everything under `/v1/`. `None`: only health and metrics answer.
    pub token: Option<String>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs and error messages.
        let token = self.token.as_ref().map(|_| "set");
        f.debug_struct("Admin").field("listen", &self.listen).field("token", &token).finish()
    }
}

/// `policies`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// The folder. Default `policies`.
    pub dir: PathBuf,
    /// Reload changed files. Default `true`.
    pub watch: bool,
    /// Per call and per VM.
    pub limits: PolicyLimits,
    /// What a failing policy means.
    pub on_error: OnError,
}

/// `policies.limits`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Longest time of one call. Default 5 ms.
    pub time: Duration,
    /// Most memory of one VM. Default 16 MiB. 0 in the file is no limit, `u64::MAX` here.
    pub memory: u64,
}

/// `policies.on_error`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Keep the cache out of the request. The default.
    #[default]
    Bypass,
    /// Go on as if there were no policy: plain RFC 9111.
    Defaults,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs and error messages.
        match self {
            S3Credentials::Anonymous => f.write_str("anonymous"),
            S3Credentials::Env => f.write_str("env"),
            S3Credentials::Profile { file, profile } => write!(f, "profile {profile:?} of {}", file.display()),
            S3Credentials::Static { access_key_id, .. } => write!(f, "static key {access_key_id:?}"),
        }
    }
}

/// `origins.NAME`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The name in the file.
    pub name: String,
    /// What it speaks.
    pub kind: OriginKind,
    /// Default 1 s.
    pub connect_timeout: Duration,
    /// Longest silence of the origin. Default 30 s.
    pub read_timeout: Duration,
    /// Tries after the first that failed before any byte came. Default 1.
    pub retries: usize,
}

/// `origins.NAME.http` or `origins.NAME.s3`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginKind {
    /// Any HTTP/1.1 server.
    Http(HttpOrigin),
    /// An S3-compatible bucket.
    S3(S3Origin),
}

/// `origins.NAME.http`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOrigin {
    /// At least one.
    pub servers: Vec<OriginServer>,
    /// How a server is chosen.
    pub balance: Balance,
    /// Active health checks. `None`: only failures of requests count.
    pub health: Option<Health>,
    /// `Host` to send. Default: the one the client sent.
    pub host: Option<String>,
    /// PEM file of authorities to trust instead of the system's, for `https://` servers.
    pub ca: Option<PathBuf>,
    /// Check the certificate of `https://` servers. Default `true`.
    pub verify: bool,
}

/// One of `origins.NAME.http.servers`: `host:port`, `http://host[:port]` or `https://host[:port]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginServer {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Speak TLS.
    pub tls: bool,
}

/// `balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn. The default.
    #[default]
    RoundRobin,
    /// At random.
    Random,
    /// By the hash of the cache key, so that a key stays with its server.
    KeyHash,
}

/// `health`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path to ask for; 2xx is healthy. Default `/`.
    pub path: String,
    /// Default 5 s.
    pub interval: Duration,
}

/// `origins.NAME.s3`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Origin {
    /// Scheme, host and port of the service.
    pub endpoint: OriginServer,
    /// Region to sign for. Default `us-east-1`.
    pub region: String,
    /// Bucket name.
    pub bucket: String,
    /// Prefix put before every object key. Default none.
    pub prefix: String,
    /// Path or virtual-host style. Default `path`.
    pub style: S3Style,
    /// How requests are signed.
    pub credentials: S3Credentials,
    /// Let sub-resources (`?acl`, `?list-type=2`, …) through. Default `false`: only objects are readable.
    pub subresources: bool,
    /// As for `http`.
    pub ca: Option<PathBuf>,
    /// As for `http`.
    pub verify: bool,
}

/// `style`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum S3Style {
    /// `https://endpoint/bucket/key`
    #[default]
    Path,
    /// `https://bucket.endpoint/key`
    VirtualHost,
}

/// `credentials`
#[derive(Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// `anonymous`: requests are not signed.
    Anonymous,
    /// `env`: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`. The default.
    Env,
    /// `{ profile: NAME, file: PATH }`: a section of an AWS credentials file, read again when it changes.
    Profile {
        /// Default `~/.aws/credentials` or `AWS_SHARED_CREDENTIALS_FILE`.
        file: PathBuf,
        /// Default `default`.
        profile: String,
    },
    /// `{ access_key_id: …, secret_access_key: …, session_token: … }`
    Static {
        /// The public half.
        access_key_id: String,
        /// The secret half.
        secret_access_key: String,
        /// For temporary credentials.
        session_token: Option<String>,
    },
}

/// `buckets.NAME`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The name in the file.
    pub name: Arc<str>,
    /// Which hosts it serves.
    pub hosts: Vec<HostPattern>,
    /// Path prefix that it serves. Default `/`.
    pub path: String,
    /// Where it fetches.
    pub origin: Arc<Origin>,
    /// Policy file, relative to `policies.dir`. `None`: plain RFC 9111.
    pub policy: Option<Arc<str>>,
    /// `false`: hosts share entries. Default `true`.
    pub host_in_key: bool,
    /// Heuristic freshness (RFC 9111 section 4.2.2). Default `true`.
    pub heuristic: bool,
    /// How long stale entries are served when the origin cannot be reached. Default 1 h; 0 is off.
    pub stale_on_disconnect: Duration,
    /// Whether `Cache-Control: no-cache` of a client reaches the origin. Default `true`.
    pub client_refetch: bool,
    /// Whether `Surrogate-Key` and `Cache-Tag` reach clients. Default `false`.
    pub keep_tag_headers: bool,
    /// Methods let through. Default: all for HTTP origins, `GET` and `HEAD` for S3.
    pub methods: Option<Vec<http::Method>>,
    /// Overrides `policies.on_error`.
    pub on_error: OnError,
}

/// One of `buckets.NAME.match.hosts`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `img.example.com`, lower case; an IPv6 address in brackets, as RFC 5952 spells it.
    Exact(String),
    /// `*.example.com`: any subdomain. Holds the suffix with its leading dot.
    Suffix(String),
    /// `*`
    Any,
}

/// `log`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe level written. Default `info`.
    pub level: LogLevel,
    /// Default `auto`: text on a terminal, JSON otherwise.
    pub format: LogFormat,
    /// The access log. Default `off`.
    pub access: AccessLog,
}

/// `log.level`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `log.access`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file, which is opened again on SIGHUP.
    File(PathBuf),
}

impl Config {
    /// Names of the policy files that buckets use, each once.
    pub fn policy_names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.buckets.iter().filter_map(|bucket| bucket.policy.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}
