//! Stops scripts that run for too long.
//!
//! One thread looks at every VM each millisecond. Where it finds a call, it arms the VM's interrupt, which Luau allows
//! from any thread. The VM meets the interrupt at its next safepoint (a loop's back edge, a call, a return, each step of a
//! pattern). There the call notes the processor time that its thread has used so far, and from then on it looks after
//! itself: the interrupt stays armed, so that the call compares its clock with the limit at its safepoints, and raises an
//! error once the thread has used the limit; and again at each later safepoint, so that `pcall` cannot swallow it. So the
//! watchdog is needed once for a call. Where a machine has more work than processors, a watchdog that had to look again
//! would have to wait for one again, while the script has its own.
//!
//! The time is that of the thread's own clock: on a busy machine a thread can be put aside for longer than the limit in
//! the middle of a call of one microsecond. Reading it costs a system call, too much for the start of every call. That is
//! why the limit is measured from the first interrupt, at most one look of the watchdog later if it gets its turn.
//!
//! A call that starts costs one atomic store and one load, and reads no clock. An alarm names the call that it is for, so
//! one that fires late never kills the next call. The thread sleeps for good once no VM has been in a call for a second;
//! the next call wakes it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::raw::Interrupt;

/// How often the thread looks. A call is stopped at most one of these after its limit, and later if this thread has to
/// wait for a processor before it finds the call.
const TICK: Duration = Duration::from_millis(1);

/// How long all VMs must be idle before the thread sleeps for good.
const IDLE: Duration = Duration::from_secs(1);

/// What the watchdog and one VM share.
pub(super) struct Slot {
    /// The number of the call that runs, odd; the next even number while none does.
    call: AtomicU64,
    /// The number of the last call for which there was an alarm.
    alarmed: AtomicU64,
    /// How many safepoints may pass before the call looks at its clock. Written by the VM's thread, and set to none by the
    /// watchdog, so that a call whose safepoints have become rare looks at least at each tick.
    skip: AtomicU32,
    /// The number that the watchdog saw last.
    seen: AtomicU64,
    /// `None` once the VM is gone. The lock is held while the VM's memory is written to.
    interrupt: Mutex<Option<Interrupt>>,
}

impl Slot {
    /// A call starts. Pair with [`Slot::stop`].
    #[inline]
    pub(super) fn start(&self) -> u64 {
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
        // The order with the interrupt's own field decides whether an alarm can get lost: see `Interrupt::disarm`.
        self.alarmed.load(Ordering::SeqCst) == self.call.load(Ordering::Relaxed)
    }

    /// Whether this safepoint may pass without a look at the clock.
    #[inline]
    pub(super) fn skips(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            // Not one step: a look that the watchdog asks for in between waits for its next tick.
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip > 0
    }

    /// Lets so many safepoints pass.
    #[inline]
    pub(super) fn skip(&self, safepoints: u32) {
        self.skip.store(safepoints, Ordering::Relaxed);
    }

    fn alarm(&self, call: u64) {
        let interrupt = self.interrupt.lock();
        if let Some(interrupt) = interrupt.as_ref() {
            self.alarmed.store(call, Ordering::SeqCst);
            self.skip(0);
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
        let slot = Arc::new(Slot {
            call: AtomicU64::new(0),
            alarmed: AtomicU64::new(u64::MAX),
            skip: AtomicU32::new(0),
            seen: AtomicU64::new(0),
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

fn watch(watchdog: &Watchdog) -> ! {
    let mut busy = Instant::now();
    loop {
        let now = Instant::now();
        if look(watchdog) {
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
fn look(watchdog: &Watchdog) -> bool {
    let slots = watchdog.slots.lock();
    let mut active = false;
    for slot in slots.iter() {
        let call = slot.call.load(Ordering::Acquire);
        let running = call & 1 == 1;
        active |= running || slot.seen.swap(call, Ordering::Relaxed) != call;
        if running {
            slot.alarm(call);
        }
    }
    active
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::raw::{Call, Cause, Program, Running};
    use crate::policy::{Hook, candidate, sandbox, thread_time};
    use std::cell::RefCell;
    use std::sync::mpsc;

    /// Longest wait for anything, for a test that fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    const ENDLESS: &str = "return { request = function() while true do pcall(function() end) end end }";

    #[test]
    fn a_call_that_was_found_once_is_stopped_without_the_watchdog() {
        let limit = Duration::from_millis(50);
        let (watched, slots) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        thread::spawn(move || {
            let mut machine = sandbox::build(16 << 20).unwrap();
            let code = candidate::compile(ENDLESS.as_bytes(), &Arc::from("p.lua")).unwrap();
            let inputs = RefCell::default();
            let run = || Running::new(1, limit, &inputs);
            let program = Program { uid: 1, chunk: c"=endless", code: &code };
            let loaded = machine.load(&program, &run(), |_| Ok::<_, ()>(Vec::new()));
            assert!(matches!(loaded, Ok(Ok(()))));
            watched.send(Arc::clone(&machine.watched().slot)).unwrap();
            let before = thread_time();
            let fault = machine.call(Call::Hook(Hook::Request), &run(), |_| ()).unwrap().unwrap_err();
            ended.send((fault.cause, thread_time().saturating_sub(before))).unwrap();
        });
        let slot = slots.recv_timeout(PATIENCE).unwrap();
        let began = Instant::now();
        let found = loop {
            // Nobody is looked at while this is held.
            let held = WATCHDOG.wait().slots.lock();
            if slot.call.load(Ordering::Acquire) & 1 == 1 && slot.is_alarmed() {
                break held;
            }
            drop(held);
            assert!(began.elapsed() < PATIENCE, "the watchdog found no call");
            thread::sleep(TICK / 4);
        };
        let end = ends.recv_timeout(PATIENCE);
        drop(found);
        let (cause, used) = end.expect("an end without the watchdog");
        assert_eq!(cause, Cause::Time);
        assert!(used >= limit, "stopped after {used:?} of {limit:?}");
    }
}
