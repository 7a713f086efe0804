use super::*;
use crate::config::S3Credentials;
use std::time::{Duration, UNIX_EPOCH};

fn origin() -> S3Origin {
    S3Origin {
        endpoint: OriginServer { host: "s3.example.com".into(), port: 443, tls: true },
        region: "eu-west-1".into(),
        bucket: "media".into(),
        prefix: String::new(),
        style: S3Style::Path,
        credentials: S3Credentials::Static {
            access_key_id: "AKID".into(),
            secret_access_key: "secret".into(),
            session_token: None,
        },
        subresources: false,
        ca: None,
        verify: true,
    }
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn get(origin: &S3Origin, path: &str, query: &str) -> Result<Prepared, S3Refusal> {
    S3Signer::new(origin).unwrap().prepare(&Method::GET, path, query, noon())
}

fn field<'a>(prepared: &'a Prepared, name: &str) -> Option<&'a str> {
    prepared.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
}

#[test]
fn path_style_names_the_bucket_in_the_path() {
    let prepared = get(&origin(), "/a/b c.svg", "v=1").unwrap();
    assert_eq!(prepared.path_and_query, "/media/a/b%20c.svg?v=1");
    assert_eq!(prepared.host, "s3.example.com");
}

#[test]
fn virtual_host_style_names_the_bucket_in_the_host() {
    let prepared = get(&S3Origin { style: S3Style::VirtualHost, ..origin() }, "/a", "").unwrap();
    assert_eq!(prepared.path_and_query, "/a");
    assert_eq!(prepared.host, "media.s3.example.com");
}

#[test]
fn a_port_that_the_scheme_does_not_imply_is_part_of_the_host() {
    let endpoint = OriginServer { host: "::1".into(), port: 9000, tls: false };
    assert_eq!(get(&S3Origin { endpoint, ..origin() }, "/a", "").unwrap().host, "[::1]:9000");
    let endpoint = OriginServer { host: "minio".into(), port: 443, tls: false };
    assert_eq!(get(&S3Origin { endpoint, ..origin() }, "/a", "").unwrap().host, "minio:443");
}

#[test]
fn a_prefix_is_a_folder_whatever_slashes_it_has() {
    for prefix in ["site v1", "/site v1", "site v1/"] {
        let origin = S3Origin { prefix: prefix.into(), ..origin() };
        assert_eq!(get(&origin, "/a", "").unwrap().path_and_query, "/media/site%20v1/a");
    }
}

#[test]
fn a_signature_names_key_region_and_what_it_covers() {
    let prepared = get(&origin(), "/a", "").unwrap();
    let authorization = field(&prepared, "authorization").unwrap();
    let start = "AWS4-HMAC-SHA256 Credential=AKID/20150830/eu-west-1/s3/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=";
    assert!(authorization.starts_with(start), "{authorization}");
    assert_eq!(field(&prepared, "x-amz-date"), Some("20150830T123600Z"));
    assert_eq!(field(&prepared, "x-amz-content-sha256"), Some(EMPTY_BODY));
}

#[test]
fn the_example_of_the_s3_documentation_gets_its_signature() {
    // "GET Bucket Lifecycle" of the S3 API reference, "Authenticating Requests: Examples of Signature Calculations".
    let origin = S3Origin {
        endpoint: OriginServer { host: "s3.amazonaws.com".into(), port: 443, tls: true },
        region: "us-east-1".into(),
        bucket: "examplebucket".into(),
        style: S3Style::VirtualHost,
        subresources: true,
        credentials: S3Credentials::Static {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        },
        ..origin()
    };
    let day = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
    let prepared = S3Signer::new(&origin).unwrap().prepare(&Method::GET, "/", "lifecycle", day).unwrap();
    let signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    assert!(field(&prepared, "authorization").unwrap().ends_with(signature));
}

#[test]
fn a_session_token_is_sent_and_signed_and_kept_out_of_logs() {
    let credentials = S3Credentials::Static {
        access_key_id: "AKID".into(),
        secret_access_key: "secret".into(),
        session_token: Some("token-value".into()),
    };
    let prepared = get(&S3Origin { credentials, ..origin() }, "/a", "").unwrap();
    assert_eq!(field(&prepared, "x-amz-security-token"), Some("token-value"));
    assert!(field(&prepared, "authorization").unwrap().contains("x-amz-date;x-amz-security-token"));
    assert!(!format!("{prepared:?}").contains("token-value"));
}

#[test]
fn an_anonymous_origin_gets_no_fields() {
    let prepared = get(&S3Origin { credentials: S3Credentials::Anonymous, ..origin() }, "/a", "").unwrap();
    assert!(prepared.headers.is_empty());
}

#[test]
fn a_request_with_a_body_does_not_promise_its_hash() {
    let prepared = S3Signer::new(&origin()).unwrap().prepare(&Method::PUT, "/a", "", noon()).unwrap();
    assert_eq!(field(&prepared, "x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
}

#[test]
fn the_bucket_itself_is_refused_unless_sub_resources_are_allowed() {
    for path in ["/", "//", "/%2F"] {
        let refusal = get(&origin(), path, "").unwrap_err();
        assert_eq!(refusal, S3Refusal::Listing);
        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    }
    let open = S3Origin { subresources: true, ..origin() };
    assert_eq!(get(&open, "/", "list-type=2").unwrap().path_and_query, "/media/?list-type=2");
}

#[test]
fn a_sub_resource_is_refused_by_name() {
    let refusal = get(&origin(), "/a", "acl").unwrap_err();
    assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
    assert!(refusal.to_string().contains("`acl`"));
}

#[test]
fn no_path_leads_out_of_the_bucket() {
    for path in ["/../private/x", "/%2e%2e/private/x", "/a/..%2f..%2fprivate/x"] {
        assert_eq!(get(&origin(), path, "").unwrap_err().status(), StatusCode::BAD_REQUEST, "{path}");
    }
}

#[test]
fn a_target_that_is_too_long_to_sign_is_refused() {
    let path = format!("/{}", "é".repeat(20_000));
    assert_eq!(get(&origin(), &path, "").unwrap_err().status(), StatusCode::URI_TOO_LONG);
}

#[test]
fn fields_that_would_stand_against_the_signature_are_removed() {
    for name in ["authorization", "cookie", "x-amz-date", "x-amz-copy-source", "x-amz-acl", "proxy-authorization"] {
        assert!(Prepared::removes(&HeaderName::from_static(name)), "{name}");
    }
    for name in ["range", "if-none-match", "accept-encoding", "x-amzn-trace-id"] {
        assert!(!Prepared::removes(&HeaderName::from_static(name)), "{name}");
    }
}

#[test]
fn an_origin_that_cannot_work_is_an_error_that_says_what_to_set() {
    let error = |origin: S3Origin| S3Signer::new(&origin).unwrap_err().to_string();
    assert!(error(S3Origin { bucket: "a/b".into(), ..origin() }).contains("set `bucket`"));
    assert!(error(S3Origin { bucket: String::new(), ..origin() }).contains("set `bucket`"));
    assert!(error(S3Origin { prefix: "a/../..".into(), ..origin() }).contains("`prefix`"));
    let endpoint = OriginServer { host: "s3 example".into(), port: 80, tls: false };
    assert!(error(S3Origin { endpoint, ..origin() }).contains("set `endpoint`"));
}

#[test]
fn missing_credentials_are_this_sides_fault() {
    let credentials = S3Credentials::Profile { file: "/nonexistent/credentials".into(), profile: "default".into() };
    let refusal = get(&S3Origin { credentials, ..origin() }, "/a", "").unwrap_err();
    assert_eq!(refusal.status(), StatusCode::BAD_GATEWAY);
}
