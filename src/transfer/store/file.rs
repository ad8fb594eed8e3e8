//! A message out of a file, read where it is asked for: of its bytes none is kept.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::part::read_at;
use super::{Identity, Name, Source};
use crate::sys::files;
use crate::transfer::failure::{Failure, Reason};

/// A file, whose length and contents are to stay what they are until it is sent.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
    changed: Changed,
    identity: Identity,
}

/// When its contents changed last, as the file system has it.
type Changed = (i64, i64);

fn changed(is: &Metadata) -> Changed {
    (is.mtime(), is.mtime_nsec())
}

impl FileSource {
    /// The file of this path, which is sent under this name.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is none, or it is none to be read as often as needed: a pipe, say, which
    /// is for [`super::pipe::PipeSource`]. `Io`: it cannot be opened.
    pub fn open(path: &Path, name: &Name) -> Result<Self, Failure> {
        let what = format!("open {}", path.display());
        // Nothing is waited for until it is known to be a file: fifo(7).
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| not_opened(&what, &error))?;
        Self::of(file, name).map_err(|error| not_opened(&what, &error))
    }

    /// A file that is open to be read, which is sent under this name.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: it is not a regular file.
    pub fn of(file: File, name: &Name) -> io::Result<Self> {
        let is = file.metadata()?;
        if !is.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ));
        }
        Ok(Self {
            length: is.len(),
            changed: changed(&is),
            identity: identity(name, &is),
            file,
        })
    }

    /// What has this name in an open directory, no link followed.
    pub(super) fn open_at(directory: &File, file: &OsStr, name: &Name) -> io::Result<Self> {
        Self::of(files::open_to_read_at(directory, file)?, name)
    }

    fn check(&self) -> io::Result<()> {
        let is = self.file.metadata()?;
        if (is.len(), changed(&is)) == (self.length, self.changed) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it changed while it was sent: send it again",
        ))
    }
}

fn not_opened(what: &str, error: &io::Error) -> Failure {
    let mut failure = Failure::io(what, error);
    if matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
    ) {
        failure.reason = Reason::NotFound;
    }
    failure
}

/// Another one as soon as name, length, time of change or file differ.
fn identity(name: &Name, is: &Metadata) -> Identity {
    let mut hasher = blake3::Hasher::new();
    for component in name.components() {
        hasher.update(&(component.len() as u64).to_be_bytes());
        hasher.update(component.as_bytes());
    }
    // No component is that long: the name ends here.
    hasher.update(&u64::MAX.to_be_bytes());
    for number in [is.len(), is.mtime() as u64, is.mtime_nsec() as u64] {
        hasher.update(&number.to_be_bytes());
    }
    for number in [is.dev(), is.ino()] {
        hasher.update(&number.to_be_bytes());
    }
    let mut identity = Identity::default();
    hasher.finalize_xof().fill(&mut identity);
    identity
}

impl Source for FileSource {
    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        // What was added meanwhile is not sent.
        let left = self.length.saturating_sub(offset);
        let wanted = usize::try_from(left).map_or(room.len(), |left| left.min(room.len()));
        let count = read_at(&self.file, offset, &mut room[..wanted])?;
        if count < wanted || offset.saturating_add(count as u64) >= self.length {
            self.check()?;
        }
        if count < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

    fn identity(&self) -> Identity {
        self.identity
    }
}

#[cfg(test)]
mod tests {
    use super::super::temporary::Temporary;
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn source(here: &Temporary, file: &str) -> FileSource {
        FileSource::open(&here.join(file), &Name::none()).unwrap()
    }

    #[test]
    fn a_file_is_read_wherever_it_is_asked_for() {
        let here = Temporary::new();
        fs::write(here.join("a"), b"0123456789").unwrap();
        let mut source = source(&here, "a");
        assert_eq!(source.length(), Some(10));
        let mut room = [0; 4];
        for (offset, wanted) in [(8, &b"89"[..]), (0, b"0123"), (3, b"3456"), (10, b"")] {
            let count = source.read(offset, &mut room).unwrap();
            assert_eq!(&room[..count], wanted);
        }
        assert_eq!(source.read(u64::MAX, &mut room).unwrap(), 0);
    }

    #[test]
    fn ten_gibibytes_of_nothing_can_be_read_anywhere() {
        let here = Temporary::new();
        let length = 10 << 30;
        File::create(here.join("sparse"))
            .unwrap()
            .set_len(length)
            .unwrap();
        let mut source = source(&here, "sparse");
        let mut room = [1; 4];
        assert_eq!(source.read(length - 3, &mut room).unwrap(), 3);
        assert_eq!(room, [0, 0, 0, 1]);
    }

    #[test]
    fn what_changes_while_it_is_sent_is_told_at_the_end() {
        type Change = fn(&File);
        let changes: [(&str, Change); 3] = [
            ("longer", |file| file.set_len(11).unwrap()),
            ("shorter", |file| file.set_len(5).unwrap()),
            ("other bytes", |file| {
                // As a write does, but surely at another time.
                let later = SystemTime::now() + Duration::from_secs(5);
                file.set_modified(later).unwrap();
            }),
        ];
        for (what, change) in changes {
            let here = Temporary::new();
            fs::write(here.join("a"), b"0123456789").unwrap();
            let mut source = source(&here, "a");
            let mut room = [0; 6];
            assert_eq!(source.read(0, &mut room[..4]).unwrap(), 4);
            change(&OpenOptions::new().write(true).open(here.join("a")).unwrap());
            let error = source.read(4, &mut room).unwrap_err();
            assert!(
                error.to_string().contains("changed while"),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn an_identity_is_of_this_name_and_these_contents() {
        let here = Temporary::new();
        fs::write(here.join("a"), b"abc").unwrap();
        let is = |file: &str, components: &[&str]| {
            let components = components.iter().map(|name| (*name).to_owned()).collect();
            let name = Name::new(components).unwrap();
            FileSource::open(&here.join(file), &name)
                .unwrap()
                .identity()
        };
        let first = is("a", &["a"]);
        assert_ne!(first, Identity::default());
        assert_eq!(is("a", &["a"]), first);
        assert_ne!(is("a", &["b"]), first);
        assert_ne!(is("a", &["a", "b"]), is("a", &["ab"]));
        // Another file with the same contents and times.
        let time = fs::metadata(here.join("a")).unwrap().modified().unwrap();
        fs::copy(here.join("a"), here.join("b")).unwrap();
        let other = OpenOptions::new().write(true).open(here.join("b")).unwrap();
        other.set_modified(time).unwrap();
        assert_ne!(is("b", &["a"]), first);
        let file = OpenOptions::new().write(true).open(here.join("a")).unwrap();
        file.set_modified(time + Duration::from_nanos(1_000_000))
            .unwrap();
        assert_ne!(is("a", &["a"]), first);
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let here = Temporary::new();
        for none in [here.path(), Path::new("/dev/null"), &here.join("nothing")] {
            let failure = FileSource::open(none, &Name::none()).unwrap_err();
            assert_eq!(failure.reason, Reason::NotFound);
            assert!(!failure.text.contains('\n'), "{}", failure.text);
        }
    }
}
