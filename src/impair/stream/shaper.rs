//! One direction of one connection: bytes in, and the same bytes out, later and in other
//! pieces; or none, and the end.
//!
//! Rules: what goes out is a beginning of what came in. No clock, no socket: the
//! caller passes the time, does what [`Shaper::action`] says, and asks again at
//! [`Shaper::next_due_ns`].

use std::collections::VecDeque;

use super::spec::{Effect, Toxics};
use crate::impair::directions::Direction;
use crate::impair::random::Draws;

/// Bytes that are held at most.
const MOST_BYTES: usize = 64 * 1024;

/// Pieces that are told apart at most: beyond, what comes waits for the piece before it.
const MOST_PIECES: usize = 4096;

/// What a rate lets through at once, as Toxiproxy does it: what takes it so long.
const BURST_NS: u64 = 100_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// This direction ends (FIN); the other one goes on.
    Finish,
    /// Both end.
    Close,
    /// The connection is aborted (RST).
    Reset,
}

/// One direction of one connection.
#[derive(Debug)]
pub(crate) struct Shaper {
    plan: Plan,
    draws: Draws,
    /// How many were drawn.
    drawn: u64,
    /// The last time that was told, and the first.
    now_ns: u64,
    began_ns: Option<u64>,
    /// When the first byte came, or the end.
    touched_ns: Option<u64>,
    ended_ns: Option<u64>,
    /// When the last byte went.
    went_ns: u64,
    /// Bytes that were taken, of which `data` still holds some.
    taken: u64,
    data: VecDeque<u8>,
    /// Of what pieces the data consists, behind the first `released` bytes.
    pieces: VecDeque<Piece>,
    /// Bytes that may go as far as latency and rate are concerned.
    released: usize,
    /// When the line is free for the next piece.
    busy_until_ns: u64,
    /// What is left of the slice that is going, and when the next one may.
    slice: usize,
    slice_at_ns: u64,
    progress: Progress,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    due_ns: u64,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Going,
    /// This direction has ended.
    Finished,
    /// The connection has.
    Over,
}

/// What is done to this connection: its toxics, put together.
#[derive(Debug, Default)]
struct Plan {
    /// (mean, jitter)
    latencies: Vec<(u64, u64)>,
    bytes_per_second: Option<u64>,
    slicer: Option<Slicer>,
    slow_close_ns: u64,
    /// Closed so long after it began, if not 0, and dropped until then.
    timeout_ns: Option<u64>,
    /// Reset so long after the first byte, and dropped until then.
    reset_ns: Option<u64>,
    limit_bytes: Option<u64>,
    half_bytes: Option<u64>,
    is_noop: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slicer {
    average_size: u32,
    size_variation: u32,
    delay_ns: u64,
}

impl Plan {
    fn new(effects: impl Iterator<Item = Effect>) -> Self {
        let mut plan = Self {
            is_noop: true,
            ..Self::default()
        };
        let lower = |old: Option<u64>, new| Some(old.map_or(new, |old| old.min(new)));
        for effect in effects {
            match effect {
                _ if effect.is_noop() => continue,
                // That is between the connection and the listener.
                Effect::AcceptHang | Effect::Refuse => continue,
                Effect::Latency {
                    latency_ns,
                    jitter_ns,
                } => plan.latencies.push((latency_ns, jitter_ns)),
                Effect::Bandwidth { bytes_per_second } => {
                    plan.bytes_per_second = lower(plan.bytes_per_second, bytes_per_second);
                }
                Effect::SlowClose { delay_ns } => {
                    plan.slow_close_ns = plan.slow_close_ns.saturating_add(delay_ns);
                }
                Effect::Timeout { timeout_ns } => {
                    // Of two the one that does close.
                    let closes = |time_ns| if time_ns == 0 { u64::MAX } else { time_ns };
                    plan.timeout_ns = lower(plan.timeout_ns, closes(timeout_ns));
                }
                Effect::ResetPeer { timeout_ns } => {
                    plan.reset_ns = lower(plan.reset_ns, timeout_ns);
                }
                Effect::Slicer {
                    average_size,
                    size_variation,
                    delay_ns,
                } => {
                    let new = Slicer {
                        average_size,
                        size_variation,
                        delay_ns,
                    };
                    let finer = |old: &Slicer| old.average_size <= new.average_size;
                    plan.slicer = plan.slicer.filter(finer).or(Some(new));
                }
                Effect::LimitData { bytes } => plan.limit_bytes = lower(plan.limit_bytes, bytes),
                Effect::HalfClose { bytes } => plan.half_bytes = lower(plan.half_bytes, bytes),
            }
            plan.is_noop = false;
        }
        plan
    }

    /// How many bytes may ever go.
    fn most_bytes(&self) -> u64 {
        let limit = self.limit_bytes.unwrap_or(u64::MAX);
        limit.min(self.half_bytes.unwrap_or(u64::MAX))
    }
}

impl Shaper {
    /// For the connection with this number.
    pub(crate) fn new(toxics: &Toxics, direction: Direction, connection: u64) -> Self {
        Self {
            plan: Plan::new(toxics.meant_for(direction, connection)),
            draws: toxics.draws(direction, connection),
            drawn: 0,
            now_ns: 0,
            began_ns: None,
            touched_ns: None,
            ended_ns: None,
            went_ns: 0,
            taken: 0,
            data: VecDeque::new(),
            pieces: VecDeque::new(),
            released: 0,
            busy_until_ns: 0,
            slice: 0,
            slice_at_ns: 0,
            progress: Progress::Going,
        }
    }

    /// True where nothing is done to this connection, which can then do without.
    pub(crate) fn is_noop(&self) -> bool {
        self.plan.is_noop
    }

    /// How many bytes [`Shaper::push`] takes now.
    pub(crate) fn room(&self) -> usize {
        if self.is_dropping() {
            MOST_BYTES
        } else {
            MOST_BYTES - self.data.len()
        }
    }

    /// How many bytes are held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.data.len()
    }

    /// Takes the next bytes of the stream, at most as many as there is room for.
    pub(crate) fn push(&mut self, now_ns: u64, data: &[u8]) {
        debug_assert!(data.len() <= self.room() && self.ended_ns.is_none());
        self.note(now_ns);
        if data.is_empty() {
            return;
        }
        self.touched_ns.get_or_insert(now_ns);
        if self.is_dropping() {
            return;
        }
        let most = self.plan.most_bytes() - self.taken;
        let kept = data.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.taken += kept as u64;
        if kept == 0 {
            return;
        }
        self.data.extend(&data[..kept]);
        let due_ns = self.due_ns(now_ns);
        let is_full = self.pieces.len() >= MOST_PIECES;
        match self.pieces.back_mut() {
            // In order: none overtakes the one before it.
            Some(last) if last.due_ns >= due_ns => last.bytes += kept,
            Some(last) if is_full => {
                last.bytes += kept;
                last.due_ns = due_ns;
            }
            // Without latency what waits waits for the line, all of it.
            Some(last) if self.plan.latencies.is_empty() => last.bytes += kept,
            _ => self.pieces.push_back(Piece {
                due_ns,
                bytes: kept,
            }),
        }
    }

    /// This direction's stream has ended.
    pub(crate) fn end(&mut self, now_ns: u64) {
        self.note(now_ns);
        self.touched_ns.get_or_insert(now_ns);
        self.ended_ns.get_or_insert(now_ns);
    }

    /// The bytes that may go now, as one write: with a slicer one slice.
    pub(crate) fn ready(&mut self, now_ns: u64) -> &[u8] {
        self.note(now_ns);
        if self.progress != Progress::Going {
            return &[];
        }
        self.release();
        let mut count = self.released;
        if let Some(slicer) = self.plan.slicer
            && count > 0
        {
            if self.slice == 0 {
                if self.now_ns < self.slice_at_ns {
                    return &[];
                }
                self.slice = self.slice_size(slicer).min(count);
            }
            count = self.slice;
        }
        if self.data.as_slices().0.len() < count {
            // Once in as many bytes as are held at most, so it costs next to nothing.
            self.data.make_contiguous();
        }
        &self.data.as_slices().0[..count]
    }

    /// So many of the bytes that were ready have gone.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.released);
        let count = count.min(self.released);
        if count == 0 {
            return;
        }
        self.data.drain(..count);
        self.released -= count;
        self.went_ns = self.now_ns;
        if let Some(slicer) = self.plan.slicer {
            self.slice = self.slice.saturating_sub(count);
            if self.slice == 0 {
                self.slice_at_ns = self.now_ns.saturating_add(slicer.delay_ns);
            }
        }
    }

    /// What is to be done with the connection now, each time once. To be asked after what is
    /// ready has gone, and when the connection begins.
    pub(crate) fn action(&mut self, now_ns: u64) -> Option<Action> {
        self.note(now_ns);
        let (due_ns, action) = self.next_action()?;
        if due_ns > self.now_ns {
            return None;
        }
        self.progress = match action {
            Action::Finish => Progress::Finished,
            Action::Close | Action::Reset => Progress::Over,
        };
        self.data = VecDeque::new();
        self.pieces = VecDeque::new();
        self.released = 0;
        Some(action)
    }

    /// When something changes by itself: bytes are ready, or there is something to be done.
    /// `None` where nothing does. What is ready and has not gone is no change.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let slice_ns = (self.plan.slicer.is_some() && self.released > 0 && self.slice == 0)
            .then_some(self.slice_at_ns);
        let piece_ns = self.pieces.front().map(|piece| self.through(*piece).1);
        let action_ns = self.next_action().map(|(due_ns, _)| due_ns);
        [slice_ns, piece_ns, action_ns].into_iter().flatten().min()
    }

    fn note(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.began_ns.get_or_insert(now_ns);
    }

    /// Whether what comes is thrown away.
    fn is_dropping(&self) -> bool {
        self.progress != Progress::Going
            || self.plan.timeout_ns.is_some()
            || self.plan.reset_ns.is_some()
            || self.taken >= self.plan.most_bytes()
    }

    /// What will be done next if nothing else comes, and when: 0 is at once, for a
    /// connection that has not been told the time yet.
    fn next_action(&self) -> Option<(u64, Action)> {
        if self.progress == Progress::Over {
            return None;
        }
        let after = |from: Option<u64>, wait_ns: Option<u64>| match wait_ns {
            None | Some(u64::MAX) => None,
            Some(wait_ns) => from.map(|from| from.saturating_add(wait_ns)),
        };
        let began_ns = Some(self.began_ns.unwrap_or_default());
        let reset = after(self.touched_ns, self.plan.reset_ns).map(|at| (at, Action::Reset));
        let close = after(began_ns, self.plan.timeout_ns).map(|at| (at, Action::Close));
        let end = self.end_of_data();
        [reset, close, end]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// The end that comes when all data has gone.
    fn end_of_data(&self) -> Option<(u64, Action)> {
        // With reset_peer nothing but the reset comes.
        if self.progress != Progress::Going || !self.data.is_empty() || self.plan.reset_ns.is_some()
        {
            return None;
        }
        // A limit of 0 waits for the first byte, as Toxiproxy's does.
        let is_full = self.plan.limit_bytes.is_some_and(|most| self.taken >= most);
        let is_half = self.plan.half_bytes.is_some_and(|most| self.taken >= most);
        let (from_ns, action) = match (self.touched_ns, self.ended_ns) {
            (Some(touched_ns), _) if is_full => (touched_ns, Action::Close),
            (_, Some(ended_ns)) => (ended_ns, Action::Finish),
            _ if is_half => (self.began_ns.unwrap_or_default(), Action::Finish),
            _ => return None,
        };
        let from_ns = from_ns.max(self.went_ns);
        Some((from_ns.saturating_add(self.plan.slow_close_ns), action))
    }

    /// When what comes now may go, as far as latency is concerned.
    fn due_ns(&mut self, now_ns: u64) -> u64 {
        let mut due_ns = now_ns;
        for &(latency_ns, jitter_ns) in &self.plan.latencies {
            let mut held_ns = latency_ns;
            if jitter_ns > 0 {
                let strays_ns = self.draws.below(self.drawn, jitter_ns.saturating_mul(2));
                self.drawn += 1;
                held_ns = latency_ns
                    .saturating_add(strays_ns)
                    .saturating_sub(jitter_ns);
            }
            due_ns = due_ns.saturating_add(held_ns);
        }
        due_ns
    }

    /// How much of a piece goes through the line next, and when it is through.
    fn through(&self, piece: Piece) -> (usize, u64) {
        let Some(rate) = self.plan.bytes_per_second else {
            return (piece.bytes, piece.due_ns);
        };
        let burst = u128::from(rate) * u128::from(BURST_NS) / u128::from(SECOND_NS);
        let bytes = piece
            .bytes
            .min(usize::try_from(burst.max(1)).unwrap_or(usize::MAX));
        // At most 64 KiB times a second: it fits.
        let time_ns = bytes as u64 * SECOND_NS / rate;
        let from_ns = piece.due_ns.max(self.busy_until_ns);
        (bytes, from_ns.saturating_add(time_ns))
    }

    /// Lets through what the time has come for.
    fn release(&mut self) {
        while let Some(piece) = self.pieces.front().copied() {
            let (bytes, through_ns) = self.through(piece);
            if through_ns > self.now_ns {
                break;
            }
            self.busy_until_ns = through_ns;
            self.released += bytes;
            if bytes == piece.bytes {
                self.pieces.pop_front();
            } else if let Some(front) = self.pieces.front_mut() {
                front.bytes -= bytes;
            }
        }
    }

    fn slice_size(&mut self, slicer: Slicer) -> usize {
        let Slicer {
            average_size,
            size_variation,
            ..
        } = slicer;
        let strays = self
            .draws
            .below(self.drawn, u64::from(size_variation) * 2 + 1);
        self.drawn += 1;
        // What the grammar refuses can still be made by hand.
        let size = (u64::from(average_size) + strays).saturating_sub(size_variation.into());
        usize::try_from(size).unwrap_or(usize::MAX).max(1)
    }
}
