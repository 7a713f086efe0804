//! Taking the sockets over from a running daemon: it hands them out when it is told to leave, and drains.

use crate::config::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long we get to listen on the upgrade socket before the running daemon is told to send its sockets there.
const HEAD_START: Duration = Duration::from_millis(500);

/// A takeover under way; ends when it is dropped.
pub(super) struct Takeover {
    _begun: Sender<()>,
    _thread: JoinHandle<()>,
}

impl Takeover {
    /// Finds the running daemon, and tells it to hand its sockets over as soon as we wait for them.
    pub(super) fn begin(server: &Server) -> Result<Self, String> {
        let file = server.pid_file.display();
        let pid =
            fs::read_to_string(&server.pid_file).ok().and_then(|text| text.trim().parse().ok()).map(Pid::from_raw);
        let running = pid.filter(|pid| *pid != Pid::this() && kill(*pid, None).is_ok());
        let pid = running.ok_or_else(|| {
            format!("{file}: no running daemon is named there to take sockets over from; start without --upgrade")
        })?;
        let (begun, over) = channel::<()>();
        let thread = std::thread::Builder::new().name("takeover".to_owned()).spawn(move || {
            // Pingora listens for the sockets in the thread that started this one, and says nothing when it begins.
            if over.recv_timeout(HEAD_START) == Err(RecvTimeoutError::Timeout) && kill(pid, Signal::SIGQUIT).is_err() {
                tracing::error!(%pid, "the running daemon could not be told to hand its sockets over");
            }
        });
        let thread = thread.map_err(|e| format!("the takeover could not be started: {e}"))?;
        Ok(Takeover { _begun: begun, _thread: thread })
    }
}

/// Writes down which process serves, for the next one to find.
pub(super) fn write_pid(file: &Path) {
    if let Err(e) = fs::write(file, format!("{}\n", std::process::id())) {
        tracing::warn!(file = %file.display(), error = %e, "the process id cannot be written; --upgrade will not find us");
    }
}

/// Takes the process id away, unless another process has written its own there.
pub(super) fn remove_pid(file: &Path) {
    let ours = fs::read_to_string(file).is_ok_and(|text| text.trim() == std::process::id().to_string());
    if ours {
        let _ = fs::remove_file(file);
    }
}
