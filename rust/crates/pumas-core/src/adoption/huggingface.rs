//! Reads a Hugging Face cache: which revisions of which repositories it holds, and where their bytes are.
//!
//! Layout: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>. A snapshot's files are links to
//! `blobs/<etag>` of the same repository; an etag of 64 hex digits is the file's SHA-256 (large files), one of 40 the git id
//! of a small one. Since huggingface-hub 2 a blob may itself be a link into the cache-wide store
//! `<cache>/blobs/<2 digits>/<hash>`: that hash is 64 hex digits too, but no SHA-256 of the file. Links are read, compared
//! with these forms and never followed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use crate::adoption::found::{MAX_MODELS, Store, StoreKind, StoredFile, StoredModel, base_name};
use crate::adoption::grouping::groups;
use crate::adoption::look::{Entry, Halt, Look, Looked, MAX_DEPTH, is_hex, line};
use crate::error::Result;
use crate::storage::paths::resolved;
use crate::text::grouped;

const PREFIX: &str = "models--";
const MAX_REFS: usize = 1000;
const LONGEST_PART: usize = 96;

/// What is in the cache at `root`, the folder with the `models--…` folders.
///
/// # Errors
/// The look was stopped.
pub fn read_cache(look: &Look<'_>, root: &str) -> Result<Store> {
    let mut store = Store::new(StoreKind::Huggingface, root);
    match read_all(look, &mut store) {
        Err(Halt::Limit) => store.truncated = true,
        Err(Halt::Stopped(error)) => return Err(error),
        Ok(()) => {}
    }
    Ok(store)
}

fn read_all(look: &Look<'_>, store: &mut Store) -> Looked<()> {
    let root = store.path.clone();
    for entry in look.names(store, &root)? {
        if let Some(name) = entry.name.strip_prefix(PREFIX)
            && entry.is_folder()
        {
            read_repository(look, store, &entry.path, name)?;
        }
        if store.models.len() >= MAX_MODELS {
            return Err(Halt::Limit);
        }
    }
    Ok(())
}

fn read_repository(look: &Look<'_>, store: &mut Store, path: &str, name: &str) -> Looked<()> {
    // A repository that was moved to another drive and linked from here is the user's own doing.
    let real = resolved(Path::new(path));
    let Some(folder) = real.to_str() else {
        store.problem(
            path,
            "unusable_name",
            "It leads to a folder whose name is not UTF-8.",
        );
        return Ok(());
    };
    if !is_repo(name) {
        store.problem(
            folder,
            "unusable_name",
            "Its name is not one that the hub allows.",
        );
        return Ok(());
    }
    let mut repository = Repository {
        look,
        folder: folder.to_owned(),
        repo_id: name.replacen("--", "/", 1),
        used: HashSet::new(),
        blobs: BTreeMap::new(),
    };
    repository.read(store)
}

fn is_repo(name: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        part.len() <= LONGEST_PART
            && part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(plain)
    };
    let mut cuts = (0..name.len()).filter(|at| name.as_bytes()[*at..].starts_with(b"--"));
    is_part(name) || cuts.any(|at| is_part(&name[..at]) && is_part(&name[at + 2..]))
}

fn is_commit(text: &str) -> bool {
    is_hex(text, 40) || is_hex(text, 64)
}

struct Blob {
    path: String,
    status: Metadata,
    claimed: String,
}

struct Repository<'a> {
    look: &'a Look<'a>,
    folder: String,
    repo_id: String,
    used: HashSet<String>,
    blobs: BTreeMap<String, Blob>,
}

impl Repository<'_> {
    fn read(&mut self, store: &mut Store) -> Looked<()> {
        self.read_blobs(store)?;
        let refs = self.refs(store)?;
        let snapshots = format!("{}/snapshots", self.folder);
        if !Path::new(&snapshots).is_dir() {
            return Ok(());
        }
        for entry in self.look.names(store, &snapshots)? {
            if !is_commit(&entry.name) || !entry.is_plain_folder() {
                store.problem(&entry.path, "bad_manifest", "It is not named like a commit.");
                continue;
            }
            let names: Vec<String> = refs.get(&entry.name).into_iter().flatten().cloned().collect();
            self.snapshot(store, &entry, &names)?;
        }
        self.tell_unused(store);
        Ok(())
    }

    fn snapshot(&mut self, store: &mut Store, commit: &Entry, refs: &[String]) -> Looked<()> {
        let mut files = Vec::new();
        self.files(store, commit.path.len() + 1, &commit.path, 0, &mut files)?;
        let found = groups(files);
        let several = found.len() > 1;
        for group in found {
            let (name, title) = if several && !group.stem.is_empty() {
                (format!("{}/{}", self.repo_id, group.stem), group.stem)
            } else {
                (self.repo_id.clone(), base_name(&self.repo_id).to_owned())
            };
            let model = StoredModel {
                repo_id: self.repo_id.contains('/').then(|| self.repo_id.clone()),
                revision: Some(commit.name.clone()),
                refs: refs.to_vec(),
                problem: group.problem,
                ..StoredModel::new(store, name, title, group.files)
            };
            store.models.push(model);
        }
        Ok(())
    }

    fn read_blobs(&mut self, store: &mut Store) -> Looked<()> {
        let mut unfinished = 0;
        for entry in self.names_if_there(store, &format!("{}/blobs", self.folder))? {
            if entry.name.ends_with(".incomplete") {
                unfinished += 1;
            } else if !is_commit(&entry.name) {
                store.problem(&entry.path, "unusable_name", "It is not named like a blob.");
            } else {
                let path = if entry.is_symlink() {
                    shared(store, &entry.path)
                } else {
                    Some(entry.path)
                };
                let Some(path) = path else { continue };
                if let Some(status) = self.look.regular(store, &path, false) {
                    let claimed = if is_hex(&entry.name, 64) { &*entry.name } else { "" };
                    let claimed = claimed.to_owned();
                    self.blobs.insert(
                        entry.name,
                        Blob {
                            path,
                            status,
                            claimed,
                        },
                    );
                }
            }
        }
        if unfinished > 0 {
            let message = format!("{unfinished} files were not downloaded to the end.");
            store.problem(&self.folder, "incomplete", message);
        }
        Ok(())
    }

    fn names_if_there(&self, store: &mut Store, folder: &str) -> Looked<Vec<Entry>> {
        if Path::new(folder).is_dir() {
            self.look.names(store, folder)
        } else {
            Ok(Vec::new())
        }
    }

    /// Commit -> names of the branches and tags that point to it.
    fn refs(&self, store: &mut Store) -> Looked<BTreeMap<String, BTreeSet<String>>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut pending = vec![(format!("{}/refs", self.folder), String::new())];
        let mut count = 0;
        while let Some((folder, prefix)) = pending.pop() {
            for entry in self.names_if_there(store, &folder)? {
                count += 1;
                if count > MAX_REFS {
                    return Ok(found);
                }
                if entry.is_plain_folder() {
                    if prefix.matches('/').count() < MAX_DEPTH {
                        pending.push((entry.path, format!("{prefix}{}/", entry.name)));
                    }
                    continue;
                }
                let commit = line(&entry.path);
                if is_commit(&commit) {
                    found
                        .entry(commit)
                        .or_default()
                        .insert(prefix.clone() + &entry.name);
                } else {
                    store.problem(&entry.path, "bad_manifest", "It names no commit.");
                }
            }
        }
        Ok(found)
    }

    /// Adds the files below `folder`; their names are what follows the first `top` bytes of their paths.
    fn files(
        &mut self,
        store: &mut Store,
        top: usize,
        folder: &str,
        depth: usize,
        found: &mut Vec<StoredFile>,
    ) -> Looked<()> {
        for entry in self.look.names(store, folder)? {
            if entry.is_plain_folder() {
                if depth < MAX_DEPTH {
                    self.files(store, top, &entry.path, depth + 1, found)?;
                } else {
                    store.problem(&entry.path, "limit", "It lies too deep.");
                }
                continue;
            }
            let name = &entry.path[top..];
            if entry.is_symlink() {
                found.extend(self.linked(store, name, &entry.path));
            } else if let Some(status) = self.look.regular(store, &entry.path, false) {
                // A cache on a file system without links holds the files themselves.
                found.push(StoredFile::new(name, &entry.path, &status));
            }
        }
        Ok(())
    }

    fn linked(&mut self, store: &mut Store, name: &str, link: &str) -> Option<StoredFile> {
        let target = target(link);
        let blob_name = base_name(&target);
        if target != format!("{}/blobs/{blob_name}", self.folder) {
            let message = "It leads out of the cache's blobs; it was not followed.";
            store.problem(link, "outside", message);
            return None;
        }
        let Some(blob) = self.blobs.get(blob_name) else {
            store.problem(link, "broken_link", "The blob that it leads to is not there.");
            return None;
        };
        self.used.insert(blob_name.to_owned());
        Some(StoredFile {
            shown: link.to_owned(),
            claimed_sha256: blob.claimed.clone(),
            ..StoredFile::new(name, &blob.path, &blob.status)
        })
    }

    fn tell_unused(&self, store: &mut Store) {
        let unused = self.blobs.iter().filter(|(name, _)| !self.used.contains(*name));
        let sizes: Vec<u64> = unused.map(|(_, blob)| blob.status.len()).collect();
        if !sizes.is_empty() {
            let bytes = grouped(sizes.iter().sum());
            let message = format!("{} blobs ({bytes} bytes) belong to no revision.", sizes.len());
            store.problem(&self.folder, "unused", message);
        }
    }
}

/// Where a blob that is a link keeps its bytes: in the cache-wide store, or the link is not used.
fn shared(store: &mut Store, link: &str) -> Option<String> {
    let target = target(link);
    let shared = format!("{}/blobs", store.path);
    let name = base_name(&target);
    if is_hex(name, 64)
        && target == format!("{shared}/{}/{name}", &name[..2])
        && !Path::new(&shared).is_symlink()
    {
        return Some(target);
    }
    let message = "The blob is a link that leads out of the cache; it was not followed.";
    store.problem(link, "outside", message);
    None
}

/// Where a link says that it leads, without asking the disk any further; `""` when it cannot be read.
fn target(link: &str) -> String {
    let Ok(target) = fs::read_link(link) else {
        return String::new();
    };
    let mut path = PathBuf::new();
    for part in Path::new(link)
        .parent()
        .unwrap_or(Path::new("/"))
        .join(target)
        .components()
    {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.into_os_string().into_string().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::adoption::testing::{COMMIT, World, gguf, sha256};

    fn read(world: &World) -> Store {
        read_cache(&Look::default(), world.cache().to_str().unwrap()).unwrap()
    }

    #[test]
    fn a_snapshot_is_a_model_whose_bytes_are_blobs() {
        let world = World::new();
        let blob = world.hub_file("acme/Rocket", "sub/rocket.Q4_0.gguf", &gguf(1));
        let store = read(&world);
        let [model] = &store.models[..] else { panic!() };
        assert_eq!(
            (model.name.as_str(), model.title.as_str()),
            ("acme/Rocket", "Rocket")
        );
        assert_eq!(model.repo_id.as_deref(), Some("acme/Rocket"));
        assert_eq!(
            (model.revision.as_deref(), &model.refs[..]),
            (Some(COMMIT), &["main".to_owned()][..])
        );
        assert_eq!(
            (model.format().as_str(), model.quantization().as_str()),
            ("gguf", "q4_0")
        );
        let [file] = &model.files[..] else { panic!() };
        assert_eq!(
            (file.name.as_str(), file.path.as_str()),
            ("sub/rocket.Q4_0.gguf", blob.to_str().unwrap())
        );
        assert!(
            file.shown
                .ends_with("snapshots/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/sub/rocket.Q4_0.gguf")
        );
        assert_eq!(file.claimed_sha256, sha256(&gguf(1)));
        assert!(store.problems.is_empty());
    }

    #[test]
    fn links_that_lead_elsewhere_are_told_and_not_followed() {
        let world = World::new();
        world.hub_file("acme/Rocket", "rocket.gguf", &gguf(1));
        let snapshot = world.cache().join("models--acme--Rocket/snapshots").join(COMMIT);
        symlink("/etc/passwd", snapshot.join("outside.gguf")).unwrap();
        symlink("../../blobs/none", snapshot.join("broken.gguf")).unwrap();
        symlink("models--loop", world.cache().join("models--loop")).unwrap();
        let store = read(&world);
        let kinds: Vec<&str> = store.problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, ["broken_link", "outside"]);
        assert_eq!(store.models.len(), 1);
    }

    #[test]
    fn blobs_may_be_links_into_the_store_of_the_whole_cache() {
        let world = World::new();
        let blob = world.hub_file("acme/Rocket", "rocket.gguf", &gguf(1));
        let hash = "b".repeat(64);
        let shared = world.write(&world.cache().join(format!("blobs/bb/{hash}")), &gguf(1));
        fs::remove_file(&blob).unwrap();
        symlink(&shared, &blob).unwrap();
        let store = read(&world);
        assert_eq!(store.models[0].files[0].path, shared.to_str().unwrap());
        assert_eq!(store.models[0].files[0].claimed_sha256, sha256(&gguf(1)));
    }

    #[test]
    fn names_that_the_hub_allows() {
        for name in ["gpt2", "a--b", "a.b_c--d-e", "a----b"] {
            assert!(is_repo(name), "{name}");
        }
        for name in [
            "",
            "-a",
            "a/b",
            "--a",
            "ä--b",
            &"a".repeat(97),
            &format!("{}--b", "a".repeat(97)),
        ] {
            assert!(!is_repo(name), "{name}");
        }
    }
}
