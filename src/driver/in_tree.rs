// SPDX-License-Identifier: BSD-3-Clause
//! What `drivers/net/vdev_netvsc/vdev_netvsc.c` calls in a DPDK tree. It knows the tree's layouts, so nothing of them is
//! to be known here, and any release will do that it compiles with.

// UNSAFETY: functions that C calls with strings.
#![expect(unsafe_code)]

use std::ffi::{c_char, c_int};

use crate::eal::{self, guard};
use crate::manager;

/// Makes what must be there before `rte_eal_init`. To be called once, by a constructor.
#[unsafe(no_mangle)]
extern "C" fn vdev_netvsc_init() {
    guard("registration", (), || {
        eal::log::init();
        super::add_automatic_instance();
    });
}

/// The probe hook, of the device's name and its arguments.
///
/// # Safety
/// Both are null or NUL-terminated strings that live and do not change during the call.
#[unsafe(no_mangle)]
unsafe extern "C" fn vdev_netvsc_probe(name: *const c_char, arguments: *const c_char) -> c_int {
    guard("probe", -libc::EFAULT, || {
        // SAFETY: the caller's duty.
        let Some(name) = (unsafe { eal::copy_cstr(name) }) else { return -libc::EINVAL };
        // SAFETY: the caller's duty.
        let arguments = unsafe { eal::copy_cstr(arguments) }.unwrap_or_default();
        super::probe(&name, &arguments)
    })
}

/// The remove hook, of the device's name.
///
/// # Safety
/// As for [`vdev_netvsc_probe`].
#[unsafe(no_mangle)]
unsafe extern "C" fn vdev_netvsc_remove(name: *const c_char) {
    guard("remove", (), || {
        // SAFETY: the caller's duty.
        if let Some(name) = unsafe { eal::copy_cstr(name) } {
            manager::remove(&name);
        }
    });
}
