// SPDX-License-Identifier: BSD-3-Clause
//! The far ends of the netdevices' wires: numbered frames out, those that the application sent back counted.

// UNSAFETY: packet sockets, whose addresses nix cannot make.
#![expect(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard};
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

    /// As [`Wire::at`], in namespaces only; `None` when there is no such netdevice.
    pub fn try_at(name: &str) -> Option<Self> {
        Some(Self { end: End::Netdevice(Self::try_open(name)?), name: name.to_owned() })
    }

    fn open(name: &str) -> OwnedFd {
        Self::try_open(name).unwrap_or_else(|| panic!("{name}: {}", io::Error::last_os_error()))
    }

    fn try_open(name: &str) -> Option<OwnedFd> {
        Self::open_for(name, ETHERTYPE)
    }

    fn open_for(name: &str, ethertype: u16) -> Option<OwnedFd> {
        let protocol = ethertype.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // With a protocol it would receive from every netdevice until it is bound to one.
        // SAFETY: takes any numbers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: just opened, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // The usual 200 KiB hold 280 small frames, fewer than an application sends at once after it had to wait for a CPU.
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20);
        // After a carrier has come, a queueing discipline drops all frames and says that they were sent, until the
        // kernel's linkwatch has its turn: more than 20 s where others make and delete links without a pause.
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1);
        // SAFETY: all zeroes is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = nix::net::if_::if_nametoindex(name).ok()? as i32;
        let size = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: a filled address and its size.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        (bound == 0).then_some(socket)
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
            End::Netdevice(socket) => send(socket, &frame),
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

    /// How many frames the kernel has dropped here since the last call, as nobody took them in time.
    fn dropped(&self) -> u32 {
        match &self.end {
            End::Guest(..) => 0,
            End::Netdevice(socket) => dropped_at(socket.as_fd()).unwrap_or(0),
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let socket = match &self.end {
            End::Guest(_, frames) => return frames.try_recv().ok(),
            End::Netdevice(socket) => socket,
        };
        let mut frame = vec![0u8; 10 * 1024];
        // SAFETY: a buffer and its size.
        let length = unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(length).ok()?);
        Some(frame)
    }
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) {
    let size = size_of_val(&value) as u32;
    // SAFETY: a number and its size.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    assert_eq!(set, 0, "option {option} of a packet socket: {}", io::Error::last_os_error());
}

/// Sends a frame, unless the wire is gone. It is lost, as on any wire, while the other end is down.
fn send(socket: &OwnedFd, frame: &[u8]) -> bool {
    // SAFETY: a buffer and its size.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    sent == frame.len() as isize || io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS)
}

/// How many frames the kernel has dropped since the last call, as this packet socket's ring was full. Others have none.
fn dropped_at(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut size = size_of_val(&statistics) as u32;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    // SAFETY: room for what is asked for, and its size.
    let got =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut statistics).cast(), &raw mut size) };
    (got == 0).then_some(statistics.tp_drops)
}

/// How many frames the kernel has dropped since the last call, as the rings of this process's packet sockets were full.
pub fn dropped_in(process: u32) -> u32 {
    // SAFETY: takes any numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    if fd < 0 {
        return 0;
    }
    // SAFETY: just opened, and nobody else's.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let open = open.flatten().filter(|entry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter_map(|number| {
            // SAFETY: takes any numbers.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
            if fd < 0 {
                return None;
            }
            // SAFETY: just made, and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            dropped_at(socket.as_fd())
        })
        .sum()
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

/// How many frames of [`exchange_flows`] are under way at once.
const UNDER_WAY: usize = 32;

/// Sends UDP frames of `size` bytes into a wire, `each` of every of `flows` flows in turn, and returns how many came back
/// on it as they were, each flow in its order: few are under way at once, as a ring that is full has others take its
/// packets.
pub fn exchange_flows(name: &str, mac: &str, flows: u16, each: u32, size: usize) -> usize {
    let wire =
        Wire { end: End::Netdevice(Wire::open_for(name, libc::ETH_P_IP as u16).unwrap()), name: name.to_owned() };
    let End::Netdevice(socket) = &wire.end else { unreachable!() };
    let frame = |flow: u16, number: u32| {
        let mut frame = [&parse_mac(mac)[..], &SOURCE, &[0x08, 0x00]].concat();
        let length = |header: usize| ((size - header) as u16).to_be_bytes();
        frame.extend([&[0x45, 0], &length(HEADER_BYTES)[..], &[0, 0, 0, 0, 64, 17, 0, 0]].concat());
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend([&(1024 + flow).to_be_bytes()[..], &[0, 9], &length(HEADER_BYTES + 20), &[0, 0]].concat());
        frame.extend(number.to_be_bytes());
        frame.extend((frame.len()..size).map(|at| at as u8));
        frame
    };
    let mut latest = vec![None; usize::from(flows)];
    let mut back = 0;
    let mut collect = || {
        while let Some(mut got) = wire.next() {
            if got.len() < HEADER_BYTES + 32 || got[..6] != SOURCE {
                continue;
            }
            let flow = u16::from_be_bytes([got[34], got[35]]) - 1024;
            let number = u32::from_be_bytes([got[42], got[43], got[44], got[45]]);
            let (to, from) = got.split_at_mut(6);
            to.swap_with_slice(&mut from[..6]);
            assert!(got == frame(flow, number), "frame {number} of flow {flow} on {name} is not as it was");
            let latest = &mut latest[usize::from(flow)];
            assert!(latest.is_none_or(|latest| latest < number), "frame {number} of flow {flow} on {name} is late");
            *latest = Some(number);
            back += 1;
        }
        back
    };
    let patience = Instant::now() + Duration::from_secs(5);
    let mut sent_before = 0;
    for number in 0..each {
        for flow in 0..flows {
            while sent_before >= collect() + UNDER_WAY && Instant::now() < patience {
                std::thread::sleep(Duration::from_micros(200));
            }
            sent_before += 1;
            assert!(send(socket, &frame(flow, number)), "send on {name}: {}", io::Error::last_os_error());
        }
    }
    let deadline = Instant::now() + super::PATIENCE;
    while collect() < usize::from(flows) * each as usize && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    back
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

/// Numbered frames that a thread of its own sends into a wire without a pause, and those that come back on it and on others.
pub struct Traffic {
    flow: Arc<Flow>,
    /// Until it is ended.
    thread: Option<JoinHandle<()>>,
}

/// A frame of a [`Traffic`].
#[derive(Clone, Copy)]
pub struct Frame {
    pub sent: Instant,
    /// By which wire it came back: 0 is the one that all are sent into, the others follow as they were named.
    pub back_by: Option<usize>,
}

#[derive(Default)]
struct Flow {
    end: AtomicBool,
    /// The wire that takes the frames in the place of the first, as long as it does.
    other: Mutex<Option<Wire>>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    frames: Vec<Frame>,
    wires: Vec<Wire>,
    /// When frames came back, by wire.
    times: Vec<Vec<Instant>>,
}

impl Record {
    fn collect(&mut self) {
        for (by, (wire, times)) in self.wires.iter().zip(&mut self.times).enumerate() {
            while let Some(number) = wire.receive() {
                times.push(Instant::now());
                if let Some(frame) = self.frames.get_mut(number as usize) {
                    frame.back_by.get_or_insert(by);
                }
            }
        }
    }

    fn listen_to(&mut self, name: &str) {
        self.wires.push(Wire::at(name));
        self.times.push(Vec::new());
    }
}

impl Traffic {
    /// Begins to send into the wire `name`.
    pub fn into(name: &str, mac: &str) -> Self {
        // A guest without KVM is slow.
        Self::each(Duration::from_micros(if guest::here().is_some() { 2000 } else { 500 }), name, mac)
    }

    /// As [`Traffic::into`], with this pause between two frames.
    pub fn each(gap: Duration, name: &str, mac: &str) -> Self {
        let (wire, mac) = (Wire::at(name), parse_mac(mac));
        let traffic = Arc::<Flow>::default();
        traffic.record.lock().unwrap().listen_to(name);
        let flow = Arc::clone(&traffic);
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if flow.end.load(Ordering::Relaxed) {
                    return;
                }
                flow.record.lock().unwrap().frames.push(Frame { sent: Instant::now(), back_by: None });
                if !flow.other.lock().unwrap().as_ref().is_some_and(|other| other.try_send(mac, number)) {
                    wire.send(mac, number);
                }
                flow.record.lock().unwrap().collect();
                std::thread::sleep(gap);
            }
        });
        Self { flow: traffic, thread: Some(thread) }
    }

    /// Counts what comes back by this wire as well.
    pub fn also_from(&self, name: &str) {
        self.record().listen_to(name);
    }

    /// Sends into this wire from now on, and into the first when there is none or it takes no frames.
    pub fn send_by(&self, name: Option<&str>) {
        let other = name.map(Wire::at);
        if let Some(Wire { end: End::Netdevice(_), name }) = &other {
            // For a moment after a carrier has come the kernel drops what is sent by it, and says that it was sent.
            super::wait_for(&format!("{name} takes frames"), || {
                super::ip(&format!("link show dev {name}")).contains("state UP").then_some(())
            });
        }
        *self.flow.other.lock().unwrap() = other;
    }

    /// How many frames were sent: the number of the next.
    pub fn sent(&self) -> u32 {
        self.record().frames.len() as u32
    }

    /// Waits until so many more were sent.
    pub fn goes_on_for(&self, count: u32) {
        let until = self.sent() + count;
        super::wait_for("frames are sent", || (self.sent() >= until).then_some(()));
    }

    /// How long after `since` a frame came back by this wire, if one did.
    pub fn back_by(&self, name: &str, since: Instant) -> Option<Duration> {
        let record = self.record();
        let by = record.wires.iter().rposition(|wire| wire.name == name)?;
        let times = &record.times[by];
        times.get(times.partition_point(|&time| time <= since)).map(|&time| time - since)
    }

    /// Waits until a frame has come back by this wire after `since`, and returns how long after.
    pub fn expect_back_by(&self, name: &str, since: Instant) -> Duration {
        super::wait_for(&format!("a frame comes back by {name}"), || self.back_by(name, since))
    }

    /// All frames so far, by number.
    pub fn frames(&self) -> Vec<Frame> {
        let mut record = self.record();
        record.collect();
        record.frames.clone()
    }

    /// How many that came back the kernel has dropped since the last call, as nobody took them in time.
    pub fn dropped(&self) -> u32 {
        self.record().wires.iter().map(Wire::dropped).sum()
    }

    /// The numbers of those that have not come back, a second after the last was sent.
    pub fn lost(&self, numbers: Range<u32>) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let mut record = self.record();
            record.collect();
            let lost = |number: &u32| record.frames[*number as usize].back_by.is_none();
            let lost: Vec<u32> = numbers.clone().filter(lost).collect();
            drop(record);
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

    /// Ends it; what is under way may still come back.
    pub fn end(&mut self) -> std::thread::Result<()> {
        self.flow.end.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.flow.record.lock().unwrap()
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
