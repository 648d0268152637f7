//! JSON state files that are never torn, and never mistaken for empty when they are damaged.
//!
//! A write is: temporary file, fsync, the current good file kept as `.bak`, rename, fsync of the folder. A read that
//! meets a damaged file uses `.bak`; when that is bad too it is `CorruptState`. Missing is not damaged. Unknown keys,
//! their order and every digit of their numbers stay. All calls block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::storage::files::{
    During as _, FILE_MODE, exists, fsync_folder, is_odd, put_aside, reason, temporary_name, write_durably,
};
use crate::storage::numerals;
use crate::storage::state_lock::StateLock;

/// Larger files are damaged.
pub const MAX_STATE_BYTES: u64 = 64 * 1024 * 1024;

/// One JSON object with its keys in order.
pub type JsonObject = Map<String, Value>;

/// Neither null, false, zero nor empty.
#[must_use]
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What [`load`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// None when neither the file nor a backup exists.
    pub value: Option<JsonObject>,
    /// Why the backup was used, when it was.
    pub recovered: Option<String>,
}

/// Why a file is no JSON object.
#[derive(Debug)]
pub enum Unreadable {
    /// It cannot be opened or read.
    Io(io::Error),
    /// What it holds cannot be used; the text says why and quotes nothing of it.
    Content(&'static str),
}

impl Unreadable {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// A few words for a message.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io(error) => reason(error),
            Self::Content(reason) => (*reason).to_owned(),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where the last good content of `path` is kept.
#[must_use]
pub fn backup_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".bak");
    path.with_file_name(name)
}

/// Reads one JSON object.
///
/// # Errors
/// See [`Unreadable`]. A FIFO or device is refused without waiting for it.
pub fn parse_object(path: &Path) -> Result<JsonObject, Unreadable> {
    object(&read_bounded(path)?)
}

fn object(data: &[u8]) -> Result<JsonObject, Unreadable> {
    match serde_json::from_slice(data) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Unreadable::Content("not a JSON object")),
        Err(_) => Err(Unreadable::Content("not valid JSON")),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let status = file.metadata()?;
    if !status.is_file() {
        return Err(Unreadable::Content("not a regular file"));
    }
    if status.len() > MAX_STATE_BYTES {
        return Err(Unreadable::Content("too large"));
    }
    // A first look at a library does this for every model: once the size is read, the end is not asked for.
    let mut data = vec![0; usize::try_from(status.len()).unwrap_or_default()];
    let mut filled = 0;
    while filled < data.len() {
        match file.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    data.truncate(filled);
    Ok(data)
}

/// The on-disk form: two spaces of indent, unescaped UTF-8.
#[must_use]
pub fn encode(value: &JsonObject) -> Vec<u8> {
    numerals::pretty(value, b"")
}

/// Reads the file, or its backup when the file is damaged or missing.
///
/// # Errors
/// `CorruptState`: something is there but nothing of it can be read.
pub fn load(path: &Path) -> Result<Loaded> {
    let failure = match parse_object(path) {
        Ok(value) => {
            return Ok(Loaded {
                value: Some(value),
                recovered: None,
            });
        }
        Err(failure) if failure.is_missing() => None,
        Err(failure) => Some(failure.reason()),
    };
    let corrupt = |reason| Error::CorruptState {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        reason,
    };
    match (parse_object(&backup_path(path)), failure) {
        (Ok(value), failure) => Ok(Loaded {
            value: Some(value),
            recovered: Some(failure.unwrap_or_else(|| "missing".to_owned())),
        }),
        (Err(error), None) if error.is_missing() => Ok(Loaded::default()),
        (Err(error), None) => Err(corrupt(format!("missing, and its backup: {}", error.reason()))),
        (Err(_), Some(failure)) => Err(corrupt(failure)),
    }
}

/// Who may read a new state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Everybody whom the umask allows, or the file that is replaced.
    Anybody,
    /// Only this user.
    OnlyUs,
}

/// Replaces the file durably. The last good content stays beside it as `.bak`, a damaged one under a dated name.
///
/// # Errors
/// `DiskError`, `DiskFull`, `ReadOnly`: nothing was changed.
pub fn save(path: &Path, value: &JsonObject, readers: Readers) -> Result<()> {
    let what = format!(
        "Writing {}",
        path.file_name().unwrap_or_default().to_string_lossy()
    );
    replace(path, value, readers).during(&what)
}

fn replace(path: &Path, value: &JsonObject, readers: Readers) -> io::Result<()> {
    // Only a good file may replace the backup: a damaged one would take the last good copy with it.
    let before = good(path);
    let was_good = before.is_some();
    let before = before.or_else(|| good(&backup_path(path))).unwrap_or_default();
    let data = numerals::pretty(value, &before);
    if was_good {
        keep_backup(path)?;
    } else if exists(path) {
        put_aside(path)?;
    }
    let mode = mode_of(path);
    let mode = if readers == Readers::OnlyUs {
        mode & 0o600
    } else {
        mode
    };
    write_durably(path, &data, mode).inspect_err(|_| take_back(path, &data, was_good))
}

fn good(path: &Path) -> Option<Vec<u8>> {
    let data = read_bounded(path).ok()?;
    object(&data).is_ok().then_some(data)
}

/// Undoes a replacement that could not be made durable: who is told that it failed relies on what was there before.
fn take_back(path: &Path, data: &[u8], was_good: bool) {
    if !fs::read(path).is_ok_and(|written| written == data) {
        return;
    }
    if !was_good {
        let _ = fs::remove_file(path);
        return;
    }
    let temporary = temporary_name(path);
    if fs::hard_link(backup_path(path), &temporary).is_ok() {
        let _ = fs::rename(&temporary, path);
        // Both were names of one file already.
        let _ = fs::remove_file(&temporary);
    }
}

/// A user's tighter permissions stay.
fn mode_of(path: &Path) -> u32 {
    match path.metadata().map(|status| status.permissions().mode() & 0o7777) {
        Ok(0) | Err(_) => FILE_MODE,
        Ok(mode) => mode,
    }
}

fn keep_backup(path: &Path) -> io::Result<()> {
    let backup = backup_path(path);
    if is_odd(&backup) {
        put_aside(&backup)?;
    }
    let temporary = temporary_name(&backup);
    // A hard link costs no data and is safe because `path` itself is never written in place, only replaced.
    if fs::hard_link(path, &temporary).is_err() {
        return write_durably(&backup, &fs::read(path)?, mode_of(path));
    }
    let renamed = fs::rename(&temporary, &backup);
    // rename(2) of two links to one inode leaves both names in place.
    let _ = fs::remove_file(&temporary);
    renamed?;
    fsync_folder(path.parent().unwrap_or_else(|| Path::new("/")))
}

/// Loads, lets `change` modify the object in place, saves, and returns it. A missing file starts as `{}`.
///
/// # Errors
/// `CorruptState`: the state could not be read; nothing is written over it. What the disk refuses, and what `change`
/// returns: nothing was changed.
pub fn update(
    path: &Path,
    lock: &StateLock,
    change: impl FnOnce(&mut JsonObject) -> Result<()>,
) -> Result<JsonObject> {
    let _held = lock.hold()?;
    let mut value = load(path)?.value.unwrap_or_default();
    change(&mut value)?;
    save(path, &value, Readers::Anybody)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "called with json!")]
    fn object(value: Value) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn the_form_on_disk_is_pretty_and_keeps_the_order() {
        let value = object(json!({"b": [], "a": {"x": 1.5, "é": null}, "list": [1, "\u{1}\n"]}));
        let expected = "{\n  \"b\": [],\n  \"a\": {\n    \"x\": 1.5,\n    \"é\": null\n  },\n  \"list\": [\n    1,\n    \"\\u0001\\n\"\n  ]\n}";
        assert_eq!(String::from_utf8(encode(&value)).unwrap(), expected);
    }

    #[test]
    fn missing_is_not_damaged() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(load(&place.path().join("x.json")).unwrap(), Loaded::default());
    }

    #[test]
    fn a_damaged_file_is_replaced_by_its_backup_and_never_taken_for_empty() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.json");
        save(&path, &object(json!({"n": 1})), Readers::Anybody).unwrap();
        save(&path, &object(json!({"n": 2})), Readers::Anybody).unwrap();
        for bad in ["", "[]", "null", "{\"n\":", "{\"n\": NaN}", "\u{feff}{}"] {
            fs::write(&path, bad).unwrap();
            let loaded = load(&path).unwrap();
            assert_eq!(loaded.value, Some(object(json!({"n": 1}))), "{bad:?}");
            assert!(loaded.recovered.is_some());
        }
        fs::write(backup_path(&path), "[]").unwrap();
        assert!(matches!(load(&path), Err(Error::CorruptState { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&path), Err(Error::CorruptState { .. })));
    }

    #[test]
    fn saving_over_a_damaged_file_keeps_it_and_the_backup() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.json");
        save(&path, &object(json!({"n": 1})), Readers::Anybody).unwrap();
        save(&path, &object(json!({"n": 2})), Readers::Anybody).unwrap();
        fs::write(&path, "bad").unwrap();
        save(&path, &object(json!({"n": 3})), Readers::Anybody).unwrap();
        assert_eq!(
            parse_object(&backup_path(&path)).unwrap(),
            object(json!({"n": 1}))
        );
        let kept = fs::read_dir(place.path()).unwrap().filter_map(Result::ok);
        assert!(
            kept.into_iter()
                .any(|e| e.file_name().to_string_lossy().contains(".damaged-"))
        );
    }

    #[test]
    fn folders_and_fifos_are_refused_without_waiting() {
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(parse_object(&fifo).unwrap_err().reason(), "not a regular file");
        assert_eq!(
            parse_object(place.path()).unwrap_err().reason(),
            "not a regular file"
        );
    }

    #[test]
    fn a_refused_change_writes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.json");
        let lock = StateLock::new(place.path().join("state.lock"));
        update(&path, &lock, |value| {
            value.insert("n".to_owned(), json!(1));
            Ok(())
        })
        .unwrap();
        let refused = update(&path, &lock, |_| Err(Error::TimedOut("no".to_owned())));
        assert!(refused.is_err());
        assert_eq!(parse_object(&path).unwrap(), object(json!({"n": 1})));
    }

    #[test]
    fn a_replacement_that_failed_late_is_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x.json");
        save(&path, &object(json!({"n": 1})), Readers::Anybody).unwrap();
        save(&path, &object(json!({"n": 2})), Readers::Anybody).unwrap();
        take_back(&path, &encode(&object(json!({"n": 2}))), true);
        assert_eq!(parse_object(&path).unwrap(), object(json!({"n": 1})));
        take_back(&path, b"other", false);
        assert!(path.exists());
        take_back(&path, &encode(&object(json!({"n": 1}))), false);
        assert!(!path.exists());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_object_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("x.json");
            fs::write(&path, &data).unwrap();
            let _ = load(&path);
        }
    }
}
