//! The desktop: shortcuts under all the names that clients use for them, and opening things.

use std::future::Future;

use indexmap::IndexMap;
use pumas_core::desktop::service::Chosen;
use pumas_core::desktop::{DesktopService, ShortcutState};
use pumas_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::registry::{Failure, NoParams, Row, row};

#[derive(Deserialize)]
struct OfTag {
    tag: String,
}

#[derive(Deserialize)]
struct MaybeTag {
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    tag: String,
    enabled: bool,
    menu: bool,
    desktop: bool,
}

#[derive(Deserialize)]
struct NewShortcuts {
    tag: String,
    create_menu: bool,
    create_desktop: bool,
}

#[derive(Deserialize)]
struct OldShortcuts {
    tag: String,
    remove_menu: bool,
    remove_desktop: bool,
}

#[derive(Deserialize)]
struct OpenPath {
    path: String,
}

#[derive(Deserialize)]
struct OpenUrl {
    url: String,
}

#[derive(Deserialize)]
struct OpenInstall {
    app_id: String,
}

/// How it is now, whether the change succeeded or not.
#[derive(Serialize)]
struct Changed {
    success: bool,
    state: ShortcutState,
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    menu: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desktop: Option<bool>,
}

#[derive(Serialize)]
struct States {
    active: Option<String>,
    states: IndexMap<String, ShortcutState>,
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = states();
    rows.extend(changes());
    rows.extend(toggles());
    rows.extend(common());
    rows.extend(opening());
    rows
}

fn states() -> Vec<Row> {
    let of_one = |name| {
        row(name, |api, p: OfTag| async move {
            Ok(api.desktop.state(p.tag).await?)
        })
    };
    vec![
        of_one("get_version_shortcuts"),
        of_one("get_version_shortcut_state"),
        row("get_all_shortcut_states", |api, _: NoParams| async move {
            let (active, states) = api.desktop.states().await?;
            let states = states.into_iter().map(|state| (state.tag.clone(), state));
            Ok(States {
                active,
                states: states.collect(),
            })
        }),
    ]
}

fn changes() -> Vec<Row> {
    vec![
        row("set_version_shortcuts", |api, p: Set| async move {
            let chosen = Chosen {
                menu: p.menu,
                desktop: p.desktop,
            };
            if !p.enabled {
                let act = api.desktop.remove(p.tag.clone(), chosen);
                return changed(&api.desktop, p.tag, act).await;
            }
            let act = api.desktop.create(p.tag.clone(), chosen);
            let mut changed = changed(&api.desktop, p.tag, act).await?;
            if changed.success {
                changed.menu = Some(changed.state.menu);
                changed.desktop = Some(changed.state.desktop);
            }
            Ok(changed)
        }),
        row("create_version_shortcuts", |api, p: NewShortcuts| async move {
            let chosen = Chosen {
                menu: p.create_menu,
                desktop: p.create_desktop,
            };
            let state = api.desktop.create(p.tag, chosen).await?;
            Ok(json!({"menu": state.menu, "desktop": state.desktop, "state": state}))
        }),
        row("remove_version_shortcuts", |api, p: OldShortcuts| async move {
            let chosen = Chosen {
                menu: p.remove_menu,
                desktop: p.remove_desktop,
            };
            Ok(json!({"state": api.desktop.remove(p.tag, chosen).await?}))
        }),
    ]
}

fn toggles() -> Vec<Row> {
    let of_version = |name, chosen: Chosen| {
        row(name, move |api, p: OfTag| async move {
            let act = api.desktop.toggle(Some(p.tag.clone()), chosen);
            changed(&api.desktop, p.tag, act).await
        })
    };
    let of_maybe_active = |name, chosen: Chosen| {
        row(name, move |api, p: MaybeTag| async move {
            api.desktop.toggle(p.tag, chosen).await?;
            Ok(Value::Null)
        })
    };
    vec![
        of_version("toggle_version_menu", Chosen::MENU),
        of_version("toggle_version_menu_shortcut", Chosen::MENU),
        of_version("toggle_version_desktop", Chosen::DESKTOP),
        of_version("toggle_version_desktop_shortcut", Chosen::DESKTOP),
        of_maybe_active("toggle_menu", Chosen::MENU),
        of_maybe_active("toggle_desktop", Chosen::DESKTOP),
    ]
}

fn common() -> Vec<Row> {
    vec![
        row("menu_exists", |api, _: NoParams| async move {
            Ok(api.desktop.common().await?.menu)
        }),
        row("desktop_exists", |api, _: NoParams| async move {
            Ok(api.desktop.common().await?.desktop)
        }),
        row("create_menu_shortcut", |api, _: NoParams| async move {
            Ok(api.desktop.create_common(Chosen::MENU).await?.menu)
        }),
        row("create_desktop_shortcut", |api, _: NoParams| async move {
            Ok(api.desktop.create_common(Chosen::DESKTOP).await?.desktop)
        }),
        row("remove_menu_shortcut", |api, _: NoParams| async move {
            Ok(api.desktop.remove_common(Chosen::MENU).await?)
        }),
        row("remove_desktop_shortcut", |api, _: NoParams| async move {
            Ok(api.desktop.remove_common(Chosen::DESKTOP).await?)
        }),
        row("install_icon", |api, _: NoParams| async move {
            api.desktop.install_icon().await?;
            Ok(true)
        }),
    ]
}

fn opening() -> Vec<Row> {
    vec![
        row("open_path", |api, p: OpenPath| async move {
            Ok(json!({"path": api.desktop.open_path(p.path).await?}))
        }),
        row("open_url", |api, p: OpenUrl| async move {
            api.desktop.open_url(p.url).await?;
            Ok(Value::Null)
        }),
        row("open_active_install", |api, p: OpenInstall| async move {
            Ok(json!({"path": api.desktop.open_install(p.app_id).await?}))
        }),
    ]
}

/// Older clients take the state also from a failure.
async fn changed(
    desktop: &DesktopService,
    tag: String,
    act: impl Future<Output = Result<ShortcutState>>,
) -> Result<Changed, Failure> {
    let (state, error) = match act.await {
        Ok(state) => (state, None),
        Err(error @ (Error::InvalidInput { .. } | Error::UnsafePath { .. })) => return Err(error.into()),
        Err(error) => (desktop.state(tag.clone()).await?, Some(error)),
    };
    Ok(Changed {
        success: error.is_none(),
        tag: if error.is_none() { state.tag.clone() } else { tag },
        error: error.as_ref().map(ToString::to_string),
        error_code: error.as_ref().map(Error::kind),
        state,
        menu: None,
        desktop: None,
    })
}
