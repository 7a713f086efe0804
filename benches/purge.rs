//! What a hit pays for purging: the comparison of an entry with the log, when nothing was purged since and when something was,
//! with an empty log and with as many purges as are told apart.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use tidegate::clock;
use tidegate::purge::index::MOST;
use tidegate::purge::{Address, Position, Purges, Resource, Subject, Target};

fn log(purges: usize) -> Purges {
    let log = Purges::new(clock::now() - Duration::from_secs(3600), false);
    let targets: Vec<Target> = (0..purges)
        .map(|n| {
            let address = |path: &str| Address::parse(&format!("img.example.com/{path}/{n}")).expect("an address");
            match n % 10 {
                0..5 => Target::url(&address("albums/summer"), None),
                5..9 => Target::tag(&format!("album:{n}")),
                _ => Target::prefix(&address("removed"), None),
            }
        })
        .collect();
    log.purge(&targets, false, clock::now()).1.expect("nothing outlives the process");
    log
}

fn compare(c: &mut Criterion) {
    let resource = Resource::of("https", "img.example.com", None, "/albums/summer/1234567.webp?w=640&fmt=webp");
    let tags = ["media".to_owned(), "album:summer".to_owned(), "owner:17".to_owned()];
    for purges in [0, 1, MOST] {
        let log = log(purges);
        for (name, seen) in [("nothing since", log.latest()), ("something since", Position::BEGINNING)] {
            let subject = Subject { bucket: b"media", resource: &resource, tags: &tags, seen };
            c.bench_function(&format!("an entry and {purges} purges, {name}"), |b| {
                b.iter(|| black_box(&log).standing(black_box(&subject)));
            });
        }
    }
}

/// Every tag is looked for, once for each purge of anything.
fn many_tags(c: &mut Criterion) {
    let log = log(MOST);
    let resource = Resource::of("https", "img.example.com", None, "/albums/summer/1234567.webp");
    let tags: Vec<String> = (0..10_000).map(|n| format!("product:{n}")).collect();
    let subject = Subject { bucket: b"media", resource: &resource, tags: &tags, seen: Position::BEGINNING };
    c.bench_function("an entry of 10,000 tags and 100000 purges, something since", |b| {
        b.iter(|| black_box(&log).standing(black_box(&subject)));
    });
}

fn purge(c: &mut Criterion) {
    let log = log(MOST);
    let mut n = 0_u64;
    c.bench_function("one more purge", |b| {
        b.iter(|| {
            n += 1;
            log.purge(&[Target::tag(&n.to_string())], false, clock::now())
        });
    });
}

criterion_group!(benches, compare, many_tags, purge);
criterion_main!(benches);
