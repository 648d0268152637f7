//! Reads Ollama's store: `manifests/<registry>/<namespace>/<model>/<tag>` and `blobs/sha256-<hex>`.
//!
//! A manifest is a small JSON document in the form of OCI image manifests
//! (<https://github.com/opencontainers/image-spec/blob/main/manifest.md>) whose layers name blobs by digest. What a manifest
//! says becomes part of a path only after it was matched against 64 hex digits. A blob's name claims its SHA-256.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::adoption::found::{MAX_MODELS, Store, StoreKind, StoredFile, StoredModel};
use crate::adoption::look::{Halt, Look, Looked, Unusable, is_hex, manifest};
use crate::error::Result;
use crate::storage::files::reason;
use crate::storage::paths::slug;

const LAYER: &str = "application/vnd.ollama.image.";
const DEFAULT_REGISTRY: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const HUBS: [&str; 2] = ["hf.co", "huggingface.co"];
/// What a layer becomes beside the model, with what stands before the model's stem; other kinds (messages,
/// parts of a model) make no file.
const WITH_STEM: [(&str, &str); 3] = [("model", ""), ("projector", "mmproj-"), ("adapter", "adapter-")];
const PLAIN: [(&str, &str); 4] = [
    ("license", "LICENSE"),
    ("template", "template.txt"),
    ("system", "system.txt"),
    ("params", "params.json"),
];
const MAX_LAYERS: usize = 1000;
const LEVELS: usize = 4;

/// What is in the store at `root`, the folder with `manifests` and `blobs`.
///
/// # Errors
/// The look was stopped.
pub fn read_store(look: &Look<'_>, root: &str) -> Result<Store> {
    let mut store = Store::new(StoreKind::Ollama, root);
    let read = tell_partial(look, &mut store)
        .and_then(|()| manifests(look, &mut store, &format!("{root}/manifests"), &[]));
    match read {
        Err(Halt::Limit) => store.truncated = true,
        Err(Halt::Stopped(error)) => return Err(error),
        Ok(()) => {}
    }
    Ok(store)
}

/// Adds the models below `folder`; `parts` are registry, namespace and model, as far as they are known.
fn manifests(look: &Look<'_>, store: &mut Store, folder: &str, parts: &[&str]) -> Looked<()> {
    for entry in look.names(store, folder)? {
        if entry.name.starts_with('.') {
            continue;
        }
        let parts = [parts, &[&*entry.name]].concat();
        if parts.len() < LEVELS {
            if entry.is_plain_folder() {
                manifests(look, store, &entry.path, &parts)?;
            }
        } else if !entry.is_plain_file() {
            store.problem(&entry.path, "special_file", "A manifest must be a regular file.");
        } else if store.models.len() >= MAX_MODELS {
            return Err(Halt::Limit);
        } else if let Some(model) = model(look, store, &entry.path, &parts) {
            store.models.push(model);
        }
    }
    Ok(())
}

fn model(look: &Look<'_>, store: &mut Store, path: &str, parts: &[&str]) -> Option<StoredModel> {
    let content = match manifest(path) {
        Ok(content) => content,
        Err(Unusable::Content) => {
            store.problem(path, "bad_manifest", "The manifest is damaged or too large.");
            return None;
        }
        Err(Unusable::Unreadable(error)) => {
            store.problem(path, "unreadable", format!("{}.", reason(&error)));
            return None;
        }
    };
    let [registry, namespace, model, tag] = parts else {
        return None;
    };
    let stem = if *tag == "latest" {
        slug(model, "model")
    } else {
        slug(&format!("{model}-{tag}"), "model")
    };
    let layers = content.get("layers").and_then(Value::as_array);
    let mut files: Vec<StoredFile> = Vec::new();
    for layer in layers.into_iter().flatten().take(MAX_LAYERS) {
        if let Some(file) = file(look, store, path, &stem, layer)
            && !files.iter().any(|other| other.name == file.name)
        {
            files.push(file);
        }
    }
    if !files.iter().any(|file| file.name == format!("{stem}.gguf")) {
        let message = "None of its layers is a model file that is here.";
        store.problem(path, "incomplete", message);
        return None;
    }
    let known = if *registry != DEFAULT_REGISTRY {
        format!("{registry}/{namespace}/{model}")
    } else if *namespace != DEFAULT_NAMESPACE {
        format!("{namespace}/{model}")
    } else {
        (*model).to_owned()
    };
    Some(StoredModel {
        repo_id: HUBS.contains(registry).then(|| format!("{namespace}/{model}")),
        refs: vec![(*tag).to_owned()],
        ..StoredModel::new(store, format!("{known}:{tag}"), stem, files)
    })
}

fn file(look: &Look<'_>, store: &mut Store, manifest: &str, stem: &str, layer: &Value) -> Option<StoredFile> {
    let kind = layer.get("mediaType")?.as_str()?.strip_prefix(LAYER)?;
    let name = file_name(kind, stem)?;
    let digest = layer.get("digest").and_then(Value::as_str).unwrap_or_default();
    let Some(digest) = digest.strip_prefix("sha256:").filter(|text| is_hex(text, 64)) else {
        store.problem(manifest, "bad_manifest", "A layer's digest is not one.");
        return None;
    };
    let path = format!("{}/blobs/sha256-{digest}", store.path);
    let status = look.regular(store, &path, false)?;
    if layer.get("size").and_then(Value::as_u64) != Some(status.len()) {
        store.problem(
            &path,
            "wrong_size",
            "The blob is not as large as its manifest says.",
        );
        return None;
    }
    Some(StoredFile {
        claimed_sha256: digest.to_owned(),
        ..StoredFile::new(&name, &path, &status)
    })
}

fn file_name(kind: &str, stem: &str) -> Option<String> {
    let with_stem = WITH_STEM.iter().find(|(known, _)| *known == kind);
    let with_stem = with_stem.map(|(_, before)| format!("{before}{stem}.gguf"));
    let plain = || PLAIN.iter().find(|(known, _)| *known == kind);
    with_stem.or_else(|| plain().map(|(_, name)| (*name).to_owned()))
}

fn tell_partial(look: &Look<'_>, store: &mut Store) -> Looked<()> {
    let folder = format!("{}/blobs", store.path);
    if !Path::new(&folder).is_dir() {
        return Ok(());
    }
    let names = look.names(store, &folder)?;
    let partial: HashSet<&str> = names
        .iter()
        .filter_map(|entry| {
            let (digest, rest) = entry.name.strip_prefix("sha256-")?.split_at_checked(64)?;
            (is_hex(digest, 64) && rest.contains("-partial")).then_some(digest)
        })
        .collect();
    if !partial.is_empty() {
        let message = format!("{} blobs were not downloaded to the end.", partial.len());
        store.problem(&folder, "incomplete", message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adoption::testing::{World, gguf, sha256};

    fn read(world: &World) -> Store {
        read_store(&Look::default(), world.ollama().to_str().unwrap()).unwrap()
    }

    #[test]
    fn names_are_those_of_the_program() {
        for (place, name, title, repo) in [
            (
                "registry.ollama.ai/library/tiny/latest",
                "tiny:latest",
                "tiny",
                None,
            ),
            ("registry.ollama.ai/acme/tiny/8b", "acme/tiny:8b", "tiny-8b", None),
            (
                "hf.co/acme/tiny/Q4_K_M",
                "hf.co/acme/tiny:Q4_K_M",
                "tiny-Q4_K_M",
                Some("acme/tiny"),
            ),
        ] {
            let world = World::new();
            world.ollama_model(
                place,
                &[("model", &gguf(1)), ("license", b"MIT"), ("messages", b"x")],
            );
            let store = read(&world);
            let [model] = &store.models[..] else {
                panic!("{place}")
            };
            assert_eq!((model.name.as_str(), model.title.as_str()), (name, title));
            assert_eq!(model.repo_id.as_deref(), repo);
            let names: Vec<&str> = model.files.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(names, [&format!("{title}.gguf"), "LICENSE"]);
            assert_eq!(model.files[0].claimed_sha256, sha256(&gguf(1)));
        }
    }

    #[test]
    fn manifests_that_cannot_be_used_are_told() {
        let layer = |digest: &str, size: u64| {
            json!({"layers": [{"mediaType": format!("{LAYER}model"), "digest": digest, "size": size}]})
                .to_string()
        };
        let blob = format!("sha256:{}", sha256(&gguf(1)));
        for (content, kinds) in [
            ("{".to_owned(), &["bad_manifest"][..]),
            ("[]".to_owned(), &["bad_manifest"]),
            ("{}".to_owned(), &["incomplete"]),
            (layer("sha256:../../etc", 1), &["bad_manifest", "incomplete"]),
            (
                layer(&format!("sha256:{}", "0".repeat(64)), 1),
                &["broken_link", "incomplete"],
            ),
            (layer(&blob, 1), &["wrong_size", "incomplete"]),
        ] {
            let world = World::new();
            let root = world.ollama();
            world.write(&root.join("blobs").join(blob.replace(':', "-")), &gguf(1));
            world.write(&root.join("manifests/r/n/m/t"), content.as_bytes());
            let store = read(&world);
            let found: Vec<&str> = store.problems.iter().map(|problem| problem.kind).collect();
            assert_eq!((found, store.models.len()), (kinds.to_vec(), 0), "{content}");
        }
    }

    #[test]
    fn partial_blobs_are_counted_once() {
        let world = World::new();
        let blob = format!("blobs/sha256-{}", sha256(b"x"));
        for ending in ["-partial", "-partial-0", "-partial-1", ""] {
            world.write(&world.ollama().join(format!("{blob}{ending}")), b"x");
        }
        world.write(&world.ollama().join("manifests/r/.hidden"), b"x");
        let store = read(&world);
        let told: Vec<&str> = store
            .problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        assert_eq!(told, ["1 blobs were not downloaded to the end."]);
    }
}
