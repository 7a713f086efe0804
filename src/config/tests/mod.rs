//! Whole files through the reader.

mod live;
mod mutations;
mod problems;
mod reference;
mod values;

use std::path::PathBuf;

use super::{Config, Loaded, Problem};

/// A folder with a policy, a certificate and a key, and the configuration in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for sub in ["policies", "config"] {
            std::fs::create_dir(folder.0.path().join(sub)).unwrap();
        }
        for file in ["policies/static.lua", "policies/api.lua", "cert.pem", "key.pem", "ca.pem", "credentials"] {
            std::fs::write(folder.0.path().join(file), "").unwrap();
        }
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("t.yaml")
    }

    fn parse_with(&self, text: &str, env: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(text, &self.file(), &get)
    }

    /// Problems or warnings as printed, with `DIR` for the folder.
    fn printed(&self, problems: &[Problem]) -> Vec<String> {
        let dir = self.0.path().display().to_string();
        problems.iter().map(|problem| problem.to_string().replace(&dir, "DIR").replace("DIR/t.yaml:", "")).collect()
    }
}

/// One origin and one bucket, to put other sections before.
const REST: &str = "
origins: { api: { http: { servers: [\"a:1\"] } } }
buckets: { api: { match: { hosts: [\"*\"] }, origin: api } }
";

/// What holds in a file made of `text` and [`REST`].
fn config(text: &str) -> Config {
    whole(&format!("{text}{REST}"))
}

fn whole(text: &str) -> Config {
    let folder = Folder::new();
    match folder.parse_with(text, &[]) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{:#?}", folder.printed(&problems)),
    }
}

/// Each problem of a file made of `text` and [`REST`], as printed.
fn problems(text: &str) -> Vec<String> {
    problems_of(&format!("{text}{REST}"))
}

fn problems_of(text: &str) -> Vec<String> {
    let folder = Folder::new();
    match folder.parse_with(text, &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => folder.printed(&problems),
    }
}

fn warnings_of(text: &str) -> Vec<String> {
    let folder = Folder::new();
    match folder.parse_with(text, &[]) {
        Ok(loaded) => folder.printed(&loaded.warnings),
        Err(problems) => panic!("{:#?}", folder.printed(&problems)),
    }
}
