use super::*;
use std::fs;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tmp")).unwrap();
    dir
}

/// What an entry with the tag `t` is that was asked for at `seen`.
fn standing(purges: &Purges, seen: Position) -> Standing {
    purges.standing(&with_tag(&["t".to_owned()], &Resource::default(), seen))
}

fn with_tag<'a>(tags: &'a [String], resource: &'a Resource, seen: Position) -> Subject<'a> {
    Subject { bucket: b"b", resource, tags, seen }
}

fn purge(purges: &Purges, tag: &str, soft: bool, now: SystemTime) -> Position {
    let (at, written) = purges.purge(&[Target::tag(tag)], soft, now);
    written.unwrap();
    at
}

#[test]
fn what_was_asked_for_before_a_purge_is_dead_and_what_comes_after_is_good() {
    let purges = Purges::new(time(0), false);
    let before = purges.latest();
    let at = purge(&purges, "t", false, time(0));
    assert!(at > before);
    assert_eq!(standing(&purges, before), Standing::Dead);
    assert_eq!(standing(&purges, purges.latest()), Standing::Good);
    purge(&purges, "other", false, time(1));
    assert_eq!(standing(&purges, at), Standing::Good);
}

#[test]
fn the_order_holds_when_the_clock_goes_back() {
    let purges = Purges::new(time(100), false);
    let before = purges.latest();
    purge(&purges, "t", false, time(0));
    assert_eq!(standing(&purges, before), Standing::Dead);
    assert_eq!(standing(&purges, purges.latest()), Standing::Good);
}

#[test]
fn a_fill_is_followed_by_those_who_came_before_it_was_purged() {
    let purges = Purges::new(time(0), false);
    let begun = purges.latest();
    let (tags, resource) = (["t".to_owned()], Resource::default());
    let fill = with_tag(&tags, &resource, begun);
    purge(&purges, "other", false, time(1));
    let early = purges.latest();
    purge(&purges, "t", false, time(2));
    let between = purges.latest();
    purge(&purges, "t", false, time(3));
    assert!(!purges.was_purged_until(&fill, begun));
    assert!(!purges.was_purged_until(&fill, early));
    // Purged twice: who came in between does not want it.
    assert!(purges.was_purged_until(&fill, between));
    assert!(purges.was_purged_until(&fill, purges.latest()));
}

#[test]
fn what_is_not_known_any_more_was_purged() {
    let purges = Purges::new(time(0), false);
    let begun = purges.latest();
    let (tags, resource) = (["t".to_owned()], Resource::default());
    let fill = with_tag(&tags, &resource, begun);
    for n in 0..2 * RECENT as u64 {
        purge(&purges, &n.to_string(), false, time(n));
    }
    assert!(!purges.was_purged_until(&fill, begun), "nothing named it");
    purge(&purges, "t", false, time(5000));
    assert!(purges.was_purged_until(&fill, begun));
    assert!(purges.history.lock().recent.len() <= RECENT);
}

#[test]
fn a_purge_outlives_the_process() {
    let dir = folder();
    let before = {
        let purges = Purges::new(time(0), true);
        purges.open(dir.path(), true, time(0)).unwrap();
        let before = purges.latest();
        purge(&purges, "t", false, time(1));
        before
    };
    let next = Purges::new(time(10), true);
    next.open(dir.path(), false, time(10)).unwrap();
    assert_eq!(standing(&next, before), Standing::Dead);
    assert_eq!(standing(&next, next.latest()), Standing::Good);
}

#[test]
fn entries_are_good_after_a_restart_at_which_the_clock_went_back() {
    let dir = folder();
    let stored = {
        let purges = Purges::new(time(1000), true);
        purges.open(dir.path(), true, time(1000)).unwrap();
        purges.latest()
    };
    let next = Purges::new(time(0), true);
    next.open(dir.path(), false, time(0)).unwrap();
    assert_eq!(standing(&next, stored), Standing::Good);
    purge(&next, "t", false, time(1));
    assert_eq!(standing(&next, stored), Standing::Dead);
}

#[test]
fn a_log_that_is_gone_or_damaged_purges_everything() {
    for damage in [None, Some("garbage")] {
        let dir = folder();
        let stored = {
            let purges = Purges::new(time(0), true);
            purges.open(dir.path(), true, time(0)).unwrap();
            purges.latest()
        };
        let path = dir.path().join("purges");
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        // Even with a clock that went back since.
        for now in [time(100), time(0) - Duration::from_secs(500)] {
            let next = Purges::new(now, true);
            next.open(dir.path(), false, now).unwrap();
            assert_eq!(standing(&next, stored), Standing::Dead);
            assert_eq!(standing(&next, next.latest()), Standing::Good);
        }
    }
}

#[test]
fn what_is_purged_before_the_directory_is_open_is_purged_there_once_it_is() {
    let dir = folder();
    let stored = {
        let purges = Purges::new(time(1000), true);
        purges.open(dir.path(), true, time(1000)).unwrap();
        purges.latest()
    };
    // With a clock that went back as well.
    for now in [time(2000), time(0)] {
        let next = Purges::new(now, true);
        let (_, written) = next.purge(&[Target::tag("t")], false, now);
        assert!(matches!(written, Err(NotDurable::Closed)));
        next.open(dir.path(), false, now).unwrap();
        assert_eq!(standing(&next, stored), Standing::Dead);
        drop(next);
        let after = Purges::new(time(3000), true);
        after.open(dir.path(), false, time(3000)).unwrap();
        assert_eq!(standing(&after, stored), Standing::Dead);
    }
}

#[test]
fn a_purge_after_the_directory_was_given_back_says_so() {
    let dir = folder();
    let purges = Purges::new(time(0), true);
    purges.open(dir.path(), true, time(0)).unwrap();
    purges.close();
    let (_, written) = purges.purge(&[Target::ALL], false, time(1));
    assert!(matches!(written, Err(NotDurable::Closed)));
    assert!(!purges.wait_until_open(Duration::ZERO));
}

#[test]
fn a_purge_waits_for_the_directory_and_is_in_it_once_it_is_open() {
    let dir = folder();
    let stored = {
        let purges = Purges::new(time(0), true);
        purges.open(dir.path(), true, time(0)).unwrap();
        purges.latest()
    };
    let next = Purges::new(time(1), true);
    next.purge(&[Target::tag("t")], false, time(2)).1.unwrap_err();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| next.wait_until_open(Duration::from_secs(60)));
        next.open(dir.path(), false, time(3)).unwrap();
        assert!(waiting.join().unwrap());
    });
    let after = Purges::new(time(4), true);
    after.open(dir.path(), false, time(4)).unwrap();
    assert_eq!(standing(&after, stored), Standing::Dead);
}
