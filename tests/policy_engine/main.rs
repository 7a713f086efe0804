//! Policies through the engine that production uses: decisions, errors, reloads, and scripts that mean harm.

mod attacks;
mod costly;
mod decisions;
mod reloads;
mod support;
mod views;
