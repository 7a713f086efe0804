//! A real Redis for tests: one server, one with a replica and Sentinels, or a cluster.

use super::proxy::Builder;
use super::{Origin, Port, Proxy, eventually};
use ::redis::{Cmd, Connection, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Value};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// A `redis-server` of its own, on a port of its own, that keeps nothing. Killed when it goes out of scope.
pub struct RedisServer {
    port: Port,
    tls: Option<Port>,
    dir: TempDir,
    args: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl RedisServer {
    pub async fn start() -> Self {
        RedisServer::with(&[]).await
    }

    /// With more on its command line.
    pub async fn with(args: &[&str]) -> Self {
        let server = RedisServer::stopped(args);
        server.run().await;
        server
    }

    /// One that speaks TLS too, on a port of its own.
    pub async fn with_tls(args: &[&str]) -> Self {
        let tls = Port::reserve();
        let port = tls.addr().port().to_string();
        let mut server = RedisServer::stopped(&[&["--tls-port", &port][..], args].concat());
        server.tls = Some(tls);
        server.run().await;
        server
    }

    pub fn tls_port(&self) -> u16 {
        self.tls.as_ref().expect("a server with TLS").addr().port()
    }

    /// One that is not started yet, and that nobody else takes the port of.
    pub fn stopped(args: &[&str]) -> Self {
        RedisServer {
            port: Port::reserve(),
            tls: None,
            dir: tempfile::tempdir().expect("a temporary folder"),
            args: args.iter().map(ToString::to_string).collect(),
            child: Mutex::default(),
        }
    }

    /// A Sentinel that watches `master`, and follows its end within a second or two.
    pub async fn sentinel(master: &RedisServer) -> Self {
        let server = RedisServer::stopped(&["--sentinel"]);
        let settings = [
            format!("sentinel monitor mymaster 127.0.0.1 {} 1", master.port()),
            "sentinel down-after-milliseconds mymaster 500".to_owned(),
            "sentinel failover-timeout mymaster 2000".to_owned(),
        ];
        std::fs::write(server.config(), settings.join("\n")).expect("a file for the Sentinel");
        server.run().await;
        server
    }

    /// The file that it begins with, if there is one.
    fn config(&self) -> PathBuf {
        self.dir.path().join("redis.conf")
    }

    /// Starts it, for the first time or again, and waits until it answers.
    pub async fn run(&self) {
        self.spawn();
        eventually("Redis to answer", async || self.try_ask::<Value>(&::redis::cmd("PING")).ok()).await;
    }

    /// Starts it, and does not wait.
    pub fn spawn(&self) {
        let port = self.port.addr().port().to_string();
        let mut command = Command::new("redis-server");
        if self.config().exists() {
            command.arg(self.config());
        }
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.dir.path()).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *self.child.lock().unwrap() = Some(command.spawn().expect("redis-server; install it"));
    }

    pub fn port(&self) -> u16 {
        self.port.addr().port()
    }

    /// What `cache.redis.url` says to reach it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Ends it without a warning.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it stand still, with its connections open.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap();
        let pid = child.as_ref().expect("a running server").id();
        kill(Pid::from_raw(pid as i32), signal).expect("a signal to redis-server");
    }

    /// Sends a command.
    pub fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_ask(command).expect("an answer of Redis")
    }

    pub fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> ::redis::RedisResult<T> {
        command.query(&mut self.connect()?)
    }

    fn connect(&self) -> ::redis::RedisResult<Connection> {
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port());
        let connection = ::redis::Client::open(address.into_connection_info()?)?
            .get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(connection)
    }

    /// Sends words that are separated by spaces.
    pub fn say<T: FromRedisValue>(&self, words: &str) -> T {
        self.ask(&command(words))
    }

    /// The keys that match a pattern, in order.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(::redis::cmd("KEYS").arg(pattern));
        keys.sort();
        keys
    }

    /// The keys of entries, those that only say that something was forgotten aside.
    pub fn entries(&self) -> Vec<String> {
        let is_entry = |key: &String| self.ask::<i64>(::redis::cmd("HEXISTS").arg(key).arg("h")) == 1;
        self.keys("*e:{*").into_iter().filter(is_entry).collect()
    }

    /// Waits until there are so many entries.
    pub async fn wait_for_entries(&self, count: usize) -> Vec<String> {
        let what = format!("{count} entries in Redis");
        eventually(&what, async || Some(self.entries()).filter(|entries| entries.len() == count)).await
    }

    /// A daemon that keeps responses there alone.
    pub fn alone(&self, origin: &Origin) -> Builder {
        let builder = Proxy::builder(origin).without("cache.memory").set("cache.memory.capacity", "0");
        builder.set("cache.redis.url", &self.url()).patient()
    }

    /// A daemon that keeps responses in memory as well.
    pub fn below_memory(&self, origin: &Origin) -> Builder {
        Proxy::builder(origin).set("cache.redis.url", &self.url()).patient()
    }
}

/// Three masters that share the slots.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    _buses: Vec<Port>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let (mut masters, mut buses) = (Vec::new(), Vec::new());
        for slots in [(0, 5460), (5461, 10922), (10923, 16383)] {
            // By itself it would be another port that may be somebody's already.
            let bus = Port::reserve();
            let number = bus.addr().port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            let partial = ["--cluster-require-full-coverage", "no", "--cluster-port", &number];
            let master = RedisServer::with(&[settings, partial].concat()).await;
            master.say::<Value>(&format!("CLUSTER ADDSLOTSRANGE {} {}", slots.0, slots.1));
            masters.push(master);
            buses.push(bus);
        }
        for (other, bus) in masters.iter().zip(&buses).skip(1) {
            masters[0].say::<Value>(&format!("CLUSTER MEET 127.0.0.1 {} {}", other.port(), bus.addr().port()));
        }
        let cluster = RedisCluster { masters, _buses: buses };
        eventually("the masters to know each other", async || {
            let knows_all = |master: &RedisServer| {
                let info: String = master.say("CLUSTER INFO");
                let all = ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"];
                all.iter().all(|field| info.contains(field))
            };
            cluster.masters.iter().all(knows_all).then_some(())
        })
        .await;
        cluster
    }

    /// What `cache.redis.url` says to reach it.
    pub fn urls(&self) -> String {
        let urls: Vec<String> = self.masters.iter().map(|master| format!("\"{}\"", master.url())).collect();
        format!("[{}]", urls.join(", "))
    }
}

/// Where the server is that all tests of this process share. It ends with the process, however that ends.
pub fn shared_redis() -> String {
    static SHARED: LazyLock<(Port, Child)> = LazyLock::new(|| {
        let port = Port::reserve();
        let number = port.addr().port().to_string();
        // The pipe is closed when this process is over.
        let script = "redis-server \"$@\" & read end; kill -9 $!";
        let mut command = Command::new("sh");
        command.args([
            "-c",
            script,
            "sh",
            "--port",
            &number,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        (port, command.spawn().expect("a shell"))
    });
    format!("redis://127.0.0.1:{}", SHARED.0.addr().port())
}

impl Builder {
    /// Waits for Redis as long as a debug build on a busy machine may take.
    pub fn patient(self) -> Self {
        self.set("cache.redis.timeout", "500ms")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(words: &str) -> Cmd {
    let mut cmd = Cmd::new();
    for word in words.split(' ') {
        cmd.arg(word);
    }
    cmd
}
