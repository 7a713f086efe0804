//! S3 origins: where an object lives and how a request for it is signed (AWS Signature Version 4).
//!
//! The client's path names a key of one bucket, and nothing else: listings and sub-resources are refused unless the
//! origin allows them, a presigned client's signature is dropped, and no path leads out of the bucket. The signing
//! itself is done by the `aws-sigv4` crate.

mod target;

use super::credentials::{CredentialSource, CredentialsError};
use crate::config::{OriginServer, S3Origin, S3Style};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use std::time::SystemTime;

/// SHA-256 of nothing, which S3 wants to be told for a request without a body.
const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Longest target that is signed, in bytes. `http::Uri`, which the signer uses, ends at 65,534 with scheme and host.
const MAX_TARGET: usize = 60_000;

/// Prepares requests for one bucket.
#[derive(Debug)]
pub struct S3Signer {
    /// `https://host[:port]`, what a target is appended to for signing.
    base: String,
    host: HeaderValue,
    /// What stands before every key in a target: `/`, the bucket in path style, the prefix.
    root: String,
    has_prefix: bool,
    region: String,
    subresources: bool,
    credentials: CredentialSource,
    settings: SigningSettings,
}

/// A request, ready for an S3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The target to send, byte for byte: the signature covers it.
    pub path_and_query: String,
    /// The `Host` to send; signed too.
    pub host: HeaderValue,
    /// Fields to set. Empty for anonymous origins.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Prepared {
    /// A field of the client's request that must be dropped before [`Prepared::headers`] are set.
    ///
    /// The client's own authorization would stand against ours, `x-amz-…` fields change what a request means and S3
    /// wants each of them signed, and cookies are no business of a bucket.
    pub fn removes(name: &HeaderName) -> bool {
        *name == header::AUTHORIZATION
            || *name == header::PROXY_AUTHORIZATION
            || *name == header::COOKIE
            || name.as_str().starts_with("x-amz-")
    }
}

/// Why a request is not sent to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3Refusal {
    /// `*`, or an empty target.
    #[error("the request target is not a path: ask for `/` and an object key")]
    NotAPath,
    /// `%` without two hexadecimal digits after it.
    #[error(
        "the request target has a `%` that is not followed by two hexadecimal digits: write `%25` for a percent sign"
    )]
    BadEscape,
    /// Keys are UTF-8.
    #[error("the request target is not UTF-8 once its escapes are decoded: object keys are UTF-8 text")]
    NotUtf8,
    /// `%00`
    #[error("the request target has a NUL character: no object key has one")]
    Nul,
    /// `.` or `..` as a segment.
    #[error("the request target has a `.` or `..` segment: ask for the object's key as it is")]
    DotSegment,
    /// Longer than can be signed.
    #[error("the request target is longer than {MAX_TARGET} bytes once encoded: object keys end at 1024 bytes")]
    TooLong,
    /// The bucket itself.
    #[error("listing the bucket is not allowed here: ask for an object, or set `subresources: true` on the origin")]
    Listing,
    /// `?acl` and its kin.
    #[error(
        "the sub-resource `{0}` is not allowed here: ask for the object itself, or set `subresources: true` on the origin"
    )]
    SubResource(String),
    /// There is nothing to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The signer did not accept the request or the credentials.
    #[error("the request could not be signed: {0}; look for stray characters in the credentials and the region")]
    Signing(String),
}

impl S3Refusal {
    /// The status to answer: 4xx where the request is wrong, 502 where this side is.
    pub fn status(&self) -> StatusCode {
        match self {
            S3Refusal::NotAPath
            | S3Refusal::BadEscape
            | S3Refusal::NotUtf8
            | S3Refusal::Nul
            | S3Refusal::DotSegment => StatusCode::BAD_REQUEST,
            S3Refusal::TooLong => StatusCode::URI_TOO_LONG,
            S3Refusal::Listing | S3Refusal::SubResource(_) => StatusCode::FORBIDDEN,
            S3Refusal::Credentials(_) | S3Refusal::Signing(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

/// An origin that no request can be prepared for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3OriginError {
    /// The endpoint does not make a `Host`.
    #[error("`{0}` is not a host name: set `endpoint` to a URL such as `https://s3.eu-west-1.amazonaws.com`")]
    Endpoint(String),
    /// The bucket's name would be another path or host.
    #[error("`{0}` is not a bucket name: set `bucket` to its name alone, of letters, digits, `.`, `-` and `_`")]
    Bucket(String),
    /// The prefix would lead out of the bucket.
    #[error("`{0}` is not a prefix: `.` and `..` segments are not allowed in `prefix`")]
    Prefix(String),
}

impl S3Signer {
    /// A signer for an origin. Credentials that are missing are reported when they are needed, and by
    /// [`S3Signer::credentials`].
    pub fn new(origin: &S3Origin) -> Result<Self, S3OriginError> {
        check_bucket(&origin.bucket)?;
        let host = host(&origin.endpoint, virtual_host_bucket(origin));
        let value = HeaderValue::from_str(&host).map_err(|_| S3OriginError::Endpoint(host.clone()))?;
        let base = format!("{}://{host}", if origin.endpoint.tls { "https" } else { "http" });
        if base.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::len)).is_none_or(|length| length == 0) {
            return Err(S3OriginError::Endpoint(host));
        }

        let mut root = String::from("/");
        if origin.style == S3Style::Path {
            root.push_str(&origin.bucket);
            root.push('/');
        }
        let prefix = folder(&origin.prefix)?;
        target::push_encoded_key(&mut root, &prefix);

        Ok(S3Signer {
            base,
            host: value,
            root,
            has_prefix: !prefix.is_empty(),
            region: origin.region.clone(),
            subresources: origin.subresources,
            credentials: CredentialSource::new(&origin.credentials),
            settings: settings(),
        })
    }

    /// Where the credentials come from, to be checked at start and shown by the admin API.
    pub fn credentials(&self) -> &CredentialSource {
        &self.credentials
    }

    /// Prepares one request: `path` and `query` as the client sent them (the query without `?`), `now` in real time,
    /// which S3 compares with its own clock and refuses when it is 15 minutes off.
    pub fn prepare(&self, method: &Method, path: &str, query: &str, now: SystemTime) -> Result<Prepared, S3Refusal> {
        let key = target::object_key(path)?;
        // Servers that merge slashes take a key of slashes alone for the bucket.
        if !self.subresources && !self.has_prefix && key.trim_start_matches('/').is_empty() {
            return Err(S3Refusal::Listing);
        }
        let query = target::canonical_query(query, self.subresources)?;

        let mut path_and_query = String::with_capacity(self.root.len() + path.len() + query.len() + 1);
        path_and_query.push_str(&self.root);
        target::push_encoded_key(&mut path_and_query, &key);
        if !query.is_empty() {
            path_and_query.push('?');
            path_and_query.push_str(&query);
        }
        if path_and_query.len() > MAX_TARGET {
            return Err(S3Refusal::TooLong);
        }

        let headers = self.signed_fields(method, &path_and_query, now)?;
        Ok(Prepared { path_and_query, host: self.host.clone(), headers })
    }

    fn signed_fields(
        &self,
        method: &Method,
        path_and_query: &str,
        now: SystemTime,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, S3Refusal> {
        let Some(credentials) = self.credentials.current()? else { return Ok(Vec::new()) };
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(now)
            .settings(self.settings.clone())
            .build()
            .map_err(|error| S3Refusal::Signing(error.to_string()))?
            .into();
        let host = self.host.to_str().unwrap_or_default();
        let request = SignableRequest::new(
            method.as_str(),
            format!("{}{path_and_query}", self.base),
            std::iter::once((header::HOST.as_str(), host)),
            body(method),
        )
        .map_err(signing)?;
        let (instructions, _signature) = sign(request, &params).map_err(signing)?.into_parts();

        let (fields, _query) = instructions.into_parts();
        fields
            .into_iter()
            .map(|field| {
                let mut value = HeaderValue::from_str(field.value())
                    .map_err(|_| S3Refusal::Signing(format!("`{}` cannot be sent in a header field", field.name())))?;
                value.set_sensitive(field.sensitive());
                Ok((HeaderName::from_static(field.name()), value))
            })
            .collect()
    }
}

/// How S3 wants to be signed for, unlike every other AWS service: the path is encoded once and not normalised, and the
/// hash of the body is a field.
fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    // Nothing of what is handed to the signer is to be left unsigned.
    settings.excluded_headers = None;
    settings
}

/// A body streams through, so its hash cannot be known before its last byte.
fn body(method: &Method) -> SignableBody<'static> {
    match *method {
        Method::POST | Method::PUT | Method::PATCH => SignableBody::UnsignedPayload,
        _ => SignableBody::Precomputed(EMPTY_BODY.to_owned()),
    }
}

fn signing(error: aws_sigv4::http_request::SigningError) -> S3Refusal {
    // The signer's own message says little; its source says what was wrong.
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    S3Refusal::Signing(format!("{error}{source}"))
}

fn virtual_host_bucket(origin: &S3Origin) -> Option<&str> {
    (origin.style == S3Style::VirtualHost).then_some(origin.bucket.as_str())
}

/// `[bucket.]host[:port]`, the port left out where the scheme implies it, as every client does.
fn host(endpoint: &OriginServer, bucket: Option<&str>) -> String {
    let mut host = String::new();
    if let Some(bucket) = bucket {
        host.push_str(bucket);
        host.push('.');
    }
    host.push_str(&super::pool::authority(&endpoint.host, endpoint.port, endpoint.tls));
    host
}

fn check_bucket(bucket: &str) -> Result<(), S3OriginError> {
    let dots = bucket.bytes().all(|byte| byte == b'.');
    let plain = bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if dots || !plain { Err(S3OriginError::Bucket(bucket.to_owned())) } else { Ok(()) }
}

/// A prefix as a folder: no slash before it, one after it.
fn folder(prefix: &str) -> Result<String, S3OriginError> {
    let prefix = prefix.trim_matches('/');
    if prefix.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(S3OriginError::Prefix(prefix.to_owned()));
    }
    Ok(if prefix.is_empty() { String::new() } else { format!("{prefix}/") })
}

#[cfg(test)]
mod tests;
