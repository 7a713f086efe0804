use super::*;
use crate::purge::Resource;

const LONG: Duration = Duration::from_secs(600);

fn at(bits: u64) -> Position {
    Position::from_bits(bits)
}

fn standing(log: &SharedLog, tag: &str, epoch: u64, stored: u64) -> Standing {
    let (resource, tags) = (Resource::default(), [tag.to_owned()]);
    let subject = Subject { bucket: b"b", resource: &resource, tags: &tags, seen: Position::BEGINNING };
    log.standing(&subject, Shared { epoch, at: at(stored) })
}

fn known(epoch: u64, from: u64) -> SharedLog {
    let log = SharedLog::default();
    log.begin(epoch, at(from));
    log.is_complete(log.read_until(), Instant::now(), LONG);
    log
}

#[test]
fn an_entry_is_compared_with_what_came_after_it_in_the_log() {
    let log = known(7, 0);
    log.apply(at(5), &[Target::tag("a")], false);
    log.apply(at(9), &[Target::tag("b")], true);
    assert_eq!(log.latest(), Shared { epoch: 7, at: at(9) });
    assert_eq!(standing(&log, "a", 7, 4), Standing::Dead);
    assert_eq!(standing(&log, "a", 7, 5), Standing::Good);
    assert_eq!(standing(&log, "b", 7, 5), Standing::StaleSince(at(9)));
    assert_eq!(standing(&log, "c", 7, 0), Standing::Good);
}

#[test]
fn what_cannot_be_compared_is_dead() {
    let log = known(7, 3);
    assert_eq!(standing(&log, "a", 6, 9), Standing::Dead, "another log");
    assert_eq!(standing(&log, "a", 7, 2), Standing::Dead, "from before what is known");
    assert_eq!(standing(&log, "a", 7, 3), Standing::Good);
    log.begin(8, Position::BEGINNING);
    assert_eq!(standing(&log, "a", 7, 9), Standing::Dead);
    assert_eq!(standing(&SharedLog::default(), "a", 0, 0), Standing::Dead, "no log");
}

#[test]
fn nothing_is_stored_or_judged_by_a_log_that_is_not_known_to_its_end() {
    let log = SharedLog::default();
    assert!(!log.can_judge() && log.latest().epoch == 0);
    log.begin(7, Position::BEGINNING);
    log.apply(at(5), &[Target::tag("a")], false);
    assert!(!log.can_judge() && log.latest().epoch == 0);
    log.is_complete(log.read_until(), Instant::now(), LONG);
    assert!(log.can_judge() && log.latest() == Shared { epoch: 7, at: at(5) });
    log.begin(8, Position::BEGINNING);
    assert!(!log.can_judge() && log.latest().epoch == 0);
}

#[test]
fn what_was_not_read_for_a_while_is_not_judged_by() {
    let log = known(7, 0);
    log.is_complete(log.read_until(), Instant::now(), Duration::ZERO);
    assert!(!log.can_judge());
    assert_eq!(log.latest().epoch, 7, "what is fetched meanwhile is compared by others with what it did not know");
}

#[test]
fn what_came_after_a_place_is_known_unless_it_was_taken_out() {
    let log = known(7, 3);
    log.apply(at(5), &[Target::tag("a")], false);
    log.apply(at(6), &[Target::tag("b")], true);
    log.apply(at(7), &[Target::tag("a")], true);
    let named = |place| log.since(place).map(|marks: Vec<_>| marks.len());
    let place = |epoch, bits| Some(Shared { epoch, at: at(bits) });
    assert_eq!(named(place(7, 3)), Some(2));
    assert_eq!(named(place(7, 6)), Some(1));
    assert_eq!(named(place(7, 7)), Some(0));
    assert_eq!(named(place(7, 2)), None);
    assert_eq!(named(place(8, 7)), None);
    assert_eq!(named(None), None, "it was cut");
    log.begin(9, Position::BEGINNING);
    assert_eq!(named(None), Some(0));
}

#[test]
fn what_this_node_purged_counts_before_the_log_says_it() {
    let log = known(7, 0);
    let [hard, soft] = [("a", false), ("b", true)].map(|(tag, soft)| Record::of(&[Target::tag(tag)], soft).remove(0));
    log.await_record(&hard);
    log.await_record(&soft);
    assert_eq!(standing(&log, "a", 7, 900), Standing::Dead);
    assert!(matches!(standing(&log, "b", 7, 900), Standing::StaleSince(_)));
    assert_eq!(standing(&log, "c", 7, 900), Standing::Good);
    log.apply(at(901), &hard.targets, false);
    log.await_only([&soft].into_iter());
    assert_eq!(standing(&log, "a", 7, 900), Standing::Dead);
    assert_eq!(standing(&log, "a", 7, 901), Standing::Good);
    assert!(matches!(standing(&log, "b", 7, 900), Standing::StaleSince(_)));
}

#[test]
fn the_end_of_one_log_says_nothing_of_another_nor_of_what_was_not_read() {
    let log = SharedLog::default();
    log.begin(7, Position::BEGINNING);
    let end = Shared { epoch: 7, at: at(5) };
    log.is_complete(end, Instant::now(), LONG);
    assert!(!log.can_judge(), "it was not read to there");
    log.apply(at(5), &[], false);
    log.begin(8, Position::BEGINNING);
    log.is_complete(end, Instant::now(), LONG);
    assert!(!log.can_judge() && log.latest().epoch == 0);
}
