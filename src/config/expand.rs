//! `${VAR}` in values.
//!
//! Values are expanded after the YAML has been read, so what a variable holds stays one value and cannot add keys.

use std::fmt;

/// Looks a variable up: the environment in the daemon, a table in tests.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// The variable is not set and has no default.
    Missing(String),
    /// `${` without `}`.
    Unclosed,
    /// `${A-B}`, `${}`, …
    BadName(String),
    /// `$NAME` without braces, which looks as if it were expanded.
    Bare(String),
}

impl ExpandError {
    pub(super) fn hint(&self) -> String {
        match self {
            ExpandError::Missing(name) => format!("set it, or give a default with `${{{name}:-value}}`"),
            ExpandError::Unclosed => "add the `}`, or write `$$` for the character `$`".into(),
            ExpandError::BadName(_) => "write `${NAME}` or `${NAME:-default}`".into(),
            ExpandError::Bare(name) => format!("write `${{{name}}}`, or `$${name}` for the text itself"),
        }
    }
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpandError::Missing(name) => write!(f, "the environment variable `{name}` is not set"),
            ExpandError::Unclosed => f.write_str("a `${` has no `}`"),
            ExpandError::BadName(name) => write!(f, "`${{{name}}}` is not a variable"),
            ExpandError::Bare(name) => write!(f, "`${name}` is not expanded"),
        }
    }
}

/// Replaces `${VAR}` and `${VAR:-default}`; `$$` is a literal `$`. As in a shell, a default also stands in for a variable
/// that is set to nothing, and may hold variables itself.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = split_closed(after).ok_or(ExpandError::Unclosed)?;
            out.push_str(&variable(inside, env)?);
            after
        } else if after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let end = after.find(|c: char| !is_name_char(c)).unwrap_or(after.len());
            return Err(ExpandError::Bare(after.get(..end).unwrap_or(after).to_owned()));
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, env: Env<'_>) -> Result<String, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(is_name_char) {
        return Err(ExpandError::BadName(inside.to_owned()));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => expand(default, env),
        (None, None) => Err(ExpandError::Missing(name.to_owned())),
    }
}

/// Splits at the `}` that closes what was opened before `text`.
fn split_closed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1_usize;
    let mut after_dollar = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' if after_dollar => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
        // `$$` is a literal, so the second one opens nothing.
        after_dollar = c == '$' && !after_dollar;
    }
    None
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "HOST" => Some("example.com".to_owned()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("x\nadmin: ${HOST}".to_owned()),
            _ => None,
        };
        expand(text, &env).map_err(|error| format!("{error}; {}", error.hint()))
    }

    #[test]
    fn variables_are_replaced_also_inside_longer_text() {
        assert_eq!(expanded("https://${HOST}:80/${HOST}").unwrap(), "https://example.com:80/example.com");
    }

    #[test]
    fn a_default_stands_in_for_missing_and_empty() {
        assert_eq!(expanded("${NONE:-http://a:1}").unwrap(), "http://a:1");
        assert_eq!(expanded("${EMPTY:-x}").unwrap(), "x");
        assert_eq!(expanded("${HOST:-x}").unwrap(), "example.com");
        assert_eq!(expanded("${NONE:-}").unwrap(), "");
        assert_eq!(expanded("${EMPTY}").unwrap(), "");
    }

    #[test]
    fn a_default_may_hold_variables() {
        assert_eq!(expanded("${NONE:-${NONE2:-/tmp}}/a").unwrap(), "/tmp/a");
        assert_eq!(expanded("${NONE:-${HOST}}").unwrap(), "example.com");
    }

    #[test]
    fn two_dollars_are_one() {
        assert_eq!(expanded("$${HOST}").unwrap(), "${HOST}");
        assert_eq!(expanded("a$$b").unwrap(), "a$b");
        assert_eq!(expanded("5$ and $5").unwrap(), "5$ and $5");
    }

    #[test]
    fn what_a_variable_holds_is_not_expanded_again() {
        assert_eq!(expanded("${YAML}").unwrap(), "x\nadmin: ${HOST}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        assert_eq!(
            expanded("${NONE}").unwrap_err(),
            "the environment variable `NONE` is not set; set it, or give a default with `${NONE:-value}`"
        );
    }

    #[test]
    fn slips_are_explained() {
        assert_eq!(
            expanded("${HOST").unwrap_err(),
            "a `${` has no `}`; add the `}`, or write `$$` for the character `$`"
        );
        assert_eq!(
            expanded("${HOST-x}").unwrap_err(),
            "`${HOST-x}` is not a variable; write `${NAME}` or `${NAME:-default}`"
        );
        assert_eq!(expanded("${}").unwrap_err(), "`${}` is not a variable; write `${NAME}` or `${NAME:-default}`");
        assert_eq!(
            expanded("a $HOST b").unwrap_err(),
            "`$HOST` is not expanded; write `${HOST}`, or `$$HOST` for the text itself"
        );
    }
}
