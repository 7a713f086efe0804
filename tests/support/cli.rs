//! The command line: run it, and compare what it printed without what differs from run to run.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a finished command left behind. The folder it ran in reads `[DIR]`.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// Runs `tidegate ARGS` in `dir`.
pub fn run(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    for name in ["TIDEGATE_ADMIN", "TIDEGATE_ADMIN_TOKEN"] {
        command.env_remove(name);
    }
    let output = command.output().expect("the binary");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "[DIR]");
    Output {
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        code: output.status.code().expect("an exit status, not a signal"),
    }
}

impl Output {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Both streams, for commands that are free to choose one.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output with measured times as `[TIME]`.
    pub fn without_times(&self) -> String {
        without_times(&self.stdout)
    }
}

/// Replaces the number of each `"micros": N`.
pub fn without_times(text: &str) -> String {
    const FIELD: &str = "\"micros\":";
    let mut pieces = text.split(FIELD);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let number = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
        out += &format!("{FIELD} [TIME]{}", piece.trim_start_matches(number));
    }
    out
}
