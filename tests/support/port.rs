//! A port for a daemon that is about to start, or for nobody at all.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpSocket;

/// A port of the loopback address that the system gives to nobody else, in this process or another, as long as this lives.
///
/// A socket is bound to it and does not listen. A daemon can listen there all the same, since both allow the address to be
/// used again (`SO_REUSEADDR`), and if none does, a connection is refused. A port that is only known to have been free
/// would be given to the daemon of another test, or to a client's end of a connection, before this one listens; and the
/// test would then talk to a daemon that is not its own.
pub struct Port {
    addr: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an address to be used again");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Port { addr: socket.local_addr().expect("its number"), _bound: socket }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}
