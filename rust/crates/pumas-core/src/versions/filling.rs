//! Fills the Python environment of a version that is being installed, and tells what has arrived of what is to come.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::dependencies::distributions;
use super::packages::{Packages, Resolution, Resolved, Wish};
use super::progress::Progress;
use super::running::Check;
use crate::apps::VENV;
use crate::error::{Error, Result};

const LOOK: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(20);

/// What will be installed, as it is being found out by another thread.
pub(super) struct Resolving<'a> {
    pub(super) found: &'a OnceLock<Result<Resolution>>,
    pub(super) check: &'a Check,
}

impl Resolving<'_> {
    /// # Errors
    /// What the resolution, or the work itself, failed with.
    pub(super) fn wait(&self) -> Result<Resolution> {
        loop {
            if let Some(found) = self.found.get() {
                return found.clone();
            }
            (self.check)()?;
            std::thread::sleep(POLL);
        }
    }
}

/// Blocks; fails as `Packages::install`.
pub(super) struct Filling<'a> {
    tree: &'a Path,
    packages: &'a Packages,
    wish: &'a Wish,
    arrivals: Arrivals<'a>,
}

impl<'a> Filling<'a> {
    /// `tree` holds the environment.
    pub(super) fn new(
        tree: &'a Path,
        packages: &'a Packages,
        wish: &'a Wish,
        progress: &'a Arc<Progress>,
    ) -> Self {
        let venv = tree.join(VENV);
        let arrivals = Arrivals {
            seen: distributions(&venv).into_keys().collect(),
            venv,
            progress,
            sizes: None,
            looked: Instant::now(),
        };
        Self {
            tree,
            packages,
            wish,
            arrivals,
        }
    }

    /// Install exactly what was resolved.
    pub(super) fn fill(&mut self, resolved: &[Resolved], constraints: &Path) -> Result<()> {
        self.arrivals.plan(resolved);
        self.install(self.wish, Some(constraints), None)?;
        self.arrivals.look(true);
        Ok(())
    }

    /// Install with a tool that resolves by itself, while the list is still being made.
    ///
    /// # Errors
    /// `DependencyFailed`: also when the list could not be made.
    pub(super) fn fill_meanwhile(&mut self, resolving: &Resolving<'_>) -> Result<()> {
        match self.install(self.wish, None, Some(resolving)) {
            Err(failure @ Error::DependencyFailed { .. }) => {
                // The words of the resolution say best what cannot be had.
                let (_, before) = resolving.wait()?;
                if before == self.wish.before {
                    return Err(failure);
                }
                let wish = Wish {
                    before,
                    ..self.wish.clone()
                };
                self.install(&wish, None, Some(resolving))?;
            }
            done => done?,
        }
        let (resolved, _) = resolving.wait()?;
        self.arrivals.plan(&resolved);
        self.arrivals.look(true);
        Ok(())
    }

    fn install(
        &mut self,
        wish: &Wish,
        constraints: Option<&Path>,
        resolving: Option<&Resolving<'_>>,
    ) -> Result<()> {
        let (progress, arrivals) = (self.arrivals.progress, &mut self.arrivals);
        let mut on_look = || {
            if let Some(Ok((resolved, _))) = resolving.and_then(|resolving| resolving.found.get()) {
                arrivals.plan(resolved);
            }
            arrivals.look(false);
        };
        let mut on_line = |line: &str| progress.at(0.0, Some(line));
        self.packages
            .install(self.tree, wish, constraints, &mut on_line, &mut on_look)
    }
}

/// Tells of each distribution that appears in an environment, looked for now and then.
struct Arrivals<'a> {
    venv: PathBuf,
    progress: &'a Arc<Progress>,
    seen: HashSet<String>,
    /// Of what will come, once that is known.
    sizes: Option<HashMap<String, Option<u64>>>,
    looked: Instant,
}

impl Arrivals<'_> {
    fn plan(&mut self, resolved: &[Resolved]) {
        if self.sizes.is_none() {
            self.progress.plan(resolved.iter().map(|one| one.name.as_str()));
            self.sizes = Some(resolved.iter().map(|one| (one.name.clone(), one.size)).collect());
        }
    }

    fn look(&mut self, at_once: bool) {
        let Some(sizes) = &self.sizes else { return };
        if !at_once && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let mut arrived: Vec<String> = distributions(&self.venv).into_keys().collect();
        arrived.retain(|name| !self.seen.contains(name));
        arrived.sort();
        for name in arrived {
            // What comes along for the tools, as pip does, is not of the list.
            if let Some(size) = sizes.get(&name) {
                self.progress.arrived(&name, "package", *size);
            }
            self.seen.insert(name);
        }
    }
}
