//! Parts of responses: RFC 9110 section 14, RFC 9111 sections 3.3 and 3.4.
