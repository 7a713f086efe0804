use super::*;
use crate::config::{Balance, HttpOrigin, OnError, Origin, OriginKind};
use std::time::Duration;

/// Buckets given as name, hosts and path.
fn routes(buckets: &[(&str, &[&str], &str)]) -> Routes {
    let http = HttpOrigin {
        servers: Vec::new(),
        balance: Balance::RoundRobin,
        health: None,
        host: None,
        ca: None,
        verify: true,
    };
    let origin = Arc::new(Origin {
        name: "o".into(),
        kind: OriginKind::Http(http),
        connect_timeout: Duration::ZERO,
        read_timeout: Duration::ZERO,
        retries: 0,
    });
    let bucket = |(name, hosts, path): &(&str, &[&str], &str)| {
        Arc::new(Bucket {
            name: (*name).into(),
            hosts: hosts.iter().map(|host| parse_host_pattern(host).unwrap()).collect(),
            path: (*path).into(),
            origin: origin.clone(),
            policy: None,
            host_in_key: true,
            heuristic: true,
            stale_on_disconnect: Duration::ZERO,
            client_refetch: true,
            keep_tag_headers: false,
            methods: None,
            on_error: OnError::Bypass,
        })
    };
    Routes::new(&buckets.iter().map(bucket).collect::<Vec<_>>())
}

fn name<'r>(routes: &'r Routes, host: &str, path: &str) -> &'r str {
    routes.bucket_for(host, path).map_or("none", |bucket| &bucket.name)
}

#[test]
fn the_most_exact_host_wins() {
    let routes = routes(&[
        ("any", &["*"], "/"),
        ("com", &["*.com"], "/"),
        ("sub", &["*.example.com"], "/"),
        ("exact", &["img.example.com"], "/"),
    ]);
    assert_eq!(name(&routes, "img.example.com", "/x"), "exact");
    assert_eq!(name(&routes, "a.example.com", "/x"), "sub");
    assert_eq!(name(&routes, "a.b.example.com", "/x"), "sub");
    assert_eq!(name(&routes, "example.com", "/x"), "com");
    assert_eq!(name(&routes, "example.org", "/x"), "any");
}

#[test]
fn a_suffix_matches_subdomains_only() {
    let routes = routes(&[("sub", &["*.example.com"], "/")]);
    assert_eq!(name(&routes, "example.com", "/"), "none");
    assert_eq!(name(&routes, ".example.com", "/"), "none");
    assert_eq!(name(&routes, "notexample.com", "/"), "none");
    assert_eq!(name(&routes, "a.example.com", "/"), "sub");
}

#[test]
fn the_longest_path_wins_within_a_host() {
    let routes = routes(&[("root", &["a"], "/"), ("long", &["a"], "/api/v1/"), ("short", &["a"], "/api/")]);
    assert_eq!(name(&routes, "a", "/api/v1/x"), "long");
    assert_eq!(name(&routes, "a", "/api/x"), "short");
    assert_eq!(name(&routes, "a", "/other"), "root");
}

#[test]
fn a_path_ends_at_a_border_of_segments() {
    let slash = routes(&[("b", &["a"], "/api/")]);
    assert_eq!(name(&slash, "a", "/api/"), "b");
    assert_eq!(name(&slash, "a", "/api/x"), "b");
    assert_eq!(name(&slash, "a", "/api"), "none");
    let plain = routes(&[("b", &["a"], "/api")]);
    assert_eq!(name(&plain, "a", "/api"), "b");
    assert_eq!(name(&plain, "a", "/api/x"), "b");
    assert_eq!(name(&plain, "a", "/apix"), "none");
}

#[test]
fn a_path_is_compared_as_sent() {
    let routes = routes(&[("b", &["a"], "/api/")]);
    assert_eq!(name(&routes, "a", "/%61pi/"), "none");
    assert_eq!(name(&routes, "a", "/API/"), "none");
    assert_eq!(name(&routes, "a", "*"), "none");
    assert_eq!(name(&routes, "a", ""), "none");
}

#[test]
fn a_less_exact_host_takes_what_an_exact_one_leaves_over() {
    let routes = routes(&[("exact", &["img.example.com"], "/static/"), ("any", &["*"], "/")]);
    assert_eq!(name(&routes, "img.example.com", "/static/x"), "exact");
    assert_eq!(name(&routes, "img.example.com", "/other"), "any");
}

#[test]
fn case_port_and_final_dot_of_a_host_do_not_count() {
    let routes = routes(&[("b", &["Img.Example.com."], "/")]);
    for host in
        ["img.example.com", "IMG.EXAMPLE.COM", "img.example.com:8080", "img.example.com.", "img.example.com.:80"]
    {
        assert_eq!(name(&routes, host, "/"), "b", "{host}");
    }
}

#[test]
fn ipv6_hosts_match_in_any_spelling() {
    let routes = routes(&[("six", &["[::1]"], "/"), ("other", &["2001:DB8::0:7"], "/")]);
    for host in ["[::1]", "[::1]:8080", "::1", "[0:0:0:0:0:0:0:1]", "0:0:0:0:0:0:0:1"] {
        assert_eq!(name(&routes, host, "/"), "six", "{host}");
    }
    assert_eq!(name(&routes, "[2001:db8::7]:443", "/"), "other");
    assert_eq!(name(&routes, "[::2]", "/"), "none");
}

#[test]
fn ipv4_hosts_match() {
    let routes = routes(&[("four", &["127.0.0.1"], "/")]);
    assert_eq!(name(&routes, "127.0.0.1:8080", "/"), "four");
}

#[test]
fn odd_hosts_reach_only_the_star() {
    let routes = routes(&[("any", &["*"], "/"), ("sub", &["*.example.com"], "/")]);
    let long = format!("{}.example.com", "a".repeat(300));
    for host in ["", ".", "[", "[::1", "[zz]", "a:b:c", "\u{e9}", long.as_str()] {
        assert_eq!(name(&routes, host, "/"), "any", "{host}");
    }
}

#[test]
fn a_bucket_may_have_several_hosts() {
    let routes = routes(&[("b", &["a.example", "*.b.example"], "/")]);
    assert_eq!(name(&routes, "a.example", "/"), "b");
    assert_eq!(name(&routes, "x.b.example", "/"), "b");
    assert_eq!(name(&routes, "c.example", "/"), "none");
}
