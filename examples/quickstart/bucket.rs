//! An S3 server with one bucket of a few files, kept as plain files in a folder.

use crate::port;
use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connection;
use s3s::auth::SimpleAuth;
use s3s::dto::{PutObjectInput, StreamingBlob};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Request};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;

/// The key id that the server knows.
pub(crate) const ACCESS_KEY: &str = "tidegate";

/// Its secret.
pub(crate) const SECRET_KEY: &str = "tidegate-secret";

const BUCKET: &str = "media";

const PORT: u16 = 9000;

/// Key, content type, content.
const OBJECTS: &[(&str, &str, &str)] = &[
    ("index.html", "text/html; charset=utf-8", include_str!("files/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("files/style.css")),
    ("logo.svg", "image/svg+xml", include_str!("files/logo.svg")),
    ("photos/moon.svg", "image/svg+xml", include_str!("files/photos/moon.svg")),
    ("photos/high tide.svg", "image/svg+xml", include_str!("files/photos/high tide.svg")),
];

/// Starts the server and puts the objects into its bucket; others that are there stay.
pub(crate) async fn start(folder: &Path) -> Result<SocketAddr> {
    let bucket = folder.join(BUCKET);
    std::fs::create_dir_all(&bucket).with_context(|| format!("cannot make {}", bucket.display()))?;
    let files = open(folder)?;
    for (key, content_type, content) in OBJECTS {
        put(&files, key, content_type, content).await.with_context(|| format!("cannot put {key} into the bucket"))?;
    }
    forget_checksums(folder)?;

    let listener = port::listen(PORT).await?;
    let addr = listener.local_addr()?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    tokio::spawn(serve(listener, builder.build()));
    Ok(addr)
}

fn open(folder: &Path) -> Result<FileSystem> {
    FileSystem::new(folder).map_err(|error| anyhow::anyhow!("cannot use {}: {error:?}", folder.display()))
}

/// Through the server's own code, so that content type and freshness are kept beside the file.
async fn put(files: &FileSystem, key: &str, content_type: &str, content: &str) -> Result<()> {
    let mut input = PutObjectInput::builder();
    input.set_bucket(BUCKET.to_owned());
    input.set_key(key.to_owned());
    input.set_content_type(Some(content_type.to_owned()));
    // Long enough to see hits, short enough to see it run out.
    input.set_cache_control(Some("max-age=60".to_owned()));
    input.set_body(Some(StreamingBlob::from(Body::from(content.to_owned()))));
    let request = S3Request {
        input: input.build()?,
        method: http::Method::PUT,
        uri: http::Uri::default(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    };
    files.put_object(request).await?;
    Ok(())
}

/// Without a kept checksum the server makes the `ETag` from the file, so that a file edited by hand gets a new one.
fn forget_checksums(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        if file.to_string_lossy().ends_with(".internal.json") {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, service: S3Service) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that hangs up is no concern of the server's.
                    let _ = Connection::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            // Out of file descriptors, say: others may close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
