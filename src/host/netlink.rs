// SPDX-License-Identifier: BSD-3-Clause
//! Asking the kernel for a list: a dump over rtnetlink.
//!
//! Each try has a socket of its own, so that nothing of an earlier answer is left in it and giving up half-way is just
//! closing it. The kernel walks its list while we read: when the list changes meanwhile, the parts do not fit together
//! and some message carries `NLM_F_DUMP_INTR`; then what was read is worth nothing and the list is read anew, a few
//! times. Reading does not wait: the kernel fills the next part of the answer while we take one (`net/netlink/af_netlink.c`,
//! `netlink_recvmsg` calls `netlink_dump`), and should it ever be late we wait a second at most.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libc::{IFLA_EXT_MASK, NLMSG_DONE, NLMSG_ERROR, RTEXT_FILTER_SKIP_STATS, RTM_GETLINK};
use netlink_packet_core::{NLM_F_DUMP_FILTERED, NLM_F_DUMP_INTR};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::decode::{LinkEvent, link_event};
use super::message::{Message, Messages, build_dump};
use super::{Error, List};
use crate::link::Link;

/// Port of the kernel: everybody else has another.
pub(super) const KERNEL: u32 = 0;

/// Room for one datagram. The kernel fills its parts of a dump up to the size we offer, and to this at most
/// (`netlink_recvmsg`); only a single message that is larger needs more.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;

/// How often a list is read before we give up: it changed each time, or a message did not fit.
const TRIES: u32 = 5;

/// How long we wait for an answer that, as kernels are today, is there before we look.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of the only request that a socket makes.
pub(super) const SEQUENCE: u32 = 1;

/// Lists all links of the network namespace.
///
/// The kernel takes some 6 µs for each link (measured with 1,000), thirty times what decoding it costs: a dump is for the
/// beginning and for lost events, not for every look.
///
/// # Errors
///
/// When the kernel cannot be asked, refuses, or changes its links faster than they can be read: [`Error::Inconsistent`].
pub fn dump_links() -> Result<Vec<Link>, Error> {
    // Statistics would be a quarter of the answer.
    let mask = u32::try_from(RTEXT_FILTER_SKIP_STATS).unwrap_or_default().to_ne_bytes();
    let request = build_dump(RTM_GETLINK, SEQUENCE, &[0; 16], &[(IFLA_EXT_MASK, &mask)]);
    dump(List::Links, &request, |links: &mut Vec<Link>, message| {
        if let Some(LinkEvent::Changed(link)) = link_event(message) {
            links.push(link);
        }
        ControlFlow::Continue(())
    })
}

/// Sends `request`, whose sequence is [`SEQUENCE`], and collects from the answer by `visit`, which may end it early.
///
/// `visit` starts with an empty collection each time the list is read anew.
pub(super) fn dump<T: Default>(
    list: List,
    request: &[u8],
    mut visit: impl FnMut(&mut T, &Message<'_>) -> ControlFlow<()>,
) -> Result<T, Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..TRIES {
        match read_list(list, request, &mut buffer, &mut visit)? {
            Answer::Whole(collected) => return Ok(collected),
            Answer::Changed => log::debug!("the kernel's list of {list} changed while it was read"),
            Answer::TooLong(bytes) => buffer.resize(bytes, 0),
        }
    }
    Err(Error::Inconsistent { list, tries: TRIES })
}

enum Answer<T> {
    /// All that `visit` wanted.
    Whole(T),
    /// The list changed while it was read.
    Changed,
    /// A datagram did not fit; it has this many bytes.
    TooLong(usize),
}

fn read_list<T: Default>(
    list: List,
    request: &[u8],
    buffer: &mut [u8],
    mut visit: impl FnMut(&mut T, &Message<'_>) -> ControlFlow<()>,
) -> Result<Answer<T>, Error> {
    let failed = |source| Error::Ask { list, source };
    let asked = open(0).and_then(|socket| Ok((port_of(&socket)?, socket)));
    let (port, socket) = asked.map_err(|source| Error::Open { source })?;
    // Without it, before Linux 4.20, filters of the request are ignored: the reader then has to sift.
    let _ = socket.set_netlink_get_strict_chk(true);
    socket.send_to(request, &SocketAddr::new(KERNEL, 0), 0).map_err(failed)?;

    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut collected = T::default();
    let mut tally = Tally::default();
    loop {
        let (length, sender) = receive_until(deadline, &socket, buffer).map_err(failed)?;
        if sender != KERNEL {
            continue;
        }
        let Some(datagram) = buffer.get(..length) else { return Ok(Answer::TooLong(length)) };
        tally.datagrams += 1;
        let end = read_part(list, port, datagram, |message| {
            tally.count(message);
            visit(&mut collected, message)
        });
        match end? {
            End::NotYet => {}
            End::Changed => return Ok(Answer::Changed),
            End::Reached => {
                log::debug!("list of {list}: {tally}");
                return Ok(Answer::Whole(collected));
            }
        }
    }
}

/// Where a part of an answer leaves its reader.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More parts follow.
    NotYet,
    /// That was all, or enough.
    Reached,
    /// The parts do not fit together.
    Changed,
}

/// Shows each message of a part that answers the request of the socket at `port` to `visit`, which may end the answer.
fn read_part(
    list: List,
    port: u32,
    datagram: &[u8],
    mut visit: impl FnMut(&Message<'_>) -> ControlFlow<()>,
) -> Result<End, Error> {
    for message in Messages::new(datagram) {
        let message = message.map_err(|_| Error::Malformed { list })?;
        if (message.sequence, message.port) != (SEQUENCE, port) {
            continue;
        }
        if message.flags & NLM_F_DUMP_INTR != 0 {
            return Ok(End::Changed);
        }
        if matches!(i32::from(message.kind), NLMSG_DONE | NLMSG_ERROR) {
            return status(&message).map(|()| End::Reached).map_err(|source| Error::Refused { list, source });
        }
        if visit(&message).is_break() {
            return Ok(End::Reached);
        }
    }
    Ok(End::NotYet)
}

/// Tells whether the kernel has left out what the request did not ask for.
pub(super) fn is_filtered(message: &Message<'_>) -> bool {
    message.flags & NLM_F_DUMP_FILTERED != 0
}

/// The verdict in `NLMSG_DONE` and `NLMSG_ERROR`: both start with a negative errno, or zero.
fn status(message: &Message<'_>) -> io::Result<()> {
    match message.payload.first_chunk().copied().map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// What an answer cost to read.
#[derive(Debug, Default)]
struct Tally {
    messages: usize,
    datagrams: usize,
    filtered: bool,
}

impl Tally {
    fn count(&mut self, message: &Message<'_>) {
        self.messages += 1;
        self.filtered |= is_filtered(message);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.filtered { " filtered by the kernel" } else { "" };
        write!(f, "{} messages{by} in {} datagrams", self.messages, self.datagrams)
    }
}

/// Opens a socket that is closed on exec, does not block, and hears of these multicast groups (`RTMGRP_…`).
pub(super) fn open(groups: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// The port that the kernel has given to a socket.
fn port_of(socket: &Socket) -> io::Result<u32> {
    let mut address = SocketAddr::new(0, 0);
    socket.get_address(&mut address)?;
    Ok(address.port_number())
}

/// Takes one datagram and returns its length, which exceeds that of the buffer when it did not fit, and its sender.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
    loop {
        match socket.recv_from(&mut &mut *buffer, libc::MSG_TRUNC) {
            Ok((length, sender)) => return Ok((length, sender.port_number())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive_until(deadline: Instant, socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, u32)> {
    loop {
        match receive(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT.into());
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::build;
    use super::*;

    /// What it is, the messages of one datagram, where it leaves the reader (or an errno), how many messages are shown.
    type Case = (&'static str, Vec<Vec<u8>>, Result<End, i32>, usize);

    const PART: u16 = libc::RTM_NEWLINK;
    const DONE: u16 = NLMSG_DONE as u16;
    const ERROR: u16 = NLMSG_ERROR as u16;

    fn code(errno: i32) -> [u8; 4] {
        (-errno).to_ne_bytes()
    }

    #[test]
    fn an_answer_ends_with_its_verdict_and_is_worth_nothing_when_the_list_changed() {
        let part = build(PART, 0, SEQUENCE, b"part", &[]);
        let done = build(DONE, 0, SEQUENCE, &code(0), &[]);
        let cases: [Case; 12] = [
            ("nothing", vec![], Ok(End::NotYet), 0),
            ("parts", vec![part.clone(), part.clone()], Ok(End::NotYet), 2),
            ("parts and the end", vec![part.clone(), done.clone()], Ok(End::Reached), 1),
            ("enough", vec![part.clone(), build(PART, 0, SEQUENCE, b"last", &[]), part.clone()], Ok(End::Reached), 2),
            ("an end without verdict", vec![build(DONE, 0, SEQUENCE, &[], &[])], Ok(End::Reached), 0),
            ("changed at a part", vec![build(PART, NLM_F_DUMP_INTR, SEQUENCE, b"part", &[])], Ok(End::Changed), 0),
            ("changed at the end", vec![build(DONE, NLM_F_DUMP_INTR, SEQUENCE, &code(0), &[])], Ok(End::Changed), 0),
            ("failed at the end", vec![part.clone(), build(DONE, 0, SEQUENCE, &code(19), &[])], Err(19), 1),
            ("refused", vec![build(ERROR, 0, SEQUENCE, &[code(22), [0; 4]].concat(), &[])], Err(22), 0),
            ("an odd verdict", vec![build(ERROR, 0, SEQUENCE, &i32::MIN.to_ne_bytes(), &[])], Err(i32::MAX), 0),
            ("another answer", vec![build(DONE, 0, SEQUENCE + 1, &code(19), &[]), part.clone()], Ok(End::NotYet), 1),
            ("no netlink", vec![part.clone(), vec![0; 16], done.clone()], Err(libc::EBADMSG), 1),
        ];
        for (case, messages, want, want_visits) in cases {
            let mut visits = 0;
            let end = read_part(List::Links, KERNEL, &messages.concat(), |message| {
                visits += 1;
                if message.payload == b"last" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(end.map_err(|error| error.errno()), want, "{case}");
            assert_eq!(visits, want_visits, "{case}");
        }
        let elsewhere = read_part(List::Links, 4711, &done, |_| ControlFlow::Continue(()));
        assert_eq!(elsewhere.unwrap(), End::NotYet, "the answer to another socket");
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_not_waited_for_beyond_the_deadline() {
        let socket = open(0).unwrap();
        let error = receive_until(Instant::now(), &socket, &mut [0; 16]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    }

    #[test]
    fn what_an_answer_cost_reads_as_a_log_line() {
        let mut tally = Tally { datagrams: 1, ..Tally::default() };
        assert_eq!(tally.to_string(), "0 messages in 1 datagrams");
        let bytes = build(PART, NLM_F_DUMP_FILTERED, SEQUENCE, &[], &[]);
        tally.count(&Messages::new(&bytes).next().unwrap().unwrap());
        assert_eq!(tally.to_string(), "1 messages filtered by the kernel in 1 datagrams");
    }
}
