//! Purges, as the admin API and the method `PURGE` ask for them.

use super::Gate;
use super::context::Context;
use super::site::Live;
use crate::clock;
use crate::cluster::Told;
use crate::key::PrimaryKey;
use crate::outcome::{Account, BypassReason, Outcome};
use crate::purge::order::{Order, Wait};
use crate::purge::{Address, NotDurable, Position};
use crate::store::Store;
use crate::telemetry::metrics;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::prelude::Result;
use pingora::proxy::Session;
use serde_json::{Value, json};
use std::time::Duration;

/// The method that purges what it asks for, for those whom `server.purge_from` names.
pub(super) const PURGE: &str = "PURGE";

/// How long a purge waits for the directory of the disk tier, which a process that takes over gets when the other lets go.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a purge may take to be written down, before it is said that it was not.
const LONGEST: Duration = Duration::from_secs(15);

/// A purge that is in force, and will be after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Its name, and its place in the order of all: that of the log, or this node's own where there is none.
    pub id: Position,
    /// The nodes that it is in force on, this one first.
    pub applied: Vec<String>,
    /// The nodes that live and have not said so.
    pub missing: Vec<String>,
    /// Redis does not answer: the other nodes are told when it does. `None` if nobody waited for that.
    pub pending: Option<bool>,
}

impl Purged {
    /// As tools read it.
    pub fn to_json(&self) -> Value {
        let Purged { id, applied, missing, pending, .. } = self;
        json!({"id": id.to_string(), "applied": applied, "missing": missing, "pending": pending})
    }

    /// 200 if it is in force wherever that was asked for, else 202.
    pub fn status(&self) -> StatusCode {
        let is_done = self.missing.is_empty() && self.pending != Some(true);
        if is_done { StatusCode::OK } else { StatusCode::ACCEPTED }
    }
}

/// Why a purge is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NotPurged {
    /// It names what does not exist; nothing was purged.
    #[error("{0}")]
    Unknown(String),
    /// It is in force, and may not be after a restart.
    #[error(
        "It is purged now, but {0}, so what is stored there may come back with a restart; mend that, and purge again."
    )]
    NotDurable(NotDurable),
}

impl NotPurged {
    /// The status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            NotPurged::Unknown(_) => StatusCode::BAD_REQUEST,
            NotPurged::NotDurable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Gate {
    /// Purges. When this returns, nothing that was purged is served here to whoever asks from now on, nor by the other nodes that it
    /// names.
    ///
    /// # Errors
    /// [`NotPurged`] says what is not as it was asked for.
    pub async fn purge(&self, order: Order) -> Result<Purged, NotPurged> {
        let live = self.live.load_full();
        let targets = order.targets(&live.config.buckets).map_err(NotPurged::Unknown)?;
        let node = live.config.server.node.clone();
        for (kind, count) in order.counts() {
            metrics().purges.with_label_values(&[kind.as_str()]).inc_by(count as u64);
        }
        let (store, cluster, soft, count) = (self.store, self.cluster, order.soft, targets.len());
        let waits = order.wait != Some(Wait::Local);
        // It waits for the disk.
        let purged = tokio::task::spawn_blocking(move || {
            let (id, mut written, told) = match cluster {
                None => {
                    let (id, written) = store.purges().purge(&targets, soft, clock::now());
                    (id, written, None)
                }
                Some(cluster) => {
                    let (issued, unwritten) = cluster.issue(&targets, soft, clock::now());
                    // While it is written down, which may take long: after a crash it is read from the log.
                    let told = cluster.tell(issued, waits);
                    (unwritten.at, store.purges().write_issued(unwritten), Some(told))
                }
            };
            if matches!(written, Err(NotDurable::Closed)) && store.purges().wait_until_open(PATIENCE) {
                written = Ok(());
            }
            if !soft {
                remove(store, &order, &live);
            }
            (id, written, told)
        });
        let (id, written, told) = match tokio::time::timeout(LONGEST, purged).await {
            Ok(Ok(purged)) => purged,
            // In force since it began; who hangs is the disk.
            Err(_) => return Err(NotPurged::NotDurable(NotDurable::Io(std::io::ErrorKind::TimedOut.into()))),
            // Nothing in there panics; if it does, nobody knows how far it came.
            Ok(Err(e)) => return Err(NotPurged::NotDurable(NotDurable::Io(std::io::Error::other(e)))),
        };
        // Nobody else is told if there is nobody; who does not wait does not know.
        let pending = (waits || cluster.is_none()).then_some(false);
        let mut purged = Purged { id, applied: vec![node.clone()], missing: Vec::new(), pending };
        if let Some(told) = told.filter(|_| waits) {
            let Told { at, is_unsure, others } = told.await.unwrap_or_default();
            purged.id = at.unwrap_or(id);
            purged.pending = Some(at.is_none() || is_unsure);
            // Of two processes of one name, both count.
            purged.applied.retain(|name| !others.missing.contains(name));
            let others_applied = others.applied.into_iter().filter(|name| *name != node);
            purged.applied.extend(others_applied);
            purged.missing = others.missing;
        }
        let Purged { id, missing, .. } = &purged;
        match written {
            Ok(()) => {
                let missing = missing.join(", ");
                tracing::info!(%id, targets = count, soft, missing, "purged");
                Ok(purged)
            }
            Err(error) => {
                tracing::error!(%id, targets = count, soft, %error, "purged, but not written down");
                Err(NotPurged::NotDurable(error))
            }
        }
    }

    /// Answers a request with the method `PURGE`: what it asks for is purged, by either scheme.
    pub(super) async fn answer_purge(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let path = session.req_header().uri.path_and_query().map_or("/", |target| target.as_str());
        let url = Address { https: None, host: ctx.target.host.clone(), path_and_query: path.to_owned() };
        let purged = self.purge(Order { urls: vec![url], ..Order::default() }).await;
        let (status, kind, body) = match &purged {
            Ok(purged) => (purged.status(), "application/json", purged.to_json()),
            Err(e) => {
                let (status, detail) = (e.status(), e.to_string());
                let title = status.canonical_reason().unwrap_or("Error");
                let told = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
                (status, "application/problem+json", told)
            }
        };
        ctx.outcome = Some((Outcome::Bypass(BypassReason::Method), Account::default()));
        let body = Bytes::from(body.to_string() + "\n");
        let mut head = ResponseHeader::build_no_case(status, Some(6))?;
        head.insert_header(header::CONTENT_TYPE, kind)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(header::DATE, crate::semantics::date::format(clock::now()))?;
        head.insert_header("x-request-id", ctx.id.digits().as_slice())?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body), true).await
    }
}

/// Gives back at once the room of what can be named: the rest goes when it is found.
fn remove(store: &Store, order: &Order, live: &Live) {
    if order.all {
        store.memory().clear();
    }
    for url in &order.urls {
        let path = url.path_and_query.split('?').next().unwrap_or_default();
        let Some(site) = live.site_for(&url.host, path) else { continue };
        let bucket = &site.bucket;
        let host = if bucket.host_in_key { url.host.as_str() } else { "" };
        for (scheme, https) in [("http", false), ("https", true)] {
            if url.https.is_none_or(|wanted| wanted == https) {
                // The key without a policy; with one, there may be nothing under it.
                store.remove_purged(&PrimaryKey::from_uri(&bucket.name, host, scheme, &url.path_and_query));
            }
        }
    }
}
