//! HTTP caching by the book: what RFC 9110, RFC 9111, RFC 5861, RFC 9211 and RFC 9213 ask of a shared cache, asked of the
//! daemon over real sockets. One file for each area; each test states its rule and has the section beside it.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the end-to-end tests; each uses a part of it")]
mod support;

mod freshness;
mod invalidation;
mod messages;
mod partial_content;
mod request_directives;
mod stale;
mod storing;
mod validation;
mod vary;
