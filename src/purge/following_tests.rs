use super::*;
use crate::purge::{Resource, Standing, Subject};
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    dir
}

fn standing(purges: &Purges, tag: &str, seen: Position) -> Standing {
    let tags = [tag.to_owned()];
    purges.standing(&Subject { bucket: b"b", resource: &Resource::default(), tags: &tags, seen })
}

/// What node B says of an entry that node A has stored.
fn judged(purges: &Purges, tag: &str, stored: Shared) -> Standing {
    let tags = [tag.to_owned()];
    let seen = Position::BEGINNING;
    purges.shared().standing(&Subject { bucket: b"b", resource: &Resource::default(), tags: &tags, seen }, stored)
}

fn told(at: u64, tag: &str, soft: bool) -> Received {
    let record = Record::of(&[Target::tag(tag)], soft).remove(0);
    Received { at: Position::from_bits(at), record }
}

/// A process that knows all of a log, with a directory.
fn started(dir: &Path, now: SystemTime, epoch: u64, from: u64, log: &[Received]) -> Purges {
    let purges = Purges::new(now, true);
    purges.open(dir, !dir.join("purges").exists(), now).unwrap();
    purges.shared().begin(epoch, Position::from_bits(from));
    purges.learn(log);
    purges.settle(false, now).unwrap();
    purges.shared().is_complete(purges.shared().read_until(), Instant::now(), LONG);
    purges
}

#[test]
fn what_comes_from_elsewhere_is_in_force_as_of_now_whatever_the_clocks_say() {
    for clock in [time(0), time(5_000_000)] {
        let dir = folder();
        let purges = started(dir.path(), clock, 1, 0, &[]);
        let (before, shared) = (purges.latest(), purges.shared().latest());
        purges.follow(&[told(1 << 20, "a", false)], clock).unwrap();
        assert_eq!(standing(&purges, "a", before), Standing::Dead);
        assert_eq!(standing(&purges, "b", before), Standing::Good);
        assert_eq!(standing(&purges, "a", purges.latest()), Standing::Good);
        assert_eq!(judged(&purges, "a", shared), Standing::Dead);
        assert_eq!(judged(&purges, "a", purges.shared().latest()), Standing::Good);
    }
}

#[test]
fn a_node_that_was_away_reads_what_it_missed_and_only_that() {
    let dir = folder();
    let log = [told(1, "a", false), told(2, "b", true), told(3, "c", false)];
    let stored = {
        let purges = started(dir.path(), time(0), 1, 0, &log[..1]);
        purges.latest()
    };
    let purges = started(dir.path(), time(10), 1, 0, &log);
    assert_eq!(standing(&purges, "a", stored), Standing::Good, "it was in force before that was stored");
    assert!(matches!(standing(&purges, "b", stored), Standing::StaleSince(_)));
    assert_eq!(standing(&purges, "c", stored), Standing::Dead);
    let fetched = purges.latest();
    drop(purges);
    // And not again.
    let purges = started(dir.path(), time(20), 1, 0, &log);
    assert_eq!(standing(&purges, "c", fetched), Standing::Good);
    assert_eq!(standing(&purges, "c", stored), Standing::Dead);
}

#[test]
fn a_log_that_was_cut_or_lost_meanwhile_purges_everything() {
    for (epoch, from) in [(1, 5), (2, 0)] {
        let dir = folder();
        let stored = started(dir.path(), time(0), 1, 0, &[told(1, "a", false)]).latest();
        let purges = started(dir.path(), time(10), epoch, from, &[told(9, "a", false)]);
        assert_eq!(standing(&purges, "other", stored), Standing::Dead, "log {epoch} from {from}");
        let fetched = purges.latest();
        drop(purges);
        let purges = started(dir.path(), time(20), epoch, from, &[told(9, "a", false)]);
        assert_eq!(standing(&purges, "other", fetched), Standing::Good);
    }
}

#[test]
fn a_new_directory_has_missed_nothing() {
    let dir = folder();
    let purges = started(dir.path(), time(0), 1, 5, &[told(9, "a", false)]);
    assert!(purges.is_empty());
    let stored = purges.latest();
    drop(purges);
    let purges = started(dir.path(), time(1), 1, 5, &[told(9, "a", false)]);
    assert_eq!(standing(&purges, "a", stored), Standing::Good);
}

#[test]
fn a_directory_that_opens_late_learns_what_the_process_knows() {
    let dir = folder();
    let stored = started(dir.path(), time(0), 1, 0, &[]).latest();
    let purges = Purges::new(time(10), true);
    purges.shared().begin(1, Position::BEGINNING);
    purges.learn(&[told(1, "a", false)]);
    purges.settle(false, time(10)).unwrap();
    purges.shared().is_complete(purges.shared().read_until(), Instant::now(), LONG);
    purges.open(dir.path(), false, time(11)).unwrap();
    assert_eq!(standing(&purges, "a", stored), Standing::Dead);
    assert_eq!(standing(&purges, "b", stored), Standing::Good);
}

#[test]
fn what_was_served_before_the_log_was_known_is_compared_with_all_of_it() {
    for (from, other) in [(0, Standing::Good), (1, Standing::Dead)] {
        let purges = Purges::new(time(0), false);
        let stored = purges.latest();
        purges.shared().begin(1, Position::from_bits(from));
        purges.learn(&[told(2, "a", false)]);
        purges.settle(true, time(1)).unwrap();
        assert_eq!(standing(&purges, "a", stored), Standing::Dead);
        assert_eq!(standing(&purges, "other", stored), other);
    }
}

#[test]
fn what_could_not_be_told_is_told_after_a_restart() {
    let dir = folder();
    let purges = started(dir.path(), time(0), 1, 0, &[]);
    let (told_later, unwritten) = purges.issue(&[Target::tag("a")], false, time(1));
    purges.write_issued(unwritten).unwrap();
    let (told_now, unwritten) = purges.issue(&[Target::tag("b"), Target::ALL], true, time(2));
    purges.write_issued(unwritten).unwrap();
    purges.follow(&[Received { at: Position::from_bits(1), record: told_now[0].clone() }], time(3)).unwrap();
    assert!(purges.to_tell(9).is_empty(), "whoever issued it tells it");
    drop(purges);
    let purges = started(dir.path(), time(10), 1, 0, &[]);
    assert_eq!(purges.to_tell(9), told_later);
    purges.not_told(&[told_later[0].id]);
    purges.follow(&[Received { at: Position::from_bits(2), record: told_later[0].clone() }], time(11)).unwrap();
    assert_eq!(purges.untold(), 0);
    drop(purges);
    assert_eq!(started(dir.path(), time(20), 1, 0, &[]).untold(), 0);
}

#[test]
fn what_was_told_is_told_again_to_another_log_unless_it_is_there() {
    let purges = Purges::new(time(0), false);
    purges.shared().begin(1, Position::BEGINNING);
    let issue = |tag: &str| purges.issue(&[Target::tag(tag)], false, time(1)).0.remove(0);
    let (a, b) = (issue("a"), issue("b"));
    let received = |record: &Record, at| Received { at: Position::from_bits(at), record: record.clone() };
    purges.follow(&[received(&a, 1), received(&b, 2)], time(2)).unwrap();
    assert_eq!(purges.untold(), 0);
    purges.shared().begin(2, Position::BEGINNING);
    purges.begin_again();
    purges.follow(&[received(&b, 1)], time(3)).unwrap();
    assert_eq!(purges.to_tell(9), [a]);
}

#[test]
fn what_is_told_twice_purges_nothing_that_was_stored_between() {
    let purges = Purges::new(time(0), false);
    purges.shared().begin(1, Position::BEGINNING);
    purges.settle(false, time(0)).unwrap();
    let (elsewhere, here) = (told(1, "a", false), purges.issue(&[Target::tag("b")], false, time(1)).0.remove(0));
    let here = Received { at: Position::from_bits(2), record: here };
    purges.follow(&[elsewhere.clone(), here.clone()], time(2)).unwrap();
    let stored = purges.latest();
    // Another log has them again, and so does who told them without an answer.
    purges.shared().begin(2, Position::BEGINNING);
    purges.begin_again();
    for at in [1, 3] {
        let again = |received: &Received, at| Received { at: Position::from_bits(at), record: received.record.clone() };
        purges.follow(&[again(&elsewhere, at), again(&here, at + 1)], time(3)).unwrap();
    }
    assert_eq!(purges.latest(), stored);
    for tag in ["a", "b"] {
        assert_eq!(standing(&purges, tag, stored), Standing::Good, "{tag}");
        assert_eq!(judged(&purges, tag, Shared { epoch: 2, at: Position::BEGINNING }), Standing::Dead, "{tag}");
    }
    assert_eq!(purges.untold(), 0);
}

#[test]
fn what_others_purged_is_told_to_another_log_by_whoever_has_it() {
    let purges = Purges::new(time(0), false);
    purges.shared().begin(1, Position::BEGINNING);
    let (learned, followed) = (told(1, "a", false), told(2, "b", true));
    purges.learn(std::slice::from_ref(&learned));
    purges.settle(false, time(0)).unwrap();
    purges.follow(std::slice::from_ref(&followed), time(1)).unwrap();
    assert_eq!(purges.untold(), 0);
    purges.shared().begin(2, Position::BEGINNING);
    purges.begin_again();
    assert_eq!(purges.to_tell(9), [learned.record, followed.record]);
}

#[test]
fn a_crash_before_a_purge_is_written_down_loses_nothing_of_it() {
    let dir = folder();
    let purges = started(dir.path(), time(0), 1, 0, &[]);
    let stored = purges.latest();
    let (records, unwritten) = purges.issue(&[Target::tag("a")], false, time(1));
    let log = [Received { at: Position::from_bits(1), record: records[0].clone() }, told(2, "b", false)];
    // All nodes have it, this one among them, while its disk is stuck.
    purges.follow(&log, time(2)).unwrap();
    drop((purges, unwritten));
    let purges = started(dir.path(), time(10), 1, 0, &log);
    for tag in ["a", "b"] {
        assert_eq!(standing(&purges, tag, stored), Standing::Dead, "{tag}");
    }
    assert_eq!(purges.untold(), 0);
}

#[test]
fn what_is_written_down_late_is_not_read_again() {
    let dir = folder();
    let purges = started(dir.path(), time(0), 1, 0, &[]);
    let (records, unwritten) = purges.issue(&[Target::tag("a")], false, time(1));
    let log = [Received { at: Position::from_bits(1), record: records[0].clone() }];
    purges.follow(&log, time(2)).unwrap();
    purges.write_issued(unwritten).unwrap();
    let stored = purges.latest();
    drop(purges);
    let purges = started(dir.path(), time(10), 1, 0, &log);
    assert_eq!((standing(&purges, "a", stored), purges.untold()), (Standing::Good, 0));
}

#[test]
fn a_directory_that_opens_between_the_log_and_its_end_is_compared_all_the_same() {
    let dir = folder();
    let stored = started(dir.path(), time(0), 1, 0, &[]).latest();
    let purges = Purges::new(time(10), true);
    purges.shared().begin(1, Position::BEGINNING);
    purges.learn(&[told(1, "a", false)]);
    purges.settle(false, time(10)).unwrap();
    // Nobody has said yet that the log is complete.
    purges.open(dir.path(), false, time(11)).unwrap();
    assert_eq!(standing(&purges, "a", stored), Standing::Dead);
}

#[test]
fn what_waits_and_is_not_named_is_good_however_much_waits() {
    let purges = Purges::new(time(0), false);
    purges.shared().begin(1, Position::BEGINNING);
    purges.shared().is_complete(purges.shared().read_until(), Instant::now(), LONG);
    let targets: Vec<Target> = (0..150_000).map(|n| Target::tag(&n.to_string())).collect();
    let _unwritten = purges.issue(&targets, false, time(1));
    assert_eq!(judged(&purges, "7", purges.shared().latest()), Standing::Dead);
    assert_eq!(judged(&purges, "other", purges.shared().latest()), Standing::Good);
}
