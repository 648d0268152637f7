//! The desktop as its callers see it. Which versions there are it learns from [`Installed`]; shortcuts are those of
//! `ComfyUI`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::opening;
use super::shortcuts::{Place, Shortcuts};
use crate::apps::DEFAULT_APP;
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::Result;
use crate::installed::Installed;
use crate::storage::paths::path_below;
use crate::versions::check_tag;

const NAME: &str = "ComfyUI";
/// Set by those who want no page to be opened.
const SKIP_VARIABLE: &str = "SKIP_BROWSER";

/// Which shortcuts a version has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShortcutState {
    /// The version.
    pub tag: String,
    /// One in the menu.
    pub menu: bool,
    /// One on the desktop.
    pub desktop: bool,
}

/// Which of the two are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The one in the menu.
    pub menu: bool,
    /// The one on the desktop.
    pub desktop: bool,
}

impl Chosen {
    /// Both.
    pub const BOTH: Self = Self {
        menu: true,
        desktop: true,
    };
    /// Only the one in the menu.
    pub const MENU: Self = Self {
        menu: true,
        desktop: false,
    };
    /// Only the one on the desktop.
    pub const DESKTOP: Self = Self {
        menu: false,
        desktop: true,
    };

    fn places(self) -> Vec<Place> {
        let all = [(self.menu, Place::Menu), (self.desktop, Place::Desktop)];
        all.into_iter()
            .filter_map(|(chosen, place)| chosen.then_some(place))
            .collect()
    }
}

struct Shared {
    layout: Arc<Layout>,
    installed: Arc<dyn Installed>,
    shortcuts: Shortcuts,
    changing: tokio::sync::Mutex<()>,
    changes: AtomicU64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct DesktopService {
    shared: Arc<Shared>,
}

impl DesktopService {
    /// Looks at nothing yet.
    #[must_use]
    pub fn new(layout: &Arc<Layout>, installed: Arc<dyn Installed>) -> Self {
        let shared = Shared {
            layout: Arc::clone(layout),
            installed,
            shortcuts: Shortcuts::new(Arc::clone(layout)),
            changing: tokio::sync::Mutex::default(),
            changes: AtomicU64::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    async fn in_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(move || work(&shared)).await
    }

    /// How often shortcuts of versions may have been changed: what was read before is old when it has grown.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    // -- shortcuts of versions ---------------------------------------------------------------------------------------

    /// Of any version, installed or not.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub async fn state(&self, tag: String) -> Result<ShortcutState> {
        self.in_thread(move |shared| state(shared, check_tag(&tag)?))
            .await
    }

    /// The active version, and the shortcuts of all that are installed.
    ///
    /// # Errors
    /// What the disk refuses.
    pub async fn states(&self) -> Result<(Option<String>, Vec<ShortcutState>)> {
        self.in_thread(|shared| {
            let active = shared.installed.active(DEFAULT_APP)?;
            let versions = shared.installed.installed(DEFAULT_APP)?;
            let states = versions.iter().map(|version| state(shared, &version.tag));
            Ok((active.map(|version| version.tag), states.collect::<Result<_>>()?))
        })
        .await
    }

    /// Make or renew shortcuts of an installed version.
    ///
    /// # Errors
    /// `InvalidInput`, `VersionNotFound`, `AlreadyExists`, `Unsupported`, and what the disk refuses.
    pub async fn create(&self, tag: String, chosen: Chosen) -> Result<ShortcutState> {
        let _one = self.shared.changing.lock().await;
        self.in_thread(move |shared| create(shared, &tag, chosen)).await
    }

    /// Remove shortcuts, of a version that is gone as well.
    ///
    /// # Errors
    /// `InvalidInput`, and what the disk refuses.
    pub async fn remove(&self, tag: String, chosen: Chosen) -> Result<ShortcutState> {
        let _one = self.shared.changing.lock().await;
        self.in_thread(move |shared| remove(shared, &tag, chosen)).await
    }

    /// Make the one that is missing, or remove the one that is there. None: of the active version.
    ///
    /// # Errors
    /// `NoActiveVersion`, and as [`DesktopService::create`].
    pub async fn toggle(&self, tag: Option<String>, chosen: Chosen) -> Result<ShortcutState> {
        let _one = self.shared.changing.lock().await;
        self.in_thread(move |shared| {
            let tag = match tag {
                Some(tag) => tag,
                None => active(shared)?,
            };
            let now = state(shared, check_tag(&tag)?)?;
            let is_there = if chosen.menu { now.menu } else { now.desktop };
            if is_there {
                remove(shared, &tag, chosen)
            } else {
                create(shared, &tag, chosen)
            }
        })
        .await
    }

    // -- the shortcut of the active version --------------------------------------------------------------------------

    /// Whether there is one that starts whichever version is active.
    ///
    /// # Errors
    /// None but bugs.
    pub async fn common(&self) -> Result<ShortcutState> {
        self.in_thread(|shared| Ok(common(shared))).await
    }

    /// Make it.
    ///
    /// # Errors
    /// `NoActiveVersion`, `AlreadyExists`, `Unsupported`, `InvalidInput`, and what the disk refuses.
    pub async fn create_common(&self, chosen: Chosen) -> Result<ShortcutState> {
        let _one = self.shared.changing.lock().await;
        self.in_thread(move |shared| {
            active(shared)?;
            shared.shortcuts.create(None, &chosen.places())?;
            Ok(common(shared))
        })
        .await
    }

    /// Whether there was one of ours.
    ///
    /// # Errors
    /// What the disk refuses.
    pub async fn remove_common(&self, chosen: Chosen) -> Result<bool> {
        let _one = self.shared.changing.lock().await;
        self.in_thread(move |shared| Ok(shared.shortcuts.remove(None, &chosen.places())? > 0))
            .await
    }

    /// Put the app's icon into the user's icon theme.
    ///
    /// # Errors
    /// What the disk refuses.
    pub async fn install_icon(&self) -> Result<()> {
        self.in_thread(|shared| shared.shortcuts.install_icon(None)).await
    }

    // -- opening -----------------------------------------------------------------------------------------------------

    /// Open a folder of the launcher root or the library, or show a file there; the path that was meant.
    ///
    /// # Errors
    /// `InvalidInput`, `UnsafePath`, `FileUnavailable`, `Unsupported`, `LaunchFailed`.
    pub async fn open_path(&self, text: String) -> Result<String> {
        self.in_thread(move |shared| {
            let library = shared.layout.library();
            let path = path_below(shared.layout.root(), &text, &[&library])?;
            opening::show(&path)?;
            Ok(shown(&path))
        })
        .await
    }

    /// Open a page in the user's browser.
    ///
    /// # Errors
    /// `InvalidInput`, `Unsupported`, `LaunchFailed`.
    pub async fn open_url(&self, url: String) -> Result<()> {
        self.in_thread(move |_| opening::open_target(opening::address(&url)?.as_ref()))
            .await
    }

    /// Open the page of an app that runs; not where the environment says `SKIP_BROWSER`.
    ///
    /// # Errors
    /// `InvalidInput`, `Unsupported`, `LaunchFailed`, and what the disk refuses.
    pub async fn open_app(&self, url: String, app_id: String, tag: String) -> Result<()> {
        if std::env::var_os(SKIP_VARIABLE).is_some_and(|value| !value.is_empty()) {
            return Ok(());
        }
        self.in_thread(move |shared| {
            let is_default = app_id == DEFAULT_APP;
            let name = opening::window_of(&app_id, &tag, is_default);
            let class = if is_default {
                format!("{NAME}-{name}")
            } else {
                name.clone()
            };
            let profile = shared.layout.data().join("profiles").join(&name);
            opening::open_window(opening::address(&url)?, &profile, &class)
        })
        .await
    }

    /// Open the folder of the active version; where that is.
    ///
    /// # Errors
    /// `UnknownApp`, `NoActiveVersion`, `Unsupported`, `LaunchFailed`.
    pub async fn open_install(&self, app_id: String) -> Result<String> {
        self.in_thread(move |shared| {
            let version = shared.installed.require_active(&app_id)?;
            opening::open_target(version.folder.as_os_str())?;
            Ok(shown(&version.folder))
        })
        .await
    }
}

fn state(shared: &Shared, tag: &str) -> Result<ShortcutState> {
    let found = shared.shortcuts.state(Some(check_tag(tag)?));
    Ok(ShortcutState {
        tag: tag.to_owned(),
        menu: found.menu,
        desktop: found.desktop,
    })
}

fn common(shared: &Shared) -> ShortcutState {
    let found = shared.shortcuts.state(None);
    ShortcutState {
        tag: String::new(),
        menu: found.menu,
        desktop: found.desktop,
    }
}

fn create(shared: &Shared, tag: &str, chosen: Chosen) -> Result<ShortcutState> {
    let tag = shared.installed.get(DEFAULT_APP, tag)?.tag;
    let created = shared.shortcuts.create(Some(&tag), &chosen.places());
    shared.changes.fetch_add(1, Ordering::AcqRel);
    created?;
    state(shared, &tag)
}

fn remove(shared: &Shared, tag: &str, chosen: Chosen) -> Result<ShortcutState> {
    let tag = check_tag(tag)?;
    let removed = shared.shortcuts.remove(Some(tag), &chosen.places());
    shared.changes.fetch_add(1, Ordering::AcqRel);
    removed?;
    state(shared, tag)
}

fn active(shared: &Shared) -> Result<String> {
    Ok(shared.installed.require_active(DEFAULT_APP)?.tag)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
