// SPDX-License-Identifier: BSD-3-Clause
//! Two defects of failsafe that end its port, or the process, when a VF goes; put right from outside.
//!
//! **Bursts.** While all sub-devices are started failsafe uses burst functions that check nothing. When one goes it
//! changes back to those that do, in `dev->rx_pkt_burst` (`failsafe_set_burst_fn`); but since 21.11 applications call
//! what `rte_eth_dev_start` copied into `rte_eth_fp_ops`, and so the unchecked ones go on, on queues that are freed: a
//! crash. So the checking ones are noted when the port is made ([`SafeBursts::of`]) and put into `rte_eth_fp_ops` as
//! soon as the removal is heard of ([`SafeBursts::install`]).
//!
//! **Release.** `fs_dev_remove` closes the sub-device's port, which releases it, hot-removes its device, and releases
//! the port once more. Up to 23.07 the second release resets the bursts of port 0, whoever that is; from 23.11 on it
//! reads through a null pointer. It is left out when the hot-removal fails. So between the two, on the event of the
//! first release, the device is made to look as if no driver had it ([`Hidden::take`]), and is hot-removed for good when
//! failsafe is through ([`Hidden::remove`]).
//!
//! Both were read in 22.11.11 and in the sources of 26.07, and seen to end the port in 22.11.11.

// UNSAFETY: reads and writes structs of DPDK's.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::ethdev::{self, PortNumber};
use super::{Errno, sys};
use crate::link::PciAddr;

/// Name under which failsafe owns its sub-devices (`drivers/net/failsafe/failsafe_private.h`, `FAILSAFE_OWNER_NAME`).
pub const OWNER: &CStr = c"Fail-safe";

/// A burst function, kept as a pointer: it is only copied.
type Burst = *mut c_void;

/// The burst functions of a failsafe port that check each sub-device before they call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafeBursts {
    receive: Burst,
    transmit: Burst,
}

// SAFETY: addresses of functions, which every thread may call.
unsafe impl Send for SafeBursts {}

impl SafeBursts {
    /// Notes those of a failsafe port that was just made: it starts with them (`fs_eth_dev_create`). `None` when the
    /// application has started it meanwhile, which it may do as soon as it hears of the port: these may be the others.
    pub fn of(name: &CStr) -> Option<Self> {
        let port = ethdev::find(name)?;
        if is_started(port)? {
            return None;
        }
        // SAFETY: a NUL-terminated string.
        let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
        // SAFETY: null, or a port that lives; its struct begins with these two, 22.11 to 26.07 (tests/layout.c).
        let bursts = unsafe { device.as_ref() }?;
        let safe = Self { receive: bursts.rx_pkt_burst, transmit: bursts.tx_pkt_burst };
        (!is_started(port)?).then_some(safe)
    }

    /// Has applications that poll the port call these, if it is started, and stays away from one that is stopped or
    /// started at this moment.
    pub fn install(self, port: PortNumber) {
        let (Some(bursts), Some(idle)) = (slots(port), idle()) else { return };
        for (slot, safe) in bursts.into_iter().zip([self.receive, self.transmit]) {
            let current = slot.load(Ordering::Relaxed);
            if !idle.contains(&current) {
                let _ = slot.compare_exchange(current, safe, Ordering::Release, Ordering::Relaxed);
            }
        }
    }
}

/// The functions of a port that is not started: the last port is never used in practice.
fn idle() -> Option<[Burst; 2]> {
    let slots = slots(sys::RTE_MAX_ETHPORTS.saturating_sub(1) as PortNumber)?;
    Some(slots.map(|slot| slot.load(Ordering::Relaxed)))
}

/// Tells whether applications that poll the port reach its driver.
fn is_started(port: PortNumber) -> Option<bool> {
    let [receive, _] = slots(port)?;
    Some(!idle()?.contains(&receive.load(Ordering::Acquire)))
}

/// The places from which applications take a port's burst functions.
fn slots(port: PortNumber) -> Option<[&'static AtomicPtr<c_void>; 2]> {
    if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
        return None;
    }
    let table = (&raw mut sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>();
    // SAFETY: the table has RTE_MAX_ETHPORTS entries.
    let entry = unsafe { table.add(usize::from(port)) };
    // SAFETY: the entry lives for ever.
    let receive = unsafe { &raw mut (*entry).rx_pkt_burst };
    // SAFETY: as above.
    let transmit = unsafe { &raw mut (*entry).tx_pkt_burst };
    // SAFETY: an aligned pointer to a function, which others read and write in one access.
    let receive = unsafe { AtomicPtr::from_ptr(receive.cast()) };
    // SAFETY: as above.
    let transmit = unsafe { AtomicPtr::from_ptr(transmit.cast()) };
    Some([receive, transmit])
}

/// The device of a VF whose port failsafe is about to release twice, made to look as if no driver had it.
#[derive(Debug)]
pub struct Hidden {
    address: PciAddr,
    device: *mut sys::netvsc_device_head,
    driver: *const c_void,
}

// SAFETY: the device belongs to EAL, and is looked up again before it is touched.
unsafe impl Send for Hidden {}

impl Hidden {
    /// Hides the device of `port` if that sits on the PCI function at `address`. Only for the event of a port that goes,
    /// on the interrupt thread.
    pub fn take(port: PortNumber, address: PciAddr) -> Option<Self> {
        let (_, device) = ethdev::on_function(address).into_iter().find(|&(number, _)| number == port)?;
        // Whoever else closes the port, such as a secondary or the application on this thread, releases it once.
        if !ethdev::is_owned_by(port, OWNER) {
            return None;
        }
        let device = device.cast::<sys::netvsc_device_head>();
        // SAFETY: the device of a port that still exists; its struct begins so, 22.11 to 26.07 (tests/layout.c).
        let driver = unsafe { &raw mut (*device).driver };
        // SAFETY: as above; on this thread nobody else looks at it meanwhile.
        let known = unsafe { driver.replace(std::ptr::null()) };
        if known.is_null() {
            return None;
        }
        Some(Self { address, device, driver: known })
    }

    /// Tells whether it is the device of the PCI function at `address`.
    pub fn is_at(&self, address: PciAddr) -> bool {
        self.address == address
    }

    /// Shows the device again and hot-removes it. On the interrupt thread, once the callback that released its port is
    /// through.
    ///
    /// # Errors
    /// What `rte_dev_remove` returned.
    pub fn remove(self) -> Result<(), Errno> {
        // Somebody may have removed it all the same.
        if ethdev::find_device(self.address).cast() != self.device {
            return Ok(());
        }
        // SAFETY: a live device of EAL's, as just seen.
        let driver = unsafe { &raw mut (*self.device).driver };
        // SAFETY: as above.
        if !unsafe { driver.read() }.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { driver.write(self.driver) };
        // SAFETY: a live device of EAL's, probed by that driver.
        let returned = unsafe { sys::rte_dev_remove(self.device.cast()) };
        Errno::check(returned).map(|_| ())
    }
}
