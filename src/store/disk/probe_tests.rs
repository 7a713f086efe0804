//! Directories of all kinds, and what is said of them.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What is said, with `DIR` for the folder.
fn said(folder: &TempDir, path: &Path) -> String {
    probe(path).unwrap_err().replace(&folder.path().display().to_string(), "DIR")
}

/// A folder with this mark and one file of entries beside it.
fn marked(tag: &[u8]) -> TempDir {
    let folder = folder();
    fs::write(folder.path().join(TAG_FILE), tag).unwrap();
    fs::create_dir(folder.path().join("00")).unwrap();
    folder
}

const NOT_OURS: &str = "`DIR` is not empty and was not made by tidegate; name an empty directory";

#[test]
fn the_mark_is_one_that_backup_programs_know_and_names_the_layout() {
    assert!(TAG.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert_eq!(layout_of(TAG), Some(LAYOUT.to_string().as_str()));
    assert!(TAG.len() as u64 <= LONGEST_TAG && TAG.lines().skip(1).all(|line| line.starts_with('#')));
}

#[test]
fn an_empty_directory_is_good() {
    let folder = folder();
    assert_eq!(probe(folder.path()), Ok(()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was created");
}

#[test]
fn so_is_one_that_is_not_there_yet_and_it_is_not_created() {
    let folder = folder();
    assert_eq!(probe(&folder.path().join("a/b/c")), Ok(()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was created");
    // Tests run in the folder of the project.
    assert_eq!(probe(Path::new("no-such-directory/cache")), Ok(()));
}

#[test]
fn so_is_our_own_with_whatever_is_in_it() {
    assert_eq!(probe(marked(TAG.as_bytes()).path()), Ok(()));
}

#[test]
fn so_is_a_file_system_that_is_new() {
    let folder = folder();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    assert_eq!(probe(folder.path()), Ok(()));
}

#[test]
fn so_is_one_whose_mark_was_being_written_when_the_power_went() {
    for length in [0, 10, TAG.len() - 1] {
        let folder = folder();
        fs::write(folder.path().join(TAG_FILE), &TAG[..length]).unwrap();
        assert_eq!(probe(folder.path()), Ok(()), "{length}");
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert_eq!(said(&folder, folder.path()), NOT_OURS);
}

#[test]
fn a_mark_of_somebody_else_or_of_nobody_does_not_help() {
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n";
    for tag in [
        &b""[..],
        b"\xff\xfe",
        signature.as_bytes(),
        format!("{signature}# made by cargo\n").as_bytes(),
        format!("{signature}{OURS}\n").as_bytes(),
        format!("\n{TAG}").as_bytes(),
        TAG.trim_start_matches("Signature: ").as_bytes(),
        "x".repeat(1 << 20).as_bytes(),
    ] {
        let folder = marked(tag);
        assert_eq!(said(&folder, folder.path()), NOT_OURS, "{:?}", String::from_utf8_lossy(tag).get(..20));
    }
}

#[test]
fn a_mark_that_is_no_file_is_none() {
    let folder = folder();
    fs::create_dir(folder.path().join(TAG_FILE)).unwrap();
    assert_eq!(said(&folder, folder.path()), NOT_OURS);
}

#[test]
fn a_directory_of_another_layout_is_refused_with_both_versions() {
    let folder = marked(TAG.replace("layout 1", "layout 7").as_bytes());
    assert_eq!(
        said(&folder, folder.path()),
        "`DIR` was made by another version of tidegate, with layout 7 instead of 1; delete it, or name an empty directory"
    );
}

#[test]
fn a_file_in_the_place_of_the_directory_or_of_one_above_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(said(&folder, &file), "`DIR/file` is not a directory; name another one, or move it away");
    assert_eq!(
        said(&folder, &file.join("cache")),
        "`DIR/file/cache` cannot be looked at: Not a directory (os error 20); correct the path, or its permissions"
    );
}

#[test]
fn a_link_is_followed_and_one_to_nothing_is_in_the_way() {
    let folder = folder();
    fs::create_dir(folder.path().join("real")).unwrap();
    for (to, name) in [("real", "good"), ("nothing", "bad")] {
        symlink(folder.path().join(to), folder.path().join(name)).unwrap();
    }
    assert_eq!(probe(&folder.path().join("good")), Ok(()));
    for path in ["bad", "bad/cache"] {
        let said = said(&folder, &folder.path().join(path));
        assert!(said.starts_with(&format!("`DIR/{path}` cannot be created, as `DIR/bad` leads nowhere: ")), "{said}");
    }
}

#[test]
fn what_cannot_be_written_to_is_named() {
    let folder = marked(TAG.as_bytes());
    let [closed, lock] = ["closed", "lock"].map(|name| folder.path().join(name));
    fs::create_dir(&closed).unwrap();
    fs::write(&lock, "1").unwrap();
    let close = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    close(&closed, 0o400);
    close(&lock, 0o400);
    if may(&closed, Access::WRITE_OK).is_ok() {
        // Permissions mean nothing to the user who runs this; a file system that nobody writes to remains.
        let said = probe(Path::new("/proc/self")).unwrap_err();
        assert!(said.starts_with("`/proc/self` is not ") && said.contains("; "), "{said}");
        return;
    }
    let denied = "Permission denied (os error 13)";
    let next = "give it to the user that runs tidegate, or name another directory";
    assert_eq!(said(&folder, &closed), format!("`DIR/closed` is not writable: {denied}; {next}"));
    assert_eq!(said(&folder, folder.path()), format!("`DIR/lock` is not writable: {denied}; {next}"));
    close(&closed, 0o500);
    assert_eq!(
        said(&folder, &closed.join("a/b")),
        format!(
            "`DIR/closed/a/b` cannot be created, as `DIR/closed` is not writable: {denied}; create it for the user that \
             runs tidegate, or name another one"
        )
    );
}
