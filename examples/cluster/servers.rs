//! Redis and the nodes, as child processes. Each is killed when it is dropped, so that no error leaves one behind.

use crate::PATIENCE;
use crate::client::{Client, TOKEN};
use crate::origin::Origin;
use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pause between two looks at something that announces itself to nobody.
const LOOK: Duration = Duration::from_millis(10);

/// Where everything is.
pub(crate) struct Places {
    home: PathBuf,
    daemon: PathBuf,
}

impl Places {
    pub(crate) fn new(home: &Path) -> Result<Self> {
        let built = || {
            let program = std::env::current_exe().ok()?;
            // target/PROFILE/examples/cluster
            Some(program.ancestors().nth(2)?.join("tidegate"))
        };
        let daemon = std::env::var_os("TIDEGATE_BIN").map(PathBuf::from).or_else(built);
        let daemon = daemon.context("nobody knows the daemon")?;
        ensure!(
            daemon.is_file(),
            "{} is missing: build it with `cargo build --release --bin tidegate`, or name one with TIDEGATE_BIN",
            daemon.display()
        );
        Ok(Places { home: home.to_owned(), daemon })
    }
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) struct Redis {
    port: u16,
    home: PathBuf,
    process: Option<Process>,
}

impl Redis {
    pub(crate) fn start(places: &Places) -> Result<Self> {
        let mut redis = Redis { port: free_port()?, home: places.home.clone(), process: None };
        redis.start_again()?;
        Ok(redis)
    }

    /// Starts it where it was, with nothing in it.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server cannot be started; `scripts/install-deps.sh test` installs it")?;
        self.process = Some(Process(child));
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().context("Redis does not run")?;
        Ok(())
    }
}

pub(crate) struct Node {
    listen: String,
    admin: String,
    process: Process,
}

impl Node {
    pub(crate) fn start(places: &Places, name: &str, redis: &Redis, origin: &Origin) -> Result<Self> {
        let (listen, admin) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let home = places.home.join(name);
        std::fs::create_dir(&home)?;
        let (config, at) = (home.join("tidegate.yaml"), home.display());
        let (port, origin) = (redis.port, origin.address);
        let text = format!(
            "server: {{ listen: [\"{listen}\"], node: {name}, pid_file: {at}/pid, upgrade_socket: {at}/socket }}\n\
             admin: {{ listen: \"{admin}\", token: {TOKEN} }}\n\
             cache: {{ redis: {{ url: \"redis://127.0.0.1:{port}\" }} }}\n\
             origins: {{ o: {{ http: {{ servers: [\"{origin}\"] }} }} }}\n\
             buckets: {{ b: {{ match: {{ hosts: [\"*\"] }}, origin: o }} }}\n\
             log: {{ level: error }}\n"
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(home.join("log"))?;
        let child = Command::new(&places.daemon)
            .args(["serve", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", places.daemon.display()))?;
        Ok(Node { listen, admin, process: Process(child) })
    }

    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.0.kill()?;
        self.process.0.wait()?;
        Ok(())
    }

    pub(crate) async fn until_ready(&self) -> Result<()> {
        self.until("it is not ready", "/metrics", |text| text.contains("tidegate_tier_up{tier=\"redis\"} 1")).await
    }

    /// Waits until it knows of so many nodes.
    pub(crate) async fn until_it_knows(&self, nodes: usize) -> Result<()> {
        let known = |text: &str| {
            let stats: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            stats["nodes"].as_array().is_some_and(|found| found.len() >= nodes)
        };
        self.until("it does not know the others", "/v1/stats", known).await
    }

    pub(crate) async fn until_somebody_waits(&self) -> Result<()> {
        let waits =
            |text: &str| text.lines().any(|line| line.starts_with("tidegate_fill_waiters ") && !line.ends_with(" 0"));
        self.until("nobody waits there", "/metrics", waits).await
    }

    async fn until(&self, otherwise: &str, path: &str, holds: impl Fn(&str) -> bool) -> Result<()> {
        let mut client = Client::connect(&self.admin).await?;
        let deadline = Instant::now() + PATIENCE;
        while !holds(&client.get(path).await?.text()) {
            ensure!(Instant::now() < deadline, "{}: {otherwise}", self.admin);
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}
