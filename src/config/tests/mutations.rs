//! Damaged files are answered, never with a panic.

use super::Folder;
use crate::config::Config;

const REFERENCE: &str = include_str!("../../../config/reference.yaml");

/// Bytes that mean something to YAML or to the reader.
const ODD: &[&str] = &[
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "*",
    "&",
    "#",
    "|",
    ">",
    "'",
    "\"",
    "${",
    "$",
    "}",
    "%",
    "@",
    "!",
    "?",
    "\n",
    "\t",
    " ",
    "\u{feff}",
    "é",
    "\0",
    "0",
    "-1",
    "99999999999999999999",
    "~",
    "<<",
    "---",
    "...",
    "KiB",
    "1h",
    "off",
    ",",
];

#[test]
fn damaged_references_never_panic() {
    let folder = Folder::new();
    let env = |_: &str| Some("x".to_owned());
    let file = folder.0.path().join("config/t.yaml");
    let (mut good, mut bad) = (0, 0);
    // The comments are most of the file and hide most of the damage.
    let lines = REFERENCE.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    let whole: Vec<char> = lines.flat_map(|line| line.chars().chain(['\n'])).collect();
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text = whole.clone();
        for _ in 0..random.usize(1..6) {
            damage(&mut text, &mut random);
        }
        let text: String = text.into_iter().collect();
        match Config::parse(&text, &file, &env) {
            Ok(loaded) => {
                good += 1;
                assert!(loaded.config.bucket_for("img.example.com", "/").is_none_or(|bucket| !bucket.name.is_empty()));
            }
            Err(problems) => {
                bad += 1;
                assert!(!problems.is_empty(), "refused without a reason:\n{text}");
                assert!(problems.is_sorted_by_key(|problem| (problem.line, problem.column)));
                problems.iter().for_each(|problem| assert!(!problem.message.is_empty() && problem.line > 0));
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

fn damage(text: &mut Vec<char>, random: &mut fastrand::Rng) {
    let at = random.usize(0..=text.len());
    let end = (at + random.usize(0..12)).min(text.len());
    match random.u8(0..5) {
        0 => drop(text.drain(at..end)),
        1 => drop(text.splice(at..end, ODD[random.usize(0..ODD.len())].chars())),
        2 => drop(text.splice(at..at, ODD[random.usize(0..ODD.len())].chars())),
        3 => {
            let piece: Vec<char> = text[at..end].to_vec();
            let to = random.usize(0..=text.len());
            drop(text.splice(to..to, piece));
        }
        _ => {
            // A whole line, somewhere else.
            let lines: Vec<String> = text.iter().collect::<String>().lines().map(str::to_owned).collect();
            let (from, to) = (random.usize(0..=lines.len()), random.usize(0..=lines.len()));
            let mut moved = lines.clone();
            if let Some(line) = lines.get(from) {
                moved.insert(to, line.clone());
            }
            *text = moved.iter().flat_map(|line| line.chars().chain(['\n'])).collect();
        }
    }
}
