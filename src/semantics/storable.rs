//! Whether a response may be stored, and whether that is worth it: RFC 9111 section 3.

use super::cache_control::ResponseControl;
use super::freshness::{Freshness, LifetimeSource, heuristically_cacheable};
use super::request::RequestDirectives;
use super::target::Target;
use super::vary::VaryFields;
use http::{HeaderMap, Method, StatusCode, header};

/// What storing depends on.
#[derive(Debug, Clone, Copy)]
pub struct StoreInput<'a> {
    /// Method of the request.
    pub method: &'a Method,
    /// What was asked for.
    pub target: Target<'a>,
    /// Fields of the request, as the client sent them.
    pub request: &'a HeaderMap,
    /// Status of the response.
    pub status: StatusCode,
    /// Fields of the response, as the origin sent them: before anything is stripped.
    pub response: &'a HeaderMap,
    /// Its directives, with what the policy sets aside.
    pub control: &'a ResponseControl,
    /// Its freshness, with the policy's `ttl` where there is one.
    pub freshness: &'a Freshness,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStorable {
    /// The method's responses are not stored.
    Method,
    /// A 1xx is not a final response.
    Interim,
    /// A 304 updates a stored response and is none itself.
    NotModified,
    /// It is about a part, in a way that cannot be kept: a 206 that was not asked for, says not where it belongs, or is
    /// never fresh; a 416.
    Partial,
    /// `must-understand` on a status that this cache does not know.
    NotUnderstood,
    /// The client said `no-store`.
    RequestNoStore,
    /// The origin said `no-store`.
    NoStore,
    /// The origin said `private`.
    Private,
    /// The request was authorized and the response does not allow to share it.
    Authorization,
    /// Nothing in it allows to store it: no freshness, and a status that permits no guess.
    NoFreshness,
    /// `Vary: *` matches no later request.
    VaryStar,
    /// It sets cookies and the origin did not state that it may be reused.
    SetCookie,
    /// It could be stored, but never used: neither fresh nor possible to revalidate.
    NotReusable,
}

impl NotStorable {
    /// The one spelling, in headers, labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            NotStorable::Method => "method",
            NotStorable::Interim => "interim",
            NotStorable::NotModified => "not-modified",
            NotStorable::Partial => "partial",
            NotStorable::NotUnderstood => "must-understand",
            NotStorable::RequestNoStore => "request-no-store",
            NotStorable::NoStore => "no-store",
            NotStorable::Private => "private",
            NotStorable::Authorization => "authorization",
            NotStorable::NoFreshness => "no-freshness",
            NotStorable::VaryStar => "vary-star",
            NotStorable::SetCookie => "set-cookie",
            NotStorable::NotReusable => "not-reusable",
        }
    }
}

impl std::fmt::Display for NotStorable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a complete response may be stored, in the order of RFC 9111 section 3. For a part that
/// [`super::combine::known_part`] knows, ask about the 200 that the whole would have been (section 3.3).
///
/// `Ok` still means "without the fields that [`ResponseControl::fields_to_strip`] names".
pub fn storable(input: &StoreInput<'_>) -> Result<(), NotStorable> {
    let directives = &input.control.directives;
    let overrides = input.control.overrides;

    // "the request method is understood by the cache"
    let as_get = match *input.method {
        Method::GET => true,
        Method::POST => post_answers_get(input.target, input.response, input.freshness.source),
        _ => false,
    };
    if !as_get {
        return Err(NotStorable::Method);
    }
    // "the response status code is final"
    if input.status.is_informational() {
        return Err(NotStorable::Interim);
    }
    // "if the response status code is 206 or 304, or the must-understand cache directive is present: the cache
    // understands the response status code"
    match input.status {
        StatusCode::PARTIAL_CONTENT => return Err(NotStorable::Partial),
        StatusCode::NOT_MODIFIED => return Err(NotStorable::NotModified),
        _ => {}
    }
    let understood = understood(input.status);
    if directives.must_understand && !understood {
        return Err(NotStorable::NotUnderstood);
    }
    // "the no-store cache directive is not present in the response"; section 5.2.2.3: must-understand sets it aside.
    if directives.no_store && !directives.must_understand {
        return Err(NotStorable::NoStore);
    }
    // Section 5.2.1.5: the client's no-store is about this response, too, and no policy speaks for the client.
    if RequestDirectives::of(input.request).no_store {
        return Err(NotStorable::RequestNoStore);
    }
    // "if the cache is shared: the private response directive is either not present or allows a shared cache to store
    // a modified response"
    if directives.private.is_response() {
        return Err(NotStorable::Private);
    }
    // "if the cache is shared: the Authorization header field is not present in the request or a response directive is
    // present that explicitly allows shared caching" (section 3.5)
    let shareable = directives.public || directives.s_maxage.is_some() || directives.must_revalidate;
    if input.request.contains_key(header::AUTHORIZATION) && !shareable && !overrides.authorization {
        return Err(NotStorable::Authorization);
    }
    // "the response contains at least one of": public, freshness, or a status that is heuristically cacheable
    let freshness = input.freshness;
    let permitted = directives.public
        || freshness.source == LifetimeSource::Policy
        || freshness.source.is_stated()
        || heuristically_cacheable(input.status);
    if !permitted {
        return Err(NotStorable::NoFreshness);
    }

    // Section 4.1: "A stored response with a Vary header field value containing a member "*" always fails to match."
    if VaryFields::of(input.response).is_any() {
        return Err(NotStorable::VaryStar);
    }
    if sets_cookies(input) && !overrides.set_cookie && !cookies_may_be_shared(freshness) {
        return Err(NotStorable::SetCookie);
    }
    if !reusable(input) {
        return Err(NotStorable::NotReusable);
    }
    Ok(())
}

/// Whether the response to a `POST` may answer later `GET`s of the same target: RFC 9110 section 9.3.3 asks for
/// explicit freshness and a `Content-Location` that is the target.
///
/// A policy's `ttl` is not enough: it cannot know that the content is a representation of the target.
pub fn post_answers_get(target: Target<'_>, response: &HeaderMap, source: LifetimeSource) -> bool {
    let mut locations = response.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (locations.next(), locations.next()) else { return false };
    source.is_stated() && target.resolve(location.as_bytes()).is_some_and(|named| named.is_same_resource(target))
}

/// Statuses whose caching rules this cache knows and follows (RFC 9111 section 5.2.2.3): those of RFC 9110, without the
/// ones that are never stored.
fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 451 | 500..=505
    )
}

fn sets_cookies(input: &StoreInput<'_>) -> bool {
    // Fields named by private or no-cache are not stored, so that cookies among them are no obstacle.
    input.response.contains_key(header::SET_COOKIE)
        && !input.control.fields_to_strip().any(|name| *name == header::SET_COOKIE)
}

/// An origin that states a time of freshness means the response to be reused, cookies included. A policy's `ttl`, a
/// guess, or the mere possibility to revalidate does not say so.
fn cookies_may_be_shared(freshness: &Freshness) -> bool {
    freshness.source.is_stated() && !freshness.lifetime.is_zero() && !freshness.no_cache
}

fn reusable(input: &StoreInput<'_>) -> bool {
    let freshness = input.freshness;
    let fresh = freshness.is_fresh(freshness.response_time) && !freshness.no_cache;
    let usable_stale = !freshness.no_cache
        && !freshness.must_revalidate
        && [freshness.stale_while_revalidate, freshness.stale_if_error]
            .into_iter()
            .flatten()
            .any(|time| !time.is_zero());
    let validator = input.response.contains_key(header::ETAG) || input.response.contains_key(header::LAST_MODIFIED);
    fresh || usable_stale || validator
}

#[cfg(test)]
#[path = "storable_tests.rs"]
mod tests;
