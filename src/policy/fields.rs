//! Answers what a script asks of `req`, `res`, `entry` and `cache`, and writes down that it asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::declare::{self, Field};
use super::error::suggestion;
use super::inputs::Named;
use super::normalize::Normalizer;
use super::query;
use super::raw::{Args, Running};

/// One of the tables that hooks receive, in the order of their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Object {
    Req = 0,
    Res = 1,
    Entry = 2,
    Cache = 3,
}

impl Object {
    pub(super) const ALL: [Object; 4] = [Object::Req, Object::Res, Object::Entry, Object::Cache];

    pub(super) fn from_number(number: u8) -> Object {
        match number {
            0 => Object::Req,
            1 => Object::Res,
            2 => Object::Entry,
            _ => Object::Cache,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Object::Req => "req",
            Object::Res => "res",
            Object::Entry => "entry",
            Object::Cache => "cache",
        }
    }

    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Object::Req => declare::REQ,
            Object::Res => declare::RES,
            Object::Entry => declare::ENTRY,
            Object::Cache => declare::CACHE,
        }
    }
}

/// Something that a script indexes by names of the request's making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Map {
    ReqHeaders,
    Cookies,
    ResHeaders,
    EntryHeaders,
}

impl Map {
    pub(super) const ALL: [Map; 4] = [Map::ReqHeaders, Map::Cookies, Map::ResHeaders, Map::EntryHeaders];

    pub(super) fn object(self) -> Object {
        match self {
            Map::ReqHeaders | Map::Cookies => Object::Req,
            Map::ResHeaders => Object::Res,
            Map::EntryHeaders => Object::Entry,
        }
    }

    pub(super) fn field(self) -> &'static str {
        match self {
            Map::Cookies => "cookies",
            Map::ReqHeaders | Map::ResHeaders | Map::EntryHeaders => "headers",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Map::ReqHeaders => "req.headers",
            Map::Cookies => "req.cookies",
            Map::ResHeaders => "res.headers",
            Map::EntryHeaders => "entry.headers",
        }
    }
}

/// What a script is told.
pub(super) enum Answer<'a> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(&'a [u8]),
    Owned(Vec<u8>),
    List(&'a [String]),
    Normalizer(Normalizer),
}

impl<'a> Answer<'a> {
    fn text_unless_empty(text: &'a str) -> Answer<'a> {
        if text.is_empty() { Answer::Nil } else { Answer::Text(text.as_bytes()) }
    }
}

/// A field of one of the objects. `Err(None)`: the object does not exist in this call.
pub(super) fn object<'a>(run: &Running<'a>, object: Object, key: &[u8]) -> Result<Answer<'a>, Option<String>> {
    let Some(place) = object.fields().iter().position(|field| field.name.as_bytes() == key) else {
        let wrong = String::from_utf8_lossy(key.get(..64).unwrap_or(key)).into_owned();
        let names = object.fields().iter().map(|field| field.name);
        return Err(Some(format!("{} has no field {wrong:?}{}", object.as_str(), suggestion(&wrong, names))));
    };
    let answer = match object {
        Object::Req => request(run, key),
        Object::Res => response(run, key),
        Object::Entry => entry(run, key),
        Object::Cache => cache(run, key),
    };
    if answer.is_some()
        && let Ok(mut inputs) = run.inputs.try_borrow_mut()
    {
        inputs.field(object, place);
    }
    answer.ok_or(None)
}

fn request<'a>(run: &Running<'a>, key: &[u8]) -> Option<Answer<'a>> {
    let req = run.req?;
    Some(match key {
        b"path" => Answer::Text(req.path.as_bytes()),
        b"method" => Answer::Text(req.method.as_bytes()),
        b"scheme" => Answer::Text(req.scheme.as_bytes()),
        b"host" => Answer::Text(req.host.as_bytes()),
        b"bucket" => Answer::Text(req.bucket.as_bytes()),
        b"client_ip" => Answer::Owned(req.client_ip.to_canonical().to_string().into_bytes()),
        b"now" => Answer::Number(req.now),
        // `headers`, `query` and `cookies` are there already and never asked for.
        _ => Answer::Nil,
    })
}

fn response<'a>(run: &Running<'a>, key: &[u8]) -> Option<Answer<'a>> {
    let res = run.res?;
    Some(match key {
        b"status" => Answer::Number(f64::from(res.status)),
        b"content_type" => match res.headers.get(header::CONTENT_TYPE) {
            Some(value) => Answer::Text(value.as_bytes()),
            None => Answer::Nil,
        },
        b"content_length" => {
            let length = res.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            length.and_then(|text| text.trim().parse::<u64>().ok()).map_or(Answer::Nil, |n| Answer::Number(n as f64))
        }
        _ => Answer::Nil,
    })
}

fn entry<'a>(run: &Running<'a>, key: &[u8]) -> Option<Answer<'a>> {
    let entry = run.entry?;
    Some(match key {
        b"status" => Answer::Number(f64::from(entry.status)),
        b"age" => Answer::Number(entry.age),
        b"ttl" => Answer::Number(entry.ttl),
        b"stale" => Answer::Bool(entry.stale),
        b"tags" => Answer::List(entry.tags),
        b"tier" => Answer::text_unless_empty(entry.tier),
        b"hits" => Answer::Number(entry.hits as f64),
        b"size" => Answer::Number(entry.size as f64),
        _ => Answer::Nil,
    })
}

fn cache<'a>(run: &Running<'a>, key: &[u8]) -> Option<Answer<'a>> {
    let cache = run.cache?;
    Some(match key {
        b"status" => Answer::Text(cache.status.as_bytes()),
        b"reason" => Answer::text_unless_empty(cache.reason),
        b"tier" => Answer::text_unless_empty(cache.tier),
        b"age" => cache.age.map_or(Answer::Nil, Answer::Number),
        b"ttl" => cache.ttl.map_or(Answer::Nil, Answer::Number),
        _ => Answer::Nil,
    })
}

/// A header field or a cookie. `None`: its object does not exist in this call. `atom` is what [`atom`] gave for `key`.
#[inline]
pub(super) fn map<'a>(run: &Running<'a>, map: Map, key: &[u8], atom: i32) -> Option<Answer<'a>> {
    let answer = match map {
        Map::ReqHeaders => {
            let req = run.req?;
            match known_header(atom) {
                Some(name) => request_header(req.headers, req.normalized, name),
                None => match HeaderName::from_bytes(key) {
                    Ok(name) => request_header(req.headers, req.normalized, &name),
                    Err(_) => Answer::Nil,
                },
            }
        }
        Map::Cookies => cookie(run.req?.headers, run.req?.normalized, key),
        Map::ResHeaders => header_of(run.res?.headers, key, atom),
        Map::EntryHeaders => header_of(run.entry?.headers, key, atom),
    };
    if let Ok(mut inputs) = run.inputs.try_borrow_mut() {
        inputs.name(Named::Map(map), key);
    }
    Some(answer)
}

fn request_header<'a>(
    headers: &'a HeaderMap,
    normalized: &'a [(HeaderName, Option<HeaderValue>)],
    name: &HeaderName,
) -> Answer<'a> {
    match normalized.iter().find(|(n, _)| n == name) {
        Some((_, Some(value))) => Answer::Text(value.as_bytes()),
        Some((_, None)) => Answer::Nil,
        None => join(headers, name),
    }
}

fn header_of<'a>(headers: &'a HeaderMap, key: &[u8], atom: i32) -> Answer<'a> {
    match known_header(atom) {
        Some(name) => join(headers, name),
        None => HeaderName::from_bytes(key).map_or(Answer::Nil, |name| join(headers, &name)),
    }
}

/// A field as HTTP reads it: repeated ones joined (RFC 9110 section 5.3; RFC 9113 section 8.2.3 for cookies).
fn join<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Answer<'a> {
    match joined(headers, name) {
        None => Answer::Nil,
        Some(Cow::Borrowed(value)) => Answer::Text(value),
        Some(Cow::Owned(value)) => Answer::Owned(value),
    }
}

/// The same for Rust.
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(Cow::Borrowed(first.as_bytes()));
    };
    let separator: &[u8] = if name == header::COOKIE { b"; " } else { b", " };
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// The first cookie of that name (RFC 6265 section 5.4 puts the most exact one first).
fn cookie<'a>(headers: &'a HeaderMap, normalized: &'a [(HeaderName, Option<HeaderValue>)], key: &[u8]) -> Answer<'a> {
    let find = |value: &'a HeaderValue| query::cookie(value.as_bytes(), key);
    let found = match normalized.iter().find(|(name, _)| name == header::COOKIE) {
        Some((_, value)) => value.as_ref().and_then(find),
        None => headers.get_all(header::COOKIE).iter().find_map(find),
    };
    found.map_or(Answer::Nil, Answer::Text)
}

/// `req.query.name` was read.
#[inline]
pub(super) fn note_query(run: &Running<'_>, name: &[u8]) {
    if let Ok(mut inputs) = run.inputs.try_borrow_mut() {
        inputs.name(Named::Query, name);
    }
}

/// The text of a query was read. What a method left of it was written down when the method ran.
pub(super) fn note_whole_query(run: &Running<'_>, own: bool) {
    if own && let Ok(mut inputs) = run.inputs.try_borrow_mut() {
        inputs.whole_query();
    }
}

/// `only`, `without` or `sorted` of a query: the text that is left.
pub(super) fn query_method(
    run: &Running<'_>,
    own: bool,
    method: &[u8],
    text: &[u8],
    args: &Args<'_>,
) -> Result<Vec<u8>, String> {
    let name = str::from_utf8(method).unwrap_or("?");
    if !declare::QUERY.iter().any(|m| m.name == name) {
        let names = declare::QUERY.iter().map(|m| m.name);
        return Err(format!("req.query has no method {name:?}{}", suggestion(name, names)));
    }
    let patterns = query::patterns(name, text, args)?;
    match name {
        "only" => {
            for pattern in &patterns {
                note_query(run, pattern);
            }
            Ok(query::only(text, &patterns))
        }
        "without" => {
            note_whole_query(run, own);
            Ok(query::without(text, &patterns))
        }
        _ => {
            note_whole_query(run, own);
            Ok(query::sorted(text))
        }
    }
}

// === Names of header fields ===

/// Names that scripts are likely to read. Luau remembers the number of each string, so that a lookup by one of these
/// neither parses nor allocates. The list is fixed, so no script can fill it.
static KNOWN: LazyLock<(Vec<HeaderName>, HashMap<&'static str, i16>)> = LazyLock::new(|| {
    let names: Vec<HeaderName> = declare::KNOWN_HEADERS.iter().map(|name| HeaderName::from_static(name)).collect();
    let numbers = declare::KNOWN_HEADERS.iter().zip(0i16..).map(|(name, number)| (*name, number)).collect();
    (names, numbers)
});

/// The number of a name, or -1.
pub(super) fn atom(name: &[u8]) -> i16 {
    let Some(name) = str::from_utf8(name).ok().filter(|name| name.len() <= 64) else { return -1 };
    match KNOWN.1.get(name) {
        Some(number) => *number,
        None => KNOWN.1.get(name.to_ascii_lowercase().as_str()).copied().unwrap_or(-1),
    }
}

fn known_header(atom: i32) -> Option<&'static HeaderName> {
    usize::try_from(atom).ok().and_then(|atom| KNOWN.0.get(atom))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_fields_are_joined_as_http_says() {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("a"));
        headers.append("accept", HeaderValue::from_static("b"));
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        assert_eq!(joined(&headers, &header::ACCEPT).as_deref(), Some(&b"a, b"[..]));
        assert_eq!(joined(&headers, &header::COOKIE).as_deref(), Some(&b"a=1; b=2"[..]));
        assert_eq!(joined(&headers, &header::HOST), None);
    }

    #[test]
    fn every_known_name_finds_itself_in_any_case() {
        for name in declare::KNOWN_HEADERS {
            assert_eq!(known_header(atom(name.to_uppercase().as_bytes()).into()).map(HeaderName::as_str), Some(*name));
        }
        assert_eq!(atom(b"x-unheard-of"), -1);
    }
}
