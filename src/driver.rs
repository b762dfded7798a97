// SPDX-License-Identifier: BSD-3-Clause
//! The driver's hooks: the only way in. C comes to them in one of two ways.
//!
//! - `out_of_tree`: as a plugin or an archive beside a DPDK that is not known before run time. Registers itself, with
//!   a layout chosen by the release that runs.
//! - `in_tree`, with the feature of that name: as a driver of a DPDK tree. There a C file registers it with DPDK's macros
//!   (`drivers/net/vdev_netvsc`).

// UNSAFETY: the object that C keeps, and the functions that C calls.
#![expect(unsafe_code)]

use std::ffi::{CString, c_int};

use log::error;

use crate::eal::{turn, vdev};
use crate::manager;

/// Puts the buses into the order in which they are to be cleaned, and has us see what EAL is about to probe as it starts.
///
/// # Safety
/// EAL is not up yet, and nobody loads drivers on another thread.
unsafe fn prepare_eal() {
    // SAFETY: the caller's duty.
    unsafe { vdev::clean_before_pci() };
    // SAFETY: the caller's duty.
    if let Err(error) = unsafe { vdev::on_first_scan(manager::scan) } {
        error!("no automatic instance: {error}; add --vdev=net_vdev_netvsc");
    }
}

/// Makes an instance of a device's name and its arguments, if it has any, and returns what a probe hook does: 0 or a
/// negative errno.
fn probe(name: Option<CString>, arguments: Option<CString>) -> c_int {
    let Some(name) = name else { return -libc::EINVAL };
    match manager::probe(&name, &arguments.unwrap_or_default()) {
        Ok(()) => {
            turn::over_elsewhere();
            0
        }
        Err(error) => {
            // EAL frees the arguments.
            turn::begins_elsewhere();
            error!("{}: {error}", name.to_string_lossy());
            -error.errno()
        }
    }
}

/// Removes the instance of a device's name, and returns what a remove hook does: 0 or a negative errno.
fn remove(name: Option<CString>) -> c_int {
    let Some(name) = name else { return 0 };
    let outcome = manager::remove(&name);
    // EAL frees the arguments.
    turn::begins_elsewhere();
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let name = name.to_string_lossy();
            let why = if error.0 == libc::EBUSY { "as EAL's interrupt thread is hot-plugging" } else { "for now" };
            error!("{name}: not removed, {why}: {error}; try again");
            -error.0
        }
    }
}

/// The `rte_vdev_driver` object and its two hooks, for a DPDK that is not known before run time.
///
/// A constructor registers it, as `RTE_PMD_REGISTER_VDEV` does for drivers in C, before `rte_eal_init` or while EAL
/// loads plugins. The object has two layouts (`include/vdev_layout.h`); which one is the EAL's is known at run time
/// only, as 25.11 and 26.07 share a soname.
#[cfg(not(feature = "in-tree"))]
mod out_of_tree {
    use std::ffi::{CStr, CString, c_char, c_int, c_void};
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use log::error;

    use crate::eal::sys::{
        self, NETVSC_VDEV_DEVICE_OFFSET_22_11, NETVSC_VDEV_DEVICE_OFFSET_26_07, netvsc_vdev_driver_22_11,
        netvsc_vdev_driver_26_07, rte_vdev_device,
    };
    use crate::eal::{self, guard};

    unsafe extern "C" {
        /// Internal to DPDK since 22.11 and so in no installed header, yet exported by `librte_bus_vdev` in all releases.
        fn rte_vdev_register(driver: *mut c_void);
    }

    const NAME: &CStr = c"net_vdev_netvsc";
    const ALIAS: &CStr = c"eth_vdev_netvsc";

    /// Describes the driver to `dpdk-pmdinfo.py`, which looks for this text among the strings of a file's `.rodata`.
    /// The list of PCI ids is empty for a virtual device and must be there.
    static PMD_INFO: &CStr = c"PMD_INFO_STRING= {\"name\": \"net_vdev_netvsc\", \"params\": \"iface=<string> \
                               mac=<string> force=<int> ignore=<int> fallback=tap|af_packet hotplug_poll=<int> \
                               queues=<int>\", \
                               \"pci_ids\": []}";

    /// First and last DPDK release whose layouts are known.
    const KNOWN: std::ops::RangeInclusive<(u32, u32)> = (22, 11)..=(26, 7);

    /// First DPDK release with the second layout.
    const SECOND_LAYOUT: (u32, u32) = (26, 7);

    /// Registers an object of this layout.
    macro_rules! register {
        ($layout:ty, $offset:ident) => {{
            const OFFSET: usize = $offset as usize;
            let mut driver = Box::<$layout>::default();
            driver.driver.name = NAME.as_ptr();
            driver.driver.alias = ALIAS.as_ptr();
            driver.probe = Some(probe::<OFFSET>);
            driver.remove = Some(remove::<OFFSET>);
            // SAFETY: an object of the layout of this release, which lives as long as the process: it is given away.
            unsafe { rte_vdev_register(Box::into_raw(driver).cast()) };
        }};
    }

    /// Before the constructors of other drivers, as the one registered first serves (`vdev_parse`), and a static link may
    /// bring the C driver along; after those of buses, which empty their lists (`RTE_PRIORITY_BUS` is 110, and
    /// `RTE_PRIORITY_CLASS`, the last before drivers, 120: `lib/eal/include/rte_common.h`).
    #[used]
    #[unsafe(link_section = ".init_array.00121")]
    static CONSTRUCTOR: extern "C" fn() = construct;

    extern "C" fn construct() {
        // SAFETY: called as this library is loaded, before main() or by rte_eal_init() before it makes a thread or looks
        // at a bus (`eal_plugins_init`).
        unsafe { vdev_netvsc_register() };
    }

    /// Registers the driver `net_vdev_netvsc` with the bus of virtual devices, before `rte_eal_init`.
    ///
    /// A constructor of this library does so by itself. An application that links the static library calls this function
    /// to have that library linked at all, when it does not name it between `--whole-archive` and `--no-whole-archive`.
    /// Further calls do nothing. Not to be called by two threads at once, nor after `rte_eal_init`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn vdev_netvsc_register() {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        // Kept by being used: the linker drops what nothing refers to.
        std::hint::black_box(PMD_INFO);
        if REGISTERED.swap(true, Ordering::Relaxed) {
            return;
        }
        guard("registration", (), || {
            eal::panic::keep_quiet();
            eal::log::init();
            let (release, text) = eal::release();
            match release.filter(|release| KNOWN.contains(release)) {
                Some(release) if release < SECOND_LAYOUT => {
                    register!(netvsc_vdev_driver_22_11, NETVSC_VDEV_DEVICE_OFFSET_22_11);
                }
                Some(_) => register!(netvsc_vdev_driver_26_07, NETVSC_VDEV_DEVICE_OFFSET_26_07),
                None => {
                    return error!(
                        "not registered: {text} is not among the releases 22.11 to 26.07 whose drivers it knows; take a \
                         newer version of it, or build it in the tree of that DPDK"
                    );
                }
            }
            // SAFETY: before rte_eal_init and on one thread, as the caller sees to.
            unsafe { super::prepare_eal() };
        });
    }

    /// The probe hook. `OFFSET` is where the generic device begins in this release's `struct rte_vdev_device`.
    ///
    /// # Safety
    /// `device` is a device of the vdev bus, with a name, that lives and does not change during the call.
    unsafe extern "C" fn probe<const OFFSET: usize>(device: *mut rte_vdev_device) -> c_int {
        guard("probe", -libc::EFAULT, || {
            // SAFETY: the caller's duty.
            let name = unsafe { device_name(device, OFFSET) };
            // SAFETY: the caller's duty.
            let arguments = unsafe { device_arguments(device, OFFSET) };
            super::probe(name, arguments)
        })
    }

    /// The remove hook.
    ///
    /// # Safety
    /// As for [`probe`].
    unsafe extern "C" fn remove<const OFFSET: usize>(device: *mut rte_vdev_device) -> c_int {
        guard("remove", 0, || {
            // SAFETY: the caller's duty.
            super::remove(unsafe { device_name(device, OFFSET) })
        })
    }

    /// # Safety
    /// As for [`probe`].
    unsafe fn device_name(device: *mut rte_vdev_device, offset: usize) -> Option<CString> {
        // SAFETY: within the device, by this release's layout.
        let generic = unsafe { device.byte_add(offset) };
        // SAFETY: the generic device inside a live device.
        let name = unsafe { sys::rte_dev_name(generic.cast()) };
        // SAFETY: the name lives as long as the device.
        unsafe { eal::copy_cstr(name) }
    }

    /// Returns the device's arguments.
    ///
    /// # Safety
    /// As for [`probe`].
    unsafe fn device_arguments(device: *mut rte_vdev_device, offset: usize) -> Option<CString> {
        // SAFETY: within the device, by this release's layout.
        let generic = unsafe { device.byte_add(offset) };
        // SAFETY: the generic device inside a live device.
        let devargs = unsafe { sys::rte_dev_devargs(generic.cast()) };
        // SAFETY: null, or arguments that live as long as the device.
        let text: *const c_char = unsafe { devargs.as_ref() }.map_or(ptr::null(), |devargs| {
            // SAFETY: both members of the union are a pointer to the same text.
            unsafe { devargs.__bindgen_anon_1.args }
        });
        // SAFETY: null, or a text that lives as long as the device.
        unsafe { eal::copy_cstr(text) }
    }
}

/// What `drivers/net/vdev_netvsc/vdev_netvsc.c` calls in a DPDK tree. It knows the tree's layouts, so nothing of them is
/// to be known here, and any release will do that it compiles with.
#[cfg(feature = "in-tree")]
mod in_tree {
    use std::ffi::{c_char, c_int};

    use crate::eal::{self, guard};

    /// Makes what must be there before `rte_eal_init`.
    ///
    /// # Safety
    /// To be called once, by a constructor.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn vdev_netvsc_init() {
        guard("registration", (), || {
            eal::panic::keep_quiet();
            eal::log::init();
            // SAFETY: in a constructor EAL is not up yet, and a loader runs them one after another.
            unsafe { super::prepare_eal() };
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
            let name = unsafe { eal::copy_cstr(name) };
            // SAFETY: the caller's duty.
            let arguments = unsafe { eal::copy_cstr(arguments) };
            super::probe(name, arguments)
        })
    }

    /// The remove hook, of the device's name.
    ///
    /// # Safety
    /// As for [`vdev_netvsc_probe`].
    #[unsafe(no_mangle)]
    unsafe extern "C" fn vdev_netvsc_remove(name: *const c_char) -> c_int {
        guard("remove", 0, || {
            // SAFETY: the caller's duty.
            super::remove(unsafe { eal::copy_cstr(name) })
        })
    }
}
