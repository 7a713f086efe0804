//! What can go wrong in a policy, told so that its author can mend it.

use std::fmt;
use std::sync::Arc;

/// The part of a policy that ran, or was about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// The file itself: reading, compiling, and running its top level.
    Load,
    /// `request(req)`
    Request,
    /// `response(req, res)`
    Response,
    /// `hit(req, entry)`
    Hit,
    /// `deliver(req, res, cache)`
    Deliver,
    /// A function of `normalize`
    Normalize,
}

impl Hook {
    /// The functions that a policy's table may hold, in the order of a request's life.
    pub const FUNCTIONS: [Hook; 4] = [Hook::Request, Hook::Response, Hook::Hit, Hook::Deliver];

    /// The one spelling, in policies, errors and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Load => "load",
            Hook::Request => "request",
            Hook::Response => "response",
            Hook::Hit => "hit",
            Hook::Deliver => "deliver",
            Hook::Normalize => "normalize",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which kind of mistake it is; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is not Luau.
    Syntax,
    /// The file cannot be read, or does not return a policy.
    Load,
    /// The script raised an error.
    Runtime,
    /// The script ran for longer than `policies.limits.time`.
    Time,
    /// The script needed more than `policies.limits.memory`.
    Memory,
    /// The script returned something that is not a decision.
    Decision,
}

impl ErrorKind {
    /// The one spelling, for metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Syntax => "syntax",
            ErrorKind::Load => "load",
            ErrorKind::Runtime => "runtime",
            ErrorKind::Time => "time",
            ErrorKind::Memory => "memory",
            ErrorKind::Decision => "decision",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A policy's failure: where, in which hook, and what to do about it.
///
/// Printed as `policies/media.lua:7: request: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The file as people know it; a module's file if the error is there.
    pub file: Arc<str>,
    /// Line, from 1. `None` if no line is to blame.
    pub line: Option<u32>,
    /// What ran.
    pub hook: Hook,
    /// Which kind of mistake.
    pub kind: ErrorKind,
    /// One line of printable text, at most [`PolicyError::LONGEST`] bytes.
    pub message: String,
}

impl PolicyError {
    /// Longest message kept, in bytes: a script can raise an error of any length, and it goes to logs.
    pub const LONGEST: usize = 500;

    pub(super) fn new(file: &Arc<str>, hook: Hook, kind: ErrorKind, message: impl AsRef<[u8]>) -> Self {
        PolicyError { file: Arc::clone(file), line: None, hook, kind, message: printable(message.as_ref()) }
    }

    pub(super) fn at(mut self, line: Option<u32>) -> Self {
        self.line = line;
        self
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: {}", self.hook, self.message)
    }
}

/// Text that is safe in a log line: bounded, UTF-8, without control characters.
pub(super) fn printable(bytes: &[u8]) -> String {
    let cut = bytes.len() > PolicyError::LONGEST;
    let bytes = bytes.get(..PolicyError::LONGEST).unwrap_or(bytes);
    let mut text = String::with_capacity(bytes.len() + 3);
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\r' | '\t' => text.push(' '),
            // Bidirectional marks and line separators can make a log line read as something else.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => text.push('\u{fffd}'),
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    // A replacement character is longer than the byte that it stands for.
    let mut end = text.len().min(PolicyError::LONGEST - 3);
    if cut || end < text.len().min(PolicyError::LONGEST) && text.len() > PolicyError::LONGEST {
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The name among `names` that `wrong` was probably meant to be.
pub(super) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Long inputs cannot be typing mistakes, and the distance costs the product of both lengths.
    if wrong.len() > 64 {
        return None;
    }
    let lower = wrong.to_ascii_lowercase().replace('-', "_");
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase().replace('-', "_")), name))
        .filter(|(distance, name)| *distance <= (name.len().max(lower.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The end of a sentence about a wrong name: the nearest right one, or all of them.
pub(super) fn suggestion<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str> + Clone) -> String {
    match nearest(wrong, names.clone()) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => format!("; there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_file_line_hook_and_message() {
        let error = PolicyError::new(&Arc::from("policies/media.lua"), Hook::Request, ErrorKind::Runtime, "no");
        assert_eq!(error.clone().at(Some(7)).to_string(), "policies/media.lua:7: request: no");
        assert_eq!(error.to_string(), "policies/media.lua: request: no");
    }

    #[test]
    fn messages_are_bounded_and_printable() {
        assert!(printable(&[0xff; 10_000]).len() <= PolicyError::LONGEST);
        assert!(printable(&[b'x'; 501]).len() <= PolicyError::LONGEST);
        assert_eq!(printable(&[b'x'; 500]).len(), 500);
        assert_eq!(printable(b"a\nb\x1b[31m"), "a b\u{fffd}[31m");
    }

    #[test]
    fn a_typing_mistake_finds_its_name() {
        assert_eq!(nearest("pth", ["path", "host"]), Some("path"));
        assert_eq!(nearest("tll", ["ttl", "tags", "vary"]), Some("ttl"));
        assert_eq!(nearest("stale-if-error", ["stale_if_error"]), Some("stale_if_error"));
        assert_eq!(nearest("zzzzzz", ["path", "host"]), None);
    }
}
