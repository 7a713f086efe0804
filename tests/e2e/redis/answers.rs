//! What the tier answers to a question about one key, asked in this process: entries, leases, and who has them.

use super::*;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};
use tidegate::config::{RedisLogin, RedisServer as Address, RedisTier as Settings, RedisTopology};
use tidegate::decide::Facts;
use tidegate::purge::{Position, Purges, Shared};
use tidegate::remote::{Channel, Event, Redis};
use tidegate::semantics::freshness::Freshness;
use tidegate::store::entry::{Entry, EntryId, StoredHead};
use tidegate::store::redis::{Answer, Lease, Outcome, PutAs, Question, RedisTier};
use tidegate::store::tier::WriteResult;

const ID: EntryId = EntryId { primary: 0xab, variant: None };
const E: &str = "tidegate:e:{000000000000000000000000000000ab}";
const L: &str = "tidegate:l:{000000000000000000000000000000ab}";
const KEY: &[u8] = b"key";

/// A log of purges, with nothing in it.
const LOG: Shared = Shared { epoch: 1, at: Position::BEGINNING };

/// A node, as far as Redis goes.
async fn node(redis: &RedisServer) -> &'static RedisTier {
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: redis.port(),
        socket: None,
        tls: false,
        login: RedisLogin::default(),
        database: 0,
    };
    let settings = Settings {
        servers: vec![address],
        topology: RedisTopology::Standalone,
        tls: None,
        prefix: "tidegate:".to_owned(),
        max_object: 8 << 20,
        timeout: Duration::from_secs(2),
        promote_after: 1,
    };
    let connection = Redis::new(&settings).unwrap();
    let purges = Arc::new(Purges::new(SystemTime::UNIX_EPOCH, false));
    purges.shared().begin(LOG.epoch, LOG.at);
    purges.shared().is_complete(purges.shared().read_until(), Instant::now(), Duration::from_secs(3600));
    let tier = RedisTier::new(connection, &settings, purges);
    connection.start();
    eventually("a connection", async || connection.is_up().then_some(())).await;
    tier
}

fn entry(body: impl AsRef<[u8]>) -> Arc<Entry> {
    let head = StoredHead::from_parts(ResponseHeader::build(200, None).unwrap(), SystemTime::UNIX_EPOCH, None);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let facts = Facts { shared: LOG, ..Facts::of(Freshness::of_max_age(Duration::from_secs(3600), now)) };
    Arc::new(Entry::new(KEY.into(), Arc::new(head), Bytes::copy_from_slice(body.as_ref()), Arc::new(facts)))
}

async fn put(tier: &'static RedisTier, body: impl AsRef<[u8]>, lease: Option<Lease>) -> WriteResult {
    let (done, result) = mpsc::channel();
    let grounds = match lease {
        Some(lease) => PutAs::Lease(lease),
        None => {
            // As a request does before it goes to the origin.
            ask(tier, None, None).await;
            PutAs::asked_at(tier.asked_at(ID.primary))
        }
    };
    tier.put(ID, entry(body), grounds, || true, move |result| done.send(result).unwrap());
    eventually("the end of a write", async || result.try_recv().ok()).await
}

async fn ask(tier: &'static RedisTier, lease: Option<&str>, seen: Option<u64>) -> Answer {
    tier.ask(&ID, KEY, Question { lease, seen }).await
}

/// The entry that is found, as text, and its stamp.
async fn found(tier: &'static RedisTier) -> (String, u64) {
    match ask(tier, None, None).await {
        Answer::Entry(found, stamp) => {
            let body = found.entry.body.at(0, u64::MAX).unwrap_or_default();
            (String::from_utf8(body.to_vec()).unwrap(), stamp)
        }
        other => panic!("{other:?}"),
    }
}

async fn lease(tier: &'static RedisTier, name: &str) -> Lease {
    match ask(tier, Some(name), None).await {
        Answer::Lease(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_all_who_ask_for_what_is_not_there_one_gets_the_lease() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    assert!(matches!(ask(one, None, None).await, Answer::Miss));
    let first = lease(one, "one").await;
    match ask(two, Some("two"), None).await {
        Answer::Held { holder, left } => {
            assert_eq!(holder, "one");
            assert!(left > Duration::from_millis(500) && left <= Duration::from_millis(1500), "{left:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(one.renew(&first).await.unwrap());
    assert_eq!(put(one, "a", Some(first)).await, WriteResult::Stored);
    let (body, stamp) = found(two).await;
    assert_eq!(body, "a");
    assert!(!redis.say::<bool>(&format!("EXISTS {L}")), "the lease is gone");
    // Whoever has seen it, and wants another one, fetches that.
    assert!(matches!(ask(two, Some("two"), Some(stamp)).await, Answer::Lease(_)));
    assert!(matches!(ask(one, Some("one"), None).await, Answer::Entry(_, again) if again == stamp));
}

#[tokio::test]
async fn whoever_waits_is_told_what_came_of_it() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    let mut heard = two.redis().listen();
    let mut next = async || loop {
        if let Event::Message(Channel::Fills, message) = heard.next().await {
            return String::from_utf8(message.to_vec()).unwrap();
        }
    };
    let outcomes = [Outcome::Unshared, Outcome::Uncacheable, Outcome::Failed];
    for outcome in outcomes {
        let first = lease(one, "one").await;
        assert!(matches!(ask(two, Some("two"), None).await, Answer::Held { .. }));
        one.release(first, outcome).await;
        assert_eq!(next().await, format!("{} 000000000000000000000000000000ab", outcome.as_str()));
    }
    let first = lease(one, "one").await;
    assert!(matches!(ask(two, Some("two"), None).await, Answer::Held { .. }));
    assert_eq!(put(one, "a", Some(first)).await, WriteResult::Stored);
    assert_eq!(next().await, "stored 000000000000000000000000000000ab");
}

#[tokio::test]
async fn a_lease_that_lapsed_stores_nothing_over_what_came_later() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    let first = lease(one, "one").await;
    redis.say::<i64>(&format!("DEL {L}"));
    assert!(!one.renew(&first).await.unwrap());
    let second = lease(two, "two").await;
    assert_eq!(put(one, "late", Some(first)).await, WriteResult::Outdated);
    assert_eq!(put(two, "new", Some(second)).await, WriteResult::Stored);
    assert_eq!(found(one).await.0, "new");
}

#[tokio::test]
async fn nobody_stores_while_another_one_fetches() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    let first = lease(one, "one").await;
    assert_eq!(put(two, "without", None).await, WriteResult::Outdated);
    assert_eq!(put(one, "with", Some(first)).await, WriteResult::Stored);
    assert_eq!(found(two).await.0, "with");
    assert_eq!(put(two, "without", None).await, WriteResult::Stored);
    assert_eq!(found(one).await.0, "without");
}

#[tokio::test]
async fn what_was_fetched_before_it_was_forgotten_is_not_stored() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    assert_eq!(put(one, "old", None).await, WriteResult::Stored);
    let stamp = found(one).await.1;
    let Answer::Lease(first) = ask(one, Some("one"), Some(stamp)).await else { panic!("no lease") };
    two.remove(&ID);
    eventually("it to be gone", async || matches!(ask(one, None, None).await, Answer::Miss).then_some(())).await;
    assert_eq!(put(one, "too late", Some(first)).await, WriteResult::Outdated);
    assert!(matches!(ask(two, None, None).await, Answer::Miss));
    let next = lease(two, "two").await;
    assert_eq!(put(two, "new", Some(next)).await, WriteResult::Stored);
    assert_eq!(found(one).await.0, "new");
}

#[tokio::test]
async fn whatever_is_at_our_keys_is_replaced_and_counted() {
    let redis = RedisServer::start().await;
    let one = node(&redis).await;
    let foreign = one.metrics().error("foreign");
    for (number, strange) in ["SET", "LPUSH", "SADD", "HSET x"].into_iter().enumerate() {
        for key in [E, L] {
            let (command, field) = strange.split_once(' ').unwrap_or((strange, ""));
            let field = if field.is_empty() { String::new() } else { format!("{field} ") };
            redis.say::<i64>(&format!("DEL {key}"));
            redis.say::<::redis::Value>(&format!("{command} {key} {field}1"));
        }
        let before = foreign.get();
        assert!(matches!(ask(one, None, None).await, Answer::Miss), "{strange}");
        assert!(foreign.get() > before, "{strange}");
        let first = lease(one, "one").await;
        let body = number.to_string();
        assert_eq!(put(one, &body, Some(first)).await, WriteResult::Stored, "{strange}");
        assert_eq!(found(one).await.0, body);
    }
}

#[tokio::test]
async fn pieces_that_are_refused_in_the_end_are_not_left_behind() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    let first = lease(one, "one").await;
    assert_eq!(put(two, noise(3 << 20, 1), None).await, WriteResult::Outdated);
    assert_eq!(redis.keys("*"), [L]);
    assert_eq!(put(one, noise(3 << 20, 1), Some(first)).await, WriteResult::Stored);
    assert_eq!(redis.keys("*"), [E]);
}

#[tokio::test]
async fn more_than_may_be_on_its_way_is_dropped() {
    let redis = RedisServer::start().await;
    let one = node(&redis).await;
    let long = entry(noise(7 << 20, 1));
    let (done, results) = mpsc::channel();
    // Not for long: it is not to be found out.
    redis.pause();
    for number in 0..8 {
        let (id, done) = (EntryId { primary: number, variant: None }, done.clone());
        one.put(id, long.clone(), PutAs::Unknown, || true, move |result| done.send(result).unwrap());
    }
    // Four of them are 28 MiB.
    let dropped: Vec<WriteResult> = results.try_iter().collect();
    assert_eq!(dropped, [WriteResult::Dropped; 4]);
    redis.resume();
    let mut stored = Vec::new();
    eventually("the others to be stored", async || {
        stored.extend(results.try_iter());
        (stored.len() == 4).then_some(())
    })
    .await;
    assert_eq!(stored, [WriteResult::Stored; 4]);
    assert_eq!(redis.entries().len(), 4);
}

#[tokio::test]
async fn what_is_not_wanted_any_more_when_it_has_its_turn_is_not_stored() {
    let redis = RedisServer::start().await;
    let one = node(&redis).await;
    let (done, result) = mpsc::channel();
    one.put(ID, entry("a"), PutAs::Unknown, || false, move |result| done.send(result).unwrap());
    assert_eq!(eventually("the end", async || result.try_recv().ok()).await, WriteResult::Outdated);
    assert!(matches!(ask(one, None, None).await, Answer::Miss));
}

#[tokio::test]
async fn the_latest_of_many_changes_of_one_entry_is_what_stays() {
    let redis = RedisServer::start().await;
    let (one, two) = (node(&redis).await, node(&redis).await);
    for round in 0..50 {
        for number in 0..20 {
            let body = format!("{round}.{number}");
            // Each was asked for after all that comes before it was done.
            let asked = PutAs::Asked(4_000_000_000_000_000 + (round * 20 + number) * 1000);
            one.put(ID, entry(body), asked, || true, drop);
            if number % 7 == 3 {
                one.remove(&ID);
            }
        }
        let latest = format!("{round}.19");
        assert_eq!(found(one).await.0, latest, "it is found before it is there");
        eventually("it to be there", async || match ask(two, None, None).await {
            Answer::Entry(found, _) => (found.entry.body.at(0, 99).unwrap() == latest.as_bytes()).then_some(()),
            _ => None,
        })
        .await;
    }
}
