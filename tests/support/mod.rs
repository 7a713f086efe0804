//! What the end-to-end tests share: a scripted origin, the real daemon as a child process, and a client that sees bytes.
//!
//! Nothing here sleeps to let something happen. A test waits for an event ([`Gate`], [`Origin::wait_for_requests`],
//! [`Proxy::wait_for_log`]) or asks again until an answer is there ([`eventually`]), always with [`PATIENCE`] as deadline.

pub mod cache_status;
pub mod call;
pub mod cli;
pub mod faults;
pub mod gate;
pub mod h2;
pub mod origin;
pub mod port;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod reply;
pub mod s3;
pub mod settings;
pub mod tls;
pub mod wire;

pub use call::{Call, Response};
pub use gate::Gate;
pub use origin::Origin;
pub use port::Port;
pub use proxy::Proxy;
pub use redis::{RedisCluster, RedisServer};
pub use reply::Reply;
pub use wire::Ending;

use std::time::Duration;

/// The longest wait for anything. Only a broken daemon ever meets it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often [`eventually`] asks again.
const AGAIN: Duration = Duration::from_millis(20);

/// Awaits `future`, or fails the test with a sentence that says what never came.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Asks `probe` until it answers, for what announces itself to nobody (a port that opens, a file that is reloaded).
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    within(what, asking).await
}
