//! What an unsafe request does to stored responses: RFC 9111 section 4.4.
