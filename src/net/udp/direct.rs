//! What a client's driver has instead of an endpoint: a link whose every error is handed on. What
//! an error is not of stays in the outbox, and what waits for room does.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::sync::Arc;

use super::engine::Engine;
use super::link::{Link, refuses_trains};
use super::offload::Offload;
use super::plan::{Group, Piece};
use crate::datagram::{Batch, Message, Outbox, Slots, Transmit};
use crate::sys::message;

/// One socket's datagrams, in and out, for whoever is told what becomes of each.
pub(crate) struct Direct<E> {
    fd: RawFd,
    link: Link<E>,
    offload: Arc<Offload>,
    /// What the last receive brought.
    messages: Vec<Message>,
    /// Of how many entries the plan is.
    planned: usize,
}

/// A datagram of a train.
#[derive(Clone, Copy)]
struct Single {
    entry: u16,
    offset: u32,
    length: u32,
}

/// What became of a plan.
enum Went {
    /// All of it went.
    Whole,
    /// A part, after which something is known of trains that makes for another plan.
    Part,
}

impl<E: Engine> Direct<E> {
    /// The caller keeps `fd`, which the engine uses too, open.
    pub(crate) fn new(fd: RawFd, engine: E, offload: Arc<Offload>) -> Self {
        Self {
            fd,
            messages: Vec::with_capacity(engine.slots()),
            link: Link::new(engine),
            offload,
            planned: 0,
        }
    }

    /// What is there now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is; what the socket says of earlier sends.
    pub(crate) fn receive_now(&mut self) -> io::Result<()> {
        self.messages.clear();
        let count = self.link.receive_now()?;
        for slot in 0..count {
            let mut message = Message::admitted(self.link.take(slot));
            // Without its control message a train would be taken for one long datagram.
            if message.came.maybe_merged {
                message.admitted_bytes = None;
            }
            self.messages.push(message);
        }
        Ok(())
    }

    /// What the last receive brought.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch::of_slots(self.link.slots(), &self.messages)
    }

    /// Where its bytes lie.
    pub(crate) fn slots(&self) -> Slots<'_> {
        self.link.slots()
    }

    /// Sends what is in the outbox, to each peer in order, and takes out what went.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where the send buffer has no room. ECONNREFUSED, and what else was only there
    /// once, is of an earlier datagram, and none that is in the outbox was lost by it. Any other
    /// is of one that is taken out, or of the datagrams of one train that were refused each.
    pub(crate) fn send_now(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        while !outbox.is_empty() {
            self.planned = self.link.plan_sends(outbox);
            if let Went::Whole = self.send_planned(outbox)? {
                outbox.replace_first(self.planned, std::iter::empty());
            }
        }
        Ok(())
    }

    fn send_planned(&mut self, outbox: &mut Outbox) -> io::Result<Went> {
        let mut next = 0;
        // An error that a second try has to tell: of what is sent, or of an earlier datagram.
        let mut doubtful = None;
        while next < self.link.plan.groups().len() {
            // Where it was not the first of a call that was refused, that is told by the next.
            let error = match self.link.engine.send(&self.link.plan, outbox, next) {
                Ok(sent) => {
                    next += sent;
                    match doubtful.take() {
                        None => continue,
                        Some(earlier) => {
                            self.take_out(outbox, next, 0);
                            return Err(earlier);
                        }
                    }
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Interrupted => {}
                _ if leaves_it(&error) => {
                    self.take_out(outbox, next, 0);
                    return Err(doubtful.unwrap_or(error));
                }
                _ if doubtful.is_none() => doubtful = Some(error),
                _ => return self.refuse(outbox, next, error),
            }
        }
        Ok(Went::Whole)
    }

    /// A group was refused for itself, all before it went.
    #[cold]
    fn refuse(&mut self, outbox: &mut Outbox, index: usize, error: io::Error) -> io::Result<Went> {
        let group = self.link.plan.groups()[index];
        if group.datagrams == 1 || !refuses_trains(&error) {
            self.take_out(outbox, index + 1, 0);
            return Err(error);
        }
        let transmit = outbox.entries()[usize::from(group.entry)].transmit;
        let (mut done_bytes, mut any_went, mut refused) = (0, false, None);
        for single in self.singles(&group) {
            match self.send_one(outbox, single, &transmit) {
                Ok(()) => any_went = true,
                Err(error) => {
                    let is_left = leaves_it(&error);
                    refused.get_or_insert(error);
                    if is_left {
                        break;
                    }
                }
            }
            done_bytes += single.length;
        }
        if any_went {
            let (datagrams, offload) = (group.datagrams, &self.offload);
            // Who asks finds it in the report.
            let _ = self
                .link
                .learn_of_trains(datagrams, &transmit.to, &error, offload);
        }
        self.take_out(outbox, index, done_bytes);
        refused.map_or(Ok(Went::Part), Err)
    }

    /// The datagrams of a train.
    fn singles(&self, group: &Group) -> Vec<Single> {
        let size = group.segment_bytes.max(1);
        let cut = |piece: Piece| {
            (0..piece.length)
                .step_by(size as usize)
                .map(move |at| Single {
                    entry: piece.entry,
                    offset: piece.offset + at,
                    length: size.min(piece.length - at),
                })
        };
        self.link.plan.pieces(group).flat_map(cut).collect()
    }

    /// Sends one datagram of a train, a second time where the error may be of an earlier one.
    fn send_one(&self, outbox: &Outbox, single: Single, transmit: &Transmit) -> io::Result<()> {
        let entry = &outbox.entries()[usize::from(single.entry)];
        let (offset, length) = (single.offset as usize, single.length as usize);
        let data = outbox.data(self.link.slots(), entry, offset, length);
        let mut is_doubtful = true;
        loop {
            match message::send(self.fd, data, transmit) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if leaves_it(&error) || !is_doubtful => return Err(error),
                Err(_) => is_doubtful = false,
            }
        }
    }

    /// Takes out of the outbox what comes before this group, and so many bytes of it.
    #[cold]
    fn take_out(&self, outbox: &mut Outbox, first: usize, mut done_bytes: u32) {
        if first == 0 && done_bytes == 0 {
            return;
        }
        let mut left = Vec::new();
        for group in &self.link.plan.groups()[first..] {
            for piece in self.link.plan.pieces(group) {
                let done = done_bytes.min(piece.length);
                done_bytes -= done;
                if done < piece.length || piece.length == 0 {
                    let entry = &outbox.entries()[usize::from(piece.entry)];
                    left.push(entry.part(piece.offset + done, piece.length - done));
                }
            }
        }
        outbox.replace_first(self.planned, left.into_iter());
    }
}

/// Whether what was to be sent when this error came can still be sent.
fn leaves_it(error: &io::Error) -> bool {
    // ECONNREFUSED is what a peer's host said of an earlier datagram (udp(7)).
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{RawAddress, Received};
    use crate::guard::Policy;
    use crate::net::udp::engine::Portable;
    use crate::net::udp::plan::Plan;
    use crate::sys::message::Mode;
    use std::collections::VecDeque;
    use std::net::UdpSocket;
    use std::ops::Range;
    use std::os::fd::AsRawFd;

    fn outbox() -> Outbox {
        Outbox::new(Policy::default())
    }

    fn to(socket: &UdpSocket) -> Transmit {
        Transmit::to(RawAddress::from(socket.local_addr().unwrap()))
    }

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    fn direct<E: Engine>(socket: &UdpSocket, engine: E) -> Direct<E> {
        let fd = socket.as_raw_fd();
        Direct::new(fd, engine, Arc::new(Offload::of(fd, false)))
    }

    /// An engine whose sends come to what was written down before: so many groups went, or an
    /// errno. Then each goes. It keeps what went, by the peer's port.
    struct Scripted {
        script: VecDeque<Result<usize, i32>>,
        went: Vec<(u16, Vec<u8>)>,
        max_segments: usize,
    }

    impl Scripted {
        fn new(script: impl Into<VecDeque<Result<usize, i32>>>) -> Self {
            Self {
                script: script.into(),
                went: Vec::new(),
                max_segments: 4,
            }
        }

        /// What went to a peer.
        fn to(&self, peer: u16) -> Vec<u8> {
            let to_peer = self.went.iter().filter(|(port, _)| *port == peer);
            to_peer.flat_map(|(_, data)| data.clone()).collect()
        }
    }

    impl Engine for Scripted {
        fn slots(&self) -> usize {
            1
        }

        fn receive(&mut self, _: Range<usize>, _: Mode) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }

        fn take(&mut self, _: usize) -> Received {
            unreachable!("nothing comes")
        }

        fn memory(&self) -> Slots<'_> {
            Slots::default()
        }

        fn max_segments(&self) -> usize {
            self.max_segments
        }

        fn limit_segments(&mut self, _: usize) {
            self.max_segments = 1;
        }

        fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize> {
            let left = &plan.groups()[start..];
            let went = match self.script.pop_front() {
                None => left.len(),
                Some(Ok(count)) => count.min(left.len()),
                Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            };
            for group in &left[..went] {
                for piece in plan.pieces(group) {
                    let entry = &outbox.entries()[usize::from(piece.entry)];
                    let (offset, length) = (piece.offset as usize, piece.length as usize);
                    let data = outbox.data(Slots::default(), entry, offset, length);
                    let port = entry.transmit.to.to_std().unwrap().port();
                    self.went.push((port, data.to_vec()));
                }
            }
            Ok(went)
        }
    }

    fn at(port: u16) -> Transmit {
        Transmit::to(RawAddress::from(std::net::SocketAddr::from((
            [192, 0, 2, 1],
            port,
        ))))
    }

    #[test]
    fn an_error_takes_its_own_datagram_away_and_no_other() {
        let (peer, own) = (socket(), socket());
        let to = to(&peer);
        let mut direct = direct(&own, Portable::new(own.as_raw_fd(), 0));
        let mut outbox = outbox();
        for data in [&b"first"[..], &[0; 65_508], b"last"] {
            outbox.send(to, data);
        }
        let error = direct.send_now(&mut outbox).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(outbox.entries().len(), 1);
        direct.send_now(&mut outbox).unwrap();
        assert!(outbox.is_empty());
        let mut room = [0; 10];
        for data in [&b"first"[..], b"last"] {
            let length = peer.recv(&mut room).unwrap();
            assert_eq!(&room[..length], data);
        }
    }

    /// Nothing goes twice, nothing is lost, and to each peer all goes in order, whatever part of
    /// it went before an error that is of none of it.
    #[test]
    fn what_is_left_is_what_has_not_gone() {
        let own = socket();
        // A train that takes three sends, between datagrams that share sends around another peer's.
        let fill = |outbox: &mut Outbox| {
            outbox.send(at(1), b"ab");
            outbox.send(at(2), b"AB");
            outbox.send(at(1), b"cd");
            let train = |page: &mut Vec<u8>| page.extend_from_slice(b"efghijklmnopqrstuvw");
            outbox.send_train(at(1), 2, train);
            outbox.send(at(2), b"C");
            outbox.send(at(1), b"");
            outbox.send(at(1), b"xyz");
        };
        let errors = [libc::EAGAIN, libc::ECONNREFUSED, libc::EHOSTUNREACH];
        for (errno, before) in errors.into_iter().flat_map(|e| (0..9).map(move |n| (e, n))) {
            let mut script = VecDeque::from([Ok(before), Err(errno)]);
            if before == 0 {
                script.pop_front();
            }
            let mut direct = direct(&own, Scripted::new(script));
            let mut outbox = outbox();
            fill(&mut outbox);
            let first = direct.send_now(&mut outbox);
            let (went, is_left) = (direct.link.engine.went.len(), !outbox.is_empty());
            if let Err(error) = &first {
                assert_eq!(error.raw_os_error(), Some(errno));
            }
            assert!(first.is_err() || !is_left);
            direct.send_now(&mut outbox).unwrap();
            let engine = &direct.link.engine;
            assert!(engine.went.len() > went || !is_left);
            assert_eq!(engine.to(1), b"abcdefghijklmnopqrstuvwxyz");
            assert_eq!(engine.to(2), b"ABC");
            let empty = engine.went.iter().filter(|(_, data)| data.is_empty());
            assert_eq!(empty.count(), 1);
        }
    }

    #[test]
    fn an_error_that_stays_is_of_what_is_sent() {
        let own = socket();
        let refused = Err(libc::ENOBUFS);
        let mut direct = direct(&own, Scripted::new([Ok(1), refused, refused]));
        let mut outbox = outbox();
        for (port, data) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            outbox.send(at(port), data);
        }
        let error = direct.send_now(&mut outbox).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
        direct.send_now(&mut outbox).unwrap();
        let went = &direct.link.engine.went;
        assert_eq!(*went, [(1, b"a".to_vec()), (3, b"c".to_vec())]);
    }

    #[test]
    fn a_train_that_is_refused_goes_datagram_by_datagram() {
        for errno in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
            let (peer, own) = (socket(), socket());
            let to = to(&peer);
            let script = [Err(errno), Err(errno)];
            let mut direct = direct(&own, Scripted::new(script));
            let mut outbox = outbox();
            outbox.send_train(to, 2, |page| page.extend_from_slice(b"abcdefghi"));
            direct.send_now(&mut outbox).unwrap();
            let mut room = [0; 10];
            for data in [&b"ab"[..], b"cd", b"ef", b"gh"] {
                let length = peer.recv(&mut room).unwrap();
                assert_eq!(&room[..length], data);
            }
            // The second send of the train, and what follows, is by the new plan.
            let engine = &direct.link.engine;
            let by_engine: Vec<_> = engine.went.iter().map(|(_, data)| &data[..]).collect();
            assert_eq!(by_engine, [b"i"]);
            assert_eq!(engine.max_segments == 1, errno != libc::EMSGSIZE);
            outbox.send_train(to, 2, |page| page.extend_from_slice(b"abcd"));
            direct.send_now(&mut outbox).unwrap();
            assert_eq!(direct.link.engine.went.len(), 3);
        }
    }

    #[test]
    fn a_train_none_of_which_can_go_is_one_error_and_no_lesson() {
        let own = socket();
        // Nothing goes to port 0.
        let to = at(0);
        let script = [Err(libc::EINVAL), Err(libc::EINVAL)];
        let mut direct = direct(&own, Scripted::new(script));
        let mut outbox = outbox();
        outbox.send_train(to, 2, |page| page.extend_from_slice(b"abcd"));
        outbox.send(at(1), b"ef");
        let error = direct.send_now(&mut outbox).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        direct.send_now(&mut outbox).unwrap();
        assert_eq!(direct.link.engine.max_segments, 4);
        assert_eq!(direct.link.engine.to(1), b"ef");
    }

    #[test]
    fn more_than_a_plan_has_numbers_for_goes_by_several() {
        let own = socket();
        let mut direct = direct(&own, Scripted::new([]));
        let mut outbox = outbox();
        for _ in 0..70_000 {
            outbox.send(at(1), b"a");
        }
        direct.send_now(&mut outbox).unwrap();
        assert_eq!(direct.link.engine.to(1).len(), 70_000);
    }
}
