//! What a download will bring, decided once at its start and kept with the job: commit, files, digests, metadata.
//!
//! So a download that goes on a week later fetches the same bytes, whatever the repository's branch says by then, and needs
//! no question to the hub beyond the files themselves.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wanted::WantedFile;
use crate::error::{Error, Result};
use crate::hub::{HubClient, choose, describe, parse_place};
use crate::storage::json_file::JsonObject;
use crate::text::grouped;

const MAX_FILES: usize = 20_000;

/// What the caller wants; empty values mean: find out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRequest {
    /// `owner/name`, or an address, whose revision and file hold where none are asked for besides.
    pub repo_id: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A quantisation, in any spelling.
    pub quant: String,
    /// Paths or shell patterns in the repository.
    pub filenames: Vec<String>,
    /// `llama`, `sdxl`, …
    pub family: String,
    /// The shown name.
    pub official_name: String,
    /// `llm`, `diffusion`, …
    pub model_type: String,
    /// `loras`, `vae`, …
    pub subtype: String,
    /// Accepts files that can run code when an app loads them (pickle).
    pub security_acknowledged: bool,
    /// Bring what the library holds already.
    pub allow_duplicate: bool,
}

/// The keys are those of the job's parameters, in their order there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DownloadPlan {
    pub repo_id: String,
    pub commit: String,
    /// For a person to open.
    pub page: String,
    pub quant: String,
    /// What the hub says about the model, for its metadata.
    pub described: JsonObject,
    pub request: DownloadRequest,
    /// In the hub's order.
    pub files: Vec<WantedFile>,
    /// The paths of those that hold weights.
    pub weights: Vec<String>,
    /// Files that cannot be stored, and why.
    #[serde(default)]
    pub left_out: IndexMap<String, String>,
}

impl DownloadPlan {
    /// From a job's parameters.
    ///
    /// # Errors
    /// `Bug`: they are not those of a download. `UnsafePath`, `InvalidInput`: a file in them is impossible.
    pub(super) fn of_job(params: &Value) -> Result<Self> {
        let plan: Self = Self::deserialize(&params["plan"])
            .map_err(|error| Error::Bug(format!("the plan of a download cannot be read: {error}")))?;
        plan.files.iter().try_for_each(WantedFile::check)?;
        Ok(plan)
    }

    pub(super) fn job_params(&self) -> Value {
        json!({"plan": self, "total_bytes": self.total_bytes()})
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(super) fn title(&self) -> &str {
        match self.request.official_name.as_str() {
            "" => self.repo_id.rsplit('/').next().unwrap_or_default(),
            given => given,
        }
    }

    pub(super) fn fetches_the_same_as(&self, other: &Self) -> bool {
        (&self.repo_id, &self.commit, &self.files) == (&other.repo_id, &other.commit, &other.files)
    }
}

/// Ask the hub what there is and choose: one request, or two when the repository is gated.
///
/// # Errors
/// `InvalidInput`: the name or revision cannot be one, or there is nothing of that kind. `PickleNotAcknowledged`: a file can
/// run code when an app loads it. Else as [`HubClient::model`].
pub(super) async fn make_plan(hub: &HubClient, request: DownloadRequest) -> Result<DownloadPlan> {
    let place = parse_place(&request.repo_id)?;
    let filenames = place.names_for(Some(&request.quant), &request.filenames);
    let request = DownloadRequest {
        revision: place.revision_for(&request.revision),
        quant: place.quant_for(Some(&request.quant), &request.filenames),
        filenames,
        ..request
    };
    let model = hub.model(&request.repo_id, &request.revision).await?;
    if model.said.is_gated() {
        hub.require_access(&model.said.repo_id).await?;
    }
    let quant = Some(request.quant.as_str()).filter(|quant| !quant.is_empty());
    let choice = choose(&model, quant, &request.filenames)?;
    if let Some(pickle) = choice.pickles().next()
        && !request.security_acknowledged
    {
        return Err(Error::PickleNotAcknowledged(format!(
            "{pickle} can run code when an app loads it (pickle); pass security_acknowledged to download it all the same."
        )));
    }
    if choice.files.len() > MAX_FILES {
        let (count, most) = (grouped(choice.files.len() as u64), grouped(MAX_FILES as u64));
        let reason = format!("has {count} files; at most {most} are taken as one model");
        return Err(Error::invalid("repo_id", reason));
    }
    let files = choice
        .files
        .iter()
        .map(WantedFile::of)
        .collect::<Result<Vec<_>>>()?;
    if files.is_empty() {
        return Err(Error::invalid(
            "repo_id",
            "names a repository without any file to download",
        ));
    }
    Ok(DownloadPlan {
        page: hub.page_url(&model.said.repo_id)?,
        quant: choice.quant.clone().unwrap_or_default(),
        described: describe(&model, &choice),
        weights: choice.weights().map(|file| file.path.clone()).collect(),
        left_out: choice.refused.clone(),
        repo_id: model.said.repo_id,
        commit: model.said.commit,
        request,
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_kept_as_the_other_backend_keeps_it() {
        let params = json!({"plan": {
            "repo_id": "maker/model", "commit": "c", "page": "p", "quant": "", "described": {"family": "llama"},
            "request": {
                "repo_id": "maker/model", "revision": "main", "quant": "", "filenames": [], "family": "",
                "official_name": "", "model_type": "", "subtype": "", "security_acknowledged": false,
                "allow_duplicate": false,
            },
            "files": [{"path": "m.gguf", "size": 3, "sha256": "a".repeat(64), "git_oid": "b".repeat(40)}],
            "weights": ["m.gguf"], "left_out": {"../x": "is odd"},
        }, "total_bytes": 3});
        let plan = DownloadPlan::of_job(&params).unwrap();
        assert_eq!(plan.job_params().to_string(), params.to_string());
        assert_eq!(plan.title(), "model");
        assert!(DownloadPlan::of_job(&json!({})).is_err());
        let mut other = params;
        other["plan"]["files"][0]["path"] = json!("../m.gguf");
        assert!(matches!(
            DownloadPlan::of_job(&other),
            Err(Error::UnsafePath { .. })
        ));
    }
}
