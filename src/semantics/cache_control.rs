//! `Cache-Control` of a response, and which of a response's fields decides for this cache: RFC 9111 section 5.2.2,
//! RFC 9213.

use super::directives::{Argument, directives};
use super::{surrogate, targeted};
use crate::policy::decision::Overrides;
use http::{HeaderMap, HeaderName, header};

/// The response directives that a shared cache knows. Unknown ones are ignored (RFC 9111 section 5.2.3).
///
/// Where a directive with a number is given twice, the first one wins: RFC 9111 section 4.2.1 allows that or "stale",
/// and a proxy that appends must not be able to change what the origin said. Where two directives conflict, both are
/// kept and the more restrictive one decides where they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age`, in seconds. A value that is no number is 0: section 4.2.1 encourages to take it for stale.
    pub max_age: Option<u32>,
    /// `s-maxage`, in seconds; as for `max_age`.
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate`, in seconds (RFC 5861 section 3); a value that is no number is 0.
    pub stale_while_revalidate: Option<u32>,
    /// `stale-if-error`, in seconds (RFC 5861 section 4); a value that is no number is 0.
    pub stale_if_error: Option<u32>,
    /// `no-store`
    pub no_store: bool,
    /// `no-cache`, with or without names of fields.
    pub no_cache: Scope,
    /// `private`, with or without names of fields.
    pub private: Scope,
    /// `public`
    pub public: bool,
    /// `must-revalidate`
    pub must_revalidate: bool,
    /// `proxy-revalidate`
    pub proxy_revalidate: bool,
    /// `must-understand`
    pub must_understand: bool,
    /// `no-transform`
    pub no_transform: bool,
    /// `immutable` (RFC 8246)
    pub immutable: bool,
}

/// Fields that say what a body is, for whom, and how long it holds. A response without them is another response, so that
/// `private` and `no-cache` that name one are taken for the unqualified form, as RFC 9111 sections 5.2.2.4 and 5.2.2.7
/// allow.
const INDISPENSABLE: [HeaderName; 13] = [
    header::AGE,
    header::CACHE_CONTROL,
    targeted::CDN_CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPIRES,
    header::LOCATION,
    surrogate::SURROGATE_CONTROL,
    header::TRANSFER_ENCODING,
    header::VARY,
];

/// How much of a response `private` or `no-cache` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is absent.
    #[default]
    Nothing,
    /// Only these fields: the response may be stored without them.
    Fields(Vec<HeaderName>),
    /// All of it.
    Response,
}

impl Scope {
    /// The directive is about the whole response.
    pub fn is_response(&self) -> bool {
        *self == Scope::Response
    }

    /// The fields that it is about, if it is about fields.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Scope::Fields(names) => names,
            Scope::Nothing | Scope::Response => &[],
        }
    }

    /// Reads the text of an argument as names of fields. Names that no field can have widen the scope to everything,
    /// so that a slip of the origin never makes it cacheable; so do fields without which the rest means something else.
    pub(super) fn of_names(text: &[u8]) -> Self {
        let mut names = Vec::new();
        for name in text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            match HeaderName::from_bytes(name) {
                Ok(name) if !INDISPENSABLE.contains(&name) => names.push(name),
                _ => return Scope::Response,
            }
        }
        if names.is_empty() { Scope::Response } else { Scope::Fields(names) }
    }

    fn widen(&mut self, other: Scope) {
        match (&mut *self, other) {
            (Scope::Response, _) | (_, Scope::Nothing) => {}
            (Scope::Fields(names), Scope::Fields(more)) => names.extend(more),
            (_, other) => *self = other,
        }
    }
}

impl CacheControl {
    /// Reads all lines of a field with the syntax of `Cache-Control`. Never fails.
    pub fn of(headers: &HeaderMap, field: &HeaderName) -> Self {
        let mut control = CacheControl::default();
        for (name, argument) in directives(headers, field) {
            control.add(name, argument);
        }
        control
    }

    pub(super) fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        if is("max-age") {
            first(&mut self.max_age, argument);
        } else if is("s-maxage") {
            first(&mut self.s_maxage, argument);
        } else if is("stale-while-revalidate") {
            first(&mut self.stale_while_revalidate, argument);
        } else if is("stale-if-error") {
            first(&mut self.stale_if_error, argument);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache.widen(scope(argument));
        } else if is("private") {
            self.private.widen(scope(argument));
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("no-transform") {
            self.no_transform = true;
        } else if is("immutable") {
            self.immutable = true;
        }
    }
}

fn first(slot: &mut Option<u32>, argument: Argument<'_>) {
    slot.get_or_insert_with(|| argument.seconds().unwrap_or(0));
}

fn scope(argument: Argument<'_>) -> Scope {
    argument.text().map_or(Scope::Response, Scope::of_names)
}

/// Which field the directives of a response were taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControlField {
    /// `Cache-Control`; `Expires` counts beside it.
    #[default]
    CacheControl,
    /// `CDN-Cache-Control` (RFC 9213): `Cache-Control` and `Expires` are for others.
    CdnCacheControl,
    /// `Surrogate-Control` (Edge Architecture, W3C note): as for `CDN-Cache-Control`.
    SurrogateControl,
}

/// The directives that this cache obeys for one response, after what the policy sets aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// The directives in force.
    pub directives: CacheControl,
    /// Where they came from.
    pub field: ControlField,
    /// What the policy set aside; `directives` no longer contain it.
    pub overrides: Overrides,
}

impl ResponseControl {
    /// Picks the field that decides and reads it.
    ///
    /// The target list of RFC 9213 section 2.2 is fixed: `CDN-Cache-Control`, then `Surrogate-Control`. The first one
    /// that is valid and not empty replaces `Cache-Control` and `Expires`; an invalid one counts as absent.
    pub fn of(response: &HeaderMap, overrides: Overrides) -> Self {
        let (mut directives, field) = if let Some(directives) = targeted::cdn_cache_control(response) {
            (directives, ControlField::CdnCacheControl)
        } else if let Some(directives) = surrogate::surrogate_control(response) {
            (directives, ControlField::SurrogateControl)
        } else {
            (CacheControl::of(response, &header::CACHE_CONTROL), ControlField::CacheControl)
        };
        directives.no_store &= !overrides.no_store;
        if overrides.private {
            directives.private = Scope::Nothing;
        }
        if overrides.no_cache {
            directives.no_cache = Scope::Nothing;
        }
        ResponseControl { directives, field, overrides }
    }

    /// `Cache-Control` and `Expires` are not for this cache.
    pub fn is_targeted(&self) -> bool {
        self.field != ControlField::CacheControl
    }

    /// The fields that may not be kept although the response may (RFC 9111 sections 5.2.2.4 and 5.2.2.7).
    ///
    /// Fields of `no-cache` could be kept and revalidated on each use; leaving them out does the same with less.
    pub fn fields_to_strip(&self) -> impl Iterator<Item = &HeaderName> {
        self.directives.private.fields().iter().chain(self.directives.no_cache.fields())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::headers;
    use super::*;

    fn parse(lines: &[&str]) -> CacheControl {
        let pairs: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        CacheControl::of(&headers(&pairs), &header::CACHE_CONTROL)
    }

    // RFC 9111 section 5.2: names are case-insensitive
    #[test]
    fn names_are_case_insensitive() {
        assert_eq!(parse(&["MaX-aGe=3600"]).max_age, Some(3600));
        assert!(parse(&["No-StOrE"]).no_store);
    }

    #[test]
    fn all_directives_are_known() {
        let control = parse(&[
            "max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4, no-store, no-cache, private",
            "public, must-revalidate, proxy-revalidate, must-understand, no-transform, immutable, unknown=1",
        ]);
        let expected = CacheControl {
            max_age: Some(1),
            s_maxage: Some(2),
            stale_while_revalidate: Some(3),
            stale_if_error: Some(4),
            no_store: true,
            no_cache: Scope::Response,
            private: Scope::Response,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_transform: true,
            immutable: true,
        };
        assert_eq!(control, expected);
    }

    // RFC 9111 section 4.2.1: the first occurrence, or stale
    #[test]
    fn the_first_of_two_numbers_wins() {
        assert_eq!(parse(&["max-age=1800, max-age=1"]).max_age, Some(1800));
        assert_eq!(parse(&["max-age=1", "max-age=1800"]).max_age, Some(1));
    }

    // RFC 9111 section 4.2.1: invalid freshness information is stale
    #[test]
    fn an_invalid_number_is_zero() {
        for line in [
            "max-age='3600'",
            "max-age=a3600",
            "max-age=3600a",
            "max-age=-3600",
            "max-age=3600.0",
            "max-age=",
            "max-age",
            "max-age =3600",
            "max-age= 3600",
        ] {
            assert_eq!(parse(&[line]).max_age, Some(0), "{line}");
        }
    }

    #[test]
    fn an_invalid_number_is_not_saved_by_a_valid_one() {
        assert_eq!(parse(&["max-age=x, max-age=60"]).max_age, Some(0));
    }

    #[test]
    fn a_number_may_be_quoted() {
        assert_eq!(parse(&["max-age=\"3600\""]).max_age, Some(3600));
    }

    #[test]
    fn a_name_in_a_quoted_string_is_no_directive() {
        assert_eq!(parse(&["extension=\"max-age=3600\", max-age=1"]).max_age, Some(1));
        assert_eq!(parse(&["max-age=1, extension=\"max-age=3600\""]).max_age, Some(1));
    }

    // RFC 9111 section 5.2.2.7
    #[test]
    fn private_may_name_fields() {
        let control = parse(&["private=\"A, b\""]);
        assert_eq!(control.private.fields(), ["a", "b"]);
        assert!(!control.private.is_response());
    }

    #[test]
    fn names_of_fields_add_up_over_lines() {
        let control = parse(&["no-cache=\"a\"", "no-cache=\"b\"", "max-age=3600"]);
        assert_eq!(control.no_cache.fields(), ["a", "b"]);
    }

    #[test]
    fn private_without_names_wins_over_names() {
        assert!(parse(&["private=\"a\", private"]).private.is_response());
        assert!(parse(&["private, private=\"a\""]).private.is_response());
    }

    #[test]
    fn broken_names_of_fields_mean_everything() {
        for line in
            ["private=\"\"", "private=\"a b\"", "private=\"a", "private=", "private =\"a\"", r#"private="a\"b""#]
        {
            assert!(parse(&[line]).private.is_response(), "{line}");
        }
    }

    #[test]
    fn names_of_fields_that_a_response_cannot_do_without_mean_everything() {
        for name in ["Vary", "content-encoding", "x-secret, content-type", "location"] {
            assert!(parse(&[&format!("private=\"{name}\"")]).private.is_response(), "{name}");
            assert!(parse(&[&format!("no-cache=\"{name}\"")]).no_cache.is_response(), "{name}");
        }
    }

    // RFC 9213 section 2.2
    #[test]
    fn cdn_cache_control_replaces_cache_control() {
        let response = headers(&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=10")]);
        let control = ResponseControl::of(&response, Overrides::default());
        assert_eq!(control.field, ControlField::CdnCacheControl);
        assert!(!control.directives.no_store);
        assert_eq!(control.directives.max_age, Some(10));
    }

    #[test]
    fn an_invalid_cdn_cache_control_counts_as_absent() {
        for value in ["max-age=10000, &&&&&", "max-age=\"10000\"", "", "max-age =10"] {
            let response = headers(&[("cache-control", "no-store"), ("cdn-cache-control", value)]);
            let control = ResponseControl::of(&response, Overrides::default());
            assert!(control.directives.no_store, "{value}");
            assert!(!control.is_targeted());
        }
    }

    #[test]
    fn overrides_set_directives_aside() {
        let response = headers(&[("cache-control", "no-store, private=\"a\", no-cache, max-age=5")]);
        let overrides = Overrides { no_store: true, private: true, no_cache: true, ..Overrides::default() };
        let control = ResponseControl::of(&response, overrides);
        assert_eq!(control.directives, CacheControl { max_age: Some(5), ..CacheControl::default() });
        assert_eq!(control.fields_to_strip().count(), 0);
    }
}
