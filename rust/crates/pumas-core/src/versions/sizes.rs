//! How much a release weighs: its archive, and what it depends on, found out from metadata alone.
//!
//! Nothing of a release is run or built to find out. Results are kept in the files of older sidecars, by tag; an estimate
//! says that it is one and is tried again later.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::github::{GitHub, TIMEOUTS};
use super::packages::{Packages, Resolved, Wish};
use super::progress::moment;
use super::python::Python;
use super::releases::{Release, not_found};
use super::requirements::{digest, parse};
use super::running::{InstallLog, Programs};
use super::scratch::Scratch;
use crate::apps::{AppDescription, PackageKind};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::library::moments::utc_moment;
use crate::net::NetworkClient;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};
use crate::storage::json_file::{self, JsonObject, Readers};
use crate::storage::locked;

/// Bytes, for an archive whose length nobody tells.
const TYPICAL_ARCHIVE: u64 = 131_072_000;
const RETRY_S: f64 = 3600.0;
const PATIENCE: Duration = Duration::from_secs(2);
const MOST: u64 = 1 << 50;
const UNITS: [(&str, usize); 5] = [("B", 0), ("KB", 1), ("MB", 1), ("GB", 2), ("TB", 2)];

/// What a release weighs, in bytes. `source` says where the dependencies' size comes from: `pip_report` is any resolver's
/// report.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the words say it")]
pub struct ReleaseSize {
    pub tag: String,
    pub archive_size: u64,
    pub dependencies_size: u64,
    pub dependency_count: u64,
    pub unknown_count: u64,
    pub dependencies: Vec<JsonObject>,
    pub requirements_hash: String,
    pub calculated_at: String,
    pub source: String,
    pub archive_known: bool,
    pub platform: String,
    pub python_version: String,
}

impl ReleaseSize {
    /// Archive and dependencies.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.archive_size + self.dependencies_size
    }

    /// Whether a part of it is not known.
    #[must_use]
    pub fn is_estimated(&self) -> bool {
        self.source == "unknown" || !self.archive_known
    }

    fn here(tag: &str) -> Self {
        Self {
            tag: tag.to_owned(),
            source: "unknown".to_owned(),
            platform: platform(),
            ..Self::default()
        }
    }

    fn age_s(&self) -> f64 {
        let age =
            utc_moment(&self.calculated_at).map(|when| Timestamp::now().duration_since(when).as_secs_f64());
        age.filter(|age| *age >= 0.0).unwrap_or(f64::INFINITY)
    }

    fn written(&self) -> Value {
        json!({
            "tag": self.tag,
            "total_size": self.total_size(),
            "archive_size": self.archive_size,
            "dependencies_size": self.dependencies_size,
            "dependency_count": self.dependency_count,
            "unknown_size_count": self.unknown_count,
            "dependencies": self.dependencies,
            "requirements_hash": self.requirements_hash,
            "calculated_at": self.calculated_at,
            "platform": self.platform,
            "python_version": self.python_version,
            "dependencies_size_source": self.source,
            "archive_known": self.archive_known,
        })
    }

    /// An entry as we or older sidecars wrote it; None when it says nothing.
    fn parsed(tag: &str, value: &Value) -> Option<Self> {
        let entry = value.as_object()?;
        let count = |key: &str| {
            entry
                .get(key)
                .and_then(Value::as_u64)
                .filter(|count| *count < MOST)
        };
        let text = |key: &str| {
            entry
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let listed = entry.get("dependencies").and_then(Value::as_array);
        let source = text("dependencies_size_source");
        Some(Self {
            tag: tag.to_owned(),
            archive_size: count("archive_size")?,
            dependencies_size: count("dependencies_size")?,
            dependency_count: count("dependency_count").unwrap_or_default(),
            unknown_count: count("unknown_size_count").unwrap_or_default(),
            dependencies: listed
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .cloned()
                .collect(),
            requirements_hash: text("requirements_hash"),
            calculated_at: text("calculated_at"),
            source: if source.is_empty() {
                "unknown".to_owned()
            } else {
                source
            },
            archive_known: entry.get("archive_known") != Some(&Value::Bool(false)),
            platform: text("platform"),
            python_version: text("python_version"),
        })
    }
}

/// (archive, dependencies, total) in bytes, each None while it is not known.
pub(super) type Weight = (Option<u64>, Option<u64>, Option<u64>);

type Entries = HashMap<String, ReleaseSize>;
type Read = HashMap<PathBuf, ((i64, i64, u64), Arc<Entries>)>;

/// One calculation at a time, and equal ones only once.
pub(super) struct Sizes {
    layout: Arc<Layout>,
    network: NetworkClient,
    github: GitHub,
    calculating: tokio::sync::Mutex<()>,
    writing: Mutex<()>,
    read: Mutex<Read>,
}

impl Sizes {
    pub(super) fn new(layout: Arc<Layout>, network: NetworkClient) -> Self {
        Self {
            github: GitHub::new(network.clone()),
            layout,
            network,
            calculating: tokio::sync::Mutex::default(),
            writing: Mutex::default(),
            read: Mutex::default(),
        }
    }

    /// What was calculated before. Blocks.
    pub(super) fn kept(&self, app: &AppDescription, tag: &str) -> Option<ReleaseSize> {
        self.all_kept(app).get(tag).cloned()
    }

    /// By tag; read again when the file changed. Blocks.
    fn all_kept(&self, app: &AppDescription) -> Arc<Entries> {
        let path = self.path("release-sizes", app);
        let Ok(facts) = path.metadata() else {
            return Arc::default();
        };
        let stamp = (facts.mtime(), facts.mtime_nsec(), facts.ino());
        let mut read = locked(&self.read);
        if let Some((known, entries)) = read.get(&path)
            && *known == stamp
        {
            return Arc::clone(entries);
        }
        let value = json_file::parse_object(&path).unwrap_or_default();
        let entries = value
            .iter()
            .filter_map(|(tag, entry)| Some((tag.clone(), ReleaseSize::parsed(tag, entry)?)));
        let entries = Arc::new(entries.collect());
        read.insert(path, (stamp, Arc::clone(&entries)));
        entries
    }

    /// Look-up of what is known, without asking anybody. Blocks.
    pub(super) fn weights(&self, app: &AppDescription) -> impl Fn(&Release) -> Weight {
        let package = app.package.clone();
        let kept = (package.kind == PackageKind::Source).then(|| self.all_kept(app));
        move |release| match &kept {
            None => {
                let size = bundle_size(&package, release);
                // Nothing for this machine weighs nothing: older clients ask again and again while there is no total.
                (size, Some(0), Some(size.unwrap_or_default()))
            }
            Some(kept) => kept.get(&release.tag).map_or((None, None, None), |size| {
                let total = size.total_size();
                (Some(size.archive_size), Some(size.dependencies_size), Some(total))
            }),
        }
    }

    /// Find out, or answer what was found out before. Always leaves a value, at worst an estimate.
    ///
    /// # Errors
    /// `ReleaseNotFound`: a bundle that has nothing for this machine.
    pub(super) async fn calculate(
        self: &Arc<Self>,
        app: &Arc<AppDescription>,
        release: &Arc<Release>,
        force: bool,
    ) -> Result<ReleaseSize> {
        let _calculating = self.calculating.lock().await;
        let (sizes, of, tag) = (Arc::clone(self), Arc::clone(app), release.tag.clone());
        let known = blocking(move || Ok(sizes.kept(&of, &tag))).await?;
        if let Some(known) =
            known.filter(|known| !force && (!known.is_estimated() || known.age_s() <= RETRY_S))
        {
            return Ok(known);
        }
        let found = match app.package.kind {
            PackageKind::Bundle => bundle(app, release)?,
            PackageKind::Source => self.source(app, release).await?,
        };
        let (sizes, of, kept) = (Arc::clone(self), Arc::clone(app), found.clone());
        blocking(move || {
            let _writing = locked(&sizes.writing);
            sizes.write(&of, &kept);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// What can be said at once, while the real thing takes its time; without a time, so that it is due at once. Blocks.
    pub(super) fn leave_estimate(&self, app: &AppDescription, release: &Release) -> ReleaseSize {
        let _writing = locked(&self.writing);
        self.kept(app, &release.tag).unwrap_or_else(|| {
            let estimate = ReleaseSize {
                archive_size: TYPICAL_ARCHIVE,
                ..ReleaseSize::here(&release.tag)
            };
            self.write(app, &estimate);
            estimate
        })
    }

    // -- inside ------------------------------------------------------------------------------------------------------

    async fn source(
        self: &Arc<Self>,
        app: &Arc<AppDescription>,
        release: &Arc<Release>,
    ) -> Result<ReleaseSize> {
        let word = |key: &str| {
            release
                .raw
                .get(key)
                .and_then(Value::as_str)
                .filter(|url| !url.is_empty())
        };
        let url = word("zipball_url")
            .or_else(|| word("tarball_url"))
            .unwrap_or_default();
        let archive = self.length(url).await;
        let text = self.requirements(app, &release.tag).await?;
        let resolved = match &text {
            Some(text) => self.resolved(app, release, text.clone()).await,
            None => Err(Error::OperationFailed("nobody told what it needs".to_owned())),
        };
        if let Err(error) = &resolved {
            tracing::info!("dependencies of {} {} not sized: {error}", app.id, release.tag);
        }
        let is_known = resolved.is_ok();
        let mut resolved = resolved.unwrap_or_default();
        resolved.sort_by(|one, other| {
            let (size, other_size) = (one.size.unwrap_or_default(), other.size.unwrap_or_default());
            other_size.cmp(&size).then_with(|| one.name.cmp(&other.name))
        });
        let listed = resolved.iter().map(|one| {
            Map::from_iter([
                ("package".to_owned(), json!(one.name)),
                ("version_spec".to_owned(), json!(format!("=={}", one.version))),
                ("size".to_owned(), json!(one.size)),
            ])
        });
        let text = text.unwrap_or_default();
        Ok(ReleaseSize {
            archive_size: archive.unwrap_or(TYPICAL_ARCHIVE),
            dependencies_size: resolved.iter().filter_map(|one| one.size).sum(),
            dependency_count: parse(&text, "").len() as u64,
            unknown_count: resolved.iter().filter(|one| one.size.is_none()).count() as u64,
            dependencies: listed.collect(),
            requirements_hash: digest(text.as_bytes()),
            calculated_at: moment(),
            source: if is_known { "pip_report" } else { "unknown" }.to_owned(),
            archive_known: archive.is_some(),
            python_version: blocking(|| Ok(Python::get()?.short_version().to_owned()))
                .await
                .unwrap_or_default(),
            ..ReleaseSize::here(&release.tag)
        })
    }

    async fn resolved(
        &self,
        app: &Arc<AppDescription>,
        release: &Arc<Release>,
        text: String,
    ) -> Result<Vec<Resolved>> {
        let (layout, app, release) = (Arc::clone(&self.layout), Arc::clone(app), Arc::clone(release));
        let found = blocking(move || resolve(&layout, &app, &release, &text)).await?;
        let mut measured = Vec::with_capacity(found.len());
        for mut one in found {
            if one.size.is_none() {
                one.size = self.length(one.url.as_deref().unwrap_or_default()).await;
            }
            measured.push(one);
        }
        Ok(measured)
    }

    /// The length that a server tells for an address, None when it tells none.
    async fn length(&self, url: &str) -> Option<u64> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return None;
        }
        let request = self.network.request(Method::HEAD, url).ok()?;
        let reply = self
            .network
            .send(request.timeouts(TIMEOUTS).patience(PATIENCE))
            .await
            .ok()?;
        reply
            .header("content-length")
            .parse()
            .ok()
            .filter(|length| *length > 0)
    }

    /// The text of the release's requirements file, "" when it has none, None when nobody answers.
    async fn requirements(self: &Arc<Self>, app: &Arc<AppDescription>, tag: &str) -> Result<Option<String>> {
        let path = self.path("release-requirements", app);
        let (place, of) = (path.clone(), tag.to_owned());
        let cached = blocking(move || {
            let cached = json_file::parse_object(&place).unwrap_or_default();
            let text = cached.get(&of).and_then(|entry| entry.get("requirements_txt"));
            Ok(text.and_then(Value::as_str).map(str::to_owned))
        })
        .await?;
        if cached.is_some() {
            return Ok(cached);
        }
        let name = app
            .python
            .as_ref()
            .map_or("requirements.txt", |python| &python.requirements);
        let repository = &app.releases.repository;
        let text = match self.github.file(repository, tag, name).await {
            Ok(data) => String::from_utf8_lossy(&data).into_owned(),
            Err(Error::HttpStatus { status: 404, .. }) => String::new(),
            Err(_) => return Ok(None),
        };
        let fresh = json!({
            "requirements_txt": text,
            "requirements_hash": digest(text.as_bytes()),
            "fetched_at": moment(),
            "source_url": format!("https://github.com/{repository}/blob/{tag}/{name}"),
        });
        let (sizes, tag) = (Arc::clone(self), tag.to_owned());
        blocking(move || {
            sizes.save(&path, tag, fresh);
            Ok(())
        })
        .await?;
        Ok(Some(text))
    }

    fn write(&self, app: &AppDescription, found: &ReleaseSize) {
        self.save(
            &self.path("release-sizes", app),
            found.tag.clone(),
            found.written(),
        );
    }

    /// A cache that cannot be read is empty.
    fn save(&self, path: &Path, tag: String, entry: Value) {
        let mut value = json_file::parse_object(path).unwrap_or_default();
        value.insert(tag, entry);
        let folder = self.layout.cache();
        let saved = make_folders(&folder, FOLDER_MODE)
            .during("Writing the sizes of releases")
            .and_then(|_| json_file::save(path, &value, Readers::Anybody));
        if let Err(error) = saved {
            tracing::warn!("{} not kept: {error}", path.display());
        }
    }

    /// Older sidecars size one app only, in files without its name.
    fn path(&self, stem: &str, app: &AppDescription) -> PathBuf {
        let name = if app.versions_file() == "versions.json" {
            format!("{stem}.json")
        } else {
            format!("{stem}-{}.json", app.id)
        };
        self.layout.cache().join(name)
    }
}

fn resolve(layout: &Layout, app: &AppDescription, release: &Release, text: &str) -> Result<Vec<Resolved>> {
    let cache = layout.cache();
    let scratch = Scratch::new(&cache, "size-")?;
    let requirements = scratch.path().join("requirements.txt");
    fs::write(&requirements, text).during("Sizing a release")?;
    let quiet = Arc::new(InstallLog::new(&scratch.path().join("log")));
    let programs = Programs::new(scratch.path().join("note"), quiet, Arc::new(|| Ok(())));
    let packages = Packages::new(&cache, programs)?;
    let wish = Wish {
        requirements: Some(requirements),
        extra: app
            .python
            .as_ref()
            .map(|python| python.extra.clone())
            .unwrap_or_default(),
        before: release.published_at().to_owned(),
    };
    Ok(packages.resolve(&wish, false, None)?.0)
}

fn bundle(app: &AppDescription, release: &Release) -> Result<ReleaseSize> {
    let size = bundle_size(&app.package, release)
        .ok_or_else(|| not_found(&app.name, &release.tag, "has nothing for this machine"))?;
    Ok(ReleaseSize {
        archive_size: size,
        source: "asset".to_owned(),
        archive_known: true,
        calculated_at: moment(),
        python_version: Python::get()
            .map(Python::short_version)
            .unwrap_or_default()
            .to_owned(),
        ..ReleaseSize::here(&release.tag)
    })
}

/// The size of the asset for this machine.
fn bundle_size(package: &crate::apps::Package, release: &Release) -> Option<u64> {
    let sizes: Vec<(&str, Option<u64>)> = release
        .assets()
        .filter_map(|asset| {
            Some((
                asset.get("name")?.as_str()?,
                asset.get("size").and_then(Value::as_u64),
            ))
        })
        .collect();
    let names: Vec<&str> = sizes.iter().map(|(name, _)| *name).collect();
    let chosen = package.choose(&names)?;
    sizes
        .iter()
        .find(|(name, _)| *name == chosen)
        .and_then(|(_, size)| *size)
}

/// As older sidecars show it: whole bytes, one decimal for KB and MB, two from GB on; 1024-based.
#[must_use]
pub fn formatted_size(size: u64) -> String {
    let (mut amount, mut unit) = (size as f64, 0);
    while amount >= 1024.0 && unit < UNITS.len() - 1 {
        amount /= 1024.0;
        unit += 1;
    }
    let (name, decimals) = UNITS[unit];
    format!("{amount:.decimals$} {name}")
}

fn platform() -> String {
    let machine = rustix::system::uname().machine().to_string_lossy().to_lowercase();
    format!("{}_{machine}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_older_sidecars_do() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KB"),
            (5 << 20, "5.0 MB"),
            (3 << 29, "1.50 GB"),
            (1 << 50, "1024.00 TB"),
        ] {
            assert_eq!(formatted_size(size), text);
        }
    }

    #[test]
    fn entries_of_older_sidecars_are_read() {
        let read = |value: Value| ReleaseSize::parsed("v1", &value);
        assert!(read(json!([])).is_none());
        assert!(read(json!({"archive_size": -1, "dependencies_size": 2})).is_none());
        let size =
            read(json!({"archive_size": 1, "dependencies_size": 2, "dependencies": [1, {"package": "a"}]}))
                .unwrap();
        assert_eq!(
            (size.total_size(), size.dependencies.len(), size.is_estimated()),
            (3, 1, true)
        );
        assert!(size.age_s().is_infinite());
    }
}
