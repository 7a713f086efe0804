//! A purge as it is asked for: the body of `POST /v1/purge`.

use super::resource::Address;
use super::target::{Kind, Target};
use crate::config::{Bucket, HostPattern};
use serde_json::Value;
use std::sync::Arc;

/// Most things that one purge names. More than that are better told by a tag or a prefix.
pub const MOST: usize = 100_000;

/// Longest tag or prefix, in bytes.
const LONGEST: usize = 16 << 10;

const FIELDS: [&str; 7] = ["urls", "tags", "prefix", "bucket", "all", "soft", "wait"];

/// Whose answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// This node.
    Local,
    /// All nodes that share something with this one.
    Cluster,
}

/// What is to be purged: everything that any of its parts names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// These URLs, in each of their variants.
    pub urls: Vec<Address>,
    /// What has one of these tags.
    pub tags: Vec<String>,
    /// URLs that begin so.
    pub prefixes: Vec<Address>,
    /// What is in this bucket.
    pub bucket: Option<String>,
    /// Everything.
    pub all: bool,
    /// It becomes stale, instead of being forgotten.
    pub soft: bool,
    /// Whose answer is waited for; `None` leaves it to the configuration.
    pub wait: Option<Wait>,
}

impl Order {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and what to write.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|e| format!("The body is not JSON: {e}."))?;
        let Value::Object(fields) = body else {
            return Err(format!("The body is not an object; write {EXAMPLE}."));
        };
        let mut order = Order::default();
        for (name, value) in fields {
            match name.as_str() {
                "urls" => order.urls = addresses(&name, value)?,
                "prefix" => {
                    order.prefixes = addresses(&name, value)?;
                    if let Some(starred) = order.prefixes.iter().find(|prefix| prefix.path_and_query.ends_with('*')) {
                        let path = starred.path_and_query.trim_end_matches('*');
                        return Err(format!("`prefix` needs no `*`; write \"{}{path}\".", starred.host));
                    }
                }
                "tags" => {
                    order.tags = texts(&name, value)?;
                    if let Some(tag) = order.tags.iter().find(|tag| tag.is_empty() || tag.len() > LONGEST) {
                        return Err(format!("`tags` has one of {} bytes; a tag has 1 to {LONGEST}.", tag.len()));
                    }
                }
                "bucket" => match value {
                    Value::String(bucket) => order.bucket = Some(bucket),
                    other => return Err(wrong_type(&name, "a string", &other)),
                },
                "all" => order.all = boolean(&name, &value)?,
                "soft" => order.soft = boolean(&name, &value)?,
                "wait" => {
                    order.wait = Some(match value.as_str() {
                        Some("local") => Wait::Local,
                        Some("cluster") => Wait::Cluster,
                        _ => return Err(wrong_type(&name, "\"local\" or \"cluster\"", &value)),
                    });
                }
                other => return Err(unknown(other)),
            }
        }
        let named = order.urls.len() + order.tags.len() + order.prefixes.len();
        if named > MOST {
            return Err(format!(
                "The body names {named} things, more than {MOST}; send it in parts, or purge by a tag."
            ));
        }
        if named == 0 && order.bucket.is_none() && !order.all {
            return Err(format!(
                "The body names nothing to purge; write {EXAMPLE}, or `tags`, `prefix`, `bucket` or `all`."
            ));
        }
        Ok(order)
    }

    /// What to look for. A host of a bucket whose hosts share entries stands for all of them.
    ///
    /// # Errors
    /// A sentence about a bucket that does not exist.
    pub fn targets(&self, buckets: &[Arc<Bucket>]) -> Result<Vec<Target>, String> {
        let mut targets = Vec::with_capacity(self.urls.len() + self.tags.len() + self.prefixes.len() + 2);
        if let Some(name) = &self.bucket {
            if !buckets.iter().any(|bucket| *bucket.name == **name) {
                let names: Vec<&str> = buckets.iter().map(|bucket| &*bucket.name).collect();
                return Err(format!("There is no bucket `{name}`; there are {}.", names.join(", ")));
            }
            targets.push(Target::bucket(name));
        }
        if self.all {
            targets.push(Target::ALL);
        }
        targets.extend(self.tags.iter().map(|tag| Target::tag(tag)));
        let sharing: Vec<_> = buckets.iter().filter(|bucket| !bucket.host_in_key).collect();
        let mut add = |address: &Address, target: fn(&Address, Option<&str>) -> Target| {
            targets.push(target(address, None));
            let serving = sharing.iter().filter(|bucket| serves(bucket, &address.host));
            targets.extend(serving.map(|bucket| target(address, Some(&bucket.name))));
        };
        self.urls.iter().for_each(|url| add(url, Target::url));
        self.prefixes.iter().for_each(|prefix| add(prefix, Target::prefix));
        Ok(targets)
    }

    /// How many things of each kind it names.
    pub fn counts(&self) -> [(Kind, usize); 5] {
        Kind::ALL.map(|kind| {
            let count = match kind {
                Kind::Url => self.urls.len(),
                Kind::Tag => self.tags.len(),
                Kind::Prefix => self.prefixes.len(),
                Kind::Bucket => self.bucket.is_some().into(),
                Kind::All => self.all.into(),
            };
            (kind, count)
        })
    }
}

const EXAMPLE: &str = "{\"urls\": [\"http://HOST/PATH\"]}";

/// Whether a host is one of a bucket's. That another bucket may have the path is not looked at: too much is purged then.
fn serves(bucket: &Bucket, host: &str) -> bool {
    bucket.hosts.iter().any(|pattern| match pattern {
        HostPattern::Any => true,
        HostPattern::Suffix(suffix) => host.ends_with(suffix.as_str()),
        HostPattern::Exact(exact) => exact.trim_matches(['[', ']']) == host,
    })
}

fn unknown(field: &str) -> String {
    let near = FIELDS.into_iter().max_by(|a, b| {
        let likeness = |name: &str| strsim::jaro_winkler(field, name);
        likeness(a).total_cmp(&likeness(b))
    });
    match near.filter(|near| strsim::jaro_winkler(field, near) > 0.7) {
        Some(near) => format!("There is no field `{}`; did you mean `{near}`?", field.escape_debug()),
        None => format!("There is no field `{}`; there are {}.", field.escape_debug(), FIELDS.join(", ")),
    }
}

fn wrong_type(name: &str, wanted: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "another string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("`{name}` is {found}; it has to be {wanted}.")
}

fn boolean(name: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong_type(name, "true or false", value))
}

/// A string or a list of them.
fn texts(name: &str, value: Value) -> Result<Vec<String>, String> {
    let wanted = "a string or a list of strings";
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => {
            let texts = items.into_iter().map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(&format!("{name}[]"), "a string", &other)),
            });
            texts.collect()
        }
        other => Err(wrong_type(name, wanted, &other)),
    }
}

fn addresses(name: &str, value: Value) -> Result<Vec<Address>, String> {
    let texts = texts(name, value)?;
    let read = texts.iter().map(|text| {
        if text.len() > LONGEST {
            return Err(format!("`{name}` has one of {} bytes; the longest that is taken has {LONGEST}.", text.len()));
        }
        Address::parse(text).map_err(|why| format!("`{name}`: {why}."))
    });
    read.collect()
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
