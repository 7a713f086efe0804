use super::*;

const BODY: &[u8] = b"0123456789";

fn part(first: usize, last: usize) -> (u64, Bytes) {
    (first as u64, Bytes::from_static(&BODY[first..=last]))
}

/// The parts of [`BODY`] from each first to each last byte, in the order in which they came.
fn parts(all: &[(usize, usize)]) -> Parts {
    let none = Parts { complete: BODY.len() as u64, pieces: Vec::new() };
    all.iter().fold(none, |parts, (first, last)| {
        let (first, bytes) = part(*first, *last);
        parts.with(first, bytes)
    })
}

fn range(first: u64, last: u64) -> ByteRange {
    ByteRange { first, last }
}

/// Every byte that is here, and a dot for each that is missing.
fn shown(parts: &Parts) -> String {
    let byte = |at| parts.at(at, at + 1).map_or('.', |byte| byte[0] as char);
    (0..parts.complete()).map(byte).collect()
}

#[test]
fn parts_are_read_back_from_where_they_belong() {
    let parts = parts(&[(6, 7), (1, 3)]);
    assert_eq!(shown(&parts), ".123..67..");
    assert_eq!((parts.at(2, 10).unwrap(), parts.at(2, 3).unwrap()), (Bytes::from("23"), Bytes::from("2")));
    assert!(parts.at(4, 10).is_none() && parts.at(8, 10).is_none() && parts.at(2, 2).is_none());
}

#[test]
fn every_order_and_overlap_gives_the_same_bytes() {
    for _ in 0..2000 {
        let some: Vec<(usize, usize)> = (0..fastrand::usize(1..6))
            .map(|_| {
                let first = fastrand::usize(..BODY.len());
                (first, fastrand::usize(first..BODY.len()))
            })
            .collect();
        let stored = parts(&some);
        let here = |at: usize| some.iter().any(|(first, last)| (*first..=*last).contains(&at));
        let expected: String = (0..BODY.len()).map(|at| if here(at) { BODY[at] as char } else { '.' }).collect();
        assert_eq!(shown(&stored), expected, "{some:?}");
        assert_eq!(stored.held(), expected.replace('.', "").len() as u64, "{some:?}");
        for first in 0..BODY.len() {
            for last in first..BODY.len() {
                let all = (first..=last).all(here);
                assert_eq!(stored.covers(range(first as u64, last as u64)), all, "{first}-{last} of {some:?}");
            }
        }
        let missing = expected.find('.').map(|first| range(first as u64, expected.rfind('.').unwrap() as u64));
        assert_eq!(stored.missing(), missing, "{some:?}");
        assert_eq!(stored.whole().is_some(), missing.is_none(), "{some:?}");
    }
}

#[test]
fn parts_that_cover_everything_are_the_whole() {
    assert_eq!(parts(&[(5, 9), (0, 2), (2, 4)]).whole().unwrap(), BODY);
    assert_eq!(parts(&[(0, 9)]).whole().unwrap(), BODY);
    assert_eq!(parts(&[(0, 8)]).whole(), None);
}

#[tokio::test]
async fn what_is_missing_is_one_span_with_something_around_it() {
    let stored = parts(&[(0, 1), (4, 5), (8, 9)]);
    assert_eq!(stored.missing(), Some(range(2, 7)));
    assert_eq!(stored.around(range(2, 7)).await.unwrap(), (Bytes::from("01"), Bytes::from("89")));
    assert_eq!(parts(&[(4, 5)]).around(range(0, 9)).await.unwrap(), (Bytes::new(), Bytes::new()));
}

#[test]
fn a_part_that_is_here_already_costs_nothing() {
    let once = parts(&[(2, 7)]);
    assert_eq!(once.with(3, Bytes::from_static(b"345")).weight(), once.weight());
}

#[test]
fn a_kept_cut_does_not_keep_the_buffer_that_it_was_cut_from() {
    let large = Bytes::from(vec![b'x'; 1000]);
    let stored = Parts::new(1000, 0, Bytes::from(vec![b'y'; 990])).with(0, large.clone());
    assert_eq!(stored.whole().unwrap().len(), 1000);
    assert!(large.is_unique(), "ten bytes keep a thousand alive");
}

#[test]
fn many_neighbours_are_joined_and_all_stay() {
    let mut stored = Parts::new(1000, 0, Bytes::from_static(b"x"));
    for at in 1..900 {
        stored = stored.with(at, Bytes::from_static(b"x"));
    }
    assert!(stored.pieces.len() <= MOST_PIECES);
    assert!(stored.covers(range(0, 899)) && stored.held() == 900);
}

#[test]
fn of_too_many_parts_the_smallest_go() {
    let mut stored = Parts::new(10_000, 9000, Bytes::from(vec![b'x'; 500]));
    for at in 0..1000 {
        stored = stored.with(at * 2, Bytes::from_static(b"x"));
    }
    assert!(stored.pieces.len() <= MOST_PIECES && stored.covers(range(9000, 9499)));
    assert!(stored.weight() < 500 + MOST_PIECES * (PIECE_COST + 1) + 1);
}

#[test]
fn spans_say_which_bytes_are_here_and_join_neighbours() {
    let stored = parts(&[(6, 7), (1, 3), (4, 4)]);
    assert_eq!(stored.spans(), Spans::new(10, [Span { first: 1, length: 4 }, Span { first: 6, length: 2 }]));
    assert_eq!(parts(&[(0, 4), (5, 9)]).spans(), None);
}
