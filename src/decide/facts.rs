//! What stays with an entry of the decision to store it.

use std::time::Duration;

/// What was decided when an entry was stored, beyond its head and its freshness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Serve stale after a 5xx for so long (RFC 5861 section 4); permitted in words by origin or policy.
    pub stale_if_error: Duration,
    /// Serve stale for so long when the origin cannot be reached (RFC 9111 section 4.2.4).
    pub stale_on_disconnect: Duration,
    /// Never serve it stale (RFC 9111 section 5.2.2.2 and its kin).
    pub must_revalidate: bool,
    /// Names that a purge can use.
    pub tags: Box<[String]>,
    /// Age that the response already had when it arrived (RFC 9111 section 4.2.3).
    pub initial_age: Duration,
}
