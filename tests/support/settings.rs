//! A configuration that tests change one key at a time, written out as the YAML that an operator would write.

use std::collections::BTreeMap;

/// Keys by dotted path (`cache.lock.wait`) with their values as YAML text.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Sets one key; what stood under it is gone.
    pub fn set(&mut self, path: &str, yaml: &str) {
        self.remove(path);
        self.0.insert(path.to_owned(), yaml.to_owned());
    }

    /// Takes out a key and everything under it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}.");
        self.0.retain(|key, _| key != path && !key.starts_with(&below));
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub fn has(&self, path: &str) -> bool {
        let below = format!("{path}.");
        self.0.keys().any(|key| key == path || key.starts_with(&below))
    }

    /// The file's text. `@DIR@` in a value becomes `dir`.
    pub fn to_yaml(&self, dir: &str) -> String {
        let mut text = String::new();
        let mut open: Vec<&str> = Vec::new();
        for (path, value) in &self.0 {
            let mut names: Vec<&str> = path.split('.').collect();
            let leaf = names.pop().unwrap_or_default();
            let shared = open.iter().zip(&names).take_while(|(a, b)| a == b).count();
            for (depth, name) in names.iter().enumerate().skip(shared) {
                text += &format!("{:1$}{name}:\n", "", depth * 2);
            }
            text += &format!("{:1$}{leaf}: {2}\n", "", names.len() * 2, value.replace("@DIR@", dir));
            open = names;
        }
        text
    }
}
