//! Which of several stored responses answers a request: RFC 9111 section 4.1.
