mod health_checks;

use super::*;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use tokio::sync::Notify;

fn server(host: &str, port: u16) -> OriginServer {
    OriginServer { host: host.into(), port, tls: false }
}

fn origin(servers: Vec<OriginServer>, balance: Balance) -> Origin {
    let http = HttpOrigin { servers, balance, health: None, host: None, ca: None, verify: true };
    Origin {
        name: "api".into(),
        kind: OriginKind::Http(http),
        connect_timeout: Duration::from_secs(1),
        read_timeout: Duration::from_secs(30),
        retries: 1,
    }
}

fn three(balance: Balance) -> Origin {
    origin(vec![server("10.0.0.1", 80), server("10.0.0.2", 80), server("10.0.0.3", 80)], balance)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A clock that tests move, and a resolver whose answers they set.
#[derive(Clone, Default)]
struct World {
    millis: Arc<AtomicU64>,
    names: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    asked: Arc<AtomicUsize>,
    answered: Arc<Notify>,
}

impl World {
    fn pool(&self, origin: &Origin) -> Pool {
        let world = self.clone();
        let millis = self.millis.clone();
        let resolver: Resolver = Arc::new(move |host, port| {
            let world = world.clone();
            let host = host.to_owned();
            Box::pin(async move {
                world.asked.fetch_add(1, Ordering::SeqCst);
                let known = world.names.lock().get(&host).cloned();
                world.answered.notify_one();
                let known = known.ok_or_else(|| io::Error::other("no such host"))?;
                Ok(known.into_iter().map(|address| SocketAddr::new(address, port)).collect())
            })
        });
        let elapsed = Box::new(move || Duration::from_millis(millis.load(Ordering::SeqCst)));
        Pool::with_seams(origin, Seams { resolver, elapsed })
    }

    fn wait(&self, seconds: u64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    fn set(&self, name: &str, addresses: &[&str]) {
        self.names.lock().insert(name.into(), addresses.iter().map(|text| text.parse().unwrap()).collect());
    }

    fn forget(&self, name: &str) {
        self.names.lock().remove(name);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn picks(pool: &Pool, count: usize) -> Vec<String> {
    let mut picked = Vec::new();
    for _ in 0..count {
        picked.push(pool.pick(0, &[]).await.unwrap().addr.ip().to_string());
    }
    picked
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let picked = picks(&Pool::new(&three(Balance::RoundRobin)), 4).await;
    assert_eq!(picked, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}

#[tokio::test]
async fn random_reaches_every_server() {
    let mut picked = picks(&Pool::new(&three(Balance::Random)), 300).await;
    picked.sort();
    picked.dedup();
    assert_eq!(picked.len(), 3);
}

#[tokio::test]
async fn a_key_stays_with_its_server_when_another_leaves_and_in_any_order_of_servers() {
    let all = Pool::new(&three(Balance::KeyHash));
    let reversed = [server("10.0.0.3", 80), server("10.0.0.2", 80), server("10.0.0.1", 80)];
    let reversed = Pool::new(&origin(reversed.into(), Balance::KeyHash));
    let fewer = Pool::new(&origin(vec![server("10.0.0.1", 80), server("10.0.0.2", 80)], Balance::KeyHash));
    let mut seen: Vec<SocketAddr> = Vec::new();
    for key in 0..200 {
        let picked = all.pick(key, &[]).await.unwrap().addr;
        assert_eq!(reversed.pick(key, &[]).await.unwrap().addr, picked);
        if picked != addr("10.0.0.3:80") {
            assert_eq!(fewer.pick(key, &[]).await.unwrap().addr, picked);
        }
        seen.push(picked);
    }
    for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
        let share = seen.iter().filter(|picked| **picked == addr(server)).count();
        assert!(share > 30, "{server} has {share} of 200 keys");
    }
}

#[tokio::test]
async fn a_server_that_failed_is_skipped_until_its_rest_is_over() {
    let world = World::default();
    let pool = world.pool(&three(Balance::RoundRobin));
    pool.report(addr("10.0.0.2:80"), false);
    assert!(!picks(&pool, 6).await.contains(&"10.0.0.2".to_owned()));
    world.wait(1);
    assert!(picks(&pool, 6).await.contains(&"10.0.0.2".to_owned()));
}

#[tokio::test]
async fn after_a_rest_one_request_tries_and_the_others_go_elsewhere() {
    let world = World::default();
    let pool = world.pool(&three(Balance::RoundRobin));
    pool.report(addr("10.0.0.2:80"), false);
    world.wait(1);
    let trials = picks(&pool, 12).await.iter().filter(|picked| *picked == "10.0.0.2").count();
    assert_eq!(trials, 1);
    pool.report(addr("10.0.0.2:80"), true);
    let after = picks(&pool, 12).await.iter().filter(|picked| *picked == "10.0.0.2").count();
    assert_eq!(after, 4);
}

#[tokio::test]
async fn rests_double_up_to_ten_seconds() {
    let world = World::default();
    let pool = world.pool(&three(Balance::RoundRobin));
    let down = addr("10.0.0.2:80");
    for rest in [1, 2, 4, 8, 10, 10] {
        pool.report(down, false);
        world.wait(rest - 1);
        assert_eq!(status(&pool, down), ServerStatus::Resting, "within {rest} s");
        world.wait(1);
        assert_eq!(status(&pool, down), ServerStatus::Up, "after {rest} s");
    }
}

#[tokio::test]
async fn failures_that_come_together_count_once() {
    let world = World::default();
    let pool = world.pool(&three(Balance::RoundRobin));
    for _ in 0..100 {
        pool.report(addr("10.0.0.2:80"), false);
    }
    world.wait(1);
    assert_eq!(status(&pool, addr("10.0.0.2:80")), ServerStatus::Up);
}

#[tokio::test]
async fn when_all_are_down_all_are_tried() {
    let pool = World::default().pool(&three(Balance::RoundRobin));
    for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
        pool.report(addr(server), false);
    }
    assert_eq!(picks(&pool, 3).await.len(), 3);
}

#[tokio::test]
async fn a_retry_goes_to_a_server_that_was_not_tried() {
    let pool = Pool::new(&three(Balance::KeyHash));
    let first = pool.pick(7, &[]).await.unwrap().addr;
    let second = pool.pick(7, &[first]).await.unwrap().addr;
    let third = pool.pick(7, &[first, second]).await.unwrap().addr;
    assert!(first != second && second != third && first != third);
    assert_eq!(pool.pick(7, &[first, second, third]).await.unwrap().addr, first, "all tried: start again");
}

#[tokio::test]
async fn a_retry_prefers_an_untried_server_that_is_down_to_the_one_that_just_failed() {
    let two = origin(vec![server("10.0.0.1", 80), server("10.0.0.2", 80)], Balance::RoundRobin);
    let pool = World::default().pool(&two);
    pool.report(addr("10.0.0.2:80"), false);
    assert_eq!(pool.pick(0, &[addr("10.0.0.1:80")]).await.unwrap().addr, addr("10.0.0.2:80"));
}

fn status(pool: &Pool, addr: SocketAddr) -> ServerStatus {
    pool.state().into_iter().find(|state| state.addr == addr).unwrap().status
}

#[tokio::test]
async fn a_name_stands_for_all_its_addresses() {
    let world = World::default();
    world.set("app.internal", &["10.1.0.2", "10.1.0.1", "10.1.0.1"]);
    let pool = world.pool(&origin(vec![server("app.internal", 80)], Balance::RoundRobin));
    assert_eq!(picks(&pool, 3).await, ["10.1.0.1", "10.1.0.2", "10.1.0.1"]);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_name_is_resolved_once_for_requests_that_come_together() {
    let world = World::default();
    world.set("app.internal", &["10.1.0.1"]);
    let pool = world.pool(&origin(vec![server("app.internal", 80)], Balance::RoundRobin));
    futures::future::join_all((0..20).map(|_| pool.pick(0, &[]))).await;
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn an_old_answer_serves_while_a_new_one_is_fetched() {
    let world = World::default();
    world.set("app.internal", &["10.1.0.1"]);
    let pool = world.pool(&origin(vec![server("app.internal", 80)], Balance::RoundRobin));
    assert_eq!(picks(&pool, 1).await, ["10.1.0.1"]);
    world.set("app.internal", &["10.1.0.9"]);
    world.wait(10);
    assert_eq!(picks(&pool, 1).await, ["10.1.0.1"], "not waited for");
    until_asked(&world, 2).await;
    settle(&pool, "10.1.0.9:80").await;
}

#[tokio::test]
async fn the_last_good_answer_outlives_a_failing_resolver() {
    let world = World::default();
    world.set("app.internal", &["10.1.0.1"]);
    let pool = world.pool(&origin(vec![server("app.internal", 80)], Balance::RoundRobin));
    picks(&pool, 1).await;
    world.forget("app.internal");
    for round in 2..5 {
        world.wait(60);
        assert_eq!(picks(&pool, 1).await, ["10.1.0.1"]);
        until_asked(&world, round).await;
    }
}

#[tokio::test]
async fn a_resting_address_keeps_its_history_when_a_name_gets_another_address() {
    let world = World::default();
    world.set("app.internal", &["10.1.0.1"]);
    let pool = world.pool(&origin(vec![server("app.internal", 80)], Balance::RoundRobin));
    picks(&pool, 1).await;
    world.set("app.internal", &["10.1.0.1", "10.1.0.2"]);
    world.wait(10);
    pool.report(addr("10.1.0.1:80"), false);
    picks(&pool, 1).await;
    settle(&pool, "10.1.0.2:80").await;
    assert_eq!(status(&pool, addr("10.1.0.1:80")), ServerStatus::Resting);
}

#[tokio::test]
async fn one_unknown_name_does_not_stop_the_others() {
    let world = World::default();
    let pool = world.pool(&origin(vec![server("nowhere.internal", 80), server("10.0.0.1", 80)], Balance::RoundRobin));
    assert_eq!(picks(&pool, 2).await, ["10.0.0.1", "10.0.0.1"]);
}

#[tokio::test]
async fn no_address_at_all_is_an_error_that_names_the_server_and_is_soon_tried_again() {
    let world = World::default();
    let pool = world.pool(&origin(vec![server("nowhere.internal", 80)], Balance::RoundRobin));
    let error = pool.pick(0, &[]).await.unwrap_err().to_string();
    assert!(error.contains("origin `api`") && error.contains("`nowhere.internal:80`: no such host"), "{error}");
    pool.pick(0, &[]).await.unwrap_err();
    assert_eq!(world.asked(), 1, "a failing resolver is not asked by every request");

    world.set("nowhere.internal", &["10.1.0.1"]);
    world.wait(1);
    assert_eq!(picks(&pool, 1).await, ["10.1.0.1"]);
}

/// What is waited for must come; a test that waits for ever says nothing.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event).await.expect("it should have happened by now")
}

async fn until_asked(world: &World, times: usize) {
    soon(async {
        while world.asked() < times {
            world.answered.notified().await;
        }
    })
    .await;
}

/// Waits until a refresh in the background has brought an address.
async fn settle(pool: &Pool, to: &str) {
    soon(async {
        while !pool.state().iter().any(|state| state.addr == addr(to)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn localhost_resolves_with_the_systems_resolver() {
    let pool = Pool::new(&origin(vec![server("localhost", 81)], Balance::RoundRobin));
    assert!(pool.pick(0, &[]).await.unwrap().addr.ip().is_loopback());
}

#[tokio::test]
async fn host_and_tls_name_come_from_the_configuration() {
    let mut origin = origin(
        vec![OriginServer { host: "10.0.0.1".into(), port: 443, tls: true }, server("10.0.0.2", 80)],
        Balance::RoundRobin,
    );
    let OriginKind::Http(http) = &mut origin.kind else { panic!("not HTTP") };
    http.host = Some("www.example.com:8443".into());
    let picked = Pool::new(&origin).pick(0, &[]).await.unwrap();
    assert!(picked.tls);
    assert_eq!(&*picked.sni, "www.example.com", "an address has no name of its own");
    assert_eq!(picked.host.as_deref(), Some("www.example.com:8443"));
}

#[test]
fn an_authority_has_brackets_and_a_port_only_where_needed() {
    assert_eq!(authority("a.example", 80, false), "a.example");
    assert_eq!(authority("a.example", 443, true), "a.example");
    assert_eq!(authority("a.example", 443, false), "a.example:443");
    assert_eq!(authority("::1", 80, false), "[::1]");
    assert_eq!(authority("::1", 9000, true), "[::1]:9000");
}
