//! Somebody else who holds the socket too, and may do anything to it at any time.
//!
//! Whether it blocks does not matter, as each call says that it must not wait. What is done
//! to it otherwise makes poll(2) return at once for ever, or says nothing at all; so this is
//! looked at where nothing could be received, and once a second while nothing comes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::error::Error;
use crate::sys::{self, Waker, message};

/// How long a sleep lasts without a look at what makes no sound.
pub(crate) const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// What is known of the owner of a socket that was passed in.
pub(crate) struct Owner {
    socket: Arc<Socket>,
    is_v6: bool,
    /// Whom the socket is connected to.
    peer: Option<SocketAddr>,
    news: Option<News>,
    has_told_of_errors: bool,
}

/// What an owner has done that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It connected the socket.
    Connected(SocketAddr),
    /// It had the socket keep errors.
    KeptErrors,
}

impl News {
    /// The line.
    pub(crate) fn text(self, server: &str) -> String {
        let owner = "the program that passed this socket in";
        match self {
            News::Connected(peer) => format!(
                "{server}: {owner} has connected it to {peer}: until it is disconnected, the \
                 kernel delivers only what {peer} sends"
            ),
            News::KeptErrors => format!(
                "{server}: {owner} has turned on its error queue (IP_RECVERR or \
                 SO_TIMESTAMPING), which a server does not read: what was in it is discarded, and \
                 IP_RECVERR is off again"
            ),
        }
    }
}

impl Owner {
    pub(crate) fn new(socket: &Arc<Socket>, is_v6: bool) -> Self {
        Self {
            peer: peer(socket),
            socket: Arc::clone(socket),
            is_v6,
            news: None,
            has_told_of_errors: false,
        }
    }

    /// Looks at the socket, without waiting; true: the worker was woken.
    ///
    /// # Errors
    ///
    /// ESHUTDOWN where it was shut down: see [`shut_down`].
    #[cold]
    pub(crate) fn look(&mut self, waker: &Waker) -> io::Result<bool> {
        let fd = self.socket.as_raw_fd();
        let condition = sys::condition(fd, waker)?;
        if condition.is_shut_down {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        if condition.has_errors {
            // What turning it off does not take away is taken one by one.
            let _ = sys::option::forget_errors(fd, self.is_v6);
            message::forget_kept_errors(fd);
            if !std::mem::replace(&mut self.has_told_of_errors, true) {
                self.news = Some(News::KeptErrors);
            }
        }
        Ok(condition.is_woken)
    }

    /// Looks for what makes no sound.
    #[cold]
    pub(crate) fn look_for_peer(&mut self) {
        let peer = peer(&self.socket);
        if peer != std::mem::replace(&mut self.peer, peer)
            && let Some(peer) = peer
        {
            self.news = Some(News::Connected(peer));
        }
    }

    /// What is to be told since the last call.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.is_some()
    }
}

fn peer(socket: &Socket) -> Option<SocketAddr> {
    socket.peer_addr().ok()?.as_socket()
}

/// Why a server whose socket was shut down cannot go on; its own stop never comes here.
pub(crate) fn shut_down(operation: &'static str, server: &str) -> Error {
    let reason = "the program that passed this socket in has shut it down, which cannot be undone";
    Error::state(operation, server, reason)
        .or("make a new server on a new socket; to end a server, stop it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn connecting_is_news_once_and_disconnecting_is_none() {
        let socket = Arc::new(Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let mut owner = Owner::new(&socket, false);
        owner.look_for_peer();
        assert_eq!(owner.take_news(), None);
        let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
        socket.connect(&peer.into()).unwrap();
        owner.look_for_peer();
        assert_eq!(owner.take_news(), Some(News::Connected(peer)));
        owner.look_for_peer();
        assert!(!owner.has_news());
    }
}
