//! The only file with `unsafe`: the VM's C interface, wrapped so that everything else is safe Rust.
//!
//! What is behind the wall, and the rules that keep it sound:
//!
//! * **Who owns what.** A [`Machine`] owns one Luau VM and the [`Script`]s loaded into it. A machine never leaves its
//!   thread (it holds raw pointers, so it is neither `Send` nor `Sync`).
//! * **Errors are C++ exceptions.** Luau throws; mlua builds it so. The C functions below are `extern "C-unwind"`, so an
//!   exception may pass through their frames and runs destructors on its way. Everything that can throw (whatever
//!   allocates) happens inside `lua_pcall` or `lua_cpcall`.
//! * **Panics** must not happen in the C functions; they only call code that does not index or unwrap. `engine`
//!   throws a machine away if one passes through all the same.
//! * **What a script sees** of a request is reached through [`Running`], a thread-local pointer that is set for
//!   exactly as long as [`Machine::call`] or [`Machine::load`] is on the stack.
//! * **Reading results.** Values are read from the stack with calls that neither allocate nor run a metamethod, so the
//!   collector cannot run meanwhile and no string moves.
//!
//! A policy's Lua thread keeps these values at the bottom of its stack: the error handler, the hooks, the four
//! arguments that hooks receive, and `invoke`. Luau guarantees 20 slots; reading a result needs five more than those.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};
use std::{mem, ptr, slice};

use mlua::Lua;
use mlua::ffi::{self, lua_State};

use super::declare::LIBRARY;
use super::error::Hook;
use super::fields::{self, Answer, Map, Object};
use super::inputs::Inputs;
use super::library::{self, Given};
use super::normalize::Normalizer;
use super::query;
use super::sandbox::{self, Bound};
use super::view::{CacheView, EntryView, RequestView, ResponseView};
use super::watchdog::{Slot, Watched};

// === Running ===

/// Gives the chunk name and bytecode of a required module, or says why not.
pub(super) type Loader<'a> = dyn Fn(&str) -> Result<(Arc<CStr>, Arc<[u8]>), String> + 'a;

/// What the C functions may reach while a script runs.
pub(super) struct Running<'a> {
    /// Which policy runs. Objects made for another one answer with an error.
    pub(super) uid: u64,
    /// Longest time.
    pub(super) limit: Duration,
    pub(super) req: Option<&'a RequestView<'a>>,
    pub(super) res: Option<&'a ResponseView<'a>>,
    pub(super) entry: Option<&'a EntryView<'a>>,
    pub(super) cache: Option<&'a CacheView<'a>>,
    /// The argument of a normaliser.
    pub(super) field: Option<&'a [u8]>,
    /// Where reads are written down.
    pub(super) inputs: &'a RefCell<Inputs>,
    /// Set while a policy loads.
    pub(super) loader: Option<&'a Loader<'a>>,
    /// The clocks of this call, once there was an alarm for it.
    timer: Cell<Option<Timer>>,
    /// The call ran for too long: every safepoint raises from now on.
    expired: Cell<bool>,
    /// Where the last error left the script: file and line.
    position: RefCell<Option<(String, u32)>>,
    /// The number of this call, so that objects made in an earlier one are known.
    call: Cell<u64>,
    slot: Cell<*const Slot>,
}

impl<'a> Running<'a> {
    pub(super) fn new(uid: u64, limit: Duration, inputs: &'a RefCell<Inputs>) -> Self {
        Running {
            uid,
            limit,
            req: None,
            res: None,
            entry: None,
            cache: None,
            field: None,
            inputs,
            loader: None,
            timer: Cell::new(None),
            expired: Cell::new(false),
            position: RefCell::new(None),
            call: Cell::new(0),
            slot: Cell::new(ptr::null()),
        }
    }
}

thread_local! {
    static RUNNING: Cell<*const Running<'static>> = const { Cell::new(ptr::null()) };
}

/// What runs on this thread, if anything does.
///
/// # Safety
/// Only for C functions that a VM calls, which let the reference go before they return.
#[inline]
unsafe fn running<'f>() -> Option<&'f Running<'f>> {
    // SAFETY: the pointer is null except between the creation and the end of an `Entered`, whose maker keeps what it
    // points to; C functions run inside that span.
    unsafe { RUNNING.get().cast::<Running<'f>>().as_ref() }
}

/// Publishes a [`Running`] for as long as it lives.
struct Entered {
    before: *const Running<'static>,
    slot: *const Slot,
}

impl Entered {
    #[inline]
    fn new(run: &Running<'_>, slot: &Slot) -> Self {
        run.call.set(slot.start());
        run.slot.set(slot);
        let before = RUNNING.replace(ptr::from_ref(run).cast());
        Entered { before, slot }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        RUNNING.set(self.before);
        // SAFETY: the slot is that of the machine that is being called, which outlives the call.
        unsafe { &*self.slot }.stop();
    }
}

// === Interrupt ===

/// The place in a VM where the watchdog asks for its attention.
pub(super) struct Interrupt(*mut ffi::lua_Callbacks);

// SAFETY: `arm` is the only thing that other threads do, with an atomic store; Luau documents the field as writable from
// any thread.
unsafe impl Send for Interrupt {}

impl Interrupt {
    /// Makes the VM call [`on_interrupt`] at its safepoints. The machine must be alive: `Watched`, which every machine
    /// holds and drops first, sees to that.
    pub(super) fn arm(&self) {
        self.store(on_interrupt as *mut c_void);
    }

    /// Lets the VM run undisturbed, unless there is an alarm for the call that runs.
    fn disarm(&self, slot: &Slot) {
        self.store(ptr::null_mut());
        // An alarm is written before the interrupt is armed, all in one total order. So if what was just overwritten was
        // armed for the call that runs, its alarm is seen here.
        if slot.is_alarmed() {
            self.arm();
        }
    }

    fn store(&self, function: *mut c_void) {
        // SAFETY: the callbacks are part of a living VM (see `arm`; `disarm` is called by the VM itself); an optional
        // function pointer has the layout of a pointer, null for none, and the field is aligned.
        unsafe {
            let field = (&raw mut (*self.0).interrupt).cast::<*mut c_void>();
            AtomicPtr::from_ptr(field).store(function, Ordering::SeqCst);
        }
    }
}

/// Runs at a safepoint after the watchdog asked for it, and then at each one of the call: raises if the call has used up
/// its time.
unsafe extern "C-unwind" fn on_interrupt(state: *mut lua_State, gc: c_int) {
    // The collector must not be left by an exception.
    if gc >= 0 {
        return;
    }
    // SAFETY: Luau passes its own state; the slot is that of the machine that is being called, which is alive, and a
    // reference to it is let go before the machine is.
    unsafe {
        // Outside of a call, Luau meets no safepoint.
        let Some(run) = running() else { return };
        let Some(slot) = run.slot.get().as_ref() else { return };
        if slot.skips() {
            return;
        }
        match look(run, slot) {
            Look::InTime => {}
            Look::Over => {
                // A safepoint promises no stack space.
                ffi::lua_rawcheckstack(state, 3);
                raise(state, String::from("stopped: it ran for too long"));
            }
            // The alarm was for a call that ended.
            Look::NotAlarmed => Interrupt(ffi::lua_callbacks(state)).disarm(slot),
        }
    }
}

/// What a look at the clock found.
enum Look {
    NotAlarmed,
    InTime,
    Over,
}

/// The clocks of a call that the watchdog found.
#[derive(Clone, Copy)]
struct Timer {
    /// Processor time of this thread when the first safepoint saw the alarm.
    used: Duration,
    /// When the last look was.
    last: Instant,
    /// The thread cannot use up the limit before so much time has passed on the wall from `last` on.
    rest: Duration,
    /// How many safepoints pass between two looks.
    skip: u32,
}

/// Most safepoints that pass without a look at a clock: few enough for those that are far apart, since a library call
/// of milliseconds can lie between two, and enough to make the look, which costs ten rounds of an empty loop, cheap.
const MOST_SKIPPED: u32 = 31;

/// Looks are meant to be so far apart: far more than a look takes, far less than a limit.
const LOOK_AGAIN: Duration = Duration::from_micros(5);

/// Whether the call has used up its time, by the rule that `watchdog` tells.
///
/// A thread uses no more processor time than passes on the wall. So the wall's clock, which costs no system call, says
/// when the thread's has to be read: on a machine with processors to spare once, at the end.
#[cold]
fn look(run: &Running<'_>, slot: &Slot) -> Look {
    if run.expired.get() {
        return Look::Over;
    }
    if !slot.is_alarmed() {
        return Look::NotAlarmed;
    }
    let now = Instant::now();
    let Some(mut timer) = run.timer.get() else {
        run.timer.set(Some(Timer { used: thread_time(), last: now, rest: run.limit, skip: 0 }));
        return Look::InTime;
    };
    let passed = now.saturating_duration_since(timer.last);
    timer.last = now;
    timer.rest = timer.rest.saturating_sub(passed);
    if timer.rest.is_zero() {
        let used = thread_time().saturating_sub(timer.used);
        timer.rest = run.limit.saturating_sub(used);
        run.expired.set(timer.rest.is_zero());
    }
    if run.expired.get() {
        return Look::Over;
    }
    timer.skip = if passed > LOOK_AGAIN { timer.skip / 4 } else { (timer.skip * 2 + 1).min(MOST_SKIPPED) };
    run.timer.set(Some(timer));
    slot.skip(timer.skip);
    Look::InTime
}

/// Lets the next safepoint look at the clock, if the call is timed: before what may take long without one.
#[inline]
fn look_soon() {
    // SAFETY: called by C functions; neither reference is kept.
    if let Some(slot) = unsafe { running().and_then(|run| run.slot.get().as_ref()) } {
        slot.skip(0);
    }
}

/// Processor time that this thread has used: the clock by which a script's time is up. Unlike the wall's, it stands still
/// while a busy machine runs something else.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours. A failure, which the standard knows only for clocks that do not exist, leaves zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A safepoint of our own, for C functions that loop.
unsafe fn safepoint(state: *mut lua_State) {
    // SAFETY: a living state; the interrupt is `on_interrupt` or none.
    unsafe {
        let field = (&raw mut (*ffi::lua_callbacks(state)).interrupt).cast::<*mut c_void>();
        if !AtomicPtr::from_ptr(field).load(Ordering::Acquire).is_null() {
            on_interrupt(state, -1);
        }
    }
}

// === Faults ===

/// How a script failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    /// The error value, if it was text.
    pub(super) message: Vec<u8>,
    /// File and line of the innermost Lua function that was running.
    pub(super) position: Option<(String, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Raised,
    Time,
    Memory,
}

/// Takes the error value off the top of the stack.
unsafe fn take_fault(state: *mut lua_State, status: c_int, run: &Running<'_>) -> Fault {
    let cause = match status {
        _ if run.expired.get() => Cause::Time,
        ffi::LUA_ERRMEM => Cause::Memory,
        _ => Cause::Raised,
    };
    // SAFETY: a protected call that failed leaves the error value on the top; reading it allocates nothing.
    let message = unsafe {
        match read(state, -1, run) {
            Value::Text(text) => text.to_vec(),
            Value::Number(number) => number.to_string().into_bytes(),
            Value::Nil => b"the script raised nil; give error() a text".to_vec(),
            other => format!("the script raised a {}; give error() a text", other.kind()).into_bytes(),
        }
    };
    Fault { cause, message, position: run.position.take() }
}

/// Message handler of every protected call: writes down where the script is, and leaves the value alone.
unsafe extern "C-unwind" fn on_error(state: *mut lua_State) -> c_int {
    // SAFETY: `ar` is filled by `lua_getinfo` before it is read, its strings live as long as the function.
    unsafe {
        if let Some(run) = running() {
            for level in 1..64 {
                let mut ar = mem::zeroed::<ffi::lua_Debug>();
                if ffi::lua_getinfo(state, level, c"sl".as_ptr(), &mut ar) == 0 {
                    break;
                }
                if ar.currentline > 0 && !ar.short_src.is_null() {
                    let file = CStr::from_ptr(ar.short_src).to_string_lossy().into_owned();
                    if let Ok(mut position) = run.position.try_borrow_mut() {
                        *position = Some((file, ar.currentline as u32));
                    }
                    break;
                }
            }
        }
    }
    1
}

/// Raises a Lua error with the position of the function that called.
unsafe fn raise(state: *mut lua_State, message: String) -> ! {
    // SAFETY: a living state inside a protected call; the text is copied before the exception is thrown.
    unsafe {
        ffi::lua_rawcheckstack(state, 4);
        ffi::luaL_where(state, 1);
        push_bytes(state, message.as_bytes());
        drop(message);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}

/// Runs `f` where it may throw. What it leaves on the stack is dropped.
unsafe fn protect<F: FnOnce(*mut lua_State)>(state: *mut lua_State, f: F) -> Result<(), (c_int, Vec<u8>)> {
    unsafe extern "C-unwind" fn run<F: FnOnce(*mut lua_State)>(state: *mut lua_State) -> c_int {
        // SAFETY: `lua_cpcall` passes the pointer given below, which is alive and used once.
        unsafe {
            let f = ffi::lua_tolightuserdata(state, 1).cast::<Option<F>>();
            ffi::lua_settop(state, 0);
            if let Some(f) = (*f).take() {
                f(state);
            }
        }
        0
    }
    let mut f = Some(f);
    // SAFETY: `state` is alive; `f` outlives the call.
    unsafe {
        let top = ffi::lua_gettop(state);
        let status = ffi::lua_cpcall(state, run::<F>, (&raw mut f).cast());
        if status == ffi::LUA_OK {
            return Ok(());
        }
        let mut length = 0;
        let message = match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => {
                let text = ffi::lua_tolstring(state, -1, &mut length);
                slice::from_raw_parts(text.cast::<u8>(), length).to_vec()
            }
            _ => b"an error without a text".to_vec(),
        };
        ffi::lua_settop(state, top);
        Err((status, message))
    }
}

// === Pushing and reading ===

unsafe fn push_bytes(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: pointer and length are those of a slice.
    unsafe { ffi::lua_pushlstring_(state, bytes.as_ptr().cast(), bytes.len()) }
}

/// Pushes one answer.
unsafe fn push_answer(state: *mut lua_State, answer: Answer<'_>) {
    // SAFETY: called from C functions, which have at least 20 slots, inside a protected call.
    unsafe {
        match answer {
            Answer::Nil => ffi::lua_pushnil(state),
            Answer::Bool(b) => ffi::lua_pushboolean(state, c_int::from(b)),
            Answer::Number(n) => ffi::lua_pushnumber(state, n),
            Answer::Text(text) => push_bytes(state, text),
            Answer::Owned(text) => push_bytes(state, &text),
            Answer::List(list) => {
                ffi::lua_createtable(state, list.len().min(10_000) as c_int, 0);
                for (i, text) in list.iter().take(10_000).enumerate() {
                    push_bytes(state, text.as_bytes());
                    ffi::lua_rawseti_(state, -2, i as c_int + 1);
                }
                ffi::lua_setreadonly(state, -1, 1);
            }
            Answer::Normalizer(normalizer) => {
                let data = ffi::lua_newuserdatataggedwithmetatable(state, size_of::<Arc<Normalizer>>(), TAG_NORMALIZER);
                ptr::write(data.cast::<Arc<Normalizer>>(), Arc::new(normalizer));
            }
        }
    }
}

/// A Lua value, as far as decisions are made of it.
pub(super) enum Value<'r> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(&'r [u8]),
    Table(Table<'r>),
    /// A query object, as its text.
    Query(&'r [u8]),
    /// A query object of another call.
    Stale,
    Normalizer(&'r Arc<Normalizer>),
    Function,
    Other(&'static str),
}

impl Value<'_> {
    /// Its type, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::Table(_) => "table",
            Value::Query(_) | Value::Stale => "query",
            Value::Normalizer(_) => "normaliser",
            Value::Function => "function",
            Value::Other(kind) => kind,
        }
    }
}

/// A table on the stack of a script that is not running.
pub(super) struct Table<'r> {
    state: *mut lua_State,
    index: c_int,
    run: &'r Running<'r>,
}

impl<'r> Table<'r> {
    /// Calls `f` with the elements of a list in order, from 1. `false` if the table is no plain list, after any number of
    /// calls: then [`Table::each`] tells more.
    ///
    /// A table of `n` elements is walked by positions: first the array part, then the nodes of the hash part. If the
    /// elements are all there, and nothing is behind position `n`, then there is nothing else: whatever part of them is
    /// in the hash part would fill the nodes before that position alone, and push another entry behind it.
    #[inline]
    pub(super) fn list<E>(&self, mut f: impl FnMut(u32, Value<'_>) -> Result<(), E>) -> Result<bool, E> {
        // SAFETY: as in `each`; one slot is needed here and two for the look behind the end.
        unsafe {
            let top = ffi::lua_gettop(self.state);
            let length = ffi::lua_objlen_(self.state, self.index);
            if top > ffi::LUA_MINSTACK - 2 {
                return Ok(false);
            }
            // What an iteration finds from there on is not part of the list.
            let rest = ffi::lua_rawiter(self.state, self.index, length);
            ffi::lua_settop(self.state, top);
            if rest >= 0 {
                return Ok(false);
            }
            for i in 1..=length {
                if ffi::lua_rawgeti_(self.state, self.index, i) == ffi::LUA_TNIL {
                    ffi::lua_settop(self.state, top);
                    return Ok(false);
                }
                let outcome = f(i as u32, read(self.state, top + 1, self.run));
                ffi::lua_settop(self.state, top);
                outcome?;
            }
            Ok(true)
        }
    }

    /// Calls `f` with every key and value, without metamethods: array part first, in order.
    pub(super) fn each<E>(&self, mut f: impl FnMut(Value<'_>, Value<'_>) -> Result<(), E>) -> Result<(), E> {
        // SAFETY: the table stays at its index while `'r` lives. Two slots are needed; the guard keeps within the 20
        // that Luau guarantees however deep the caller nests. Nothing here allocates in the VM.
        unsafe {
            let top = ffi::lua_gettop(self.state);
            if top > ffi::LUA_MINSTACK - 2 {
                return Ok(());
            }
            let mut position = 0;
            let mut outcome = Ok(());
            while outcome.is_ok() {
                position = ffi::lua_rawiter(self.state, self.index, position);
                if position < 0 {
                    break;
                }
                outcome = f(read(self.state, top + 1, self.run), read(self.state, top + 2, self.run));
                ffi::lua_settop(self.state, top);
            }
            outcome
        }
    }
}

/// Reads the value at `index`, which must exist and stay there for `'r`.
unsafe fn read<'r>(state: *mut lua_State, index: c_int, run: &'r Running<'_>) -> Value<'r> {
    // SAFETY: by the caller; none of these calls allocates or converts.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TNIL | ffi::LUA_TNONE => Value::Nil,
            ffi::LUA_TBOOLEAN => Value::Bool(ffi::lua_toboolean(state, index) != 0),
            ffi::LUA_TNUMBER => Value::Number(ffi::lua_tonumber(state, index)),
            ffi::LUA_TSTRING => {
                let mut length = 0;
                let text = ffi::lua_tolstring(state, index, &mut length);
                Value::Text(slice::from_raw_parts(text.cast(), length))
            }
            ffi::LUA_TTABLE => Value::Table(Table { state, index: ffi::lua_absindex(state, index), run }),
            ffi::LUA_TFUNCTION => Value::Function,
            ffi::LUA_TUSERDATA => {
                let normalizer = ffi::lua_touserdatatagged(state, index, TAG_NORMALIZER);
                if let Some(normalizer) = normalizer.cast::<Arc<Normalizer>>().as_ref() {
                    return Value::Normalizer(normalizer);
                }
                match query_text(state, index, run) {
                    Some(Ok(text)) => Value::Query(text),
                    Some(Err(_)) => Value::Stale,
                    None => Value::Other("userdata"),
                }
            }
            ffi::LUA_TTHREAD => Value::Other("thread"),
            _ => Value::Other("value of another type"),
        }
    }
}

/// The arguments of a C function.
pub(super) struct Args<'a> {
    state: *mut lua_State,
    top: c_int,
    life: PhantomData<&'a ()>,
}

impl<'a> Args<'a> {
    unsafe fn of(state: *mut lua_State) -> Self {
        // SAFETY: by the caller, the state of a C function that runs.
        Args { state, top: unsafe { ffi::lua_gettop(state) }, life: PhantomData }
    }

    pub(super) fn count(&self) -> usize {
        self.top as usize
    }

    fn index(&self, i: usize) -> Option<c_int> {
        c_int::try_from(i).ok().filter(|i| (1..=self.top).contains(i))
    }

    /// Argument `i`, from 1.
    pub(super) fn get(&self, i: usize) -> Given<'a> {
        let Some(i) = self.index(i) else { return Given::Nil };
        // SAFETY: the index exists, and a string argument stays on the stack until the function returns.
        unsafe {
            match ffi::lua_type(self.state, i) {
                ffi::LUA_TNIL => Given::Nil,
                ffi::LUA_TBOOLEAN => Given::Bool,
                ffi::LUA_TNUMBER => Given::Number,
                ffi::LUA_TSTRING => {
                    let mut length = 0;
                    let text = ffi::lua_tolstring(self.state, i, &mut length);
                    Given::Text(slice::from_raw_parts(text.cast(), length))
                }
                other => {
                    let name = CStr::from_ptr(ffi::lua_typename(self.state, other));
                    Given::Other(name.to_str().unwrap_or("value"))
                }
            }
        }
    }

    /// Argument `i` as a C function would read a number, text converted.
    pub(super) fn number(&self, i: usize) -> Option<f64> {
        let i = self.index(i)?;
        let mut is = 0;
        // SAFETY: the index exists; the conversion does not allocate.
        let number = unsafe { ffi::lua_tonumberx(self.state, i, &mut is) };
        (is != 0).then_some(number)
    }

    /// Whether argument `i` is there and not nil or false.
    pub(super) fn is_true(&self, i: usize) -> bool {
        // SAFETY: the index exists.
        self.index(i).is_some_and(|i| unsafe { ffi::lua_toboolean(self.state, i) != 0 })
    }

    /// Whether argument `i` is missing or is the last position of the table in argument 1.
    pub(super) fn is_last(&self, i: usize) -> bool {
        self.index(i).is_none() || self.number(i).is_none_or(|n| n >= self.length(1) as f64)
    }

    /// Length of a text; 0 for anything else.
    pub(super) fn length_of_text(&self, i: usize) -> usize {
        let mut length = 0;
        if let Some(i) = self.index(i) {
            // SAFETY: the index exists; the length of what is not a string is set to 0.
            unsafe { ffi::lua_tolstringatom(self.state, i, &mut length, ptr::null_mut()) };
        }
        length
    }

    /// Length of a text or table; 0 for anything else.
    pub(super) fn length(&self, i: usize) -> usize {
        let Some(i) = self.index(i) else { return 0 };
        // SAFETY: the index exists; for these two types the length allocates nothing and runs no metamethod.
        unsafe {
            match ffi::lua_type(self.state, i) {
                ffi::LUA_TSTRING | ffi::LUA_TTABLE => ffi::lua_objlen(self.state, i),
                _ => 0,
            }
        }
    }
}

// === Objects that scripts see ===

const TAG_QUERY: c_int = 1;
const TAG_HEADERS: c_int = 2;
const TAG_NORMALIZER: c_int = 3;

/// Data of `headers` and `cookies` objects.
#[repr(C)]
struct MapData {
    uid: u64,
    map: Map,
}

/// Data of query objects; those that methods return carry their text behind it.
#[repr(C)]
struct QueryData {
    uid: u64,
    /// The call that made it, or 0 for `req.query` itself.
    call: u64,
    length: usize,
}

const STALE: &str =
    "used outside of its call: req, res, entry and what they hold are only valid in the call that got them";

/// `req.method` and its kin: `__index` of the tables that hooks receive. Upvalues: policy, object.
unsafe extern "C-unwind" fn index_object(state: *mut lua_State) -> c_int {
    // SAFETY: Luau calls it with object and key; the upvalues are those given in `push_object`.
    unsafe {
        let uid = ffi::lua_tolightuserdata(state, ffi::lua_upvalueindex(1)) as u64;
        let object = Object::from_number(ffi::lua_tonumber(state, ffi::lua_upvalueindex(2)) as u8);
        let Some(key) = text_at(state, 2) else {
            raise(state, format!("the fields of {} have names", object.as_str()));
        };
        match running().filter(|run| run.uid == uid) {
            Some(run) => match fields::object(run, object, key) {
                Ok(answer) => push_answer(state, answer),
                Err(message) => raise(state, message.unwrap_or_else(|| format!("{} is {STALE}", object.as_str()))),
            },
            None => raise(state, format!("{} is {STALE}", object.as_str())),
        }
    }
    1
}

/// `req.headers.accept` and its kin: `__index` of maps.
unsafe extern "C-unwind" fn index_map(state: *mut lua_State) -> c_int {
    // SAFETY: the tag proves what the data is.
    unsafe {
        let data = ffi::lua_touserdatatagged(state, 1, TAG_HEADERS).cast::<MapData>();
        let Some(data) = data.as_ref() else { raise(state, String::from("not a map of fields")) };
        let mut atom = -1;
        let mut length = 0;
        let key = ffi::lua_tolstringatom(state, 2, &mut length, &mut atom);
        if key.is_null() {
            raise(state, format!("{} is indexed by names", data.map.as_str()));
        }
        let key = slice::from_raw_parts(key.cast::<u8>(), length);
        match running().filter(|run| run.uid == data.uid) {
            Some(run) => match fields::map(run, data.map, key, atom) {
                Some(answer) => push_answer(state, answer),
                None => raise(state, format!("{} is {STALE}", data.map.as_str())),
            },
            None => raise(state, format!("{} is {STALE}", data.map.as_str())),
        }
    }
    1
}

/// The text of a query object; `None` if it is not one.
unsafe fn query_text<'r>(state: *mut lua_State, index: c_int, run: &Running<'r>) -> Option<Result<&'r [u8], ()>> {
    // SAFETY: the tag proves what the data is; the text behind it lives as long as the object, which the caller keeps
    // on the stack.
    unsafe {
        let data = ffi::lua_touserdatatagged(state, index, TAG_QUERY).cast::<QueryData>();
        let query = data.as_ref()?;
        if query.uid != run.uid {
            return Some(Err(()));
        }
        Some(match (query.call, run.req) {
            (0, Some(req)) => Ok(req.query.as_bytes()),
            (0, None) => Err(()),
            (call, _) if call == run.call.get() => Ok(slice::from_raw_parts(data.add(1).cast::<u8>(), query.length)),
            _ => Err(()),
        })
    }
}

/// The query object that a method or metamethod was called on: what runs, its text, and whether it is `req.query` itself.
unsafe fn query_self<'f>(state: *mut lua_State) -> (&'f Running<'f>, &'f [u8], bool) {
    // SAFETY: as in `query_text`; argument 1 stays on the stack.
    unsafe {
        let own =
            ffi::lua_touserdatatagged(state, 1, TAG_QUERY).cast::<QueryData>().as_ref().is_some_and(|q| q.call == 0);
        match running().map(|run| (run, query_text(state, 1, run))) {
            Some((run, Some(Ok(text)))) => (run, text, own),
            Some((_, None)) => raise(state, String::from("not a query; call its methods with a colon")),
            _ => raise(state, format!("req.query is {STALE}")),
        }
    }
}

/// `req.query.w`
unsafe extern "C-unwind" fn index_query(state: *mut lua_State) -> c_int {
    // SAFETY: as in `query_self`.
    unsafe {
        let (run, text, _) = query_self(state);
        let Some(key) = text_at(state, 2) else { raise(state, String::from("req.query is indexed by names")) };
        fields::note_query(run, key);
        match query::first(text, key) {
            Some(value) => push_bytes(state, value),
            None => ffi::lua_pushnil(state),
        }
    }
    1
}

/// `req.query:only(…)`, `:without(…)`, `:sorted()`
unsafe extern "C-unwind" fn call_query(state: *mut lua_State) -> c_int {
    // SAFETY: as in `query_self`; the new object is filled before it is used.
    unsafe {
        look_soon();
        let (run, text, own) = query_self(state);
        let method = ffi::lua_namecallatom(state, ptr::null_mut());
        let method = if method.is_null() { &[][..] } else { CStr::from_ptr(method).to_bytes() };
        match fields::query_method(run, own, method, text, &Args::of(state)) {
            Ok(text) => {
                let size = size_of::<QueryData>() + text.len();
                let data = ffi::lua_newuserdatataggedwithmetatable(state, size, TAG_QUERY).cast::<QueryData>();
                data.write(QueryData { uid: run.uid, call: run.call.get(), length: text.len() });
                ptr::copy_nonoverlapping(text.as_ptr(), data.add(1).cast(), text.len());
            }
            Err(message) => raise(state, message),
        }
    }
    1
}

/// `tostring(req.query)`
unsafe extern "C-unwind" fn query_tostring(state: *mut lua_State) -> c_int {
    // SAFETY: as in `query_self`.
    unsafe {
        let (run, text, own) = query_self(state);
        fields::note_whole_query(run, own);
        push_bytes(state, text);
    }
    1
}

/// `#req.query`: how many pairs.
unsafe extern "C-unwind" fn query_len(state: *mut lua_State) -> c_int {
    // SAFETY: as in `query_self`.
    unsafe {
        let (run, text, own) = query_self(state);
        fields::note_whole_query(run, own);
        ffi::lua_pushnumber(state, query::pairs(text).count() as f64);
    }
    1
}

/// A normaliser called as a function.
unsafe extern "C-unwind" fn call_normalizer(state: *mut lua_State) -> c_int {
    // SAFETY: the tag proves what the data is.
    unsafe {
        look_soon();
        let data = ffi::lua_touserdatatagged(state, 1, TAG_NORMALIZER).cast::<Arc<Normalizer>>();
        let Some(normalizer) = data.as_ref() else { raise(state, String::from("not a normaliser")) };
        match library::normalized(normalizer, &Args::of(state)) {
            Ok(answer) => push_answer(state, answer),
            Err(message) => raise(state, message),
        }
    }
    1
}

unsafe extern "C" fn drop_normalizer(_: *mut lua_State, data: *mut c_void) {
    // SAFETY: the collector calls it once for data with this tag, written in `push_answer`.
    unsafe { ptr::drop_in_place(data.cast::<Arc<Normalizer>>()) }
}

unsafe fn text_at<'f>(state: *mut lua_State, index: c_int) -> Option<&'f [u8]> {
    // SAFETY: called from C functions for their arguments, which stay on the stack until they return.
    unsafe {
        let mut length = 0;
        let text = ffi::lua_tolstringatom(state, index, &mut length, ptr::null_mut());
        (!text.is_null()).then(|| slice::from_raw_parts(text.cast::<u8>(), length))
    }
}

/// Luau asks once for each string that is used as a header's name which number it has.
unsafe extern "C-unwind" fn on_atom(_: *mut lua_State, text: *const c_char, length: usize) -> i16 {
    // SAFETY: Luau passes a string of its own.
    fields::atom(unsafe { slice::from_raw_parts(text.cast(), length) })
}

// === Library ===

/// Any function of `tidegate`. Upvalue: its place in the table.
unsafe extern "C-unwind" fn call_library(state: *mut lua_State) -> c_int {
    // SAFETY: the upvalue is given in `install`.
    unsafe {
        look_soon();
        let place = ffi::lua_tonumber(state, ffi::lua_upvalueindex(1)) as usize;
        let Some(function) = LIBRARY.get(place) else { raise(state, String::from("no such function")) };
        match (function.run)(&Args::of(state)) {
            Ok(answer) => push_answer(state, answer),
            Err(message) => raise(state, format!("tidegate.{}: {message}", function.name)),
        }
    }
    1
}

/// A library function of Luau with a bound before it. Upvalues: the function, the place of its bound.
unsafe extern "C-unwind" fn call_bounded(state: *mut lua_State) -> c_int {
    // SAFETY: the upvalues are given in `bound`; a light userdata of a C function is turned back into one.
    unsafe {
        look_soon();
        let place = ffi::lua_tonumber(state, ffi::lua_upvalueindex(2)) as usize;
        let function = ffi::lua_tolightuserdata(state, ffi::lua_upvalueindex(1));
        if let Some(spec) = sandbox::BOUNDED.get(place) {
            if let Err(message) = sandbox::within(spec.bound, &Args::of(state)) {
                raise(state, format!("{}.{}: {message}", spec.library, spec.name));
            }
            if spec.bound == Bound::Sort {
                wrap_comparison(state);
            }
        }
        mem::transmute::<*mut c_void, ffi::lua_CFunction>(function)(state)
    }
}

/// Puts a comparison with a safepoint in the place of `table.sort`'s second argument.
unsafe fn wrap_comparison(state: *mut lua_State) {
    // SAFETY: called by a C function with its arguments on the stack.
    unsafe {
        ffi::lua_settop(state, 2);
        match ffi::lua_type(state, 2) {
            ffi::LUA_TNIL => ffi::lua_pushcclosurek(state, less, ptr::null(), 0, None),
            ffi::LUA_TFUNCTION => {
                ffi::lua_pushvalue(state, 2);
                ffi::lua_pushcclosurek(state, compare, ptr::null(), 1, None);
            }
            // The function itself says what is wrong with its argument.
            _ => return,
        }
        ffi::lua_replace(state, 2);
    }
}

/// `a < b`, for `table.sort` without a comparison.
unsafe extern "C-unwind" fn less(state: *mut lua_State) -> c_int {
    // SAFETY: `table.sort` passes two values.
    unsafe {
        safepoint(state);
        let less = ffi::lua_lessthan(state, 1, 2);
        ffi::lua_pushboolean(state, less);
    }
    1
}

/// The comparison that `table.sort` was given. Upvalue: it.
unsafe extern "C-unwind" fn compare(state: *mut lua_State) -> c_int {
    // SAFETY: `table.sort` passes two values.
    unsafe {
        safepoint(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushvalue(state, 2);
        ffi::lua_call(state, 2, 1);
    }
    1
}

/// `table.find` with safepoints.
unsafe extern "C-unwind" fn table_find(state: *mut lua_State) -> c_int {
    // SAFETY: the arguments are checked before they are used; the loop needs one slot.
    unsafe {
        ffi::luaL_checktype(state, 1, ffi::LUA_TTABLE);
        ffi::luaL_checkany(state, 2);
        let start = ffi::luaL_optinteger_(state, 3, 1);
        if start < 1 {
            ffi::luaL_argerror(state, 3, c"index out of range".as_ptr());
        }
        ffi::lua_settop(state, 3);
        for i in start..c_int::MAX {
            if i % 256 == 0 {
                safepoint(state);
            }
            if ffi::lua_rawgeti_(state, 1, i) == ffi::LUA_TNIL {
                return 1;
            }
            if ffi::lua_rawequal(state, 2, -1) != 0 {
                ffi::lua_pushnumber(state, f64::from(i));
                return 1;
            }
            ffi::lua_settop(state, 3);
        }
        ffi::lua_pushnil(state);
    }
    1
}

/// `require(name)`. Upvalue: the modules of this policy so far; `false` marks one that is being loaded.
unsafe extern "C-unwind" fn require(state: *mut lua_State) -> c_int {
    // SAFETY: arguments are checked; the bytecode comes from our own compiler, by way of the loader.
    unsafe {
        let Some(loader) = running().and_then(|run| run.loader) else {
            raise(state, String::from("require works only while the policy is loaded; move it to the top of the file"));
        };
        let Some(name) = text_at(state, 1).and_then(|name| str::from_utf8(name).ok()) else {
            raise(state, String::from("require needs the name of a module as a string"));
        };
        let modules = ffi::lua_upvalueindex(1);
        ffi::lua_settop(state, 1);
        ffi::lua_pushvalue(state, 1);
        match ffi::lua_rawget(state, modules) {
            ffi::LUA_TNIL => {}
            ffi::LUA_TBOOLEAN => raise(
                state,
                format!(
                    "require({name:?}): the module is being loaded already; modules must not require each other in a circle"
                ),
            ),
            _ => return 1,
        }
        let (chunk, code) = match loader(name) {
            Ok(found) => found,
            Err(message) => raise(state, message),
        };
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushboolean(state, 0);
        ffi::lua_rawset(state, modules);
        let failed = ffi::luau_load(state, chunk.as_ptr(), code.as_ptr().cast(), code.len(), 0);
        drop((chunk, code));
        if failed != 0 {
            ffi::lua_error(state);
        }
        ffi::lua_call(state, 0, 1);
        if matches!(ffi::lua_type(state, -1), ffi::LUA_TNIL | ffi::LUA_TBOOLEAN) {
            raise(state, format!("require({name:?}): the module must return a value, such as a table of functions"));
        }
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushvalue(state, -2);
        ffi::lua_rawset(state, modules);
    }
    1
}

/// Calls its argument with the field that is being normalised.
unsafe extern "C-unwind" fn invoke(state: *mut lua_State) -> c_int {
    // SAFETY: called by `Machine::call` with one function.
    unsafe {
        match running().and_then(|run| run.field) {
            Some(field) => push_bytes(state, field),
            None => ffi::lua_pushnil(state),
        }
        ffi::lua_call(state, 1, 1);
    }
    1
}

// === Machine ===

const SLOT_HANDLER: c_int = 1;
const SLOT_HOOKS: c_int = 2;
const SLOT_OBJECTS: c_int = 6;
const SLOT_INVOKE: c_int = 10;
const BASE: c_int = 10;

fn hook_slot(hook: Hook) -> c_int {
    match hook {
        Hook::Request => SLOT_HOOKS,
        Hook::Response => SLOT_HOOKS + 1,
        Hook::Hit => SLOT_HOOKS + 2,
        Hook::Deliver => SLOT_HOOKS + 3,
        Hook::Load | Hook::Normalize => SLOT_INVOKE,
    }
}

/// A policy in a machine.
struct Script {
    uid: u64,
    thread: *mut lua_State,
    /// Keeps the thread alive.
    anchor: c_int,
    /// Functions of `normalize`, in the order in which they were asked for.
    normalizers: Vec<c_int>,
    /// File and line of each hook and normaliser.
    places: Vec<(Hook, Place)>,
    normalizer_places: Vec<Place>,
}

/// Where a function is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: u32,
}

/// One VM and the policies loaded into it.
pub(super) struct Machine {
    // First, so that the watchdog lets go before the VM is freed.
    watched: Watched,
    scripts: Vec<Script>,
    main: *mut lua_State,
    // Last: everything above points into it.
    lua: Lua,
}

/// What to call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Hook(Hook),
    /// A Lua function of `normalize`, by its place.
    Normalizer(usize),
}

/// A policy's bytecode.
pub(super) struct Program<'a> {
    pub(super) uid: u64,
    pub(super) chunk: &'a CStr,
    pub(super) code: &'a [u8],
}

impl Machine {
    /// Builds the sandbox into a fresh VM.
    pub(super) fn new(lua: Lua) -> Result<Machine, String> {
        // SAFETY: `lua` is a fresh VM that this machine now owns; the pointer lives as long as it.
        unsafe {
            let mut main = ptr::null_mut();
            lua.exec_raw::<()>((), |state| main = ffi::lua_mainthread(state)).map_err(|e| e.to_string())?;
            protect(main, |state| install(state)).map_err(|(_, e)| String::from_utf8_lossy(&e).into_owned())?;
            let callbacks = ffi::lua_callbacks(main);
            (*callbacks).useratom = Some(on_atom);
            let watched = Watched::new(Interrupt(callbacks)).map_err(|e| format!("cannot start the watchdog: {e}"))?;
            Ok(Machine { watched, scripts: Vec::new(), main, lua })
        }
    }

    /// The watch over this machine, for a test that stands in the watchdog's way.
    #[cfg(test)]
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The VM, for its memory settings.
    pub(super) fn lua(&self) -> &Lua {
        &self.lua
    }

    /// Whether a policy is loaded.
    #[inline]
    pub(super) fn holds(&self, uid: u64) -> bool {
        self.scripts.iter().any(|script| script.uid == uid)
    }

    /// Forgets every policy for which `keep` says no. Whether there was one.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) -> bool {
        let before = self.scripts.len();
        let main = self.main;
        self.scripts.retain(|script| {
            let keep = keep(script.uid);
            if !keep {
                // SAFETY: the references were made in this VM and are given back once; giving back allocates nothing.
                unsafe {
                    ffi::lua_settop(script.thread, 0);
                    for normalizer in &script.normalizers {
                        ffi::lua_unref(main, *normalizer);
                    }
                    ffi::lua_unref(main, script.anchor);
                }
            }
            keep
        });
        self.scripts.len() < before
    }

    /// Loads a policy and runs its top level. `inspect` is shown what it returned and says which header fields have Lua
    /// functions as normalisers, by their keys in `normalize`.
    pub(super) fn load<E>(
        &mut self,
        program: &Program<'_>,
        run: &Running<'_>,
        inspect: impl FnOnce(Value<'_>) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Result<(), E>, Fault> {
        let fault = |(status, message): (c_int, Vec<u8>)| Fault {
            cause: if status == ffi::LUA_ERRMEM { Cause::Memory } else { Cause::Raised },
            message,
            position: None,
        };
        self.retain(|uid| uid != program.uid);
        let (mut thread, mut anchor) = (ptr::null_mut(), ffi::LUA_NOREF);
        // SAFETY: the main state is alive and idle. What is moved to the new thread fits into its guaranteed slots.
        unsafe {
            protect(self.main, |state| {
                let new = ffi::lua_newthread(state);
                let reference = ffi::lua_ref(state, -1);
                (thread, anchor) = (new, reference);
                ffi::lua_settop(state, 0);
                ffi::lua_pushcclosurek(state, on_error, c"on_error".as_ptr(), 0, None);
                for _ in Hook::FUNCTIONS {
                    ffi::lua_pushnil(state);
                }
                for object in Object::ALL {
                    push_object(state, program.uid, object);
                }
                ffi::lua_pushcclosurek(state, invoke, c"invoke".as_ptr(), 0, None);
                ffi::lua_xmove(state, new, BASE);
            })
            .map_err(|e| {
                if anchor != ffi::LUA_NOREF {
                    ffi::lua_unref(self.main, anchor);
                }
                fault(e)
            })?;
        }
        // From here on the script is known, so that an early return below frees it with the next `retain`.
        self.scripts.push(Script {
            uid: program.uid,
            thread,
            anchor,
            normalizers: Vec::new(),
            places: Vec::new(),
            normalizer_places: Vec::new(),
        });
        let outcome = self.run_top_level(thread, program, run, inspect);
        if !matches!(outcome, Ok(Ok(()))) {
            self.retain(|uid| uid != program.uid);
        }
        outcome.map_err(|e| match e {
            Failed::Setup(e) => fault(e),
            Failed::Script(fault) => fault,
        })
    }

    fn run_top_level<E>(
        &mut self,
        thread: *mut lua_State,
        program: &Program<'_>,
        run: &Running<'_>,
        inspect: impl FnOnce(Value<'_>) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Result<(), E>, Failed> {
        let mut chunk = ffi::LUA_NOREF;
        // SAFETY: the thread is alive (anchored) and idle; the bytecode comes from our own compiler.
        unsafe {
            protect(thread, |state| {
                ffi::luaL_sandboxthread(state);
                ffi::lua_createtable(state, 0, 0);
                ffi::lua_pushcclosurek(state, require, c"require".as_ptr(), 1, None);
                ffi::lua_setfield(state, ffi::LUA_GLOBALSINDEX, c"require".as_ptr());
                let code = program.code;
                if ffi::luau_load(state, program.chunk.as_ptr(), code.as_ptr().cast(), code.len(), 0) != 0 {
                    ffi::lua_error(state);
                }
                chunk = ffi::lua_ref(state, -1);
            })
            .map_err(Failed::Setup)?;
            ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, chunk);
            ffi::lua_unref(thread, chunk);
            self.finish(thread, 0, run).map_err(Failed::Script)?;
            let inspected = inspect(read(thread, BASE + 1, run));
            let keys = match inspected {
                Ok(keys) => keys,
                Err(e) => {
                    ffi::lua_settop(thread, BASE);
                    return Ok(Err(e));
                }
            };
            let Some(script) = self.scripts.last_mut() else { return Ok(Ok(())) };
            let kept = protect(self.main, |state| keep_functions(state, script, &keys));
            ffi::lua_settop(thread, BASE);
            kept.map_err(Failed::Setup)?;
            // From now on an assignment to a global is an error.
            ffi::lua_setreadonly(thread, ffi::LUA_GLOBALSINDEX, 1);
        }
        Ok(Ok(()))
    }

    /// Runs the function and its `arguments` on top of the stack; leaves its one result there.
    #[inline]
    unsafe fn finish(&self, thread: *mut lua_State, arguments: c_int, run: &Running<'_>) -> Result<(), Fault> {
        // SAFETY: by the caller; the handler is at its slot.
        unsafe {
            let entered = Entered::new(run, self.watched.slot());
            let status = ffi::lua_pcall(thread, arguments, 1, SLOT_HANDLER);
            drop(entered);
            if status == ffi::LUA_OK {
                return Ok(());
            }
            let fault = take_fault(thread, status, run);
            ffi::lua_settop(thread, BASE);
            Err(fault)
        }
    }

    /// Calls a function of a loaded policy and reads what it returned. `None` if the policy is not loaded.
    #[inline]
    pub(super) fn call<R>(
        &mut self,
        call: Call,
        run: &Running<'_>,
        decode: impl FnOnce(Value<'_>) -> R,
    ) -> Option<Result<R, Fault>> {
        let script = self.scripts.iter().find(|script| script.uid == run.uid)?;
        let thread = script.thread;
        // SAFETY: the thread is alive, idle, and has its values at their slots; at most five are pushed.
        unsafe {
            let arguments = match call {
                Call::Hook(hook) => {
                    ffi::lua_pushvalue(thread, hook_slot(hook));
                    let objects: &[Object] = match hook {
                        Hook::Request => &[Object::Req],
                        Hook::Response => &[Object::Req, Object::Res],
                        Hook::Hit => &[Object::Req, Object::Entry],
                        Hook::Deliver => &[Object::Req, Object::Res, Object::Cache],
                        Hook::Load | Hook::Normalize => &[],
                    };
                    for object in objects {
                        ffi::lua_pushvalue(thread, SLOT_OBJECTS + *object as c_int);
                    }
                    objects.len() as c_int
                }
                Call::Normalizer(place) => {
                    ffi::lua_pushvalue(thread, SLOT_INVOKE);
                    let reference = script.normalizers.get(place).copied().unwrap_or(ffi::LUA_REFNIL);
                    ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, reference);
                    1
                }
            };
            if let Err(fault) = self.finish(thread, arguments, run) {
                return Some(Err(fault));
            }
            let result = decode(read(thread, BASE + 1, run));
            ffi::lua_settop(thread, BASE);
            Some(Ok(result))
        }
    }

    /// Where the function that `call` calls is defined.
    pub(super) fn place(&self, uid: u64, call: Call) -> Option<&Place> {
        let script = self.scripts.iter().find(|script| script.uid == uid)?;
        match call {
            Call::Hook(hook) => script.places.iter().find(|(h, _)| *h == hook).map(|(_, place)| place),
            Call::Normalizer(place) => script.normalizer_places.get(place),
        }
    }
}

enum Failed {
    Setup((c_int, Vec<u8>)),
    Script(Fault),
}

/// Moves the hooks of the table on top of the script's stack to their slots, and anchors its normalisers.
unsafe fn keep_functions(state: *mut lua_State, script: &mut Script, keys: &[Vec<u8>]) {
    // SAFETY: runs protected on the main state; the script's thread is idle with the table on top.
    unsafe {
        ffi::lua_xpush(script.thread, state, -1);
        for hook in Hook::FUNCTIONS {
            push_bytes(state, hook.as_str().as_bytes());
            if ffi::lua_rawget(state, 1) == ffi::LUA_TFUNCTION {
                script.places.push((hook, place_of(state)));
                ffi::lua_xmove(state, script.thread, 1);
                ffi::lua_replace(script.thread, hook_slot(hook));
            }
            ffi::lua_settop(state, 1);
        }
        push_bytes(state, b"normalize");
        ffi::lua_rawget(state, 1);
        for key in keys {
            push_bytes(state, key);
            ffi::lua_rawget(state, 2);
            script.normalizer_places.push(place_of(state));
            script.normalizers.push(ffi::lua_ref(state, -1));
            ffi::lua_settop(state, 2);
        }
    }
}

/// Where the function on top of the stack is defined.
unsafe fn place_of(state: *mut lua_State) -> Place {
    // SAFETY: `ar` is filled before it is read.
    unsafe {
        let mut ar = mem::zeroed::<ffi::lua_Debug>();
        if ffi::lua_getinfo(state, -1, c"s".as_ptr(), &mut ar) == 0 || ar.short_src.is_null() {
            return Place { file: String::new(), line: 0 };
        }
        let file = CStr::from_ptr(ar.short_src).to_string_lossy().into_owned();
        Place { file, line: u32::try_from(ar.linedefined).unwrap_or(0) }
    }
}

/// Pushes one of the tables that hooks receive.
unsafe fn push_object(state: *mut lua_State, uid: u64, object: Object) {
    // SAFETY: runs protected; pushes at most five values.
    unsafe {
        ffi::lua_createtable(state, 0, 3);
        for map in Map::ALL.into_iter().filter(|map| map.object() == object) {
            let data = ffi::lua_newuserdatataggedwithmetatable(state, size_of::<MapData>(), TAG_HEADERS);
            data.cast::<MapData>().write(MapData { uid, map });
            set_field(state, map.field());
        }
        if object == Object::Req {
            let data = ffi::lua_newuserdatataggedwithmetatable(state, size_of::<QueryData>(), TAG_QUERY);
            data.cast::<QueryData>().write(QueryData { uid, call: 0, length: 0 });
            set_field(state, "query");
        }
        ffi::lua_createtable(state, 0, 3);
        ffi::lua_pushlightuserdatatagged(state, uid as usize as *mut c_void, 0);
        ffi::lua_pushnumber(state, f64::from(object as u8));
        ffi::lua_pushcclosurek(state, index_object, c"__index".as_ptr(), 2, None);
        set_field(state, "__index");
        lock_metatable(state, object.as_str());
        ffi::lua_setmetatable(state, -2);
        ffi::lua_setreadonly(state, -1, 1);
    }
}

/// Sets the value on top of the stack as a field of the table below it.
unsafe fn set_field(state: *mut lua_State, name: &str) {
    // SAFETY: runs protected, with a table below the top.
    unsafe {
        push_bytes(state, name.as_bytes());
        ffi::lua_insert(state, -2);
        ffi::lua_rawset(state, -3);
    }
}

/// Hides the metatable on top of the stack from scripts, and gives it a name.
unsafe fn lock_metatable(state: *mut lua_State, name: &str) {
    // SAFETY: runs protected, with a table on top.
    unsafe {
        push_bytes(state, b"locked");
        set_field(state, "__metatable");
        push_bytes(state, name.as_bytes());
        set_field(state, "__type");
        ffi::lua_setreadonly(state, -1, 1);
    }
}

/// Bounds the libraries, adds ours, makes the metatables, and closes the sandbox.
unsafe fn install(state: *mut lua_State) {
    type Method = (&'static str, ffi::lua_CFunction);
    // SAFETY: runs protected on a fresh VM.
    unsafe {
        for (place, spec) in sandbox::BOUNDED.iter().enumerate() {
            bound(state, place, spec.library, spec.name);
        }
        push_bytes(state, b"table");
        ffi::lua_rawget(state, ffi::LUA_GLOBALSINDEX);
        ffi::lua_pushcclosurek(state, table_find, c"find".as_ptr(), 0, None);
        set_field(state, "find");
        // `unpack` is an alias, to be bounded as well.
        push_bytes(state, b"unpack");
        ffi::lua_rawget(state, -2);
        ffi::lua_setfield(state, ffi::LUA_GLOBALSINDEX, c"unpack".as_ptr());
        ffi::lua_settop(state, 0);

        ffi::lua_createtable(state, 0, LIBRARY.len() as c_int);
        for (place, function) in LIBRARY.iter().enumerate() {
            let name = CString::new(function.name).unwrap_or_default();
            ffi::lua_pushnumber(state, place as f64);
            ffi::lua_pushcclosurek(state, call_library, name.as_ptr(), 1, None);
            set_field(state, function.name);
        }
        ffi::lua_setfield(state, ffi::LUA_GLOBALSINDEX, c"tidegate".as_ptr());

        let query: &[Method] = &[
            ("__index", index_query),
            ("__namecall", call_query),
            ("__tostring", query_tostring),
            ("__len", query_len),
        ];
        let kinds: [(c_int, &str, &[Method]); 3] = [
            (TAG_QUERY, "query", query),
            (TAG_HEADERS, "headers", &[("__index", index_map)]),
            (TAG_NORMALIZER, "normaliser", &[("__call", call_normalizer)]),
        ];
        for (tag, name, methods) in kinds {
            ffi::lua_createtable(state, 0, 6);
            for (method, function) in methods {
                let debug_name = CString::new(*method).unwrap_or_default();
                ffi::lua_pushcclosurek(state, *function, debug_name.as_ptr(), 0, None);
                set_field(state, method);
            }
            lock_metatable(state, name);
            ffi::lua_setuserdatametatable(state, tag);
        }
        ffi::lua_setuserdatadtor(state, TAG_NORMALIZER, Some(drop_normalizer));
        ffi::luaL_sandbox_(state);
    }
}

/// Replaces a library function by `call_bounded` around it.
unsafe fn bound(state: *mut lua_State, place: usize, library: &str, name: &str) {
    // SAFETY: runs protected; the library exists, and so does its function, or nothing is done.
    unsafe {
        let top = ffi::lua_gettop(state);
        push_bytes(state, library.as_bytes());
        if ffi::lua_rawget(state, ffi::LUA_GLOBALSINDEX) == ffi::LUA_TTABLE {
            push_bytes(state, name.as_bytes());
            ffi::lua_rawget(state, -2);
            if let Some(function) = ffi::lua_tocfunction(state, -1) {
                let debug_name = CString::new(name).unwrap_or_default();
                ffi::lua_pushlightuserdatatagged(state, function as *mut c_void, 0);
                ffi::lua_pushnumber(state, place as f64);
                ffi::lua_pushcclosurek(state, call_bounded, debug_name.as_ptr(), 2, None);
                ffi::lua_remove(state, -2);
                set_field(state, name);
            }
        }
        ffi::lua_settop(state, top);
    }
}
