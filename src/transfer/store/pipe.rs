//! A message out of a pipe: a thread reads ahead, and what may have to be sent again is kept.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Source;

/// Maximum number of bytes in memory per pipe: read ahead, or not acknowledged yet.
pub const MAX_KEPT_BYTES: usize = 8 << 20;

/// What the thread asks the pipe for at once.
const READ_BYTES: usize = 64 << 10;

/// How long a pipe that does not block is left alone when it has nothing.
const NAP: Duration = Duration::from_millis(5);

/// Called whenever there is something new after [`io::ErrorKind::WouldBlock`].
type Wake = Box<dyn Fn() + Send>;

/// A message from a pipe, whose length is not known before its end.
///
/// Dropping it does not wait: the thread ends when its read returns.
pub struct PipeSource {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is room again, or nobody wants it any more.
    has_room: Condvar,
}

#[derive(Default)]
struct State {
    kept: VecDeque<u8>,
    /// Where the first kept byte belongs.
    start: u64,
    end: End,
    /// Somebody was told that nothing is there.
    is_awaited: bool,
    is_abandoned: bool,
}

#[derive(Default)]
enum End {
    #[default]
    NotYet,
    Reached,
    Failed(io::ErrorKind, String),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PipeSource {
    /// Starts to read ahead at once. A caller that gets `WouldBlock` has to ask again.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn new(pipe: impl Read + Send + 'static) -> io::Result<Self> {
        Self::waking(pipe, || ())
    }

    /// The same. After a caller got `WouldBlock`, the thread calls `wake` when there are bytes, or at
    /// the end.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn waking(
        pipe: impl Read + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reader = Reader {
            shared: shared.clone(),
            wake: Box::new(wake),
        };
        std::thread::Builder::new()
            .name("rsecho-pipe".to_owned())
            .spawn(move || reader.run(pipe))?;
        Ok(Self { shared })
    }
}

impl Source for PipeSource {
    fn length(&self) -> Option<u64> {
        let state = self.shared.state();
        match state.end {
            End::Reached => Some(state.start + state.kept.len() as u64),
            End::NotYet | End::Failed(..) => None,
        }
    }

    fn first(&self) -> u64 {
        self.shared.state().start
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        let Some(from) = offset.checked_sub(state.start) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "what was released of a pipe cannot be read again",
            ));
        };
        // Never more than is kept, so it fits.
        let from = from.min(state.kept.len() as u64) as usize;
        let count = (state.kept.len() - from).min(room.len());
        if count == 0 && !room.is_empty() {
            return match &state.end {
                End::Reached => Ok(0),
                End::Failed(kind, text) => Err(io::Error::new(*kind, text.clone())),
                End::NotYet => {
                    state.is_awaited = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        let (first, second) = state.kept.as_slices();
        let front = first.get(from..).unwrap_or_default();
        let front = &front[..front.len().min(count)];
        let back = from.saturating_sub(first.len());
        room[..front.len()].copy_from_slice(front);
        room[front.len()..count].copy_from_slice(&second[back..back + count - front.len()]);
        Ok(count)
    }

    fn release(&mut self, before: u64) {
        let mut state = self.shared.state();
        let count = before.saturating_sub(state.start);
        let count = count.min(state.kept.len() as u64);
        state.kept.drain(..count as usize);
        state.start += count;
        if count > 0 {
            self.shared.has_room.notify_one();
        }
    }
}

impl Drop for PipeSource {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_abandoned = true;
        state.kept = VecDeque::new();
        self.shared.has_room.notify_one();
    }
}

/// The thread's side.
struct Reader {
    shared: Arc<Shared>,
    wake: Wake,
}

impl Reader {
    fn run(self, mut pipe: impl Read) {
        let mut piece = vec![0; READ_BYTES];
        while let Some(room) = self.wait_for_room() {
            let room = room.min(READ_BYTES);
            match pipe.read(&mut piece[..room]) {
                Ok(0) => return self.end(End::Reached),
                // No reader of one's own may say that it has given more than there is room for.
                Ok(count) => self.keep(&piece[..count.min(room)]),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // A terminal, say, that another process has made so: there is no telling
                    // from a `Read` when it has something.
                    io::ErrorKind::WouldBlock => std::thread::sleep(NAP),
                    kind => return self.end(End::Failed(kind, error.to_string())),
                },
            }
        }
    }

    /// How many bytes more may be kept, as soon as that is any; `None`: nobody wants them.
    fn wait_for_room(&self) -> Option<usize> {
        let is_full = |state: &mut State| state.kept.len() >= MAX_KEPT_BYTES && !state.is_abandoned;
        let state = self
            .shared
            .has_room
            .wait_while(self.shared.state(), is_full)
            .unwrap_or_else(PoisonError::into_inner);
        (!state.is_abandoned).then(|| MAX_KEPT_BYTES - state.kept.len())
    }

    fn keep(&self, piece: &[u8]) {
        let mut state = self.shared.state();
        if state.is_abandoned {
            return;
        }
        state.kept.extend(piece);
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            (self.wake)();
        }
    }

    fn end(&self, end: End) {
        let mut state = self.shared.state();
        state.end = end;
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            (self.wake)();
        }
    }
}

impl Drop for Reader {
    /// Also when a `Read` panics: its sender must not wait for ever.
    fn drop(&mut self) {
        let is_over = !matches!(self.shared.state().end, End::NotYet);
        if !is_over {
            let text = "the pipe's reader has panicked".to_owned();
            self.end(End::Failed(io::ErrorKind::Other, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A pipe whose other end is a channel, and which ends with it.
    struct Fed(Receiver<Vec<u8>>);

    impl Read for Fed {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match self.0.recv() {
                Ok(data) => {
                    room[..data.len()].copy_from_slice(&data);
                    Ok(data.len())
                }
                Err(_) => Ok(0),
            }
        }
    }

    fn fed() -> (Sender<Vec<u8>>, PipeSource, Receiver<()>) {
        let (feed, receiver) = channel();
        let (wake, woken) = channel();
        let source = PipeSource::waking(Fed(receiver), move || {
            let _ = wake.send(());
        });
        (feed, source.unwrap(), woken)
    }

    /// Reads as a sender does that is woken.
    fn read(source: &mut PipeSource, woken: &Receiver<()>, offset: u64) -> io::Result<Vec<u8>> {
        let mut room = vec![0; 100_000];
        loop {
            match source.read(offset, &mut room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    woken.recv_timeout(PATIENCE).expect("a wake-up");
                }
                result => return result.map(|count| room[..count].to_vec()),
            }
        }
    }

    #[test]
    fn the_length_is_known_at_the_end() {
        let (feed, mut source, woken) = fed();
        let nothing = source.read(0, &mut [0; 4]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        feed.send(b"hello".to_vec()).unwrap();
        assert_eq!(read(&mut source, &woken, 0).unwrap(), b"hello");
        assert_eq!(source.length(), None);
        drop(feed);
        assert_eq!(read(&mut source, &woken, 5).unwrap(), b"");
        assert_eq!(source.length(), Some(5));
        // It stays until it is released.
        assert_eq!(read(&mut source, &woken, 1).unwrap(), b"ello");
        source.release(3);
        assert_eq!(read(&mut source, &woken, 3).unwrap(), b"lo");
        let released = read(&mut source, &woken, 2).unwrap_err();
        assert_eq!(released.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(source.length(), Some(5));
    }

    #[test]
    fn all_of_a_long_one_comes_in_order_with_bounded_memory() {
        let length = 5 * MAX_KEPT_BYTES as u64 + 12_345;
        let byte = |offset: u64| (offset % 251) as u8;
        let mut next = 0;
        let endless = std::iter::from_fn(move || {
            next += 1;
            Some(byte(next - 1))
        });
        let bytes: Vec<u8> = endless.take(length as usize).collect();
        let (wake, woken) = channel();
        let wake = move || {
            let _ = wake.send(());
        };
        let mut source = PipeSource::waking(io::Cursor::new(bytes), wake).unwrap();
        let mut at = 0;
        loop {
            let piece = read(&mut source, &woken, at).unwrap();
            if piece.is_empty() {
                break;
            }
            assert!(piece.iter().zip(at..).all(|(got, at)| *got == byte(at)));
            assert!(source.shared.state().kept.len() <= MAX_KEPT_BYTES);
            at += piece.len() as u64;
            source.release(at.saturating_sub(70_000));
        }
        assert_eq!((at, source.length()), (length, Some(length)));
    }

    #[test]
    fn it_reads_no_further_ahead_than_it_may_keep() {
        struct Counted(Sender<usize>);
        impl Read for Counted {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                let _ = self.0.send(room.len());
                Ok(room.len())
            }
        }
        let (count, counted) = channel();
        let mut source = PipeSource::new(Counted(count)).unwrap();
        let mut read_bytes = 0;
        while read_bytes < MAX_KEPT_BYTES {
            read_bytes += counted.recv_timeout(PATIENCE).unwrap();
        }
        assert_eq!(read_bytes, MAX_KEPT_BYTES);
        let more = counted.recv_timeout(Duration::from_millis(50));
        assert!(more.is_err(), "it is full");
        source.release(10);
        assert_eq!(counted.recv_timeout(PATIENCE).unwrap(), 10);
    }

    #[test]
    fn one_that_never_gives_anything_holds_up_nobody() {
        let (feed, source, _woken) = fed();
        let start = Instant::now();
        drop(source);
        assert!(start.elapsed() < PATIENCE);
        // The thread ends, and its pipe with it, once its read returns.
        while feed.send(vec![1]).is_ok() {
            std::thread::yield_now();
            assert!(start.elapsed() < PATIENCE);
        }
    }

    #[test]
    fn a_pipe_that_fails_says_why_after_what_it_gave() {
        struct Failing(bool);
        impl Read for Failing {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, "it broke"));
                }
                room[0] = b'x';
                Ok(1)
            }
        }
        struct Panicking;
        impl Read for Panicking {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("a reader of its user's")
            }
        }
        let wake = || {
            let (wake, woken) = channel();
            let wake = move || {
                let _ = wake.send(());
            };
            (wake, woken)
        };
        let (call, woken) = wake();
        let mut source = PipeSource::waking(Failing(false), call).unwrap();
        assert_eq!(read(&mut source, &woken, 0).unwrap(), b"x");
        let error = read(&mut source, &woken, 1).unwrap_err();
        assert_eq!(error.to_string(), "it broke");
        assert_eq!(source.length(), None);

        let (call, woken) = wake();
        let mut source = PipeSource::waking(Panicking, call).unwrap();
        assert!(read(&mut source, &woken, 0).is_err());
    }
}
