//! How long a response is fresh and how old it is: RFC 9111 section 4.2, RFC 5861.

use super::cache_control::{ControlField, ResponseControl};
use super::date;
use super::directives::{MAX_SECONDS, delta_seconds};
use http::{HeaderMap, StatusCode, header};
use std::time::{Duration, SystemTime};

/// Part of the time since the last modification that is taken for the lifetime when the origin says nothing
/// (RFC 9111 section 4.2.2 names 10 % as typical).
pub const HEURISTIC_FRACTION: u32 = 10;

/// Longest heuristic lifetime. Default one day: a page that nobody touched for years may still change tomorrow.
pub const HEURISTIC_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a lifetime came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LifetimeSource {
    /// `ttl` of a policy.
    Policy,
    /// A number in `CDN-Cache-Control`.
    CdnCacheControl,
    /// A number in `Surrogate-Control`.
    SurrogateControl,
    /// `s-maxage` in `Cache-Control`.
    SMaxage,
    /// `max-age` in `Cache-Control`.
    MaxAge,
    /// `Expires`, valid or not.
    Expires,
    /// The time since `Last-Modified`.
    Heuristic,
    /// Nothing: the lifetime is 0.
    #[default]
    None,
}

impl LifetimeSource {
    /// The one spelling, in headers, logs and dry-run.
    pub fn as_str(self) -> &'static str {
        match self {
            LifetimeSource::Policy => "policy",
            LifetimeSource::CdnCacheControl => "cdn-cache-control",
            LifetimeSource::SurrogateControl => "surrogate-control",
            LifetimeSource::SMaxage => "s-maxage",
            LifetimeSource::MaxAge => "max-age",
            LifetimeSource::Expires => "expires",
            LifetimeSource::Heuristic => "heuristic",
            LifetimeSource::None => "none",
        }
    }

    /// The origin stated it.
    pub fn is_stated(self) -> bool {
        match self {
            LifetimeSource::CdnCacheControl
            | LifetimeSource::SurrogateControl
            | LifetimeSource::SMaxage
            | LifetimeSource::MaxAge
            | LifetimeSource::Expires => true,
            LifetimeSource::Policy | LifetimeSource::Heuristic | LifetimeSource::None => false,
        }
    }
}

/// What freshness depends on.
#[derive(Debug, Clone, Copy)]
pub struct FreshnessInput<'a> {
    /// Status of the response.
    pub status: StatusCode,
    /// Fields of the response, as received.
    pub headers: &'a HeaderMap,
    /// Its directives, with what the policy sets aside.
    pub control: &'a ResponseControl,
    /// When the request was sent to the origin.
    pub request_time: SystemTime,
    /// When the head of the response had arrived.
    pub response_time: SystemTime,
    /// Whether a lifetime may be guessed (RFC 9111 section 4.2.2).
    pub heuristic: bool,
}

/// Everything about time that later decisions need; small enough to be kept beside an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Freshness lifetime (section 4.2.1), at most 2^31 seconds unless a policy set it.
    pub lifetime: Duration,
    /// Where `lifetime` came from.
    pub source: LifetimeSource,
    /// Corrected initial age (section 4.2.3).
    pub initial_age: Duration,
    /// When the response arrived.
    pub response_time: SystemTime,
    /// How long after its lifetime it may be served while it is revalidated (RFC 5861 section 3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its lifetime it may be served instead of an error (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
    /// `must-revalidate` or `proxy-revalidate`: never served stale.
    pub must_revalidate: bool,
    /// A number in `s-maxage` decides: served stale only where `stale-*` allows it (RFC 9111 sections 4.2.4, 5.2.2.10).
    pub s_maxage: bool,
    /// Unqualified `no-cache`: never served without revalidation.
    pub no_cache: bool,
}

impl Freshness {
    /// Computes freshness of a response as it arrives, or of a stored one whose head was just updated by a 304.
    pub fn of(input: &FreshnessInput<'_>) -> Self {
        let directives = &input.control.directives;
        let date = field_date(input.headers, &header::DATE, input.response_time);
        let (lifetime, source) = lifetime(input, date);
        let seconds = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Freshness {
            lifetime,
            source,
            initial_age: initial_age(input, date),
            response_time: input.response_time,
            stale_while_revalidate: seconds(directives.stale_while_revalidate),
            stale_if_error: seconds(directives.stale_if_error),
            must_revalidate: directives.must_revalidate || directives.proxy_revalidate,
            s_maxage: directives.s_maxage.is_some(),
            no_cache: directives.no_cache.is_response(),
        }
    }

    /// What `max-age` alone says of a response that arrives as new as can be.
    pub fn of_max_age(lifetime: Duration, response_time: SystemTime) -> Self {
        Freshness {
            lifetime,
            source: LifetimeSource::MaxAge,
            initial_age: Duration::ZERO,
            response_time,
            stale_while_revalidate: None,
            stale_if_error: None,
            must_revalidate: false,
            s_maxage: false,
            no_cache: false,
        }
    }

    /// Replaces the lifetime by a policy's `ttl`, which counts from the arrival of the response, however old it was. What
    /// `s-maxage` says besides its number goes with it.
    #[must_use]
    pub fn with_policy_ttl(self, ttl: Duration) -> Self {
        let lifetime = self.initial_age.saturating_add(ttl);
        Freshness { lifetime, source: LifetimeSource::Policy, s_maxage: false, ..self }
    }

    /// Stale from `since` on, if it would be fresh then. It may be served while it is revalidated for as long as it could have been
    /// served before.
    #[must_use]
    pub fn stale_since(self, since: SystemTime) -> Self {
        let lifetime = self.age(since);
        let Some(cut) = self.lifetime.checked_sub(lifetime) else { return self };
        let window = self.stale_while_revalidate.unwrap_or_default().saturating_add(cut);
        Freshness { lifetime, stale_while_revalidate: Some(window), ..self }
    }

    /// Current age (section 4.2.3). A clock that was set back counts as standing still.
    pub fn age(&self, now: SystemTime) -> Duration {
        self.initial_age.saturating_add(now.duration_since(self.response_time).unwrap_or_default())
    }

    /// Fresh means that the lifetime exceeds the age (section 4.2).
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.lifetime > self.age(now)
    }

    /// How long it may still be served without asking the origin; zero once stale, and for what says `no-cache`.
    pub fn ttl(&self, now: SystemTime) -> Duration {
        if self.no_cache { Duration::ZERO } else { self.lifetime.saturating_sub(self.age(now)) }
    }

    /// When it stops being fresh; for what says `no-cache`, when it came.
    pub fn fresh_until(&self) -> SystemTime {
        if self.no_cache {
            return self.response_time;
        }
        // What is fresh beyond the end of time is fresh for long enough.
        self.epoch().checked_add(self.lifetime).unwrap_or(self.response_time + Duration::from_secs(MAX_SECONDS.into()))
    }

    /// When it would have been made if its age were its time since then: what an age can be counted from.
    pub fn epoch(&self) -> SystemTime {
        self.response_time.checked_sub(self.initial_age).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How long after its lifetime it may be served while it is revalidated.
    pub fn window_while_revalidate(&self) -> Duration {
        self.stale_while_revalidate.filter(|_| self.may_be_stale()).unwrap_or_default()
    }

    /// How long after its lifetime it may be served instead of an error.
    pub fn window_if_error(&self) -> Duration {
        self.stale_if_error.filter(|_| self.may_be_stale()).unwrap_or_default()
    }

    fn may_be_stale(&self) -> bool {
        !self.must_revalidate && !self.no_cache
    }

    /// How long it has been stale; zero while fresh.
    pub fn staleness(&self, now: SystemTime) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }
}

/// Statuses that are heuristically cacheable (RFC 9110 section 15.1).
pub fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// RFC 9111 section 4.2.1, for a shared cache. An explicit time is used even where it is broken, and then means "stale".
fn lifetime(input: &FreshnessInput<'_>, date: Option<SystemTime>) -> (Duration, LifetimeSource) {
    let directives = &input.control.directives;
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let source = |plain| match input.control.field {
        ControlField::CacheControl => plain,
        ControlField::CdnCacheControl => LifetimeSource::CdnCacheControl,
        ControlField::SurrogateControl => LifetimeSource::SurrogateControl,
    };
    if let Some(s_maxage) = directives.s_maxage {
        return (seconds(s_maxage), source(LifetimeSource::SMaxage));
    }
    if let Some(max_age) = directives.max_age {
        return (seconds(max_age), source(LifetimeSource::MaxAge));
    }
    // RFC 9213 section 2.2: a targeted field switches Expires off as well.
    if !input.control.is_targeted()
        && let Some(expires) = input.headers.get(header::EXPIRES)
    {
        // RFC 9111 section 5.3: an invalid date, especially "0", lies in the past. Of two lines the first counts.
        let lifetime = date::parse(expires.as_bytes(), input.response_time)
            .and_then(|expires| expires.duration_since(date.unwrap_or(input.response_time)).ok())
            .unwrap_or_default();
        return (lifetime.min(seconds(MAX_SECONDS)), LifetimeSource::Expires);
    }
    match heuristic_lifetime(input, date) {
        Some(lifetime) => (lifetime, LifetimeSource::Heuristic),
        None => (Duration::ZERO, LifetimeSource::None),
    }
}

/// RFC 9111 section 4.2.2: a tenth of the time since the last modification, for statuses that allow a guess and for
/// responses that say `public`.
fn heuristic_lifetime(input: &FreshnessInput<'_>, date: Option<SystemTime>) -> Option<Duration> {
    if !input.heuristic || !(heuristically_cacheable(input.status) || input.control.directives.public) {
        return None;
    }
    let modified = field_date(input.headers, &header::LAST_MODIFIED, input.response_time)?;
    let unchanged = date.unwrap_or(input.response_time).duration_since(modified).ok()?;
    Some((unchanged / HEURISTIC_FRACTION).min(HEURISTIC_LIMIT))
}

/// RFC 9111 section 4.2.3. A missing or broken `Date` is the time of arrival (RFC 9110 section 6.6.1).
fn initial_age(input: &FreshnessInput<'_>, date: Option<SystemTime>) -> Duration {
    // Dates have whole seconds; without cutting, a response would be up to a second old when it arrives.
    let apparent_age = date
        .and_then(|date| input.response_time.duration_since(date).ok())
        .map_or(Duration::ZERO, |age| Duration::from_secs(age.as_secs()));
    let response_delay = input.response_time.duration_since(input.request_time).unwrap_or_default();
    apparent_age.max(age_value(input.headers) + response_delay)
}

/// RFC 9111 section 5.1: the first member of the first line; anything but a number is ignored.
fn age_value(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).and_then(|line| line.as_bytes().split(|byte| *byte == b',').next());
    let seconds = first.and_then(|text| delta_seconds(text.trim_ascii())).unwrap_or(0);
    Duration::from_secs(seconds.into())
}

fn field_date(headers: &HeaderMap, field: &header::HeaderName, now: SystemTime) -> Option<SystemTime> {
    date::parse(headers.get(field)?.as_bytes(), now)
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
