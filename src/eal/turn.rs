// SPDX-License-Identifier: BSD-3-Clause
//! Who hot-plugs at the moment. EAL's lists of device arguments and of devices have no lock, and its interrupt thread
//! hot-plugs beside the application's: a VF that comes while an instance is added ends the process, as one reads what the
//! other frees (`rte_devargs_next` in `rte_pci_scan` and `vdev_scan`, seen in 22.11.11).
//!
//! [`park_interrupt_thread`](super::alarm::park_interrupt_thread) parts the two while we are asked for something. Here
//! is what lies around that: from the scan with which EAL begins to add a virtual device, and to the release of its
//! arguments with which it ends to remove one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::alarm::{self, PARKING_PATIENCE};

/// How long another thread is taken to hot-plug that does not tell when it is through.
const ASIDE: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Turns {
    /// Until when another thread hot-plugs, as far as is known.
    others_until: Option<Instant>,
    /// The interrupt thread hot-plugs, by our order.
    here: bool,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns { others_until: None, here: false });
static CHANGED: Condvar = Condvar::new();

fn turns() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits as long as there is a deadline that is not over.
fn wait(deadline: impl Fn(&Turns) -> Option<Instant>) -> MutexGuard<'static, Turns> {
    let mut turns = turns();
    let left = |turns: &Turns| deadline(turns)?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    while let Some(left) = left(&turns) {
        turns = CHANGED.wait_timeout(turns, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    turns
}

/// Our turn on the interrupt thread; elsewhere that one is parked, and nothing is to be waited for.
#[derive(Debug)]
pub(super) struct Turn(bool);

impl Turn {
    /// Waits, on the interrupt thread, until no other hot-plugs: for a tenth of a second at most that nobody tells the
    /// end of.
    pub(super) fn take() -> Self {
        let here = alarm::on_interrupt_thread();
        if here {
            wait(|turns| turns.others_until).here = true;
        }
        Self(here)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0 {
            turns().here = false;
            CHANGED.notify_all();
        }
    }
}

/// Another thread begins to hot-plug, or goes on with what we do not see the end of. It waits until the interrupt thread
/// is through, if that does not take long.
pub(crate) fn begins_elsewhere() {
    if alarm::on_interrupt_thread() {
        return;
    }
    let patience = Instant::now() + PARKING_PATIENCE;
    turns().others_until = Some(patience + ASIDE);
    let mut turns = wait(|turns| turns.here.then_some(patience));
    turns.others_until = Some(Instant::now() + ASIDE);
}

/// That thread is through.
pub(crate) fn over_elsewhere() {
    if !alarm::on_interrupt_thread() {
        turns().others_until = None;
        CHANGED.notify_all();
    }
}
