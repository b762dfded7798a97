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
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
/// When EAL has no memory or is not initialized.
pub fn set(delay: Duration, callback: Callback) -> Result<(), Errno> {
    arm(delay, run, callback as *mut c_void)
}

fn arm(delay: Duration, thunk: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) -> Result<(), Errno> {
    let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).max(1);
    // SAFETY: each thunk accepts the argument that its caller in this file passes with it.
    let returned = unsafe { sys::rte_eal_alarm_set(micros, Some(thunk), argument) };
    Errno::check(returned).map(|_| ())
}

/// The thunk of [`set`] and of `interrupt`: the user data is the function to call.
///
/// # Safety
/// `callback` is a [`Callback`] cast to a pointer, and this is the EAL interrupt thread.
pub(super) unsafe extern "C" fn run(callback: *mut c_void) {
    // SAFETY: a callback by the caller's duty; function and data pointers have one size on every platform of DPDK.
    let callback = unsafe { std::mem::transmute::<*mut c_void, Callback>(callback) };
    guard("callback on the interrupt thread", (), || callback(&OnInterruptThread(PhantomData)));
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
pub(crate) const PARKING_PATIENCE: Duration = Duration::from_secs(1);

/// Has the interrupt thread stand still until what is returned ends; `None` when it does not come within
/// [`PARKING_PATIENCE`]. Does nothing on that thread, and on one for which it stands still already.
///
/// Two threads that hot-plug at once meet in lists of EAL's that have no lock: those of device arguments, of PCI
/// devices and of ports. Also, closing a failsafe port waits for failsafe's own alarm, and that alarm may wait for the
/// vdev list lock which our caller holds (`rte_vdev_uninit` up to 26.03). With the thread parked nothing of it is
/// running; when it does not come, it is perhaps waiting for just that lock, and the caller must let go.
pub fn park_interrupt_thread() -> Option<Parked> {
    if on_interrupt_thread() || PARKING.get() {
        return Some(Parked(None, PhantomData));
    }
    let parking = Arc::new(Parking { phase: Mutex::new(Phase::Called), changed: Condvar::new() });
    let argument = Arc::into_raw(Arc::clone(&parking)).cast_mut().cast();
    // However this ends, the interrupt thread is not held by an alarm that it comes to later.
    let parked = Parked(Some(Arc::clone(&parking)), PhantomData);
    if arm(Duration::ZERO, park, argument).is_err() {
        // EAL may have taken the alarm all the same: it sets its timer after it has put the alarm into its list, and
        // says so when that fails (`rte_eal_alarm_set`). So the reference that it was to own is not taken back.
        return None;
    }
    let deadline = Instant::now() + PARKING_PATIENCE;
    let mut phase = parking.phase.lock().unwrap_or_else(PoisonError::into_inner);
    while *phase == Phase::Called {
        let left = deadline.checked_duration_since(Instant::now())?;
        phase = parking.changed.wait_timeout(phase, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(phase);
    PARKING.set(true);
    Some(parked)
}

/// The thunk of [`park_interrupt_thread`].
///
/// # Safety
/// `parking` is a reference from [`Arc::into_raw`] that this call may take.
unsafe extern "C" fn park(parking: *mut c_void) {
    // SAFETY: from Arc::into_raw and given away, by the caller's duty; EAL calls an alarm once.
    let parking = unsafe { Arc::from_raw(parking.cast::<Parking>().cast_const()) };
    guard("parking the interrupt thread", (), || {
        if parking.enter(Phase::Parked) == Phase::Over {
            return;
        }
        let mut phase = parking.phase.lock().unwrap_or_else(PoisonError::into_inner);
        while *phase == Phase::Parked {
            phase = parking.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
    });
}
