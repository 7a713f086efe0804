use super::*;
use crate::decide::NotStored;
use crate::lock::Uncacheable;
use crate::semantics::combine::KnownPart;
use crate::semantics::freshness::Freshness;
use crate::semantics::range::ByteRange;
use crate::store::entry::metadata;
use crate::store::partial::Filling;
use pingora::cache::trace::Span;
use pingora::http::ResponseHeader;
use std::time::Duration;

const BODY: &[u8] = b"0123456789";

fn store() -> &'static Store {
    let uncacheable = Box::leak(Box::new(Uncacheable::new(NotStored::is_passing)));
    let cache = crate::config::Cache {
        memory: Some(crate::config::MemoryTier { capacity: 1024 * 1024, max_object: 100 }),
        lock: crate::config::Lock { wait: Duration::from_secs(600), ..Default::default() },
        ..Default::default()
    };
    Box::leak(Box::new(Store::new(&cache, None, None, uncacheable)))
}

fn span() -> SpanHandle {
    Span::inactive().handle()
}

fn key(path: &str) -> CacheKey {
    CacheKey::new(path, "")
}

fn meta(length: Option<usize>, version: &str) -> CacheMeta {
    let mut head = ResponseHeader::build_no_case(200, None).unwrap();
    head.insert_header("x-version", version).unwrap();
    if let Some(length) = length {
        head.insert_header("content-length", length).unwrap();
    }
    let now = crate::clock::now();
    let facts = Facts::of(Freshness::of_max_age(Duration::from_secs(60), now));
    let mut meta = metadata(head, now, &facts);
    meta.extensions_mut().insert(Arc::new(facts));
    meta
}

async fn begin(store: &'static Store, path: &str, length: Option<usize>) -> MissHandler {
    store.get_miss_handler(&key(path), &meta(length, "1"), &span()).await.unwrap()
}

async fn keep(store: &'static Store, path: &str) {
    let mut writer = begin(store, path, Some(BODY.len())).await;
    writer.write_body(Bytes::from_static(BODY), true).await.unwrap();
    writer.finish().await.unwrap();
}

async fn find(store: &'static Store, path: &str) -> Option<(CacheMeta, HitHandler)> {
    store.lookup(&key(path), &span()).await.unwrap()
}

async fn rest(hit: &mut HitHandler) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = hit.read_body().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[tokio::test]
async fn what_was_filled_is_found_and_nothing_else() {
    let store = store();
    assert!(find(store, "/a").await.is_none() && !store.holds(&key("/a")));
    keep(store, "/a").await;
    let (meta, mut hit) = find(store, "/a").await.unwrap();
    assert_eq!(meta.headers()["x-version"], "1");
    assert_eq!(rest(&mut hit).await.unwrap(), BODY);
    assert!(store.holds(&key("/a")) && find(store, "/b").await.is_none());
}

#[tokio::test]
async fn a_fill_under_way_is_joined_and_afterwards_found_in_memory() {
    let store = store();
    let mut writer = begin(store, "/a", None).await;
    assert!(store.holds(&key("/a")));
    let (_, mut following) = find(store, "/a").await.unwrap();
    assert!(following.as_any().is::<FillHit>());
    assert_eq!(store.followers(), 1);
    writer.write_body(Bytes::from_static(BODY), true).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(rest(&mut following).await.unwrap(), BODY);
    assert!(find(store, "/a").await.unwrap().1.as_any().is::<StoredHit>());
    assert_eq!(store.followers(), 0);
}

#[tokio::test]
async fn the_request_that_fetches_reads_its_own_fill() {
    let store = store();
    let (one, two) = (begin(store, "/a", None).await, begin(store, "/a", None).await);
    for writer in [&one, &two] {
        let own = store.lookup_streaming_write(&key("/a"), writer.streaming_write_tag(), &span()).await.unwrap();
        let (_, own) = own.unwrap();
        let own = own.as_any().downcast_ref::<FillHit>().unwrap();
        assert_eq!(writer.streaming_write_tag(), Some(tag_of(own.fill()).as_slice()));
    }
    assert_eq!(store.followers(), 0);
    let other = store.lookup_streaming_write(&key("/a"), Some(b"another"), &span()).await.unwrap();
    assert!(other.is_none());
}

#[tokio::test]
async fn a_writer_that_goes_away_breaks_its_fill_and_leaves_nothing() {
    let store = store();
    let mut writer = begin(store, "/a", None).await;
    let (_, mut following) = find(store, "/a").await.unwrap();
    writer.write_body(Bytes::from_static(BODY), false).await.unwrap();
    drop(writer);
    assert!(rest(&mut following).await.is_err());
    assert!(find(store, "/a").await.is_none());
}

#[tokio::test]
async fn a_body_of_the_wrong_length_is_not_kept() {
    for length in [BODY.len() - 1, BODY.len() + 1] {
        let store = store();
        let mut writer = begin(store, "/a", Some(length)).await;
        writer.write_body(Bytes::from_static(BODY), true).await.unwrap();
        assert!(writer.finish().await.is_err(), "{length}");
        assert!(find(store, "/a").await.is_none(), "{length}");
    }
}

#[tokio::test]
async fn what_turns_out_too_large_is_remembered_and_not_kept() {
    let store = store();
    let mut writer = begin(store, "/a", None).await;
    let own = store.lookup_streaming_write(&key("/a"), writer.streaming_write_tag(), &span()).await.unwrap();
    writer.write_body(Bytes::from(vec![b'x'; 101]), true).await.unwrap();
    assert!(find(store, "/a").await.is_none(), "joined too late");
    writer.finish().await.unwrap();
    assert_eq!(rest(&mut own.unwrap().1).await.unwrap().len(), 101);
    assert!(find(store, "/a").await.is_none());
    assert!(!store.uncacheable.cacheable_prediction(&key("/a")));
}

#[tokio::test]
async fn ranges_are_cut_from_what_is_kept_and_from_what_is_on_its_way() {
    let store = store();
    keep(store, "/kept").await;
    let mut writer = begin(store, "/coming", Some(BODY.len())).await;
    for piece in BODY.chunks(3) {
        writer.write_body(Bytes::from_static(piece), false).await.unwrap();
    }
    for (start, end, expected) in [
        (0, None, "0123456789"),
        (2, Some(3), "2"),
        (2, Some(7), "23456"),
        (9, Some(10), "9"),
        (5, Some(1000), "56789"),
        (10, None, ""),
    ] {
        for path in ["/kept", "/coming"] {
            let (_, mut hit) = find(store, path).await.unwrap();
            assert!(hit.can_seek());
            hit.seek(start, end).unwrap();
            // The end of a range that is in is not waited for, although the fill goes on.
            let body = rest(&mut hit).await.unwrap();
            assert_eq!(body, expected.as_bytes(), "{path} {start}-{end:?}");
        }
    }
    for path in ["/kept", "/coming"] {
        let (_, mut hit) = find(store, path).await.unwrap();
        assert!(hit.seek(11, None).is_err(), "{path}");
    }
}

#[tokio::test]
async fn a_fill_of_unknown_length_has_no_ranges() {
    let store = store();
    let _writer = begin(store, "/a", None).await;
    assert!(!find(store, "/a").await.unwrap().1.can_seek());
}

#[tokio::test]
async fn a_new_head_replaces_the_old_one_and_keeps_body_and_hits() {
    let store = store();
    keep(store, "/a").await;
    let hit = find(store, "/a").await.unwrap().1;
    let entry = hit.as_any().downcast_ref::<StoredHit>().unwrap().entry();
    entry.count_hit();
    let mut confirmed = meta(Some(BODY.len()), "2");
    assert!(!store.update_meta(&key("/a"), &confirmed, &span()).await.unwrap(), "about an entry that nobody named");
    confirmed.extensions_mut().insert(Updates(entry.facts.clone()));
    assert!(store.update_meta(&key("/a"), &confirmed, &span()).await.unwrap());
    let (meta_now, mut hit) = find(store, "/a").await.unwrap();
    assert_eq!(meta_now.headers()["x-version"], "2");
    assert_eq!(hit.as_any().downcast_ref::<StoredHit>().unwrap().entry().hits(), 1);
    assert_eq!(rest(&mut hit).await.unwrap(), BODY);
    assert!(!store.update_meta(&key("/b"), &meta(None, "2"), &span()).await.unwrap());
}

#[tokio::test]
async fn what_was_purged_before_an_entry_was_found_does_not_make_it_another_one() {
    let store = store();
    keep(store, "/a").await;
    let hit = find(store, "/a").await.unwrap().1;
    let facts = hit.as_any().downcast_ref::<StoredHit>().unwrap().entry().facts.clone();
    let mut confirmed = meta(Some(BODY.len()), "2");
    let found_elsewhere = Facts { seen: Position::from_bits(facts.seen.to_bits() + 1), ..(*facts).clone() };
    confirmed.extensions_mut().insert(Updates(Arc::new(found_elsewhere)));
    assert!(store.update_meta(&key("/a"), &confirmed, &span()).await.unwrap());
    assert_eq!(find(store, "/a").await.unwrap().0.headers()["x-version"], "2");
}

#[tokio::test]
async fn what_is_purged_is_gone() {
    let store = store();
    keep(store, "/a").await;
    let compact = key("/a").to_compact();
    let purge = async || store.purge(PurgeTarget::Active(&compact), PurgeType::Invalidation, &span()).await.unwrap();
    assert!(matches!(purge().await, PurgeOutcome::Purged(_)));
    assert!(find(store, "/a").await.is_none());
    assert!(matches!(purge().await, PurgeOutcome::NotFound));
}

/// The writer of a part of [`BODY`], which is asked for under a key of its own.
async fn begin_part(store: &'static Store, first: u64, last: u64) -> MissHandler {
    let spec = Spec::From(first, Some(last));
    let mut key = key("/a");
    key.extensions.insert(spec);
    let range = ByteRange { first, last };
    let mut meta = meta(Some(range.len() as usize), "1");
    meta.response_header_mut().insert_header("etag", "\"1\"").unwrap();
    let part = KnownPart { range, complete: BODY.len() as u64 };
    meta.extensions_mut().insert(Filling { asked: Some(spec), part });
    store.get_miss_handler(&key, &meta, &span()).await.unwrap()
}

#[tokio::test]
async fn a_part_under_way_is_followed_by_who_asks_for_it_alone() {
    let store = store();
    let mut writer = begin_part(store, 2, 4).await;
    let with = |spec| {
        let mut key = key("/a");
        key.extensions.insert(spec);
        key
    };
    let same = with(Spec::From(2, Some(4)));
    assert!(store.lookup(&same, &span()).await.unwrap().is_some() && store.holds(&same));
    for other in [with(Spec::From(2, Some(3))), with(Spec::Last(3)), key("/a")] {
        assert!(store.lookup(&other, &span()).await.unwrap().is_none() && !store.holds(&other));
    }
    writer.write_body(Bytes::from_static(b"234"), true).await.unwrap();
    writer.finish().await.unwrap();
    let (meta, mut hit) = find(store, "/a").await.unwrap();
    assert_eq!((meta.headers()["content-length"].as_bytes(), meta.headers().get("content-range")), (&b"10"[..], None));
    hit.seek(3, Some(5)).unwrap();
    assert_eq!(rest(&mut hit).await.unwrap(), b"34");
    hit.seek(3, Some(6)).unwrap();
    assert!(rest(&mut hit).await.is_err(), "a byte that is not there is no end of the body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_parts_that_are_sealed_at_once_none_is_lost() {
    for _ in 0..200 {
        let store = store();
        let mut writers = Vec::new();
        for at in 0..BODY.len() {
            let mut writer = begin_part(store, at as u64, at as u64).await;
            writer.write_body(Bytes::from_static(&BODY[at..=at]), true).await.unwrap();
            writers.push(tokio::spawn(writer.finish()));
        }
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        let (_, mut hit) = find(store, "/a").await.unwrap();
        assert_eq!(rest(&mut hit).await.unwrap(), BODY);
    }
}
