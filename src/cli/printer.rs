//! The only place that writes to the terminal.

use std::io::{IsTerminal, Write};

/// Writes to standard output and standard error.
#[derive(Debug)]
pub(super) struct Printer {
    colour: bool,
}

impl Printer {
    /// Colour only on a terminal, and not where `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Printer { colour: std::io::stderr().is_terminal() && !unwanted }
    }

    /// What the command was asked for.
    pub(super) fn out(&self, text: &str) {
        // A reader that went away, as `head` does, is no reason to complain.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }

    /// Something wrong.
    pub(super) fn error(&self, text: &str) {
        self.labelled("error", "31", text);
    }

    /// Something to know.
    pub(super) fn warning(&self, text: &str) {
        self.labelled("warning", "33", text);
    }

    fn labelled(&self, label: &str, colour: &str, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = if self.colour {
            writeln!(err, "\x1b[1;{colour}m{label}\x1b[0m: {text}")
        } else {
            writeln!(err, "{label}: {text}")
        };
    }
}
