//! Holds the policies in force and swaps them while traffic flows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::error::PolicyError;
use super::set::{Policy, PolicySet};
use crate::config::PolicyLimits;

/// The policies in force. Readers never wait; one writer at a time makes the next set aside and swaps it in. Each
/// thread's VM sees a new version on its next call.
pub struct PolicyHost {
    current: ArcSwap<PolicySet>,
    source: Mutex<Source>,
}

/// Where policies come from.
struct Source {
    dir: PathBuf,
    names: Vec<Arc<str>>,
    limits: PolicyLimits,
}

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Policies that are in force in another version than before.
    pub changed: Vec<Arc<Policy>>,
    /// Errors that were not there before.
    pub new_errors: Vec<PolicyError>,
    /// Errors of all files that do not work now.
    pub errors: Vec<PolicyError>,
}

impl PolicyHost {
    /// Loads the named files of a folder; the errors are those of [`PolicySet::load`].
    pub fn new(dir: &Path, names: &[Arc<str>], limits: &PolicyLimits) -> (PolicyHost, Vec<PolicyError>) {
        let (set, errors) = PolicySet::load(dir, names, limits);
        let source = Source { dir: dir.to_owned(), names: names.to_vec(), limits: *limits };
        (PolicyHost { current: ArcSwap::from_pointee(set), source: Mutex::new(source) }, errors)
    }

    /// The set in force.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// The policy of that name, if a bucket uses it.
    pub fn get(&self, name: &str) -> Option<Arc<Policy>> {
        self.current.load().get(name).cloned()
    }

    /// Reads the files again.
    pub fn reload(&self) -> Reloaded {
        let source = self.source.lock();
        self.swap(&source)
    }

    /// Takes another folder, other names or other limits, and reads the files again.
    pub fn reconfigure(&self, dir: &Path, names: &[Arc<str>], limits: &PolicyLimits) -> Reloaded {
        let mut source = self.source.lock();
        *source = Source { dir: dir.to_owned(), names: names.to_vec(), limits: *limits };
        self.swap(&source)
    }

    /// Puts the version before back in force, until the file changes. `None` if there is no version before.
    pub fn rollback(&self, name: &str) -> Option<Arc<Policy>> {
        let _writer = self.source.lock();
        let set = self.current.load().rolled_back(name)?;
        let policy = set.get(name).cloned();
        self.current.store(Arc::new(set));
        policy
    }

    fn swap(&self, source: &Source) -> Reloaded {
        let old = self.current.load_full();
        let (set, errors) = PolicySet::reload(&old, &source.dir, &source.names, &source.limits);
        let mut reloaded = Reloaded { errors, ..Reloaded::default() };
        for policy in set.iter() {
            let before = old.get(policy.name());
            if before.is_none_or(|before| before.version() != policy.version()) && !policy.version().is_empty() {
                reloaded.changed.push(Arc::clone(policy));
            }
            if let Some(error) = policy.error()
                && before.and_then(|before| before.error()) != Some(error)
            {
                reloaded.new_errors.push(error.clone());
            }
        }
        self.current.store(Arc::new(set));
        reloaded
    }
}
