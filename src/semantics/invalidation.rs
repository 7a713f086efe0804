//! What a change invalidates: RFC 9111 section 4.4.

use super::target::Target;
use http::{HeaderMap, Method, StatusCode, header};

/// Whether the method is known to change nothing (RFC 9110 section 9.2.1 and the registry of methods). What is not
/// known may change anything.
pub fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// Path and query of everything on the target's host that a response makes invalid, the target first.
///
/// Empty for safe methods and for errors: "non-error" is 2xx or 3xx. `Location` and `Content-Location` count only on
/// the same host, so that no origin can empty another's entries.
pub fn invalidates(method: &Method, status: StatusCode, target: Target<'_>, response: &HeaderMap) -> Vec<String> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut paths = vec![target.path_and_query.to_owned()];
    for field in [header::LOCATION, header::CONTENT_LOCATION] {
        for value in response.get_all(field) {
            if let Some(reference) = target.resolve(value.as_bytes())
                && reference.is_same_host(target)
                && !paths.contains(&reference.path_and_query)
            {
                paths.push(reference.path_and_query);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::super::testing::headers;
    use super::*;

    const TARGET: Target<'_> = Target { scheme: "http", authority: "example.com", path_and_query: "/a/b?c" };

    fn invalid(method: &str, status: u16, pairs: &[(&str, &str)]) -> Vec<String> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        invalidates(&method, StatusCode::from_u16(status).unwrap(), TARGET, &headers(pairs))
    }

    // RFC 9111 section 4.4
    #[test]
    fn success_of_an_unsafe_or_unknown_method_invalidates_the_target() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "UNKNOWN"] {
            assert_eq!(invalid(method, 200, &[]), ["/a/b?c"], "{method}");
            assert_eq!(invalid(method, 303, &[]), ["/a/b?c"], "{method}");
        }
    }

    #[test]
    fn an_error_invalidates_nothing() {
        for status in [400, 404, 500, 503] {
            assert!(invalid("POST", status, &[]).is_empty(), "{status}");
        }
    }

    #[test]
    fn a_safe_method_invalidates_nothing() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(invalid(method, 200, &[("location", "/x")]).is_empty(), "{method}");
        }
    }

    #[test]
    fn location_and_content_location_of_the_same_host_are_invalid_too() {
        let pairs = [("location", "http://example.com/x"), ("content-location", "y")];
        assert_eq!(invalid("PUT", 201, &pairs), ["/a/b?c", "/x", "/a/y"]);
    }

    #[test]
    fn another_host_stays_untouched() {
        let pairs = [("location", "http://other.example/x"), ("content-location", "//example.com:81/y")];
        assert_eq!(invalid("PUT", 201, &pairs), ["/a/b?c"]);
    }
}
