//! Every metric, declared once: name, help, labels, buckets.
//!
//! Labels hold values from the configuration or from closed sets, never from requests.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
pub use prometheus::{HistogramTimer, IntCounter};
use std::sync::LazyLock;

/// The process's metrics.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by bucket and outcome.
    pub requests: IntCounterVec,
    /// Body bytes sent to clients, by bucket.
    pub bytes: IntCounterVec,
    /// Seconds from the request's header to the end of its response, by bucket.
    pub request_seconds: HistogramVec,
    /// Lookups, by tier and result.
    pub tier_lookups: IntCounterVec,
    /// Entries that a tier let go, by tier and cause.
    pub tier_evictions: IntCounterVec,
    /// Bytes held, by tier.
    pub tier_bytes: IntGaugeVec,
    /// Entries held, by tier.
    pub tier_items: IntGaugeVec,
    /// Policy reloads, by result.
    pub policy_reloads: IntCounterVec,
    /// Failed policy calls, by bucket and kind.
    pub policy_errors: IntCounterVec,
    /// Seconds of a policy call, by hook. One call in sixteen is timed: reading the clock would cost more than most
    /// calls.
    pub policy_seconds: HistogramVec,
    /// Origin answers, by origin and status; `error` where none came.
    pub origin_requests: IntCounterVec,
    /// Parts that did not fit what is stored, so that the whole was asked for again, by origin.
    pub parts_refused: IntCounterVec,
    /// Requests that wait for another's fill, or follow it.
    pub fill_waiters: IntGauge,
    /// Access log lines that were dropped because the log could not keep up.
    pub access_log_dropped: IntCounter,
}

/// The counters of one bucket, so that a request finds them without a look-up by name.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the outcomes")]
pub struct BucketMetrics {
    pub hit: IntCounter,
    pub stale: IntCounter,
    pub revalidated: IntCounter,
    pub collapsed: IntCounter,
    pub miss: IntCounter,
    pub bypass: IntCounter,
    pub error: IntCounter,
    pub bytes: IntCounter,
    pub seconds: prometheus::Histogram,
}

impl BucketMetrics {
    /// The counters of the bucket of that name.
    pub fn of(bucket: &str) -> Self {
        let metrics = metrics();
        let outcome = |outcome| metrics.requests.with_label_values(&[bucket, outcome]);
        BucketMetrics {
            hit: outcome("hit"),
            stale: outcome("stale"),
            revalidated: outcome("revalidated"),
            collapsed: outcome("collapsed"),
            miss: outcome("miss"),
            bypass: outcome("bypass"),
            error: outcome("error"),
            bytes: metrics.bytes.with_label_values(&[bucket]),
            seconds: metrics.request_seconds.with_label_values(&[bucket]),
        }
    }

    /// The counter of an outcome.
    pub fn counter(&self, outcome: &crate::outcome::Outcome) -> &IntCounter {
        use crate::outcome::Outcome;
        match outcome {
            Outcome::Hit(_) => &self.hit,
            Outcome::Stale(..) => &self.stale,
            Outcome::Revalidated(_) => &self.revalidated,
            Outcome::Collapsed => &self.collapsed,
            Outcome::Miss(_) => &self.miss,
            Outcome::Bypass(_) => &self.bypass,
            Outcome::Error(_) => &self.error,
        }
    }
}

/// From a memory hit to a slow origin.
const REQUEST_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From a tiny call to the default time limit.
const POLICY_BUCKETS: &[f64] = &[5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2];

impl Metrics {
    #[expect(clippy::expect_used, reason = "names and labels are literals in this file, checked by its test")]
    fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("valid metric");
            registry.register(Box::new(counters.clone())).expect("declared once");
            counters
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("valid metric");
            registry.register(Box::new(gauges.clone())).expect("declared once");
            gauges
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histograms = HistogramVec::new(opts, labels).expect("valid metric");
            registry.register(Box::new(histograms.clone())).expect("declared once");
            histograms
        };
        let waiters = IntGauge::new("tidegate_fill_waiters", "Requests that wait for another's fill, or follow it.");
        let waiters = waiters.expect("valid metric");
        registry.register(Box::new(waiters.clone())).expect("declared once");
        let dropped =
            IntCounter::new("tidegate_access_log_dropped_total", "Access log lines that could not be written.");
        let dropped = dropped.expect("valid metric");
        registry.register(Box::new(dropped.clone())).expect("declared once");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("declared once");
        let policy_seconds = histograms(
            "tidegate_policy_seconds",
            "Seconds of a policy call; one call in sixteen is timed.",
            &["hook"],
            POLICY_BUCKETS,
        );
        Metrics {
            requests: counters("tidegate_requests_total", "Requests answered.", &["bucket", "outcome"]),
            bytes: counters("tidegate_response_bytes_total", "Body bytes sent to clients.", &["bucket"]),
            request_seconds: histograms(
                "tidegate_request_seconds",
                "Seconds from a request's header to the end of its response.",
                &["bucket"],
                REQUEST_BUCKETS,
            ),
            tier_lookups: counters("tidegate_tier_lookups_total", "Lookups in a tier.", &["tier", "result"]),
            tier_evictions: counters(
                "tidegate_tier_evictions_total",
                "Entries that a tier let go.",
                &["tier", "cause"],
            ),
            tier_bytes: gauges("tidegate_tier_bytes", "Bytes that a tier holds.", &["tier"]),
            tier_items: gauges("tidegate_tier_items", "Entries that a tier holds.", &["tier"]),
            policy_reloads: counters("tidegate_policy_reloads_total", "Policy reloads.", &["result"]),
            policy_errors: counters("tidegate_policy_errors_total", "Policy calls that failed.", &["bucket", "kind"]),
            policy_seconds,
            origin_requests: counters("tidegate_origin_requests_total", "Answers of origins.", &["origin", "status"]),
            parts_refused: counters(
                "tidegate_parts_refused_total",
                "Parts that did not fit what is stored, so that the whole was asked for again.",
                &["origin"],
            ),
            fill_waiters: waiters,
            access_log_dropped: dropped,
            registry,
        }
    }

    /// All of it in Prometheus's text format.
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Err(e) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(error = %e, "metrics could not be written");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_valid_and_declared_once() {
        metrics().requests.with_label_values(&["b", "hit"]).inc();
        let text = String::from_utf8(metrics().render()).unwrap();
        assert!(text.contains("tidegate_requests_total{bucket=\"b\",outcome=\"hit\"} 1"), "{text}");
    }
}
