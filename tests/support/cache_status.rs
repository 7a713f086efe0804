//! `Cache-Status` (RFC 9211) read back.

use super::wire::Headers;

/// Tidegate's member of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    pub hit: bool,
    pub fwd: Option<String>,
    pub fwd_status: Option<u16>,
    pub stored: bool,
    pub collapsed: bool,
    pub ttl: Option<i64>,
    pub detail: Option<String>,
}

impl CacheStatus {
    /// Reads the member whose cache is `tidegate`; every response must have one.
    pub fn of(headers: &Headers) -> Self {
        let field = headers.get("cache-status").unwrap_or_else(|| panic!("no Cache-Status in {headers:?}"));
        let members = split_outside_quotes(&field, ',');
        let ours = members.iter().map(|member| split_outside_quotes(member, ';')).find(|m| m[0] == "tidegate");
        let mut status = CacheStatus::default();
        for parameter in ours.unwrap_or_else(|| panic!("no tidegate in Cache-Status: {field}")).into_iter().skip(1) {
            let (name, value) = parameter.split_once('=').unwrap_or((&parameter, ""));
            let text = || Some(value.trim_matches('"').to_owned());
            match name {
                "hit" => status.hit = true,
                "fwd" => status.fwd = text(),
                "fwd-status" => status.fwd_status = value.parse().ok(),
                "stored" => status.stored = true,
                "collapsed" => status.collapsed = true,
                "ttl" => status.ttl = value.parse().ok(),
                "detail" => status.detail = text(),
                _ => {}
            }
        }
        status
    }

    /// `fwd`, or nothing.
    pub fn fwd(&self) -> &str {
        self.fwd.as_deref().unwrap_or_default()
    }

    /// `detail`, or nothing.
    pub fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or_default()
    }
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        if c == separator && !quoted {
            pieces.push(String::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces.iter().map(|piece| piece.trim().to_owned()).collect()
}
