//! An origin that counts what it is asked for. What is under `/held/` it answers only when told to, and the second time.

use crate::PATIENCE;
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long an answer takes that nobody holds.
const SLOW: Duration = Duration::from_millis(100);

/// Bytes of a body.
const LENGTH: usize = 4096;

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    asked: Mutex<HashMap<String, u64>>,
    /// Changes with each request, and each path that is let go.
    news: watch::Sender<u64>,
    let_go: Mutex<Vec<String>>,
}

/// What a path's body is.
pub(crate) fn body_of(path: &str) -> Bytes {
    path.bytes().cycle().take(LENGTH).collect()
}

impl Origin {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, state) = (listener.local_addr()?, Arc::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Origin { address, state })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.counts().values().sum()
    }

    pub(crate) fn requests_for(&self, path: &str) -> u64 {
        self.state.counts().get(path).copied().unwrap_or(0)
    }

    /// Waits until a path was asked for so often.
    pub(crate) async fn until_asked(&self, path: &str, times: u64) -> Result<()> {
        let mut news = self.state.news.subscribe();
        let asked = news.wait_for(|_| self.requests_for(path) >= times);
        tokio::time::timeout(PATIENCE, asked).await.with_context(|| format!("{path} is not asked for"))??;
        Ok(())
    }

    /// Answers who waits for a path.
    pub(crate) fn let_go(&self, path: &str) {
        self.state.let_go.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        self.state.news.send_modify(|news| *news += 1);
    }
}

impl State {
    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_go(&self, path: &str) -> bool {
        self.let_go.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|other| other == path)
    }
}

async fn answer<B>(state: Arc<State>, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut news = state.news.subscribe();
    *state.counts().entry(path.clone()).or_insert(0) += 1;
    state.news.send_modify(|news| *news += 1);
    if path.starts_with("/held/") {
        // The sender lives as long as the state.
        let _ = news.wait_for(|_| state.may_go(&path)).await;
    } else if path.starts_with("/crowd/") {
        tokio::time::sleep(SLOW).await;
    }
    let mut response = Response::new(Full::new(body_of(&path)));
    response.headers_mut().insert("cache-control", hyper::header::HeaderValue::from_static("max-age=600"));
    Ok(response)
}
