use super::*;
use crate::purge::Address;

fn at(bits: u64) -> Position {
    Position::from_bits(bits)
}

fn hard(bits: u64) -> Times {
    Times::of(at(bits), false)
}

fn soft(bits: u64) -> Times {
    Times::of(at(bits), true)
}

fn url(text: &str) -> Target {
    Target::url(&Address::parse(text).unwrap(), None)
}

fn prefix(text: &str) -> Target {
    Target::prefix(&Address::parse(text).unwrap(), None)
}

/// What an entry of `http://a.example/img/cat?w=1` in bucket `media` with two tags is, stored at 10.
fn standing(index: &Index) -> Standing {
    let resource = Resource::of("http", "a.example", None, "/img/cat?w=1");
    let tags = ["one".to_owned(), "two".to_owned()];
    index.standing(&Subject { bucket: b"media", resource: &resource, tags: &tags, seen: at(10) })
}

#[test]
fn an_entry_is_dead_after_a_purge_that_names_it() {
    for target in [
        url("http://a.example/img/cat?w=1"),
        url("A.example/img/cat?w=1"),
        Target::tag("two"),
        prefix("a.example"),
        prefix("a.example/img/"),
        prefix("http://a.example/img/ca"),
        prefix("a.example/img/cat?w=1"),
        Target::bucket("media"),
        Target::ALL,
    ] {
        let mut index = Index::default();
        index.add(target, hard(11));
        assert_eq!(standing(&index), Standing::Dead, "{target:?}");
        let mut index = Index::default();
        index.add(target, soft(11));
        assert_eq!(standing(&index), Standing::StaleSince(at(11)), "{target:?}");
    }
}

#[test]
fn an_entry_is_good_after_a_purge_of_something_else() {
    let mut index = Index::default();
    for target in [
        url("https://a.example/img/cat?w=1"),
        url("http://a.example/img/cat"),
        url("http://b.example/img/cat?w=1"),
        Target::tag("tw"),
        Target::tag("media"),
        prefix("https://a.example/"),
        prefix("a.example/img/cat?w=12"),
        prefix("a.exampl"),
        prefix("example"),
        Target::bucket("one"),
    ] {
        index.add(target, hard(11));
        assert_eq!(standing(&index), Standing::Good, "{target:?}");
    }
}

#[test]
fn an_entry_is_good_after_a_purge_that_came_before_it() {
    let mut index = Index::default();
    for target in [url("a.example/img/cat?w=1"), Target::tag("one"), prefix("a.example"), Target::ALL] {
        index.add(target, hard(10));
        index.add(target, soft(9));
    }
    assert_eq!(standing(&index), Standing::Good);
}

#[test]
fn a_hard_purge_is_not_undone_by_a_soft_one() {
    let mut index = Index::default();
    index.add(Target::tag("one"), hard(11));
    index.add(Target::tag("one"), soft(12));
    index.add(Target::ALL, soft(13));
    assert_eq!(standing(&index), Standing::Dead);
}

#[test]
fn of_soft_purges_the_first_counts() {
    let mut index = Index::default();
    index.add(Target::tag("one"), soft(20));
    index.add(Target::tag("two"), soft(15));
    assert_eq!(standing(&index), Standing::StaleSince(at(15)));
}

#[test]
fn a_purge_of_everything_covers_those_before_it() {
    let mut index = Index::default();
    index.add(Target::tag("a"), hard(1));
    index.add(Target::tag("b"), soft(2));
    index.add(prefix("a.example/x"), hard(3));
    index.add(Target::tag("c"), hard(9));
    index.add(Target::ALL, hard(5));
    assert_eq!(index.len(), 1);
    assert!(index.lengths.is_empty());
    // A soft one covers what is soft.
    index.add(Target::tag("d"), soft(10));
    index.add(Target::ALL, soft(11));
    assert_eq!(index.len(), 1);
    index.add(Target::tag("late"), hard(4));
    assert_eq!(index.len(), 1);
}

#[test]
fn purges_of_one_thing_take_one_place() {
    let mut index = Index::default();
    for n in 0..1000 {
        index.add(Target::tag("a"), if n % 2 == 0 { hard(n) } else { soft(n) });
    }
    assert_eq!(index.len(), 1);
    assert_eq!(index.iter().collect::<Vec<_>>(), [(Target::tag("a"), Times { hard: at(998), soft: at(999) })]);
}

#[test]
fn too_many_purges_are_folded_and_none_is_forgotten() {
    let mut index = Index::default();
    let many = MOST as u64 + 50_000;
    let resource = |n: u64| Resource::of("http", "a.example", None, &format!("/{n}"));
    for n in 0..many {
        let target = match n % 3 {
            0 => url(&format!("a.example/{n}")),
            1 => Target::tag(&format!("{n}")),
            _ => prefix(&format!("a.example/{n}")),
        };
        index.add(target, hard(100 + n));
    }
    assert!(index.len() <= MOST && index.len() > MOST * 8 / 10, "{}", index.len());
    for n in (0..many).step_by(97) {
        let (resource, tags) = (resource(n), [n.to_string()]);
        let subject = |seen| Subject { bucket: b"b", resource: &resource, tags: &tags, seen: at(seen) };
        assert_eq!(index.standing(&subject(99 + n)), Standing::Dead, "{n}");
        // What was stored after all of them is good.
        assert_eq!(index.standing(&subject(100 + many)), Standing::Good, "{n}");
    }
    // What nobody named and is newer than what was folded is good as well.
    let resource = Resource::of("http", "b.example", None, "/");
    let subject = Subject { bucket: b"b", resource: &resource, tags: &[], seen: at(100 + many - MOST as u64 / 2) };
    assert_eq!(index.standing(&subject), Standing::Good);
}

#[test]
fn soft_purges_that_are_folded_stay_soft() {
    let mut index = Index::default();
    for n in 0..MOST as u64 + 1 {
        index.add(Target::tag(&n.to_string()), soft(100 + n));
    }
    let tags = ["0".to_owned()];
    let resource = Resource::default();
    let subject = Subject { bucket: b"b", resource: &resource, tags: &tags, seen: at(1) };
    assert!(matches!(index.standing(&subject), Standing::StaleSince(_)));
}
