use super::*;
use crate::decide::Facts;
use crate::semantics::freshness::Freshness;
use crate::store::entry::StoredHead;
use bytes::Bytes;
use pingora::cache::CacheMeta;
use pingora::http::ResponseHeader;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

fn entry(key: &[u8], length: usize) -> Arc<Entry> {
    let now = crate::clock::now();
    let head = ResponseHeader::build_no_case(200, None).unwrap();
    let head = Arc::new(StoredHead::of(&CacheMeta::new(now, now, 0, 0, head)));
    Arc::new(Entry::new(key.into(), head, Bytes::from(vec![b'x'; length]), Arc::new(facts())))
}

fn id(primary: u128, variant: Option<u128>) -> EntryId {
    EntryId { primary, variant }
}

fn tier() -> MemoryTier {
    MemoryTier::new(MIB, Box::new(|_, _| ()))
}

#[test]
fn an_entry_is_found_until_it_is_removed() {
    let tier = tier();
    tier.insert(id(1, None), entry(b"key", 10));
    assert_eq!(tier.get(&id(1, None), b"key").unwrap().body.len(), 10);
    assert!(tier.remove(&id(1, None)));
    assert!(tier.get(&id(1, None), b"key").is_none() && !tier.remove(&id(1, None)));
}

#[test]
fn two_keys_with_one_hash_are_a_miss_and_never_each_others_entry() {
    let tier = tier();
    tier.insert(id(1, None), entry(b"key", 10));
    assert!(tier.get(&id(1, None), b"another key").is_none());
    assert!(tier.get(&id(1, None), b"key").is_some());
}

/// Stores variants of one key, and says which of them are left: the names of those that are given up are taken out.
fn store(variants: &Variants, stored: &[u128]) -> Vec<u128> {
    let mut left = Vec::new();
    for variant in stored {
        let mut given_up = Vec::new();
        if variants.admit(&id(1, Some(*variant)), |id| given_up.extend(id.variant)) && !left.contains(variant) {
            left.push(*variant);
        }
        left.retain(|variant| !given_up.contains(variant));
    }
    left
}

#[test]
fn a_key_with_too_many_variants_loses_its_oldest() {
    let variants = Variants::new(4);
    assert!(variants.admit(&id(1, None), |_| panic!("lookups start from the first one")));
    assert_eq!(store(&variants, &[1, 2, 3, 4, 5]), [3, 4, 5]);
}

#[test]
fn a_variant_that_is_stored_again_pushes_no_other_out() {
    assert_eq!(store(&Variants::new(3), &[1, 2, 2, 1, 2]), [1, 2]);
}

#[test]
fn variants_are_counted_for_each_key() {
    let variants = Variants::new(2);
    for primary in [1, 2] {
        assert!(variants.admit(&id(primary, Some(1)), |id| panic!("{id:?} has room")));
    }
}

#[test]
fn with_one_variant_allowed_only_the_first_is_kept() {
    for most in [0, 1] {
        let variants = Variants::new(most);
        assert!(variants.admit(&id(1, None), |_| ()));
        assert_eq!(store(&variants, &[1]), [0; 0]);
    }
}

#[test]
fn it_holds_no_more_than_its_capacity() {
    let tier = tier();
    for primary in 0..200 {
        tier.insert(id(primary, None), entry(b"key", 64 * 1024));
    }
    let (items, bytes) = tier.usage();
    assert!(bytes <= MIB && (1..=16).contains(&items), "{items} entries of {bytes} bytes");
}

#[test]
fn what_makes_room_is_handed_on() {
    let (send, given_up) = std::sync::mpsc::channel();
    let tier = MemoryTier::new(MIB, Box::new(move |id, entry| send.send((*id, entry.body.len())).unwrap()));
    for primary in 0..100 {
        tier.insert(id(primary, None), entry(b"key", 64 * 1024));
        tier.remove(&id(1000, None));
    }
    let (items, _) = tier.usage();
    let given_up: Vec<_> = given_up.try_iter().collect();
    assert_eq!(given_up.len() as u64 + items, 100);
    assert!(given_up.iter().all(|(_, bytes)| *bytes == 64 * 1024));
}

#[test]
fn what_is_larger_than_the_whole_tier_is_not_kept() {
    let tier = tier();
    tier.insert(id(1, None), entry(b"key", 2 * MIB as usize));
    assert_eq!(tier.usage(), (0, 0));
}

#[test]
fn the_parts_of_an_id_spread_over_the_table() {
    let mut hashes = std::collections::HashSet::new();
    let build = BuildHasherDefault::<AlreadyHashed>::default();
    for primary in [1u128, 2, 1 << 64, 2 << 64] {
        for variant in [None, Some(1u128), Some(2), Some(1 << 64), Some(primary)] {
            hashes.insert(std::hash::BuildHasher::hash_one(&build, id(primary, variant)));
        }
    }
    // Two of the variants of keys 1, 2 and 1 << 64 are the same ones.
    assert_eq!(hashes.len(), 17);
}

fn facts() -> Facts {
    Facts::of(Freshness::of_max_age(Duration::from_secs(60), crate::clock::now()))
}
