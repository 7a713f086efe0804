//! The connection to Redis, which nodes share: what is sent over it has a deadline, and is not sent at all while Redis is known
//! not to answer.
//!
//! * [`command`]: what is said, and the answers
//! * `connection`: how a server is reached
//! * [`advice`]: what to do if it is not
//! * `keeper`: whether it is asked, `hold`: how long it is left alone if not
//!
//! No request ever waits for a connection: without one the answer is [`Trouble::Down`], at once.

pub mod advice;
pub mod command;
mod connection;
mod hold;
mod keeper;

pub use advice::Advice;
pub use command::{Command, Reply, Script, Trouble};

use crate::config::RedisTier;
use crate::telemetry::metrics;
use crate::telemetry::quiet::Quiet;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use connection::Connection;
use hold::Hold;
use keeper::PING;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, broadcast};

/// A command that no request waits for may take so many times as long as one that a request waits for, and a second at least.
const BEHIND: u32 = 20;

/// Messages that a listener may be behind.
const BACKLOG: usize = 4096;

/// What nodes tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// A fill has ended for which other nodes wait.
    Fills,
    /// Something was purged, or a node has applied that.
    Purges,
}

impl Channel {
    /// Each of them.
    pub const ALL: [Channel; 2] = [Channel::Fills, Channel::Purges];

    fn as_str(self) -> &'static str {
        match self {
            Channel::Fills => "fills",
            Channel::Purges => "purges",
        }
    }

    /// Its name in Redis.
    pub fn name(self, prefix: &str) -> String {
        format!("{prefix}{}", self.as_str())
    }

    /// The channel of that name. Only our own are subscribed to, so the prefix is not looked at.
    fn of(name: &[u8]) -> Option<Self> {
        Channel::ALL.into_iter().find(|channel| name.ends_with(channel.as_str().as_bytes()))
    }
}

/// What comes without being asked for.
#[derive(Debug, Clone)]
pub enum Event {
    /// Connected, and subscribed to all channels.
    Connected,
    /// Messages may have been missed.
    Missed,
    /// A message.
    Message(Channel, Bytes),
}

/// Hears [`Event`]s.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Event>);

impl Listener {
    /// The next one. One that did not keep up has [`Event::Missed`] some.
    pub async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => Event::Missed,
            // The sender lives as long as the process.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The next one, if there is one already.
    pub fn waiting(&mut self) -> Option<Event> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Event::Missed),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

/// The end of a connection that hears what comes by itself.
#[derive(Debug, Clone)]
struct Hears {
    events: broadcast::Sender<Event>,
    doubt: Arc<Notify>,
}

impl Hears {
    /// Tells those who listen. That nobody does is no error.
    fn tell(&self, event: Event) {
        if matches!(event, Event::Missed) {
            self.doubt.notify_one();
        }
        let _ = self.events.send(event);
    }
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A request waits: `cache.redis.timeout`.
    Request,
    /// Nobody does: twenty times as long, and a second at least.
    Behind,
}

/// The connection, and what is known about it.
pub struct Redis {
    tier: RedisTier,
    runtime: Runtime,
    connection: ArcSwapOption<Connection>,
    /// It answers.
    up: AtomicBool,
    /// Commands in a row that failed.
    failures: AtomicU32,
    /// Some failed since the keeper has looked.
    is_troubled: AtomicBool,
    /// The server is not what was connected to any more.
    is_another: AtomicBool,
    /// Until when it is left alone.
    hold: Mutex<Hold>,
    says_down: Quiet,
    says_up: Quiet,
    /// Wakes the keeper, who finds out what is the matter.
    doubt: Arc<Notify>,
    /// The connection is given up.
    renew: Notify,
    events: broadcast::Sender<Event>,
    /// Microseconds.
    timeout: AtomicU64,
    /// Why it is not available.
    why: Mutex<Option<String>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("servers", &self.tier.servers).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// Not connected yet. Lives as long as the process, because requests hold on to it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(tier: &RedisTier) -> io::Result<&'static Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("redis").enable_all().build()?;
        let redis = Box::leak(Box::new(Redis {
            tier: tier.clone(),
            runtime,
            connection: ArcSwapOption::empty(),
            up: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            is_troubled: AtomicBool::new(false),
            is_another: AtomicBool::new(false),
            hold: Mutex::default(),
            says_down: Quiet::default(),
            says_up: Quiet::default(),
            doubt: Arc::default(),
            renew: Notify::new(),
            events: broadcast::channel(BACKLOG).0,
            timeout: AtomicU64::new(0),
            why: Mutex::new(None),
        }));
        redis.set_timeout(tier.timeout);
        redis.show(false);
        Ok(redis)
    }

    /// Connects, now and whenever it has to be done again, behind the caller.
    pub fn start(&'static self) {
        self.runtime.spawn(self.keep());
    }

    /// Connects once, to see whether that can be done.
    ///
    /// # Errors
    /// It cannot, for this reason.
    pub fn try_once(&self) -> Result<(), Trouble> {
        self.runtime.block_on(async {
            let connection = Connection::open(&self.tier, self.hears()).await?;
            tokio::time::timeout(PING, connection.ping()).await.unwrap_or(Err(Trouble::Slow(PING)))
        })
    }

    fn hears(&self) -> Hears {
        Hears { events: self.events.clone(), doubt: self.doubt.clone() }
    }

    /// Connects anew. After a long sleep nobody answers on a connection that the other side has given up, nor says so.
    pub fn reconnect(&self) {
        self.renew.notify_waiters();
    }

    /// Runs something that belongs to Redis and to no request.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Hears what comes from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.events.subscribe())
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Why it does not.
    pub fn why_down(&self) -> Option<String> {
        self.why.lock().clone()
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.tier.prefix
    }

    /// How long an answer may take for which a request waits.
    pub fn set_timeout(&self, timeout: Duration) {
        self.timeout.store(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long an answer may take for which a request waits.
    pub fn timeout(&self) -> Duration {
        self.deadline(Patience::Request)
    }

    /// The same, of one who is so patient.
    pub fn deadline(&self, patience: Patience) -> Duration {
        let timeout = Duration::from_micros(self.timeout.load(Ordering::Relaxed));
        match patience {
            Patience::Request => timeout,
            Patience::Behind => timeout.saturating_mul(BEHIND).max(Duration::from_secs(1)),
        }
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Trouble`]. A command without an answer may have been carried out.
    pub async fn call(&self, command: &Command, patience: Patience) -> Result<Reply, Trouble> {
        self.call_within(command, self.deadline(patience)).await
    }

    async fn call_within(&self, command: &Command, deadline: Duration) -> Result<Reply, Trouble> {
        let began = Instant::now();
        let answer = match self.connection.load_full().filter(|_| self.is_up()) {
            None => Err(Trouble::Down),
            Some(connection) => match tokio::time::timeout(deadline, connection.send(command)).await {
                Ok(answer) => answer,
                Err(_) => Err(Trouble::Slow(deadline)),
            },
        };
        self.judge(&answer);
        let result = answer.as_ref().err().map_or("ok", Trouble::as_str);
        metrics().redis_commands.with_label_values(&[command.name(), result]).inc();
        if !matches!(answer, Err(Trouble::Down)) {
            metrics().redis_seconds.with_label_values(&[command.name()]).observe(began.elapsed().as_secs_f64());
        }
        answer
    }

    /// Runs a script.
    ///
    /// # Errors
    /// As those of [`Redis::call`]; the deadline is one for all that it takes.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        patience: Patience,
    ) -> Result<Reply, Trouble> {
        self.run_until(script, keys, args, Instant::now() + self.deadline(patience)).await
    }

    /// Runs a script, with a deadline that it shares with others.
    ///
    /// # Errors
    /// As those of [`Redis::call`].
    pub async fn run_until(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        until: Instant,
    ) -> Result<Reply, Trouble> {
        let left = || until.saturating_duration_since(Instant::now());
        match self.call_within(&script.by_hash(keys, args), left()).await {
            // A server that was started a moment ago, or is another one.
            Err(trouble) if trouble.is_unknown_script() => self.call_within(&script.by_text(keys, args), left()).await,
            answer => answer,
        }
    }
}
