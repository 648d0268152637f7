//! What planning and applying hand to each other and to callers: plain values without a word about how it is done.

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest as _};
use serde::{Deserialize, Serialize};

use crate::links::linking::LinkKind;
use crate::links::places::Place;
use crate::links::rows::Link;
use crate::storage::files::hex;

/// What would be done about one file in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The link is made.
    Create,
    /// Our own link leads elsewhere and is made anew.
    Update,
    /// It is there.
    Skip,
    /// Something foreign is in the way.
    Conflict,
    /// No link can be made there, and nobody asked for a copy.
    Copy,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Skip => "skip",
            Self::Conflict => "conflict",
            Self::Copy => "copy",
        }
    }
}

/// What to do about something foreign in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Leave it.
    Skip,
    /// Keep it in a folder for such.
    Overwrite,
    /// Keep it beside the link as `<name>.old`.
    Rename,
}

impl Resolution {
    /// None for a word that is none of `skip`, `overwrite`, `rename`.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "skip" => Some(Self::Skip),
            "overwrite" => Some(Self::Overwrite),
            "rename" => Some(Self::Rename),
            _ => None,
        }
    }
}

/// One file of a model in one place of an app. Paths are absolute.
#[derive(Debug, Clone)]
pub struct PlannedLink {
    /// What would be done.
    pub action: Action,
    /// Whose file it is.
    pub model_id: String,
    /// Its shown name.
    pub model_name: String,
    /// The model's file.
    pub source: String,
    /// The link.
    pub target: String,
    /// What is made.
    pub kind: LinkKind,
    /// What a symlink will hold.
    pub text: String,
    /// Link and file lie on different volumes.
    pub external: bool,
    /// In a few words.
    pub reason: &'static str,
    /// What is there.
    pub existing: String,
    /// Bytes of a copy.
    pub size: u64,
    /// For conflicts: exactly enough of what is there to notice that it changed.
    pub stamp: String,
}

/// A row of the registry whose link is to go.
#[derive(Debug, Clone)]
pub struct Unneeded {
    /// The row.
    pub link: Link,
    /// Where it is; absolute.
    pub target: String,
    /// What its symlink holds, "" when nothing is there.
    pub existing: String,
    /// In a few words.
    pub reason: &'static str,
}

/// What the caller allows beside links.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// Copies where no link can be made.
    pub copy: bool,
    /// A folder in the place of a models folder that is somebody's link.
    pub replace_models_link: bool,
}

/// What would be done for one version.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The version.
    pub place: Place,
    /// In order of their targets.
    pub links: Vec<PlannedLink>,
    /// Go.
    pub broken: Vec<Unneeded>,
    /// Work, but no rule wants them any more.
    pub unwanted: Vec<Unneeded>,
    /// Set when the models folder itself is a link that is moved aside for a folder: one into the library, as very old
    /// versions had it, or another that the caller gave up.
    pub models_link: String,
    /// Where it leads when it is somebody's link, else "".
    pub foreign_link: String,
    /// Nobody wrote rules yet.
    pub from_app: bool,
    /// For the user.
    pub warnings: Vec<String>,
    /// Why there is nothing to plan.
    pub errors: Vec<String>,
}

impl Plan {
    /// Nothing is planned yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            links: Vec::new(),
            broken: Vec::new(),
            unwanted: Vec::new(),
            models_link: String::new(),
            foreign_link: String::new(),
            from_app: false,
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The links with these actions.
    pub fn of(&self, actions: &[Action]) -> impl Iterator<Item = &PlannedLink> {
        self.links
            .iter()
            .filter(move |link| actions.contains(&link.action))
    }

    /// Whether applying it would do anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.broken.is_empty()
            || !self.models_link.is_empty()
            || self.of(&[Action::Create, Action::Update]).next().is_some()
    }

    /// Whether something foreign is in the way.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        self.of(&[Action::Conflict]).next().is_some()
    }

    /// The same for the same plan: another one means that something has changed meanwhile.
    #[must_use]
    pub fn id(&self) -> String {
        let mut digest = Blake2b::<U16>::new();
        digest.update(format!("{}\0{}\0", self.place.folder, self.models_link));
        for link in self.links.iter().filter(|link| link.action != Action::Skip) {
            let parts = [
                link.action.as_str(),
                &link.model_id,
                &link.source,
                &link.target,
                link.kind.as_str(),
                &link.text,
                &link.stamp,
            ];
            digest.update(parts.join("\0"));
            digest.update(b"\n");
        }
        for gone in &self.broken {
            digest.update(format!("{}\0{}\n", gone.target, gone.existing));
        }
        format!("plan-{}", hex(&digest.finalize()))
    }
}

/// Where something is that was in the way; absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kept {
    /// Where it was.
    pub target_path: String,
    /// Where it is.
    pub backup_path: String,
}

/// Counts of what was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Applied {
    /// Links that were made.
    pub created: u64,
    /// Of those, our own that led elsewhere.
    pub updated: u64,
    /// Were there.
    pub skipped: u64,
    /// Broken ones.
    pub removed: u64,
    /// Kept beside the link.
    pub renamed: u64,
    /// Kept in the folder for such.
    pub overwritten: u64,
    /// Left alone.
    pub conflicts: u64,
    /// Links of the version that are in place.
    pub total: u64,
    /// Bytes.
    pub copied_bytes: u64,
    /// Links that were not made, and why.
    pub errors: Vec<String>,
    /// What was moved aside.
    pub kept: Vec<Kept>,
}
