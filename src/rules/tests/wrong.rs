//! The folder of wrong rules files: one guess a person would make in each, and beside it what `saker rules check`
//! says. After a change of messages `SAKER_WRITE_EXPECTED=1 cargo test --locked --lib wrong_rules` writes them anew;
//! read the difference as somebody who has to mend the file by it.

use std::{fs, path::PathBuf};

use super::{super::finding::Finding, compile};

/// The least number of guesses, so that files cannot get lost unseen.
const FILES_MIN: usize = 130;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_rules")
}

/// Every wrong file by its name, without its ending.
pub fn files() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut files: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("the file can be read"))
        })
        .collect();
    files.sort();
    files
}

/// As the command prints it, but for its last line, which says whether the file can be used.
fn said(file: &str, source: &str) -> (String, usize) {
    let (findings, verdict) = match compile(file, source) {
        Ok(rules) => (rules.warnings, "can be used"),
        Err(findings) => (findings, "cannot be used"),
    };
    let shown: String = findings.iter().map(|finding: &Finding| format!("{finding}\n\n")).collect();
    (format!("{shown}{file}: {verdict}\n"), findings.len())
}

#[test]
fn wrong_rules_are_answered_with_what_lets_their_writer_mend_them() {
    let is_written = std::env::var_os("SAKER_WRITE_EXPECTED").is_some_and(|value| value == "1");
    let (files, mut differences) = (files(), Vec::new());
    assert!(files.len() >= FILES_MIN, "{} wrong files", files.len());
    for (name, source) in &files {
        let (said, findings) = said(&format!("{name}.toml"), source);
        assert!(findings > 0, "{name}: nothing was found wrong");
        let path = folder().join(format!("{name}.expected"));
        if is_written {
            fs::write(&path, &said).expect("the folder can be written");
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if said != expected {
            differences.push(format!("--- {name}, expected:\n{expected}--- found:\n{said}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
