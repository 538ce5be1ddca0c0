//! Opens a file, undoes gzip or zstd (told by content, not by name), counts what was read.
//!
//! Refuses: UTF-16 and folders. To add one more compression: its magic bytes in `Compression::of` and its
//! decoder in `decoder`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Error, Result};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::IMPORT_SOURCE;

/// How much of a file recognises it.
pub(super) const HEAD_BYTES: usize = 4096;

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

pub(super) fn fault(path: &Path, cause: io::Error) -> Error {
    Error::new(IMPORT_SOURCE, format!("`{}` cannot be read: {cause}", path.display())).with_source(cause)
}

/// The first bytes of a file as they are stored.
pub(super) fn read_head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let file = File::open(path).map_err(|cause| fault(path, cause))?;
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(|cause| fault(path, cause))?;
    Ok(head)
}

/// The first bytes of a file, uncompressed; fewer where it is broken.
pub(super) fn read_text_head(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut source = Source::open(path, 0)?;
    let mut head = vec![0; limit];
    let mut length = 0;
    while length < limit {
        match source.input.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) if length == 0 => return Err(fault(path, cause)),
            Err(_) => break,
        }
    }
    head.truncate(length);
    Ok(head)
}

impl Source {
    /// Opens `path` after `skip_bytes` uncompressed bytes.
    pub(super) fn open(path: &Path, skip_bytes: u64) -> Result<Self> {
        Self::try_open(path, skip_bytes).map_err(|cause| fault(path, cause))
    }

    fn try_open(path: &Path, skip_bytes: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        let length = read_up_to(&mut file, &mut magic)?;
        let compression = Compression::of(&magic[..length]);
        if matches!(magic[..length], [0xff, 0xfe, ..] | [0xfe, 0xff] | [0xfe, 0xff, 0..=0xfe, ..]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is UTF-16, convert it to UTF-8"));
        }
        let seek_bytes = if compression == Compression::None { skip_bytes } else { 0 };
        file.seek(SeekFrom::Start(seek_bytes))?;
        let read_bytes = Arc::new(AtomicU64::new(seek_bytes));
        let counted = Counted { file, read_bytes: Arc::clone(&read_bytes) };
        let mut input = decoder(counted, compression);
        if compression != Compression::None {
            io::copy(&mut input.by_ref().take(skip_bytes), &mut io::sink())?;
        }
        Ok(Self { input, read_bytes })
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
        let check = |stored: &[u8], skip: u64, expected: Result<&str, &str>| {
            std::fs::write(&path, stored).unwrap();
            let mut text = String::new();
            let read = Source::open(&path, skip).and_then(|mut source| {
                source.input.read_to_string(&mut text).map_err(|cause| fault(&path, cause))
            });
            match expected {
                Ok(expected) => assert_eq!(read.map(|_| text.as_str()).unwrap(), expected),
                Err(part) => assert!(read.as_ref().unwrap_err().message().contains(part), "{read:?}"),
            }
        };
        check(b"a,b\n1,2\n", 0, Ok("a,b\n1,2\n"));
        check(b"a,b\n1,2\n", 4, Ok("1,2\n"));
        check(b"", 0, Ok(""));
        check(&gzip(b"a,b\n1,2\n"), 0, Ok("a,b\n1,2\n"));
        check(&gzip(b"a,b\n1,2\n"), 4, Ok("1,2\n"));
        check(&[gzip(b"a,b\n"), gzip(b"1,2\n")].concat(), 0, Ok("a,b\n1,2\n"));
        check(ZSTANDARD, 0, Ok("a,b\n1,2\n"));
        check(ZSTANDARD, 4, Ok("1,2\n"));
        check(&gzip(b"a,b\n1,2\n")[..15], 0, Err("cannot be read"));
        check(&ZSTANDARD[..13], 0, Ok("a,b\n"));
        check(&ZSTANDARD[..30], 0, Err("cannot be read"));
        check(&[0xff, 0xfe, b'a', 0], 0, Err("convert it to UTF-8"));
        assert!(Source::open(folder.path(), 0).is_err(), "a folder is not a file");
        assert!(Source::open(&folder.path().join("absent"), 0).is_err());
    }
}
