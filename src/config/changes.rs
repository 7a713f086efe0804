//! Which changes of the file a running process cannot apply.

use std::fmt::Debug;
use std::net::SocketAddr;

use super::units::format_size;
use super::{Config, RedisTier, Server, TlsListener};

impl Config {
    /// What differs in `new` and stays as it is until the process restarts, one sentence each. Everything else (buckets,
    /// origins, policies, limits, the log level) applies at once.
    pub fn changes_that_need_restart(&self, new: &Config) -> Vec<String> {
        let (old_server, new_server) = (&self.server, &new.server);
        let mut changes = Changes(Vec::new());
        changes.compare("server.listen", &listed(&old_server.listen), &listed(&new_server.listen));
        changes.compare("server.tls", &tls(&old_server.tls), &tls(&new_server.tls));
        changes.compare("server.threads", &old_server.threads.to_string(), &new_server.threads.to_string());
        let path = |path: &std::path::Path| path.display().to_string();
        changes.compare("server.upgrade_socket", &path(&old_server.upgrade_socket), &path(&new_server.upgrade_socket));
        changes.compare("server.pid_file", &path(&old_server.pid_file), &path(&new_server.pid_file));
        let drain = |server: &Server| humantime::format_duration(server.drain).to_string();
        changes.compare("server.drain", &drain(old_server), &drain(new_server));
        let admin = |config: &Config| config.admin.as_ref().map_or("off".to_owned(), |admin| admin.listen.to_string());
        changes.compare("admin.listen", &admin(self), &admin(new));
        // The tables of the memory tier are sized once.
        let memory =
            |config: &Config| config.cache.memory.map_or("0".to_owned(), |memory| format_size(memory.capacity));
        changes.compare("cache.memory.capacity", &memory(self), &memory(new));
        // The directory is opened and its index built once.
        match (&self.cache.disk, &new.cache.disk) {
            (Some(old), Some(new)) => {
                changes.compare("cache.disk.path", &path(&old.path), &path(&new.path));
                changes.compare("cache.disk.capacity", &format_size(old.capacity), &format_size(new.capacity));
                changes.compare("cache.disk.max_open", &old.max_open.to_string(), &new.max_open.to_string());
            }
            (old, new) => changes.compare("cache.disk", on_or_off(old.is_some()), on_or_off(new.is_some())),
        }
        // The connection is made for as long as the process lives.
        match (&self.cache.redis, &new.cache.redis) {
            (Some(old), Some(new)) => {
                // Secrets stay out of the log.
                if (&old.servers, &old.topology) != (&new.servers, &new.topology) {
                    let how = |redis: &RedisTier| redis.to_string();
                    changes.note("cache.redis.url", &how(old), &how(new));
                }
                changes.compare("cache.redis.tls", &redis_tls(old), &redis_tls(new));
                changes.compare("cache.redis.prefix", &old.prefix, &new.prefix);
            }
            (old, new) => changes.compare("cache.redis", on_or_off(old.is_some()), on_or_off(new.is_some())),
        }
        changes.compare("log.format", &word(&self.log.format), &word(&new.log.format));
        changes.0
    }
}

struct Changes(Vec<String>);

impl Changes {
    fn compare(&mut self, key: &str, old: &str, new: &str) {
        if old != new {
            self.note(key, old, new);
        }
    }

    fn note(&mut self, key: &str, old: &str, new: &str) {
        if old == new {
            // A password, which is not shown.
            self.0.push(format!("`{key}` stays as it was until a restart"));
        } else {
            self.0.push(format!("`{key}` stays `{old}` until a restart; the file now says `{new}`"));
        }
    }
}

fn redis_tls(redis: &RedisTier) -> String {
    let Some(tls) = &redis.tls else { return "none".to_owned() };
    let ca = tls.ca.as_ref().map(|ca| ca.display().to_string());
    let identity = tls.identity.as_ref().map(|(cert, key)| format!("{} and {}", cert.display(), key.display()));
    joined(ca.into_iter().chain(identity).collect())
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The order of listeners means nothing.
fn listed(addresses: &[SocketAddr]) -> String {
    joined(addresses.iter().map(ToString::to_string).collect())
}

fn tls(listeners: &[TlsListener]) -> String {
    let each = listeners
        .iter()
        .map(|listener| format!("{} with {} and {}", listener.listen, listener.cert.display(), listener.key.display()));
    joined(each.collect())
}

fn joined(mut items: Vec<String>) -> String {
    items.sort();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn word(value: &impl Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}
