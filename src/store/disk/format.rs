//! What an entry file looks like. Pure: bytes in, values out.
//!
//! ```text
//! file   = prefix regions, in any order, with gaps
//! prefix = magic:[8] version:u16 0:u16 head_len:u32 id:u128 head_at:u64 head_room:u32 spare_room:u32 spare_at:u64
//!          head_sum:u64 body_at:u64 body_len:u64 sums_at:u64 sums_sum:u64 0:[24] sum:u64       128 bytes
//! ```
//!
//! Numbers are little endian, and every sum is XXH3-64. The regions are
//!
//! * the head ([`crate::store::encoding`]), in a slot with some room, so that a renewed head can take the place of an
//!   older one;
//! * a second slot, the spare, for the next head: the valid one is never written over;
//! * the body;
//! * behind the body, one sum for each 64 KiB piece of it. A body of one piece has its only sum in the prefix, in place
//!   of the sum of the table.
//!
//! Whatever follows the last region means nothing. [`sums`] has what is summed up, and how.

pub mod sums;

use crate::store::encoding::DecodeError;
use crate::store::entry::EntryId;
use std::fmt;
use sums::{pieces, sum_of};
use thiserror::Error;

/// Bytes before the first region.
pub const PREFIX_LEN: usize = 128;

/// Bytes of the body that have a sum of their own: what is read and checked at least to serve one byte of a large body.
pub const PIECE: u64 = 64 * 1024;

/// The layout that is written here.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of a head at most. Such a head is a mistake already; most have less than a thousandth of it.
pub const MAX_HEAD: u32 = 4 * 1024 * 1024;

/// Nothing else begins like this: not text, not a number that a file of zeros has.
const MAGIC: [u8; 8] = *b"\x89TGentry";

/// Where the sum of the prefix itself stands.
const SUMMED: usize = PREFIX_LEN - size_of::<u64>();

/// Bodies of several pieces begin at a page, so that their pieces do.
const PAGE: u64 = 4096;

/// Bytes that a slot for a renewed head has at least.
const MIN_ROOM: u32 = 1024;

const PREFIX_END: u64 = PREFIX_LEN as u64;

/// Names the file of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u128);

impl FileId {
    /// That of an entry: its key's hash, and for a variant the hash of both hashes.
    pub fn of(id: &EntryId) -> Self {
        let Some(variant) = id.variant else { return FileId(id.primary) };
        let mut both = [0; 32];
        let (first, second) = both.split_at_mut(16);
        first.copy_from_slice(&id.primary.to_le_bytes());
        second.copy_from_slice(&variant.to_le_bytes());
        FileId(xxhash_rust::xxh3::xxh3_128(&both))
    }

    /// From the name of a file, exactly as it is written: 32 lower case digits.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if name.len() != 32 || !name.iter().all(lower) {
            return None;
        }
        u128::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok().map(FileId)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A part of a file that has a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// Where everything else is.
    Prefix,
    /// Key, fields, facts.
    Head,
    /// A piece of the body, counted from 0.
    Piece(u64),
    /// The sums of the pieces.
    Sums,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Region::Prefix => f.write_str("prefix"),
            Region::Head => f.write_str("head"),
            Region::Piece(number) => write!(f, "piece {number} of the body"),
            Region::Sums => f.write_str("table of sums"),
        }
    }
}

/// Why a file cannot be used. None of its bytes were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damage {
    /// It does not begin like an entry.
    #[error("not a file of this cache")]
    Foreign,
    /// Written by another version of this program.
    #[error("format version {0}, and only {FORMAT_VERSION} is known")]
    Version(u16),
    /// It ends before what it should have.
    #[error("the file is cut off")]
    Truncated,
    /// A region is not what was written.
    #[error("the checksum of the {0} does not fit")]
    Checksum(Region),
    /// It is the file of another entry.
    #[error("the file of entry {0:032x} under the name of another one")]
    Key(u128),
    /// The regions cannot lie as the prefix says.
    #[error("the regions of the file overlap")]
    Layout,
    /// The head was written as it is, and still means nothing.
    #[error(transparent)]
    Head(#[from] DecodeError),
}

impl Damage {
    /// The one spelling, in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Damage::Foreign => "foreign",
            Damage::Version(_) => "version",
            Damage::Truncated => "truncated",
            Damage::Checksum(_) => "checksum",
            Damage::Key(_) => "key",
            Damage::Layout | Damage::Head(_) => "malformed",
        }
    }
}

/// What the first bytes of a file say: where everything is, and what its sums are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Whose file it is.
    pub id: u128,
    /// Where the head begins.
    pub head_at: u64,
    /// Bytes of the head.
    pub head_len: u32,
    /// Bytes that a head in its place may have.
    pub head_room: u32,
    /// Sum of the head.
    pub head_sum: u64,
    /// Where the next head may be written.
    pub spare_at: u64,
    /// Bytes that it may have there; 0 if there is no such place yet.
    pub spare_room: u32,
    /// Where the body begins.
    pub body_at: u64,
    /// Bytes of the body.
    pub body_len: u64,
    /// Where the table of sums begins; 0 if the body has at most one piece.
    pub sums_at: u64,
    /// Sum of the table, or of the only piece.
    pub sums_sum: u64,
}

impl Prefix {
    /// That of a file whose body is all known, and at most one piece: everything side by side, to be read at once.
    pub fn compact(id: FileId, head: &[u8], body: &[u8]) -> Self {
        let body_at = PREFIX_END + head.len() as u64;
        Prefix { body_len: body.len() as u64, sums_sum: sum_of(body), ..Prefix::with_body_at(id, head, body_at) }
    }

    /// That of a file whose body is not known yet: without its length and sums.
    pub fn streaming(id: FileId, head: &[u8]) -> Self {
        Prefix::with_body_at(id, head, (PREFIX_END + head.len() as u64).next_multiple_of(PAGE))
    }

    fn with_body_at(id: FileId, head: &[u8], body_at: u64) -> Self {
        Prefix {
            id: id.0,
            head_at: PREFIX_END,
            head_len: head.len() as u32,
            head_room: (body_at - PREFIX_END) as u32,
            head_sum: sum_of(head),
            spare_at: 0,
            spare_room: 0,
            body_at,
            body_len: 0,
            sums_at: 0,
            sums_sum: 0,
        }
    }

    /// The same with the length of its body and what [`PieceSums::finish`] said. The table stands right behind the body.
    #[must_use]
    pub fn with_body(self, body_len: u64, sums: &[u8], sums_sum: u64) -> Self {
        let sums_at = if sums.is_empty() { 0 } else { self.body_at.saturating_add(body_len) };
        Prefix { body_len, sums_at, sums_sum, ..self }
    }

    /// The same with a new head, which goes where no valid one is: into the spare slot, or into a new one at the end if it
    /// does not fit there. The head that was valid until now becomes the spare.
    ///
    /// A new slot is larger than the one that is given up for it, and its size a power of two, so that a file grows by
    /// at most a few heads however often it is renewed.
    #[must_use]
    pub fn renewed(&self, head: &[u8]) -> Self {
        let head_len = head.len() as u32;
        let (head_at, head_room) = if head_len <= self.spare_room && self.spare_room > 0 {
            (self.spare_at, self.spare_room)
        } else {
            let room = head_len.clamp(MIN_ROOM, MAX_HEAD).next_power_of_two();
            // The spare slot can grow if nothing is behind it.
            let spare_is_last = self.spare_room > 0 && self.slots_end() == self.spare_end();
            (if spare_is_last { self.spare_at } else { self.slots_end() }, room)
        };
        let (spare_at, spare_room) = (self.head_at, self.head_room);
        Prefix { head_at, head_len, head_room, head_sum: sum_of(head), spare_at, spare_room, ..*self }
    }

    /// As bytes.
    pub fn encode(&self) -> [u8; PREFIX_LEN] {
        let mut out = [0; PREFIX_LEN];
        let (fields, sum) = out.split_at_mut(SUMMED);
        let rest = &mut &mut *fields;
        put(rest, MAGIC);
        put(rest, FORMAT_VERSION.to_le_bytes());
        put(rest, [0; 2]);
        put(rest, self.head_len.to_le_bytes());
        put(rest, self.id.to_le_bytes());
        put(rest, self.head_at.to_le_bytes());
        put(rest, self.head_room.to_le_bytes());
        put(rest, self.spare_room.to_le_bytes());
        for number in [self.spare_at, self.head_sum, self.body_at, self.body_len, self.sums_at, self.sums_sum] {
            put(rest, number.to_le_bytes());
        }
        sum.copy_from_slice(&sum_of(fields).to_le_bytes());
        out
    }

    /// Reads the beginning of a file of `file_len` bytes.
    ///
    /// # Errors
    /// [`Damage`], also if a region goes beyond the end of the file.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self, Damage> {
        let prefix = Prefix::parse(bytes)?;
        if prefix.end() <= file_len { Ok(prefix) } else { Err(Damage::Truncated) }
    }

    /// [`Prefix::decode`] for a file whose length is not known yet: see [`Prefix::end`].
    ///
    /// # Errors
    /// [`Damage`], except that the file may be too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let start = bytes.get(..MAGIC.len()).unwrap_or(bytes);
        if !MAGIC.starts_with(start) {
            return Err(Damage::Foreign);
        }
        let (bytes, _) = bytes.split_first_chunk::<PREFIX_LEN>().ok_or(Damage::Truncated)?;
        let (fields, sum) = bytes.split_at(SUMMED);
        let rest = &mut &*fields;
        let _magic = get::<8>(rest);
        // Before anything else: another version may sum up differently.
        let version = u16::from_le_bytes(get(rest));
        if version != FORMAT_VERSION {
            return Err(Damage::Version(version));
        }
        if sum != sum_of(fields).to_le_bytes() {
            return Err(Damage::Checksum(Region::Prefix));
        }
        let _reserved = get::<2>(rest);
        let head_len = u32::from_le_bytes(get(rest));
        let id = u128::from_le_bytes(get(rest));
        let head_at = u64::from_le_bytes(get(rest));
        let head_room = u32::from_le_bytes(get(rest));
        let spare_room = u32::from_le_bytes(get(rest));
        let [spare_at, head_sum, body_at, body_len, sums_at, sums_sum] =
            std::array::from_fn(|_| u64::from_le_bytes(get(rest)));
        let prefix = Prefix {
            id,
            head_at,
            head_len,
            head_room,
            head_sum,
            spare_at,
            spare_room,
            body_at,
            body_len,
            sums_at,
            sums_sum,
        };
        prefix.is_laid_out().map(|()| prefix)
    }

    /// Where the last of what a reader needs ends: the file must not be shorter.
    pub fn end(&self) -> u64 {
        let head_end = self.head_at.saturating_add(self.head_len.into());
        head_end.max(self.body_end()).max(self.sums_end())
    }

    /// Bytes of the table of sums.
    pub fn sums_len(&self) -> u64 {
        if self.body_len > PIECE { pieces(self.body_len) * size_of::<u64>() as u64 } else { 0 }
    }

    /// 0 if there is none: a file may end before the place that was meant for it.
    fn body_end(&self) -> u64 {
        if self.body_len == 0 { 0 } else { self.body_at.saturating_add(self.body_len) }
    }

    fn sums_end(&self) -> u64 {
        self.sums_at.saturating_add(self.sums_len())
    }

    fn spare_end(&self) -> u64 {
        self.spare_at.saturating_add(self.spare_room.into())
    }

    /// Where all regions end, with the room that heads have.
    fn slots_end(&self) -> u64 {
        let head_end = self.head_at.saturating_add(self.head_room.into());
        head_end.max(self.spare_end()).max(self.body_end()).max(self.sums_end())
    }

    /// No region may lie upon another: a head that is written later would destroy it.
    fn is_laid_out(&self) -> Result<(), Damage> {
        let has_table = self.body_len > PIECE;
        let sound = self.head_len <= self.head_room
            && self.head_room <= 2 * MAX_HEAD
            && self.spare_room <= 2 * MAX_HEAD
            && self.head_len <= MAX_HEAD
            && (self.sums_at != 0) == has_table;
        let mut regions = [
            (self.head_at, self.head_room.into()),
            (self.spare_at, self.spare_room.into()),
            (self.body_at, self.body_len),
            (self.sums_at, self.sums_len()),
        ];
        regions.sort_unstable();
        let mut free = PREFIX_END;
        for (at, length) in regions.into_iter().filter(|(_, length)| *length > 0) {
            if at < free {
                return Err(Damage::Layout);
            }
            // Beyond what a file can have, and what its functions can add up.
            free = at.checked_add(length).filter(|end| *end <= i64::MAX as u64).ok_or(Damage::Layout)?;
        }
        if sound { Ok(()) } else { Err(Damage::Layout) }
    }
}

/// Writes the next bytes, which fit by construction.
fn put<const N: usize>(rest: &mut &mut [u8], bytes: [u8; N]) {
    if let Some((place, after)) = std::mem::take(rest).split_first_chunk_mut() {
        *place = bytes;
        *rest = after;
    }
}

/// Reads the next bytes, which are there by construction.
fn get<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((bytes, after)) = rest.split_first_chunk() else { return [0; N] };
    *rest = after;
    *bytes
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
