//! Tidegate, a caching reverse proxy.
#![warn(missing_docs)]
pub mod config;
pub mod key;
pub mod policy;
pub mod semantics;
