//! Which parts of a request a script read.
//!
//! A decision is a function of its inputs, so its inputs explain it: dry-run prints them and the access log carries the
//! header fields among them. Writing a read down must cost next to nothing, so fields are bits, and names go into one
//! buffer that is used again for the next call.

use std::fmt;

use super::fields::{Map, Object};

/// One thing that a script read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Input {
    /// A field of `req`, such as `path`.
    Field(&'static str),
    /// The whole query.
    Query,
    /// One parameter of the query, or the pattern given to `only`.
    QueryParam(String),
    /// A request header field, in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A field of `res`.
    ResField(&'static str),
    /// A response header field, in lower case.
    ResHeader(String),
    /// A field of `entry`.
    EntryField(&'static str),
    /// A header field of a stored entry, in lower case.
    EntryHeader(String),
    /// A field of `cache`.
    CacheField(&'static str),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (object, name) = match self {
            Input::Field(name) => ("req", *name),
            Input::Query => ("req", "query"),
            Input::QueryParam(name) => ("req.query", name.as_str()),
            Input::Header(name) => ("req.headers", name.as_str()),
            Input::Cookie(name) => ("req.cookies", name.as_str()),
            Input::ResField(name) => ("res", *name),
            Input::ResHeader(name) => ("res.headers", name.as_str()),
            Input::EntryField(name) => ("entry", *name),
            Input::EntryHeader(name) => ("entry.headers", name.as_str()),
            Input::CacheField(name) => ("cache", *name),
        };
        write!(f, "{object}.{name}")
    }
}

/// Most names kept for one call. A script that reads more is guessing names, not deciding by them.
const MOST_NAMES: usize = 64;

/// Longest name kept, in bytes; the rest of a longer one is cut off.
const LONGEST_NAME: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Query,
    Map(Map),
}

/// What the last call on this thread read.
pub(super) struct Inputs {
    /// One bit for each field of each object, in the order of their declarations.
    fields: [u32; 4],
    whole_query: bool,
    names: Vec<(Named, u16, u16)>,
    text: Vec<u8>,
}

impl Default for Inputs {
    fn default() -> Self {
        Inputs::new()
    }
}

impl Inputs {
    pub(super) const fn new() -> Self {
        Inputs { fields: [0; 4], whole_query: false, names: Vec::new(), text: Vec::new() }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.fields = [0; 4];
        self.whole_query = false;
        self.names.clear();
        self.text.clear();
    }

    #[inline]
    pub(super) fn field(&mut self, object: Object, place: usize) {
        if let Some(fields) = self.fields.get_mut(object as usize) {
            *fields |= 1u32.wrapping_shl(place as u32);
        }
    }

    #[inline]
    pub(super) fn whole_query(&mut self) {
        self.whole_query = true;
    }

    #[inline]
    pub(super) fn name(&mut self, kind: Named, name: &[u8]) {
        let name = name.get(..LONGEST_NAME).unwrap_or(name);
        let known = self.names.iter().any(|&(k, start, end)| {
            k == kind
                && self.text.get(usize::from(start)..usize::from(end)).is_some_and(|n| n.eq_ignore_ascii_case(name))
        });
        if known || self.names.len() >= MOST_NAMES {
            return;
        }
        // At most 64 names of 128 bytes: both offsets fit.
        let start = self.text.len() as u16;
        self.text.extend_from_slice(name);
        self.names.push((kind, start, self.text.len() as u16));
    }

    pub(super) fn take(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for object in Object::ALL {
            let bits = self.fields.get(object as usize).copied().unwrap_or(0);
            for (place, field) in object.fields().iter().enumerate() {
                if bits & 1u32.wrapping_shl(place as u32) != 0 {
                    inputs.push(match object {
                        Object::Req => Input::Field(field.name),
                        Object::Res => Input::ResField(field.name),
                        Object::Entry => Input::EntryField(field.name),
                        Object::Cache => Input::CacheField(field.name),
                    });
                }
            }
        }
        if self.whole_query {
            inputs.push(Input::Query);
        }
        for &(kind, start, end) in &self.names {
            let bytes = self.text.get(usize::from(start)..usize::from(end)).unwrap_or_default();
            let name = String::from_utf8_lossy(bytes).into_owned();
            inputs.push(match kind {
                Named::Query => Input::QueryParam(name),
                Named::Map(Map::Cookies) => Input::Cookie(name),
                Named::Map(Map::ReqHeaders) => Input::Header(name.to_ascii_lowercase()),
                Named::Map(Map::ResHeaders) => Input::ResHeader(name.to_ascii_lowercase()),
                Named::Map(Map::EntryHeaders) => Input::EntryHeader(name.to_ascii_lowercase()),
            });
        }
        self.clear();
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_prints_as_the_script_spells_it() {
        assert_eq!(Input::Header("accept".into()).to_string(), "req.headers.accept");
        assert_eq!(Input::Query.to_string(), "req.query");
        assert_eq!(Input::EntryField("age").to_string(), "entry.age");
    }

    #[test]
    fn a_name_is_kept_once_and_names_are_bounded() {
        let mut inputs = Inputs::default();
        inputs.name(Named::Map(Map::ReqHeaders), b"Accept");
        inputs.name(Named::Map(Map::ReqHeaders), b"accept");
        assert_eq!(inputs.take(), [Input::Header("accept".into())]);
        for i in 0..1000 {
            inputs.name(Named::Query, format!("{i}{}", "x".repeat(1000)).as_bytes());
        }
        assert_eq!(inputs.take().len(), MOST_NAMES);
        assert_eq!(inputs.take(), []);
    }
}
