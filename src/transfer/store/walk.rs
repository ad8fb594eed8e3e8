//! From a directory to one below it, name by name, and no link followed; and what is left of parts
//! there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::MAX_COMPONENTS;
use super::ledger::{Ledger, Place, Spot};
use super::part::hash_in;
use crate::sys::files;

/// The directory of these names below another. `NotFound`: it is not there.
pub(super) fn walk(root: &Arc<File>, names: &[String]) -> io::Result<Arc<File>> {
    let mut at = root.clone();
    for name in names {
        at = Arc::new(files::open_directory_at(&at, OsStr::new(name))?);
    }
    Ok(at)
}

/// Directories that were made for a file: removed again where no file comes of it.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<(Arc<File>, OsString)>);

impl Made {
    /// Removes those in which nothing is by now.
    pub(super) fn remove(self) {
        for (directory, name) in self.0.iter().rev() {
            if files::remove_directory_at(directory, name).is_err() {
                break;
            }
        }
    }
}

/// As [`walk`], and makes what is not there.
pub(super) fn walk_making(root: &Arc<File>, names: &[String]) -> io::Result<(Arc<File>, Made)> {
    let mut at = root.clone();
    let mut made = Made::default();
    for name in names {
        match step_making(&at, OsStr::new(name)) {
            Ok((next, is_made)) => {
                if is_made {
                    made.0.push((at, name.into()));
                }
                at = Arc::new(next);
            }
            Err(error) => {
                made.remove();
                return Err(error);
            }
        }
    }
    Ok((at, made))
}

fn step_making(at: &File, name: &OsStr) -> io::Result<(File, bool)> {
    match files::open_directory_at(at, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map(|next| (next, false)),
    }
    let is_made = match files::make_directory_at(at, name) {
        Ok(()) => true,
        // Another transfer was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    if is_made {
        // A file that is there durably is of no use in a directory that is not.
        sync(at)?;
    }
    Ok((files::open_directory_at(at, name)?, is_made))
}

/// The names in a directory to the disk, where the file system can do that.
pub(super) fn sync(directory: &File) -> io::Result<()> {
    match directory.sync_all() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// Which directory it is.
pub(super) fn place(directory: &File) -> io::Result<Place> {
    let is = directory.metadata()?;
    Ok((is.dev(), is.ino()))
}

/// Notes what is left of parts in a directory, unless that was done before.
pub(super) fn look(directory: &File, ledger: &Ledger) -> io::Result<()> {
    let place = place(directory)?;
    let mut result = Ok(());
    ledger.look_once(place, || {
        result = look_here(directory, place, ledger).map(drop)
    });
    result
}

/// The same in all directories below it as well.
pub(super) fn look_everywhere(directory: &File, ledger: &Ledger) -> io::Result<()> {
    look_below(directory, ledger, 1)
}

fn look_below(directory: &File, ledger: &Ledger, depth: usize) -> io::Result<()> {
    let place = place(directory)?;
    let mut below = Ok(Vec::new());
    ledger.look_once(place, || below = look_here(directory, place, ledger));
    // No name has more components, so no part is deeper.
    if depth == MAX_COMPONENTS {
        return Ok(());
    }
    for name in below? {
        // What cannot be opened is no directory, or one where nothing can be put.
        if let Ok(next) = files::open_directory_at(directory, &name) {
            let _ = look_below(&next, ledger, depth + 1);
        }
    }
    Ok(())
}

/// Notes parts; what may be a directory.
fn look_here(directory: &File, place: Place, ledger: &Ledger) -> io::Result<Vec<OsString>> {
    let mut below = Vec::new();
    files::each_name(directory, |name, may_be_directory| {
        if may_be_directory {
            below.push(name.to_owned());
        }
        let Some(hash) = hash_in(name) else { return };
        let Ok(found) = files::find_at(directory, name) else {
            return;
        };
        if !found.is_regular {
            return;
        }
        // With two names it is whole, and was about to lose this one: it is no part any more.
        if found.links > 1 && files::remove_at(directory, name).is_ok() {
            return;
        }
        let hash = hash.to_owned();
        ledger.note(&Spot { place, hash }, name, found.length);
    })?;
    Ok(below)
}
