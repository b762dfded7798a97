// SPDX-License-Identifier: BSD-3-Clause
//! The far ends of the netdevices' wires: numbered frames out, those that the application sent back counted.

// UNSAFETY: packet sockets, whose addresses nix cannot make.
#![expect(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// EtherType for experiments (IEEE 802, local experimental 1).
const ETHERTYPE: u16 = 0x88b5;
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const HEADER_BYTES: usize = 14;

/// One end of a wire.
pub struct Wire {
    socket: OwnedFd,
    name: String,
}

impl Wire {
    /// Takes hold of the netdevice `name`.
    pub fn at(name: &str) -> Self {
        let protocol = ETHERTYPE.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes any numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol)) };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: just opened, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeroes is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = nix::net::if_::if_nametoindex(name).expect(name) as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: a filled address and its size.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(bound, 0, "bind to {name}: {}", io::Error::last_os_error());
        Self { socket, name: name.to_owned() }
    }

    /// Sends a frame with this number to `mac`.
    pub fn send(&self, mac: [u8; 6], number: u32) {
        assert!(self.try_send(mac, number), "send on {}: {}", self.name, io::Error::last_os_error());
    }

    /// Sends a frame with this number to `mac`, unless the wire is gone.
    pub fn try_send(&self, mac: [u8; 6], number: u32) -> bool {
        let mut frame = Vec::with_capacity(64);
        frame.extend(mac);
        frame.extend(SOURCE);
        frame.extend(ETHERTYPE.to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.resize(64, 0);
        // SAFETY: a buffer and its size.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        sent == 64
    }

    /// Returns the number of a frame that came back, if one is there.
    pub fn receive(&self) -> Option<u32> {
        let mut frame = [0u8; 2048];
        loop {
            // SAFETY: a buffer and its size.
            let length = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let length = usize::try_from(length).ok()?;
            if length >= HEADER_BYTES + 4 && frame[..6] == SOURCE {
                return Some(u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]));
            }
        }
    }
}

/// Sends `count` numbered frames into the wire `into`, and returns how many different ones came back on each of `from`
/// within a second after the last.
pub fn exchange(into: &str, mac: &str, count: u32, from: &[&str]) -> Vec<usize> {
    let wires: Vec<Wire> = from.iter().map(|name| Wire::at(name)).collect();
    let sender = Wire::at(into);
    let mac = parse_mac(mac);
    let mut back = vec![BTreeSet::new(); wires.len()];
    let mut collect = || {
        for (wire, back) in wires.iter().zip(&mut back) {
            while let Some(number) = wire.receive() {
                back.insert(number);
            }
        }
        back.iter().map(BTreeSet::len).sum::<usize>()
    };
    for number in 0..count {
        sender.send(mac, number);
        collect();
        std::thread::sleep(Duration::from_micros(500));
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    while collect() < count as usize && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    back.iter().map(BTreeSet::len).collect()
}

/// Reads an Ethernet address.
pub fn parse_mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
