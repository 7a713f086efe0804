//! `tidegate dry-run`

use super::{ConfigArg, ExitStatus, Format, Printer, load_or_tell};
use crate::clock;
use crate::config::Config;
use crate::decide::{self, Request, RequestAction, Response, Target, Tiers};
use crate::explain::{Explanation, ResponsePart};
use crate::outcome::BypassReason;
use crate::policy::decision::TierSet;
use crate::policy::{PolicySet, take_inputs};
use crate::purge::{Position, Shared};
use crate::semantics::fields::{ensure_date, remove_hop_by_hop};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

#[derive(Debug, Args)]
pub(super) struct DryRunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Method of the request
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Field of the request; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client_ip: IpAddr,
    /// Status of the origin's response, to decide about storing it as well
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(100..=999))]
    status: Option<u16>,
    /// Field of the origin's response; may be given more than once
    #[arg(long = "response-header", value_name = "NAME: VALUE", requires = "status")]
    response_headers: Vec<String>,
    /// What is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// What is asked for, such as http://img.example.com/cat.jpg?w=100
    url: String,
}

/// Decides one request with the daemon's own code.
pub(super) fn run(args: &DryRunArgs, printer: &Printer) -> ExitStatus {
    let config = match load_or_tell(&args.config.config, printer) {
        Ok(loaded) => loaded.config,
        Err(status) => return status,
    };
    // One reading for the whole decision: a response that came a second before it is looked at would be a second old.
    let now = clock::now();
    let asked = match Asked::of(args, now) {
        Ok(asked) => asked,
        Err(message) => {
            printer.error(&message);
            return ExitStatus::Usage;
        }
    };
    match explain(&config, &asked, args, now) {
        Ok(told) => {
            let text = match args.format {
                Format::Text => told.to_string(),
                Format::Json => serde_json::to_string_pretty(&told).unwrap_or_default() + "\n",
            };
            printer.out(&text);
            ExitStatus::Good
        }
        Err(message) => {
            printer.error(&message);
            ExitStatus::Bad
        }
    }
}

/// The request, and the response if one was given, as the command line says them.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    target: Target,
    response: Option<(u16, HeaderMap)>,
}

impl Asked {
    fn of(args: &DryRunArgs, now: SystemTime) -> Result<Self, String> {
        let method = Method::from_bytes(args.method.as_bytes())
            .map_err(|_| format!("-X {:?}: this is no method; methods are tokens such as GET", args.method))?;
        let url: Uri = args.url.parse().map_err(|e| format!("{:?}: this is no URL: {e}", args.url))?;
        let mut headers = fields(&args.headers, "-H")?;
        let authority =
            match url.authority() {
                Some(authority) => authority.to_string(),
                None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned).ok_or_else(
                    || format!("{:?}: the URL names no host; write http://HOST/PATH or add -H 'host: HOST'", args.url),
                )?,
            };
        let scheme = if url.scheme_str() == Some("https") { "https" } else { "http" };
        let host = decide::host_of(&authority).ok_or_else(|| format!("{authority:?}: this is no valid host"))?;
        if let (false, Ok(value)) = (headers.contains_key(header::HOST), HeaderValue::from_str(&authority)) {
            headers.insert(header::HOST, value);
        }
        let path_and_query = url.path_and_query().map_or("/", |target| target.as_str());
        let uri = path_and_query.parse().map_err(|e| format!("{:?}: this is no URL: {e}", args.url))?;
        let response = match args.status {
            Some(status) => Some((status, received(fields(&args.response_headers, "--response-header")?, now))),
            None => None,
        };
        Ok(Asked { method, uri, headers, target: Target { scheme, host, authority }, response })
    }
}

/// A response's fields as the daemon sees them: without those of its connection, and with the date on which it came.
fn received(mut headers: HeaderMap, now: SystemTime) -> HeaderMap {
    remove_hop_by_hop(&mut headers);
    ensure_date(&mut headers, now);
    headers
}

fn fields(lines: &[String], option: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            Some((name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("{option} {line:?}: write it as 'name: value'"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn explain(config: &Config, asked: &Asked, args: &DryRunArgs, now: SystemTime) -> Result<Explanation, String> {
    let (host, path) = (&asked.target.host, asked.uri.path());
    let bucket = config.bucket_for(host, path).ok_or_else(|| {
        let file = config.file.display();
        format!("{file}: no bucket serves host {host:?} and path {path:?}; the daemon would answer 404")
    })?;
    if !decide::lets_through(bucket, &asked.method) {
        let (file, name) = (config.file.display(), &bucket.name);
        return Err(format!("{file}: bucket {name} lets no {} through; the daemon would answer 405", asked.method));
    }
    let names: Vec<_> = bucket.policy.iter().cloned().collect();
    // A policy that does not work is a decision as well: the one that the daemon would come to.
    let (policies, _) = PolicySet::load(&config.policies.dir, &names, &config.policies.limits);
    let policy = bucket.policy.as_deref().and_then(|name| policies.get(name)).map(AsRef::as_ref);
    let request = Request {
        method: &asked.method,
        uri: &asked.uri,
        headers: &asked.headers,
        target: &asked.target,
        client_ip: args.client_ip,
        now,
        upgrade: asked.headers.contains_key(header::UPGRADE),
        has_body: asked.headers.contains_key(header::TRANSFER_ENCODING)
            || asked.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0"),
    };
    // The first call on a thread also sets up its VM, which no later request pays for.
    decide::request(bucket, policy, &request);
    let began = Instant::now();
    let mut verdict = decide::request(bucket, policy, &request);
    let mut inputs = take_inputs();
    let tiers = Tiers::of(&config.cache);
    if matches!(verdict.action, RequestAction::Lookup(_)) && tiers.on(TierSet::ALL).is_empty() {
        verdict = verdict.bypassed(BypassReason::NoTier);
    }
    let response = asked.response.as_ref().map(|(status, headers)| {
        let seen = Position::BEGINNING;
        let response = Response {
            status: *status,
            headers,
            request_time: now,
            response_time: now,
            tiers: &tiers,
            seen,
            shared: Shared::default(),
            asked: 0,
        };
        let policy = policy.filter(|_| verdict.error.is_none());
        decide::response(bucket, policy, &verdict, &request, &response)
    });
    let took = began.elapsed();
    inputs.extend(take_inputs());
    inputs.sort();
    inputs.dedup();
    let told = Explanation::of_request(bucket, policy, &verdict, &inputs, took);
    Ok(match (response, &asked.response) {
        (Some(decided), Some((_, headers))) => {
            let part = ResponsePart::of(&decided, headers);
            told.with_response(part, decided.error.as_ref(), &request, &verdict.normalized)
        }
        _ => told,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    const CONFIG: &str = "
server: { listen: [\"127.0.0.1:8080\"] }
cache: { memory: { capacity: 64MiB } }
origins: { main: { http: { servers: [\"127.0.0.1:9\"] } } }
buckets: { main: { match: { hosts: [\"*\"] }, origin: main } }
";

    #[test]
    fn a_response_without_a_date_comes_at_the_time_of_the_decision() {
        let config = Config::parse(CONFIG, Path::new("tidegate.yaml"), &|_| None).unwrap().config;
        let line = [
            "tidegate",
            "dry-run",
            "-c",
            "tidegate.yaml",
            "--status",
            "200",
            "--response-header",
            "cache-control: max-age=900",
        ];
        let Command::DryRun(args) = Cli::try_parse_from(line.into_iter().chain(["http://a.example/"])).unwrap().command
        else {
            panic!("not a dry run");
        };
        // Far away on either side, so that a look at the clock by any part would make the response decades old.
        for seconds in [1_000_000_000, 4_000_000_000] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(999);
            let asked = Asked::of(&args, now).unwrap();
            let told = serde_json::to_value(explain(&config, &asked, &args, now).unwrap()).unwrap();
            assert_eq!(told["response"]["ttl"], 900.0, "{told:#}");
        }
    }
}
