//! How messages pass through: RFC 9110 sections 6, 7 and 15.2, RFC 9112, RFC 9211.
