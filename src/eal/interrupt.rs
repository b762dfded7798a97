// SPDX-License-Identifier: BSD-3-Clause
//! A descriptor watched by the EAL interrupt thread.

// UNSAFETY: owns an interrupt handle of C.
#![expect(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use super::alarm::{self, Callback};
use super::{Errno, sys};

/// A descriptor registered with the EAL interrupt thread.
///
/// It is of type `RTE_INTR_HANDLE_EXT`: of most other types EAL itself reads first and so takes a message away
/// (`eal_intr_process_interrupts`). EAL polls level-triggered, so the callback reads until there is nothing left.
///
/// # Invariants
/// `handle` is a live instance and `fd` stays open while the source is registered: EAL ends the process when it finds
/// a closed descriptor among its sources (`eal_intr_thread_main`). So only [`Source::unregister`] closes it; a source that
/// is dropped leaks.
#[derive(Debug)]
pub struct Source {
    handle: *mut sys::rte_intr_handle,
    callback: Callback,
    fd: ManuallyDrop<OwnedFd>,
}

// SAFETY: the handle is private memory of this value (flag PRIVATE: calloc), bound to no thread.
unsafe impl Send for Source {}

impl Source {
    /// Makes the EAL interrupt thread call `callback` whenever `fd` is readable.
    ///
    /// # Errors
    /// `ENOMEM`, or what `rte_intr_callback_register` returns.
    pub fn register(fd: OwnedFd, callback: Callback) -> Result<Self, Errno> {
        // SAFETY: takes any flags; 0 is RTE_INTR_INSTANCE_F_PRIVATE, memory from calloc.
        let handle = unsafe { sys::rte_intr_instance_alloc(0) };
        if handle.is_null() {
            return Err(Errno(libc::ENOMEM));
        }
        // SAFETY: the handle was allocated above.
        let fd_set = unsafe { sys::rte_intr_fd_set(handle, fd.as_raw_fd()) };
        // SAFETY: the handle was allocated above.
        let type_set = unsafe { sys::rte_intr_type_set(handle, sys::RTE_INTR_HANDLE_EXT) };
        // SAFETY: the handle has a descriptor and a type, and EAL copies it; `run` takes a callback as
        // its argument, and EAL calls it on its interrupt thread.
        let register = || unsafe { sys::rte_intr_callback_register(handle, Some(alarm::run), callback as *mut c_void) };
        let registered =
            Errno::check(fd_set).and_then(|_| Errno::check(type_set.min(0))).and_then(|_| Errno::check(register()));
        if let Err(error) = registered {
            // SAFETY: the handle was allocated above and EAL has kept nothing of it.
            unsafe { sys::rte_intr_instance_free(handle) };
            return Err(error);
        }
        Ok(Self { handle, callback, fd: ManuallyDrop::new(fd) })
    }

    /// Ends the watch and closes the descriptor; gives the source back when its callback is running right now
    /// (`EAGAIN`), as it always is when called from that callback.
    pub fn unregister(self) -> Result<(), Self> {
        if self.try_unregister() == -libc::EAGAIN {
            return Err(self);
        }
        // SAFETY: registered no more, and this value is dropped here without touching the handle again.
        unsafe { sys::rte_intr_instance_free(self.handle) };
        drop(ManuallyDrop::into_inner(self.fd));
        Ok(())
    }

    fn try_unregister(&self) -> c_int {
        // SAFETY: the handle is live by the type's invariant; function and argument are those of `register`.
        unsafe { sys::rte_intr_callback_unregister(self.handle, Some(alarm::run), self.callback as *mut c_void) }
    }
}
