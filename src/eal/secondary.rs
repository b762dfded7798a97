// SPDX-License-Identifier: BSD-3-Clause
//! What failsafe does wrong in a secondary process, which ends the primary's port; kept from it by `guard_ports`.
//!
//! **Closing.** Whoever closes its port in a secondary, or cleans up EAL there, stops and closes the sub-devices for the
//! primary too (`failsafe_eth_dev_close`), and cleaning up frees the port's interrupt handle, which all share, each time
//! once more (`fs_rte_eth_free`). From then on no packet passes, and the next secondary ends in `free()`.
//!
//! **The lock.** Nearly every operation takes a mutex in shared memory. It is made for one process alone up to 26.03
//! (c0b8fc5e4f6a changes that): who waits for it in one process is not woken by another. And a secondary that is killed
//! while it holds it keeps it, so that failsafe takes no VF any more.
//!
//! So in a secondary a failsafe port of ours has a table of functions of its own, that neither take the lock nor change
//! anything: statistics, information, link. For the others ethdev says `ENOTSUP`. And its device has a driver of its own,
//! that leaves the primary's port alone when it is removed.
//!
//! All was read in 22.11.11 and in the sources of 24.11, 25.11 and 26.07, and seen in 22.11.11. With a failsafe that does
//! not need it this file can go.

// UNSAFETY: reads and writes structs of DPDK's, and has functions that DPDK calls.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use log::{debug, warn};

use super::ethdev::{self, Event, PortNumber};
use super::ops::{self, Copies, Function, Layout};
use super::sys::{
    self, NETVSC_VDEV_DEVICE_OFFSET_22_11, NETVSC_VDEV_DEVICE_OFFSET_26_07, netvsc_vdev_driver_22_11,
    netvsc_vdev_driver_26_07,
};
use super::{guard, vdev};

/// How the names of our failsafe devices begin.
const OURS: &CStr = c"net_failsafe_vsc";

/// How many instances of the primary's this process was told of, and not that they went.
static INSTANCES: AtomicUsize = AtomicUsize::new(0);

/// To be called when a secondary is told of an instance: before it is told of its ports, or after.
pub fn came() {
    if INSTANCES.fetch_add(1, Ordering::Relaxed) == 0 {
        if let Err(error) = ethdev::watch(Event::New, port_appeared) {
            warn!("cannot hear of ports: {error}; the primary's ports end with this process");
        }
    }
    guard_ports();
}

/// To be called when an instance is removed from a secondary, as it is first of all when EAL is cleaned up.
pub fn went() {
    guard_ports();
    let left = INSTANCES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    if left == Ok(1) {
        if let Err(error) = ethdev::unwatch(Event::New, port_appeared) {
            debug!("still told of ports: {error}");
        }
    }
}

/// The port may be one of failsafe's. It has its functions by now.
fn port_appeared(_: PortNumber) {
    guard_ports();
}

/// Keeps failsafe from what it does wrong with all ports of ours that there are.
fn guard_ports() {
    for device in vdev::named(OURS) {
        let Some(name) = vdev::name_of(device) else { continue };
        // SAFETY: a NUL-terminated string.
        let port = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
        if !port.is_null() && !guard_port(port, &name) {
            tell_unknown(&name);
        }
        guard_device(device.cast());
    }
}

fn tell_unknown(name: &CStr) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let (_, text) = super::release();
        warn!("{name:?}: {text} is not among the releases whose drivers it knows; the port ends with this process");
    }
}

/// The functions of failsafe, as a secondary has them.
static HARMLESS: Copies = Copies::new();

/// Failsafe's own, which takes no lock and only reads.
static INFOS_GET: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Gives a port its harmless functions; `false` when its release is not known.
fn guard_port(port: *mut sys::netvsc_ethdev_head, name: &CStr) -> bool {
    let Some(table) = ops::of(port, name) else { return false };
    if HARMLESS.give(table, |copy| make_harmless(copy, table.layout)) {
        debug!("{name:?}: left to the primary");
    }
    true
}

fn make_harmless(functions: &mut [Function], layout: Layout) {
    let infos_get = layout.stats_get.saturating_add(sys::NETVSC_OP_DEV_INFOS_GET);
    if let Some(own) = functions.get(infos_get as usize) {
        INFOS_GET.store(own.0, Ordering::Release);
    }
    functions.fill(Function::NONE);
    for (place, function) in [
        (sys::NETVSC_OP_DEV_CLOSE, leave_open as *mut c_void),
        (sys::NETVSC_OP_LINK_UPDATE, leave_link as *mut c_void),
        (layout.stats_get, add_up as *mut c_void),
        (infos_get, tell_infos as *mut c_void),
    ] {
        if let Some(slot) = functions.get_mut(place as usize) {
            *slot = Function(function);
        }
    }
}

/// `dev_close`: nothing of the port is this process's but what ethdev releases.
extern "C" fn leave_open(_: *mut sys::netvsc_ethdev_head) -> c_int {
    0
}

/// `link_update`: ethdev tells what the primary has seen last.
extern "C" fn leave_link(_: *mut sys::netvsc_ethdev_head, _: c_int) -> c_int {
    0
}

/// `stats_get`: what the sub-devices have counted, those that went too, as `fs_stats_get` adds it up.
///
/// # Safety
/// `port` is a failsafe port, and `stats` a place for its statistics.
unsafe extern "C" fn add_up(port: *mut sys::netvsc_ethdev_head, stats: *mut sys::rte_eth_stats) -> c_int {
    guard("statistics", -libc::EFAULT, || {
        let Some(head) = ops::failsafe_of(port) else { return -libc::ENODEV };
        // SAFETY: lives as long as the port (tests/layout.c); a copy, as the primary may be changing it.
        let mut sum = unsafe { head.read() }.stats_accumulator;
        for sub in active(port) {
            let mut counted = sys::rte_eth_stats::default();
            // SAFETY: takes any port number, and a place for the statistics. One that this process does not have fails.
            if unsafe { sys::rte_eth_stats_get(sub, &raw mut counted) } == 0 {
                add(&mut sum, &counted);
            }
        }
        // SAFETY: a place by the caller's duty.
        unsafe { stats.write(sum) };
        0
    })
}

/// `dev_infos_get`.
///
/// # Safety
/// `port` is a failsafe port, and `infos` a place for its information.
unsafe extern "C" fn tell_infos(port: *mut sys::netvsc_ethdev_head, infos: *mut sys::rte_eth_dev_info) -> c_int {
    type InfosGet = unsafe extern "C" fn(*mut sys::netvsc_ethdev_head, *mut sys::rte_eth_dev_info) -> c_int;
    let own = INFOS_GET.load(Ordering::Acquire);
    if own.is_null() || ops::failsafe_of(port).is_none() {
        return -libc::ENODEV;
    }
    // SAFETY: failsafe's function of that type, or null, which was looked at.
    let own = unsafe { std::mem::transmute::<*mut c_void, InfosGet>(own) };
    // SAFETY: what this was called with.
    unsafe { own(port, infos) }
}

/// The ports of the sub-devices that count.
fn active(port: *mut sys::netvsc_ethdev_head) -> Vec<PortNumber> {
    let subs = ops::subs_of(port).into_iter().map(|sub| {
        // SAFETY: lives as long as the port (tests/layout.c); a copy, as the primary may be changing it.
        unsafe { sub.read() }
    });
    let is_active = |sub: &sys::netvsc_failsafe_sub| sub.state >= sys::NETVSC_FAILSAFE_ACTIVE as c_int;
    subs.filter(is_active).map(|sub| sub.sdev_port_id).collect()
}

/// Adds statistics up.
fn add(sum: &mut sys::rte_eth_stats, more: &sys::rte_eth_stats) {
    const NUMBERS: usize = size_of::<sys::rte_eth_stats>() / size_of::<u64>();
    // SAFETY: the struct has nothing but so many numbers of 64 bits (tests/layout.c).
    let sum = unsafe { std::slice::from_raw_parts_mut(ptr::from_mut(sum).cast::<u64>(), NUMBERS) };
    // SAFETY: as above.
    let more = unsafe { std::slice::from_raw_parts(ptr::from_ref(more).cast::<u64>(), NUMBERS) };
    sum.iter_mut().zip(more).for_each(|(sum, &more)| *sum = sum.wrapping_add(more));
}

/// The driver of failsafe's devices, as a secondary has it, once there is one.
static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Gives a device that failsafe drives the driver that leaves the primary's port alone.
fn guard_device(device: *mut sys::netvsc_device_head) {
    // SAFETY: a device of the bus; its struct begins so, 22.11 to 26.07 (tests/layout.c).
    let place = unsafe { &raw mut (*device).driver };
    // SAFETY: an aligned pointer in a device that lives, which others read in one access.
    let place = unsafe { AtomicPtr::<c_void>::from_ptr(place.cast()) };
    let (driver, harmless) = (place.load(Ordering::Acquire), DRIVER.load(Ordering::Acquire));
    if driver.is_null() || driver == harmless {
        return;
    }
    let harmless = if harmless.is_null() { harmless_driver(driver) } else { Some(harmless) };
    if let Some(harmless) = harmless {
        DRIVER.store(harmless, Ordering::Release);
        place.store(harmless, Ordering::Release);
    }
}

/// Copies a driver, with another function to remove its devices. `None` when the release is not known.
fn harmless_driver(driver: *mut c_void) -> Option<*mut c_void> {
    /// A copy of the object of this layout, around the generic driver.
    macro_rules! copy {
        ($layout:ty, $offset:ident) => {{
            // SAFETY: the generic driver is inside an object of the layout of this release (tests/layout.c).
            let whole = unsafe { driver.byte_sub(std::mem::offset_of!($layout, driver)) };
            // SAFETY: as above; it does not change.
            let mut copy = Box::new(unsafe { whole.cast::<$layout>().read() });
            copy.remove = Some(leave_alone::<{ $offset as usize }>);
            (&raw mut Box::leak(copy).driver).cast()
        }};
    }
    let release = super::release().0?;
    Layout::of(release)?;
    Some(if release < (26, 7) {
        copy!(netvsc_vdev_driver_22_11, NETVSC_VDEV_DEVICE_OFFSET_22_11)
    } else {
        copy!(netvsc_vdev_driver_26_07, NETVSC_VDEV_DEVICE_OFFSET_26_07)
    })
}

/// `remove` of the device of a failsafe port: releases what ethdev has of the port in this process. `OFFSET` is where the
/// generic device begins in this release's `struct rte_vdev_device`.
///
/// # Safety
/// `device` is a device of the vdev bus, with a name, that lives and does not change during the call.
unsafe extern "C" fn leave_alone<const OFFSET: usize>(device: *mut sys::rte_vdev_device) -> c_int {
    guard("remove", 0, || {
        // SAFETY: within the device, by this release's layout.
        let generic = unsafe { device.byte_add(OFFSET) };
        let Some(name) = vdev::name_of(generic.cast()) else { return 0 };
        // SAFETY: a NUL-terminated string.
        let port = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
        // Not with failsafe's own functions.
        let functions = (!port.is_null()).then(|| ops::of(port, &name)?.functions()).flatten();
        let is_harmless = functions.is_some_and(|functions| HARMLESS.has(functions));
        if let Some(number) = ethdev::find(&name).filter(|_| is_harmless) {
            // SAFETY: takes any port number.
            let closed = unsafe { sys::rte_eth_dev_close(number) };
            debug!("{name:?}: no port of this process any more: {closed}");
        }
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failsafes_functions_a_secondary_has_those_that_only_read() {
        let layout = Layout::of((22, 11)).unwrap();
        let own = Function(ptr::without_provenance_mut(1));
        let mut functions = vec![own; layout.size as usize];
        make_harmless(&mut functions, layout);
        let left: Vec<usize> = (0..functions.len()).filter(|&place| functions[place] != Function::NONE).collect();
        assert_eq!(left, [5, 7, 18, 24], "dev_close, link_update, stats_get, dev_infos_get");
        assert!(functions.iter().all(|&function| function != own));
        assert_eq!(INFOS_GET.load(Ordering::Relaxed), own.0);
    }

    #[test]
    fn statistics_are_added_up_number_by_number() {
        let mut sum = sys::rte_eth_stats { ipackets: 1, rx_nombuf: 2, ..Default::default() };
        let more = sys::rte_eth_stats { ipackets: 10, obytes: 20, ..Default::default() };
        add(&mut sum, &more);
        assert_eq!((sum.ipackets, sum.obytes, sum.rx_nombuf, sum.opackets), (11, 20, 2, 0));
    }
}
