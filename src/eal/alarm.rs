// SPDX-License-Identifier: BSD-3-Clause
//! One-shot alarms, and the way to hold the interrupt thread still for a moment.
//!
//! All alarms and interrupt callbacks of a process run on its one EAL interrupt thread, one after another
//! (`lib/eal/linux/eal_alarm.c`, `eal_interrupts.c`). Nothing here cancels an alarm: `rte_eal_alarm_cancel` waits for a
//! running callback, which may wait for a lock that the canceller's caller holds.

// UNSAFETY: hands callbacks to C and gets them back.
#![expect(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Errno, guard, sys};

/// A witness that this is the EAL interrupt thread. It is found there only, and stays there: it cannot be sent.
#[derive(Debug, Clone, Copy)]
pub struct OnInterruptThread(PhantomData<*const ()>);

impl OnInterruptThread {
    /// Returns the witness when this is the EAL interrupt thread.
    pub fn here() -> Option<Self> {
        // SAFETY: no precondition.
        let here = unsafe { sys::rte_thread_is_intr() != 0 };
        here.then_some(Self(PhantomData))
    }
}

/// A function to be called on the EAL interrupt thread.
pub type Callback = fn(&OnInterruptThread);

/// Calls `callback` once, on the EAL interrupt thread, after `delay` (rounded up to a microsecond at least).
///
/// # Errors
/// When EAL has no memory.
pub fn set(delay: Duration, callback: Callback) -> Result<(), Errno> {
    let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).max(1);
    // SAFETY: `run` takes a callback as its argument.
    let returned = unsafe { sys::rte_eal_alarm_set(micros, Some(run), callback as *mut c_void) };
    // It is in EAL's list, whose timer could not be set: it fires with the next that can. Set once more it would fire twice.
    if returned == -1 {
        return Ok(());
    }
    Errno::check(returned).map(|_| ())
}

/// The thunk of [`set`] and of `interrupt`: the user data is the function to call.
///
/// # Safety
/// `callback` is a [`Callback`] cast to a pointer, and this is the EAL interrupt thread.
pub(super) unsafe extern "C" fn run(callback: *mut c_void) {
    // SAFETY: a callback by the caller's duty; function and data pointers have one size on every platform of DPDK.
    let callback = unsafe { std::mem::transmute::<*mut c_void, Callback>(callback) };
    guard("callback on the interrupt thread", (), || {
        stand_still();
        callback(&OnInterruptThread(PhantomData));
    });
}

/// Tells whether this is the EAL interrupt thread.
pub fn on_interrupt_thread() -> bool {
    OnInterruptThread::here().is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Called,
    Parked,
    Over,
}

#[derive(Debug)]
struct Parking {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl Parking {
    /// Moves on and tells where it stood before.
    fn enter(&self, next: Phase) -> Phase {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *phase;
        if before != Phase::Over {
            *phase = next;
        }
        self.changed.notify_all();
        before
    }
}

thread_local! {
    /// This thread has the interrupt thread stand still.
    static PARKING: Cell<bool> = const { Cell::new(false) };
}

/// The time during which the interrupt thread stands still in an alarm of ours, or is the one that asked. It ends on the
/// thread that asked: it cannot be sent.
#[derive(Debug)]
#[must_use]
pub struct Parked(Option<Arc<Parking>>, PhantomData<*const ()>);

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some(parking) = &self.0 {
            PARKING.set(false);
            parking.enter(Phase::Over);
        }
    }
}

/// How long another thread waits for the interrupt thread, which may be hot-plugging: not for ever, as that one may wait
/// for a lock that the other thread holds.
pub const PARKING_PATIENCE: Duration = Duration::from_secs(1);

/// Has the interrupt thread stand still until what is returned ends. Does nothing on that thread, and on one for which it
/// stands still already. Of two threads that call it at once one may wait in vain.
///
/// Two threads that hot-plug at once meet in lists of EAL's that have no lock: those of device arguments, of PCI
/// devices and of ports. Also, closing a failsafe port waits for failsafe's own alarm, and that alarm may wait for the
/// vdev list lock which our caller holds (`rte_vdev_uninit` up to 26.03). With the thread parked nothing of it is
/// running; when it does not come, it is perhaps waiting for just that lock, and the caller must let go.
///
/// # Errors
/// `EBUSY` when it does not come within [`PARKING_PATIENCE`]; `ENOMEM` when it cannot be called, and does not come within
/// `without_memory` by itself.
pub fn park_interrupt_thread(without_memory: Duration) -> Result<Parked, Errno> {
    if on_interrupt_thread() || PARKING.get() {
        return Ok(Parked(None, PhantomData));
    }
    let parking = Arc::new(Parking { phase: Mutex::new(Phase::Called), changed: Condvar::new() });
    *called() = Some(Arc::clone(&parking));
    // However this ends, the interrupt thread is not held by a call that it comes to later.
    let parked = Parked(Some(Arc::clone(&parking)), PhantomData);
    // Without memory for an alarm the next callback of ours will do.
    let asked = set(Duration::ZERO, |_| {});
    let deadline = Instant::now() + if asked.is_ok() { PARKING_PATIENCE } else { without_memory };
    let mut phase = parking.phase.lock().unwrap_or_else(PoisonError::into_inner);
    while *phase == Phase::Called {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Err(asked.err().unwrap_or(Errno(libc::EBUSY)));
        };
        phase = parking.changed.wait_timeout(phase, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(phase);
    PARKING.set(true);
    Ok(parked)
}

/// Who has called the interrupt thread to stand still.
fn called() -> MutexGuard<'static, Option<Arc<Parking>>> {
    static CALLED: Mutex<Option<Arc<Parking>>> = Mutex::new(None);
    CALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands still while somebody wants that, on the interrupt thread.
fn stand_still() {
    let Some(parking) = called().take() else { return };
    if parking.enter(Phase::Parked) == Phase::Over {
        return;
    }
    let mut phase = parking.phase.lock().unwrap_or_else(PoisonError::into_inner);
    while *phase == Phase::Parked {
        phase = parking.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
    }
}
