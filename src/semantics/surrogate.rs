//! `Surrogate-Control`: the Edge Architecture note of W3C, which origins sent long before RFC 9213 and still do.
//!
//! Its syntax is that of `Cache-Control`, with parameters after `;`. A directive with a parameter that names a device
//! is for that device only.

use super::cache_control::CacheControl;
use super::directives::{Argument, directives};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::HashSet;

/// `Surrogate-Control`. To be removed before a response goes to a client: it is for surrogates.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Fields in which origins name tags for purging: `Surrogate-Key`, with spaces between them, and `Cache-Tag`, with commas. To be
/// removed before a response goes to a client, unless there are more surrogates on the way.
pub const TAG_FIELDS: [HeaderName; 2] =
    [HeaderName::from_static("surrogate-key"), HeaderName::from_static("cache-tag")];

/// Adds the tags that a response names to those that it has already, each once. What is not text is none.
pub fn add_tags(tags: &mut Vec<String>, response: &HeaderMap) {
    let [keys, list] = &TAG_FIELDS;
    let named = response.get_all(keys).into_iter().map(|line| (line, ' '));
    let named = named.chain(response.get_all(list).into_iter().map(|line| (line, ',')));
    let mut seen: HashSet<String> = HashSet::new();
    for (line, separator) in named {
        let Ok(line) = std::str::from_utf8(line.as_bytes()) else { continue };
        if seen.is_empty() {
            seen.extend(tags.iter().cloned());
        }
        let new = line.split(separator).map(str::trim).filter(|tag| !tag.is_empty());
        tags.extend(new.filter(|tag| seen.insert((*tag).to_owned())).map(str::to_owned));
    }
}

/// `Surrogate-Capability`, of a request: an origin sends `Surrogate-Control` only to those who say that they obey it (Edge
/// Architecture section 2.1).
pub const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");

/// What this cache says that it can do: the control, and no processing of content.
pub const CAPABILITY: HeaderValue = HeaderValue::from_static("tidegate=\"Surrogate/1.0\"");

/// The name by which a directive can be aimed at this cache.
pub const DEVICE: &str = "tidegate";

/// The directives of `Surrogate-Control` that are for this cache; `None` if there are none.
///
/// The note knows `max-age` and `no-store`; other directives of `Cache-Control` mean the same here. Of
/// `max-age=fresh+stale` the second number is how long it may be used after that, as `stale-while-revalidate` and
/// `stale-if-error` say it today.
pub fn surrogate_control(response: &HeaderMap) -> Option<CacheControl> {
    let mut control = CacheControl::default();
    for (name, argument) in directives(response, &SURROGATE_CONTROL) {
        let (name, argument) = match (split(name), argument) {
            ((name, None), Argument::Token(text)) => {
                let (text, device) = split(text);
                if device.is_some_and(|device| !is_this_device(device)) {
                    continue;
                }
                (name, Argument::Token(text))
            }
            ((_, Some(device)), _) if !is_this_device(device) => continue,
            ((name, _), argument) => (name, argument),
        };
        add(&mut control, name, argument);
    }
    (control != CacheControl::default()).then_some(control)
}

fn add(control: &mut CacheControl, name: &[u8], argument: Argument<'_>) {
    if let Argument::Token(text) = argument
        && let Some(plus) = text.iter().position(|byte| *byte == b'+')
        && let Some((fresh, stale)) = text.split_at_checked(plus)
    {
        let stale = Argument::Token(stale.strip_prefix(b"+").unwrap_or(stale));
        control.add(name, Argument::Token(fresh));
        control.add(b"stale-while-revalidate", stale);
        control.add(b"stale-if-error", stale);
        return;
    }
    control.add(name, argument);
}

fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |byte| *byte == b';');
    (parts.next().unwrap_or(text), parts.next())
}

fn is_this_device(device: &[u8]) -> bool {
    device.trim_ascii().eq_ignore_ascii_case(DEVICE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_added_once_from_both_fields() {
        let mut response = HeaderMap::new();
        for (name, value) in [("surrogate-key", "a b  c"), ("surrogate-key", "d"), ("cache-tag", "c, e f,,g ")] {
            response.append(name, HeaderValue::from_static(value));
        }
        response.append("cache-tag", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut tags = vec!["own".to_owned(), "b".to_owned()];
        add_tags(&mut tags, &response);
        assert_eq!(tags, ["own", "b", "a", "c", "d", "e f", "g"]);
        let mut none = Vec::new();
        add_tags(&mut none, &HeaderMap::new());
        assert!(none.is_empty());
    }

    use super::super::testing::headers;

    fn parse(value: &str) -> Option<CacheControl> {
        surrogate_control(&headers(&[("surrogate-control", value)]))
    }

    // Edge Architecture section 2.2
    #[test]
    fn directives_read_as_in_cache_control() {
        assert_eq!(parse("foobar, MaX-aGe=3600").unwrap().max_age, Some(3600));
        assert!(parse("no-store").unwrap().no_store);
    }

    #[test]
    fn a_directive_for_another_device_is_ignored() {
        assert_eq!(parse("max-age=3600;not-for-you, no-store;other"), None);
    }

    #[test]
    fn a_directive_for_this_device_counts() {
        assert_eq!(parse("max-age=3600;tidegate").unwrap().max_age, Some(3600));
        assert!(parse("no-store;tidegate").unwrap().no_store);
    }

    #[test]
    fn the_time_after_the_plus_is_for_stale_use() {
        let control = parse("max-age=60+30").unwrap();
        assert_eq!(
            (control.max_age, control.stale_while_revalidate, control.stale_if_error),
            (Some(60), Some(30), Some(30))
        );
    }

    #[test]
    fn a_field_without_known_directives_is_absent() {
        assert_eq!(parse("foo"), None);
        assert_eq!(parse("content=\"ESI/1.0\""), None);
    }

    #[test]
    fn a_broken_number_is_stale() {
        assert_eq!(parse("max-age =100").unwrap().max_age, Some(0));
    }
}
