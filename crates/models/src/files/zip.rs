//! What an archive says of itself, without unpacking it: the central directory at its end (PKWARE APPNOTE 6.3).
//!
//! It refuses archives that would unpack to far more than they are, that hold too many entries, pickles, or names that
//! leave a folder, and archives whose directory is not whole.

use kernel::{Error, Result};

use super::formats::{REFUSED_FORMAT, check_name, pickle};
use super::path::check_artifact_path;

/// The directory's end is within so much of the file's end: 22 bytes and the longest comment.
pub(super) const END_BYTES: u64 = 22 + 0xffff;
/// The largest directory that is read.
pub(super) const MAX_DIRECTORY_BYTES: u64 = 8 << 20;
const MAX_ENTRIES: usize = 20_000;
/// Text packs to a twentieth; a bomb to a thousandth and less.
const MAX_RATIO: u64 = 200;
/// Below this much unpacked nothing is a bomb.
const SMALL_BYTES: u64 = 16 << 20;

/// Whether a file that begins so is an archive.
pub(super) fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// Where the directory is: offset and length. `end` is the end of a file of `size_bytes`.
///
/// # Errors
/// `REFUSED_FORMAT` where there is none.
pub(super) fn directory(path: &str, end: &[u8], size_bytes: u64) -> Result<(u64, u64)> {
    let at = (0..=end.len().saturating_sub(22)).rev().find(|at| end[*at..].starts_with(b"PK\x05\x06"));
    let Some(record) = at.and_then(|at| end.get(at..at + 22)) else {
        return Err(refused(path, "its directory is missing: it was cut short or is damaged"));
    };
    let (length, offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    if offset == u64::from(u32::MAX) || length > MAX_DIRECTORY_BYTES {
        return Err(refused(path, "its directory is larger than is looked at; store its files one by one"));
    }
    if offset.saturating_add(length) > size_bytes {
        return Err(refused(path, "its directory lies outside of it: it was cut short or is damaged"));
    }
    Ok((offset, length))
}

/// Looks at every entry.
///
/// # Errors
/// `REFUSED_FORMAT` saying what is wrong.
pub(super) fn check_directory(path: &str, directory: &[u8], size_bytes: u64) -> Result<()> {
    let (mut rest, mut entries, mut unpacked) = (directory, 0, 0_u64);
    while !rest.is_empty() {
        let is_whole = rest.len() >= 46 && rest.starts_with(b"PK\x01\x02");
        let length = if is_whole {
            46 + [28, 30, 32].iter().map(|at| usize::from(u16_at(rest, *at))).sum::<usize>()
        } else {
            usize::MAX
        };
        if length > rest.len() {
            return Err(refused(path, "its directory is damaged"));
        }
        let name = String::from_utf8_lossy(&rest[46..46 + usize::from(u16_at(rest, 28))]).into_owned();
        let size = u64::from(u32_at(rest, 24));
        unpacked = unpacked.saturating_add(size);
        entries += 1;
        if size == u64::from(u32::MAX) {
            return Err(refused(path, "an entry is larger than 4 GiB; store its files one by one"));
        }
        if check_artifact_path(name.trim_end_matches('/')).is_err() {
            return Err(refused(path, "an entry's name leaves the folder or is not a path"));
        }
        check_name(&name).map_err(|_| pickle(path))?;
        rest = &rest[length..];
    }
    if entries > MAX_ENTRIES {
        return Err(refused(path, "it has too many entries; store its files one by one"));
    }
    if unpacked > SMALL_BYTES && unpacked / size_bytes.max(1) > MAX_RATIO {
        return Err(refused(path, "it unpacks to more than 200 times its size"));
    }
    Ok(())
}

fn refused(path: &str, reason: &str) -> Error {
    Error::new(REFUSED_FORMAT, format!("the archive `{}` is refused: {reason}", path.escape_debug()))
        .with_field("path")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An archive of entries that say they are so large, without their content.
    pub(in super::super) fn archive(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        let start = bytes.len() as u32;
        for (name, size) in entries {
            let mut entry = vec![0_u8; 46];
            entry[..4].copy_from_slice(b"PK\x01\x02");
            entry[24..28].copy_from_slice(&size.to_le_bytes());
            entry[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend(entry);
            bytes.extend(name.as_bytes());
        }
        let length = bytes.len() as u32 - start;
        let mut end = vec![0_u8; 22];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[12..16].copy_from_slice(&length.to_le_bytes());
        end[16..20].copy_from_slice(&start.to_le_bytes());
        bytes.extend(end);
        bytes
    }

    fn check(bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let (offset, length) = directory("a.zip", bytes, size)?;
        check_directory("a.zip", &bytes[offset as usize..(offset + length) as usize], size)
    }

    #[test]
    fn archives_are_looked_into() {
        check(&archive(&[("weights.npy", 1_000), ("folder/", 0), ("folder/a.json", 10)])).unwrap();
        check(&archive(&[])).unwrap();
        let large: Vec<(&str, u32)> = vec![("zeros", 4_000_000_000); 10];
        let refused = |bytes: &[u8], part: &str| {
            let error = check(bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error} does not say {part}");
        };
        refused(&archive(&large), "200 times");
        refused(&archive(&[("archive/data.pkl", 10)]), "pickle");
        refused(&archive(&[("../../etc/passwd", 10)]), "leaves the folder");
        refused(&archive(&[("/etc/passwd", 10)]), "leaves the folder");
        let whole = archive(&[("a", 1)]);
        refused(&whole[..whole.len() - 10], "cut short");
        refused(b"PK\x03\x04", "cut short");
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            end in any::<[u8; 22]>(),
        ) {
            bytes.extend(b"PK\x05\x06");
            bytes.extend(end);
            let _ = check(&bytes);
            let _ = check_directory("a", &bytes, 1);
        }
    }
}
