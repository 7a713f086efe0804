//! A real S3 server on a free port of 127.0.0.1: s3s checks signatures, s3s-fs keeps objects as plain files.
//!
//! An object `key` of `bucket` is the file `<folder>/<bucket>/<key>`, decoded; its content type and other attributes
//! are in `<folder>/.bucket-<base64 of bucket>.object-<base64 of key>.metadata.json`. So a key with an empty segment
//! (`a//b`) cannot be kept apart from `a/b`, and one that ends in a slash is a folder.

#![allow(dead_code, reason = "each test binary uses its own part")]

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connection;
use s3s::auth::SimpleAuth;
use s3s::host::SingleDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The key id that the server knows.
pub const ACCESS_KEY: &str = "tidegate";

/// Its secret.
pub const SECRET_KEY: &str = "tidegate-secret";

/// A running server. Dropping it ends it and deletes its objects.
#[derive(Debug)]
pub struct S3Server {
    addr: SocketAddr,
    folder: TempDir,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl S3Server {
    /// Starts a server with some empty buckets.
    pub async fn start(buckets: &[&str]) -> Self {
        Self::start_with(buckets, |builder, _| builder).await
    }

    /// The same, also reachable under `<bucket>.<domain>:<port>`.
    pub async fn start_with_domain(buckets: &[&str], domain: &str) -> Self {
        Self::start_with(buckets, |mut builder, addr| {
            let domain = format!("{domain}:{}", addr.port());
            builder.set_host(SingleDomain::new(&domain).expect("a domain and a port"));
            builder
        })
        .await
    }

    async fn start_with(
        buckets: &[&str],
        extend: impl FnOnce(S3ServiceBuilder, SocketAddr) -> S3ServiceBuilder,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for bucket in buckets {
            std::fs::create_dir(folder.path().join(bucket)).expect("a bucket's folder");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("the port just bound");

        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a folder for objects"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = extend(builder, addr).build();
        let requests = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, service, requests.clone()));
        S3Server { addr, folder, requests, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:<port>`, for `endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Requests that arrived so far, refused ones too.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The file that holds an object.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.folder.path().join(bucket).join(key)
    }

    /// Puts an object straight into the server's folder, as if an hour ago: what changed just now has no heuristic
    /// freshness.
    pub fn put(&self, bucket: &str, key: &str, body: impl AsRef<[u8]>) {
        let file = self.file(bucket, key);
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).expect("the object's folder");
        std::fs::write(&file, body).expect("the object's file");
        let file = std::fs::File::options().write(true).open(file).expect("the object's file");
        file.set_modified(tidegate::clock::now() - Duration::from_secs(3600)).expect("the object's date");
    }

    /// Takes an object away.
    pub fn delete(&self, bucket: &str, key: &str) {
        std::fs::remove_file(self.file(bucket, key)).expect("the object's file");
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, service: S3Service, requests: Arc<AtomicUsize>) {
    // Connections end with the server, as those of a stopped process do.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let counted = {
            let (service, requests) = (service.clone(), requests.clone());
            hyper::service::service_fn(move |request| {
                requests.fetch_add(1, Ordering::SeqCst);
                hyper::service::Service::call(&service, request)
            })
        };
        connections.spawn(async move {
            let connection = Connection::new(TokioExecutor::new());
            // A client that hangs up is no concern of the server's.
            let _ = connection.serve_connection(TokioIo::new(stream), counted).await;
        });
    }
}
