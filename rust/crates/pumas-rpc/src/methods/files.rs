//! Files that are not in the library yet: what an import dialog asks before it imports.

use pumas_core::Error;
use pumas_core::blocking::blocking;
use pumas_core::library::formats::detect::{FileFormat, detect_format};
use pumas_core::library::formats::embedded::embedded_metadata;
use pumas_core::library::formats::shards::{ShardGroup, detect_sharded_sets};
use pumas_core::library::sources;
use pumas_core::storage::paths::caller_path;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct FilePath {
    file_path: String,
}

#[derive(Deserialize)]
struct FilePaths {
    file_paths: Vec<String>,
}

#[derive(Serialize)]
struct FileType {
    valid: bool,
    detected_type: &'static str,
    error: String,
}

#[derive(Serialize)]
struct Embedded {
    success: bool,
    file_type: &'static str,
    metadata: Option<Map<String, Value>>,
    truncated: Map<String, Value>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Groups {
    groups: Map<String, Value>,
}

#[derive(Serialize)]
struct Links {
    link_count: u64,
    is_hard_linked: bool,
}

#[derive(Serialize)]
struct Answer {
    path: String,
    writable: bool,
    reason: Option<String>,
}

#[derive(Serialize)]
struct WritableFiles {
    all_writable: bool,
    details: Vec<Answer>,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("validate_file_type", |_, p: FilePath| async move {
            let path = caller_path(&p.file_path, "file_path")?;
            Ok(match blocking(move || detect_format(&path)).await {
                Ok(found) => FileType {
                    valid: found.format != FileFormat::Unknown,
                    detected_type: found.format.as_str(),
                    error: found.error,
                },
                Err(error @ Error::FileUnavailable { .. }) => FileType {
                    valid: false,
                    detected_type: "error",
                    error: error.to_string(),
                },
                Err(error) => return Err(error.into()),
            })
        }),
        row("get_embedded_metadata", |_, p: FilePath| async move {
            let path = caller_path(&p.file_path, "file_path")?;
            let found = blocking(move || Ok(embedded_metadata(&path))).await?;
            Ok(Embedded {
                success: found.error.is_empty(),
                file_type: found.file_type.as_str(),
                metadata: found.metadata,
                truncated: found
                    .truncated
                    .into_iter()
                    .map(|(key, length)| (key, json!(length)))
                    .collect(),
                error: (!found.error.is_empty()).then_some(found.error),
            })
        }),
        row("detect_sharded_sets", |_, p: FilePaths| async move {
            let groups = blocking(move || Ok(detect_sharded_sets(&p.file_paths))).await?;
            Ok(Groups {
                groups: groups
                    .into_iter()
                    .map(|(name, group)| (name, shown(group)))
                    .collect(),
            })
        }),
        row("get_file_link_count", |_, p: FilePath| async move {
            let link_count = blocking(move || sources::link_count(&p.file_path)).await?;
            Ok(Links {
                link_count,
                is_hard_linked: link_count > 1,
            })
        }),
        row("check_files_writable", |_, p: FilePaths| async move {
            let found = blocking(move || sources::writable(&p.file_paths)).await?;
            Ok(WritableFiles {
                all_writable: found.iter().all(|file| file.writable),
                details: found
                    .into_iter()
                    .map(
                        |sources::Writable {
                             path,
                             writable,
                             reason,
                         }| Answer {
                            path,
                            writable,
                            reason,
                        },
                    )
                    .collect(),
            })
        }),
    ]
}

fn shown(group: ShardGroup) -> Value {
    let validation = group.validation;
    json!({
        "files": group.files,
        "validation": {
            "complete": validation.complete,
            "missing_shards": validation.missing,
            "total_expected": validation.expected,
            "total_found": validation.found,
            "error": validation.error,
        },
    })
}
