//! `tidegate check`

use super::serve::unusable_certificates;
use super::{ConfigArg, ExitStatus, Format, Printer, Unusable, load};
use crate::config::{Config, Policies, RedisTier};
use crate::policy::PolicySet;
use crate::proxy::upstream::Upstream;
use crate::remote::{Advice, Redis};
use crate::store::disk::probe::probe;
use clap::Args;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// What is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Reports every problem of the configuration and its policies.
pub(super) fn run(args: &CheckArgs, printer: &Printer) -> ExitStatus {
    let mut problems: Vec<(String, Value)> = Vec::new();
    let mut warnings = Vec::new();
    let mut summary = String::new();
    match load(&args.config.config) {
        Err(Unusable::NoFile(message)) => {
            printer.error(&message);
            return ExitStatus::Usage;
        }
        Err(Unusable::Problems(found)) => {
            problems.extend(found.iter().map(|p| (p.to_string(), p.to_json())));
            let named = Config::named_policies(&args.config.config, &|name| std::env::var(name).ok());
            if let Some((policies, names)) = named {
                problems.extend(broken(&policies, &names));
            }
        }
        Ok(loaded) => {
            warnings.extend(loaded.warnings.iter().map(ToString::to_string));
            let config = loaded.config;
            let names = config.policy_names();
            problems.extend(broken(&config.policies, &names));
            problems.extend(unusable(&config));
            summary = format!(
                "{}: good: {}, {}, {}\n",
                config.file.display(),
                counted(config.buckets.len(), "bucket", "buckets"),
                counted(config.origins.len(), "origin", "origins"),
                counted(names.len(), "policy", "policies")
            );
        }
    }
    if args.format == Format::Json {
        let told: Vec<Value> = problems.iter().map(|(_, told)| told.clone()).collect();
        printer.out(&format!("{}\n", json!({"problems": told, "warnings": warnings})));
    } else {
        for warning in &warnings {
            printer.warning(warning);
        }
        for (problem, _) in &problems {
            printer.error(problem);
        }
        if problems.is_empty() {
            printer.out(&summary);
        }
    }
    if problems.is_empty() { ExitStatus::Good } else { ExitStatus::Bad }
}

/// What is wrong with policies.
fn broken(policies: &Policies, names: &[Arc<str>]) -> Vec<(String, Value)> {
    let (_, errors) = PolicySet::load(&policies.dir, names, &policies.limits);
    let told = errors.into_iter().map(|e| {
        let json = json!({"file": *e.file, "line": e.line, "path": e.hook.as_str(), "message": e.message});
        (e.to_string(), json)
    });
    told.collect()
}

/// What only building the objects can tell.
fn unusable(config: &Config) -> impl Iterator<Item = (String, Value)> {
    let origins = config.origins.values().filter_map(|origin| Upstream::new(origin.clone()).err());
    let disk = config.cache.disk.iter().filter_map(|disk| probe(&disk.path).err());
    let disk = disk.map(|message| format!("cache.disk.path: {message}"));
    let redis = config.cache.redis.iter().filter_map(|redis| unreachable(redis).err());
    origins.chain(unusable_certificates(&config.server)).chain(disk).chain(redis).map(|message| {
        let file = config.file.display().to_string();
        (format!("{file}: {message}"), json!({"file": file, "line": null, "message": message}))
    })
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Says why Redis cannot be reached.
fn unreachable(redis: &RedisTier) -> Result<(), String> {
    let tried = Redis::new(redis).map_err(|e| format!("cache.redis: {e}"))?.try_once();
    tried.map_err(|why| {
        let Advice { key, message } = Advice::on(redis, &why);
        format!("{key}: {message}")
    })
}
