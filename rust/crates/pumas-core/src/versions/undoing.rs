//! Which version is used, the way back to what was used before, and the trash. Blocks.
//!
//! Each change is one rename and one change of the list; when the list cannot be written the rename is taken back. What a
//! kill leaves between the two is finished by `recovering`.

use serde_json::{Value, json};

use super::known::OneApp;
use super::places::{Removed, is_id};
use super::placing::entry;
use super::state::VersionState;
use crate::apps::is_complete;
use crate::error::{Error, Result};
use crate::storage::clock;
use crate::storage::files::random_hex;
use crate::storage::json_file::JsonObject;

const REPLACED_KEPT: usize = 2;

/// Make a version active; its tag.
///
/// # Errors
/// `VersionNotFound`, `InvalidInput`, `CorruptState`, and the disk's failures; nothing was changed.
pub(super) fn switch(one: &OneApp, tag: &str) -> Result<String> {
    let _held = one.state.held();
    let (wanted, former) = (one.state.get(tag)?.tag, one.state.active()?);
    let past = former
        .filter(|former| *former != wanted)
        .map(|former| entry(&json!({"kind": "switched", "tag": former, "at": clock::now()})));
    one.state.switch(&wanted, past, &[])?;
    Ok(wanted)
}

/// Take the newest of the history back; the tag that is active then.
///
/// # Errors
/// `NothingToRollBack`, `Busy`, `CorruptState`, and the disk's failures; nothing was changed.
pub(super) fn roll_back(one: &OneApp, runs: impl Fn(&str, &str) -> bool) -> Result<String> {
    let _held = one.state.held();
    one.state.require_trusted()?;
    let mut passed = Vec::new();
    for past in one.state.history()?.into_iter().rev() {
        passed.push(past.clone());
        if is_kind(&past, "replaced")
            && let Some(removed) = former_build(one, &past)?
        {
            swap_back(one, &removed, &passed, runs)?;
            return Ok(removed.tag);
        }
        if is_kind(&past, "switched")
            && let Some(tag) = former_choice(one, &past)
        {
            one.state.switch(&tag, None, &passed)?;
            return Ok(tag);
        }
    }
    if !passed.is_empty() {
        one.state.forget(&passed)?;
    }
    Err(Error::NothingToRollBack(one.app.name.clone()))
}

pub(super) fn is_kind(past: &JsonObject, kind: &str) -> bool {
    text(past, "kind") == kind
}

/// A text of an entry of the history; "" when it has none.
pub(super) fn text<'a>(past: &'a JsonObject, key: &str) -> &'a str {
    past.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The build that an entry of the history would bring back; None when there is none, or it is back already.
fn former_build(one: &OneApp, past: &JsonObject) -> Result<Option<Removed>> {
    let Some(removed) = one.places.find(text(past, "trash_id"))? else {
        return Ok(None);
    };
    let is_there = one.state.place(&removed.tag).is_ok_and(|place| place.exists());
    let usable = is_there && !is_back(one, &removed) && is_complete(&one.app, &one.places.content(&removed));
    Ok(usable.then_some(removed))
}

/// Whether what lies in the trash is the build that once took the place of another: then they changed places.
pub(super) fn is_back(one: &OneApp, removed: &Removed) -> bool {
    let built = one.state.built_by(&one.places.content(removed));
    built.is_some_and(|(tag, job_id)| removed.id == replaced_id(&tag, &job_id))
}

/// Under which the build that an installation replaced lies in the trash.
pub(super) fn replaced_id(tag: &str, job_id: &str) -> String {
    format!("{tag}-{job_id}")
}

/// What the list shall hold about a version that comes back to `place`.
pub(super) fn info_of(removed: &Removed, place: &std::path::Path) -> JsonObject {
    if removed.info.is_empty() {
        VersionState::marker(place)
    } else {
        removed.info.clone()
    }
}

fn swap_back(
    one: &OneApp,
    removed: &Removed,
    passed: &[JsonObject],
    runs: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    if runs(&one.app.id, &removed.tag) {
        let text = format!("{} {} runs now; stop it first.", one.app.name, removed.tag);
        return Err(Error::Busy(text));
    }
    let place = one.state.place(&removed.tag)?;
    one.places.swap_in(removed, &place)?;
    let listed = one.state.put_back(&removed.tag, info_of(removed, &place), passed);
    listed.inspect_err(|_| {
        let _ = one.places.swap_in(removed, &place);
    })
}

fn former_choice(one: &OneApp, past: &JsonObject) -> Option<String> {
    let tag = one.state.get(text(past, "tag")).ok()?.tag;
    (one.state.active().ok()?.as_ref() != Some(&tag)).then_some(tag)
}

/// Move a version to the trash, whole or not. `last`: also the active one, when no other is installed.
///
/// # Errors
/// `VersionNotFound`, `VersionInUse`, `CorruptState`, and the disk's failures; nothing was changed.
pub(super) fn remove(
    one: &OneApp,
    tag: &str,
    last: bool,
    runs: impl Fn(&str, &str) -> bool,
) -> Result<Removed> {
    let _held = one.state.held();
    one.state.require_trusted()?;
    let version = one.state.get_listed(tag)?;
    let named = format!("{} {}", one.app.name, version.tag);
    let now = one.now();
    let is_installed =
        now.job_id.is_some() && now.progress.is_some_and(|progress| progress.tag() == version.tag);
    if is_installed {
        return Err(Error::VersionInUse(format!("{named} is being installed.")));
    }
    if one.state.active()?.as_ref() == Some(&version.tag) {
        if one.state.installed()?.len() > 1 {
            let text = format!("{named} is active; switch to another version first.");
            return Err(Error::VersionInUse(text));
        }
        if !last {
            let text = "is active, and no other version is installed; pass last to remove it all the same.";
            return Err(Error::VersionInUse(format!("{named} {text}")));
        }
    }
    if runs(&one.app.id, &version.tag) {
        let text = format!("{named} runs or is being changed now; stop it, or wait a moment.");
        return Err(Error::VersionInUse(text));
    }
    let trash_id = format!("{}-{}", version.tag, random_hex(4));
    let removed = one
        .places
        .remove(&version.folder, &trash_id, &version.tag, "removed", version.info)?;
    if let Err(error) = one.state.unlist(&version.tag) {
        let _ = one
            .places
            .take_out(&removed, &version.folder)
            .and_then(|()| one.places.forget(&removed));
        return Err(error);
    }
    Ok(removed)
}

/// Put a version from the trash back; its tag.
///
/// # Errors
/// `TrashEntryNotFound`, `AlreadyExists`, `CorruptState`, and the disk's failures; nothing was changed.
pub(super) fn restore(one: &OneApp, trash_id: &str) -> Result<String> {
    let _held = one.state.held();
    let removed = in_trash(one, trash_id)?;
    one.state.require_trusted()?;
    let place = one.state.place(&removed.tag)?;
    if place.exists() {
        let text = format!("{} {} is installed; remove it first.", one.app.name, removed.tag);
        return Err(Error::AlreadyExists(text));
    }
    // A build that was taken back lies where the former one lay, with what was noted of that.
    let mut info = removed.info.clone();
    info.extend(VersionState::marker(&one.places.content(&removed)));
    one.places.take_out(&removed, &place)?;
    if let Err(error) = one.state.add(&removed.tag, info, Vec::new(), false) {
        let _ = one.places.take_back(&removed, &place);
        return Err(error);
    }
    // What cannot be forgotten now is at the next start.
    let _ = one.places.forget(&removed);
    Ok(removed.tag)
}

fn in_trash(one: &OneApp, trash_id: &str) -> Result<Removed> {
    let found = if is_id(trash_id) {
        one.places.find(trash_id)?
    } else {
        None
    };
    found.ok_or_else(|| Error::TrashEntryNotFound {
        trash_id: trash_id.to_owned(),
        listing: "list_removed_versions",
    })
}

/// Remove an entry of the trash for good; its tag, when nothing of that is left anywhere.
///
/// # Errors
/// `TrashEntryNotFound`, and the disk's failures.
pub(super) fn purge(one: &OneApp, trash_id: &str) -> Result<Option<String>> {
    let removed = in_trash(one, trash_id)?;
    one.places.forget(&removed)?;
    let is_left = one.state.place(&removed.tag)?.exists()
        || one.places.trash()?.iter().any(|other| other.tag == removed.tag);
    Ok((!is_left).then_some(removed.tag))
}

/// Former builds of a tag are kept for a rollback or two, not for ever.
pub(super) fn prune_replaced(one: &OneApp) {
    let replaced = one.places.trash().unwrap_or_default().into_iter();
    for old in replaced
        .filter(|removed| removed.reason == "replaced")
        .skip(REPLACED_KEPT)
    {
        let _ = one.places.forget(&old);
    }
}
