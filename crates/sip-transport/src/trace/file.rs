//! Files that grow at their end by whole records, also where the disk is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file to which whole records are added.
#[derive(Debug)]
pub(super) struct Growing {
    path: PathBuf,
    name: String,
    file: File,
    /// Where the last whole record ends, for a file that can be cut there. A pipe cannot.
    end: Option<u64>,
    buffer: Vec<u8>,
}

impl Growing {
    /// Opens a file, or makes one for its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Growing> {
        let file = open(path)?;
        let end = end_of(&file)?;
        Ok(Growing {
            path: path.to_owned(),
            name: path.display().to_string(),
            file,
            end,
            buffer: Vec::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Says where the last whole record ends; the rest goes.
    pub(super) fn cut(&mut self, end: u64) -> io::Result<()> {
        if self.end.is_some() {
            self.file.set_len(end)?;
            self.file.seek(SeekFrom::Start(end))?;
            self.end = Some(end);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end.unwrap_or_default() == 0
    }

    /// Adds one whole record.
    pub(super) fn add(&mut self, record: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(record);
        if self.buffer.len() >= BUFFER {
            return self.flush();
        }
        Ok(())
    }

    /// Writes what was added. Where that fails, it is gone, and the file ends where it did before.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.buffer);
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        match (&written, self.end) {
            (Ok(()), Some(end)) => self.end = Some(end.saturating_add(length)),
            (Err(_), Some(end)) => self.cut(end)?,
            (_, None) => {}
        }
        written
    }

    /// Opens the file again by its name. Where that fails, the old one stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let again = Growing::open(&self.path)?;
        *self = again;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not in append mode: where a write fails, the next has to begin where the failed one did.
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        // A pipe or device that can only be written.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            OpenOptions::new().write(true).open(path)
        }
        opened => opened,
    }
}

/// Goes to the end of a file that has one.
fn end_of(file: &File) -> io::Result<Option<u64>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut file = file;
    file.seek(SeekFrom::End(0)).map(Some)
}

/// Bytes that are written together.
const BUFFER: usize = 64 * 1024;
