//! Many requests for what is not there yet: one fill, and nobody left behind.

use crate::support::{Ending, Gate, Origin, Proxy, Reply, Response};
use tokio::task::JoinHandle;

/// One client whose request has reached the origin, and `n` that wait for its fill.
async fn leader_and_followers(
    origin: &Origin,
    proxy: &Proxy,
    n: usize,
) -> (JoinHandle<Response>, Vec<JoinHandle<Response>>) {
    let leader = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    let followers = (0..n).map(|_| proxy.get("/a").spawn()).collect();
    proxy.wait_for_waiters(n).await;
    (leader, followers)
}

#[tokio::test]
async fn three_hundred_clients_on_a_cold_key_cost_one_origin_request() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let body = "0123456789".repeat(2000);
    origin.on("/a", Reply::fresh(&body).after(&gate));
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 299).await;
    gate.open();
    for client in followers.into_iter().chain([leader]) {
        let response = client.await.unwrap();
        assert_eq!((response.status, response.ending), (200, Ending::Clean));
        assert!(response.text() == body, "{} bytes of {}", response.body.len(), body.len());
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_follower_says_that_it_was_collapsed() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("a").after(&gate));
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 1).await;
    gate.open();
    assert!(!leader.await.unwrap().cache_status().collapsed);
    for follower in followers {
        let status = follower.await.unwrap().cache_status();
        assert!(status.collapsed, "{status:?}");
    }
}

#[tokio::test]
async fn followers_receive_bytes_while_the_fill_runs_late_ones_from_the_first() {
    let origin = Origin::start().await;
    let (first, second) = (Gate::closed(), Gate::closed());
    origin.on("/a", Reply::fresh("one ").hold(&first).piece("two ").hold(&second).piece("three"));
    let proxy = Proxy::plain(&origin).await;
    let mut early = vec![proxy.get("/a").open().await, proxy.get("/a").open().await];
    for reader in &mut early {
        reader.read_until("one ").await;
    }
    first.open();
    for reader in &mut early {
        reader.read_until("two ").await;
    }
    let mut late = proxy.get("/a").open().await;
    late.read_until("one two ").await;
    second.open();
    for reader in early.into_iter().chain([late]) {
        assert_eq!(reader.rest().await.text(), "one two three");
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn different_keys_do_not_wait_for_each_other() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("a").after(&gate));
    origin.on("/b", Reply::fresh("b"));
    let proxy = Proxy::plain(&origin).await;
    let slow = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_eq!(proxy.get("/b").await.text(), "b");
    gate.open();
    assert_eq!(slow.await.unwrap().text(), "a");
}

#[tokio::test]
async fn a_leader_that_leaves_before_the_head_does_not_take_the_fill_along() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("whole").after(&gate));
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 3).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.open();
    for follower in followers {
        let response = follower.await.unwrap();
        assert_eq!((response.status, response.text().as_str(), response.ending), (200, "whole", Ending::Clean));
    }
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_leader_that_leaves_midway_does_not_take_the_fill_along() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("first ").hold(&gate).piece("second"));
    let proxy = Proxy::plain(&origin).await;
    let mut leader = proxy.get("/a").open().await;
    leader.read_until("first ").await;
    let mut follower = proxy.get("/a").open().await;
    follower.read_until("first ").await;
    leader.hang_up();
    gate.open();
    let response = follower.rest().await;
    assert_eq!((response.text().as_str(), response.ending), ("first second", Ending::Clean));
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn a_follower_that_leaves_disturbs_nobody() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("first ").hold(&gate).piece("second"));
    let proxy = Proxy::plain(&origin).await;
    let mut leader = proxy.get("/a").open().await;
    leader.read_until("first ").await;
    let mut follower = proxy.get("/a").open().await;
    follower.read_until("first ").await;
    follower.hang_up();
    gate.open();
    assert_eq!(leader.rest().await.text(), "first second");
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn an_uncacheable_answer_sends_the_followers_on_their_own() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let private = || Reply::ok("private").header("cache-control", "no-store");
    origin.on_each("/a", [private().after(&gate), private()]);
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 3).await;
    gate.open();
    for client in followers.into_iter().chain([leader]) {
        let response = client.await.unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "private"));
    }
    assert_eq!(origin.count("/a"), 4);
}

#[tokio::test]
async fn a_key_known_to_be_uncacheable_does_not_queue() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let private = || Reply::ok("private").header("cache-control", "no-store");
    origin.on_each("/a", [private(), private().after(&gate)]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let clients: Vec<_> = (0..5).map(|_| proxy.get("/a").spawn()).collect();
    // The gate is closed: five requests get this far only if none waits for another.
    origin.wait_for_requests("/a", 6).await;
    gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap().text(), "private");
    }
}

#[tokio::test]
async fn a_key_that_becomes_cacheable_again_is_cached_again() {
    let origin = Origin::start().await;
    let private = Reply::ok("private").header("cache-control", "no-store");
    origin.on_each("/a", [private, Reply::fresh("public")]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "public");
    assert!(proxy.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_waiter_whose_patience_ends_fetches_on_its_own() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::fresh("slow").after(&gate), Reply::fresh("own")]);
    let proxy = Proxy::builder(&origin).set("cache.lock", "{ wait: 300ms }").start().await;
    let leader = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", 1).await;
    assert_eq!(proxy.get("/a").await.text(), "own");
    assert!(!leader.is_finished());
    gate.open();
    assert_eq!(leader.await.unwrap().text(), "slow");
}

#[tokio::test]
async fn more_waiters_than_allowed_are_told_to_come_back() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on("/a", Reply::fresh("a").after(&gate));
    let proxy = Proxy::builder(&origin).set("cache.lock", "{ max_waiters: 2 }").start().await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 2).await;
    let refused = proxy.get("/a").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    gate.open();
    for client in followers.into_iter().chain([leader]) {
        assert_eq!(client.await.unwrap().text(), "a");
    }
    assert_eq!(origin.count("/a"), 1);
}

/// How many of a crowd were answered with this status.
fn with_status(crowd: &[Response], status: u16) -> usize {
    crowd.iter().filter(|response| response.status == status).count()
}

/// A crowd on one cold key whose first request waits at the origin, let go once all others wait for it.
async fn crowd(origin: &Origin, proxy: &Proxy, gate: &Gate, n: usize) -> Vec<Response> {
    let asked = origin.count("/a");
    let first = proxy.get("/a").spawn();
    origin.wait_for_requests("/a", asked + 1).await;
    let others: Vec<_> = (1..n).map(|_| proxy.get("/a").spawn()).collect();
    proxy.wait_for_waiters(n - 1).await;
    gate.open();
    let mut crowd = Vec::new();
    for client in others.into_iter().chain([first]) {
        crowd.push(client.await.unwrap());
    }
    crowd
}

#[tokio::test]
async fn a_crowd_on_an_origin_that_fails_costs_three_requests_one_after_another() {
    for (fails, status) in [(Reply::status(500).piece("bad"), 500), (Reply::hang_up(), 502)] {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        origin.on("/a", fails.after(&gate));
        let proxy = Proxy::plain(&origin).await;
        let crowd = crowd(&origin, &proxy, &gate, 120).await;
        // The first, and one for each time that the others wait again. All others are told to come back.
        assert_eq!(origin.count("/a"), 3, "{status}");
        assert_eq!((with_status(&crowd, status), with_status(&crowd, 503)), (3, 117), "{status}");
        for refused in crowd.iter().filter(|response| response.status == 503) {
            assert_eq!(refused.header("retry-after").as_deref(), Some("1"));
            assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
            assert_eq!(refused.json()["reason"], "origin-failing");
        }
        let metrics = proxy.metrics().await;
        let errors = if status == 500 { 117.0 } else { 120.0 };
        assert_eq!(metrics.sum("tidegate_requests_total", "outcome=\"error\""), errors);
        assert_eq!(metrics.sum("tidegate_requests_total", ""), 120.0);
        assert_eq!(metrics.sum("tidegate_fill_waiters", ""), 0.0);
        // Whoever comes later did not wait, and tries.
        origin.on("/a", Reply::fresh("good"));
        assert_eq!(proxy.get("/a").await.text(), "good");
    }
}

#[tokio::test]
async fn a_crowd_on_an_origin_that_recovers_gets_what_the_second_request_brought() {
    let (origin, gate) = (Origin::start().await, Gate::closed());
    origin.on_each("/a", [Reply::status(500).after(&gate), Reply::fresh("good")]);
    let proxy = Proxy::plain(&origin).await;
    let crowd = crowd(&origin, &proxy, &gate, 50).await;
    assert_eq!((with_status(&crowd, 500), with_status(&crowd, 200)), (1, 49));
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_crowd_on_a_stale_entry_gets_it_when_the_origin_fails() {
    for (fails, forward_status) in [(Reply::status(500), Some(500)), (Reply::hang_up(), None)] {
        let (origin, gate) = (Origin::start().await, Gate::closed());
        let control = "max-age=0, stale-if-error=600";
        // On a connection of its own: a request on one that was used before is repeated once.
        let old = Reply::ok("old").header("cache-control", control).until_close();
        origin.on_each("/a", [old, fails.after(&gate)]);
        let proxy = Proxy::plain(&origin).await;
        proxy.get("/a").await;
        let crowd = crowd(&origin, &proxy, &gate, 50).await;
        for response in &crowd {
            assert_eq!((response.status, response.text().as_str()), (200, "old"));
            let status = response.cache_status();
            assert_eq!((status.fwd(), status.fwd_status), ("stale", forward_status), "{status:?}");
        }
        assert_eq!(crowd.iter().filter(|response| response.cache_status().collapsed).count(), 49);
        // Those who waited for the request that failed need none of their own.
        assert_eq!(origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_waiter_whose_patience_ends_does_not_fall_on_an_origin_that_failed_meanwhile() {
    let (origin, first, second) = (Origin::start().await, Gate::closed(), Gate::closed());
    origin.on_each("/a", [Reply::hang_up().after(&first), Reply::fresh("slow").after(&second)]);
    let proxy = Proxy::builder(&origin).set("cache.lock", "{ wait: 3s }").start().await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 20).await;
    first.open();
    assert_eq!(leader.await.unwrap().status, 502);
    origin.wait_for_requests("/a", 2).await;
    proxy.wait_for_waiters(0).await;
    proxy.wait_for_metric("tidegate_fill_waiters", "", 0.0).await;
    second.open();
    let mut answers = Vec::new();
    for follower in followers {
        answers.push(follower.await.unwrap());
    }
    assert_eq!((with_status(&answers, 200), with_status(&answers, 503)), (1, 19));
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_crowd_on_an_entry_that_is_asked_about_each_time_is_refused_nothing() {
    let (origin, gate) = (Origin::start().await, Gate::closed());
    let checked = || Reply::ok("body").header("cache-control", "no-cache").etag("\"v1\"");
    origin.on_each("/a", [checked(), checked().after(&gate)]);
    let proxy = Proxy::plain(&origin).await;
    proxy.get("/a").await;
    let crowd = crowd(&origin, &proxy, &gate, 30).await;
    assert_eq!(with_status(&crowd, 200), 30);
}

#[tokio::test]
async fn a_crowd_on_a_policy_that_fails_is_served_by_the_origin() {
    let (origin, gate) = (Origin::start().await, Gate::closed());
    origin.on("/a", Reply::fresh("body").after(&gate));
    let proxy = Proxy::with_policy(&origin, "return { response = function() error('no') end }").await;
    let crowd = crowd(&origin, &proxy, &gate, 30).await;
    // The origin is well, so that nobody need be told to come back.
    assert_eq!(with_status(&crowd, 200), 30);
}

#[tokio::test]
async fn an_origin_error_for_the_leader_does_not_strand_the_followers() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::hang_up().after(&gate), Reply::fresh("good")]);
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 3).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 502);
    for follower in followers {
        // Whether a follower shares the error or tries anew is open; that it is answered is not.
        let status = follower.await.unwrap().status;
        assert!([200, 502].contains(&status), "{status}");
    }
    assert_eq!(proxy.get("/a").await.text(), "good");
}

#[tokio::test]
async fn an_error_status_for_the_leader_does_not_strand_the_followers() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.on_each("/a", [Reply::status(500).piece("bad").after(&gate), Reply::fresh("good")]);
    let proxy = Proxy::plain(&origin).await;
    let (leader, followers) = leader_and_followers(&origin, &proxy, 3).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 500);
    for follower in followers {
        assert!([200, 500].contains(&follower.await.unwrap().status));
    }
    assert_eq!(proxy.get("/a").await.text(), "good");
}

#[tokio::test]
async fn a_background_fetch_that_the_policy_calls_a_miss_asks_at_once_and_without_conditions() {
    let origin = Origin::start().await;
    let stale = Reply::ok("old").header("cache-control", "max-age=0, stale-while-revalidate=600").etag("\"v1\"");
    origin.on_each("/a", [stale, Reply::fresh("new").etag("\"v1\"")]);
    // The client's lookup is the first hit, the background fetch's the second.
    let policy = "return { hit = function(request, entry)\n\
                  if entry.hits >= 1 then return { miss = true } end\n\
                  end }";
    let builder = Proxy::builder(&origin).policy("main.lua", policy);
    // Far longer than a test waits.
    let proxy = builder.set("cache.lock", "{ wait: 600s, age: 600s }").start().await;
    proxy.get("/a").await;
    assert_eq!(proxy.get("/a").await.text(), "old");
    origin.wait_for_requests("/a", 2).await;
    assert_eq!(origin.last("/a").header("if-none-match"), None);
    assert_eq!(proxy.get("/a").await.text(), "new");
}
