//! Large messages: a server's policy, what it has received, and the client.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::address::pair;
use super::blocking::{Caller, SLICE, blocking};
use super::buffer::{self, Input};
use super::client::Handle;
use super::errors;
use super::given::Given;
use super::socket::{self, SocketOptions};
use super::values::{Whole, checked, engine, family, port};
use crate::client::{Failed, Moved, Terms, TransferClient as Client};
use crate::error::{Error, Result};
use crate::server::udp;
use crate::transfer::budget::Budget;
use crate::transfer::echoes::{ByName, Echoes};
use crate::transfer::plain::{ReceiveSettings, SendSettings};
use crate::transfer::serving::{Kept, Limits};
use crate::transfer::store::destination::Destination;
use crate::transfer::store::directory::{Directory, Settings};
use crate::transfer::store::file::FileSource;
use crate::transfer::store::inbox::{Delivered, Inbox};
use crate::transfer::store::memory::{BytesSource, MemoryStorage};
use crate::transfer::store::pipe::PipeSource;
use crate::transfer::store::{Name, Source, Storage};
use crate::transfer::{Failure, Reason};

/// What a server does with large messages, as plain data.
#[derive(Clone)]
struct Wanted {
    directory: Option<PathBuf>,
    receives: bool,
    shares: bool,
    overwrites: bool,
    quota_bytes: Option<u64>,
    echo: bool,
    is_plain: bool,
    keep_partial: bool,
    max_message_bytes: u64,
    max_total_bytes: u64,
    max_open_per_source: u32,
    progress_timeout: Duration,
    bytes_per_second: Option<u64>,
    takes: Takes,
}

/// What somebody takes of what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// Notices of files.
    Files,
    /// Messages without a name too.
    All,
}

/// What a server does with large messages.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct TransferPolicy(Wanted);

const BYTES: &str = "a number of bytes is 1 or more";
const POSITIVE: &str = "a limit is 1 or more";
const LONG: &str = "for no limit in practice, take a large number";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

#[pymethods]
impl TransferPolicy {
    #[new]
    #[pyo3(signature = (**given))]
    fn new(py: Python<'_>, given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = Given::new(given.unwrap_or(&PyDict::new(py)))?;
        let yes = |name: &str| PyResult::Ok(given.take(name)?.unwrap_or(true));
        let wire: Option<String> = given.take("wire")?;
        let wanted = Wanted {
            directory: given.take("directory")?,
            receives: yes("receives")?,
            shares: yes("shares")?,
            overwrites: given.flag("overwrites")?,
            quota_bytes: given.number("quota_bytes", BYTES)?,
            echo: given.flag("echo")?,
            is_plain: is_plain(py, wire.as_deref())?,
            keep_partial: given.flag("keep_partial")?,
            max_message_bytes: positive(&given, "max_message_bytes", BYTES)?.unwrap_or(16 << 20),
            max_total_bytes: positive(&given, "max_total_bytes", BYTES)?.unwrap_or(64 << 20),
            max_open_per_source: positive(&given, "max_open_per_source", POSITIVE)?
                .unwrap_or(8)
                .try_into()
                .unwrap_or(u32::MAX),
            progress_timeout: given
                .time_or("progress_timeout", LONG)?
                .unwrap_or(DEFAULT_TIMEOUT),
            bytes_per_second: positive(&given, "bytes_per_second", BYTES)?,
            takes: match given.take::<String>("takes")?.as_deref() {
                Some("files") => Takes::Files,
                Some("all") => Takes::All,
                _ => Takes::Nothing,
            },
        };
        given.finish()?;
        checked(py, wanted.validate())?;
        Ok(Self(wanted))
    }
}

/// What a datagram of the plain wire carries behind its index of four bytes.
const MOST_CHUNK_BYTES: u64 = 65_507 - 4;

fn chunk_bytes(given: &Given<'_>) -> PyResult<Option<usize>> {
    let rule = "a datagram carries 1 to 65503 bytes behind the index of a chunk";
    let number: Option<u64> = given.number("chunk_bytes", rule)?;
    let checked_number = match number {
        Some(bytes) if !(1..=MOST_CHUNK_BYTES).contains(&bytes) => {
            let subject = format!("chunk_bytes={bytes}");
            Err(Error::argument("set", subject, rule))
        }
        number => Ok(number.and_then(|bytes| usize::try_from(bytes).ok())),
    };
    checked(given.py(), checked_number)
}

/// Refuses limits of transfers that can never work, before there is a transfer.
#[pyfunction]
#[pyo3(signature = (given, /))]
pub(super) fn check_terms(py: Python<'_>, given: &Bound<'_, PyDict>) -> PyResult<()> {
    Order::take(py, given, Vec::new()).map(|_| ())
}

/// A whole number of 1 or more.
fn positive(given: &Given<'_>, name: &str, rule: &str) -> PyResult<Option<u64>> {
    let number: Option<u64> = given.number(name, rule)?;
    if number == Some(0) {
        let error = Error::argument("set", format!("{name}=0"), rule);
        return checked(given.py(), Err(error));
    }
    Ok(number)
}

fn is_plain(py: Python<'_>, wire: Option<&str>) -> PyResult<bool> {
    match wire {
        None | Some("native") => Ok(false),
        Some("plain") => Ok(true),
        Some(other) => {
            let subject = format!("wire={other:?}");
            let error = Error::argument("set", subject, "it is 'native' or 'plain'");
            checked(py, Err(error))
        }
    }
}

impl Wanted {
    fn validate(&self) -> Result<()> {
        let refuse = |subject: &str, rule: &str| Err(Error::argument("set", subject, rule));
        if self.directory.is_none() && self.quota_bytes.is_some() {
            return refuse("quota_bytes", "it is of a directory: give one");
        }
        if !self.receives && !self.shares {
            let subject = "receives=False and shares=False";
            return refuse(
                subject,
                "nothing could be transferred; leave one of them out",
            );
        }
        if self.keep_partial && !self.is_plain {
            let rule = "only the plain wire has parts to keep: what is native is whole, or goes on";
            return refuse("keep_partial", rule);
        }
        // Files are not held in memory, so where all are files, that limit is of no consequence.
        let holds_messages =
            self.directory.is_none() || self.echo || self.is_plain || self.takes == Takes::All;
        if holds_messages && self.max_message_bytes > self.max_total_bytes {
            let subject = format!("max_message_bytes={}", self.max_message_bytes);
            let rule = format!(
                "it is more than max_total_bytes={}, which all messages share; raise that, or take \
                 less",
                self.max_total_bytes
            );
            return refuse(&subject, &rule);
        }
        if let Some(path) = &self.directory {
            Directory::open(path, self.settings())?;
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            receives: self.receives,
            shares: self.shares,
            overwrites: self.overwrites,
            quota_bytes: self.quota_bytes,
        }
    }

    /// What a server takes, and whence messages are taken, where somebody does.
    fn transfers(&self) -> Result<(udp::Transfers, Option<Arc<Inbox>>)> {
        let budget = Budget::new(self.max_total_bytes);
        let inbox = Inbox::new(Arc::clone(&budget));
        let is_taken = self.takes != Takes::Nothing;
        let taken = is_taken.then(|| Arc::clone(&inbox));
        if self.is_plain {
            return Ok((self.plain(taken.clone())?, taken));
        }
        let timeout_ns = u64::try_from(self.progress_timeout.as_nanos()).unwrap_or(u64::MAX / 4);
        let echoes = Arc::new(Echoes::new(
            Arc::clone(&budget),
            self.max_message_bytes,
            timeout_ns,
        ));
        let unnamed: Arc<dyn Storage> = match self.echo {
            true => Arc::clone(&echoes) as _,
            false => Arc::new(MemoryStorage::new(inbox, self.max_message_bytes)),
        };
        let storage = match &self.directory {
            None => unnamed,
            Some(path) => {
                let directory = Directory::open(path, self.settings())?;
                let directory: Arc<dyn Storage> = match &taken {
                    Some(inbox) => Arc::new(directory.announcing(Arc::clone(inbox))),
                    None => Arc::new(directory),
                };
                match self.echo || self.takes == Takes::All {
                    true => Arc::new(ByName {
                        named: directory,
                        unnamed,
                    }),
                    // Nobody would ever have a message without a name.
                    false => directory,
                }
            }
        };
        let native = udp::Native {
            storage,
            kept: self.echo.then_some(echoes as Arc<dyn Kept>),
            budget,
            limits: Limits {
                open_per_source: self.max_open_per_source,
                open: (self.max_total_bytes / (256 << 10)).clamp(8, 4096) as u32,
                progress_timeout_ns: timeout_ns,
                bytes_per_second: self.bytes_per_second,
            },
        };
        Ok((udp::Transfers::Native(native), taken))
    }

    fn plain(&self, inbox: Option<Arc<Inbox>>) -> Result<udp::Transfers> {
        let settings = ReceiveSettings {
            max_message_bytes: self.max_message_bytes,
            max_total_bytes: usize::try_from(self.max_total_bytes).unwrap_or(usize::MAX),
            max_open_per_source: self.max_open_per_source as usize,
            progress_timeout_ns: u64::try_from(self.progress_timeout.as_nanos())
                .unwrap_or(u64::MAX / 4),
            keep_partial: self.keep_partial,
            gives_names: self.directory.is_some(),
            echo_bytes_per_second: self.echo.then(|| {
                self.bytes_per_second
                    .unwrap_or(SendSettings::default().bytes_per_second)
            }),
        };
        let wanted = self.clone();
        if let Some(path) = &self.directory {
            Directory::open(path, self.settings())?;
        }
        let storage = move |announced: &Arc<Inbox>| -> Arc<dyn Storage> {
            let announced = Arc::clone(announced);
            let open = |path: &PathBuf| Directory::open(path, wanted.settings());
            match wanted.directory.as_ref().map(open) {
                Some(Ok(directory)) => Arc::new(directory.announcing(announced)),
                // It was there a moment ago; memory loses nothing.
                Some(Err(_)) | None => {
                    Arc::new(MemoryStorage::new(announced, wanted.max_message_bytes))
                }
            }
        };
        Ok(udp::Transfers::Plain(udp::Plain {
            settings,
            storage: Arc::new(storage),
            inbox,
        }))
    }
}

/// A server's transfers, as its options give them, and whence its messages are taken.
pub(super) struct Taken {
    pub(super) transfers: Option<udp::Transfers>,
    pub(super) messages: Option<Messages>,
}

/// Messages that a server has received, with the directory of those that are files.
pub(super) struct Messages {
    inbox: Arc<Inbox>,
    directory: Option<PathBuf>,
}

impl Taken {
    pub(super) fn take(given: &Given<'_>) -> PyResult<Self> {
        let policy = given.take::<Bound<'_, TransferPolicy>>("transfer")?;
        let Some(policy) = policy else {
            return Ok(Self {
                transfers: None,
                messages: None,
            });
        };
        let wanted = &policy.get().0;
        let is_kept = wanted.directory.is_some() || wanted.echo || wanted.takes != Takes::Nothing;
        if !is_kept {
            let rule = "nobody would have what comes: give it a directory, or echo=True, or make a \
                        transfer.Receiver of it";
            let error = Error::argument("use", "this transfer policy", rule);
            return checked(given.py(), Err(error));
        }
        let (transfers, inbox) = checked(given.py(), wanted.transfers())?;
        let directory = wanted.directory.clone();
        Ok(Self {
            transfers: Some(transfers),
            messages: inbox.map(|inbox| Messages { inbox, directory }),
        })
    }
}

impl Messages {
    /// The next one; none came in time, or before `has_ended` said so.
    pub(super) fn take(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        has_ended: impl Fn() -> bool + Send + Sync,
    ) -> PyResult<Option<Py<PyTuple>>> {
        let deadline = timeout.and_then(|timeout| std::time::Instant::now().checked_add(timeout));
        let message = blocking(py, |caller| {
            loop {
                let left =
                    deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
                // Before the look: what came before the end is taken.
                let is_over = has_ended();
                let slice = if is_over { Duration::ZERO } else { SLICE };
                let slice = left.map_or(slice, |left| left.min(slice));
                if let Some(message) = self.inbox.take(Some(slice)) {
                    return Ok(Some(message));
                }
                if is_over || left.is_some_and(|left| left <= slice) {
                    return Ok(None);
                }
                if caller.gives_up() {
                    return Err(caller.gone());
                }
            }
        })?;
        let message = message.map(|message| self.tuple(py, message));
        message.transpose()
    }

    fn tuple(&self, py: Python<'_>, message: Delivered) -> PyResult<Py<PyTuple>> {
        let is_notice = message.data.is_none() && message.digest == [0; 32];
        let path = match &self.directory {
            Some(directory) if message.data.is_none() && !is_notice => {
                let mut path = directory.clone();
                path.extend(message.name.components());
                Some(path.into_os_string())
            }
            _ => None,
        };
        let data = message.data.map(|data| PyBytes::new(py, &data));
        let failure = message
            .failure
            .map(|failure| (failure.reason.name(), failure.text));
        let missing = (!message.missing.is_empty()).then_some(message.missing);
        let tuple = (
            pair(message.peer),
            message.id,
            message.name.components().to_vec(),
            data,
            path,
            message.length,
            PyBytes::new(py, &message.digest),
            missing,
            failure,
        );
        Ok(tuple.into_pyobject(py)?.unbind())
    }
}

// --- the client -----------------------------------------------------------------------------

/// A foreign buffer, read with the GIL: its owner may write to it at any time. pyo3 releases it with
/// the GIL as well.
struct Foreign(Input, u64);

impl Source for Foreign {
    fn length(&self) -> Option<u64> {
        Some(self.1)
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        let left = self.1.saturating_sub(offset);
        let count = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Input::Foreign(buffer) = &self.0 else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let copied = Python::try_attach(|py| {
            buffer::copy_out(py, buffer, offset as usize, &mut room[..count]);
        });
        match copied {
            Some(()) => Ok(count),
            None => Err(io::Error::other("the interpreter ends")),
        }
    }
}

/// What a caller gives to be sent.
fn source(
    given: &Bound<'_, PyAny>,
    name: &Name,
) -> PyResult<std::result::Result<Box<dyn Source>, Failure>> {
    if let Ok((kind, path)) = given.extract::<(String, PathBuf)>()
        && kind == "path"
    {
        return Ok(open_path(&path, name));
    }
    if let Ok((kind, descriptor)) = given.extract::<(String, RawFd)>()
        && kind == "fd"
    {
        return Ok(open_descriptor(descriptor, name));
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        let bytes = PyBackedBytes::from(bytes.clone());
        return Ok(Ok(Box::new(BytesSource::new(bytes))));
    }
    let input = Input::get(given)?;
    let length = input.len(given.py()) as u64;
    Ok(Ok(Box::new(Foreign(input, length))))
}

fn open_path(path: &Path, name: &Name) -> std::result::Result<Box<dyn Source>, Failure> {
    let is_file = std::fs::metadata(path).is_ok_and(|is| is.is_file());
    let is_pipe = std::fs::metadata(path).is_ok_and(|is| !is.is_file() && !is.is_dir());
    if is_file || !is_pipe {
        return Ok(Box::new(FileSource::open(path, name)?));
    }
    let what = format!("open {}", path.display());
    let opened = File::open(path).and_then(PipeSource::new);
    Ok(Box::new(
        opened.map_err(|error| Failure::io(&what, &error))?,
    ))
}

fn open_descriptor(
    descriptor: RawFd,
    name: &Name,
) -> std::result::Result<Box<dyn Source>, Failure> {
    let fail = |error: io::Error| Failure::io(&format!("read descriptor {descriptor}"), &error);
    let borrowed = crate::sys::borrow(descriptor).map_err(fail)?;
    let mut file = File::from(borrowed.try_clone_to_owned().map_err(fail)?);
    let is_file = file.metadata().is_ok_and(|is| is.is_file());
    if is_file && file.stream_position().is_ok_and(|at| at == 0) {
        return Ok(Box::new(FileSource::of(file, name).map_err(fail)?));
    }
    Ok(Box::new(PipeSource::new(file).map_err(fail)?))
}

/// How one message is moved.
struct Order {
    terms: Terms,
    is_plain: bool,
    chunk_bytes: Option<usize>,
    overwrites: bool,
    max_message_bytes: u64,
}

impl Order {
    fn take(py: Python<'_>, given: &Bound<'_, PyDict>, name: Vec<String>) -> PyResult<Self> {
        let given = Given::new(given)?;
        let name = match given.take::<Vec<String>>("name")? {
            Some(own) => named(py, own)?,
            None => named(py, name)?,
        };
        let wire: Option<String> = given.take("wire")?;
        let order = Self {
            terms: Terms {
                name,
                replaces: given.flag("replaces")?,
                timeout: given.positive_time("timeout")?,
                progress_timeout: given
                    .time_or("progress_timeout", LONG)?
                    .unwrap_or(DEFAULT_TIMEOUT),
                bytes_per_second: positive(&given, "rate", BYTES)?,
            },
            is_plain: is_plain(py, wire.as_deref())?,
            chunk_bytes: chunk_bytes(&given)?,
            overwrites: given.flag("overwrites")?,
            max_message_bytes: positive(&given, "max_message_bytes", BYTES)?.unwrap_or(16 << 20),
        };
        given.finish()?;
        Ok(order)
    }
}

fn named(py: Python<'_>, components: Vec<String>) -> PyResult<Name> {
    let shown = components.join("/");
    let rule = "a name has up to 16 components of 1 to 255 bytes, 1,024 in all, none of them '.' or \
                '..', without NUL";
    let name = Name::new(components);
    checked(
        py,
        name.ok_or_else(|| Error::argument("use the name", format!("{shown:?}"), rule)),
    )
}

/// A socket that sends large messages to one peer and fetches them.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct TransferClient(Handle<Client>);

#[pymethods]
impl TransferClient {
    #[new]
    #[pyo3(signature = (host, port, options, *, family, engine="auto"))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: Whole,
        options: &SocketOptions,
        family: Whole,
        engine: &str,
    ) -> PyResult<Self> {
        let client = blocking(py, |_| {
            let (port, family) = (self::port(port)?, self::family(family)?);
            Client::connect(host, port, family, &options.0, self::engine(engine)?)
        })?;
        Ok(Self(Handle::new(client.ends().clone(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.ends.name
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.address))
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.peer))
    }

    #[getter]
    fn engine(&self, py: Python<'_>) -> PyResult<&'static str> {
        checked(py, self.0.get().map(|client| client.engine()))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let report = checked(py, self.0.get().map(|client| client.report()))?;
        socket::report(py, &report)?.into_pyobject(py)
    }

    /// Sends one message.
    #[pyo3(signature = (source, given, progress, /))]
    fn send<'py>(
        &self,
        source: &Bound<'py, PyAny>,
        given: &Bound<'py, PyDict>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = source.py();
        let order = Order::take(py, given, Vec::new())?;
        let opened = self::source(source, &order.terms.name)?;
        let opened = opened.map_err(|failure| self.failed(py, "send to", &failure))?;
        let moved = self.run(py, "send to", progress, |client, watch| {
            if !order.is_plain {
                return client.send(opened, &order.terms, watch);
            }
            let defaults = SendSettings::default();
            let settings = SendSettings {
                chunk_bytes: order.chunk_bytes.unwrap_or(defaults.chunk_bytes),
                bytes_per_second: order
                    .terms
                    .bytes_per_second
                    .unwrap_or(defaults.bytes_per_second),
            };
            client.send_plain(opened, &settings, &order.terms, watch)
        })?;
        figures(py, &moved, order.is_plain)
    }

    /// Fetches what has this name into a file, or into memory.
    #[pyo3(signature = (name, sink, given, progress, /))]
    fn fetch<'py>(
        &self,
        py: Python<'py>,
        name: Vec<String>,
        sink: Option<(String, PathBuf)>,
        given: &Bound<'py, PyDict>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let order = Order::take(py, given, name)?;
        let inbox = Inbox::new(Budget::new(order.max_message_bytes.saturating_add(1 << 20)));
        let storage: Arc<dyn Storage> = match sink {
            None => Arc::new(MemoryStorage::new(
                Arc::clone(&inbox),
                order.max_message_bytes,
            )),
            Some((kind, path)) if kind == "path" => {
                let destination = Destination::new(&path, order.overwrites);
                Arc::new(checked(py, destination)?)
            }
            Some((kind, _)) => return Err(PyTypeError::new_err(format!("no such sink: {kind}"))),
        };
        let moved = self.run(py, "fetch from", progress, |client, watch| {
            client.fetch(storage, None, &order.terms, watch)
        })?;
        let found = figures(py, &moved, false)?;
        let data = inbox.take(Some(Duration::ZERO)).and_then(|one| one.data);
        found.set_item("data", data.map(|data| PyBytes::new(py, &data)))?;
        Ok(found)
    }

    /// Sends a message, and fetches the same back.
    #[pyo3(signature = (data, given, progress, /))]
    fn echo<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        given: &Bound<'py, PyDict>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = data.py();
        let order = Order::take(py, given, Vec::new())?;
        let opened = source(data, &order.terms.name)?;
        let opened = opened.map_err(|failure| self.failed(py, "send to", &failure))?;
        let length = opened.length().unwrap_or(0);
        let inbox = Inbox::new(Budget::new(length.saturating_add(1 << 20)));
        let back = Arc::clone(&inbox);
        self.run(py, "echo through", progress, |client, watch| {
            let sent = client.send(opened, &order.terms, watch)?;
            let storage = Arc::new(MemoryStorage::new(back, length.max(1)));
            client.fetch(storage, Some(sent.id), &order.terms, watch)
        })?;
        let data = inbox.take(Some(Duration::ZERO)).and_then(|one| one.data);
        Ok(PyBytes::new(py, &data.unwrap_or_default()))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

impl TransferClient {
    /// Runs a transfer without the GIL, but for its caller's signals and progress.
    fn run(
        &self,
        py: Python<'_>,
        operation: &str,
        progress: Option<Py<PyAny>>,
        work: impl FnOnce(&Client, &crate::client::Watch<'_>) -> std::result::Result<Moved, Failed>
        + Send,
    ) -> PyResult<Moved> {
        let client = checked(py, self.0.get())?;
        let moved = blocking(py, |caller: &Caller| {
            let watch = |done: u64, length: Option<u64>| {
                self.0.is_closed()
                    || caller.gives_up()
                    || progress
                        .as_ref()
                        .is_some_and(|progress| caller.calls_back(progress, done, length))
            };
            match work(&client, &watch) {
                Ok(moved) => Ok(Ok(moved)),
                Err(Failed::Transfer(failure)) => Ok(Err(failure)),
                Err(Failed::Socket(error)) if self.0.is_closed() => self.0.get().and(Err(error)),
                Err(Failed::Socket(error)) => Err(error),
            }
        })?;
        moved.map_err(|failure| self.failed(py, operation, &failure))
    }

    fn failed(&self, py: Python<'_>, operation: &str, failure: &Failure) -> PyErr {
        let text = format!("cannot {operation} {}: {failure}", self.0.ends.name);
        let is_late = failure.reason == Reason::TimedOut;
        let reason = failure.reason.name();
        errors::transfer_error(py, is_late, (text, reason, failure.is_remote))
    }
}

/// What is told of a transfer, by name.
fn figures<'py>(py: Python<'py>, moved: &Moved, is_plain: bool) -> PyResult<Bound<'py, PyDict>> {
    let (found, of) = (PyDict::new(py), &moved.figures);
    found.set_item("length", of.length)?;
    found.set_item("sent_bytes", of.sent_bytes)?;
    found.set_item("sent_packets", of.sent_packets)?;
    found.set_item("duration_ns", moved.duration.as_nanos())?;
    found.set_item("chunk_bytes", of.chunk_bytes)?;
    if is_plain {
        return Ok(found);
    }
    found.set_item("resumed_from", of.resumed_from)?;
    found.set_item("was_there", of.was_there)?;
    found.set_item("retransmitted_packets", of.retransmitted_packets)?;
    found.set_item("lost_packets", of.lost_packets)?;
    let time = |time_ns: u64| (time_ns > 0).then_some(time_ns);
    found.set_item("srtt_ns", time(of.smoothed_rtt_ns))?;
    found.set_item("min_rtt_ns", time(of.least_rtt_ns))?;
    found.set_item("cwnd_bytes", of.window_bytes)?;
    found.set_item("digest", PyBytes::new(py, &of.digest))?;
    Ok(found)
}
