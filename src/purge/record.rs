//! A purge as nodes tell it each other.

use super::target::Target;

/// Most things that one record names. A larger purge is several records, so that none holds up Redis for long.
pub const MOST: usize = 1000;

/// Names a record, whoever tells it and however often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId(pub u128);

impl RecordId {
    /// One that nobody else has.
    pub fn random() -> Self {
        RecordId(fastrand::u128(..))
    }

    /// As Redis keeps it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// What [`RecordId::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(RecordId(u128::from_le_bytes(bytes.try_into().ok()?)))
    }
}

/// A purge, or a part of a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// What it names becomes stale, instead of being forgotten.
    pub soft: bool,
    /// What it names.
    pub targets: Vec<Target>,
}

impl Record {
    /// The records that tell of one purge.
    pub fn of(targets: &[Target], soft: bool) -> Vec<Record> {
        let record = |part: &[Target]| Record { id: RecordId::random(), soft, targets: part.to_vec() };
        targets.chunks(MOST).map(record).collect()
    }

    /// What it names, as bytes.
    pub fn targets_to_bytes(&self) -> Vec<u8> {
        self.targets.iter().flat_map(|target| target.to_bytes()).collect()
    }

    /// What [`Record::targets_to_bytes`] gave. `None`: somebody knows a kind of purge that is not known here.
    pub fn targets_from_bytes(bytes: &[u8]) -> Option<Vec<Target>> {
        let targets = bytes.chunks(Target::BYTES).map(Target::from_bytes);
        targets.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_purge_is_several_records_that_name_all_of_it() {
        let targets: Vec<Target> = (0..2500).map(|n| Target::tag(&n.to_string())).collect();
        let records = Record::of(&targets, true);
        assert_eq!(records.iter().map(|record| record.targets.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert!(records[0].id != records[1].id && records.iter().all(|record| record.soft));
        let told = records.iter().flat_map(|record| Record::targets_from_bytes(&record.targets_to_bytes()).unwrap());
        assert_eq!(told.collect::<Vec<_>>(), targets);
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        let bytes = Record { id: RecordId::random(), soft: false, targets: vec![Target::ALL] }.targets_to_bytes();
        assert_eq!(Record::targets_from_bytes(&bytes), Some(vec![Target::ALL]));
        assert_eq!(Record::targets_from_bytes(&bytes[..20]), None);
        assert_eq!(Record::targets_from_bytes(&[&[9], &bytes[1..]].concat()), None);
        assert_eq!(Record::targets_from_bytes(&[]), Some(Vec::new()));
    }
}
