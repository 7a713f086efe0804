//! APIs, and the showcase.

use crate::table::{DAY, MINUTE, and, answered, ask, bypass, case, decide_all, lookup, passed, stored};
use serde_json::json;

#[test]
fn api_lua_decides_as_it_says() {
    let users = "http://localhost/api/users/1?b=1&a=2&a=1";
    decide_all(
        "api",
        &[
            case(
                "the query is sorted by name, and values of one name keep their order",
                ask(&[users]),
                lookup(&["api", "localhost", "/api/users/1", "a=2&a=1&b=1"]),
            ),
            case(
                "the origin's lifetime counts",
                answered(&[users], "200", &["cache-control: max-age=60"]),
                and(
                    stored(MINUTE, "max-age"),
                    json!({"response": {"stale_if_error": 10.0 * MINUTE, "tags": ["api", "resource:users"], "vary": []}}),
                ),
            ),
            case(
                "must-revalidate holds stale answers back",
                answered(&[users], "200", &["cache-control: max-age=60, must-revalidate"]),
                and(stored(MINUTE, "max-age"), json!({"response": {"stale_if_error": 0.0}})),
            ),
            case(
                "without a lifetime nothing is guessed, and it is stored to be asked about again",
                answered(&[users], "200", &["last-modified: Sun, 06 Nov 1994 08:49:37 GMT"]),
                and(stored(0.0, "policy"), json!({"response": {"stale_if_error": 0.0}})),
            ),
            case("without a validator that is of no use", answered(&[users], "200", &[]), passed("not-reusable")),
            case(
                "an error is not stored, whatever it states",
                answered(&[users], "404", &["cache-control: max-age=60"]),
                passed("error"),
            ),
            case(
                "neither is a broken server's",
                answered(&[users], "500", &["cache-control: max-age=60"]),
                passed("error"),
            ),
            case(
                "neither is a redirect",
                answered(&[users], "301", &["cache-control: max-age=60"]),
                passed("redirect"),
            ),
            case(
                "an answer in a language has a variant for each",
                answered(
                    &["-H", "accept-language: de-AT, fr;q=0.5", users],
                    "200",
                    &["cache-control: max-age=60", "content-language: de"],
                ),
                json!({"request": {"vary": {"accept-language": "de"}}, "response": {"vary": ["accept-language"]}}),
            ),
            case(
                "an unknown language is the first one",
                ask(&["-H", "accept-language: nl", users]),
                json!({"request": {"vary": {"accept-language": "en"}}}),
            ),
            case("a token keeps the cache out", ask(&["-H", "authorization: Bearer x", users]), bypass("authorized")),
            case("so does an API key", ask(&["-H", "x-api-key: x", users]), bypass("authorized")),
            case(
                "private stays private",
                answered(&[users], "200", &["cache-control: private", "set-cookie: s=1"]),
                passed("private"),
            ),
        ],
    );
}

#[test]
fn api_authenticated_lua_decides_as_it_says() {
    const TOKEN: &str = "authorization: Bearer x";
    const FRESH: &str = "cache-control: max-age=60";
    let shared = "http://api.example.com/api/catalogue/7?b=1&a=2";
    let own = "http://api.example.com/api/me";
    decide_all(
        "api_authenticated",
        &[
            case("a token keeps the cache out", ask(&["-H", TOKEN, own]), bypass("authorized")),
            case(
                "so do other credentials, everywhere",
                ask(&["-H", TOKEN, "-H", "x-api-key: x", shared]),
                bypass("credentials"),
            ),
            case("and cookies", ask(&["-H", "cookie: session=1", own]), bypass("credentials")),
            case(
                "a listed endpoint is looked up, and the token is not in the key",
                ask(&["-H", TOKEN, shared]),
                lookup(&["api_authenticated", "api.example.com", "/api/catalogue/7", "a=2&b=1"]),
            ),
            case("whoever sends no token is refused by the origin", ask(&[shared]), bypass("no-token")),
            case(
                "its answer may be shared",
                answered(&["-H", "authorization: Bearer x", shared], "200", &["cache-control: max-age=60"]),
                and(stored(MINUTE, "max-age"), json!({"response": {"tags": ["shared"]}})),
            ),
            case(
                "for ten seconds if nothing is stated",
                answered(&["-H", "authorization: Bearer x", shared], "200", &[]),
                stored(10.0, "policy"),
            ),
            case(
                "but not if it is private",
                answered(&["-H", "authorization: Bearer x", shared], "200", &["cache-control: private, max-age=60"]),
                passed("private"),
            ),
            case(
                "or sets a cookie",
                answered(&["-H", "authorization: Bearer x", shared], "200", &["set-cookie: a=1"]),
                passed("set-cookie"),
            ),
            case(
                "a refused token does not answer for others",
                answered(&["-H", "authorization: Bearer x", shared], "401", &["cache-control: max-age=60"]),
                passed("error"),
            ),
            case(
                "a path that climbs out of the list is not on it",
                ask(&["-H", TOKEN, "http://api.example.com/api/catalogue/..%2fme"]),
                bypass("authorized"),
            ),
            case(
                "without credentials an endpoint goes by the RFC",
                answered(&[own], "200", &[FRESH]),
                and(lookup(&["api_authenticated", "api.example.com", "http", "/api/me"]), stored(MINUTE, "max-age")),
            ),
        ],
    );
}

#[test]
fn showcase_lua_decides_as_it_says() {
    let product = "http://shop.example.com/products/7?page=02&size=20&utm_id=x&q=Red%20Shoe&z=1&a=1";
    let legacy = "http://shop.example.com/legacy/prices.json";
    decide_all(
        "showcase",
        &[
            case(
                "parameters are reduced before they are keyed on",
                ask(&[product]),
                lookup(&["showcase", "shop.example.com", "http", "/products/7", "2", "24", "red shoe", "a=1&z=1"]),
            ),
            case(
                "a key may be shorter",
                ask(&["http://shop.example.com/about"]),
                lookup(&["showcase", "shop.example.com", "http", "/about"]),
            ),
            case(
                "fields are reduced to classes by library and by function",
                ask(&[
                    "-H",
                    "user-agent: Mozilla Mobile",
                    "-H",
                    "accept-language: de-AT",
                    "-H",
                    "cookie: id=7; theme=dark",
                    product,
                ]),
                json!({"request": {"vary": {"user-agent": "mobile", "accept-language": "de", "cookie": "theme=dark",
                    "accept": "*/*", "accept-encoding": "identity"}}}),
            ),
            case("a cart keeps the cache out", ask(&["-H", "cookie: cart=7; theme=dark", product]), bypass("cart")),
            case("who is inside may ask for that", ask(&["-H", "x-no-cache: 1", product]), bypass("asked")),
            case(
                "who is outside may not",
                ask(&["-H", "x-no-cache: 1", "--client-ip", "192.0.2.1", product]),
                json!({"request": {"outcome": "lookup"}}),
            ),
            case(
                "the catalogue stays for a quarter of an hour",
                answered(&[product], "200", &["content-type: text/html"]),
                and(
                    stored(15.0 * MINUTE, "policy"),
                    json!({"response": {"vary": ["accept-language", "cookie", "user-agent"],
                        "stale_while_revalidate": MINUTE, "stale_if_error": DAY}}),
                ),
            ),
            case(
                "what has not changed for long stays for a day",
                answered(&[product], "200", &["last-modified: Sun, 06 Nov 1994 08:49:37 GMT"]),
                stored(DAY, "policy"),
            ),
            case(
                "rules can be set aside by name",
                answered(&[legacy], "200", &["cache-control: private", "set-cookie: a=1"]),
                and(stored(MINUTE, "policy"), json!({"response": {"tags": ["prices"]}})),
            ),
            case("and only those", answered(&[legacy], "200", &["cache-control: no-store"]), passed("no-store")),
            case("what it declines has a reason", answered(&[product], "203", &[]), passed("status")),
            case("what is huge, too", answered(&[product], "200", &["content-length: 2000000000"]), passed("huge")),
            case("a server error is left to the RFC", answered(&[product], "500", &[]), passed("server-error")),
        ],
    );
}
