//! `tidegate stats` and `tidegate policies`: what a running daemon says of itself.

use super::client::DaemonArgs;
use super::{ExitStatus, Format, Printer};
use bytesize::ByteSize;
use clap::Args;
use http::Method;
use serde_json::{Map, Value};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// What is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Prints what the daemon has counted.
pub(super) fn stats(args: &StatusArgs, printer: &Printer) -> ExitStatus {
    ask(args, printer, "/v1/stats", stats_text)
}

/// Prints the policies of the daemon and how they fare.
pub(super) fn policies(args: &StatusArgs, printer: &Printer) -> ExitStatus {
    ask(args, printer, "/v1/policies", policies_text)
}

fn ask(args: &StatusArgs, printer: &Printer, path: &str, text: fn(&Value) -> String) -> ExitStatus {
    let daemon = match args.daemon.find(printer) {
        Ok(daemon) => daemon,
        Err(status) => return status,
    };
    match daemon.ask(Method::GET, path, None) {
        Ok((_, told)) => {
            printer.out(&match args.format {
                Format::Json => told.to_string() + "\n",
                Format::Text => text(&told),
            });
            ExitStatus::Good
        }
        Err(message) => {
            printer.error(&message);
            ExitStatus::Bad
        }
    }
}

fn stats_text(told: &Value) -> String {
    let uptime = humantime::format_duration(Duration::from_secs(number(told, "uptime")));
    let mut text = format!("up {uptime}, {} requests\n", number(told, "requests"));
    let counts = ["requests", "hits", "stale", "misses", "bypasses", "errors"];
    let mut buckets = vec![row("bucket", counts.iter().copied().chain(["bytes"]))];
    for (name, bucket) in entries(told, "buckets") {
        let counted = counts.iter().map(|field| number(bucket, field).to_string());
        buckets.push(row(name, counted.chain([bytes(bucket, "bytes")])));
    }
    let counts = ["items", "hits", "misses", "promotions", "evictions"];
    let mut tiers = vec![row("tier", ["state", "bytes", "capacity"].into_iter().chain(counts))];
    for (name, tier) in entries(told, "tiers") {
        let state = [string(tier, "state"), bytes(tier, "bytes"), bytes(tier, "capacity")];
        tiers.push(row(name, state.into_iter().chain(counts.iter().map(|field| number(tier, field).to_string()))));
    }
    let mut nodes = vec![row("node", ["instance", "latest purge", "seen"])];
    for node in told.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let is_self = node.get("self").and_then(Value::as_bool) == Some(true);
        let seen = node.get("seen_seconds_ago").and_then(Value::as_f64).unwrap_or_default();
        let seen = if is_self { "here".to_owned() } else { format!("{seen:.1} s ago") };
        nodes.push(row(&string(node, "name"), [string(node, "instance"), string(node, "applied"), seen]));
    }
    // One that shares nothing knows of no others.
    let nodes = if nodes.len() > 1 { nodes } else { Vec::new() };
    for rows in [buckets, tiers, nodes].into_iter().filter(|rows| !rows.is_empty()) {
        text += "\n";
        text += &table(&rows);
    }
    text
}

fn policies_text(told: &Value) -> String {
    let policies = told.as_array().map(Vec::as_slice).unwrap_or_default();
    if policies.is_empty() {
        return "no bucket has a policy\n".to_owned();
    }
    let mut rows = vec![row("bucket", ["file", "version", "calls", "errors"])];
    let mut broken = String::new();
    for policy in policies {
        let bucket = string(policy, "bucket");
        let counts = ["calls", "errors"].map(|field| number(policy, field).to_string());
        rows.push(row(&bucket, [string(policy, "file"), string(policy, "version")].into_iter().chain(counts)));
        if let Some(message) = policy.pointer("/error/message").and_then(Value::as_str) {
            broken += &format!("{bucket}: {message}\n");
        }
    }
    let rows = table(&rows);
    if broken.is_empty() { rows } else { format!("{rows}\n{broken}") }
}

fn entries<'a>(told: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = told.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    entries.map(|(name, value)| (name.as_str(), value))
}

fn number(told: &Value, field: &str) -> u64 {
    told.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn bytes(told: &Value, field: &str) -> String {
    ByteSize::b(number(told, field)).to_string()
}

fn string(told: &Value, field: &str) -> String {
    told.get(field).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn row<S: Into<String>>(name: &str, cells: impl IntoIterator<Item = S>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells.into_iter().map(Into::into)).collect()
}

/// Columns side by side: the first to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text += cells.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stats_are_a_table_for_people() {
        let told = json!({
            "uptime": 61, "requests": 12,
            "buckets": {"media": {"requests": 12, "hits": 10, "stale": 0, "misses": 2, "bypasses": 0, "errors": 0, "bytes": 2048}},
            "tiers": {"memory": {"state": "ok", "items": 2, "bytes": 1024, "capacity": 4096, "hits": 10, "misses": 2}},
        });
        let text = stats_text(&told);
        assert!(text.starts_with("up 1m 1s, 12 requests\n"), "{text}");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().count();
        assert_eq!(line("media"), line("bucket") + 1, "{text}");
        assert!(line("memory") >= 9, "{text}");
        assert!(!text.contains("node"), "{text}");
    }

    #[test]
    fn nodes_are_a_table_as_well() {
        let told = json!({"nodes": [
            {"name": "a", "instance": "0f", "self": true, "applied": "5-0", "seen_seconds_ago": 0.2},
            {"name": "b", "instance": "1f", "self": false, "applied": "4-0", "seen_seconds_ago": 1.26},
        ]});
        let text = stats_text(&told);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(
            lines.contains(&"a 0f 5-0 here".to_owned()) && lines.contains(&"b 1f 4-0 1.3 s ago".to_owned()),
            "{text}"
        );
    }

    #[test]
    fn answers_without_the_fields_end_nothing() {
        for told in [json!(null), json!([]), json!({"buckets": 1}), json!([{"bucket": null}])] {
            let _ = (stats_text(&told), policies_text(&told));
        }
    }
}
