//! How Redis is reached: one server, the master that Sentinels name, or a Redis Cluster.

use super::advice::{IS_CLUSTER, IS_REPLICA, IS_SENTINEL};
use super::command::{Command, Reply, Trouble};
use super::{Channel, Event, Hears};
use crate::config::{RedisLogin, RedisServer, RedisTier, RedisTopology};
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use ::redis::io::tcp::TcpSettings;
use ::redis::io::tcp::socket2::TcpKeepalive;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, TlsCertificates, TlsMode, Value,
};
use std::io;
use std::time::Duration;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// The same of one node of a cluster: that it is silent must not keep us from the others.
const CONNECT_NODE: Duration = Duration::from_millis(750);

/// What was sent and not acknowledged by the other machine for so long, it will not get.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// A connection on which nothing happens for so long is asked whether it is there: pings go to each server of a cluster only as
/// long as the connection knows it.
const IDLE: Duration = Duration::from_secs(5);

/// Answers that are waited for at once, on one connection. Beyond it the wait is for sending, within the same deadline.
const UNDER_WAY: usize = 4096;

/// Longer than any command may take; each has a deadline of its own.
const NEVER: Duration = Duration::from_secs(60);

/// An open connection that all share. Commands are sent as they come, without waiting for the answers of those before.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects, and subscribes to all channels. What comes from them, and the end of the connection, are told to `hears`.
    pub(super) async fn open(tier: &RedisTier, hears: Hears) -> Result<Self, Trouble> {
        let opened = tokio::time::timeout(CONNECT, open(tier, hears)).await;
        opened.unwrap_or(Err(Trouble::Slow(CONNECT)))
    }

    /// Sends a command and waits for the answer, without a deadline.
    pub(super) async fn send(&self, command: &Command) -> Result<Reply, Trouble> {
        let answer = match self.clone() {
            Connection::One(mut connection) => connection.req_packed_command(command.cmd()).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command.cmd()).await,
        };
        Reply::of(answer?)
    }

    /// Whether it answers. Of a cluster, any node will do: while one is gone, the others serve their part.
    pub(super) async fn ping(&self) -> Result<(), Trouble> {
        let ping = Command::new("PING");
        let answer = match self.clone() {
            Connection::One(mut connection) => connection.req_packed_command(ping.cmd()).await,
            Connection::Cluster(mut connection) => {
                let any = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::OneSucceeded));
                connection.route_command(ping.cmd().clone(), RoutingInfo::MultiNode(any)).await
            }
        };
        Reply::of(answer?).map(drop)
    }
}

async fn open(tier: &RedisTier, hears: Hears) -> Result<Connection, Trouble> {
    let certificates = certificates(tier)?;
    let push = move |info: PushInfo| note(&hears, info);
    let settings = || {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(NEVER))
            .set_pipeline_buffer_size(UNDER_WAY)
    };
    match &tier.topology {
        RedisTopology::Standalone => {
            let mut last = Trouble::Down;
            // More than one address: the first that answers, and is no replica.
            for server in &tier.servers {
                let info = connection_info(server)?;
                let client = match &certificates {
                    Some(certificates) if server.tls => Client::build_with_tls(info, certificates.clone())?,
                    _ => Client::open(info)?,
                };
                let settings = settings().set_push_sender(push.clone());
                match client.get_multiplexed_async_connection_with_config(&settings).await {
                    Ok(mut connection) => {
                        if let Err(trouble) = is_standalone(&mut connection).await {
                            last = trouble;
                            continue;
                        }
                        for channel in Channel::ALL {
                            connection.subscribe(channel.name(&tier.prefix)).await?;
                        }
                        return Ok(Connection::One(connection));
                    }
                    Err(e) => last = e.into(),
                }
            }
            Err(last)
        }
        RedisTopology::Sentinel { master, login } => {
            let mut client = sentinel(tier, master, login, certificates)?;
            let settings = settings().set_push_sender(push);
            let mut connection = client.get_async_connection_with_config(&settings).await?;
            // Sentinels may still name the old one.
            let mut role = Cmd::new();
            role.arg("ROLE");
            if let Value::Array(parts) = connection.req_packed_command(&role).await?
                && !matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
            {
                return Err(Trouble::Unusable("the Sentinels name a server that is no master".to_owned()));
            }
            for channel in Channel::ALL {
                connection.subscribe(channel.name(&tier.prefix)).await?;
            }
            Ok(Connection::One(connection))
        }
        RedisTopology::Cluster => {
            let infos = tier.servers.iter().map(connection_info).collect::<Result<Vec<_>, _>>()?;
            let mut builder = ClusterClientBuilder::new(infos)
                .connection_timeout(CONNECT_NODE)
                .response_timeout(NEVER)
                .retries(3)
                .min_retry_wait(10)
                .max_retry_wait(200)
                .use_protocol(ProtocolVersion::RESP3)
                .tcp_settings(tcp())
                .push_sender(push);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            let mut connection = builder.build()?.get_async_connection().await?;
            for channel in Channel::ALL {
                connection.subscribe(channel.name(&tier.prefix)).await?;
            }
            Ok(Connection::Cluster(connection))
        }
    }
}

/// Tells what came by itself.
fn note(hears: &Hears, info: PushInfo) -> Result<(), ::redis::aio::SendError> {
    let event = match info.kind {
        PushKind::Disconnection => Event::Missed,
        PushKind::Message => match <[Value; 2]>::try_from(info.data) {
            Ok([Value::BulkString(channel), Value::BulkString(message)]) => match Channel::of(&channel) {
                Some(channel) => Event::Message(channel, message.into()),
                None => return Ok(()),
            },
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    hears.tell(event);
    Ok(())
}

/// One of a cluster, one that answers for others, or one that copies another one would refuse nearly everything that it is asked.
async fn is_standalone(connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    let hello = Command::new("HELLO");
    let answer = Reply::of(connection.req_packed_command(hello.cmd()).await?)?.into_array();
    let told = |name: &[u8]| answer.iter().skip_while(|part| part.bytes() != Some(name)).nth(1).and_then(Reply::bytes);
    match (told(b"mode"), told(b"role")) {
        (Some(b"cluster"), _) => Err(Trouble::Unusable(IS_CLUSTER.to_owned())),
        (Some(b"sentinel"), _) => Err(Trouble::Unusable(IS_SENTINEL.to_owned())),
        (_, Some(b"replica" | b"slave")) => Err(Trouble::Unusable(IS_REPLICA.to_owned())),
        _ => Ok(()),
    }
}

fn sentinel(
    tier: &RedisTier,
    master: &str,
    login: &RedisLogin,
    certificates: Option<TlsCertificates>,
) -> Result<SentinelClient, Trouble> {
    let Some(first) = tier.servers.first() else { return Err(Trouble::Down) };
    let addresses = tier.servers.iter().map(address);
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_redis_db(first.database.into());
    if let Some(username) = &first.login.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &first.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &login.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if first.tls {
        builder =
            builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
    }
    Ok(builder.build()?)
}

fn address(server: &RedisServer) -> ConnectionAddr {
    let (host, port) = (server.host.clone(), server.port);
    match &server.socket {
        Some(socket) => ConnectionAddr::Unix(socket.clone()),
        None if server.tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    }
}

fn connection_info(server: &RedisServer) -> Result<ConnectionInfo, Trouble> {
    let mut redis = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(server.database.into());
    if let Some(username) = &server.login.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &server.login.password {
        redis = redis.set_password(password);
    }
    Ok(address(server).into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    let alive = TcpKeepalive::new().with_time(IDLE).with_interval(Duration::from_secs(1)).with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(alive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED);
    settings
}

/// The authorities and the certificate of the configuration, read anew for each connection, as they are renewed in place.
fn certificates(tier: &RedisTier) -> Result<Option<TlsCertificates>, Trouble> {
    let Some(tls) = &tier.tls else { return Ok(None) };
    let read = |path: &std::path::Path| {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        std::fs::read(path).map_err(named)
    };
    let root_cert = tls.ca.as_deref().map(read).transpose()?;
    let client_tls = match &tls.identity {
        Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        None => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}
