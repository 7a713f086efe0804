//! The daemon and the command line from outside: a scripted origin, the real binary, a client that sees bytes.

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod admin;
mod bypass;
mod cli;
mod harness;
mod keys;
mod policy_errors;
mod regressions;
mod reload;
mod stale;
mod stampede;
mod streaming;
mod ttl;
mod vary;
mod wire;
