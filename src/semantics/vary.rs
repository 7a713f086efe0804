//! Variants: RFC 9110 section 12.5.5, RFC 9111 section 4.1.

use super::normalize;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Fields that are no lists: a comma in them is text, and so is the space beside it. HTTP/2 splits `Cookie` into lines, to be
/// joined by `; ` (RFC 9113 section 8.2.3); the others have one line.
const NO_LISTS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::FROM,
    header::HOST,
    header::ORIGIN,
    header::REFERER,
    header::USER_AGENT,
];

/// The request fields that select among the responses of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaryFields {
    any: bool,
    /// Sorted, each once.
    names: Vec<HeaderName>,
}

impl VaryFields {
    /// Reads all lines of `Vary`. Allocates nothing if there is none.
    ///
    /// A member that cannot be the name of a field counts as `*`: nobody can tell what it selects on. So does the field that
    /// names the request, which is another one each time.
    pub fn of(response: &HeaderMap) -> Self {
        let mut vary = VaryFields::default();
        for line in response.get_all(header::VARY) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                match member.trim_ascii() {
                    b"" => {}
                    b"*" => vary.any = true,
                    name => match HeaderName::from_bytes(name) {
                        Ok(name) if name == "x-request-id" => vary.any = true,
                        Ok(name) => vary.names.push(name),
                        Err(_) => vary.any = true,
                    },
                }
            }
        }
        vary.names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        vary.names.dedup();
        vary
    }

    /// `*`: no request matches. Such a response is not stored.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Nothing selects.
    pub fn is_empty(&self) -> bool {
        !self.any && self.names.is_empty()
    }

    /// The names, lower case, sorted, each once.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }
}

/// What tells the variants of a resource apart: a hash over the names and values of the selecting fields.
///
/// `extra` are the names that a policy adds. `append` writes the value of a request field and says whether the request
/// has it: absent and empty differ. Use [`append_selecting`], or the policy's normaliser where there is one.
///
/// `None`: nothing selects, there is one variant. [`VaryFields::is_any`] is to be asked before.
pub fn variance(
    vary: &VaryFields,
    extra: &[HeaderName],
    mut append: impl FnMut(&HeaderName, &mut Vec<u8>) -> bool,
) -> Option<[u8; 16]> {
    if vary.names.is_empty() && extra.is_empty() {
        return None;
    }
    let mut framed = Vec::with_capacity(256);
    if extra.is_empty() {
        for name in &vary.names {
            frame(&mut framed, name, &mut append);
        }
    } else {
        let mut names: Vec<&HeaderName> = vary.names.iter().chain(extra).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        for name in names {
            frame(&mut framed, name, &mut append);
        }
    }
    Some(xxhash_rust::xxh3::xxh3_128(&framed).to_be_bytes())
}

/// Name and value, each after its length, so that no value can spell its neighbours; a presence mark in between.
fn frame(framed: &mut Vec<u8>, name: &HeaderName, append: &mut impl FnMut(&HeaderName, &mut Vec<u8>) -> bool) {
    framed.extend_from_slice(&length(name.as_str().len()));
    framed.extend_from_slice(name.as_str().as_bytes());
    let head = framed.len();
    framed.extend_from_slice(&[0; 5]);
    let present = append(name, framed);
    if !present {
        framed.truncate(head + 5);
    }
    let [a, b, c, d] = length(framed.len().saturating_sub(head + 5));
    if let Some(slot) = framed.get_mut(head..head + 5) {
        slot.copy_from_slice(&[u8::from(present), a, b, c, d]);
    }
}

fn length(bytes: usize) -> [u8; 4] {
    // Names and values are pieces of a request head, which is limited to far less than 4 GiB.
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Appends the value of a selecting field in a form that is equal for requests that mean the same (RFC 9111
/// section 4.1): lines combined, spaces around commas removed where a comma may separate; `Accept-Language` and `Accept-Encoding` also without
/// regard to order, case and the spelling of weights. `false`: the request does not have the field.
pub fn append_selecting(request: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) -> bool {
    let values = request.get_all(name);
    let lines = || values.iter().map(|value| value.as_bytes());
    if lines().next().is_none() {
        return false;
    }
    if NO_LISTS.contains(name) {
        append_lines(lines(), b"; ", out);
        return true;
    }
    let is_preference = *name == header::ACCEPT_ENCODING || *name == header::ACCEPT_LANGUAGE;
    if is_preference && normalize::append_preferences(lines(), out) {
        return true;
    }
    let mut between = false;
    for line in lines() {
        if between {
            out.push(b',');
        }
        normalize::append_compact(line, out);
        between = true;
    }
    true
}

/// Appends all lines of a field, combined with `, ` (RFC 9110 section 5.3). `false`: there is none.
pub fn append_combined(headers: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) -> bool {
    let lines = headers.get_all(name);
    append_lines(lines.iter().map(HeaderValue::as_bytes), b", ", out)
}

fn append_lines<'a>(mut lines: impl Iterator<Item = &'a [u8]>, between: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = lines.next() else { return false };
    out.extend_from_slice(first);
    for line in lines {
        out.extend_from_slice(between);
        out.extend_from_slice(line);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::headers;
    use super::*;

    fn vary(lines: &[&str]) -> VaryFields {
        let pairs: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        VaryFields::of(&headers(&pairs))
    }

    fn key(vary: &VaryFields, extra: &[HeaderName], request: &[(&str, &str)]) -> Option<[u8; 16]> {
        let request = headers(request);
        variance(vary, extra, |name, out| append_selecting(&request, name, out))
    }

    fn same(field: &str, a: &[&str], b: &[&str]) -> bool {
        let pairs =
            |values: &[&str]| key(&vary(&[field]), &[], &values.iter().map(|v| (field, *v)).collect::<Vec<_>>());
        pairs(a) == pairs(b)
    }

    // RFC 9110 section 12.5.5
    #[test]
    fn names_are_sorted_lower_case_and_unique() {
        assert_eq!(vary(&["Foo,bar , ,Accept", "FOO"]).names(), ["accept", "bar", "foo"]);
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [
            &["*"][..],
            &["*, *"],
            &["*", "*"],
            &[", *"],
            &["", "*"],
            &["*, Foo"],
            &["Foo, *"],
            &["a b"],
            &["X-Request-Id"],
        ] {
            assert!(vary(lines).is_any(), "{lines:?}");
        }
    }

    #[test]
    fn nothing_selects_without_vary() {
        assert!(vary(&[]).is_empty());
        assert!(vary(&["", ","]).is_empty());
        assert_eq!(key(&vary(&[]), &[], &[("foo", "1")]), None);
    }

    // RFC 9111 section 4.1
    #[test]
    fn requests_match_by_the_values_of_the_named_fields() {
        let vary = vary(&["Foo, Bar"]);
        let stored = key(&vary, &[], &[("foo", "1"), ("bar", "abc"), ("other", "2")]);
        assert_eq!(stored, key(&vary, &[], &[("bar", "abc"), ("foo", "1"), ("other", "3")]));
        for other in [&[("foo", "2"), ("bar", "abc")][..], &[("foo", "1"), ("bar", "abcd")], &[("foo", "1")], &[]] {
            assert_ne!(stored, key(&vary, &[], other), "{other:?}");
        }
    }

    #[test]
    fn absent_and_empty_differ() {
        let vary = vary(&["Foo"]);
        assert_ne!(key(&vary, &[], &[]), key(&vary, &[], &[("foo", "")]));
    }

    #[test]
    fn values_cannot_spell_their_neighbours() {
        let vary = vary(&["a, b"]);
        assert_ne!(key(&vary, &[], &[("a", "x"), ("b", "yz")]), key(&vary, &[], &[("a", "xy"), ("b", "z")]));
    }

    #[test]
    fn the_order_of_names_does_not_matter() {
        let request = [("a", "1"), ("b", "2")];
        assert_eq!(key(&vary(&["a, b"]), &[], &request), key(&vary(&["B", "A"]), &[], &request));
    }

    #[test]
    fn names_of_the_policy_count_once() {
        let a = HeaderName::from_static("a");
        let request = [("a", "1"), ("b", "2")];
        assert_eq!(key(&vary(&["a, b"]), &[], &request), key(&vary(&["b"]), &[a.clone(), a], &request));
    }

    #[test]
    fn what_was_written_for_an_absent_field_is_dropped() {
        let vary = vary(&["a"]);
        let noisy = variance(&vary, &[], |_, out| {
            out.push(1);
            false
        });
        assert_eq!(noisy, key(&vary, &[], &[]));
    }

    #[test]
    fn lines_are_combined() {
        assert!(same("foo", &["1, 2"], &["1", "2"]));
        assert!(!same("foo", &["1, 2"], &["2", "1"]));
    }

    #[test]
    fn space_around_commas_does_not_matter() {
        assert!(same("foo", &["1,2"], &[" 1, 2 "]));
        assert!(!same("foo", &["1 2"], &["12"]));
        assert!(!same("foo", &["\"1,2\""], &["\"1, 2\""]));
    }

    // RFC 9110 section 10.1.5, RFC 6265 section 4.2
    #[test]
    fn a_comma_in_a_field_that_is_no_list_is_text() {
        assert!(!same("user-agent", &["x (a, b)"], &["x (a,b)"]));
        assert!(!same("cookie", &["a=1, b"], &["a=1,b"]));
        assert!(!same("cookie", &["a=1,b=2"], &["a=1", "b=2"]));
        assert!(same("cookie", &["a=1; b=2"], &["a=1", "b=2"]));
    }

    #[test]
    fn languages_match_without_order_case_and_space() {
        let field = "accept-language";
        assert!(same(field, &["en, de"], &["de, en"]));
        assert!(same(field, &["en, de"], &["eN, De"]));
        assert!(same(field, &["en, de"], &[" en ,   de"]));
        assert!(same(field, &["en, de"], &["en", "de"]));
        assert!(same(field, &["en;q=0.5, de;q=1"], &["de, en; Q=0.500"]));
        assert!(!same(field, &["en;q=0.5, de"], &["en, de"]));
        assert!(!same(field, &["en"], &[]));
    }

    #[test]
    fn codings_match_without_order_case_and_space() {
        let field = "accept-encoding";
        assert!(same(field, &["gzip, br"], &["BR,x-gzip"]));
        assert!(!same(field, &["gzip, br"], &["gzip"]));
        assert!(!same(field, &["gzip;q=0"], &["gzip"]));
    }
}
