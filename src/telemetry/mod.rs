//! What the daemon tells about itself: metrics, the log on stderr, the access log.

pub mod access_log;
pub mod log;
mod metrics;

pub use metrics::{BucketMetrics, HistogramTimer, IntCounter, Metrics, metrics};
