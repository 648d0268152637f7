//! The list of check sums that many projects publish beside their files, as `sha256sum` writes it.
//!
//! <https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html>: `DIGEST  NAME`, with `*` before the name
//! in binary mode, or with `--tag` `SHA256 (NAME) = DIGEST`. The list of one file may hold its digest alone.

pub(super) const LARGEST: usize = 1024 * 1024;
const COMMON: [&str; 6] = [
    "sha256sum.txt",
    "sha256sums.txt",
    "sha256sums",
    "sha256.txt",
    "checksums.txt",
    "checksums.sha256",
];
const OF_ONE: [&str; 3] = [".sha256", ".sha256sum", ".sha256.txt"];
const DIGITS: usize = 64;

/// Which of the published names is the list with the digest of `name`, best first.
pub(super) fn list_for<'a>(name: &str, published: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let of_one = OF_ONE.iter().map(|ending| format!("{name}{ending}"));
    let mut wanted = of_one.chain(COMMON.iter().map(|&one| one.to_owned()));
    // Of two that differ in case alone, the last.
    wanted.find_map(|one| {
        published
            .iter()
            .rev()
            .copied()
            .find(|known| known.to_lowercase() == one)
    })
}

/// The SHA-256 of `name` in lower-case hex; None when the list does not name it.
pub(super) fn digest_in(text: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text
        .split('\n')
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let alone = lines.len() == 1;
    let found = lines.iter().find_map(|line| {
        let (named, digest) = tagged(line).or_else(|| plain(line))?;
        named.map_or(alone, |named| named == name).then_some(digest)
    });
    found.map(str::to_lowercase)
}

/// The name, if there is one, and the digest.
fn plain(line: &str) -> Option<(Option<&str>, &str)> {
    let (digest, rest) = line
        .split_at_checked(DIGITS)
        .filter(|(digest, _)| is_digest(digest))?;
    if rest.is_empty() {
        return Some((None, digest));
    }
    let name = rest.trim_start_matches([' ', '\t']);
    let is_apart = name.len() < rest.len();
    let name = name.strip_prefix('*').unwrap_or(name);
    is_apart.then_some((Some(in_folder(name)), digest))
}

fn tagged(line: &str) -> Option<(Option<&str>, &str)> {
    let (name, digest) = line.strip_prefix("SHA256 (")?.rsplit_once(") = ")?;
    is_digest(digest).then_some((Some(in_folder(name)), digest))
}

fn in_folder(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

fn is_digest(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_file_itself_is_the_best() {
        let published = ["a.tgz", "SHA256SUMS", "a.tgz.sha256", "b.tgz.sha256"];
        assert_eq!(list_for("a.tgz", &published), Some("a.tgz.sha256"));
        assert_eq!(list_for("c.tgz", &published), Some("SHA256SUMS"));
        assert_eq!(list_for("c.tgz", &["a.tgz", "b.tgz.sha256"]), None);
    }

    #[test]
    fn lists_are_read_in_all_their_forms() {
        let (digest, other) = ("0a".repeat(32), "1B".repeat(32));
        for (list, expected) in [
            (format!("{digest}  a.tgz\n{other}  b.tgz\n"), Some(&digest)),
            (
                format!("{other}  b.tgz\r\n{} *./a.tgz\r\n", digest.to_uppercase()),
                Some(&digest),
            ),
            (format!("SHA256 (./a.tgz) = {digest}\n"), Some(&digest)),
            (format!("\u{feff}\n{digest}\n\n"), Some(&digest)),
            (format!("{digest}\n{other}\n"), None),
            (
                format!("{digest}  aa.tgz\n{digest}a.tgz\n{digest}0  a.tgz\n"),
                None,
            ),
            (format!("{}  a.tgz\n", &digest[1..]), None),
            ("<html>".to_owned(), None),
        ] {
            assert_eq!(digest_in(list.as_bytes(), "a.tgz").as_ref(), expected, "{list:?}");
        }
    }
}
