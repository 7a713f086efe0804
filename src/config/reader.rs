//! Takes a located tree apart, key by key, and notes every problem on the way.
//!
//! A [`Section`] hands out its values by key and remembers what was asked for; whatever is left in the end is an unknown
//! key. A getter that finds a problem notes it and answers `None`, so that the caller goes on with its default and the
//! next problem is found too. The names of all keys come from the same calls: a *survey* runs the decoder over an empty
//! tree and lists what it asks for, so that no list of keys can fall behind the code.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::expand::Env;
use super::problem::{Position, Problem};
use super::yaml::{Data, Entry, Node};

pub(super) use super::value::Value;

/// Stands for the name of an origin or a bucket in the names of keys.
pub(super) const NAME: &str = "NAME";

/// What all sections of one file share.
pub(super) struct Reader<'a> {
    /// The file as it was named.
    file: &'a Path,
    /// Variables for `${VAR}`.
    pub(super) env: Env<'a>,
    survey: bool,
    known: RefCell<Vec<String>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, env: Env<'a>) -> Self {
        Reader {
            file,
            env,
            survey: false,
            known: RefCell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// A reader whose sections visit everything that could be there.
    pub(super) fn surveying() -> Reader<'static> {
        let mut reader = Reader::new(Path::new(""), &|_| None);
        reader.survey = true;
        reader
    }

    /// Reads the whole file.
    pub(super) fn root<T>(&'a self, node: &'a Node, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let place = Place { reader: self, at: node.at, path: String::new(), pattern: String::new() };
        Section::read(place, Some(node), read)
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(self) -> Findings {
        let sorted = |mut problems: Vec<Problem>| {
            problems.sort_by_key(|problem| (problem.line, problem.column));
            problems
        };
        Findings {
            problems: sorted(self.problems.into_inner()),
            warnings: sorted(self.warnings.into_inner()),
            known: self.known.into_inner(),
        }
    }
}

/// What reading a file brought to light.
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// The keys asked for, with [`NAME`] for chosen names. Filled by a survey only.
    pub(super) known: Vec<String>,
}

/// Where a value is: in the file and among the keys.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) at: Position,
    /// `origins.media.s3`
    path: String,
    /// `origins.NAME.s3`
    pattern: String,
}

impl<'a> Place<'a> {
    /// Notes a problem here.
    pub(super) fn problem(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.note(&self.reader.problems, message.into(), hint.into());
    }

    /// Notes something that is allowed and probably not meant.
    pub(super) fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.note(&self.reader.warnings, message.into(), hint.into());
    }

    fn note(&self, to: &RefCell<Vec<Problem>>, message: String, hint: String) {
        to.borrow_mut().push(Problem {
            file: self.reader.file.to_owned(),
            line: self.at.line,
            column: self.at.column,
            path: self.path.clone(),
            message,
            hint: Some(hint),
        });
    }

    /// A path of the file: relative ones are relative to the folder of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.reader.file.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn item(&self, index: usize, at: Position) -> Self {
        Place { reader: self.reader, at, path: format!("{}[{index}]", self.path), pattern: self.pattern.clone() }
    }

    fn key(&self, key: &str, at: Position) -> Self {
        Place { reader: self.reader, at, path: dotted(&self.path, key), pattern: dotted(&self.pattern, key) }
    }

    fn chosen(&self, name: &str, at: Position) -> Self {
        Place { reader: self.reader, at, path: dotted(&self.path, name), pattern: dotted(&self.pattern, NAME) }
    }
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A mapping whose keys are known. One that is absent or empty reads as if nothing was given.
pub(super) struct Section<'a> {
    pub(super) place: Place<'a>,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    /// It is no mapping, which was said; its required keys are not missed on top.
    broken: bool,
}

impl<'a> Section<'a> {
    fn read<T>(place: Place<'a>, node: Option<&'a Node>, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut broken = false;
        let entries: &[Entry] = match node.map(|node| &node.data) {
            Some(Data::Map(entries)) => entries,
            None | Some(Data::Null) => &[],
            Some(other) => {
                broken = true;
                place.problem(format!("expected a mapping, found {}", found(other)), "write `key: value` lines");
                &[]
            }
        };
        let mut section = Section { place, entries, asked: Vec::new(), broken };
        section.refuse_repeated_keys();
        let result = read(&mut section);
        section.refuse_unknown_keys();
        result
    }

    /// Whether the file gives anything here.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The place of a key, given or not.
    pub(super) fn place_of(&self, key: &str) -> Place<'a> {
        let at = self.entries.iter().rfind(|entry| entry.key == key).map_or(self.place.at, |entry| entry.value.at);
        self.place.key(key, at)
    }

    /// The value of a key, read. `None`: it is not there, or it is wrong, which was noted.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<T> {
        let entry = self.ask(key)?;
        let value = Value { place: self.place.key(key, entry.value.at), node: &entry.value };
        if value.is_null() {
            value.place.problem("has no value", "give one, or remove the key for its default");
            return None;
        }
        read(&value)
    }

    /// Like [`Section::get`] for a key that must be there; `example` shows how to write it.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) && !self.broken {
            self.place_of(key).problem("is missing", format!("add `{key}: {example}`"));
        }
        self.get(key, read)
    }

    /// The items of a list, each read; a single value is a list of one. `None` also if one of them is wrong.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl FnMut(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        self.get(key, |value| {
            // All are read before one that is wrong ends it.
            let items: Vec<Option<T>> = value.items().iter().map(read).collect();
            items.into_iter().collect()
        })
    }

    /// A section whose keys all have defaults: one left out is like an empty one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let node = self.ask(key).map(|entry| &entry.value);
        // For a section that is absent, the place is that of the mapping that it would be in.
        let at = self.entry(key).map_or(self.place.at, |entry| entry.at);
        let broken = self.broken;
        Section::read(self.place.key(key, at), node, |section| {
            section.broken |= broken;
            read(section)
        })
    }

    /// A section that means something by being there.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> Option<T> {
        let given = self.entry(key).is_some_and(|entry| entry.value.data != Data::Null);
        if given || self.place.reader.survey {
            return Some(self.section(key, read));
        }
        self.asked.push(key);
        None
    }

    /// A word (`off`, `env`, …) or a section.
    pub(super) fn word_or_section<T>(
        &mut self,
        key: &'static str,
        word: impl FnOnce(&Value<'a>) -> Option<T>,
        section: impl FnOnce(&mut Section<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.entry(key).map(|entry| &entry.value.data) {
            Some(Data::Map(_)) => self.section(key, section),
            None if self.place.reader.survey => self.section(key, section),
            None => self.get(key, word),
            Some(_) => {
                let entry = self.ask(key)?;
                word(&Value { place: self.place.key(key, entry.value.at), node: &entry.value })
            }
        }
    }

    /// A list of sections.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> Option<T>,
    ) -> Vec<T> {
        if self.place.reader.survey {
            return self.section(key, read).into_iter().collect();
        }
        let items = self.get(key, |value| Some(value.items())).unwrap_or_default();
        items.into_iter().filter_map(|item| Section::read(item.place, Some(item.node), &mut read)).collect()
    }

    /// A mapping from names that the operator chooses to sections.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Section<'a>) -> T,
    ) -> Vec<(String, T)> {
        let survey = self.place.reader.survey;
        let node = self.ask(key).map(|entry| &entry.value);
        let at = self.entry(key).map_or(self.place.at, |entry| entry.at);
        let place = self.place.key(key, at);
        if survey {
            return vec![(NAME.to_owned(), Section::read(place.chosen(NAME, at), None, |s| read(NAME, s)))];
        }
        let Some(node) = node else { return Vec::new() };
        // The names are keys that nobody asks for, so the mapping is walked here rather than by `Section::read`.
        let mut names = Section { place, entries: &[], asked: Vec::new(), broken: false };
        match &node.data {
            Data::Map(entries) => names.entries = entries,
            Data::Null => {}
            other => names
                .place
                .problem(format!("expected a mapping of names, found {}", found(other)), "write `name: { … }` lines"),
        }
        names.refuse_repeated_keys();
        let each = names.entries.iter().map(|entry| {
            let place = names.place.chosen(&entry.key, entry.at);
            refuse_odd_name(&place, &entry.key);
            (entry.key.clone(), Section::read(place, Some(&entry.value), |section| read(&entry.key, section)))
        });
        each.collect()
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().rfind(|entry| entry.key == key)
    }

    fn ask(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.asked.push(key);
        if self.place.reader.survey {
            let pattern = dotted(&self.place.pattern, key);
            let mut known = self.place.reader.known.borrow_mut();
            if !known.contains(&pattern) {
                known.push(pattern);
            }
        }
        self.entry(key)
    }

    fn refuse_repeated_keys(&self) {
        for (index, entry) in self.entries.iter().enumerate() {
            let first = self.entries.iter().take(index).find(|earlier| earlier.key == entry.key);
            if let Some(first) = first {
                self.place
                    .key(&entry.key, entry.at)
                    .problem(format!("is given twice, first on line {}", first.at.line), "keep one of them");
            }
        }
    }

    fn refuse_unknown_keys(&self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let place = self.place.key(&entry.key, entry.at);
            let hint = if entry.key == "<<" {
                "YAML 1.2 has no merge keys: write the keys out".to_owned()
            } else if let Some(near) = nearest(&entry.key, self.asked.iter().copied()) {
                format!("did you mean `{near}`?")
            } else if let Some(home) = self.home_of(&entry.key) {
                format!("that key belongs to `{home}`")
            } else {
                format!("the keys here are {}", quoted(&self.asked))
            };
            place.problem("unknown key", hint);
        }
    }

    /// The section that has `key`, the nearest one if there are several.
    fn home_of(&self, key: &str) -> Option<String> {
        let known = super::known_keys();
        let homes = known.iter().filter_map(|pattern| pattern.strip_suffix(key)?.strip_suffix('.'));
        let shared =
            |home: &&str| home.split('.').zip(self.place.pattern.split('.')).take_while(|(a, b)| a == b).count();
        // The first of the best: sections come in the order in which they are documented.
        let home = homes.rev().max_by_key(shared)?;
        let names = self.place.path.split('.').zip(self.place.pattern.split('.'));
        let mut home: Vec<&str> = home.split('.').collect();
        for (part, (name, pattern)) in home.iter_mut().zip(names) {
            if *part != pattern {
                break;
            }
            *part = name;
        }
        Some(home.join("."))
    }
}

/// Names are labels of metrics and part of cache keys and admin paths.
fn refuse_odd_name(place: &Place<'_>, name: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        place.problem("is not a good name", "use 1 to 64 of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`");
    }
}

/// The candidate that is a slip of the finger away from `word`.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let near = candidates.map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate));
    let (distance, candidate) = near.min_by_key(|(distance, _)| *distance)?;
    let longest = word.chars().count().max(candidate.chars().count());
    (distance <= 1 + longest / 4 && distance < longest).then_some(candidate)
}

/// `a`, `b` and `c`, for a sentence.
pub(super) fn quoted(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// What a value is, for a sentence.
pub(super) fn found(data: &Data) -> &'static str {
    match data {
        Data::Null => "nothing",
        Data::Scalar { .. } => "a single value",
        Data::List(_) => "a list",
        Data::Map(_) => "a mapping",
    }
}
