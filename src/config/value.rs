//! Reads one value: expands its variables and checks its type.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::expand::expand;
use super::reader::{Place, found, nearest, quoted};
use super::units::{UnitError, parse_duration, parse_size};
use super::yaml::{Data, Node};

/// A value and its place. Each reader below answers `None` after it noted a problem.
pub(super) struct Value<'a> {
    pub(super) place: Place<'a>,
    pub(super) node: &'a Node,
}

impl<'a> Value<'a> {
    pub(super) fn is_null(&self) -> bool {
        self.node.data == Data::Null
    }

    /// The items of a list; anything else is a list of itself.
    pub(super) fn items(&self) -> Vec<Value<'a>> {
        match &self.node.data {
            Data::List(items) => {
                let each = items.iter().enumerate();
                each.map(|(index, node)| Value { place: self.place.item(index, node.at), node }).collect()
            }
            _ => vec![Value { place: self.place.clone(), node: self.node }],
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&self) -> Option<String> {
        let (text, quoted) = self.scalar("text")?;
        if !quoted && matches!(text.as_str(), "true" | "false") {
            self.place
                .problem(format!("expected text, found `{text}`"), format!("write \"{text}\" if you mean the word"));
            return None;
        }
        if text.is_empty() {
            self.place.problem("is empty", "give a value, or remove the key");
            return None;
        }
        Some(text)
    }

    /// Text that may be empty.
    pub(super) fn text_or_empty(&self) -> Option<String> {
        self.scalar("text").map(|(text, _)| text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        let (text, quoted) = self.scalar("`true` or `false`")?;
        let value = match text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            "yes" | "on" | "y" => return self.not(&text, "`true` or `false`", "write `true`"),
            "no" | "off" | "n" => return self.not(&text, "`true` or `false`", "write `false`"),
            _ => return self.not(&text, "`true` or `false`", "write one of them"),
        };
        if quoted { self.not(&format!("\"{text}\""), "`true` or `false`", "remove the quotes") } else { Some(value) }
    }

    /// A whole number within bounds.
    pub(super) fn whole(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let wanted = "a whole number";
        let (text, quoted) = self.scalar(wanted)?;
        match text.parse::<usize>() {
            Ok(_) if quoted => self.not(&format!("\"{text}\""), wanted, "remove the quotes"),
            Ok(number) if range.contains(&number) => Some(number),
            _ if text.parse::<i128>().is_ok() => {
                let (least, most) = range.into_inner();
                self.place
                    .problem(format!("`{text}` is out of range"), format!("write a number from {least} to {most}"));
                None
            }
            _ => self.not(&text, wanted, "write digits only"),
        }
    }

    /// A size in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        self.unit("a size", parse_size)
    }

    /// A limit in bytes; 0 turns it off, which is `u64::MAX` here.
    pub(super) fn size_limit(&self) -> Option<u64> {
        self.size().map(|bytes| if bytes == 0 { u64::MAX } else { bytes })
    }

    /// A duration; 0 is one.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.unit("a duration", parse_duration)
    }

    /// A duration of more than 0.
    pub(super) fn positive_duration(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.place.problem("must be more than 0", "write a duration such as `10s`");
            return None;
        }
        Some(duration)
    }

    /// A duration, or `off`, which is 0.
    pub(super) fn duration_or_off(&self) -> Option<Duration> {
        if self.is_off() { Some(Duration::ZERO) } else { self.duration() }
    }

    /// `off`, `false` or nothing.
    pub(super) fn is_off(&self) -> bool {
        match &self.node.data {
            Data::Null => true,
            Data::Scalar { text, quoted } => match expand(text, self.place.reader.env) {
                Ok(text) => text == "off" || (text == "false" && !quoted),
                Err(_) => false,
            },
            Data::List(_) | Data::Map(_) => false,
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let (text, _) = self.scalar("a word")?;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let hint = match nearest(&text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the words here are {}", quoted(&names)),
        };
        self.place.problem(format!("`{text}` is not known here"), hint);
        None
    }

    /// A path, relative to the folder of the configuration file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.place.resolve(&text))
    }

    /// A path of a file that is there.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let path = self.path()?;
        let problem = match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => return Some(path),
            Ok(_) => "is not a file".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            Err(error) => format!("cannot be read ({error})"),
        };
        self.place.problem(
            format!("the file `{}` {problem}", path.display()),
            "correct the path; relative ones begin at the folder of this file",
        );
        None
    }

    /// An address to listen on.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        if let Ok(address) = SocketAddr::from_str(&text) {
            return Some(address);
        }
        let hint = if let Ok(address) = IpAddr::from_str(&text) {
            format!("add a port: `{}`", SocketAddr::new(address, 8080))
        } else if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
            format!("write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6")
        } else if let Some(port) = text.strip_prefix("localhost:") {
            format!("write `127.0.0.1:{port}`")
        } else if text.parse::<u16>().is_ok() {
            format!("write `0.0.0.0:{text}`")
        } else {
            "write one such as `0.0.0.0:8080` or `[::1]:8080`".to_owned()
        };
        self.place.problem(format!("`{text}` is not an IP address and a port"), hint);
        None
    }

    /// Networks: `10.0.0.0/8`, or a single address.
    pub(super) fn network(&self) -> Option<ipnet::IpNet> {
        let text = self.text()?;
        let network =
            ipnet::IpNet::from_str(&text).ok().or_else(|| IpAddr::from_str(&text).ok().map(ipnet::IpNet::from));
        if network.is_none() {
            self.place.problem(format!("`{text}` is not a network"), "write one such as `10.0.0.0/8` or `192.0.2.7`");
        }
        network
    }

    /// The text, its variables expanded, and whether it must be text: it stood in quotes and no variable had to.
    fn scalar(&self, wanted: &str) -> Option<(String, bool)> {
        let Data::Scalar { text, quoted } = &self.node.data else {
            let hint = match self.node.data {
                Data::List(_) => "write a single value",
                _ => "write a value after the `:`",
            };
            self.place.problem(format!("expected {wanted}, found {}", found(&self.node.data)), hint);
            return None;
        };
        match expand(text, self.place.reader.env) {
            Ok(expanded) => Some((expanded, *quoted && !text.contains("${"))),
            Err(error) => {
                self.place.problem(error.to_string(), error.hint());
                None
            }
        }
    }

    fn unit<T>(&self, wanted: &str, parse: impl FnOnce(&str) -> Result<T, UnitError>) -> Option<T> {
        let (text, _) = self.scalar(wanted)?;
        parse(&text).map_err(|error| self.place.problem(error.message, error.hint)).ok()
    }

    fn not<T>(&self, text: &str, wanted: &str, hint: &str) -> Option<T> {
        self.place.problem(format!("expected {wanted}, found `{text}`"), hint);
        None
    }
}
