use std::fs;

use super::*;

/// The error message: which file would be replaced, or why a file cannot be written.
fn refused<T: fmt::Debug>(result: Result<T, Failure>) -> String {
    said(&result.unwrap_err())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn begun(path: &Path) -> Publication {
    let mut files = Publication::new(Protected::default());
    files.artefact(path, &[]).unwrap();
    files
}

#[test]
fn files_appear_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.xml");
    fs::write(&path, "old").unwrap();
    let mut dropped = begun(&path);
    dropped.staged(0).create("a.xml").unwrap().write_all(b"half").unwrap();
    drop(dropped);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["a.xml"]);
    let mut files = begun(&path);
    files.report(&dir.path().join("r.json")).unwrap();
    let mut staged = files.staged(0);
    staged.create("a.xml").unwrap().write_all(b"new").unwrap();
    staged.create("a.bin").unwrap().write_all(b"weights").unwrap();
    assert_eq!(staged.beside("bin"), "a.bin");
    files.write_report(&dir.path().join("r.json"), b"{}").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    files.publish().unwrap();
    assert_eq!(names(dir.path()), ["a.bin", "a.xml", "r.json"]);
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read(dir.path().join("a.bin")).unwrap(), b"weights");
}

#[test]
fn a_file_begun_anew_holds_nothing_of_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = begun(&dir.path().join("a.xml"));
    let mut staged = files.staged(0);
    staged.create("a.xml").unwrap().write_all(b"long and wrong").unwrap();
    staged.create("a.bin").unwrap().write_all(b"wrong").unwrap();
    staged.restart().unwrap();
    staged.create("a.xml").unwrap().write_all(b"right").unwrap();
    files.publish().unwrap();
    assert_eq!(names(dir.path()), ["a.xml"]);
    assert_eq!(fs::read(dir.path().join("a.xml")).unwrap(), b"right");
}

#[test]
fn what_is_no_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = begun(&dir.path().join("taken"));
    fs::create_dir(dir.path().join("taken")).unwrap();
    files.staged(0).create("taken").unwrap().write_all(b"x").unwrap();
    assert!(refused(files.publish()).ends_with("it is not a file"));
}

#[cfg(unix)]
#[test]
fn what_is_read_stays_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("w.bin"), "weights").unwrap();
    fs::hard_link(at("w.bin"), at("hard.bin")).unwrap();
    std::os::unix::fs::symlink("w.bin", at("soft.bin")).unwrap();
    std::os::unix::fs::symlink("../soft.bin", at("sub/far.bin")).unwrap();
    std::os::unix::fs::symlink(dir.path(), at("sub/around")).unwrap();
    for name in ["w.bin", "sub/../w.bin", "hard.bin", "soft.bin", "sub/far.bin", "sub/around/w.bin"] {
        // The input may be read by any of these names as well.
        for read in ["w.bin", "hard.bin", "sub/far.bin"] {
            let mut protected = Protected::default();
            protected.add("the data", [at("other"), at(read)]);
            let mut files = Publication::new(protected);
            let other = if at(name) == at(read) { String::new() } else { format!(", {}", at(read).display()) };
            let want = format!("{} would replace the data{other}", at(name).display());
            assert_eq!(refused(files.artefact(&at(name), &[])), want);
            assert_eq!(refused(files.report(&at(name))), want);
            files.artefact(&at(name).with_file_name("new.xml"), &[]).unwrap();
            let (folder, last) = (at(name).parent().unwrap().to_owned(), at(name).file_name().unwrap().to_owned());
            let beside = [last.into_string().unwrap()];
            assert_eq!(refused(files.artefact(&folder.join("x.xml"), &beside)), want);
            assert_eq!(files.staged(0).create(&beside[0]).err().unwrap().to_string(), want);
        }
    }
    assert_eq!(fs::read(at("hard.bin")).unwrap(), b"weights");
}

#[cfg(unix)]
#[test]
fn two_outputs_are_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    std::os::unix::fs::symlink("../a.tflite", at("sub/link")).unwrap();
    let mut files = begun(&at("a.tflite"));
    for name in ["a.tflite", "sub/../a.tflite", "sub/link"] {
        assert!(refused(files.report(&at(name))).contains(" would replace an artefact"));
    }
    files.report(&at("r.json")).unwrap();
    assert!(refused(files.artefact(&at("sub/../r.json"), &[])).ends_with(" would replace the report"));
}

#[cfg(unix)]
#[test]
fn links_stay_and_their_targets_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/old"), "old").unwrap();
    for (link, target) in [("to_old", "sub/old"), ("to_new", "sub/new"), ("twice", "to_old")] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
        let mut files = begun(&at(link));
        files.staged(0).create(link).unwrap().write_all(link.as_bytes()).unwrap();
        files.publish().unwrap();
        assert!(at(link).is_symlink());
        assert_eq!(fs::read(at(link)).unwrap(), link.as_bytes());
    }
    assert_eq!(fs::read(at("sub/old")).unwrap(), b"twice");
    assert_eq!(names(&at("sub")), ["new", "old"]);
    std::os::unix::fs::symlink("b", at("a")).unwrap();
    std::os::unix::fs::symlink("a", at("b")).unwrap();
    assert!(
        refused(Publication::new(Protected::default()).artefact(&at("a"), &[])).ends_with("its links lead nowhere")
    );
}

#[test]
fn empty_folders_are_gone_with_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let made = |name: &str| {
        let mut files = Publication::new(Protected::default());
        files.folder(&at(name)).unwrap();
        files
    };
    drop(made("a/b/c"));
    assert_eq!(names(dir.path()), [""; 0]);
    let files = made("a/b/c");
    fs::write(at("a/kept"), "").unwrap();
    drop(files);
    assert_eq!(names(&at("a")), ["kept"]);
    let mut files = made("a/b");
    files.artefact(&at("a/b/x"), &[]).unwrap();
    files.publish().unwrap();
    assert_eq!(names(&at("a/b")), ["x"]);
}

#[cfg(unix)]
#[test]
fn new_files_are_for_those_whom_the_mask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
    fs::write(dir.path().join("plain"), "").unwrap();
    begun(&dir.path().join("ours")).publish().unwrap();
    assert_eq!(mode("ours"), mode("plain"));
    let named = Temporary::named(dir.path()).unwrap();
    named.publish(&dir.path().join("named")).unwrap();
    assert_eq!(mode("named"), mode("plain"));
}

/// For file systems without unnamed files.
#[test]
fn named_files_are_gone_when_they_are_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let file = Temporary::named(dir.path()).unwrap();
    assert_eq!(names(dir.path()).len(), 1);
    drop(file);
    assert_eq!(names(dir.path()), [""; 0]);
    fs::write(dir.path().join("a"), "old").unwrap();
    let mut file = Temporary::named(dir.path()).unwrap();
    file.write_all(b"new").unwrap();
    file.publish(&dir.path().join("a")).unwrap();
    assert_eq!(names(dir.path()), ["a"]);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"new");
}
