//! A stored head as bytes, for the tiers that outlive the process.
//!
//! ```text
//! head     = version:u8 key:block variant:opt<u128> variance:opt<[16]> since:time parts:opt<block> response facts
//! parts    = complete:u64 (first:u64 length:u64)*       which bytes of the whole the body consists of; see [`Spans`]
//! response = status:u16 http:u8 reason:opt<block> cased:bool count:u32 fields:block
//! field    = name:u16+bytes length:u32+bytes           the top bit of the length marks a sensitive value
//! facts    = lifetime:span source:u8 age:span arrived:time revalidate:opt<span> on_error:opt<span> flags:u8
//!            on_disconnect:span tiers:u8 count:u32 tag:block* https:bool resource:block seen:u64
//! time     = before:bool seconds:u64 nanoseconds:u32   counted from 1970, backwards if `before`
//! span     = seconds:u64 nanoseconds:u32
//! block    = length:u32 bytes,  opt<x> = 0 | 1 x
//! ```
//!
//! Numbers are little endian. Field names keep the letter case that the head keeps. Nothing is here that finds damage:
//! whoever stores the bytes sums them up. But whatever the bytes are, reading them ends in a head or an error, and takes
//! memory in proportion to their number.

use super::entry::StoredHead;
use super::spans::Spans;
use crate::decide::Facts;
use crate::policy::decision::TierSet;
use crate::purge::{Position, Resource, Shared};
use crate::semantics::freshness::{Freshness, LifetimeSource};
use crate::semantics::reuse::StaleLimits;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// The first byte. Another layout gets another number.
const VERSION: u8 = 2;

/// Most fields of a head; the map of fields itself ends not far above.
const MAX_FIELDS: u32 = 16 * 1024;

/// Times lie at most so many seconds, some 35,000 years, from 1970, so that adding a lifetime to one cannot overflow.
const MAX_DISTANCE: u64 = 1 << 40;

/// In the length of a field's value: it must not enter a compression table (RFC 7541 section 7.1.3).
const SENSITIVE: u32 = 1 << 31;

/// What a head says, and whose it is.
#[derive(Debug)]
pub struct DecodedHead {
    /// The full key.
    pub key: Box<[u8]>,
    /// Hash of the varying fields; `None` in the slot that every lookup starts from.
    pub variant: Option<u128>,
    /// Status and fields.
    pub head: StoredHead,
    /// The bytes of the whole that the body consists of; `None` is all of them.
    pub parts: Option<Spans>,
    /// What was decided about it.
    pub facts: Facts,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the head ends within its {0}")]
    Truncated(&'static str),
    /// They go on after the end.
    #[error("{0} bytes follow the head")]
    Trailing(usize),
    /// Written in a layout that is not known here.
    #[error("the head has layout {0}, and only {VERSION} is known")]
    Version(u8),
    /// A value that does not exist.
    #[error("the head has no valid {0}")]
    Invalid(&'static str),
    /// More than anyone would send.
    #[error("the head has {0} fields, more than {MAX_FIELDS}")]
    Fields(u32),
}

/// Writes a head down, that of the whole even if the body consists of `parts`. What it says about a part that is being
/// filled is not written.
pub fn encode_head(
    key: &[u8],
    variant: Option<u128>,
    head: &StoredHead,
    facts: &Facts,
    parts: Option<&Spans>,
) -> Vec<u8> {
    let text: usize = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 6).sum();
    let mut out = Writer(Vec::with_capacity(192 + key.len() + text));
    out.u8(VERSION);
    out.block(key);
    out.option(variant, |out, variant| out.bytes(&variant.to_le_bytes()));
    out.option(head.variance(), |out, variance| out.bytes(&variance));
    out.time(head.since());
    out.option(parts, |out, parts| out.block(&parts.encode()));
    out.response(head.response());
    out.facts(facts);
    out.0
}

impl DecodedHead {
    /// Says whether a body of so many bytes can be the one of this head.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] if the parts are together longer or shorter.
    pub fn check_body(&self, length: u64) -> Result<(), DecodeError> {
        let fits = self.parts.as_ref().is_none_or(|parts| parts.held() == length);
        if fits { Ok(()) } else { Err(DecodeError::Invalid("parts")) }
    }
}

/// Reads what [`encode_head`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode_head(bytes: &[u8]) -> Result<DecodedHead, DecodeError> {
    let mut input = Reader(bytes);
    match input.u8("layout")? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let key = input.block("key")?.into();
    let variant = input.option("variant", |input| input.array("variant").map(u128::from_le_bytes))?;
    let variance = input.option("variance", |input| input.array("variance"))?;
    let since = input.time("time of storing")?;
    let parts =
        input.option("parts", |input| Spans::decode(input.block("parts")?).ok_or(DecodeError::Invalid("parts")))?;
    let header = input.response()?;
    let facts = input.facts()?;
    match input.0.len() {
        0 => Ok(DecodedHead { key, variant, head: StoredHead::from_parts(header, since, variance), parts, facts }),
        more => Err(DecodeError::Trailing(more)),
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn block(&mut self, bytes: &[u8]) {
        // What does not fit into memory twice is not here.
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes(bytes);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn span(&mut self, span: Duration) {
        self.bytes(&span.as_secs().to_le_bytes());
        self.u32(span.subsec_nanos());
    }

    fn time(&mut self, time: SystemTime) {
        let after = time.duration_since(SystemTime::UNIX_EPOCH);
        self.u8(after.is_err().into());
        self.span(after.unwrap_or_else(|before| before.duration()));
    }

    fn response(&mut self, header: &ResponseHeader) {
        self.bytes(&header.status.as_u16().to_le_bytes());
        self.u8(match header.version {
            Version::HTTP_09 => 0,
            Version::HTTP_10 => 1,
            Version::HTTP_2 => 3,
            Version::HTTP_3 => 4,
            _ => 2,
        });
        let own = header.get_reason_phrase().filter(|reason| header.status.canonical_reason() != Some(reason));
        self.option(own, |out, reason| out.block(reason.as_bytes()));
        self.u8(header.has_case().into());
        self.u32(u32::try_from(header.headers.len()).unwrap_or(u32::MAX));
        let length_at = self.0.len();
        self.u32(0);
        if header.has_case() {
            header.case_header_iter().for_each(|(name, value)| self.field(name.as_slice(), value));
        } else {
            header.headers.iter().for_each(|(name, value)| self.field(name.as_str().as_bytes(), value));
        }
        let fields = self.0.len() - length_at - size_of::<u32>();
        let length = u32::try_from(fields).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = self.0.get_mut(length_at..length_at + length.len()) {
            place.copy_from_slice(&length);
        }
    }

    fn field(&mut self, name: &[u8], value: &HeaderValue) {
        // A name is shorter than 64 KiB by its type.
        self.bytes(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.bytes(name);
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX) & !SENSITIVE;
        self.u32(if value.is_sensitive() { length | SENSITIVE } else { length });
        self.bytes(value.as_bytes());
    }

    fn facts(&mut self, facts: &Facts) {
        let Facts { freshness, limits, tags, tiers, resource, seen, shared: _, asked: _ } = facts;
        self.span(freshness.lifetime);
        self.u8(source_to_byte(freshness.source));
        self.span(freshness.initial_age);
        self.time(freshness.response_time);
        self.option(freshness.stale_while_revalidate, Self::span);
        self.option(freshness.stale_if_error, Self::span);
        let flags = [freshness.must_revalidate, freshness.s_maxage, freshness.no_cache];
        self.u8(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        self.span(limits.on_disconnect);
        self.u8(tiers.to_bits());
        self.u32(u32::try_from(tags.len()).unwrap_or(u32::MAX));
        tags.iter().for_each(|tag| self.block(tag.as_bytes()));
        self.u8(resource.is_https().into());
        self.block(resource.text().as_bytes());
        self.bytes(&seen.to_bits().to_le_bytes());
    }
}

fn source_to_byte(source: LifetimeSource) -> u8 {
    match source {
        LifetimeSource::None => 0,
        LifetimeSource::Policy => 1,
        LifetimeSource::CdnCacheControl => 2,
        LifetimeSource::SurrogateControl => 3,
        LifetimeSource::SMaxage => 4,
        LifetimeSource::MaxAge => 5,
        LifetimeSource::Expires => 6,
        LifetimeSource::Heuristic => 7,
    }
}

fn source_of_byte(byte: u8) -> Option<LifetimeSource> {
    Some(match byte {
        0 => LifetimeSource::None,
        1 => LifetimeSource::Policy,
        2 => LifetimeSource::CdnCacheControl,
        3 => LifetimeSource::SurrogateControl,
        4 => LifetimeSource::SMaxage,
        5 => LifetimeSource::MaxAge,
        6 => LifetimeSource::Expires,
        7 => LifetimeSource::Heuristic,
        _ => return None,
    })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Read<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Read<u8> {
        self.array(what).map(u8::from_le_bytes)
    }

    fn u16(&mut self, what: &'static str) -> Read<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Read<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn bool(&mut self, what: &'static str) -> Read<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(what)),
        }
    }

    fn option<T>(&mut self, what: &'static str, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.bool(what)? { read(self).map(Some) } else { Ok(None) }
    }

    fn block(&mut self, what: &'static str) -> Read<&'a [u8]> {
        let length = self.u32(what)?;
        self.take(length as usize, what)
    }

    fn span(&mut self, what: &'static str) -> Read<Duration> {
        let seconds = self.array(what).map(u64::from_le_bytes)?;
        let nanoseconds = self.u32(what)?;
        // More would carry into the seconds, which can overflow.
        if nanoseconds >= 1_000_000_000 {
            return Err(DecodeError::Invalid(what));
        }
        Ok(Duration::new(seconds, nanoseconds))
    }

    /// A span that others round up to whole seconds.
    fn window(&mut self, what: &'static str) -> Read<Duration> {
        let span = self.span(what)?;
        if span.as_secs() == u64::MAX && span.subsec_nanos() > 0 { Err(DecodeError::Invalid(what)) } else { Ok(span) }
    }

    fn time(&mut self, what: &'static str) -> Read<SystemTime> {
        let before = self.bool(what)?;
        let distance = self.span(what)?;
        if distance.as_secs() > MAX_DISTANCE {
            return Err(DecodeError::Invalid(what));
        }
        let epoch = SystemTime::UNIX_EPOCH;
        let time = if before { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
        time.ok_or(DecodeError::Invalid(what))
    }

    fn response(&mut self) -> Read<ResponseHeader> {
        let status = StatusCode::from_u16(self.u16("status")?).map_err(|_| DecodeError::Invalid("status"))?;
        let version = match self.u8("HTTP version")? {
            0 => Version::HTTP_09,
            1 => Version::HTTP_10,
            2 => Version::HTTP_11,
            3 => Version::HTTP_2,
            4 => Version::HTTP_3,
            _ => return Err(DecodeError::Invalid("HTTP version")),
        };
        let reason = self.option("reason phrase", |input| input.block("reason phrase"))?;
        let cased = self.bool("letter case")?;
        let count = self.u32("number of fields")?;
        // One copy that all values share: the bytes given may be a small part of a large buffer.
        let block = Bytes::copy_from_slice(self.block("fields")?);
        if count > MAX_FIELDS {
            return Err(DecodeError::Fields(count));
        }
        // A field takes six bytes at least, so that a lie about their number cannot reserve much.
        let places = (count as usize).min(block.len() / 6);
        let built = if cased {
            ResponseHeader::build(status, Some(places))
        } else {
            ResponseHeader::build_no_case(status, Some(places))
        };
        let mut header = built.map_err(|_| DecodeError::Invalid("status"))?;
        header.set_version(version);
        if let Some(reason) = reason {
            let sound = |reason: &&str| reason.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
            let reason = std::str::from_utf8(reason).ok().filter(sound).ok_or(DecodeError::Invalid("reason phrase"))?;
            header.set_reason_phrase(Some(reason)).map_err(|_| DecodeError::Invalid("reason phrase"))?;
        }
        let mut fields = Reader(&block);
        for _ in 0..count {
            let length = fields.u16("field name")?;
            let name = block.slice_ref(fields.take(length.into(), "field name")?);
            let length = fields.u32("field value")?;
            let value = block.slice_ref(fields.take((length & !SENSITIVE) as usize, "field value")?);
            let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| DecodeError::Invalid("field value"))?;
            value.set_sensitive(length & SENSITIVE != 0);
            header.append_header(name, value).map_err(|_| DecodeError::Invalid("field name"))?;
        }
        if fields.0.is_empty() { Ok(header) } else { Err(DecodeError::Trailing(fields.0.len())) }
    }

    fn facts(&mut self) -> Read<Facts> {
        let lifetime = self.span("lifetime")?;
        let source = source_of_byte(self.u8("source")?).ok_or(DecodeError::Invalid("source"))?;
        let initial_age = self.span("age")?;
        let response_time = self.time("time of arrival")?;
        let stale_while_revalidate =
            self.option("stale-while-revalidate", |input| input.window("stale-while-revalidate"))?;
        let stale_if_error = self.option("stale-if-error", |input| input.window("stale-if-error"))?;
        let flags = self.u8("flags")?;
        if flags > 0b111 {
            return Err(DecodeError::Invalid("flags"));
        }
        let freshness = Freshness {
            lifetime,
            source,
            initial_age,
            response_time,
            stale_while_revalidate,
            stale_if_error,
            must_revalidate: flags & 0b001 != 0,
            s_maxage: flags & 0b010 != 0,
            no_cache: flags & 0b100 != 0,
        };
        let limits = StaleLimits { on_disconnect: self.window("limits")? };
        let tiers = self.u8("tiers")?;
        if TierSet::from_bits(tiers).to_bits() != tiers {
            return Err(DecodeError::Invalid("tiers"));
        }
        let count = self.u32("number of tags")?;
        // Grows with what is there, whatever the number says.
        let mut tags = Vec::new();
        for _ in 0..count {
            let tag = std::str::from_utf8(self.block("tags")?).map_err(|_| DecodeError::Invalid("tag"))?;
            tags.push(tag.to_owned());
        }
        let https = self.bool("scheme")?;
        let text = std::str::from_utf8(self.block("resource")?).map_err(|_| DecodeError::Invalid("resource"))?;
        let resource = Resource::from_stored(https, text);
        let seen = Position::from_bits(self.array("place among purges").map(u64::from_le_bytes)?);
        Ok(Facts {
            freshness,
            limits,
            tags: tags.into(),
            tiers: TierSet::from_bits(tiers),
            resource,
            seen,
            shared: Shared::default(),
            asked: 0,
        })
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
