//! Files by one name in an open directory, never by a path: openat(2) and what belongs to it.
//! No link is followed.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;

// The plain ones have 32-bit sizes and inodes on some systems (off_t(3type)).
#[cfg(not(target_os = "linux"))]
use libc::{fstatat, readdir, stat};
#[cfg(target_os = "linux")]
use libc::{fstatat64 as fstatat, readdir64 as readdir, stat64 as stat};

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) length: u64,
    /// How many names it has.
    pub(crate) links: u64,
    /// A file of bytes: no directory, link, pipe, socket or device.
    pub(crate) is_regular: bool,
    pub(crate) is_directory: bool,
}

/// A name as system calls take it; one with a NUL is none.
fn c_name(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name cannot have a NUL"))
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn open_at(directory: &File, name: &OsStr, flags: libc::c_int) -> io::Result<File> {
    let name = c_name(name)?;
    // O_NONBLOCK: opening a pipe or a device waits for nobody (open(2)); it means nothing for
    // files and directories.
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mode: libc::c_uint = 0o666;
    loop {
        // SAFETY: openat(2) reads the NUL-terminated name, which lives until it returns; the
        // mode is read where the flags create.
        let result = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, mode) };
        match checked(result) {
            // SAFETY: openat(2) has returned a new descriptor, which nobody else owns.
            Ok(fd) => return Ok(unsafe { File::from_raw_fd(fd) }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a directory in another. `ENOTDIR` or `ELOOP`: it is none, or a link.
pub(crate) fn open_directory_at(directory: &File, name: &OsStr) -> io::Result<File> {
    open_at(directory, name, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// Opens what has the name, to read it: whether it is a file is to be asked afterwards.
pub(crate) fn open_to_read_at(directory: &File, name: &OsStr) -> io::Result<File> {
    open_at(directory, name, libc::O_RDONLY)
}

/// Opens a file to read it and to write at its end, and makes it if there is none.
pub(crate) fn open_to_append_at(directory: &File, name: &OsStr) -> io::Result<File> {
    open_at(
        directory,
        name,
        libc::O_RDWR | libc::O_APPEND | libc::O_CREAT,
    )
}

/// Makes a directory.
pub(crate) fn make_directory_at(directory: &File, name: &OsStr) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: mkdirat(2) reads the NUL-terminated name, which lives until it returns.
    checked(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), 0o777) }).map(drop)
}

/// What has the name; `NotFound`: nothing.
pub(crate) fn find_at(directory: &File, name: &OsStr) -> io::Result<Found> {
    let name = c_name(name)?;
    let mut found = MaybeUninit::<stat>::zeroed();
    // SAFETY: fstatat(2) reads the NUL-terminated name and writes the structure, which both
    // live until it returns.
    let result = unsafe {
        fstatat(
            directory.as_raw_fd(),
            name.as_ptr(),
            found.as_mut_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    checked(result)?;
    // SAFETY: zeroed memory is a `stat` (integers), which has been filled in.
    let found = unsafe { found.assume_init() };
    let kind = found.st_mode & libc::S_IFMT;
    // Their widths differ from system to system; none is negative.
    #[allow(clippy::unnecessary_cast)]
    Ok(Found {
        device: found.st_dev as u64,
        inode: found.st_ino as u64,
        length: found.st_size as u64,
        links: found.st_nlink as u64,
        is_regular: kind == libc::S_IFREG,
        is_directory: kind == libc::S_IFDIR,
    })
}

/// Takes a file's name away.
pub(crate) fn remove_at(directory: &File, name: &OsStr) -> io::Result<()> {
    unlink_at(directory, name, 0)
}

/// Removes a directory in which nothing is.
pub(crate) fn remove_directory_at(directory: &File, name: &OsStr) -> io::Result<()> {
    unlink_at(directory, name, libc::AT_REMOVEDIR)
}

fn unlink_at(directory: &File, name: &OsStr, flags: libc::c_int) -> io::Result<()> {
    let name = c_name(name)?;
    // SAFETY: unlinkat(2) reads the NUL-terminated name, which lives until it returns.
    checked(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

/// Gives a file another name in its directory, whatever has that one: at once, so it is never
/// without a file.
pub(crate) fn rename_over_at(directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let (from, to) = (c_name(from)?, c_name(to)?);
    let fd = directory.as_raw_fd();
    // SAFETY: renameat(2) reads the two NUL-terminated names, which live until it returns.
    checked(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
}

/// Gives a file another name in its directory; `AlreadyExists`: something has it.
pub(crate) fn rename_new_at(directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match rename_no_replace_at(directory, from, to) {
        // The file system has no such flag (renameat2(2)), or the kernel no such call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            link_new_at(directory, from, to)
        }
        result => result,
    }
}

#[cfg(target_os = "linux")]
fn rename_no_replace_at(directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let (from, to) = (c_name(from)?, c_name(to)?);
    let fd = directory.as_raw_fd();
    // By its number: the C library has had it since glibc 2.28 only.
    // SAFETY: renameat2(2) reads the two NUL-terminated names, which live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            fd,
            from.as_ptr(),
            fd,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    checked(result as libc::c_int).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn rename_no_replace_at(_: &File, _: &OsStr, _: &OsStr) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The same by linkat(2), in two steps: a crash in between leaves the file with both names.
fn link_new_at(directory: &File, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let (old, new) = (c_name(from)?, c_name(to)?);
    let fd = directory.as_raw_fd();
    // SAFETY: linkat(2) reads the two NUL-terminated names, which live until it returns.
    checked(unsafe { libc::linkat(fd, old.as_ptr(), fd, new.as_ptr(), 0) })?;
    match remove_at(directory, from) {
        // Somebody else has tidied up already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Takes the lock of this file: flock(2), which ends with the process or the descriptor. False: flock(2), which ends with the process or the descriptor. False:
/// somebody else has it. A file system without locks gives it to everybody.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock(2) takes two integers.
    match checked(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => Ok(false),
            Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Lets go of the lock, which a descriptor that a fork has copied would keep.
pub(crate) fn unlock(file: &File) {
    // SAFETY: flock(2) takes two integers.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// Calls back with every name in a directory but `.` and `..`, and whether it may be a directory's:
/// not every file system says so.
pub(crate) fn each_name(directory: &File, mut call: impl FnMut(&OsStr, bool)) -> io::Result<()> {
    // A descriptor of its own: the place in a directory belongs to the open file, and
    // closedir(3) closes it.
    let own = open_directory_at(directory, OsStr::new("."))?;
    // SAFETY: fdopendir(3) takes an open descriptor of a directory.
    let stream = unsafe { libc::fdopendir(own.as_raw_fd()) };
    if stream.is_null() {
        return Err(io::Error::last_os_error());
    }
    // It is the stream's from here on.
    std::mem::forget(own);
    // readdir(3) returns null at the end, and if it fails: what it gave until then counts.
    // SAFETY: the stream is open; no other thread has it.
    while let Some(entry) = unsafe { readdir(stream).as_ref() } {
        // SAFETY: d_name is NUL-terminated, and alive until the next readdir(3).
        let name = unsafe { CStr::from_ptr(entry.d_name.as_ptr()) }.to_bytes();
        if name != b"." && name != b".." {
            let may_be_directory = matches!(entry.d_type, libc::DT_DIR | libc::DT_UNKNOWN);
            call(OsStr::from_bytes(name), may_be_directory);
        }
    }
    // SAFETY: the stream that fdopendir(3) gave, closed once.
    unsafe { libc::closedir(stream) };
    Ok(())
}

/// Begins to write this part of a file to the disk, so that fsync(2) finds less to wait for; a
/// hint.
pub(crate) fn start_writeback(file: &File, offset: u64, length: u64) {
    #[cfg(target_os = "linux")]
    // SAFETY: sync_file_range(2) takes integers; what it cannot do it refuses.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as libc::off64_t,
            length as libc::off64_t,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A directory of its own, removed with what is in it.
    struct Here(PathBuf, File);

    impl Here {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rsecho-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            let file = File::open(&path).unwrap();
            Self(path, file)
        }
    }

    impl Drop for Here {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn name(name: &str) -> &OsStr {
        OsStr::new(name)
    }

    #[test]
    fn both_ways_to_a_new_name_leave_alone_what_has_it() {
        let here = Here::new("names");
        for put in [rename_new_at, link_new_at] {
            fs::write(here.0.join("part"), "new").unwrap();
            put(&here.1, name("part"), name("final")).unwrap();
            assert_eq!(fs::read_to_string(here.0.join("final")).unwrap(), "new");
            assert!(!here.0.join("part").exists());

            fs::write(here.0.join("part"), "other").unwrap();
            let refused = put(&here.1, name("part"), name("final")).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(here.0.join("final")).unwrap(), "new");
            assert!(here.0.join("part").exists());

            rename_over_at(&here.1, name("part"), name("final")).unwrap();
            assert_eq!(fs::read_to_string(here.0.join("final")).unwrap(), "other");
            fs::remove_file(here.0.join("final")).unwrap();
        }
    }

    #[test]
    fn no_link_is_followed() {
        let here = Here::new("links");
        fs::create_dir(here.0.join("real")).unwrap();
        std::os::unix::fs::symlink("real", here.0.join("link")).unwrap();
        assert!(open_directory_at(&here.1, name("real")).is_ok());
        assert!(open_directory_at(&here.1, name("link")).is_err());
        std::os::unix::fs::symlink("nothing", here.0.join("file")).unwrap();
        assert!(open_to_append_at(&here.1, name("file")).is_err());
        assert!(!here.0.join("nothing").exists());
        let found = find_at(&here.1, name("link")).unwrap();
        assert!(!found.is_regular && !found.is_directory);
    }

    #[test]
    fn a_lock_is_one_descriptor_s() {
        let here = Here::new("locks");
        let first = open_to_append_at(&here.1, name("x")).unwrap();
        let second = open_to_append_at(&here.1, name("x")).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        unlock(&first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn lists_what_is_there_each_time() {
        let here = Here::new("list");
        fs::write(here.0.join("a\nb"), "").unwrap();
        fs::create_dir(here.0.join("c")).unwrap();
        for _ in 0..2 {
            let mut names = Vec::new();
            each_name(&here.1, |name, may_be_directory| {
                names.push((name.to_owned(), may_be_directory));
            })
            .unwrap();
            names.sort();
            assert_eq!(names[1], ("c".into(), true));
            assert_eq!((names.len(), &names[0].0), (2, &"a\nb".into()));
        }
    }
}
