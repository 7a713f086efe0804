//! The daemon as a child process.

use crate::fill::{BUCKET, HOST};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How long the daemon may take to end when asked to.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The daemon that runs, if one does.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Where everything is.
pub(crate) struct Places {
    pub(crate) cache: PathBuf,
    pub(crate) listen: String,
    pub(crate) admin: String,
    binary: PathBuf,
    config: PathBuf,
}

impl Places {
    /// Writes the configuration as well. Its origin is nobody: what is not on disk is an error.
    pub(crate) fn new(home: &Path) -> Result<Self> {
        // Both at once, so that they differ.
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [listen, admin] = [ports[0].local_addr()?.to_string(), ports[1].local_addr()?.to_string()];
        let (cache, config, at) = (home.join("cache"), home.join("tidegate.yaml"), home.display());
        let text = format!(
            "server: {{ listen: [\"{listen}\"], pid_file: {at}/pid, upgrade_socket: {at}/socket, drain: 1s }}\n\
             admin: {{ listen: \"{admin}\" }}\n\
             cache:\n\
             \x20 memory: {{ capacity: 0 }}\n\
             \x20 disk: {{ path: {}, capacity: 1TiB, promote_after: 0, min_free: 0, timeout: 30s }}\n\
             origins: {{ nobody: {{ http: {{ servers: [\"127.0.0.1:1\"] }} }} }}\n\
             buckets: {{ {BUCKET}: {{ match: {{ hosts: [\"{HOST}\"] }}, origin: nobody }} }}\n\
             log: {{ level: warn }}\n",
            cache.display()
        );
        std::fs::write(&config, text)?;
        Ok(Places { cache, listen, admin, binary: binary()?, config })
    }
}

/// `TIDEGATE_BIN`, or the daemon that was built with this program.
fn binary() -> Result<PathBuf> {
    let built = || {
        let program = std::env::current_exe().ok()?;
        // target/PROFILE/examples/restart
        Some(program.ancestors().nth(2)?.join("tidegate"))
    };
    let binary =
        std::env::var_os("TIDEGATE_BIN").map(PathBuf::from).or_else(built).context("nobody knows the daemon")?;
    ensure!(
        binary.is_file(),
        "{} is missing: build it with `cargo build --release --bin tidegate`, or name one with TIDEGATE_BIN",
        binary.display()
    );
    Ok(binary)
}

/// A running daemon. It is killed when this is dropped, so that no error leaves it behind.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(places: &Places) -> Result<Self> {
        let mut command = Command::new(&places.binary);
        let child = command.args(["serve", "-c"]).arg(&places.config).stdin(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {}", places.binary.display()))?;
        RUNNING.store(child.id().try_into()?, Ordering::Release);
        Ok(Daemon(child))
    }

    /// Bytes of memory: the most so far, and now.
    pub(crate) fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        bytes("VmHWM:").zip(bytes("VmRSS:")).context("the system does not say what the daemon takes")
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().try_into()?), Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.0.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the daemon did not end within {STOP_WITHIN:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        RUNNING.store(0, Ordering::Release);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C leaves neither a daemon nor gigabytes behind.
pub(crate) fn clean_up_if_told_to_end(home: &Path) -> Result<()> {
    let home = home.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(told_to_end()).is_err() {
            return;
        }
        let running = RUNNING.load(Ordering::Acquire);
        if running > 0 {
            let _ = kill(Pid::from_raw(running), Signal::SIGKILL);
        }
        // Again if something was written meanwhile.
        while home.exists() {
            let _ = std::fs::remove_dir_all(&home);
        }
        std::process::exit(1);
    });
    Ok(())
}

async fn told_to_end() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}
