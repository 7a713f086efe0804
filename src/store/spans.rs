//! Which bytes of a whole a row of bytes consists of, so that parts of a response can lie in a file one after the other.

/// Most pieces of an entry. Neighbours are joined before this many are exceeded, and then the smallest ones go: a client
/// that asks for every other byte must not cost more than what it asks for.
pub const MOST_PIECES: usize = 128;

/// Consecutive bytes of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the first one.
    pub first: u64,
    /// How many there are.
    pub length: u64,
}

/// Some bytes of a whole, and not all: at least one span and at most [`MOST_PIECES`], in order, with a gap between any two.
/// In a file they follow each other without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    complete: u64,
    list: Box<[Span]>,
}

impl Spans {
    /// Spans of a whole of `complete` bytes. Those that touch are joined. `None` if they are not as they have to be.
    pub fn new(complete: u64, spans: impl IntoIterator<Item = Span>) -> Option<Self> {
        let mut list: Vec<Span> = Vec::new();
        for span in spans {
            match list.last_mut() {
                Some(last) if last.first.checked_add(last.length) == Some(span.first) => {
                    last.length = last.length.checked_add(span.length)?;
                }
                _ => list.push(span),
            }
        }
        Spans { complete, list: list.into() }.checked()
    }

    fn checked(self) -> Option<Self> {
        let mut free = 0_u64;
        for (number, span) in self.list.iter().enumerate() {
            let is_apart = span.first > free || (number == 0 && span.first == 0);
            if !is_apart || span.length == 0 {
                return None;
            }
            free = span.first.checked_add(span.length).filter(|end| *end <= self.complete)?;
        }
        let is_some = (1..=MOST_PIECES).contains(&self.list.len()) && self.held() < self.complete;
        is_some.then_some(self)
    }

    /// Bytes of the whole.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// Bytes that are here: those of the file.
    pub fn held(&self) -> u64 {
        // Without overlap they are no more than the whole.
        self.list.iter().fold(0, |held, span| held.saturating_add(span.length))
    }

    /// Each span, with where it begins in the file.
    pub fn in_file(&self) -> impl Iterator<Item = (Span, u64)> + '_ {
        self.list.iter().scan(0_u64, |at, span| {
            let begins = *at;
            *at = at.saturating_add(span.length);
            Some((*span, begins))
        })
    }

    /// As bytes: the length of the whole, then first position and length of each span, little endian.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = self.list.iter().flat_map(|span| [span.first, span.length]);
        std::iter::once(self.complete).chain(numbers).flat_map(u64::to_le_bytes).collect()
    }

    /// Reads exactly what [`Spans::encode`] writes; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || numbers.len() > 1 + 2 * MOST_PIECES {
            return None;
        }
        let (complete, spans) = numbers.split_first()?;
        let (spans, rest) = spans.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let span = |[first, length]: &[[u8; 8]; 2]| Span {
            first: u64::from_le_bytes(*first),
            length: u64::from_le_bytes(*length),
        };
        Spans { complete: u64::from_le_bytes(*complete), list: spans.iter().map(span).collect() }.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, length: u64) -> Span {
        Span { first, length }
    }

    fn spans(complete: u64, all: &[(u64, u64)]) -> Option<Spans> {
        Spans::new(complete, all.iter().map(|(first, length)| span(*first, *length)))
    }

    /// What [`Spans::new`] would not make, as bytes.
    fn bytes(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn spans_follow_each_other_in_the_file() {
        let some = spans(100, &[(0, 5), (10, 1), (90, 10)]).unwrap();
        assert_eq!(some.in_file().collect::<Vec<_>>(), [(span(0, 5), 0), (span(10, 1), 5), (span(90, 10), 6)]);
        assert_eq!((some.held(), some.complete()), (16, 100));
    }

    #[test]
    fn spans_that_touch_are_one() {
        assert_eq!(spans(100, &[(3, 2), (5, 5), (10, 1), (12, 1)]), spans(100, &[(3, 8), (12, 1)]));
    }

    #[test]
    fn spans_come_back_as_they_were() {
        for all in [&[(0, 1)][..], &[(5, 5)], &[(0, 3), (4, 1), (6, 4)], &[(u64::MAX - 2, 1)]] {
            let some = spans(if all[0].0 > 100 { u64::MAX } else { 11 }, all).unwrap();
            assert_eq!(Spans::decode(&some.encode()), Some(some), "{all:?}");
        }
        let most = spans(1000, &(0..128).map(|n| (2 * n, 1)).collect::<Vec<_>>()).unwrap();
        assert_eq!(Spans::decode(&most.encode()), Some(most));
    }

    #[test]
    fn what_cannot_be_is_no_list() {
        let far = u64::MAX;
        for numbers in [
            &[][..],
            &[10],
            &[10, 0],
            &[10, 0, 0],
            // All of it, and more than that.
            &[10, 0, 10],
            &[10, 5, 6],
            &[10, 11, 1],
            &[0, 0, 0],
            &[far, 1, far],
            &[far, far, far],
            // Overlapping, out of order, touching.
            &[10, 0, 5, 4, 1],
            &[10, 5, 1, 0, 1],
            &[10, 0, 2, 2, 2],
            &[10, 1, 1, 1, 1],
        ] {
            assert_eq!(Spans::decode(&bytes(numbers)), None, "{numbers:?}");
        }
        let many: Vec<u64> = std::iter::once(1000).chain((0..129).flat_map(|n| [2 * n, 1])).collect();
        assert_eq!(Spans::decode(&bytes(&many)), None);
        let sound = bytes(&[10, 0, 2, 4, 2]);
        assert!(Spans::decode(&sound).is_some());
        for length in 0..sound.len() {
            // Without its last pair it is a list again.
            assert_eq!(Spans::decode(&sound[..length]).is_some(), length == 24, "{length}");
        }
    }
}
