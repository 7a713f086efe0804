use super::*;
use crate::purge::{Position, Resource, Shared};
use crate::store::spans::Span;
use fastrand::Rng;
use std::time::UNIX_EPOCH;

const HEADS: u64 = 300;

fn bytes(rng: &mut Rng, most: usize, from: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    (0..rng.usize(0..=most)).map(|_| rng.u8(from.clone())).collect()
}

fn span(rng: &mut Rng) -> Duration {
    match rng.u8(0..4) {
        0 => Duration::ZERO,
        1 => Duration::from_secs(rng.u32(..).into()),
        2 => Duration::new(rng.u64(..u64::MAX), rng.u32(..1_000_000_000)),
        _ => Duration::from_nanos(rng.u64(..)),
    }
}

fn time(rng: &mut Rng) -> SystemTime {
    let distance = Duration::new(rng.u64(..MAX_DISTANCE), rng.u32(..1_000_000_000));
    if rng.bool() { UNIX_EPOCH + distance } else { UNIX_EPOCH - distance }
}

fn field_name(rng: &mut Rng) -> String {
    let known = ["Content-Type", "set-cookie", "ETag", "x-Thing", "Vary", "X-B"];
    rng.choice(known).unwrap().to_owned()
}

fn response(rng: &mut Rng) -> ResponseHeader {
    let status = rng.u16(100..1000);
    let built =
        if rng.bool() { ResponseHeader::build(status, None) } else { ResponseHeader::build_no_case(status, None) };
    let mut header = built.unwrap();
    let versions = [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3];
    header.set_version(rng.choice(versions).unwrap());
    if rng.bool() {
        header.set_reason_phrase(rng.choice([Some("Fine"), Some("OK"), Some(""), None]).unwrap()).unwrap();
    }
    for _ in 0..rng.usize(0..12) {
        let mut value = HeaderValue::from_bytes(&bytes(rng, 40, b' '..=b'~')).unwrap();
        value.set_sensitive(rng.u8(0..8) == 0);
        header.append_header(field_name(rng), value).unwrap();
    }
    header
}

fn facts(rng: &mut Rng) -> Facts {
    let tag = |rng: &mut Rng| String::from_utf8(bytes(rng, 12, b' '..=b'~')).unwrap() + "é";
    Facts {
        freshness: Freshness {
            lifetime: if rng.bool() { span(rng) } else { Duration::MAX },
            source: source_of_byte(rng.u8(0..8)).unwrap(),
            initial_age: span(rng),
            response_time: time(rng),
            stale_while_revalidate: rng.bool().then(|| span(rng)),
            stale_if_error: rng.bool().then(|| span(rng)),
            must_revalidate: rng.bool(),
            s_maxage: rng.bool(),
            no_cache: rng.bool(),
        },
        limits: StaleLimits { on_disconnect: span(rng) },
        tags: (0..rng.usize(0..4)).map(|_| tag(rng)).collect(),
        tiers: TierSet::from_bits(rng.u8(0..8)),
        resource: Resource::from_stored(rng.bool(), &tag(rng)),
        seen: Position::from_bits(rng.u64(..)),
        shared: Shared::default(),
        asked: 0,
    }
}

fn parts(rng: &mut Rng) -> Spans {
    let spans = (0..rng.u64(1..6)).map(|number| Span { first: number * 100, length: rng.u64(1..=100) });
    Spans::new(1000, spans.collect::<Vec<_>>()).unwrap()
}

struct Sample {
    key: Vec<u8>,
    parts: Option<Spans>,
    variant: Option<u128>,
    head: StoredHead,
    facts: Facts,
}

fn sample(seed: u64) -> Sample {
    let rng = &mut Rng::with_seed(seed);
    let variance = rng.bool().then(|| rng.u128(..).to_le_bytes());
    Sample {
        key: bytes(rng, 60, 0..=255),
        variant: rng.bool().then(|| rng.u128(..)),
        head: StoredHead::from_parts(response(rng), time(rng), variance),
        facts: facts(rng),
        parts: rng.bool().then(|| parts(rng)),
    }
}

fn encoded(sample: &Sample) -> Vec<u8> {
    encode_head(&sample.key, sample.variant, &sample.head, &sample.facts, sample.parts.as_ref())
}

fn wire(header: &ResponseHeader) -> String {
    let mut out = Vec::new();
    header.header_to_h1_wire(&mut out);
    format!("{:?} {} {:?}\r\n{}", header.version, header.status, header.get_reason_phrase(), out.escape_ascii())
}

/// A head with only this field, and where its bytes begin.
fn with_field(value: &str) -> (Vec<u8>, usize) {
    let mut header = ResponseHeader::build_no_case(200, None).unwrap();
    header.append_header("x-a", value).unwrap();
    let head = StoredHead::from_parts(header, UNIX_EPOCH, None);
    let encoded = encode_head(b"key", None, &head, &facts(&mut Rng::with_seed(1)), None);
    let at = encoded.windows(3).position(|bytes| bytes == b"x-a").unwrap();
    (encoded, at)
}

/// Where the number of fields stands before the bytes of the first one.
const NUMBER_BEFORE_NAME: usize = 10;

#[test]
fn a_head_comes_back_as_it_was() {
    for seed in 0..HEADS {
        let sample = sample(seed);
        let decoded = decode_head(&encoded(&sample)).unwrap();
        assert_eq!((&*decoded.key, decoded.variant), (&*sample.key, sample.variant), "seed {seed}");
        assert_eq!(decoded.facts, sample.facts, "seed {seed}");
        assert_eq!(decoded.facts.seen, sample.facts.seen, "seed {seed}");
        assert_eq!(decoded.parts, sample.parts, "seed {seed}");
        assert_eq!(decoded.head.since(), sample.head.since(), "seed {seed}");
        assert_eq!(decoded.head.variance(), sample.head.variance(), "seed {seed}");
        assert!(decoded.head.filling().is_none());
    }
}

#[test]
fn what_is_sent_of_a_decoded_head_is_what_was_sent_before() {
    for seed in 0..HEADS {
        let sample = sample(seed);
        let decoded = decode_head(&encoded(&sample)).unwrap();
        assert_eq!(wire(decoded.head.response()), wire(sample.head.response()), "seed {seed}");
        let fields = |head: &StoredHead| {
            let sensitive = |(name, value): (&http::HeaderName, &HeaderValue)| (name.clone(), value.is_sensitive());
            head.headers().iter().map(sensitive).collect::<Vec<_>>()
        };
        assert_eq!(fields(&decoded.head), fields(&sample.head), "seed {seed}");
    }
}

#[test]
fn a_decoded_head_is_encoded_the_same_way() {
    for seed in 0..HEADS {
        let first = encoded(&sample(seed));
        let DecodedHead { key, variant, head, parts, facts } = decode_head(&first).unwrap();
        let again = Sample { key: key.into(), parts, variant, head, facts };
        assert_eq!(encoded(&again), first, "seed {seed}");
    }
}

#[test]
fn a_head_that_ends_early_is_an_error_wherever_it_ends() {
    for seed in 0..HEADS / 10 {
        let whole = encoded(&sample(seed));
        for length in 0..whole.len() {
            assert!(decode_head(&whole[..length]).is_err(), "seed {seed}, {length} bytes");
        }
    }
}

#[test]
fn a_byte_after_the_end_is_an_error() {
    let mut bytes = encoded(&sample(1));
    bytes.push(0);
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Trailing(1));
}

#[test]
fn a_flipped_byte_never_ends_the_process() {
    for seed in 0..HEADS / 10 {
        let whole = encoded(&sample(seed));
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = whole.clone();
                flipped[at] ^= mask;
                // It may be another head as well: the checksum is outside.
                if let Ok(decoded) = decode_head(&flipped) {
                    let _ = decoded.head.to_meta(&decoded.facts);
                    let _ = wire(decoded.head.response());
                }
            }
        }
    }
}

#[test]
fn noise_never_ends_the_process() {
    let rng = &mut Rng::with_seed(7);
    for _ in 0..2000 {
        let mut noise = bytes(rng, 300, 0..=255);
        if let Some(first) = noise.first_mut() {
            *first = VERSION;
        }
        let _ = decode_head(&noise);
    }
}

#[test]
fn another_layout_is_refused() {
    let mut bytes = encoded(&sample(1));
    bytes[0] = VERSION + 1;
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Version(VERSION + 1));
}

#[test]
fn a_number_of_fields_that_are_not_there_is_refused() {
    let (mut bytes, at) = with_field("value");
    bytes[at - NUMBER_BEFORE_NAME] = 2;
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Truncated("field name"));
}

#[test]
fn more_fields_than_a_head_can_have_are_refused() {
    let (mut bytes, at) = with_field("value");
    bytes[at - NUMBER_BEFORE_NAME..][..4].fill(0xff);
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Fields(u32::MAX));
}

#[test]
fn a_line_break_in_a_field_is_refused() {
    let (mut bytes, at) = with_field("value");
    bytes[at + 8] = b'\n';
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Invalid("field value"));
}

#[test]
fn a_line_break_in_a_reason_phrase_is_refused() {
    let mut header = ResponseHeader::build_no_case(200, None).unwrap();
    header.set_reason_phrase(Some("fine\r\nx: y")).unwrap();
    let head = StoredHead::from_parts(header, UNIX_EPOCH, None);
    let bytes = encode_head(b"key", None, &head, &sample(1).facts, None);
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Invalid("reason phrase"));
}

#[test]
fn a_time_that_no_lifetime_can_be_added_to_is_refused() {
    let Sample { key, facts, .. } = sample(1);
    let header = ResponseHeader::build_no_case(200, None).unwrap();
    let late = UNIX_EPOCH + Duration::from_secs(MAX_DISTANCE + 1);
    let bytes = encode_head(&key, None, &StoredHead::from_parts(header, late, None), &facts, None);
    assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Invalid("time of storing"));
}

#[test]
fn parts_that_cannot_be_are_refused() {
    let some = Spans::new(1000, [Span { first: 100, length: 50 }]).unwrap();
    let head = StoredHead::from_parts(ResponseHeader::build_no_case(200, None).unwrap(), UNIX_EPOCH, None);
    let mut bytes = encode_head(b"key", None, &head, &sample(1).facts, Some(&some));
    let at = bytes.windows(24).position(|bytes| bytes == some.encode()).unwrap();
    for (offset, number) in [(0, 149_u64), (8, 951), (16, 0), (16, u64::MAX)] {
        let before = bytes.clone();
        bytes[at + offset..][..8].copy_from_slice(&number.to_le_bytes());
        assert_eq!(decode_head(&bytes).unwrap_err(), DecodeError::Invalid("parts"), "{offset} {number}");
        bytes = before;
    }
    let decoded = decode_head(&bytes).unwrap();
    assert_eq!((decoded.check_body(50), decoded.check_body(51)), (Ok(()), Err(DecodeError::Invalid("parts"))));
}
