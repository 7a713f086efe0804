//! Clients that ask for anything, and check all that they get.

use crate::bodies::{KEYS, KINDS, Site, body_of, varies};
use crate::ledger::Ledger;
use crate::support::{Call, Ending, Response};
use std::net::SocketAddr;
use std::sync::Arc;

pub struct Client {
    pub addr: SocketAddr,
    pub site: Arc<Site>,
    pub ledger: Arc<Ledger>,
    pub random: fastrand::Rng,
}

/// What was asked for.
struct Asked {
    key: usize,
    kind: &'static str,
    method: &'static str,
    range: Option<(usize, usize)>,
}

impl Client {
    /// Asks until the daemon is about to be killed, or does not answer because it was.
    pub async fn run(mut self) {
        while self.ledger.lives() {
            // Small numbers more often.
            let key = self.random.usize(..KEYS) * self.random.usize(..KEYS) / KEYS;
            if self.random.u8(..12) == 0 { self.change(key).await } else { self.read(key).await }
        }
    }

    async fn change(&mut self, key: usize) {
        let change = self.ledger.begin_change(key);
        let answer = Call::new(self.addr, "PUT", &format!("/{key}")).body("new").attempt().await;
        let version = match &answer {
            Ok(answer) => {
                let version = answer.header("x-version").and_then(|version| version.parse().ok());
                self.ledger.check(answer.status == 204 && version.is_some(), || {
                    format!("PUT /{key} was answered {} with version {version:?}", answer.status)
                });
                self.ledger.count("changes");
                version
            }
            Err(error) => {
                self.ledger.check(!self.ledger.lives(), || format!("PUT /{key} was not answered: {error}"));
                None
            }
        };
        self.ledger.end_change(key, change, version);
    }

    async fn read(&mut self, key: usize) {
        let choice = self.random.u8(..10);
        let asked = Asked {
            key,
            kind: if varies(key) { KINDS[self.random.usize(..KINDS.len())] } else { "" },
            method: if choice == 0 { "HEAD" } else { "GET" },
            range: (choice == 1).then(|| {
                let first = self.random.usize(..200_000);
                (first, first + self.random.usize(..100_000))
            }),
        };
        let mut call = Call::new(self.addr, asked.method, &format!("/{key}"));
        if !asked.kind.is_empty() {
            call = call.header("x-kind", asked.kind);
        }
        if let Some((first, last)) = asked.range {
            call = call.header("range", &format!("bytes={first}-{last}"));
        }
        if choice == 2 {
            // Has a fresh one confirmed.
            call = call.header("cache-control", "no-cache");
        }
        let floor = self.ledger.begin_read(key);
        let answer = call.attempt().await;
        self.ledger.end_read(key);
        match answer {
            Ok(answer) => self.check(&asked, floor, &answer),
            Err(error) => {
                self.ledger.check(!self.ledger.lives(), || format!("/{key} was not answered: {error}"));
                self.ledger.count("not answered at the end");
            }
        }
    }

    fn check(&self, asked: &Asked, floor: u64, answer: &Response) {
        let Asked { key, kind, method, range } = *asked;
        let field = |name: &str| answer.header(name).and_then(|value| value.parse::<u64>().ok());
        let told = || format!("{method} /{key} {kind} {range:?}: {} {:?}", answer.status, answer.headers.0);
        let is_known = matches!(answer.status, 200 | 206 | 416);
        self.ledger.check(is_known, || format!("an answer that nobody asked for: {}", told()));
        if !is_known || answer.status == 416 {
            return;
        }
        let (Some(version), Some(claimed)) = (field("x-version"), field("x-key")) else {
            return self.ledger.check(false, || format!("nothing says what this is: {}", told()));
        };
        self.ledger.check(claimed == key as u64, || format!("the response of {claimed}: {}", told()));
        let newest = self.site.version(key);
        self.ledger.check(version >= floor && version <= newest, || {
            format!("version {version}, where {floor} was promised and {newest} is current: {}", told())
        });
        if varies(key) {
            let given = answer.header("x-kind").unwrap_or_default();
            self.ledger.check(given == kind, || format!("the variant for {given}: {}", told()));
        }
        if answer.is_hit() {
            self.ledger.count("hits");
        }
        if answer.cache_status().fwd_status == Some(304) {
            self.ledger.count("confirmed by the origin");
        }
        let whole = body_of(key, version, kind);
        if method == "HEAD" {
            let length = answer.header("content-length").and_then(|length| length.parse().ok());
            self.ledger.check(length.is_none_or(|length: usize| length == whole.len()), || {
                format!("length {length:?} instead of {}: {}", whole.len(), told())
            });
            return self.ledger.count("heads compared");
        }
        let expected = match answer.status {
            206 => match part(&whole, answer) {
                Some(part) => part,
                None => return self.ledger.check(false, || format!("a part of nothing: {}", told())),
            },
            _ => whole.as_slice(),
        };
        if answer.ending == Ending::Cut {
            // What came before is right all the same.
            self.ledger.check(expected.starts_with(&answer.body), || format!("a wrong beginning: {}", told()));
            self.ledger.check(!self.ledger.lives() || self.ledger.is_excused(), || {
                format!(
                    "cut off after {} of {} bytes by a daemon that lives: {}",
                    answer.body.len(),
                    expected.len(),
                    told()
                )
            });
            return self.ledger.count("cut off at the end");
        }
        self.ledger.check(answer.body == expected, || {
            let same = answer.body.iter().zip(expected).take_while(|(one, other)| one == other).count();
            format!("{} bytes instead of {}, the first {same} right: {}", answer.body.len(), expected.len(), told())
        });
        self.ledger.count(if answer.status == 206 { "parts compared" } else { "bodies compared" });
    }
}

/// What `Content-Range` says that this is.
fn part<'a>(whole: &'a [u8], answer: &Response) -> Option<&'a [u8]> {
    let field = answer.header("content-range")?;
    let (range, length) = field.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (length == whole.len().to_string() || length == "*").then(|| whole.get(first..=last))?
}
