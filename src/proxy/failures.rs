//! Policies at work: how long their calls take, and what goes wrong in them.

use crate::policy::{Hook, Policy, PolicyError};
use crate::telemetry::{HistogramTimer, metrics};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A failing policy can fail with each request; its log line comes once in so long.
const QUIET: Duration = Duration::from_secs(1);

/// What the policy of one bucket did wrong lately.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Failures {
    /// Counts a failure, and logs it unless one was logged just now.
    pub fn note(&self, bucket: &str, error: &PolicyError) {
        metrics().policy_errors.with_label_values(&[bucket, error.kind.as_str()]).inc();
        let mut lately = self.0.lock();
        if lately.logged.is_some_and(|logged| logged.elapsed() < QUIET) {
            lately.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut lately.unlogged);
        lately.logged = Some(Instant::now());
        drop(lately);
        tracing::warn!(bucket, kind = error.kind.as_str(), unlogged, "{error}");
    }
}

/// Declares the times of each hook, so that they are in the metrics before the first call that is timed.
pub(super) fn declare_times() {
    for hook in Hook::FUNCTIONS {
        metrics().policy_seconds.with_label_values(&[hook.as_str()]);
    }
}

/// Times one call in sixteen of a policy that has the hook, until the answer is dropped.
pub(super) fn time(policy: Option<&Policy>, hook: Hook) -> Option<HistogramTimer> {
    let chosen = policy.is_some_and(|policy| policy.has(hook)) && fastrand::u8(..16) == 0;
    chosen.then(|| metrics().policy_seconds.with_label_values(&[hook.as_str()]).start_timer())
}
