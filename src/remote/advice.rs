//! What to do about a Redis that cannot be used from the beginning.

use super::Trouble;
use crate::config::{RedisTier, RedisTopology};

/// What is wrong with `cache.redis`, as far as trying to connect tells: the key that it is about, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Such as `cache.redis.url`.
    pub key: &'static str,
    /// One sentence.
    pub message: String,
}

impl Advice {
    /// Why it cannot be connected to, in words for an operator.
    pub fn on(tier: &RedisTier, trouble: &Trouble) -> Self {
        let why = match trouble {
            Trouble::Broken(why) | Trouble::Unusable(why) | Trouble::Refused(why) | Trouble::Unexpected(why) => {
                why.clone()
            }
            Trouble::Down | Trouble::Slow(_) => trouble.to_string(),
        };
        let says = |text: &str| why.contains(text);
        let uses_tls = tier.servers.iter().any(|server| server.tls);
        let (key, what_to_do) = if says("NOAUTH") || says("WRONGPASS") || says("AuthenticationFailed") {
            (
                "cache.redis.url",
                "write the user and the password that it knows, as in `redis://user:password@host:port`",
            )
        } else if says("NOPERM") {
            ("cache.redis.url", "let the user do that in its ACL; the README lists what is needed")
        } else if says("cluster support disabled") {
            ("cache.redis.cluster", "remove `cluster`, or name nodes of a Redis Cluster in `url`")
        } else if says(IS_CLUSTER) {
            ("cache.redis.cluster", "write `cluster: true`")
        } else if says(IS_REPLICA) {
            ("cache.redis.url", "name the master, or Sentinels that know it")
        } else if says(IS_SENTINEL) {
            ("cache.redis.sentinel", "write `sentinel: { master: NAME }`")
        } else if says("MasterNameNotFoundBySentinel") {
            ("cache.redis.sentinel.master", "write the name that the Sentinels monitor it by")
        } else if says("not point to a sentinel") {
            ("cache.redis.url", "name Sentinels there, on port 26379 as a rule, or remove `sentinel`")
        } else if says("DB index") {
            ("cache.redis.url", "choose a smaller number for the database")
        } else if says("NOPROTO") || says("unknown command") {
            ("cache.redis.url", "use Redis 6.2 or newer, or Valkey")
        } else if says("certificate") {
            (
                "cache.redis.tls",
                "name the authority of its certificate in `ca`, and our own in `cert` and `key` if it wants one",
            )
        } else if uses_tls {
            ("cache.redis.url", "see that it runs there and speaks TLS on that port")
        } else {
            ("cache.redis.url", "see that Redis runs there and that its port is open to this machine")
        };
        let what = match tier.topology {
            RedisTopology::Sentinel { .. } => "the master cannot be reached",
            RedisTopology::Standalone | RedisTopology::Cluster => "cannot be used",
        };
        Advice { key, message: format!("`{tier}`: {what}: {}; {what_to_do}", why.trim_end_matches('.')) }
    }
}

/// Said of a server that is more than the configuration says.
pub(super) const IS_CLUSTER: &str = "it is a node of a Redis Cluster";

/// The same of one that answers for others.
pub(super) const IS_SENTINEL: &str = "it is a Sentinel";

/// The same of one that copies another one, and takes nothing itself.
pub(super) const IS_REPLICA: &str = "it is a replica";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RedisLogin, RedisServer};
    use std::time::Duration;

    fn told(topology: RedisTopology, trouble: Trouble) -> Advice {
        let login = RedisLogin { username: None, password: Some("hunter2".to_owned()) };
        let server = RedisServer { host: "a".to_owned(), port: 1, socket: None, tls: false, login, database: 0 };
        let tier = RedisTier {
            servers: vec![server],
            topology,
            tls: None,
            prefix: String::new(),
            max_object: 1,
            timeout: Duration::from_millis(50),
            promote_after: 1,
        };
        Advice::on(&tier, &trouble)
    }

    #[test]
    fn what_is_wrong_is_said_with_the_key_that_says_otherwise() {
        let refused = |why: &str| told(RedisTopology::Standalone, Trouble::Refused(why.to_owned()));
        for (why, key) in [
            ("WRONGPASS invalid username-password pair", "cache.redis.url"),
            ("ERR This instance has cluster support disabled", "cache.redis.cluster"),
            (IS_CLUSTER, "cache.redis.cluster"),
            (IS_REPLICA, "cache.redis.url"),
            (IS_SENTINEL, "cache.redis.sentinel"),
            ("Master with given name not found - MasterNameNotFoundBySentinel", "cache.redis.sentinel.master"),
            ("invalid peer certificate: UnknownIssuer", "cache.redis.tls"),
            ("Connection refused (os error 111)", "cache.redis.url"),
        ] {
            let advice = refused(why);
            assert_eq!(advice.key, key, "{why}");
            assert!(advice.message.contains(why) && advice.message.contains("`redis://a:1`"), "{advice:?}");
            assert!(!advice.message.contains("hunter2"), "{advice:?}");
        }
    }

    #[test]
    fn whatever_is_no_answer_is_said_as_it_is() {
        let login = RedisLogin::default();
        let sentinel = RedisTopology::Sentinel { master: "m".to_owned(), login };
        assert_eq!(
            told(sentinel, Trouble::Slow(Duration::from_secs(2))).message,
            "`redis://a:1 (Sentinels of `m`)`: the master cannot be reached: Redis did not answer within 2s; see that Redis runs \
             there and that its port is open to this machine"
        );
    }
}
