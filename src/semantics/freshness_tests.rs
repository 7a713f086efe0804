//! Tests of `freshness`. Times are seconds around the moment of arrival.

use super::super::testing::{at, date_at, headers};
use super::*;
use crate::policy::decision::Overrides;

fn of_status(status: u16, pairs: &[(&str, &str)]) -> Freshness {
    let headers = headers(pairs);
    let control = ResponseControl::of(&headers, Overrides::default());
    Freshness::of(&FreshnessInput {
        status: StatusCode::from_u16(status).unwrap(),
        headers: &headers,
        control: &control,
        request_time: at(0),
        response_time: at(0),
        heuristic: true,
    })
}

fn of(pairs: &[(&str, &str)]) -> Freshness {
    of_status(200, pairs)
}

fn lifetime(pairs: &[(&str, &str)]) -> (u64, LifetimeSource) {
    let freshness = of(pairs);
    (freshness.lifetime.as_secs(), freshness.source)
}

fn initial_age(pairs: &[(&str, &str)]) -> u64 {
    of(pairs).initial_age.as_secs()
}

// RFC 9111 section 4.2.1
#[test]
fn s_maxage_beats_max_age_beats_expires() {
    let expires = date_at(30);
    assert_eq!(lifetime(&[("expires", &expires)]), (30, LifetimeSource::Expires));
    assert_eq!(lifetime(&[("cache-control", "max-age=20"), ("expires", &expires)]), (20, LifetimeSource::MaxAge));
    assert_eq!(
        lifetime(&[("cache-control", "max-age=20, s-maxage=10"), ("expires", &expires)]),
        (10, LifetimeSource::SMaxage)
    );
    assert_eq!(lifetime(&[("cache-control", "s-maxage=10, max-age=0")]), (10, LifetimeSource::SMaxage));
}

// RFC 9213 section 2.2
#[test]
fn cdn_cache_control_beats_everything_of_the_response() {
    let expires = date_at(30);
    let others = [("cache-control", "s-maxage=20"), ("expires", expires.as_str())];
    let with = |value| [&[("cdn-cache-control", value)], &others[..]].concat();
    assert_eq!(lifetime(&with("max-age=5")), (5, LifetimeSource::CdnCacheControl));
    assert_eq!(lifetime(&with("none")), (0, LifetimeSource::None));
    assert_eq!(lifetime(&with("max-age=oops")), (20, LifetimeSource::SMaxage));
    assert!(!of(&with("max-age=5")).s_maxage);
}

#[test]
fn surrogate_control_comes_after_cdn_cache_control() {
    let both = [("surrogate-control", "max-age=7"), ("cdn-cache-control", "max-age=5")];
    assert_eq!(lifetime(&both), (5, LifetimeSource::CdnCacheControl));
    assert_eq!(lifetime(&both[..1]), (7, LifetimeSource::SurrogateControl));
}

// RFC 9111 section 5.3
#[test]
fn expires_counts_from_date() {
    let (date, expires) = (date_at(-10), date_at(10));
    assert_eq!(lifetime(&[("date", &date), ("expires", &expires)]).0, 20);
    let (date, expires) = (date_at(400), date_at(300));
    assert_eq!(lifetime(&[("date", &date), ("expires", &expires)]).0, 0);
}

#[test]
fn expires_counts_from_arrival_where_date_is_broken() {
    let expires = date_at(10);
    assert_eq!(lifetime(&[("date", "foo"), ("expires", &expires)]).0, 10);
}

#[test]
fn a_broken_expires_lies_in_the_past() {
    let modified = date_at(-86_400);
    for value in ["0", "-1", "", "Thu, 18 Aug 2050 02:01:18 UTC"] {
        assert_eq!(lifetime(&[("expires", value), ("last-modified", &modified)]), (0, LifetimeSource::Expires));
    }
}

#[test]
fn of_two_expires_the_first_counts() {
    let (first, second) = (date_at(10), date_at(20));
    assert_eq!(lifetime(&[("expires", &first), ("expires", &second)]).0, 10);
}

#[test]
fn a_far_expires_is_far() {
    assert!(lifetime(&[("expires", "Sun, 21 Nov 2286 04:46:39 GMT")]).0 > 1_000_000_000);
}

// RFC 9111 section 4.2.2
#[test]
fn without_explicit_time_a_tenth_of_the_time_since_modification_is_guessed() {
    let modified = date_at(-3600);
    assert_eq!(lifetime(&[("last-modified", &modified)]), (360, LifetimeSource::Heuristic));
}

#[test]
fn a_guess_is_limited() {
    let modified = date_at(-10_000_000);
    assert_eq!(of(&[("last-modified", &modified)]).lifetime, HEURISTIC_LIMIT);
}

#[test]
fn a_modification_in_the_future_allows_no_guess() {
    let modified = date_at(100);
    assert_eq!(lifetime(&[("last-modified", &modified)]), (0, LifetimeSource::None));
}

// RFC 9110 section 15.1
#[test]
fn guesses_are_for_some_statuses_or_for_public_responses() {
    let modified = date_at(-3600);
    let source =
        |status, control| of_status(status, &[("last-modified", &modified), ("cache-control", control)]).source;
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(source(status, ""), LifetimeSource::Heuristic, "{status}");
    }
    for status in [201, 202, 302, 307, 403, 502, 503, 504, 599] {
        assert_eq!(source(status, ""), LifetimeSource::None, "{status}");
        assert_eq!(source(status, "public"), LifetimeSource::Heuristic, "{status}");
    }
}

#[test]
fn guesses_can_be_off() {
    let headers = headers(&[("last-modified", &date_at(-3600))]);
    let freshness = Freshness::of(&FreshnessInput {
        status: StatusCode::OK,
        headers: &headers,
        control: &ResponseControl::default(),
        request_time: at(0),
        response_time: at(0),
        heuristic: false,
    });
    assert_eq!(freshness.source, LifetimeSource::None);
}

// RFC 9111 section 4.2.3
#[test]
fn age_is_the_greater_of_date_and_age() {
    let date = date_at(-30);
    assert_eq!(initial_age(&[("date", &date), ("age", "10")]), 30);
    assert_eq!(initial_age(&[("date", &date), ("age", "50")]), 50);
    assert_eq!(initial_age(&[("age", "50")]), 50);
}

#[test]
fn a_date_in_the_future_makes_nothing_younger() {
    let date = date_at(1000);
    assert_eq!(initial_age(&[("date", &date), ("age", "5")]), 5);
}

#[test]
fn a_slow_origin_makes_a_response_older() {
    let headers = headers(&[("age", "5")]);
    let freshness = Freshness::of(&FreshnessInput {
        status: StatusCode::OK,
        headers: &headers,
        control: &ResponseControl::default(),
        request_time: at(-3),
        response_time: at(0),
        heuristic: true,
    });
    assert_eq!(freshness.initial_age, Duration::from_secs(8));
}

#[test]
fn the_fraction_of_a_second_after_date_is_no_age() {
    let headers = headers(&[("date", &date_at(0))]);
    let arrival = at(0) + Duration::from_millis(900);
    let freshness = Freshness::of(&FreshnessInput {
        status: StatusCode::OK,
        headers: &headers,
        control: &ResponseControl::default(),
        request_time: arrival,
        response_time: arrival,
        heuristic: true,
    });
    assert_eq!(freshness.initial_age, Duration::ZERO);
}

// RFC 9111 section 5.1
#[test]
fn of_several_ages_the_first_counts() {
    assert_eq!(initial_age(&[("age", "7200, 0")]), 7200);
    assert_eq!(initial_age(&[("age", "0, 7200")]), 0);
    assert_eq!(initial_age(&[("age", "7200"), ("age", "0")]), 7200);
    assert_eq!(initial_age(&[("age", "0"), ("age", "7200")]), 0);
}

#[test]
fn an_age_that_is_no_number_is_ignored() {
    for value in ["abc", "-7200", "7200.0", "7200;foo=bar", ""] {
        assert_eq!(initial_age(&[("age", value)]), 0, "{value}");
    }
}

#[test]
fn a_huge_age_is_old() {
    for value in ["2147483647", "2147483648", "2147483649", "99999999999999999999"] {
        assert!(initial_age(&[("age", value)]) >= 2_147_483_647, "{value}");
    }
}

// RFC 9111 section 4.2
#[test]
fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
    let freshness = of(&[("cache-control", "max-age=10"), ("age", "4")]);
    assert!(freshness.is_fresh(at(5)));
    assert!(!freshness.is_fresh(at(6)));
    assert_eq!(freshness.ttl(at(2)), Duration::from_secs(4));
    assert_eq!(freshness.ttl(at(60)), Duration::ZERO);
    assert_eq!(freshness.staleness(at(60)), Duration::from_secs(54));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_younger() {
    assert_eq!(of(&[("age", "4")]).age(at(-100)), Duration::from_secs(4));
}

#[test]
fn a_policys_ttl_counts_from_arrival() {
    let freshness = of(&[("cache-control", "max-age=10"), ("age", "7200")]).with_policy_ttl(Duration::from_secs(60));
    assert_eq!(freshness.source, LifetimeSource::Policy);
    assert_eq!(freshness.ttl(at(0)), Duration::from_secs(60));
    assert_eq!(freshness.age(at(0)), Duration::from_secs(7200));
}

// RFC 5861, RFC 9111 sections 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10
#[test]
fn what_limits_stale_use_is_kept() {
    let freshness = of(&[("cache-control", "max-age=1, stale-while-revalidate=2, stale-if-error=3")]);
    assert_eq!(freshness.stale_while_revalidate, Some(Duration::from_secs(2)));
    assert_eq!(freshness.stale_if_error, Some(Duration::from_secs(3)));
    assert!(of(&[("cache-control", "must-revalidate")]).must_revalidate);
    assert!(of(&[("cache-control", "proxy-revalidate")]).must_revalidate);
    assert!(of(&[("cache-control", "s-maxage=1")]).s_maxage);
    assert!(of(&[("cache-control", "no-cache")]).no_cache);
    assert!(!of(&[("cache-control", "no-cache=\"a\"")]).no_cache);
}

#[test]
fn what_is_made_stale_may_be_served_while_it_is_revalidated_as_long_as_before() {
    let second = Duration::from_secs(1);
    let fresh = of(&[("cache-control", "max-age=60, stale-while-revalidate=10")]);
    let stale = fresh.stale_since(at(20));
    assert!(stale.is_fresh(at(20) - second) && !stale.is_fresh(at(20)));
    assert_eq!(stale.fresh_until(), at(20));
    assert_eq!(stale.stale_while_revalidate, Some(50 * second));
    assert_eq!(stale.stale_if_error, fresh.stale_if_error);
    // Before it came is when it came.
    assert!(!fresh.stale_since(at(0) - 5 * second).is_fresh(at(0)));
    // What was stale already stays as it was.
    assert_eq!(fresh.stale_since(at(61)), fresh);
}
