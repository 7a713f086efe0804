use super::{Evicted, LOOKED_AT, S3Fifo};
use std::collections::HashMap;

/// A cache with objects of these ids and weight 1, which are their own values.
fn filled(capacity: u64, ids: std::ops::Range<u128>) -> S3Fifo<u128> {
    let mut cache = S3Fifo::new(capacity);
    ids.for_each(|id| assert_eq!(cache.insert(id, 1, id), None));
    cache
}

fn evict(cache: &mut S3Fifo<u128>) -> Option<u128> {
    let evicted = cache.evict_one()?;
    assert_eq!(evicted.id, evicted.value);
    Some(evicted.id)
}

/// Puts an object in, and evicts what is too much.
fn put(cache: &mut S3Fifo<u128>, id: u128, weight: u64) -> Vec<u128> {
    let mut evicted = Vec::new();
    while cache.used() + weight > cache.capacity() {
        evicted.push(evict(cache).expect("something to evict"));
    }
    cache.insert(id, weight, id);
    evicted
}

#[test]
fn what_nobody_asked_for_leaves_in_the_order_of_arrival() {
    let mut cache = filled(100, 0..100);
    assert_eq!((0..50).filter_map(|_| evict(&mut cache)).collect::<Vec<_>>(), Vec::from_iter(0..50));
}

#[test]
fn two_hits_lead_to_the_main_queue_and_one_does_not() {
    let mut cache = filled(100, 0..100);
    cache.touch(0);
    (0..2).for_each(|_| _ = cache.touch(1));
    assert_eq!([evict(&mut cache), evict(&mut cache)], [Some(0), Some(2)]);
    assert!(cache.contains(1));
}

#[test]
fn what_comes_back_soon_begins_in_the_main_queue() {
    let mut cache = filled(100, 0..100);
    let gone = evict(&mut cache).unwrap();
    cache.insert(gone, 1, gone);
    // All others leave from the small queue before it.
    let order: Vec<u128> = (0..100).filter_map(|_| evict(&mut cache)).collect();
    assert!(order.iter().position(|id| *id == gone) > Some(80), "{order:?}");
}

#[test]
fn in_the_main_queue_each_hit_is_worth_one_more_round() {
    let mut cache = filled(4, 0..4);
    for id in 0..4 {
        cache.credit(id, 2);
    }
    // They go on to the main queue, where their hits begin anew.
    assert_eq!(evict(&mut cache), Some(0));
    cache.touch(1);
    cache.credit(2, 1000);
    assert_eq!([evict(&mut cache), evict(&mut cache), evict(&mut cache)], [Some(3), Some(1), Some(2)]);
    assert_eq!(evict(&mut cache), None);
}

#[test]
fn one_eviction_looks_at_a_bounded_number_of_objects() {
    let many = 10 * LOOKED_AT as u128;
    let mut cache = filled(many as u64, 0..many);
    (0..many).for_each(|id| _ = cache.credit(id, 3));
    // Promotions alone, then rounds of the main queue.
    for round in 0..50 {
        assert!(cache.evict_one().is_some(), "{round}");
        assert_eq!(cache.len() as u128, many - 1 - round);
    }
    (0..many).for_each(|id| _ = cache.credit(id, 3));
    let least = cache.main.oldest();
    let least = cache.slab.get(least).unwrap().id();
    cache.slab.get_mut(cache.main.oldest()).unwrap().frequency = 1;
    (0..40).for_each(|_| _ = evict(&mut cache));
    assert!(!cache.contains(least), "the least asked for of those looked at goes");
}

#[test]
fn a_large_object_is_not_judged_before_a_share_of_others_came() {
    let mut cache = S3Fifo::new(1000);
    for id in 0..2000 {
        put(&mut cache, id, 1);
        // Half of them are popular, so that there is a main queue.
        cache.credit(id, (id % 2) as u32 * 3);
    }
    put(&mut cache, 9999, 300);
    for id in 3000..3099 {
        assert!(!put(&mut cache, id, 1).contains(&9999), "evicted after {} others", id - 3000);
    }
    let later: Vec<u128> = (4000..4100).flat_map(|id| put(&mut cache, id, 1)).collect();
    assert!(later.contains(&9999), "nobody asked for it");
}

#[test]
fn a_large_object_that_is_asked_for_stays() {
    let mut cache = S3Fifo::new(1000);
    put(&mut cache, 9999, 300);
    for id in 0..5000 {
        put(&mut cache, id, 1);
        if id % 50 == 0 {
            assert!(cache.touch(9999).is_some(), "evicted after {id} others");
        }
    }
}

#[test]
fn a_large_object_takes_its_weight_from_the_others_and_no_more() {
    let mut cache = S3Fifo::new(1000);
    (0..3000).for_each(|id| _ = put(&mut cache, id, 1));
    assert_eq!(put(&mut cache, 9999, 300).len(), 300);
    assert_eq!((cache.used(), cache.len()), (1000, 701));
}

#[test]
fn an_object_as_large_as_all_of_it_fits_alone() {
    let mut cache = S3Fifo::new(1000);
    (0..1000).for_each(|id| _ = put(&mut cache, id, 1));
    assert_eq!(put(&mut cache, 9999, 1000).len(), 1000);
    assert_eq!(put(&mut cache, 1, 1), [9999]);
}

#[test]
fn nothing_fits_a_capacity_of_none() {
    let mut cache = filled(0, 0..1);
    assert!(cache.is_over());
    assert_eq!((evict(&mut cache), evict(&mut cache)), (Some(0), None));
    assert!(!cache.is_over() && cache.is_empty());
}

#[test]
fn inserting_it_again_changes_weight_and_value_and_not_the_order() {
    let mut cache = S3Fifo::new(100);
    assert_eq!(cache.insert(1, 10, 'a'), None);
    assert_eq!(cache.insert(2, 10, 'b'), None);
    assert_eq!(cache.insert(1, 30, 'c'), Some('a'));
    assert_eq!((cache.used(), cache.len()), (40, 2));
    assert_eq!(cache.evict_one(), Some(Evicted { id: 1, weight: 30, value: 'c' }));
}

#[test]
fn what_is_added_as_the_oldest_goes_first_and_the_youngest_tenth_of_it_is_on_trial() {
    let mut cache = filled(100, 50..60);
    (0..50).rev().for_each(|id| assert!(cache.insert_oldest(id, 1, id)));
    assert!(!cache.insert_oldest(55, 1, 55));
    assert_eq!((cache.small.len, cache.main.len), (10, 50));
    (100..140).for_each(|id| _ = put(&mut cache, id, 1));
    // Room for the new ones came from the oldest on trial; the main queue was not touched.
    assert!((0..50).all(|id| cache.contains(id)) && (50..60).all(|id| cache.contains(id)));
    put(&mut cache, 200, 1);
    assert!(!cache.contains(50));
}

#[test]
fn ids_that_differ_in_one_half_alone_are_told_apart() {
    let mut cache = S3Fifo::new(10_000);
    for n in 0..500_u128 {
        cache.insert(n << 64, 1, n << 64);
        cache.insert(n + 1, 1, n + 1);
    }
    assert_eq!(cache.len(), 1000);
    assert!((0..500_u128).all(|n| cache.get(n << 64) == Some(&(n << 64)) && cache.get(n + 1) == Some(&(n + 1))));
}

#[test]
fn whatever_is_done_it_agrees_with_a_plain_map() {
    let mut rng = fastrand::Rng::with_seed(7);
    for capacity in [0, 5, 100, 5000] {
        let mut cache = S3Fifo::new(capacity);
        let mut model: HashMap<u128, (u64, u32)> = HashMap::new();
        for step in 0..15_000_u32 {
            let (id, weight) = (rng.u128(0..300), rng.u64(0..60));
            match rng.u8(0..12) {
                0..4 => {
                    let old = cache.insert(id, weight, step);
                    assert_eq!(old, model.insert(id, (weight, step)).map(|(_, value)| value));
                }
                4..8 => assert_eq!(cache.touch(id).copied(), model.get(&id).map(|(_, value)| *value)),
                8 => {
                    let removed = cache.remove(id).map(|gone| (gone.weight, gone.value));
                    assert_eq!(removed, model.remove(&id));
                }
                9 => assert_eq!(cache.set_weight(id, weight), model.get_mut(&id).map(|it| it.0 = weight).is_some()),
                10 => {
                    let added = cache.insert_oldest(id, weight, step);
                    assert_eq!(added, !model.contains_key(&id));
                    model.entry(id).or_insert((weight, step));
                }
                _ => {
                    while cache.is_over() {
                        let gone = cache.evict_one().expect("it weighs something");
                        assert_eq!(model.remove(&gone.id), Some((gone.weight, gone.value)));
                    }
                    assert!(cache.used() <= capacity);
                }
            }
            assert_eq!((cache.contains(id), cache.len()), (model.contains_key(&id), model.len()));
            if step % 64 == 0 {
                assert_eq!(cache.used(), model.values().map(|(weight, _)| weight).sum::<u64>());
                assert!(model.iter().all(|(id, (weight, _))| cache.weight(*id) == Some(*weight)));
            }
        }
        // Everything that is left can be evicted, once.
        while let Some(gone) = cache.evict_one() {
            assert_eq!(model.remove(&gone.id), Some((gone.weight, gone.value)));
        }
        assert!(model.is_empty() && cache.is_empty() && cache.used() == 0);
    }
}

#[test]
fn slots_are_used_again() {
    let mut cache = S3Fifo::new(1000);
    for id in 0..100_000 {
        put(&mut cache, id, 1);
        cache.credit(id, (id % 4) as u32);
        if id % 3 == 0 {
            cache.remove(id);
        }
    }
    assert!(cache.slab.slots() <= 1001, "{} slots", cache.slab.slots());
}
