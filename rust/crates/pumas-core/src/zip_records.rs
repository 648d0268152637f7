//! How the records of a ZIP file are laid out; what a reader believes of them is its own affair.
//!
//! Format: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT> (4.3.6–4.3.16, 4.4, 4.5.3). Sizes are those of
//! the fixed parts, in bytes.

pub(crate) const LOCAL_MAGIC: &[u8] = b"PK\x03\x04";
pub(crate) const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
pub(crate) const END_MAGIC: &[u8] = b"PK\x05\x06";
pub(crate) const END64_MAGIC: &[u8] = b"PK\x06\x06";
pub(crate) const LOCATOR64_MAGIC: &[u8] = b"PK\x06\x07";
pub(crate) const LOCAL_SIZE: usize = 30;
pub(crate) const ENTRY_SIZE: usize = 46;
pub(crate) const END_SIZE: usize = 22;
pub(crate) const END64_SIZE: usize = 56;
pub(crate) const LOCATOR64_SIZE: usize = 20;
/// The further field with the sizes and places of which the record itself says `u32::MAX`.
pub(crate) const WIDE_EXTRA: u16 = 1;
pub(crate) const STORED: u16 = 0;
pub(crate) const DEFLATED: u16 = 8;

/// The little-endian number at `at`; zero beyond the end.
pub(crate) fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(data, at))
}

/// As [`u16_at`].
pub(crate) fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(data, at))
}

/// As [`u16_at`].
pub(crate) fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(data, at))
}

fn bytes_at<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}
