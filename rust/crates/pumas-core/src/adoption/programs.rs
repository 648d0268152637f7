//! Where programs keep their models on this machine: each program's own rules, in its own order: environment, settings
//! file, default below the home folder.
//!
//! Settings files are small and only read; one that cannot be read says nothing. Whether anything is there is asked by
//! `locations`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::adoption::found::StoreKind;
use crate::adoption::locations::folders;
use crate::adoption::look::{line, manifest};
use crate::adoption::model_paths::extra_model_paths;
use crate::config::Layout;
use crate::storage::paths::{expanded, resolved};

const MAX_VERSIONS: usize = 200;

/// What the rules look at.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The user's home folder.
    pub home: PathBuf,
    /// This launcher.
    pub launcher: Arc<Layout>,
    /// Where the folders begin that belong to no user.
    pub system: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn real(launcher: &Arc<Layout>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            environment: std::env::vars_os().filter_map(text).collect(),
            home: expanded("~").unwrap_or_else(|| PathBuf::from("/")),
            launcher: Arc::clone(launcher),
            system: PathBuf::from("/"),
        }
    }

    /// An environment variable that names a folder, `~` and `${NAME}` expanded.
    fn folder(&self, variable: &str) -> Option<PathBuf> {
        let (_, value) = self.environment.iter().find(|(name, _)| name == variable)?;
        let mut text = value.trim().to_owned();
        if text.is_empty() {
            return None;
        }
        for (name, value) in &self.environment {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        if let Some(rest) = text.strip_prefix('~') {
            text = format!("{}{rest}", self.home.display());
        }
        let path = PathBuf::from(text);
        path.is_absolute().then_some(path)
    }

    /// <https://specifications.freedesktop.org/basedir-spec/latest/>
    fn cache(&self) -> PathBuf {
        self.folder("XDG_CACHE_HOME")
            .unwrap_or_else(|| self.home.join(".cache"))
    }
}

type Rule = fn(&Surroundings) -> Vec<PathBuf>;

/// Where each program may have put models.
pub const RULES: [(StoreKind, Rule); 6] = [
    (StoreKind::Huggingface, huggingface),
    (StoreKind::Ollama, ollama),
    (StoreKind::LmStudio, lm_studio),
    (StoreKind::Comfyui, comfyui),
    (StoreKind::Webui, webui),
    (StoreKind::Pumas, pumas),
];

/// <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>
fn huggingface(around: &Surroundings) -> Vec<PathBuf> {
    let named = around
        .folder("HF_HUB_CACHE")
        .or_else(|| around.folder("HUGGINGFACE_HUB_CACHE"));
    let home = || {
        around
            .folder("HF_HOME")
            .unwrap_or_else(|| around.cache().join("huggingface"))
    };
    vec![named.unwrap_or_else(|| home().join("hub"))]
}

/// <https://github.com/ollama/ollama/blob/main/docs/faq.mdx> ("Where are models stored?")
fn ollama(around: &Surroundings) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = around.folder("OLLAMA_MODELS").into_iter().collect();
    found.push(around.home.join(".ollama/models"));
    found.push(around.system.join("usr/share/ollama/.ollama/models"));
    found.push(around.system.join("var/lib/ollama"));
    found
}

/// <https://lmstudio.ai/docs/app/basics/import-model>; `downloadsFolder` in its settings names another folder.
fn lm_studio(around: &Surroundings) -> Vec<PathBuf> {
    let pointer = PathBuf::from(line(&text(&around.home.join(".lmstudio-home-pointer"))));
    let mut homes = vec![around.home.join(".lmstudio"), around.cache().join("lm-studio")];
    if pointer.is_absolute() {
        homes.insert(0, pointer);
    }
    let mut found = Vec::new();
    for home in homes {
        found.extend(setting(&home.join("settings.json"), "downloadsFolder"));
        found.push(home.join("models"));
    }
    found
}

/// Where the versions of `ComfyUI` lie that this launcher has: what they hold beside our links is a find, too.
pub(super) fn own_versions(launcher: &Layout) -> PathBuf {
    launcher.root().join("comfyui-versions")
}

/// Its checkout, the desktop app's folder (`basePath` in its settings), and the versions that this launcher has.
fn comfyui(around: &Surroundings) -> Vec<PathBuf> {
    let home = &around.home;
    let config = around
        .folder("XDG_CONFIG_HOME")
        .unwrap_or_else(|| home.join(".config"));
    let mut bases = vec![
        home.join("ComfyUI"),
        home.join("Documents/ComfyUI"),
        home.join("comfy/ComfyUI"),
    ];
    let settings = [
        config.join("ComfyUI/config.json"),
        home.join("Library/Application Support/ComfyUI/config.json"),
        home.join("AppData/Roaming/ComfyUI/config.json"),
    ];
    bases.extend(settings.iter().filter_map(|file| setting(file, "basePath")));
    let versions = folders(&own_versions(&around.launcher));
    bases.extend(versions.into_iter().take(MAX_VERSIONS));
    let mut found = Vec::new();
    for base in bases.into_iter().filter(|base| base.join("models").is_dir()) {
        found.push(base.join("models"));
        found.extend(extra_model_paths(&base.join("extra_model_paths.yaml")));
    }
    found
}

fn webui(around: &Surroundings) -> Vec<PathBuf> {
    let names = [
        "stable-diffusion-webui",
        "stable-diffusion-webui-forge",
        "sd-webui-forge-neo",
        "sd-webui-forge",
    ];
    let both = |name: &str| ["models", "embeddings"].map(|folder| around.home.join(name).join(folder));
    names.into_iter().flat_map(both).collect()
}

/// Where launchers put themselves, on each system.
fn pumas(around: &Surroundings) -> Vec<PathBuf> {
    let home = &around.home;
    let data = around
        .folder("XDG_DATA_HOME")
        .unwrap_or_else(|| home.join(".local/share"));
    let local = around
        .folder("LOCALAPPDATA")
        .unwrap_or_else(|| home.join("AppData/Local"));
    let defaults = [data, home.join("Library/Application Support"), local].map(|folder| folder.join("pumas"));
    let own = resolved(around.launcher.root());
    around
        .folder("PUMAS_ROOT")
        .into_iter()
        .chain(defaults)
        .filter(|root| resolved(root) != own)
        .map(|root| Layout::new(root).library())
        .collect()
}

/// The absolute path that a settings file holds under `key`.
fn setting(file: &Path, key: &str) -> Option<PathBuf> {
    let settings = manifest(&text(file)).ok()?;
    let path = settings.get(key).and_then(Value::as_str).map(PathBuf::from)?;
    path.is_absolute().then_some(path)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::adoption::locations::known_locations;

    struct Home {
        place: tempfile::TempDir,
    }

    impl Home {
        fn new() -> Self {
            Self {
                place: tempfile::tempdir().unwrap(),
            }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.place.path().canonicalize().unwrap().join(name)
        }

        fn file(&self, name: &str, content: &str) {
            let path = self.at(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        /// Paths below the home folder, of the stores that exist.
        fn check(&self, environment: &[(&str, &str)], expected: &[(StoreKind, &str)]) {
            let set = |(name, value): &(&str, &str)| {
                let value = value.replace('@', self.at("").to_str().unwrap());
                ((*name).to_owned(), value)
            };
            let around = Surroundings {
                environment: environment.iter().map(set).collect(),
                home: self.at("home"),
                launcher: Arc::new(Layout::new(self.at("launcher"))),
                system: self.at("system"),
            };
            let found = known_locations(&around);
            let shown: Vec<(StoreKind, String)> = found
                .into_iter()
                .map(|one| (one.kind, one.path.replace(self.at("").to_str().unwrap(), "")))
                .collect();
            let expected: Vec<(StoreKind, String)> = expected
                .iter()
                .map(|(kind, path)| (*kind, (*path).to_owned()))
                .collect();
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn each_program_has_its_default() {
        let home = Home::new();
        home.check(&[], &[]);
        let places = [
            (StoreKind::Huggingface, "home/.cache/huggingface/hub"),
            (StoreKind::Ollama, "home/.ollama/models"),
            (StoreKind::Ollama, "system/var/lib/ollama"),
            (StoreKind::LmStudio, "home/.lmstudio/models"),
            (StoreKind::Comfyui, "home/ComfyUI/models"),
            (StoreKind::Comfyui, "launcher/comfyui-versions/v1/models"),
            (StoreKind::Webui, "home/stable-diffusion-webui/models"),
            (
                StoreKind::Pumas,
                "home/.local/share/pumas/shared-resources/models",
            ),
        ];
        for (_, place) in places {
            fs::create_dir_all(home.at(place)).unwrap();
        }
        home.check(&[], &places);
    }

    #[test]
    fn the_environment_names_other_folders() {
        let home = Home::new();
        for folder in [
            "hf/hub",
            "cache/huggingface/hub",
            "o",
            "root/shared-resources/models",
        ] {
            fs::create_dir_all(home.at(folder)).unwrap();
        }
        home.check(&[("HF_HOME", "@hf")], &[(StoreKind::Huggingface, "hf/hub")]);
        home.check(&[("HF_HUB_CACHE", " ~/../hf ")], &[]);
        fs::create_dir_all(home.at("home")).unwrap();
        home.check(
            &[("HF_HUB_CACHE", " ~/../hf ")],
            &[(StoreKind::Huggingface, "hf")],
        );
        home.check(
            &[("XDG_CACHE_HOME", "${BASE}/cache"), ("BASE", "@")],
            &[(StoreKind::Huggingface, "cache/huggingface/hub")],
        );
        home.check(&[("OLLAMA_MODELS", "relative")], &[]);
        home.check(&[("OLLAMA_MODELS", "@o")], &[(StoreKind::Ollama, "o")]);
        home.check(
            &[("PUMAS_ROOT", "@root")],
            &[(StoreKind::Pumas, "root/shared-resources/models")],
        );
    }

    #[test]
    fn settings_name_other_folders_and_damaged_ones_say_nothing() {
        let home = Home::new();
        for folder in ["lms/models", "downloads", "app/models", "drive/loras"] {
            fs::create_dir_all(home.at(folder)).unwrap();
        }
        let written = |text: &str| text.replace('@', home.at("").to_str().unwrap());
        home.file("home/.lmstudio-home-pointer", &written("@lms\n"));
        home.file("lms/settings.json", "{");
        home.check(&[], &[(StoreKind::LmStudio, "lms/models")]);
        home.file(
            "lms/settings.json",
            &written("{\"downloadsFolder\": \"@downloads\"}"),
        );
        home.file(
            "home/.config/ComfyUI/config.json",
            &written("{\"basePath\": \"@app\"}"),
        );
        let folders = "drive:\n  base_path: ../drive\n  loras: |\n    loras\n    more\n";
        home.file("app/extra_model_paths.yaml", folders);
        home.check(
            &[],
            &[
                (StoreKind::LmStudio, "downloads"),
                (StoreKind::LmStudio, "lms/models"),
                (StoreKind::Comfyui, "app/models"),
                (StoreKind::Comfyui, "drive/loras"),
            ],
        );
    }
}
