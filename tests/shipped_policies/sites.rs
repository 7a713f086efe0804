//! Sites, images, video.

use crate::table::{
    DAY, HOUR, MINUTE, and, answered, ask, bypass, case, decide_all, decide_with_a_disk, kept_in, lookup, passed,
    stored,
};
use serde_json::json;

#[test]
fn static_lua_decides_as_it_says() {
    let page = "http://localhost/guide.html";
    decide_all(
        "static",
        &[
            case(
                "tracking parameters are not in the key, and the others are sorted",
                ask(&["http://localhost/a.html?z=1&utm_source=x&gclid=2&a=3&fbclid=4&_ga=5"]),
                lookup(&["static", "localhost", "http", "/a.html", "a=3&z=1"]),
            ),
            case(
                "http and https are two entries",
                ask(&["https://localhost/a.html"]),
                lookup(&["static", "localhost", "https", "/a.html", ""]),
            ),
            case(
                "a page is fresh for a minute and goes on while a new one is fetched",
                answered(&[page], "200", &["content-type: text/html"]),
                and(
                    stored(MINUTE, "policy"),
                    json!({"response": {"stale_while_revalidate": 10.0 * MINUTE, "stale_if_error": DAY, "tags": ["page"],
                        "tiers": ["memory"]}}),
                ),
            ),
            case(
                "the directory of a page is a page",
                answered(&["http://localhost/guide/"], "200", &[]),
                and(stored(MINUTE, "policy"), json!({"response": {"tags": ["page"]}})),
            ),
            case(
                "a picture of a bucket that states nothing is fresh for an hour",
                answered(&["http://localhost/photos/moon.svg"], "200", &["etag: \"1\"", "content-type: image/svg+xml"]),
                and(stored(HOUR, "policy"), json!({"response": {"stale_while_revalidate": DAY, "tags": ["asset"]}})),
            ),
            case(
                "a hash in the name makes it last a year",
                answered(&["http://localhost/assets/app.3f2a9c1b.js"], "200", &[]),
                and(stored(365.0 * DAY, "policy"), json!({"response": {"tags": ["fingerprinted"]}})),
            ),
            case(
                "so does a folder of a build tool",
                answered(&["http://localhost/_next/static/chunks/main.js"], "200", &[]),
                and(stored(365.0 * DAY, "policy"), json!({"response": {"tags": ["fingerprinted"]}})),
            ),
            case(
                "a date in the name of a picture is no hash",
                answered(&["http://localhost/photos/img-20240131.jpg"], "200", &[]),
                and(stored(HOUR, "policy"), json!({"response": {"tags": ["asset"]}})),
            ),
            case(
                "neither is a word",
                answered(&["http://localhost/jquery-effacade.js"], "200", &[]),
                stored(HOUR, "policy"),
            ),
            case(
                "a service worker is as short-lived as a page",
                answered(&["http://localhost/sw.js"], "200", &[]),
                stored(MINUTE, "policy"),
            ),
            case(
                "what the origin states wins over the policy's times",
                answered(&[page], "200", &["cache-control: max-age=5"]),
                and(
                    stored(5.0, "max-age"),
                    json!({"response": {"stale_while_revalidate": 0.0, "stale_if_error": DAY}}),
                ),
            ),
            case(
                "Expires is a statement as well",
                answered(&[page], "200", &["expires: 0", "etag: \"1\""]),
                stored(0.0, "expires"),
            ),
            case(
                "what is missing is remembered for half a minute",
                answered(&[page], "404", &["content-type: text/html"]),
                stored(30.0, "policy"),
            ),
            case("a server error is not stored", answered(&[page], "503", &[]), passed("server-error")),
            case("a redirect without a lifetime is not stored", answered(&[page], "302", &[]), passed("no-freshness")),
            case(
                "a cookie keeps it out of the cache",
                answered(&[page], "200", &["set-cookie: a=1"]),
                passed("set-cookie"),
            ),
            case(
                "so do no-store and private",
                answered(&[page], "200", &["cache-control: private, max-age=60"]),
                passed("private"),
            ),
            case(
                "codings become three classes",
                answered(&["-H", "accept-encoding: gzip;q=0.8, br, zstd", page], "200", &["vary: Accept-Encoding"]),
                json!({"request": {"vary": {"accept-encoding": "br"}}, "response": {"vary": ["accept-encoding"]}}),
            ),
            case("a form goes to the origin", ask(&["-X", "POST", page]), bypass("method")),
        ],
    );
}

#[test]
fn images_lua_decides_as_it_says() {
    const WEBP: &str = "content-type: image/webp";
    let cat = |query: &str| format!("http://img.example.com/albums/alps/1.jpg?{query}");
    let (plain, odd, other) = (cat("w=640&fit=cover"), cat("w=641"), cat("w=640&blur=9"));
    let (twice, fixed, unordered) = (cat("w=640&w=9999"), cat("w=640&fmt=webp"), cat("q=75&utm_id=1&w=640&h=256"));
    let (huge, nonsense) = (cat("w=1e99&h=-3&q=0"), cat("w=abc&fit=banana&fmt=exe"));
    let key = |query: &str| lookup(&["images", "img.example.com", "/albums/alps/1.jpg", query]);
    decide_all(
        "images",
        &[
            case("sizes that are steps are the key", ask(&[&unordered]), key("h=256&q=75&w=640")),
            case("a size between two steps is looked up under the next one", ask(&[&odd]), key("w=768")),
            case("no size is beyond the last step or below the first", ask(&[&huge]), key("h=64&q=40&w=3840")),
            case("values that nobody knows are left out of the key", ask(&[&nonsense]), key("")),
            case("an unknown parameter keeps the cache out", ask(&[&other]), bypass("unknown-parameter")),
            case(
                "an image is kept for a month, by its format, with its album's tag",
                answered(
                    &["-H", "accept: image/avif,image/webp,*/*;q=0.8", &plain],
                    "200",
                    &["content-type: image/avif"],
                ),
                and(
                    and(key("fit=cover&w=640"), stored(30.0 * DAY, "policy")),
                    json!({"request": {"vary": {"accept": "image/avif"}}, "response": {"vary": ["accept"],
                        "tags": ["images", "album:alps"], "stale_while_revalidate": DAY, "stale_if_error": 7.0 * DAY}}),
                ),
            ),
            case(
                "a client that names no new format gets the class of all others",
                ask(&["-H", "accept: image/png,image/*;q=0.9,*/*;q=0.8", &plain]),
                json!({"request": {"vary": {"accept": "*/*"}}}),
            ),
            case(
                "a format in the URL needs no variants",
                answered(&[&fixed], "200", &["content-type: image/webp"]),
                and(stored(30.0 * DAY, "policy"), json!({"response": {"vary": []}})),
            ),
            case("an odd size is not stored", answered(&[&odd], "200", &[WEBP]), passed("odd-size")),
            case(
                "a parameter that is sent twice is not stored, for the origin may take the other one",
                answered(&[&twice], "200", &[WEBP]),
                and(key("w=640"), passed("odd-size")),
            ),
            case(
                "an error page that says 200 is not stored",
                answered(&[&plain], "200", &["content-type: text/html"]),
                passed("not-an-image"),
            ),
            case(
                "a missing image is remembered for a minute",
                answered(&[&plain], "404", &["content-type: text/html"]),
                stored(MINUTE, "policy"),
            ),
            case(
                "the origin's own lifetime wins",
                answered(&[&plain], "200", &["content-type: image/jpeg", "cache-control: s-maxage=7"]),
                stored(7.0, "s-maxage"),
            ),
        ],
    );
}

#[test]
fn video_lua_decides_as_it_says() {
    let playlist = "http://video.example.com/live/one/index.m3u8?token=t";
    let segment = "http://video.example.com/live/one/seg7.m4s?token=t&Expires=1&v=2";
    let film = "http://video.example.com/films/moon.mp4";
    decide_all(
        "video",
        &[
            case(
                "tokens are not in the key of a segment",
                ask(&[segment]),
                lookup(&["video", "video.example.com", "/live/one/seg7.m4s", "v=2"]),
            ),
            case(
                "and stay in that of a playlist, which may have them in it",
                ask(&[playlist]),
                lookup(&["video", "video.example.com", "/live/one/index.m3u8", "token=t"]),
            ),
            case(
                "the parameters of low latency are in the key",
                ask(&["http://video.example.com/a.m3u8?_HLS_part=2&_HLS_msn=7&CMCD=x"]),
                lookup(&["video", "video.example.com", "/a.m3u8", "_HLS_msn=7&_HLS_part=2"]),
            ),
            case(
                "a playlist is fresh for two seconds, whatever is stated",
                answered(&[playlist], "200", &["cache-control: max-age=3600"]),
                and(
                    stored(2.0, "policy"),
                    json!({"response": {"stale_while_revalidate": 0.0, "stale_if_error": 10.0, "tiers": ["memory"],
                        "tags": ["playlist", "stream:/live/one/"]}}),
                ),
            ),
            case(
                "unless it must not be stored",
                answered(&[playlist], "200", &["cache-control: no-store"]),
                passed("no-store"),
            ),
            case(
                "a segment lasts",
                answered(&[segment], "200", &["content-length: 400000"]),
                and(
                    stored(365.0 * DAY, "policy"),
                    json!({"response": {"stale_if_error": DAY, "tags": ["segment", "stream:/live/one/"]}}),
                ),
            ),
            case(
                "as long as the origin states",
                answered(&[segment], "200", &["cache-control: max-age=90"]),
                stored(90.0, "max-age"),
            ),
            case(
                "a segment that is not there yet is asked for again after a second",
                answered(&[segment], "404", &[]),
                stored(1.0, "policy"),
            ),
            case(
                "a small file lasts a day",
                answered(&[film], "200", &["content-length: 1000"]),
                and(stored(DAY, "policy"), json!({"response": {"tags": ["file", "stream:/films/"]}})),
            ),
            case(
                "a large one is for the disk alone, and there is none here",
                answered(&[film], "200", &["content-length: 900000000"]),
                passed("no-tier"),
            ),
        ],
    );
}

#[test]
fn video_lua_uses_a_disk_where_there_is_one() {
    let film = "http://video.example.com/films/moon.mp4";
    let segment = "http://video.example.com/live/one/seg7.m4s?token=t";
    let playlist = "http://video.example.com/live/one/index.m3u8?token=t";
    decide_with_a_disk(
        "video",
        &[
            case(
                "a large file is for the disk alone",
                answered(&[film], "200", &["content-length: 900000000"]),
                and(stored(DAY, "policy"), kept_in(&["disk"])),
            ),
            case(
                "one that is just not large is in both",
                answered(&[film], "200", &["content-length: 8388608"]),
                kept_in(&["memory", "disk"]),
            ),
            case("one of unknown length as well", answered(&[film], "200", &[]), kept_in(&["memory", "disk"])),
            case(
                "a segment is in both",
                answered(&[segment], "200", &["content-length: 400000"]),
                kept_in(&["memory", "disk"]),
            ),
            case("a playlist is in memory alone", answered(&[playlist], "200", &[]), kept_in(&["memory"])),
            case(
                "a film that the disk does not take is not stored",
                answered(&[film], "200", &["content-length: 6000000000"]),
                passed("too-large"),
            ),
        ],
    );
}

#[test]
fn static_lua_uses_every_tier_that_is_large_enough() {
    decide_with_a_disk(
        "static",
        &[
            case(
                "a page is in both",
                answered(&["http://localhost/guide.html"], "200", &["content-type: text/html"]),
                kept_in(&["memory", "disk"]),
            ),
            case(
                "a picture as well",
                answered(&["http://localhost/photos/moon.svg"], "200", &["etag: \"1\""]),
                kept_in(&["memory", "disk"]),
            ),
            case(
                "one that is too large for memory is on disk",
                answered(&["http://localhost/photos/moon.svg"], "200", &["content-length: 8388609"]),
                kept_in(&["disk"]),
            ),
        ],
    );
}

#[test]
fn cms_lua_decides_as_it_says() {
    const VISITOR: &str = "cookie: _ga=GA1.2; theme=dark";
    const MEMBER: &str = "cookie: _ga=GA1.2; wordpress_logged_in_5f=ada%7C17";
    let post = "http://www.example.com/blog/tides?utm_source=x&page=2";
    let asset = "http://www.example.com/wp-content/themes/sea/style.css?ver=6.4";
    let mut cases = vec![
        case(
            "a visitor's cookies do not count",
            ask(&["-H", VISITOR, post]),
            and(
                lookup(&["cms", "www.example.com", "http", "/blog/tides", "page=2"]),
                json!({"request": {"vary": {"cookie": null}}}),
            ),
        ),
        case(
            "a page of visitors is one variant even where it varies on cookies",
            answered(
                &["-H", "cookie: _ga=1", post],
                "200",
                &["content-type: text/html; charset=utf-8", "vary: Cookie"],
            ),
            and(
                stored(5.0 * MINUTE, "policy"),
                json!({"request": {"vary": {"cookie": null}}, "response": {"vary": ["cookie"], "tags": ["page", "section:blog"],
                    "stale_while_revalidate": MINUTE, "stale_if_error": DAY}}),
            ),
        ),
        case(
            "who has a session gets nothing from the cache, and the origin gets all cookies",
            ask(&["-H", MEMBER, post]),
            and(
                bypass("session"),
                json!({"request": {"vary": {"cookie": "_ga=GA1.2; wordpress_logged_in_5f=ada%7C17"}}}),
            ),
        ),
        case(
            "but its assets",
            answered(&["-H", "cookie: SESS1=x", asset], "200", &["content-type: text/css"]),
            and(
                lookup(&["cms", "www.example.com", "http", "/wp-content/themes/sea/style.css", "ver=6.4"]),
                and(stored(DAY, "policy"), json!({"response": {"tags": ["asset", "section:wp-content"]}})),
            ),
        ),
        case(
            "a page that looks like an asset is not stored from a session",
            answered(
                &["-H", "cookie: SESS1=x", "http://www.example.com/profile/x.css"],
                "200",
                &["content-type: text/html"],
            ),
            passed("session"),
        ),
        case(
            "a 404 with a name on it neither",
            answered(&["-H", "cookie: SESS1=x", asset], "404", &["content-type: text/html"]),
            passed("session"),
        ),
        case(
            "a response that sets a cookie is not stored, even with a lifetime",
            answered(&[post], "200", &["set-cookie: a=1", "cache-control: public, max-age=60"]),
            passed("set-cookie"),
        ),
        case("a token keeps the cache out", ask(&["-H", "authorization: Basic x", post]), bypass("authorized")),
        case(
            "the origin's tags are taken over",
            answered(&[post], "200", &["surrogate-key: node:7 node_list", "content-type: text/html"]),
            json!({"response": {"tags": ["page", "section:blog", "node:7", "node_list"]}}),
        ),
        case(
            "the origin's lifetime wins",
            answered(&[post], "200", &["cache-control: max-age=900, public"]),
            stored(900.0, "max-age"),
        ),
        case(
            "what is not there is remembered for a minute",
            answered(&[post], "404", &["content-type: text/html"]),
            stored(MINUTE, "policy"),
        ),
        case("a server error is not stored", answered(&[post], "502", &[]), passed("server-error")),
    ];
    let paths =
        ["/wp-admin/", "/wp-login.php", "/cart/", "/checkout", "/my-account/orders", "/user/login", "/node/7/edit"];
    let paths = paths.map(|path| format!("http://www.example.com{path}"));
    let queries = ["preview=true", "preview_id=7", "add-to-cart=7", "replytocom=1", "wc-ajax=get", "_wpnonce=a"];
    let queries = queries.map(|query| format!("http://www.example.com/?p=1&{query}"));
    cases.extend(paths.iter().map(|url| case(url, ask(&[url]), bypass("private-path"))));
    cases.extend(queries.iter().map(|url| case(url, ask(&[url]), bypass("private-query"))));
    let cookies = ["wp-postpass_1=x", "comment_author_1=x", "woocommerce_items_in_cart=1", "SSESSab=x", "a=1;SESSab=x"];
    let cookies = cookies.map(|cookie| format!("cookie: {cookie}"));
    cases.extend(cookies.iter().map(|cookie| case(cookie, ask(&["-H", cookie, post]), bypass("session"))));
    decide_all("cms", &cases);
}
