// SPDX-License-Identifier: BSD-3-Clause
//! Where a port has the table of its PMD's functions (`struct eth_dev_ops`), where that has which, and where failsafe
//! has what it keeps of a port.
//!
//! Such a table is constant and shared by all ports of a PMD, so whoever changes one gives a port a copy.

// UNSAFETY: reads structs of DPDK's.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::sys;

/// A function of a PMD, kept as a pointer: it is only copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Function(pub(super) *mut c_void);

// SAFETY: the address of a function, which every thread may call.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// One that its PMD does not have. Ethdev looks before it calls.
    pub(super) const NONE: Self = Self(ptr::null_mut());
}

/// Copies of tables. They live as long as the process, as the tables do that they are made of.
#[derive(Debug)]
pub(super) struct Copies(Mutex<Vec<(&'static [Function], &'static [Function])>>);

impl Copies {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Returns the copy of a table, made at the first call by `change`, unless that changes nothing.
    pub(super) fn of(
        &self,
        functions: &'static [Function],
        change: impl FnOnce(&mut [Function]),
    ) -> Option<&'static [Function]> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&(_, copy)) = all.iter().find(|(known, _)| ptr::eq(*known, functions)) {
            return Some(copy);
        }
        let mut copy = functions.to_vec();
        change(&mut copy);
        if copy == functions {
            return None;
        }
        let copy: &'static [Function] = copy.leak();
        all.push((functions, copy));
        Some(copy)
    }

    /// Gives a port the copy of its table, unless it has that or `change` changes nothing. Returns whether it did.
    pub(super) fn give(&self, table: Table, change: impl FnOnce(&mut [Function])) -> bool {
        let functions = table.functions().filter(|functions| !self.has(functions));
        let copy = functions.and_then(|functions| self.of(functions, change));
        copy.into_iter().for_each(|copy| table.replace(copy));
        copy.is_some()
    }

    /// Tells whether a table is one of these.
    pub(super) fn has(&self, functions: &[Function]) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|(_, copy)| ptr::eq(*copy, functions))
    }
}

/// Where a release has the functions of a PMD, in pointers (`include/vdev_layout.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The table's place in `struct rte_eth_dev`.
    table: u32,
    /// The list of callbacks' place there.
    callbacks: u32,
    /// How many functions it has.
    pub(super) size: u32,
    pub(super) stats_get: u32,
    pub(super) rx_queue_release: u32,
}

impl Layout {
    /// Returns that of a release, `None` for one that is not known.
    pub(super) fn of(release: (u32, u32)) -> Option<Self> {
        let release = release.0.checked_mul(100)?.checked_add(release.1)?;
        let (table, callbacks) = match release {
            2211..=2307 => (sys::NETVSC_DEV_OPS_22_11, sys::NETVSC_DEV_CALLBACKS_22_11),
            2311 => (sys::NETVSC_DEV_OPS_23_11, sys::NETVSC_DEV_CALLBACKS_22_11),
            2403..=2607 => (sys::NETVSC_DEV_OPS_24_03, sys::NETVSC_DEV_CALLBACKS_24_03),
            _ => return None,
        };
        let callbacks = table.saturating_add(callbacks);
        let size = match release {
            ..=2211 => sys::NETVSC_OPS_22_11,
            2303..=2307 => sys::NETVSC_OPS_23_03,
            2311..=2407 => sys::NETVSC_OPS_23_11,
            2411 => sys::NETVSC_OPS_24_11,
            2503..=2603 => sys::NETVSC_OPS_25_03,
            _ => sys::NETVSC_OPS_26_07,
        };
        let rx_queue_release = match release {
            ..=2307 => sys::NETVSC_OP_RX_QUEUE_RELEASE_22_11,
            2311..=2407 => sys::NETVSC_OP_RX_QUEUE_RELEASE_23_11,
            _ => sys::NETVSC_OP_RX_QUEUE_RELEASE_24_11,
        };
        let stats_get = match release {
            ..=2407 => sys::NETVSC_OP_STATS_GET_22_11,
            _ => sys::NETVSC_OP_STATS_GET_24_11,
        };
        Some(Self { table, callbacks, size, stats_get, rx_queue_release })
    }
}

/// The table of one port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    place: &'static AtomicPtr<Function>,
    pub(super) layout: Layout,
}

impl Table {
    /// Returns the functions, `None` when there are none.
    pub(super) fn functions(self) -> Option<&'static [Function]> {
        let table = self.place.load(Ordering::Acquire);
        if table.is_null() {
            return None;
        }
        // SAFETY: a PMD's table of that many functions, which is constant (tests/layout.c).
        Some(unsafe { std::slice::from_raw_parts(table, self.layout.size as usize) })
    }

    /// Gives the port another table of as many functions.
    pub(super) fn replace(self, functions: &'static [Function]) {
        self.place.store(functions.as_ptr().cast_mut(), Ordering::Release);
    }
}

/// Finds the table of the port `name`; `None` when the release is not known, or the port does not look as that release
/// has it.
pub(super) fn of(device: *mut sys::netvsc_ethdev_head, name: &CStr) -> Option<Table> {
    let layout = current()?;
    let data = data_of(device)?;
    // SAFETY: it begins with the name of the port.
    let found = unsafe { super::copy_cstr(data.cast()) };
    if found.as_deref() != Some(name) {
        return None;
    }
    // SAFETY: within the struct of a port (tests/layout.c).
    let place = unsafe { device.cast::<*mut c_void>().add(layout.table as usize) };
    // SAFETY: the structs of ports live for ever; an aligned pointer, which others read in one access.
    let place = unsafe { AtomicPtr::from_ptr(place.cast()) };
    Some(Table { place, layout })
}

/// Returns the name of a port, for a line of the log.
pub(super) fn name_of(device: *mut sys::netvsc_ethdev_head) -> String {
    // SAFETY: what all processes share of a port begins with its name.
    let name = data_of(device).and_then(|data| unsafe { super::copy_cstr(data.cast()) });
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns what all processes share of a port; `None` when the release is not known, or there is no port.
pub(super) fn data_of(device: *mut sys::netvsc_ethdev_head) -> Option<*mut sys::netvsc_ethdev_data_head> {
    let place = current()?.table.saturating_sub(2);
    // SAFETY: within the struct of a port (tests/layout.c).
    let data = unsafe { device.cast::<*mut c_void>().add(place as usize) };
    // SAFETY: a pointer, which stays as it is while there is a port.
    let data = unsafe { data.read() };
    (!data.is_null()).then_some(data.cast())
}

/// Lists who is told of a port's events. While nobody registers or ends that for this port: the list's lock is ethdev's.
pub(super) fn callbacks_of(device: *mut sys::netvsc_ethdev_head) -> Vec<sys::netvsc_ethdev_callback> {
    let mut all = Vec::new();
    let Some(layout) = current() else { return all };
    // SAFETY: within the struct of a port (tests/layout.c).
    let list = unsafe { device.cast::<*mut sys::netvsc_ethdev_callback>().add(layout.callbacks as usize) };
    // SAFETY: a list begins with its first member.
    let mut next = unsafe { list.read() };
    while !next.is_null() {
        // SAFETY: a member, which lives while it is in the list.
        let callback = unsafe { next.read() };
        next = callback.next.next.cast();
        all.push(callback);
    }
    all
}

/// Returns what failsafe keeps of a port of its own, which all processes share; `None` when the primary has closed it.
pub(super) fn failsafe_of(device: *mut sys::netvsc_ethdev_head) -> Option<*mut sys::netvsc_failsafe_head> {
    let data = data_of(device)?;
    // SAFETY: the beginning of what all processes share of a port (tests/layout.c).
    let head = unsafe { &raw const (*data).dev_private };
    // SAFETY: as above; the primary may be changing it.
    let head = unsafe { head.read_volatile() };
    (!head.is_null()).then_some(head.cast())
}

/// Returns the sub-devices of a failsafe port.
pub(super) fn subs_of(device: *mut sys::netvsc_ethdev_head) -> Vec<*mut sys::netvsc_failsafe_sub> {
    let Some(head) = failsafe_of(device) else { return Vec::new() };
    // SAFETY: lives as long as the port (tests/layout.c); a copy, as the primary may be changing it.
    let head = unsafe { head.read() };
    let count = if head.subs.is_null() { 0 } else { usize::from(head.subs_tail) };
    let sub = |number| {
        // SAFETY: there are so many, one behind the other.
        unsafe { head.subs.add(number) }
    };
    (0..count).map(sub).collect()
}

/// The layout of the release that runs.
fn current() -> Option<Layout> {
    static CURRENT: OnceLock<Option<Layout>> = OnceLock::new();
    *CURRENT.get_or_init(|| super::release().0.and_then(Layout::of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_up_to_the_last_that_was_read_has_a_layout() {
        let table = [
            ((22, 11), Some((8, 11, 113, 18, 42))),
            ((23, 3), Some((8, 11, 115, 18, 42))),
            ((23, 7), Some((8, 11, 115, 18, 42))),
            ((23, 11), Some((10, 13, 116, 18, 43))),
            ((24, 3), Some((11, 15, 116, 18, 43))),
            ((24, 7), Some((11, 15, 116, 18, 43))),
            ((24, 11), Some((11, 15, 121, 21, 46))),
            ((25, 3), Some((11, 15, 124, 21, 46))),
            ((25, 11), Some((11, 15, 124, 21, 46))),
            ((26, 3), Some((11, 15, 124, 21, 46))),
            ((26, 7), Some((11, 15, 125, 21, 46))),
            ((26, 11), None),
            ((22, 7), None),
            ((u32::MAX, 11), None),
        ];
        for (release, want) in table {
            let places = |layout: Layout| {
                (layout.table, layout.callbacks, layout.size, layout.stats_get, layout.rx_queue_release)
            };
            assert_eq!(Layout::of(release).map(places), want, "{release:?}");
        }
    }
}
