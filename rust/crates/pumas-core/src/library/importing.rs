//! Bring the user's model files into the library without ever risking them.
//!
//! One item: plan, make room, stage (hashed on the way), compare digests with what the library has, write the metadata into
//! the staging folder, publish by one rename, tell the index, and only then, and only for `move`, remove the source files
//! that are still what was imported. The checkpoint names the id before the rename, so a killed import that had published
//! is finished, not repeated. Which files make one model is known to `import_source`, what it is to `import_plan`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::copying::{Mode, can_clone, stage_file};
use crate::library::formats::detect::SecurityTier;
use crate::library::hashing::{Digests, Stamp, digest_file};
use crate::library::holdings::Holdings;
use crate::library::import_plan::{ImportPlan, ImportRequest, candidates, make_plan};
use crate::library::import_source::{Skipped, SourceFile};
use crate::library::index::Index;
use crate::library::metadata::file_entries;
use crate::library::publishing::{Publication, Publisher, size_of};
use crate::library::staging::Staging;
use crate::storage::files::{During as _, MARGIN, fsync_folder, reason, require_space};
use crate::storage::json_file::JsonObject;
use crate::storage::paths::{contained, display_name};
use crate::storage::state_lock::StateLock;

/// A file at least this large is worth a checkpoint of its own, so that a resumed import does not copy it again.
const KEEP_STAGED_FROM: u64 = 64 * 1024 * 1024;

/// What an import needs of its job. Calls come from the worker thread.
pub trait Work {
    /// The job's id, which also names its staging folders.
    fn job_id(&self) -> &str;

    /// What was saved last, `{}` at the first start.
    fn checkpoint(&self) -> JsonObject;

    /// # Errors
    /// `Cancelled` or `Interrupted` when the job should stop.
    fn check(&self) -> Result<()>;

    /// Say how far the work is, in bytes.
    fn report(&self, stage: &str, done: u64, total: u64, item: &str);

    /// Keep `state` durably.
    ///
    /// # Errors
    /// What the disk refuses.
    fn save_checkpoint(&self, state: JsonObject) -> Result<()>;
}

/// What became of one request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemResult {
    /// As it was given.
    pub path: String,
    /// Whether it is in the library, or would be.
    pub success: bool,
    /// The new model.
    pub model_id: Option<String>,
    /// Its folder, absolute.
    pub model_path: Option<String>,
    /// Whether loading it may run code.
    pub security_tier: Option<String>,
    /// Why not.
    pub error: Option<String>,
    /// The kind of that.
    pub error_code: Option<String>,
    /// The model that holds these bytes already.
    pub duplicate_of: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The source files with weights.
    pub files: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Value>,
    /// What the pickle scanner said.
    pub security_findings: Vec<String>,
    /// Sentences for a person.
    pub warnings: Vec<String>,
}

/// The item under way, as the checkpoint keeps it: the large files that are `staged`, and from the moment of publishing on
/// the `result`, the `digests` and what to `remove`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    staged: HashMap<String, Staged>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ItemResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digests: Option<HashMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remove: Option<Vec<Removal>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Staged {
    source: Stamp,
    digests: Digests,
}

/// What a move removes when the model is in the library.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Removal {
    File { path: String, stamp: Stamp },
    Folder { folder: String },
}

/// Imports models; [`ImportService::run`] is the runner of the job kind `import`.
pub struct ImportService {
    layout: Arc<Layout>,
    staging: Arc<Staging>,
    /// Gives staged models their places; downloads use it too.
    pub publisher: Arc<Publisher>,
    /// What is there already.
    pub holdings: Arc<Holdings>,
    index: Arc<dyn Index>,
}

impl ImportService {
    /// For the library of `layout`.
    pub fn new(layout: Arc<Layout>, lock: StateLock, staging: Arc<Staging>, index: Arc<dyn Index>) -> Self {
        let library = layout.library();
        Self {
            publisher: Arc::new(Publisher::new(
                library.clone(),
                lock,
                staging.clone(),
                index.clone(),
            )),
            holdings: Arc::new(Holdings::new(library, index.clone())),
            layout,
            staging,
            index,
        }
    }

    /// What an import would do. Blocks.
    ///
    /// # Errors
    /// As [`make_plan`].
    pub fn plan(&self, request: ImportRequest) -> Result<ImportPlan> {
        make_plan(&self.layout, request, &|size| self.index.find_by_size(size))
    }

    /// The paths to import for everything in `path`. Blocks.
    ///
    /// # Errors
    /// As [`make_plan`].
    pub fn candidates(&self, path: &str) -> Result<Vec<String>> {
        candidates(&self.layout, path)
    }

    /// The parameters of the job that imports these.
    #[must_use]
    pub fn job_params(requests: &[ImportRequest]) -> JsonObject {
        JsonObject::from_iter([("requests".to_owned(), json!(requests))])
    }

    /// Do the work of a job; blocks. The result is `{success, imported, failed, results}` with an [`ItemResult`] per
    /// request, in order. What is done so far stands under `results` in the job's checkpoint.
    ///
    /// # Errors
    /// `Cancelled` or `Interrupted` when the job was told to stop; what no single item can be blamed for.
    pub fn run(&self, work: &dyn Work, params: &JsonObject) -> Result<JsonObject> {
        let done = self.run_all(work, params);
        // What is staged is used when an interrupted job goes on.
        if matches!(&done, Err(error) if !matches!(error, Error::Interrupted(_))) {
            self.staging.discard_job(work.job_id());
        }
        let results = done?;
        let failed = results.iter().filter(|result| !result.success).count();
        let summary = json!({
            "success": failed == 0,
            "imported": results.len() - failed,
            "failed": failed,
            "results": results,
        });
        Ok(object(summary))
    }

    fn run_all(&self, work: &dyn Work, params: &JsonObject) -> Result<Vec<ItemResult>> {
        let requests = params.get("requests").cloned().unwrap_or_default();
        let requests: Vec<ImportRequest> = serde_json::from_value(requests)
            .map_err(|error| Error::Bug(format!("the parameters of an import cannot be read: {error}")))?;
        work.check()?;
        Batch::new(self, work, requests)?.run()
    }

    /// Answer `NotEnoughSpace` before the first byte, unless the file system can share the source's blocks.
    fn make_room(&self, plan: &ImportPlan, staging_id: &str, staged: u64) -> Result<()> {
        let enough = require_space(
            &self.layout.library(),
            plan.new_bytes.saturating_sub(staged),
            MARGIN,
        );
        match enough {
            Err(full @ Error::NotEnoughSpace { .. }) if plan.new_bytes > 0 => {
                let folder = self.staging.folder(staging_id)?;
                if can_clone(&plan.source.primary()?.path, &folder)? {
                    Ok(())
                } else {
                    Err(full)
                }
            }
            enough => enough,
        }
    }

    /// Answer `DuplicateModel` when one model of the library holds all the weights of `plan`.
    fn require_new(&self, plan: &ImportPlan, digests: &HashMap<String, Digests>) -> Result<()> {
        if plan.request.allow_duplicate {
            return Ok(());
        }
        let held = |file: &SourceFile| Some((digests.get(&file.name)?.sha256.clone(), file.stamp.size));
        let weights: HashSet<_> = plan.source.weights().filter_map(held).collect();
        match self.holdings.model_with(&weights)? {
            Some(model_id) => Err(Error::DuplicateModel { model_id }),
            None => Ok(()),
        }
    }

    /// What follows a publication; may be done again after a kill. Answers the item's result.
    fn finish(&self, staging_id: &str, item: &Item) -> Result<ItemResult> {
        let mut result = item
            .result
            .clone()
            .ok_or_else(|| Error::Bug("an item was not announced".to_owned()))?;
        result
            .warnings
            .extend(remove_sources(item.remove.as_deref().unwrap_or_default()));
        self.staging.discard(staging_id);
        Ok(result)
    }

    /// The result of an item that a killed process had published.
    fn finish_killed(&self, staging_id: &str, item: &Item) -> Result<Option<ItemResult>> {
        let model_id = item
            .result
            .as_ref()
            .and_then(|result| result.model_id.as_deref())
            .unwrap_or_default();
        let digests = item.digests.clone().unwrap_or_default();
        if !self.publisher.finish_killed(staging_id, model_id, &digests) {
            return Ok(None);
        }
        self.finish(staging_id, item).map(Some)
    }
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// The requests of one job, in order.
struct Batch<'a> {
    service: &'a ImportService,
    work: &'a dyn Work,
    requests: Vec<ImportRequest>,
    results: Vec<ItemResult>,
    item: Item,
    progress: Progress<'a>,
}

/// How far a batch is, in bytes.
struct Progress<'a> {
    work: &'a dyn Work,
    done: u64,
    total: u64,
    stage: &'static str,
    title: String,
}

impl Progress<'_> {
    fn report(&mut self, stage: &'static str) {
        self.stage = stage;
        self.work
            .report(stage, self.done.min(self.total), self.total, &self.title);
    }

    fn advance(&mut self, count: u64) -> Result<()> {
        self.work.check()?;
        self.done += count;
        self.report(self.stage);
        Ok(())
    }
}

type Planned = Result<Box<ImportPlan>>;

impl<'a> Batch<'a> {
    fn new(service: &'a ImportService, work: &'a dyn Work, requests: Vec<ImportRequest>) -> Result<Self> {
        let mut checkpoint = work.checkpoint();
        let unreadable = |error| Error::Bug(format!("the checkpoint of an import cannot be read: {error}"));
        let results = checkpoint.remove("results").unwrap_or_else(|| json!([]));
        let item = checkpoint.remove("item").unwrap_or_else(|| json!({}));
        Ok(Self {
            service,
            work,
            requests,
            results: serde_json::from_value(results).map_err(unreadable)?,
            item: serde_json::from_value(item).map_err(unreadable)?,
            progress: Progress {
                work,
                done: 0,
                total: 0,
                stage: "copying",
                title: String::new(),
            },
        })
    }

    fn run(mut self) -> Result<Vec<ItemResult>> {
        if let (Some(index), Some(_)) = (self.item.index, &self.item.result)
            && let Some(finished) = self.service.finish_killed(&self.staging_id(index), &self.item)?
        {
            self.keep_result(finished)?;
        }
        let first = self.results.len();
        let plans = self.requests[first..]
            .iter()
            .map(|request| {
                self.work.check()?;
                Ok(self.service.plan(request.clone()).map(Box::new))
            })
            .collect::<Result<Vec<Planned>>>()?;
        self.progress.total = plans.iter().flatten().map(|plan| plan.work_bytes()).sum();
        for (offset, plan) in plans.into_iter().enumerate() {
            self.work.check()?;
            let after = self.progress.done + plan.as_ref().map_or(0, |plan| plan.work_bytes());
            let result = self.result(first + offset, plan)?;
            self.keep_result(result)?;
            self.progress.done = after;
        }
        self.progress.report("complete");
        Ok(self.results)
    }

    fn result(&mut self, index: usize, plan: Planned) -> Result<ItemResult> {
        let (error, plan) = match plan {
            Err(error) => (error, None),
            Ok(plan) => match self.import(index, &plan) {
                Ok(result) => return Ok(result),
                Err(stop @ (Error::Cancelled(_) | Error::Interrupted(_) | Error::Bug(_))) => {
                    return Err(stop);
                }
                Err(error) => (error, Some(plan)),
            },
        };
        self.service.staging.discard(&self.staging_id(index));
        Ok(failure(&self.requests[index], plan.as_deref(), &error))
    }

    fn import(&mut self, index: usize, plan: &ImportPlan) -> Result<ItemResult> {
        self.progress.title.clone_from(&plan.official_name);
        if plan.security_tier == SecurityTier::Pickle && !plan.request.security_acknowledged {
            return Err(Error::PickleNotAcknowledged(format!(
                "{} can run code when an app loads it (pickle); pass security_acknowledged to import it all the same.",
                plan.official_name
            )));
        }
        if let Some(same) = self.brought_in_with_others(plan) {
            return Ok(ItemResult {
                path: plan.request.path.clone(),
                ..same
            });
        }
        if !plan.look_alikes.is_empty() && !plan.request.allow_duplicate {
            self.compare_before_copying(plan)?;
        }
        if plan.request.dry_run {
            return Ok(self.success(plan, &plan.model_id(), Vec::new()));
        }
        self.bring_in(index, plan)
    }

    /// The result of the request that imported the same files, as parts of one set of shards.
    fn brought_in_with_others(&self, plan: &ImportPlan) -> Option<ItemResult> {
        let files: HashSet<String> = plan.source.weights().map(|file| kept(&file.path)).collect();
        if files.len() == 1 || plan.request.allow_duplicate {
            return None;
        }
        let same = |result: &&ItemResult| {
            let brought: HashSet<&String> = result.files.iter().collect();
            result.success && !result.dry_run && files.iter().all(|file| brought.contains(file))
        };
        self.results.iter().find(same).cloned()
    }

    /// Hash first when the size says that the library may have it: a second import of the same file ends here.
    fn compare_before_copying(&mut self, plan: &ImportPlan) -> Result<()> {
        self.progress.report("hashing");
        let primary = plan.source.primary()?;
        let found = digest_file(&primary.path, &mut |count| self.progress.advance(count))?;
        if self.service.index.find_by_sha256(&found.sha256)?.is_empty() {
            return Ok(());
        }
        let mut digests = HashMap::from([(primary.name.clone(), found)]);
        for file in plan.source.weights() {
            if !digests.contains_key(&file.name) {
                let found = digest_file(&file.path, &mut |count| self.progress.advance(count))?;
                digests.insert(file.name.clone(), found);
            }
        }
        self.service.require_new(plan, &digests)
    }

    fn bring_in(&mut self, index: usize, plan: &ImportPlan) -> Result<ItemResult> {
        let service = self.service;
        let staging_id = self.staging_id(index);
        let kept = self.staged_before(index, plan);
        let names = kept.keys().cloned().collect();
        let folder = service.staging.open(&staging_id, self.work.job_id(), &names)?;
        service.make_room(plan, &staging_id, kept.values().map(|digests| digests.size).sum())?;
        self.progress
            .report(if plan.new_bytes > 0 { "copying" } else { "hashing" });
        let mut digests = HashMap::new();
        for file in &plan.source.files {
            digests.insert(
                file.name.clone(),
                self.stage_one(index, plan, &folder, file, &kept)?,
            );
        }
        service.require_new(plan, &digests)?;
        self.progress.report("writing_metadata");
        // Asked once here, so that the calls below cannot fail for want of a digest.
        plan.metadata("", &digests)?;
        let mut announce = |model_id: &str| self.announce(index, plan, model_id, &digests);
        let mut publication = Publication {
            wanted_id: &plan.model_id(),
            metadata: &|model_id| plan.metadata(model_id, &digests).unwrap_or_default(),
            overrides: &plan.source.overrides,
            announce: &mut announce,
            require_new: &|| service.require_new(plan, &digests),
        };
        service.publisher.publish(&staging_id, &mut publication)?;
        self.progress.report("indexing");
        service.finish(&staging_id, &self.item)
    }

    /// Keep in the checkpoint what the item will have become once it is renamed.
    fn announce(
        &mut self,
        index: usize,
        plan: &ImportPlan,
        model_id: &str,
        digests: &HashMap<String, Digests>,
    ) -> Result<()> {
        self.work.check()?;
        let removable = if plan.request.mode == Mode::Move {
            removable(plan)?
        } else {
            Vec::new()
        };
        self.save(Item {
            index: Some(index),
            staged: HashMap::new(),
            result: Some(self.success(plan, model_id, differing_from_carried(plan, digests))),
            digests: Some(
                digests
                    .iter()
                    .map(|(name, found)| (name.clone(), found.sha256.clone()))
                    .collect(),
            ),
            remove: Some(removable),
        })
    }

    fn stage_one(
        &mut self,
        index: usize,
        plan: &ImportPlan,
        folder: &Path,
        file: &SourceFile,
        kept: &HashMap<String, Digests>,
    ) -> Result<Digests> {
        let target = contained(folder, &file.name, "file name")?;
        if let Some(digests) = kept.get(&file.name)
            && size_of(folder, &file.name) == Some(file.stamp.size)
        {
            self.progress.advance(file.stamp.size)?;
            return Ok(digests.clone());
        }
        clear_way(&target).during(&format!("Staging {}", file.original_name))?;
        let advance = &mut |count| self.progress.advance(count);
        let digests = stage_file(&file.path, &target, plan.request.mode, file.stamp, advance)?;
        if file.stamp.size >= KEEP_STAGED_FROM {
            self.keep_staged(index, file, &digests)?;
        }
        Ok(digests)
    }

    fn success(&self, plan: &ImportPlan, model_id: &str, warnings: Vec<String>) -> ItemResult {
        let request = &plan.request;
        let short = request.dry_run && plan.new_bytes > plan.free_bytes;
        let no_space = short.then(|| "There is not enough disk space.".to_owned());
        let identity = plan.identity.notes.iter().cloned();
        ItemResult {
            path: request.path.clone(),
            success: true,
            model_id: Some(model_id.to_owned()),
            model_path: Some(text(&self.service.layout.library().join(model_id))),
            security_tier: Some(plan.security_tier.to_string()),
            size: plan.source.size(),
            dry_run: request.dry_run,
            files: plan.source.weights().map(|file| kept(&file.path)).collect(),
            skipped: skipped(plan),
            security_findings: plan.security_findings.clone(),
            warnings: identity.chain(warnings).chain(no_space).collect(),
            ..ItemResult::default()
        }
    }

    fn staging_id(&self, index: usize) -> String {
        format!("{}.{index}", self.work.job_id())
    }

    fn save(&mut self, item: Item) -> Result<()> {
        let state = json!({"results": self.results, "item": item});
        self.item = item;
        self.work.save_checkpoint(object(state))
    }

    fn keep_result(&mut self, result: ItemResult) -> Result<()> {
        self.results.push(result);
        self.save(Item::default())
    }

    fn keep_staged(&mut self, index: usize, file: &SourceFile, digests: &Digests) -> Result<()> {
        let mut staged = if self.item.index == Some(index) {
            self.item.staged.clone()
        } else {
            HashMap::new()
        };
        staged.insert(
            file.name.clone(),
            Staged {
                source: file.stamp,
                digests: digests.clone(),
            },
        );
        self.save(Item {
            index: Some(index),
            staged,
            ..Item::default()
        })
    }

    /// Files that an earlier run of this job staged whole, from sources that have not changed since.
    fn staged_before(&self, index: usize, plan: &ImportPlan) -> HashMap<String, Digests> {
        if self.item.index != Some(index) {
            return HashMap::new();
        }
        let same = |file: &SourceFile| {
            let staged = self
                .item
                .staged
                .get(&file.name)
                .filter(|staged| staged.source == file.stamp)?;
            Some((file.name.clone(), staged.digests.clone()))
        };
        plan.source.files.iter().filter_map(same).collect()
    }
}

/// A path as a checkpoint can keep it, which holds UTF-8 only: the name of a file may be any bytes.
///
/// All but letters, digits and `/_.-~` is written as in addresses (RFC 3986).
fn kept(path: &Path) -> String {
    let mut kept = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'_' | b'.' | b'-' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                kept.push(char::from(*byte));
            }
            _ => kept.push_str(&escaped(*byte)),
        }
    }
    kept
}

fn escaped(byte: u8) -> String {
    format!("%{byte:02X}")
}

/// The path that was [`kept`].
fn path_of(kept: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(kept.len());
    let mut rest = kept.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Remove what a killed run left at `target`, and make its folder.
fn clear_way(target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(target.parent().unwrap_or(target))
}

fn failure(request: &ImportRequest, plan: Option<&ImportPlan>, error: &Error) -> ItemResult {
    ItemResult {
        path: request.path.clone(),
        success: false,
        security_tier: plan.map(|plan| plan.security_tier.to_string()),
        error: Some(error.to_string()),
        error_code: Some(error.kind().to_owned()),
        duplicate_of: match error {
            Error::DuplicateModel { model_id } => Some(model_id.clone()),
            _ => None,
        },
        size: plan.map_or(0, |plan| plan.source.size()),
        dry_run: request.dry_run,
        skipped: plan.map(skipped).unwrap_or_default(),
        security_findings: plan
            .map(|plan| plan.security_findings.clone())
            .unwrap_or_default(),
        warnings: plan.map(|plan| plan.identity.notes.clone()).unwrap_or_default(),
        ..ItemResult::default()
    }
}

fn skipped(plan: &ImportPlan) -> Vec<Value> {
    plan.source
        .skipped
        .iter()
        .map(|Skipped { path, reason }| json!({"path": path, "reason": reason}))
        .collect()
}

/// Files whose digest in the library they came from is another: damaged there, or changed by hand.
fn differing_from_carried(plan: &ImportPlan, digests: &HashMap<String, Digests>) -> Vec<String> {
    let entries = file_entries(&plan.source.metadata);
    let said: HashMap<&str, &str> = entries
        .iter()
        .filter(|entry| !entry.sha256.is_empty())
        .map(|entry| (entry.name.as_str(), entry.sha256.as_str()))
        .collect();
    let differs = |file: &&SourceFile| {
        let found = digests.get(&file.name).map(|digests| digests.sha256.as_str());
        said.get(file.original_name.as_str())
            .is_some_and(|said| Some(*said) != found)
    };
    let sentence = |file: &SourceFile| {
        let name = &file.original_name;
        format!("{name}: its old metadata has another SHA-256; it was changed or damaged before this import")
    };
    plan.source.files.iter().filter(differs).map(sentence).collect()
}

/// The names that the user gave, then their folders from the inside; what links lead to is not ours to remove.
///
/// The primary file goes last and the other weights first: what a kill leaves behind is then still recognised as the model
/// that the library has, and not taken for another one.
fn removable(plan: &ImportPlan) -> Result<Vec<Removal>> {
    let (root, primary) = (&plan.source.path, &plan.source.primary()?.name);
    let mut ordered: Vec<&SourceFile> = plan.source.files.iter().collect();
    ordered.sort_by_key(|file| (file.name == *primary, file.format.is_none()));
    let mut removals: Vec<Removal> = ordered
        .iter()
        .map(|file| Removal::File {
            path: kept(&file.found),
            stamp: file.stamp,
        })
        .collect();
    if root.is_dir() {
        let above = ordered.iter().flat_map(|file| file.found.ancestors().skip(1));
        let folders: BTreeSet<&Path> = above.filter(|folder| folder.starts_with(root)).collect();
        let mut inner_first: Vec<&Path> = folders.into_iter().collect();
        inner_first.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        removals.extend(
            inner_first
                .into_iter()
                .map(|folder| Removal::Folder { folder: kept(folder) }),
        );
    }
    Ok(removals)
}

/// Remove imported files that are unchanged, and folders that are empty then; answers what was kept and why.
fn remove_sources(removals: &[Removal]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut touched = BTreeSet::new();
    for removal in removals {
        let (path, stamp) = match removal {
            Removal::Folder { folder } => {
                let _ = fs::remove_dir(path_of(folder));
                continue;
            }
            Removal::File { path, stamp } => (path_of(path), stamp),
        };
        let name = display_name(path.file_name().unwrap_or_default());
        match path.metadata().map(|facts| Stamp::of(&facts) == *stamp) {
            Ok(false) => kept.push(format!("{name} was kept: it changed after it was imported")),
            Ok(true) => match fs::remove_file(&path) {
                Ok(()) => touched.extend(path.parent().map(Path::to_path_buf)),
                Err(error) => kept.push(format!("{name} was kept: {}", reason(&error))),
            },
            // Removed before a kill.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => kept.push(format!("{name} was kept: {}", reason(&error))),
        }
    }
    for folder in touched {
        if let Err(error) = fsync_folder(&folder) {
            tracing::debug!("a folder that files were moved from was not synced: {error}");
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn paths_of_any_bytes_are_kept() {
        assert_eq!(kept(Path::new("/a b/é%.gguf")), "/a%20b/%C3%A9%25.gguf");
        for bytes in [&b"/a b/\xff%41.gguf"[..], b"~/x-y_z.1", b"%", b"%zz"] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(path_of(&kept(path)), path);
        }
        assert_eq!(path_of("%4"), Path::new("%4"));
    }
}
