//! Opens a file, undoes gzip or zstd (told by content, not by name), counts what was read.
//!
//! Refuses: UTF-16 and folders. To add one more compression: its magic bytes in `Compression::of` and its
//! decoder in `decoder`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Error, Result};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::IMPORT_SOURCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstandard,
}

impl Compression {
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstandard,
            _ => Self::None,
        }
    }
}

/// An open file.
pub(super) struct Source {
    pub(super) input: Box<dyn Read + Send>,
    pub(super) read_bytes: Arc<AtomicU64>,
}

pub(super) fn fault(path: &Path, cause: &io::Error) -> Error {
    // The cause is in the message, as the reasons of files that are left out hold messages alone.
    Error::new(IMPORT_SOURCE, format!("`{}` cannot be read: {cause}", path.display()))
}

/// What became of a file since all of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    Same,
    /// The same, and more after it.
    Grown,
    Changed,
}

/// The length and the CRC-32 of a file as it is stored.
#[cfg(feature = "parquet")]
pub(super) fn measure(path: &Path) -> Result<(u64, u32)> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(|cause| fault(path, &cause))?);
    let mut hasher = crc32fast::Hasher::new();
    let mut size_bytes = 0;
    loop {
        let count = {
            let block = file.fill_buf().map_err(|cause| fault(path, &cause))?;
            hasher.update(block);
            block.len()
        };
        if count == 0 {
            return Ok((size_bytes, hasher.finalize()));
        }
        file.consume(count);
        size_bytes += count as u64;
    }
}

/// Compares the uncompressed content with what it was: so many bytes of this CRC-32.
pub(super) fn compare(path: &Path, bytes: u64, crc32: u32) -> Result<Since> {
    let mut source = Source::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = bytes;
    loop {
        let count = match source.input.read(&mut buffer) {
            Ok(count) => count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            // It was read to its end before, so it is another file; reading it says what is wrong.
            Err(_) => return Ok(Since::Changed),
        };
        let of_before = left.min(count as u64) as usize;
        hasher.update(&buffer[..of_before]);
        left -= of_before as u64;
        if count == 0 || of_before < count {
            return Ok(match left == 0 && hasher.finalize() == crc32 {
                true if count == 0 => Since::Same,
                true => Since::Grown,
                false => Since::Changed,
            });
        }
    }
}

/// The first bytes of a file, uncompressed; fewer where it is broken.
pub(super) fn read_text_head(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut source = Source::open(path)?;
    let mut head = vec![0; limit];
    let mut length = 0;
    while length < limit {
        match source.input.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) if length == 0 => return Err(fault(path, &cause)),
            Err(_) => break,
        }
    }
    head.truncate(length);
    Ok(head)
}

impl Source {
    /// Opens `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::try_open(path).map_err(|cause| fault(path, &cause))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        let length = read_up_to(&mut file, &mut magic)?;
        let compression = Compression::of(&magic[..length]);
        if matches!(magic[..length], [0xff, 0xfe, ..] | [0xfe, 0xff] | [0xfe, 0xff, 0..=0xfe, ..]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is UTF-16, convert it to UTF-8"));
        }
        file.rewind()?;
        let read_bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted { file, read_bytes: Arc::clone(&read_bytes) };
        Ok(Self { input: decoder(counted, compression), read_bytes })
    }
}

fn decoder(file: Counted, compression: Compression) -> Box<dyn Read + Send> {
    match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)))
        }
        Compression::Zstandard => Box::new(Frames::new(BufReader::with_capacity(1 << 16, file))),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(length)
}

struct Counted {
    file: File,
    read_bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

// A zstd file is any number of frames, and the library reads one.
struct Frames<R> {
    file: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(file: R) -> Self {
        Self { file, decoder: FrameDecoder::new(), open: false }
    }

    fn open_frame(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.file) {
            Ok(()) => self.open = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                io::copy(&mut self.file.by_ref().take(u64::from(length)), &mut io::sink())?;
            }
            Err(cause) => return Err(io::Error::other(cause)),
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                if self.file.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.open_frame()?;
            } else if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            } else if self.decoder.is_finished() {
                self.open = false;
            } else {
                self.decoder
                    .decode_blocks(&mut self.file, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `a,b\n1,2\n` as two frames with a skippable frame between them.
    const ZSTANDARD: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, b'a', b',', b'b', b'\n', //
        0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9, //
        0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, b'1', b',', b'2', b'\n',
    ];

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::GzBuilder::new().read(text, flate2::Compression::fast());
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn compression_is_told_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.name");
        let check = |stored: &[u8], expected: Result<&str, &str>| {
            std::fs::write(&path, stored).unwrap();
            let mut text = String::new();
            let read = Source::open(&path).and_then(|mut source| {
                source.input.read_to_string(&mut text).map_err(|cause| fault(&path, &cause))
            });
            match expected {
                Ok(expected) => assert_eq!(read.map(|_| text.as_str()).unwrap(), expected),
                Err(part) => assert!(read.as_ref().unwrap_err().message().contains(part), "{read:?}"),
            }
        };
        check(b"a,b\n1,2\n", Ok("a,b\n1,2\n"));
        check(b"", Ok(""));
        check(&gzip(b"a,b\n1,2\n"), Ok("a,b\n1,2\n"));
        check(&[gzip(b"a,b\n"), gzip(b"1,2\n")].concat(), Ok("a,b\n1,2\n"));
        check(ZSTANDARD, Ok("a,b\n1,2\n"));
        check(&gzip(b"a,b\n1,2\n")[..15], Err("cannot be read"));
        check(&ZSTANDARD[..13], Ok("a,b\n"));
        check(&ZSTANDARD[..30], Err("cannot be read"));
        check(&[0xff, 0xfe, b'a', 0], Err("convert it to UTF-8"));
        assert!(Source::open(folder.path()).is_err(), "a folder is not a file");
        assert!(Source::open(&folder.path().join("absent")).is_err());
    }
    #[test]
    fn a_file_is_compared_by_all_of_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.name");
        let before = b"a,b\n1,2\n";
        let check = |stored: &[u8], expected: Since| {
            std::fs::write(&path, stored).unwrap();
            assert_eq!(compare(&path, before.len() as u64, crc32fast::hash(before)).unwrap(), expected);
        };
        check(before, Since::Same);
        check(&gzip(before), Since::Same);
        check(b"a,b\n1,2\n3", Since::Grown);
        check(&gzip(b"a,b\n1,2\n3"), Since::Grown);
        check(b"a,b\n1,3\n", Since::Changed);
        check(b"a,b\n1,2", Since::Changed);
        check(b"", Since::Changed);
        check(&gzip(before)[..15], Since::Changed);
        std::fs::remove_file(&path).unwrap();
        assert!(compare(&path, 0, 0).is_err());
    }
}
