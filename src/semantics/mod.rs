//! The rules of HTTP caching for a shared cache: RFC 9110, RFC 9111, RFC 5861, RFC 9213.
//!
//! Everything here is a question with a typed answer. Fields and a time go in; nothing reads a clock, a socket or a
//! file, so that the daemon, dry-run, replay and tests decide with the same code.
//!
//! # The flow of a decision
//!
//! **A request arrives.** [`request::RequestDirectives`] says what the client asks of caches. A method that is not safe
//! goes to the origin, and its answer may invalidate entries: [`invalidation::invalidates`].
//!
//! **An entry is found** by key and, where its `Vary` or the policy names fields, by [`vary::variance`].
//! [`reuse::may_reuse`] compares its [`freshness::Freshness`] with the client's wishes: serve it, serve it stale, ask
//! the origin first, or answer 504 because the client wants nothing from further away. Before it is sent,
//! [`conditional::not_modified`] may turn it into a 304 ([`conditional::not_in_304`]), and
//! [`range::requested`] into a part of it.
//!
//! **The origin is asked again** with both validators, by the framework. Its 304 counts if [`update::confirms`] says
//! so; [`update::update_stored`] merges it, and freshness is computed anew from the merged head. A `HEAD` can do the same
//! by [`update::head_update`]. When the origin fails, [`reuse::may_serve_stale`] says whether the entry may stand in.
//!
//! **A response arrives.** [`cache_control::ResponseControl`] picks the field that decides and sets aside what the policy
//! overrides, [`freshness::Freshness::of`] computes lifetime and age, [`freshness::Freshness::with_policy_ttl`] lets a
//! policy replace the lifetime, and [`storable::storable`] says whether to store it, or why not. What is stored goes
//! without the fields that [`cache_control::ResponseControl::fields_to_strip`] names; it and what is forwarded go through
//! [`fields::remove_hop_by_hop`] and [`fields::via`]. A part may be stored if [`combine::known_part`] knows where it
//! belongs; [`combine::combination`] says what becomes of what was stored before.
//!
//! # Where the standard is answered
//!
//! | section | function |
//! |---|---|
//! | RFC 9110 5.6.7, dates | [`date::parse`], [`date::format`] |
//! | RFC 9110 6.6.1, `Date` | [`fields::ensure_date`] |
//! | RFC 9110 7.6.1, fields of a connection | [`fields::remove_hop_by_hop`] |
//! | RFC 9110 7.6.3, `Via` | [`fields::via`] |
//! | RFC 9110 8.6, `Content-Length` | [`fields::single_length`] |
//! | RFC 9110 8.8.3, entity tags | [`conditional::EntityTag`] |
//! | RFC 9110 9.2.1, safe methods | [`invalidation::is_safe`] |
//! | RFC 9110 9.3.3, stored `POST` | [`storable::post_answers_get`] |
//! | RFC 9110 12.5.5, `Vary` | [`vary::VaryFields`] |
//! | RFC 9110 13.1.2, 13.1.3, preconditions | [`conditional::not_modified`] |
//! | RFC 9110 13.1.5, `If-Range`; 14.2, `Range` | [`range::requested`] |
//! | RFC 9110 14.4, `Content-Range` | [`range::content_range`], [`range::received_part`] |
//! | RFC 9110 15.1, heuristically cacheable | [`freshness::heuristically_cacheable`] |
//! | RFC 9110 15.4.5, 304 | [`conditional::not_in_304`] |
//! | RFC 9110 15.5.17, 416 | [`range::content_range_of_416`] |
//! | RFC 9111 3, storing; 3.5, authorization | [`storable::storable`] |
//! | RFC 9111 3.1, fields not stored | [`fields::remove_hop_by_hop`], [`cache_control::ResponseControl::fields_to_strip`] |
//! | RFC 9111 3.2, updating stored fields | [`update::update_stored`] |
//! | RFC 9111 3.3, parts stored; 3.4, combined | [`combine::known_part`], [`combine::combination`] |
//! | RFC 9111 4, reuse; 5.2.1, requests | [`reuse::may_reuse`], [`reuse::on_miss`] |
//! | RFC 9111 4.1, variants | [`vary::variance`], [`vary::append_selecting`] |
//! | RFC 9111 4.2, freshness and age; 5.1; 5.3 | [`freshness::Freshness`] |
//! | RFC 9111 4.2.4, stale; RFC 5861 | [`reuse::may_serve_stale`] |
//! | RFC 9111 4.3.4, 304 received | [`update::confirms`] |
//! | RFC 9111 4.3.5, `HEAD` | [`update::head_update`] |
//! | RFC 9111 4.4, invalidation | [`invalidation::invalidates`] |
//! | RFC 9111 5.2.2, responses | [`cache_control::CacheControl`] |
//! | RFC 9111 5.4, `Pragma` | [`request::RequestDirectives`] |
//! | RFC 9211 2, a list of caches | [`fields::cache_status_with`] |
//! | RFC 9213, targeted fields | [`targeted::cdn_cache_control`], [`cache_control::ResponseControl`] |
//!
//! # What is absent, deliberately
//!
//! * Parts told apart by `Last-Modified` (RFC 9111 section 3.4): only a strong tag combines them.
//! * `Warning` (obsolete), `Pragma` in responses (never defined), `If-Match` and `If-Unmodified-Since` (the origin's).
//! * Choosing among variants by `q` values (RFC 9111 section 4.1): a policy's normaliser does that better.
//! * Our member of `Cache-Status` (RFC 9211): it is printed from the outcome of a request, not computed.

pub mod cache_control;
pub mod combine;
pub mod conditional;
pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
pub mod invalidation;
mod normalize;
pub mod range;
pub mod request;
pub mod reuse;
pub mod storable;
pub mod surrogate;
pub mod target;
pub mod targeted;
#[cfg(test)]
mod testing;
pub mod update;
pub mod vary;
