//! `Expires`: RFC 9111 section 5.3, RFC 9110 section 5.6.7.

use super::{Fields, assert_fresh_for, date, pair, second};
use crate::support::Reply;

/// Weekday, day, month, year and time of an IMF-fixdate.
fn parts(fixdate: &str) -> [&str; 5] {
    let mut words = fixdate.split([' ', ',']).filter(|word| !word.is_empty());
    std::array::from_fn(|_| words.next().expect("five words of a date"))
}

fn rfc850(fixdate: &str) -> String {
    let [weekday, day, month, year, time] = parts(fixdate);
    let rest = match weekday {
        "Tue" => "sday",
        "Wed" => "nesday",
        "Thu" => "rsday",
        "Sat" => "urday",
        _ => "day",
    };
    format!("{weekday}{rest}, {day}-{month}-{} {time} GMT", &year[2..])
}

fn asctime(fixdate: &str) -> String {
    let [weekday, day, month, year, time] = parts(fixdate);
    format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0'))
}

// RFC 9110 section 5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
#[tokio::test]
async fn expires_may_be_in_any_of_the_three_formats_in_any_case() {
    let fixdate = date(3600);
    let dates = [
        fixdate.clone(),
        rfc850(&fixdate),
        asctime(&fixdate),
        fixdate.to_ascii_lowercase(),
        fixdate.to_ascii_uppercase(),
        rfc850(&fixdate).to_ascii_uppercase(),
        asctime(&fixdate).to_ascii_lowercase(),
    ];
    let rows: Vec<_> = dates.iter().map(|date| [("expires", date.as_str())]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 3600))).await;
}

// RFC 9110 section 5.6.7: more than fifty years in the future is the most recent past year with these two digits.
#[tokio::test]
async fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
    const YEAR: i64 = 31_556_952;
    let (soon, late) = (rfc850(&date(40 * YEAR)), rfc850(&date(60 * YEAR)));
    let (origin, proxy) = pair().await;
    assert!(second(&origin, &proxy, "/soon", Reply::ok("a").header("expires", &soon)).await.is_hit(), "{soon}");
    assert!(!second(&origin, &proxy, "/late", Reply::ok("a").header("expires", &late)).await.is_hit(), "{late}");
}

// RFC 9111 section 5.3: "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a
// time in the past"
#[tokio::test]
async fn an_expires_that_is_no_date_lies_in_the_past() {
    let modified = date(-864_000);
    let values = [
        "0",
        "-1",
        "",
        "never",
        "3600",
        "4102444800",
        "Thu, 01 Jan 2099 00:00:00",
        "Thu, 01 Jan 2099 00:00:00 UTC",
        "Thu, 01 Jan 2099 00:00:00 +0000",
        "Thu, 01 Jan 2099 00:00:00 CET",
        "Thu, 1 Jan 2099 00:00:00 GMT",
        "Thu, 01 Jan 99 00:00:00 GMT",
        "Thu, 01-Jan-2099 00:00:00 GMT",
        "Thu 01 Jan 2099 00:00:00 GMT",
        "Thu,01 Jan 2099 00:00:00 GMT",
        "Thu, 01  Jan 2099 00:00:00 GMT",
        "Thu, 01 Jan 2099  00:00:00 GMT",
        "Thu, 01 Jan 2099 0:00:00 GMT",
        "Thu, 01 Jan 2099 00.00.00 GMT",
        "Thu, 01 Jan 2099 25:00:00 GMT",
        "Thu, 01 Jan 2099 00:60:00 GMT",
        "Thu, 32 Jan 2099 00:00:00 GMT",
        "Thu, 30 Feb 2099 00:00:00 GMT",
        "Thu, 01 Foo 2099 00:00:00 GMT",
        "01 Jan 2099 00:00:00 GMT",
        "2099-01-01T00:00:00Z",
        "\"Thu, 01 Jan 2099 00:00:00 GMT\"",
        "Thu, 01 Jan 2099 00:00:00 GMT x",
        "Thu, 01 Jan 2099 00:00:00 GMT, Thu, 01 Jan 2099 00:00:00 GMT",
    ];
    let rows: Vec<_> = values.iter().map(|value| [("expires", *value), ("last-modified", &modified)]).collect();
    assert_fresh_for(rows.iter().map(|row| (&row[..], 0))).await;
}

// RFC 9111 section 4.2.1: "use its value minus the value of the Date response header field"
#[tokio::test]
async fn expires_counts_from_the_date_of_the_response() {
    let (past, soon, later, far) = (date(-600), date(600), date(1200), date(100_000));
    let rows: [(Fields<'_>, i64); 5] = [
        // Ten minutes old, and fresh for twenty.
        (&[("date", &past), ("expires", &soon)], 600),
        (&[("date", &soon), ("expires", &later)], 600),
        (&[("date", &soon), ("expires", &soon)], 0),
        (&[("date", &far), ("expires", &later)], 0),
        (&[("date", &past), ("expires", &past)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9110 section 6.6.1: a recipient may take the time of arrival for a date that is missing or broken
#[tokio::test]
async fn expires_counts_from_arrival_where_there_is_no_date() {
    let (past, later) = (date(-600), date(1200));
    let rows: [(Fields<'_>, i64); 4] = [
        (&[("expires", &later)], 1200),
        (&[("expires", &later), ("date", "foo")], 1200),
        (&[("expires", &later), ("date", "")], 1200),
        (&[("expires", &past)], 0),
    ];
    assert_fresh_for(rows).await;
}

// RFC 9111 section 4.2.1: "either the first occurrence should be used or the response should be considered stale"
#[tokio::test]
async fn of_two_expires_the_first_counts() {
    let (soon, later) = (date(600), date(6000));
    let rows: [(Fields<'_>, i64); 3] = [
        (&[("expires", &soon), ("expires", &later)], 600),
        (&[("expires", &later), ("expires", &soon)], 6000),
        (&[("expires", "0"), ("expires", &later)], 0),
    ];
    assert_fresh_for(rows).await;
}
