//! What to do with a request, a stored entry, and a response: policy and RFC 9111 combined.
//!
//! Nothing here does I/O or knows the framework, and the time is an argument. The daemon, dry-run and their tests call the
//! same functions, so what one decides the other decides.
//!
//! * [`request`]: look it up, under which key, or keep the cache out
//! * [`hit`]: is a stored entry still good for this request
//! * [`posted`]: does the response to a `POST` answer later `GET`s
//! * [`response`]: is the origin's response stored, for how long, in which variants
//! * [`placement`]: in which tiers
//! * [`deliver`]: the policy's last touch on the way out

mod facts;
mod hit;
mod placement;
mod post;
mod request;
mod response;

pub use facts::Facts;
pub use hit::{HitVerdict, Judged, hit, serves_for};
pub use placement::{Found, Placement, Tiers, Wish, placement};
pub use post::{PostedAs, posted};
pub use request::{Request, RequestAction, RequestVerdict, Target, lets_through, request, wants_stored_only};
pub use response::{NotStored, Response, ResponseAction, ResponseVerdict, Storing, response};

pub use crate::semantics::target::host_of;

use crate::config::Bucket;
use crate::key::PrimaryKey;
use crate::policy::decision::{DeliverDecision, Overrides};
use crate::policy::view::{CacheView, ResponseView};
use crate::policy::{Policy, PolicyError};
use crate::semantics::cache_control::ResponseControl;
use crate::semantics::invalidation::invalidates;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::time::SystemTime;

/// Fields that a policy reduced, with their reduced values; `None` is absent.
pub type NormalizedFields = [(HeaderName, Option<HeaderValue>)];

/// What `deliver` wants.
pub fn deliver(
    bucket: &Bucket,
    policy: &Policy,
    request: &Request<'_>,
    normalized: &NormalizedFields,
    status: u16,
    headers: &HeaderMap,
    cache: &CacheView<'_>,
) -> Result<DeliverDecision, PolicyError> {
    let response = ResponseView { status, headers };
    crate::policy::call_deliver(policy, &request.view(bucket, normalized), &response, cache)
}

/// The keys of what an unsafe request that was answered so has changed (RFC 9111 section 4.4).
///
/// A policy may key on more than the URI. It is asked for the key of a GET that is otherwise like this request, which is
/// the best that can be known of the requests that filled the entry.
pub fn outdated(
    bucket: &Bucket,
    policy: Option<&Policy>,
    request: &Request<'_>,
    status: StatusCode,
    response: &HeaderMap,
) -> Vec<PrimaryKey> {
    let changed = invalidates(request.method, status, request.semantic_target(), response);
    let keys = changed.into_iter().filter_map(|path_and_query| {
        let uri = path_and_query.parse().ok()?;
        let get = Request { method: &Method::GET, uri: &uri, upgrade: false, has_body: false, ..*request };
        match self::request(bucket, policy, &get).action {
            RequestAction::Lookup(key) => Some(key),
            RequestAction::Bypass(_) => None,
        }
    });
    keys.collect()
}

/// The hash of a request's values for the fields that a stored response varies on (RFC 9111 section 4.1); `None` if it
/// does not vary.
pub fn variance(stored: &HeaderMap, request: &HeaderMap, normalized: &NormalizedFields) -> Option<[u8; 16]> {
    use crate::semantics::vary::{VaryFields, append_selecting, variance};
    let fields = VaryFields::of(stored);
    variance(&fields, &[], |name, out| match normalized.iter().find(|(reduced, _)| reduced == name) {
        Some((_, Some(value))) => {
            out.extend_from_slice(value.as_bytes());
            true
        }
        Some((_, None)) => false,
        None => append_selecting(request, name, out),
    })
}

/// The fields of a response that `private` or `no-cache` name (RFC 9111 sections 5.2.2.4 and 5.2.2.7): they are for the
/// client whose request brought them, and are not stored.
pub fn not_for_others(response: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let control = ResponseControl::of(response, Overrides::default());
    let named = control.fields_to_strip().flat_map(|name| response.get_all(name).into_iter().map(move |v| (name, v)));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a response is to be sent as 304 (RFC 9110 section 13.2.2).
pub fn not_modified(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    now: SystemTime,
) -> bool {
    crate::semantics::conditional::not_modified(method, request, status, response, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_private_or_no_cache_name_are_for_one_client() {
        let mut response = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-c", "4")] {
            response.append(name, HeaderValue::from_static(value));
        }
        assert!(not_for_others(&response).is_empty());
        let control = HeaderValue::from_static("private=\"x-a, x-none\", no-cache=\"x-c\"");
        response.insert(http::header::CACHE_CONTROL, control);
        let fields = not_for_others(&response);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-a", &b"1"[..]), ("x-a", b"2"), ("x-c", b"4")]);
    }
}
