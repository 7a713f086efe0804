//! Tidegate, a caching reverse proxy for buckets and HTTP origins, with its policy in Lua.
//!
//! # The story
//!
//! A request arrives ([`proxy`]). Its host and path name a bucket ([`config`]). The bucket's policy ([`policy`]) is asked
//! what it wants, and the answer becomes a decision ([`decide`]) and a key ([`key`]). The key is looked up in the tiers
//! ([`store`]). On a miss, one request takes the lock ([`lock`]) and goes to the origin ([`origin`]); the others follow
//! its fill. The response passes admission: the rules of HTTP first ([`semantics`]), then the policy, again in
//! [`decide`]. It leaves with an account of what happened ([`outcome`]), which also feeds metrics and logs
//! ([`telemetry`]).
//!
//! Beside that: [`purge`] says what of it has to go, [`admin`] answers on its own listener, [`reload`] applies a changed configuration, [`explain`] tells a
//! decision to people and tools, and [`cli`] holds the commands.
//!
//! # What it is not
//!
//! Not a web server (it serves no files of its own), not a load balancer with sessions, not a place to run code: a policy
//! decides and cannot do anything else.

#![warn(missing_docs, unreachable_pub)]
// What the outside sends must never end the process. `expect` stays for what the code itself guarantees.
#![warn(clippy::unwrap_used)]
// The log and the command line have writers of their own.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod decide;
pub mod explain;
pub mod key;
pub mod lock;
pub mod origin;
pub mod outcome;
pub mod policy;
pub mod proxy;
pub mod purge;
pub mod reload;
pub mod remote;
pub mod semantics;
pub mod store;
pub mod telemetry;
