//! `POST /uploads?batch=…&name=…`: files that a page in a browser hands over because it cannot say where they lie.
//!
//! The body is the file's bytes; the answer says where they are now, for an import that moves them. Files of one batch lie
//! in one folder, as shards of a model must; a name may have folders in it, for a folder that is handed over file by file. What nobody imported is removed a day later. Access was checked before; what
//! the files hold is the import's business.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pumas_core::storage::files::reason;
use pumas_core::storage::paths::relative_path;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::access::{MALFORMED, Refusal};
use super::body::{BodyFailure, RequestBody};

const BYTES: &str = "application/octet-stream";
const AT_ONCE: usize = 4;
const KEPT: Duration = Duration::from_hours(24);
/// A page that sends nothing for this long is gone.
const READ_DEADLINE: Duration = Duration::from_secs(30);
const MOST_PARTS: usize = 8;
const WRITE: usize = 4 * 1024 * 1024;

const NOT_BYTES: Refusal = Refusal::new(
    415,
    "Unsupported media type: send 'Content-Type: application/octet-stream'.",
);
const WRONG_QUESTION: Refusal = Refusal::new(400, "batch must be 32 hex digits, and name the file's name.");
const NOT_PLAIN: Refusal = Refusal::new(
    400,
    "name must be the name of a file, with few folders before it and no hidden one.",
);
const TOO_MANY: Refusal = Refusal::new(
    503,
    "At most 4 files are received at once; try again in a moment.",
);

/// Receives into a folder that only this user can read.
pub(super) struct Uploads {
    folder: PathBuf,
    places: Semaphore,
    swept: Arc<AtomicBool>,
}

impl Uploads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            places: Semaphore::new(AT_ONCE),
            swept: Arc::default(),
        }
    }

    /// Store one file. Nothing half received stays.
    pub(super) async fn receive(
        &self,
        headers: &HeaderMap,
        query: &str,
        body: &RequestBody,
    ) -> Result<PathBuf, BodyFailure> {
        let (batch, name) = asked(headers, query)?;
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| BodyFailure::Refused(TOO_MANY))?;
        let path = self.folder.join(batch).join(name);
        let (root, swept) = (self.folder.clone(), Arc::clone(&self.swept));
        let mut half = at_disk(move || {
            if !swept.swap(true, Ordering::AcqRel) {
                sweep(&root);
            }
            Half::create(path)
        })
        .await?;
        let mut pending = Vec::new();
        loop {
            let piece = timeout(READ_DEADLINE, body.piece())
                .await
                .unwrap_or(Err(MALFORMED.into()))?;
            let is_over = piece.is_none();
            pending.extend_from_slice(&piece.unwrap_or_default());
            if is_over || pending.len() >= WRITE {
                let data = std::mem::take(&mut pending);
                half = at_disk(move || half.file.write_all(&data).map(|()| half)).await?;
            }
            if is_over {
                return Ok(half.keep());
            }
        }
    }
}

/// The batch and the name.
fn asked(headers: &HeaderMap, query: &str) -> Result<(String, String), Refusal> {
    let types: Vec<&[u8]> = headers
        .get_all(CONTENT_TYPE)
        .iter()
        .map(http::HeaderValue::as_bytes)
        .collect();
    if types != [BYTES.as_bytes()] || headers.contains_key(CONTENT_ENCODING) {
        return Err(NOT_BYTES);
    }
    let given: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let value = |key: &str| {
        given
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    };
    let (batch, name) = (
        value("batch").unwrap_or_default(),
        value("name").unwrap_or_default(),
    );
    if given.len() != 2 || !is_batch(&batch) {
        return Err(WRONG_QUESTION);
    }
    match relative_path(&name, "name") {
        Ok(path)
            if path.split('/').count() > MOST_PARTS || path.split('/').any(|part| part.starts_with('.')) =>
        {
            Err(NOT_PLAIN)
        }
        Ok(_) => Ok((batch, name)),
        Err(error) => Err(Refusal {
            status: 400,
            message: error.to_string().into(),
        }),
    }
}

fn is_batch(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Blocking work, with its failure as it is answered.
async fn at_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, BodyFailure> {
    let done = spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the work ended early")));
    done.map_err(|error| {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => 507,
            io::ErrorKind::AlreadyExists => 409,
            _ => 500,
        };
        let message = format!("The file could not be stored: {}.", reason(&error).to_lowercase());
        BodyFailure::Refused(Refusal {
            status,
            message: message.into(),
        })
    })
}

/// A file that is being received. Its name is told to nobody before all of it is there; dropped before, it goes.
struct Half {
    file: File,
    path: PathBuf,
    whole: bool,
}

impl Half {
    fn create(path: PathBuf) -> io::Result<Self> {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        loop {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match opened {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        whole: false,
                    });
                }
                // The end of another file of the batch removed the folder in between; nobody else does.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(mut self) -> PathBuf {
        self.whole = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.path);
            // Only when nothing else is in it.
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}

/// Remove batches that nobody wanted for a day.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(facts) = entry.path().symlink_metadata() else {
            continue;
        };
        let age = facts
            .modified()
            .ok()
            .and_then(|at| at.elapsed().ok())
            .unwrap_or_default();
        if age > KEPT && facts.is_dir() && entry.file_name().to_str().is_some_and(is_batch) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const BATCH: &str = "0123456789abcdef0123456789abcdef";

    fn check(query: &str) -> Result<(String, String), Refusal> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(BYTES))]);
        asked(&headers, query)
    }

    #[test]
    fn names_stay_inside_and_the_question_must_be_right() {
        let found = check(&format!("batch={BATCH}&name=Gro%C3%9Fe+Datei.gguf")).unwrap();
        assert_eq!(found, (BATCH.to_owned(), "Große Datei.gguf".to_owned()));
        let found = check(&format!("batch={BATCH}&name=folder%2Fa.gguf")).unwrap();
        assert_eq!(found.1, "folder/a.gguf");
        for name in [
            "",
            "..",
            "..%2Fx",
            "a%2F..%2Fb",
            "%2Fetc%2Fx",
            ".hidden",
            "con",
            "a%5Cb",
            "x%00",
            "a+",
        ] {
            assert_eq!(
                check(&format!("batch={BATCH}&name={name}")).unwrap_err().status,
                400,
                "{name}"
            );
        }
        for query in [
            "",
            "name=a",
            "batch=../x&name=a",
            &format!("batch={BATCH}&name=a&c=d"),
        ] {
            assert_eq!(check(query).unwrap_err().status, 400, "{query}");
        }
        assert_eq!(asked(&HeaderMap::new(), "").unwrap_err().status, 415);
    }

    #[test]
    fn half_a_file_takes_its_folder_along() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(BATCH);
        let kept = Half::create(folder.join("a")).unwrap().keep();
        assert!(Half::create(folder.join("a")).is_err());
        drop(Half::create(folder.join("b")).unwrap());
        assert!(kept.is_file() && !folder.join("b").exists());
        fs::remove_file(kept).unwrap();
        drop(Half::create(folder.join("b")).unwrap());
        assert!(!folder.exists());
    }
}
