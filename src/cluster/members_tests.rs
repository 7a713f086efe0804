use super::*;
use crate::cluster::log::GONE;

fn at(at: u64) -> Shared {
    Shared { epoch: 7, at: Position::from_bits(at) }
}

fn member(instance: &str, name: &str, applied: u64) -> Member {
    Member { instance: instance.into(), name: name.into(), applied: at(applied), said: 1000, age: Duration::ZERO }
}

fn verdict(applied: &[&str], missing: &[&str]) -> Verdict {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Verdict { applied: owned(applied), missing: owned(missing) }
}

#[tokio::test]
async fn who_says_that_it_is_there_is_not_waited_for() {
    let members = Members::default();
    let these = [member("1", "a", 5), member("2", "b", 3), member("3", "me", 3)];
    let waiting = members.wait_for(at(5), &these, "3", Duration::from_secs(60));
    let (told, ()) = tokio::join!(waiting, async {
        members.has_applied("2", at(4));
        members.has_applied("2", at(5));
    });
    assert_eq!(told, verdict(&["a", "b"], &[]));
}

#[tokio::test]
async fn who_says_nothing_is_named_and_one_process_of_a_name_is_not_all_of_it() {
    let members = Members::default();
    let these = [member("1", "a", 5), member("2", "a", 3), member("3", "b", 3), member("4", "c", 5)];
    members.has_applied("3", Shared { epoch: 8, at: at(9).at });
    let told = members.wait_for(at(5), &these, "me", Duration::from_millis(10)).await;
    assert_eq!(told, verdict(&["c"], &["a", "b"]));
}

#[tokio::test]
async fn who_ends_is_neither_waited_for_nor_named() {
    let members = Members::default();
    let these = [member("1", "a", 3), member("2", "b", 5)];
    let waiting = members.wait_for(at(5), &these, "me", Duration::from_secs(60));
    let (told, ()) = tokio::join!(waiting, async { members.has_left("1") });
    assert_eq!(told, verdict(&["b"], &[]));
}

#[test]
fn without_redis_all_that_were_heard_of_are_missing() {
    let members = Members::default();
    assert_eq!(members.unknown("1"), Verdict::default());
    members.heard(&[member("1", "a", 3), member("2", "b", 3)], Instant::now(), GONE);
    assert_eq!(members.unknown("1"), verdict(&[], &["b"]));
}

/// The instances that are waited for besides those that Redis names.
fn known(members: &Members) -> Vec<String> {
    members.with_known(Vec::new()).into_iter().map(|member| member.instance).collect()
}

#[test]
fn a_redis_that_has_lost_the_nodes_ends_none_of_them() {
    let (members, began) = (Members::default(), Instant::now());
    members.heard(&[member("1", "a", 3), member("2", "b", 3)], began, GONE);
    // Redis was away, and knows nobody when it is back.
    let back = began + 10 * GONE;
    members.heard(&[], back, GONE);
    assert_eq!(known(&members), ["1", "2"]);
    assert_eq!(members.with_known(vec![member("2", "b", 3), member("3", "c", 3)]).len(), 3);
    // Who says something again lives on; who does not has ended once that could have been heard for long enough.
    for second in 1..=6 {
        let again = Member { said: 1000 + second, ..member("1", "a", 3) };
        members.heard(&[again, member("2", "b", 3)], back + Duration::from_secs(second), GONE);
        let all: &[&str] = if second <= 5 { &["1", "2"] } else { &["1"] };
        assert_eq!(known(&members), all, "after {second} s");
    }
    members.has_left("1");
    assert!(known(&members).is_empty());
}

#[test]
fn who_has_left_does_not_come_back_with_a_late_heartbeat() {
    let (members, began) = (Members::default(), Instant::now());
    members.heard(&[member("1", "a", 3)], began, GONE);
    members.has_left("1");
    members.heard(&[Member { said: 1001, ..member("1", "a", 3) }], began, GONE);
    assert!(known(&members).is_empty());
}

#[test]
fn what_a_node_said_is_read() {
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    let reply = |said: &str| Reply::Array(vec![bytes("1"), bytes("250"), bytes(said)]);
    let read = Member::read(reply("1000 7 0-5 my node")).unwrap();
    assert_eq!(read, Member { age: Duration::from_millis(250), ..member("1", "my node", 5) });
    for said in ["", "1000", "1000 7 5", "1000 x 0-5 a", "1000 7 0-5"] {
        assert_eq!(Member::read(reply(said)), None, "{said}");
    }
}
