//! What a client can ask of a cache: RFC 9111 section 5.2.1.
