//! The daemon and the command line from outside: a scripted origin, the real binary, a client that sees bytes.

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod admin;
mod bad_origins;
mod bypass;
mod cli;
mod disk;
mod hardening;
mod harness;
mod keys;
mod leaders;
mod memory;
mod parity;
mod policy_errors;
mod purge;
mod purge_cli;
mod purge_lasting;
mod purge_sweep;
mod redis;
mod regressions;
mod reload;
mod s3;
mod stale;
mod stampede;
mod streaming;
mod tls;
mod ttl;
mod upgrade;
mod vary;
mod wire;
