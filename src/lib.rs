//! Tidegate, a caching reverse proxy.
#![warn(missing_docs, unreachable_pub)]
// What the outside sends must never end the process. `expect` stays for what the code itself guarantees.
#![warn(clippy::unwrap_used)]
// The log and the command line have writers of their own.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decide;
pub mod explain;
pub mod key;
pub mod lock;
pub mod origin;
pub mod outcome;
pub mod policy;
pub mod proxy;
pub mod reload;
pub mod semantics;
pub mod store;
pub mod telemetry;
