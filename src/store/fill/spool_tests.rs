use super::spools_tests::{Disk, Driven, Filed, body};
use super::tests::{LONG, MIB, Opens, fill, in_flight, limits, seal};
use super::*;
use std::any::Any;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use tokio::task::JoinHandle;

/// Memory for a mebibyte of an object, and a disk for the rest.
pub(super) fn limits_with(spool: Arc<dyn SpoolSource>) -> FillLimits {
    FillLimits { max_object: 1024 * MIB, hold: MIB, patience: LONG, spool: Some(spool), ..limits(0) }
}

/// A fill that goes to a spool that is driven.
pub(super) fn driven(limits: impl FnOnce(FillLimits) -> FillLimits) -> (Arc<Fill>, FillLimits, Arc<Disk<Driven>>) {
    let source = Disk::new(0);
    let limits = limits(limits_with(source.clone()));
    (fill(None, &limits), limits, source)
}

/// A fill that goes to a file with so much room.
pub(super) fn filed(room: u64) -> (Arc<Fill>, FillLimits, Arc<Disk<Filed>>) {
    let source = Disk::new(room);
    let limits = limits_with(source.clone());
    (fill(None, &limits), limits, source)
}

pub(super) async fn write(fill: &Fill, start: u64, end: u64) -> Result<(), WriteError> {
    fill.write(body(start, end)).await
}

/// Writes the rest of a body in pieces of 64 KiB.
pub(super) async fn write_on(fill: &Fill, start: u64, end: u64) -> Result<(), WriteError> {
    for at in (start..end).step_by(65536) {
        write(fill, at, end.min(at + 65536)).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads to the end, and looks at every byte: how many came, and why there are no more if that is not the end.
pub(super) async fn check(mut reader: FillReader, from: u64) -> (u64, Result<(), ReadError>) {
    let mut at = from;
    loop {
        match reader.read(None).await {
            Ok(Some(bytes)) => {
                assert!(bytes == body(at, at + bytes.len() as u64), "wrong bytes from {at} on");
                at += bytes.len() as u64;
            }
            Ok(None) => return (at - from, Ok(())),
            Err(e) => return (at - from, Err(e)),
        }
    }
}

pub(super) fn checked(reader: FillReader) -> JoinHandle<(u64, Result<(), ReadError>)> {
    tokio::spawn(check(reader, 0))
}

/// Whether it is finished by everything that can happen without the test.
async fn comes_to_rest<T>(task: &JoinHandle<T>) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    task.is_finished()
}

#[tokio::test]
async fn a_late_follower_reads_from_the_file_what_memory_let_go_of() {
    let (fill, limits, _) = filed(u64::MAX);
    write_on(&fill, 0, 16 * MIB).await.unwrap();
    assert!(fill.is_joinable(LONG));
    assert!(in_flight(&limits) < 6 * MIB);
    let late = checked(fill.reader(false));
    write_on(&fill, 16 * MIB, 20 * MIB).await.unwrap();
    seal(&fill).unwrap();
    assert_eq!(late.await.unwrap(), (20 * MIB, Ok(())));
}

#[tokio::test]
async fn a_follower_joins_at_the_end_and_after_it() {
    let (fill, _, _) = filed(u64::MAX);
    write_on(&fill, 0, 8 * MIB).await.unwrap();
    let filled = fill.filled().unwrap();
    let before = checked(fill.reader(false));
    fill.seal();
    assert!(fill.is_joinable(Duration::ZERO));
    let after = checked(fill.reader(false));
    assert_eq!(before.await.unwrap(), (8 * MIB, Ok(())));
    assert_eq!(after.await.unwrap(), (8 * MIB, Ok(())));
    drop(filled);
}

#[tokio::test]
async fn a_spooled_body_is_handed_back_as_the_file_that_was_opened() {
    let (fill, _, source) = filed(u64::MAX);
    write_on(&fill, 0, 2 * MIB).await.unwrap();
    let Ok(Filled::Spooled { spool, length: 2_097_152 }) = seal(&fill) else { panic!("not spooled") };
    let spool: Arc<dyn Any + Send + Sync> = spool;
    let spool = spool.downcast::<Filed>().unwrap();
    drop(fill);
    assert!(Arc::ptr_eq(&spool, &source.one()) && !spool.is_abandoned());
}

#[tokio::test]
async fn what_fits_into_memory_opens_no_file() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, MIB).await.unwrap();
    assert!(matches!(seal(&fill), Ok(Filled::Whole(whole)) if whole == body(0, MIB)));
    assert_eq!(source.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_known_to_be_too_large_for_memory_goes_to_the_file_from_its_first_byte() {
    let source = Disk::<Driven>::new(0);
    let fill = fill(Some(MIB + 1), &limits_with(source.clone()));
    assert_eq!(source.asked.load(Ordering::Relaxed), 0);
    write(&fill, 0, 1).await.unwrap();
    assert_eq!(source.one().pushed(), 1);
    assert!(fill.is_joinable(LONG) && fill.runs_ahead().load(Ordering::Relaxed));
}

#[tokio::test]
async fn what_is_not_allowed_in_memory_goes_to_the_file_from_its_first_byte() {
    let (fill, _, source) = driven(|limits| FillLimits { hold: 0, ..limits });
    write(&fill, 0, 1).await.unwrap();
    assert_eq!(source.one().pushed(), 1);
    assert!(matches!(seal(&fill), Ok(Filled::Spooled { length: 1, .. })));
}

#[tokio::test]
async fn what_is_known_to_be_too_large_for_every_tier_opens_no_file() {
    let source = Disk::<Driven>::new(0);
    let fill = fill(Some(2048 * MIB), &limits_with(source.clone()));
    let _reader = fill.reader(true);
    write(&fill, 0, 2 * MIB).await.unwrap();
    assert_eq!(source.asked.load(Ordering::Relaxed), 0);
    assert!(!fill.is_joinable(LONG));
}

#[tokio::test]
async fn a_fill_goes_to_a_file_when_all_together_hold_too_much() {
    let (fill, limits, source) = driven(|limits| FillLimits { max_in_flight: 10, ..limits });
    write(&fill, 0, 8).await.unwrap();
    write(&fill, 8, 16).await.unwrap();
    let spool = source.one();
    assert_eq!(spool.pushed(), 16);
    // Nothing is kept at hand then, not even for who needs it.
    let reader = checked(fill.reader(false));
    spool.write(16);
    assert_eq!(in_flight(&limits), 0);
    seal(&fill).unwrap();
    assert_eq!(reader.await.unwrap(), (16, Ok(())));
}

#[tokio::test]
async fn a_fill_that_gets_no_file_overflows_and_asks_for_none_again() {
    let (fill, _, source) = driven(|limits| limits);
    source.refuses.store(true, Ordering::Relaxed);
    let reader = checked(fill.reader(false));
    write_on(&fill, 0, 2 * MIB).await.unwrap();
    assert!(!fill.is_joinable(LONG) && !fill.is_too_large());
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
    assert_eq!(reader.await.unwrap(), (2 * MIB, Ok(())));
}

#[tokio::test]
async fn a_fill_that_outgrows_every_tier_gives_up_its_file_and_those_behind_read_on() {
    let (fill, _, source) = driven(|limits| FillLimits { max_object: 6 * MIB, ..limits });
    write(&fill, 0, 3 * MIB).await.unwrap();
    source.one().write(2 * MIB);
    let behind = checked(fill.reader(false));
    write(&fill, 3 * MIB, 6 * MIB).await.unwrap();
    source.one().write(3 * MIB);
    assert!(fill.is_joinable(LONG));
    write(&fill, 6 * MIB, 7 * MIB).await.unwrap();
    assert!(!fill.is_joinable(LONG) && fill.is_too_large() && source.one().is_abandoned());
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
    assert_eq!(behind.await.unwrap(), (7 * MIB, Ok(())));
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_abandons_the_file() {
    let source = Disk::<Driven>::new(0);
    let fill = fill(Some(3 * MIB), &limits_with(source.clone()));
    write(&fill, 0, 2 * MIB).await.unwrap();
    assert!(matches!(fill.filled(), Err(WriteError::WrongLength { .. })));
    assert!(source.one().is_abandoned());
    assert_eq!(check(fill.reader(false), 0).await, (2 * MIB, Err(ReadError::Broken)));
}

#[tokio::test]
async fn memory_stays_bounded_and_readers_that_keep_up_are_spared_the_disk() {
    let (fill, limits, source) = driven(|limits| limits);
    let mut reader = fill.reader(false);
    let mut at = 0;
    for end in (65536..=64 * MIB).step_by(65536) {
        write(&fill, end - 65536, end).await.unwrap();
        if let Some(spool) = source.opened.lock().first() {
            spool.write(2 * MIB);
        }
        // Up to half a mebibyte behind.
        while at + 512 * 1024 < end {
            at += reader.read(None).await.unwrap().unwrap().len() as u64;
        }
        assert!(in_flight(&limits) <= 2 * MIB);
    }
    assert_eq!(source.one().reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_writer_waits_for_a_disk_that_is_slow_and_holds_no_more_than_the_window() {
    let (fill, limits, source) = driven(|limits| limits);
    let reader = checked(fill.reader(false));
    let writer = tokio::spawn({
        let fill = fill.clone();
        async move {
            write_on(&fill, 0, 16 * MIB).await?;
            seal(&fill)
        }
    });
    while !comes_to_rest(&writer).await {
        let spool = source.one();
        assert_eq!(spool.pushed(), spool.written() + WINDOW + 65536);
        assert_eq!(in_flight(&limits), WINDOW + 65536);
        spool.write(65536);
    }
    assert!(matches!(writer.await.unwrap(), Ok(Filled::Spooled { .. })));
    assert_eq!(reader.await.unwrap(), (16 * MIB, Ok(())));
}

#[tokio::test]
async fn a_disk_that_stalls_is_given_up_and_who_keeps_up_gets_everything() {
    let (fill, limits, source) = driven(|limits| FillLimits { disk_patience: Duration::from_millis(20), ..limits });
    let (own, follower) = (checked(fill.reader(true)), checked(fill.reader(false)));
    write_on(&fill, 0, 4 * MIB).await.unwrap();
    assert!(fill.is_joinable(LONG));
    write_on(&fill, 4 * MIB, 16 * MIB).await.unwrap();
    assert!(!fill.is_joinable(LONG) && !fill.is_too_large() && source.one().is_abandoned());
    assert!(!fill.runs_ahead().load(Ordering::Relaxed));
    assert!(in_flight(&limits) <= WINDOW + 65536);
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
    assert_eq!(own.await.unwrap(), (16 * MIB, Ok(())));
    assert_eq!(follower.await.unwrap(), (16 * MIB, Ok(())));
    assert_eq!(in_flight(&limits), 0);
}

#[tokio::test]
async fn who_is_behind_when_the_disk_fails_reads_what_was_written_and_then_goes_on() {
    let (fill, limits, source) = driven(|limits| limits);
    let behind = fill.reader(false);
    write(&fill, 0, 3 * MIB).await.unwrap();
    source.one().write(3 * MIB);
    write(&fill, 3 * MIB, 5 * MIB).await.unwrap();
    source.one().fail();
    let writer = tokio::spawn({
        let fill = fill.clone();
        async move {
            write_on(&fill, 5 * MIB, 16 * MIB).await?;
            seal(&fill)
        }
    });
    // Held for the one behind: what is not in the file.
    assert!(!comes_to_rest(&writer).await);
    assert!(in_flight(&limits) <= WINDOW + MIB);
    assert_eq!(check(behind, 0).await, (16 * MIB, Ok(())));
    assert!(source.one().reads.load(Ordering::Relaxed) > 0);
    assert!(matches!(writer.await.unwrap(), Ok(Filled::TooLarge)));
}

#[tokio::test]
async fn a_disk_that_fails_while_the_origin_is_silent_ends_the_joining() {
    let (fill, _, source) = driven(|limits| limits);
    let _reader = fill.reader(true);
    write(&fill, 0, 2 * MIB).await.unwrap();
    assert!(fill.is_joinable(LONG));
    source.one().fail();
    assert!(!fill.is_joinable(LONG) && source.one().is_abandoned());
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
}

#[tokio::test]
async fn a_disk_that_fails_after_the_end_leaves_its_readers_what_is_in_memory() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    write(&fill, 2 * MIB, 4 * MIB).await.unwrap();
    let behind = fill.reader(false);
    source.one().write(3 * MIB);
    seal(&fill).unwrap();
    source.one().fail();
    assert!(!fill.is_joinable(LONG));
    assert_eq!(check(behind, 0).await, (4 * MIB, Ok(())));
}

#[tokio::test]
async fn a_leaders_client_that_never_reads_does_not_stop_the_fill() {
    let (fill, limits, _) = filed(u64::MAX);
    let mut own = fill.reader(true);
    let room = Arc::new(Opens::default());
    own.wait_for_room(room.clone());
    let follower = checked(fill.reader(false));
    for at in (0..64 * MIB).step_by(65536) {
        write(&fill, at, at + 65536).await.unwrap();
        assert!(fill.runs_ahead().load(Ordering::Relaxed));
        assert!(in_flight(&limits) <= WINDOW + MIB);
    }
    assert!(matches!(seal(&fill), Ok(Filled::Spooled { .. })));
    assert_eq!(follower.await.unwrap(), (64 * MIB, Ok(())));
    room.0.store(true, Ordering::Relaxed);
    assert_eq!(check(own, 0).await, (64 * MIB, Ok(())));
}

#[tokio::test]
async fn a_leader_that_left_does_not_end_a_spooled_fill() {
    let (fill, _, _) = filed(u64::MAX);
    fill.watch_leader(Arc::new(AtomicBool::new(true)));
    drop(fill.reader(true));
    write_on(&fill, 0, 8 * MIB).await.unwrap();
    assert!(matches!(seal(&fill), Ok(Filled::Spooled { .. })));
}

#[tokio::test]
async fn a_broken_origin_breaks_those_who_still_read_from_the_file_too() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    write(&fill, 2 * MIB, 4 * MIB).await.unwrap();
    source.one().write(3 * MIB);
    source.one().reads_wait.store(true, Ordering::Relaxed);
    let behind = checked(fill.reader(false));
    source.one().is_read(1).await;
    fill.break_off();
    assert!(source.one().is_abandoned() && !fill.is_joinable(LONG));
    source.one().reads_wait.store(false, Ordering::Relaxed);
    source.one().go_on.notify_waiters();
    assert_eq!(behind.await.unwrap(), (4 * MIB, Err(ReadError::Broken)));
}

#[tokio::test]
async fn a_fill_that_is_dropped_unended_abandons_its_file() {
    let (fill, limits, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    drop(fill);
    assert!(source.one().is_abandoned());
    assert_eq!(in_flight(&limits), 0);
}

#[tokio::test]
async fn an_outdated_fill_serves_who_follows_it_and_nobody_else() {
    let (fill, _, source) = filed(u64::MAX);
    write_on(&fill, 0, 4 * MIB).await.unwrap();
    let follower = checked(fill.reader(false));
    fill.outdate();
    assert!(!fill.is_joinable(LONG));
    write_on(&fill, 4 * MIB, 8 * MIB).await.unwrap();
    seal(&fill).unwrap();
    assert!(!fill.is_joinable(LONG) && !fill.is_current());
    assert_eq!(follower.await.unwrap(), (8 * MIB, Ok(())));
    assert!(!source.one().is_abandoned());
}

#[tokio::test]
async fn an_outdated_fill_opens_no_file() {
    let (fill, _, source) = driven(|limits| limits);
    let follower = checked(fill.reader(false));
    fill.outdate();
    write_on(&fill, 0, 8 * MIB).await.unwrap();
    assert!(matches!(seal(&fill), Ok(Filled::TooLarge)));
    assert_eq!(source.asked.load(Ordering::Relaxed), 0);
    assert_eq!(follower.await.unwrap(), (8 * MIB, Ok(())));
}

#[tokio::test]
async fn bytes_read_for_somebody_who_turned_to_something_else_are_not_lost_nor_read_again() {
    let (fill, _, source) = driven(|limits| limits);
    write(&fill, 0, 2 * MIB).await.unwrap();
    source.one().write(2 * MIB);
    source.one().reads_wait.store(true, Ordering::Relaxed);
    let mut reader = fill.reader(false);
    for _ in 0..3 {
        let read = std::pin::pin!(reader.read(None));
        assert!(read.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        source.one().is_read(1).await;
    }
    source.one().reads_wait.store(false, Ordering::Relaxed);
    source.one().go_on.notify_waiters();
    assert_eq!(reader.read(None).await, Ok(Some(body(0, GATHER as u64))));
    assert_eq!(source.one().reads.load(Ordering::Relaxed), 1);
    seal(&fill).unwrap();
    assert_eq!(check(reader, GATHER as u64).await, (2 * MIB - GATHER as u64, Ok(())));
}
