//! How old a response is: RFC 9111 sections 4.2.3 and 5.1.

use super::{Fields, TOLERANCE, assert_fresh_for, date, pair, second, with};
use crate::support::{Gate, Reply, eventually};

/// Asserts the age, in seconds, of a response that arrives with these fields.
async fn assert_age<'a>(rows: impl IntoIterator<Item = (Fields<'a>, i64)>) {
    let (origin, proxy) = pair().await;
    for (n, (fields, seconds)) in rows.into_iter().enumerate() {
        let reply = with(Reply::ok("a").header("cache-control", "max-age=100000"), fields);
        let answer = second(&origin, &proxy, &format!("/{n}"), reply).await;
        assert!(answer.is_hit(), "{fields:?}: {:?}", answer.cache_status());
        let age: i64 = answer.header("age").and_then(|age| age.parse().ok()).expect("an Age");
        assert!((seconds..=seconds + TOLERANCE).contains(&age), "{fields:?}: {age} seconds old, not {seconds}");
    }
}

// RFC 9111 section 4.2: "A fresh response is one whose age has not yet exceeded its freshness lifetime."
#[tokio::test]
async fn a_response_that_arrives_old_is_fresh_for_the_rest_or_not_at_all() {
    let hour_ago = date(-3600);
    let rows: [(Fields<'_>, i64); 5] = [
        (&[("cache-control", "max-age=5000"), ("age", "3600")], 1400),
        (&[("cache-control", "max-age=5000"), ("date", &hour_ago)], 1400),
        (&[("cache-control", "max-age=3600"), ("age", "3600")], 0),
        (&[("cache-control", "max-age=3000"), ("age", "3600")], 0),
        (&[("cache-control", "max-age=3000"), ("date", &hour_ago)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.3: "corrected_initial_age = max(apparent_age, corrected_age_value)"
#[tokio::test]
async fn the_age_is_the_greater_one_of_date_and_age() {
    let (hour_ago, in_an_hour) = (date(-3600), date(3600));
    let rows: [(Fields<'_>, i64); 6] = [
        (&[("date", &hour_ago)], 3600),
        (&[("age", "3600")], 3600),
        (&[("date", &hour_ago), ("age", "100")], 3600),
        (&[("date", &hour_ago), ("age", "9000")], 9000),
        (&[("date", &in_an_hour)], 0),
        (&[("date", &in_an_hour), ("age", "100")], 100),
    ];
    assert_age(rows).await;
}

// RFC 9111 section 5.1: "a cache encountering a message with a list-based Age field value SHOULD use the first member of
// the field value, discarding subsequent ones"
#[tokio::test]
async fn of_several_ages_the_first_counts() {
    let rows: [(Fields<'_>, i64); 5] = [
        (&[("age", "7200, 0")], 7200),
        (&[("age", "100, 7200")], 100),
        (&[("age", "7200"), ("age", "0")], 7200),
        (&[("age", "100"), ("age", "7200")], 100),
        (&[("age", " 7200 , x")], 7200),
    ];
    assert_age(rows).await;
}

// RFC 9111 section 5.1: "If the field value [...] is invalid (e.g., contains something other than a non-negative integer),
// a cache SHOULD ignore the field."
#[tokio::test]
async fn an_age_that_is_no_number_is_ignored() {
    let values =
        ["", "abc", "-7200", "+7200", "7200.0", "7200s", "7200 s", "\"7200\"", "7200;foo=bar", "x, 7200", "0x10"];
    let rows: Vec<_> = values.iter().map(|value| [("age", *value)]).collect();
    assert_age(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 sections 1.2.2 and 5.1
#[tokio::test]
async fn an_age_beyond_all_numbers_is_very_old() {
    let values = ["2147483647", "2147483648", "4294967296", "99999999999", "99999999999999999999999999"];
    let rows: Vec<_> = values.iter().map(|value| [("cache-control", "max-age=100000"), ("age", *value)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 section 5.1: an Age is sent when a response is served from a cache; section 4.2.3: it grows while it is there
#[tokio::test]
async fn the_age_of_a_stored_response_grows() {
    let (origin, proxy) = pair().await;
    let answer = second(&origin, &proxy, "/a", Reply::fresh("a").header("age", "7")).await;
    assert!(answer.is_hit());
    let age = async || proxy.get("/a").await.header("age").and_then(|age| age.parse::<u64>().ok());
    eventually("the response to grow older", async || age().await.filter(|age| *age > 8)).await;
    assert_eq!(origin.count("/a"), 1);
}

// RFC 9111 section 4.2.3: "corrected_age_value = age_value + response_delay"
#[tokio::test]
async fn the_time_that_an_origin_takes_to_answer_is_part_of_the_age() {
    let (origin, proxy) = pair().await;
    let gate = Gate::closed();
    origin.on("/clock", Reply::fresh("a"));
    origin.on("/slow", Reply::ok("a").header("cache-control", "max-age=3600").header("age", "100").after(&gate));
    let slow = proxy.get("/slow").spawn();
    origin.wait_for_requests("/slow", 1).await;
    // The clock starts after the slow request was sent.
    proxy.get("/clock").await;
    let two_seconds = async || proxy.get("/clock").await.header("age")?.parse::<u64>().ok().filter(|age| *age >= 2);
    eventually("two seconds to pass", two_seconds).await;
    gate.open();
    assert_eq!(slow.await.unwrap().status, 200);
    let hit = proxy.get("/slow").await;
    assert!(hit.is_hit());
    let age: u64 = hit.header("age").unwrap().parse().unwrap();
    assert!(age >= 102, "{age} seconds old, in spite of two seconds on the way");
}
