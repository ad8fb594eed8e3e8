//! One file that is pulled, to a path of its user's choice.

use std::ffi::OsString;
use std::path::Path;

use super::directory::{Directory, Settings};
use super::{Name, Offer, Opened, Source, Storage};
use crate::error::Error;
use crate::transfer::failure::{Failure, Reason};

/// A path that whatever is offered is received to, by the rules of a [`Directory`]: as a part
/// beside it, and under its name once it is whole.
#[derive(Debug)]
pub struct Destination {
    directory: Directory,
    file: OsString,
    overwrites: bool,
}

impl Destination {
    /// This path, and whether what is there is replaced.
    ///
    /// # Errors
    ///
    /// It names no file, or is in no directory.
    pub fn new(path: &Path, overwrites: bool) -> Result<Self, Error> {
        let Some(file) = path.file_name() else {
            return Err(Error::argument(
                "receive to",
                path.display(),
                "a path that ends with a file's name is needed",
            ));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let settings = Settings {
            receives: true,
            shares: false,
            overwrites,
            quota_bytes: None,
        };
        Ok(Self {
            directory: Directory::open(parent, settings)?,
            file: file.to_owned(),
            overwrites,
        })
    }
}

impl Storage for Destination {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        // Whether to replace is for whoever pulls to say, and all offers are for one file.
        let offer = Offer {
            name: Name::none(),
            replaces: self.overwrites,
            ..offer.clone()
        };
        self.directory.receive(&offer, &[], &self.file)
    }

    fn open_source(&self, _: &Name) -> Result<Box<dyn Source>, Failure> {
        Err(Failure::new(
            Reason::Refused,
            "cannot be pulled: it is receiving itself",
        ))
    }
}
