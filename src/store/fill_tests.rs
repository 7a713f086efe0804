use super::*;
use crate::decide::Facts;
use crate::semantics::freshness::Freshness;
use pingora::cache::CacheMeta;
use pingora::http::ResponseHeader;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::task::JoinHandle;

pub(super) const MIB: u64 = 1024 * 1024;

/// A fill that is never stalled.
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) fn limits(max_object: u64) -> FillLimits {
    FillLimits {
        max_object,
        hold: max_object,
        max_in_flight: u64::MAX,
        in_flight: Arc::new(AtomicU64::new(0)),
        patience: Duration::from_millis(50),
        disk_patience: LONG,
        spool: None,
    }
}

pub(super) fn fill(expected: Option<u64>, limits: &FillLimits) -> Arc<Fill> {
    let now = crate::clock::now();
    let head = ResponseHeader::build_no_case(200, None).unwrap();
    let head = Arc::new(StoredHead::of(&CacheMeta::new(now, now, 0, 0, head)));
    Arc::new(Fill::new(b"key".as_slice().into(), head, Arc::new(facts()), expected, limits.clone()))
}

fn mebibytes(n: u64) -> Bytes {
    Bytes::from(vec![b'x'; (n * MIB) as usize])
}

pub(super) fn in_flight(limits: &FillLimits) -> u64 {
    limits.in_flight.load(Ordering::Relaxed)
}

/// Ends it as its writer does.
pub(super) fn seal(fill: &Fill) -> Result<Filled, WriteError> {
    let filled = fill.filled()?;
    fill.seal();
    Ok(filled)
}

/// Reads to the end: the bytes, or why there are no more.
fn read_all(mut reader: FillReader) -> JoinHandle<Result<u64, ReadError>> {
    tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(piece) = reader.read(None).await? {
            bytes += piece.len() as u64;
        }
        Ok(bytes)
    })
}

#[tokio::test]
async fn a_sealed_fill_holds_the_body_and_can_still_be_joined() {
    let fill = fill(Some(6), &limits(MIB));
    let early = read_all(fill.reader(false));
    for piece in ["abc", "", "def"] {
        fill.write(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
    assert!(matches!(seal(&fill).unwrap(), Filled::Whole(body) if body == "abcdef"));
    assert!(fill.is_joinable(Duration::ZERO));
    let late = read_all(fill.reader(false));
    assert_eq!((early.await.unwrap(), late.await.unwrap()), (Ok(6), Ok(6)));
}

#[tokio::test]
async fn an_empty_body_is_a_body() {
    let fill = fill(None, &limits(MIB));
    assert!(matches!(seal(&fill).unwrap(), Filled::Whole(body) if body.is_empty()));
    assert_eq!(read_all(fill.reader(false)).await.unwrap(), Ok(0));
}

#[tokio::test]
async fn a_fill_without_progress_is_not_joined() {
    let fill = fill(None, &limits(MIB));
    assert!(fill.is_joinable(LONG));
    assert!(!fill.is_joinable(Duration::ZERO));
}

#[tokio::test]
async fn readers_of_a_broken_fill_get_what_came_and_then_an_error() {
    let fill = fill(None, &limits(MIB));
    let mut reader = fill.reader(false);
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    fill.break_off();
    assert_eq!(reader.read(None).await, Ok(Some(Bytes::from_static(b"abc"))));
    assert_eq!(reader.read(None).await, Err(ReadError::Broken));
    assert!(!fill.is_joinable(LONG));
}

#[tokio::test]
async fn a_sealed_fill_cannot_be_broken_any_more() {
    let fill = fill(None, &limits(MIB));
    fill.seal();
    fill.break_off();
    assert_eq!(read_all(fill.reader(false)).await.unwrap(), Ok(0));
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_breaks_the_fill() {
    for (expected, sent) in [(4, "abc"), (2, "abc"), (1, "")] {
        let fill = fill(Some(expected), &limits(MIB));
        fill.write(Bytes::copy_from_slice(sent.as_bytes())).await.unwrap();
        let received = sent.len() as u64;
        assert_eq!(seal(&fill).unwrap_err(), WriteError::WrongLength { received, expected });
        assert_eq!(read_all(fill.reader(false)).await.unwrap(), Err(ReadError::Broken));
        assert!(!fill.is_joinable(LONG));
    }
}

#[tokio::test]
async fn an_overflowing_fill_cannot_be_joined_and_is_not_kept() {
    let fill = fill(None, &limits(3));
    let reader = fill.reader(true);
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    assert!(fill.is_joinable(LONG) && !fill.is_too_large());
    fill.write(Bytes::from_static(b"d")).await.unwrap();
    assert!(!fill.is_joinable(LONG) && fill.is_too_large());
    assert!(matches!(seal(&fill).unwrap(), Filled::TooLarge));
    assert!(!fill.is_joinable(LONG));
    assert_eq!(read_all(reader).await.unwrap(), Ok(4));
}

#[tokio::test]
async fn an_overflowing_fill_lets_pieces_go_once_all_readers_have_them() {
    let limits = limits(MIB);
    let fill = fill(None, &limits);
    let (mut fast, mut slow) = (fill.reader(false), fill.reader(false));
    fill.write(mebibytes(1)).await.unwrap();
    fill.write(mebibytes(1)).await.unwrap();
    fast.read(None).await.unwrap();
    fast.read(None).await.unwrap();
    assert_eq!(in_flight(&limits), 2 * MIB);
    slow.read(None).await.unwrap();
    assert_eq!(in_flight(&limits), MIB);
    drop(slow);
    assert_eq!(in_flight(&limits), 0);
}

#[tokio::test]
async fn the_writer_waits_for_a_follower_that_is_behind_and_moves() {
    let fill = fill(None, &limits(0));
    let follower = fill.reader(false);
    let writer = tokio::spawn({
        let fill = fill.clone();
        async move {
            for _ in 0..32 {
                fill.write(mebibytes(1)).await?;
            }
            seal(&fill)
        }
    });
    assert_eq!(read_all(follower).await.unwrap(), Ok(32 * MIB));
    assert!(matches!(writer.await.unwrap(), Ok(Filled::TooLarge)));
}

#[tokio::test]
async fn a_follower_that_takes_nothing_is_cut_and_the_others_go_on() {
    let limits = limits(0);
    let fill = fill(None, &limits);
    let (mut stuck, own) = (fill.reader(false), read_all(fill.reader(true)));
    fill.write(mebibytes(4)).await.unwrap();
    let began = Instant::now();
    fill.write(mebibytes(1)).await.unwrap();
    assert!(began.elapsed() >= limits.patience);
    fill.write(mebibytes(1)).await.unwrap();
    fill.seal();
    assert_eq!(stuck.read(None).await, Err(ReadError::TooSlow));
    assert_eq!(own.await.unwrap(), Ok(6 * MIB));
    assert_eq!(in_flight(&limits), 0);
}

#[tokio::test]
async fn the_reader_in_the_writers_task_is_not_waited_for_but_bounded() {
    let limits = limits(0);
    let fill = fill(None, &limits);
    let mut own = fill.reader(true);
    let began = Instant::now();
    for _ in 0..WINDOW / MIB + 1 {
        fill.write(mebibytes(1)).await.unwrap();
    }
    assert!(began.elapsed() < LONG);
    // Nobody else reads: what the origin still sends is for nobody.
    assert_eq!(fill.write(mebibytes(1)).await, Err(WriteError::Abandoned));
    assert_eq!(own.read(None).await, Err(ReadError::TooSlow));
}

#[tokio::test]
async fn a_fill_that_would_be_kept_goes_on_without_readers_and_another_is_abandoned() {
    let kept = fill(None, &limits(MIB));
    drop(kept.reader(true));
    kept.write(Bytes::from_static(b"abc")).await.unwrap();
    let too_large = fill(None, &limits(2));
    drop(too_large.reader(true));
    assert_eq!(too_large.write(Bytes::from_static(b"abc")).await, Err(WriteError::Abandoned));
}

#[tokio::test]
async fn all_fills_together_hold_no_more_than_they_may() {
    let limits = FillLimits { max_in_flight: 10, ..limits(MIB) };
    let (one, two) = (fill(None, &limits), fill(None, &limits));
    let _readers = [one.reader(true), two.reader(true)];
    one.write(Bytes::from_static(b"12345678")).await.unwrap();
    assert!(one.is_joinable(LONG));
    two.write(Bytes::from_static(b"123")).await.unwrap();
    assert!(one.is_joinable(LONG) && !two.is_joinable(LONG));
    // Too much in flight says nothing about the object.
    assert!(!two.is_too_large());
    assert!(matches!(seal(&two).unwrap(), Filled::TooLarge));
}

#[tokio::test]
async fn a_fill_that_goes_gives_back_what_it_held() {
    let limits = limits(MIB);
    let fill = fill(None, &limits);
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    assert_eq!(in_flight(&limits), 3);
    drop(fill);
    assert_eq!(in_flight(&limits), 0);
}

#[tokio::test]
async fn followers_are_counted_without_the_reader_that_fetches() {
    let fill = fill(None, &limits(MIB));
    let (_own, follower) = (fill.reader(true), fill.reader(false));
    assert_eq!(fill.followers(), 1);
    drop(follower);
    assert_eq!(fill.followers(), 0);
}

#[tokio::test]
async fn what_is_to_be_done_before_a_wait_is_done_only_before_a_wait() {
    #[derive(Default)]
    struct Counts(AtomicU64);
    impl BeforeWaiting for Counts {
        fn poll_before_waiting(&self, _cx: &mut Context<'_>) -> Poll<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(())
        }
    }
    let fill = fill(None, &limits(MIB));
    let counts = Arc::new(Counts::default());
    let before: Arc<dyn BeforeWaiting> = counts.clone();
    let mut reader = fill.reader(false);
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    reader.read(Some(&before)).await.unwrap();
    assert_eq!(counts.0.load(Ordering::Relaxed), 0);
    let waiting = tokio::spawn(async move { reader.read(Some(&before)).await });
    while counts.0.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    fill.seal();
    assert_eq!(waiting.await.unwrap(), Ok(None));
}

fn facts() -> Facts {
    Facts::of(Freshness::of_max_age(Duration::from_secs(60), crate::clock::now()))
}

/// A connection that has room when it is told so.
#[derive(Default)]
pub(super) struct Opens(pub(super) AtomicBool);

impl Room for Opens {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_room_for_end(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[tokio::test]
async fn a_leader_takes_a_piece_only_while_its_client_has_room() {
    let fill = fill(None, &limits(MIB));
    let (room, mut own) = (Arc::new(Opens::default()), fill.reader(true));
    own.wait_for_room(room.clone());
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    let waiting = tokio::spawn(async move { (own.read(None).await, own.read(None).await) });
    // Others are not kept waiting.
    let mut follower = fill.reader(false);
    assert_eq!(follower.read(None).await, Ok(Some(Bytes::from_static(b"abc"))));
    fill.seal();
    assert_eq!(follower.read(None).await, Ok(None));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    room.0.store(true, Ordering::Relaxed);
    assert_eq!(waiting.await.unwrap(), (Ok(Some(Bytes::from_static(b"abc"))), Ok(None)));
}

#[tokio::test]
async fn a_leader_of_an_overflowing_fill_takes_what_there_is_and_its_writes_wait() {
    let fill = fill(None, &limits(3));
    let ahead = fill.runs_ahead();
    let mut own = fill.reader(true);
    own.wait_for_room(Arc::new(Opens::default()));
    fill.write(Bytes::from_static(b"abc")).await.unwrap();
    assert!(ahead.load(Ordering::Relaxed));
    fill.write(Bytes::from_static(b"def")).await.unwrap();
    assert!(!ahead.load(Ordering::Relaxed));
    assert_eq!(own.read(None).await, Ok(Some(Bytes::from_static(b"abcdef"))));
}
