//! What is wrong in a file, said so that a reader can go there and mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Counted from 1. 0: the file as a whole.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

/// One thing that is wrong, or a warning about one that may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named on the command line.
    pub file: PathBuf,
    /// Counted from 1. 0: the file as a whole.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The key, with dots: `buckets.api.origin`. Empty where no key is concerned.
    pub path: String,
    /// What is wrong, without a final stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole: it cannot be read, say.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Problem { file: file.to_owned(), line: 0, column: 0, path: String::new(), message: message.into(), hint: None }
    }

    /// For tools: `{"file", "line", "column", "path", "message", "hint"}`. What does not apply is null.
    pub fn to_json(&self) -> serde_json::Value {
        let place = |number: usize| (number > 0).then_some(number);
        serde_json::json!({
            "file": self.file.to_string_lossy(),
            "line": place(self.line),
            "column": place(self.column),
            "path": (!self.path.is_empty()).then_some(&self.path),
            "message": self.message,
            "hint": self.hint,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            file: "config/tidegate.yaml".into(),
            line: 12,
            column: 5,
            path: "buckets.api.origin".into(),
            message: "no origin is called `apis`".into(),
            hint: Some("did you mean `api`?".into()),
        }
    }

    #[test]
    fn a_problem_names_place_key_fault_and_remedy() {
        assert_eq!(
            problem().to_string(),
            "config/tidegate.yaml:12:5: buckets.api.origin: no origin is called `apis`; did you mean `api`?"
        );
    }

    #[test]
    fn a_problem_of_the_file_has_no_line() {
        assert_eq!(Problem::of_file(Path::new("a.yaml"), "cannot be read").to_string(), "a.yaml: cannot be read");
    }

    #[test]
    fn tools_get_the_same_fields() {
        assert_eq!(
            problem().to_json().to_string(),
            r#"{"file":"config/tidegate.yaml","line":12,"column":5,"path":"buckets.api.origin","message":"no origin is called `apis`","hint":"did you mean `api`?"}"#
        );
        assert_eq!(
            Problem::of_file(Path::new("a.yaml"), "cannot be read").to_json().to_string(),
            r#"{"file":"a.yaml","line":null,"column":null,"path":null,"message":"cannot be read","hint":null}"#
        );
    }
}
