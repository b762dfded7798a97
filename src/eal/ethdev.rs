// SPDX-License-Identifier: BSD-3-Clause
//! Ethernet ports, as DPDK numbers and names them.

// UNSAFETY: calls DPDK with numbers and strings, and reads what it writes into places of ours.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use super::{Errno, guard, sys};
use crate::link::PciAddr;

/// Number of an Ethernet port. It may be given to another port as soon as its port is gone.
pub type PortNumber = u16;

/// Returns the number of the port with this name.
pub fn find(name: &CStr) -> Option<PortNumber> {
    let mut number = 0;
    // SAFETY: a NUL-terminated string and a place for the number.
    let returned = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut number) };
    (returned == 0).then_some(number)
}

/// Names of all ports, whoever owns them.
pub fn names() -> Vec<CString> {
    let mut names = Vec::new();
    let mut number: PortNumber = 0;
    loop {
        // SAFETY: takes any number.
        let port = unsafe { sys::rte_eth_find_next(number) };
        if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
            return names;
        }
        let mut name: [c_char; sys::RTE_ETH_NAME_MAX_LEN as usize] = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: a buffer of the size that rte_eth_dev_get_name_by_port asks for.
        let returned = unsafe { sys::rte_eth_dev_get_name_by_port(port, name.as_mut_ptr()) };
        if returned == 0 {
            // SAFETY: NUL-terminated by the call above, as it succeeded.
            names.extend(unsafe { super::copy_cstr(name.as_ptr()) });
        }
        number = port.saturating_add(1);
    }
}

/// Who sits on a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// No Ethernet port, and no driver.
    Nobody,
    /// A port that nobody owns, which failsafe may take over.
    Unowned,
    /// A port that somebody owns, such as a failsafe port; or a driver whose ports are gone and that is about to go,
    /// or never made one.
    Busy,
}

/// Tells who sits on the PCI function at `address`. Without a PCI bus driver nobody can.
pub fn occupant(address: PciAddr) -> Occupant {
    // The cheaper question first, as a VF that has just appeared is nobody's.
    if !is_probed(address) {
        return Occupant::Nobody;
    }
    let ports = on_function(address);
    if ports.is_empty() || ports.iter().any(|&(port, _)| is_owned(port)) { Occupant::Busy } else { Occupant::Unowned }
}

/// Tells whether a driver has the PCI function at `address`.
fn is_probed(address: PciAddr) -> bool {
    let device = find_device(address);
    // SAFETY: null is told apart first; else a device of the bus.
    !device.is_null() && unsafe { sys::rte_dev_is_probed(device) } != 0
}

/// Finds the device at a PCI address, null when the bus has none.
pub(super) fn find_device(address: PciAddr) -> *mut sys::rte_device {
    let Ok(filter) = CString::new(format!("bus=pci,addr={address}")) else { return ptr::null_mut() };
    let bus = super::vdev::pci_bus();
    if bus.is_null() {
        return ptr::null_mut();
    }
    // As rte_dev_iterator_init makes it, which reads the text to find the bus and takes as long again as the search.
    let mut iterator = sys::rte_dev_iterator { bus_str: filter.as_ptr(), bus, ..Default::default() };
    // SAFETY: an iterator over a bus of the list, whose string lives as long; it holds no memory of its own.
    unsafe { sys::rte_dev_iterator_next(&raw mut iterator) }
}

/// Tells whether `port` sits on the PCI function at `address`.
pub fn sits_on(port: PortNumber, address: PciAddr) -> bool {
    on_function(address).iter().any(|&(number, _)| number == port)
}

/// How often an iterator that DPDK has no memory for is asked for.
const ITERATOR_TRIES: u32 = 3;

/// Lists the ports on the PCI function at `address`, each with its device.
pub(super) fn on_function(address: PciAddr) -> Vec<(PortNumber, *mut sys::rte_device)> {
    let mut ports = Vec::new();
    let Ok(device) = CString::new(format!("pci:{address}")) else { return ports };
    if !super::vdev::has_pci_bus() {
        return ports;
    }
    let mut iterator = sys::rte_dev_iterator::default();
    // SAFETY: a place for the iterator and a NUL-terminated string that lives as long as the iterator.
    let mut begin = || unsafe { sys::rte_eth_iterator_init(&raw mut iterator, device.as_ptr()) };
    // It needs memory. That a VF's port is not found as it goes would have failsafe release it twice.
    if (0..ITERATOR_TRIES).all(|_| begin() != 0) {
        return ports;
    }
    loop {
        // SAFETY: initialized above and not run to its end; it then frees what it holds and returns RTE_MAX_ETHPORTS.
        let port = unsafe { sys::rte_eth_iterator_next(&raw mut iterator) };
        if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
            return ports;
        }
        ports.push((port, iterator.device));
    }
}

fn is_owned(port: PortNumber) -> bool {
    owner(port).is_some_and(|owner| owner.id != u64::from(sys::RTE_ETH_DEV_NO_OWNER))
}

/// Tells whether the owner of `port` has this name.
pub fn is_owned_by(port: PortNumber, name: &CStr) -> bool {
    let is_it = |owner: sys::rte_eth_dev_owner| {
        // SAFETY: an array that rte_eth_dev_owner_get has NUL-terminated.
        unsafe { super::copy_cstr(owner.name.as_ptr()) }.is_some_and(|owner| owner.as_c_str() == name)
    };
    owner(port).is_some_and(is_it)
}

fn owner(port: PortNumber) -> Option<sys::rte_eth_dev_owner> {
    let mut owner = sys::rte_eth_dev_owner::default();
    // SAFETY: a place for the owner; takes any port number.
    let returned = unsafe { sys::rte_eth_dev_owner_get(port, &raw mut owner) };
    (returned == 0).then_some(owner)
}

/// Stops and closes a port, which is all that its owner may do with it.
///
/// # Errors
/// What its driver returned. The port may be gone all the same: look for its name.
pub fn stop_and_close(port: PortNumber) -> Result<(), Errno> {
    // SAFETY: takes any port number; does nothing to a stopped port.
    let stopped = unsafe { sys::rte_eth_dev_stop(port) };
    // SAFETY: takes any port number.
    let closed = unsafe { sys::rte_eth_dev_close(port) };
    Errno::check(closed).and_then(|_| Errno::check(stopped)).map(|_| ())
}

/// What happens to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is about to go (`RTE_ETH_EVENT_DESTROY`), on the thread that closes it; it still exists
    /// (`rte_eth_dev_release_port`).
    Destroy,
    /// Its device was taken away (`RTE_ETH_EVENT_INTR_RMV`), mostly on the interrupt thread; it still exists.
    Removal,
}

impl Event {
    fn kind(self) -> sys::rte_eth_event_type {
        match self {
            Self::Destroy => sys::RTE_ETH_EVENT_DESTROY,
            Self::Removal => sys::RTE_ETH_EVENT_INTR_RMV,
        }
    }
}

/// Has `callback` called whenever `event` happens to any port, before those who register later.
///
/// # Errors
/// `ENOMEM`.
pub fn watch(event: Event, callback: fn(PortNumber)) -> Result<(), Errno> {
    let argument = callback as *mut c_void;
    // SAFETY: `notify` takes a `fn(PortNumber)` as its argument.
    let returned = unsafe { sys::rte_eth_dev_callback_register(ALL, event.kind(), Some(notify), argument) };
    Errno::check(returned).map(|_| ())
}

/// Ends what [`watch`] began.
///
/// # Errors
/// `EAGAIN` while the callback is running.
pub fn unwatch(event: Event, callback: fn(PortNumber)) -> Result<(), Errno> {
    let argument = callback as *mut c_void;
    // SAFETY: compares function and argument, calls nothing.
    let returned = unsafe { sys::rte_eth_dev_callback_unregister(ALL, event.kind(), Some(notify), argument) };
    Errno::check(returned).map(|_| ())
}

const ALL: PortNumber = sys::RTE_ETH_ALL as PortNumber;

/// The thunk of [`watch`].
///
/// # Safety
/// `callback` is a `fn(PortNumber)` cast to a pointer.
unsafe extern "C" fn notify(
    port: PortNumber,
    _: sys::rte_eth_event_type,
    callback: *mut c_void,
    _: *mut c_void,
) -> c_int {
    // SAFETY: a `fn(PortNumber)` by the caller's duty.
    let callback = unsafe { std::mem::transmute::<*mut c_void, fn(PortNumber)>(callback) };
    guard("port event", (), || callback(port));
    0
}
