//! Files received into a directory and pulled out of it, by names of which none is a path.
//!
//! Under its final name a file is whole and on the disk, or it is not there: it grows as a part
//! beside it (`part.rs`), and gets its name last of all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::file::FileSource;
use super::inbox::{Delivered, Inbox, overhead_bytes};
use super::ledger::{Claim, Lease, Ledger, Spot};
use super::part::{Part, PartName, hash_of, is_kept_for_parts, remove_left};
use super::walk::{Made, look, look_everywhere, place, sync, walk, walk_making};
use super::{Digest, Name, Offer, Opened, Sink, Source, Storage};
use crate::error::Error;
use crate::sys::files;
use crate::transfer::budget::Share;
use crate::transfer::failure::{Failure, Reason};

/// How often a file is begun again whose new directory another transfer removed at that moment.
const MAX_TRIES: u32 = 8;

/// Of a name, what is shown in a report.
const MAX_SHOWN_CHARS: usize = 60;

/// What clients may do with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Clients may store files.
    pub receives: bool,
    /// Clients may fetch files.
    pub shares: bool,
    /// Senders may replace files.
    pub overwrites: bool,
    /// By how many bytes it may grow: files that were put there (less those that they replaced),
    /// parts that were left there, also before, and what open transfers are to write. `None`: by
    /// as much as the disk holds.
    pub quota_bytes: Option<u64>,
}

/// A directory as it was opened: what takes its path afterwards does not matter.
#[derive(Debug)]
pub struct Directory {
    root: Arc<File>,
    settings: Settings,
    ledger: Arc<Ledger>,
    inbox: Option<Arc<Inbox>>,
}

impl Directory {
    /// Opens it. With a quota, everything below it is looked through for parts that were left.
    ///
    /// # Errors
    ///
    /// It does not exist, is not a directory, or may not be read.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, Error> {
        let fail = |error: io::Error| {
            Error::system("open the directory", path.display(), &error)
                .or("give one that is there and may be read")
        };
        let root = File::open(path).map_err(fail)?;
        if !root.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let ledger = Ledger::new(settings.quota_bytes);
        if settings.quota_bytes.is_some() && settings.receives {
            look_everywhere(&root, &ledger).map_err(fail)?;
        }
        Ok(Self {
            root: Arc::new(root),
            settings,
            ledger,
            inbox: None,
        })
    }

    /// Every file that was put there is announced in this inbox, as long as that has room: without
    /// any no transfer begins.
    #[must_use]
    pub fn announcing(mut self, inbox: Arc<Inbox>) -> Self {
        self.inbox = Some(inbox);
        self
    }

    /// Opens a file of this name in a directory below, for whoever has claimed the name.
    pub(super) fn receive(
        &self,
        offer: &Offer,
        directories: &[String],
        file: &OsStr,
    ) -> Result<Opened, Failure> {
        let shown = shown(file);
        let claim = self.ledger.claim(&offer.name).ok_or_else(|| busy(&shown))?;
        let replaces = offer.replaces && self.settings.overwrites;
        let at = match walk(&self.root, directories) {
            Ok(at) => Some(at),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(refused("receive", &shown, &error)),
        };
        if let Some(at) = &at
            && let Some(opened) = existing(at, file, &shown, offer, replaces)?
        {
            return Ok(opened);
        }
        let announcement = self.announcement(&offer.name, &shown)?;
        let fail = |error| refused("receive", &shown, &error);
        let part_name = PartName::new(file, &offer.identity, offer.length).map_err(fail)?;
        let (mut lease, left) = self
            .reserve(at.as_deref(), file, &part_name, offer.length)
            .map_err(fail)?
            .ok_or_else(|| self.too_large(&shown, offer.length))?;
        if let Some(at) = &at {
            self.remove_all(at, file, left).map_err(fail)?;
        }
        let (at, made, part) = self
            .begin(directories, &part_name, offer.length)
            .map_err(fail)?;
        let Some(part) = part else {
            made.remove();
            return Err(busy(&shown));
        };
        let spot = spot(&at, file).map_err(fail)?;
        lease.begin();
        Ok(Opened::Sink(Box::new(FileSink {
            part: Some(part),
            ended_bytes: 0,
            directory: at,
            made,
            spot,
            file: file.to_owned(),
            shown,
            peer: offer.peer,
            id: offer.id,
            name: offer.name.clone(),
            length: offer.length,
            replaces,
            lease,
            inbox: self.inbox.clone().zip(announcement),
            ledger: self.ledger.clone(),
            claim: Some(claim),
        })))
    }

    /// Room for saying that a file has come.
    fn announcement(&self, name: &Name, shown: &str) -> Result<Option<Share>, Failure> {
        let Some(inbox) = &self.inbox else {
            return Ok(None);
        };
        let mut share = Share::new(inbox.budget());
        if share.grow(overhead_bytes(name)) {
            return Ok(Some(share));
        }
        Err(Failure::new(
            Reason::TooMany,
            format!("cannot receive {shown}: too many files that came before are not taken yet"),
        ))
    }

    #[allow(clippy::type_complexity)]
    fn reserve(
        &self,
        at: Option<&File>,
        file: &OsStr,
        part: &PartName,
        length: Option<u64>,
    ) -> io::Result<Option<(Lease, Vec<(OsString, u64)>)>> {
        let spot = match at {
            Some(at) => {
                look(at, &self.ledger)?;
                Some(spot(at, file)?)
            }
            None => None,
        };
        let bytes = length.unwrap_or(0);
        Ok(self.ledger.reserve(spot.as_ref(), &part.name, bytes))
    }

    /// Removes parts of the same name that nothing will go on with.
    fn remove_all(&self, at: &File, file: &OsStr, left: Vec<(OsString, u64)>) -> io::Result<()> {
        let spot = spot(at, file)?;
        for (part, bytes) in left {
            if !remove_left(at, &part) {
                self.ledger.note(&spot, &part, bytes);
            }
        }
        Ok(())
    }

    /// Makes directories and the part, or finds them. Without a part: another process has it.
    fn begin(
        &self,
        directories: &[String],
        part: &PartName,
        length: Option<u64>,
    ) -> io::Result<(Arc<File>, Made, Option<Part>)> {
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = walk_making(&self.root, directories).and_then(|(at, made)| {
                let part =
                    look(&at, &self.ledger).and_then(|()| Part::open(&at, part.clone(), length));
                match part {
                    Ok(part) => Ok((at, made, part)),
                    Err(error) => {
                        made.remove();
                        Err(error)
                    }
                }
            });
            match begun {
                // A transfer that had made a directory, and ended with nothing, has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MAX_TRIES => {}
                result => return result,
            }
        }
    }

    fn too_large(&self, shown: &str, length: Option<u64>) -> Failure {
        Failure::new(
            Reason::TooLarge,
            format!(
                "cannot receive {shown}: it has {} bytes, and the receiver's quota {} left",
                length.unwrap_or(0),
                self.ledger.left_bytes()
            ),
        )
    }
}

impl Storage for Directory {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        let Some((file, directories)) = offer.name.components().split_last() else {
            return Err(Failure::new(
                Reason::BadName,
                "cannot receive a message without a name into a directory: give it one",
            ));
        };
        let shown = shown(OsStr::new(file));
        if !self.settings.receives {
            return Err(Failure::new(
                Reason::Refused,
                format!("cannot receive {shown}: the directory is only to be pulled from"),
            ));
        }
        check(&offer.name, &shown, "receive")?;
        self.receive(offer, directories, OsStr::new(file))
    }

    fn open_source(&self, name: &Name) -> Result<Box<dyn Source>, Failure> {
        let Some((file, directories)) = name.components().split_last() else {
            return Err(Failure::new(
                Reason::BadName,
                "cannot send a file without a name",
            ));
        };
        let file = OsStr::new(file);
        let shown = shown(file);
        if !self.settings.shares {
            return Err(Failure::new(
                Reason::Refused,
                format!("cannot send {shown}: the directory is not shared"),
            ));
        }
        check(name, &shown, "send")?;
        let open = || FileSource::open_at(&*walk(&self.root, directories)?, file, name);
        match open() {
            Ok(source) => Ok(Box::new(source)),
            Err(error) => Err(not_found(&shown, &error)),
        }
    }
}

/// Parts, and what could be taken for one, are nobody's to name.
fn check(name: &Name, shown: &str, what: &str) -> Result<(), Failure> {
    if !name.components().iter().any(|name| is_kept_for_parts(name)) {
        return Ok(());
    }
    Err(Failure::new(
        Reason::BadName,
        format!("cannot {what} {shown}: names that begin with .rsecho- are for unfinished files"),
    ))
}

fn spot(directory: &File, file: &OsStr) -> io::Result<Spot> {
    Ok(Spot {
        place: place(directory)?,
        hash: hash_of(file),
    })
}

/// What is done about something that has the name already; `None`: there is nothing, or it may be
/// replaced.
fn existing(
    directory: &File,
    file: &OsStr,
    shown: &str,
    offer: &Offer,
    replaces: bool,
) -> Result<Option<Opened>, Failure> {
    let found = match files::find_at(directory, file) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused("receive", shown, &error)),
    };
    if !found.is_regular {
        return Err(exists(shown, "something that is no file"));
    }
    if replaces {
        return Ok(None);
    }
    if Some(found.length) != offer.length {
        return Err(exists(shown, "another file"));
    }
    if offer.digest.is_none() {
        return Err(Failure::new(
            Reason::ExistsAlike,
            format!("cannot receive {shown}: a file of this length has that name"),
        ));
    }
    let source = FileSource::open_at(directory, file, &offer.name)
        .map_err(|error| refused("compare", shown, &error))?;
    if source.length() != offer.length {
        return Err(exists(shown, "another file"));
    }
    Ok(Some(Opened::Compare(Box::new(source))))
}

fn exists(shown: &str, what: &str) -> Failure {
    Failure::new(
        Reason::Exists,
        format!("cannot receive {shown}: {what} has that name; take another name or remove it"),
    )
}

fn busy(shown: &str) -> Failure {
    Failure::new(
        Reason::TooMany,
        format!("cannot receive {shown}: another transfer writes to that name"),
    )
}

/// Why a name cannot be opened, or written to.
fn refused(what: &str, shown: &str, error: &io::Error) -> Failure {
    let mut failure = Failure::io(&format!("{what} {shown}"), error);
    match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => Failure::new(
            Reason::BadName,
            format!("cannot {what} {shown}: on the way there is something that is no directory"),
        ),
        Some(libc::ENAMETOOLONG | libc::EILSEQ) => {
            failure.reason = Reason::BadName;
            failure
        }
        _ => failure,
    }
}

/// Why a name cannot be pulled. Of what is there beside files nothing is told.
fn not_found(shown: &str, error: &io::Error) -> Failure {
    let is_none = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
    ) || matches!(
        error.raw_os_error(),
        // The last: a socket (open(2)).
        Some(libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EILSEQ | libc::ENXIO)
    );
    if !is_none {
        return Failure::io(&format!("send {shown}"), error);
    }
    Failure::new(
        Reason::NotFound,
        format!("cannot send {shown}: no file has that name there"),
    )
}

/// A name in a report: in one line, and short enough to leave room for the reason.
fn shown(file: &OsStr) -> String {
    let text = file.to_string_lossy();
    let mut chars = text.chars();
    let mut shown: String =
        chars
            .by_ref()
            .take(MAX_SHOWN_CHARS)
            .fold(String::new(), |mut shown, char| {
                match char {
                    '\'' | '"' => shown.push(char),
                    _ => shown.extend(char.escape_debug()),
                }
                shown
            });
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A file that comes.
struct FileSink {
    /// `None`: it has its name, or is no more.
    part: Option<Part>,
    /// How long it was then.
    ended_bytes: u64,
    directory: Arc<File>,
    made: Made,
    spot: Spot,
    file: OsString,
    shown: String,
    peer: SocketAddr,
    id: u64,
    name: Name,
    length: Option<u64>,
    replaces: bool,
    lease: Lease,
    inbox: Option<(Arc<Inbox>, Share)>,
    ledger: Arc<Ledger>,
    /// Until it has ended, not until it is dropped; given up after the part, so that whoever has it
    /// next finds that unlocked.
    claim: Option<Claim>,
}

impl FileSink {
    fn part(&mut self) -> io::Result<&mut Part> {
        self.part
            .as_mut()
            .ok_or_else(|| io::Error::other("it is finished or given up"))
    }

    /// Ends it, and leaves what can be gone on with.
    fn leave(&mut self) {
        let Some(mut part) = self.part.take() else {
            return;
        };
        // What cannot be written has to be sent again.
        let _ = part.flush();
        let Some((name, bytes)) = part.left() else {
            return self.remove(part);
        };
        // In this order nobody finds more room than there is.
        self.ledger.note(&self.spot, name, bytes);
        self.lease.spend(0, 0);
        drop(part);
        self.claim = None;
    }

    fn remove(&mut self, part: Part) {
        part.remove();
        drop(part);
        std::mem::take(&mut self.made).remove();
        self.lease.spend(0, 0);
        self.claim = None;
    }

    /// It has its name: what it counts, and the news of it.
    fn announce(&mut self, length: u64, digest: &Digest) {
        let Some((inbox, share)) = self.inbox.take() else {
            return;
        };
        // It is there, whether or not somebody wants to hear of it still.
        let _ = inbox.put(
            Delivered {
                peer: self.peer,
                id: self.id,
                name: self.name.clone(),
                length,
                digest: *digest,
                data: None,
                missing: Vec::new(),
                failure: None,
            },
            share,
        );
    }
}

impl Sink for FileSink {
    fn length(&self) -> u64 {
        self.part.as_ref().map_or(self.ended_bytes, Part::length)
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let total = self.length().saturating_add(data.len() as u64);
        if self.length.is_some_and(|length| total > length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is longer than was offered",
            ));
        }
        if !self.lease.cover(total) {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "nothing is left of the receiver's quota",
            ));
        }
        self.part()?.append(data)
    }

    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        self.part()?.read_back(offset, room)
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), Failure> {
        let what = format!("write {}", self.shown);
        let fail = |error: io::Error| Failure::io(&what, &error);
        let part = self
            .part
            .as_mut()
            .ok_or_else(|| fail(io::Error::other("it is finished or given up")))?;
        // What cannot be written is left as it is: there may be room another time.
        part.flush().map_err(fail)?;
        let length = part.length();
        if self.length.is_some_and(|offered| offered != length) {
            return Err(fail(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Err(error) = part.sync() {
            // What the disk has of it nobody knows (fsync(2)).
            self.discard();
            return Err(fail(error));
        }
        let mut replaced_bytes = 0;
        if self.replaces
            && let Ok(found) = files::find_at(&self.directory, &self.file)
        {
            if !found.is_regular {
                self.discard();
                return Err(exists(&self.shown, "something that is no file"));
            }
            replaced_bytes = found.length;
        }
        if let Err(error) = part.put(&self.file, self.replaces) {
            if error.kind() == io::ErrorKind::AlreadyExists {
                self.discard();
                return Err(exists(&self.shown, "something else"));
            }
            return Err(fail(error));
        }
        self.part = None;
        self.ended_bytes = length;
        self.lease.spend(length, replaced_bytes);
        self.claim = None;
        sync(&self.directory).map_err(fail)?;
        self.announce(length, digest);
        Ok(())
    }

    fn discard(&mut self) {
        if let Some(part) = self.part.take() {
            self.remove(part);
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.leave();
    }
}
