//! What happens to a disk besides: it is slow for a while, and files are not what was written.

use crate::support::faults::{Fault, Faults, On};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes some kinds of calls slow, in half of all lives. Not so slow that a change is answered before the disk has forgotten:
/// nobody waits for that longer than a second.
pub fn slow_down(faults: &Faults, random: &mut fastrand::Rng) {
    if random.bool() {
        return;
    }
    for on in [On::Open, On::Create, On::Read, On::Write, On::Rename, On::Remove] {
        if random.u8(..3) == 0 {
            faults.set(on, Fault::Slow(Duration::from_millis(random.u64(1..8))));
        }
    }
}

/// Damages a few files of entries, in a third of all cases. Says how many.
pub fn damage(disk: &Path, random: &mut fastrand::Rng) -> u64 {
    if random.u8(..3) != 0 {
        return 0;
    }
    let mut files = entries(disk);
    random.shuffle(&mut files);
    files.truncate(5);
    files.iter().for_each(|file| damage_file(file, random));
    files.len() as u64
}

fn damage_file(file: &Path, random: &mut fastrand::Rng) {
    let mut bytes = std::fs::read(file).expect("the file of an entry");
    let place = random.usize(..bytes.len().max(1));
    match random.u8(..6) {
        0 => bytes.truncate(place),
        1 => bytes.clear(),
        2 => bytes.get_mut(place..).into_iter().for_each(|rest| rest.fill(0)),
        3 => bytes = b"none of ours".repeat(100),
        _ => bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= 1 << random.u8(..8)),
    }
    std::fs::write(file, bytes).expect("the file of an entry");
}

/// The files of entries, in an order that depends on their names alone.
fn entries(disk: &Path) -> Vec<PathBuf> {
    let inside = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let fan_out = inside(disk).filter(|path| path.is_dir() && !path.ends_with("tmp"));
    let mut files: Vec<PathBuf> = fan_out.flat_map(|path| inside(&path).collect::<Vec<_>>()).collect();
    files.sort();
    files
}
