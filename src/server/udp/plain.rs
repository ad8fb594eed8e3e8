//! The tutorial's format at a server: what became of messages is told, counted and handed over.

use std::sync::Arc;
use std::time::Duration;

use crate::books::udp::Count;
use crate::datagram::{Batch, Outbox};
use crate::error::Result;
use crate::event::{Level, Observer, Parts};
use crate::proto::{Pending, Progress, Protocol};
use crate::transfer::budget::{Budget, Share};
use crate::transfer::plain::{Event, Lost, PlainReceiving, ReceiveSettings};
use crate::transfer::store::inbox::{Delivered, Inbox};
use crate::transfer::store::{Digest, Name, Storage};

/// Makes a storage that announces in this inbox what it has.
pub type MakeStorage = dyn Fn(&Arc<Inbox>) -> Arc<dyn Storage> + Send + Sync;

/// How messages are received by the tutorial's format.
#[derive(Clone)]
pub struct Plain {
    /// By which rules.
    pub settings: ReceiveSettings,
    /// Makes the storage of one worker.
    pub storage: Arc<MakeStorage>,
    /// Who takes messages, and is told of those that are lost; `None`: nobody does.
    pub inbox: Option<Arc<Inbox>>,
}

/// One worker's.
pub(super) struct PlainServing {
    receiving: PlainReceiving,
    /// What the storage has announced and no event has told of yet.
    announced: Arc<Inbox>,
    inbox: Option<Arc<Inbox>>,
    observer: Arc<Observer>,
}

impl PlainServing {
    pub(super) fn new(plain: &Plain, observer: Arc<Observer>) -> Result<Self> {
        let bytes = plain.settings.max_total_bytes as u64;
        let announced = Inbox::new(Budget::new(2 * bytes));
        let storage = (plain.storage)(&announced);
        Ok(Self {
            receiving: PlainReceiving::new(plain.settings, storage)?,
            announced,
            inbox: plain.inbox.clone(),
            observer,
        })
    }

    fn tell_events(&mut self, out: &mut Outbox) {
        for event in self.receiving.take_events() {
            let (level, count, text, length, peer) = match &event {
                Event::Whole(whole) => {
                    let disputed = match whole.disputed_packets {
                        0 => String::new(),
                        some => format!("; {some} datagrams spoke against it"),
                    };
                    let text = format!(
                        "received a message of {} bytes in {} chunks from {}{disputed}",
                        whole.length, whole.chunks, whole.peer
                    );
                    let (length, peer) = (whole.length, whole.peer);
                    (Level::Info, Count::ReceivedTransfers, text, length, peer)
                }
                Event::Lost(lost) => {
                    let kept = match &lost.kept {
                        Some(Ok(kept)) => format!("; {} bytes of it are kept", kept.length),
                        Some(Err(failure)) => format!("; what came is not kept: {failure}"),
                        None => String::new(),
                    };
                    let text = format!("{lost}{kept}");
                    let (length, peer) = (lost.came_bytes, lost.peer);
                    (Level::Warning, Count::FailedTransfers, text, length, peer)
                }
                Event::Failed(failed) => {
                    let text = format!(
                        "a message of {} bytes from {} is not kept: {}",
                        failed.length, failed.peer, failed.failure
                    );
                    let (length, peer) = (failed.length, failed.peer);
                    (Level::Warning, Count::FailedTransfers, text, length, peer)
                }
            };
            out.tally.add(count, 1);
            let text = format!("{}: {text}", self.observer.server());
            let mut parts: Parts = vec![("peer", peer.into()), ("length_bytes", length.into())];
            let reason = match &event {
                Event::Whole(_) => None,
                Event::Lost(lost) => Some(lost.failure().reason),
                Event::Failed(failed) => Some(failed.failure.reason),
            };
            parts.extend(reason.map(|reason| ("reason", reason.name().into())));
            self.observer.notice_parts(level, "transfer", text, parts);
            self.hand_over(event);
        }
    }

    /// Hands over what came, or what there is to say of what did not.
    fn hand_over(&mut self, event: Event) {
        let announced = match &event {
            Event::Whole(_) => self.announced.take(Some(Duration::ZERO)),
            Event::Lost(lost) if matches!(lost.kept, Some(Ok(_))) => {
                self.announced.take(Some(Duration::ZERO))
            }
            _ => None,
        };
        let Some(inbox) = &self.inbox else {
            return;
        };
        let mut message = announced.unwrap_or_else(|| notice(&event));
        if let Event::Lost(lost) = &event {
            message.missing.clone_from(&lost.missing.ranges);
            message.failure = Some(lost.failure());
        }
        let bytes = message.data.as_ref().map_or(0, |data| data.len() as u64);
        let mut share = Share::new(inbox.budget());
        let is_handed_over = share.grow(bytes + 256) && inbox.put(message, share);
        if !is_handed_over {
            let server = self.observer.server();
            let text = format!(
                "{server}: a message is discarded: earlier ones have not been taken, and there is no room"
            );
            self.observer.notice(Level::Warning, "transfer", text);
        }
    }
}

/// A message of which there is nothing but what became of it.
fn notice(event: &Event) -> Delivered {
    let (peer, id, length, failure) = match event {
        Event::Whole(whole) => (whole.peer, whole.number, whole.length, None),
        Event::Lost(lost @ Lost { peer, number, .. }) => (*peer, *number, 0, Some(lost.failure())),
        Event::Failed(failed) => {
            let failure = Some(failed.failure.clone());
            (failed.peer, failed.number, failed.length, failure)
        }
    };
    Delivered {
        peer,
        id,
        name: Name::none(),
        length,
        digest: Digest::default(),
        data: None,
        missing: Vec::new(),
        failure,
    }
}

impl Protocol for PlainServing {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        let progress = self.receiving.on_batch(now_ns, batch, out);
        self.tell_events(out);
        progress
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.receiving.deadline_ns()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        let progress = self.receiving.on_time(now_ns, out);
        self.tell_events(out);
        progress
    }

    fn pending(&self) -> Pending {
        self.receiving.pending()
    }
}
