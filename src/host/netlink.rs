// SPDX-License-Identifier: BSD-3-Clause
//! Asking the kernel for a list: a dump over rtnetlink.
//!
//! All questions go by one socket, one after another, and each has a number that its answer carries. The kernel takes no
//! question while an answer is under way (`net/netlink/af_netlink.c`, `__netlink_dump_start`, `EBUSY`). So before one
//! is put, what nobody wanted of the answer before is read away: found early, given up, or late.
//!
//! The kernel walks its list while we read. When the list changes meanwhile, the parts do not fit together and some
//! message carries `NLM_F_DUMP_INTR`: what was read is true, but may not be all. Reading does not wait: the kernel fills
//! the next part of the answer while we take one (`netlink_recvmsg` calls `netlink_dump`), and should one ever be late we
//! wait a second at most.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libc::{IFLA_ALT_IFNAME, NLMSG_DONE, NLMSG_ERROR, RTM_GETLINK};
use netlink_packet_core::{NLM_F_DUMP_FILTERED, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::{Message, Messages, build, build_dump};
use super::{Error, List};

/// Port of the kernel: everybody else has another.
pub(super) const KERNEL: u32 = 0;

/// Room for one datagram. The kernel fills its parts of a dump up to the size we offer, and to this at most
/// (`netlink_recvmsg`); only a single message that is larger needs more.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;

/// How often a list is read before we give up: it changed each time, or a message did not fit.
pub(super) const TRIES: u32 = 3;

/// How long we wait for a part of an answer that, as kernels are today, is there before we look.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A question for a list.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked for.
    pub list: List,
    /// The family header.
    pub header: Vec<u8>,
    /// An attribute, if there is to be one, and its value.
    pub attribute: Option<(u16, [u8; 4])>,
}

impl Request {
    /// Builds the message that asks; the answer carries `sequence`.
    pub fn message(&self, sequence: u32) -> Vec<u8> {
        let attributes: Vec<(u16, &[u8])> = self.attribute.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        build_dump(self.list.request(), sequence, &self.header, &attributes)
    }
}

/// The socket by which the kernel is asked, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    /// The port that the kernel has given to the socket.
    port: u32,
    /// Number of the last request.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let socket = open(0)?;
        // Without it, before Linux 4.20, filters of a request are ignored: the reader then has to sift.
        let _ = socket.set_netlink_get_strict_chk(true);
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        Ok(Self { socket, port: address.port_number(), sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Reads a list once and shows each message to `visit`, which may end it.
    ///
    /// Returns whether that was all of it, or all that `visit` wanted: the list did not change meanwhile, and every
    /// message fitted. There is room for one that did not at the next reading.
    pub(super) fn read(
        &mut self,
        request: &Request,
        visit: impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        self.exchange(request.list, |sequence| request.message(sequence), visit)
    }

    /// Asks for one link by an alternative name and shows the message about it to `visit`. Returns whether that fitted;
    /// there is room at the next asking.
    ///
    /// The kernel has such names since Linux 5.5, and refuses the question before (`net/core/rtnetlink.c`,
    /// `rtnl_getlink`).
    pub(super) fn link_called(&mut self, name: &[u8], mut visit: impl FnMut(&Message<'_>)) -> Result<bool, Error> {
        let name = [name, &[0]].concat();
        let message = |sequence| build(RTM_GETLINK, NLM_F_REQUEST, sequence, &[0; 16], &[(IFLA_ALT_IFNAME, &name)]);
        self.exchange(List::Links, message, |message| {
            visit(message);
            ControlFlow::Break(())
        })
    }

    fn exchange(
        &mut self,
        list: List,
        message: impl FnOnce(u32) -> Vec<u8>,
        mut visit: impl FnMut(&Message<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let failed = |source| Error::Ask { list, source };
        self.discard().map_err(failed)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&message(self.sequence), &SocketAddr::new(KERNEL, 0), 0).map_err(failed)?;
        let mut answer = Answer::new(list, self.sequence, self.port);
        let mut deadline = Instant::now() + ANSWER_TIMEOUT;
        while !answer.ended {
            let (length, sender) = receive_until(deadline, &self.socket, &mut self.buffer).map_err(failed)?;
            if sender != KERNEL {
                continue;
            }
            let Some(datagram) = self.buffer.get(..length) else {
                // The end of the answer may be in what is lost.
                self.buffer.resize(length, 0);
                return Ok(false);
            };
            answer.read(datagram, &mut visit)?;
            deadline = Instant::now() + ANSWER_TIMEOUT;
        }
        log::debug!("list of {list}: {answer}");
        Ok(!answer.changed)
    }

    /// Reads away what is left of an earlier answer, which takes as long as the kernel walks on.
    ///
    /// Should the kernel have lacked the memory to go on (`ENOBUFS`), it goes on once something is read, which will be its
    /// refusal of the next request.
    fn discard(&mut self) -> io::Result<()> {
        let mut tries = TRIES;
        loop {
            match receive(&self.socket, &mut []) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && tries > 1 => tries -= 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// The answer to a request, as far as it was read.
#[derive(Debug)]
struct Answer {
    list: List,
    sequence: u32,
    port: u32,
    /// That was all, or enough.
    ended: bool,
    /// The list changed while it was read.
    changed: bool,
    filtered: bool,
    messages: usize,
    datagrams: usize,
}

impl Answer {
    /// Begins the answer to the request with this number of the socket at `port`.
    fn new(list: List, sequence: u32, port: u32) -> Self {
        Self { list, sequence, port, ended: false, changed: false, filtered: false, messages: 0, datagrams: 0 }
    }

    /// Shows each message of a part to `visit`, which may end the answer.
    fn read(&mut self, datagram: &[u8], mut visit: impl FnMut(&Message<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        let list = self.list;
        self.datagrams += 1;
        for message in Messages::new(datagram) {
            let message = message.map_err(|_| Error::Malformed { list })?;
            if (message.sequence, message.port) != (self.sequence, self.port) {
                continue;
            }
            self.changed |= message.flags & NLM_F_DUMP_INTR != 0;
            if matches!(i32::from(message.kind), NLMSG_DONE | NLMSG_ERROR) {
                self.ended = true;
                return status(&message).map_err(|source| Error::Refused { list, source });
            }
            self.messages += 1;
            self.filtered |= is_filtered(&message);
            if visit(&message).is_break() {
                self.ended = true;
                return Ok(());
            }
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.filtered { " filtered by the kernel" } else { "" };
        let but = if self.changed { ", but it changed meanwhile" } else { "" };
        write!(f, "{} messages{by} in {} datagrams{but}", self.messages, self.datagrams)
    }
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

/// Opens a socket that is closed on exec, does not block, and hears of these multicast groups (`RTMGRP_…`).
pub(super) fn open(groups: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
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
    use super::*;

    /// What it is, the messages of one datagram, whether that is the end and whether the list changed (or an errno), how
    /// many messages are shown.
    type Case = (&'static str, Vec<Vec<u8>>, Result<(bool, bool), i32>, usize);

    const PART: u16 = libc::RTM_NEWLINK;
    const DONE: u16 = NLMSG_DONE as u16;
    const ERROR: u16 = NLMSG_ERROR as u16;
    const SEQUENCE: u32 = 7;

    fn code(errno: i32) -> [u8; 4] {
        (-errno).to_ne_bytes()
    }

    fn all_links() -> Request {
        Request { list: List::Links, header: vec![0; 16], attribute: None }
    }

    #[test]
    fn an_answer_ends_with_its_verdict_and_says_whether_the_list_changed() {
        let part = build(PART, 0, SEQUENCE, b"part", &[]);
        let done = build(DONE, 0, SEQUENCE, &code(0), &[]);
        let changed = |kind, payload: &[u8]| build(kind, NLM_F_DUMP_INTR, SEQUENCE, payload, &[]);
        let (going_on, over) = (Ok((false, false)), Ok((true, false)));
        let cases: [Case; 12] = [
            ("nothing", vec![], going_on, 0),
            ("parts", vec![part.clone(), part.clone()], going_on, 2),
            ("parts and the end", vec![part.clone(), done.clone()], over, 1),
            ("enough", vec![part.clone(), build(PART, 0, SEQUENCE, b"last", &[]), part.clone()], over, 2),
            ("an end without verdict", vec![build(DONE, 0, SEQUENCE, &[], &[])], over, 0),
            ("changed at a part", vec![changed(PART, b"part"), part.clone()], Ok((false, true)), 2),
            ("changed at the end", vec![part.clone(), changed(DONE, &code(0))], Ok((true, true)), 1),
            ("failed at the end", vec![part.clone(), build(DONE, 0, SEQUENCE, &code(19), &[])], Err(19), 1),
            ("refused", vec![build(ERROR, 0, SEQUENCE, &[code(22), [0; 4]].concat(), &[])], Err(22), 0),
            ("an odd verdict", vec![build(ERROR, 0, SEQUENCE, &i32::MIN.to_ne_bytes(), &[])], Err(i32::MAX), 0),
            ("another answer", vec![build(DONE, 0, SEQUENCE - 1, &code(19), &[]), part.clone()], going_on, 1),
            ("no netlink", vec![part.clone(), vec![0; 16], done.clone()], Err(libc::EBADMSG), 1),
        ];
        for (case, messages, want, want_visits) in cases {
            let mut visits = 0;
            let mut answer = Answer::new(List::Links, SEQUENCE, KERNEL);
            let read = answer.read(&messages.concat(), |message| {
                visits += 1;
                if message.payload == b"last" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let read = read.map(|()| (answer.ended, answer.changed)).map_err(|error| error.errno());
            assert_eq!(read, want, "{case}");
            assert_eq!(visits, want_visits, "{case}");
        }
        let mut elsewhere = Answer::new(List::Links, SEQUENCE, 4711);
        elsewhere.read(&done, |_| ControlFlow::Continue(())).unwrap();
        assert!(!elsewhere.ended, "the answer to another socket");
    }

    #[test]
    fn an_answer_that_nobody_waited_for_is_none_to_the_next_request() {
        let mut requests = Requests::open().unwrap();
        let kernel = SocketAddr::new(KERNEL, 0);
        requests.sequence += 1;
        requests.socket.send_to(&all_links().message(requests.sequence), &kernel, 0).unwrap();
        let addresses = Request { list: List::Addresses, header: vec![0; 8], attribute: None };
        let mut kinds = Vec::new();
        let whole = requests.read(&addresses, |message| {
            kinds.push(message.kind);
            ControlFlow::Continue(())
        });
        // Before the addresses are told, the answer of links has to go: or this is refused as EBUSY.
        whole.unwrap();
        assert!(kinds.iter().all(|&kind| kind == libc::RTM_NEWADDR), "{kinds:?}");
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_not_waited_for_beyond_the_deadline() {
        let socket = open(0).unwrap();
        let error = receive_until(Instant::now(), &socket, &mut [0; 16]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    }

    #[test]
    fn what_an_answer_cost_reads_as_a_log_line() {
        let mut answer = Answer::new(List::Links, SEQUENCE, KERNEL);
        assert_eq!(answer.to_string(), "0 messages in 0 datagrams");
        let flags = NLM_F_DUMP_FILTERED | NLM_F_DUMP_INTR;
        answer.read(&build(PART, flags, SEQUENCE, &[], &[]), |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(answer.to_string(), "1 messages filtered by the kernel in 1 datagrams, but it changed meanwhile");
    }
}
