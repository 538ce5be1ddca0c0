//! The folder on disk: its lock, its format, its parts.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};

const FORMAT: &str = "watershed embedded store, format 2\n";
/// Had each event alone. What it has is read, and it becomes the newest format before
/// anything is written, so that a version that does not know chunks of events refuses it.
const FORMAT_BEFORE: &str = "watershed embedded store, format 1\n";

/// An open, locked folder. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is not there, locks it, and checks its format.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let at = |cause| failure(path, &cause);
        fs::create_dir_all(path).map_err(at)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("LOCK")).map_err(at)?;
        lock.try_lock().map_err(|cause| match cause {
            TryLockError::WouldBlock => {
                let message = format!(
                    "folder `{}` is open in another process; stop it or choose another folder",
                    path.display()
                );
                Error::new(codes::CONFLICT, message)
            }
            TryLockError::Error(cause) => failure(path, &cause),
        })?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.check_format()?;
        Ok(folder)
    }

    /// Whether `path` has what [`Folder::open`] makes, whatever its format.
    pub(crate) fn is_at(path: &Path) -> bool {
        path.join("FORMAT").exists() || path.join("keyed").exists()
    }

    fn check_format(&self) -> Result<()> {
        let file = self.path.join("FORMAT");
        match fs::read(&file) {
            Ok(found) if found == FORMAT.as_bytes() => Ok(()),
            Ok(found) if found == FORMAT_BEFORE.as_bytes() => Ok(()),
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).trim().chars().take(80).collect::<String>();
                let message = format!(
                    "`{}` says `{found}`, this version reads `{}`; open it with the version that wrote it",
                    file.display(),
                    FORMAT.trim()
                );
                Err(Error::new(codes::VALIDATION_ERROR, message))
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                if self.keyed().exists() {
                    let message = format!("`{}` is missing, though the folder holds data", file.display());
                    return Err(Error::new(codes::CORRUPTED, message));
                }
                self.write_format(&file).map_err(|cause| failure(&self.path, &cause))
            }
            Err(cause) => Err(failure(&self.path, &cause)),
        }
    }

    /// Notes that what is written from now on is of the newest format.
    pub(crate) fn upgrade(&self) -> Result<()> {
        let upgrade = |file: &Path| {
            if fs::read(file)? == FORMAT.as_bytes() { Ok(()) } else { self.write_format(file) }
        };
        upgrade(&self.path.join("FORMAT")).map_err(|cause| failure(&self.path, &cause))
    }

    // Written aside and renamed, so that it is whole or not there.
    fn write_format(&self, file: &Path) -> io::Result<()> {
        let aside = self.path.join("FORMAT.new");
        let mut writer = File::create(&aside)?;
        writer.write_all(FORMAT.as_bytes())?;
        writer.sync_all()?;
        fs::rename(&aside, file)?;
        File::open(&self.path)?.sync_all()?;
        // The folder itself may be new as well.
        match self.path.canonicalize()?.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the database is.
    pub(crate) fn keyed(&self) -> PathBuf {
        self.path.join("keyed")
    }

    /// Where the blobs are.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }
}

/// The error for a folder that cannot be used.
pub(crate) fn failure(path: &Path, cause: &io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => codes::STORAGE_FULL,
        _ => codes::UNAVAILABLE,
    };
    Error::new(code, format!("folder `{}` cannot be used: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_opener_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        assert!(!Folder::is_at(&path) && !path.exists());
        let first = Folder::open(&path).unwrap();
        assert!(Folder::is_at(&path));
        let second = Folder::open(&path).unwrap_err();
        assert_eq!(second.code(), codes::CONFLICT);
        assert!(second.message().contains(&*path.to_string_lossy()), "{second}");
        drop(first);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn the_format_before_becomes_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("FORMAT");
        fs::write(&file, FORMAT_BEFORE).unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), FORMAT_BEFORE, "nothing was written yet");
        opened.upgrade().unwrap();
        drop(opened);
        assert_eq!(fs::read_to_string(&file).unwrap(), FORMAT);
        Folder::open(folder.path()).unwrap();
    }

    #[test]
    fn other_formats_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("FORMAT"), "watershed embedded store, format 3\n").unwrap();
        let refused = Folder::open(folder.path()).unwrap_err();
        assert_eq!(refused.code(), codes::VALIDATION_ERROR);
        assert!(refused.message().contains("format 3"), "{refused}");
        fs::remove_file(folder.path().join("FORMAT")).unwrap();
        fs::create_dir(folder.path().join("keyed")).unwrap();
        assert_eq!(Folder::open(folder.path()).unwrap_err().code(), codes::CORRUPTED);
    }
}
