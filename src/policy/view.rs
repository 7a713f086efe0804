//! What a script may see: borrowed pieces of a request, a response, a stored entry and the cache's answer.
//!
//! These are plain data. `engine` shows them to Lua and records which parts a script read.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// `req`
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port, lower case.
    pub host: &'a str,
    /// Path as sent, without the query.
    pub path: &'a str,
    /// Query as sent, without `?`; empty if there is none.
    pub query: &'a str,
    /// Fields as sent.
    pub headers: &'a HeaderMap,
    /// Fields that the policy normalises, reduced: they replace the ones in `headers`. `None` means absent.
    pub normalized: &'a [(HeaderName, Option<HeaderValue>)],
    /// Address of the client, after `trusted_proxies`.
    pub client_ip: IpAddr,
    /// Name of the bucket.
    pub bucket: &'a str,
    /// Seconds since 1970.
    pub now: f64,
}

/// `res`
#[derive(Debug, Clone, Copy)]
pub struct ResponseView<'a> {
    /// Status code.
    pub status: u16,
    /// Fields as the origin sent them.
    pub headers: &'a HeaderMap,
}

/// `entry`
#[derive(Debug, Clone, Copy)]
pub struct EntryView<'a> {
    /// Status code.
    pub status: u16,
    /// Stored fields.
    pub headers: &'a HeaderMap,
    /// Current age in seconds (RFC 9111 section 4.2.3).
    pub age: f64,
    /// Seconds of freshness left; negative once stale.
    pub ttl: f64,
    /// Whether it is stale.
    pub stale: bool,
    /// Tags that the policy gave it.
    pub tags: &'a [String],
    /// Tier that answered.
    pub tier: &'a str,
    /// Hits before this one.
    pub hits: u64,
    /// Bytes of the body.
    pub size: u64,
}

/// `cache`, the third argument of `deliver`
#[derive(Debug, Clone, Copy)]
pub struct CacheView<'a> {
    /// `hit`, `stale`, `revalidated`, `miss`, `bypass` or `error`.
    pub status: &'a str,
    /// Why, in one word; empty if there is nothing to say.
    pub reason: &'a str,
    /// Tier that answered; empty if none did.
    pub tier: &'a str,
    /// Current age in seconds; `None` unless stored.
    pub age: Option<f64>,
    /// Seconds of freshness left; `None` unless stored.
    pub ttl: Option<f64>,
}
