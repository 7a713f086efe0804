//! From a client's request target to an object key and a canonical query, both safe to sign.
//!
//! S3 has no folders: a key is a string of up to 1024 bytes of UTF-8 that may hold slashes. A signature covers the key
//! encoded in exactly one way, so whatever spelling a client chose is decoded first and encoded again here.

use super::S3Refusal;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use std::borrow::Cow;

/// What AWS calls `UriEncode`: everything but the unreserved characters of RFC 3986 section 2.3.
const QUERY_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same for keys, whose slashes stay.
const KEY: &AsciiSet = &QUERY_PART.remove(b'/');

/// The key that a path names, decoded.
///
/// `%2F` is a slash like any other, and `+` is a plus sign. Segments `.` and `..` are valid in keys but are refused,
/// because what sits between here and the bucket may take them for folders and leave the bucket.
pub(super) fn object_key(path: &str) -> Result<String, S3Refusal> {
    let encoded = path.strip_prefix('/').ok_or(S3Refusal::NotAPath)?;
    let key = decode(encoded)?;
    if key.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(S3Refusal::DotSegment);
    }
    Ok(key.into_owned())
}

/// Appends a key as it stands in a request target and in the canonical request.
pub(super) fn push_encoded_key(out: &mut String, key: &str) {
    out.extend(utf8_percent_encode(key, KEY));
}

/// The query as it is sent and signed: decoded, encoded again and sorted; empty if nothing is left.
///
/// Sending the canonical order spares the origin and us from having to agree on how repeated names are sorted.
/// Fields of presigned URLs are left out: the request is signed here, and S3 refuses two signatures.
pub(super) fn canonical_query(query: &str, subresources: bool) -> Result<String, S3Refusal> {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        let name = decode_form(name)?;
        if is_signature(&name) {
            continue;
        }
        if !subresources && is_subresource(&name) {
            return Err(S3Refusal::SubResource(name));
        }
        let value = value.map(decode_form).transpose()?;
        pairs.push((encode_query_part(&name), value.as_deref().map(encode_query_part)));
    }
    pairs.sort_unstable();

    let mut canonical = String::with_capacity(query.len());
    for (name, value) in &pairs {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        canonical.push_str(name);
        if let Some(value) = value {
            canonical.push('=');
            canonical.push_str(value);
        }
    }
    Ok(canonical)
}

fn encode_query_part(part: &str) -> String {
    utf8_percent_encode(part, QUERY_PART).to_string()
}

/// In queries, S3 and the signer read `+` as a space.
fn decode_form(part: &str) -> Result<String, S3Refusal> {
    if part.contains('+') {
        decode(&part.replace('+', "%20")).map(Cow::into_owned)
    } else {
        decode(part).map(Cow::into_owned)
    }
}

/// Percent-decodes; unlike the crate's decoder, a stray `%` is an error and not a character.
fn decode(text: &str) -> Result<Cow<'_, str>, S3Refusal> {
    if text.split('%').skip(1).any(|after| !starts_with_two_hex_digits(after)) {
        return Err(S3Refusal::BadEscape);
    }
    let decoded = percent_decode(text.as_bytes()).decode_utf8().map_err(|_| S3Refusal::NotUtf8)?;
    if decoded.contains('\0') {
        return Err(S3Refusal::Nul);
    }
    Ok(decoded)
}

fn starts_with_two_hex_digits(text: &str) -> bool {
    matches!(text.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// A query field that carries another signature: Signature Version 4 (`X-Amz-…`) or 2.
fn is_signature(name: &str) -> bool {
    let v4 = name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"));
    v4 || ["AWSAccessKeyId", "Signature", "Expires"].iter().any(|v2| name.eq_ignore_ascii_case(v2))
}

/// A query field that asks for something else than the object's current bytes.
///
/// From the S3 API reference and MinIO's; names are compared without case, so that a lenient server is covered too.
fn is_subresource(name: &str) -> bool {
    SUBRESOURCES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

const SUBRESOURCES: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "lambdaArn",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadata",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "replication-metrics",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(path: &str) -> String {
        let mut out = String::new();
        push_encoded_key(&mut out, &object_key(path).unwrap());
        out
    }

    #[test]
    fn every_spelling_of_a_key_is_encoded_in_the_one_way_that_is_signed() {
        assert_eq!(encoded("/a b"), "a%20b");
        assert_eq!(encoded("/a%20b"), "a%20b");
        assert_eq!(encoded("/a+b"), "a%2Bb");
        assert_eq!(encoded("/a%2bb"), "a%2Bb");
        assert_eq!(encoded("/a%2Fb%2fc"), "a/b/c");
        assert_eq!(encoded("/%7Euser/~"), "~user/~");
        assert_eq!(encoded("/(1)!'*,;:@&=$"), "%281%29%21%27%2A%2C%3B%3A%40%26%3D%24");
        assert_eq!(encoded("/café"), "caf%C3%A9");
        assert_eq!(encoded("/caf%c3%a9"), "caf%C3%A9");
        assert_eq!(encoded("//double//slash/"), "/double//slash/");
        assert_eq!(encoded("/100%25"), "100%25");
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for path in ["/%", "/%4", "/%zz", "/a%2", "/%%41", "/%+1"] {
            assert_eq!(object_key(path), Err(S3Refusal::BadEscape), "{path}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert_eq!(object_key("/%ff%fe"), Err(S3Refusal::NotUtf8));
        assert_eq!(object_key("/a%00b"), Err(S3Refusal::Nul));
        assert_eq!(canonical_query("a=%ff", false), Err(S3Refusal::NotUtf8));
    }

    #[test]
    fn dot_segments_are_refused_in_any_spelling() {
        for path in ["/..", "/../other/x", "/a/../b", "/a/.", "/%2e%2e/x", "/a%2F..%2Fb", "/.%2E"] {
            assert_eq!(object_key(path), Err(S3Refusal::DotSegment), "{path}");
        }
    }

    #[test]
    fn dots_inside_a_name_are_fine() {
        assert_eq!(encoded("/.well-known/a..b/...x"), ".well-known/a..b/...x");
    }

    #[test]
    fn a_target_that_is_no_path_is_refused() {
        assert_eq!(object_key("*"), Err(S3Refusal::NotAPath));
        assert_eq!(object_key(""), Err(S3Refusal::NotAPath));
    }

    #[test]
    fn a_query_is_encoded_again_and_sorted() {
        assert_eq!(canonical_query("b=2&a=1&&c", false).unwrap(), "a=1&b=2&c");
        assert_eq!(canonical_query("a=x+y&a=%2B&b=é/~", false).unwrap(), "a=%2B&a=x%20y&b=%C3%A9%2F~");
        assert_eq!(canonical_query("a=", false).unwrap(), "a=");
        assert_eq!(canonical_query("a=b=c", false).unwrap(), "a=b%3Dc");
        assert_eq!(canonical_query("", false).unwrap(), "");
    }

    #[test]
    fn fields_of_presigned_urls_are_left_out() {
        let presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&x-amz-signature=00&%58-Amz-Date=1&v=2&AWSAccessKeyId=k&Signature=s&Expires=1";
        assert_eq!(canonical_query(presigned, false).unwrap(), "v=2");
    }

    #[test]
    fn sub_resources_are_refused_in_any_spelling_unless_allowed() {
        for query in ["acl", "acl=", "x=1&%61cl", "LIST-TYPE=2", "uploads", "partNumber=1", "versionId=3"] {
            assert!(matches!(canonical_query(query, false), Err(S3Refusal::SubResource(_))), "{query}");
            assert!(canonical_query(query, true).is_ok(), "{query}");
        }
    }
}
