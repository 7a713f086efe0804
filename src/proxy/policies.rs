//! The policies in force, kept in step with their folder and with the configuration.

use crate::config::Config;
use crate::policy::{Hook, Policy, PolicyError, PolicyHost, Reloaded, Watcher};
use crate::telemetry::metrics;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// Policies, and the watch over their folder.
pub struct Policies {
    host: Arc<PolicyHost>,
    watch: Mutex<Watch>,
}

#[derive(Default)]
struct Watch {
    dir: Option<PathBuf>,
    watcher: Option<Watcher>,
}

impl Policies {
    /// Loads what the configuration names. A policy that does not work makes its bucket do what `on_error` says, and
    /// leaves the other buckets alone.
    pub fn load(config: &Config) -> Self {
        for hook in Hook::FUNCTIONS {
            // Only one call in sixteen is timed, and a scraper should not wonder whether there is such a metric.
            metrics().policy_seconds.with_label_values(&[hook.as_str()]);
        }
        let policies = &config.policies;
        let (host, errors) = PolicyHost::new(&policies.dir, &config.policy_names(), &policies.limits);
        for error in &errors {
            tracing::error!("{error}");
        }
        let loaded = Policies { host: Arc::new(host), watch: Mutex::default() };
        loaded.watch(config);
        loaded
    }

    /// The policy of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Policy>> {
        self.host.get(name)
    }

    /// Takes what another configuration names.
    pub fn replace(&self, config: &Config) {
        let policies = &config.policies;
        tell(&self.host.reconfigure(&policies.dir, &config.policy_names(), &policies.limits));
        self.watch(config);
    }

    fn watch(&self, config: &Config) {
        let wanted = config.policies.watch.then(|| config.policies.dir.clone());
        let mut watch = self.watch.lock();
        if watch.dir == wanted {
            return;
        }
        // The old watch ends before the new one begins.
        watch.watcher = None;
        watch.dir.clone_from(&wanted);
        let Some(dir) = wanted else { return };
        let host = self.host.clone();
        match Watcher::start(&dir, move || tell(&host.reload())) {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(e) => tracing::error!(dir = %dir.display(), error = %e, "changes of policies will not be seen"),
        }
    }
}

/// Says what a reload did, in the log and in the metrics.
fn tell(reloaded: &Reloaded) {
    let reloads = &metrics().policy_reloads;
    for policy in &reloaded.changed {
        reloads.with_label_values(&["success"]).inc();
        tracing::info!(policy = policy.file(), version = policy.version(), "a policy is in force");
    }
    let errors: &[PolicyError] = &reloaded.new_errors;
    for error in errors {
        reloads.with_label_values(&["error"]).inc();
        tracing::error!("{error}; the last version that worked stays in force");
    }
}
