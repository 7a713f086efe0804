//! The policies that are in force.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use http::HeaderName;

use super::candidate::{self, Code};
use super::error::{Hook, PolicyError};
use crate::config::PolicyLimits;

/// One policy file in one version. Cheap to share, never changed.
pub struct Policy {
    name: Arc<str>,
    file: Arc<str>,
    version: String,
    loaded_at: SystemTime,
    error: Option<PolicyError>,
    /// `None` if no version of the file ever worked.
    code: Option<Arc<Code>>,
    counters: Arc<Counters>,
    limits: PolicyLimits,
    family: u64,
}

impl Policy {
    /// The name as the configuration has it, such as `media.lua`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file as people know it, such as `policies/media.lua`.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// First 12 hexadecimal digits of SHA-256 over the file and the modules that it requires, in the order of their
    /// names; for a file that requires none, what `sha256sum` begins with. Empty if no version ever worked.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// When this version came into force.
    pub fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    /// Why the file as it is now is not in force, if it is not.
    pub fn error(&self) -> Option<&PolicyError> {
        self.error.as_ref()
    }

    /// Whether the policy has a function for that hook. A policy that never worked says yes to all, so that whoever
    /// calls it learns its error.
    pub fn has(&self, hook: Hook) -> bool {
        self.code.as_ref().is_none_or(|code| code.has(hook))
    }

    /// Header fields that the policy normalises, in the order of their names.
    pub fn normalized_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.code.iter().flat_map(|code| code.normalize.iter().map(|(name, _)| name))
    }

    /// Calls that entered the VM, in all versions of this file.
    pub fn calls(&self) -> u64 {
        self.counters.calls.sum()
    }

    /// Calls that failed, in all versions of this file.
    pub fn errors(&self) -> u64 {
        self.counters.errors.sum()
    }

    pub(super) fn code(&self) -> Option<&Arc<Code>> {
        self.code.as_ref()
    }

    /// The error of a policy that has no code.
    pub(super) fn unavailable(&self) -> Option<PolicyError> {
        self.counters.called();
        self.counters.failed();
        self.error.clone()
    }

    pub(super) fn shared_file(&self) -> &Arc<str> {
        &self.file
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn limits(&self) -> &PolicyLimits {
        &self.limits
    }

    pub(super) fn family(&self) -> u64 {
        self.family
    }

    fn digest(&self) -> Option<&[u8; 32]> {
        self.code.as_ref().map(|code| &code.digest)
    }

    fn with(&self, code: Option<Arc<Code>>, error: Option<PolicyError>, limits: &PolicyLimits) -> Policy {
        let same = self.code.as_ref().map(|code| code.uid) == code.as_ref().map(|code| code.uid);
        Policy {
            name: Arc::clone(&self.name),
            file: Arc::clone(&self.file),
            version: code.as_ref().map(|code| code.version()).unwrap_or_default(),
            loaded_at: if same { self.loaded_at } else { crate::clock::now() },
            error,
            code,
            counters: Arc::clone(&self.counters),
            limits: *limits,
            family: self.family,
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("file", &self.file)
            .field("version", &self.version)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Every policy that a bucket uses. Immutable: a reload makes another one.
#[derive(Debug)]
pub struct PolicySet {
    dir: PathBuf,
    policies: BTreeMap<Arc<str>, Arc<Policy>>,
    /// The version of each policy before the one in force, for a rollback.
    previous: BTreeMap<Arc<str>, Arc<Policy>>,
    /// Versions that were rolled back: they stay out until the files change.
    refused: BTreeMap<Arc<str>, [u8; 32]>,
}

impl PolicySet {
    /// No policies.
    pub fn empty() -> Self {
        PolicySet {
            dir: PathBuf::new(),
            policies: BTreeMap::new(),
            previous: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Loads the named files of a folder. A file that does not work is in the set with its error, so that calls of it
    /// fail with that error; all errors are returned as well.
    pub fn load<N: AsRef<str>>(dir: &Path, names: &[N], limits: &PolicyLimits) -> (PolicySet, Vec<PolicyError>) {
        Self::reload(&PolicySet::empty(), dir, names, limits)
    }

    /// Loads the files again. What did not change is kept as it is; what no longer works stays in force in its last good
    /// version and remembers its error. Returns the errors of all files that do not work now.
    pub fn reload<N: AsRef<str>>(
        old: &PolicySet,
        dir: &Path,
        names: &[N],
        limits: &PolicyLimits,
    ) -> (PolicySet, Vec<PolicyError>) {
        let mut set = PolicySet { dir: dir.to_owned(), ..PolicySet::empty() };
        let mut errors = Vec::new();
        for name in names {
            let name = name.as_ref();
            if set.policies.contains_key(name) {
                continue;
            }
            let before = old.policies.get(name).filter(|_| old.dir == dir);
            let refused = old.refused.get(name).filter(|_| old.dir == dir);
            let policy = Self::next(dir, name, limits, before, refused);
            errors.extend(policy.error.clone());
            let key = Arc::clone(&policy.name);
            if let Some(before) = before {
                if before.digest() == policy.digest() {
                    if let Some(previous) = old.previous.get(name) {
                        set.previous.insert(Arc::clone(&key), Arc::clone(previous));
                    }
                    if let Some(refused) = refused {
                        set.refused.insert(Arc::clone(&key), *refused);
                    }
                } else if before.code.is_some() {
                    set.previous.insert(Arc::clone(&key), Arc::clone(before));
                }
            }
            set.policies.insert(key, policy);
        }
        (set, errors)
    }

    fn next(
        dir: &Path,
        name: &str,
        limits: &PolicyLimits,
        before: Option<&Arc<Policy>>,
        refused: Option<&[u8; 32]>,
    ) -> Arc<Policy> {
        let evaluated = candidate::evaluate(dir, name, limits);
        let Some(before) = before else {
            let (code, error) = match evaluated {
                Ok(code) => (Some(Arc::new(code)), None),
                Err(error) => (None, Some(error)),
            };
            return Arc::new(Policy {
                name: Arc::from(name),
                file: candidate::shown(dir, name),
                version: code.as_ref().map(|code| code.version()).unwrap_or_default(),
                loaded_at: crate::clock::now(),
                error,
                code,
                counters: Arc::default(),
                limits: *limits,
                family: next_family(),
            });
        };
        let (code, error) = match evaluated {
            Ok(code) if before.digest() == Some(&code.digest) || refused == Some(&code.digest) => {
                (before.code.clone(), None)
            }
            Ok(code) => (Some(Arc::new(code)), None),
            Err(error) => (before.code.clone(), Some(error)),
        };
        let same_code = code.as_ref().map(|code| code.uid) == before.code.as_ref().map(|code| code.uid);
        if same_code && error == before.error && before.limits == *limits {
            return Arc::clone(before);
        }
        Arc::new(before.with(code, error, limits))
    }

    /// The same set with one policy back in the version before. `None` if there is none.
    pub fn rolled_back(&self, name: &str) -> Option<PolicySet> {
        let now = self.policies.get(name)?;
        let previous = self.previous.get(name)?;
        let mut set = PolicySet {
            dir: self.dir.clone(),
            policies: self.policies.clone(),
            previous: self.previous.clone(),
            refused: self.refused.clone(),
        };
        let key = Arc::clone(&now.name);
        if let Some(digest) = now.digest() {
            set.refused.insert(Arc::clone(&key), *digest);
        }
        set.previous.remove(name);
        set.policies.insert(key, Arc::new(now.with(previous.code.clone(), None, &now.limits)));
        Some(set)
    }

    /// The policy of that name, if a bucket uses it.
    pub fn get(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// All policies in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// The folder that they come from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn next_family() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// === Counters ===

/// What a policy did, over all its versions.
#[derive(Default)]
pub(super) struct Counters {
    calls: Sharded,
    errors: Sharded,
}

impl Counters {
    #[inline]
    pub(super) fn called(&self) {
        self.calls.add();
    }

    #[cold]
    pub(super) fn failed(&self) {
        self.errors.add();
    }
}

/// A counter in several cache lines: one line that all workers write to would cost more than the call it counts.
#[derive(Default)]
struct Sharded([Shard; 8]);

#[derive(Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

impl Sharded {
    #[inline]
    fn add(&self) {
        let mine = SHARD.get();
        let mine = if mine == 0 { choose_shard() } else { mine };
        if let Some(shard) = self.0.get(mine % 8) {
            shard.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

thread_local! {
    /// This thread's shard; 0 until it has one.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

#[cold]
fn choose_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let mine = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    SHARD.set(mine);
    mine
}
