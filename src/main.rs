//! The `tidegate` command.

use std::process::ExitCode;

// Half a request's allocations are small and freed by another thread; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
