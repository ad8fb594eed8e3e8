//! A file that is not whole yet: `.rsecho-NAME-IDENTITY-LENGTH.part` beside the name that it is to
//! have. It is only appended to, so what is there of it is its length, whenever its writer ends.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::Identity;
use crate::sys::files;

/// How every part's name begins, and no other file's that is received.
pub(super) const PREFIX: &str = ".rsecho-";
const SUFFIX: &str = ".part";
/// In the place of the length, where it or the identity is not known.
const UNKNOWN: &str = "new";

const NAME_HASH_BYTES: usize = 8;

/// What is kept before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// The kernel begins to write to the disk after so much, so that the end need not wait for all: of
/// 512 MiB that came in 3 s, fsync(2) took 6 ms instead of 190.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How often a part is opened again that somebody else removed at that moment.
const MAX_TRIES: u32 = 16;

/// The name of a part, and whether an offer of the same finds it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartName {
    pub(super) name: OsString,
    pub(super) is_resumable: bool,
}

impl PartName {
    /// For the file of this name, told by its identity and length where both are known.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub(super) fn new(file: &OsStr, identity: &Identity, length: Option<u64>) -> io::Result<Self> {
        let length = length.filter(|_| *identity != Identity::default());
        let mut identity = *identity;
        if length.is_none() {
            getrandom::fill(&mut identity).map_err(io::Error::other)?;
        }
        let length = length.map(|length| length.to_string());
        Ok(Self {
            is_resumable: length.is_some(),
            name: format!(
                "{PREFIX}{}-{}-{}{SUFFIX}",
                hash_of(file),
                hex(&identity),
                length.as_deref().unwrap_or(UNKNOWN)
            )
            .into(),
        })
    }
}

/// What stands for a file's name in those of its parts.
pub(super) fn hash_of(file: &OsStr) -> String {
    let hash = blake3::hash(file.as_encoded_bytes());
    hex(&hash.as_bytes()[..NAME_HASH_BYTES])
}

/// The hash in a part's name; `None`: it is no part's.
pub(super) fn hash_in(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let mut fields = name.split('-');
    let (hash, identity, length) = (fields.next()?, fields.next()?, fields.next()?);
    let is_hex = |field: &str, digits| {
        field.len() == digits && field.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let is_part = is_hex(hash, 2 * NAME_HASH_BYTES)
        && is_hex(identity, 2 * size_of::<Identity>())
        && (length == UNKNOWN || length.parse::<u64>().is_ok())
        && fields.next().is_none();
    is_part.then_some(hash)
}

/// Whether a name is kept for parts, also where capitals are no other letters.
pub(super) fn is_kept_for_parts(name: &str) -> bool {
    name.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open part, which no other process writes to.
#[derive(Debug)]
pub(super) struct Part {
    directory: Arc<File>,
    name: PartName,
    file: File,
    buffer: Vec<u8>,
    written_bytes: u64,
    /// Up to here the kernel has been told to write to the disk.
    writeback_from: u64,
}

impl Part {
    /// Opens the part of this name, or makes it. `None`: another process writes to it.
    ///
    /// # Errors
    ///
    /// Of the calls; `NotFound`: the directory was removed meanwhile.
    pub(super) fn open(
        directory: &Arc<File>,
        name: PartName,
        length: Option<u64>,
    ) -> io::Result<Option<Self>> {
        for _ in 0..MAX_TRIES {
            let file = files::open_to_append_at(directory, &name.name)?;
            if !files::try_lock(&file)? {
                return Ok(None);
            }
            let is = file.metadata()?;
            if !is.is_file() {
                return Err(io::Error::other(
                    "something that is no file has its part's name",
                ));
            }
            // Whoever had the lock before may have given it its name, or removed it.
            if !has_name(&is, directory, &name.name) {
                continue;
            }
            if is.nlink() != 1 {
                // Its other name is somebody's file by now, which is not to be written to.
                files::remove_at(directory, &name.name)?;
                continue;
            }
            let mut written_bytes = is.len();
            if length.is_some_and(|length| written_bytes > length) {
                file.set_len(0)?;
                written_bytes = 0;
            }
            return Ok(Some(Self {
                directory: directory.clone(),
                name,
                file,
                buffer: Vec::new(),
                written_bytes,
                writeback_from: written_bytes,
            }));
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "its part is removed as often as it is made",
        ))
    }

    pub(super) fn length(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    pub(super) fn append(&mut self, data: &[u8]) -> io::Result<()> {
        if self.buffer.len() + data.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if data.len() >= BUFFER_BYTES {
            return self.write(data).1;
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Writes what was kept; of what cannot be written nothing is lost.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let (count, result) = self.write(&buffer);
        self.buffer = buffer;
        self.buffer.drain(..count);
        result
    }

    /// How much of it was written, and why no more was.
    fn write(&mut self, data: &[u8]) -> (usize, io::Result<()>) {
        let mut count = 0;
        let result = loop {
            if count == data.len() {
                break Ok(());
            }
            match (&self.file).write(&data[count..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => {
                    count += more;
                    self.written_bytes += more as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let behind = self.written_bytes - self.writeback_from;
        if behind >= WRITEBACK_BYTES {
            files::start_writeback(&self.file, self.writeback_from, behind);
            self.writeback_from = self.written_bytes;
        }
        (count, result)
    }

    pub(super) fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        read_at(&self.file, offset, room)
    }

    /// All of it to the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }

    /// Gives it the name that it is to have, and so ends it as a part.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: something else has that name, and it does not replace it.
    pub(super) fn put(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        if replaces {
            files::rename_over_at(&self.directory, &self.name.name, name)
        } else {
            files::rename_new_at(&self.directory, &self.name.name, name)
        }
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        // Where it cannot be, it is left, and found by the next transfer to the same name.
        let _ = files::remove_at(&self.directory, &self.name.name);
    }

    /// Its name, and how much of it is left to go on with; `None`: it is to be removed.
    pub(super) fn left(&self) -> Option<(&OsStr, u64)> {
        (self.name.is_resumable && self.written_bytes > 0)
            .then_some((&self.name.name, self.written_bytes))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        files::unlock(&self.file);
    }
}

/// As many bytes as there are from this offset on, as far as there is room.
pub(super) fn read_at(file: &File, offset: u64, room: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < room.len() {
        let Some(at) = offset.checked_add(count as u64) else {
            break;
        };
        match file.read_at(&mut room[count..], at) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Whether an open file is what has the name.
fn has_name(is: &Metadata, directory: &File, name: &OsStr) -> bool {
    files::find_at(directory, name)
        .is_ok_and(|found| (found.device, found.inode) == (is.dev(), is.ino()))
}

/// Removes a part that nobody writes to. False: somebody does, or it cannot be.
pub(super) fn remove_left(directory: &File, name: &OsStr) -> bool {
    let remove = || {
        let file = files::open_to_read_at(directory, name)?;
        let is_idle = files::try_lock(&file)? && has_name(&file.metadata()?, directory, name);
        Ok(is_idle && files::remove_at(directory, name).is_ok())
    };
    remove().unwrap_or_else(|error: io::Error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_told_from_all_others() {
        let file = OsStr::new("some\nfile");
        let longest = "x".repeat(255);
        for (file, identity, length) in [
            (file, [7; 16], Some(u64::MAX)),
            (file, [7; 16], None),
            (OsStr::new(&longest), [0; 16], Some(3)),
        ] {
            let part = PartName::new(file, &identity, length).unwrap();
            assert_eq!(part.is_resumable, identity == [7; 16] && length.is_some());
            assert!(part.name.len() <= 255);
            assert_eq!(hash_in(&part.name), Some(&*hash_of(file)));
            let again = PartName::new(file, &identity, length).unwrap();
            assert_eq!(part == again, part.is_resumable);
        }
        let resumable = PartName::new(file, &[0xab; 16], Some(12)).unwrap();
        let (hash, identity) = (hash_of(file), "ab".repeat(16));
        let wanted = format!(".rsecho-{hash}-{identity}-12.part");
        assert_eq!(resumable.name, *wanted);
        for other in [
            format!(".rsecho-{hash}-{identity}-12.part2"),
            format!(".rsecho-{hash}-{identity}-12"),
            format!(".rsecho-{hash}-{identity}--12.part"),
            format!(".rsecho-{hash}-{identity}-12-1.part"),
            format!(".rsecho-{hash}-{}-12.part", &identity[1..]),
            format!("rsecho-{hash}-{identity}-12.part"),
            ".rsecho-notes".to_owned(),
        ] {
            assert_eq!(hash_in(OsStr::new(&other)), None, "{other}");
        }
    }

    #[test]
    fn the_prefix_is_kept_in_capitals_as_well() {
        assert!(is_kept_for_parts(".rsecho-x") && is_kept_for_parts(".RsEcho-"));
        assert!(!is_kept_for_parts(".rsecho") && !is_kept_for_parts("x.rsecho-x"));
        assert!(!is_kept_for_parts("äöüäöü"));
    }
}
