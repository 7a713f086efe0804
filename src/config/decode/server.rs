//! `server`, `admin` and `log`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::expand::expand;
use crate::config::reader::{Place, Section};
use crate::config::value::Value;
use crate::config::{AccessLog, Admin, Limits, Log, LogFormat, LogLevel, Server, TlsListener};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// The folder that systemd gives a service, else the user's own, else `/tmp`.
const UPGRADE_SOCKET: &str = "${RUNTIME_DIRECTORY:-${XDG_RUNTIME_DIR:-/tmp}}/tidegate.sock";
const PID_FILE: &str = "${RUNTIME_DIRECTORY:-${XDG_RUNTIME_DIR:-/tmp}}/tidegate.pid";

/// Addresses given so far, to find two that cannot both be bound.
#[derive(Default)]
pub(super) struct Listeners<'a>(Vec<(SocketAddr, Place<'a>)>);

impl<'a> Listeners<'a> {
    fn add(&mut self, address: SocketAddr, place: Place<'a>) {
        self.0.push((address, place));
    }

    pub(super) fn refuse_overlaps(mut self) {
        self.0.sort_by_key(|(_, place)| place.at);
        for (index, (address, place)) in self.0.iter().enumerate() {
            let earlier = self.0.iter().take(index).find(|(earlier, _)| overlap(*earlier, *address));
            if let Some((earlier, first)) = earlier {
                let line = first.at.line;
                let message = match earlier == address {
                    true => format!("`{address}` is already listened on, see line {line}"),
                    false => format!("`{address}` and `{earlier}` on line {line} need the same port"),
                };
                place.problem(message, "choose another port, or remove one of them");
            }
        }
    }
}

/// Port 0 asks the system for a free port, so it never collides. Across IPv4 and IPv6 it depends on the system.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_ip
}

/// `server`
pub(super) fn server<'a>(s: &mut Section<'a>, listeners: &mut Listeners<'a>) -> Option<Server> {
    let listen = s.list("listen", |value| {
        let address = value.address()?;
        listeners.add(address, value.place.clone());
        Some(address)
    });
    if !s.has("listen") {
        listeners.add(LISTEN, s.place_of("listen"));
    }
    let listen = listen.unwrap_or_else(|| vec![LISTEN]);
    let mut tls_given = false;
    let tls = s.sections("tls", |s| {
        tls_given = true;
        let listen = s.require("listen", "\"0.0.0.0:8443\"", |value| {
            let address = value.address()?;
            listeners.add(address, value.place.clone());
            Some(address)
        });
        let cert = s.require("cert", "cert.pem", |value| value.file());
        let key = s.require("key", "key.pem", |value| value.file());
        Some(TlsListener { listen: listen?, cert: cert?, key: key? })
    });
    if listen.is_empty() && !tls_given {
        s.place_of("listen").problem("there is nothing to listen on", "give an address here or in `tls`");
    }
    let threads = s.get("threads", |value| match value.text_or_empty()?.as_str() {
        "auto" => Some(processors()),
        _ => value.whole(1..=1024),
    });
    let trusted_proxies = s.list("trusted_proxies", |value| value.network()).unwrap_or_default();
    let purge_from = s.list("purge_from", |value| value.network()).unwrap_or_default();
    let node = s.get("node", node);
    let limits = s.section("limits", limits);
    let drain = s.get("drain", |value| value.duration()).unwrap_or(Duration::from_secs(60));
    let upgrade_socket = s.get("upgrade_socket", |value| value.path());
    let pid_file = s.get("pid_file", |value| value.path());
    let default_path = |text| expand(text, s.place.reader.env).map(|path| s.place.resolve(&path)).ok();
    Some(Server {
        listen,
        tls,
        threads: threads.unwrap_or_else(processors),
        trusted_proxies,
        purge_from,
        node: node.unwrap_or_else(host_name),
        limits,
        drain,
        upgrade_socket: upgrade_socket.or_else(|| default_path(UPGRADE_SOCKET))?,
        pid_file: pid_file.or_else(|| default_path(PID_FILE))?,
    })
}

/// A name that reads well in a list and a log.
fn node(value: &Value<'_>) -> Option<String> {
    let name = value.text()?;
    if name.len() <= 255 && name.chars().all(|c| c.is_ascii_graphic()) {
        return Some(name);
    }
    value.place.problem("is no name for a node", "use at most 255 visible ASCII characters without spaces");
    None
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn limits(s: &mut Section<'_>) -> Limits {
    Limits {
        header_bytes: s.get("header_bytes", |value| value.size_limit()).unwrap_or(64 << 10),
        uri_bytes: s.get("uri_bytes", |value| value.size_limit()).unwrap_or(16 << 10),
        body_bytes: s.get("body_bytes", |value| value.size_limit()).unwrap_or(100 << 20),
        header_timeout: s.get("header_timeout", |value| value.positive_duration()).unwrap_or(Duration::from_secs(10)),
        idle_timeout: s.get("idle_timeout", |value| value.positive_duration()).unwrap_or(Duration::from_secs(60)),
    }
}

/// `admin`, which may be `off`. Left out, health and metrics answer on loopback.
pub(super) fn admin<'a>(root: &mut Section<'a>, listeners: &mut Listeners<'a>) -> Option<Admin> {
    if !root.has("admin") {
        listeners.add(ADMIN_LISTEN, root.place_of("admin"));
        root.optional("admin", |s| admin_section(s, &mut Listeners::default()));
        return Some(Admin { listen: ADMIN_LISTEN, token: None });
    }
    root.word_or_section(
        "admin",
        |value| {
            if !value.is_off() {
                value.place.problem("expected a mapping or `off`", "write `admin: { listen: \"127.0.0.1:9090\" }`");
            }
            None
        },
        |s| Some(admin_section(s, listeners)),
    )
}

fn admin_section<'a>(s: &mut Section<'a>, listeners: &mut Listeners<'a>) -> Admin {
    let listen = s.get("listen", |value| value.address());
    if listen.is_some() || !s.has("listen") {
        listeners.add(listen.unwrap_or(ADMIN_LISTEN), s.place_of("listen"));
    }
    let token = s.get("token", |value| {
        // `${TOKEN:-}` of an unset variable is no token, and without one nothing under `/v1/` answers.
        let token = value.text_or_empty().filter(|token| !token.is_empty())?;
        // It travels in a header field.
        if token.chars().all(|c| c.is_ascii_graphic()) {
            return Some(token);
        }
        value.place.problem("holds a character that a bearer token cannot have", "use visible ASCII without spaces");
        None
    });
    Admin { listen: listen.unwrap_or(ADMIN_LISTEN), token }
}

/// `log`
pub(super) fn log(s: &mut Section<'_>) -> Log {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: s.get("level", |value| value.word(&levels)).unwrap_or_default(),
        format: s.get("format", |value| value.word(&formats)).unwrap_or_default(),
        access: s
            .get("access", |value| {
                if value.is_off() {
                    return Some(AccessLog::Off);
                }
                let text = value.text()?;
                Some(if text == "stdout" { AccessLog::Stdout } else { AccessLog::File(value.place.resolve(&text)) })
            })
            .unwrap_or_default(),
    }
}
