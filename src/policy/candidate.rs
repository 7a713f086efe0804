//! Reads a policy's files, compiles them, and runs them once aside, so that only what works gets near a request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderName;
use sha2::{Digest, Sha256};

use super::engine;
use super::error::{ErrorKind, Hook, PolicyError, suggestion};
use super::normalize::Normalizer;
use super::raw::{Program, Running, Value};
use super::sandbox;
use crate::config::PolicyLimits;

/// A policy that compiled, ran, and returned what a policy may return.
pub(super) struct Code {
    /// Differs for every compilation in this process.
    pub(super) uid: u64,
    chunk: CString,
    bytecode: Arc<[u8]>,
    /// Required modules by their names.
    modules: BTreeMap<String, Module>,
    hooks: [bool; 4],
    /// Fields in the order of their names.
    pub(super) normalize: Vec<(HeaderName, Reduction)>,
    /// How people know its file and its modules' files.
    pub(super) files: Vec<Arc<str>>,
    /// SHA-256 over the file and its modules.
    pub(super) digest: [u8; 32],
}

/// How one header field is normalised.
pub(super) enum Reduction {
    Native(Arc<Normalizer>),
    /// The Lua function at that place among the Lua functions.
    Lua(usize),
}

struct Module {
    chunk: Arc<CStr>,
    bytecode: Arc<[u8]>,
}

/// A module as it was read.
struct Required {
    module: Module,
    source: Vec<u8>,
    file: Arc<str>,
}

impl Code {
    pub(super) fn has(&self, hook: Hook) -> bool {
        Hook::FUNCTIONS.iter().zip(self.hooks).any(|(h, has)| *h == hook && has)
    }

    pub(super) fn program(&self) -> Program<'_> {
        Program { uid: self.uid, chunk: &self.chunk, code: &self.bytecode }
    }

    /// What `require` finds when this policy is loaded again.
    pub(super) fn module(&self, name: &str) -> Result<(Arc<CStr>, Arc<[u8]>), String> {
        match self.modules.get(name) {
            Some(module) => Ok((Arc::clone(&module.chunk), Arc::clone(&module.bytecode))),
            None => Err(format!("require({name:?}): the module was not required when the policy was checked")),
        }
    }

    /// First 12 hexadecimal digits of the digest.
    pub(super) fn version(&self) -> String {
        self.digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Longest source file: a policy is a page or two.
const LONGEST_SOURCE: u64 = 1 << 20;

/// Most modules that one policy may require.
const MOST_MODULES: usize = 256;

/// The top level of a policy may take this many times the time of a call: it runs once for each thread, builds tables,
/// and there is no request that could be served without it.
const LOAD_FACTOR: u32 = 10;

/// But no longer than this, unless a single call may.
const LONGEST_LOAD: Duration = Duration::from_secs(1);

/// How people know a file of the policies folder: the folder's own name, and the path below it.
pub(super) fn shown(dir: &Path, name: &str) -> Arc<str> {
    let folder = dir.file_name().map_or_else(|| String::from("policies"), |n| n.to_string_lossy().into_owned());
    Arc::from(format!("{folder}/{name}"))
}

/// Reads, compiles and tries the policy `name` of the folder `dir`.
pub(super) fn evaluate(dir: &Path, name: &str, limits: &PolicyLimits) -> Result<Code, PolicyError> {
    let file = shown(dir, name);
    if !is_inside(name) {
        let message = format!("{name:?} is not a path inside the policies folder; use a name such as \"media.lua\"");
        return Err(PolicyError::new(&file, Hook::Load, ErrorKind::Load, message));
    }
    let source = read(&dir.join(name), &file)?;
    let bytecode = compile(&source, &file)?;
    let chunk = chunk_name(&file);
    let mut digest = Sha256::new();
    digest.update(&source);

    // What `require` reads on the way, and the first error that it met, which says more than the error it raises.
    let modules: RefCell<BTreeMap<String, Required>> = RefCell::default();
    let failed: RefCell<Option<PolicyError>> = RefCell::new(None);
    let loader = |wanted: &str| {
        let required = find_module(dir, wanted).map_err(|e| match e {
            NotFound::Nowhere(message) => message,
            NotFound::Broken(error) => {
                let message = error.to_string();
                failed.borrow_mut().get_or_insert(error);
                message
            }
        })?;
        let found = (Arc::clone(&required.module.chunk), Arc::clone(&required.module.bytecode));
        let mut modules = modules.borrow_mut();
        if modules.len() >= MOST_MODULES {
            return Err(format!("a policy may require at most {MOST_MODULES} modules"));
        }
        modules.insert(wanted.to_owned(), required);
        Ok(found)
    };

    let uid = next_uid();
    let broken = |message: String| PolicyError::new(&file, Hook::Load, ErrorKind::Load, message);
    let mut machine = sandbox::build(limits.memory).map_err(broken)?;
    let inputs = RefCell::default();
    let mut run = Running::new(uid, load_time(limits), &inputs);
    run.loader = Some(&loader);
    let program = Program { uid, chunk: &chunk, code: &bytecode };
    let mut shape = None;
    let outcome = machine.load(&program, &run, |value| {
        let found = inspect(value)?;
        let keys = found.lua_keys();
        shape = Some(found);
        Ok::<_, Misshapen>(keys)
    });
    let mut files = vec![Arc::clone(&file)];
    files.extend(modules.borrow().values().map(|required| Arc::clone(&required.file)));
    match outcome {
        Err(fault) => {
            let error = engine::explain(&file, &files, Hook::Load, limits, load_time(limits), fault);
            // A module that cannot be compiled is the error, unless the policy went on without it.
            return Err(failed.take().filter(|_| error.kind == ErrorKind::Runtime).unwrap_or(error));
        }
        Ok(Err(misshapen)) => {
            let line = misshapen.line_in(&source);
            return Err(PolicyError::new(&file, Hook::Load, ErrorKind::Load, misshapen.message).at(line));
        }
        Ok(Ok(())) => {}
    }
    let Some(shape) = shape else { return Err(broken(String::from("the policy was not inspected"))) };
    let mut kept = BTreeMap::new();
    for (name, required) in modules.take() {
        digest.update(&required.source);
        kept.insert(name, required.module);
    }
    Ok(Code {
        uid,
        chunk,
        bytecode,
        modules: kept,
        hooks: shape.hooks,
        normalize: shape.normalize.into_iter().map(|(name, _, reduction)| (name, reduction)).collect(),
        files,
        digest: digest.finalize().into(),
    })
}

/// Longest time of a policy's top level.
pub(super) fn load_time(limits: &PolicyLimits) -> Duration {
    limits.time.saturating_mul(LOAD_FACTOR).min(LONGEST_LOAD).max(limits.time)
}

fn next_uid() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// === Files ===

/// A relative path that stays in its folder.
fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0'])
        && name.len() <= 200
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Source text of a file. Bytecode is refused: loading damaged bytecode can crash the process.
fn read(path: &Path, file: &Arc<str>) -> Result<Vec<u8>, PolicyError> {
    let broken = |message: String| PolicyError::new(file, Hook::Load, ErrorKind::Load, message);
    let length = fs::metadata(path).map_err(|e| broken(format!("cannot read the file: {e}")))?.len();
    if length > LONGEST_SOURCE {
        return Err(broken(format!("the file has {length} bytes, more than {LONGEST_SOURCE}; move tables out of it")));
    }
    let source = fs::read(path).map_err(|e| broken(format!("cannot read the file: {e}")))?;
    if source.iter().any(|b| *b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c))
        || str::from_utf8(&source).is_err()
    {
        return Err(broken(String::from("the file looks like bytecode; a policy must be Luau source text in UTF-8")));
    }
    Ok(source)
}

enum NotFound {
    Nowhere(String),
    Broken(PolicyError),
}

fn find_module(dir: &Path, wanted: &str) -> Result<Required, NotFound> {
    if !is_inside(wanted) || wanted.ends_with(".lua") || wanted.ends_with(".luau") {
        return Err(NotFound::Nowhere(format!(
            "require({wanted:?}): give the name of another file of the policies folder without its ending, such as \"common\" or \"lib/urls\""
        )));
    }
    let Some(name) = ["lua", "luau"].map(|e| format!("{wanted}.{e}")).into_iter().find(|n| dir.join(n).is_file())
    else {
        return Err(NotFound::Nowhere(format!(
            "require({wanted:?}): there is no {wanted}.lua or {wanted}.luau in the policies folder"
        )));
    };
    let file = shown(dir, &name);
    let source = read(&dir.join(&name), &file).map_err(NotFound::Broken)?;
    let bytecode = compile(&source, &file).map_err(NotFound::Broken)?;
    let chunk = Arc::from(chunk_name(&file));
    Ok(Required { module: Module { chunk, bytecode }, source, file })
}

/// `=` makes Luau print the rest as it is. It cuts what is longer than 255 bytes.
fn chunk_name(file: &str) -> CString {
    CString::new(format!("={file}")).unwrap_or_default()
}

pub(super) fn compile(source: &[u8], file: &Arc<str>) -> Result<Arc<[u8]>, PolicyError> {
    // Level 2 would inline functions and take their lines out of errors.
    let compiler = mlua::chunk::Compiler::new().set_optimization_level(1).set_debug_level(1);
    match compiler.compile(source) {
        Ok(bytecode) => Ok(Arc::from(bytecode)),
        Err(error) => {
            let text = match &error {
                mlua::Error::SyntaxError { message, .. } => message.clone(),
                other => other.to_string(),
            };
            let (line, message) = match text.trim_start_matches(':').split_once(':') {
                Some((line, message)) => match line.trim().parse() {
                    Ok(line) => (Some(line), message.trim().to_owned()),
                    Err(_) => (None, text.clone()),
                },
                None => (None, text.clone()),
            };
            Err(PolicyError::new(file, Hook::Load, ErrorKind::Syntax, message).at(line))
        }
    }
}

// === The returned table ===

pub(super) struct Shape {
    hooks: [bool; 4],
    /// Fields in the order of their names, with their keys as written.
    normalize: Vec<(HeaderName, Vec<u8>, Reduction)>,
}

impl Shape {
    /// The keys of the fields that Lua functions normalise, in the order of their places.
    pub(super) fn lua_keys(&self) -> Vec<Vec<u8>> {
        let lua = self.normalize.iter().filter(|(_, _, reduction)| matches!(reduction, Reduction::Lua(_)));
        lua.map(|(_, key, _)| key.clone()).collect()
    }
}

/// What is wrong with the returned table, and the word in the source that shows where.
pub(super) struct Misshapen {
    message: String,
    word: Option<String>,
}

impl Misshapen {
    fn new(word: Option<&str>, message: String) -> Self {
        Misshapen { message, word: word.map(str::to_owned) }
    }

    /// The line where the field is written, as far as a look at the text can tell: values do not know their lines.
    fn line_in(&self, source: &[u8]) -> Option<u32> {
        let source = str::from_utf8(source).ok()?;
        let mut lines = (1u32..).zip(source.lines().map(|line| line.split("--").next().unwrap_or(line)));
        match &self.word {
            Some(word) => lines.find(|(_, line)| writes_field(line, word)).map(|(number, _)| number),
            None => lines.filter(|(_, line)| line.trim_start().starts_with("return")).last().map(|(number, _)| number),
        }
    }
}

/// Whether a line has `word =`, `["word"] =` or `function word(`.
fn writes_field(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).unwrap_or_default();
        let after = line.get(start + word.len()..).unwrap_or_default();
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let after = after.trim_start_matches(['"', '\'', ']', ' ', '\t']);
        whole && after.starts_with('=') && !after.starts_with("==")
    })
}

const FIELDS: [&str; 5] = ["request", "response", "hit", "deliver", "normalize"];

/// Checks what a policy's file returned.
pub(super) fn inspect(value: Value<'_>) -> Result<Shape, Misshapen> {
    let Value::Table(table) = value else {
        return Err(Misshapen::new(
            None,
            format!("the file must return a table with the policy's functions, not a {}", value.kind()),
        ));
    };
    let mut shape = Shape { hooks: [false; 4], normalize: Vec::new() };
    table.each(|key, value| {
        let Value::Text(name) = key else {
            let names = FIELDS.join(", ");
            return Err(Misshapen::new(
                None,
                format!("the returned table has a {} as a key; there are {names}", key.kind()),
            ));
        };
        let name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
        if name == "normalize" {
            shape.normalize = reductions(value)?;
            return Ok(());
        }
        let Some(place) = Hook::FUNCTIONS.iter().position(|hook| hook.as_str() == name) else {
            let message = format!("unknown field {name:?} in the returned table{}", suggestion(&name, FIELDS));
            return Err(Misshapen::new(Some(&name), message));
        };
        match value {
            Value::Function => {
                if let Some(hook) = shape.hooks.get_mut(place) {
                    *hook = true;
                }
                Ok(())
            }
            other => Err(Misshapen::new(Some(&name), format!("{name} must be a function, not a {}", other.kind()))),
        }
    })?;
    Ok(shape)
}

/// Most fields that one policy may normalise.
const MOST_FIELDS: usize = 32;

fn reductions(value: Value<'_>) -> Result<Vec<(HeaderName, Vec<u8>, Reduction)>, Misshapen> {
    let Value::Table(table) = value else {
        return Err(Misshapen::new(
            Some("normalize"),
            format!("normalize must be a table of header names and normalisers, not a {}", value.kind()),
        ));
    };
    let mut found: Vec<(HeaderName, Vec<u8>, Reduction)> = Vec::new();
    table.each(|key, value| {
        let Value::Text(key) = key else {
            let message = format!("normalize has a {} as a key; its keys are names of header fields", key.kind());
            return Err(Misshapen::new(Some("normalize"), message));
        };
        let text = String::from_utf8_lossy(key.get(..64).unwrap_or(key)).into_owned();
        let Ok(name) = HeaderName::from_bytes(key) else {
            let message = format!("normalize has {text:?}, which is not the name of a header field");
            return Err(Misshapen::new(Some(&text), message));
        };
        if found.iter().any(|(n, _, _)| *n == name) {
            let message = format!("normalize has {name:?} twice: names of header fields have no case");
            return Err(Misshapen::new(Some(&text), message));
        }
        if found.len() >= MOST_FIELDS {
            return Err(Misshapen::new(Some("normalize"), format!("normalize has more than {MOST_FIELDS} fields")));
        }
        let reduction = match value {
            Value::Normalizer(normalizer) => Reduction::Native(Arc::clone(normalizer)),
            Value::Function => Reduction::Lua(0),
            other => {
                let message = format!(
                    "normalize[{text:?}] must be a function or a normaliser such as tidegate.encodings(\"br\", \"gzip\"), not a {}",
                    other.kind()
                );
                return Err(Misshapen::new(Some(&text), message));
            }
        };
        found.push((name, key.to_vec(), reduction));
        Ok(())
    })?;
    found.sort_by(|(a, _, _), (b, _, _)| a.as_str().cmp(b.as_str()));
    let lua = found.iter_mut().filter_map(|(_, _, reduction)| match reduction {
        Reduction::Lua(place) => Some(place),
        Reduction::Native(_) => None,
    });
    for (number, place) in lua.enumerate() {
        *place = number;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_stay_in_its_folder() {
        for name in ["media.lua", "lib/urls", "a..b"] {
            assert!(is_inside(name), "{name}");
        }
        for name in ["", "../x", "/etc/passwd", "a/../../b", "./a", "a\\b", "a\0b"] {
            assert!(!is_inside(name), "{name:?}");
        }
    }

    #[test]
    fn the_line_of_a_field_is_found_in_the_text() {
        let source = "local t = 1 -- tll = 2\nreturn {\n  request = nil,\n  [\"tll\"] = 3,\n}\n";
        let line = |word: Option<&str>| Misshapen::new(word, String::new()).line_in(source.as_bytes());
        assert_eq!(line(Some("tll")), Some(4));
        assert_eq!(line(Some("request")), Some(3));
        assert_eq!(line(Some("absent")), None);
        assert_eq!(line(None), Some(2));
    }
}
