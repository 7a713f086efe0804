//! Where the bytes of a fill go that is too large for memory: a file that is written while it is read.

use super::Fill;
use async_trait::async_trait;
use bytes::Bytes;
use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// Called whenever more was written, or nothing will be any more.
pub type Moved = Arc<dyn Fn() + Send + Sync>;

/// A file that one fill is written to. Whoever implements it can be had back from [`Filled`](super::Filled) as what it is,
/// since it is [`Any`]. May be dropped on a thread of its own.
#[async_trait]
pub trait Spool: Any + Send + Sync + Debug {
    /// Takes the next bytes of the body, in order. Never blocks: they are written behind, on other threads. What comes
    /// after it has failed or was abandoned is dropped.
    fn push(&self, piece: Bytes);

    /// Bytes, from the first, that are in the file and can be read. Never becomes less. A fill asks under its lock, so this
    /// neither blocks nor calls back. It should grow in steps that a disk that is well takes a fraction of
    /// [`STALLED`](super::STALLED) for.
    fn written(&self) -> u64;

    /// Whether it writes no more: the disk is full, or cannot be written. What is written can still be read. Asked like
    /// [`Spool::written`].
    fn failed(&self) -> bool;

    /// Has this called whenever `written` has grown, and when it has failed. Called once, before the first piece. The call
    /// comes from the spool's own threads, while they hold no lock that any other method takes.
    fn subscribe(&self, moved: Moved);

    /// Bytes from `start` on, `max` of them at most and at least one, of those that are written. One that does not come
    /// back is the spool's to fail. May be dropped before it is ready.
    async fn read(&self, start: u64, max: usize) -> io::Result<Bytes>;

    /// The fill is not kept: what is not written yet is dropped, and the file goes once nobody holds the spool any more.
    /// Until then, what is written can be read. May be called more than once.
    fn abandon(&self);
}

/// Opens files for fills.
pub trait SpoolSource: Send + Sync + Debug {
    /// A file for a fill that does not stay in memory; `None` if there is no room for it, or it is not to be kept there.
    /// Asked once for a fill at most, by the task that writes it, and without any of its locks held. Must not block.
    fn open(&self, fill: &Fill) -> Option<Arc<dyn Spool>>;
}
