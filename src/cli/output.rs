//! Files that a verb writes: never one that it reads.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::bail;

/// Refuses to write `out`, which `flag` names, over one of the files that are read or written beside it.
///
/// # Errors
/// Where it is one of them, under whatever name.
pub(super) fn apart(
    (flag, out): (&str, Option<&Path>),
    others: &[(&str, Option<&Path>)],
) -> anyhow::Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let Some(out) = out else { return Ok(()) };
    let written = identity(out);
    for (other_flag, other) in others {
        if other.is_some_and(|other| other == out || written.is_some() && identity(other) == written) {
            bail!("{flag} {} would overwrite the file of {other_flag}; name another", out.display());
        }
    }
    Ok(())
}

/// Refuses to write `out`, which `flag` names, into a directory that is read.
///
/// # Errors
/// Where it would stand anywhere in it.
pub(super) fn outside(
    (flag, out): (&str, Option<&Path>),
    (dir_flag, dir): (&str, &Path),
) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(parent), Ok(dir)) = (fs::canonicalize(parent), fs::canonicalize(dir))
        && parent.starts_with(&dir)
    {
        bail!(
            "{flag} {} would be written into the directory of {dir_flag}; name another place",
            out.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_read_is_not_overwritten_under_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let (read, other) = (directory.path().join("read"), directory.path().join("other"));
        fs::write(&read, "rows").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&read, &link).unwrap();
        let check =
            |out: &Path| apart(("--scores", Some(out)), &[("--accounts", None), ("--rules", Some(&read))]);
        for out in [&read, &link, &directory.path().join("./read")] {
            let refused = check(out).unwrap_err().to_string();
            assert!(refused.contains("the file of --rules"), "{refused}");
        }
        check(&other).unwrap();
        fs::write(&other, "").unwrap();
        check(&other).unwrap();
        let new = directory.path().join("new");
        assert!(apart(("--changes", Some(&new)), &[("--scores", Some(&new))]).is_err());
        apart(("--scores", None), &[("--rules", Some(&read))]).unwrap();
    }

    #[test]
    fn nothing_is_written_into_a_directory_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("journal");
        fs::create_dir(&inside).unwrap();
        let check = |out: &Path| outside(("--scores", Some(out)), ("--journal", directory.path()));
        for out in [directory.path().join("s.csv"), inside.join("mark"), inside.join("../journal/s.csv")] {
            assert!(check(&out).unwrap_err().to_string().contains("the directory of --journal"));
        }
        check(Path::new("s.csv")).unwrap();
    }
}
