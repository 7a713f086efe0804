//! Threads for what may wait for the disk, apart from those that serve requests.
//!
//! Reads, writes and removals have threads of their own, so that a disk which is slow to write does not keep hits waiting
//! behind writes, nor whoever has to know that something is forgotten. All are pools of the tokio runtime, which is the well-kept way to wait for a thread from a task.

use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Reads at once. They only come here when the page cache does not have what is wanted; more at once than a disk's queue
/// is deep only wait there.
const READERS: usize = 8;

/// Writes at once. Two, so that a large object does not hold up all small ones.
const WRITERS: usize = 2;

/// Removals at once: with one, they are done in order, and whoever waits for the last one knows that all are done.
const REMOVERS: usize = 1;

/// The pools.
#[derive(Debug)]
pub struct Lanes {
    read: Option<Runtime>,
    write: Option<Runtime>,
    remove: Option<Runtime>,
}

impl Lanes {
    /// Starts no thread yet: they come when there is work, and go when there is none.
    pub fn new() -> std::io::Result<Self> {
        let pool = |name: &str, threads| {
            // Nobody drives the runtime; only its blocking threads are used.
            Builder::new_current_thread().max_blocking_threads(threads).thread_name(name).build()
        };
        let read = pool("disk-read", READERS)?;
        let (write, remove) = (pool("disk-write", WRITERS)?, pool("disk-remove", REMOVERS)?);
        Ok(Lanes { read: Some(read), write: Some(write), remove: Some(remove) })
    }

    /// Has something read; the answer can be waited for anywhere. `None` if the work panicked or the process ends.
    pub fn read<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + use<T, W> {
        answer(&self.read, work)
    }

    /// Has something written. Need not be waited for.
    pub fn write<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + use<T, W> {
        answer(&self.write, work)
    }

    /// Has something removed, after everything else that is to be.
    pub fn remove<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + use<T, W> {
        answer(&self.remove, work)
    }
}

fn answer<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    pool: &Option<Runtime>,
    work: W,
) -> impl Future<Output = Option<T>> + use<T, W> {
    let handle = pool.as_ref().map(|pool| pool.spawn_blocking(work));
    async move {
        match handle {
            Some(handle) => handle.await.ok(),
            None => None,
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // May happen in a task, where waiting for threads is not allowed.
        for pool in [self.read.take(), self.write.take(), self.remove.take()].into_iter().flatten() {
            pool.shutdown_background();
        }
    }
}
