//! What the code promises about itself: which file may name what, how long files are, and that nothing is left undone.

use std::fs;
use std::path::{Path, PathBuf};

/// Foreign crates, and the files or folders that may name them.
const CRATES: [(&str, &[&str]); 11] = [
    ("mlua", &["src/policy/raw.rs", "src/policy/sandbox.rs", "src/policy/candidate.rs"]),
    ("moka", &["src/store/memory.rs"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("anyhow", &["src/cli/"]),
    ("saphyr_parser", &["src/config/yaml.rs"]),
    ("prometheus", &["src/telemetry/metrics.rs"]),
    ("redis", &["src/remote/command.rs", "src/remote/connection.rs"]),
    ("aws_sigv4", &["src/origin/s3/"]),
    ("notify", &["src/policy/reload.rs"]),
    (
        "pingora",
        &[
            "src/proxy/",
            "src/store/adapter.rs",
            "src/store/adapter_tests.rs",
            "src/store/cluster/",
            "src/store/stored.rs",
            "src/store/encoding.rs",
            "src/store/combining_tests.rs",
            "src/store/redis/value_tests.rs",
            "src/store/disk/parts_tests.rs",
            "src/store/disk/file/testing.rs",
            "src/store/entry.rs",
            "src/lock/",
            "src/admin.rs",
            "src/admin/",
            "src/reload.rs",
            "src/cli/serve.rs",
            "src/origin/pool/tls.rs",
            // Tests that begin with what the framework hands over, or end with what it is handed.
            "src/store/fill_tests.rs",
            "src/store/memory_tests.rs",
            "src/origin/pool/tests/",
        ],
    ),
];

/// What decides. Values go in and values come out.
const PURE: [&str; 9] = [
    "src/semantics/",
    "src/decide/",
    "src/key.rs",
    "src/purge/index.rs",
    "src/purge/target.rs",
    "src/purge/resource.rs",
    "src/outcome.rs",
    "src/policy/decision.rs",
    "src/policy/view.rs",
];

/// What those must not name.
const IMPURE: [&str; 10] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "tokio",
    "SystemTime::now",
    "Instant::now",
    "clock::now",
];

/// Longest file of the product, in lines.
const LONGEST: usize = 450;

/// Files that may be longer, and why.
const LONGER: [(&str, &str); 2] = [
    ("src/policy/raw.rs", "all unsafe code is in one file, so that it can be read in one sitting"),
    ("src/config/tests/problems.rs", "a table of what can be wrong in a configuration"),
];

#[test]
fn each_foreign_crate_is_named_only_where_it_belongs() {
    for file in rust_files(&["src"]) {
        for (name, homes) in CRATES {
            let at_home = homes.iter().any(|home| file.name.starts_with(home));
            assert!(at_home || !file.names_crate(name), "{} names {name}, which belongs to {homes:?}", file.name);
        }
    }
}

#[test]
fn the_homes_of_crates_exist_and_name_them() {
    let files = rust_files(&["src"]);
    for (name, homes) in CRATES {
        // Part of the design before anybody needs it.
        if name == "anyhow" {
            continue;
        }
        for home in homes {
            let named = files.iter().any(|file| file.name.starts_with(home) && file.names_crate(name));
            assert!(named, "{home} does not name {name} any more; take it off the list");
        }
    }
}

#[test]
fn what_decides_does_no_io_and_reads_no_clock() {
    for file in rust_files(&PURE) {
        for name in IMPURE {
            assert!(!file.code.contains(name), "{} names {name}; pass it what it needs instead", file.name);
        }
        assert!(!file.names("proxy"), "{} names the proxy, which is above it", file.name);
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for file in rust_files(&["src", "tests", "benches", "examples"]) {
        let unsafe_code = words(&file.code).any(|word| word == "unsafe") && !file.name.ends_with("tidy.rs");
        assert!(!unsafe_code || file.name == "src/policy/raw.rs", "{} has unsafe code", file.name);
    }
}

#[test]
fn nothing_is_skipped_or_left_undone() {
    for file in rust_files(&["src", "tests", "benches", "examples"]) {
        if file.name.ends_with("tidy.rs") {
            continue;
        }
        for left in ["#[ignore", "todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"] {
            assert!(!file.text.contains(left), "{} has {left}", file.name);
        }
        for marker in ["[allow(", "[expect("] {
            for (at, _) in file.code.match_indices(marker) {
                let attribute = file.code[at..].split(")]").next().unwrap_or_default();
                assert!(attribute.contains("reason ="), "{}: {attribute} gives no reason", file.name);
            }
        }
    }
}

#[test]
fn no_file_of_the_product_is_long_without_a_reason() {
    let files = rust_files(&["src"]);
    for file in &files {
        let (lines, may) = (file.text.lines().count(), LONGER.iter().any(|(name, _)| *name == file.name));
        assert!(may || lines <= LONGEST, "{} has {lines} lines; split it by idea", file.name);
        assert!(!may || lines > LONGEST, "{} is short now; take it off the list", file.name);
    }
    for (name, _) in LONGER {
        assert!(files.iter().any(|file| file.name == name), "{name} is gone; take it off the list");
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for file in rust_files(&["src", "tests", "benches"]) {
        let included = ["/tests/", "/tests.rs", "_tests.rs"].iter().any(|mark| file.name.contains(mark));
        assert!(included || file.text.starts_with("//!"), "{} begins without a sentence about itself", file.name);
    }
}

#[test]
fn every_example_and_policy_is_mentioned_where_people_read() {
    // Without a README the folder is not the whole project.
    let Ok(mut read) = fs::read_to_string(root().join("README.md")) else { return };
    for page in files(&root().join("docs")).into_iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        read += &fs::read_to_string(page).unwrap();
    }
    let things = ["examples", "policies"].map(|folder| fs::read_dir(root().join(folder)).unwrap());
    for thing in things.into_iter().flatten() {
        let name = thing.unwrap().file_name().into_string().unwrap();
        assert!(read.contains(&name), "{name} is mentioned neither in README.md nor in docs");
    }
}

/// A file with its path from the root of the project.
struct Source {
    name: String,
    text: String,
    /// The text without comments.
    code: String,
}

impl Source {
    /// Whether the code names a crate or module: in a path, or alone in a `use`.
    fn names(&self, name: &str) -> bool {
        self.named(name, |_| true)
    }

    /// Whether it names a crate: at the beginning of a path. A module of ours that has the name of one comes after another one's,
    /// or after `self`.
    fn names_crate(&self, name: &str) -> bool {
        let ends_a_name = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        self.named(name, |before| !before.strip_suffix("::").is_some_and(ends_a_name))
    }

    fn named(&self, name: &str, may_follow: impl Fn(&str) -> bool) -> bool {
        self.code.match_indices(name).any(|(at, _)| {
            let (before, after) = (&self.code[..at], &self.code[at + name.len()..]);
            let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let in_path = after.starts_with("::") || (before.ends_with("use ") && after.starts_with([';', ' ']));
            whole && in_path && may_follow(before)
        })
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files in these folders, or these files.
fn rust_files(places: &[&str]) -> Vec<Source> {
    let paths = places.iter().flat_map(|place| files(&root().join(place)));
    let rust: Vec<Source> = paths.filter(|path| path.extension().is_some_and(|e| e == "rs")).map(source).collect();
    assert!(!rust.is_empty(), "no file in {places:?}");
    rust
}

fn source(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).unwrap();
    let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    let code = code.collect::<Vec<_>>().join("\n");
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    Source { name, text, code }
}

fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}
