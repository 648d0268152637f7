//! The files of shortcuts: made, looked for and removed, in the menu and on the desktop.
//!
//! `ComfyUI-<slug>.desktop` starts one version, `ComfyUI.desktop` the active one. An entry that belongs to another launcher
//! root, or that somebody else made under such a name, is neither replaced nor removed. Blocks.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::entry::{Entry, ROOT_KEY, unfit, value_of};
use super::{folders, icons};
use crate::apps::{DEFAULT_APP, child_environment};
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::storage::files::{
    During as _, FOLDER_MODE, exists, fsync_folder, make_folders, reason, write_durably,
};
use crate::system::dependencies::find_program;

const BASE_ICON: &str = "comfyui";
const LARGEST_ENTRY: u64 = 64 * 1024;
/// An entry is a program: some desktops start nothing else.
const ENTRY_MODE: u32 = 0o755;
/// The argument after which our own program starts an app, with the root, the app and maybe a tag behind it.
pub(crate) const START_APP: &str = "start-app";

/// Where an entry can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Menu,
    Desktop,
}

/// Whether there is an entry of ours in the menu, and on the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) menu: bool,
    pub(super) desktop: bool,
}

/// The shortcuts of one launcher root. A tag of None means the shortcut that starts the active version.
pub(super) struct Shortcuts {
    layout: Arc<Layout>,
}

impl Shortcuts {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self { layout }
    }

    pub(super) fn state(&self, tag: Option<&str>) -> State {
        let has = |place| path_of(place, tag).is_some_and(|path| self.is_ours(&path));
        State {
            menu: has(Place::Menu),
            desktop: has(Place::Desktop),
        }
    }

    /// Make or renew entries, and the icon that they show.
    ///
    /// # Errors
    /// `Unsupported`: not on this system, or the user has no desktop folder. `AlreadyExists`: somebody else's entry has
    /// that name. `InvalidInput`: the launcher lies where no entry can name it. What the disk refuses.
    pub(super) fn create(&self, tag: Option<&str>, places: &[Place]) -> Result<()> {
        if cfg!(not(target_os = "linux")) {
            let text = "Shortcuts can only be made on Linux desktops.";
            return Err(Error::Unsupported(text.to_owned()));
        }
        let mut paths = Vec::new();
        for place in places {
            let path = path_of(*place, tag).ok_or_else(|| {
                let text = "There is no desktop folder: the settings of this desktop switch it off.";
                Error::Unsupported(text.to_owned())
            })?;
            paths.push((*place, path));
        }
        for (_, path) in &paths {
            if exists(path) && !self.is_ours(path) {
                let name = |path: Option<&Path>| {
                    let name = path.and_then(Path::file_name).unwrap_or_default();
                    name.to_string_lossy().into_owned()
                };
                return Err(Error::AlreadyExists(format!(
                    "{} in {} is not of this launcher; it was left alone.",
                    name(Some(path)),
                    name(path.parent())
                )));
            }
        }
        let text = self.entry(tag)?.text()?;
        self.install_icon(tag)?;
        for (place, path) in &paths {
            write_entry(path, text.as_bytes()).during("Writing the shortcut")?;
            if *place == Place::Desktop {
                trust(path);
            }
        }
        Ok(())
    }

    /// How many entries went; with the last one goes the icon, and what older sidecars made for it.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(super) fn remove(&self, tag: Option<&str>, places: &[Place]) -> Result<usize> {
        let mut removed = 0;
        for path in places.iter().filter_map(|place| path_of(*place, tag)) {
            if self.is_ours(&path) {
                remove_entry(&path).during("Removing the shortcut")?;
                removed += 1;
            }
        }
        let Some(tag) = tag.filter(|_| removed > 0) else {
            return Ok(removed);
        };
        let left = self.state(Some(tag));
        if !left.menu && !left.desktop {
            icons::remove(&folders::find().icons, &icon(Some(tag)))?;
            for path in self.older(tag) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(removed)
    }

    /// Put the icon into the user's theme.
    ///
    /// # Errors
    /// What the disk refuses.
    pub(super) fn install_icon(&self, tag: Option<&str>) -> Result<()> {
        let picture = self.layout.data().join("icons/comfyui_logo_2025.png");
        icons::write(
            &folders::find().icons,
            &icon(tag),
            tag.unwrap_or_default(),
            &picture,
        )
    }

    fn entry(&self, tag: Option<&str>) -> Result<Entry> {
        let root = self.layout.root().to_str().ok_or_else(unfit)?.to_owned();
        let program = std::env::current_exe().map_err(|error| {
            Error::LaunchFailed(format!("This program cannot be found: {}.", reason(&error)))
        })?;
        let program = program.to_str().ok_or_else(unfit)?.to_owned();
        let mut command = vec![
            program,
            START_APP.to_owned(),
            root.clone(),
            DEFAULT_APP.to_owned(),
        ];
        command.extend(tag.map(str::to_owned));
        Ok(Entry {
            name: tag.map_or_else(|| "ComfyUI".to_owned(), |tag| format!("ComfyUI {tag}")),
            comment: "Start it and open its page",
            command,
            icon: icon(tag),
            root,
        })
    }

    /// By the mark; older sidecars left none, and named a script below the root instead.
    fn is_ours(&self, path: &Path) -> bool {
        let Some(text) = read(path) else {
            return false;
        };
        if let Some(mark) = value_of(&text, ROOT_KEY) {
            return self.layout.root() == Path::new(&mark);
        }
        let data = format!("{}/", self.layout.data().display());
        value_of(&text, "Exec").is_some_and(|command| command.contains(&data))
    }

    fn older(&self, tag: &str) -> Vec<PathBuf> {
        let (name, data) = (slug(tag), self.layout.data());
        let in_folder = |folder: &str, name: String| data.join(folder).join(name);
        vec![
            in_folder("shortcuts", format!("launch-{name}.sh")),
            in_folder("shortcut-scripts", format!("launch-{name}.sh")),
            in_folder("icons", format!("comfyui-{name}.png")),
            in_folder("generated-icons", format!("comfyui-{name}.png")),
        ]
    }
}

/// None where the user has no such folder.
fn path_of(place: Place, tag: Option<&str>) -> Option<PathBuf> {
    let found = folders::find();
    let folder = match place {
        Place::Menu => found.menu,
        Place::Desktop => found.desktop?,
    };
    let name = tag.map_or_else(
        || "ComfyUI.desktop".to_owned(),
        |tag| format!("ComfyUI-{}.desktop", slug(tag)),
    );
    Some(folder.join(name))
}

/// The text of a regular file, links not followed.
fn read(path: &Path) -> Option<String> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut data = Vec::new();
    file.take(LARGEST_ENTRY).read_to_end(&mut data).ok()?;
    Some(String::from_utf8_lossy(&data).into_owned())
}

fn write_entry(path: &Path, data: &[u8]) -> io::Result<()> {
    make_folders(path.parent().unwrap_or(path), FOLDER_MODE)?;
    if path.is_symlink() {
        // It would otherwise lend its target's rights to the new file.
        fs::remove_file(path)?;
    }
    write_durably(path, data, ENTRY_MODE)?;
    fs::set_permissions(path, Permissions::from_mode(ENTRY_MODE))
}

fn remove_entry(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fsync_folder(path.parent().unwrap_or(path))
}

fn slug(tag: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = tag.to_lowercase().chars().map(plain).collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}

fn icon(tag: Option<&str>) -> String {
    tag.map_or_else(
        || BASE_ICON.to_owned(),
        |tag| format!("{BASE_ICON}-{}", slug(tag)),
    )
}

/// Some desktops start entries on the desktop only when the user trusts them, and keep that as metadata.
fn trust(path: &Path) {
    let Some(program) = std::env::var_os("PATH").and_then(|paths| find_program("gio", &paths)) else {
        return;
    };
    let _ = Command::new(program)
        .arg("set")
        .arg(path)
        .args(["metadata::trusted", "true"])
        .env_clear()
        .envs(child_environment::<OsString, OsString>([]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
