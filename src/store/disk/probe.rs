//! Whether a directory can be the disk tier's: asked by `check`, which changes nothing, and by `serve` before it does.
//!
//! The tier writes into its directory, and deletes what it does not know there. So it takes one that is not there yet, one
//! that is empty, and one that carries its own mark, and no other. A directory that a running daemon uses is good: who has
//! it now is another question, which only its lock answers.

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The version of the layout of the directory: which files it holds, and under which names.
pub const LAYOUT: u32 = 1;

/// The name of the mark.
pub const TAG_FILE: &str = "CACHEDIR.TAG";

/// What the mark says. Backup programs know its first line, and leave the directory out.
pub const TAG: &str = concat!(
    "Signature: 8a477f597d28d172789f06886806bc55\n",
    "# The disk tier of a tidegate cache, layout 1\n",
    "# It may be deleted while no tidegate uses it. For the meaning of this file see https://bford.info/cachedir/\n",
);

/// The second line of every mark of ours, up to the version of the layout.
const OURS: &str = "# The disk tier of a tidegate cache, layout ";

/// As much of a mark as is read.
const LONGEST_TAG: u64 = 1024;

/// What `mkfs` puts into a file system that is the cache's alone.
const NOT_COUNTED: &str = "lost+found";

/// What is written in the directory under the same name all the time, so that one of another owner is found early.
const WRITTEN: [&str; 2] = ["lock", "tmp"];

/// Says why a directory cannot be the disk tier's, and what to do. Creates nothing and takes no lock.
pub fn probe(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return can_be_created(path),
        Err(e) => return Err(format!("`{shown}` cannot be looked at: {e}; correct the path, or its permissions")),
    };
    if !found.is_dir() {
        return Err(format!("`{shown}` is not a directory; name another one, or move it away"));
    }
    may(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|e| not_writable(path, e))?;
    is_free_or_ours(path)?;
    for name in WRITTEN {
        let path = path.join(name);
        match may(&path, Access::WRITE_OK) {
            Err(Errno::NOENT) | Ok(()) => {}
            Err(e) => return Err(not_writable(&path, e)),
        }
    }
    Ok(())
}

/// A directory that is not there can be created if the nearest one above it can be written to.
fn can_be_created(path: &Path) -> Result<(), String> {
    let shown = path.display();
    for above in path.ancestors() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        // A link to nothing is there, and in the way.
        if fs::symlink_metadata(above).is_err() {
            continue;
        }
        let (parent, next) = (above.display(), "create it for the user that runs tidegate, or name another one");
        return match fs::metadata(above) {
            Ok(found) if found.is_dir() => may(above, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|e| format!("`{shown}` cannot be created, as `{parent}` is not writable: {e}; {next}")),
            Ok(_) => Err(format!("`{shown}` cannot be created, as `{parent}` is not a directory; name another one")),
            Err(e) => Err(format!("`{shown}` cannot be created, as `{parent}` leads nowhere: {e}; {next}")),
        };
    }
    Err(format!("`{shown}` cannot be created, as nothing above it exists; correct the path"))
}

/// As the user that the process acts for, which is not always the one that started it.
fn may(path: &Path, access: Access) -> Result<(), Errno> {
    accessat(CWD, path, access, AtFlags::EACCESS)
}

fn not_writable(path: &Path, e: Errno) -> String {
    format!(
        "`{}` is not writable: {e}; give it to the user that runs tidegate, or name another directory",
        path.display()
    )
}

fn is_free_or_ours(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let unreadable = |e: io::Error| format!("`{shown}` cannot be read: {e}; correct its permissions");
    let tag = read_tag(&path.join(TAG_FILE)).map_err(unreadable)?;
    if let Some(layout) = tag.as_deref().and_then(layout_of) {
        if layout == LAYOUT.to_string() {
            return Ok(());
        }
        return Err(format!(
            "`{shown}` was made by another version of tidegate, with layout {layout} instead of {LAYOUT}; \
             delete it, or name an empty directory"
        ));
    }
    // A mark that was being written when the power went.
    let torn = tag.as_deref().is_some_and(|tag| TAG.starts_with(tag));
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name != NOT_COUNTED && !(torn && name == TAG_FILE) {
            return Err(format!("`{shown}` is not empty and was not made by tidegate; name an empty directory"));
        }
    }
    Ok(())
}

/// The mark; `None` if there is none, or something else of its name.
fn read_tag(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        // A pipe of that name would be waited for.
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut tag = Vec::new();
    File::open(path)?.take(LONGEST_TAG).read_to_end(&mut tag)?;
    Ok(Some(String::from_utf8_lossy(&tag).into_owned()))
}

/// The layout that a mark of ours names.
fn layout_of(tag: &str) -> Option<&str> {
    let mut lines = tag.split_inclusive('\n');
    let signature = TAG.split_inclusive('\n').next()?;
    let layout = lines.next().filter(|line| *line == signature).and(lines.next())?;
    layout.strip_prefix(OURS)?.strip_suffix('\n').filter(|layout| !layout.is_empty())
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
