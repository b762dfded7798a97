// SPDX-License-Identifier: BSD-3-Clause
//! The functions of the PCI bus: attached and detached by us.
//!
//! Failsafe attaches by itself an address that it has read, and when it cannot it tries that one for ever. So a VF is
//! attached here and looked at before its address is posted: a failsafe that reads the address of a probed device takes
//! over its port in the same poll (`fs_bus_init`), and hot-plugs nothing.

// UNSAFETY: calls DPDK with strings and with devices of the bus, and takes ports that DPDK tells of.
#![expect(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, CString};

use log::debug;

use super::ethdev::{self, Owner, PortNumber};
use super::turn::Turn;
use super::{Errno, sys};
use crate::address::PciAddr;

const BUS: &CStr = c"pci";
const NO_ARGUMENTS: &CStr = c"";

thread_local! {
    /// Who gets the ports that appear on this thread, while it attaches.
    static ATTACHING: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// The time during which ports that appear on this thread are ours.
struct Attaching;

impl Attaching {
    fn begin(owner: Owner) -> Self {
        ATTACHING.set(Some(owner));
        Self
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        ATTACHING.set(None);
    }
}

/// Attaches the PCI function `function` (`rte_eal_hotplug_add`), here and in the secondary processes, which may take
/// seconds. Its ports are [`Owner`]'s from before they can be found, if [`port_appeared`] is
/// called.
///
/// On the thread that hot-plugs, when [`Mends::occupant`] says that nobody sits there: a hidden device looks as if it
/// could be attached. That it succeeds says little, so ask once more who sits there: some PMDs make no port and are
/// content, such as those that are not of Ethernet.
///
/// [`Mends::occupant`]: super::failsafe::Mends::occupant
///
/// # Errors
/// The same in 22.11 to 26.07 where nothing else is said, in the order in which they are found:
///
/// | returned | meaning |
/// | --- | --- |
/// | `EEXIST` | a driver has it already; DPDK is not asked, as it may then remove what is in use (`rte_dev_probe` rolls back when a secondary process fails) |
/// | `EFAULT` | no PCI bus driver |
/// | `EPERM` | sysfs changed while the bus was scanned: -1 of `rte_pci_scan`. Worth another try |
/// | `ENODEV` | not on the bus: there is no such function, or no kernel driver has it; `--no-pci`; `-b` names it in a short form such as `01:00.0` (in full it is attached: these arguments take the place of that entry); `-a` names it so, before 22.11.8, 23.11.4 and 24.11.2 |
/// | `ENOTSUP` | no PMD takes it: not in this build or not loaded, or each that looked said no |
/// | `ENOMSG` | a secondary process did not answer; all was undone |
/// | other | of the PMD's probe: `ENOENT` or `ENODEV` without an ibverbs device (mlx5, mlx4), `EINVAL` for an IOVA mode that is not the process's, `ENOMEM`, …; or, after the PMD's success here, any of these of a secondary process, and all was undone |
///
/// After an error of the PMD's the device stays on the bus without a driver, and can be attached later. One that is
/// gone by then is still on the bus, and it is the PMD that refuses it.
pub fn attach(function: PciAddr) -> Result<(), Errno> {
    if !ethdev::find_probed(function).is_null() {
        return Err(Errno(libc::EEXIST));
    }
    let name = CString::new(function.to_string()).map_err(|_| Errno(libc::EINVAL))?;
    let _turn = Turn::take();
    let owned = Attaching::begin(Owner::ours()?);
    // SAFETY: three NUL-terminated strings that live during the call; EAL copies them.
    let returned = unsafe { sys::rte_eal_hotplug_add(BUS.as_ptr(), name.as_ptr(), NO_ARGUMENTS.as_ptr()) };
    drop(owned);
    Errno::check(returned).map(|_| ())
}

/// Takes a port that appears for [`Owner`], while its thread is in [`attach`]. To be called for each
/// [`ethdev::Event::New`]. Failsafe has such a callback too, which takes ports of addresses that it has read: none that
/// is attached here, unless a failsafe of the user's own waits for it, and that one may have it.
///
/// # Safety
/// The port is allocated, as that of an event is.
pub unsafe fn port_appeared(port: PortNumber) {
    if let Some(owner) = ATTACHING.get() {
        // SAFETY: allocated by the caller's duty.
        if let Err(error) = unsafe { owner.take_allocated(port) } {
            debug!("port {port} of a VF that was attached is not taken: {error}");
        }
    }
}

/// Detaches the PCI function `function`, which [`attach`] attached, and with it all its ports (`rte_dev_remove`), here
/// and in secondary processes. Its ports are closed before: where they have other names than the device they may live on
/// when that is gone (`rte_eth_dev_pci_generic_remove`). Does nothing when it is not on the bus or no driver has it, which
/// is so while it is hidden.
///
/// A VF that goes before failsafe has taken it has to be detached so: nobody else does, and its PMD does not even tell,
/// as it is asked to when a port is configured (`intr_conf.rmv`).
///
/// Up to 26.03 the device and its arguments leave the bus; from 26.07 on they stay there.
///
/// # Errors
/// `EBUSY` when one of its ports is not ours; what a secondary process or the PMD returned, and then it is still there.
pub fn detach(function: PciAddr) -> Result<(), Errno> {
    let _turn = Turn::take();
    let device = ethdev::find_probed(function);
    if device.is_null() {
        return Ok(());
    }
    let owner = Owner::ours()?;
    let ports = ethdev::ports_on(function)?;
    for &port in &ports {
        if !owner.holds(port)? {
            return Err(Errno(libc::EBUSY));
        }
    }
    for port in ports {
        if let Err(error) = ethdev::stop_and_close(port) {
            debug!("port {port} of {function} is not closed: {error}");
        }
    }
    // SAFETY: a device of the bus, as just seen.
    let returned = unsafe { sys::rte_dev_remove(device) };
    Errno::check(returned).map(|_| ())
}
