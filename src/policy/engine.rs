//! Calls policies. Every thread has its own VM, built when it first needs one.
//!
//! A call is synchronous and short: it looks the policy up in this thread's VM (loading its bytecode if this version has
//! not been called here before), publishes the views, calls the Lua function under the watchdog's eye, and reads the
//! returned table. Nothing of Lua's outlives the call.

use std::borrow::Cow;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::candidate::{self, Code, Reduction};
use super::decision::{DeliverDecision, HitDecision, RequestDecision, ResponseDecision};
use super::decode;
use super::error::{ErrorKind, Hook, PolicyError};
use super::fields;
use super::inputs::{Input, Inputs};
use super::raw::{Call, Cause, Fault, Machine, Running, Value};
use super::sandbox;
use super::set::Policy;
use super::view::{CacheView, EntryView, RequestView, ResponseView};
use crate::config::PolicyLimits;

/// Fields that a policy normalises, with what they become; `None` means absent.
pub type Normalized = SmallVec<[(HeaderName, Option<HeaderValue>); 4]>;

/// Asks `request` what it wants. Without such a function, nothing is entered and the default comes back.
pub fn call_request(policy: &Policy, req: &RequestView<'_>) -> Result<RequestDecision, PolicyError> {
    let views = Views { req: Some(req), ..Views::default() };
    call(policy, Hook::Request, views, decode::request)
}

/// Asks `response` how an answer of the origin is to be kept.
pub fn call_response(
    policy: &Policy,
    req: &RequestView<'_>,
    res: &ResponseView<'_>,
) -> Result<ResponseDecision, PolicyError> {
    let views = Views { req: Some(req), res: Some(res), ..Views::default() };
    call(policy, Hook::Response, views, decode::response)
}

/// Asks `hit` about a stored entry that is about to be served.
pub fn call_hit(policy: &Policy, req: &RequestView<'_>, entry: &EntryView<'_>) -> Result<HitDecision, PolicyError> {
    let views = Views { req: Some(req), entry: Some(entry), ..Views::default() };
    call(policy, Hook::Hit, views, decode::hit)
}

/// Asks `deliver` which fields to set or remove on the way out.
pub fn call_deliver(
    policy: &Policy,
    req: &RequestView<'_>,
    res: &ResponseView<'_>,
    cache: &CacheView<'_>,
) -> Result<DeliverDecision, PolicyError> {
    let views = Views { req: Some(req), res: Some(res), cache: Some(cache), ..Views::default() };
    call(policy, Hook::Deliver, views, decode::deliver)
}

/// Reduces every header field that the policy normalises. Native normalisers do not enter the VM.
pub fn normalize(policy: &Policy, headers: &HeaderMap) -> Result<Normalized, PolicyError> {
    let mut all = Normalized::new();
    let Some(code) = policy.code() else {
        forget_inputs();
        return policy.unavailable().map_or(Ok(all), Err);
    };
    for (name, reduction) in &code.normalize {
        let field = fields::joined(headers, name);
        let value = match reduction {
            Reduction::Native(normalizer) => match normalizer.reduce(field.as_deref()) {
                None => None,
                Some(reduced) => match decode::header_value(&reduced) {
                    Some(value) => Some(value),
                    None => {
                        forget_inputs();
                        let message = format!("normalize[{:?}] made an invalid field value", name.as_str());
                        return Err(PolicyError::new(
                            policy.shared_file(),
                            Hook::Normalize,
                            ErrorKind::Decision,
                            message,
                        ));
                    }
                },
            },
            Reduction::Lua(place) => {
                let views = Views { field: field.as_ref().map(Cow::as_ref), ..Views::default() };
                let decode = |value: Value<'_>| decode::normalized(name.as_str(), value);
                run(policy, code, Hook::Normalize, Call::Normalizer(*place), views, decode)?
            }
        };
        all.push((name.clone(), value));
    }
    Ok(all)
}

/// What the last call on this thread read. Taking it leaves nothing behind.
pub fn take_inputs() -> Vec<Input> {
    ENGINE
        .try_with(|engine| engine.inputs.try_borrow_mut().map(|mut inputs| inputs.take()).unwrap_or_default())
        .unwrap_or_default()
}

/// A call that runs nothing reads nothing; what another request's call read is not its own.
fn forget_inputs() {
    let _ = ENGINE.try_with(|engine| engine.inputs.try_borrow_mut().map(|mut inputs| inputs.clear()));
}

/// Bytes that this thread's VM holds; 0 if it has none.
pub fn used_memory() -> usize {
    let used = |engine: &Engine| engine.vm.try_borrow().ok()?.as_ref().map(|vm| vm.machine.lua().used_memory());
    ENGINE.try_with(used).ok().flatten().unwrap_or(0)
}

// === One thread's VM ===

struct Engine {
    vm: RefCell<Option<Vm>>,
    inputs: RefCell<Inputs>,
}

struct Vm {
    machine: Machine,
    /// The limit that was set, in bytes.
    memory: u64,
    calls: u32,
    loaded: Vec<Loaded>,
}

/// A policy that was loaded into the machine.
struct Loaded {
    uid: u64,
    /// All versions of one policy have the same.
    family: u64,
    code: Weak<Code>,
}

thread_local! {
    static ENGINE: Engine = const { Engine { vm: RefCell::new(None), inputs: RefCell::new(Inputs::new()) } };
}

#[derive(Default, Clone, Copy)]
struct Views<'a> {
    req: Option<&'a RequestView<'a>>,
    res: Option<&'a ResponseView<'a>>,
    entry: Option<&'a EntryView<'a>>,
    cache: Option<&'a CacheView<'a>>,
    field: Option<&'a [u8]>,
}

#[inline]
fn call<R: Default>(
    policy: &Policy,
    hook: Hook,
    views: Views<'_>,
    decode: impl FnOnce(Value<'_>) -> Result<R, String>,
) -> Result<R, PolicyError> {
    let Some(code) = policy.code() else {
        forget_inputs();
        return policy.unavailable().map_or_else(|| Ok(R::default()), Err);
    };
    if !code.has(hook) {
        forget_inputs();
        return Ok(R::default());
    }
    run(policy, code, hook, Call::Hook(hook), views, decode)
}

/// How often a VM's memory is looked at, in calls.
const LOOK_AT_MEMORY: u32 = 128;

fn run<R>(
    policy: &Policy,
    code: &Arc<Code>,
    hook: Hook,
    call: Call,
    views: Views<'_>,
    decode: impl FnOnce(Value<'_>) -> Result<R, String>,
) -> Result<R, PolicyError> {
    let counters = policy.counters();
    counters.called();
    let failed = |message: String| PolicyError::new(policy.shared_file(), hook, ErrorKind::Runtime, message);
    let attempt = || {
        ENGINE.try_with(|engine| {
            let Ok(mut vm) = engine.vm.try_borrow_mut() else {
                return Err(failed(String::from("a policy cannot call a policy")));
            };
            enter(engine, &mut vm, policy, code, hook, call, views, decode)
        })
    };
    let result = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(failed(String::from("the thread is ending"))),
        Err(_) => {
            // Luau's own frames were skipped, so its state cannot be trusted, not even to be freed.
            let _ = ENGINE.try_with(|engine| engine.vm.try_borrow_mut().map(|mut vm| std::mem::forget(vm.take())));
            Err(failed(String::from("the engine failed; please report this")))
        }
    };
    if result.is_err() {
        counters.failed();
    }
    result
}

#[inline]
#[expect(clippy::too_many_arguments, reason = "the one place where a call's parts meet")]
fn enter<R>(
    engine: &Engine,
    vm: &mut Option<Vm>,
    policy: &Policy,
    code: &Arc<Code>,
    hook: Hook,
    call: Call,
    views: Views<'_>,
    decode: impl FnOnce(Value<'_>) -> Result<R, String>,
) -> Result<R, PolicyError> {
    let limits = policy.limits();
    if let Ok(mut inputs) = engine.inputs.try_borrow_mut() {
        inputs.clear();
    }
    let thread_vm = ready(engine, vm, policy, code)?;
    let mut run = Running::new(code.uid, limits.time, &engine.inputs);
    (run.req, run.res, run.entry, run.cache, run.field) = (views.req, views.res, views.entry, views.cache, views.field);
    let outcome = thread_vm.machine.call(call, &run, decode);
    let result = match outcome {
        Some(Ok(Ok(decision))) => Ok(decision),
        Some(Ok(Err(problem))) => {
            let place = thread_vm.machine.place(code.uid, call);
            let file = place.and_then(|place| code.files.iter().find(|file| ***file == *place.file));
            let line = place.map(|place| place.line).filter(|line| *line > 0);
            let file = file.unwrap_or_else(|| policy.shared_file());
            Err(PolicyError::new(file, hook, ErrorKind::Decision, problem).at(line))
        }
        Some(Err(fault)) => {
            let error = explain(policy.shared_file(), &code.files, hook, limits, limits.time, fault);
            if error.kind == ErrorKind::Memory {
                // A policy that fills the memory must not starve the others: start afresh.
                *vm = None;
                return Err(error);
            }
            Err(error)
        }
        None => Err(PolicyError::new(policy.shared_file(), hook, ErrorKind::Runtime, "the policy is not loaded")),
    };
    thread_vm.calls = thread_vm.calls.wrapping_add(1);
    if thread_vm.calls % LOOK_AT_MEMORY == 0 && is_bloated(thread_vm) {
        *vm = None;
    }
    result
}

/// Whether a VM stays close to its limit even after its garbage is gone: some policy keeps what it should not.
fn is_bloated(vm: &Vm) -> bool {
    let limit = vm.memory.max(1 << 20) / 4 * 3;
    let lua = vm.machine.lua();
    if (lua.used_memory() as u64) < limit {
        return false;
    }
    lua.gc_collect().is_err() || lua.used_memory() as u64 >= limit
}

/// This thread's VM, with the policy loaded.
#[inline]
fn ready<'v>(
    engine: &Engine,
    vm: &'v mut Option<Vm>,
    policy: &Policy,
    code: &Arc<Code>,
) -> Result<&'v mut Vm, PolicyError> {
    let is_ready = vm.as_ref().is_some_and(|vm| vm.memory == policy.limits().memory && vm.machine.holds(code.uid));
    if !is_ready {
        prepare(engine, vm, policy, code)?;
    }
    match vm {
        Some(vm) => Ok(vm),
        None => Err(PolicyError::new(policy.shared_file(), Hook::Load, ErrorKind::Load, "there is no VM")),
    }
}

#[cold]
fn prepare(engine: &Engine, slot: &mut Option<Vm>, policy: &Policy, code: &Arc<Code>) -> Result<(), PolicyError> {
    let limits = policy.limits();
    let broken = |message: String| PolicyError::new(policy.shared_file(), Hook::Load, ErrorKind::Load, message);
    let vm = match slot {
        Some(vm) => vm,
        None => {
            let machine = sandbox::build(limits.memory).map_err(broken)?;
            slot.insert(Vm { machine, memory: limits.memory, calls: 0, loaded: Vec::new() })
        }
    };
    if vm.memory != limits.memory {
        sandbox::set_memory_limit(&vm.machine, limits.memory).map_err(broken)?;
        vm.memory = limits.memory;
    }
    if vm.machine.holds(code.uid) {
        return Ok(());
    }
    // Versions that this one replaces and policies that nobody can call any more go, and their memory with them.
    vm.loaded.retain(|loaded| loaded.family != policy.family() && loaded.code.strong_count() > 0);
    let loaded = &vm.loaded;
    if vm.machine.retain(|uid| loaded.iter().any(|loaded| loaded.uid == uid)) {
        let _ = vm.machine.lua().gc_collect();
    }
    let loader = |name: &str| code.module(name);
    let mut run = Running::new(code.uid, candidate::load_time(limits), &engine.inputs);
    run.loader = Some(&loader);
    let loading =
        vm.machine.load(&code.program(), &run, |value| candidate::inspect(value).map(|shape| shape.lua_keys()));
    match loading {
        Ok(Ok(())) => {
            vm.loaded.push(Loaded { uid: code.uid, family: policy.family(), code: Arc::downgrade(code) });
            Ok(())
        }
        Ok(Err(_)) => Err(broken(String::from("the file returned another table than when it was checked"))),
        Err(fault) => {
            let time = candidate::load_time(limits);
            let error = explain(policy.shared_file(), &code.files, Hook::Load, limits, time, fault);
            if error.kind == ErrorKind::Memory {
                *slot = None;
            }
            Err(error)
        }
    }
}

/// Turns a fault into what its author should read.
pub(super) fn explain(
    file: &Arc<str>,
    files: &[Arc<str>],
    hook: Hook,
    limits: &PolicyLimits,
    time: Duration,
    fault: Fault,
) -> PolicyError {
    let (prefix, message) = split_position(files, &fault.message);
    let (file, line) = match (prefix, &fault.position) {
        (Some((file, line)), _) => (file, Some(line)),
        (None, Some((name, line))) => (files.iter().find(|file| ***file == **name).unwrap_or(file), Some(*line)),
        (None, None) => (file, None),
    };
    let (kind, message) = match fault.cause {
        Cause::Time => (
            ErrorKind::Time,
            format!("stopped: it ran for longer than {}", humantime::format_duration(time)).into_bytes(),
        ),
        Cause::Memory => (ErrorKind::Memory, out_of_memory(limits)),
        // A script can catch the error and raise it again.
        Cause::Raised if message == b"not enough memory" => (ErrorKind::Memory, out_of_memory(limits)),
        Cause::Raised if message.ends_with(b"attempt to modify a readonly table") => {
            let hint: &[u8] = b": globals, libraries and what a hook receives cannot be changed; use a local variable";
            (ErrorKind::Runtime, [message, hint].concat())
        }
        Cause::Raised => (ErrorKind::Runtime, message.to_vec()),
    };
    PolicyError::new(file, hook, kind, message).at(line)
}

fn out_of_memory(limits: &PolicyLimits) -> Vec<u8> {
    let memory = bytesize::ByteSize(limits.memory).display().iec();
    format!("stopped: it needed more than {memory} of memory (policies.limits.memory)").into_bytes()
}

/// Splits `policies/media.lua:7: message`, if the file is one of the policy's.
fn split_position<'f, 'm>(files: &'f [Arc<str>], message: &'m [u8]) -> (Option<(&'f Arc<str>, u32)>, &'m [u8]) {
    for file in files {
        let Some(rest) = message.strip_prefix(file.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) else {
            continue;
        };
        let Some(colon) = rest.iter().position(|b| *b == b':') else { continue };
        let line = rest.get(..colon).and_then(|line| str::from_utf8(line).ok()).and_then(|line| line.parse().ok());
        if let Some(line) = line {
            return (Some((file, line)), rest.get(colon + 1..).unwrap_or_default().trim_ascii_start());
        }
    }
    (None, message)
}
