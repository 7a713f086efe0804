//! A new process takes the sockets over from a running one.

use crate::support::*;
use std::process::{Child, Command, Stdio};

/// Ends with the test.
struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Successor {
    fn start(proxy: &Proxy) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["serve", "--upgrade", "-c"]).arg(proxy.path("tidegate.yaml"));
        Successor(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

#[tokio::test]
async fn an_upgrade_takes_the_sockets_over_and_no_request_fails() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::fresh("a"));
    let proxy = Proxy::plain(&origin).await;
    let named = || std::fs::read_to_string(proxy.path("tidegate.pid")).unwrap_or_default().trim().to_owned();
    assert_eq!(named(), proxy.pid().to_string());
    let successor = Successor::start(&proxy);
    let serves = successor.0.id().to_string();
    eventually("the new process to serve", async || {
        assert_eq!(proxy.get("/a").await.status, 200);
        (named() == serves).then_some(())
    })
    .await;
    // The old one leaves; what answers from now on is the new one, whose memory is empty.
    eventually("the old process to leave", async || {
        assert_eq!(proxy.get("/a").await.status, 200);
        proxy.log().contains("leaving").then_some(())
    })
    .await;
    assert_eq!(proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn an_upgrade_without_a_running_daemon_says_so() {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    std::fs::remove_file(proxy.path("tidegate.pid")).unwrap();
    let config = proxy.path("tidegate.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["serve", "--upgrade", "-c"]).arg(config).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tidegate.pid") && said.contains("without --upgrade"), "{said}");
}
