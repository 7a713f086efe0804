//! `cache.redis`: the tier that nodes share.

use std::path::PathBuf;
use std::time::Duration;

/// `cache.redis`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTier {
    /// Where it is reached: one server, several of a cluster, or the Sentinels. One at least.
    pub servers: Vec<RedisServer>,
    /// What the servers are.
    pub topology: RedisTopology,
    /// What proves who is who, for `rediss://`. Default: the system's authorities.
    pub tls: Option<RedisTls>,
    /// What all keys begin with. Default `tidegate:`. Nodes with the same prefix are one cluster.
    pub prefix: String,
    /// Largest object kept. Default 8 MiB; 0 keeps none, and Redis is what nodes agree through.
    pub max_object: u64,
    /// How long an answer may take for which a request waits. Default 50 ms.
    pub timeout: Duration,
    /// Hits in Redis after which an object is copied to a tier of this node; 0 is never. Default 1: the next hit is answered
    /// without asking another machine.
    pub promote_after: u32,
}

/// One address of `cache.redis.url`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// Name or address.
    pub host: String,
    /// Port. Default 6379, or 26379 for a Sentinel.
    pub port: u16,
    /// A Unix socket, instead of host and port.
    pub socket: Option<PathBuf>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Who we are there.
    pub login: RedisLogin,
    /// Number of the database. Default 0, the only one of a cluster.
    pub database: u32,
}

/// Who we are to a server.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RedisLogin {
    /// User of the ACL. Default: `default`.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
}

impl std::fmt::Debug for RedisLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs and error messages.
        f.debug_struct("RedisLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server; of several addresses the first that answers.
    Standalone,
    /// Sentinels, which say where the master of this name is.
    Sentinel {
        /// Name of the master.
        master: String,
        /// Who we are to the Sentinels.
        login: RedisLogin,
    },
    /// Some nodes of a Redis Cluster, which know the others.
    Cluster,
}

/// `cache.redis.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTls {
    /// Authorities that sign servers' certificates, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// Certificate and private key that we show, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Display for RedisTier {
    /// Where it is, without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, server) in self.servers.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            match &server.socket {
                Some(socket) => write!(f, "unix://{}", socket.display())?,
                None => {
                    let scheme = if server.tls { "rediss" } else { "redis" };
                    let (open, close) = if server.host.contains(':') { ("[", "]") } else { ("", "") };
                    write!(f, "{scheme}://{open}{}{close}:{}", server.host, server.port)?;
                }
            }
        }
        match &self.topology {
            RedisTopology::Standalone => Ok(()),
            RedisTopology::Sentinel { master, .. } => write!(f, " (Sentinels of `{master}`)"),
            RedisTopology::Cluster => f.write_str(" (a cluster)"),
        }
    }
}

impl RedisTier {
    /// Whether it is a Redis Cluster.
    pub fn is_cluster(&self) -> bool {
        self.topology == RedisTopology::Cluster
    }
}
