//! Policies at work: how long their calls take, and what goes wrong in them.

use crate::policy::{Hook, Policy, PolicyError};
use crate::telemetry::quiet::Quiet;
use crate::telemetry::{HistogramTimer, metrics};

/// What the policy of one bucket did wrong lately.
#[derive(Debug, Default)]
pub struct Failures(Quiet);

impl Failures {
    /// Counts a failure, and logs it unless one was logged just now.
    pub fn note(&self, bucket: &str, error: &PolicyError) {
        metrics().policy_errors.with_label_values(&[bucket, error.kind.as_str()]).inc();
        if let Some(unlogged) = self.0.is_due() {
            tracing::warn!(bucket, kind = error.kind.as_str(), unlogged, "{error}");
        }
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
