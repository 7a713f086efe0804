use super::spool_tests::{check, checked, driven, filed, limits_with, write, write_on};
use super::spools_tests::{Disk, Driven, body};
use super::tests::{LONG, MIB, fill, in_flight, limits, seal};
use super::*;
use std::sync::atomic::Ordering;
use tokio::task::JoinHandle;

/// The next bytes, which begin at a position.
async fn next(reader: &mut FillReader, position: u64) -> u64 {
    let bytes = reader.read(None).await.unwrap().unwrap();
    assert!(bytes == body(position, position + bytes.len() as u64), "wrong bytes at {position}");
    position + bytes.len() as u64
}

#[tokio::test]
async fn who_skips_reads_nothing_of_what_comes_before() {
    let (fill, _, source) = driven(|limits| limits);
    write_on(&fill, 0, 4 * MIB).await.unwrap();
    source.one().write(4 * MIB);
    let mut reader = fill.reader(false);
    reader.skip_to(4 * MIB - 100);
    assert_eq!(next(&mut reader, 4 * MIB - 100).await, 4 * MIB);
    assert_eq!(source.one().reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn who_skips_further_than_the_fill_has_come_waits() {
    for hold in [MIB, 8 * MIB] {
        let (fill, ..) = driven(|limits| FillLimits { hold, ..limits });
        let mut reader = fill.reader(false);
        reader.skip_to(3 * MIB + 5);
        let waiting = tokio::spawn(async move { next(&mut reader, 3 * MIB + 5).await });
        write(&fill, 0, 2 * MIB).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        write(&fill, 2 * MIB, 4 * MIB).await.unwrap();
        assert_eq!(waiting.await.unwrap(), 4 * MIB);
    }
}

#[tokio::test]
async fn who_skips_past_the_end_finds_the_end() {
    let (fill, ..) = driven(|limits| limits);
    let mut reader = fill.reader(false);
    reader.skip_to(10);
    write(&fill, 0, 10).await.unwrap();
    seal(&fill).unwrap();
    assert_eq!(reader.read(None).await, Ok(None));
}

#[tokio::test]
async fn nobody_skips_backwards() {
    let (fill, ..) = driven(|limits| limits);
    let mut reader = fill.reader(false);
    write(&fill, 0, 10).await.unwrap();
    write(&fill, 10, 20).await.unwrap();
    assert_eq!(next(&mut reader, 0).await, 10);
    reader.skip_to(5);
    assert_eq!(next(&mut reader, 10).await, 20);
}

#[tokio::test]
async fn who_skips_while_bytes_are_read_for_it_gets_those_that_it_skipped_to() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    source.one().write(2 * MIB);
    source.one().reads_wait.store(true, Ordering::Relaxed);
    let mut reader = fill.reader(false);
    assert!(futures::poll!(std::pin::pin!(reader.read(None))).is_pending());
    source.one().is_read(1).await;
    source.one().reads_wait.store(false, Ordering::Relaxed);
    reader.skip_to(MIB);
    next(&mut reader, MIB).await;
}

#[tokio::test]
async fn what_a_reader_skips_is_not_held_for_it() {
    let limits = limits(0);
    let fill = fill(None, &limits);
    let mut reader = fill.reader(false);
    write(&fill, 0, MIB).await.unwrap();
    write(&fill, MIB, 2 * MIB).await.unwrap();
    assert_eq!(in_flight(&limits), 2 * MIB);
    reader.skip_to(MIB + 1);
    assert_eq!(in_flight(&limits), MIB);
    assert_eq!(next(&mut reader, MIB + 1).await, 2 * MIB);
}

#[tokio::test]
async fn a_reader_that_comes_when_the_first_byte_is_gone_gets_an_error_and_no_other_bytes() {
    let limits = limits(0);
    let fill = fill(None, &limits);
    let own = checked(fill.reader(true));
    write_on(&fill, 0, 2 * MIB).await.unwrap();
    assert_eq!(check(fill.reader(false), 0).await, (0, Err(ReadError::TooSlow)));
    seal(&fill).unwrap();
    assert_eq!(own.await.unwrap(), (2 * MIB, Ok(())));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_breaks_its_reader() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    write(&fill, 2 * MIB, 4 * MIB).await.unwrap();
    source.one().write(4 * MIB);
    source.one().reads_fail.store(true, Ordering::Relaxed);
    assert_eq!(check(fill.reader(false), 0).await, (0, Err(ReadError::Broken)));
    assert!(fill.is_joinable(LONG));
}

#[tokio::test]
async fn who_waits_for_a_disk_that_does_not_answer_holds_up_nobody_for_long() {
    // A follower may take its time, but not the disk.
    let (fill, limits, source) = driven(|limits| FillLimits { disk_patience: Duration::from_millis(20), ..limits });
    write(&fill, 0, 2 * MIB).await.unwrap();
    source.one().write(2 * MIB);
    source.one().reads_wait.store(true, Ordering::Relaxed);
    let stuck = checked(fill.reader(false));
    source.one().is_read(1).await;
    source.one().fail();
    let follower = {
        let mut follower = fill.reader(false);
        follower.skip_to(2 * MIB);
        tokio::spawn(check(follower, 2 * MIB))
    };
    write_on(&fill, 2 * MIB, 16 * MIB).await.unwrap();
    seal(&fill).unwrap();
    assert_eq!(stuck.await.unwrap(), (0, Err(ReadError::TooSlow)));
    assert_eq!(follower.await.unwrap(), (14 * MIB, Ok(())));
    assert_eq!(in_flight(&limits), 0);
}

/// Fetches and reads in one task, as a leader does: what it waits for is dropped when the other thing comes first.
async fn lead(fill: &Fill, own: &mut FillReader, range: std::ops::Range<u64>, from: u64) -> u64 {
    let (mut came, mut at) = (range.start, from);
    while came < range.end {
        tokio::select! {
            () = tokio::task::yield_now() => {
                let end = range.end.min(came + 65536);
                write(fill, came, end).await.unwrap();
                came = end;
            }
            bytes = own.read(None) => {
                let bytes = bytes.unwrap().unwrap();
                assert!(bytes == body(at, at + bytes.len() as u64), "wrong bytes at {at}");
                at += bytes.len() as u64;
            }
        }
    }
    at
}

#[tokio::test]
async fn a_leader_that_is_behind_when_the_disk_fails_catches_up() {
    let (fill, limits, source) = filed(8 * MIB);
    let mut own = fill.reader(true);
    // Its client takes nothing meanwhile.
    write_on(&fill, 0, 6 * MIB).await.unwrap();
    let at = lead(&fill, &mut own, 6 * MIB..32 * MIB, 0).await;
    assert!(!fill.is_joinable(LONG) && source.one().is_abandoned());
    assert!(in_flight(&limits) <= WINDOW + MIB);
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
    assert_eq!(check(own, at).await, (32 * MIB - at, Ok(())));
}

#[tokio::test]
async fn a_leader_that_is_behind_when_the_disk_stalls_catches_up() {
    let (fill, limits, source) = driven(|limits| FillLimits { disk_patience: Duration::from_millis(20), ..limits });
    let mut own = fill.reader(true);
    write_on(&fill, 0, 3 * MIB).await.unwrap();
    source.one().write(3 * MIB);
    write_on(&fill, 3 * MIB, 7 * MIB).await.unwrap();
    assert!(fill.is_joinable(LONG));
    let at = lead(&fill, &mut own, 7 * MIB..32 * MIB, 0).await;
    assert!(source.one().is_abandoned() && source.one().reads.load(Ordering::Relaxed) > 0);
    assert!(in_flight(&limits) <= WINDOW + MIB);
    seal(&fill).unwrap();
    assert_eq!(check(own, at).await, (32 * MIB - at, Ok(())));
}

#[tokio::test]
async fn a_leader_that_is_so_far_behind_that_memory_would_not_do_is_given_up() {
    let (fill, limits, source) = driven(|limits| limits);
    let mut own = fill.reader(true);
    for at in 0..32 {
        write(&fill, at * MIB, (at + 1) * MIB).await.unwrap();
        source.opened.lock().iter().for_each(|spool| spool.write(MIB));
    }
    source.one().fail();
    let (mut came, mut at) = (32 * MIB, 0);
    loop {
        at = next(&mut own, at).await;
        assert!(in_flight(&limits) <= 2 * WINDOW + MIB);
        came += MIB;
        if write(&fill, came - MIB, came).await == Err(WriteError::Abandoned) {
            break;
        }
    }
    assert_eq!(own.read(None).await, Err(ReadError::TooSlow));
}

/// A follower that comes and reads as chance has it.
async fn follow(mut reader: FillReader, mut random: fastrand::Rng) -> (u64, Result<(), ReadError>) {
    let mut at = 0;
    loop {
        if random.u8(..) == 0 {
            let to = at + random.u64(..MIB);
            reader.skip_to(to);
            at = to;
        }
        for _ in 0..random.u8(..8) {
            tokio::task::yield_now().await;
        }
        if random.bool() {
            // Turns to something else first.
            let read = tokio::time::timeout(Duration::ZERO, reader.read(None)).await;
            let Ok(read) = read else { continue };
            match read {
                Ok(Some(bytes)) => {
                    assert!(bytes == body(at, at + bytes.len() as u64), "wrong bytes at {at}");
                    at += bytes.len() as u64;
                }
                Ok(None) => return (at, Ok(())),
                Err(e) => return (at, Err(e)),
            }
        } else if let Ok(Some(bytes)) = reader.read(None).await {
            assert!(bytes == body(at, at + bytes.len() as u64), "wrong bytes at {at}");
            at += bytes.len() as u64;
        }
    }
}

/// Writes and fails as chance has it, until the fill has ended.
async fn spin(source: Arc<Disk<Driven>>, ended: Arc<AtomicBool>, fails: bool, mut random: fastrand::Rng) {
    while !ended.load(Ordering::Relaxed) {
        let spool = source.opened.lock().first().cloned();
        if let Some(spool) = spool {
            spool.write(random.u64(..300_000));
            if fails && random.u8(..64) == 0 {
                spool.fail();
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_gets_exactly_the_bytes_whatever_happens() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (source, ended) = (Disk::<Driven>::new(0), Arc::new(AtomicBool::new(false)));
        let limits = FillLimits { hold: random.u64(..2 * MIB), ..limits_with(source.clone()) };
        let total = random.u64(..10 * MIB);
        let fill = fill(random.bool().then_some(total), &limits);
        let disk = tokio::spawn(spin(source.clone(), ended.clone(), random.bool(), random.fork()));
        let mut readers: Vec<JoinHandle<_>> = vec![tokio::spawn(follow(fill.reader(false), random.fork()))];
        let (mut at, mut late) = (0, 0);
        while at < total {
            let end = total.min(at + random.u64(1..300_000));
            write(&fill, at, end).await.unwrap();
            at = end;
            if random.u8(..16) == 0 && fill.is_joinable(LONG) {
                late += 1;
                readers.push(tokio::spawn(follow(fill.reader(false), random.fork())));
            }
        }
        let breaks = random.u8(..4) == 0;
        if breaks {
            fill.break_off();
        } else {
            assert!(!matches!(seal(&fill).unwrap(), Filled::Whole(whole) if whole.len() as u64 > limits.hold));
            if fill.is_joinable(LONG) {
                readers.push(tokio::spawn(follow(fill.reader(false), random.fork())));
            }
        }
        for reader in readers {
            match reader.await.unwrap() {
                (got, end) if got >= total => assert_eq!(end, if breaks { Err(ReadError::Broken) } else { Ok(()) }),
                // It came when the disk had failed just then.
                (0, Err(ReadError::TooSlow)) if late > 0 => {}
                (got, end) => panic!("seed {seed}: {got} bytes of {total}, then {end:?}"),
            }
        }
        ended.store(true, Ordering::Relaxed);
        disk.await.unwrap();
        drop(fill);
        // A read that nobody waits for any more may still be about to end.
        while in_flight(&limits) > 0 {
            tokio::task::yield_now().await;
        }
    }
}
