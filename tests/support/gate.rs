//! A gate that a script waits at until the test opens it.

use std::sync::Arc;
use tokio::sync::watch;

/// Closed until [`Gate::open`]; open forever after. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn passed(&self) {
        // The sender lives as long as `self`, so that this only ends by opening.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
