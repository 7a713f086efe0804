//! A decision, told: the shape that dry-run prints and that `Tidegate-Debug` carries.

use crate::config::Bucket;
use crate::decide::{NormalizedFields, Request, RequestAction, RequestVerdict, ResponseAction, ResponseVerdict};
use crate::policy::decision::TierName;
use crate::policy::{Input, Policy, PolicyError};
use crate::semantics::vary::VaryFields;
use http::{HeaderMap, HeaderName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a request is treated as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    bucket: String,
    policy: Option<PolicyPart>,
    request: RequestPart,
    response: Option<ResponsePart>,
    inputs: Vec<String>,
    error: Option<ErrorPart>,
    micros: f64,
}

#[derive(Debug, Clone, Serialize)]
struct PolicyPart {
    file: String,
    version: String,
}

#[derive(Debug, Clone, Serialize)]
struct RequestPart {
    outcome: &'static str,
    reason: Option<String>,
    key: Option<KeyPart>,
    vary: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Serialize)]
struct KeyPart {
    parts: Vec<String>,
    hash: String,
}

/// What was decided about a response.
#[derive(Debug, Clone, Serialize)]
pub struct ResponsePart {
    outcome: &'static str,
    reason: Option<String>,
    ttl: Option<f64>,
    ttl_from: Option<&'static str>,
    stale_while_revalidate: Option<f64>,
    stale_if_error: Option<f64>,
    vary: Vec<String>,
    tags: Vec<String>,
    tiers: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
struct ErrorPart {
    file: String,
    line: Option<u32>,
    message: String,
}

impl Explanation {
    /// What was decided before lookup.
    pub fn of_request(
        bucket: &Bucket,
        policy: Option<&Policy>,
        verdict: &RequestVerdict,
        inputs: &[Input],
        took: Duration,
    ) -> Self {
        let (outcome, reason, key) = match &verdict.action {
            RequestAction::Lookup(key) => {
                let key = KeyPart { parts: key.to_strings(), hash: format!("{:032x}", key.hash()) };
                ("lookup", None, Some(key))
            }
            RequestAction::Bypass(reason) => ("bypass", Some(reason.as_str().into_owned()), None),
        };
        let vary = verdict.normalized.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            (name.as_str().to_owned(), value)
        });
        Explanation {
            bucket: bucket.name.to_string(),
            policy: policy
                .map(|policy| PolicyPart { file: policy.file().to_owned(), version: policy.version().to_owned() }),
            request: RequestPart { outcome, reason, key, vary: vary.collect() },
            response: None,
            inputs: inputs.iter().map(ToString::to_string).collect(),
            error: verdict.error.as_ref().map(ErrorPart::of),
            micros: took.as_secs_f64() * 1e6,
        }
    }

    /// Adds what was decided about a response.
    #[must_use]
    pub fn with_response(
        mut self,
        part: ResponsePart,
        error: Option<&PolicyError>,
        request: &Request<'_>,
        normalized: &NormalizedFields,
    ) -> Self {
        for name in &part.vary {
            let Ok(name) = HeaderName::try_from(name.as_str()) else { continue };
            let reduced = normalized.iter().find(|(reduced, _)| *reduced == name);
            let value = match reduced {
                Some((_, value)) => value.as_ref().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()),
                None => joined(request.headers, &name),
            };
            self.request.vary.insert(name.as_str().to_owned(), value);
        }
        self.response = Some(part);
        self.error = error.map(ErrorPart::of).or(self.error);
        self
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.reduce(|all, more| all + ", " + more).map(std::borrow::Cow::into_owned)
}

impl ErrorPart {
    fn of(error: &PolicyError) -> Self {
        ErrorPart { file: error.file.to_string(), line: error.line, message: error.message.clone() }
    }
}

impl ResponsePart {
    /// Tells a verdict on a response with these fields.
    pub fn of(verdict: &ResponseVerdict, headers: &HeaderMap) -> Self {
        let seconds = |duration: Duration| Some(duration.as_secs_f64());
        let mut vary: Vec<String> =
            VaryFields::of(headers).names().iter().map(|name| name.as_str().to_owned()).collect();
        match &verdict.action {
            ResponseAction::Pass(reason) => ResponsePart {
                outcome: "pass",
                reason: Some(reason.to_string()),
                ttl: None,
                ttl_from: None,
                stale_while_revalidate: None,
                stale_if_error: None,
                vary,
                tags: Vec::new(),
                tiers: Vec::new(),
            },
            ResponseAction::Store(storing) => {
                vary.extend(storing.vary.iter().filter(|name| !vary.contains(name)).cloned().collect::<Vec<_>>());
                let freshness = &storing.facts.freshness;
                ResponsePart {
                    outcome: "store",
                    reason: None,
                    ttl: seconds(freshness.ttl(freshness.response_time)),
                    ttl_from: Some(freshness.source.as_str()),
                    stale_while_revalidate: seconds(freshness.window_while_revalidate()),
                    stale_if_error: seconds(freshness.window_if_error()),
                    vary,
                    tags: storing.facts.tags.to_vec(),
                    tiers: storing.write_to.iter().map(TierName::as_str).collect(),
                }
            }
        }
    }
}

impl std::fmt::Display for Explanation {
    /// For people: one thing a line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = |name: &str, value: &str| writeln!(f, "{name:<24}{value}");
        line("bucket", &self.bucket)?;
        match &self.policy {
            Some(policy) => line("policy", &format!("{} ({})", policy.file, policy.version))?,
            None => line("policy", "none: RFC 9111 decides")?,
        }
        let request = &self.request;
        line("request", &said(request.outcome, request.reason.as_deref()))?;
        if let Some(key) = &request.key {
            line("key", &format!("{:?}", key.parts))?;
            line("key hash", &key.hash)?;
        }
        for (name, value) in &request.vary {
            line("vary", &format!("{name}: {}", value.as_deref().unwrap_or("(absent)")))?;
        }
        if let Some(response) = &self.response {
            line("response", &said(response.outcome, response.reason.as_deref()))?;
            if let (Some(ttl), Some(from)) = (response.ttl, response.ttl_from) {
                line("ttl", &format!("{ttl} s, from {from}"))?;
            }
            let windows = [
                ("stale while revalidate", response.stale_while_revalidate),
                ("stale if error", response.stale_if_error),
            ];
            for (name, window) in windows {
                if let Some(window) = window.filter(|window| *window > 0.0) {
                    line(name, &format!("{window} s"))?;
                }
            }
            for (name, list) in [("varies on", &response.vary), ("tags", &response.tags)] {
                if !list.is_empty() {
                    line(name, &list.join(", "))?;
                }
            }
            if !response.tiers.is_empty() {
                line("tiers", &response.tiers.join(", "))?;
            }
        }
        let inputs = if self.inputs.is_empty() { "nothing".to_owned() } else { self.inputs.join(", ") };
        line("the policy read", &inputs)?;
        if let Some(error) = &self.error {
            let at = error.line.map_or_else(String::new, |line| format!(":{line}"));
            line("error", &format!("{}{at}: {}", error.file, error.message))?;
        }
        line("time", &format!("{:.1} µs", self.micros))
    }
}

fn said(outcome: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| outcome.to_owned(), |reason| format!("{outcome}: {reason}"))
}
