// SPDX-License-Identifier: BSD-3-Clause
//! What failsafe does wrong when the link of a sub-device changes; put right from outside by [`pass_on`].
//!
//! It takes in how the link is now (`fs_link_update`: 0 when that is news, -1 when not), and passes the event on to the
//! application when that was not 0 (`failsafe_eth_lsc_event_callback`; 22.11 to 26.07). So an application hears only of
//! events that change nothing. It calls its own function by the table of the port, where one that says the opposite is put.
//! Nobody else looks at what it returns (`rte_eth_link_get`).

// UNSAFETY: calls a function of a PMD, and has one that DPDK calls.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::ops::{self, Copies, Function};
use super::sys;

type LinkUpdate = unsafe extern "C" fn(*mut sys::netvsc_ethdev_head, c_int) -> c_int;

/// Failsafe's own function, the same for all its ports.
static OWN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

static TABLES: Copies = Copies::new();

/// Has the failsafe port of this name tell its application of changes.
pub(super) fn pass_on(failsafe: &CStr) {
    // SAFETY: a NUL-terminated string.
    let device = unsafe { sys::rte_eth_dev_allocated(failsafe.as_ptr()) };
    if device.is_null() {
        return;
    }
    let Some(table) = ops::of(device, failsafe) else { return };
    let Some(functions) = table.functions() else { return };
    let changed = TABLES.of(functions, |copy| {
        let ours = Function(update as *mut c_void);
        if let Some(slot) = copy.get_mut(sys::NETVSC_OP_LINK_UPDATE as usize).filter(|slot| **slot != ours) {
            OWN.store(slot.0, Ordering::Release);
            *slot = ours;
        }
    });
    if let Some(changed) = changed {
        table.replace(changed);
    }
}

/// `link_update`: not 0 when something is new.
///
/// # Safety
/// `port` is a failsafe port.
unsafe extern "C" fn update(port: *mut sys::netvsc_ethdev_head, wait: c_int) -> c_int {
    let own = OWN.load(Ordering::Acquire);
    if own.is_null() {
        return 0;
    }
    // SAFETY: failsafe's function of that type (tests/layout.c).
    let own = unsafe { std::mem::transmute::<*mut c_void, LinkUpdate>(own) };
    // SAFETY: what this was called with.
    match unsafe { own(port, wait) } {
        0 => 1,
        _ => 0,
    }
}
