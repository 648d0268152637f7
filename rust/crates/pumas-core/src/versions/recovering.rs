//! What a start does about changes that a kill cut short: each is finished or undone, and nobody's files are touched.
//!
//! Folders that are ours by name or by the marker inside say what happened: no journal has to be right. What is thrown away
//! is only put out of sight here, and removed by whoever calls `Places::tidy`. Blocks.

use std::collections::{HashMap, HashSet};

use super::known::OneApp;
use super::placing::Placing;
use super::state::VersionState;
use super::undoing::{info_of, is_back, is_kind, text};
use crate::error::Result;
use crate::storage::json_file::JsonObject;

/// `kept` are the ids of installations that may go on, and do the same themselves.
///
/// # Errors
/// `CorruptState`: the list cannot be read; nothing was changed. And the disk's failures.
pub(super) fn recover(one: &OneApp, kept: &HashSet<String>) -> Result<()> {
    one.state.require_trusted()?;
    settle_builds(one, kept)?;
    finish_restores_and_removals(one)?;
    finish_rollbacks(one)?;
    list_what_we_built(one, kept)
}

/// A build that took its place is listed, and the former one goes to the trash; any other is thrown away.
fn settle_builds(one: &OneApp, kept: &HashSet<String>) -> Result<()> {
    let built = |tag: String| {
        let (tag, job_id) = one.state.built_by(&one.state.place(&tag).ok()?)?;
        Some((job_id, tag))
    };
    let placed: HashMap<String, String> = one.state.folders()?.into_iter().filter_map(built).collect();
    for job_id in one.places.leftovers()?.difference(kept) {
        match placed.get(job_id) {
            None => one.places.discard(job_id, false),
            Some(tag) => Placing {
                state: &one.state,
                places: &one.places,
                tag,
                job_id,
            }
            .settle(&JsonObject::new(), false)?,
        }
    }
    Ok(())
}

fn finish_restores_and_removals(one: &OneApp) -> Result<()> {
    let listed = one.state.listed()?;
    for half in one.places.half_done()? {
        if !listed.contains(&half.tag) && one.state.is_whole(&half.tag) {
            // It was being restored.
            let mut info = half.info.clone();
            info.extend(VersionState::marker(&one.state.place(&half.tag)?));
            one.state.add(&half.tag, info, Vec::new(), false)?;
        }
        one.places.forget(&half)?;
    }
    let trash = one.places.trash()?;
    let is_gone = |tag: &String| trash.iter().any(|one| one.reason == "removed" && one.tag == *tag);
    for tag in one
        .state
        .validate(None)?
        .missing
        .iter()
        .filter(|tag| is_gone(tag))
    {
        one.state.unlist(tag)?;
    }
    Ok(())
}

/// The former build is back in its place, and the history still offers it.
fn finish_rollbacks(one: &OneApp) -> Result<()> {
    for past in one.state.history()? {
        let removed = if is_kind(&past, "replaced") {
            one.places.find(text(&past, "trash_id"))?
        } else {
            None
        };
        if let Some(removed) = removed.filter(|removed| is_back(one, removed)) {
            let info = info_of(&removed, &one.state.place(&removed.tag)?);
            one.state.put_back(&removed.tag, info, &[past])?;
        }
    }
    Ok(())
}

/// Whole folders that we built, in their place, and not listed.
fn list_what_we_built(one: &OneApp, kept: &HashSet<String>) -> Result<()> {
    let listed = one.state.listed()?;
    let mut tags = one.state.folders()?;
    tags.retain(|tag| !listed.contains(tag));
    tags.sort();
    for tag in tags {
        let place = one.state.folder.join(&tag);
        let built = one.state.built_by(&place);
        if built.is_some_and(|(name, job_id)| name == tag && !kept.contains(&job_id))
            && one.state.is_whole(&tag)
        {
            one.state
                .add(&tag, VersionState::marker(&place), Vec::new(), false)?;
        }
    }
    Ok(())
}
