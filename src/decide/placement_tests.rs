//! Every rule of the tiers, as tables.

use super::*;
use TierName::{Disk, Memory, Redis};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The tiers of a configuration with this under `cache`.
fn tiers(cache: &str) -> Tiers {
    let text = format!(
        "cache: {{ {cache} }}\norigins: {{ o: {{ http: {{ servers: \"a:1\" }} }} }}\n\
         buckets: {{ b: {{ match: {{ hosts: \"*\" }}, origin: o }} }}\n"
    );
    let loaded = crate::config::Config::parse(&text, Path::new("t.yaml"), &|_| None);
    Tiers::of(&loaded.unwrap_or_else(|problems| panic!("{problems:#?}")).config.cache)
}

const MEMORY: &str = "memory: { capacity: 64MiB, max_object: 1MiB }";
const NO_MEMORY: &str = "memory: { capacity: 0 }";
const DISK: &str = "disk: { path: nowhere, capacity: 1GiB, max_object: 100MiB }";

fn both() -> Tiers {
    tiers(&format!("{MEMORY}, {DISK}"))
}

fn set(names: &[TierName]) -> TierSet {
    names.iter().copied().collect()
}

fn written(tiers: &Tiers, allowed: TierSet, size: Option<u64>) -> Vec<TierName> {
    placement(tiers, &Wish { tiers: allowed, size, found: None }).write_to.iter().collect()
}

#[test]
fn an_entry_is_written_to_every_tier_that_is_on() {
    for (cache, expected) in [
        (format!("{MEMORY}, {DISK}"), &[Memory, Disk][..]),
        (MEMORY.to_owned(), &[Memory]),
        (format!("{NO_MEMORY}, {DISK}"), &[Disk]),
        (NO_MEMORY.to_owned(), &[]),
        (format!("{NO_MEMORY}, disk: {{ path: nowhere, capacity: 0 }}"), &[]),
    ] {
        assert_eq!(written(&tiers(&cache), TierSet::ALL, Some(1)), expected, "{cache}");
    }
}

#[test]
fn a_policy_chooses_among_the_tiers_that_are_on() {
    let (both, memory, disk) = (both(), tiers(MEMORY), tiers(&format!("{NO_MEMORY}, {DISK}")));
    for (tiers, allowed, expected) in [
        (&both, &[Memory][..], &[Memory][..]),
        (&both, &[Disk], &[Disk]),
        (&both, &[Redis, Disk], &[Disk]),
        (&both, &[Redis], &[]),
        (&both, &[], &[]),
        (&memory, &[Disk], &[]),
        (&memory, &[Disk, Memory], &[Memory]),
        (&disk, &[Memory], &[]),
        (&disk, &[Memory, Disk], &[Disk]),
    ] {
        assert_eq!(written(tiers, set(allowed), Some(1)), expected, "{tiers:?} {allowed:?}");
    }
}

#[test]
fn what_is_too_long_for_one_tier_goes_to_the_next() {
    for (size, expected) in [
        (Some(0), &[Memory, Disk][..]),
        (Some(MIB), &[Memory, Disk]),
        (Some(MIB + 1), &[Disk]),
        (Some(100 * MIB), &[Disk]),
        (Some(100 * MIB + 1), &[]),
        (Some(u64::MAX), &[]),
        // It is not too long yet.
        (None, &[Memory, Disk]),
    ] {
        assert_eq!(written(&both(), TierSet::ALL, size), expected, "{size:?}");
    }
    assert_eq!(written(&both(), set(&[Memory]), Some(MIB + 1)), []);
    let upside_down = tiers("memory: { capacity: 64MiB, max_object: 8MiB }, disk: { path: d, capacity: 4MiB }");
    assert_eq!(written(&upside_down, TierSet::ALL, Some(5 * MIB)), [Memory]);
}

#[test]
fn the_longest_body_is_that_of_the_allowed_tier_that_takes_most() {
    let (both, memory) = (both(), tiers(MEMORY));
    for (tiers, allowed, expected) in [
        (&both, TierSet::ALL, 100 * MIB),
        (&both, set(&[Memory]), MIB),
        (&both, set(&[Disk, Redis]), 100 * MIB),
        (&both, set(&[Redis]), 0),
        (&both, TierSet::NONE, 0),
        (&memory, TierSet::ALL, MIB),
        (&memory, set(&[Disk]), 0),
    ] {
        assert_eq!(tiers.max_object(allowed), expected, "{tiers:?} {allowed:?}");
    }
}

fn promoted(tiers: &Tiers, allowed: TierSet, size: u64, found: Found) -> Option<TierName> {
    placement(tiers, &Wish { tiers: allowed, size: Some(size), found: Some(found) }).promote_to
}

fn on_disk(hits: u64, per_minute: f64) -> Found {
    Found { tier: Disk, hits, per_minute }
}

#[test]
fn what_was_asked_for_often_enough_on_disk_is_copied_to_memory() {
    let with = |more: &str| tiers(&format!("{MEMORY}, {}", DISK.replace(" }", more)));
    let (usual, never) = (with(" }"), with(", promote_after: 0 }"));
    let rated = with(", promote_after: 3, promote_rate: 10 }");
    for (tiers, hits, per_minute, expected) in [
        (&usual, 0, 1e9, None),
        (&usual, 1, 1e9, None),
        (&usual, 2, 0.0, Some(Memory)),
        (&usual, u64::MAX, 0.0, Some(Memory)),
        (&never, u64::MAX, 1e9, None),
        (&rated, 2, 1e9, None),
        (&rated, 3, 9.99, None),
        (&rated, 3, 10.0, Some(Memory)),
        (&rated, 1000, 0.1, None),
        // A rate over no time is no rate.
        (&rated, 3, f64::NAN, None),
        (&rated, 3, f64::INFINITY, Some(Memory)),
    ] {
        let seen = promoted(tiers, TierSet::ALL, 1, on_disk(hits, per_minute));
        assert_eq!(seen, expected, "{tiers:?} {hits} {per_minute}");
    }
}

#[test]
fn nothing_is_copied_to_a_tier_that_may_not_hold_it() {
    let often = on_disk(100, 100.0);
    let disk_alone = tiers(&format!("{NO_MEMORY}, {DISK}"));
    assert_eq!(promoted(&both(), TierSet::ALL, MIB, often), Some(Memory));
    assert_eq!(promoted(&both(), TierSet::ALL, MIB + 1, often), None);
    assert_eq!(promoted(&both(), set(&[Disk]), 1, often), None);
    assert_eq!(promoted(&disk_alone, TierSet::ALL, 1, often), None);
}

#[test]
fn nothing_is_above_memory_and_a_tier_that_is_off_promotes_nothing() {
    let in_memory = Found { tier: Memory, hits: 100, per_minute: 100.0 };
    assert_eq!(promoted(&both(), TierSet::ALL, 1, in_memory), None);
    let in_redis = Found { tier: Redis, hits: 100, per_minute: 100.0 };
    assert_eq!(promoted(&both(), TierSet::ALL, 1, in_redis), None);
    assert_eq!(promoted(&tiers(MEMORY), TierSet::ALL, 1, on_disk(100, 100.0)), None);
}

#[test]
fn what_was_found_below_may_leave_the_tier_that_does_not_keep_it_any_more() {
    // The disk's limit was lowered after it was written.
    let shrunk = tiers(&format!("{MEMORY}, disk: {{ path: nowhere, capacity: 1GiB, max_object: 1KiB }}"));
    let wish = Wish { tiers: TierSet::ALL, size: Some(MIB), found: Some(on_disk(2, 0.0)) };
    assert_eq!(placement(&shrunk, &wish), Placement { write_to: set(&[Memory]), promote_to: Some(Memory) });
}

#[test]
fn a_changed_configuration_changes_the_rules_of_open_tiers_and_opens_none() {
    let shorter = tiers("memory: { capacity: 64MiB, max_object: 1KiB }");
    let reloaded = shorter.in_place_of(&both());
    assert_eq!(written(&reloaded, TierSet::ALL, Some(1025)), [Disk]);
    assert_eq!(written(&reloaded, TierSet::ALL, Some(1024)), [Memory, Disk]);
    assert_eq!(both().in_place_of(&tiers(MEMORY)), tiers(MEMORY));
    assert_eq!(tiers(NO_MEMORY).in_place_of(&both()).on(TierSet::ALL), set(&[Memory, Disk]));
}

const REDIS: &str = "redis: { url: \"redis://a\", max_object: 8MiB }";

fn all() -> Tiers {
    tiers(&format!("{MEMORY}, {DISK}, {REDIS}"))
}

#[test]
fn redis_keeps_what_is_not_too_long_for_it() {
    let alone = tiers(&format!("{NO_MEMORY}, {REDIS}"));
    for (tiers, size, expected) in [
        (&all(), Some(MIB), &[Memory, Disk, Redis][..]),
        (&all(), Some(8 * MIB), &[Disk, Redis]),
        (&all(), Some(8 * MIB + 1), &[Disk]),
        (&all(), None, &[Memory, Disk, Redis]),
        (&alone, Some(MIB), &[Redis]),
        (&alone, Some(8 * MIB + 1), &[]),
    ] {
        assert_eq!(written(tiers, TierSet::ALL, size), expected, "{tiers:?} {size:?}");
    }
    assert_eq!(alone.max_object(TierSet::ALL), 8 * MIB);
}

#[test]
fn a_redis_that_nodes_only_agree_through_keeps_nothing() {
    let tiers = tiers(&format!("{NO_MEMORY}, redis: {{ url: \"redis://a\", max_object: 0 }}"));
    for size in [None, Some(0), Some(1)] {
        assert_eq!(written(&tiers, TierSet::ALL, size), [], "{size:?}");
    }
    assert!(tiers.on(TierSet::ALL).is_empty());
}

#[test]
fn what_is_found_in_redis_goes_to_the_uppermost_tier_that_takes_it() {
    let promoted = |tiers: &Tiers, allowed: TierSet, size: u64, hits: u64| {
        let found = Some(Found { tier: Redis, hits, per_minute: 0.0 });
        placement(tiers, &Wish { tiers: allowed, size: Some(size), found }).promote_to
    };
    assert_eq!(promoted(&all(), TierSet::ALL, MIB, 1), Some(Memory));
    assert_eq!(promoted(&all(), TierSet::ALL, 2 * MIB, 1), Some(Disk));
    assert_eq!(promoted(&all(), set(&[Disk, Redis]), MIB, 1), Some(Disk));
    assert_eq!(promoted(&all(), set(&[Redis]), MIB, 1), None);
    let alone = tiers(&format!("{NO_MEMORY}, {REDIS}"));
    assert_eq!(promoted(&alone, TierSet::ALL, MIB, 9), None);
    let after = |hits: u32| tiers(&format!("{MEMORY}, redis: {{ url: \"redis://a\", promote_after: {hits} }}"));
    assert_eq!(
        [1, 2, 3, 4].map(|hits| promoted(&after(3), TierSet::ALL, 1, hits)),
        [None, None, Some(Memory), Some(Memory)]
    );
    assert_eq!(promoted(&after(0), TierSet::ALL, 1, 99), None);
}

#[test]
fn the_rules_of_redis_change_at_once_and_the_tier_with_a_restart() {
    let small = tiers(&format!("{MEMORY}, redis: {{ url: \"redis://a\", max_object: 1KiB }}"));
    let off = tiers(MEMORY);
    assert_eq!(written(&all().in_place_of(&small), TierSet::ALL, Some(MIB)), [Memory, Redis]);
    assert_eq!(written(&all().in_place_of(&off), TierSet::ALL, Some(MIB)), [Memory]);
    assert_eq!(written(&off.in_place_of(&all()), TierSet::ALL, Some(MIB)), [Memory, Disk, Redis]);
}
