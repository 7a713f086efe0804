//! Variants of one key.

use crate::support::{Origin, Proxy, Reply};

const ENCODINGS: &str = r#"return {
    normalize = { ["accept-encoding"] = tidegate.encodings("br", "gzip") },
}"#;

/// Answers with the value of a request field, fresh, and with this `Vary`.
async fn echo(field: &'static str, vary: &'static str) -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(move |seen| Reply::fresh(seen.header(field).unwrap_or_default()).header("vary", vary));
    origin
}

#[tokio::test]
async fn the_origins_vary_separates_variants() {
    let origin = echo("accept-language", "Accept-Language").await;
    let proxy = Proxy::plain(&origin).await;
    for round in 0..2 {
        for language in ["en", "de"] {
            let response = proxy.get("/a").header("accept-language", language).await;
            assert_eq!((response.text().as_str(), response.is_hit()), (language, round == 1));
        }
    }
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_missing_field_is_a_variant_too() {
    let origin = echo("accept-language", "accept-language").await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").header("accept-language", "en").await;
    assert_eq!(proxy.get("/a").await.text(), "");
    assert!(proxy.get("/a").header("accept-language", "en").await.is_hit());
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_variant_that_is_not_stored_is_a_vary_miss() {
    let origin = echo("accept-language", "Accept-Language").await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").header("accept-language", "en").await;
    let other = proxy.get("/a").header("accept-language", "de").await;
    assert_eq!(other.cache_status().fwd(), "vary-miss");
}

#[tokio::test]
async fn fields_that_are_not_varied_on_share_one_entry() {
    let origin = echo("accept-language", "accept-encoding").await;
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").header("accept-language", "en").await;
    let other = proxy.get("/a").header("accept-language", "de").await;
    assert_eq!((other.text().as_str(), other.is_hit()), ("en", true));
}

#[tokio::test]
async fn a_policy_can_vary_on_more_than_the_origin_says() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::ok(seen.header("x-device").unwrap_or_default()));
    let policy = r#"return { response = function() return { ttl = "1m", vary = { "x-device" } } end }"#;
    let proxy = Proxy::with_policy(&origin, policy).await;
    for round in 0..2 {
        for device in ["phone", "desktop"] {
            let response = proxy.get("/a").header("x-device", device).await;
            assert_eq!((response.text().as_str(), response.is_hit()), (device, round == 1));
        }
    }
}

#[tokio::test]
async fn both_fields_of_a_vary_count() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let field = |name| seen.header(name).unwrap_or_default();
        Reply::fresh(field("x-one") + &field("x-two")).header("vary", "x-one").header("vary", "x-two")
    });
    let proxy = Proxy::plain(&origin).await;
    for (one, two) in [("a", "b"), ("a", "c"), ("b", "b")] {
        let response = proxy.get("/a").header("x-one", one).header("x-two", two).await;
        assert_eq!((response.text(), response.is_hit()), (format!("{one}{two}"), false));
    }
    assert!(proxy.get("/a").header("x-one", "a").header("x-two", "c").await.is_hit());
}

#[tokio::test]
async fn normalised_values_share_a_variant() {
    let origin = echo("accept-encoding", "Accept-Encoding").await;
    let proxy = Proxy::with_policy(&origin, ENCODINGS).await;
    proxy.get("/a").header("accept-encoding", "gzip, deflate, br").await;
    assert!(proxy.get("/a").header("accept-encoding", "br;q=1.0, gzip;q=0.5").await.is_hit());
    assert!(!proxy.get("/a").header("accept-encoding", "gzip").await.is_hit());
}

#[tokio::test]
async fn missing_unknown_and_refused_encodings_are_one_class() {
    let origin = echo("accept-encoding", "Accept-Encoding").await;
    let proxy = Proxy::with_policy(&origin, ENCODINGS).await;
    proxy.get("/a").await;
    for value in ["zstd", "br;q=0, gzip;q=0", "identity"] {
        assert!(proxy.get("/a").header("accept-encoding", value).await.is_hit(), "{value}");
    }
}

#[tokio::test]
async fn the_origin_sees_the_normalised_value() {
    let origin = echo("accept-encoding", "Accept-Encoding").await;
    let proxy = Proxy::with_policy(&origin, ENCODINGS).await;
    let response = proxy.get("/a").header("accept-encoding", "gzip, deflate, br").await;
    assert_eq!(origin.last("/a").header("accept-encoding").as_deref(), Some("br"));
    assert_eq!(response.text(), "br");
}

#[tokio::test]
async fn vary_star_is_never_stored() {
    let origin = echo("accept", "*").await;
    let proxy = Proxy::plain(&origin).await;
    for n in 1..=3 {
        let response = proxy.get("/a").await;
        assert!(!response.is_hit() && !response.cache_status().stored);
        assert_eq!(origin.count("/a"), n);
    }
}

#[tokio::test]
async fn variants_of_one_key_are_capped_and_still_answered_right() {
    let origin = echo("x-n", "x-n").await;
    let proxy = Proxy::builder(&origin).set("cache.max_variants", "3").start().await;
    let mut hits = 0;
    for round in 0..2 {
        for n in 0..20 {
            let n = n.to_string();
            let response = proxy.get("/a").header("x-n", &n).await;
            assert_eq!((response.status, response.text()), (200, n));
            hits += usize::from(round == 1 && response.is_hit());
        }
    }
    // The contract leaves open which three are kept, so that a few more may come by as others leave.
    assert!(hits <= 6, "{hits} of 20 variants were kept");
}

#[tokio::test]
async fn the_vary_field_is_served_with_a_hit() {
    let origin = echo("accept-language", "Accept-Language").await;
    let proxy = Proxy::plain(&origin).await;
    for _ in 0..2 {
        let response = proxy.get("/a").await;
        assert!(response.header("vary").unwrap().to_ascii_lowercase().contains("accept-language"));
    }
}
