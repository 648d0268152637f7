//! Other programs' stores in a temporary folder, laid out as those programs do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::adoption::found::StoredFile;
use crate::library::hashing::Stamp;
use crate::storage::files::hex;

pub(crate) const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

pub(crate) fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// A small model file; `number` tells it from others.
pub(crate) fn gguf(number: u8) -> Vec<u8> {
    let mut data = b"GGUF".to_vec();
    let text = |data: &mut Vec<u8>, text: &str| {
        data.extend((text.len() as u64).to_le_bytes());
        data.extend(text.as_bytes());
    };
    data.extend(3_u32.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    data.extend(2_u64.to_le_bytes());
    for (key, value) in [
        ("general.architecture", "llama"),
        ("general.name", &number.to_string()),
    ] {
        text(&mut data, key);
        data.extend(8_u32.to_le_bytes());
        text(&mut data, value);
    }
    data
}

/// One of which only the name matters.
pub(crate) fn file(name: &str) -> StoredFile {
    StoredFile {
        name: name.to_owned(),
        path: format!("/{name}"),
        shown: format!("/{name}"),
        stamp: Stamp {
            device: 1,
            inode: 1,
            size: 1,
            mtime_ns: 1,
        },
        links: 1,
        claimed_sha256: String::new(),
    }
}

/// A folder with a home and whatever else a test puts there.
pub(crate) struct World {
    place: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            place: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.place.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.at("home/.cache/huggingface/hub")
    }

    pub(crate) fn ollama(&self) -> PathBuf {
        self.at("home/.ollama/models")
    }

    pub(crate) fn write(&self, path: &Path, data: &[u8]) -> PathBuf {
        assert!(path.starts_with(self.at("")));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
        path.to_path_buf()
    }

    /// One file of a snapshot: a link to a blob named by its SHA-256. Answers the blob.
    pub(crate) fn hub_file(&self, repo_id: &str, name: &str, data: &[u8]) -> PathBuf {
        let repo = self
            .cache()
            .join(format!("models--{}", repo_id.replace('/', "--")));
        let blob = self.write(&repo.join("blobs").join(sha256(data)), data);
        let link = repo.join("snapshots").join(COMMIT).join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + name.matches('/').count());
        symlink(format!("{up}blobs/{}", sha256(data)), link).unwrap();
        self.write(&repo.join("refs/main"), COMMIT.as_bytes());
        blob
    }

    /// One model with its layers by kind. `name` is `registry/namespace/model/tag`.
    pub(crate) fn ollama_model(&self, name: &str, layers: &[(&str, &[u8])]) {
        let layer = |(kind, data): &(&str, &[u8])| {
            let digest = sha256(data);
            self.write(&self.ollama().join(format!("blobs/sha256-{digest}")), data);
            json!({
                "mediaType": format!("application/vnd.ollama.image.{kind}"),
                "digest": format!("sha256:{digest}"),
                "size": data.len(),
            })
        };
        let layers: Vec<_> = layers.iter().map(layer).collect();
        let manifest = json!({"schemaVersion": 2, "layers": layers});
        let path = self.ollama().join("manifests").join(name);
        self.write(&path, manifest.to_string().as_bytes());
    }
}
