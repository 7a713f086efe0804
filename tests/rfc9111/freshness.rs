//! How long a response is fresh, and how old it is: RFC 9111 sections 4.2 and 5.3, RFC 9213.
