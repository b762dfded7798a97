// SPDX-License-Identifier: BSD-3-Clause
//! Links made, changed and taken away by a request of our own, so that it is known when.

use std::io;
use std::time::Instant;

use libc::{
    AF_UNSPEC, IFF_UP, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO,
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::time::{ClockId, clock_gettime};
use vdev_netvsc::host::message::build;

/// Of the attributes of a veth pair (`linux/veth.h`).
const VETH_INFO_PEER: u16 = 1;

/// `CLOCK_MONOTONIC`, in nanoseconds.
fn now() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// A socket by which the kernel is asked for things.
pub struct Requests {
    socket: Socket,
}

impl Requests {
    /// In the network namespace of this thread.
    pub fn new() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        Self { socket }
    }

    /// Makes a pair of links, `<name>` and its far end `<name>p`, and returns the time just before.
    ///
    /// The first is up at once; the kernel lets the other be up only then.
    pub fn make_veth(&self, name: &str, index: u32, mac: [u8; 6]) -> Instant {
        let far = text(&format!("{name}p"));
        let peer = build(0, 0, 0, &info(0, ANY), &[(IFLA_IFNAME, &far)]);
        let data = attribute(VETH_INFO_PEER, without_header(&peer));
        let kind = [attribute(IFLA_INFO_KIND, b"veth"), attribute(IFLA_INFO_DATA, &data)].concat();
        let attributes: &[(u16, &[u8])] = &[(IFLA_IFNAME, &text(name)), (IFLA_ADDRESS, &mac), (IFLA_LINKINFO, &kind)];
        let flags = (NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) as u16;
        let request = build(RTM_NEWLINK, flags, 1, &info(index, UP), attributes);
        let begin = Instant::now();
        self.ask(&request);
        self.ask(&build(RTM_SETLINK, (NLM_F_REQUEST | NLM_F_ACK) as u16, 1, &info(0, UP), &[(IFLA_IFNAME, &far)]));
        begin
    }

    /// Gives a link an address, and returns the time just before, as other processes tell it.
    pub fn set_address(&self, index: u32, mac: [u8; 6]) -> i64 {
        let flags = (NLM_F_REQUEST | NLM_F_ACK) as u16;
        let request = build(RTM_SETLINK, flags, 1, &info(index, ANY), &[(IFLA_ADDRESS, &mac)]);
        let begin = now();
        self.ask(&request);
        begin
    }

    /// Takes a link away.
    pub fn delete(&self, index: u32) {
        self.ask(&build(RTM_DELLINK, (NLM_F_REQUEST | NLM_F_ACK) as u16, 1, &info(index, ANY), &[]));
    }

    /// Gives links another alias, which is an event each and concerns nobody.
    pub fn touch(&self, indices: &[u32], alias: u32) {
        let alias = alias.to_string();
        let attributes: &[(u16, &[u8])] = &[(IFLA_IFALIAS, alias.as_bytes())];
        let touch = |&index| build(RTM_SETLINK, NLM_F_REQUEST as u16, 1, &info(index, ANY), attributes);
        self.socket.send(&indices.iter().flat_map(touch).collect::<Vec<_>>(), 0).unwrap();
    }

    fn ask(&self, request: &[u8]) {
        self.socket.send(request, 0).unwrap();
        let (answer, _) = self.socket.recv_from_full().unwrap();
        let code = answer.get(16..20).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
        assert_eq!(code, 0, "the kernel refuses: {}", io::Error::from_raw_os_error(-code));
    }
}

/// Flags of a link, and which of them are to be changed.
type Flags = [u32; 2];
const UP: Flags = [IFF_UP as u32; 2];
const ANY: Flags = [0, 0];

/// struct ifinfomsg: family u8, padding u8, type u16, index i32, flags u32, change u32.
fn info(index: u32, [flags, change]: Flags) -> Vec<u8> {
    let mut info = vec![AF_UNSPEC as u8, 0, 0, 0];
    for number in [index, flags, change] {
        info.extend(number.to_ne_bytes());
    }
    info
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// An attribute, for inside another one.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    without_header(&build(0, 0, 0, &[], &[(kind, value)])).to_vec()
}

fn without_header(message: &[u8]) -> &[u8] {
    &message[16..]
}
