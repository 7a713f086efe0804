//! Stops scripts that run for too long.
//!
//! One thread looks at every VM each millisecond. When it has seen the same call of a VM for half its limit, it arms the
//! VM's interrupt, which Luau allows from any thread, and does so again at each tick. The VM meets the interrupt at its
//! next safepoint (a loop's back edge, a call, a return, each step of a pattern). The first alarm of a call notes the
//! processor time that the thread has used; once the thread has used another half of the limit, the interrupt raises an
//! error, and again at each later safepoint, so that `pcall` cannot swallow it.
//!
//! Two halves, because only the second can be measured on the thread's own clock: reading that clock costs a system
//! call, too much for the start of every call. Wall time alone will not do: on a machine with more work than processors
//! a thread can be put aside for longer than the limit in the middle of a call of one microsecond.
//!
//! A call that starts costs one atomic store and one load, and reads no clock. An alarm names the call that it is for, so
//! one that fires late never kills the next call. The thread sleeps for good once no VM has been in a call for a second;
//! the next call wakes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::raw::Interrupt;

/// How often the thread looks. A call is stopped at most three of these after its limit, since each half of it ends at a
/// look, and later if this thread has to wait for a processor.
const TICK: Duration = Duration::from_millis(1);

/// How long all VMs must be idle before the thread sleeps for good.
const IDLE: Duration = Duration::from_secs(1);

/// What the watchdog and one VM share.
pub(super) struct Slot {
    /// No other slot of this process has it.
    id: u64,
    /// The number of the call that runs, odd; the next even number while none does.
    call: AtomicU64,
    /// The number of the last call for which there was an alarm.
    alarmed: AtomicU64,
    /// Longest time of the call that runs, in microseconds.
    limit: AtomicU64,
    /// `None` once the VM is gone. The lock is held while the VM's memory is written to.
    interrupt: Mutex<Option<Interrupt>>,
}

impl Slot {
    /// A call starts. Pair with [`Slot::stop`].
    #[inline]
    pub(super) fn start(&self, limit: Duration) -> u64 {
        let limit = limit.as_micros() as u64;
        if self.limit.load(Ordering::Relaxed) != limit {
            self.limit.store(limit, Ordering::Relaxed);
        }
        let call = self.call.load(Ordering::Relaxed).wrapping_add(1) | 1;
        // This store must be seen by the watchdog before it decides to sleep, or the load below must see that it did:
        // both sides use one total order.
        self.call.store(call, Ordering::SeqCst);
        if let Some(watchdog) = WATCHDOG.get()
            && watchdog.asleep.load(Ordering::SeqCst)
        {
            watchdog.thread.unpark();
        }
        call
    }

    /// The call ended.
    #[inline]
    pub(super) fn stop(&self) {
        let call = self.call.load(Ordering::Relaxed);
        self.call.store(call.wrapping_add(1), Ordering::Release);
    }

    /// Whether the alarm is for the call that runs now. Asked by the interrupt.
    pub(super) fn is_alarmed(&self) -> bool {
        self.alarmed.load(Ordering::Acquire) == self.call.load(Ordering::Relaxed)
    }

    fn alarm(&self, call: u64) {
        let interrupt = self.interrupt.lock();
        if let Some(interrupt) = interrupt.as_ref() {
            self.alarmed.store(call, Ordering::Release);
            interrupt.arm();
        }
    }
}

struct Watchdog {
    slots: Mutex<Vec<Arc<Slot>>>,
    asleep: AtomicBool,
    thread: Thread,
}

static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

/// A VM under watch; dropping it ends the watch, and must happen before the VM is freed.
pub(super) struct Watched {
    slot: Arc<Slot>,
}

impl Watched {
    /// Watches the VM that `interrupt` belongs to, starting the thread if this is the first one.
    pub(super) fn new(interrupt: Interrupt) -> std::io::Result<Self> {
        let watchdog = match WATCHDOG.get() {
            Some(watchdog) => watchdog,
            None => start()?,
        };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let slot = Arc::new(Slot {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            call: AtomicU64::new(0),
            alarmed: AtomicU64::new(u64::MAX),
            limit: AtomicU64::new(0),
            interrupt: Mutex::new(Some(interrupt)),
        });
        watchdog.slots.lock().push(Arc::clone(&slot));
        Ok(Watched { slot })
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Under its lock: when this returns, nobody writes to the VM's memory any more.
        self.slot.interrupt.lock().take();
        if let Some(watchdog) = WATCHDOG.get() {
            watchdog.slots.lock().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        }
    }
}

fn start() -> std::io::Result<&'static Watchdog> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock();
    if let Some(watchdog) = WATCHDOG.get() {
        return Ok(watchdog);
    }
    let handle = thread::Builder::new().name("policy-watchdog".into()).spawn(|| {
        // The static is set right after this thread was made.
        let watchdog = WATCHDOG.wait();
        watch(watchdog);
    })?;
    let thread = handle.thread().clone();
    Ok(WATCHDOG.get_or_init(|| Watchdog { slots: Mutex::new(Vec::new()), asleep: AtomicBool::new(false), thread }))
}

/// What was seen of a slot at the last tick.
#[derive(Clone, Copy)]
struct Seen {
    slot: u64,
    call: u64,
    /// When that call was seen first. It started before, so none is found too long before it is, however late this thread
    /// is woken.
    since: Instant,
}

fn watch(watchdog: &Watchdog) -> ! {
    let mut seen = Vec::new();
    let mut busy = Instant::now();
    loop {
        let now = Instant::now();
        if look(watchdog, &mut seen, now) {
            busy = now;
        }
        if now.duration_since(busy) < IDLE {
            thread::sleep(TICK);
            continue;
        }
        watchdog.asleep.store(true, Ordering::SeqCst);
        let running = watchdog.slots.lock().iter().any(|slot| slot.call.load(Ordering::SeqCst) & 1 == 1);
        if !running {
            thread::park();
        }
        watchdog.asleep.store(false, Ordering::SeqCst);
        busy = Instant::now();
    }
}

/// One tick; whether any VM is in a call or was since the last tick.
fn look(watchdog: &Watchdog, seen: &mut Vec<Seen>, now: Instant) -> bool {
    let slots = watchdog.slots.lock();
    let mut active = false;
    let mut next = Vec::with_capacity(slots.len());
    for slot in slots.iter() {
        let call = slot.call.load(Ordering::Acquire);
        let before = seen.iter().find(|before| before.slot == slot.id && before.call == call);
        let since = before.map_or(now, |before| before.since);
        next.push(Seen { slot: slot.id, call, since });
        let running = call & 1 == 1;
        active |= running || before.is_none();
        let half = Duration::from_micros(slot.limit.load(Ordering::Relaxed)) / 2;
        if running && now.duration_since(since) >= half {
            slot.alarm(call);
        }
    }
    *seen = next;
    active
}
