//! What the daemon tells about itself: metrics, the log on stderr, the access log.

pub mod access_log;
pub mod log;
mod metrics;
pub mod quiet;

pub use metrics::{
    BucketMetrics, DiskMetrics, Histogram, HistogramTimer, IntCounter, IntGauge, Metrics, TierMetrics, WriteMetrics,
    metrics,
};
