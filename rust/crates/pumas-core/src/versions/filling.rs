//! Fills the Python environment of a version that is being installed, and tells what has arrived of what is to come.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::dependencies::{distributions, installed};
use super::packages::{Packages, Resolution, Resolved, Wish};
use super::progress::Progress;
use super::running::Check;
use crate::apps::VENV;
use crate::error::{Error, Result};

const LOOK: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(1);

/// What will be installed, as it is found out by another thread once somebody asks.
pub(super) struct Resolving<'a> {
    found: &'a OnceLock<Result<Resolution>>,
    check: &'a Check,
    start: &'a dyn Fn(),
    has_begun: Cell<bool>,
}

impl<'a> Resolving<'a> {
    /// `start` has it found in another thread, and does not wait.
    pub(super) fn new(
        found: &'a OnceLock<Result<Resolution>>,
        check: &'a Check,
        start: &'a dyn Fn(),
    ) -> Self {
        Self {
            found,
            check,
            start,
            has_begun: Cell::new(false),
        }
    }

    fn begin(&self) {
        if !self.has_begun.replace(true) {
            (self.start)();
        }
    }

    /// # Errors
    /// What the resolution, or the work itself, failed with.
    pub(super) fn wait(&self) -> Result<Resolution> {
        self.begin();
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

    /// Install with a tool that resolves by itself; the `before` of the wish that could be kept.
    ///
    /// Finding out twice what will be installed costs a small installation half its time, so it is asked for when it takes
    /// long, and who waits would know what is still to come, or when it fails.
    pub(super) fn fill_by_itself(&mut self, resolving: &Resolving<'_>) -> Result<String> {
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
                Ok(wish.before)
            }
            done => done.map(|()| self.wish.before.clone()),
        }
    }

    /// Everything that was installed by `fill_by_itself`; tells of what has arrived of it.
    ///
    /// # Errors
    /// `DependencyFailed`: the list could not be made; it is installed all the same.
    pub(super) fn listed(&mut self, resolving: &Resolving<'_>) -> Result<Vec<Resolved>> {
        let resolved = if resolving.has_begun.get() {
            resolving.wait()?.0
        } else {
            installed(&self.tree.join(VENV))
        };
        self.arrivals.plan(&resolved);
        self.arrivals.look(true);
        Ok(resolved)
    }

    fn install(
        &mut self,
        wish: &Wish,
        constraints: Option<&Path>,
        resolving: Option<&Resolving<'_>>,
    ) -> Result<()> {
        let (progress, arrivals) = (self.arrivals.progress, &mut self.arrivals);
        let began = Instant::now();
        let mut on_look = || {
            if let Some(resolving) = resolving.filter(|_| began.elapsed() > LONG) {
                resolving.begin();
            }
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
