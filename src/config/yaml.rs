//! YAML text to a tree of located nodes.
//!
//! The tree is built from the parser's events rather than loaded by `saphyr` itself, for three reasons that matter to
//! whoever reads the messages: a repeated key stays in the tree, so that each one is reported; a scalar keeps its text
//! (`1.10` is not `1.1`); and nesting has a bound.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::Position;

/// Deeper nesting is refused. The deepest key of the configuration is at level 6.
const MAX_DEPTH: usize = 32;
/// Most nodes that aliases may add: a few nested anchors can spell billions.
const MAX_ALIASED: usize = 10_000;

/// A located value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) data: Data,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// Nothing: `~`, `null` or no text at all.
    Null,
    /// A scalar as written, unquoted.
    Scalar {
        text: String,
        /// It was in quotes or a block, so it can only be text.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file, repeated keys included.
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: Position,
    pub(super) key: String,
    pub(super) value: Node,
}

/// The text is not YAML, or uses a part of it that a configuration has no use for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Reads one document. An empty text is `Null`.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| explain(text, &error))?;
        builder.add(event, span)?;
    }
    Ok(builder.root.unwrap_or(Node { at: Position { line: 1, column: 1 }, data: Data::Null }))
}

impl SyntaxError {
    fn new(at: Position, message: impl Into<String>, hint: impl Into<String>) -> Self {
        SyntaxError { at, message: message.into(), hint: Some(hint.into()) }
    }
}

/// A list or mapping that is not complete yet.
struct Open {
    anchor: usize,
    node: Node,
    /// The key that waits for its value.
    key: Option<(Position, String)>,
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

impl Builder {
    fn add(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let at = position(&span);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(SyntaxError::new(
                at,
                "a second document begins here",
                "a configuration is one document: remove the `---` and what follows it",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(at, tag.as_deref())?;
                let quoted = style != ScalarStyle::Plain;
                let data = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if !quoted => Data::Null,
                    _ => Data::Scalar { text: text.into_owned(), quoted },
                };
                self.complete(anchor, Node { at, data })
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, anchor, tag.as_deref(), Data::List(Vec::new())),
            Event::MappingStart(anchor, tag) => self.begin(at, anchor, tag.as_deref(), Data::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.complete(open.anchor, open.node),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let node = self.resolve(at, anchor)?;
                self.complete(0, node)
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, at: Position, anchor: usize, tag: Option<&Tag>, data: Data) -> Result<(), SyntaxError> {
        refuse_tag(at, tag)?;
        self.refuse_depth(at, 1)?;
        self.open.push(Open { anchor, node: Node { at, data }, key: None });
        Ok(())
    }

    fn complete(&mut self, anchor: usize, node: Node) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.data {
            Data::List(items) => items.push(node),
            Data::Map(entries) => match open.key.take() {
                // A value that is not there has no place of its own.
                Some((at, key)) if node.data == Data::Null => {
                    entries.push(Entry { at, key, value: Node { at, ..node } })
                }
                Some((at, key)) => entries.push(Entry { at, key, value: node }),
                None => open.key = Some((node.at, key_text(node)?)),
            },
            Data::Null | Data::Scalar { .. } => {}
        }
        Ok(())
    }

    fn resolve(&mut self, at: Position, anchor: usize) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(SyntaxError::new(at, "this alias is inside the value that it names", "remove it"));
        };
        self.aliased = self.aliased.saturating_add(node.count());
        if self.aliased > MAX_ALIASED {
            return Err(SyntaxError::new(
                at,
                format!("aliases add more than {MAX_ALIASED} values"),
                "write the values out",
            ));
        }
        let node = Node { at, data: node.data.clone() };
        self.refuse_depth(at, node.depth())?;
        Ok(node)
    }

    fn refuse_depth(&self, at: Position, more: usize) -> Result<(), SyntaxError> {
        if self.open.len() + more <= MAX_DEPTH {
            return Ok(());
        }
        Err(SyntaxError::new(
            at,
            format!("values are nested more than {MAX_DEPTH} deep"),
            "no key of the configuration is that deep",
        ))
    }
}

impl Node {
    fn count(&self) -> usize {
        1 + self.children().map(Node::count).sum::<usize>()
    }

    fn depth(&self) -> usize {
        match self.data {
            Data::Null | Data::Scalar { .. } => 0,
            Data::List(_) | Data::Map(_) => 1 + self.children().map(Node::depth).max().unwrap_or(0),
        }
    }

    fn children(&self) -> impl Iterator<Item = &Node> {
        let (items, entries) = match &self.data {
            Data::List(items) => (items.as_slice(), &[][..]),
            Data::Map(entries) => (&[][..], entries.as_slice()),
            Data::Null | Data::Scalar { .. } => (&[][..], &[][..]),
        };
        items.iter().chain(entries.iter().map(|entry| &entry.value))
    }
}

fn key_text(key: Node) -> Result<String, SyntaxError> {
    match key.data {
        Data::Scalar { text, .. } => Ok(text),
        Data::Null | Data::List(_) | Data::Map(_) => {
            Err(SyntaxError::new(key.at, "a key must be plain text", "write `name: value`"))
        }
    }
}

/// Tags of YAML's own types say nothing new here; others (`!include`) would be ignored in silence, so they are refused.
fn refuse_tag(at: Position, tag: Option<&Tag>) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(SyntaxError::new(at, format!("the tag `{tag}` has no meaning here"), "remove it"))
        }
        _ => Ok(()),
    }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// The parser's own words, and what is usually behind them in a file like ours.
fn explain(text: &str, error: &ScanError) -> SyntaxError {
    let at = Position { line: error.marker().line().max(1), column: error.marker().col() + 1 };
    let line = text.lines().nth(at.line - 1).unwrap_or("");
    let before = text.lines().nth(at.line.wrapping_sub(2)).unwrap_or("");
    let unquoted = |mark: &str| [": ", "- ", "[", ", "].iter().any(|start| line.contains(&format!("{start}{mark}")));
    let hint = if unquoted("*") || error.info().contains("unknown anchor") {
        Some("a value that begins with `*` needs quotes: \"*.example.com\"")
    } else if ((line.contains('{') || line.contains('[')) && line.contains("${")) || before.contains("{ ${") {
        Some("inside `{ }` and `[ ]`, put quotes around \"${…}\"")
    } else if line.trim_start_matches(' ').starts_with('\t') {
        Some("indent with spaces; YAML has no tabs")
    } else if unquoted("@") || unquoted("`") || unquoted("%") {
        Some("a value that begins with a special character needs quotes")
    } else {
        None
    };
    SyntaxError { at, message: format!("this is not YAML: {}", error.info()), hint: hint.map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> SyntaxError {
        parse(text).expect_err("must be refused")
    }

    fn entries(text: &str) -> Vec<Entry> {
        match parse(text).unwrap().data {
            Data::Map(entries) => entries,
            other => panic!("not a mapping: {other:?}"),
        }
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let entries = entries("a: 1\nb:\n  c: x\n");
        assert_eq!(entries[0].at, Position { line: 1, column: 1 });
        assert_eq!(entries[0].value.at, Position { line: 1, column: 4 });
        let Data::Map(inner) = &entries[1].value.data else { panic!() };
        assert_eq!(inner[0].at, Position { line: 3, column: 3 });
    }

    #[test]
    fn a_repeated_key_stays_in_the_tree() {
        let keys: Vec<_> = entries("a: 1\na: 2\n").into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["a", "a"]);
    }

    #[test]
    fn a_scalar_keeps_its_text() {
        assert_eq!(entries("a: 1.10")[0].value.data, Data::Scalar { text: "1.10".into(), quoted: false });
        assert_eq!(entries("a: '~'")[0].value.data, Data::Scalar { text: "~".into(), quoted: true });
        assert_eq!(entries("a: ~")[0].value.data, Data::Null);
        assert_eq!(entries("a:")[0].value.data, Data::Null);
    }

    #[test]
    fn an_empty_text_is_null() {
        for text in ["", "# nothing\n", "\u{feff}", "---\n"] {
            assert_eq!(parse(text).unwrap().data, Data::Null, "{text:?}");
        }
    }

    #[test]
    fn aliases_repeat_what_they_name() {
        let entries = entries("a: &x [1, 2]\nb: *x\n");
        assert_eq!(entries[1].value.at.line, 2);
        assert_eq!(entries[0].value.data, entries[1].value.data);
    }

    #[test]
    fn aliases_cannot_spell_billions() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert_eq!(error(&text).message, "aliases add more than 10000 values");
    }

    #[test]
    fn an_alias_inside_its_own_anchor_is_refused() {
        assert_eq!(error("a: &x [*x]\n").message, "this alias is inside the value that it names");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        assert_eq!(error(&text).message, "values are nested more than 32 deep");
        assert_eq!(error(&"- ".repeat(100_000)).message, "values are nested more than 32 deep");
    }

    #[test]
    fn a_second_document_is_refused() {
        let error = error("a: 1\n---\nb: 2\n");
        assert_eq!((error.at.line, error.message.as_str()), (2, "a second document begins here"));
    }

    #[test]
    fn a_tag_is_refused() {
        assert_eq!(error("a: !include b.yaml\n").message, "the tag `!include` has no meaning here");
        assert!(parse("a: !!str 5\n").is_ok());
    }

    #[test]
    fn a_key_must_be_text() {
        assert_eq!(error("? [a, b]\n: c\n").message, "a key must be plain text");
    }

    #[test]
    fn usual_slips_get_a_hint() {
        for (text, hint) in [
            ("hosts: [*.example.com]\n", "a value that begins with `*` needs quotes: \"*.example.com\""),
            ("hosts: *\n", "a value that begins with `*` needs quotes: \"*.example.com\""),
            ("admin: { token: ${TOKEN} }\n", "inside `{ }` and `[ ]`, put quotes around \"${…}\""),
            ("a:\n\tb: 1\n", "indent with spaces; YAML has no tabs"),
        ] {
            assert_eq!(error(text).hint.as_deref(), Some(hint), "{text:?}");
        }
    }
}
