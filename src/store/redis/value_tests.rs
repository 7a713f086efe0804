use super::super::write::useful_for;
use super::*;
use crate::clock;
use crate::decide::Facts;
use crate::semantics::freshness::Freshness;
use crate::store::entry::StoredHead;
use pingora::http::ResponseHeader;
use std::sync::Arc;
use std::time::Duration;

const ID: EntryId = EntryId { primary: 7, variant: Some(9) };
const KEY: &[u8] = b"key";

fn facts() -> Facts {
    let shared = Shared { epoch: 3, at: Position::from_bits(4) };
    Facts { shared, ..Facts::of(Freshness::of_max_age(Duration::from_secs(60), clock::now())) }
}

fn entry_with(body: &[u8], fields: &[(&'static str, &str)], facts: Facts) -> Entry {
    let mut header = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    let head = StoredHead::from_parts(header, clock::now(), None);
    Entry::new(KEY.into(), Arc::new(head), Bytes::copy_from_slice(body), Arc::new(facts))
}

/// An entry as it is stored: names and values.
fn stored(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let sums: Vec<u64> = pieces(body).map(sum_of).collect();
    let entry = entry_with(body, &[("X-Thing", "1")], facts());
    let head = frame(&ID, &entry, body.len() as u64, &sums).unwrap();
    let mut fields = vec![("s".to_owned(), b"12".to_vec()), ("h".to_owned(), head)];
    fields.extend(pieces(body).enumerate().map(|(index, piece)| (index.to_string(), piece.to_vec())));
    fields
}

fn read(fields: &[(String, Vec<u8>)]) -> Result<(Framed, Bytes), Bad> {
    let flat = fields.iter().flat_map(|(name, value)| [name.clone().into_bytes(), value.clone()]);
    let fields = Fields::of(Reply::Array(flat.map(Reply::Bytes).collect()));
    assert_eq!(fields.stamp(), Some(12));
    fields.entry(&ID, KEY)
}

fn body() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..2 * PIECE + 100).map(|_| random.u8(..)).collect()
}

#[test]
fn what_was_written_is_read() {
    for length in [0, 1, PIECE, PIECE + 1, 2 * PIECE + 100] {
        let body = body()[..length].to_vec();
        let mut fields = stored(&body);
        // A hash has no order.
        fields.reverse();
        let (framed, found) = read(&fields).unwrap();
        assert!(found == body, "{length}");
        assert_eq!(framed.head.head.headers()["x-thing"], "1");
        assert_eq!((framed.shared.epoch, framed.shared.at.to_bits()), (3, 4));
    }
}

#[test]
fn a_piece_that_is_missing_short_or_changed_is_found() {
    let good = stored(&body());
    for piece in 2..good.len() {
        let mut fields = good.clone();
        fields.remove(piece);
        assert_eq!(read(&fields).unwrap_err(), Bad::Truncated);
        let mut fields = good.clone();
        fields[piece].1.pop();
        assert_eq!(read(&fields).unwrap_err(), Bad::Truncated);
        let mut fields = good.clone();
        fields[piece].1[0] ^= 1;
        assert_eq!(read(&fields).unwrap_err(), Bad::Checksum);
    }
    let mut fields = good.clone();
    (fields[2].0, fields[3].0) = ("1".to_owned(), "0".to_owned());
    assert_eq!(read(&fields).unwrap_err(), Bad::Checksum);
}

#[test]
fn every_changed_byte_of_a_head_is_found() {
    let good = stored(b"body");
    for at in 0..good[1].1.len() {
        let mut fields = good.clone();
        fields[1].1[at] ^= 0x10;
        let found = read(&fields).unwrap_err();
        match at {
            0..8 => assert_eq!(found, Bad::Foreign),
            8..10 => assert_eq!(found, Bad::Version),
            _ => assert!(matches!(found, Bad::Checksum | Bad::Truncated), "{found:?} at {at}"),
        }
    }
}

#[test]
fn what_ends_early_or_is_something_else_is_no_entry() {
    let good = stored(b"body");
    for length in 0..good[1].1.len() {
        let mut fields = good.clone();
        fields[1].1.truncate(length);
        let expected = if length < MAGIC.len() { Bad::Foreign } else { Bad::Truncated };
        assert_eq!(read(&fields).unwrap_err(), expected, "{length}");
    }
    for name in ["x", "00", "01", "9999", "-1", "1.0", ""] {
        let mut fields = good.clone();
        fields.push((name.to_owned(), b"?".to_vec()));
        assert_eq!(read(&fields).unwrap_err(), Bad::Foreign, "{name:?}");
    }
    assert_eq!(read(&good[..1]).unwrap_err(), Bad::Foreign);
}

#[test]
fn bytes_that_nobody_wrote_never_end_in_a_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let good = stored(b"body")[1].1.clone();
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(8..bytes.len());
            bytes[at] = random.u8(..);
        }
        // The seal is right, as if somebody meant it.
        let end = bytes.len() - SUM;
        let seal = sum_of(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&seal);
        let fields = [("s", &b"12"[..]), ("h", &bytes), ("0", b"body")];
        let _ = read(&fields.map(|(name, value)| (name.to_owned(), value.to_vec())));
    }
    let strange =
        [Reply::Nil, Reply::Int(4), Reply::Bytes(b"s".to_vec()), Reply::Array(vec![Reply::Nil, Reply::Int(1)])];
    for reply in strange {
        let fields = Fields::of(reply);
        assert_eq!((fields.stamp(), fields.entry(&ID, KEY).unwrap_err()), (None, Bad::Foreign));
    }
}

#[test]
fn another_key_or_variant_is_another_entry() {
    let fields = stored(b"body");
    let flat = || fields.iter().flat_map(|(name, value)| [name.clone().into_bytes(), value.clone()]);
    let fields = || Fields::of(Reply::Array(flat().map(Reply::Bytes).collect()));
    assert_eq!(fields().entry(&ID, b"other").unwrap_err(), Bad::Key);
    assert_eq!(fields().entry(&EntryId { variant: None, ..ID }, KEY).unwrap_err(), Bad::Key);
}

#[test]
fn an_entry_is_kept_for_as_long_as_it_can_be_of_use() {
    let facts = facts();
    let now = facts.freshness.response_time + Duration::from_secs(10);
    let useful = |change: &dyn Fn(&mut Facts), fields: &[(&'static str, &str)]| {
        let mut changed = facts.clone();
        change(&mut changed);
        useful_for(&entry_with(b"", fields, changed), now).map(|useful| useful.as_secs())
    };
    let must_revalidate = |facts: &mut Facts| facts.freshness.must_revalidate = true;
    let no_cache = |facts: &mut Facts| facts.freshness.no_cache = true;
    // Fresh for 50 s more, and then in place of an origin that is gone, for an hour.
    assert_eq!(useful(&|_| {}, &[]), Some(50 + 3600));
    assert_eq!(useful(&must_revalidate, &[]), Some(50));
    assert_eq!(useful(&must_revalidate, &[("ETag", "\"a\"")]), Some(50 + 3600));
    assert_eq!(useful(&no_cache, &[]), None);
    assert_eq!(useful(&no_cache, &[("ETag", "\"a\"")]), Some(50 + 3600));
    let on_errors = |facts: &mut Facts| facts.freshness.stale_if_error = Some(Duration::from_secs(7));
    assert_eq!(useful(&on_errors, &[]), Some(57));
    let behind = |facts: &mut Facts| {
        facts.freshness.s_maxage = true;
        facts.freshness.stale_while_revalidate = Some(Duration::from_secs(20));
    };
    assert_eq!(useful(&behind, &[]), Some(70));
    let dead = |facts: &mut Facts| {
        facts.freshness.lifetime = Duration::from_secs(5);
        facts.freshness.s_maxage = true;
    };
    assert_eq!(useful(&dead, &[]), None);
    let forever = |facts: &mut Facts| facts.freshness.lifetime = Duration::MAX;
    assert_eq!(useful(&forever, &[]), Some(10 * 365 * 24 * 60 * 60));
}
