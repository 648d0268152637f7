//! The symbolic links that an app's description wants in a version's folder, such as one to what versions share.
//!
//! Made once when a version is built (`make`), and put right before it is started (`mend`). Blocks.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::places::remove_tree;
use crate::apps::{SetupLink, fill, shared_of};
use crate::error::Result;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};

/// Make it in `tree`, which will lie at `place`. What the release brought for use inside itself stays.
///
/// # Errors
/// The disk's failures.
pub(super) fn make(
    link: &SetupLink,
    tree: &Path,
    place: &Path,
    root: &Path,
    came_with_release: bool,
) -> Result<()> {
    let (path, target) = (tree.join(&link.name), target(link, place, root));
    let inside = target.strip_prefix(place);
    if came_with_release && inside.is_ok() {
        return Ok(());
    }
    let during = "Preparing the version";
    if link.make {
        make_folders(&target, FOLDER_MODE).during(during)?;
    }
    if inside.is_ok_and(|inside| !tree.join(inside).exists()) {
        return Ok(());
    }
    if path.is_symlink() || path.is_file() {
        fs::remove_file(&path).during(during)?;
    } else if path.exists() {
        // What the release or the try made there; the shared folder takes its place.
        remove_tree(&path);
    }
    linked(&path, &target, &place.join(&link.name)).during(during)
}

/// Make it where nothing is, or where a link leads nowhere. What is there and works stays, whoever made it.
///
/// # Errors
/// The disk's failures.
pub(super) fn mend(link: &SetupLink, place: &Path, root: &Path) -> Result<()> {
    let (path, target) = (place.join(&link.name), target(link, place, root));
    if path.exists() {
        return Ok(());
    }
    let during = format!("Preparing {}", link.name);
    if link.make {
        make_folders(&target, FOLDER_MODE).during(&during)?;
    }
    if path.is_symlink() {
        fs::remove_file(&path).during(&during)?;
    }
    if target.exists() {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).during(&during)?;
        }
        linked(&path, &target, &path).during(&during)?;
    }
    Ok(())
}

fn target(link: &SetupLink, place: &Path, root: &Path) -> PathBuf {
    let value = |name: &str| match name {
        "folder" => place.to_string_lossy().into_owned(),
        _ => shared_of(root).to_string_lossy().into_owned(),
    };
    PathBuf::from(fill(&link.target, &value))
}

/// `last` is where `path` will lie: from there the link is relative.
fn linked(path: &Path, target: &Path, last: &Path) -> std::io::Result<()> {
    let from = last.parent().unwrap_or(last);
    std::os::unix::fs::symlink(relative(target, from), path)
}

/// The way from a folder to a target; both absolute and without `..`.
fn relative(target: &Path, from: &Path) -> PathBuf {
    let (to, from): (Vec<Component>, Vec<Component>) =
        (target.components().collect(), from.components().collect());
    let common = to
        .iter()
        .zip(&from)
        .take_while(|(one, other)| one == other)
        .count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    up.chain(to[common..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        assert_eq!(
            relative(Path::new("/r/shared/user"), Path::new("/r/app/v1")),
            Path::new("../../shared/user")
        );
        assert_eq!(
            relative(Path::new("/r/a/bin/x"), Path::new("/r/a")),
            Path::new("bin/x")
        );
    }

    #[test]
    fn what_works_stays_and_what_leads_nowhere_is_mended() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("app/v1");
        fs::create_dir_all(&place).unwrap();
        let link = SetupLink {
            name: "user".to_owned(),
            target: "{shared}/user".to_owned(),
            make: true,
        };
        std::os::unix::fs::symlink("nowhere", place.join("user")).unwrap();
        mend(&link, &place, root.path()).unwrap();
        assert_eq!(
            fs::read_link(place.join("user")).unwrap(),
            Path::new("../../shared-resources/user")
        );
        fs::remove_file(place.join("user")).unwrap();
        fs::create_dir(place.join("user")).unwrap();
        mend(&link, &place, root.path()).unwrap();
        assert!(!place.join("user").is_symlink());
        make(&link, &place, &place, root.path(), true).unwrap();
        assert!(place.join("user").is_symlink());
    }
}
