//! The icons of shortcuts, as scalable images that the desktop's theme finds by name.
//!
//! A version's icon is the app's, with the tag on a dark banner across it. The app's own picture is used when the launcher
//! has one. <https://specifications.freedesktop.org/icon-theme-spec/latest/>

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;
use crate::storage::files::{During as _, FILE_MODE, FOLDER_MODE, make_folders, write_durably};
use crate::text::cut;

const LARGEST_PICTURE: u64 = 4 * 1024 * 1024;
const LABEL: usize = 12;
/// Longer labels are written smaller.
const WIDE: usize = 7;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const DRAWN: &str = concat!(
    r##"<rect x="16" y="16" width="224" height="224" rx="40" fill="#1f2a37"/>"##,
    r##"<path d="M72 84h40m32 88h40M112 84c40 0 0 88 32 88" fill="none" stroke="#9db8d9" stroke-width="10"/>"##,
    r##"<circle cx="72" cy="84" r="18" fill="#f2b84b"/><circle cx="184" cy="172" r="18" fill="#5fc29b"/>"##,
);

/// Put an icon into the theme that all others fall back to (`hicolor`), unless it is there already, just so.
///
/// `label` is the tag, "" draws no banner; `picture` is the app's own, a PNG file that may be missing. Blocks.
///
/// # Errors
/// What the disk refuses.
pub(super) fn write(theme: &Path, name: &str, label: &str, picture: &Path) -> Result<()> {
    let (path, data) = (place(theme, name), draw(label, picture));
    if fs::read(&path).is_ok_and(|there| there == data.as_bytes()) {
        return Ok(());
    }
    make_folders(path.parent().unwrap_or(theme), FOLDER_MODE)
        .and_then(|_| write_durably(&path, data.as_bytes(), FILE_MODE))
        .during("Writing the icon")?;
    tell(theme);
    Ok(())
}

/// Take it out again.
///
/// # Errors
/// What the disk refuses.
pub(super) fn remove(theme: &Path, name: &str) -> Result<()> {
    match fs::remove_file(place(theme, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).during("Removing the icon");
        }
        _ => {}
    }
    tell(theme);
    Ok(())
}

fn place(theme: &Path, name: &str) -> PathBuf {
    theme.join("scalable/apps").join(format!("{name}.svg"))
}

fn draw(label: &str, picture: &Path) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
         viewBox=\"0 0 256 256\" width=\"256\" height=\"256\">{}{}</svg>\n",
        image(picture),
        banner(label)
    )
}

fn image(picture: &Path) -> String {
    let mut data = Vec::new();
    let read = File::open(picture).and_then(|file| file.take(LARGEST_PICTURE + 1).read_to_end(&mut data));
    if read.is_err() || !data.starts_with(PNG) || data.len() as u64 > LARGEST_PICTURE {
        return DRAWN.to_owned();
    }
    format!(
        "<image width=\"256\" height=\"256\" preserveAspectRatio=\"xMidYMid meet\" \
         xlink:href=\"data:image/png;base64,{}\"/>",
        STANDARD.encode(&data)
    )
}

fn banner(label: &str) -> String {
    let text = cut(label.trim_start_matches(['v', 'V']), LABEL)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if text.is_empty() {
        return text;
    }
    let size = if text.chars().count() <= WIDE { 52 } else { 36 };
    format!(
        "<rect y=\"92\" width=\"256\" height=\"72\" fill=\"#000000\" fill-opacity=\"0.75\"/>\
         <text x=\"128\" y=\"146\" text-anchor=\"middle\" font-family=\"DejaVu Sans, sans-serif\" \
         font-weight=\"bold\" font-size=\"{size}\" fill=\"#ffffff\">{text}</text>"
    )
}

/// A theme's new date is what desktops look for.
fn tell(theme: &Path) {
    let _ = File::open(theme).and_then(|folder| folder.set_modified(SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_text_and_nothing_else() {
        assert!(banner("v0.3.10").contains("font-size=\"52\" fill=\"#ffffff\">0.3.10</text>"));
        assert!(banner("<script>").contains("&lt;script&gt;"));
        assert_eq!(banner("v"), "");
    }

    #[test]
    fn a_picture_is_taken_in_when_it_is_one() {
        let place = tempfile::tempdir().unwrap();
        let picture = place.path().join("x.png");
        assert_eq!(image(&picture), DRAWN);
        fs::write(&picture, b"GIF").unwrap();
        assert_eq!(image(&picture), DRAWN);
        fs::write(&picture, PNG).unwrap();
        assert!(image(&picture).contains("base64,iVBORw0KGgo="));
        write(place.path(), "a", "", &picture).unwrap();
        assert!(place.path().join("scalable/apps/a.svg").exists());
        remove(place.path(), "a").unwrap();
        remove(place.path(), "a").unwrap();
        assert!(!place.path().join("scalable/apps/a.svg").exists());
    }
}
