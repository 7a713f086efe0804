//! Policies: Luau scripts that decide about requests, in a sandbox that they cannot hang, crash, bloat or poison.
//!
//! The way of a call:
//!
//! 1. [`PolicyHost`] holds the [`PolicySet`] in force; a bucket finds its [`Policy`] in it by name.
//! 2. [`call_request`] and its kin call one hook of a policy in this thread's VM (`engine`), under the time limit
//!    (`watchdog`) and the memory limit.
//! 3. The script reads [`view`]s through accessors (`fields`, `query`) that write down what was read ([`Input`]).
//! 4. What it returns is read into a [`decision`] (`decode`), or becomes a [`PolicyError`] with file and line.
//!
//! The way of a file: `reload` sees it change, `candidate` reads, compiles and tries it in a VM of its own, `set` keeps
//! the last version that worked, and `host` swaps the set.
//!
//! What a script can reach is declared in [`declare`]; what it cannot is decided in `sandbox`. Only this folder knows
//! Lua, and only `raw` has `unsafe` in it.
//!
//! What is deliberately absent: I/O, clocks, randomness, and any state shared between policies. A decision is a function
//! of its inputs, which is what makes dry-run, tests and replay true.

mod candidate;
pub mod decision;
pub mod declare;
mod decode;
mod engine;
mod error;
mod fields;
mod host;
mod inputs;
mod library;
mod normalize;
mod query;
#[expect(unsafe_code, reason = "the one place that talks to Luau's C API, where a call must cost nanoseconds")]
mod raw;
pub mod reload;
mod sandbox;
mod set;
pub mod view;
mod watchdog;

pub use engine::{
    Normalized, call_deliver, call_hit, call_request, call_response, normalize, take_inputs, used_memory,
};
pub use error::{ErrorKind, Hook, PolicyError};
pub use host::{PolicyHost, Reloaded};
pub use inputs::Input;
pub use raw::thread_time;
pub use reload::Watcher;
pub use set::{Policy, PolicySet};
