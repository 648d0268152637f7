//! Where the desktop looks for things: menu entries, icons, and the folder that is shown as the desktop.
//!
//! <https://specifications.freedesktop.org/basedir-spec/latest/> and
//! <https://www.freedesktop.org/wiki/Software/xdg-user-dirs/>.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const LARGEST: u64 = 64 * 1024;
const KEY: &str = "XDG_DESKTOP_DIR";

/// As they are now.
pub(super) struct Folders {
    pub(super) menu: PathBuf,
    pub(super) icons: PathBuf,
    /// None when the user has switched it off.
    pub(super) desktop: Option<PathBuf>,
}

/// A user may rename them at any time. Blocks.
pub(super) fn find() -> Folders {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let data = base("XDG_DATA_HOME", &home, ".local/share");
    let settings = base("XDG_CONFIG_HOME", &home, ".config").join("user-dirs.dirs");
    Folders {
        menu: data.join("applications"),
        icons: data.join("icons/hicolor"),
        desktop: desktop(&read(&settings), &home),
    }
}

/// The specification says that relative paths are to be ignored.
fn base(variable: &str, home: &Path, usual: &str) -> PathBuf {
    let given = std::env::var_os(variable).map(PathBuf::from);
    given
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| home.join(usual))
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    match File::open(path).map(|file| file.take(LARGEST).read_to_string(&mut text)) {
        Ok(Ok(_)) => text,
        _ => String::new(),
    }
}

/// The folder that the settings name last.
fn desktop(settings: &str, home: &Path) -> Option<PathBuf> {
    let usual = || Some(home.join("Desktop"));
    let Some(text) = settings.lines().filter_map(value).next_back() else {
        return usual();
    };
    let place = if text == "$HOME" {
        home.to_path_buf()
    } else if let Some(rest) = text.strip_prefix("$HOME/") {
        home.join(rest)
    } else if text.starts_with('/') {
        PathBuf::from(text)
    } else {
        return usual();
    };
    // By the convention of xdg-user-dirs, the home folder itself means that there is none.
    let is_home = place.components().eq(home.components());
    (!is_home).then_some(place)
}

/// What one line gives the desktop folder, quotes and escapes undone.
fn value(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(KEY)?.trim_start();
    let mut quoted = rest.strip_prefix('=')?.trim_start().strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match quoted.next()? {
            '"' => return Some(text),
            '\\' => text.push(quoted.next()?),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_line_counts() {
        for (settings, expected) in [
            ("", Some("/home/me/Desktop")),
            (
                "XDG_DESKTOP_DIR=\"$HOME/Schreib\\\"tisch\"",
                Some("/home/me/Schreib\"tisch"),
            ),
            ("# x\n  XDG_DESKTOP_DIR = \"/mnt/d\" \n", Some("/mnt/d")),
            ("XDG_DESKTOP_DIR=\"/a\"\nXDG_DESKTOP_DIR=\"/b\"", Some("/b")),
            ("XDG_DESKTOP_DIR=\"relative\"", Some("/home/me/Desktop")),
            ("XDG_DESKTOP_DIR=\"$HOME\"", None),
            ("XDG_DESKTOP_DIR=\"$HOME/\"", None),
            ("XDG_DESKTOP_DIR=\"open", Some("/home/me/Desktop")),
        ] {
            let found = desktop(settings, Path::new("/home/me"));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{settings}");
        }
    }
}
