//! When lists of preferences mean the same: RFC 9111 section 4.1, RFC 9110 sections 12.4.2, 12.5.3 and 12.5.4.

use super::{Fields, assert_matches};
use crate::support::{Origin, Proxy, Reply};

/// Pairs of values of one field and whether they match, as pairs of requests.
async fn assert_values_match(field: &str, vary: &'static [&'static str], pairs: &[(&str, &str, bool)]) {
    let rows: Vec<_> = pairs.iter().map(|(a, b, matches)| ([(field, *a)], [(field, *b)], *matches)).collect();
    assert_matches(vary, rows.iter().map(|(a, b, matches)| (&a[..], &b[..], *matches))).await;
}

// RFC 9111 section 4.1: "normalizing both header field values in a way that is known to have identical semantics"; RFC 9110
// sections 12.4.2 and 12.5.4
#[tokio::test]
async fn languages_that_mean_the_same_match() {
    let pairs = [
        ("en, de", "de, en", true),
        ("en,de", " en ,  de ", true),
        ("EN-gb, De", "en-GB, de", true),
        ("en;q=0.5, de", "de;q=1, en;q=0.5", true),
        ("en;q=0.5", "en;Q=0.500", true),
        ("en ; q=0.5", "en;q=0.5", true),
        ("en;q=1.000", "en", true),
        ("en, en", "en", true),
        ("en,, de,", "en, de", true),
        ("*, en;q=0.1", "en;q=0.1, *", true),
    ];
    assert_values_match("accept-language", &["Accept-Language"], &pairs).await;
}

// RFC 9111 section 4.1; RFC 9110 section 12.5.4. What the origin would choose for another list is not known.
#[tokio::test]
async fn languages_that_mean_something_else_do_not_match() {
    let pairs = [
        ("en", "de", false),
        ("en, de", "en", false),
        ("en", "en-GB", false),
        ("en;q=0.5, de", "en, de;q=0.5", false),
        ("en;q=0.5, de", "en;q=0.4, de", false),
        ("en;q=0", "en", false),
        ("en", "*", false),
        ("en, fr;q=0", "en", false),
        ("en", "", false),
    ];
    assert_values_match("accept-language", &["Accept-Language"], &pairs).await;
}

// RFC 9111 section 4.1: a request that does not match must not be answered, even where both clients like the stored language
// best. The origin may weigh what it has itself: a good text that is wanted half as much may go before a poor translation.
#[tokio::test]
async fn a_language_that_is_liked_best_is_not_served_to_a_client_that_would_take_others_too() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let takes_french = seen.header("accept-language").is_some_and(|languages| languages.contains("fr"));
        let (language, body) = if takes_french { ("fr", "le texte") } else { ("de", "Maschinenübersetzung") };
        Reply::fresh(body).header("vary", "accept-language").header("content-language", language)
    });
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").header("accept-language", "de").await;
    let answer = proxy.get("/a").header("accept-language", "fr;q=0.5, de;q=1.0").await;
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("le texte", false));
}

// RFC 9111 section 4.1; RFC 9110 sections 8.4.1 and 12.5.3
#[tokio::test]
async fn codings_that_mean_the_same_match() {
    let pairs = [
        ("gzip, br", "br, gzip", true),
        ("gzip,br", " gzip ,\tbr ", true),
        ("GZIP, Br", "gzip, br", true),
        ("gzip;q=1.0, br", "gzip, br", true),
        ("br;q=0.8, gzip;q=0.50", "gzip;q=0.5, br;Q=0.8", true),
        ("x-gzip, x-compress", "compress, gzip", true),
        ("gzip, gzip", "gzip", true),
        ("identity;q=0, *", "*, identity;q=0.000", true),
    ];
    assert_values_match("accept-encoding", &["Accept-Encoding"], &pairs).await;
}

// RFC 9111 section 4.1; RFC 9110 section 12.5.3
#[tokio::test]
async fn codings_that_mean_something_else_do_not_match() {
    let pairs = [
        ("gzip", "br", false),
        ("gzip, br", "gzip", false),
        ("gzip;q=0", "gzip", false),
        ("gzip;q=0.5, br", "gzip, br;q=0.5", false),
        ("gzip, identity;q=0", "gzip", false),
        // An empty field takes no coding at all, an absent one any.
        ("gzip", "", false),
        ("*", "gzip", false),
    ];
    assert_values_match("accept-encoding", &["Accept-Encoding"], &pairs).await;
    let empty: [(Fields<'_>, Fields<'_>, bool); 1] = [(&[], &[("accept-encoding", "")], false)];
    assert_matches(&["Accept-Encoding"], empty).await;
}

// RFC 9110 section 12.4.2: what is no weight makes no list of preferences; such values match only themselves.
#[tokio::test]
async fn a_list_of_preferences_that_is_none_matches_only_itself() {
    let pairs = [
        ("en;q=2", "en;q=2", true),
        ("en;q=2", "en", false),
        ("en;q=x, de", "de, en;q=x", false),
        ("en;q=0.1234", "en;q=0.123", false),
        ("en;level=1", "en", false),
    ];
    assert_values_match("accept-language", &["Accept-Language"], &pairs).await;
}
