//! The shape of the file: one module per top-level section, in the order of the reference.
//!
//! Each function asks its section for every key that it knows, also when it already knows that the result is lost, so that
//! all problems of a file are found in one go. Defaults stand beside the keys.

mod buckets;
mod cache;
mod origins;
mod server;
mod shared;

pub(super) use self::cache::policies;

use super::Config;
use super::reader::Section;
use super::routes::Routes;

/// The whole file. `None`: something that has no default is missing or wrong, which was noted.
pub(super) fn config(root: &mut Section<'_>, file: &std::path::Path) -> Option<Config> {
    let mut listeners = server::Listeners::default();
    let server = root.section("server", |s| server::server(s, &mut listeners));
    let admin = server::admin(root, &mut listeners);
    let policies = cache::policies(root);
    let cache = root.section("cache", |s| cache::cache(s, &policies.dir));
    let origins = origins::origins(root);
    let buckets = buckets::buckets(root, &policies, &origins);
    let log = root.section("log", server::log);
    listeners.refuse_overlaps();

    let origins = origins.into_iter().filter_map(|(name, origin)| Some((name, origin?))).collect();
    let routes = Routes::new(&buckets);
    Some(Config { file: file.to_owned(), server: server?, admin, policies, cache, origins, buckets, routes, log })
}
