//! What a request asks of the caches on its way: RFC 9111 sections 5.2.1 and 5.4.

use super::directives::{Argument, directives};
use http::{HeaderMap, header};
use std::time::Duration;

/// The directives of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age`: the greatest age that the client likes. A value that is no number is 0.
    pub max_age: Option<Duration>,
    /// `min-fresh`: how long the response must stay fresh. A value that is no number is ignored.
    pub min_fresh: Option<Duration>,
    /// `max-stale`: how stale a response may be; [`Duration::MAX`] without a value. One that is no number is ignored.
    pub max_stale: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4). A value that is no number is ignored.
    pub stale_if_error: Option<Duration>,
    /// `no-cache`, or `Pragma: no-cache` without a `Cache-Control`.
    pub no_cache: bool,
    /// `no-store`
    pub no_store: bool,
    /// `only-if-cached`
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads `Cache-Control`, and `Pragma` where there is none. Never fails. Of two equal directives, the first wins.
    pub fn of(request: &HeaderMap) -> Self {
        if !request.contains_key(header::CACHE_CONTROL) {
            // RFC 9111 section 5.4: Pragma is for caches of HTTP/1.0 and counts only in the absence of Cache-Control.
            let no_cache = request.contains_key(header::PRAGMA)
                && directives(request, &header::PRAGMA).any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"));
            return RequestDirectives { no_cache, ..RequestDirectives::default() };
        }
        let mut wanted = RequestDirectives::default();
        for (name, argument) in directives(request, &header::CACHE_CONTROL) {
            wanted.add(name, argument);
        }
        wanted
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        let seconds = || argument.seconds().map(|seconds| Duration::from_secs(seconds.into()));
        if is("no-cache") {
            self.no_cache = true;
        } else if is("max-age") {
            self.max_age = self.max_age.or(Some(seconds().unwrap_or_default()));
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.or_else(seconds);
        } else if is("max-stale") {
            let allowed = if argument == Argument::Absent { Some(Duration::MAX) } else { seconds() };
            self.max_stale = self.max_stale.or(allowed);
        } else if is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.or_else(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::headers;
    use super::*;

    fn parse(value: &str) -> RequestDirectives {
        RequestDirectives::of(&headers(&[("cache-control", value)]))
    }

    // RFC 9111 section 5.2.1
    #[test]
    fn all_directives_are_known() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            parse("max-age=1, MIN-FRESH=2, max-stale=3, stale-if-error=4, no-cache, no-store, only-if-cached, x"),
            RequestDirectives {
                max_age: seconds(1),
                min_fresh: seconds(2),
                max_stale: seconds(3),
                stale_if_error: seconds(4),
                no_cache: true,
                no_store: true,
                only_if_cached: true,
            }
        );
    }

    // RFC 9111 section 5.2.1.2
    #[test]
    fn max_stale_without_a_value_allows_any_staleness() {
        assert_eq!(parse("max-stale").max_stale, Some(Duration::MAX));
        assert_eq!(parse("max-stale=x").max_stale, None);
    }

    #[test]
    fn a_broken_max_age_asks_for_a_new_response() {
        assert_eq!(parse("max-age=x").max_age, Some(Duration::ZERO));
    }

    // RFC 9111 section 5.4
    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(RequestDirectives::of(&headers(&[("pragma", "x, No-Cache")])).no_cache);
        assert!(!RequestDirectives::of(&headers(&[("pragma", "unrecognised-extension")])).no_cache);
        assert!(!RequestDirectives::of(&headers(&[("pragma", "no-cache"), ("cache-control", "max-age=9")])).no_cache);
    }
}
