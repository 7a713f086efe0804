//! Asking the origin whether a stored response still holds: RFC 9111 section 4.3.
