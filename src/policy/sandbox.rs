//! What a script may use of Luau's libraries, and how much at once.
//!
//! The lists name what stays; everything else goes, so that a function that a later Luau brings is not there by
//! accident. What goes with a reason: `getfenv`, `setfenv` (reach other environments), `loadstring`, `newproxy`,
//! `collectgarbage`, `gcinfo`, `print`, `math.random` (a decision is a function of its inputs), `os`, `io`, `debug`,
//! `buffer`, `vector`, `string.pack` and its kin (no use here, more surface).
//!
//! The watchdog's interrupt runs between instructions and inside pattern matching, not inside the C loops of the other
//! library functions. Each of those has a bound here, chosen so that no single call takes longer than the default limit of
//! time (`benches/limits.rs` fails if one does), or gets a safepoint of its own (`table.sort`, `table.find`). What has
//! neither is linear in a string or table that exists already, with a small factor, and so is bounded by the memory
//! limit: `..`, `string.sub`, `table.clone`, `table.clear`, `tostring`, a number out of a text.

use mlua::{Lua, LuaOptions, StdLib, Value};

use super::library::Given;
use super::raw::{Args, Machine};

const GLOBALS: &[&str] = &[
    "_G",
    "_VERSION",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "unpack",
    "xpcall",
];

const LIBRARIES: &[(&str, &[&str])] = &[
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "split",
            "sub", "upper",
        ],
    ),
    (
        "table",
        &[
            "clear", "clone", "concat", "create", "find", "freeze", "insert", "isfrozen", "move", "pack", "remove",
            "sort", "unpack",
        ],
    ),
    (
        "math",
        &[
            "abs", "acos", "asin", "atan", "atan2", "ceil", "clamp", "cos", "cosh", "deg", "exp", "floor", "fmod",
            "frexp", "huge", "ldexp", "lerp", "log", "log10", "map", "max", "min", "modf", "nan", "pi", "pow", "rad",
            "round", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
        ],
    ),
    ("utf8", &["char", "charpattern", "codepoint", "codes", "len", "offset"]),
    (
        "bit32",
        &[
            "arshift", "band", "bnot", "bor", "btest", "bxor", "byteswap", "countlz", "countrz", "extract", "lrotate",
            "lshift", "replace", "rrotate", "rshift",
        ],
    ),
    ("coroutine", &["close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield"]),
];

/// A library function that is called only within a bound.
pub(super) struct Bounded {
    pub(super) library: &'static str,
    pub(super) name: &'static str,
    pub(super) bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Arguments 1 and 2 are a subject and a pattern: at most [`MOST_STEPS`] between two safepoints.
    Pattern,
    /// The same, and argument 3 is a replacement.
    Replace,
    /// The same, unless argument 4 makes it a plain search.
    Find,
    /// Argument 1 is split at argument 2.
    Split,
    /// Argument 1 is a text.
    Text,
    /// Argument 1 is repeated as often as argument 2 says.
    Repeat,
    /// All arguments are texts that make up one.
    Texts,
    /// Argument 1 is a table whose elements move, unless there is no argument 3: then one is appended.
    Insert,
    /// Argument 1 is a table whose elements move, unless the last one goes.
    Remove,
    /// `table.concat`: from argument 3 to argument 4.
    Concat,
    /// `unpack`: from argument 2 to argument 3.
    Unpack,
    /// `table.move`: from argument 2 to argument 3.
    Move,
    /// `table.create`: as many as argument 1 says.
    Create,
    /// Nothing; the comparison gets a safepoint.
    Sort,
}

/// Most steps of a pattern without a safepoint: a set such as `[…]` can cost its length for each byte of the subject.
const MOST_STEPS: usize = 1 << 20;

/// Most bytes compared by a plain search, which is a `memcmp` at each place.
const MOST_COMPARED: usize = 32 << 20;

/// Longest text of a plain search: each place costs a call, however short the pattern is.
const LONGEST_SEARCHED: usize = 512 << 10;

/// Longest text that a function walks byte by byte.
const LONGEST_TEXT: usize = 1 << 20;

/// Most bytes that are put into a format, where escaping costs more.
const LONGEST_FORMATTED: usize = 256 << 10;

/// What an argument of a format counts at least: writing 1e308 with 99 digits behind the point takes 8 µs.
const LEAST_FORMATTED: usize = 1 << 10;

/// Longest text that may be split, and longest replacement: each byte can cost an allocation.
const LONGEST_PIECES: usize = 64 << 10;

/// Most elements of a table that a function moves.
const MOST_ELEMENTS: usize = 100_000;

/// Most elements that are put into one text: a number has to be written out.
const MOST_PARTS: usize = 25_000;

/// Most values put on the stack at once.
const MOST_VALUES: usize = 8_000;

const fn bounded(library: &'static str, name: &'static str, bound: Bound) -> Bounded {
    Bounded { library, name, bound }
}

/// Every bounded function. `unpack` is `table.unpack`; `table.find` is replaced as a whole.
pub(super) const BOUNDED: &[Bounded] = &[
    bounded("string", "find", Bound::Find),
    bounded("string", "match", Bound::Pattern),
    bounded("string", "gmatch", Bound::Pattern),
    bounded("string", "gsub", Bound::Replace),
    bounded("string", "split", Bound::Split),
    bounded("string", "rep", Bound::Repeat),
    bounded("string", "lower", Bound::Text),
    bounded("string", "upper", Bound::Text),
    bounded("string", "reverse", Bound::Text),
    bounded("string", "format", Bound::Texts),
    bounded("utf8", "len", Bound::Text),
    bounded("utf8", "codepoint", Bound::Text),
    bounded("utf8", "offset", Bound::Text),
    bounded("_G", "tonumber", Bound::Text),
    bounded("table", "concat", Bound::Concat),
    bounded("table", "insert", Bound::Insert),
    bounded("table", "remove", Bound::Remove),
    bounded("table", "move", Bound::Move),
    bounded("table", "unpack", Bound::Unpack),
    bounded("table", "create", Bound::Create),
    bounded("table", "sort", Bound::Sort),
];

/// Whether a call stays within its bound; if not, what to tell its author.
#[inline]
pub(super) fn within(bound: Bound, args: &Args<'_>) -> Result<(), String> {
    match bound {
        Bound::Find if args.is_true(4) => {
            product(args, MOST_COMPARED)?;
            most(args.length_of_text(1), LONGEST_SEARCHED, "bytes to search")
        }
        Bound::Find | Bound::Pattern => product(args, MOST_STEPS),
        Bound::Replace => {
            product(args, MOST_STEPS)?;
            most(args.length_of_text(3), LONGEST_PIECES, "bytes of replacement")?;
            // Each `%1` can stand for the whole text.
            let captures = match args.get(3) {
                Given::Text(replacement) => replacement.iter().filter(|b| **b == b'%').count(),
                _ => 0,
            };
            most(captures.saturating_mul(args.length_of_text(1)), LONGEST_TEXT, "bytes of captures in the replacement")
        }
        Bound::Split => {
            most(args.length(1), LONGEST_PIECES, "bytes to split")?;
            product(args, MOST_COMPARED)
        }
        Bound::Text => most(args.length(1), LONGEST_TEXT, "bytes"),
        Bound::Repeat => {
            let times = integer(args, 2, 0)?.max(0) as usize;
            most(args.length(1).saturating_mul(times), LONGEST_TEXT, "bytes of result")
        }
        Bound::Texts => {
            let sum =
                (2..=args.count()).map(|i| args.length_of_text(i).max(LEAST_FORMATTED)).fold(0, usize::saturating_add);
            most(args.length(1), LONGEST_PIECES, "bytes of format")?;
            most(sum, LONGEST_FORMATTED, "bytes")
        }
        // Appending and taking from the end move nothing.
        Bound::Insert if args.count() < 3 => Ok(()),
        Bound::Remove if args.is_last(2) => Ok(()),
        Bound::Insert | Bound::Remove => most(args.length(1), MOST_ELEMENTS, "elements to move"),
        Bound::Concat => range(args, 3, 4, MOST_PARTS, "elements"),
        Bound::Unpack => range(args, 2, 3, MOST_VALUES, "values"),
        Bound::Move => {
            integer(args, 4, 1)?;
            range(args, 2, 3, MOST_ELEMENTS, "elements")
        }
        Bound::Create => most(integer(args, 1, 0)?.max(0) as usize, MOST_ELEMENTS, "elements"),
        Bound::Sort => Ok(()),
    }
}

fn most(given: usize, limit: usize, what: &str) -> Result<(), String> {
    if given > limit {
        Err(format!("{given} {what} are more than the {limit} that a policy may use at once"))
    } else {
        Ok(())
    }
}

fn product(args: &Args<'_>, limit: usize) -> Result<(), String> {
    let (subject, pattern) = (args.length_of_text(1), args.length_of_text(2));
    if subject.saturating_mul(pattern) > limit {
        return Err(format!(
            "a pattern of {pattern} bytes is too long for a text of {subject}: their product may be at most {limit}"
        ));
    }
    Ok(())
}

/// How many elements lie between two positions, the length of argument 1 being the default of the second.
fn range(args: &Args<'_>, first: usize, last: usize, limit: usize, what: &str) -> Result<(), String> {
    let last = integer(args, last, args.length(1) as i64)?;
    let count = last - integer(args, first, 1)? + 1;
    most(count.max(0) as usize, limit, what)
}

/// A position. Luau wraps what does not fit into 32 bits around, which would get past the bounds above.
fn integer(args: &Args<'_>, i: usize, default: i64) -> Result<i64, String> {
    match args.number(i) {
        // What is not a number is refused by the function itself.
        None => Ok(default),
        Some(n) if n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX) => Ok(n as i64),
        Some(n) => Err(format!("argument {i} is out of range: {n}")),
    }
}

/// A VM that has nothing but what a policy may use.
pub(super) fn build(memory: u64) -> Result<Machine, String> {
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8 | StdLib::BIT | StdLib::COROUTINE;
    let lua = Lua::new_with(libraries, LuaOptions::new()).map_err(|e| e.to_string())?;
    strip(&lua).map_err(|e| e.to_string())?;
    let machine = Machine::new(lua)?;
    set_memory_limit(&machine, memory)?;
    Ok(machine)
}

/// A VM needs about half of this before it has loaded anything.
const LEAST_MEMORY: u64 = 1 << 20;

/// Sets how much memory the VM may hold, in bytes; at least 1 MiB.
pub(super) fn set_memory_limit(machine: &Machine, memory: u64) -> Result<(), String> {
    let memory = usize::try_from(memory.max(LEAST_MEMORY)).unwrap_or(usize::MAX);
    machine.lua().set_memory_limit(memory).map(drop).map_err(|e| e.to_string())
}

/// Takes away what is not on the lists.
fn strip(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    for pair in globals.pairs::<String, Value>() {
        let (name, _) = pair?;
        if !GLOBALS.contains(&name.as_str()) && !LIBRARIES.iter().any(|(library, _)| *library == name) {
            globals.raw_set(name, Value::Nil)?;
        }
    }
    for (library, functions) in LIBRARIES {
        let table: mlua::Table = globals.raw_get(*library)?;
        for pair in table.pairs::<String, Value>() {
            let (name, _) = pair?;
            if !functions.contains(&name.as_str()) {
                table.raw_set(name, Value::Nil)?;
            }
        }
    }
    Ok(())
}
