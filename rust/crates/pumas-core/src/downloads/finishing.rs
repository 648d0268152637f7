//! The end of a download: what the files turned out to be, and their publication as a model.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::downloading::Run;
use super::wanted::WantedFile;
use crate::error::{Error, Result};
use crate::library::formats::detect::{FileFormat, SecurityTier};
use crate::library::formats::families::ModelType;
use crate::library::formats::identify::{Identity, identify, identify_folder};
use crate::library::hashing::Stamp;
use crate::library::import_plan::{ImportPlan, ImportRequest, plan_of};
use crate::library::import_source::{Source, SourceFile, weights_format};
use crate::library::publishing::Publication;
use crate::storage::files::During as _;
use crate::storage::json_file::JsonObject;
use crate::storage::paths::contained;

const SHOWN_LEFT_OUT: usize = 20;

impl Run<'_> {
    /// Give the staged files a place in the library. Answers the job's result.
    pub(super) fn publish(&self, folder: &Path) -> Result<Value> {
        let (plan, warnings) = self.identified(folder)?;
        if plan.security_tier == SecurityTier::Pickle && !self.plan.request.security_acknowledged {
            return Err(Error::PickleNotAcknowledged(format!(
                "{} turned out to be able to run code when an app loads it (pickle); download it again with \
                 security_acknowledged.",
                plan.official_name
            )));
        }
        let digests = self.digests();
        // Asked once here, so that the calls below cannot fail for want of a digest.
        plan.metadata("", &digests)?;
        let metadata = |model_id: &str| {
            let mut metadata = plan.metadata(model_id, &digests).unwrap_or_default();
            let found = metadata
                .get("quantization")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if found.is_empty() {
                metadata.insert("quantization".to_owned(), json!(self.plan.quant));
            }
            metadata
        };
        let mut announce = |model_id: &str| self.announce(self.result(model_id, &plan, &warnings));
        let mut publication = Publication {
            wanted_id: &plan.model_id(),
            metadata: &metadata,
            overrides: &JsonObject::new(),
            announce: &mut announce,
            require_new: &|| self.require_new(&plan),
        };
        self.tools
            .library
            .imports
            .publisher
            .publish(&self.id, &mut publication)?;
        self.staging().discard(&self.id);
        self.announced()
            .ok_or_else(|| Error::Bug("a download was not announced".to_owned()))
    }

    /// The result of a run that a kill cut off after its publication.
    pub(super) fn finish_killed(&self) -> Option<Value> {
        let result = self.announced()?;
        let model_id = result.get("model_id").and_then(Value::as_str).unwrap_or_default();
        let digests = self
            .digests()
            .into_iter()
            .map(|(path, found)| (path, found.sha256))
            .collect();
        let publisher = &self.tools.library.imports.publisher;
        if !publisher.finish_killed(&self.id, model_id, &digests) {
            return None;
        }
        self.staging().discard(&self.id);
        Some(result)
    }

    fn result(&self, model_id: &str, plan: &ImportPlan, warnings: &[String]) -> Value {
        let files = &self.plan.files;
        let by_sha256 = files.iter().filter(|file| file.sha256.is_some()).count();
        let said: Vec<&String> = warnings.iter().chain(&plan.security_findings).collect();
        json!({
            "model_id": model_id,
            "model_path": format!("{}/{model_id}", self.tools.layout.library().display()),
            "repo_id": self.plan.repo_id,
            "revision": self.plan.commit,
            "files": files.len(),
            "size": self.plan.total_bytes(),
            "verified": {"sha256": by_sha256, "git": files.len() - by_sha256},
            "warnings": said,
        })
    }

    fn require_new(&self, plan: &ImportPlan) -> Result<()> {
        if self.plan.request.allow_duplicate {
            return Ok(());
        }
        let digests = self.digests();
        let held = |file: &SourceFile| Some((digests.get(&file.name)?.sha256.clone(), file.stamp.size));
        let weights = plan.source.weights().filter_map(held).collect();
        match self.tools.library.imports.holdings.model_with(&weights)? {
            Some(model_id) => Err(Error::DuplicateModel { model_id }),
            None => Ok(()),
        }
    }

    /// As an import would take the files, and what to say about it.
    fn identified(&self, folder: &Path) -> Result<(ImportPlan, Vec<String>)> {
        let source = self.source(folder)?;
        let (request, described) = (&self.plan.request, &self.plan.described);
        let (unknown, known): (Vec<&SourceFile>, Vec<&SourceFile>) = source
            .weights()
            .partition(|file| file.format == Some(FileFormat::Unknown));
        let sentence = |file: &&SourceFile| {
            format!(
                "{} is as the hub lists it, but no model file that we know.",
                file.name
            )
        };
        let said: Vec<String> = unknown.iter().map(sentence).collect();
        let known_form = |file: &&SourceFile| !known.is_empty() && file.format != Some(FileFormat::Unknown);
        let telling: Vec<PathBuf> = source
            .telling()
            .filter(known_form)
            .map(|file| file.found.clone())
            .collect();
        let identity = identity(&telling)?;
        let text = |key: &str| described.get(key).and_then(Value::as_str).unwrap_or_default();
        let wished =
            |given: &str, otherwise: &str| if given.is_empty() { otherwise } else { given }.to_owned();
        let of_hub = if identity.model_type == ModelType::Unknown {
            text("model_type")
        } else {
            ""
        };
        let tags = described.get("tags").and_then(Value::as_array);
        let wish = ImportRequest {
            path: self.plan.repo_id.clone(),
            family: wished(&request.family, self.family(&identity)),
            official_name: self.plan.title().to_owned(),
            repo_id: Some(self.plan.repo_id.clone()),
            model_type: wished(&request.model_type, of_hub),
            subtype: wished(&request.subtype, text("subtype")),
            tags: tags
                .into_iter()
                .flatten()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect(),
            ..ImportRequest::default()
        };
        let notes = identity.notes.clone();
        let plan = plan_of(&self.tools.layout, wish, source, identity, &|_| Ok(Vec::new()))?;
        let left_out = self.plan.left_out.iter().take(SHOWN_LEFT_OUT);
        let left_out = left_out.map(|(path, reason)| format!("{path} was left out: {reason}."));
        Ok((plan, notes.into_iter().chain(said).chain(left_out).collect()))
    }

    /// What the hub or the files say, else who made it.
    fn family<'a>(&'a self, identity: &'a Identity) -> &'a str {
        let of_hub = self.plan.described.get("family").and_then(Value::as_str);
        let said = [of_hub.unwrap_or_default(), &identity.family];
        let owner = self.plan.repo_id.split('/').next().unwrap_or_default();
        said.into_iter()
            .find(|family| !matches!(*family, "" | "unknown"))
            .unwrap_or(owner)
    }

    /// The staged files as an import would see them. The bytes are those the hub lists, so none is refused: weights of a
    /// form that we do not know are kept as such.
    fn source(&self, folder: &Path) -> Result<Source> {
        let files = self.plan.files.iter().map(|file| self.source_file(folder, file));
        let mut files = files.collect::<Result<Vec<_>>>()?;
        if files.iter().all(|file| file.format.is_none()) {
            // The first of the largest.
            let largest = files.iter_mut().rev().max_by_key(|file| file.stamp.size);
            if let Some(largest) = largest {
                largest.format = Some(FileFormat::Unknown);
            }
        }
        Ok(Source {
            path: folder.to_path_buf(),
            title: self.plan.title().to_owned(),
            files,
            skipped: Vec::new(),
            metadata: self.plan.described.clone(),
            overrides: JsonObject::new(),
        })
    }

    fn source_file(&self, folder: &Path, file: &WantedFile) -> Result<SourceFile> {
        let path = contained(folder, &file.path, "file")?;
        let format = if self.plan.weights.contains(&file.path) {
            Some(match weights_format(&path) {
                Ok(found) => found.unwrap_or(FileFormat::Unknown),
                Err(Error::NotAModel(_)) => FileFormat::Unknown,
                Err(error) => return Err(error),
            })
        } else {
            None
        };
        let facts = path.metadata().during(&format!("Looking at {}", file.path))?;
        Ok(SourceFile {
            found: path.clone(),
            path,
            name: file.path.clone(),
            original_name: file.path.clone(),
            stamp: Stamp::of(&facts),
            format,
        })
    }
}

fn identity(telling: &[PathBuf]) -> Result<Identity> {
    let found = match telling {
        [] => Ok(Identity::unknown()),
        [only] => identify(only),
        several => identify_folder(several),
    };
    match found {
        Err(error @ (Error::NotAModel(_) | Error::MalformedModelFile(_))) => Ok(Identity {
            notes: vec![error.to_string()],
            ..Identity::unknown()
        }),
        found => found,
    }
}
