//! Reads folders of model files with their own names: LM Studio, ComfyUI, A1111 and Forge, other Pumas libraries.
//!
//! Links to files are followed, as people link one file into several programs; links to folders are not, but for the
//! folders right below the top (a drive full of checkpoints). A folder that some program marked as one model is one,
//! whatever lies below it; else each file or set of shards is one.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::adoption::found::{MAX_MODELS, Store, StoreKind, StoredFile, StoredModel, base_name, is_weights};
use crate::adoption::grouping::{Group, groups};
use crate::adoption::look::{Entry, Halt, Look, Looked, MAX_DEPTH, manifest};
use crate::error::Result;
use crate::library::import_source::{is_junk, is_mark, require_downloaded};
use crate::library::metadata::{METADATA, OWN_FILES, digest_text, file_entries};
use crate::library::references::REFERENCES;
use crate::storage::json_file::{JsonObject, is_true};
use crate::storage::paths::resolved;

const METADATA_FORM: [&str; 5] = [
    "official_name",
    "model_type",
    "hashes",
    "cleaned_name",
    "model_id",
];
/// The folders of ComfyUI, A1111 and Forge, lower case, in this library's words for what lies in them.
const SUBTYPES: [(&str, &str); 15] = [
    ("checkpoints", "checkpoints"),
    ("stable-diffusion", "checkpoints"),
    ("loras", "loras"),
    ("lora", "loras"),
    ("lycoris", "loras"),
    ("vae", "vae"),
    ("vae_approx", "vae"),
    ("controlnet", "controlnet"),
    ("embeddings", "embeddings"),
    ("upscale_models", "upscale"),
    ("esrgan", "upscale"),
    ("realesrgan", "upscale"),
    ("clip", "clip"),
    ("text_encoders", "clip"),
    ("text_encoder", "clip"),
];

/// Everything below `root`.
///
/// # Errors
/// The look was stopped.
pub fn read_tree(look: &Look<'_>, kind: StoreKind, root: &str) -> Result<Store> {
    let mut tree = Tree {
        look,
        store: Store::new(kind, root),
    };
    match tree.folder(root, "", 0) {
        Err(Halt::Limit) => tree.store.truncated = true,
        Err(Halt::Stopped(error)) => return Err(error),
        Ok(()) => {}
    }
    Ok(tree.store)
}

struct Tree<'a> {
    look: &'a Look<'a>,
    store: Store,
}

impl Tree<'_> {
    /// Adds the models in one folder and in those below it.
    fn folder(&mut self, path: &str, relative: &str, depth: usize) -> Looked<()> {
        let mut entries = self.look.names(&mut self.store, path)?;
        entries.retain(|entry| !is_junk(&entry.name));
        if self.store.kind == StoreKind::Pumas && entries.iter().any(|entry| entry.name == METADATA) {
            return self.pumas_model(path, relative);
        }
        if !relative.is_empty() && entries.iter().any(|entry| is_mark(&entry.name)) {
            let mut files = Vec::new();
            self.below(&entries, "", depth, &mut files)?;
            if files.iter().any(|file| is_weights(&file.name)) {
                return self.add(relative, groups(files));
            }
        }
        let mut here = Vec::new();
        for entry in &entries {
            if is_weights(&entry.name) && !entry.is_folder() {
                here.extend(self.file(entry, &entry.name));
            }
        }
        self.add(relative, groups(here))?;
        for entry in &entries {
            if entry.is_folder() && self.enters(entry, depth) {
                self.folder(&entry.path, &joined(relative, &entry.name), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Whether a folder is looked into.
    fn enters(&mut self, entry: &Entry, depth: usize) -> bool {
        if entry.is_symlink() && (depth > 0 || is_around(&self.store.path, &entry.path)) {
            let message = "A link to a folder is not followed; scan it by itself.";
            self.store.problem(&entry.path, "link_to_folder", message);
            return false;
        }
        if depth >= MAX_DEPTH {
            self.store.problem(&entry.path, "limit", "It lies too deep.");
            return false;
        }
        true
    }

    fn below(
        &mut self,
        entries: &[Entry],
        prefix: &str,
        depth: usize,
        found: &mut Vec<StoredFile>,
    ) -> Looked<()> {
        for entry in entries.iter().filter(|entry| !is_junk(&entry.name)) {
            if !entry.is_plain_folder() {
                found.extend(self.file(entry, &format!("{prefix}{}", entry.name)));
            } else if depth < MAX_DEPTH {
                let inside = self.look.names(&mut self.store, &entry.path)?;
                self.below(&inside, &format!("{prefix}{}/", entry.name), depth + 1, found)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, name: &str) -> Option<StoredFile> {
        if is_weights(name)
            && let Err(error) = require_downloaded(Path::new(&entry.path), Path::new(&entry.name))
        {
            self.store.problem(&entry.path, "incomplete", error.to_string());
            return None;
        }
        if !entry.is_symlink() {
            let status = self.look.regular(&mut self.store, &entry.path, false)?;
            return Some(StoredFile::new(name, &entry.path, &status));
        }
        // What else a link might lead to is nobody's model.
        if !is_weights(name) {
            return None;
        }
        let status = self.look.regular(&mut self.store, &entry.path, true)?;
        let real = resolved(Path::new(&entry.path));
        Some(StoredFile {
            shown: entry.path.clone(),
            ..StoredFile::new(name, real.to_str()?, &status)
        })
    }

    fn add(&mut self, relative: &str, found: Vec<Group>) -> Looked<()> {
        let parts: Vec<&str> = relative.split('/').collect();
        let last = parts.last().copied().unwrap_or_default();
        let by_owner = parts.len() == 2 && self.store.kind == StoreKind::LmStudio;
        let subtype = self.subtype(parts.first().copied().unwrap_or_default());
        let stems: Vec<String> = found.iter().map(|group| group.stem.clone()).collect();
        for group in found {
            if self.store.models.len() >= MAX_MODELS {
                return Err(Halt::Limit);
            }
            let is_shared = stems.iter().filter(|stem| **stem == group.stem).count() > 1;
            let own = match group.files.first() {
                Some(file) if is_shared && !group.stem.is_empty() => &file.name,
                _ => &group.stem,
            };
            let name = joined(relative, own);
            let title = if group.stem.is_empty() { last } else { &group.stem };
            let model = StoredModel {
                repo_id: by_owner.then(|| relative.to_owned()),
                subtype: subtype.to_owned(),
                model_type: if subtype.is_empty() { "" } else { "diffusion" }.to_owned(),
                problem: group.problem,
                ..StoredModel::new(&self.store, name, title.to_owned(), group.files)
            };
            self.store.models.push(model);
        }
        Ok(())
    }

    /// What lies in a folder of this name, when the program tells it by the folder.
    fn subtype(&self, folder: &str) -> &'static str {
        if !matches!(self.store.kind, StoreKind::Comfyui | StoreKind::Webui) {
            return "";
        }
        let folder = folder.to_lowercase();
        let found = SUBTYPES.iter().find(|(name, _)| *name == folder);
        found.map_or("", |(_, subtype)| subtype)
    }

    // -- another library of ours -------------------------------------------------------------------------------------

    fn pumas_model(&mut self, path: &str, relative: &str) -> Looked<()> {
        let Ok(metadata) = manifest(&format!("{path}/{METADATA}")) else {
            self.store
                .problem(path, "bad_manifest", "Its metadata cannot be read.");
            return Ok(());
        };
        let known = METADATA_FORM.iter().filter(|key| metadata.contains_key(**key));
        if known.count() < 2 {
            return Ok(());
        }
        if metadata.get(REFERENCES).is_some_and(is_true) {
            let message = "It is only referenced there; adopt it from the store that has it.";
            self.store.problem(path, "outside", message);
            return Ok(());
        }
        let mut entries = self.look.names(&mut self.store, path)?;
        entries.retain(|entry| !OWN_FILES.contains(&entry.name.as_str()));
        let mut files = Vec::new();
        self.below(&entries, "", 0, &mut files)?;
        files.retain(|file| base_name(&file.name) != METADATA);
        let claims = claims(&metadata);
        for file in &mut files {
            file.claimed_sha256 = claims.get(&file.name).cloned().unwrap_or_default();
        }
        if !files.iter().any(|file| is_weights(&file.name)) {
            let message = "None of its model files is there.";
            self.store.problem(path, "incomplete", message);
            return Ok(());
        }
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let title = match text("official_name") {
            "" => base_name(relative),
            name => name,
        };
        let model = StoredModel {
            subtype: text("subtype").to_owned(),
            family: text("family").to_owned(),
            model_type: text("model_type").to_owned(),
            ..StoredModel::new(&self.store, relative.to_owned(), title.to_owned(), files)
        };
        self.store.models.push(model);
        Ok(())
    }
}

fn joined(relative: &str, name: &str) -> String {
    match (relative, name) {
        ("", name) => name.to_owned(),
        (relative, "") => relative.to_owned(),
        _ => format!("{relative}/{name}"),
    }
}

/// Whether a link to a folder leads to `path` or to a folder that it lies in.
fn is_around(path: &str, link: &str) -> bool {
    Path::new(path).starts_with(resolved(Path::new(link)))
}

/// File name -> SHA-256, of which only that library knows whether it hashed the bytes.
fn claims(metadata: &JsonObject) -> HashMap<String, String> {
    let entries = file_entries(metadata).into_iter();
    let mut found: HashMap<String, String> = entries
        .filter(|entry| !entry.sha256.is_empty())
        .map(|entry| (entry.name, entry.sha256))
        .collect();
    let hashes = metadata.get("hashes").and_then(Value::as_object);
    let primary = metadata.get("primary_file").and_then(Value::as_str);
    if let (Some(hashes), Some(primary)) = (hashes, primary) {
        found
            .entry(primary.to_owned())
            .or_insert_with(|| digest_text(hashes.get("sha256")));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;
    use crate::adoption::testing::{World, gguf, sha256};

    fn read(world: &World, kind: StoreKind) -> Store {
        read_tree(&Look::default(), kind, world.at("tree").to_str().unwrap()).unwrap()
    }

    fn names(store: &Store) -> Vec<&str> {
        store.models.iter().map(|model| model.name.as_str()).collect()
    }

    #[test]
    fn each_file_or_set_or_marked_folder_is_a_model() {
        let world = World::new();
        for name in [
            "acme/one/one.gguf",
            "acme/marked/config.json",
            "acme/marked/sub/m.gguf",
            "acme/twin/t.gguf",
            "acme/twin/t.safetensors",
            "acme/.cache/x.gguf",
            "loose.gguf",
        ] {
            world.write(&world.at("tree").join(name), &gguf(1));
        }
        let store = read(&world, StoreKind::LmStudio);
        assert_eq!(
            names(&store),
            [
                "loose",
                "acme/marked",
                "acme/one/one",
                "acme/twin/t.gguf",
                "acme/twin/t.safetensors"
            ]
        );
        assert_eq!(store.models[1].repo_id.as_deref(), Some("acme/marked"));
        assert_eq!(
            (store.models[0].title.as_str(), store.models[0].repo_id.as_deref()),
            ("loose", None)
        );
    }

    #[test]
    fn what_another_program_is_still_writing_is_told_and_not_offered() {
        let world = World::new();
        for name in ["whole.gguf", "half.gguf", "half.gguf.aria2"] {
            world.write(&world.at("tree").join(name), &gguf(1));
        }
        let store = read(&world, StoreKind::Folder);
        assert_eq!(names(&store), ["whole"]);
        let message = &store.problems[0].message;
        assert!(message.contains("half.gguf.aria2 is beside it"), "{message}");
    }

    #[test]
    fn folders_say_what_lies_in_them() {
        let world = World::new();
        world.write(&world.at("tree/Lora/style.safetensors"), b"x");
        world.write(&world.at("tree/other/style.safetensors"), b"x");
        let facts = |store: &Store| -> Vec<(String, String)> {
            let models = store.models.iter();
            models
                .map(|one| (one.subtype.clone(), one.model_type.clone()))
                .collect()
        };
        let said = |subtype: &str, kind: &str| (subtype.to_owned(), kind.to_owned());
        let store = read(&world, StoreKind::Webui);
        assert_eq!(facts(&store), [said("loras", "diffusion"), said("", "")]);
        assert_eq!(
            facts(&read(&world, StoreKind::Folder)),
            [said("", ""), said("", "")]
        );
    }

    #[test]
    fn links_to_files_are_followed_and_links_to_folders_only_at_the_top() {
        let world = World::new();
        let file = world.write(&world.at("drive/a.gguf"), &gguf(1));
        world.write(&world.at("tree/sub/b.gguf"), &gguf(2));
        symlink(&file, world.at("tree/linked.gguf")).unwrap();
        symlink(world.at("drive"), world.at("tree/drive")).unwrap();
        symlink(world.at("drive"), world.at("tree/sub/drive")).unwrap();
        symlink(world.at(""), world.at("tree/around")).unwrap();
        symlink("loop", world.at("tree/loop")).unwrap();
        symlink("/nowhere", world.at("tree/gone.gguf")).unwrap();
        let store = read(&world, StoreKind::Folder);
        assert_eq!(names(&store), ["linked", "drive/a", "sub/b"]);
        let [linked] = &store.models[0].files[..] else {
            panic!()
        };
        assert_eq!(
            (&*linked.path, &*linked.shown),
            (
                file.to_str().unwrap(),
                world.at("tree/linked.gguf").to_str().unwrap()
            )
        );
        let mut told: Vec<(&str, &str)> = store
            .problems
            .iter()
            .map(|problem| (problem.kind, problem.path.as_str()))
            .collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                ("broken_link", "gone.gguf"),
                ("link_to_folder", "around"),
                ("link_to_folder", "sub/drive")
            ]
        );
    }

    #[test]
    fn another_library_tells_its_digests_as_claims() {
        let world = World::new();
        let metadata = json!({
            "official_name": "Harbor", "model_type": "llm", "family": "llama", "primary_file": "h.gguf",
            "hashes": {"sha256": sha256(&gguf(1))},
        });
        for id in ["llm/llama/Harbor", "llm/llama/Referenced"] {
            world.write(&world.at("tree").join(id).join("h.gguf"), &gguf(1));
            world.write(
                &world.at("tree").join(id).join(METADATA),
                metadata.to_string().as_bytes(),
            );
        }
        let mut referenced = metadata.clone();
        referenced[REFERENCES] = json!([{}]);
        world.write(
            &world.at("tree/llm/llama/Referenced").join(METADATA),
            referenced.to_string().as_bytes(),
        );
        world.write(&world.at("tree/llm/llama/Damaged").join(METADATA), b"{");
        let store = read(&world, StoreKind::Pumas);
        assert_eq!(names(&store), ["llm/llama/Harbor"]);
        let model = &store.models[0];
        assert_eq!(
            (&*model.title, &*model.family, &*model.model_type),
            ("Harbor", "llama", "llm")
        );
        assert_eq!(model.files[0].claimed_sha256, sha256(&gguf(1)));
        let kinds: Vec<&str> = store.problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, ["bad_manifest", "outside"]);
    }
}
