//! The frames of the file that purges are written to.
//!
//! ```text
//! frame   = magic:u32 length:u32 payload checksum:u64       the checksum is XXH3 of the payload
//! payload = latest:u64 epoch:u64 at:u64 marks:u32 waiting:u32 told:u32 mark* record* id*
//! mark    = target hard:u64 soft:u64
//! record  = id soft:u8 targets:u32 target*
//! target  = kind:u8 length:u32 digest:u128
//! id      = u128
//! ```
//!
//! Numbers are little endian. `epoch` and `at` are how far the log of all nodes is in force here, and 0 where that is not said;
//! `record`s wait to be told to other nodes, those of the `id`s need not any more. In files of the first version a payload
//! is `latest` and marks.

use super::index::Times;
use super::position::Position;
use super::record::{Record, RecordId};
use super::shared::Shared;
use super::target::Target;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: u32 = 0x5047_5254;

/// Bytes of a mark.
pub const MARK: usize = Target::BYTES + 16;

/// Longest payload that is believed: far more than any purge has.
const LONGEST: usize = 64 << 20;

/// The layout of payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Before nodes told each other.
    First,
    /// The present one.
    Second,
}

/// What one frame says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Note<'a> {
    /// How far the order has come here.
    pub latest: Position,
    /// How far the log of all nodes is in force here.
    pub place: Option<Shared>,
    /// What was purged.
    pub marks: &'a [(Target, Times)],
    /// What is to be told to other nodes.
    pub waiting: &'a [Record],
    /// What was told.
    pub told: &'a [RecordId],
}

impl Note<'_> {
    /// How much of it becomes superfluous one day.
    pub fn weight(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(|record| record.targets.len() + 1).sum();
        self.marks.len() + waiting + self.told.len()
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let place = self.place.unwrap_or_default();
        let mut payload = Vec::with_capacity(36 + self.marks.len() * MARK);
        for number in [self.latest.to_bits(), place.epoch, place.at.to_bits()] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        for count in [self.marks.len(), self.waiting.len(), self.told.len()] {
            payload.extend_from_slice(&length(count));
        }
        for (target, Times { hard, soft }) in self.marks {
            payload.extend_from_slice(&target.to_bytes());
            payload.extend_from_slice(&hard.to_bits().to_le_bytes());
            payload.extend_from_slice(&soft.to_bits().to_le_bytes());
        }
        for record in self.waiting {
            payload.extend_from_slice(&record.id.to_bytes());
            payload.push(record.soft.into());
            payload.extend_from_slice(&length(record.targets.len()));
            payload.extend_from_slice(&record.targets_to_bytes());
        }
        for id in self.told {
            payload.extend_from_slice(&id.to_bytes());
        }
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&length(payload.len()));
        out.extend_from_slice(&payload);
        out.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
    }
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What was purged.
    pub marks: Vec<(Target, Times)>,
    /// The latest position that it knows.
    pub latest: Position,
    /// How far the log of all nodes was in force.
    pub place: Option<Shared>,
    /// What was still to be told to other nodes.
    pub waiting: Vec<Record>,
    /// Something is missing that was acknowledged.
    pub damaged: bool,
    /// Bytes at the end that are no whole frame.
    pub torn: usize,
}

impl Recovered {
    /// Takes in the frames of a file, or what is left of them.
    pub fn read(&mut self, mut rest: &[u8], version: Version) {
        while !rest.is_empty() {
            if let Some((payload, after)) = sound(rest) {
                if self.torn > 0 {
                    // Something unreadable lies before it.
                    self.damaged = true;
                    self.torn = 0;
                }
                rest = after;
                let taken = match version {
                    Version::First => self.take_first(payload),
                    Version::Second => self.take(payload),
                };
                self.damaged |= taken.is_none();
            } else {
                self.torn += 1;
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        // Written before it was renamed into place, so it was there.
        self.damaged |= self.latest == Position::BEGINNING;
    }

    fn take_first(&mut self, payload: &[u8]) -> Option<()> {
        let mut payload = payload;
        self.take_latest(&mut payload)?;
        while !payload.is_empty() {
            self.take_mark(&mut payload)?;
        }
        Some(())
    }

    fn take(&mut self, payload: &[u8]) -> Option<()> {
        let mut payload = payload;
        self.take_latest(&mut payload)?;
        let place = Shared { epoch: number(&mut payload)?, at: Position::from_bits(number(&mut payload)?) };
        if place.epoch != 0 {
            self.place = Some(place);
        }
        let [marks, waiting, told] = [count(&mut payload)?, count(&mut payload)?, count(&mut payload)?];
        for _ in 0..marks {
            self.take_mark(&mut payload)?;
        }
        for _ in 0..waiting {
            let id = RecordId::from_bytes(part(&mut payload, 16)?)?;
            let soft = part(&mut payload, 1)? == [1];
            let targets = count(&mut payload)? as usize;
            let targets = Record::targets_from_bytes(part(&mut payload, targets.checked_mul(Target::BYTES)?)?)?;
            self.waiting.push(Record { id, soft, targets });
        }
        for _ in 0..told {
            let id = RecordId::from_bytes(part(&mut payload, 16)?)?;
            self.waiting.retain(|record| record.id != id);
        }
        payload.is_empty().then_some(())
    }

    fn take_latest(&mut self, payload: &mut &[u8]) -> Option<()> {
        self.latest = self.latest.max(Position::from_bits(number(payload)?));
        Some(())
    }

    fn take_mark(&mut self, payload: &mut &[u8]) -> Option<()> {
        let target = Target::from_bytes(part(payload, Target::BYTES)?)?;
        let mut position = || number(payload).map(Position::from_bits);
        let times = Times { hard: position()?, soft: position()? };
        // One that came while the file was written.
        self.latest = self.latest.max(times.hard).max(times.soft);
        self.marks.push((target, times));
        Some(())
    }
}

/// The payload of the frame that the bytes begin with, and what follows it.
fn sound(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(&MAGIC.to_le_bytes())?;
    let length = count(&mut rest)? as usize;
    if length > LONGEST {
        return None;
    }
    let payload = part(&mut rest, length)?;
    (xxh3_64(payload) == number(&mut rest)?).then_some((payload, rest))
}

fn part<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    part(bytes, 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn count(bytes: &mut &[u8]) -> Option<u32> {
    part(bytes, 4)?.try_into().ok().map(u32::from_le_bytes)
}
