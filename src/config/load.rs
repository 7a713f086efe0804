//! From a file to a [`Config`], or to all that is wrong with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::expand::Env;
use super::problem::Problem;
use super::reader::{Reader, Section};
use super::yaml::{self, Data, Node};
use super::{Bucket, Config, Policies, decode};

/// A configuration that holds.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// What is allowed and probably not meant, in the order of the file.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads a file, or reports everything that is wrong with it, in the order of the file. `env` looks up the variables
    /// of `${VAR}`.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Vec<Problem>> {
        let bytes = std::fs::read(path)
            .map_err(|error| vec![Problem::of_file(path, format!("this file cannot be read: {error}"))])?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Config::parse(text, path, env),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let column = 1 + String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count();
                let hint = Some("save the file as UTF-8".to_owned());
                Err(vec![Problem { line, column, hint, ..Problem::of_file(path, "a byte here is not UTF-8") }])
            }
        }
    }

    /// Like [`Config::load`], with the text at hand. `path` is named in problems, and relative paths begin at its folder.
    pub fn parse(text: &str, path: &Path, env: Env<'_>) -> Result<Loaded, Vec<Problem>> {
        let root = yaml::parse(text).map_err(|error| {
            let place =
                Problem { line: error.at.line, column: error.at.column, ..Problem::of_file(path, error.message) };
            vec![Problem { hint: error.hint, ..place }]
        })?;
        let reader = Reader::new(path, env);
        let config = reader.root(&root, |section| {
            let config = decode::config(section, path);
            if let Some(config) = &config {
                warn_of_idle_origins(section, config);
            }
            config
        });
        let found = reader.finish();
        match config {
            Some(config) if found.problems.is_empty() => Ok(Loaded { config, warnings: found.warnings }),
            _ => Err(found.problems),
        }
    }

    /// The policies that a file names, even where the rest of it is wrong, so that they can be checked along with it.
    pub fn named_policies(path: &Path, env: Env<'_>) -> Option<(Policies, Vec<Arc<str>>)> {
        let text = std::fs::read_to_string(path).ok()?;
        let root = yaml::parse(&text).ok()?;
        let reader = Reader::new(path, env);
        let named = reader.root(&root, |section| {
            let policies = decode::policies(section);
            let buckets = section.named("buckets", |_, bucket| bucket.get("policy", |value| value.text()));
            let names: BTreeSet<Arc<str>> = buckets.into_iter().filter_map(|(_, name)| Some(name?.into())).collect();
            // A file that does not exist was reported with the line that names it.
            let names = names.into_iter().filter(|name| policies.dir.join(&**name).is_file()).collect();
            (policies, names)
        });
        // What else is wrong with the file was reported when it was loaded.
        drop(reader.finish());
        Some(named)
    }

    /// The bucket that serves a request; see [`routes`](super::routes) for the rules. `host` is as the client sent it,
    /// `path` without the query.
    pub fn bucket_for(&self, host: &str, path: &str) -> Option<&Arc<Bucket>> {
        self.routes.bucket_for(host, path)
    }
}

fn warn_of_idle_origins(root: &Section<'_>, config: &Config) {
    let used: BTreeSet<&str> = config.buckets.iter().map(|bucket| bucket.origin.name.as_str()).collect();
    let place = root.place_of("origins");
    for name in config.origins.keys().filter(|name| !used.contains(name.as_str())) {
        place.warn(format!("no bucket uses the origin `{name}`"), "name it in a bucket's `origin`, or remove it");
    }
    if config.buckets.is_empty() {
        root.place_of("buckets").warn("there are no buckets, so every request is answered 404", "add a bucket");
    }
}

/// All keys of a configuration, with dots, in the order in which they are read: `origins.NAME.http.servers`. Keys of
/// tiers that this version does not have are left out.
pub fn known_keys() -> Vec<String> {
    let nothing = Node { at: Default::default(), data: Data::Null };
    let reader = Reader::surveying();
    reader.root(&nothing, |section| decode::config(section, Path::new("")));
    reader.finish().known
}
