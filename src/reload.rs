//! Changes of the configuration file, applied while traffic flows.

use crate::config::Config;
use crate::proxy::Gate;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::LevelHandle;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Watches the configuration file, and listens for SIGHUP.
pub struct Reloader {
    gate: Arc<Gate>,
    level: LevelHandle,
    seen: Mutex<Option<Fingerprint>>,
}

/// What of a file changes when somebody writes, replaces or re-links it.
type Fingerprint = (u64, u64, u64, Option<SystemTime>);

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.modified().ok()))
}

impl Reloader {
    /// What the gate was built from counts as seen.
    pub fn new(gate: Arc<Gate>, level: LevelHandle) -> Self {
        let seen = fingerprint(&gate.live.load().config.file);
        Reloader { gate, level, seen: Mutex::new(seen) }
    }

    fn apply_if_changed(&self) {
        let file = self.gate.live.load().config.file.clone();
        let now = fingerprint(&file);
        // A file that is being replaced may be away for a moment.
        if now.is_some() && std::mem::replace(&mut *self.seen.lock(), now) != now {
            self.apply(&file);
        }
    }

    /// Puts the file in force, or says why not and keeps what is in force.
    fn apply(&self, file: &Path) {
        let loaded = match Config::load(file, &|name| std::env::var(name).ok()) {
            Ok(loaded) => loaded,
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                tracing::error!(file = %file.display(), "the configuration is not applied; the old one stays in force");
                return;
            }
        };
        let before = self.gate.live.load().config.clone();
        for what in before.changes_that_need_restart(&loaded.config) {
            tracing::warn!(what, "this change of the configuration needs a restart");
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if before.log.level != loaded.config.log.level {
            self.level.set(loaded.config.log.level);
        }
        if before.log.access != loaded.config.log.access {
            match AccessLog::start(&loaded.config.log.access) {
                Ok(log) => self.gate.access_log.store(Arc::new(log)),
                Err(e) => tracing::error!(error = %e, "the access log stays as it was"),
            }
        }
        if let Err(e) = self.gate.replace(Arc::new(loaded.config)) {
            tracing::error!(file = %file.display(), "{e}; the old configuration stays in force");
            return;
        }
        tracing::info!(file = %file.display(), "the configuration is applied");
    }
}

#[async_trait]
impl BackgroundService for Reloader {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        self.gate.live.load().start();
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(e) => {
                tracing::error!(error = %e, "SIGHUP cannot be listened for; the configuration is not reloaded");
                return;
            }
        };
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => self.apply_if_changed(),
                received = hangup.recv() => {
                    if received.is_none() {
                        return;
                    }
                    if let Some(log) = self.gate.access_log.load().as_ref() {
                        log.reopen();
                    }
                    let file = self.gate.live.load().config.file.clone();
                    *self.seen.lock() = fingerprint(&file);
                    self.apply(&file);
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}
