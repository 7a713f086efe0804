//! What is said to Redis, and what it answers.

use ::redis::{Cmd, ErrorKind, RedisError, Script as Sha1, ServerErrorKind, Value};
use std::io;
use std::sync::OnceLock;

/// A command, or a call of a script.
#[derive(Debug, Clone)]
pub struct Command {
    name: &'static str,
    cmd: Cmd,
}

impl Command {
    /// Without arguments yet. The name is a label in metrics as well.
    pub fn new(name: &'static str) -> Self {
        let mut cmd = Cmd::new();
        cmd.arg(name);
        Command { name, cmd }
    }

    /// With one argument more.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.cmd.arg(arg.as_ref());
        self
    }

    /// Its label.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn cmd(&self) -> &Cmd {
        &self.cmd
    }
}

/// A script that Redis runs: several commands as one, in one round trip. All keys of a call are of one hash slot, so that a
/// Redis Cluster runs it as well.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// A script. The name is a label in metrics.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Script { name, text, hash: OnceLock::new() }
    }

    /// A call by hash, which is enough once the server has seen the text.
    pub(super) fn by_hash(&self, keys: &[&[u8]], args: &[&[u8]]) -> Command {
        let hash = self.hash.get_or_init(|| Sha1::new(self.text).get_hash().to_owned());
        self.call("EVALSHA", hash, keys, args)
    }

    /// A call with the text, which the server remembers.
    pub(super) fn by_text(&self, keys: &[&[u8]], args: &[&[u8]]) -> Command {
        self.call("EVAL", self.text, keys, args)
    }

    fn call(&self, how: &str, what: &str, keys: &[&[u8]], args: &[&[u8]]) -> Command {
        let mut cmd = Cmd::new();
        cmd.arg(how).arg(what).arg(keys.len());
        for part in keys.iter().chain(args) {
            cmd.arg(*part);
        }
        Command { name: self.name, cmd }
    }
}

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing is there.
    Nil,
    /// A number; true and false are 1 and 0.
    Int(i64),
    /// A string, or a status such as `OK`.
    Bytes(Vec<u8>),
    /// Several; of a map, each key before its value.
    Array(Vec<Reply>),
}

impl Reply {
    pub(super) fn of(value: Value) -> Result<Self, Trouble> {
        let all = |values: Vec<Value>| values.into_iter().map(Reply::of).collect::<Result<_, _>>().map(Reply::Array);
        match value {
            Value::Nil => Ok(Reply::Nil),
            Value::Int(number) => Ok(Reply::Int(number)),
            Value::BulkString(bytes) => Ok(Reply::Bytes(bytes)),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Reply::Bytes(text.into_bytes())),
            Value::Okay => Ok(Reply::Bytes(b"OK".to_vec())),
            Value::Array(values) | Value::Set(values) => all(values),
            Value::Map(pairs) => all(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
            Value::Attribute { data, .. } => Reply::of(*data),
            Value::Boolean(yes) => Ok(Reply::Int(yes.into())),
            Value::Double(number) => Ok(Reply::Bytes(number.to_string().into_bytes())),
            Value::ServerError(error) => Err(Trouble::from(RedisError::from(error))),
            other => Err(Trouble::Unexpected(format!("{other:?}").chars().take(100).collect())),
        }
    }

    /// A string.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A number, also one that is written as a string.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Reply::Nil | Reply::Array(_) => None,
        }
    }

    /// Several; none of what is not several.
    pub fn into_array(self) -> Vec<Reply> {
        match self {
            Reply::Array(replies) => replies,
            _ => Vec::new(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Trouble {
    /// It is not connected, or was found not to answer; nothing was sent.
    #[error("Redis is not available")]
    Down,
    /// It did not answer in time. Whether it did what it was asked for is not known.
    #[error("Redis did not answer within {0:?}")]
    Slow(std::time::Duration),
    /// The connection broke. Whether it did what it was asked for is not known.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// It refuses everything for now, as it is loading its data, is no master any more, or does not know us.
    #[error("Redis does not serve: {0}")]
    Unusable(String),
    /// It refused this, for a reason that begins with a code such as `OOM`.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// Its answer has a shape that it should not have.
    #[error("Redis answered what was not expected: {0}")]
    Unexpected(String),
}

impl Trouble {
    /// Whether the server does not know the script.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Trouble::Refused(why) if why.starts_with("NOSCRIPT"))
    }

    /// Whether the server is a replica.
    pub(super) fn is_of_replica(&self) -> bool {
        matches!(self, Trouble::Unusable(why) if why.contains("READONLY"))
    }

    /// The label in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Trouble::Down => "down",
            Trouble::Slow(_) => "timeout",
            Trouble::Broken(_) => "broken",
            Trouble::Unusable(_) => "unusable",
            Trouble::Refused(_) => "refused",
            Trouble::Unexpected(_) => "unexpected",
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let why = match error.detail() {
            Some(detail) if !code.is_empty() => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
            return Trouble::Broken(why);
        }
        match (error.kind(), code) {
            (ErrorKind::AuthenticationFailed | ErrorKind::MasterNameNotFoundBySentinel, _)
            | (ErrorKind::ClusterConnectionNotFound | ErrorKind::NoValidReplicasFoundBySentinel, _)
            | (
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown,
                ),
                _,
            )
            | (
                _,
                "NOAUTH" | "WRONGPASS" | "BUSY" | "MISCONF" | "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN",
            ) => Trouble::Unusable(why),
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => Trouble::Refused(why),
            _ => Trouble::Unexpected(why),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Broken(error.to_string())
    }
}
