//! Compressed bodies: what they were before, up to the size that somebody has room for.
//!
//! The forms are those of RFC 9110 §8.4.1. We ask for none; a server between us and the host may send one all the same.

use std::io::{self, Cursor, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// More forms, one inside the other, are no server's honest doing.
const MOST: usize = 5;

type Bytes<'a> = Box<dyn Read + 'a>;
type Undo = for<'a> fn(Bytes<'a>) -> io::Result<Bytes<'a>>;

/// The forms in which a body came, the last one outermost.
pub(super) struct Forms(Vec<Undo>);

impl Forms {
    /// Of a `Content-Encoding`. With a form in it that nobody here knows, the body stays as it came.
    pub(super) fn of(header: &str) -> Self {
        let names = header.split(',').map(|name| name.trim().to_ascii_lowercase());
        let named = names.filter(|name| !name.is_empty() && name != "identity");
        Self(
            named
                .map(|name| known(&name))
                .collect::<Option<_>>()
                .unwrap_or_default(),
        )
    }

    /// Whether the body is what it was.
    pub(super) fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// The body as it was, or the first `limit` bytes of it and one more. Takes as long as unpacking does.
    ///
    /// # Errors
    /// It is not in the form that was named.
    pub(super) fn undone(&self, body: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        if self.0.len() > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut plain: Bytes<'_> = Box::new(body);
        for undo in self.0.iter().rev() {
            plain = undo(plain)?;
        }
        let mut found = Vec::new();
        plain.take(limit as u64 + 1).read_to_end(&mut found)?;
        Ok(found)
    }
}

fn known(name: &str) -> Option<Undo> {
    match name {
        "gzip" | "x-gzip" => Some(gunzipped),
        "deflate" => Some(inflated),
        _ => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of the forms' functions")]
fn gunzipped(packed: Bytes<'_>) -> io::Result<Bytes<'_>> {
    Ok(Box::new(MultiGzDecoder::new(packed)))
}

/// Servers send two forms under this name; zlib's is known by its first two bytes (RFC 1950 §2.2).
fn inflated(mut packed: Bytes<'_>) -> io::Result<Bytes<'_>> {
    let mut start = Vec::new();
    packed.by_ref().take(2).read_to_end(&mut start)?;
    let is_zlib = matches!(start[..], [method, flags]
        if method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31));
    let packed = Cursor::new(start).chain(packed);
    Ok(if is_zlib {
        Box::new(ZlibDecoder::new(packed))
    } else {
        Box::new(DeflateDecoder::new(packed))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const BEST: Compression = Compression::best();

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), BEST);
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut packer = ZlibEncoder::new(Vec::new(), BEST);
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut packer = DeflateEncoder::new(Vec::new(), BEST);
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn forms() {
        let text = b"[1]".as_slice();
        for (header, body) in [
            ("", text.to_vec()),
            ("identity", text.to_vec()),
            ("gzip", gzip(text)),
            ("X-GZIP", gzip(text)),
            ("gzip", [gzip(b"["), gzip(b"1]")].concat()),
            ("deflate", zlib(text)),
            ("deflate", deflate(text)),
            ("gzip, deflate", zlib(&gzip(text))),
            ("gzip,identity ,gzip", gzip(&gzip(text))),
            ("br", text.to_vec()),
            ("gzip, br", text.to_vec()),
        ] {
            assert_eq!(Forms::of(header).undone(&body, 3).unwrap(), text, "{header}");
        }
    }

    #[test]
    fn what_is_packed_badly() {
        for (header, body) in [
            ("gzip", b"\x1f\x8b\x08nonsense".to_vec()),
            ("gzip", b"[1]".to_vec()),
            ("deflate", b"\x78\x9cnonsense".to_vec()),
            ("gzip, gzip", gzip(b"[1]")),
            ("gzip, gzip, gzip, gzip, gzip, gzip", gzip(b"")),
        ] {
            assert!(Forms::of(header).undone(&body, 99).is_err(), "{header}");
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_the_limit() {
        let bomb = gzip(&vec![0; 16 << 20]);
        let twice = gzip(&bomb);
        for (header, body) in [("gzip", bomb), ("gzip, gzip", twice)] {
            assert_eq!(Forms::of(header).undone(&body, 1000).unwrap().len(), 1001);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_a_body_or_none(body: Vec<u8>, header in "(gzip|deflate|identity|,| ){0,8}") {
            if let Ok(plain) = Forms::of(&header).undone(&body, 100) {
                proptest::prop_assert!(plain.len() <= 101);
            }
        }

        #[test]
        fn what_was_packed_comes_out(body: Vec<u8>) {
            for packed in [("gzip", gzip(&body)), ("deflate", zlib(&body)), ("deflate", deflate(&body))] {
                proptest::prop_assert_eq!(&Forms::of(packed.0).undone(&packed.1, body.len()).unwrap(), &body);
            }
        }
    }
}
