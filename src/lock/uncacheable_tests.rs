use super::*;
use crate::decide::NotStored;
use crate::semantics::storable::NotStorable;

fn key(path: &str, tag: &str) -> CacheKey {
    CacheKey::new(path, tag)
}

fn remembered(reason: NoCacheReason) -> bool {
    let uncacheable = Uncacheable::new(NotStored::is_passing);
    uncacheable.mark_uncacheable(&key("/a", ""), reason);
    !uncacheable.cacheable_prediction(&key("/a", ""))
}

#[test]
fn what_is_not_known_is_worth_waiting_for() {
    assert!(Uncacheable::new(NotStored::is_passing).cacheable_prediction(&key("/a", "")));
}

#[test]
fn a_key_is_remembered_and_forgotten() {
    let uncacheable = Uncacheable::new(NotStored::is_passing);
    uncacheable.mark_uncacheable(&key("/a", ""), NoCacheReason::ResponseTooLarge);
    assert!(!uncacheable.cacheable_prediction(&key("/a", "")));
    assert!(uncacheable.cacheable_prediction(&key("/b", "")));
    uncacheable.mark_cacheable(&key("/a", ""));
    assert!(uncacheable.cacheable_prediction(&key("/a", "")));
}

#[test]
fn requests_with_and_without_authorization_are_remembered_apart() {
    for (marked, other) in [(AUTHORIZED, ""), ("", AUTHORIZED)] {
        let uncacheable = Uncacheable::new(NotStored::is_passing);
        uncacheable.mark_uncacheable(&key("/a", marked), NoCacheReason::Custom("private"));
        assert!(!uncacheable.cacheable_prediction(&key("/a", marked)));
        assert!(uncacheable.cacheable_prediction(&key("/a", other)));
        uncacheable.mark_cacheable(&key("/a", other));
        assert!(!uncacheable.cacheable_prediction(&key("/a", marked)));
    }
}

#[test]
fn what_holds_for_the_response_is_remembered() {
    for rule in [NotStorable::NoStore, NotStorable::Private, NotStorable::VaryStar, NotStorable::NoFreshness] {
        assert!(remembered(NoCacheReason::Custom(rule.as_str())), "{rule:?}");
    }
    assert!(remembered(NoCacheReason::Custom("policy")));
    assert!(remembered(NoCacheReason::ResponseTooLarge));
}

#[test]
fn what_may_be_otherwise_next_time_is_not_remembered() {
    for rule in [NotStorable::RequestNoStore, NotStorable::Method, NotStorable::Interim, NotStorable::NotModified] {
        assert!(!remembered(NoCacheReason::Custom(rule.as_str())), "{rule:?}");
    }
    for reason in ["policy-error", "server-error"] {
        assert!(!remembered(NoCacheReason::Custom(reason)), "{reason}");
    }
}
