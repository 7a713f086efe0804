//! A configuration in force: buckets with what they need at run time.

use super::failures::Failures;
use super::upstream::Upstream;
use crate::config::{Bucket, Config};
use crate::decide::Tiers;
use crate::telemetry::BucketMetrics;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A bucket at run time.
#[derive(Debug)]
pub struct Site {
    /// What the configuration says.
    pub bucket: Arc<Bucket>,
    /// Its counters.
    pub metrics: BucketMetrics,
    /// Where it fetches.
    pub upstream: Arc<Upstream>,
    /// What its policy did wrong.
    pub failures: Failures,
    /// Where entries are kept.
    pub tiers: Tiers,
}

/// A configuration at run time. Replaced whole when the file changes.
#[derive(Debug)]
pub struct Live {
    /// What the configuration says.
    pub config: Arc<Config>,
    /// Where entries are kept, in the tiers that this process opened.
    pub tiers: Tiers,
    sites: HashMap<Arc<str>, Arc<Site>>,
}

impl Live {
    /// Builds what a configuration needs; origins that did not change keep their connections' and servers' state.
    pub fn new(config: Arc<Config>, before: Option<&Live>) -> Result<Self, String> {
        let mut upstreams: BTreeMap<&str, Arc<Upstream>> = BTreeMap::new();
        for origin in config.origins.values() {
            let kept = before.and_then(|before| before.upstream(&origin.name));
            let upstream = match kept.filter(|upstream| *upstream.origin == **origin) {
                Some(kept) => kept,
                None => Arc::new(Upstream::new(origin.clone())?),
            };
            upstreams.insert(&origin.name, upstream);
        }
        let tiers = Tiers::of(&config.cache);
        let tiers = before.map_or(tiers, |before| tiers.in_place_of(&before.tiers));
        let sites = config.buckets.iter().filter_map(|bucket| {
            let upstream = upstreams.get(bucket.origin.name.as_str())?.clone();
            let site = Site {
                bucket: bucket.clone(),
                metrics: BucketMetrics::of(&bucket.name),
                upstream,
                failures: Failures::default(),
                tiers,
            };
            Some((bucket.name.clone(), Arc::new(site)))
        });
        let sites = sites.collect();
        Ok(Live { config, tiers, sites })
    }

    /// Starts what runs beside requests. Called inside a runtime; does nothing for origins that it was called for before.
    pub fn start(&self) {
        for site in self.sites.values() {
            site.upstream.start();
        }
    }

    fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.sites.values().find(|site| site.upstream.origin.name == name).map(|site| site.upstream.clone())
    }

    /// The bucket that serves that host and path.
    pub fn site_for(&self, host: &str, path: &str) -> Option<&Arc<Site>> {
        self.sites.get(&self.config.bucket_for(host, path)?.name)
    }

    /// Every bucket.
    pub fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.sites.values()
    }
}
