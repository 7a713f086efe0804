//! What the scripts let be stored, and what not, by themselves: each case is a moment between nodes.

use crate::support::RedisServer;
use ::redis::{Cmd, FromRedisValue, RedisResult, Value};

const LOOKUP: &str = include_str!("../../../src/store/redis/lookup.lua");
const STORE: &str = include_str!("../../../src/store/redis/store.lua");
const REMOVE: &str = include_str!("../../../src/store/redis/remove.lua");
const GIVE_WAY: &str = include_str!("../../../src/store/redis/give_way.lua");

const ENTRY: &str = "e:{1}";
const LEASE: &str = "l:{1}";

/// An hour, in milliseconds.
const HOUR: &str = "3600000";

/// How long it is remembered what was forgotten, in milliseconds.
const REMEMBERED: &str = "60000";

/// A server, and what nodes do there.
struct At(RedisServer);

impl At {
    async fn new() -> Self {
        At(RedisServer::start().await)
    }

    fn try_run<T: FromRedisValue>(&self, script: &str, keys: &[&str], args: &[&str]) -> RedisResult<T> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script).arg(keys.len()).arg(keys).arg(args);
        self.0.try_ask(&command)
    }

    fn run<T: FromRedisValue>(&self, script: &str, keys: &[&str], args: &[&str]) -> T {
        self.try_run(script, keys, args).expect("a script that runs")
    }

    /// Looks it up, with a lease or without; says when that was, and the token.
    fn look(&self, node: &str) -> (String, Option<String>) {
        let answer: Vec<Value> = self.run(LOOKUP, &[ENTRY, LEASE], &[node, "1500", "", "9", "999999"]);
        let text = |at: usize| answer.get(at).and_then(|value| String::from_redis_value(value.clone()).ok());
        (text(1).expect("a moment"), (text(0).as_deref() == Some("lease")).then(|| text(3).expect("a token")))
    }

    fn asked(&self) -> String {
        self.look("").0
    }

    fn lease(&self, node: &str) -> String {
        self.look(node).1.expect("a lease")
    }

    fn try_store(&self, asked: &str, lasts: &str, replaces: &str, body: &str) -> RedisResult<String> {
        let args = [asked, lasts, REMEMBERED, "fills", "1", replaces, "0", "h", "head", "0", body];
        self.try_run(STORE, &[ENTRY, LEASE, "t:{1}"], &args)
    }

    fn store(&self, asked: &str, body: &str) -> String {
        self.try_store(asked, HOUR, "", body).expect("a script that runs")
    }

    fn forget(&self) -> i64 {
        self.run(REMOVE, &[ENTRY, LEASE], &[REMEMBERED, "fills", "1"])
    }

    fn give_way(&self, asked: &str) -> i64 {
        self.run(GIVE_WAY, &[ENTRY], &[asked, REMEMBERED])
    }

    fn body(&self) -> Option<String> {
        self.0.ask(::redis::cmd("HGET").arg(ENTRY).arg("0"))
    }

    fn stamp(&self) -> Option<String> {
        self.0.ask(::redis::cmd("HGET").arg(ENTRY).arg("s"))
    }

    fn lasts(&self) -> i64 {
        self.0.ask(::redis::cmd("PTTL").arg(ENTRY))
    }

    /// So many microseconds ago.
    fn ago(&self, micros: u64) -> String {
        (self.asked().parse::<u64>().unwrap() - micros).to_string()
    }
}

#[tokio::test]
async fn what_was_asked_for_before_it_was_forgotten_is_not_stored() {
    let at = At::new().await;
    let asked = at.asked();
    at.forget();
    assert_eq!(at.store(&asked, "old"), "outdated");
    assert_eq!(at.body(), None);
    assert_eq!(at.store(&at.asked(), "new"), "stored");
    assert_eq!(at.body().as_deref(), Some("new"));
}

#[tokio::test]
async fn what_was_asked_for_before_something_newer_was_stored_is_not_stored() {
    let at = At::new().await;
    let (first, second) = (at.asked(), at.asked());
    assert_eq!(at.store(&second, "second"), "stored");
    assert_eq!(at.store(&first, "first"), "outdated");
    assert_eq!(at.body().as_deref(), Some("second"));
}

#[tokio::test]
async fn what_nobody_knows_when_it_was_asked_for_takes_the_place_of_nothing() {
    let at = At::new().await;
    assert_eq!(at.store("", "first"), "stored");
    assert_eq!(at.store("", "second"), "outdated");
    at.forget();
    assert_eq!(at.store("", "third"), "outdated");
    assert_eq!(at.body(), None);
}

#[tokio::test]
async fn what_was_asked_for_longer_ago_than_is_remembered_is_not_stored() {
    let at = At::new().await;
    assert_eq!(at.store(&at.ago(61_000_000), "old"), "outdated");
    assert_eq!(at.store(&at.ago(30_000_000), "recent"), "stored");
}

#[tokio::test]
async fn the_token_of_a_lease_that_was_given_back_still_tells_what_is_newer() {
    let at = At::new().await;
    let token = at.lease("a");
    let _: i64 = at.0.say(&format!("DEL {LEASE}"));
    at.forget();
    assert_eq!(at.store(&token, "old"), "outdated");
    let token = at.lease("a");
    let _: i64 = at.0.say(&format!("DEL {LEASE}"));
    assert_eq!(at.store(&token, "new"), "stored");
}

#[tokio::test]
async fn while_a_node_has_the_lease_no_other_one_stores() {
    let at = At::new().await;
    let token = at.lease("a");
    assert_eq!(at.store(&at.asked(), "other"), "outdated");
    assert_eq!(at.store("", "other"), "outdated");
    assert_eq!(at.store(&token, "own"), "stored");
    assert_eq!(at.body().as_deref(), Some("own"));
}

#[tokio::test]
async fn a_new_head_goes_on_the_entry_that_it_is_for_alone() {
    let at = At::new().await;
    at.store(&at.asked(), "body");
    let before = at.stamp().unwrap();
    assert_eq!(at.try_store(&at.asked(), HOUR, &before, "renewed").unwrap(), "stored");
    let after = at.stamp().unwrap();
    assert!(after > before, "{before} {after}");
    assert_eq!(at.try_store(&at.asked(), HOUR, &before, "other").unwrap(), "changed");
    assert_eq!((at.body().as_deref(), at.stamp()), (Some("renewed"), Some(after)));
}

#[tokio::test]
async fn what_gives_way_leaves_its_stamp() {
    let at = At::new().await;
    let asked = at.asked();
    at.store(&at.asked(), "body");
    let stamp = at.stamp();
    assert_eq!(at.give_way(&at.asked()), 1);
    assert_eq!((at.body(), at.stamp()), (None, stamp));
    assert!((50_000..=60_000).contains(&at.lasts()), "{}", at.lasts());
    assert_eq!(at.store(&asked, "old"), "outdated");
}

#[tokio::test]
async fn what_was_forgotten_or_is_newer_does_not_give_way() {
    let at = At::new().await;
    let asked = at.asked();
    let token = at.lease("b");
    at.forget();
    let stamp = at.stamp();
    assert_eq!(at.give_way(&at.asked()), 0);
    assert_eq!(at.stamp(), stamp);
    assert_eq!(at.store(&token, "from before"), "outdated");
    at.store(&at.asked(), "new");
    assert_eq!(at.give_way(&asked), 0);
    assert_eq!(at.body().as_deref(), Some("new"));
}

#[tokio::test]
async fn a_stamp_is_remembered_for_as_long_as_that_of_what_it_takes_the_place_of() {
    let at = At::new().await;
    let asked = at.asked();
    at.forget();
    assert_eq!(at.try_store(&at.asked(), "1", "", "short").unwrap(), "stored");
    assert!(at.lasts() > 50_000, "{}", at.lasts());
    assert_eq!(at.store(&asked, "old"), "outdated");
    let _: i64 = at.0.say(&format!("DEL {ENTRY}"));
    at.try_store(&at.asked(), "5000", "", "first").unwrap();
    assert!(at.lasts() <= 5000, "{}", at.lasts());
}

#[tokio::test]
async fn a_lease_that_none_of_us_took_ends_as_ours_do() {
    let at = At::new().await;
    let _: i64 = at.0.say(&format!("HSET {LEASE} t 5 n somebody"));
    let _: i64 = at.0.say(&format!("PEXPIRE {LEASE} 86400000"));
    assert_eq!(at.look("a").1, None);
    let left: i64 = at.0.say(&format!("PTTL {LEASE}"));
    assert!((0..=1500).contains(&left), "{left}");
}

#[tokio::test]
async fn without_memory_nothing_is_stored_and_what_is_there_stays_and_can_be_forgotten() {
    let at = At(RedisServer::with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await);
    assert_eq!(at.store(&at.asked(), "old"), "stored");
    let body = "x".repeat(200_000);
    let mut refused = 0;
    for number in 0..40 {
        let (entry, lease, aside) =
            (format!("e:{{{number}x}}"), format!("l:{{{number}x}}"), format!("t:{{{number}x}}"));
        let asked = at.asked();
        let args = [&asked, HOUR, REMEMBERED, "fills", "1", "", "0", "h", "head", "0", &body];
        match at.try_run::<String>(STORE, &[&entry, &lease, &aside], &args) {
            Ok(result) => assert_eq!(result, "stored"),
            Err(e) => {
                assert_eq!(e.code(), Some("OOM"), "{e}");
                refused += 1;
            }
        }
    }
    let info: String = at.0.say("INFO memory");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse::<u64>().unwrap();
    assert!(refused > 20 && used < 5 << 20, "{refused} {used}");
    // Now there is no room for something short either.
    at.0.say::<Value>("CONFIG SET maxmemory 1mb");
    assert_eq!(at.try_store(&at.asked(), HOUR, "", "new").unwrap_err().code(), Some("OOM"));
    let stamp = at.stamp().unwrap();
    assert_eq!(at.try_store(&at.asked(), HOUR, &stamp, "new").unwrap_err().code(), Some("OOM"));
    assert_eq!(at.body().as_deref(), Some("old"));
    let asked = at.asked();
    assert!(at.forget() > 0);
    assert_eq!(at.body(), None);
    assert!(at.stamp().is_some_and(|stamp| stamp > asked) && at.lasts() > 50_000);
}
