//! A path as a checkpoint can keep it, which holds UTF-8 only: the name of a file may be any bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// All but letters, digits and `/_.-~` is written as in addresses (RFC 3986).
pub(super) fn kept(path: &Path) -> String {
    let mut kept = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'_' | b'.' | b'-' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                kept.push(char::from(*byte));
            }
            _ => kept.push_str(&escaped(*byte)),
        }
    }
    kept
}

fn escaped(byte: u8) -> String {
    format!("%{byte:02X}")
}

/// The path that was [`kept`].
pub(super) fn path_of(kept: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(kept.len());
    let mut rest = kept.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *byte == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn paths_of_any_bytes_are_kept() {
        assert_eq!(kept(Path::new("/a b/é%.gguf")), "/a%20b/%C3%A9%25.gguf");
        for bytes in [&b"/a b/\xff%41.gguf"[..], b"~/x-y_z.1", b"%", b"%zz"] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(path_of(&kept(path)), path);
        }
        assert_eq!(path_of("%4"), Path::new("%4"));
    }
}
