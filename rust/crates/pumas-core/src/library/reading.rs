//! What one folder of the library holds: the stamps by which a change is seen, the row it makes, what is wrong in it.
//!
//! A reading is plain values, made by any thread. Whether a folder is read at all, and what its reading means for the
//! index, is decided in [`crate::library::reconcile`].

use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::error::Error;
use crate::library::entry::{
    ContentIdentity, FoundFile, IndexEntry, from_files, from_metadata, is_model_file, primary_file,
};
use crate::library::formats::families::ModelType;
use crate::library::formats::identify::identify;
use crate::library::formats::shards::PIPELINE_INDEX;
use crate::library::references::{REFERENCES, references, state_of};
use crate::library::store::Stamp;
use crate::storage::files::{TEMP_SUFFIX, remove_stale_temporaries};
use crate::storage::json_file::{self, JsonObject, Unreadable};
use crate::storage::paths::display_name;

/// The file that says what a model is.
pub const METADATA: &str = "metadata.json";
/// The file that says which versions of an app may use it.
pub const OVERRIDES: &str = "overrides.json";
const BACKUP: &str = "metadata.json.bak";
/// Folders that are models by their files alone lie at least this deep: `<type>/<family>/…`.
const LEAST_DEPTH: usize = 2;
const MAX_DERIVED_FILES: usize = 10_000;

/// Tells what a model file's content says; nothing where it cannot be read.
pub type Identify = Arc<dyn Fn(&Path) -> ContentIdentity + Send + Sync>;

/// What one folder holds.
#[derive(Debug, Default)]
pub struct Reading {
    /// Of the folder, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Of the folder.
    pub inode: i64,
    /// Names of the folders in it, hidden ones left out.
    pub folders: Vec<String>,
    /// Names that are not UTF-8, as they can be shown.
    pub odd_names: Vec<String>,
    /// Whether it is a model by its metadata, usable or not.
    pub has_metadata: bool,
    /// The file whose stamp is followed; `""` for none.
    pub witness: String,
    /// Of the witness.
    pub stamp: Stamp,
    /// The row that it makes.
    pub entry: Option<Box<IndexEntry>>,
    /// What is wrong with the metadata.
    pub damage: Option<String>,
    /// What is wrong with the overrides, as far as they changed together with the folder or the metadata.
    pub overrides_damage: Option<String>,
    /// It holds model files that belong to no model, because the folder is one for models.
    pub loose: bool,
    /// In such a folder, links to folders outside of the library, as their names can be shown.
    pub linked: Vec<String>,
    /// There, too, links to nothing that can be read.
    pub broken: Vec<String>,
}

/// Why a model's metadata cannot be used.
#[derive(Debug)]
pub enum MetadataFailure {
    /// It is there and may be good, but cannot be read now.
    Io(io::Error),
    /// Neither the file nor its backup can be used.
    Corrupt,
}

/// What the content of the file tells.
#[must_use]
pub fn identify_file(path: &Path) -> ContentIdentity {
    let Ok(found) = identify(path) else {
        // A header that cannot be read says nothing; the path still does.
        return ContentIdentity::default();
    };
    let model_type = if found.model_type == ModelType::Unknown {
        ""
    } else {
        found.model_type.as_str()
    };
    ContentIdentity {
        model_type: model_type.to_owned(),
        subtype: found.subtype,
        family: found.family,
    }
}

/// Reads the folder `path` of the library `root`. `inside`: a folder above it is a model, so it is none by its files.
///
/// # Errors
/// It is gone, or something of it cannot be read now.
pub fn read_folder(root: &Path, path: &str, inside: bool, identify: &Identify) -> io::Result<Reading> {
    let full = root.join(path);
    let status = folder_status(&full, path)?;
    let listing = list(&full)?;
    if listing.has_temporaries {
        // A write that was killed left it; a read-only library keeps it.
        let _ = remove_stale_temporaries(&full);
    }
    let mut reading = Reading {
        mtime_ns: mtime_ns(&status),
        inode: status.ino().cast_signed(),
        has_metadata: listing.has_metadata,
        ..Reading::default()
    };
    let is_deep = path.bytes().filter(|byte| *byte == b'/').count() + 1 >= LEAST_DEPTH;
    if !path.is_empty() && listing.has_metadata {
        // Whatever the file holds, a folder with metadata is a model: what is below it is not taken for others.
        METADATA.clone_into(&mut reading.witness);
        reading.stamp = stamp_of(&full, METADATA);
        (reading.entry, reading.damage) = described(path, &full, &listing, identify)?;
    } else if !inside && !is_deep {
        reading.loose = !listing.model_files.is_empty();
    } else if !inside
        && (!listing.model_files.is_empty() || listing.has_diffusers)
        && let Some((entry, primary)) = derive(path, &full, &listing, identify)
    {
        reading.stamp = stamp_of(&full, &primary.name);
        reading.witness = primary.name;
        reading.entry = Some(entry);
    }
    if reading.entry.is_some() && listing.has_overrides {
        reading.overrides_damage = overrides_damage(&full);
    }
    // What is linked inside of a model is the model's own affair, as folders inside of it are.
    let is_model = reading.entry.is_some() || (!path.is_empty() && listing.has_metadata);
    if !inside && !is_model && !listing.links.is_empty() {
        (reading.linked, reading.broken) = followed(root, &full, listing.links);
    }
    reading.folders = listing.folders;
    reading.odd_names = listing.odd_names;
    Ok(reading)
}

/// Which links lead to folders outside of the library, and which to nothing that can be read.
fn followed(root: &Path, full: &Path, mut links: Vec<OsString>) -> (Vec<String>, Vec<String>) {
    let library = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let (mut linked, mut broken) = (Vec::new(), Vec::new());
    links.sort();
    for name in links {
        let link = full.join(&name);
        match link.metadata() {
            Err(_) => broken.push(display_name(&name)),
            Ok(status) if !status.is_dir() => {}
            Ok(_) => {
                if !link
                    .canonicalize()
                    .is_ok_and(|target| target.starts_with(&library))
                {
                    linked.push(display_name(&name));
                }
            }
        }
    }
    (linked, broken)
}

/// Links are followed to the library itself (`path` is `""`), not below it.
///
/// # Errors
/// What stat(2) refuses, and ENOTDIR for what is no folder.
pub fn folder_status(full: &Path, path: &str) -> io::Result<Metadata> {
    let status = if path.is_empty() {
        full.metadata()?
    } else {
        full.symlink_metadata()?
    };
    if status.is_dir() {
        Ok(status)
    } else {
        Err(Errno::NOTDIR.into())
    }
}

/// When it was changed last, nanoseconds since 1970.
#[must_use]
pub fn mtime_ns(status: &Metadata) -> i64 {
    status
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(status.mtime_nsec())
}

/// The stamp of a file as it is now.
///
/// # Errors
/// What stat(2) refuses.
pub fn file_stamp(path: &Path) -> io::Result<Stamp> {
    let status = path.metadata()?;
    Ok(Stamp {
        mtime_ns: mtime_ns(&status),
        size: status.size().cast_signed(),
        inode: status.ino().cast_signed(),
    })
}

/// The metadata of a model folder, and why its backup had to be used.
///
/// # Errors
/// See [`MetadataFailure`].
pub fn load_metadata(full: &Path) -> Result<(JsonObject, Option<String>), MetadataFailure> {
    let path = full.join(METADATA);
    match json_file::parse_object(&path) {
        Ok(value) => Ok((value, None)),
        Err(Unreadable::Io(error))
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
            ) =>
        {
            Err(MetadataFailure::Io(error))
        }
        Err(_) => match json_file::load(&path) {
            Ok(loaded) => Ok((loaded.value.unwrap_or_default(), loaded.recovered)),
            Err(_) => Err(MetadataFailure::Corrupt),
        },
    }
}

type Row = Option<Box<IndexEntry>>;

/// The row of a folder with metadata, and what is wrong with that.
fn described(
    path: &str,
    full: &Path,
    listing: &Listing,
    identify: &Identify,
) -> io::Result<(Row, Option<String>)> {
    let reason = match load_metadata(full) {
        Err(MetadataFailure::Io(error)) => return Err(error),
        Err(MetadataFailure::Corrupt) => "it and its backup are not usable JSON".to_owned(),
        Ok((metadata, recovered)) => match from_metadata(path, &metadata) {
            Ok(mut entry) => {
                if entry.storage == "reference" {
                    state_of(&references(metadata.get(REFERENCES)))
                        .as_str()
                        .clone_into(&mut entry.state);
                }
                let note = recovered.map(|reason| format!("{reason}; its backup is used instead"));
                return Ok((Some(Box::new(entry)), note));
            }
            Err(damage) => damage.to_string(),
        },
    };
    let row = derive(path, full, listing, identify).map(|(entry, _)| entry);
    Ok((row, Some(format!("{reason}; repair it or remove it"))))
}

/// What is wrong with the model's overrides; most are sound and cost one short read.
fn overrides_damage(full: &Path) -> Option<String> {
    let path = full.join(OVERRIDES);
    json_file::parse_object(&path).err()?;
    match json_file::load(&path) {
        Err(_) => Some("it and its backup are not usable JSON; repair it or remove it".to_owned()),
        Ok(loaded) => loaded
            .recovered
            .map(|reason| format!("{reason}; its backup is used instead")),
    }
}

/// The row of a folder without metadata, and its primary file.
fn derive(
    path: &str,
    full: &Path,
    listing: &Listing,
    identify: &Identify,
) -> Option<(Box<IndexEntry>, FoundFile)> {
    let mut files: Vec<FoundFile> = listing
        .model_files
        .iter()
        .filter_map(|name| found_file(full, name))
        .collect();
    if listing.has_diffusers {
        files.extend(files_below(full));
    }
    let primary = primary_file(&files)?.clone();
    let file = full.join(&primary.name);
    let identity = identify(&file);
    let status = file.metadata().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "rounded to microseconds where it is shown"
    )]
    let modified = status.mtime() as f64 + 1e-9 * status.mtime_nsec() as f64;
    Some((Box::new(from_files(path, files, modified, &identity)), primary))
}

/// Taken before the file is read, so that a change in between is seen next time.
fn stamp_of(full: &Path, name: &str) -> Stamp {
    file_stamp(&full.join(name)).unwrap_or_default()
}

/// A regular file by its name relative to `full`; links are followed.
fn found_file(full: &Path, name: &str) -> Option<FoundFile> {
    let status = full.join(name).metadata().ok().filter(Metadata::is_file)?;
    Some(FoundFile {
        name: name.to_owned(),
        size: status.size().cast_signed(),
    })
}

#[derive(Default)]
struct Listing {
    folders: Vec<String>,
    odd_names: Vec<String>,
    links: Vec<OsString>,
    model_files: Vec<String>,
    has_metadata: bool,
    has_overrides: bool,
    has_diffusers: bool,
    has_temporaries: bool,
}

/// Names in one folder. Of files only links and model files are kept, so that a million others cost no memory.
fn list(full: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(full)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        let is_folder = kind.is_dir();
        if kind.is_symlink() && !name.as_encoded_bytes().starts_with(b".") {
            listing.links.push(name.clone());
        }
        let Some(shown) = name.to_str() else {
            if is_folder && !name.as_encoded_bytes().starts_with(b".") {
                listing.odd_names.push(display_name(&name));
            }
            continue;
        };
        listing.has_overrides |= shown == OVERRIDES;
        if is_folder {
            if !shown.starts_with('.') {
                listing.folders.push(shown.to_owned());
            }
        } else if matches!(shown, METADATA | BACKUP) {
            listing.has_metadata = true;
        } else if shown == PIPELINE_INDEX {
            listing.has_diffusers = true;
        } else if is_model_file(shown) {
            if listing.model_files.len() < MAX_DERIVED_FILES {
                listing.model_files.push(shown.to_owned());
            }
        } else {
            listing.has_temporaries |= shown.ends_with(TEMP_SUFFIX);
        }
    }
    Ok(listing)
}

/// Model files in the folders below one, named relative to it; bounded.
fn files_below(top: &Path) -> Vec<FoundFile> {
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(base) = waiting.pop() {
        let (mut folders, mut names) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(top.join(&base))
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        for (name, entry) in entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)))
        {
            let relative = if base.is_empty() {
                name.clone()
            } else {
                format!("{base}/{name}")
            };
            if is_folder(&entry) {
                if !name.starts_with('.') {
                    folders.push(relative);
                }
            } else if !base.is_empty() && is_model_file(&name) {
                names.push(relative);
            }
        }
        names.sort();
        found.extend(names.iter().filter_map(|name| found_file(top, name)));
        if found.len() >= MAX_DERIVED_FILES {
            break;
        }
        folders.sort();
        waiting.extend(folders.into_iter().rev());
    }
    found
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

impl From<MetadataFailure> for Error {
    fn from(failure: MetadataFailure) -> Self {
        match failure {
            MetadataFailure::Io(error) => crate::storage::files::disk_error(&error, "Reading metadata.json"),
            MetadataFailure::Corrupt => Self::CorruptState {
                name: METADATA.to_owned(),
                reason: "not valid JSON".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Identify {
        Arc::new(|_| ContentIdentity::default())
    }

    fn read(root: &Path, path: &str) -> Reading {
        read_folder(root, path, false, &nothing()).unwrap()
    }

    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        place
    }

    #[test]
    fn metadata_makes_a_model_whatever_it_holds() {
        let place = place(&[
            ("llm/a/Good/metadata.json", r#"{"official_name": "Good"}"#),
            ("llm/a/Bad/metadata.json", "{ damaged"),
            ("llm/a/Bad/x.gguf", "x"),
            ("llm/a/Old/metadata.json", "[]"),
            ("llm/a/Old/metadata.json.bak", r#"{"official_name": "Old"}"#),
            ("llm/a/Odd/metadata.json", r#"{"tags": 7}"#),
        ]);
        let good = read(place.path(), "llm/a/Good");
        assert_eq!(
            (good.entry.unwrap().official_name.as_str(), good.damage),
            ("Good", None)
        );
        let bad = read(place.path(), "llm/a/Bad");
        assert!(bad.entry.unwrap().derived && bad.has_metadata);
        assert_eq!(
            bad.damage.unwrap(),
            "it and its backup are not usable JSON; repair it or remove it"
        );
        let old = read(place.path(), "llm/a/Old");
        assert_eq!(old.entry.unwrap().official_name, "Old");
        assert_eq!(
            old.damage.unwrap(),
            "not a JSON object; its backup is used instead"
        );
        assert_eq!(
            read(place.path(), "llm/a/Odd").damage.unwrap(),
            "tags has a wrong type; repair it or remove it"
        );
    }

    #[test]
    fn files_alone_make_a_model_two_folders_deep() {
        let place = place(&[
            ("llm/x.gguf", "x"),
            ("llm/a/x.gguf", "xy"),
            ("llm/a/.hidden.gguf", "xyz"),
            ("diffusion/p/model_index.json", "{}"),
            ("diffusion/p/unet/u.safetensors", "1234"),
            ("diffusion/p/.cache/big.safetensors", "123456"),
        ]);
        assert!(read(place.path(), "llm").entry.is_none());
        let model = read(place.path(), "llm/a").entry.unwrap();
        assert_eq!(
            (model.primary_file.as_str(), model.size_bytes),
            ("x.gguf", Some(2))
        );
        let pipeline = read(place.path(), "diffusion/p").entry.unwrap();
        assert_eq!(
            (pipeline.primary_file.as_str(), pipeline.size_bytes),
            ("unet/u.safetensors", Some(4))
        );
        assert!(
            read_folder(place.path(), "llm/a", true, &nothing())
                .unwrap()
                .entry
                .is_none()
        );
    }

    #[test]
    fn damaged_overrides_and_loose_files_are_told() {
        let place = place(&[
            ("llm/a/A/metadata.json", "{}"),
            ("llm/a/A/overrides.json", "[]"),
            ("llm/a/B/metadata.json", "{}"),
            ("llm/a/B/overrides.json", "{}"),
            ("llm/loose.gguf", "x"),
        ]);
        assert!(
            read(place.path(), "llm/a/A")
                .overrides_damage
                .unwrap()
                .starts_with("it and its backup")
        );
        assert_eq!(read(place.path(), "llm/a/B").overrides_damage, None);
        assert!(read(place.path(), "llm").loose && !read(place.path(), "").loose);
    }

    #[test]
    fn names_that_are_not_text_are_listed_escaped() {
        use std::os::unix::ffi::OsStrExt as _;
        let place = place(&[("llm/a/x.gguf", "x")]);
        fs::create_dir(place.path().join(std::ffi::OsStr::from_bytes(b"bad\xff"))).unwrap();
        let reading = read(place.path(), "");
        assert_eq!(
            (reading.folders, reading.odd_names),
            (vec!["llm".to_owned()], vec!["bad\\xff".to_owned()])
        );
    }

    #[test]
    fn links_to_folders_are_not_followed() {
        let place = place(&[("llm/a/x.gguf", "x")]);
        std::os::unix::fs::symlink("a", place.path().join("llm/link")).unwrap();
        assert_eq!(read(place.path(), "llm").folders, ["a"]);
        let gone = read_folder(place.path(), "llm/link", false, &nothing()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn links_that_hide_models_are_told_apart() {
        use std::os::unix::fs::symlink;
        let place = place(&[
            ("library/llm/a/good/x.gguf", "x"),
            ("library/llm/b/Good/metadata.json", "{}"),
            ("outside/foo/x.gguf", "x"),
        ]);
        let at = |name: &str| place.path().join(name);
        let library = at("library");
        for folder in ["llm/a", "llm/a/good", "llm/b/Good"] {
            symlink(at("outside/foo"), library.join(folder).join("linked")).unwrap();
            symlink(at("outside/none"), library.join(folder).join("broken.gguf")).unwrap();
        }
        symlink(at("outside/foo/x.gguf"), library.join("llm/a/file")).unwrap();
        symlink("good", library.join("llm/a/own")).unwrap();
        symlink("circle", library.join("llm/a/circle")).unwrap();
        symlink(at("outside"), library.join("llm/a/.hidden")).unwrap();
        let reading = read(&library, "llm/a");
        assert_eq!(
            (reading.linked, reading.broken),
            (
                vec!["linked".to_owned()],
                vec!["broken.gguf".to_owned(), "circle".to_owned()]
            )
        );
        for folder in ["llm/a/good", "llm/b/Good"] {
            let reading = read(&library, folder);
            assert!(
                reading.linked.is_empty() && reading.broken.is_empty(),
                "{folder}: a model's own affair"
            );
        }
        let inside = read_folder(&library, "llm/a", true, &nothing()).unwrap();
        assert!(inside.linked.is_empty() && inside.broken.is_empty());
    }
}
