use super::sums::{PieceSums, sum_in};
use super::*;

const FILE: u64 = 10 * 1024 * 1024;

/// A body of one MiB and one byte behind a head of 100.
fn large() -> Prefix {
    let body = vec![7; 1024 * 1024 + 1];
    let mut sums = PieceSums::default();
    sums.feed(&body);
    let (table, sum) = sums.finish();
    Prefix::streaming(FileId(1 << 100 | 5), &[1; 100]).with_body(body.len() as u64, &table, sum)
}

fn small() -> Prefix {
    Prefix::compact(FileId(9), b"a head", b"a body")
}

/// With another checksum of its own, as one that was written so.
fn reencoded(change: impl FnOnce(&mut Prefix)) -> Result<Prefix, Damage> {
    let mut prefix = large();
    change(&mut prefix);
    Prefix::decode(&prefix.encode(), FILE)
}

fn resummed(change: impl FnOnce(&mut [u8])) -> [u8; PREFIX_LEN] {
    let mut bytes = large().encode();
    change(&mut bytes);
    let sum = sum_of(&bytes[..SUMMED]);
    bytes[SUMMED..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_prefix_comes_back_as_it_was() {
    for prefix in [large(), small(), large().renewed(&[2; 3000]), Prefix::compact(FileId(0), b"", b"")] {
        assert_eq!(Prefix::decode(&prefix.encode(), FILE), Ok(prefix));
    }
}

#[test]
fn what_follows_the_prefix_is_not_looked_at() {
    let mut bytes = small().encode().to_vec();
    bytes.extend([0xff; 99]);
    assert_eq!(Prefix::decode(&bytes, FILE), Ok(small()));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let whole = large().encode();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole;
            flipped[at] ^= 1 << bit;
            assert!(Prefix::decode(&flipped, FILE).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_prefix_that_ends_early_is_cut_off() {
    let whole = large().encode();
    for length in 0..whole.len() {
        assert_eq!(Prefix::decode(&whole[..length], length as u64), Err(Damage::Truncated), "{length} bytes");
    }
}

#[test]
fn other_files_are_foreign_however_short() {
    for bytes in [&b"Signature: 8a477f597d28d172789f06886806bc55"[..], b"x", &[0; 4096]] {
        assert_eq!(Prefix::decode(bytes, FILE), Err(Damage::Foreign));
    }
}

#[test]
fn other_versions_are_refused_before_their_checksum_is_looked_at() {
    for version in [0, 2, u16::MAX] {
        let mut bytes = large().encode();
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        assert_eq!(Prefix::decode(&bytes, FILE), Err(Damage::Version(version)));
    }
}

#[test]
fn every_region_has_to_be_in_the_file() {
    for prefix in [large(), small(), large().renewed(&[2; 3000])] {
        let end = prefix.end();
        assert_eq!(Prefix::decode(&prefix.encode(), end), Ok(prefix), "to the last byte");
        assert_eq!(Prefix::decode(&prefix.encode(), end - 1), Err(Damage::Truncated));
    }
}

#[test]
fn regions_that_overlap_are_refused() {
    let changes: [fn(&mut Prefix); 8] = [
        |prefix| prefix.head_at = 0,
        |prefix| prefix.head_at = prefix.body_at,
        |prefix| prefix.body_at = 64,
        |prefix| prefix.sums_at = prefix.body_at,
        |prefix| (prefix.spare_at, prefix.spare_room) = (prefix.head_at, 1),
        |prefix| (prefix.spare_at, prefix.spare_room) = (prefix.body_at + prefix.body_len - 1, 1),
        |prefix| prefix.head_room += 1,
        |prefix| prefix.head_len = prefix.head_room + 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert_eq!(reencoded(change), Err(Damage::Layout), "change {number}");
    }
}

#[test]
fn lengths_that_no_file_has_are_refused() {
    for length in [u64::MAX, u64::MAX / 2, i64::MAX as u64 + 1, i64::MAX as u64] {
        assert!(reencoded(|prefix| prefix.body_len = length).is_err(), "body of {length}");
        assert!(reencoded(|prefix| prefix.sums_at = length).is_err(), "table at {length}");
        assert!(reencoded(|prefix| prefix.head_at = length).is_err(), "head at {length}");
    }
    assert_eq!(reencoded(|prefix| prefix.head_room = u32::MAX), Err(Damage::Layout));
    assert_eq!(reencoded(|prefix| prefix.head_len = u32::MAX), Err(Damage::Layout));
}

#[test]
fn a_table_is_there_exactly_if_there_are_several_pieces() {
    assert_eq!(reencoded(|prefix| prefix.sums_at = 0), Err(Damage::Layout));
    let mut prefix = small();
    prefix.sums_at = 4096;
    assert_eq!(Prefix::decode(&prefix.encode(), FILE), Err(Damage::Layout));
}

#[test]
fn no_prefix_with_a_right_checksum_ends_the_process() {
    let rng = &mut fastrand::Rng::with_seed(3);
    for _ in 0..2000 {
        let bytes = resummed(|bytes| {
            for _ in 0..rng.usize(1..5) {
                bytes[rng.usize(10..SUMMED)] = rng.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap();
            }
        });
        if let Ok(prefix) = Prefix::decode(&bytes, rng.u64(..)) {
            let renewed = prefix.renewed(&[1; 2000]);
            let fits = prefix.slots_end() < i64::MAX as u64 - 4096;
            assert_eq!(Prefix::parse(&renewed.encode()), if fits { Ok(renewed) } else { Err(Damage::Layout) });
        }
    }
}

#[test]
fn heads_take_turns_in_two_slots() {
    let first = large();
    let second = first.renewed(&[2; 90]);
    let third = second.renewed(&[3; 95]);
    let fourth = third.renewed(&[4; 99]);
    assert_eq!((third.head_at, third.spare_at), (first.head_at, second.head_at));
    assert_eq!((fourth.head_at, fourth.spare_at), (second.head_at, first.head_at));
    assert_eq!((fourth.body_at, fourth.body_len, fourth.sums_at), (first.body_at, first.body_len, first.sums_at));
}

#[test]
fn a_new_head_never_lies_upon_the_one_that_is_valid() {
    let rng = &mut fastrand::Rng::with_seed(1);
    let mut prefix = large();
    for _ in 0..1000 {
        let next = prefix.renewed(&vec![1; rng.usize(0..40_000)]);
        let valid = prefix.head_at..prefix.head_at + u64::from(prefix.head_len);
        let written = next.head_at..next.head_at + u64::from(next.head_len);
        assert!(valid.end <= written.start || written.end <= valid.start, "{prefix:?} {next:?}");
        assert_eq!(Prefix::parse(&next.encode()), Ok(next));
        prefix = next;
    }
    assert!(prefix.slots_end() < large().end() + 8 * 64 * 1024, "{prefix:?}");
}

#[test]
fn a_head_that_grows_each_time_costs_a_few_heads_at_most() {
    let mut prefix = large();
    for length in 0..100_000 {
        prefix.head_len = 0;
        prefix = prefix.renewed(&[]);
        // Only the length counts for where it goes.
        let head = vec![0; if length % 500 == 0 { length } else { 1 }];
        prefix = prefix.renewed(&head);
    }
    assert!(prefix.slots_end() < large().end() + 4 * 128 * 1024, "{prefix:?}");
}

#[test]
fn sums_do_not_depend_on_how_the_body_comes() {
    let rng = &mut fastrand::Rng::with_seed(2);
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 300_000] {
        let body: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        let expected: Vec<u8> = body.chunks(PIECE as usize).flat_map(|piece| sum_of(piece).to_le_bytes()).collect();
        for _ in 0..5 {
            let mut sums = PieceSums::default();
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (slice, after) = rest.split_at(rng.usize(0..=rest.len().min(100_000)));
                sums.feed(slice);
                rest = after;
            }
            let (table, sum) = sums.finish();
            if length > 65_536 {
                assert_eq!((table.as_slice(), sum), (expected.as_slice(), sum_of(&expected)), "{length} bytes");
                assert_eq!(sum_in(&table, 1), Some(sum_of(body.chunks(PIECE as usize).nth(1).unwrap())));
                assert_eq!(sum_in(&table, pieces(length)), None);
            } else {
                assert_eq!((table, sum), (Vec::new(), sum_of(&body)), "{length} bytes");
            }
        }
    }
}

#[test]
fn the_name_of_a_file_is_read_as_it_is_written() {
    let id = FileId(0xab << 120 | 7);
    let name = id.to_string();
    assert_eq!(name, "ab000000000000000000000000000007");
    assert_eq!(FileId::from_name(name.as_bytes()), Some(id));
    for other in [&name[1..], &name.to_uppercase(), "+b000000000000000000000000000007", "lock", ""] {
        assert_eq!(FileId::from_name(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn variants_of_a_key_have_files_of_their_own() {
    let of = |variant| FileId::of(&EntryId { primary: 5, variant });
    assert_eq!(of(None), FileId(5));
    assert!(of(Some(0)) != of(Some(1)) && of(Some(0)) != of(None));
}
