//! What became of each file, and the count of it all, which the job keeps and tells.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::storage::json_file::JsonObject;

const MAX_FINDINGS: usize = 1000;

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it is on record.
    Ok,
    /// Nothing was on record; now something is.
    Recorded,
    /// Not as it is on record.
    Mismatch,
    /// On record, not on disk.
    Missing,
    /// On a drive that is away.
    Offline,
    /// It could not be read.
    Unreadable,
}

impl Status {
    /// The kind of trouble that it is.
    pub(super) fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Ok | Self::Recorded => None,
            Self::Mismatch => Some("digest_mismatch"),
            Self::Missing => Some("file_missing"),
            Self::Offline => Some("file_offline"),
            Self::Unreadable => Some("file_unreadable"),
        }
    }
}

/// What became of one file; `file` is `""` when it concerns the model's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The model.
    pub model_id: String,
    /// Relative to the model's folder.
    pub file: String,
    /// What became of it.
    pub status: Status,
    /// A sentence.
    pub message: String,
    /// A digest (SHA-256 unless only BLAKE3 is on record), or a size.
    pub expected: String,
    /// Of the same kind as `expected`.
    pub observed: String,
}

impl Finding {
    /// Of what is told in `message` alone.
    pub(super) fn new(model_id: &str, file: &str, status: Status, message: String) -> Self {
        Self {
            model_id: model_id.to_owned(),
            file: file.to_owned(),
            status,
            message,
            expected: String::new(),
            observed: String::new(),
        }
    }
}

/// What the job keeps, and all but the first two of it its result.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tally {
    after: String,
    done: u64,
    models: u64,
    files: u64,
    ok: u64,
    recorded: u64,
    mismatch: u64,
    missing: u64,
    offline: u64,
    unreadable: u64,
    findings_omitted: u64,
    findings: Vec<Finding>,
}

impl Tally {
    /// What a stopped job kept; empty for one that begins.
    pub(super) fn kept(checkpoint: JsonObject) -> Self {
        serde_json::from_value(Value::Object(checkpoint)).unwrap_or_default()
    }

    /// Whether a job that goes over its models in order is past this one.
    pub(super) fn is_past(&self, model_id: &str) -> bool {
        model_id <= self.after.as_str()
    }

    /// Bytes read for the models that are counted.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Add a model, after which `done` bytes were read for all.
    pub(super) fn count(&mut self, model_id: &str, done: u64, findings: Vec<Finding>) {
        model_id.clone_into(&mut self.after);
        self.done = done;
        self.models += 1;
        for finding in findings {
            self.files += u64::from(!finding.file.is_empty());
            *match finding.status {
                Status::Ok => &mut self.ok,
                Status::Recorded => &mut self.recorded,
                Status::Mismatch => &mut self.mismatch,
                Status::Missing => &mut self.missing,
                Status::Offline => &mut self.offline,
                Status::Unreadable => &mut self.unreadable,
            } += 1;
            if finding.status.trouble().is_some() {
                if self.findings.len() < MAX_FINDINGS {
                    self.findings.push(finding);
                } else {
                    self.findings_omitted += 1;
                }
            }
        }
    }

    pub(super) fn to_json(&self) -> JsonObject {
        match json!(self) {
            Value::Object(object) => object,
            _ => JsonObject::new(),
        }
    }

    pub(super) fn result(&self) -> JsonObject {
        let mut result = self.to_json();
        result.shift_remove("after");
        result.shift_remove("done");
        result.insert("bytes".to_owned(), self.done.into());
        result
    }
}
