//! Talks to the admin API of a running daemon.

use super::{ExitStatus, Printer, load_or_tell};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;

/// Where the admin API is, if nobody says.
const DEFAULT: &str = "http://127.0.0.1:9090";

/// How long a daemon may take to accept a connection, and then for its answer: a purge waits for the disk.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

/// Longest answer that is read.
const LONGEST: usize = 64 << 20;

/// Which daemon is asked, and as whom.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    /// Where the admin API is; else what the configuration says, else $TIDEGATE_ADMIN, else http://127.0.0.1:9090
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Configuration file of the daemon
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin token; else what the configuration says, else $TIDEGATE_ADMIN_TOKEN. Others on this machine can see it here
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// A daemon that can be asked.
pub(super) struct Daemon {
    /// As it was given, for messages.
    url: String,
    authority: String,
    token: Option<String>,
}

impl DaemonArgs {
    /// Finds the daemon, or says why it cannot be found and how the command ends.
    pub(super) fn find(&self, printer: &Printer) -> Result<Daemon, ExitStatus> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (mut url, mut token) = (self.admin.clone(), self.token.clone());
        if let Some(file) = &self.config {
            let config = load_or_tell(file, printer)?.config;
            match config.admin {
                Some(admin) => {
                    url = url.or_else(|| Some(format!("http://{}", reachable(admin.listen))));
                    token = token.or(admin.token);
                }
                None if url.is_none() => {
                    printer.error(&format!(
                        "{}: `admin` is off; turn it on, or name the daemon with --admin URL",
                        file.display()
                    ));
                    return Err(ExitStatus::Bad);
                }
                None => {}
            }
        }
        let url = url.or_else(|| variable("TIDEGATE_ADMIN")).unwrap_or_else(|| DEFAULT.to_owned());
        let token = token.or_else(|| variable("TIDEGATE_ADMIN_TOKEN"));
        match authority_of(&url) {
            Some(authority) => Ok(Daemon { url, authority, token }),
            None => {
                printer.error(&format!("{url:?}: this is no address of an admin API; write it as {DEFAULT}"));
                Err(ExitStatus::Usage)
            }
        }
    }
}

/// An address that listens everywhere is reached here.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let local = if listen.is_ipv4() { [127, 0, 0, 1].into() } else { IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) };
        listen.set_ip(local);
    }
    listen
}

/// Host and port of `http://HOST[:PORT]` or `HOST:PORT`.
fn authority_of(url: &str) -> Option<String> {
    let given = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = given.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@'))?;
    let port = authority.port_u16().unwrap_or(80);
    Some(format!("{}:{port}", authority.host()))
}

impl Daemon {
    /// Asks, and returns what it answered, or one sentence that says what went wrong and what to do.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("the command could not be started: {e}; try again"))?;
        runtime.block_on(self.exchange(method, path, body))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), String> {
        let url = &self.url;
        let late = |_| format!("{url}: the daemon did not answer in time; see its log, and try again");
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority)).await.map_err(late)?;
        let stream = connected.map_err(|e| {
            format!(
                "{url}: no daemon can be reached there: {e}; start it, or name another one with --admin URL or -c FILE"
            )
        })?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(Value::to_string);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request: Result<Request<Full<Bytes>>, _> = request.body(Full::from(body.unwrap_or_default()));
        let request = request.map_err(|_| "the token holds a character that a bearer token cannot have".to_owned())?;
        let broken =
            |e: &dyn std::fmt::Display| format!("{url}: the daemon broke off: {e}; see its log, and try again");
        let answered = tokio::time::timeout(ANSWER, async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
            tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(|e| broken(&e))?;
            Ok::<_, String>((status, body.to_bytes()))
        });
        let (status, body) = answered.await.map_err(late)??;
        if status == StatusCode::UNAUTHORIZED {
            return Err(format!(
                "{url}: the daemon does not accept the token; give the one of `admin.token` with --token, -c FILE or TIDEGATE_ADMIN_TOKEN"
            ));
        }
        let told: Value = serde_json::from_slice(&body).map_err(|_| {
            format!("{url}: what answers there ({status}) is no admin API of tidegate; name it with --admin URL")
        })?;
        if status.is_success() {
            return Ok((status, told));
        }
        let detail = told.get("detail").and_then(Value::as_str).unwrap_or("it gave no reason");
        Err(format!("{url}: the daemon refused ({}): {detail}", status.as_u16()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_or_a_host_and_port() {
        for (url, authority) in [
            ("http://127.0.0.1:9090", Some("127.0.0.1:9090")),
            ("http://cache.example/", Some("cache.example:80")),
            ("localhost:9090", Some("localhost:9090")),
            ("http://[::1]:9090", Some("[::1]:9090")),
            ("https://cache.example", None),
            ("http://cache.example/v1", None),
            ("http://user@cache.example", None),
            ("", None),
            ("http://", None),
        ] {
            assert_eq!(authority_of(url).as_deref(), authority, "{url}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        for (listen, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
