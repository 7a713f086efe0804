//! Ports of this machine.

use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use tokio::net::TcpListener;

/// Listens on a port that people can remember, or on any if it is taken.
pub(crate) async fn listen(preferred: u16) -> Result<TcpListener> {
    match TcpListener::bind(("127.0.0.1", preferred)).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            TcpListener::bind("127.0.0.1:0").await.context("no port of 127.0.0.1 is free")
        }
        other => other.with_context(|| format!("cannot listen on 127.0.0.1:{preferred}")),
    }
}

/// Fails if somebody listens on an address that the daemon will want: waiting for it would talk to a stranger.
pub(crate) async fn expect_free(address: &str, who: &str) -> Result<()> {
    match TcpListener::bind(address).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("{address} is taken, and {who} needs it: stop what listens there and start again")
        }
        Err(error) => Err(error).with_context(|| format!("{who} cannot listen on {address}")),
    }
}
