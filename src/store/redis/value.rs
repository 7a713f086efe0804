//! What an entry looks like in Redis. Pure: bytes in, values out.
//!
//! An entry is a hash. Its field `s` is the stamp, `h` the frame of the head, and `0`, `1`, … are the pieces of the body, of 256 KiB
//! each but the last.
//!
//! ```text
//! frame = magic:[8] version:u16 0:u16 pieces:u32 length:u64 epoch:u64 at:u64 head_len:u32 0:u32 sum:u64* head seal:u64
//! ```
//!
//! Numbers are little endian. `length` is that of the body; `epoch` and `at` are the place in the log of purges that nodes share;
//! there is one `sum` for each piece; the head is that of [`crate::store::encoding`]; and the seal sums up everything before
//! it. All sums are XXH3-64. So no byte is served that was not checked, and no piece of one body with the head of another.
//!
//! Whatever bytes are there, reading them ends in an entry or a [`Bad`], and takes memory in proportion to their number.

use crate::purge::{Position, Shared};
use crate::remote::Reply;
use crate::store::disk::format::MAX_HEAD;
use crate::store::disk::format::sums::sum_of;
use crate::store::encoding::{DecodeError, DecodedHead, decode_head, encode_head};
use crate::store::entry::{Entry, EntryId};
use bytes::{Bytes, BytesMut};

/// Bytes of a piece.
pub(super) const PIECE: usize = 256 * 1024;

/// Most fields of an entry: its stamp, its head, and the pieces of the longest body that a configuration can ask for.
pub(super) const MOST_FIELDS: usize = 2 + (256 << 20) / PIECE;

/// Longest value of a field: that of the longest head for the longest body.
pub(super) const LONGEST: usize = MAX_HEAD as usize + FIXED + (MOST_FIELDS + 1) * SUM;

/// The layout that is written here.
const VERSION: u16 = 1;

/// Nothing else begins like this.
const MAGIC: [u8; 8] = *b"\x89TGredis";

/// Bytes of a frame before the sums.
const FIXED: usize = 48;

/// Bytes of a sum.
const SUM: usize = size_of::<u64>();

/// Why something is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Nothing that was ever written here.
    Foreign,
    /// Written in another layout.
    Version,
    /// Some of it is missing.
    Truncated,
    /// It is not what was written.
    Checksum,
    /// It is another key's.
    Key,
}

impl Bad {
    /// The label in metrics, as that of damaged files.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Bad::Foreign => "foreign",
            Bad::Version => "version",
            Bad::Truncated => "truncated",
            Bad::Checksum => "checksum",
            Bad::Key => "key",
        }
    }
}

/// A head as it was stored, with what it says about the body.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) head: DecodedHead,
    /// The place in the log of all nodes.
    pub(super) shared: Shared,
    /// Bytes of the body.
    pub(super) length: u64,
    /// The sum of each piece.
    pub(super) sums: Vec<u64>,
}

/// The pieces of a body.
pub(super) fn pieces(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.chunks(PIECE)
}

/// Writes a head down, for a body of so many bytes whose pieces have these sums. `None`: it is longer than anybody's.
pub(super) fn frame(id: &EntryId, entry: &Entry, length: u64, sums: &[u64]) -> Option<Vec<u8>> {
    let head = encode_head(&entry.key, id.variant, &entry.head, &entry.facts, None);
    let head_len = u32::try_from(head.len()).ok().filter(|length| *length <= MAX_HEAD)?;
    let shared = entry.facts.shared;
    let mut out = Vec::with_capacity(FIXED + SUM * sums.len() + head.len() + SUM);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&u32::try_from(sums.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&shared.epoch.to_le_bytes());
    out.extend_from_slice(&shared.at.to_bits().to_le_bytes());
    out.extend_from_slice(&head_len.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes());
    sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
    out.extend_from_slice(&head);
    let seal = sum_of(&out);
    out.extend_from_slice(&seal.to_le_bytes());
    Some(out)
}

/// Reads what [`frame`] wrote.
pub(super) fn unframe(frame: &[u8]) -> Result<Framed, Bad> {
    let mut input = Input(frame.strip_prefix(&MAGIC).ok_or(Bad::Foreign)?);
    if u16::from_le_bytes(input.take()?) != VERSION {
        return Err(Bad::Version);
    }
    let _: [u8; 2] = input.take()?;
    let count = u32::from_le_bytes(input.take()?) as usize;
    let length = u64::from_le_bytes(input.take()?);
    let epoch = u64::from_le_bytes(input.take()?);
    let at = u64::from_le_bytes(input.take()?);
    let head_len = u32::from_le_bytes(input.take()?) as usize;
    let _: [u8; 4] = input.take()?;
    // Before anything of what it says is believed.
    let (sealed, seal) = frame.split_last_chunk().ok_or(Bad::Truncated)?;
    let promised = count.checked_mul(SUM).and_then(|sums| sums.checked_add(FIXED + SUM)?.checked_add(head_len));
    match promised.map(|promised| promised.cmp(&frame.len())) {
        Some(std::cmp::Ordering::Equal) => {}
        Some(std::cmp::Ordering::Less) => return Err(Bad::Checksum),
        _ => return Err(Bad::Truncated),
    }
    if sum_of(sealed) != u64::from_le_bytes(*seal) {
        return Err(Bad::Checksum);
    }
    if length.div_ceil(PIECE as u64) != count as u64 {
        return Err(Bad::Foreign);
    }
    let sums = (0..count).map(|_| input.take().map(u64::from_le_bytes)).collect::<Result<_, _>>()?;
    let head = input.0.get(..head_len).ok_or(Bad::Truncated)?;
    let head = decode_head(head).map_err(|e| match e {
        DecodeError::Version(_) => Bad::Version,
        _ => Bad::Foreign,
    })?;
    // Parts of a response are not kept here.
    if head.parts.is_some() {
        return Err(Bad::Foreign);
    }
    Ok(Framed { head, shared: Shared { epoch, at: Position::from_bits(at) }, length, sums })
}

impl Framed {
    /// Whether it is that of this key and variant.
    pub(super) fn is_of(&self, id: &EntryId, key: &[u8]) -> Result<(), Bad> {
        if *self.head.key == *key && self.head.variant == id.variant { Ok(()) } else { Err(Bad::Key) }
    }

    /// Puts the body together, if every piece is there and is what it was.
    fn body(&self, mut found: Vec<(usize, Vec<u8>)>) -> Result<Bytes, Bad> {
        found.sort_unstable_by_key(|(index, _)| *index);
        if found.len() < self.sums.len() {
            return Err(Bad::Truncated);
        }
        let mut left = self.length;
        for (at, (sum, (index, piece))) in self.sums.iter().zip(&found).enumerate() {
            if *index != at || (piece.len() as u64) < left.min(PIECE as u64) {
                return Err(Bad::Truncated);
            }
            if piece.len() as u64 != left.min(PIECE as u64) || sum_of(piece) != *sum {
                return Err(Bad::Checksum);
            }
            left -= piece.len() as u64;
        }
        if found.len() > self.sums.len() {
            return Err(Bad::Foreign);
        }
        if let [(_, only)] = found.as_mut_slice() {
            return Ok(std::mem::take(only).into());
        }
        // Of pieces that are here already.
        let mut body = BytesMut::with_capacity(found.iter().map(|(_, piece)| piece.len()).sum());
        found.iter().for_each(|(_, piece)| body.extend_from_slice(piece));
        Ok(body.freeze())
    }
}

/// What was found at the key of an entry.
#[derive(Debug)]
pub(super) struct Fields {
    stamp: Option<u64>,
    frame: Option<Vec<u8>>,
    pieces: Vec<(usize, Vec<u8>)>,
    has_others: bool,
}

impl Fields {
    /// Takes a hash apart: each field before its value.
    pub(super) fn of(reply: Reply) -> Self {
        let mut fields = Fields { stamp: None, frame: None, pieces: Vec::new(), has_others: false };
        let mut replies = reply.into_array().into_iter();
        while let (Some(Reply::Bytes(name)), Some(Reply::Bytes(value))) = (replies.next(), replies.next()) {
            match (name.as_slice(), index_of(&name)) {
                (b"s", _) => fields.stamp = stamp_of(&value),
                (b"h", _) => fields.frame = Some(value),
                (_, Some(index)) => fields.pieces.push((index, value)),
                _ => fields.has_others = true,
            }
        }
        fields
    }

    /// When it was stored, in the order of those under one key.
    pub(super) fn stamp(&self) -> Option<u64> {
        self.stamp
    }

    /// The entry, if it is one of this key and variant.
    pub(super) fn entry(self, id: &EntryId, key: &[u8]) -> Result<(Framed, Bytes), Bad> {
        let framed = unframe(self.frame.as_deref().ok_or(Bad::Foreign)?)?;
        framed.is_of(id, key)?;
        if self.has_others {
            return Err(Bad::Foreign);
        }
        let body = framed.body(self.pieces)?;
        Ok((framed, body))
    }
}

/// The number of a piece, exactly as it is written.
fn index_of(name: &[u8]) -> Option<usize> {
    let is_number = !name.is_empty() && name.len() <= 4 && name.iter().all(u8::is_ascii_digit);
    let is_canonical = name.len() == 1 || name.first() != Some(&b'0');
    (is_number && is_canonical).then(|| name.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// A stamp.
pub(super) fn stamp_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Bad::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
