//! Where answers come from: how a request is prepared for an origin, and which of its servers gets it.
//!
//! ```text
//! client's target ─→ s3::S3Signer::prepare ─→ target, Host and signed fields of an S3 bucket
//! key hash        ─→ pool::Pool::pick      ─→ address, TLS name and Host of one server
//!                    pool::Pool::report    ←─ whether the connection came about
//! ```
//!
//! Nothing here talks HTTP for a client or knows the cache: the proxy asks, connects and reports back. Only active
//! health checks open connections of their own.

pub mod credentials;
pub mod pool;
pub mod s3;

pub use credentials::{CredentialSource, CredentialsError};
pub use pool::{Picked, Pool, PoolError, ServerState, ServerStatus};
pub use s3::{Prepared, S3OriginError, S3Refusal, S3Signer};
