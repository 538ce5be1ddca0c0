//! A look at the database's journals before it opens them.
//!
//! `fjall` reads a journal up to the first entry that it cannot parse, cuts the file there, and goes on without a
//! word. That is right for a write that a crash tore at the end of the newest journal. It would also drop every
//! acknowledged write behind one damaged byte. So each journal is read here first: a torn end is cut and reported,
//! anything else is refused with the file and the place.
//!
//! What is what: every batch was synced before the next one was written, so at most the last one can be torn. A
//! whole batch behind the damage, a complete last batch with a wrong checksum (unless a block of it was never
//! written and reads as zeros), or damage in an older journal is corruption.
//!
//! The layout is that of journals of `fjall` format 3: start (tag, count, sequence number), items (tag, type,
//! compression, keyspace, lengths, key, value) or clears, end (tag, xxh3 of the items, magic). The tests write with
//! `fjall` and read here, so a change of the layout cannot pass unseen.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};
use xxhash_rust::xxh3::Xxh3;

use crate::folder::failure;

const MAGIC: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const START_BYTES: usize = 13;
/// Of an item, after its tag.
const ITEM_HEAD_BYTES: usize = 20;
const BLOCK_BYTES: usize = 4_096;

/// Checks every journal in `folder` and cuts a torn end off the newest one.
///
/// # Errors
/// `CORRUPTED` naming the file and the place.
pub(crate) fn check_journals(folder: &Path) -> Result<()> {
    let journals = list_journals(folder).map_err(|cause| failure(folder, &cause))?;
    let newest = journals.len().saturating_sub(1);
    for (number, path) in journals.iter().enumerate() {
        check_journal(path, number == newest).map_err(|cause| failure(folder, &cause))??;
    }
    Ok(())
}

/// The journals, oldest first.
fn list_journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

fn check_journal(path: &Path, is_newest: bool) -> io::Result<Result<()>> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut reader = BufReader::with_capacity(1 << 18, &file);
    let mut good_bytes = 0;
    let mut scratch = Vec::new();
    let broken = loop {
        match read_batch(&mut reader, &mut scratch)? {
            Found::Batch(bytes) => good_bytes += bytes,
            broken => break broken,
        }
    };
    drop(reader);
    file.seek(SeekFrom::Start(good_bytes))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    if tail.iter().all(|byte| *byte == 0) {
        return Ok(Ok(()));
    }
    let cause = match broken {
        _ if !is_newest => "an older journal is damaged",
        Found::WrongChecksum(bytes) if !has_missing_block(good_bytes, &tail[..bytes]) => {
            "a whole batch fails its checksum"
        }
        _ if has_batch(&tail[1..]) => "there are whole batches behind the damage",
        _ => {
            let torn_bytes = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            tracing::info!(torn_bytes, path = %path.display(), "cut a write that was torn before it was acknowledged");
            file.set_len(good_bytes)?;
            file.sync_all()?;
            return Ok(Ok(()));
        }
    };
    let message = format!(
        "journal `{}` is damaged at byte {good_bytes}: {cause}; restore the folder from a copy",
        path.display()
    );
    Ok(Err(Error::new(codes::CORRUPTED, message)))
}

/// What stands at a place of a journal.
enum Found {
    /// A batch of so many bytes.
    Batch(u64),
    /// A batch of so many bytes that was changed after it was written.
    WrongChecksum(usize),
    /// Something else, or nothing.
    Nothing,
}

/// Reads one batch. Reading past the end is `Nothing`; only a failing disk is an error.
fn read_batch(reader: &mut impl Read, scratch: &mut Vec<u8>) -> io::Result<Found> {
    match try_read_batch(reader, scratch) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Nothing),
        found => found,
    }
}

fn try_read_batch(reader: &mut impl Read, scratch: &mut Vec<u8>) -> io::Result<Found> {
    let start: [u8; START_BYTES] = read_array(reader)?;
    if start[0] != START {
        return Ok(Found::Nothing);
    }
    let count = u32::from_le_bytes([start[1], start[2], start[3], start[4]]);
    let mut checksum = Xxh3::new();
    let mut bytes = START_BYTES + 1 + 8 + MAGIC.len();
    for _ in 0..count {
        scratch.clear();
        if !read_item(reader, scratch)? {
            return Ok(Found::Nothing);
        }
        checksum.update(scratch);
        bytes += scratch.len();
    }
    let end: [u8; 13] = read_array(reader)?;
    if end[0] != END || end[9..] != *MAGIC {
        return Ok(Found::Nothing);
    }
    if end[1..9] != checksum.digest().to_le_bytes() {
        return Ok(Found::WrongChecksum(bytes));
    }
    Ok(Found::Batch(bytes as u64))
}

/// Appends the bytes of one item or clear to `scratch`; false when it is neither.
fn read_item(reader: &mut impl Read, scratch: &mut Vec<u8>) -> io::Result<bool> {
    let [tag] = read_array(reader)?;
    scratch.push(tag);
    let rest_bytes = match tag {
        CLEAR => 8,
        ITEM => {
            let head: [u8; ITEM_HEAD_BYTES] = read_array(reader)?;
            scratch.extend_from_slice(&head);
            item_bytes(&head).unwrap_or_default()
        }
        _ => return Ok(false),
    };
    // `take` reads as far as there is something, so that a garbage length takes no memory.
    let found = reader.by_ref().take(rest_bytes).read_to_end(scratch)?;
    if (found as u64) < rest_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(true)
}

fn read_array<const COUNT: usize>(reader: &mut impl Read) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether a whole batch begins anywhere in `tail`.
fn has_batch(tail: &[u8]) -> bool {
    let mut scratch = Vec::new();
    // A journal is made with many zeros, and what is compressed holds many places that a batch may begin at.
    let end = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1 + MAGIC.len());
    let tail = &tail[..end.min(tail.len())];
    (0..tail.len()).any(|place| {
        let rest = &tail[place..];
        is_plausible(rest) && matches!(read_batch(&mut &rest[..], &mut scratch), Ok(Found::Batch(_)))
    })
}

/// Whether a batch may begin here: it has a start, and its first item ends before `rest` does.
fn is_plausible(rest: &[u8]) -> bool {
    let Some((start, items)) = rest.split_first_chunk::<START_BYTES>() else { return false };
    match items {
        [CLEAR, ..] => start[0] == START,
        [ITEM, ..] if start[0] == START => {
            item_bytes(&items[1..]).is_some_and(|bytes| bytes < items.len() as u64)
        }
        _ => false,
    }
}

/// How long the key and the value of an item are, by its head.
fn item_bytes(head: &[u8]) -> Option<u64> {
    let head = head.first_chunk::<ITEM_HEAD_BYTES>()?;
    let key_bytes = u16::from_le_bytes([head[10], head[11]]);
    let value_bytes = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
    Some(u64::from(key_bytes) + u64::from(value_bytes))
}

/// Whether a block of the file within `batch` is all zeros, as one is that a crash kept from the disk.
fn has_missing_block(start: u64, batch: &[u8]) -> bool {
    let into_block = usize::try_from(start % BLOCK_BYTES as u64).unwrap_or(0);
    let skip = (BLOCK_BYTES - into_block) % BLOCK_BYTES;
    let blocks = batch.get(skip..).unwrap_or_default().chunks_exact(BLOCK_BYTES);
    blocks.into_iter().any(|block| block.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use fjall::{CompressionType, Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A folder whose journal has `batches` batches, the journal, and the place where the last batch begins.
    fn journal_of(batches: u32) -> (tempfile::TempDir, PathBuf, usize) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path())
            .journal_compression(CompressionType::None)
            .worker_threads(1)
            .open()
            .unwrap();
        let keyspace = database.keyspace("a", KeyspaceCreateOptions::default).unwrap();
        for number in 0..batches {
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            for item in 0..3_u32 {
                batch.insert(
                    &keyspace,
                    [number.to_be_bytes(), item.to_be_bytes()].concat(),
                    vec![b'x'; 5_000],
                );
            }
            batch.remove(&keyspace, [1]);
            batch.commit().unwrap();
        }
        drop((keyspace, database));
        let path = list_journals(folder.path()).unwrap().pop().unwrap();
        // Most of the zeros that a journal is made with would only make the tests slow.
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 10_000);
        fs::write(&path, &bytes).unwrap();
        let mut reader = &bytes[..];
        let mut last = 0;
        for _ in 1..batches {
            let Found::Batch(found) = read_batch(&mut reader, &mut Vec::new()).unwrap() else {
                panic!("no batch")
            };
            last += usize::try_from(found).unwrap();
        }
        (folder, path, last)
    }

    fn batches_in(path: &Path) -> usize {
        let bytes = fs::read(path).unwrap();
        let mut reader = &bytes[..];
        let next = |reader: &mut &[u8]| read_batch(reader, &mut Vec::new()).unwrap();
        std::iter::from_fn(|| matches!(next(&mut reader), Found::Batch(_)).then_some(())).count()
    }

    #[test]
    fn damage_is_told_from_a_torn_end() {
        let check = |name: &str, damage: &dyn Fn(&mut Vec<u8>, usize), kept: Option<usize>| {
            let (folder, path, last) = journal_of(4);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes, last);
            fs::write(&path, &bytes).unwrap();
            match (check_journals(folder.path()), kept) {
                (Ok(()), Some(kept)) => assert_eq!(batches_in(&path), kept, "{name}"),
                (Err(error), None) => assert_eq!(error.code(), codes::CORRUPTED, "{name}"),
                (found, kept) => panic!("{name}: {found:?} where {kept:?} was expected"),
            }
        };
        let end_of = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        check("nothing", &|_, _| {}, Some(4));
        check("cut before the last batch", &|bytes, last| bytes.truncate(last), Some(3));
        check("cut in its start", &|bytes, last| bytes.truncate(last + 5), Some(3));
        check("cut in an item", &|bytes, last| bytes.truncate(last + 200), Some(3));
        check("cut in its end", &|bytes, _| bytes.truncate(end_of(bytes) - 1), Some(3));
        check("zeros from an item on", &|bytes, last| bytes[last + 200..].fill(0), Some(3));
        check(
            "a block that was not written",
            &|bytes, last| {
                let block = (last + 100).next_multiple_of(BLOCK_BYTES);
                bytes[block..block + BLOCK_BYTES].fill(0);
            },
            Some(3),
        );
        check(
            "garbage at the end",
            &|bytes, _| {
                bytes.truncate(end_of(bytes));
                bytes.extend((0..1_000_u32).map(|number| (number * 7 % 251) as u8));
            },
            Some(4),
        );
        check(
            "a start with a huge item at the end",
            &|bytes, _| {
                bytes.truncate(end_of(bytes));
                bytes.extend([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
                bytes.extend([0xff; 40]);
            },
            Some(4),
        );
        check("a flipped tag in the first batch", &|bytes, _| bytes[0] ^= 1, None);
        check("a flipped value in the first batch", &|bytes, _| bytes[100] ^= 1, None);
        check("a flipped length in the first batch", &|bytes, _| bytes[START_BYTES + 18] ^= 1, None);
        check("a flipped value in the last batch", &|bytes, last| bytes[last + 100] ^= 1, None);
    }

    #[test]
    fn a_torn_batch_that_looks_like_many_is_read_once() {
        let (folder, path, last) = journal_of(2);
        let mut bytes = fs::read(&path).unwrap();
        // Each place looks like the start of a batch whose first item is longer than the journal.
        let start = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        bytes.truncate(last + 200);
        bytes.extend(std::iter::repeat_n([&start[..], &[0xff; 22]].concat(), 30_000).flatten());
        bytes.extend(std::iter::repeat_n(0, 32 << 20));
        fs::write(&path, &bytes).unwrap();
        check_journals(folder.path()).unwrap();
        assert_eq!(batches_in(&path), 1);
    }

    #[test]
    fn an_older_journal_must_be_whole() {
        let (folder, path, last) = journal_of(2);
        let bytes = fs::read(&path).unwrap();
        fs::write(folder.path().join("999.jnl"), &bytes).unwrap();
        check_journals(folder.path()).unwrap();
        fs::write(&path, &bytes[..last + 200]).unwrap();
        assert_eq!(check_journals(folder.path()).unwrap_err().code(), codes::CORRUPTED);
    }
}
