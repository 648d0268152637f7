//! The requests of one job, one after the other, each to its result; and the checkpoint from which a killed or stopped job
//! goes on.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::kept_paths::kept;
use super::moving::{Removal, removable, remove_sources};
use super::results::{ItemResult, differing_from_carried, failure, success};
use super::{ImportService, Work, object};
use crate::error::{Error, Result};
use crate::library::copying::{Mode, stage_file};
use crate::library::formats::detect::SecurityTier;
use crate::library::hashing::{Digests, Stamp, digest_file};
use crate::library::import_plan::{ImportPlan, ImportRequest};
use crate::library::import_source::SourceFile;
use crate::library::publishing::{Publication, size_of};
use crate::storage::files::During as _;
use crate::storage::paths::contained;

/// A file at least this large is worth a checkpoint of its own, so that a resumed import does not copy it again.
const KEEP_STAGED_FROM: u64 = 64 * 1024 * 1024;

/// The requests of one job, in order.
pub(super) struct Batch<'a> {
    service: &'a ImportService,
    work: &'a dyn Work,
    requests: Vec<ImportRequest>,
    results: Vec<ItemResult>,
    item: Item,
    progress: Progress<'a>,
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
    pub(super) fn new(
        service: &'a ImportService,
        work: &'a dyn Work,
        requests: Vec<ImportRequest>,
    ) -> Result<Self> {
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

    pub(super) fn run(mut self) -> Result<Vec<ItemResult>> {
        if let (Some(index), Some(_)) = (self.item.index, &self.item.result)
            && let Some(finished) = self.finish_killed(index)?
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
            return Ok(success(
                plan,
                &self.service.layout.library(),
                &plan.model_id(),
                Vec::new(),
            ));
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
        self.finish(index)
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
            result: Some(success(
                plan,
                &self.service.layout.library(),
                model_id,
                differing_from_carried(plan, digests),
            )),
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
        let digests = stage_file(
            &file.path,
            &target,
            plan.request.mode_of(file),
            file.stamp,
            advance,
        )?;
        if file.stamp.size >= KEEP_STAGED_FROM {
            self.keep_staged(index, file, &digests)?;
        }
        Ok(digests)
    }

    /// What follows a publication; may be done again after a kill. Answers the item's result.
    fn finish(&self, index: usize) -> Result<ItemResult> {
        let mut result = self
            .item
            .result
            .clone()
            .ok_or_else(|| Error::Bug("an item was not announced".to_owned()))?;
        result
            .warnings
            .extend(remove_sources(self.item.remove.as_deref().unwrap_or_default()));
        self.service.staging.discard(&self.staging_id(index));
        Ok(result)
    }

    /// The result of an item that a killed process had published.
    fn finish_killed(&self, index: usize) -> Result<Option<ItemResult>> {
        let model_id = self
            .item
            .result
            .as_ref()
            .and_then(|result| result.model_id.as_deref())
            .unwrap_or_default();
        let digests = self.item.digests.clone().unwrap_or_default();
        let staging_id = self.staging_id(index);
        if !self
            .service
            .publisher
            .finish_killed(&staging_id, model_id, &digests)
        {
            return Ok(None);
        }
        self.finish(index).map(Some)
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

/// Remove what a killed run left at `target`, and make its folder.
fn clear_way(target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(target.parent().unwrap_or(target))
}
