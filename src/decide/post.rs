//! When the origin answered a `POST`.

use super::{Request, RequestAction, Response, ResponseAction, Storing, request, response};
use crate::config::Bucket;
use crate::key::PrimaryKey;
use crate::policy::{Normalized, Policy};
use crate::semantics::storable::post_answers_get;
use http::{Method, StatusCode};

/// How the response to a `POST` is stored for the `GET`s that it answers.
#[derive(Debug)]
pub struct PostedAs {
    /// The key of a `GET` of the same target.
    pub key: PrimaryKey,
    /// The fields of such a `GET` that the policy reduced.
    pub normalized: Normalized,
    /// How it is stored.
    pub storing: Box<Storing>,
}

/// Whether the response to a `POST` answers later `GET`s of its target (RFC 9110 section 9.3.3), and under which key.
///
/// The policy is asked for the key of a `GET` that is otherwise like this request, and about a response to it, as if a `GET`
/// had been sent: that is what the entry will be used for.
pub fn posted(
    bucket: &Bucket,
    policy: Option<&Policy>,
    asked: &Request<'_>,
    answer: &Response<'_>,
) -> Option<PostedAs> {
    // Another status speaks of the POST, whatever `Content-Location` says.
    if *asked.method != Method::POST || answer.status != StatusCode::OK.as_u16() {
        return None;
    }
    let get = Request { method: &Method::GET, upgrade: false, has_body: false, ..*asked };
    let verdict = request(bucket, policy, &get);
    let RequestAction::Lookup(key) = verdict.action.clone() else { return None };
    let ResponseAction::Store(storing) = response(bucket, policy, &verdict, &get, answer).action else { return None };
    let freshness = &storing.facts.freshness;
    let answers = post_answers_get(get.semantic_target(), answer.headers, freshness.source);
    (answers && !freshness.ttl(freshness.response_time).is_zero()).then_some(PostedAs {
        key,
        normalized: verdict.normalized,
        storing,
    })
}
