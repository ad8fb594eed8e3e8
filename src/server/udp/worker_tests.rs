//! The loop against a kernel that misbehaves as told: what no loopback does on demand.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::Config;
use super::counters::{COUNTERS, Counters, NAMES};
use super::echo::Worker;
use super::engine::Engine;
use super::impairing::{Impairing, Setting};
use super::plan::Plan;
use super::wait::{Receiver, Sleep};
use crate::books::DropReason;
use crate::event::Observer;
use crate::guard::{Policy, Rate, Rates};
use crate::server::{Listen, Wait};
use crate::sys::message::{Destination, Mode, Received};
use crate::sys::{RawAddress, Waker};
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
    const NAME: &'static str = "scripted";

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
            reply_hop_limit: 0,
        }
    }

    fn data(&self, _slot: usize, offset: usize, length: usize) -> &[u8] {
        &self.data[offset..offset + length]
    }

    fn lend(&mut self, _page: Vec<u8>) {}

    fn give_back(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn max_segments(&self) -> usize {
        self.max_segments
    }

    fn limit_segments(&mut self, _refused: usize) {
        self.max_segments = 1;
    }

    fn begin(&mut self) {}

    fn send(&mut self, plan: &Plan, received: &[Received], start: usize) -> io::Result<usize> {
        let group = plan.groups()[start];
        match self.refuse_trains {
            Some(errno) if group.datagrams > 1 => Err(io::Error::from_raw_os_error(errno)),
            _ => {
                let port = received[usize::from(group.slot)].source.port();
                self.sent.lock().unwrap().push((port, group.datagrams));
                Ok(1)
            }
        }
    }
}

struct Outcome {
    values: [u64; COUNTERS],
    sent: Vec<(u16, u16)>,
}

impl Outcome {
    fn counter(&self, name: &str) -> u64 {
        self.values[NAMES.iter().position(|known| *known == name).unwrap()]
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.values[NAMES.len() + reason as usize]
    }
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
    let rates = Rates::new(policy.rate_per_source, policy.rate_total, 1).map(Arc::new);
    let observer = Arc::new(Observer::new("test", None));
    let socket = Arc::new(Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
    let own = socket.local_addr().unwrap().as_socket().unwrap();
    let waker = Arc::new(Waker::new().unwrap());
    let receiver = Receiver::new(&socket, Wait::Latency, Sleep::InPoll, waker, None).unwrap();
    let mut config = Config::new(Listen::at("127.0.0.1", 0));
    config.guard = policy;
    let service = super::service(
        &config,
        "test",
        own,
        socket,
        receiver,
        observer,
        Arc::new(Impairing::new(Setting::default(), Vec::new())),
        rates,
    );
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let engine = Scripted {
        batches: batches.into(),
        now: Vec::new(),
        data: (0..4000u32).map(|i| (i / 1000) as u8).collect(),
        max_segments: 64,
        refuse_trains,
        sent: Arc::clone(&sent),
    };
    let counters = Counters::new();
    let finish = Worker::new(service, engine, &counters, control).run();
    assert!(
        matches!(finish, Finish::Failed(_)),
        "the script ends with EBADF"
    );
    let values = counters.snapshot();
    let answered_or_dropped = values[2] + values[NAMES.len()..].iter().sum::<u64>();
    assert_eq!(
        values[0], answered_or_dropped,
        "received = answered + dropped"
    );
    let sent = sent.lock().unwrap().clone();
    Outcome { values, sent }
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
    assert_eq!(outcome.values[NAMES.len()..].iter().sum::<u64>(), 0);
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
