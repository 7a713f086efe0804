//! Tests of `reuse`. Responses arrive at second 0 with age 0.

use super::super::cache_control::ResponseControl;
use super::super::freshness::FreshnessInput;
use super::super::testing::{at, headers};
use super::*;
use crate::policy::decision::Overrides;
use http::StatusCode;

fn stored(control: &str) -> Freshness {
    let headers = headers(&[("cache-control", control)]);
    let control = ResponseControl::of(&headers, Overrides::default());
    Freshness::of(&FreshnessInput {
        status: StatusCode::OK,
        headers: &headers,
        control: &control,
        request_time: at(0),
        response_time: at(0),
        heuristic: true,
    })
}

fn request(control: &str) -> RequestDirectives {
    RequestDirectives::of(&headers(&[("cache-control", control)]))
}

fn reuse(response: &str, asked: &str, age: i64) -> Reuse {
    may_reuse(&stored(response), &request(asked), true, at(age))
}

fn serves_stale(response: &str, asked: &str, cause: StaleCause, age: i64) -> bool {
    may_serve_stale(&stored(response), &request(asked), cause, StaleLimits::default(), at(age))
}

// RFC 9111 section 4.2
#[test]
fn fresh_is_served_and_stale_is_revalidated() {
    assert_eq!(reuse("max-age=10", "", 9), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "", 10), Reuse::Revalidate(RevalidateReason::Stale));
}

#[test]
fn fresh_is_served_under_must_revalidate() {
    assert_eq!(reuse("max-age=10, must-revalidate", "", 9), Reuse::Fresh);
}

// RFC 9111 section 5.2.2.4
#[test]
fn no_cache_is_revalidated_while_fresh() {
    assert_eq!(reuse("max-age=10, no-cache", "", 0), Reuse::Revalidate(RevalidateReason::NoCache));
    assert_eq!(reuse("max-age=10, no-cache=\"a\"", "", 0), Reuse::Fresh);
}

// RFC 9111 section 5.2.1.4
#[test]
fn a_clients_no_cache_is_honoured() {
    assert_eq!(reuse("max-age=10", "no-cache", 0), Reuse::Revalidate(RevalidateReason::RequestNoCache));
}

// RFC 9111 section 5.2.1.1
#[test]
fn a_clients_max_age_is_honoured() {
    let refused = Reuse::Revalidate(RevalidateReason::RequestMaxAge);
    assert_eq!(reuse("max-age=10", "max-age=5", 5), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "max-age=5", 6), refused);
    assert_eq!(reuse("max-age=10", "max-age=0", 0), refused);
}

// RFC 9111 section 5.2.1.3
#[test]
fn a_clients_min_fresh_is_honoured() {
    assert_eq!(reuse("max-age=10", "min-fresh=5", 5), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "min-fresh=5", 6), Reuse::Revalidate(RevalidateReason::RequestMinFresh));
}

#[test]
fn a_bucket_can_ignore_what_forces_a_way_to_the_origin() {
    for asked in ["no-cache", "max-age=0", "min-fresh=100"] {
        assert_eq!(may_reuse(&stored("max-age=10"), &request(asked), false, at(5)), Reuse::Fresh, "{asked}");
    }
}

// RFC 9111 section 5.2.1.5: no-store is not about what is already stored
#[test]
fn a_clients_no_store_does_not_refuse_what_is_stored() {
    assert_eq!(reuse("max-age=10", "no-store", 0), Reuse::Fresh);
}

// RFC 9111 section 5.2.1.2
#[test]
fn a_clients_max_stale_is_honoured() {
    let stale = Reuse::Stale(StaleReason::MaxStale);
    let refused = Reuse::Revalidate(RevalidateReason::Stale);
    assert_eq!(reuse("max-age=10", "max-stale=5", 15), stale);
    assert_eq!(reuse("max-age=10", "max-stale=5", 16), refused);
    assert_eq!(reuse("max-age=10", "max-stale", 100_000), stale);
}

// RFC 9111 section 4.2.4
#[test]
fn max_stale_cannot_undo_what_the_origin_forbids() {
    for control in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
        let control = format!("max-age=10, {control}");
        assert_eq!(reuse(&control, "max-stale", 11), Reuse::Revalidate(RevalidateReason::Stale), "{control}");
    }
}

// RFC 5861 section 3
#[test]
fn stale_while_revalidate_is_honoured_within_its_window() {
    let control = "max-age=1, stale-while-revalidate=4";
    assert_eq!(reuse(control, "", 4), Reuse::Stale(StaleReason::WhileRevalidate));
    assert_eq!(reuse(control, "", 5), Reuse::Revalidate(RevalidateReason::Stale));
}

#[test]
fn s_maxage_leaves_room_for_stale_while_revalidate_and_must_revalidate_does_not() {
    let window = "max-age=1, stale-while-revalidate=60";
    assert_eq!(reuse(&format!("{window}, s-maxage=1"), "", 4), Reuse::Stale(StaleReason::WhileRevalidate));
    for control in ["must-revalidate", "proxy-revalidate"] {
        let control = format!("{window}, {control}");
        assert_eq!(reuse(&control, "", 4), Reuse::Revalidate(RevalidateReason::Stale), "{control}");
    }
}

#[test]
fn a_client_that_asks_for_freshness_gets_no_stale_response() {
    let control = "max-age=1, stale-while-revalidate=60";
    for asked in ["max-age=30", "min-fresh=1"] {
        assert_eq!(reuse(control, asked, 4), Reuse::Revalidate(RevalidateReason::Stale), "{asked}");
    }
}

// RFC 9111 section 5.2.1.7
#[test]
fn only_if_cached_is_answered_from_the_cache_or_by_504() {
    assert_eq!(reuse("max-age=10", "only-if-cached", 5), Reuse::Fresh);
    assert_eq!(reuse("max-age=10", "only-if-cached", 11), Reuse::GatewayTimeout);
    assert_eq!(reuse("max-age=10", "only-if-cached, max-stale", 11), Reuse::Stale(StaleReason::MaxStale));
    assert_eq!(on_miss(&request("only-if-cached")), Miss::GatewayTimeout);
    assert_eq!(on_miss(&request("")), Miss::Fetch);
}

// RFC 9111 section 4.2.4
#[test]
fn a_disconnected_origin_is_stood_in_for_within_the_buckets_limit() {
    assert!(serves_stale("max-age=10", "", StaleCause::Disconnected, 11));
    assert!(serves_stale("max-age=10", "", StaleCause::Disconnected, 3600));
    assert!(!serves_stale("max-age=10", "", StaleCause::Disconnected, 3610));
}

#[test]
fn the_buckets_limit_can_be_off() {
    let limits = StaleLimits { on_disconnect: Duration::ZERO };
    assert!(!may_serve_stale(&stored("max-age=10"), &request(""), StaleCause::Disconnected, limits, at(10)));
}

#[test]
fn the_origin_can_forbid_stale_use() {
    for control in ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=2"] {
        let control = format!("max-age=2, {control}");
        assert!(!serves_stale(&control, "", StaleCause::Disconnected, 5), "{control}");
    }
    assert!(!serves_stale("max-age=2, must-revalidate, stale-if-error=60", "", StaleCause::Disconnected, 5));
    assert!(!serves_stale("max-age=2, no-cache, stale-if-error=60", "", StaleCause::ServerError, 1));
}

#[test]
fn what_is_fresh_stands_in_whatever_forbids_stale_use() {
    assert!(serves_stale("max-age=10, must-revalidate", "", StaleCause::ServerError, 5));
}

// RFC 5861 section 4
#[test]
fn an_error_of_the_origin_is_stood_in_for_where_the_response_allows_it() {
    assert!(!serves_stale("max-age=10", "", StaleCause::ServerError, 11));
    assert!(serves_stale("max-age=10, stale-if-error=60", "", StaleCause::ServerError, 69));
    assert!(!serves_stale("max-age=10, stale-if-error=60", "", StaleCause::ServerError, 70));
    assert!(serves_stale("s-maxage=10, stale-if-error=60", "", StaleCause::ServerError, 69));
}

#[test]
fn an_error_of_the_origin_is_stood_in_for_where_the_client_allows_it() {
    assert!(serves_stale("max-age=0", "stale-if-error=60", StaleCause::ServerError, 1));
    assert!(!serves_stale("max-age=0", "stale-if-error=1", StaleCause::ServerError, 3));
    assert!(!serves_stale("s-maxage=0", "stale-if-error=60", StaleCause::ServerError, 1));
}

#[test]
fn stale_if_error_replaces_the_buckets_limit() {
    assert!(!serves_stale("max-age=10, stale-if-error=5", "", StaleCause::Disconnected, 20));
    assert!(serves_stale("max-age=10, stale-if-error=86400", "", StaleCause::Disconnected, 50_000));
}

#[test]
fn while_another_request_revalidates_only_its_window_counts() {
    assert!(!serves_stale("max-age=10, stale-if-error=60", "", StaleCause::Revalidating, 11));
    assert!(serves_stale("max-age=10, stale-while-revalidate=60", "", StaleCause::Revalidating, 11));
}

#[test]
fn errors_are_500_502_503_and_504() {
    for status in [500, 502, 503, 504] {
        assert_eq!(StaleCause::of_status(StatusCode::from_u16(status).unwrap()), Some(StaleCause::ServerError));
    }
    for status in [200, 404, 501, 505, 599] {
        assert_eq!(StaleCause::of_status(StatusCode::from_u16(status).unwrap()), None);
    }
}
