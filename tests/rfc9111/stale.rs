//! Stale responses, when the origin fails and otherwise: RFC 9111 section 4.2.4, RFC 5861.
