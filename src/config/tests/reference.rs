//! `config/reference.yaml` against the reader: it names every key, and each value in it is the default.

use std::collections::BTreeSet;
use std::path::Path;

use super::Folder;
use crate::config::reader::NAME;
use crate::config::yaml::{self, Data, Node};
use crate::config::{Config, Loaded, known_keys};

const REFERENCE: &str = include_str!("../../../config/reference.yaml");

/// What has no default, with the names of the reference.
const REQUIRED_ONLY: &str = "
policies: { dir: ../policies }
origins:
  media: { s3: { endpoint: \"https://s3.eu-west-1.amazonaws.com\", bucket: media } }
  api: { http: { servers: [\"10.0.0.1:8000\", \"10.0.0.2:8000\"], health: {} } }
buckets:
  media: { match: { hosts: [img.example.com] }, origin: media, policy: static.lua }
  api: { match: { hosts: [\"*.example.com\"], path: /api/ }, origin: api }
";

fn load(folder: &Folder, text: &str) -> Loaded {
    let env = |name: &str| name.starts_with("AWS_").then(|| "x".to_owned());
    match Config::parse(text, &folder.0.path().join("config/t.yaml"), &env) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{:#?}", folder.printed(&problems)),
    }
}

/// Every line that is an alternative: its number, and itself without the `#`.
fn alternatives() -> Vec<(usize, String)> {
    let line = |(number, line): (usize, &str)| {
        let (indent, rest) = line.split_once('#')?;
        let key = indent.trim().is_empty() && rest.starts_with(|c: char| c.is_ascii_alphabetic());
        key.then(|| (number, format!("{indent}{rest}")))
    };
    REFERENCE.lines().enumerate().filter_map(line).collect()
}

/// The keys of a tree in the way that the reader names them.
fn keys(node: &Node, path: &str, out: &mut BTreeSet<String>) {
    match &node.data {
        Data::Map(entries) => {
            for entry in entries {
                let key = if matches!(path, "origins" | "buckets") { NAME } else { &entry.key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                if key != NAME {
                    out.insert(path.clone());
                }
                keys(&entry.value, &path, out);
            }
        }
        Data::List(items) => items.iter().for_each(|item| keys(item, path, out)),
        Data::Null | Data::Scalar { .. } => {}
    }
}

#[test]
fn the_reference_names_every_key_that_the_reader_knows_and_no_other() {
    let mut lines: Vec<String> = REFERENCE.lines().map(str::to_owned).collect();
    for (number, alternative) in alternatives() {
        lines[number] = alternative;
    }
    let mut named = BTreeSet::new();
    keys(&yaml::parse(&lines.join("\n")).unwrap(), "", &mut named);
    let known: BTreeSet<String> = known_keys().into_iter().collect();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "named and not known");
    assert_eq!(known.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "known and not named");
}

#[test]
fn the_survey_of_keys_is_complete() {
    let known = known_keys();
    for key in [
        "server.tls.cert",
        "admin.token",
        "origins.NAME.s3.credentials.session_token",
        "origins.NAME.http.health.interval",
        "buckets.NAME.match.hosts",
        "cache.disk.promote_rate",
        "cache.redis.tls.ca",
        "cache.redis.sentinel.master",
        "log.access",
    ] {
        assert!(known.iter().any(|name| name == key), "{key} is not in {known:#?}");
    }
}

#[test]
fn the_reference_loads_without_a_warning() {
    let folder = Folder::new();
    let loaded = load(&folder, REFERENCE);
    assert_eq!(folder.printed(&loaded.warnings), [""; 0]);
}

#[test]
fn the_values_of_the_reference_are_the_defaults() {
    let folder = Folder::new();
    let Config { file: _, server, admin, policies, cache, origins, buckets, routes: _, log } =
        load(&folder, REFERENCE).config;
    let defaults = load(&folder, REQUIRED_ONLY).config;
    assert_eq!(server, defaults.server);
    assert_eq!(admin, defaults.admin);
    assert_eq!(policies, defaults.policies);
    assert_eq!(cache, defaults.cache);
    assert_eq!(origins, defaults.origins);
    assert_eq!(buckets, defaults.buckets);
    assert_eq!(log, defaults.log);
}

#[test]
fn the_values_of_the_disk_tier_in_the_reference_are_the_defaults_of_one_that_is_on() {
    let folder = Folder::new();
    let reference = REFERENCE.replace("    capacity: 0\n", "    capacity: 50GiB\n");
    let disk = load(&folder, &reference).config.cache.disk.unwrap();
    let only = "cache: { disk: { path: /var/cache/tidegate, capacity: 50GiB } }\n";
    assert_eq!(Some(disk), load(&folder, &format!("{only}{REQUIRED_ONLY}")).config.cache.disk);
}

#[test]
fn the_values_of_the_redis_tier_in_the_reference_are_the_defaults_of_one_that_is_on() {
    let folder = Folder::new();
    let url = "url: \"redis://127.0.0.1\"";
    let cache = load(&folder, &REFERENCE.replace("url: off", url)).config.cache;
    let defaults = load(&folder, &format!("cache: {{ redis: {{ {url} }} }}\n{REQUIRED_ONLY}")).config.cache;
    assert!(cache.redis.is_some());
    assert_eq!(cache.redis, defaults.redis);
    assert!(defaults.lock.cluster, "what the reference says of it");
}

#[test]
fn the_default_folder_of_policies_is_named_in_the_reference() {
    let folder = Folder::new();
    let text = format!("{}\n", super::REST);
    let config = folder.parse_with(&text, &[]).unwrap().config;
    assert_eq!(config.policies.dir.strip_prefix(folder.0.path()).unwrap(), Path::new("policies"));
    assert!(REFERENCE.contains("Default: `policies`"));
}

#[test]
fn every_alternative_of_the_reference_works_in_place_of_its_line() {
    let folder = Folder::new();
    let alternatives = alternatives();
    assert!(alternatives.len() >= 8, "{alternatives:?}");
    for (number, alternative) in alternatives {
        let mut lines: Vec<String> = REFERENCE.lines().map(str::to_owned).collect();
        let (key, _) = alternative.split_once(':').unwrap();
        remove_line_that_it_replaces(&mut lines, number, &format!("{key}:"));
        lines[number] = alternative.clone();
        let env = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_').then(|| "x".to_owned());
        let file = folder.0.path().join("config/t.yaml");
        // The files that alternatives name are not there; everything else must be right.
        let problems = Config::parse(&lines.join("\n"), &file, &env).err().unwrap_or_default();
        let others: Vec<_> = problems.iter().filter(|problem| !problem.message.ends_with("does not exist")).collect();
        assert!(others.is_empty(), "{alternative}: {others:#?}");
    }
}

/// Blanks the key above `number` in the same mapping, and everything below it.
fn remove_line_that_it_replaces(lines: &mut [String], number: usize, key: &str) {
    let indent = key.len() - key.trim_start().len();
    let depth = |line: &str| (!line.trim().is_empty()).then(|| line.len() - line.trim_start().len());
    let above = (0..number).rev().take_while(|at| depth(&lines[*at]).is_none_or(|depth| depth >= indent));
    let Some(start) = above.into_iter().find(|at| lines[*at].starts_with(key)) else { return };
    lines[start].clear();
    for line in lines.iter_mut().skip(start + 1) {
        match depth(line) {
            Some(depth) if depth <= indent => break,
            _ => line.clear(),
        }
    }
}
