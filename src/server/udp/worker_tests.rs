//! The loop against a kernel that misbehaves as told: what no loopback does on demand.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::Worker;
use crate::books::DropReason;
use crate::books::Totals;
use crate::books::udp::totals;
use crate::datagram::{Destination, Outbox, RawAddress, Received, Slots};
use crate::guard::{Policy, Rate};
use crate::net::udp::Endpoint;
use crate::net::udp::engine::Engine;
use crate::net::udp::plan::Plan;
use crate::net::udp::waiting::{Receiver, Sleep};
use crate::proto::Echo;
use crate::server::udp::{Config, Shared};
use crate::server::{Listen, Wait};
use crate::sys::Waker;
use crate::sys::message::Mode;
use crate::worker::{Control, Finish};

/// One message of a script: who, how long, in segments of what.
#[derive(Clone, Copy)]
struct Came {
    peer: RawAddress,
    length: usize,
    segment_bytes: usize,
    truncated: bool,
    maybe_merged: bool,
    hop_limit: u8,
}

/// An engine that receives batches from a script, an empty one standing for an ICMP error,
/// and refuses trains with an error.
struct Scripted {
    batches: VecDeque<Vec<Came>>,
    now: Vec<Came>,
    data: Vec<u8>,
    max_segments: usize,
    refuse_trains: Option<i32>,
    /// (peer's port, datagrams) of each send that went.
    sent: Arc<std::sync::Mutex<Vec<(u16, u16)>>>,
}

impl Engine for Scripted {
    fn slots(&self) -> usize {
        64
    }

    fn receive(&mut self, _slots: Range<usize>, _mode: Mode) -> io::Result<usize> {
        // EBADF after the last ends the loop.
        self.now = self
            .batches
            .pop_front()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        if self.now.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        Ok(self.now.len())
    }

    fn take(&mut self, slot: usize) -> Received {
        let came = self.now[slot];
        Received {
            length: came.length,
            source: came.peer,
            destination: Destination::Unknown,
            segment_bytes: came.segment_bytes,
            truncated: came.truncated,
            maybe_merged: came.maybe_merged,
            hop_limit: came.hop_limit,
            kernel_ns: 0,
        }
    }

    fn memory(&self) -> Slots<'_> {
        Slots {
            memory: &self.data,
            stride: 0,
        }
    }

    fn max_segments(&self) -> usize {
        self.max_segments
    }

    fn limit_segments(&mut self, _refused: usize) {
        self.max_segments = 1;
    }

    fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize> {
        let group = plan.groups()[start];
        match self.refuse_trains {
            Some(errno) if group.datagrams > 1 => Err(io::Error::from_raw_os_error(errno)),
            _ => {
                let entry = &outbox.entries()[usize::from(group.entry)];
                let port = entry.transmit.to.port();
                self.sent.lock().unwrap().push((port, group.datagrams));
                Ok(1)
            }
        }
    }
}

struct Outcome {
    totals: Totals,
    sent: Vec<(u16, u16)>,
}

impl Outcome {
    fn counter(&self, name: &str) -> u64 {
        value(&self.totals.counters, name)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        value(&self.totals.reasons, reason.name())
    }
}

fn value(figures: &[(&str, u64)], name: &str) -> u64 {
    let found = figures.iter().find(|(known, _)| *known == name);
    found.expect("a figure").1
}

fn serve(batches: Vec<Vec<Came>>, refuse_trains: Option<i32>) -> Outcome {
    serve_under(&Control::default(), batches, refuse_trains)
}

fn serve_under(control: &Control, batches: Vec<Vec<Came>>, refuse_trains: Option<i32>) -> Outcome {
    serve_with(Policy::default(), control, batches, refuse_trains)
}

fn serve_with(
    policy: Policy,
    control: &Control,
    batches: Vec<Vec<Came>>,
    refuse_trains: Option<i32>,
) -> Outcome {
    let socket = Arc::new(Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
    let own = socket.local_addr().unwrap().as_socket().unwrap();
    let waker = Arc::new(Waker::new().unwrap());
    let receiver = Receiver::new(&socket, Wait::Latency, Sleep::InPoll, waker, None).unwrap();
    let mut config = Config::new(Listen::at("127.0.0.1", 0));
    config.guard = policy;
    let fd = socket.as_raw_fd();
    let shared = Shared::new(config, "scripted", "test", fd, &[], None).unwrap();
    let service = shared.service(own);
    let parts = shared.endpoint(socket, own, receiver, false);
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let engine = Scripted {
        batches: batches.into(),
        now: Vec::new(),
        data: (0..4000u32).map(|i| (i / 1000) as u8).collect(),
        max_segments: 64,
        refuse_trains,
        sent: Arc::clone(&sent),
    };
    let counters = &shared.counters[0];
    let finish = Worker::new(
        Endpoint::new(parts, engine),
        service,
        Box::new(Echo),
        counters,
        control,
    )
    .run();
    assert!(
        matches!(finish, Finish::Failed(_)),
        "the script ends with EBADF"
    );
    let totals = totals(&shared.counters);
    let pending = value(&totals.counters, "pending_packets");
    assert_eq!(pending, 0, "received = answered + dropped");
    let sent = sent.lock().unwrap().clone();
    Outcome { totals, sent }
}

fn peer() -> (UdpSocket, Came) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let peer = RawAddress::from(socket.local_addr().unwrap());
    let plain = Came {
        peer,
        length: 100,
        segment_bytes: 0,
        truncated: false,
        maybe_merged: false,
        hop_limit: 64,
    };
    (socket, plain)
}

#[test]
fn f08_a_truncated_datagram_is_counted_and_not_answered() {
    let (_socket, plain) = peer();
    let outcome = serve(
        vec![vec![
            plain,
            Came {
                truncated: true,
                ..plain
            },
            plain,
        ]],
        None,
    );
    assert_eq!(outcome.dropped(DropReason::Truncated), 1);
    assert_eq!(outcome.counter("truncated_packets"), 1);
    assert_eq!(outcome.counter("sent_packets"), 2);
}

#[test]
fn f09_what_may_be_merged_is_dropped_and_counted() {
    let (_socket, plain) = peer();
    let outcome = serve(
        vec![vec![
            plain,
            Came {
                maybe_merged: true,
                ..plain
            },
        ]],
        None,
    );
    assert_eq!(outcome.dropped(DropReason::Merged), 1);
    assert_eq!(outcome.counter("sent_packets"), 1);
}

#[test]
fn f11_a_refused_train_is_resent_singly_and_the_engine_remembers_for_good() {
    let (socket, plain) = peer();
    let train = Came {
        length: 3200,
        segment_bytes: 1000,
        ..plain
    };
    let outcome = serve(vec![vec![train], vec![train]], Some(libc::EIO));
    // The first by itself, datagram by datagram; the second as the engine sends singles.
    let mut buffer = [0; 2000];
    for (length, byte) in [(1000, 0), (1000, 1), (1000, 2), (200, 3)] {
        assert_eq!(socket.recv(&mut buffer).unwrap(), length);
        assert!(buffer[..length].iter().all(|found| *found == byte));
    }
    assert_eq!(
        outcome.sent.iter().map(|sent| sent.1).collect::<Vec<_>>(),
        [1; 4]
    );
    assert_eq!(outcome.counter("sent_packets"), 8);
}

#[test]
fn f11_a_narrow_path_is_remembered_for_its_peer_alone() {
    let (narrow_socket, plain) = peer();
    let narrow = Came {
        length: 3200,
        segment_bytes: 1000,
        ..plain
    };
    let (_wide_socket, plain) = peer();
    let wide = Came {
        length: 2000,
        segment_bytes: 1000,
        ..plain
    };
    // Refused once by the path; then the same again, and another peer.
    let outcome = serve(vec![vec![narrow], vec![narrow, wide]], Some(libc::EMSGSIZE));
    let narrow_port = narrow.peer.port();
    let singles = outcome
        .sent
        .iter()
        .filter(|sent| **sent == (narrow_port, 1))
        .count();
    assert_eq!(singles, 4, "{:?}", outcome.sent);
    let mut buffer = [0; 2000];
    for _ in 0..4 {
        narrow_socket.recv(&mut buffer).unwrap();
    }
    // The other peer was offered its train, which the script refuses to everyone.
    assert_eq!(outcome.sent.len(), 4);
    assert_eq!(outcome.counter("sent_packets"), 10);
}

#[test]
fn the_ghost_of_a_shut_down_socket_counts_as_nothing() {
    let (_socket, plain) = peer();
    let ghost = Came {
        peer: RawAddress::empty(),
        length: 0,
        ..plain
    };
    let outcome = serve(vec![vec![ghost], vec![plain]], None);
    assert_eq!(outcome.counter("received_packets"), 1);
    assert_eq!(
        outcome
            .totals
            .reasons
            .iter()
            .map(|(_, value)| value)
            .sum::<u64>(),
        0
    );
}

#[test]
fn an_error_of_somebody_elses_reply_ends_neither_the_service_nor_the_draining() {
    let (_socket, plain) = peer();
    let script = vec![vec![], vec![plain], vec![], vec![plain]];
    assert_eq!(serve(script.clone(), None).counter("sent_packets"), 2);
    let stopping = Control::default();
    stopping.tell(Duration::from_secs(10));
    let outcome = serve_under(&stopping, script, None);
    assert_eq!(outcome.counter("sent_packets"), 2);
}

#[test]
fn a_train_beyond_the_rate_is_answered_in_part_and_accounted_for() {
    let (_socket, plain) = peer();
    let train = Came {
        length: 3200,
        segment_bytes: 1000,
        ..plain
    };
    let policy = Policy {
        rate_per_source: Some(Rate {
            per_second: 0.001,
            burst: 7,
        }),
        ..Policy::default()
    };
    // Four, then three of four, then none; the books balance after each.
    let batches = vec![vec![train], vec![train, plain], vec![plain]];
    let outcome = serve_with(policy, &Control::default(), batches, None);
    let datagrams: Vec<u16> = outcome.sent.iter().map(|sent| sent.1).collect();
    assert_eq!(datagrams, [4, 3]);
    assert_eq!(outcome.counter("received_packets"), 10);
    assert_eq!(outcome.counter("sent_packets"), 7);
    assert_eq!(outcome.counter("sent_bytes"), 3200 + 3000);
    assert_eq!(outcome.dropped(DropReason::RateLimited), 3);
}

#[test]
fn what_may_not_ask_takes_no_token_from_anybody() {
    let (_socket, plain) = peer();
    let stranger = Came {
        peer: RawAddress::from("127.0.0.9:5000".parse::<SocketAddr>().unwrap()),
        ..plain
    };
    let truncated = Came {
        truncated: true,
        ..plain
    };
    let policy = Policy {
        deny: vec!["127.0.0.9".parse().unwrap()],
        rate_total: Some(Rate {
            per_second: 0.001,
            burst: 1,
        }),
        ..Policy::default()
    };
    let batches = vec![vec![stranger, truncated, plain, plain]];
    let outcome = serve_with(policy, &Control::default(), batches, None);
    assert_eq!(outcome.dropped(DropReason::Denied), 1);
    assert_eq!(outcome.dropped(DropReason::Truncated), 1);
    assert_eq!(outcome.dropped(DropReason::RateLimitedTotal), 1);
    assert_eq!(outcome.counter("sent_packets"), 1);
}

#[test]
fn service_ports_off_loopback_are_not_answered_unless_asked_for() {
    let (_socket, plain) = peer();
    let from = |text: &str| Came {
        peer: RawAddress::from(text.parse::<SocketAddr>().unwrap()),
        ..plain
    };
    let batch = vec![
        from("192.0.2.1:53"),
        from("192.0.2.1:11211"),
        from("[::ffff:192.0.2.1]:123"),
        from("127.0.0.1:53"),
        from("192.0.2.1:5353"),
    ];
    let outcome = serve(vec![batch.clone()], None);
    assert_eq!(outcome.dropped(DropReason::ServicePort), 3);
    assert_eq!(outcome.counter("sent_packets"), 2);
    let policy = Policy {
        answer_service_ports: true,
        ..Policy::default()
    };
    let outcome = serve_with(policy, &Control::default(), vec![batch], None);
    assert_eq!(outcome.counter("sent_packets"), 5);
}

#[test]
fn only_replies_of_one_hop_limit_go_together() {
    let (_socket, plain) = peer();
    let sixty = Came {
        hop_limit: 60,
        ..plain
    };
    let less = Came {
        hop_limit: 50,
        ..plain
    };
    let outcome = serve(vec![vec![sixty, sixty, less, less]], None);
    let datagrams: Vec<u16> = outcome.sent.iter().map(|sent| sent.1).collect();
    assert_eq!(datagrams, [2, 2]);
}
