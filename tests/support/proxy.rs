//! The real daemon as a child process, with a folder, ports and a log of its own.

use super::call::{Call, Connection};
use super::redis::shared_redis;
use super::settings::Settings;
use super::{Origin, Port, eventually, within};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::watch;

/// The admin token of every daemon that tests start.
pub const TOKEN: &str = "test-token";

/// Where daemons keep things in this run: the same tests hold for every tier. `TIDEGATE_TEST_TIERS` says it.
enum Tiers {
    /// In memory alone, unless a test says more.
    Memory,
    /// On disk alone.
    Disk,
    /// In both.
    MemoryAndDisk,
    /// In Redis alone.
    Redis,
    /// In all of them.
    All,
}

impl Tiers {
    fn of_this_run() -> Self {
        match std::env::var("TIDEGATE_TEST_TIERS").as_deref() {
            Err(_) | Ok("memory") => Tiers::Memory,
            Ok("disk") => Tiers::Disk,
            Ok("memory+disk") => Tiers::MemoryAndDisk,
            Ok("redis") => Tiers::Redis,
            Ok("memory+disk+redis") => Tiers::All,
            Ok(other) => {
                panic!("TIDEGATE_TEST_TIERS={other}: say memory, disk, memory+disk, redis or memory+disk+redis")
            }
        }
    }

    fn have_redis(&self) -> bool {
        matches!(self, Tiers::Redis | Tiers::All)
    }

    /// What a test says of the memory tier holds for the others as well, unless it speaks of those itself. `prefix` is what the
    /// keys of this daemon begin with.
    fn put_into(&self, settings: &mut Settings, prefix: &str) {
        if matches!(self, Tiers::Memory) || settings.has("cache.disk") || settings.has("cache.redis") {
            return;
        }
        // Written by itself, or in a map on one line.
        let in_map = settings.get("cache.memory").and_then(|map| map.split_once("max_object:"));
        let in_map = in_map.and_then(|(_, rest)| rest.split([',', '}']).next());
        let max_object = settings.get("cache.memory.max_object").or(in_map).unwrap_or("1MiB").trim().to_owned();
        if self.have_redis() {
            settings.set("cache.redis.url", &shared_redis());
            settings.set("cache.redis.prefix", &format!("\"{prefix}:\""));
            settings.set("cache.redis.max_object", &max_object);
            // As long as a debug build on a busy machine may take.
            settings.set("cache.redis.timeout", "2s");
        }
        if !matches!(self, Tiers::Redis) {
            settings.set("cache.disk.path", "@DIR@/disk");
            settings.set("cache.disk.capacity", "1GiB");
            settings.set("cache.disk.max_object", &max_object);
        }
        if matches!(self, Tiers::Disk | Tiers::Redis) {
            settings.remove("cache.memory");
            settings.set("cache.memory.capacity", "0");
        }
    }
}

/// What a daemon will be started with.
pub struct Builder {
    dir: TempDir,
    settings: Settings,
    env: Vec<(String, String)>,
    tls: bool,
}

impl Builder {
    /// Writes a policy file; the first one becomes that of the default bucket `main`.
    pub fn policy(mut self, file: &str, text: &str) -> Self {
        write(&self.policy_path(file), text);
        if self.settings.has("buckets.main") && !self.settings.has("buckets.main.policy") {
            self.settings.set("buckets.main.policy", file);
        }
        self
    }

    /// Adds a bucket. The first one replaces the default bucket, which serves every host.
    pub fn bucket(mut self, name: &str, yaml: &str) -> Self {
        self.settings.remove("buckets.main");
        self.settings.set(&format!("buckets.{name}"), yaml);
        self
    }

    /// Sets one key by its dotted path, in YAML; `@DIR@` is the daemon's folder.
    pub fn set(mut self, path: &str, yaml: &str) -> Self {
        self.settings.set(path, yaml);
        self
    }

    /// Writes a file into the daemon's folder.
    pub fn file(self, name: &str, text: &str) -> Self {
        write(&self.dir.path().join(name), text);
        self
    }

    /// Adds a TLS listener with this chain and key, as [`Proxy::tls`].
    pub fn tls(mut self, chain: &str, key: &str) -> Self {
        self.tls = true;
        self.file("chain.pem", chain).file("key.pem", key)
    }

    pub fn without(mut self, path: &str) -> Self {
        self.settings.remove(path);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where a policy file is or would be, for tests that lay out the folder themselves.
    pub fn policy_path(&self, file: &str) -> PathBuf {
        self.dir.path().join("policies").join(file)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(mut self) -> Proxy {
        let (listen, admin, tls) = (Port::reserve(), Port::reserve(), Port::reserve());
        if self.tls {
            let listener = format!("[{{ listen: \"{}\", cert: chain.pem, key: key.pem }}]", tls.addr());
            self.settings.set("server.tls", &listener);
        }
        self.settings.set("server.listen", &format!("[\"{}\"]", listen.addr()));
        self.settings.set("admin.listen", &format!("\"{}\"", admin.addr()));
        let tiers = Tiers::of_this_run();
        let prefix = self.dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        tiers.put_into(&mut self.settings, &prefix);
        let dir = self.dir.path().display().to_string();
        write(&self.dir.path().join("tidegate.yaml"), &self.settings.to_yaml(&dir));
        let mut daemon = Daemon::spawn(self.dir.path(), &self.env);
        if let Err(log) = daemon.become_ready(listen.addr(), admin.addr()).await {
            panic!("the daemon ended before it was ready; it said:\n{log}");
        }
        if self.tls {
            // Its listeners begin one after the other.
            let tls = tls.addr();
            eventually("the TLS listener", async || tokio::net::TcpStream::connect(tls).await.ok()).await;
        }
        let proxy = Proxy { listen, admin, tls, daemon, dir: self.dir, env: self.env };
        if tiers.have_redis() {
            let connected = async || (proxy.stats().await["tiers"]["redis"]["state"] == "ok").then_some(());
            eventually("the daemon to be connected to Redis", connected).await;
        }
        proxy
    }
}

/// A running daemon. Killed when it goes out of scope; its log is printed if the test failed.
pub struct Proxy {
    listen: Port,
    admin: Port,
    tls: Port,
    // Before `dir`, so that the process is gone when its folder goes.
    daemon: Daemon,
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Proxy {
    /// One bucket `main` for every host, in front of `origin`, kept in 64 MiB of memory, objects up to 1 MiB.
    pub fn builder(origin: &Origin) -> Builder {
        let servers = format!("[\"{}\"]", origin.addr());
        let http = [("origins.main.http.servers", servers.as_str()), ("origins.main.http.retries", "0")];
        Proxy::builder_with(&http)
    }

    /// The same in front of an origin `main` that these keys describe.
    pub fn builder_with(origin: &[(&str, &str)]) -> Builder {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("policies")).expect("the policies folder");
        let mut settings = Settings::default();
        for (path, yaml) in [
            ("server.threads", "2"),
            ("server.upgrade_socket", "\"@DIR@/upgrade.sock\""),
            ("server.pid_file", "\"@DIR@/tidegate.pid\""),
            ("admin.token", TOKEN),
            ("policies.dir", "policies"),
            // Generous: a debug build on a busy machine is no measure of a policy.
            ("policies.limits", "{ time: 200ms, memory: 16MiB }"),
            ("cache.memory.capacity", "64MiB"),
            ("cache.memory.max_object", "1MiB"),
            ("buckets.main.match", "{ hosts: [\"*\"], path: \"/\" }"),
            ("buckets.main.origin", "main"),
        ]
        .iter()
        .chain(origin)
        {
            settings.set(path, yaml);
        }
        Builder { dir, settings, env: Vec::new(), tls: false }
    }

    /// Plain RFC 9111, without a policy.
    pub async fn plain(origin: &Origin) -> Self {
        Proxy::builder(origin).start().await
    }

    /// With this policy in `main.lua`.
    pub async fn with_policy(origin: &Origin, text: &str) -> Self {
        Proxy::builder(origin).policy("main.lua", text).start().await
    }

    pub fn get(&self, target: &str) -> Call {
        self.call("GET", target)
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.listen.addr(), method, target)
    }

    /// Where it takes requests, for tests that write bytes of their own.
    pub fn listen(&self) -> SocketAddr {
        self.listen.addr()
    }

    /// A connection that is kept between calls.
    pub async fn connect(&self) -> Connection {
        Connection::to(self.listen.addr()).await
    }

    /// Kills the daemon and starts another one in the same folder, on the same ports, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.daemon.end();
        self.daemon = Daemon::spawn(self.dir.path(), &[]);
        if let Err(log) = self.daemon.become_ready(self.listen.addr(), self.admin.addr()).await {
            panic!("the daemon ended before it was ready again; it said:\n{log}");
        }
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        self.daemon.end();
    }

    /// Starts it again as it was started, after [`Proxy::kill`], and waits until it is ready.
    pub async fn start_again(&mut self) {
        self.daemon = Daemon::spawn(self.dir.path(), &self.env);
        if let Err(log) = self.daemon.become_ready(self.listen.addr(), self.admin.addr()).await {
            panic!("the daemon ended before it was ready again; it said:\n{log}");
        }
    }

    /// `GET` at the admin listener, without a token.
    pub fn admin(&self, target: &str) -> Call {
        Call::new(self.admin.addr(), "GET", target).host("localhost")
    }

    /// `POST /v1/purge` with this body, and the token.
    pub fn purge(&self, body: &str) -> Call {
        Call::new(self.admin.addr(), "POST", "/v1/purge").host("localhost").token(TOKEN).body(body)
    }

    /// Where the admin listener is, as the command line takes it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.addr())
    }

    pub async fn stats(&self) -> Value {
        self.admin("/v1/stats").token(TOKEN).await.json()
    }

    pub async fn policies(&self) -> Value {
        self.admin("/v1/policies").token(TOKEN).await.json()
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics(self.admin("/metrics").await.text())
    }

    /// Waits until the samples of `name` with this label add up to `value`; a count may follow its response.
    pub async fn wait_for_metric(&self, name: &str, label: &str, value: f64) {
        let what = format!("{name}{{{label}}} to be {value}");
        eventually(&what, async || (self.metrics().await.sum(name, label) == value).then_some(())).await;
    }

    /// Waits until `/v1/policies` says something of `bucket` that `holds`, and returns it.
    pub async fn wait_for_policy(&self, bucket: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let all = self.policies().await;
            let state = all.as_array()?.iter().find(|state| state["bucket"] == bucket)?;
            holds(state).then(|| state.clone())
        })
        .await
    }

    /// Waits until so many requests wait for another's fill.
    pub async fn wait_for_waiters(&self, n: usize) {
        let enough = async || (self.metrics().await.sum("tidegate_fill_waiters", "") >= n as f64).then_some(());
        eventually(&format!("{n} waiting requests"), enough).await
    }

    /// Waits for a line on stderr or stdout that contains `text`, and returns it.
    pub async fn wait_for_log(&self, text: &str) -> String {
        let log = &self.daemon.log;
        let find = || log.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
        let mut grown = log.grown.subscribe();
        let _ = within(&format!("{text:?} in the log"), grown.wait_for(|()| find().is_some())).await;
        find().unwrap_or_else(|| panic!("the log ended without {text:?}"))
    }

    /// What the daemon said so far.
    pub fn log(&self) -> String {
        self.daemon.log.text()
    }

    /// Where it listens, for clients that speak for themselves.
    pub fn addr(&self) -> SocketAddr {
        self.listen.addr()
    }

    /// Where the TLS listener is, if [`Builder::tls`] asked for one.
    pub fn tls(&self) -> SocketAddr {
        self.tls.addr()
    }

    /// The process, to be watched.
    pub fn pid(&self) -> u32 {
        self.daemon.child.id()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn policy_path(&self, file: &str) -> PathBuf {
        self.path("policies").join(file)
    }

    /// Replaces `from` in the daemon's configuration file.
    pub fn edit_config(&self, from: &str, to: &str) {
        let file = self.path("tidegate.yaml");
        let text = std::fs::read_to_string(&file).expect("the configuration");
        assert!(text.contains(from), "no {from:?} in {text}");
        write(&file, &text.replacen(from, to, 1));
    }

    /// Writes over a policy file, as an editor does that saves in place.
    pub fn write_policy(&self, file: &str, text: &str) {
        write(&self.policy_path(file), text);
    }
}

/// `/metrics` as it was at one moment.
pub struct Metrics(pub String);

impl Metrics {
    /// The samples of `name` whose labels contain `label` (`bucket="main"`), added up.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (series, labels) = series.split_once('{').unwrap_or((series, ""));
            (series == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        };
        self.0.lines().filter_map(value).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.lines().any(|line| line.starts_with(name))
    }
}

/// The process and what it said so far.
struct Daemon {
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: watch::Sender<()>,
    /// Pipes that may still bring something.
    open: AtomicUsize,
}

impl Daemon {
    fn spawn(dir: &Path, env: &[(String, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("serve").arg("-c").arg(dir.join("tidegate.yaml")).current_dir(dir);
        command.envs(env.iter().cloned()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon's binary");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("its stdout"));
        log.follow(child.stderr.take().expect("its stderr"));
        Daemon { child, log }
    }

    /// Polls `/readyz`; an `Err` holds what the process said before it ended.
    async fn become_ready(&mut self, listen: SocketAddr, admin: SocketAddr) -> Result<(), String> {
        eventually("the daemon to be ready", async || {
            if let Ok(Some(_)) = self.child.try_wait() {
                // What it said last may still be on its way.
                return (self.log.open.load(Ordering::Acquire) == 0).then(|| Err(self.log.text()));
            }
            let ready = Call::new(admin, "GET", "/readyz").attempt().await.is_ok_and(|r| r.status == 200);
            (ready && tokio::net::TcpStream::connect(listen).await.is_ok()).then_some(Ok(()))
        })
        .await
    }
}

impl Daemon {
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- what the daemon said\n{}\n---", self.log.text());
        }
    }
}

impl Log {
    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        log.open.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                log.lines.lock().unwrap().push(line);
                log.grown.send_replace(());
            }
            log.open.fetch_sub(1, Ordering::Release);
        });
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
