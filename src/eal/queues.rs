// SPDX-License-Identifier: BSD-3-Clause
//! Receive queues of `net_af_packet`, put right from outside by [`share`].
//!
//! **Sockets.** The PMD opens a packet socket for each queue that it is given (`qpairs`) as it probes, and has the kernel spread flows
//! over all of them, by a hash (`PACKET_FANOUT`). How many queues the application takes it does not look at: what comes
//! by the sockets of the others, nobody reads (`eth_dev_configure`, `rte_pmd_init_internals`; 22.11 to 26.07). So of `n`
//! queues the first reads the sockets 0, n, 2n …, the second 1, n + 1 …. A flow has one socket, and so one queue, and
//! keeps its order.
//!
//! The PMD's own functions do the work: what sets a queue up is called for the others too, with the memory of the queue
//! that reads them, and what receives is called for each socket in turn.
//!
//! **Long packets.** A frame of a ring that is larger than the memory of a queue is refused (`eth_rx_queue_setup`), whatever
//! comes; and a packet that is longer than a frame is received without its end. So the PMD is made to take such memory,
//! and what fits in neither is dropped before the PMD sees it.
//!
//! **Information.** Up to 26.03 a port over it takes an MTU of 1,500 at most, whatever its frames hold (`eth_dev_info`).

// UNSAFETY: has functions that DPDK calls, and calls those of a PMD.
#![expect(unsafe_code)]

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use log::warn;

use super::ops::{self, Function, Layout};
use super::{guard, sys};

type Device = *mut sys::netvsc_ethdev_head;
type SetUp = unsafe extern "C" fn(Device, u16, u16, c_uint, *const c_void, *mut c_void) -> c_int;
type Release = unsafe extern "C" fn(Device, u16);
type OfDevice = unsafe extern "C" fn(Device) -> c_int;
type InfosGet = unsafe extern "C" fn(Device, *mut sys::rte_eth_dev_info) -> c_int;
type Receive = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, u16) -> u16;

/// As many sockets as a port may have.
const SOCKETS: usize = crate::args::QUEUES_MAX as usize;

/// The functions of the PMD, which are the same for all its ports.
#[derive(Debug, Clone, Copy)]
struct Pmd {
    set_up: SetUp,
    start: OfDevice,
    close: OfDevice,
    infos_get: InfosGet,
    receive: Receive,
}

static PMD: OnceLock<Pmd> = OnceLock::new();

/// What stands for a queue of the PMD's in the port.
#[derive(Debug)]
struct Queue {
    /// What the PMD has for its queue, one for each socket.
    sockets: [*mut c_void; SOCKETS],
    count: usize,
    /// Which is read first in the next burst.
    next: usize,
    pool: *mut c_void,
    /// The longest packet that its memory holds.
    longest: u32,
    receive: Receive,
}

/// What the kernel has in a frame before the packet, when that is received (`tpacket_rcv`), and what the PMD reckons with
/// when it looks whether a frame fits into the memory of a queue (`TPACKET2_HDRLEN - sizeof(struct sockaddr_ll)`).
const BEFORE_PACKET: u32 = 66;
const BEFORE_DATA: u32 = 32;
const ETHERNET: u32 = 14;
const CRC: u32 = 4;

/// What is of a frame's header: `TP_STATUS_KERNEL`, `TP_STATUS_USER`.
const OF_KERNEL: u32 = 0;
const OF_USER: u32 = 1;

/// Gives a copy of the PMD's table, that of the port `device`, the functions that share sockets out. To be called once
/// for a table.
pub(super) fn share(functions: &mut [Function], layout: Layout, device: Device) {
    let place = |place: u32| place as usize;
    let (set_up, release) = (place(layout.rx_queue_release.saturating_sub(1)), place(layout.rx_queue_release));
    let (start, close) = (place(sys::NETVSC_OP_DEV_START), place(sys::NETVSC_OP_DEV_CLOSE));
    let infos_get = place(layout.stats_get.saturating_add(sys::NETVSC_OP_DEV_INFOS_GET));
    let own = |place: usize| functions.get(place).copied().filter(|function| *function != Function::NONE);
    let (Some(own_set_up), Some(own_start), Some(own_close), Some(own_infos_get)) =
        (own(set_up), own(start), own(close), own(infos_get))
    else {
        return;
    };
    // SAFETY: a port that lives; its struct begins so, 22.11 to 26.07 (tests/layout.c).
    let receive = unsafe { (*device).rx_pkt_burst };
    if receive.is_null() {
        return;
    }
    PMD.get_or_init(|| Pmd {
        // SAFETY: the PMD's function of that type (tests/layout.c).
        set_up: unsafe { std::mem::transmute::<*mut c_void, SetUp>(own_set_up.0) },
        // SAFETY: as above.
        start: unsafe { std::mem::transmute::<*mut c_void, OfDevice>(own_start.0) },
        // SAFETY: as above.
        close: unsafe { std::mem::transmute::<*mut c_void, OfDevice>(own_close.0) },
        // SAFETY: as above.
        infos_get: unsafe { std::mem::transmute::<*mut c_void, InfosGet>(own_infos_get.0) },
        // SAFETY: what receives has that type.
        receive: unsafe { std::mem::transmute::<*mut c_void, Receive>(receive) },
    });
    for (place, function) in [
        (set_up, self::set_up as SetUp as *mut c_void),
        (release, self::release as Release as *mut c_void),
        (start, self::start as OfDevice as *mut c_void),
        (close, self::close as OfDevice as *mut c_void),
        (infos_get, self::infos_get as InfosGet as *mut c_void),
    ] {
        if let Some(slot) = functions.get_mut(place) {
            *slot = Function(function);
        }
    }
}

/// Has a port whose table was given by [`share`] receive by it.
pub(super) fn receive_shared(device: Device) {
    if PMD.get().is_some() {
        // SAFETY: a port that lives; its struct begins so, 22.11 to 26.07 (tests/layout.c).
        unsafe { (*device).rx_pkt_burst = receive as Receive as *mut c_void };
    }
}

/// The place of a receive queue in a port; null when there is none. Ethdev has room for all that a port may have.
fn slot(device: Device, number: u16) -> *mut *mut c_void {
    let Some(data) = ops::data_of(device) else { return ptr::null_mut() };
    // SAFETY: the beginning of what all processes share of a port (tests/layout.c).
    let queues = unsafe { (*data).queues[0] }.cast::<*mut c_void>();
    if queues.is_null() {
        return queues;
    }
    // SAFETY: RTE_MAX_QUEUES_PER_PORT places, of which there are 1024.
    unsafe { queues.add(usize::from(number)) }
}

/// How many queues the application has configured.
fn configured(device: Device) -> u16 {
    // SAFETY: the beginning of what all processes share of a port (tests/layout.c).
    ops::data_of(device).map_or(0, |data| unsafe { (*data).queue_counts[0] })
}

/// Where the PMD has the size of a port's frames.
fn frame_size(device: Device) -> Option<*mut u32> {
    let data = ops::data_of(device)?;
    // SAFETY: the beginning of what all processes share of a port (tests/layout.c).
    let port = unsafe { (*data).dev_private }.cast::<sys::netvsc_af_packet_port>();
    // SAFETY: what the PMD keeps of a port begins so, 22.11 to 26.07 (tests/af_packet_layout.c).
    (!port.is_null()).then(|| unsafe { &raw mut (*port).frame_size })
}

/// How long a packet may be for one buffer of a pool (`rte_pktmbuf_data_room_size`, `rte_mempool_get_priv`).
///
/// # Safety
/// It is a pool of packet buffers.
unsafe fn room(pool: *mut c_void) -> u32 {
    // SAFETY: a pool by the caller's duty.
    let cached = unsafe { (*pool.cast::<sys::rte_mempool>()).cache_size } != 0;
    let caches =
        if cached { size_of::<sys::rte_mempool_cache>().saturating_mul(sys::RTE_MAX_LCORE as usize) } else { 0 };
    let private = size_of::<sys::rte_mempool>().saturating_add(caches);
    // SAFETY: as above; that is where its private part begins.
    let private = unsafe { pool.byte_add(private) }.cast::<sys::rte_pktmbuf_pool_private>();
    // SAFETY: what pools of packet buffers have there.
    let room = unsafe { (*private).mbuf_data_room_size };
    u32::from(room).saturating_sub(sys::RTE_PKTMBUF_HEADROOM)
}

/// Has the PMD set a queue up, and take its memory, however small that is.
///
/// # Safety
/// As [`SetUp`].
unsafe fn set_up_any(
    pmd: &Pmd,
    device: Device,
    number: u16,
    descriptors: u16,
    socket: c_uint,
    conf: *const c_void,
    pool: *mut c_void,
) -> c_int {
    let Some(frame) = frame_size(device) else { return -libc::ENODEV };
    // SAFETY: of a port that lives, and aligned; nobody else looks at it now.
    let own = unsafe { frame.read() };
    // SAFETY: a pool by the caller's duty.
    let fitting = own.min(unsafe { room(pool) }.saturating_add(BEFORE_DATA));
    // SAFETY: as above.
    unsafe { frame.write(fitting) };
    // SAFETY: what this was called with.
    let returned = unsafe { (pmd.set_up)(device, number, descriptors, socket, conf, pool) };
    // SAFETY: as above.
    unsafe { frame.write(own) };
    returned
}

/// `dev_infos_get`: flows are spread over queues by a hash. Failsafe offers RSS when all its sub-devices do, and a VF
/// without it has everything on its first queue.
///
/// # Safety
/// As ethdev calls it: `infos` is a place for the information.
unsafe extern "C" fn infos_get(device: Device, infos: *mut sys::rte_eth_dev_info) -> c_int {
    let Some(pmd) = PMD.get() else { return -libc::ENODEV };
    // SAFETY: what this was called with.
    let returned = unsafe { (pmd.infos_get)(device, infos) };
    // SAFETY: a place by the caller's duty.
    if let (Some(infos), Some(frame)) = (unsafe { infos.as_mut() }, frame_size(device)) {
        infos.flow_type_rss_offloads |= sys::NETVSC_RSS;
        infos.rx_offload_capa &= !sys::NETVSC_SCATTER;
        // SAFETY: of a port that lives, and aligned.
        let mtu = unsafe { frame.read() }.saturating_sub(BEFORE_PACKET + ETHERNET).min(u16::MAX.into());
        infos.max_mtu = mtu as u16;
        infos.max_rx_pktlen = mtu.saturating_add(ETHERNET + CRC);
    }
    returned
}

/// `rx_queue_setup`.
///
/// # Safety
/// As ethdev calls it: the port is not started, and the queue released.
unsafe extern "C" fn set_up(
    device: Device,
    number: u16,
    descriptors: u16,
    socket: c_uint,
    conf: *const c_void,
    pool: *mut c_void,
) -> c_int {
    guard("set-up of a queue", -libc::EFAULT, || {
        let (Some(pmd), slot) = (PMD.get(), slot(device, number)) else { return -libc::ENODEV };
        if slot.is_null() {
            return -libc::ENODEV;
        }
        // Before the PMD has filled that place: what lies there is ours whenever it is released.
        let sockets = [ptr::null_mut(); SOCKETS];
        let mut queue = Box::new(Queue { sockets, count: 1, next: 0, pool, longest: 0, receive: pmd.receive });
        // SAFETY: what this was called with.
        let returned = unsafe { set_up_any(pmd, device, number, descriptors, socket, conf, pool) };
        // SAFETY: a place of the port's.
        queue.sockets[0] = unsafe { slot.replace(ptr::null_mut()) };
        if returned != 0 {
            return returned;
        }
        // SAFETY: a pool, which the PMD has accepted.
        queue.longest = unsafe { room(pool) };
        // SAFETY: as above.
        unsafe { slot.write(Box::into_raw(queue).cast()) };
        0
    })
}

/// `rx_queue_release`.
///
/// # Safety
/// As ethdev calls it: nobody receives by the queue any more.
unsafe extern "C" fn release(device: Device, number: u16) {
    guard("release of a queue", (), || {
        let slot = slot(device, number);
        if slot.is_null() {
            return;
        }
        // SAFETY: a place of the port's.
        let queue = unsafe { slot.replace(ptr::null_mut()) };
        if !queue.is_null() {
            // SAFETY: made by `set_up`.
            drop(unsafe { Box::from_raw(queue.cast::<Queue>()) });
        }
    });
}

/// `dev_start`: the queues that there are now share all sockets.
///
/// # Safety
/// As ethdev calls it: nobody receives by the port.
unsafe extern "C" fn start(device: Device) -> c_int {
    guard("start", -libc::EFAULT, || {
        let Some(pmd) = PMD.get() else { return -libc::ENODEV };
        let mut infos = sys::rte_eth_dev_info::default();
        // SAFETY: a port of this PMD, and a place for its information.
        let returned = unsafe { (pmd.infos_get)(device, &raw mut infos) };
        if returned != 0 {
            return returned;
        }
        for number in 0..configured(device) {
            let returned = deal(pmd, device, number, infos.max_rx_queues);
            if returned != 0 {
                return returned;
            }
        }
        tell_small(device);
        // SAFETY: what this was called with.
        unsafe { (pmd.start)(device) }
    })
}

/// Says when packets are too long for the memory of a queue, such as those of an interface with a large MTU.
fn tell_small(device: Device) {
    let place = slot(device, 0);
    // SAFETY: a place of the port's.
    let queue = if place.is_null() { place.cast() } else { unsafe { place.read() }.cast::<Queue>() };
    // SAFETY: null, or made by `set_up`.
    let (Some(queue), Some(frame)) = (unsafe { queue.as_ref() }, frame_size(device)) else { return };
    // SAFETY: of a port that lives, and aligned.
    let frame = unsafe { frame.read() };
    // The MTU is more than half of it.
    if queue.longest < frame / 2 {
        warn!(
            "{}: its interface has packets of {} bytes and more, and the application buffers of {}: what is longer is \
             dropped; give it larger ones, or the interface a smaller MTU",
            ops::name_of(device),
            frame / 2,
            queue.longest
        );
    }
}

/// Gives a queue its share of `all` sockets.
fn deal(pmd: &Pmd, device: Device, number: u16, all: u16) -> c_int {
    let place = slot(device, number);
    if place.is_null() {
        return 0;
    }
    // SAFETY: a place of the port's.
    let queue = unsafe { place.read() }.cast::<Queue>();
    // SAFETY: null for one that was not set up, or made by `set_up`; nobody else uses it, as the port is not started.
    let Some(queue) = (unsafe { queue.as_mut() }) else { return 0 };
    (queue.count, queue.next) = (1, 0);
    let step = usize::from(configured(device).max(1));
    for other in (number..all).step_by(step).skip(1) {
        // The PMD looks at neither the descriptors nor the configuration of a queue (22.11 to 26.07).
        // SAFETY: a queue that the PMD has, and the memory of one that it has accepted.
        let returned = unsafe { set_up_any(pmd, device, other, 0, 0, ptr::null(), queue.pool) };
        if returned != 0 {
            return returned;
        }
        let place = slot(device, other);
        // SAFETY: a place of the port's, which the PMD has filled, and which is beyond what the application has.
        let socket = unsafe { place.replace(ptr::null_mut()) };
        if let Some(free) = queue.sockets.get_mut(queue.count) {
            *free = socket;
            queue.count = queue.count.saturating_add(1);
        }
    }
    0
}

/// `dev_close`.
///
/// # Safety
/// As ethdev calls it: nobody uses the port.
unsafe extern "C" fn close(device: Device) -> c_int {
    guard("closing", -libc::EFAULT, || {
        for number in 0..configured(device) {
            // SAFETY: a queue of a port that nobody uses.
            unsafe { release(device, number) };
        }
        let Some(pmd) = PMD.get() else { return -libc::ENODEV };
        // SAFETY: what this was called with.
        unsafe { (pmd.close)(device) }
    })
}

/// Counts the packets that are next in a ring, at most so many, and that are whole and not too long. Gives the kernel
/// back those before them that are not.
///
/// # Safety
/// It is a queue of the PMD's, which nobody else reads meanwhile.
unsafe fn whole_packets(queue: *mut sys::netvsc_af_packet_queue, longest: u32, most: u16) -> u16 {
    // SAFETY: what the PMD keeps of a queue begins so, 22.11 to 26.07 (tests/af_packet_layout.c).
    let Some(queue) = (unsafe { queue.as_mut() }) else { return 0 };
    let (mut count, mut at) = (0, queue.framenum);
    for _ in 0..queue.framecount {
        if count >= most {
            break;
        }
        // SAFETY: there are `framecount` frames.
        let frame = unsafe { queue.rd.add(at as usize) };
        // SAFETY: as above.
        let header = unsafe { (*frame).start };
        // SAFETY: each begins with its header, which the kernel writes too.
        let status = unsafe { &raw mut (*header).status };
        // SAFETY: aligned, and written by the kernel in one access.
        let status = unsafe { AtomicU32::from_ptr(status) };
        if status.load(Ordering::Acquire) & OF_USER == 0 {
            break;
        }
        // SAFETY: as above; it is ours until its status is changed.
        let header = unsafe { header.read() };
        at = if at.saturating_add(1) < queue.framecount { at.saturating_add(1) } else { 0 };
        if header.length == header.there && header.there <= longest {
            count = count.saturating_add(1);
        } else if count == 0 {
            status.store(OF_KERNEL, Ordering::Release);
            queue.framenum = at;
        } else {
            break;
        }
    }
    count
}

/// Receives by the sockets of a queue in turn, beginning with another each time, so that none waits for ever.
///
/// # Safety
/// As failsafe calls it: a queue of a started port, by one thread at a time.
unsafe extern "C" fn receive(queue: *mut c_void, mbufs: *mut *mut c_void, count: u16) -> u16 {
    // SAFETY: made by `set_up`, and not released while the port is started.
    let Some(queue) = (unsafe { queue.cast::<Queue>().as_mut() }) else { return 0 };
    let mut received: u16 = 0;
    for _ in 0..queue.count {
        let socket = queue.sockets.get(queue.next).copied().unwrap_or(ptr::null_mut());
        queue.next = if queue.next.saturating_add(1) < queue.count { queue.next.saturating_add(1) } else { 0 };
        // SAFETY: within the caller's array.
        let free = unsafe { mbufs.add(usize::from(received)) };
        // SAFETY: a queue of the PMD's, which nobody else reads.
        let whole = unsafe { whole_packets(socket.cast(), queue.longest, count.saturating_sub(received)) };
        if whole == 0 {
            continue;
        }
        // SAFETY: a queue of the PMD's, and room for as many as are asked for.
        let more = unsafe { (queue.receive)(socket, free, whole) };
        received = received.saturating_add(more);
        if received >= count {
            break;
        }
    }
    received
}
