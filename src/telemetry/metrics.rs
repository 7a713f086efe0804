//! Every metric, declared once: name, help, labels, buckets.
//!
//! Labels hold values from the configuration or from closed sets, never from requests.

use crate::policy::decision::TierName;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
pub use prometheus::{Histogram, HistogramTimer, IntCounter, IntGauge};
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
    /// Lookups, by tier and result: `hit`, `miss`, or `unavailable` where the tier could not say which.
    pub tier_lookups: IntCounterVec,
    /// Entries copied into a tier from one below it, by the tier that got them.
    pub tier_promotions: IntCounterVec,
    /// Entries on their way into a tier, by tier and result: `stored`; `dropped`, as there was no room or no time for them;
    /// `failed`, as the tier could not; `outdated`, as they were changed or purged meanwhile.
    pub tier_writes: IntCounterVec,
    /// What went wrong in a tier, by tier and kind: `io`, the system said so; `timeout`, it said nothing in time; and of what
    /// was read, `foreign`, it is no entry; `version`, it is one of another version; `truncated`; `checksum`; `key`, it is
    /// another entry's.
    pub tier_errors: IntCounterVec,
    /// Entries that a tier let go, by tier and cause: `size`, others needed the room; `expired`, they could not be used any
    /// more, stale or not; `space`, the file system was nearly full. What was replaced or purged is none of them.
    pub tier_evictions: IntCounterVec,
    /// Seconds of an operation of a tier, by tier and operation: `lookup`, to the head; `read`, one piece of a body; `write`,
    /// a whole entry.
    pub tier_seconds: HistogramVec,
    /// Whether a tier that is set up works, by tier: 1 or 0.
    pub tier_up: IntGaugeVec,
    /// Bytes that a tier may hold, by tier.
    pub tier_capacity: IntGaugeVec,
    /// Bytes held, by tier.
    pub tier_bytes: IntGaugeVec,
    /// Entries held, by tier.
    pub tier_items: IntGaugeVec,
    disk_scan_files: IntGaugeVec,
    disk_scan_done: IntGaugeVec,
    disk_free_bytes: IntGaugeVec,
    disk_free_inodes: IntGaugeVec,
    /// Commands to Redis, by command or script and result: `ok`; `timeout`; `down`, it was not asked; `broken`, the connection
    /// was; `unusable`, it serves nobody for now; `refused`; `unexpected`.
    pub redis_commands: IntCounterVec,
    /// Seconds until Redis answered, by command or script.
    pub redis_seconds: HistogramVec,
    /// Leases of fills that nodes share, by result: `taken`; `held` by another node; `takeover`, taken when that had lapsed;
    /// `lost`, ours had.
    pub leases: IntCounterVec,
    /// Purges that other nodes are still to be told of.
    pub purges_untold: IntGaugeVec,
    /// Nodes that share the Redis and live, this one included.
    pub cluster_nodes: IntGaugeVec,
    /// Entries that were compared with purges behind the traffic, by tier.
    pub sweep_checked: IntCounterVec,
    /// Those of them that were dead and are gone, by tier.
    pub sweep_removed: IntCounterVec,
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
    /// Things that were purged, by kind.
    pub purges: IntCounterVec,
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
    pub seconds: Histogram,
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

/// The metrics of one tier, so that a request finds them without a look-up by name. Errors and evictions are rare, and found
/// by their kind.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the metrics and their results")]
pub struct TierMetrics {
    pub hit: IntCounter,
    pub miss: IntCounter,
    pub unavailable: IntCounter,
    pub promotions: IntCounter,
    pub lookup_seconds: Histogram,
    pub up: IntGauge,
    pub capacity: IntGauge,
    pub bytes: IntGauge,
    pub items: IntGauge,
    tier: &'static str,
}

impl TierMetrics {
    /// Those of a tier that is set up. From now on they are shown, though nothing has happened yet.
    pub fn of(tier: TierName) -> Self {
        let (metrics, tier) = (metrics(), tier.as_str());
        let lookups = |result| metrics.tier_lookups.with_label_values(&[tier, result]);
        TierMetrics {
            hit: lookups("hit"),
            miss: lookups("miss"),
            unavailable: lookups("unavailable"),
            promotions: metrics.tier_promotions.with_label_values(&[tier]),
            lookup_seconds: metrics.tier_seconds.with_label_values(&[tier, "lookup"]),
            up: metrics.tier_up.with_label_values(&[tier]),
            capacity: metrics.tier_capacity.with_label_values(&[tier]),
            bytes: metrics.tier_bytes.with_label_values(&[tier]),
            items: metrics.tier_items.with_label_values(&[tier]),
            tier,
        }
    }

    /// The counter of a kind of error: one of those that [`Metrics::tier_errors`] lists.
    pub fn error(&self, kind: &'static str) -> IntCounter {
        metrics().tier_errors.with_label_values(&[self.tier, kind])
    }

    /// The counter of a cause of eviction: one of those that [`Metrics::tier_evictions`] lists.
    pub fn eviction(&self, cause: &'static str) -> IntCounter {
        metrics().tier_evictions.with_label_values(&[self.tier, cause])
    }
}

/// What a tier tells besides that is written to behind the requests, and read in pieces.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the labels")]
pub struct WriteMetrics {
    pub stored: IntCounter,
    pub dropped: IntCounter,
    pub failed: IntCounter,
    pub outdated: IntCounter,
    pub read_seconds: Histogram,
    pub write_seconds: Histogram,
}

impl WriteMetrics {
    /// Those of a tier that is set up.
    pub fn of(tier: TierName) -> Self {
        let (metrics, tier) = (metrics(), tier.as_str());
        let writes = |result| metrics.tier_writes.with_label_values(&[tier, result]);
        let seconds = |op| metrics.tier_seconds.with_label_values(&[tier, op]);
        WriteMetrics {
            stored: writes("stored"),
            dropped: writes("dropped"),
            failed: writes("failed"),
            outdated: writes("outdated"),
            read_seconds: seconds("read"),
            write_seconds: seconds("write"),
        }
    }
}

/// What only a disk has to tell. Without a disk tier none of it is shown: free bytes of 0 would wake somebody up.
#[derive(Debug, Clone)]
pub struct DiskMetrics {
    /// Files that the scan after start has looked at so far.
    pub scan_files: IntGauge,
    /// Whether that scan is over: 1 or 0.
    pub scan_done: IntGauge,
    /// Bytes of the file system that are free for this process.
    pub free_bytes: IntGauge,
    /// Files that can still be made on it.
    pub free_inodes: IntGauge,
}

impl DiskMetrics {
    /// Those of the disk tier, which is set up.
    pub fn of_the_disk() -> Self {
        let metrics = metrics();
        let only = |gauges: &IntGaugeVec| gauges.with_label_values::<&str>(&[]);
        DiskMetrics {
            scan_files: only(&metrics.disk_scan_files),
            scan_done: only(&metrics.disk_scan_done),
            free_bytes: only(&metrics.disk_free_bytes),
            free_inodes: only(&metrics.disk_free_inodes),
        }
    }
}

/// From a memory hit to a slow origin.
const REQUEST_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From what is in the page cache to a disk that hangs.
const TIER_BUCKETS: &[f64] = &[
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

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
            tier_promotions: counters(
                "tidegate_tier_promotions_total",
                "Entries copied into a tier from one below it.",
                &["tier"],
            ),
            tier_writes: counters(
                "tidegate_tier_writes_total",
                "Entries that were to be written to a tier.",
                &["tier", "result"],
            ),
            tier_errors: counters("tidegate_tier_errors_total", "What went wrong in a tier.", &["tier", "kind"]),
            tier_evictions: counters(
                "tidegate_tier_evictions_total",
                "Entries that a tier let go.",
                &["tier", "cause"],
            ),
            tier_seconds: histograms(
                "tidegate_tier_seconds",
                "Seconds of an operation of a tier.",
                &["tier", "op"],
                TIER_BUCKETS,
            ),
            tier_up: gauges("tidegate_tier_up", "Whether a tier that is set up works.", &["tier"]),
            tier_capacity: gauges("tidegate_tier_capacity_bytes", "Bytes that a tier may hold.", &["tier"]),
            tier_bytes: gauges("tidegate_tier_bytes", "Bytes that a tier holds.", &["tier"]),
            tier_items: gauges("tidegate_tier_items", "Entries that a tier holds.", &["tier"]),
            disk_scan_files: gauges(
                "tidegate_disk_scan_files",
                "Files that the scan of the disk tier after start has looked at.",
                &[],
            ),
            disk_scan_done: gauges(
                "tidegate_disk_scan_done",
                "Whether the scan of the disk tier after start is over.",
                &[],
            ),
            disk_free_bytes: gauges(
                "tidegate_disk_free_bytes",
                "Bytes that are free on the file system of the disk tier.",
                &[],
            ),
            disk_free_inodes: gauges(
                "tidegate_disk_free_inodes",
                "Files that can still be made on the file system of the disk tier.",
                &[],
            ),
            purges_untold: gauges("tidegate_purges_untold", "Purges that other nodes are still to be told of.", &[]),
            cluster_nodes: gauges("tidegate_cluster_nodes", "Nodes that share the Redis and live.", &[]),
            sweep_checked: counters(
                "tidegate_purge_sweep_checked_total",
                "Entries that were compared with purges behind the traffic.",
                &["tier"],
            ),
            sweep_removed: counters(
                "tidegate_purge_sweep_removed_total",
                "Purged entries that were removed behind the traffic.",
                &["tier"],
            ),
            redis_commands: counters("tidegate_redis_commands_total", "Commands to Redis.", &["command", "result"]),
            redis_seconds: histograms(
                "tidegate_redis_seconds",
                "Seconds until Redis answered.",
                &["command"],
                TIER_BUCKETS,
            ),
            leases: counters("tidegate_leases_total", "Leases of fills that nodes share.", &["result"]),
            policy_reloads: counters("tidegate_policy_reloads_total", "Policy reloads.", &["result"]),
            policy_errors: counters("tidegate_policy_errors_total", "Policy calls that failed.", &["bucket", "kind"]),
            policy_seconds,
            origin_requests: counters("tidegate_origin_requests_total", "Answers of origins.", &["origin", "status"]),
            parts_refused: counters(
                "tidegate_parts_refused_total",
                "Parts that did not fit what is stored, so that the whole was asked for again.",
                &["origin"],
            ),
            purges: counters("tidegate_purges_total", "Things that purges named.", &["kind"]),
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

    fn rendered() -> String {
        String::from_utf8(metrics().render()).unwrap()
    }

    #[test]
    fn a_tier_that_is_set_up_is_shown_before_anything_has_happened() {
        // No other test sets this one up.
        let redis = TierMetrics::of(TierName::Redis);
        let _ = WriteMetrics::of(TierName::Redis);
        redis.up.set(1);
        redis.error("timeout").inc();
        redis.eviction("size").inc();
        let text = rendered();
        for line in [
            "tidegate_tier_lookups_total{result=\"unavailable\",tier=\"redis\"} 0",
            "tidegate_tier_writes_total{result=\"outdated\",tier=\"redis\"} 0",
            "tidegate_tier_promotions_total{tier=\"redis\"} 0",
            "tidegate_tier_errors_total{kind=\"timeout\",tier=\"redis\"} 1",
            "tidegate_tier_evictions_total{cause=\"size\",tier=\"redis\"} 1",
            "tidegate_tier_seconds_bucket{op=\"lookup\",tier=\"redis\",le=\"0.000005\"} 0",
            "tidegate_tier_seconds_bucket{op=\"write\",tier=\"redis\",le=\"10\"} 0",
            "tidegate_tier_up{tier=\"redis\"} 1",
            "tidegate_tier_capacity_bytes{tier=\"redis\"} 0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_disk_is_told_of_once_there_is_one() {
        let disk = DiskMetrics::of_the_disk();
        disk.free_bytes.set(7);
        let text = rendered();
        for name in ["disk_scan_files", "disk_scan_done", "disk_free_inodes"] {
            assert!(text.contains(&format!("\ntidegate_{name} ")), "{name} is not in\n{text}");
        }
        assert!(text.contains("\ntidegate_disk_free_bytes 7\n"), "{text}");
    }
}
