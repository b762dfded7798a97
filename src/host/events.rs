// SPDX-License-Identifier: BSD-3-Clause
//! What happens to links, and that they get addresses, as it happens: multicast groups of rtnetlink.
//!
//! The kernel never waits for a slow reader. When the queue of our socket is full it drops the event, says `ENOBUFS` once,
//! and from then on **drops every event in silence until the queue has been read empty** (`net/netlink/af_netlink.c`,
//! `netlink_overrun`, `netlink_rcv_wake`). So after a loss [`Kernel::drain`] first throws away what is queued and reports
//! the [`Drained::Overrun`] then; a dump taken earlier could miss a change of which no event is left.
//!
//! ```text
//!   reading ──── queue empty ───────────> Empty     the table is up to date
//!      │ └────── many read ─────────────> More      come again
//!      │ ENOBUFS, a datagram that does not fit or decode
//!      v
//!   discarding ─ queue empty ───────────> Overrun   dump anew, then come again
//!        └────── many read ─────────────> More      come again
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK};
use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt};

use super::Error;
#[cfg(doc)]
use super::Kernel;
use super::decode::{LinkEvent, link_events};
use super::netlink::{BUFFER_BYTES, KERNEL, open, receive};

/// Room that we ask the kernel to keep for events that nobody has read yet. Without `CAP_NET_ADMIN` it grants
/// `net.core.rmem_max` at most (`net/core/sock.c`, `sk_setsockopt`), which long was 208 KiB by default.
const QUEUE_BYTES: usize = 1024 * 1024;

/// Datagrams that one call of [`Kernel::drain`] reads at most, so that a storm of events cannot hold its thread. The
/// kernel sends each event in a datagram of its own.
pub const DRAIN_MAX_DATAGRAMS: usize = 256;

/// How far [`Kernel::drain`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// All events there were.
    Empty,
    /// As far as [`DRAIN_MAX_DATAGRAMS`]: there may be more.
    More,
    /// Events were lost. The next event is behind the loss: dump all links, then drain.
    Overrun,
}

/// A socket that hears of every change of a link, and of every address, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Events {
    socket: Socket,
    buffer: Vec<u8>,
    /// Events were lost and the queue has not been read empty since.
    lost: bool,
}

impl Events {
    /// Opens the socket; events are queued from now on.
    pub(super) fn open() -> io::Result<Self> {
        let socket = open((RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR) as u32)?;
        // A smaller queue overruns earlier, which costs a dump and loses nothing.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE_BYTES)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &QUEUE_BYTES));
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], lost: false })
    }

    /// Hands every queued event to `apply`, oldest first. Does not block.
    pub(super) fn drain(&mut self, mut apply: impl FnMut(LinkEvent)) -> Result<Drained, Error> {
        for _ in 0..DRAIN_MAX_DATAGRAMS {
            match receive(&self.socket, &mut self.buffer) {
                Ok((_, sender)) if sender != KERNEL => {}
                Ok(_) if self.lost => {}
                Ok((length, _)) => match self.buffer.get(..length) {
                    Some(datagram) => {
                        for event in link_events(datagram) {
                            event.map_or_else(|_| self.lost = true, &mut apply);
                        }
                    }
                    None => self.lost = true,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(if std::mem::take(&mut self.lost) { Drained::Overrun } else { Drained::Empty });
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.lost = true,
                Err(source) => return Err(Error::Events { source }),
            }
        }
        Ok(Drained::More)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
