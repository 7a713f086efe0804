//! The log on stderr: text for people, JSON for machines.

use crate::config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// Changes the level of a running log.
pub struct LevelHandle(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl std::fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LevelHandle").finish_non_exhaustive()
    }
}

/// Starts the log. A second start in one process changes nothing.
pub fn start(log: &Log) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if json {
        registry.with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        registry.with(layer.with_ansi(colour).with_target(false)).try_init()
    };
    if started.is_err() {
        tracing::debug!("the log is running already");
    }
    LevelHandle(handle)
}

impl LevelHandle {
    /// Applies a new level.
    pub fn set(&self, level: LogLevel) {
        if self.0.reload(filter(level)).is_err() {
            tracing::warn!("the log level could not be changed");
        }
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // The framework reports each broken connection as an error of its own; what matters of it we log with the request.
    let framework = if matches!(level, "debug" | "trace") { level } else { "off" };
    EnvFilter::new(format!(
        "{level},pingora_proxy={framework},pingora_core={framework},pingora_cache={framework},rustls={framework}"
    ))
}
