//! What is at our keys and is not what was written there: a miss, counted by kind, and replaced.

use super::*;
use ::redis::{Cmd, Value, cmd};

/// An entry with a body of three pieces, whose value is then changed by `change`; the kind that is counted.
async fn is_a_miss(change: impl FnOnce(&RedisServer, &str), kind: &str) {
    let (origin, redis, body) = (Origin::start().await, RedisServer::start().await, noise(600 << 10, 1));
    origin.on("/a", lasting(&body));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let key = redis.wait_for_entries(1).await.remove(0);
    change(&redis, &key);
    let second = connected(redis.alone(&origin)).await;
    let response = second.get("/a").await;
    assert!(!response.is_hit() && response.body == body, "{kind}: {:?}", response.headers);
    assert_eq!((errors(&second, kind).await, lookups(&second, "miss").await), (1.0, 1.0), "{kind}");
    wait_for_writes(&second, "stored", 1.0).await;
    let response = first.get("/a").await;
    assert!(response.is_hit() && response.body == body, "{kind}: it was replaced");
}

/// Sends a command whose answer does not matter.
fn run(redis: &RedisServer, command: &mut Cmd) {
    redis.ask::<Value>(command);
}

/// Changes the bytes of a field.
fn edit(redis: &RedisServer, key: &str, field: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes: Vec<u8> = redis.ask(cmd("HGET").arg(key).arg(field));
    edit(&mut bytes);
    run(redis, cmd("HSET").arg(key).arg(field).arg(bytes));
}

#[tokio::test]
async fn a_missing_piece_is_a_miss() {
    is_a_miss(|redis, key| run(redis, cmd("HDEL").arg(key).arg("1")), "truncated").await;
}

#[tokio::test]
async fn a_piece_that_is_cut_short_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "2", |bytes| bytes.truncate(7)), "truncated").await;
}

#[tokio::test]
async fn a_changed_bit_of_a_piece_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "1", |bytes| bytes[77] ^= 1), "checksum").await;
}

#[tokio::test]
async fn a_changed_bit_of_the_head_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "h", |bytes| bytes[90] ^= 1), "checksum").await;
}

#[tokio::test]
async fn another_version_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "h", |bytes| bytes[8] = 99), "version").await;
}

#[tokio::test]
async fn a_head_that_is_something_else_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "h", |bytes| *bytes = b"something else".to_vec()), "foreign").await;
}

#[tokio::test]
async fn a_value_of_another_type_is_a_miss() {
    is_a_miss(|redis, key| run(redis, cmd("SET").arg(key).arg("garbage")), "foreign").await;
}

#[tokio::test]
async fn a_list_is_a_miss() {
    let list = |redis: &RedisServer, key: &str| {
        run(redis, cmd("DEL").arg(key));
        run(redis, cmd("RPUSH").arg(key).arg("a").arg("b"));
    };
    is_a_miss(list, "foreign").await;
}

#[tokio::test]
async fn somebody_elses_hash_is_a_miss() {
    let hash = |redis: &RedisServer, key: &str| {
        run(redis, cmd("DEL").arg(key));
        run(redis, cmd("HSET").arg(key).arg("name").arg("value").arg("s").arg("soon"));
    };
    is_a_miss(hash, "foreign").await;
}

#[tokio::test]
async fn a_hash_of_very_many_fields_is_a_miss() {
    let many = |redis: &RedisServer, key: &str| {
        let fill = "for i = 1, 100000 do redis.call('HSET', KEYS[1], 'x' .. i, i) end";
        run(redis, cmd("EVAL").arg(fill).arg(1).arg(key));
    };
    is_a_miss(many, "foreign").await;
}

#[tokio::test]
async fn a_hash_with_a_very_long_value_is_a_miss() {
    is_a_miss(|redis, key| edit(redis, key, "1", |bytes| bytes.resize(5 << 20, 0)), "foreign").await;
}

#[tokio::test]
async fn the_entry_of_another_key_is_a_miss() {
    let (origin, redis) = (Origin::start().await, RedisServer::start().await);
    origin.otherwise(|seen| lasting(&seen.target));
    let first = connected(redis.alone(&origin)).await;
    store(&first, "/a").await;
    let a = redis.wait_for_entries(1).await.remove(0);
    store(&first, "/b").await;
    let b = redis.wait_for_entries(2).await.into_iter().find(|key| *key != a).unwrap();
    run(&redis, cmd("RENAME").arg(&a).arg(&b));
    let second = connected(redis.alone(&origin)).await;
    let response = second.get("/b").await;
    assert_eq!((response.text(), response.is_hit()), ("/b".to_owned(), false));
    assert_eq!(errors(&second, "key").await, 1.0);
}
