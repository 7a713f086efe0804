//! Everything that a script can reach, declared once: name, type, one line of documentation, and an example.
//!
//! The engine answers from these tables, errors find the nearest right name in them, a test runs every example, and
//! editor types are generated from them, so none of the four can drift from the others.

use super::library::{self, Run};

/// A field of an object, or a method of the query.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As a script writes it.
    pub name: &'static str,
    /// Its type, in Luau's notation.
    pub kind: &'static str,
    /// One line about it.
    pub doc: &'static str,
    /// An expression that is true for the request of the test.
    pub example: &'static str,
}

/// A function of `tidegate`.
#[derive(Clone, Copy)]
pub struct Function {
    /// As a script writes it after `tidegate.`.
    pub name: &'static str,
    /// Its type, in Luau's notation.
    pub kind: &'static str,
    /// One line about it.
    pub doc: &'static str,
    /// An expression that is true.
    pub example: &'static str,
    pub(super) run: Run,
}

/// One object that hooks receive.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// As hooks call it.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// The objects, in the order of a request's life.
pub const OBJECTS: [Declared; 4] = [
    Declared { name: "req", fields: REQ },
    Declared { name: "res", fields: RES },
    Declared { name: "entry", fields: ENTRY },
    Declared { name: "cache", fields: CACHE },
];

const fn field(name: &'static str, kind: &'static str, doc: &'static str, example: &'static str) -> Field {
    Field { name, kind, doc, example }
}

/// `req`
pub const REQ: &[Field] = &[
    field("method", "string", "Method, as sent.", r#"req.method == "GET""#),
    field("scheme", "string", "`http` or `https`.", r#"req.scheme == "https""#),
    field("host", "string", "Host without port, in lower case.", r#"req.host == "img.example.com""#),
    field("path", "string", "Path as sent, without the query.", r#"req.path == "/album/1.jpg""#),
    field("query", "Query", "Query as sent; nothing is decoded.", r#"req.query.w == "640""#),
    field(
        "headers",
        "Headers",
        "Header fields; names in any case, repeated ones joined; nil if missing.",
        r#"req.headers["Accept-Language"] == "de, en""#,
    ),
    field("cookies", "{ [string]: string }", "Cookies; nil if missing.", r#"req.cookies.theme == "dark""#),
    field("client_ip", "string", "Address of the client.", r#"req.client_ip == "192.0.2.1""#),
    field("bucket", "string", "Name of the bucket.", r#"req.bucket == "media""#),
    field("now", "number", "Seconds since 1970: the only clock there is.", r#"req.now == 1700000000"#),
];

/// Methods of `req.query`. Each returns a query, so they chain; `*` in a name stands for any characters.
pub const QUERY: &[Field] = &[
    field(
        "only",
        "(self: Query, ...string) -> Query",
        "Keeps the pairs whose names match.",
        r#"tostring(req.query:only("w", "h")) == "w=640&h=480""#,
    ),
    field(
        "without",
        "(self: Query, ...string) -> Query",
        "Drops the pairs whose names match.",
        r#"tostring(req.query:without("utm_*")) == "w=640&h=480""#,
    ),
    field(
        "sorted",
        "(self: Query) -> Query",
        "Sorts the pairs by name; pairs of one name keep their order.",
        r#"tostring(req.query:only("w", "h"):sorted()) == "h=480&w=640""#,
    ),
];

/// `res`
pub const RES: &[Field] = &[
    field("status", "number", "Status code.", "res.status == 200"),
    field("headers", "Headers", "Header fields as the origin sent them.", r#"res.headers.etag == '"1"'"#),
    field("content_type", "string?", "`Content-Type`.", r#"res.content_type == "image/jpeg""#),
    field("content_length", "number?", "`Content-Length` as a number.", "res.content_length == 1024"),
];

/// `entry`
pub const ENTRY: &[Field] = &[
    field("status", "number", "Status code.", "entry.status == 200"),
    field("headers", "Headers", "Stored header fields.", r#"entry.headers["content-type"] == "image/jpeg""#),
    field("age", "number", "Age in seconds.", "entry.age == 30"),
    field("ttl", "number", "Seconds of freshness left; negative once stale.", "entry.ttl == 30"),
    field("stale", "boolean", "Whether it is stale.", "entry.stale == false"),
    field("tags", "{ string }", "Tags that the policy gave it.", r#"entry.tags[1] == "media""#),
    field("tier", "string?", "Tier that answered.", r#"entry.tier == "memory""#),
    field("hits", "number", "Hits before this one.", "entry.hits == 7"),
    field("size", "number", "Bytes of the body.", "entry.size == 1024"),
];

/// `cache`
pub const CACHE: &[Field] = &[
    field(
        "status",
        "string",
        "`hit`, `stale`, `revalidated`, `miss`, `bypass` or `error`.",
        r#"cache.status == "hit""#,
    ),
    field("reason", "string?", "Why, in one word.", "cache.reason == nil"),
    field("tier", "string?", "Tier that answered.", r#"cache.tier == "memory""#),
    field("age", "number?", "Age in seconds, if stored.", "cache.age == 30"),
    field("ttl", "number?", "Seconds of freshness left, if stored.", "cache.ttl == 30"),
];

/// What hooks may return, one table of fields for each hook. The examples are what a hook returns.
pub const DECISIONS: [Declared; 4] = [
    Declared { name: "request", fields: REQUEST_DECISION },
    Declared { name: "response", fields: RESPONSE_DECISION },
    Declared { name: "hit", fields: HIT_DECISION },
    Declared { name: "deliver", fields: DELIVER_DECISION },
];

/// What `request` may return.
pub const REQUEST_DECISION: &[Field] = &[
    field(
        "bypass",
        "string | boolean",
        "Keeps the cache out of the request, and says why.",
        r#"{ bypass = "authorized" }"#,
    ),
    field(
        "key",
        "{ KeyPart } | KeyPart",
        "What follows bucket and host in the cache key; without it, the URI as sent.",
        r#"{ key = { req.path, req.query:only("w") } }"#,
    ),
];

/// What `response` may return.
pub const RESPONSE_DECISION: &[Field] = &[
    field("ttl", "number | string", "How long it is fresh: seconds, or a duration.", r#"{ ttl = "1h30m" }"#),
    field(
        "stale_while_revalidate",
        "number | string",
        "How long it is served stale while it is fetched again.",
        r#"{ stale_while_revalidate = "10m" }"#,
    ),
    field(
        "stale_if_error",
        "number | string",
        "How long it is served stale when the origin fails.",
        r#"{ stale_if_error = "1d" }"#,
    ),
    field(
        "vary",
        "{ string } | string",
        "Request header fields that select a variant, besides those in `Vary`.",
        r#"{ vary = { "accept-encoding" } }"#,
    ),
    field("tags", "{ string } | string", "Names that a purge can use.", r#"{ tags = { "media" } }"#),
    field("tiers", "{ Tier } | Tier", "Where it may be kept; without it, anywhere.", r#"{ tiers = { "memory" } }"#),
    field("store", "boolean", "`false`: it is not stored.", "{ store = false }"),
    field("reason", "string", "Why it is not stored.", r#"{ store = false, reason = "draft" }"#),
    field(
        "override",
        "{ Override } | Override",
        "Safety rules that are set aside.",
        r#"{ ttl = 60, override = { "set-cookie" } }"#,
    ),
];

/// What `hit` may return.
pub const HIT_DECISION: &[Field] = &[
    field("revalidate", "boolean", "Asks the origin before it is served.", "{ revalidate = entry.age > 60 }"),
    field("miss", "boolean", "Fetches it as if it were not stored.", "{ miss = entry.hits > 1000 }"),
];

/// What `deliver` may return.
pub const DELIVER_DECISION: &[Field] = &[field(
    "headers",
    "{ [string]: string | number | false }",
    "Response header fields to set, or to remove with `false`.",
    r#"{ headers = { ["x-cache"] = cache.status, server = false } }"#,
)];

const fn function(
    name: &'static str,
    kind: &'static str,
    doc: &'static str,
    example: &'static str,
    run: Run,
) -> Function {
    Function { name, kind, doc, example, run }
}

/// `tidegate`
pub const LIBRARY: &[Function] = &[
    function(
        "encodings",
        "(...string) -> Normalizer",
        "Reduces `Accept-Encoding` to the best of these codings, or to `identity` if none is wanted.",
        r#"tidegate.encodings("br", "gzip")("gzip;q=0.5, br;q=0.4") == "gzip""#,
        library::encodings,
    ),
    function(
        "languages",
        "(...string) -> Normalizer",
        "Reduces `Accept-Language` to the best of these languages (RFC 4647 lookup), or to the first.",
        r#"tidegate.languages("en", "de")("de-AT, fr") == "de""#,
        library::languages,
    ),
    function(
        "types",
        "(...string) -> Normalizer",
        "Reduces `Accept` to the best of these types that it names (a wildcard names none), or to `*/*`.",
        r#"tidegate.types("image/avif", "image/webp")("image/webp,*/*") == "image/webp""#,
        library::types,
    ),
    function(
        "cookies",
        "(...string) -> Normalizer",
        "Reduces `Cookie` to these cookies, in this order, or to nothing.",
        r#"tidegate.cookies("theme")("id=1; theme=dark") == "theme=dark""#,
        library::cookies,
    ),
    function(
        "duration",
        "(text: string) -> number",
        "Seconds of a duration such as `1h30m`; units are `ms s m h d w y`.",
        r#"tidegate.duration("1h30m") == 5400"#,
        library::duration,
    ),
    function(
        "glob",
        "(pattern: string, text: string) -> boolean",
        "Whether the whole text matches the pattern, in which `*` stands for any characters.",
        r#"tidegate.glob("/album/*.jpg", "/album/1.jpg")"#,
        library::glob,
    ),
    function(
        "hash",
        "(text: string) -> string",
        "Sixteen hexadecimal digits that stand for the text (XXH3). Quick, and not a secret.",
        r#"tidegate.hash("a") == "e6c632b61e964e1f""#,
        library::hash,
    ),
    function(
        "lower",
        "(text: string) -> string",
        "The text with ASCII letters in lower case.",
        r#"tidegate.lower("Image/JPEG") == "image/jpeg""#,
        library::lower,
    ),
    function(
        "decode",
        "(text: string) -> string",
        "Undoes percent-encoding; what is not a valid escape stays as it is.",
        r#"tidegate.decode("a%2Fb%zz") == "a/b%zz""#,
        library::decode,
    ),
    function(
        "date",
        "(text: string) -> number?",
        "Seconds since 1970 of a date as in `Last-Modified`; nil if it is none.",
        r#"tidegate.date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777"#,
        library::date,
    ),
];

/// Header names whose lookup is made quick. A name that is not here works as well.
pub(super) const KNOWN_HEADERS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-origin",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "dpr",
    "etag",
    "expires",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "origin",
    "pragma",
    "prefer",
    "range",
    "referer",
    "retry-after",
    "save-data",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-gpc",
    "server",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "surrogate-key",
    "cache-tag",
    "te",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "viewport-width",
    "warning",
    "width",
    "x-api-key",
    "x-country",
    "x-device",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
    "x-tenant",
    "x-variant",
];
