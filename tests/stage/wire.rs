// SPDX-License-Identifier: BSD-3-Clause
//! The far ends of the netdevices' wires: numbered frames out, those that the application sent back counted.

// UNSAFETY: packet sockets, whose addresses nix cannot make.
#![expect(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::guest::{self, Tap};

/// EtherType for experiments (IEEE 802, local experimental 1).
const ETHERTYPE: u16 = 0x88b5;
const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const HEADER_BYTES: usize = 14;

/// One end of a wire.
pub struct Wire {
    end: End,
    name: String,
}

enum End {
    /// A packet socket on a netdevice.
    Netdevice(OwnedFd),
    /// The wire of a guest's NIC.
    Guest(Arc<Tap>, Receiver<Vec<u8>>),
}

impl Wire {
    /// Takes hold of the netdevice `name`.
    pub fn at(name: &str) -> Self {
        let end = match guest::here() {
            Some(machine) => {
                let tap = machine.wire(name);
                let frames = tap.listen();
                End::Guest(tap, frames)
            }
            None => End::Netdevice(Self::open(name)),
        };
        Self { end, name: name.to_owned() }
    }

    fn open(name: &str) -> OwnedFd {
        let protocol = ETHERTYPE.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // With a protocol it would receive from every netdevice until it is bound to one.
        // SAFETY: takes any numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: just opened, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // The usual 200 KiB hold 280 small frames, fewer than an application sends at once after it had to wait for a CPU.
        let room: libc::c_int = 4 << 20;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE);
        let size = size_of::<libc::c_int>() as u32;
        // SAFETY: a number and its size.
        let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const room).cast(), size) };
        assert_eq!(set, 0, "room for frames on {name}: {}", io::Error::last_os_error());
        // SAFETY: all zeroes is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = nix::net::if_::if_nametoindex(name).expect(name) as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: a filled address and its size.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        assert_eq!(bound, 0, "bind to {name}: {}", io::Error::last_os_error());
        socket
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
        match &self.end {
            End::Guest(tap, _) => tap.send(&frame),
            End::Netdevice(socket) => {
                // SAFETY: a buffer and its size.
                let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
                sent == 64
            }
        }
    }

    /// Returns the number of a frame that came back, if one is there.
    pub fn receive(&self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            // The guest's own frames come by its wire as well.
            if frame.len() >= HEADER_BYTES + 4 && frame[..6] == SOURCE && frame[12..14] == ETHERTYPE.to_be_bytes() {
                return Some(u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]));
            }
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let socket = match &self.end {
            End::Guest(_, frames) => return frames.try_recv().ok(),
            End::Netdevice(socket) => socket,
        };
        let mut frame = vec![0u8; 2048];
        // SAFETY: a buffer and its size.
        let length = unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(length).ok()?);
        Some(frame)
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
            // Others were sent before, and are late.
            back.extend(std::iter::from_fn(|| wire.receive()).filter(|&number| number < count));
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

/// Waits until a frame sent into the wire `name` comes back on it. Nothing is under way then.
pub fn expect_answer(name: &str, mac: &str) {
    let (wire, mac) = (Wire::at(name), parse_mac(mac));
    // Not one that an exchange counts.
    let mut number = 1 << 31;
    super::wait_for(&format!("a frame comes back on {name}"), || {
        number += 1;
        wire.send(mac, number);
        let deadline = Instant::now() + Duration::from_millis(50);
        while Instant::now() < deadline {
            // Frames keep their order, so this one is the last.
            if wire.receive() == Some(number) {
                return Some(());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        None
    });
}

/// Frames that a thread of its own sends into a wire without a pause, and those that come back on it and on others.
pub struct Traffic {
    flow: Arc<Flow>,
    /// Until it is ended.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Flow {
    end: AtomicBool,
    sent: AtomicU32,
    back: Mutex<Back>,
}

#[derive(Default)]
struct Back {
    wires: Vec<Wire>,
    numbers: BTreeSet<u32>,
    /// When a frame came back last, by each wire.
    last: BTreeMap<String, Instant>,
}

impl Back {
    fn collect(&mut self) {
        for wire in &self.wires {
            while let Some(number) = wire.receive() {
                self.numbers.insert(number);
                self.last.insert(wire.name.clone(), Instant::now());
            }
        }
    }
}

impl Traffic {
    /// Begins to send into the wire `name`.
    pub fn into(name: &str, mac: &str) -> Self {
        let (wire, mac) = (Wire::at(name), parse_mac(mac));
        // A guest without KVM is slow.
        let gap = Duration::from_micros(if guest::here().is_some() { 2000 } else { 500 });
        let traffic = Arc::<Flow>::default();
        traffic.back.lock().unwrap().wires.push(Wire::at(name));
        let flow = Arc::clone(&traffic);
        let thread = std::thread::spawn(move || {
            while !flow.end.load(Ordering::Relaxed) {
                wire.send(mac, flow.sent.fetch_add(1, Ordering::Relaxed));
                flow.back.lock().unwrap().collect();
                std::thread::sleep(gap);
            }
        });
        Self { flow: traffic, thread: Some(thread) }
    }

    /// Counts what comes back by this wire as well.
    pub fn also_from(&self, name: &str) {
        self.flow.back.lock().unwrap().wires.push(Wire::at(name));
    }

    /// How many frames were sent: the number of the next.
    pub fn sent(&self) -> u32 {
        self.flow.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more were sent.
    pub fn goes_on_for(&self, count: u32) {
        let until = self.sent() + count;
        super::wait_for("frames are sent", || (self.sent() >= until).then_some(()));
    }

    /// Waits until a frame has come back by this wire after `since`, and returns how long after.
    pub fn expect_back_by(&self, name: &str, since: Instant) -> Duration {
        super::wait_for(&format!("a frame comes back by {name}"), || {
            let last = self.flow.back.lock().unwrap().last.get(name).copied();
            last.filter(|&last| last > since).map(|last| last - since)
        })
    }

    /// The numbers of those that have not come back, a second after the last was sent.
    pub fn lost(&self, numbers: Range<u32>) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let mut back = self.flow.back.lock().unwrap();
            back.collect();
            let lost: Vec<u32> = numbers.clone().filter(|number| !back.numbers.contains(number)).collect();
            drop(back);
            if lost.is_empty() || Instant::now() > deadline {
                return lost;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it, and returns the numbers of those from `first` on that did not come back.
    pub fn lost_since(mut self, first: u32) -> Vec<u32> {
        self.end().unwrap();
        self.lost(first..self.sent())
    }

    fn end(&mut self) -> std::thread::Result<()> {
        self.flow.end.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let ended = self.end();
        assert!(ended.is_ok() || std::thread::panicking(), "no more frames could be sent");
    }
}

/// Reads an Ethernet address.
pub fn parse_mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
