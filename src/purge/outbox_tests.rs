use super::*;

fn records(n: usize) -> Vec<Record> {
    (0..n).flat_map(|n| Record::of(&[Target::tag(&n.to_string())], false)).collect()
}

#[test]
fn what_is_taken_is_told_by_one_and_comes_back_if_that_fails() {
    let mut outbox = Outbox::default();
    let all = records(3);
    outbox.add(all.clone(), false);
    assert_eq!(outbox.take(2), all[..2]);
    assert_eq!(outbox.take(9), all[2..]);
    assert!(outbox.take(9).is_empty());
    outbox.give_back(&[all[1].id]);
    assert_eq!(outbox.take(9), all[1..2]);
}

#[test]
fn what_was_told_waits_again_when_another_log_begins() {
    let mut outbox = Outbox::default();
    let (all, now) = (records(2), Instant::now());
    outbox.add(all.clone(), true);
    assert!(outbox.found(&all[0], now).waited && !outbox.found(&all[0], now).waited);
    assert_eq!(outbox.len(), 1);
    outbox.begin_again(now);
    assert_eq!(outbox.waiting().cloned().collect::<Vec<_>>(), all);
    assert!(outbox.found(&all[0], now).waited);
    outbox.begin_again(now + KEPT + Duration::from_secs(1));
    assert_eq!(outbox.len(), 1, "it is too long ago");
}

#[test]
fn too_many_become_a_purge_of_everything() {
    let mut outbox = Outbox::default();
    let targets: Vec<Target> = (0..MOST).map(|n| Target::tag(&n.to_string())).collect();
    assert!(!outbox.add(Record::of(&targets, true), false));
    // What is being told does not count before that has failed.
    let large = Record::of(&targets, false);
    assert!(!outbox.add(large.clone(), true));
    let ids: Vec<RecordId> = large.iter().map(|record| record.id).collect();
    assert!(outbox.give_back(&ids));
    let all: Vec<_> = outbox.waiting().collect();
    assert_eq!((all.len(), all[0].targets.as_slice(), all[0].soft), (1, &[Target::ALL][..], false));
    assert_eq!(outbox.take(9).len(), 1);
}

#[test]
fn what_is_told_twice_is_new_once() {
    let mut outbox = Outbox::default();
    let (all, now) = (records(4), Instant::now());
    let is_new = |outbox: &mut Outbox, n: usize| outbox.found(&all[n], now).is_new;
    outbox.add([all[0].clone()], true);
    assert!(!is_new(&mut outbox, 0), "it was issued here");
    assert!(is_new(&mut outbox, 1) && !is_new(&mut outbox, 1));
    // What is learned is in force with all of the log.
    outbox.learn(&all[2], now);
    outbox.settle(now);
    assert!(!is_new(&mut outbox, 2));
    outbox.learn(&all[3], now);
    outbox.begin_again(now);
    outbox.settle(now);
    assert_eq!(outbox.found(&all[3], now), Found { waited: true, is_new: true });
    let later = now + KNOWN + Duration::from_secs(1);
    assert!(outbox.found(&records(1)[0], later).is_new && outbox.in_force.all.len() == 1, "it is too long ago");
}

#[test]
fn what_others_purged_is_told_again_too_and_once() {
    let mut outbox = Outbox::default();
    let (all, now) = (records(2), Instant::now());
    for record in [&all[0], &all[1], &all[0]] {
        outbox.found(record, now);
    }
    outbox.begin_again(now);
    assert_eq!(outbox.waiting().cloned().collect::<Vec<_>>(), all);
    let (more, large) = (records(1), Record::of(&vec![Target::ALL; TOLD], false));
    large.iter().chain(&more).for_each(|record| {
        outbox.found(record, now);
    });
    assert!(outbox.told_weight <= TOLD);
    assert!(outbox.told.iter().all(|(_, record)| record.id != large[0].id), "the oldest goes");
}

#[test]
fn the_place_in_the_log_waits_for_what_is_not_written_down() {
    let mut outbox = Outbox::default();
    let place = |at| Shared { epoch: 1, at: crate::purge::Position::from_bits(at) };
    assert_eq!(outbox.place_to_write(place(1)), Some(place(1)));
    let all = records(2);
    for record in &all {
        outbox.begin_writing();
        outbox.add([record.clone()], true);
    }
    outbox.found(&all[0], Instant::now());
    assert_eq!(outbox.place_to_write(place(2)), None);
    assert_eq!(outbox.end_writing(&[all[0].id]), (vec![], None), "it is told already");
    assert_eq!(outbox.end_writing(&[all[1].id]), (vec![all[1].clone()], Some(place(2))));
    assert_eq!(outbox.place_to_write(place(3)), Some(place(3)));
}
