//! Tests of `storable`.

use super::super::freshness::FreshnessInput;
use super::super::testing::{at, date_at, headers};
use super::*;
use crate::policy::decision::Overrides;
use std::time::Duration;

const TARGET: Target<'_> = Target { scheme: "http", authority: "example.com", path_and_query: "/a?b" };

/// A response with its request; what a test does not say is a `GET` with a fresh 200.
struct Case<'a> {
    method: Method,
    request: &'a [(&'a str, &'a str)],
    status: u16,
    response: &'a [(&'a str, &'a str)],
    overrides: Overrides,
    ttl: Option<u64>,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Case {
            method: Method::GET,
            request: &[],
            status: 200,
            response: &[("cache-control", "max-age=60")],
            overrides: Overrides::default(),
            ttl: None,
        }
    }
}

impl Case<'_> {
    fn ask(&self) -> Result<(), NotStorable> {
        let (request, response) = (headers(self.request), headers(self.response));
        let status = StatusCode::from_u16(self.status).unwrap();
        let control = ResponseControl::of(&response, self.overrides);
        let mut freshness = Freshness::of(&FreshnessInput {
            status,
            headers: &response,
            control: &control,
            request_time: at(0),
            response_time: at(0),
            heuristic: true,
        });
        if let Some(ttl) = self.ttl {
            freshness = freshness.with_policy_ttl(Duration::from_secs(ttl));
        }
        storable(&StoreInput {
            method: &self.method,
            target: TARGET,
            request: &request,
            status,
            response: &response,
            control: &control,
            freshness: &freshness,
        })
    }
}

fn response(pairs: &[(&str, &str)]) -> Result<(), NotStorable> {
    Case { response: pairs, ..Case::default() }.ask()
}

fn control(value: &str) -> Result<(), NotStorable> {
    response(&[("cache-control", value)])
}

fn status(status: u16, pairs: &[(&str, &str)]) -> Result<(), NotStorable> {
    Case { status, response: pairs, ..Case::default() }.ask()
}

// RFC 9111 section 3, "the request method is understood by the cache"
#[test]
fn responses_to_other_methods_are_not_stored() {
    for method in [Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::POST] {
        assert_eq!(Case { method: method.clone(), ..Case::default() }.ask(), Err(NotStorable::Method), "{method}");
    }
}

// RFC 9110 section 9.3.3
#[test]
fn a_post_with_stated_freshness_and_its_own_location_is_stored() {
    let post = |pairs: &[(&str, &str)]| Case { method: Method::POST, response: pairs, ..Case::default() }.ask();
    let expires = date_at(100);
    assert_eq!(post(&[("expires", &expires), ("content-location", "/a?b")]), Ok(()));
    assert_eq!(post(&[("expires", &expires), ("content-location", "http://EXAMPLE.com/a?b")]), Ok(()));
    for pairs in [
        &[("expires", expires.as_str()), ("content-location", "/other")][..],
        &[("expires", &expires), ("content-location", "http://other.example/a?b")],
        &[("expires", &expires), ("content-location", "/a?b"), ("content-location", "/x")],
        &[("content-location", "/a?b"), ("etag", "\"x\"")],
    ] {
        assert_eq!(post(pairs), Err(NotStorable::Method), "{pairs:?}");
    }
}

// RFC 9111 section 3, "the response status code is final"
#[test]
fn any_final_status_with_stated_freshness_is_stored() {
    let fresh = [("cache-control", "max-age=60")];
    for code in [200, 201, 203, 204, 299, 301, 302, 303, 307, 308, 400, 403, 404, 410, 499, 500, 502, 503, 504, 599] {
        assert_eq!(status(code, &fresh), Ok(()), "{code}");
    }
    for code in [100, 101, 103] {
        assert_eq!(status(code, &fresh), Err(NotStorable::Interim), "{code}");
    }
    assert_eq!(status(206, &fresh), Err(NotStorable::Partial));
    assert_eq!(status(304, &fresh), Err(NotStorable::NotModified));
}

// RFC 9111 section 5.2.2.3
#[test]
fn must_understand_stores_what_is_understood_in_spite_of_no_store() {
    let both = [("cache-control", "max-age=60, no-store, must-understand")];
    assert_eq!(status(200, &both), Ok(()));
    assert_eq!(status(599, &both), Err(NotStorable::NotUnderstood));
    assert_eq!(status(599, &[("cache-control", "max-age=60, must-understand")]), Err(NotStorable::NotUnderstood));
}

// RFC 9111 sections 5.2.2.5 and 5.2.1.5
#[test]
fn no_store_of_either_side_is_obeyed() {
    assert_eq!(control("max-age=60, no-store"), Err(NotStorable::NoStore));
    let case = Case { request: &[("cache-control", "no-store")], ..Case::default() };
    assert_eq!(case.ask(), Err(NotStorable::RequestNoStore));
}

#[test]
fn a_policy_sets_the_origins_no_store_aside_and_not_the_clients() {
    let overrides = Overrides { no_store: true, ..Overrides::default() };
    let pairs = [("cache-control", "no-store, max-age=60")];
    let case = Case { overrides, response: &pairs, ..Case::default() };
    assert_eq!(case.ask(), Ok(()));
    assert_eq!(Case { request: &[("cache-control", "no-store")], ..case }.ask(), Err(NotStorable::RequestNoStore));
}

// RFC 9111 section 5.2.2.7
#[test]
fn private_is_not_stored_unless_it_names_fields() {
    assert_eq!(control("private, max-age=60"), Err(NotStorable::Private));
    assert_eq!(control("private=\"x-user\", max-age=60"), Ok(()));
    let overrides = Overrides { private: true, ..Overrides::default() };
    let pairs = [("cache-control", "private, max-age=60")];
    assert_eq!(Case { overrides, response: &pairs, ..Case::default() }.ask(), Ok(()));
}

// RFC 9213
#[test]
fn a_targeted_field_decides_alone() {
    assert_eq!(
        response(&[("cdn-cache-control", "private"), ("cache-control", "max-age=60")]),
        Err(NotStorable::Private)
    );
    assert_eq!(
        response(&[("cdn-cache-control", "no-store"), ("cache-control", "max-age=60")]),
        Err(NotStorable::NoStore)
    );
    assert_eq!(response(&[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")]), Ok(()));
    assert_eq!(
        response(&[("cdn-cache-control", "max-age=\"60\""), ("cache-control", "no-store")]),
        Err(NotStorable::NoStore)
    );
}

// RFC 9111 section 3.5
#[test]
fn an_authorized_response_is_stored_only_where_it_says_so() {
    let authorized = |value: &str, overrides: Overrides| {
        let pairs = [("cache-control", value)];
        Case { request: &[("authorization", "x")], response: &pairs, overrides, ..Case::default() }.ask()
    };
    for value in ["max-age=60", "max-age=60, proxy-revalidate"] {
        assert_eq!(authorized(value, Overrides::default()), Err(NotStorable::Authorization), "{value}");
    }
    for value in ["max-age=60, public", "s-maxage=60", "max-age=60, must-revalidate"] {
        assert_eq!(authorized(value, Overrides::default()), Ok(()), "{value}");
    }
    assert_eq!(authorized("max-age=60", Overrides { authorization: true, ..Overrides::default() }), Ok(()));
}

#[test]
fn a_policys_ttl_does_not_share_what_was_authorized() {
    let case = Case { request: &[("authorization", "x")], response: &[], ttl: Some(60), ..Case::default() };
    assert_eq!(case.ask(), Err(NotStorable::Authorization));
}

// RFC 9111 sections 3 and 4.2.2
#[test]
fn without_freshness_only_heuristically_cacheable_responses_are_stored() {
    let modified = date_at(-3600);
    let pairs = [("last-modified", modified.as_str())];
    for code in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(status(code, &pairs), Ok(()), "{code}");
    }
    for code in [201, 202, 302, 403, 502, 503, 504, 599] {
        assert_eq!(status(code, &pairs), Err(NotStorable::NoFreshness), "{code}");
    }
    assert_eq!(status(599, &[("last-modified", modified.as_str()), ("cache-control", "public")]), Ok(()));
}

#[test]
fn a_policys_ttl_stores_any_final_status() {
    assert_eq!(Case { status: 503, response: &[], ttl: Some(60), ..Case::default() }.ask(), Ok(()));
}

// RFC 9111 section 4.1
#[test]
fn vary_star_is_not_stored() {
    let pairs = [("cache-control", "max-age=60"), ("vary", "foo, *")];
    assert_eq!(response(&pairs), Err(NotStorable::VaryStar));
}

#[test]
fn cookies_are_stored_where_the_origin_states_freshness() {
    assert_eq!(response(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]), Ok(()));
    assert_eq!(response(&[("expires", &date_at(60)), ("set-cookie", "a=b")]), Ok(()));
}

#[test]
fn cookies_are_not_stored_on_a_guess_or_for_revalidation() {
    let modified = date_at(-3600);
    let refused = Err(NotStorable::SetCookie);
    assert_eq!(response(&[("last-modified", &modified), ("set-cookie", "a=b")]), refused);
    assert_eq!(response(&[("etag", "\"x\""), ("set-cookie", "a=b")]), refused);
    assert_eq!(
        response(&[("etag", "\"x\""), ("set-cookie", "a=b"), ("cache-control", "max-age=9, no-cache")]),
        refused
    );
    assert_eq!(response(&[("etag", "\"x\""), ("set-cookie", "a=b"), ("cache-control", "max-age=0")]), refused);
}

#[test]
fn a_policys_ttl_stores_cookies_only_by_override() {
    let pairs = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    let case = Case { response: &pairs, ttl: Some(60), ..Case::default() };
    assert_eq!(case.ask(), Err(NotStorable::SetCookie));
    assert_eq!(Case { overrides: Overrides { set_cookie: true, ..Overrides::default() }, ..case }.ask(), Ok(()));
}

// RFC 9111 sections 5.2.2.4 and 5.2.2.7
#[test]
fn cookies_that_are_named_are_no_obstacle() {
    for directive in ["private=\"set-cookie\"", "no-cache=\"Set-Cookie\""] {
        let pairs = [("cache-control", directive), ("set-cookie", "a=b")];
        assert_eq!(Case { response: &pairs, ttl: Some(60), ..Case::default() }.ask(), Ok(()), "{directive}");
    }
}

#[test]
fn what_could_never_be_used_is_not_stored() {
    let useless = Err(NotStorable::NotReusable);
    assert_eq!(response(&[]), useless);
    assert_eq!(control("max-age=0"), useless);
    assert_eq!(control("max-age=60, no-cache"), useless);
    assert_eq!(control("max-age=0, must-revalidate, stale-if-error=60"), useless);
    assert_eq!(response(&[("cache-control", "max-age=60"), ("age", "60")]), useless);
}

#[test]
fn what_can_be_revalidated_is_stored() {
    for value in ["no-cache", "max-age=0", "max-age=60, no-cache"] {
        assert_eq!(response(&[("cache-control", value), ("etag", "\"x\"")]), Ok(()), "{value}");
    }
    assert_eq!(response(&[("etag", "\"x\"")]), Ok(()));
}

#[test]
fn what_can_be_used_stale_is_stored() {
    assert_eq!(control("max-age=0, stale-while-revalidate=60"), Ok(()));
    assert_eq!(control("max-age=0, stale-if-error=60"), Ok(()));
}
