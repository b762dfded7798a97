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

// UNSAFETY: calls DPDK with a string.
#![expect(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{debug, warn};

use super::ops::{self, Copies, Function, Layout};
use super::{queues, sys};

/// What failsafe calls without a look, with what does there what ethdev does without it.
fn needed(layout: Layout) -> [(u32, Function); 3] {
    let release = Function(release_nothing as *mut c_void);
    [
        (layout.rx_queue_release, release),
        (layout.rx_queue_release.saturating_add(sys::NETVSC_OP_TX_QUEUE_RELEASE), release),
        (sys::NETVSC_OP_LINK_UPDATE, Function(tell_no_link as *mut c_void)),
    ]
}

/// A queue that its PMD has nothing to release of: ethdev forgets it, and so does failsafe.
extern "C" fn release_nothing(_: *mut c_void, _: u16) {}

/// A link that its PMD cannot tell of.
extern "C" fn tell_no_link(_: *mut c_void, _: c_int) -> c_int {
    -libc::ENOTSUP
}

/// How the names of the ports of `net_af_packet` begin.
const SHARING: &CStr = c"net_af_packet_vsc";

/// The tables that were completed, and what they became.
static COMPLETED: Copies = Copies::new();

/// Gives the port of this name what failsafe takes for granted, if there is such a port and it lacks any. Says once when
/// the release is not known.
pub fn complete(name: &CStr) {
    // SAFETY: a NUL-terminated string.
    let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
    if device.is_null() {
        return;
    }
    let Some(table) = ops::of(device, name) else {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if !TOLD.swap(true, Ordering::Relaxed) {
            let (_, text) = super::release();
            warn!(
                "{name:?}: {text} is not among the releases whose drivers it knows; with fallback=af_packet an \
                 application that takes fewer than all queues will lose packets, and one that sets a queue up twice \
                 will crash"
            );
        }
        return;
    };
    let shares = name.to_bytes().starts_with(SHARING.to_bytes());
    let given = COMPLETED.give(table, |copy| {
        fill(copy, table.layout);
        if shares {
            queues::share(copy, table.layout, device);
        }
    });
    if given {
        if shares {
            queues::receive_shared(device);
        }
        debug!("{name:?}: added what its driver lacks");
    }
}

/// Puts all that is needed into the places that are empty.
fn fill(functions: &mut [Function], layout: Layout) {
    for (place, function) in needed(layout) {
        if let Some(slot) = functions.get_mut(place as usize).filter(|slot| **slot == Function::NONE) {
            *slot = function;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_once_for_all_ports_of_a_pmd_and_nothing_else_is_changed() {
        let layout = Layout::of((22, 11)).unwrap();
        let own = Function(release_nothing as *mut c_void);
        let mut functions = vec![Function::NONE; layout.size as usize];
        functions[7] = own;
        let functions: &'static [Function] = functions.leak();
        let completed = |functions| COMPLETED.of(functions, |copy| fill(copy, layout));
        let copy = completed(functions).unwrap();
        assert!(std::ptr::eq(completed(functions).unwrap(), copy));
        for (place, &function) in copy.iter().enumerate() {
            assert_eq!(function != Function::NONE, [7, 42, 46].contains(&place), "{place}");
        }
        assert_eq!(copy[7], own);
        assert_eq!(completed(copy), None);
    }
}
