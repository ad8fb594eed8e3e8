//! What holds whatever comes: packets that anybody may have made up, with checksums that are right.

use std::net::SocketAddr;
use std::sync::Arc;

use super::budget::Budget;
use super::cookie::Cookies;
use super::serving::{Limits, Serving, Shared};
use super::simulated::disk::Disk;
use super::store::Name;
use super::wire::laws::sealed;
use super::wire::{self, MIN_REQUEST_BYTES};
use crate::datagram::{Batch, Copied, Destination, Message, Outbox, RawAddress, Received};
use crate::event::Observer;
use crate::proto::{Progress, Protocol};

const SECOND: u64 = 1_000_000_000;
const EARLY_BYTES: u64 = 64 * 1024;

/// A server, and what it was handed.
struct Served {
    serving: Serving,
    shared: Arc<Shared>,
    disk: Disk,
    now_ns: u64,
    out: Outbox,
}

/// Hands packets to a server. Each: who sends it, what of it is put right, and how much time has
/// passed (1 byte); its length (1); and from its type on, its bytes, with an id of one byte.
pub(crate) fn hold_for(bytes: &[u8]) {
    let mut served = Served::new();
    let mut rest = bytes;
    while let Some((&[control, length], after)) = rest.split_first_chunk() {
        let (packet, after) = after.split_at(after.len().min(length.into()));
        rest = after;
        served.take(control, packet);
    }
    served.end();
}

impl Served {
    fn new() -> Self {
        let disk = Disk::default();
        let name = Name::new(vec!["a".to_owned()]).unwrap_or_default();
        disk.put(name, Arc::new(vec![7; 3_000]));
        let limits = Limits {
            open_per_source: 3,
            open: 4,
            progress_timeout_ns: 10 * SECOND,
            bytes_per_second: None,
        };
        let shared = Arc::new(Shared::new(
            Arc::new(disk.clone()),
            Some(Arc::new(disk.clone())),
            Cookies::with_key([3; 32]),
            Budget::new(EARLY_BYTES),
            limits,
            Arc::new(Observer::new("udp://192.0.2.1:7", None)),
            Box::new(|_| 1_472),
        ));
        Self {
            serving: Serving::new(Arc::clone(&shared), 1 << 20),
            shared,
            disk,
            now_ns: 0,
            out: Outbox::default(),
        }
    }

    fn take(&mut self, control: u8, bytes: &[u8]) {
        let peer = SocketAddr::from(([192, 0, 2, 2], 1_000 + u16::from(control & 1)));
        self.now_ns += [0, 1, 5_000_000, 3 * SECOND][usize::from(control >> 1 & 3)];
        let Some((&[kind, id], body)) = bytes.split_first_chunk() else {
            return;
        };
        let mut packet = vec![
            0,
            0,
            wire::VERSION,
            kind,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            id,
        ];
        packet.extend_from_slice(body);
        let is_request = kind == 1 || kind == 8;
        if is_request && control & 8 != 0 {
            packet.resize(packet.len().max(MIN_REQUEST_BYTES), 0);
        }
        let knows_cookie = is_request && control & 16 != 0;
        if knows_cookie && let Some(cookie) = packet.get_mut(17..33) {
            cookie.copy_from_slice(&self.shared.cookies.make(self.now_ns, peer));
        }
        let Some(packet) = sealed(&packet) else {
            return;
        };
        let was_open = self.shared.open();
        let copies = [Copied {
            message: Message::admitted(Received {
                length: packet.len(),
                source: RawAddress::from(peer),
                destination: Destination::Unknown,
                segment_bytes: 0,
                truncated: false,
                maybe_merged: false,
                hop_limit: 64,
                kernel_ns: 0,
            }),
            data: packet,
        }];
        let batch = Batch::of_copies(&copies);
        let progress = self.serving.on_batch(self.now_ns, &batch, &mut self.out);
        assert_eq!(progress, Progress::Done);
        if was_open == 0 && !knows_cookie {
            // Nothing is kept for strangers, and nothing longer than what came goes to them.
            assert_eq!(self.shared.open(), 0);
            let sent = self.out.entries().iter().map(|entry| entry.length);
            assert!(sent.sum::<usize>() <= copies[0].data.len());
        }
        self.pass_time();
    }

    fn pass_time(&mut self) {
        for _ in 0..1_000 {
            while self.serving.on_time(self.now_ns, &mut self.out) != Progress::Done {
                self.out.clear();
            }
            self.out.clear();
            assert!(self.shared.open() <= 4);
            assert!(self.shared.budget.taken_bytes() <= EARLY_BYTES);
            let due_ns = self.serving.deadline_ns();
            if due_ns.is_none_or(|due_ns| due_ns > self.now_ns) {
                return;
            }
        }
        panic!("it has always something to do, and never does it");
    }

    /// Whatever was begun ends by itself; what was delivered is what its digest says.
    fn end(mut self) {
        for _ in 0..1_000 {
            let Some(due_ns) = self.serving.deadline_ns() else {
                break;
            };
            self.now_ns = self.now_ns.max(due_ns);
            self.pass_time();
        }
        assert_eq!(self.serving.deadline_ns(), None);
        assert_eq!(
            (self.shared.open(), self.shared.budget.taken_bytes()),
            (0, 0)
        );
        for it in self.disk.finished() {
            assert_eq!(blake3::hash(&it.data), it.digest);
        }
    }
}
