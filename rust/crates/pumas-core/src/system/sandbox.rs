//! Whether the sidecar runs inside a sandbox, and what that takes from the user.
//!
//! Only marks that a sandbox leaves are read; nothing is tried out.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

const CGROUP_LIMIT: u64 = 64 * 1024;

/// A kind of sandbox; the names are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxKind {
    /// Flatpak.
    Flatpak,
    /// Snap.
    Snap,
    /// Docker or another container.
    Docker,
    /// An `AppImage`.
    AppImage,
    /// None.
    None,
}

impl SandboxKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flatpak => "flatpak",
            Self::Snap => "snap",
            Self::Docker => "docker",
            Self::AppImage => "appimage",
            Self::None => "none",
        }
    }

    fn limitations(self) -> &'static [&'static str] {
        match self {
            Self::Flatpak => &[
                "Only folders that the Flatpak permits are visible; permit others with 'flatpak override --filesystem=PATH'.",
                "Links to files outside the permitted folders are broken inside the sandbox.",
            ],
            Self::Snap => &[
                "Only the home folder and connected interfaces are visible; hidden folders in the home folder are not.",
                "Other drives need the removable-media interface of the snap.",
            ],
            Self::Docker => &[
                "Only mounted volumes are visible; mount the model folders into the container.",
                "Links that leave a mounted volume are broken outside the container.",
            ],
            Self::AppImage => {
                &["The program's own folder is read-only and is mounted elsewhere at every start."]
            }
            Self::None => &[],
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Which.
    pub kind: SandboxKind,
    /// Sentences for the user.
    pub limitations: Vec<&'static str>,
}

impl Sandbox {
    /// Whether there is one.
    #[must_use]
    pub fn is_sandboxed(&self) -> bool {
        self.kind != SandboxKind::None
    }
}

/// The sandbox around this process, by the marks below `root` and by `variable`, which says whether an environment
/// variable is set and not empty.
///
/// The outermost mark decides: Flatpak (<https://docs.flatpak.org/en/latest/sandbox-permissions.html>), then snap, then a
/// container. An `AppImage` (<https://docs.appimage.org/packaging-guide/environment-variables.html>) gives the name even
/// inside one of these, and its limitations come on top.
#[must_use]
pub fn detect(root: &Path, variable: impl Fn(&str) -> bool) -> Sandbox {
    let around = if root.join(".flatpak-info").exists() || variable("FLATPAK_ID") {
        SandboxKind::Flatpak
    } else if variable("SNAP") {
        SandboxKind::Snap
    } else if root.join(".dockerenv").exists() || is_in_container(&root.join("proc/1/cgroup")) {
        SandboxKind::Docker
    } else {
        SandboxKind::None
    };
    let mut limitations = around.limitations().to_vec();
    if !variable("APPIMAGE") {
        return Sandbox {
            kind: around,
            limitations,
        };
    }
    limitations.extend(SandboxKind::AppImage.limitations());
    Sandbox {
        kind: SandboxKind::AppImage,
        limitations,
    }
}

fn is_in_container(cgroup: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(cgroup).and_then(|file| file.take(CGROUP_LIMIT).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    read.is_ok() && ["docker", "containerd"].iter().any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_mark_decides() {
        let root = tempfile::tempdir().unwrap();
        let kind = |variables: &[&str]| detect(root.path(), |name| variables.contains(&name)).kind;
        assert_eq!(kind(&[]), SandboxKind::None);
        assert_eq!(kind(&["SNAP", "FLATPAK_ID"]), SandboxKind::Flatpak);
        std::fs::write(root.path().join(".dockerenv"), b"").unwrap();
        assert_eq!(kind(&[]), SandboxKind::Docker);
        let image = detect(root.path(), |name| name == "APPIMAGE");
        assert_eq!((image.kind.as_str(), image.limitations.len()), ("appimage", 3));
    }

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
        std::fs::write(root.path().join("proc/1/cgroup"), b"0::/docker/1\n").unwrap();
        assert!(detect(root.path(), |_| false).is_sandboxed());
    }
}
