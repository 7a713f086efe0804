//! Reads what a hook returned into a decision, or says what is wrong with it.
//!
//! Only raw access is used, so no metamethod of the script's runs here, and every size is bounded.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::decision::{DeliverDecision, HitDecision, Overrides, RequestDecision, ResponseDecision, TierName};
use super::declare::{DELIVER_DECISION, Field, HIT_DECISION, REQUEST_DECISION, RESPONSE_DECISION};
use super::error::{Hook, suggestion};
use super::library::{LONGEST_DURATION, parse_duration};
use super::raw::{Table, Value};
use crate::key::KeyParts;

/// What is wrong, as the end of a sentence that a hook's name begins.
type Problem = String;

/// Most parts of a key, and most bytes of all of them.
const MOST_PARTS: usize = 256;
const MOST_KEY_BYTES: usize = 64 << 10;

/// Most tags of one response, and longest tag in bytes.
const MOST_TAGS: usize = 10_000;
const LONGEST_TAG: usize = 1 << 10;

/// Most fields that a response may vary on or that `deliver` may set.
const MOST_FIELDS: usize = 100;

/// Longest value that `deliver` may set, in bytes.
const LONGEST_VALUE: usize = 16 << 10;

/// Longest reason, in bytes: it goes into a header field and a log line.
const LONGEST_REASON: usize = 100;

/// The table that a hook returned, or `None` for nothing.
fn returned<'r>(hook: Hook, value: Value<'r>) -> Result<Option<Table<'r>>, Problem> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(table) => Ok(Some(table)),
        other => Err(format!("{hook} must return a table or nothing, not a {}", other.kind())),
    }
}

/// The name of a field in a decision.
fn field_name<'r>(key: &'r Value<'_>, fields: &[Field]) -> Result<&'r [u8], Problem> {
    match key {
        Value::Text(name) => Ok(name),
        other => Err(format!(
            "a decision has named fields, not a {} as a key; there are {}",
            other.kind(),
            fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn unknown(name: &[u8], fields: &[Field]) -> Problem {
    let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
    format!("unknown field {name:?} in the decision{}", suggestion(&name, fields.iter().map(|field| field.name)))
}

fn wrong_type<T>(field: &str, wanted: &str, got: &Value<'_>) -> Result<T, Problem> {
    Err(format!("{field} must be {wanted}, not a {}", got.kind()))
}

// === request ===

pub(super) fn request(value: Value<'_>) -> Result<RequestDecision, Problem> {
    let mut decision = RequestDecision::default();
    let Some(table) = returned(Hook::Request, value)? else { return Ok(decision) };
    table.each(|key, value| {
        match field_name(&key, REQUEST_DECISION)? {
            b"key" => decision.key = Some(key_parts(value)?),
            b"bypass" => {
                decision.bypass = match value {
                    Value::Bool(false) => None,
                    Value::Bool(true) => Some(String::from("policy")),
                    Value::Text(text) => Some(reason("bypass", text)?),
                    other => return wrong_type("bypass", "a reason (a string) or true", &other),
                }
            }
            name => return Err(unknown(name, REQUEST_DECISION)),
        }
        Ok(())
    })?;
    Ok(decision)
}

fn reason(field: &str, text: &[u8]) -> Result<String, Problem> {
    match str::from_utf8(text) {
        Ok(text) if text.len() > LONGEST_REASON => {
            Err(format!("{field} is a reason of {} bytes; at most {LONGEST_REASON} are kept", text.len()))
        }
        Ok("") => Err(format!("{field} is an empty reason; say why in a word or two")),
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("{field} must be printable text")),
    }
}

fn key_parts(value: Value<'_>) -> Result<KeyParts, Problem> {
    // Room for a usual key, so that it is allocated once.
    let mut parts = KeyParts::with_capacity(120);
    let Value::Table(table) = value else {
        key_part(&value, 1, &mut |part| parts.push(part))?;
        return Ok(parts);
    };
    let in_order = table.list(|index, value| {
        if index as usize > MOST_PARTS {
            return Err(format!("key has an element {index}; at most {MOST_PARTS} are allowed"));
        }
        key_part(&value, index, &mut |part| parts.push(part))?;
        bounded_key(&parts)
    })?;
    if !in_order {
        parts = scattered_key_parts(&table)?;
    }
    if parts.is_empty() {
        return Err(String::from("key has no parts; leave it out for the URI as sent"));
    }
    Ok(parts)
}

fn bounded_key(parts: &KeyParts) -> Result<(), Problem> {
    if parts.framed_len() > MOST_KEY_BYTES { Err(format!("key has more than {MOST_KEY_BYTES} bytes")) } else { Ok(()) }
}

/// A key whose table is no plain list: with a hole, with other fields, or filled piece by piece so that its elements are
/// in no order.
fn scattered_key_parts(table: &Table<'_>) -> Result<KeyParts, Problem> {
    let mut found: Vec<(u32, Vec<u8>)> = Vec::new();
    table.each(|index, value| {
        let index = position("key", &index, MOST_PARTS)?;
        key_part(&value, index, &mut |part| found.push((index, part.to_vec())))
    })?;
    found.sort_unstable_by_key(|(index, _)| *index);
    let mut parts = KeyParts::default();
    for (expected, (index, part)) in (1u32..).zip(&found) {
        if *index != expected {
            return Err(hole("key", expected, *index));
        }
        parts.push(part);
        bounded_key(&parts)?;
    }
    Ok(parts)
}

fn hole(field: &str, missing: u32, next: u32) -> Problem {
    format!("{field}[{missing}] is nil but {field}[{next}] is not; write `or \"\"` behind what can be missing")
}

fn position(field: &str, index: &Value<'_>, most: usize) -> Result<u32, Problem> {
    match index {
        Value::Number(n) if *n >= 1.0 && n.fract() == 0.0 => {
            if *n > most as f64 {
                return Err(format!("{field} has an element {n}; at most {most} are allowed"));
            }
            Ok(*n as u32)
        }
        Value::Text(name) => Err(format!(
            "{field} must be a list, without the field {:?}",
            String::from_utf8_lossy(name.get(..64).unwrap_or(name))
        )),
        other => Err(format!("{field} must be a list, without a {} as an index", other.kind())),
    }
}

fn key_part(value: &Value<'_>, index: u32, push: &mut dyn FnMut(&[u8])) -> Result<(), Problem> {
    match value {
        Value::Text(text) | Value::Query(text) => {
            if text.len() > MOST_KEY_BYTES {
                return Err(format!("key[{index}] has {} bytes; at most {MOST_KEY_BYTES} are allowed", text.len()));
            }
            push(text);
        }
        Value::Bool(true) => push(b"true"),
        Value::Bool(false) => push(b"false"),
        Value::Number(n) if n.is_finite() => {
            let mut text = String::new();
            // `2.0` and `2` are one number in Lua, and one part.
            if n.fract() == 0.0 && n.abs() < 1e15 {
                let _ = write!(text, "{}", *n as i64);
            } else {
                let _ = write!(text, "{n:e}");
            }
            push(text.as_bytes());
        }
        Value::Number(n) => return Err(format!("key[{index}] is {n}")),
        Value::Stale => return Err(format!("key[{index}] is a query of an earlier request")),
        other => {
            return Err(format!(
                "key[{index}] must be a string, a number, a boolean or a query, not a {}",
                other.kind()
            ));
        }
    }
    Ok(())
}

// === response ===

pub(super) fn response(value: Value<'_>) -> Result<ResponseDecision, Problem> {
    let mut decision = ResponseDecision::default();
    let Some(table) = returned(Hook::Response, value)? else { return Ok(decision) };
    let (mut store, mut why) = (true, None);
    table.each(|key, value| {
        match field_name(&key, RESPONSE_DECISION)? {
            b"ttl" => decision.ttl = Some(duration("ttl", value)?),
            b"stale_while_revalidate" => {
                decision.stale_while_revalidate = Some(duration("stale_while_revalidate", value)?);
            }
            b"stale_if_error" => decision.stale_if_error = Some(duration("stale_if_error", value)?),
            b"vary" => decision.vary = list("vary", value, MOST_FIELDS, vary_field)?,
            b"tags" => decision.tags = list("tags", value, MOST_TAGS, tag)?,
            b"tiers" => decision.tiers = Some(tiers(value)?),
            b"override" => {
                let mut overrides = Overrides::default();
                list("override", value, Overrides::NAMES.len(), |name| {
                    let name = String::from_utf8_lossy(name);
                    match overrides.set(&name) {
                        true => Ok(()),
                        false => Err(format!("has no rule {name:?}{}", suggestion(&name, Overrides::NAMES))),
                    }
                })?;
                decision.overrides = overrides;
            }
            b"store" => match value {
                Value::Bool(b) => store = b,
                other => return wrong_type("store", "true or false", &other),
            },
            b"reason" => match value {
                Value::Text(text) => why = Some(reason("reason", text)?),
                other => return wrong_type("reason", "a string", &other),
            },
            name => return Err(unknown(name, RESPONSE_DECISION)),
        }
        Ok(())
    })?;
    match (store, why) {
        (true, Some(_)) => return Err(String::from("reason goes with `store = false`, which is missing")),
        (true, None) => {}
        (false, why) => decision.decline = Some(why.unwrap_or_else(|| String::from("policy"))),
    }
    Ok(decision)
}

fn duration(field: &str, value: Value<'_>) -> Result<Duration, Problem> {
    match value {
        Value::Number(n) if n.is_nan() => Err(format!("{field} is not a number (nan)")),
        Value::Number(n) if n < 0.0 => {
            Err(format!("{field} is negative ({n}); use 0 for \"stale at once\" or `store = false` to not store"))
        }
        Value::Number(n) if n > LONGEST_DURATION.as_secs_f64() => {
            Err(format!("{field} is {n} seconds, more than {}", LONGEST_DURATION.as_secs()))
        }
        Value::Number(n) => Duration::try_from_secs_f64(n).map_err(|e| format!("{field}: {e}")),
        Value::Text(text) => str::from_utf8(text)
            .map_err(|_| String::from("not text"))
            .and_then(parse_duration)
            .map_err(|e| format!("{field}: {e}")),
        other => wrong_type(field, "a number of seconds or a duration such as \"1h30m\"", &other),
    }
}

fn vary_field(name: &[u8]) -> Result<String, Problem> {
    match HeaderName::from_bytes(name) {
        // RFC 9110 section 12.5.5: `*` says that anything may matter, so nothing could ever be served.
        Ok(_) if name == b"*" => Err(String::from("is \"*\", which matches no request; use `store = false`")),
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(format!("has {:?}, which is not the name of a header field", shorten(name))),
    }
}

fn tag(tag: &[u8]) -> Result<String, Problem> {
    match str::from_utf8(tag) {
        Ok("") => Err(String::from("has an empty tag")),
        Ok(text) if text.len() > LONGEST_TAG => {
            Err(format!("has a tag of {} bytes; at most {LONGEST_TAG} are allowed", text.len()))
        }
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("has {:?}, which is not printable text", shorten(tag))),
    }
}

fn tiers(value: Value<'_>) -> Result<Vec<TierName>, Problem> {
    let mut tiers = list("tiers", value, TierName::ALL.len(), |name| {
        TierName::ALL.into_iter().find(|tier| tier.as_str().as_bytes() == name).ok_or_else(|| {
            let name = shorten(name);
            format!("has no tier {name:?}{}", suggestion(&name, TierName::ALL.map(TierName::as_str)))
        })
    })?;
    if tiers.is_empty() {
        return Err(String::from("tiers is empty; use `store = false` to not store"));
    }
    tiers.sort_unstable();
    tiers.dedup();
    Ok(tiers)
}

fn shorten(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..64).unwrap_or(text)).into_owned()
}

/// A string, or a list of strings without holes.
fn list<T>(
    field: &str,
    value: Value<'_>,
    most: usize,
    mut element: impl FnMut(&[u8]) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let named = |problem: Problem| format!("{field} {problem}");
    let table = match value {
        Value::Text(text) => return Ok(vec![element(text).map_err(named)?]),
        Value::Table(table) => table,
        other => return wrong_type(field, "a string or a list of strings", &other),
    };
    let mut elements: Vec<(u32, T)> = Vec::new();
    table.each(|index, value| {
        let index = position(field, &index, most)?;
        match value {
            Value::Text(text) => elements.push((index, element(text).map_err(named)?)),
            other => return wrong_type(&format!("{field}[{index}]"), "a string", &other),
        }
        Ok(())
    })?;
    elements.sort_by_key(|(index, _)| *index);
    for (expected, (index, _)) in (1u32..).zip(&elements) {
        if *index != expected {
            return Err(hole(field, expected, *index));
        }
    }
    Ok(elements.into_iter().map(|(_, element)| element).collect())
}

// === hit ===

pub(super) fn hit(value: Value<'_>) -> Result<HitDecision, Problem> {
    let Some(table) = returned(Hook::Hit, value)? else { return Ok(HitDecision::Serve) };
    let (mut revalidate, mut miss) = (false, false);
    table.each(|key, value| {
        let (name, flag) = match field_name(&key, HIT_DECISION)? {
            b"revalidate" => ("revalidate", &mut revalidate),
            b"miss" => ("miss", &mut miss),
            name => return Err(unknown(name, HIT_DECISION)),
        };
        match value {
            Value::Bool(b) => *flag = b,
            other => return wrong_type(name, "true or false", &other),
        }
        Ok(())
    })?;
    match (revalidate, miss) {
        (true, true) => Err(String::from("revalidate and miss exclude each other; return one of them")),
        (true, false) => Ok(HitDecision::Revalidate),
        (false, true) => Ok(HitDecision::Miss),
        (false, false) => Ok(HitDecision::Serve),
    }
}

// === deliver ===

/// Fields that say how the message is framed or belong to the connection (RFC 9110 section 7.6.1): the proxy's own.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "content-range",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn deliver(value: Value<'_>) -> Result<DeliverDecision, Problem> {
    let mut decision = DeliverDecision::default();
    let Some(table) = returned(Hook::Deliver, value)? else { return Ok(decision) };
    table.each(|key, value| match field_name(&key, DELIVER_DECISION)? {
        b"headers" => match value {
            Value::Table(headers) => headers.each(|name, value| {
                let header = delivered(name, value)?;
                if decision.headers.iter().any(|(name, _)| *name == header.0) {
                    return Err(format!("headers names {:?} twice", header.0.as_str()));
                }
                if decision.headers.len() >= MOST_FIELDS {
                    return Err(format!("headers has more than {MOST_FIELDS} fields"));
                }
                decision.headers.push(header);
                Ok(())
            }),
            other => wrong_type("headers", "a table of names and values", &other),
        },
        name => Err(unknown(name, DELIVER_DECISION)),
    })?;
    decision.headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    Ok(decision)
}

fn delivered(name: Value<'_>, value: Value<'_>) -> Result<(HeaderName, Option<HeaderValue>), Problem> {
    let name = match name {
        Value::Text(name) => HeaderName::from_bytes(name)
            .map_err(|_| format!("headers has {:?}, which is not the name of a header field", shorten(name)))?,
        other => return Err(format!("headers has a {} where the name of a header field belongs", other.kind())),
    };
    if FRAMING.contains(&name.as_str()) {
        return Err(format!("headers.{name} cannot be set: the proxy frames the message itself"));
    }
    let field = format!("headers[{:?}]", name.as_str());
    let value = match value {
        Value::Bool(false) => return Ok((name, None)),
        Value::Text(text) if text.len() > LONGEST_VALUE => {
            return Err(format!("{field} has {} bytes; at most {LONGEST_VALUE} are allowed", text.len()));
        }
        Value::Text(text) => header_value(text).ok_or_else(|| format!("{field} is not a valid field value"))?,
        Value::Number(n) if n.is_finite() => {
            HeaderValue::try_from(n.to_string()).map_err(|_| format!("{field} is not a valid field value"))?
        }
        other => return wrong_type(&field, "a string, a number, or false to remove it", &other),
    };
    Ok((name, Some(value)))
}

/// A field value without blanks around it (RFC 9110 section 5.5).
pub(super) fn header_value(text: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.trim_ascii()).ok()
}

// === normalize ===

/// What a Lua normaliser returned: the new value, or `None` for an absent field.
pub(super) fn normalized(name: &str, value: Value<'_>) -> Result<Option<HeaderValue>, Problem> {
    match value {
        Value::Nil | Value::Bool(false) => Ok(None),
        Value::Text(text) if text.len() <= LONGEST_VALUE => match header_value(text) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("normalize[{name:?}] returned what is not a valid field value")),
        },
        Value::Text(text) => {
            Err(format!("normalize[{name:?}] returned {} bytes; at most {LONGEST_VALUE} are allowed", text.len()))
        }
        other => Err(format!("normalize[{name:?}] must return a string or nil, not a {}", other.kind())),
    }
}
