//! What `make run` starts: an S3 bucket, a small API, and the daemon in front of both.
//!
//! Everything runs on this machine and is real: the bucket checks signatures, the API counts its requests, and the
//! daemon is the one that is shipped, with `config/tidegate.yaml` and the policies beside it.

mod api;
mod bucket;
mod daemon;
mod port;

use anyhow::{Context, Result, bail};
use daemon::{Daemon, Readiness};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Where `config/tidegate.yaml` makes the daemon listen.
const PROXY: &str = "127.0.0.1:8080";

/// Where it makes the admin API listen.
const ADMIN: &str = "127.0.0.1:9090";

const CONFIG: &str = "config/tidegate.yaml";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut stop = Stop::listen()?;
    let binary = daemon::binary()?;
    let config = config()?;
    for (address, who) in [(PROXY, "the proxy"), (ADMIN, "the admin API")] {
        port::expect_free(address, who).await?;
    }

    let bucket = bucket::start(&folder()?).await?;
    let api = api::start().await?;
    let environment = [
        ("TIDEGATE_QUICKSTART_S3", format!("http://{bucket}")),
        ("TIDEGATE_QUICKSTART_KEY", bucket::ACCESS_KEY.to_owned()),
        ("TIDEGATE_QUICKSTART_SECRET", bucket::SECRET_KEY.to_owned()),
        ("TIDEGATE_QUICKSTART_API", api.to_string()),
    ];
    let mut daemon = Daemon::start(&binary, &config, &environment)?;

    let ready = tokio::select! {
        ready = daemon.until_ready(ADMIN) => Some(ready?),
        () = stop.asked() => None,
    };
    match ready {
        Some(Readiness::Ready) => {}
        Some(Readiness::Ended(status)) => {
            bail!("the daemon ended before it was ready ({status}): its own message is above")
        }
        None => return daemon.stop(&mut stop).await,
    }

    println!("{}", welcome(&config, &bucket.to_string(), &api.to_string()));
    tokio::select! {
        status = daemon.ended() => bail!("the daemon ended by itself ({}): its own message is above", status?),
        () = stop.asked() => daemon.stop(&mut stop).await,
    }
}

fn welcome(config: &Path, bucket: &str, api: &str) -> String {
    let policies = config.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("policies");
    let policies = policies.display();
    format!(
        r#"
Tidegate is running.

  http://{PROXY}/index.html   an S3 bucket on {bucket}, every request signed
  http://{PROXY}/api/time     an API on {api} that counts the requests it gets
  http://{ADMIN}/metrics      metrics for Prometheus

Try, each of them twice:

  curl -i http://{PROXY}/photos/moon.svg
  curl -i "http://{PROXY}/photos/high%20tide.svg"
  curl -i http://{PROXY}/api/time

The first answer says  Cache-Status: tidegate; fwd=uri-miss; fwd-status=200; stored
and the second         Cache-Status: tidegate; hit; ttl=…

/api/users/1, /api/slow (two seconds, unless kept) and /api/private (never kept) are there too.
Then edit {policies}/api.lua or {policies}/static.lua: a saved policy decides from the next request on.

Ctrl-C stops everything.
"#
    )
}

/// The configuration, from the folder where this was started or else from the source tree.
fn config() -> Result<PathBuf> {
    let here = PathBuf::from(CONFIG);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(CONFIG);
    match [here, source].into_iter().find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("there is no {CONFIG} here: start this from the folder that holds Tidegate's sources"),
    }
}

/// Where the bucket keeps its objects: beside the build, so that `cargo clean` takes it away.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("the program's own path is unknown")?;
    // target/PROFILE/examples/quickstart
    let target = program.ancestors().nth(3).context("the program is not in a folder that Cargo made")?;
    Ok(target.join("quickstart"))
}

/// Ctrl-C, a request to end, or a terminal that closed. The daemon has a process group of its own and hears none of it.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
