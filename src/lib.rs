//! Tidegate, a caching reverse proxy.
#![warn(missing_docs)]
pub mod config;
pub mod key;
pub mod origin;
pub mod policy;
