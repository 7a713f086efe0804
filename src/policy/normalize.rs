//! Native normalisers: what a header field is reduced to before it is keyed on, varied on or sent to the origin.
//!
//! A cache keeps one variant for each value of a field it varies on, and clients send hundreds of spellings of
//! `Accept-Encoding`. Each normaliser maps all of them to a few classes. They run in Rust, without entering the VM.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::query;

/// A reduction of one header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Normalizer {
    kind: Kind,
    names: Vec<String>,
    /// Bytes of the longest name.
    longest: usize,
    /// Of cookies: the names, each numbered.
    numbers: HashMap<Vec<u8>, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Encodings,
    Languages,
    Types,
    Cookies,
}

/// Members of a list field that are looked at; a client that sends more gets its first ones considered.
const MOST_MEMBERS: usize = 100;

impl Normalizer {
    /// `Accept-Encoding` (RFC 9110 section 12.5.3): the coding with the highest weight, the policy's order breaking ties.
    ///
    /// A missing field, a field that names none of them, and one that refuses all become `identity`, spelled out: an
    /// origin that gets no field at all may answer with any coding, also one that this client refused.
    pub(super) fn encodings(names: Vec<String>) -> Self {
        Normalizer::new(Kind::Encodings, lower(names))
    }

    /// `Accept-Language`: lookup of RFC 4647 section 3.4, the first name being the default.
    pub(super) fn languages(names: Vec<String>) -> Self {
        Normalizer::new(Kind::Languages, names)
    }

    /// `Accept`: the type with the highest weight among those that the field names in full. Wildcards count as none,
    /// since clients that cannot read a new format send `*/*` as well. None of them, or no field: `*/*`.
    pub(super) fn types(names: Vec<String>) -> Self {
        Normalizer::new(Kind::Types, lower(names))
    }

    /// `Cookie`: the named cookies in the policy's order; absent if there is none.
    pub(super) fn cookies(names: Vec<String>) -> Self {
        let numbers = names.iter().enumerate().map(|(number, name)| (name.clone().into_bytes(), number)).collect();
        Normalizer { numbers, ..Normalizer::new(Kind::Cookies, names) }
    }

    fn new(kind: Kind, names: Vec<String>) -> Self {
        let longest = names.iter().map(String::len).max().unwrap_or(0);
        Normalizer { kind, names, longest, numbers: HashMap::new() }
    }

    /// What the field becomes. `None`: absent.
    ///
    /// The field is the client's, and no interrupt stops this: the work must stay close to one pass over the field.
    pub(super) fn reduce(&self, field: Option<&[u8]>) -> Option<Vec<u8>> {
        let field = field.unwrap_or_default();
        match self.kind {
            Kind::Encodings => {
                let members = members(field);
                let any = members.iter().find(|(name, _)| *name == b"*").map_or(0, |(_, weight)| *weight);
                let best = self.best(|name| {
                    let named = members.iter().find(|(member, _)| is_coding(member, name));
                    named.map_or(any, |(_, weight)| *weight)
                });
                Some(best.map_or_else(|| b"identity".to_vec(), |name| name.as_bytes().to_vec()))
            }
            Kind::Types => {
                let members = members(field);
                let best = self.best(|name| {
                    let weights = members.iter().filter(|(m, _)| m.eq_ignore_ascii_case(name.as_bytes()));
                    weights.map(|(_, weight)| *weight).max().unwrap_or(0)
                });
                Some(best.map_or_else(|| b"*/*".to_vec(), |name| name.as_bytes().to_vec()))
            }
            Kind::Languages => {
                let mut ranges = members(field);
                // Stable: ranges of one weight keep the client's order.
                ranges.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
                let found = ranges.iter().filter(|(_, weight)| *weight > 0).find_map(|(range, _)| self.lookup(range));
                found.or(self.names.first()).map(|name| name.as_bytes().to_vec())
            }
            Kind::Cookies => self.cookies_of(field),
        }
    }

    /// One pass over the field, however many names there are.
    fn cookies_of(&self, field: &[u8]) -> Option<Vec<u8>> {
        let mut found: SmallVec<[Option<&[u8]>; 8]> = SmallVec::from_elem(None, self.names.len());
        let mut missing = self.numbers.len();
        for (name, value) in query::cookies(field) {
            if name.len() <= self.longest
                && let Some(first) = self.numbers.get(name).and_then(|number| found.get_mut(*number))
                && first.is_none()
            {
                *first = Some(value);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        let mut kept = Vec::new();
        for name in &self.names {
            let value = self.numbers.get(name.as_bytes()).and_then(|number| *found.get(*number)?);
            if let Some(value) = value {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(name.as_bytes());
                kept.push(b'=');
                kept.extend_from_slice(value);
            }
        }
        (!kept.is_empty()).then_some(kept)
    }

    /// The name with the highest weight above zero, the first of equals.
    fn best(&self, weight: impl Fn(&str) -> u16) -> Option<&str> {
        let mut best: Option<(&str, u16)> = None;
        for name in &self.names {
            let weight = weight(name);
            if weight > best.map_or(0, |(_, w)| w) {
                best = Some((name, weight));
            }
        }
        best.map(|(name, _)| name)
    }

    /// RFC 4647 section 3.4: the range, then the range with its end cut off, tag by tag.
    fn lookup(&self, range: &[u8]) -> Option<&String> {
        let mut range = range;
        loop {
            // A range of tens of thousands of tags is cut down to what can be a name before it is compared with any.
            if range.len() <= self.longest
                && let Some(name) = self.names.iter().find(|name| name.as_bytes().eq_ignore_ascii_case(range))
            {
                return Some(name);
            }
            let cut = range.iter().rposition(|b| *b == b'-')?;
            range = range.get(..cut)?;
            // A single letter or digit opens an extension and goes with what followed it.
            if let [head @ .., b'-', _] = range {
                range = head;
            }
        }
    }
}

fn lower(mut names: Vec<String>) -> Vec<String> {
    for name in &mut names {
        name.make_ascii_lowercase();
    }
    names
}

/// RFC 9110 section 8.4.1.3: `x-gzip` is to be taken for `gzip`.
fn is_coding(member: &[u8], name: &str) -> bool {
    member.eq_ignore_ascii_case(name.as_bytes()) || name == "gzip" && member.eq_ignore_ascii_case(b"x-gzip")
}

/// The members of a list with weights, in thousandths (RFC 9110 section 12.4.2). A weight that is none counts as 0: what
/// cannot be read is not wanted.
fn members(field: &[u8]) -> SmallVec<[(&[u8], u16); 12]> {
    field
        .split(|b| *b == b',')
        .take(MOST_MEMBERS)
        .filter_map(|member| {
            let mut parts = member.split(|b| *b == b';');
            let name = parts.next()?.trim_ascii();
            if name.is_empty() {
                return None;
            }
            let weight = parts.find_map(|part| match part.trim_ascii() {
                [b'q' | b'Q', b'=', weight @ ..] => Some(thousandths(weight).unwrap_or(0)),
                _ => None,
            });
            Some((name, weight.unwrap_or(1000)))
        })
        .collect()
}

fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, fraction) = match weight {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut value = match whole {
        b'0' => 0u16,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, place) in fraction.iter().zip([100, 10, 1]) {
        value += u16::from(char::from(*digit).to_digit(10)? as u8) * place;
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce(normalizer: &Normalizer, field: &str) -> String {
        normalizer.reduce(Some(field.as_bytes())).map_or("nil".into(), |v| String::from_utf8(v).unwrap())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn encodings_follow_weights_then_the_policys_order() {
        let n = Normalizer::encodings(names(&["br", "gzip"]));
        for (field, class) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP;q=1.0, br;q=0.5", "gzip"),
            ("br;q=0, gzip;q=0.001", "gzip"),
            ("*", "br"),
            ("*;q=0.5, br;q=0", "gzip"),
            ("br;q=nonsense", "identity"),
        ] {
            assert_eq!(reduce(&n, field), class, "{field}");
        }
    }

    #[test]
    fn missing_unknown_and_refused_encodings_are_one_class() {
        let n = Normalizer::encodings(names(&["br", "gzip"]));
        assert_eq!(n.reduce(None).as_deref(), Some(&b"identity"[..]));
        for field in ["", "deflate", "identity", "br;q=0, gzip;q=0", "br;q=0.000,*;q=0"] {
            assert_eq!(reduce(&n, field), "identity", "{field}");
        }
    }

    #[test]
    fn languages_are_looked_up_by_cutting_tags_off() {
        let n = Normalizer::languages(names(&["en", "fr", "de", "zh-Hant"]));
        for (field, language) in [
            ("de-AT-1996", "de"),
            ("FR", "fr"),
            ("nl, fr;q=0.5", "fr"),
            ("de;q=0.1, fr;q=0.2", "fr"),
            ("de;q=0", "en"),
            ("zh-hant-TW", "zh-Hant"),
            ("zh-Hant-x-private", "zh-Hant"),
            ("*", "en"),
            ("", "en"),
        ] {
            assert_eq!(reduce(&n, field), language, "{field}");
        }
        assert_eq!(n.reduce(None).as_deref(), Some(&b"en"[..]));
    }

    #[test]
    fn a_wildcard_names_no_type() {
        let n = Normalizer::types(names(&["image/avif", "image/webp"]));
        for (field, class) in [
            ("image/avif,image/webp,*/*;q=0.8", "image/avif"),
            ("image/webp;v=1;q=0.9,*/*", "image/webp"),
            ("image/*", "*/*"),
            ("*/*", "*/*"),
            ("image/avif;q=0", "*/*"),
        ] {
            assert_eq!(reduce(&n, field), class, "{field}");
        }
        assert_eq!(n.reduce(None).as_deref(), Some(&b"*/*"[..]));
    }

    #[test]
    fn only_the_named_cookies_stay() {
        let n = Normalizer::cookies(names(&["theme", "ab"]));
        assert_eq!(reduce(&n, "id=1; ab=2; theme=dark"), "theme=dark; ab=2");
        assert_eq!(reduce(&n, "id=1"), "nil");
        assert_eq!(n.reduce(None), None);
    }

    #[test]
    fn of_cookies_with_one_name_the_first_stays() {
        let n = Normalizer::cookies(names(&["b", "ab", "b", "a"]));
        assert_eq!(reduce(&n, "ab=1; b = 2 ;b=3;c;=4;A=5; ab=6"), "b=2; ab=1; b=2");
        assert_eq!(reduce(&n, "a=;ab;b="), "b=; b=; a=");
    }
}
