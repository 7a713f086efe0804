use super::testing::*;
use super::*;

#[test]
fn a_file_is_in_the_directory_of_its_first_two_digits() {
    let path = RelPath::of(FileId(0x0a << 120 | 0xff));
    assert_eq!(path.as_c_str(), c"0a/0a0000000000000000000000000000ff");
    assert_eq!(RelPath::of(FileId(u128::MAX)).parent().as_c_str(), c"ff");
    assert_eq!(RelPath::temp(u64::MAX).parent().as_c_str(), c"tmp");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = Dir::open("/nowhere/at/all").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().starts_with("cannot open /nowhere/at/all: "), "{error}");
}

#[test]
fn a_file_that_is_removed_is_read_to_its_end_by_who_has_it_open() {
    let cache = Cache::new();
    let file = cache.put(&head("key", 1), &body(200_000));
    assert!(cache.remove(ID).unwrap() && !cache.remove(ID).unwrap());
    assert_eq!(read_whole(&file).unwrap(), body(200_000));
}
