//! On a stored entry, before it is served.

use super::{Facts, Request, RequestVerdict};
use crate::config::{Bucket, OnError};
use crate::outcome::ForwardReason;
use crate::policy::decision::HitDecision;
use crate::policy::view::EntryView;
use crate::policy::{Policy, PolicyError};
use crate::semantics::request::RequestDirectives;

/// What to do with a stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitVerdict {
    /// Serve it if it is fresh; what happens to a stale one is up to its stale windows.
    Serve,
    /// Serve it although it is stale, because the client said `max-stale`.
    ServeStale,
    /// Ask the origin first.
    Revalidate(ForwardReason),
    /// Fetch as if nothing were stored.
    Miss,
}

/// What was decided about a stored entry.
#[derive(Debug)]
pub struct Judged {
    /// What to do.
    pub verdict: HitVerdict,
    /// The policy failed.
    pub error: Option<PolicyError>,
}

/// Decides whether a stored entry may be served.
pub fn hit(
    bucket: &Bucket,
    policy: Option<&Policy>,
    verdict: &RequestVerdict,
    request: &Request<'_>,
    entry: &EntryView<'_>,
    facts: &Facts,
) -> Judged {
    let mut error = None;
    if let Some(policy) = policy {
        match crate::policy::call_hit(policy, &request.view(bucket, &verdict.normalized), entry) {
            Ok(HitDecision::Serve) => {}
            Ok(HitDecision::Revalidate) => {
                return Judged { verdict: HitVerdict::Revalidate(ForwardReason::Stale), error: None };
            }
            Ok(HitDecision::Miss) => return Judged { verdict: HitVerdict::Miss, error: None },
            Err(failed) => {
                error = Some(failed);
                if bucket.on_error == OnError::Bypass {
                    // What the policy would have said is unknown; the origin knows what is right.
                    return Judged { verdict: HitVerdict::Miss, error };
                }
            }
        }
    }
    Judged { verdict: by_rfc(bucket, request, entry, facts), error }
}

/// RFC 9111 section 5.2.1: what the client asks of a stored response.
fn by_rfc(bucket: &Bucket, request: &Request<'_>, entry: &EntryView<'_>, facts: &Facts) -> HitVerdict {
    let wanted = RequestDirectives::of(request.headers);
    if wanted == RequestDirectives::default() {
        return HitVerdict::Serve;
    }
    if bucket.client_refetch {
        let too_old = wanted.max_age.is_some_and(|most| entry.age > most.as_secs_f64());
        let too_short = wanted.min_fresh.is_some_and(|least| entry.ttl < least.as_secs_f64());
        if wanted.no_cache || (too_old && wanted.max_stale.is_none()) || too_short {
            return HitVerdict::Revalidate(ForwardReason::Request);
        }
    }
    let stale_for = -entry.ttl;
    let tolerated = wanted.max_stale.is_some_and(|most| stale_for <= most.as_secs_f64());
    if entry.stale && tolerated && !facts.must_revalidate {
        return HitVerdict::ServeStale;
    }
    HitVerdict::Serve
}
