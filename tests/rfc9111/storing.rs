//! What is stored, and what is not: RFC 9111 section 3.
