//! The daemon as a child process.

use crate::Stop;
use anyhow::{Context, Result, bail};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long the daemon may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long it may take to end when asked to.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A running daemon. It is killed when this is dropped, so that no error leaves it behind.
pub(crate) struct Daemon(Child);

/// How starting went.
pub(crate) enum Readiness {
    /// It answers.
    Ready,
    /// It is gone.
    Ended(ExitStatus),
}

/// `TIDEGATE_BIN`, or the daemon that was built with this program.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("TIDEGATE_BIN").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("TIDEGATE_BIN names {}, which is no file: name the daemon's binary", binary.display());
        }
        return Ok(binary);
    }
    let program = std::env::current_exe().context("the program's own path is unknown")?;
    // target/PROFILE/examples/quickstart
    let profile = program.ancestors().nth(2).context("the program is not in a folder that Cargo made")?;
    let binary = profile.join(format!("tidegate{}", std::env::consts::EXE_SUFFIX));
    if !binary.is_file() {
        bail!("{} is missing: build it with `make run`, or name one with TIDEGATE_BIN", binary.display());
    }
    Ok(binary)
}

impl Daemon {
    pub(crate) fn start(binary: &Path, config: &Path, environment: &[(&str, String)]) -> Result<Self> {
        Command::new(binary)
            .args(["serve", "-c"])
            .arg(config)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            // Ctrl-C is for this program, which then ends the daemon in good order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map(Daemon)
            .with_context(|| format!("cannot start {}", binary.display()))
    }

    /// Waits until `/readyz` answers 200, or the daemon ends.
    pub(crate) async fn until_ready(&mut self, admin: &str) -> Result<Readiness> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Readiness::Ended(status));
            }
            let last = match timeout(Duration::from_secs(1), status(admin, "/readyz")).await {
                Ok(Ok(line)) if line.starts_with("HTTP/1.1 200") => return Ok(Readiness::Ready),
                Ok(Ok(line)) => line,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() > deadline {
                bail!("http://{admin}/readyz was not ready within {READY_WITHIN:?} (it said: {last})");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for an end that nobody asked for.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Asks the daemon to end and waits; a second Ctrl-C, or too long a wait, kills it.
    pub(crate) async fn stop(mut self, again: &mut Stop) -> Result<()> {
        let Some(id) = self.0.id() else { return Ok(()) };
        // The shell's own `kill`: systems without procps have no other.
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id.to_string()]).status().await?;
        tokio::select! {
            ended = timeout(STOP_WITHIN, self.0.wait()) => match ended {
                Ok(status) => return status.map(drop).context("cannot tell how the daemon ended"),
                Err(_) => eprintln!("quickstart: the daemon is still busy after {STOP_WITHIN:?} and is killed"),
            },
            () = again.asked() => {}
        }
        self.0.kill().await.context("cannot kill the daemon")
    }
}

/// The status line of one `GET`.
async fn status(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or("nothing").to_owned())
}
