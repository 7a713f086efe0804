//! `tidegate purge`

use super::client::DaemonArgs;
use super::{ExitStatus, Format, Printer};
use clap::{ArgGroup, Args, ValueEnum};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["url", "tag", "prefix", "bucket", "all"])))]
pub(super) struct PurgeArgs {
    /// A URL, such as http://img.example.com/cat.jpg?w=1; without a scheme, by either
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// What has this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// URLs that begin so, such as img.example.com/2026/
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<String>,
    /// What is in this bucket
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// Make it stale instead: it may be served while it is fetched again
    #[arg(long)]
    soft: bool,
    /// Whose answer to wait for
    #[arg(long, value_enum)]
    wait: Option<Wait>,
    /// What is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wait {
    /// This daemon
    Local,
    /// All daemons that share a cache with it
    Cluster,
}

/// Purges what the arguments name, all of it.
pub(super) fn run(args: &PurgeArgs, printer: &Printer) -> ExitStatus {
    let daemon = match args.daemon.find(printer) {
        Ok(daemon) => daemon,
        Err(status) => return status,
    };
    match daemon.ask(Method::POST, "/v1/purge", Some(&body(args))) {
        Ok((status, told)) => {
            printer.out(&match args.format {
                Format::Json => told.to_string() + "\n",
                Format::Text => text(&told, args.soft),
            });
            // Some nodes are missing.
            if status == StatusCode::OK { ExitStatus::Good } else { ExitStatus::Bad }
        }
        Err(message) => {
            printer.error(&message);
            ExitStatus::Bad
        }
    }
}

fn body(args: &PurgeArgs) -> Value {
    let mut body = Map::new();
    for (name, values) in [("urls", &args.url), ("tags", &args.tag), ("prefix", &args.prefix)] {
        if !values.is_empty() {
            body.insert(name.to_owned(), json!(values));
        }
    }
    if let Some(bucket) = &args.bucket {
        body.insert("bucket".to_owned(), json!(bucket));
    }
    if args.all {
        body.insert("all".to_owned(), json!(true));
    }
    if args.soft {
        body.insert("soft".to_owned(), json!(true));
    }
    if let Some(wait) = args.wait {
        let wait = match wait {
            Wait::Local => "local",
            Wait::Cluster => "cluster",
        };
        body.insert("wait".to_owned(), json!(wait));
    }
    Value::Object(body)
}

fn text(told: &Value, soft: bool) -> String {
    let names = |field: &str| {
        let names = told.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let what = if soft { "made stale" } else { "purged" };
    let id = told.get("id").and_then(Value::as_str).unwrap_or("?");
    let mut text = format!("{what} on {} (purge {id})\n", names("applied"));
    let missing = names("missing");
    if !missing.is_empty() {
        text += &format!("not yet on {missing}\n");
    }
    if told.get("pending").and_then(Value::as_bool) == Some(true) {
        text += "Redis does not answer: the other nodes purge it when it does\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parse(line: &[&str]) -> Result<PurgeArgs, clap::Error> {
        let all = [&["tidegate", "purge"], line].concat();
        Cli::try_parse_from(all).map(|cli| match cli.command {
            Command::Purge(args) => args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_arguments_become_the_body() {
        let args = parse(&["--url", "a/1", "--url", "a/2", "--tag", "t", "--soft", "--wait", "cluster"]).unwrap();
        let told = json!({"urls": ["a/1", "a/2"], "tags": ["t"], "soft": true, "wait": "cluster"});
        assert_eq!(body(&args), told);
        assert_eq!(body(&parse(&["--all"]).unwrap()), json!({"all": true}));
    }

    #[test]
    fn people_read_where_it_is_in_force_and_where_not() {
        let told = json!({"id": "1-0", "applied": ["a", "b"], "missing": ["c"], "pending": true});
        let lines = text(&told, false);
        assert!(lines.starts_with("purged on a, b (purge 1-0)\nnot yet on c\nRedis does not answer"), "{lines}");
        let told = json!({"id": "1-0", "applied": ["a"], "missing": [], "pending": false});
        assert_eq!(text(&told, true), "made stale on a (purge 1-0)\n");
    }

    #[test]
    fn something_has_to_be_named() {
        assert!(parse(&[]).is_err() && parse(&["--soft"]).is_err());
    }
}
