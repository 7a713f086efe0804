//! The life of a request, as Pingora's hooks.
//!
//! | step | hook | done in |
//! |---|---|---|
//! | limits, bucket, client | `request_filter` | [`request`] |
//! | policy and key | `request_filter`, `request_cache_filter`, `cache_key_callback` | [`request`], [`crate::decide`] |
//! | tiers | `Storage::lookup` | [`crate::store`] |
//! | is the entry still good | `cache_hit_filter`, `should_serve_stale` | [`stored`] |
//! | one fill per key | `CacheKeyLock::lock` | [`crate::lock`] |
//! | a crowd on an origin that fails | `proxy_upstream_filter`, `should_serve_stale` | [`crowd`] |
//! | origin | `upstream_peer`, `upstream_request_filter` | [`upstream`] |
//! | parts put together | `upstream_response_filter`, `upstream_response_body_filter` | [`partial`] |
//! | admission | `response_cache_filter` | [`stored`], [`crate::decide`] |
//! | interim responses, the answer to a `POST`, what a `HEAD` says | `upstream_response_filter` | `interim`, [`post`], `head_update` |
//! | response | `response_filter` | [`response`] |
//! | the client of a request that fetches for others | `response_filter` | [`leader`] |
//! | account | `logging` | [`account`] |
//! | what is to be purged | `request_filter` | [`purging`] |
//! | our own errors | `fail_to_proxy` | [`fault`] |

pub mod account;
pub mod app;
pub mod backlog;
pub mod context;
pub mod crowd;
mod failures;
pub mod fault;
mod head_update;
mod heads;
mod interim;
pub mod leader;
pub mod partial;
mod policies;
pub mod post;
pub mod prediction;
pub mod prompt;
pub mod purging;
pub mod request;
pub mod response;
pub mod site;
mod socket;
pub mod stored;
pub mod trust;
pub mod upstream;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::decide;
use crate::lock::{FillLock, Uncacheable};
use crate::remote::Redis;
use crate::store::Store;
use crate::store::disk::DiskTier;
use crate::telemetry::access_log::AccessLog;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use context::Context;
use partial::FetchedWhole;
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, HttpPeer, Result};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, RangeType, Session};
pub use policies::Policies;
use prediction::Prediction;
use prompt::PromptStream;
use site::Live;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long the rest of a body that nobody wants may take, before its connection is worth less than a new one.
const DRAIN: Duration = Duration::from_secs(5);

/// The proxy: everything that requests share.
pub struct Gate {
    /// Configuration in force.
    pub live: ArcSwap<Live>,
    /// Policies in force.
    pub policies: Policies,
    /// What is stored.
    pub store: &'static Store,
    /// What nodes share, if they share anything.
    pub redis: Option<&'static Redis>,
    /// This node among those who share it.
    pub cluster: Option<&'static Cluster>,
    /// One fill per key.
    pub lock: &'static FillLock,
    /// Keys that are not worth waiting for.
    pub prediction: &'static Prediction,
    /// Keys of which no parts are fetched.
    pub fetched_whole: FetchedWhole,
    /// Where each request is logged.
    pub access_log: ArcSwap<Option<AccessLog>>,
    /// Requests under way.
    active: Arc<AtomicUsize>,
}

impl Gate {
    /// Builds what a configuration asks for. Storage, lock and memory of uncacheable keys live as long as the process,
    /// because the framework refers to them from its connections.
    pub fn new(config: Arc<Config>, access_log: Option<AccessLog>) -> Result<Self, String> {
        let cache = &config.cache;
        let uncacheable: &'static Uncacheable = leak(Uncacheable::new(decide::NotStored::is_passing));
        let disk = cache.disk.clone().map(DiskTier::new).transpose().map_err(|e| format!("cache.disk: {e}"))?;
        let disk: Option<&'static DiskTier> = disk.map(leak);
        let redis = cache.redis.as_ref().map(Redis::new).transpose().map_err(|e| format!("cache.redis: {e}"))?;
        let lock: &'static FillLock = leak(FillLock::new(cache.lock.age, cache.lock.max_waiters));
        let store: &'static Store = leak(Store::new(cache, disk, redis, uncacheable).with_lock(lock, &cache.lock));
        let cluster = redis.map(|redis| Cluster::new(redis, store.purges().clone(), &config.server.node));
        let policies = Policies::load(&config);
        let live = Live::new(config, None)?;
        Ok(Gate {
            live: ArcSwap::from_pointee(live),
            policies,
            store,
            redis,
            cluster,
            lock,
            prediction: leak(Prediction { uncacheable, store }),
            fetched_whole: FetchedWhole::default(),
            access_log: ArcSwap::from_pointee(access_log),
            active: Arc::default(),
        })
    }

    /// Puts another configuration in force; requests under way end under the one that they began with.
    pub fn replace(&self, config: Arc<Config>) -> Result<(), String> {
        let live = Live::new(config.clone(), Some(&self.live.load()))?;
        self.policies.replace(&config);
        let cache = &config.cache;
        self.store.set_limits(cache);
        self.lock.set_limits(cache.lock.age, cache.lock.max_waiters);
        live.start();
        self.live.store(Arc::new(live));
        Ok(())
    }

    /// Requests under way.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// Writes out what the logs still hold.
    pub fn close_logs(&self) {
        if let Some(log) = self.access_log.load().as_ref() {
            log.flush();
        }
    }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// [`Gate`] as the framework calls it.
pub struct Hooks(pub Arc<Gate>);

impl Deref for Hooks {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    // Boxed: the framework moves it from future to future.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(&self.active))
    }

    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {
        // Bodies leave as they came; compressing is the origin's or a policy's business.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<()> {
        let live = self.live.load();
        let limits = &live.config.server.limits;
        ctx.background = session.subrequest_ctx.is_some();
        // How long, not whether: the framework has decided already that a client of HTTP/1.0 did not ask for more requests,
        // or that a request with two kinds of length must be the last.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(limits.idle_timeout.as_secs().max(1)));
        }
        if let Some(stream) = PromptStream::of(session) {
            stream.head_is_complete();
        }
        session.set_read_timeout(Some(limits.idle_timeout));
        session.set_write_timeout(Some(limits.idle_timeout));
        session.set_total_drain_timeout(Some(DRAIN));
        // A client that has its whole answer may ask again while the rest of a fill comes in, as after a HEAD that fetches with
        // GET; and may send requests ahead (RFC 9112 section 9.3.2). They are answered one after the other.
        session.set_pipelining_enabled(true);
        // Sent on by `interim`.
        session.set_ignore_info_resp(true);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<bool> {
        if let Some(cluster) = self.cluster
            && cluster.was_stopped(ctx.now)
        {
            cluster.go_on().await;
        }
        match self.admit(session, ctx) {
            Ok(()) if ctx.purges => {
                self.answer_purge(session, ctx).await?;
                Ok(true)
            }
            Ok(()) => Ok(false),
            Err(fault) => {
                self.answer_fault(session, ctx, fault).await?;
                Ok(true)
            }
        }
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.check_body(body.as_ref(), ctx)
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<()> {
        self.enable_cache(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Box<Context>) -> Result<CacheKey> {
        self.cache_key(session, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Box<Context>,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(self.judge_hit(session, meta, hit, is_fresh, ctx))
    }

    fn cache_vary_filter(&self, meta: &CacheMeta, ctx: &mut Box<Context>, req: &RequestHeader) -> Option<HashBinary> {
        stored::variance(meta, ctx, &upstream::as_the_origin_sees_it(req, meta.headers(), ctx))
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<bool> {
        Ok(stored::not_modified(session.req_header(), response, ctx.now))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> RangeType {
        response::range_of(session, response, ctx.now)
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<bool> {
        match self.may_ask_origin(session, ctx) {
            Ok(()) => Ok(true),
            Err(fault) => {
                self.answer_fault(session, ctx, fault).await?;
                Ok(false)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<Box<HttpPeer>> {
        self.choose_server(session, ctx).await
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Context>,
        error: Box<Error>,
    ) -> Box<Error> {
        let error = self.connect_failed(ctx, error);
        self.note_error(session, &error);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Context>,
        client_reused: bool,
    ) -> Box<Error> {
        let error = self.origin_failed(session, ctx, error, client_reused);
        self.note_error(session, &error);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.prepare_for_origin(session, request, ctx).await
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.receive_from_origin(session, response, ctx).await?;
        partial::complete(response, ctx).await
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<Option<Duration>> {
        partial::complete_body(body, end_of_stream, ctx)?;
        ctx.posted.collect(body.as_ref(), end_of_stream);
        Ok(None)
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<RespCacheable> {
        Ok(self.admit_response(session, response, ctx))
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut Box<Context>, error: Option<&Error>) -> bool {
        if let Some(error) = error {
            self.note_error(session, error);
        }
        self.may_serve_stale(session, ctx, error)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        response::ask_again_after_a_foreign_304(session, ctx)?;
        self.finish_response(session, response, ctx);
        response::frame_for_the_client(session, response);
        leader::let_the_fill_run_ahead(session);
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<Context>) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Context>, _error: &Error) -> bool {
        // Logged once, with the request, in `logging`.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Box<Context>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<Context>) {
        self.account_for(session, error, ctx);
        self.keep_connection(session, error.is_some(), ctx).await;
    }
}
