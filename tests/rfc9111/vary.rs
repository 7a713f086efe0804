//! Which of the stored responses of a resource answers a request: RFC 9111 section 4.1, RFC 9110 section 12.5.5.

mod preferences;

use crate::support::cache_status::CacheStatus;
use crate::support::tls::Authority;
use crate::support::wire::{Body, Framing, Wire};
use crate::support::{Call, Gate, Origin, PATIENCE, Proxy, Reply, within};
use tokio::net::TcpSocket;
use tokio::process::Command;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// An origin whose every answer is fresh, has these lines of `Vary`, and says the how many-th it is.
async fn counting(vary: &'static [&'static str]) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let turn = std::sync::atomic::AtomicUsize::new(0);
    origin.otherwise(move |_| {
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        vary.iter().fold(Reply::fresh(turn.to_string()), |reply, line| reply.header("vary", line))
    });
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

fn asking(proxy: &Proxy, path: &str, fields: Fields<'_>) -> Call {
    fields.iter().fold(proxy.get(path), |call, (name, value)| call.header(name, value))
}

/// Asserts for pairs of requests whether what is stored for the first one answers the second.
async fn assert_matches<'a>(
    vary: &'static [&'static str],
    pairs: impl IntoIterator<Item = (Fields<'a>, Fields<'a>, bool)>,
) {
    let (origin, proxy) = counting(vary).await;
    for (n, (stored, asked, matches)) in pairs.into_iter().enumerate() {
        let path = format!("/{n}");
        let first = asking(&proxy, &path, stored).await;
        let second = asking(&proxy, &path, asked).await;
        assert_eq!(second.is_hit(), matches, "{stored:?}, then {asked:?}: {:?}", second.cache_status());
        assert_eq!(second.body == first.body, matches, "{stored:?}, then {asked:?}");
        assert_eq!(origin.count(&path), if matches { 1 } else { 2 }, "{stored:?}, then {asked:?}");
        // A match is one in both directions.
        assert!(asking(&proxy, &path, stored).await.is_hit(), "{stored:?} again, after {asked:?}");
    }
}

// RFC 9111 section 4.1
#[tokio::test]
async fn a_response_answers_requests_with_the_same_values_of_the_named_fields() {
    let rows: [(Fields<'_>, Fields<'_>, bool); 6] = [
        (&[("x-a", "1")], &[("x-a", "1")], true),
        (&[("x-a", "1")], &[("x-a", "2")], false),
        (&[("x-a", "1")], &[("X-A", "1")], true),
        (&[("x-a", "a")], &[("x-a", "A")], false),
        (&[("x-a", "1"), ("x-b", "1")], &[("x-b", "2"), ("x-a", "1")], true),
        (&[("x-a", "12")], &[("x-a", "1"), ("x-b", "2")], false),
    ];
    assert_matches(&["X-A"], rows).await;
}

// RFC 9111 section 4.1: "If (after any normalization that might take place) a header field is absent from a request, it can only
// match another request if it is also absent there."
#[tokio::test]
async fn a_field_that_is_absent_matches_only_where_it_is_absent() {
    let rows: [(Fields<'_>, Fields<'_>, bool); 4] =
        [(&[], &[], true), (&[], &[("x-a", "1")], false), (&[("x-a", "1")], &[], false), (&[], &[("x-a", "")], false)];
    assert_matches(&["X-A"], rows).await;
}

// RFC 9111 section 4.1: "all the presented request header fields nominated by that Vary field value"
#[tokio::test]
async fn each_of_several_named_fields_counts() {
    let rows: [(Fields<'_>, Fields<'_>, bool); 7] = [
        (&[("x-a", "1"), ("x-b", "2"), ("x-c", "3")], &[("x-c", "3"), ("x-b", "2"), ("x-a", "1")], true),
        (&[("x-a", "1"), ("x-b", "2"), ("x-c", "3")], &[("x-a", "9"), ("x-b", "2"), ("x-c", "3")], false),
        (&[("x-a", "1"), ("x-b", "2"), ("x-c", "3")], &[("x-a", "1"), ("x-b", "9"), ("x-c", "3")], false),
        (&[("x-a", "1"), ("x-b", "2"), ("x-c", "3")], &[("x-a", "1"), ("x-b", "2"), ("x-c", "9")], false),
        (&[("x-a", "1"), ("x-b", "2")], &[("x-a", "1"), ("x-b", "2"), ("x-c", "3")], false),
        (&[("x-a", "1"), ("x-b", "2")], &[("x-a", "2"), ("x-b", "1")], false),
        (&[("x-b", "2")], &[("x-b", "2")], true),
    ];
    assert_matches(&["X-A, x-b", "X-C"], rows).await;
}

// RFC 9110 sections 5.6.1 and 12.5.5: a list, whose names are case-insensitive
#[tokio::test]
async fn vary_is_read_as_a_list_however_it_is_spelled() {
    for vary in [
        &["x-a, x-b"][..],
        &["X-A,X-B"],
        &["  x-a  ,\tx-b\t"],
        &[",x-a,,x-b,"],
        &["x-b, x-a, X-A"],
        &["x-a", "x-b"],
        &["", "x-a", ",", "X-b"],
    ] {
        let (origin, proxy) = counting(vary).await;
        let ask = async |a, b| asking(&proxy, "/a", &[("x-a", a), ("x-b", b)]).await.is_hit();
        assert!(!ask("1", "1").await, "{vary:?}");
        assert!(!ask("2", "1").await && !ask("1", "2").await, "{vary:?}");
        assert!(ask("1", "1").await && ask("2", "1").await && ask("1", "2").await, "{vary:?}");
        assert_eq!(origin.count("/a"), 3, "{vary:?}");
    }
}

// RFC 9111 section 4.1: "A stored response with a Vary header field value containing a member "*" always fails to match."
#[tokio::test]
async fn a_star_in_vary_matches_no_request() {
    for vary in [
        &["*"][..],
        &[" * "],
        &["*, *"],
        &["*", "*"],
        &["*, accept-encoding"],
        &["accept-encoding, *"],
        &["accept-encoding", "*"],
        &[",*"],
        &["", "*"],
    ] {
        let (origin, proxy) = counting(vary).await;
        for n in 1..=2 {
            let answer = asking(&proxy, "/a", &[("accept-encoding", "gzip")]).await;
            assert!(!answer.is_hit() && origin.count("/a") == n, "{vary:?}");
        }
    }
}

// RFC 9110 section 12.5.5 has a list of names of fields; what can be none may be anything, and a cache must not guess.
#[tokio::test]
async fn what_can_be_no_name_of_a_field_in_vary_matches_no_request() {
    for vary in [&["x a"][..], &["x-a;x-b"], &["\"x-a\""], &["x-a, (x-b)"]] {
        let (origin, proxy) = counting(vary).await;
        asking(&proxy, "/a", &[]).await;
        assert!(!asking(&proxy, "/a", &[]).await.is_hit() && origin.count("/a") == 2, "{vary:?}");
    }
}

// RFC 9111 section 4.1: a response without Vary, or with an empty one, matches every request.
#[tokio::test]
async fn a_response_that_names_no_field_answers_every_request() {
    for vary in [&[][..], &[""], &[",", " , "]] {
        let (_origin, proxy) = counting(vary).await;
        asking(&proxy, "/a", &[("accept-language", "de"), ("x-a", "1")]).await;
        for fields in [&[][..], &[("accept-language", "fr")], &[("x-a", "2")]] {
            assert!(asking(&proxy, "/a", fields).await.is_hit(), "{vary:?}, {fields:?}");
        }
    }
}

// RFC 9110 section 12.5.5: any field of a request may select, known or not.
#[tokio::test]
async fn a_field_that_nobody_knows_selects_as_well() {
    for field in ["x-unknown", "cookie", "user-agent", "referer", "origin", "accept", "sec-ch-ua", "dnt"] {
        let origin = Origin::start().await;
        origin.on("/a", Reply::fresh("a").header("vary", field));
        let proxy = Proxy::plain(&origin).await;
        let ask = async |value| proxy.get("/a").header(field, value).await.is_hit();
        assert!(!ask("1").await && !ask("2").await, "{field}");
        assert!(ask("1").await && ask("2").await, "{field}");
    }
}

// RFC 9111 section 4.1 allows to change space "where allowed in the header field's syntax", which is not everywhere.
#[tokio::test]
async fn space_beside_a_comma_matters_where_a_comma_is_text() {
    let rows: [(Fields<'_>, Fields<'_>, bool); 5] = [
        (&[("user-agent", "x (a, b)")], &[("user-agent", "x (a,b)")], false),
        (&[("cookie", "a=1, b")], &[("cookie", "a=1,b")], false),
        (&[("cookie", "a=1,b=2")], &[("cookie", "a=1"), ("cookie", "b=2")], false),
        (&[("referer", "http://x/a, b")], &[("referer", "http://x/a,b")], false),
        (&[("user-agent", "x (a, b)"), ("cookie", "c=1")], &[("cookie", "c=1"), ("user-agent", "x (a, b)")], true),
    ];
    assert_matches(&["user-agent, cookie, referer"], rows).await;
}

/// The body and the `Cache-Status` of the answer to a client with this address.
async fn get_from(address: &str, proxy: &Proxy, path: &str) -> (String, bool) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let mut wire = Wire::new(socket.connect(proxy.listen()).await.unwrap());
    wire.write(format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n\r\n").as_bytes()).await.unwrap();
    let (_, headers) = within("an answer", wire.head()).await.unwrap();
    let mut body = Body::new(Framing::of(&headers, Framing::UntilClose));
    let mut text = Vec::new();
    while let Some(piece) = within("the body", body.piece(&mut wire)).await {
        text.extend(piece);
    }
    (String::from_utf8(text).unwrap(), CacheStatus::of(&headers).hit)
}

// RFC 9111 section 4.1. The field that the origin told apart by is the one that it saw, which a proxy writes.
#[tokio::test]
async fn a_response_that_varies_on_the_client_is_for_that_client() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        Reply::fresh(seen.header("x-forwarded-for").unwrap_or_default()).header("vary", "X-Forwarded-For")
    });
    let proxy = Proxy::plain(&origin).await;
    for round in 0..2 {
        for address in ["127.0.0.1", "127.0.0.2"] {
            assert_eq!(get_from(address, &proxy, "/a").await, (address.to_owned(), round == 1));
        }
    }
}

// RFC 9111 section 4.1, for hosts that share their entries
#[tokio::test]
async fn a_response_that_varies_on_the_host_is_for_that_host() {
    for field in ["x-forwarded-host", "host"] {
        let origin = Origin::start().await;
        origin.on_fn("/a", move |seen| Reply::fresh(seen.header(field).unwrap_or_default()).header("vary", field));
        let proxy = Proxy::builder(&origin).set("buckets.main.host_in_key", "false").start().await;
        for round in 0..2 {
            for host in ["one.example", "two.example"] {
                let answer = proxy.get("/a").host(host).await;
                assert_eq!((answer.text().as_str(), answer.is_hit()), (host, round == 1), "{field}");
            }
        }
    }
}

/// The answer to a client of HTTP/2, which names the host in a place of its own: the fields, lower case, and the body.
async fn get_by_http2(proxy: &Proxy, host: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--http2", "--insecure", "--max-time"]);
    command.arg(PATIENCE.as_secs().to_string()).arg("--connect-to").arg(format!("{host}:443:{}", proxy.tls()));
    let output = command.arg(format!("https://{host}/a")).output().await.expect("curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).to_ascii_lowercase()
}

// RFC 9111 section 4.1; RFC 9113 section 8.3.1
#[tokio::test]
async fn a_response_that_varies_on_the_host_is_for_that_host_by_http2_as_well() {
    let origin = Origin::start().await;
    origin.on_fn("/a", move |seen| Reply::fresh(seen.header("host").unwrap_or_default()).header("vary", "host"));
    let identity = Authority::new().identity("one.example");
    let builder = Proxy::builder(&origin).tls(&identity.chain, &identity.key);
    let proxy = builder.set("buckets.main.host_in_key", "false").start().await;
    for round in 0..2 {
        for host in ["one.example", "two.example"] {
            let answer = get_by_http2(&proxy, host).await;
            assert!(answer.starts_with("http/2 200") && answer.ends_with(host), "{host}: {answer}");
            assert_eq!(answer.contains("tidegate; hit"), round == 1, "{host}: {answer}");
        }
    }
}

// RFC 9111 section 4.1: no two requests match in a field that is another one each time.
#[tokio::test]
async fn a_response_that_varies_on_the_name_of_the_request_is_not_stored() {
    let (_origin, proxy) = counting(&["X-Request-Id"]).await;
    for _ in 0..2 {
        let answer = proxy.get("/a").await;
        assert!(!answer.is_hit() && !answer.cache_status().stored);
    }
}

// RFC 9111 section 4.1: "adding or removing whitespace, where allowed in the header field's syntax" and "combining multiple
// header field lines with the same field name"
#[tokio::test]
async fn lines_of_a_list_match_their_combination_and_space_between_members_does_not_matter() {
    let rows: [(Fields<'_>, Fields<'_>, bool); 9] = [
        (&[("x-a", "1, 2")], &[("x-a", "1"), ("x-a", "2")], true),
        (&[("x-a", "1, 2")], &[("x-a", "1,2")], true),
        (&[("x-a", "1, 2")], &[("x-a", "  1\t,  2  ")], true),
        (&[("x-a", "1, 2, 3")], &[("x-a", "1,2"), ("x-a", "3")], true),
        // The order of a list that nobody knows may matter.
        (&[("x-a", "1, 2")], &[("x-a", "2, 1")], false),
        (&[("x-a", "1, 2")], &[("x-a", "2"), ("x-a", "1")], false),
        (&[("x-a", "1 2")], &[("x-a", "12")], false),
        (&[("x-a", "1 2")], &[("x-a", "1  2")], false),
        (&[("x-a", "\"1, 2\"")], &[("x-a", "\"1,2\"")], false),
    ];
    assert_matches(&["x-a"], rows).await;
}

// RFC 9111 section 4.1
#[tokio::test]
async fn each_variant_is_stored_beside_the_others() {
    let (origin, proxy) = counting(&["Accept-Language"]).await;
    let languages = ["de", "en", "fr", "de-AT", "*", ""];
    for round in 0..2 {
        for (n, language) in languages.iter().enumerate() {
            let answer = proxy.get("/a").header("accept-language", language).await;
            assert_eq!((answer.text(), answer.is_hit()), (n.to_string(), round == 1), "{language}");
        }
    }
    assert_eq!(origin.count("/a"), languages.len());
}

// RFC 9111 section 4 lets a cache answer by a response that is on its way; section 4.1 holds for that one as well.
#[tokio::test]
async fn a_variant_that_is_on_its_way_answers_only_requests_that_match() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let script = gate.clone();
    origin.on_fn("/a", move |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        let reply = Reply::ok(&language).header("cache-control", "max-age=60").header("vary", "accept-language");
        reply.hold(&script).piece("-end").claim_length(6)
    });
    let proxy = Proxy::plain(&origin).await;
    let ask = async |language| proxy.get("/a").header("accept-language", language).open().await;
    let (first, second, third) = (ask("de").await, ask("en").await, ask("de").await);
    gate.open();
    let bodies = [first.rest().await.text(), second.rest().await.text(), third.rest().await.text()];
    assert_eq!(bodies, ["de-end", "en-end", "de-end"]);
    assert_eq!(origin.count("/a"), 2);
}

// RFC 9111 section 4.1: a request selects by the Vary of the responses that are stored, of which the newest is the best known.
#[tokio::test]
async fn a_response_without_vary_does_not_answer_by_a_variant_of_another() {
    let origin = Origin::start().await;
    // The origin adds its Vary only where it negotiated.
    origin.on_fn("/a", |seen| match seen.header("accept-language") {
        Some(language) => Reply::fresh(language).header("vary", "accept-language"),
        None => Reply::fresh("none").header("vary", "accept-language"),
    });
    let proxy = Proxy::plain(&origin).await;
    assert_eq!(proxy.get("/a").await.text(), "none");
    assert_eq!(proxy.get("/a").header("accept-language", "de").await.text(), "de");
    assert_eq!(proxy.get("/a").await.text(), "none");
    assert_eq!(proxy.get("/a").header("accept-language", "de").await.text(), "de");
    assert_eq!(origin.count("/a"), 2);
}

// RFC 9111 section 4.1: what another Vary says of new responses holds for new responses.
#[tokio::test]
async fn a_vary_that_changes_never_hands_out_the_wrong_variant() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let field = |name: &str| seen.header(name).unwrap_or_default();
        let reply = Reply::fresh(format!("{}/{}", field("x-a"), field("x-b")));
        if field("x-a") == "1" { reply.header("vary", "x-a") } else { reply.header("vary", "x-a, x-b") }
    });
    let proxy = Proxy::plain(&origin).await;
    for round in 0..3 {
        for (a, b, right) in
            [("1", "1", "1/"), ("2", "1", "2/1"), ("2", "2", "2/2"), ("1", "2", "1/"), ("3", "1", "3/1")]
        {
            let answer = asking(&proxy, "/a", &[("x-a", a), ("x-b", b)]).await.text();
            assert!(answer.starts_with(right), "round {round}: {answer} for {a}/{b}");
        }
    }
}

// RFC 9111 section 4.3.1: a variant is validated with the validators of its own
#[tokio::test]
async fn a_stale_variant_is_validated_by_its_own_tag() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        let reply = Reply::ok(&language).etag(&format!("\"{language}\"")).header("vary", "accept-language");
        reply.header("cache-control", "max-age=60").header("age", "100")
    });
    let proxy = Proxy::plain(&origin).await;
    for round in 0..2 {
        for language in ["de", "en"] {
            let answer = proxy.get("/a").header("accept-language", language).await;
            assert_eq!(answer.text(), language);
            let sent = origin.last("/a").header("if-none-match");
            assert_eq!(sent, (round == 1).then(|| format!("\"{language}\"")));
        }
    }
}

// RFC 9111 section 4.1: the fields of the request that was sent select; HEAD asks for the same representation as GET
#[tokio::test]
async fn a_head_is_answered_by_the_variant_of_its_fields() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| {
        let language = seen.header("accept-language").unwrap_or_default();
        Reply::fresh(&language).header("vary", "accept-language").header("content-language", &language)
    });
    let proxy = Proxy::plain(&origin).await;
    for language in ["de", "en"] {
        proxy.get("/a").header("accept-language", language).await;
    }
    for language in ["de", "en"] {
        let head = proxy.call("HEAD", "/a").header("accept-language", language).await;
        assert_eq!((head.is_hit(), head.header("content-language").as_deref()), (true, Some(language)));
    }
}

// RFC 9110 section 12.5.5: Vary is for the caches behind us as well.
#[tokio::test]
async fn vary_is_sent_with_each_variant() {
    let (_origin, proxy) = counting(&["X-A, x-b", "x-c"]).await;
    for round in 0..2 {
        let answer = proxy.get("/a").header("x-a", "1").await;
        let mut names: Vec<_> =
            answer.header("vary").unwrap().split(',').map(|n| n.trim().to_ascii_lowercase()).collect();
        names.sort_unstable();
        assert_eq!((names.join(" "), answer.is_hit()), ("x-a x-b x-c".to_owned(), round == 1));
    }
}
