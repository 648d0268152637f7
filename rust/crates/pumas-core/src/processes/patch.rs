//! Gives `ComfyUI`'s server process a title that task managers show, by a few lines in its `main.py`.
//!
//! What is put in stands between two marks, so that taking it out again needs no backup; one is kept anyway, beside the file,
//! as older sidecars did. What they put in has no marks and is only ever taken out by way of that backup. Nothing outside the
//! version's folder is read or written. Blocks.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use memchr::memmem;

use crate::error::{Error, Result};
use crate::storage::files::{During as _, fsync_folder, is_odd, remove_stale_temporaries, write_durably};

const NAME: &str = "main.py";
const BACKUP: &str = "main.py.bak";
const REPLACED: &str = "main.py.patched";
const TITLE: &str = "ComfyUI Server";
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const BEGIN: &str = "# >>> pumas: process title";
const END: &str = "# <<< pumas: process title";
const CALL: &[u8] = b"setproctitle(";

/// Whether the version's server names itself. A version without a readable `main.py` does not.
pub(super) fn is_patched(folder: &Path) -> bool {
    read(&folder.join(NAME)).is_ok_and(|data| titles(&data).next().is_some())
}

/// Put the title in, or the right one in place of another's; false when it is there already.
///
/// # Errors
/// `CannotPatch`: there is no `main.py` that could be changed. What the disk refuses.
pub(super) fn patch(folder: &Path, tag: &str) -> Result<bool> {
    let path = folder.join(NAME);
    let before = read(&path)?;
    let wanted = if tag.is_empty() {
        TITLE.to_owned()
    } else {
        format!("{TITLE} - {tag}")
    };
    let found: Vec<Range<usize>> = titles(&before).collect();
    if found
        .first()
        .is_some_and(|title| before[title.clone()] == *wanted.as_bytes())
    {
        return Ok(false);
    }
    let during = format!("Patching {NAME}");
    let mut after = before.clone();
    if found.is_empty() {
        after = inserted(&before, &wanted);
    }
    for title in found.iter().rev() {
        after.splice(title.clone(), wanted.bytes());
    }
    remove_stale_temporaries(folder).during(&during)?;
    if found.is_empty() {
        // Else the backup is that of the first time.
        copy(&path, &folder.join(BACKUP), &during)?;
    }
    replace(&path, &after).during(&during)?;
    Ok(true)
}

/// Take the title out again; false when there is none.
///
/// # Errors
/// `CannotPatch`: an older sidecar put it in and there is no backup. What the disk refuses.
pub(super) fn revert(folder: &Path) -> Result<bool> {
    let (path, backup) = (folder.join(NAME), folder.join(BACKUP));
    let now = read(&path)?;
    if titles(&now).next().is_none() {
        return Ok(false);
    }
    let during = format!("Restoring {NAME}");
    remove_stale_temporaries(folder).during(&during)?;
    let clean = without_blocks(&now);
    let has_backup = backup.is_file() && !is_odd(&backup);
    if clean != now {
        replace(&path, &clean).during(&during)?;
        // A backup with anything else in it is somebody's; the file was changed since.
        if has_backup && fs::read(&backup).during(&during)? == clean {
            remove(&backup, folder).during(&during)?;
        }
        return Ok(true);
    }
    if !has_backup {
        return Err(Error::CannotPatch(format!(
            "There is no {BACKUP} beside {NAME}; install this version again to have the original."
        )));
    }
    copy(&path, &folder.join(REPLACED), &during)?;
    replace(&path, &read(&backup)?).during(&during)?;
    remove(&backup, folder).during(&during)?;
    Ok(true)
}

/// Where the titles stand in `setproctitle("ComfyUI Server…")`.
fn titles(data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    memmem::find_iter(data, CALL).filter_map(|place| {
        let begin = place + CALL.len();
        let spaces = data[begin..]
            .iter()
            .take_while(|c| c.is_ascii_whitespace())
            .count();
        let quote = *data.get(begin + spaces).filter(|c| matches!(c, b'"' | b'\''))?;
        let title = begin + spaces + 1;
        let is_end = |c: &u8| matches!(c, b'"' | b'\'' | b'\r' | b'\n');
        let end = title + data[title..].iter().position(is_end)?;
        (data[end] == quote && data[title..end].starts_with(TITLE.as_bytes())).then_some(title..end)
    })
}

/// Before the first main guard, else at the end.
fn inserted(before: &[u8], wanted: &str) -> Vec<u8> {
    let end = if memmem::find(before, b"\r\n").is_some() {
        "\r\n"
    } else {
        "\n"
    };
    let lines = [
        BEGIN,
        "try:",
        "    import setproctitle",
        &format!("    setproctitle.setproctitle(\"{wanted}\")"),
        "except Exception:",
        "    pass",
        END,
        "",
    ];
    let block = lines.join(end);
    let place = guard(before).unwrap_or(before.len());
    let mut after = before[..place].to_vec();
    if place == before.len() && !before.is_empty() && !before.ends_with(b"\n") {
        after.extend(end.bytes());
    }
    after.extend(block.bytes());
    after.extend(&before[place..]);
    after
}

/// Where `if __name__ == "__main__":` begins.
fn guard(data: &[u8]) -> Option<usize> {
    let starts = std::iter::once(0).chain(memmem::find_iter(data, b"\n").map(|place| place + 1));
    starts.into_iter().find(|start| is_guard(&data[*start..]))
}

fn is_guard(line: &[u8]) -> bool {
    let spaces = |text: &mut &[u8]| {
        let rest = text.trim_ascii_start();
        let count = text.len() - rest.len();
        *text = rest;
        count
    };
    let Some(mut rest) = line.strip_prefix(b"if") else {
        return false;
    };
    if spaces(&mut rest) == 0 {
        return false;
    }
    for word in [&b"__name__"[..], b"=="] {
        let Some(behind) = rest.strip_prefix(word) else {
            return false;
        };
        rest = behind;
        spaces(&mut rest);
    }
    let is_quote = |c: Option<&u8>| matches!(c, Some(b'"' | b'\''));
    let Some(behind) = rest.get(1..).and_then(|rest| rest.strip_prefix(b"__main__")) else {
        return false;
    };
    if !is_quote(rest.first()) || !is_quote(behind.first()) {
        return false;
    }
    rest = &behind[1..];
    spaces(&mut rest);
    rest.starts_with(b":")
}

/// Without all that stands between the marks, and without them.
fn without_blocks(data: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(data.len());
    let mut rest = data;
    let line_end = |text: &[u8]| match text {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        _ => None,
    };
    while let Some(begin) = memmem::find(rest, BEGIN.as_bytes()) {
        let inside = begin + BEGIN.len();
        let ends = memmem::find_iter(&rest[inside..], END.as_bytes());
        let end = line_end(&rest[inside..]).and_then(|_| {
            ends.map(|place| inside + place + END.len())
                .find_map(|end| Some(end + line_end(&rest[end..])?))
        });
        match end {
            Some(end) => {
                clean.extend(&rest[..begin]);
                rest = &rest[end..];
            }
            None => {
                clean.extend(&rest[..inside]);
                rest = &rest[inside..];
            }
        }
    }
    clean.extend(rest);
    clean
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let missing = |_| Error::CannotPatch(format!("This version has no readable {}.", name(path)));
    if is_odd(path) || path.metadata().map_err(missing)?.len() > MAX_BYTES {
        return Err(Error::CannotPatch(format!(
            "{} is not a file that can be changed.",
            name(path)
        )));
    }
    fs::read(path).map_err(missing)
}

fn copy(path: &Path, to: &Path, during: &str) -> Result<()> {
    if is_odd(to) {
        let text = format!("{} is in the way and is not a file.", name(to));
        return Err(Error::CannotPatch(text));
    }
    let copied = || -> io::Result<()> {
        let facts = path.metadata()?;
        write_durably(to, &fs::read(path)?, facts.permissions().mode() & 0o7777)?;
        fs::File::open(to)?.set_modified(facts.modified()?)
    };
    copied().during(during)
}

fn replace(path: &Path, data: &[u8]) -> io::Result<()> {
    write_durably(path, data, path.metadata()?.permissions().mode() & 0o777)
}

fn remove(path: &Path, folder: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    fsync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_part: &str) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        fs::write(&path, text).unwrap();
        assert!(patch(place.path(), "v1").unwrap());
        assert!(!patch(place.path(), "v1").unwrap());
        let patched = fs::read_to_string(&path).unwrap();
        assert!(patched.contains(expected_part), "{patched}");
        assert!(patch(place.path(), "v2").unwrap() && is_patched(place.path()));
        assert!(revert(place.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(!revert(place.path()).unwrap() && !is_patched(place.path()));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_put_in_comes_out_again() {
        check(
            "a = 1\nif __name__ == \"__main__\":\n    run()\n",
            "title\nif __name__",
        );
        check(
            "a = 1\r\nif  __name__=='__main__' :\r\n    run()\r\n",
            "title\r\nif  __name__",
        );
        check("a = 1\n", "a = 1\n# >>> pumas");
        check("", "# >>> pumas");
    }

    #[test]
    fn what_an_older_sidecar_put_in_needs_the_backup() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        fs::write(&path, "setproctitle.setproctitle( 'ComfyUI Server - x')\n").unwrap();
        assert!(matches!(revert(place.path()), Err(Error::CannotPatch(_))));
        fs::write(place.path().join(BACKUP), "original\n").unwrap();
        assert!(revert(place.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "original\n");
        assert!(place.path().join(REPLACED).exists() && !place.path().join(BACKUP).exists());
    }

    #[test]
    fn links_and_missing_files_are_not_patched() {
        let place = tempfile::tempdir().unwrap();
        assert!(matches!(patch(place.path(), "v1"), Err(Error::CannotPatch(_))));
        std::os::unix::fs::symlink("/etc/hosts", place.path().join(NAME)).unwrap();
        assert!(matches!(patch(place.path(), "v1"), Err(Error::CannotPatch(_))));
    }
}
