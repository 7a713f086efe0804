//! Each outcome as `Cache-Status` tells it.

use super::*;

#[test]
fn a_hit_says_its_ttl_and_tier() {
    let account = Account { ttl: Some(55), ..Account::default() };
    assert_eq!(cache_status(&Outcome::Hit(TierName::Memory), &account), "tidegate; hit; ttl=55; detail=\"memory\"");
}

#[test]
fn a_stored_and_shared_miss_says_so() {
    let account = Account { forward_status: Some(200), stored: true, collapsed: true, ..Account::default() };
    assert_eq!(
        cache_status(&Outcome::Miss(ForwardReason::UriMiss), &account),
        "tidegate; fwd=uri-miss; fwd-status=200; stored; collapsed"
    );
}

#[test]
fn a_bypass_gives_the_policys_word_as_a_valid_string() {
    let outcome = Outcome::Bypass(BypassReason::Policy("say \"no\" ü".into()));
    assert_eq!(cache_status(&outcome, &Account::default()), "tidegate; fwd=bypass; detail=\"say \\\"no\\\" ?\"");
}

#[test]
fn a_stale_answer_after_an_error_went_forward() {
    let account = Account { ttl: Some(-5), forward_status: Some(503), ..Account::default() };
    assert_eq!(
        cache_status(&Outcome::Stale(TierName::Memory, StaleReason::IfError(503)), &account),
        "tidegate; fwd=stale; fwd-status=503; ttl=-5; detail=\"stale-if-error\""
    );
}

#[test]
fn every_outcome_has_its_account() {
    let account = Account { ttl: Some(3), forward_status: Some(200), ..Account::default() };
    let memory = TierName::Memory;
    for (outcome, field, label) in [
        (Outcome::Hit(memory), "hit; ttl=3; detail=\"memory\"", "hit"),
        (
            Outcome::Stale(memory, StaleReason::WhileRevalidate),
            "hit; ttl=3; detail=\"stale-while-revalidate\"",
            "stale",
        ),
        (Outcome::Stale(memory, StaleReason::MaxStale), "hit; ttl=3; detail=\"max-stale\"", "stale"),
        (Outcome::Stale(memory, StaleReason::Disconnected), "fwd=stale; ttl=3; detail=\"disconnected\"", "stale"),
        (Outcome::Revalidated(ForwardReason::Request), "fwd=request; fwd-status=200; ttl=3", "revalidated"),
        (Outcome::Miss(ForwardReason::VaryMiss), "fwd=vary-miss; fwd-status=200; ttl=3", "miss"),
        (Outcome::Miss(ForwardReason::Partial), "fwd=partial; fwd-status=200; ttl=3", "miss"),
        (Outcome::Collapsed, "fwd=uri-miss; ttl=3; collapsed", "collapsed"),
        (Outcome::Bypass(BypassReason::Method), "fwd=method; fwd-status=200; ttl=3", "bypass"),
        (Outcome::Bypass(BypassReason::Upgrade), "fwd=bypass; fwd-status=200; ttl=3; detail=\"upgrade\"", "bypass"),
    ] {
        assert_eq!(cache_status(&outcome, &account), format!("tidegate; {field}"));
        assert_eq!(outcome.as_str(), label);
    }
    let refused = Outcome::Error(Fault::NoBucket);
    assert_eq!(cache_status(&refused, &Account::default()), "tidegate; detail=\"no-bucket\"");
}

#[test]
fn a_word_of_the_account_replaces_the_tiers_but_not_a_bypasss() {
    let account = Account { detail: Some("policy-error:time".into()), ..Account::default() };
    assert_eq!(cache_status(&Outcome::Hit(TierName::Memory), &account), "tidegate; hit; detail=\"policy-error:time\"");
    let bypass = Outcome::Bypass(BypassReason::Policy("mine".into()));
    assert_eq!(cache_status(&bypass, &account), "tidegate; fwd=bypass; detail=\"mine\"");
}

#[test]
fn a_miss_says_which_tier_could_not_be_asked() {
    let account = Account { unavailable: Some(TierName::Disk), stored: true, ..Account::default() };
    let unavailable = "detail=\"disk-unavailable\"";
    for (outcome, field) in [
        (Outcome::Miss(ForwardReason::UriMiss), "fwd=uri-miss; stored"),
        (Outcome::Revalidated(ForwardReason::Stale), "fwd=stale; stored"),
    ] {
        assert_eq!(cache_status(&outcome, &account), format!("tidegate; {field}; {unavailable}"));
    }
    let followed = Account { stored: false, ..account };
    assert_eq!(
        cache_status(&Outcome::Collapsed, &followed),
        format!("tidegate; fwd=uri-miss; collapsed; {unavailable}")
    );
}

#[test]
fn a_tier_that_could_not_be_asked_takes_no_other_words_place() {
    let account = Account { unavailable: Some(TierName::Disk), ..Account::default() };
    for (outcome, field) in [
        (Outcome::Hit(TierName::Redis), "hit; detail=\"redis\""),
        (Outcome::Stale(TierName::Redis, StaleReason::MaxStale), "hit; detail=\"max-stale\""),
        (Outcome::Bypass(BypassReason::Upgrade), "fwd=bypass; detail=\"upgrade\""),
        (Outcome::Error(Fault::OnlyIfCached), "detail=\"only-if-cached\""),
    ] {
        assert_eq!(cache_status(&outcome, &account), format!("tidegate; {field}"));
    }
    let not_stored = Account { detail: Some("no-store".into()), ..account };
    let miss = Outcome::Miss(ForwardReason::UriMiss);
    assert_eq!(cache_status(&miss, &not_stored), "tidegate; fwd=uri-miss; detail=\"no-store\"");
}

#[test]
fn a_hit_names_the_disk_as_it_names_memory() {
    assert_eq!(cache_status(&Outcome::Hit(TierName::Disk), &Account::default()), "tidegate; hit; detail=\"disk\"");
}
