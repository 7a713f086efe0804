//! The end of a request: counted, and written down.

use super::Gate;
use super::context::Context;
use crate::clock;
use crate::decide::RequestAction;
use crate::outcome::{Account, BypassReason, Fault, Outcome};
use crate::policy::Input;
use crate::telemetry::access_log::Record;
use pingora::prelude::Error;
use pingora::proxy::Session;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

impl Gate {
    /// Counts the request and writes it to the logs.
    pub(super) fn account_for(&self, session: &Session, error: Option<&Error>, ctx: &mut Context) {
        if let Some(error) = error {
            self.log_error(session, error, ctx);
        }
        if ctx.background {
            return;
        }
        let fallback = || (Outcome::Error(ctx.fault.unwrap_or(Fault::ClientGone)), Account::default());
        let (outcome, account) = match ctx.outcome.take() {
            Some((Outcome::Bypass(BypassReason::NoTier), _)) | None if ctx.verdict.is_none() => fallback(),
            Some(known) => known,
            None => fallback(),
        };
        let bytes = session.body_bytes_sent() as u64;
        if let Some(site) = &ctx.site {
            site.metrics.counter(&outcome).inc();
            site.metrics.bytes.inc_by(bytes);
            site.metrics.seconds.observe(ctx.started.elapsed().as_secs_f64());
        }
        if let Some(log) = self.access_log.load().as_ref() {
            log.write(&record(session, ctx, &outcome, &account, bytes));
        }
    }

    fn log_error(&self, session: &Session, error: &Error, ctx: &Context) {
        let fault = ctx.fault.unwrap_or_else(|| super::fault::of_error(error));
        let origin = ctx.site.as_ref().map(|site| site.upstream.origin.name.as_str()).unwrap_or_default();
        let path = session.req_header().uri.path();
        let id = ctx.id;
        match fault {
            Fault::ClientGone => tracing::debug!(%id, host = ctx.target.host, path, %error, "the client left"),
            Fault::Internal => tracing::error!(%id, host = ctx.target.host, path, %error, "a request failed"),
            _ if fault.status() < 500 => {
                tracing::debug!(%id, host = ctx.target.host, path, reason = fault.as_str(), "a request was refused");
            }
            _ => tracing::warn!(
                %id, host = ctx.target.host, path, origin, reason = fault.as_str(), %error, "the origin failed a request"
            ),
        }
    }
}

fn record<'a>(
    session: &'a Session,
    ctx: &'a Context,
    outcome: &'a Outcome,
    account: &Account,
    bytes: u64,
) -> Record<'a> {
    let request = session.req_header();
    let key = match ctx.verdict.as_ref().map(|verdict| &verdict.action) {
        Some(RequestAction::Lookup(key)) => Some(format!("{:032x}", key.hash())),
        _ => None,
    };
    Record {
        time: clock::unix_seconds(ctx.now),
        id: ctx.id.to_string(),
        bucket: ctx.site.as_ref().map(|site| &*site.bucket.name),
        client: Some(ctx.client_ip),
        method: request.method.as_str(),
        scheme: ctx.target.scheme,
        host: &ctx.target.host,
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        status: session.response_written().map_or(0, |response| response.status.as_u16()),
        bytes,
        outcome: outcome.as_str(),
        reason: outcome.reason(),
        tier: outcome.tier().map(|tier| tier.as_str()),
        ttl: account.ttl,
        age: ctx.age,
        key,
        policy: ctx.policy.as_ref().map(|policy| policy.name()),
        version: ctx.policy.as_ref().map(|policy| policy.version()),
        origin_micros: ctx.origin_micros,
        total_micros: ctx.started.elapsed().as_micros() as u64,
        inputs: inputs(session, ctx),
    }
}

/// The header fields that the policy read, with their values, so that the log can be replayed. Of credentials the log has
/// a digest only: equal ones stay equal, and nobody can log in with them.
fn inputs(session: &Session, ctx: &Context) -> Map<String, Value> {
    let headers = &session.req_header().headers;
    let read = ctx.inputs.iter().filter_map(|input| match input {
        Input::Header(name) => Some(name.as_str()),
        // Each cookie that was read is part of the one field.
        Input::Cookie(_) => Some("cookie"),
        _ => None,
    });
    read.map(|name| {
        let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        let value = match (name, values.is_empty()) {
            (_, true) => Value::Null,
            ("authorization" | "proxy-authorization", _) => Value::String(masked_credentials(&values.join(", "))),
            ("cookie", _) => Value::String(masked_cookies(&values.join("; "))),
            _ => Value::String(values.join(", ")),
        };
        (name.to_owned(), value)
    })
    .collect()
}

/// The scheme, and a digest of the rest.
fn masked_credentials(value: &str) -> String {
    match value.split_once(' ') {
        Some((scheme, rest)) => format!("{scheme} {}", digest(rest)),
        None => digest(value),
    }
}

/// The name of each cookie, and a digest of its value.
fn masked_cookies(value: &str) -> String {
    let cookies = value.split(';').map(|cookie| match cookie.trim().split_once('=') {
        Some((name, value)) => format!("{name}={}", digest(value)),
        None => cookie.trim().to_owned(),
    });
    cookies.collect::<Vec<_>>().join("; ")
}

fn digest(secret: &str) -> String {
    let hash = Sha256::digest(secret.as_bytes());
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_credentials_apart_without_giving_them_away() {
        let (one, two) = (masked_credentials("Bearer one"), masked_credentials("Bearer two"));
        assert!(one.starts_with("Bearer sha256:") && one != two && !one.contains("one"), "{one}");
        let cookies = masked_cookies("sid=secret; theme=dark");
        assert!(cookies.starts_with("sid=sha256:") && cookies.contains("; theme=sha256:"), "{cookies}");
        assert!(!cookies.contains("secret"), "{cookies}");
    }
}
