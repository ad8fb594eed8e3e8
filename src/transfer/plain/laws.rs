//! What holds for any datagrams, at any times: for tests and fuzz/.
//!
//! A model without limits and without memory to save stands beside the receiver, and is asked after
//! each datagram. Laws:
//!
//! 1. Each datagram is consumed or dropped, once.
//! 2. Memory is no more than is allowed, nor than what came of open messages with a fixed overhead.
//! 3. A message is delivered when its last chunk comes, once, and as the model has it.
//! 4. What is told as missing is what the model misses.
//! 5. Once nothing comes any more, nothing is open and no memory in use.
//! 6. What goes back to a peer is each message that was delivered from it, whole, one after another.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use super::chunks::CHUNK_COST_BYTES;
use super::event::Event;
use super::missing::Missing;
use super::receiving::PlainReceiving;
use super::settings::ReceiveSettings;
use super::table::MESSAGE_COST_BYTES;
use super::wire::NUMBER_BYTES;
use crate::books::DropReason;
use crate::books::udp::Count;
use crate::datagram::{Batch, Copied, Destination, Message, Outbox, RawAddress, Received, Slots};
use crate::guard::Policy;
use crate::proto::{Progress, Protocol};
use crate::transfer::failure::Failure;
use crate::transfer::store::{Digest, Name, Offer, Opened, Sink, Source, Storage};

/// What is done to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many nanoseconds pass.
    Pass(u64),
    /// A datagram comes from a peer, by its number.
    Come(u8, Vec<u8>),
}

/// Bytes as steps, for small numbers that meet often. Each begins with a byte of which the first two
/// bits are the peer, and the next two are what follows: a count (1 byte; 255: all ones), a chunk
/// (its index, its length, and what its bytes are: a byte each), time (1 byte, in units of 50 ms), or
/// a datagram as it is (its length, and so many bytes).
pub(crate) fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut bytes = bytes.iter().copied();
    let mut steps = Vec::new();
    while let Some(step) = next_step(&mut bytes) {
        steps.push(step);
    }
    steps
}

fn next_step(bytes: &mut impl Iterator<Item = u8>) -> Option<Step> {
    let head = bytes.next()?;
    let wide = |number: u8| match number {
        u8::MAX => u32::MAX,
        number => number.into(),
    };
    let peer = head & 3;
    Some(match head >> 2 & 3 {
        0 => Step::Come(peer, wide(bytes.next()?).to_be_bytes().into()),
        1 => {
            let mut datagram = Vec::from(wide(bytes.next()?).to_be_bytes());
            let length = usize::from(bytes.next()? & 31);
            datagram.extend(std::iter::repeat_n(bytes.next()?, length));
            Step::Come(peer, datagram)
        }
        2 => Step::Pass(u64::from(bytes.next()?) * 50_000_000),
        _ => {
            let length = bytes.next()?.into();
            Step::Come(peer, bytes.by_ref().take(length).collect())
        }
    })
}

/// Limits that few datagrams reach.
pub(crate) fn small() -> ReceiveSettings {
    ReceiveSettings {
        max_message_bytes: 100,
        max_total_bytes: 2 * MESSAGE_COST_BYTES + 8 * CHUNK_COST_BYTES,
        max_open_per_source: 3,
        keep_partial: true,
        gives_names: true,
        echo_bytes_per_second: Some(1 << 20),
        ..ReceiveSettings::default()
    }
}

/// Does this to a receiver, and looks at it after each step.
pub(crate) fn hold_for(settings: ReceiveSettings, steps: &[Step]) {
    let kept = Shared::default();
    let receiving = PlainReceiving::new(settings, Arc::new(kept.clone()));
    let mut world = World {
        settings,
        receiving: receiving.expect("the settings are valid"),
        out: Outbox::new(Policy::default()),
        kept,
        models: BTreeMap::new(),
        echoes: BTreeMap::new(),
        now_ns: 0,
    };
    for step in steps {
        match step {
            Step::Pass(time_ns) => world.pass(*time_ns),
            Step::Come(peer, data) => world.come(*peer, data),
        }
    }
    world.finish();
}

/// A peer's open message, as it ought to be.
struct Model {
    count: u32,
    chunks: BTreeMap<u32, Vec<u8>>,
}

impl Model {
    fn new(count: u32) -> Self {
        Self {
            count,
            chunks: BTreeMap::new(),
        }
    }

    /// Whether the length of a chunk agrees with those that are here, and its index with the count.
    fn fits(&self, index: u32, chunk: &[u8]) -> bool {
        let last = self.count - 1;
        let mut others = self.chunks.iter().filter(|(index, _)| **index < last);
        match (others.next(), index == last) {
            _ if index > last => false,
            (Some((_, other)), true) => chunk.len() <= other.len(),
            (Some((_, other)), false) => chunk.len() == other.len(),
            (None, true) => true,
            (None, false) => self
                .chunks
                .get(&last)
                .is_none_or(|it| it.len() <= chunk.len()),
        }
    }
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Consumed,
    Malformed,
    Unknown,
    Limit,
}

struct World {
    settings: ReceiveSettings,
    receiving: PlainReceiving,
    out: Outbox,
    kept: Shared,
    models: BTreeMap<SocketAddr, Model>,
    /// What each peer is still to be sent.
    echoes: BTreeMap<SocketAddr, VecDeque<Vec<u8>>>,
    now_ns: u64,
}

impl World {
    fn come(&mut self, peer: u8, data: &[u8]) {
        let peer = address(peer);
        let before = self.accounted();
        let copies = [copied(peer, data)];
        let batch = Batch::of_copies(&copies);
        let progress = self.receiving.on_batch(self.now_ns, &batch, &mut self.out);
        assert_eq!(progress, Progress::Done);
        let after = self.accounted();
        let newly = std::array::from_fn(|way| after[way] - before[way]);
        let way = match newly {
            [1, 0, 0, 0] => Way::Consumed,
            [0, 1, 0, 0] => Way::Malformed,
            [0, 0, 1, 0] => Way::Unknown,
            [0, 0, 0, 1] => Way::Limit,
            _ => panic!("each is accounted for once: {newly:?}"),
        };
        let events = self.receiving.take_events();
        let completes = self.model(peer, data, way);
        let whole = events
            .iter()
            .filter(|event| matches!(event, Event::Whole(_)));
        assert_eq!(
            whole.count(),
            usize::from(completes),
            "told when it is whole"
        );
        self.look_at(events);
        self.pass_due();
        self.look_at_memory();
    }

    /// Does the same to the model, if it went the way that it ought to; whether a message is whole.
    fn model(&mut self, peer: SocketAddr, data: &[u8], way: Way) -> bool {
        use Way::{Consumed, Limit, Malformed, Unknown};
        let Some((number, chunk)) = data.split_first_chunk::<NUMBER_BYTES>() else {
            assert_eq!(way, Malformed);
            return false;
        };
        let number = u32::from_be_bytes(*number);
        let max_bytes = self.settings.max_message_bytes;
        let Some(open) = self.models.get_mut(&peer) else {
            match (chunk, way) {
                ([], Malformed) => assert_eq!(number, 0),
                ([], Consumed) => {
                    assert!((1..=max_bytes).contains(&number.into()));
                    self.models.insert(peer, Model::new(number));
                }
                ([], way) => assert_eq!(way, Limit),
                // A stranger's, or late.
                (_, way) => assert!(matches!(way, Unknown | Consumed)),
            }
            return false;
        };
        match (chunk, way) {
            ([], Consumed) if open.count != number => {
                // Opened by what may have been a late duplicate.
                assert!(open.chunks.is_empty(), "what came is not given up");
                open.count = number;
            }
            ([], Consumed) => assert_ne!(number, 0),
            ([], Malformed) => assert_ne!(open.count, number),
            ([], way) => assert_eq!((way, open.chunks.len()), (Limit, 0)),
            (chunk, way) => match (open.chunks.get(&number), way) {
                (Some(here), Consumed) => assert_eq!(here, chunk),
                (Some(here), way) => assert!(way == Malformed && here != chunk),
                (None, Malformed) => assert!(!open.fits(number, chunk)),
                (None, way) => {
                    assert!(open.fits(number, chunk));
                    if way == Consumed {
                        open.chunks.insert(number, chunk.to_vec());
                        return open.chunks.len() as u64 == u64::from(open.count);
                    }
                    assert_eq!(way, Limit);
                }
            },
        }
        false
    }

    fn look_at(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Whole(whole) => {
                    let model = self.models.remove(&whole.peer);
                    let model = model.expect("only what is open becomes whole");
                    let wanted: Vec<u8> = model.chunks.values().flatten().copied().collect();
                    let (digest, data) = self.kept.take(&whole.name);
                    assert_eq!(data, wanted);
                    assert_eq!(digest, *blake3::hash(&wanted).as_bytes());
                    assert_eq!((whole.digest, whole.length), (digest, wanted.len() as u64));
                    assert!(whole.length <= self.settings.max_message_bytes);
                    if self.settings.echo_bytes_per_second.is_some() {
                        let echoes = self.echoes.entry(whole.peer).or_default();
                        echoes.push_back(model.count.to_be_bytes().into());
                        echoes.extend(
                            model
                                .chunks
                                .into_iter()
                                .map(|(index, data)| [&index.to_be_bytes()[..], &data].concat()),
                        );
                    }
                }
                Event::Lost(lost) => {
                    let model = self.models.remove(&lost.peer);
                    let model = model.expect("only what is open is lost");
                    let came = model.chunks.keys().copied();
                    assert_eq!(lost.missing, Missing::but_for(model.count, came));
                    assert!(lost.missing.chunks > 0);
                    let came: Vec<u8> = model.chunks.values().flatten().copied().collect();
                    assert_eq!(lost.came_bytes, came.len() as u64);
                    if let Some(Ok(kept)) = lost.kept {
                        let (_, data) = self.kept.take(&kept.name);
                        assert_eq!(data.len() as u64, kept.length);
                        for (index, chunk) in model.chunks {
                            let start = kept.chunk_bytes.unwrap_or(0) * index as usize;
                            assert_eq!(data[start..start + chunk.len()], chunk);
                        }
                    }
                }
                Event::Failed(failed) => panic!("memory does not fail: {failed:?}"),
            }
        }
    }

    fn pass(&mut self, time_ns: u64) {
        let end_ns = self.now_ns + time_ns;
        while let Some(due_ns) = self.receiving.deadline_ns().filter(|due| *due <= end_ns) {
            self.now_ns = self.now_ns.max(due_ns);
            self.pass_due();
        }
        self.now_ns = end_ns;
        self.pass_due();
        self.look_at_memory();
    }

    fn pass_due(&mut self) {
        loop {
            let progress = self.receiving.on_time(self.now_ns, &mut self.out);
            self.look_at_what_goes();
            let events = self.receiving.take_events();
            self.look_at(events);
            if progress == Progress::Done {
                break;
            }
        }
        let due = self.receiving.deadline_ns();
        assert!(
            due.is_none_or(|due_ns| due_ns > self.now_ns),
            "{due:?} is over"
        );
        // Late duplicates of counts are forgotten without a word.
        if self.receiving.open_messages() < self.models.len() {
            let is_open = |model: &Model| !model.chunks.is_empty();
            let begun = self.models.values().filter(|model| is_open(model)).count();
            assert!(self.receiving.open_messages() >= begun);
            self.models
                .retain(|peer, model| is_open(model) || self.receiving.is_open(peer));
        }
        assert_eq!(self.receiving.open_messages(), self.models.len());
    }

    fn look_at_what_goes(&mut self) {
        for entry in self.out.entries() {
            let peer = entry.transmit.to.to_std().expect("it goes to somebody");
            let mut offset = 0;
            for length in entry.lengths() {
                let data = self.out.data(Slots::default(), entry, offset, length);
                let wanted = self.echoes.get_mut(&peer).and_then(VecDeque::pop_front);
                assert_eq!(wanted.as_deref(), Some(data));
                offset += length;
            }
        }
        self.out.clear();
    }

    fn look_at_memory(&self) {
        let held = self.receiving.held_bytes();
        assert!(held <= self.settings.max_total_bytes);
        let cost = |model: &Model| {
            let chunks = model
                .chunks
                .values()
                .map(|chunk| chunk.len() + CHUNK_COST_BYTES);
            MESSAGE_COST_BYTES + chunks.sum::<usize>()
        };
        let wanted: usize = self.models.values().map(cost).sum();
        let has_echoes = self.echoes.values().any(|queue| !queue.is_empty());
        assert!(held == wanted || has_echoes && held > wanted);
    }

    fn accounted(&self) -> [u64; 4] {
        let tally = &self.out.tally;
        [
            tally.count(Count::ConsumedPackets),
            tally.dropped(DropReason::TransferMalformed),
            tally.dropped(DropReason::TransferUnknown),
            tally.dropped(DropReason::TransferLimit),
        ]
    }

    fn finish(mut self) {
        self.pass(100_000_000_000);
        assert!(self.models.is_empty());
        assert!(self.echoes.values().all(VecDeque::is_empty));
        let receiving = &self.receiving;
        assert_eq!((receiving.held_bytes(), receiving.open_messages()), (0, 0));
        assert_eq!(receiving.deadline_ns(), None);
        let counts: BTreeMap<_, _> = receiving.counters().collect();
        let ended = ["whole", "lost", "failed", "displaced", "forgotten"];
        let ended = ended.map(|name| counts[format!("{name}_messages").as_str()]);
        assert_eq!(counts["opened_messages"], ended.iter().sum());
        assert!(
            self.kept
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
        );
    }
}

/// A peer by its number; of the same source.
pub(super) fn address(peer: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), 40_000 + u16::from(peer)).into()
}

/// A datagram of a peer's.
pub(super) fn copied(peer: SocketAddr, data: &[u8]) -> Copied {
    Copied {
        message: Message::admitted(Received {
            length: data.len(),
            source: RawAddress::from(peer),
            destination: Destination::Unknown,
            segment_bytes: 0,
            truncated: false,
            maybe_merged: false,
            hop_limit: 64,
            kernel_ns: 0,
        }),
        data: data.to_vec(),
    }
}

/// A storage that keeps all of it, for who looks.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Messages>>);

type Messages = BTreeMap<Name, (Digest, Vec<u8>)>;

impl Shared {
    /// What was kept by this name, once.
    pub(super) fn take(&self, name: &Name) -> (Digest, Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(name).expect("it is kept")
    }
}

impl Storage for Shared {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        Ok(Opened::Sink(Box::new(SharedSink {
            name: offer.name.clone(),
            data: Vec::new(),
            kept: self.clone(),
        })))
    }

    fn open_source(&self, _: &Name) -> Result<Box<dyn Source>, Failure> {
        unreachable!("this format has no pulls")
    }
}

struct SharedSink {
    name: Name,
    data: Vec<u8>,
    kept: Shared,
}

impl Sink for SharedSink {
    fn length(&self) -> u64 {
        self.data.len() as u64
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn read_back(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), Failure> {
        let message = (*digest, std::mem::take(&mut self.data));
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.insert(self.name.clone(), message);
        assert!(before.is_none(), "no name is given twice");
        Ok(())
    }

    fn discard(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Datagrams that often make a message: few peers, few chunks, few sizes.
    fn likely() -> impl Strategy<Value = Step> {
        let count = (0_u8..4, 1_u32..5);
        let chunk = (0_u8..4, 0_u32..5, 1_usize..4, any::<bool>());
        prop_oneof![
            2 => count.prop_map(|(peer, count)| Step::Come(peer, count.to_be_bytes().into())),
            8 => chunk.prop_map(|(peer, index, length, other)| {
                let mut data = Vec::from(index.to_be_bytes());
                data.extend(std::iter::repeat_n(u8::from(other), length));
                Step::Come(peer, data)
            }),
            1 => (0_u64..3_000_000_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn hold_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            hold_for(small(), &steps(&bytes));
        }

        #[test]
        fn hold_for_likely_datagrams(
            steps in prop::collection::vec(likely(), 0..200),
            total_bytes in 600_usize..4000,
            sends_back: bool,
        ) {
            let settings = ReceiveSettings {
                max_total_bytes: total_bytes,
                echo_bytes_per_second: sends_back.then_some(1 << 20),
                ..small()
            };
            hold_for(settings, &steps);
        }

        #[test]
        fn a_message_arrives_in_any_order_with_any_duplicates(
            message in prop::collection::vec(any::<u8>(), 1..100),
            chunk_bytes in 1_usize..40,
            order in prop::collection::vec(any::<u16>(), 100),
            twice in prop::collection::vec(any::<bool>(), 100),
        ) {
            let chunks: Vec<_> = message.chunks(chunk_bytes).collect();
            let mut come: Vec<_> = chunks.iter().enumerate().flat_map(|(index, chunk)| {
                let data = [&(index as u32).to_be_bytes()[..], chunk].concat();
                std::iter::repeat_n(data, 1 + usize::from(twice[index]))
            }).enumerate().collect();
            come.sort_by_key(|(place, _)| order[place % order.len()]);
            let mut steps = vec![Step::Come(1, (chunks.len() as u32).to_be_bytes().into())];
            steps.extend(come.into_iter().map(|(_, data)| Step::Come(1, data)));
            let settings = ReceiveSettings { max_total_bytes: 1 << 20, ..small() };
            // The model delivers it when its last chunk comes; that it does is asserted there.
            hold_for(settings, &steps);
        }
    }
}
