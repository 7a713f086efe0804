//! Policies.
pub mod decision;
pub mod view;
