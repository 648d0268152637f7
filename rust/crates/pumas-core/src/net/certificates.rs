//! All certificates that the user trusts in one file: git, uv and pip read one, instead of the system's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::storage::files::{FILE_MODE, FOLDER_MODE, make_folders, write_durably};

/// Characters of a line of PEM: <https://www.rfc-editor.org/rfc/rfc7468#section-2>
const LINE: usize = 64;

/// Write the system's roots and those of `bundle` to `target`; the file to trust, `bundle` itself where that fails.
pub(super) fn gathered(bundle: &Path, target: &Path) -> PathBuf {
    match write(bundle, target) {
        Ok(()) => target.to_path_buf(),
        Err(_) => bundle.to_path_buf(),
    }
}

fn write(bundle: &Path, target: &Path) -> io::Result<()> {
    let system = rustls_native_certs::load_native_certs().certs;
    let mut data: String = system.iter().map(|certificate| pem(certificate)).collect();
    data.push('\n');
    let mut data = data.into_bytes();
    data.extend(fs::read(bundle)?);
    if let Some(folder) = target.parent() {
        make_folders(folder, FOLDER_MODE)?;
    }
    write_durably(target, &data, FILE_MODE)
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(LINE) {
        lines.push_str(&text[start..text.len().min(start + LINE)]);
        lines.push('\n');
    }
    lines.push_str("-----END CERTIFICATE-----\n");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::transport::certificates;

    #[test]
    fn what_is_written_holds_the_systems_certificates_and_the_users() {
        let place = tempfile::tempdir().unwrap();
        let (bundle, target) = (
            place.path().join("own.pem"),
            place.path().join("cache/trusted.pem"),
        );
        let own = vec![7; 100];
        fs::write(&bundle, pem(&own)).unwrap();
        assert_eq!(gathered(&bundle, &target), target);
        let written = certificates(&fs::read(&target).unwrap());
        let mut wanted = rustls_native_certs::load_native_certs().certs;
        wanted.push(own.into());
        assert_eq!(written, wanted);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_users_file() {
        let place = tempfile::tempdir().unwrap();
        let bundle = place.path().join("own.pem");
        fs::write(&bundle, pem(&[7])).unwrap();
        assert_eq!(gathered(&bundle, &bundle.join("trusted.pem")), bundle);
    }
}
