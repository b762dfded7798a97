// SPDX-License-Identifier: BSD-3-Clause
//! What failsafe takes for granted in a fallback, and its PMD may lack; added from outside by [`complete`].
//!
//! Failsafe calls most operations of a sub-device by ethdev's functions, which look whether a PMD has them. Three it
//! calls straight from the table of the PMD without a look: `rx_queue_release`, `tx_queue_release` and `link_update`
//! (`fs_rx_queue_release`, `fs_tx_queue_release`, `fs_link_update`; 22.11 to 26.07). `net_af_packet` has no release since
//! 21.11, so that an application which sets a queue up twice, or fewer than before, ended there. `docs/fallbacks.md` has
//! all operations side by side.
//!
//! A table is constant and shared by all ports of a PMD. So a port gets a copy of it with the gaps filled, as soon as it
//! appears: before failsafe has it, in the event of it.

// UNSAFETY: reads and writes structs of DPDK's.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{debug, warn};

use super::sys;

/// A function of a PMD, kept as a pointer: it is only copied.
type Function = *mut c_void;

/// Where a release has the functions of a PMD, in pointers (`include/vdev_layout.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// The table's place in `struct rte_eth_dev`.
    table: u32,
    /// How many functions it has.
    size: u32,
    rx_queue_release: u32,
}

impl Layout {
    /// Returns that of a release, `None` for one that is not known.
    fn of(release: (u32, u32)) -> Option<Self> {
        let release = release.0.checked_mul(100)?.checked_add(release.1)?;
        let table = match release {
            2211..=2307 => sys::NETVSC_DEV_OPS_22_11,
            2311 => sys::NETVSC_DEV_OPS_23_11,
            2403..=2607 => sys::NETVSC_DEV_OPS_24_03,
            _ => return None,
        };
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
        Some(Self { table, size, rx_queue_release })
    }

    /// What failsafe calls without a look, with what does there what ethdev does without it.
    fn needed(self) -> [(u32, Function); 3] {
        let release = release_nothing as Function;
        [
            (self.rx_queue_release, release),
            (self.rx_queue_release.saturating_add(sys::NETVSC_OP_TX_QUEUE_RELEASE), release),
            (sys::NETVSC_OP_LINK_UPDATE, tell_no_link as Function),
        ]
    }
}

/// A queue that its PMD has nothing to release of: ethdev forgets it, and so does failsafe.
extern "C" fn release_nothing(_: *mut c_void, _: u16) {}

/// A link that its PMD cannot tell of.
extern "C" fn tell_no_link(_: *mut c_void, _: c_int) -> c_int {
    -libc::ENOTSUP
}

/// The tables that were completed, and what they became. Those live as long as the process, as the first do.
static COMPLETED: Mutex<Vec<Completed>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Completed {
    of: *mut Function,
    table: *mut Function,
}

// SAFETY: addresses of tables that nobody changes.
unsafe impl Send for Completed {}

/// Gives the port of this name what failsafe takes for granted, if there is such a port and it lacks any. Says once when
/// the release is not known.
pub fn complete(name: &CStr) {
    // SAFETY: a NUL-terminated string.
    let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
    if device.is_null() {
        return;
    }
    let (release, text) = super::release();
    let known = release.and_then(Layout::of).and_then(|layout| Some((layout, table_of(device, layout, name)?)));
    let Some((layout, place)) = known else {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::Relaxed) {
            warn!(
                "{name:?}: {text} is not among the releases whose drivers it knows; with fallback=af_packet an \
                 application that sets a queue up twice will crash"
            );
        }
        return;
    };
    let table = place.load(Ordering::Acquire);
    if table.is_null() {
        return;
    }
    // SAFETY: a PMD's table of that many functions, which is constant (tests/layout.c).
    let functions = unsafe { std::slice::from_raw_parts(table, layout.size as usize) };
    if let Some(completed) = completed(table, functions, layout) {
        place.store(completed, Ordering::Release);
        debug!("{name:?}: added what its driver lacks");
    }
}

/// Returns a table that has all that is needed, `None` when the one at hand has.
fn completed(of: *mut Function, functions: &[Function], layout: Layout) -> Option<*mut Function> {
    let mut copy = functions.to_vec();
    let mut complete = true;
    for (place, function) in layout.needed() {
        if let Some(slot) = copy.get_mut(place as usize).filter(|slot| slot.is_null()) {
            *slot = function;
            complete = false;
        }
    }
    if complete {
        return None;
    }
    let mut all = COMPLETED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.iter().find(|known| known.of == of) {
        return Some(known.table);
    }
    let table = copy.leak().as_mut_ptr();
    all.push(Completed { of, table });
    Some(table)
}

/// Finds the place where a port has its table; `None` when the port does not look as that release has it.
fn table_of(device: *mut sys::netvsc_ethdev_head, layout: Layout, name: &CStr) -> Option<&'static AtomicPtr<Function>> {
    let pointers = device.cast::<*mut c_void>();
    // SAFETY: within the struct of a port (tests/layout.c).
    let data = unsafe { pointers.add(layout.table.saturating_sub(2) as usize) };
    // SAFETY: a pointer, which stays as it is while there is a port.
    let data = unsafe { data.read() }.cast::<c_char>();
    // SAFETY: null, or it begins with the name of the port.
    let found = unsafe { super::copy_cstr(data) };
    if found.as_deref() != Some(name) {
        return None;
    }
    // SAFETY: as above.
    let place = unsafe { pointers.add(layout.table as usize) };
    // SAFETY: the structs of ports live for ever; an aligned pointer, which others read in one access.
    Some(unsafe { AtomicPtr::from_ptr(place.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn each_release_up_to_the_last_that_was_read_has_a_layout() {
        let table = [
            ((22, 11), Some((8, 113, 42))),
            ((23, 3), Some((8, 115, 42))),
            ((23, 7), Some((8, 115, 42))),
            ((23, 11), Some((10, 116, 43))),
            ((24, 3), Some((11, 116, 43))),
            ((24, 7), Some((11, 116, 43))),
            ((24, 11), Some((11, 121, 46))),
            ((25, 3), Some((11, 124, 46))),
            ((25, 11), Some((11, 124, 46))),
            ((26, 3), Some((11, 124, 46))),
            ((26, 7), Some((11, 125, 46))),
            ((26, 11), None),
            ((22, 7), None),
            ((u32::MAX, 11), None),
        ];
        for (release, want) in table {
            let layout = Layout::of(release).map(|layout| (layout.table, layout.size, layout.rx_queue_release));
            assert_eq!(layout, want, "{release:?}");
        }
    }

    #[test]
    fn gaps_are_filled_once_for_all_ports_of_a_pmd_and_nothing_else_is_changed() {
        let layout = Layout::of((22, 11)).unwrap();
        let own = release_nothing as Function;
        let mut functions = vec![ptr::null_mut(); layout.size as usize];
        functions[7] = own;
        let of = functions.as_mut_ptr();
        let table = completed(of, &functions, layout).unwrap();
        assert_eq!(completed(of, &functions, layout), Some(table));
        // SAFETY: a table of that size, which lives for ever.
        let copy = unsafe { std::slice::from_raw_parts(table, layout.size as usize) };
        for (place, function) in copy.iter().enumerate() {
            assert_eq!(!function.is_null(), [7, 42, 46].contains(&place), "{place}");
        }
        assert_eq!(copy[7], own);
        assert_eq!(completed(table, copy, layout), None);
    }
}
