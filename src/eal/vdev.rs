// SPDX-License-Identifier: BSD-3-Clause
//! The virtual device bus: devices made and removed by name, and the list of device arguments.

// UNSAFETY: calls DPDK with strings, and reads the strings it returns.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use super::turn::{self, Turn};
use super::{Errno, guard, ops, sys};

const BUS: &CStr = c"vdev";

/// Makes the virtual device `name` with `arguments` (`rte_eal_hotplug_add`).
///
/// Exchanges messages with secondary processes, so it may take seconds. Returns success for a name already probed
/// without making anything: ask `ethdev` first.
///
/// # Errors
/// What the bus or the driver's probe returned.
pub fn add(name: &CStr, arguments: &CStr) -> Result<(), Errno> {
    // Waited for, and not held: the bus has a lock of its own for the time of a scan.
    drop(Turn::take());
    // SAFETY: three NUL-terminated strings that live during the call; EAL copies them.
    let returned = unsafe { sys::rte_eal_hotplug_add(BUS.as_ptr(), name.as_ptr(), arguments.as_ptr()) };
    Errno::check(returned).map(|_| ())
}

/// Removes the virtual device `name` (`rte_eal_hotplug_remove`).
///
/// # Errors
/// When there is no such device, or its driver refuses.
pub fn remove(name: &CStr) -> Result<(), Errno> {
    // SAFETY: two NUL-terminated strings that live during the call.
    let returned = unsafe { sys::rte_eal_hotplug_remove(BUS.as_ptr(), name.as_ptr()) };
    Errno::check(returned).map(|_| ())
}

/// As [`remove`], in this process only: secondaries keep what they have of it.
///
/// # Errors
/// As [`remove`].
pub fn remove_here(name: &CStr) -> Result<(), Errno> {
    // SAFETY: a NUL-terminated string.
    let returned = unsafe { sys::rte_vdev_uninit(name.as_ptr()) };
    Errno::check(returned).map(|_| ())
}

/// Removes what a try to make the virtual device `name` has left on the bus, if anything: a device without a driver
/// (`local_dev_probe`). Made later it would be in that place, before the failsafe that takes it along, and
/// `rte_eal_cleanup` may be about to go on with it then (`vdev_cleanup` up to 26.03).
///
/// EAL removes only what has a driver (`rte_vdev_uninit`), so it gets one.
///
/// # Errors
/// `ENOTSUP` with a release that is not known.
pub fn remove_failed(name: &CStr) -> Result<(), Errno> {
    for device in named(name) {
        if name_of(device).as_deref() != Some(name) {
            continue;
        }
        // SAFETY: a device of the bus; its struct begins so, 22.11 to 26.07 (tests/layout.c).
        let driver = unsafe { &mut (*device.cast::<sys::netvsc_device_head>()).driver };
        if driver.is_null() {
            *driver = remover().ok_or(Errno(libc::ENOTSUP))?;
            return remove_here(name);
        }
    }
    Ok(())
}

/// A driver that can do nothing but remove its devices, of which there is nothing to remove. `None` when the release is
/// not known.
fn remover() -> Option<*const c_void> {
    static DRIVER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    /// Makes an object of this layout.
    macro_rules! make {
        ($layout:ty) => {{
            let mut driver = Box::<$layout>::default();
            driver.remove = Some(remove_nothing);
            (&raw mut Box::leak(driver).driver).cast()
        }};
    }
    let release = super::release().0?;
    ops::Layout::of(release)?;
    if DRIVER.load(Ordering::Acquire).is_null() {
        let driver =
            if release < (26, 7) { make!(sys::netvsc_vdev_driver_22_11) } else { make!(sys::netvsc_vdev_driver_26_07) };
        DRIVER.store(driver, Ordering::Release);
    }
    Some(DRIVER.load(Ordering::Acquire))
}

extern "C" fn remove_nothing(_: *mut sys::rte_vdev_device) -> c_int {
    0
}

/// Tells whether a registered driver would take a virtual device of this name.
///
/// # Errors
/// `ENOMEM`.
pub fn has_driver(name: &CStr) -> Result<bool, Errno> {
    let mut parsed = sys::rte_devargs::default();
    // SAFETY: a place that is zeroed, as rte_devargs_parse asks, and a NUL-terminated string.
    let returned = unsafe { sys::rte_devargs_parse(&raw mut parsed, name.as_ptr()) };
    // SAFETY: filled or left zeroed by the call above.
    unsafe { sys::rte_devargs_reset(&raw mut parsed) };
    if returned == -libc::ENOMEM { Err(Errno(libc::ENOMEM)) } else { Ok(returned == 0) }
}

/// Tells whether the PCI bus driver is there, without which no VF can be attached.
pub fn has_pci_bus() -> bool {
    !pci_bus().is_null()
}

/// Finds the PCI bus, null without its driver.
pub(super) fn pci_bus() -> *mut sys::rte_bus {
    // SAFETY: a NUL-terminated string.
    unsafe { sys::rte_bus_find_by_name(c"pci".as_ptr()) }
}

/// Has `rte_eal_cleanup` clean virtual devices before PCI devices.
///
/// It cleans the buses in the order of EAL's list (`eal_bus_cleanup`), the one in which they were linked or loaded. With
/// the PCI bus first the VF's device is freed, and then failsafe, which is not told, stops, closes and removes it. So
/// the bus of virtual devices is put before the PCI bus, unless it is there. Devices are probed in that order as well,
/// but virtual ones last in any case (`rte_bus_probe`).
///
/// To be called once, when this driver registers: a PCI bus that is loaded later goes to the end of the list
/// (`rte_bus_register`), and so behind the bus of virtual devices, which is always there.
///
/// By hand, as `rte_bus_register` empties a bus since 26.07.
///
/// # Safety
/// EAL is not up yet, and nobody loads drivers on another thread: its list of buses has no lock.
pub unsafe fn clean_before_pci() {
    // SAFETY: a NUL-terminated string.
    let vdev = unsafe { sys::rte_bus_find_by_name(BUS.as_ptr()) };
    let pci = pci_bus();
    if vdev.is_null() || pci.is_null() {
        return;
    }
    // SAFETY: looks at all that come after a bus of the list; `is_other_bus` takes any pointers.
    let behind = unsafe { sys::rte_bus_find(pci, Some(is_other_bus), vdev.cast_const().cast()) };
    if behind.is_null() {
        return;
    }
    // SAFETY: a bus of the list, which nobody else looks at now, by the caller's duty.
    unsafe { sys::rte_bus_unregister(vdev) };
    // A bus begins with its links, 22.11 to 26.07 (tests/layout.c). As TAILQ_INSERT_BEFORE does, which needs no head.
    // SAFETY: a bus of the list.
    let pci_links = unsafe { &mut *pci.cast::<sys::netvsc_list_links>() };
    // SAFETY: another bus, which is in no list.
    let vdev_links = unsafe { &mut *vdev.cast::<sys::netvsc_list_links>() };
    *vdev_links = sys::netvsc_list_links { next: pci.cast(), previous: pci_links.previous };
    // SAFETY: what comes before a member of a list points to it.
    unsafe { pci_links.previous.write(vdev.cast()) };
    pci_links.previous = &raw mut vdev_links.next;
}

/// Compares two buses by their address, for `rte_bus_find`.
unsafe extern "C" fn is_other_bus(bus: *const sys::rte_bus, other: *const c_void) -> c_int {
    c_int::from(!ptr::eq(bus.cast(), other))
}

/// Lists the virtual devices whose name begins so.
pub(super) fn named(beginning: &CStr) -> Vec<*mut sys::rte_device> {
    let mut devices = Vec::new();
    // SAFETY: a NUL-terminated string.
    let bus = unsafe { sys::rte_bus_find_by_name(BUS.as_ptr()) };
    if bus.is_null() {
        return devices;
    }
    let mut iterator = sys::rte_dev_iterator { bus_str: c"bus=vdev".as_ptr(), bus, ..Default::default() };
    loop {
        // SAFETY: an iterator over a bus of the list, whose string lives for ever; it holds no memory of its own.
        let device = unsafe { sys::rte_dev_iterator_next(&raw mut iterator) };
        if device.is_null() {
            return devices;
        }
        if name_of(device).is_some_and(|name| name.to_bytes().starts_with(beginning.to_bytes())) {
            devices.push(device);
        }
    }
}

/// Returns the name of a device that the bus has.
pub(super) fn name_of(device: *const sys::rte_device) -> Option<CString> {
    // SAFETY: a device of the bus.
    let name = unsafe { sys::rte_dev_name(device) };
    // SAFETY: the name of a live device.
    unsafe { super::copy_cstr(name) }
}

/// A witness that EAL starts and looks for virtual devices for the first time, on this thread: nobody hot-plugs yet, and
/// its list of device arguments, which has no lock (`lib/eal/common/eal_common_devargs.c`), is this thread's.
#[derive(Debug)]
pub struct Scanning(PhantomData<*const ()>);

/// Names of all virtual devices that EAL holds arguments of.
pub fn names(_: &Scanning) -> Vec<CString> {
    let mut names = Vec::new();
    let mut current: *mut sys::rte_devargs = ptr::null_mut();
    loop {
        // SAFETY: null starts the walk; else the entry that the last call returned.
        current = unsafe { sys::rte_devargs_next(BUS.as_ptr(), current) };
        if current.is_null() {
            return names;
        }
        // SAFETY: a live entry of EAL's list.
        let name = unsafe { &raw const (*current).name };
        // SAFETY: an array inside that entry, NUL-terminated by rte_devargs_parse.
        names.extend(unsafe { super::copy_cstr(name.cast()) });
    }
}

/// Adds arguments of a virtual device to EAL's list, as `--vdev` does.
///
/// # Errors
/// When no driver takes the name, or memory is short.
pub fn add_arguments(_: &Scanning, device: &CStr) -> Result<(), Errno> {
    // SAFETY: a NUL-terminated string, which EAL copies.
    let returned = unsafe { sys::rte_devargs_add(sys::RTE_DEVTYPE_VIRTUAL, device.as_ptr()) };
    Errno::check(returned).map(|_| ())
}

/// Arguments that EAL's list gets in the place of those it has.
struct Filled {
    /// For which device.
    names: Vec<(CString, &'static CStr)>,
    /// What EAL may have a pointer to, and so stays for ever.
    texts: Vec<&'static CStr>,
}

static FILLED: Mutex<Filled> = Mutex::new(Filled { names: Vec::new(), texts: Vec::new() });

/// Has the virtual device `name` made with these arguments from now on, whatever arguments it is made with: those that
/// failsafe gives a sub-device are a part of its own, whose length is limited. `None` for those it is made with.
pub fn fill_in(name: &CStr, arguments: Option<&CStr>) {
    let mut filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
    filled.names.retain(|(known, _)| known.as_c_str() != name);
    let Some(arguments) = arguments else { return };
    let known = filled.texts.iter().find(|text| **text == arguments).copied();
    let text = known.unwrap_or_else(|| {
        let text: &'static CStr = Box::leak(arguments.into());
        filled.texts.push(text);
        text
    });
    filled.names.push((name.to_owned(), text));
}

/// Fills in what [`fill_in`] has noted. To be called when the bus is scanned: EAL has the device that is made in its list
/// by then, and reads the arguments later (`local_dev_probe`). What it frees is kept beside them (`rte_devargs_reset`).
fn fill_in_all() {
    let filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut current: *mut sys::rte_devargs = ptr::null_mut();
    while !filled.names.is_empty() {
        // SAFETY: null starts the walk; else the entry that the last call returned.
        current = unsafe { sys::rte_devargs_next(BUS.as_ptr(), current) };
        // SAFETY: null, or a live entry of EAL's list, which is this thread's while it hot-plugs.
        let Some(entry) = (unsafe { current.as_mut() }) else { return };
        // SAFETY: an array inside that entry, NUL-terminated by rte_devargs_parse.
        let name = unsafe { super::copy_cstr(entry.name.as_ptr()) };
        if let Some((_, text)) = filled.names.iter().find(|(known, _)| Some(known) == name.as_ref()) {
            entry.__bindgen_anon_1.args = text.as_ptr();
        }
    }
}

/// Has `scan` called once, when EAL starts and looks for virtual devices: before memory exists, and under a lock of the
/// bus. It must not hot-plug.
///
/// The bus calls the thunk at every hot-plug of a virtual device too, which is when [`fill_in`] has its turn.
///
/// # Safety
/// EAL is not up yet.
///
/// # Errors
/// `ENOMEM`.
pub unsafe fn on_first_scan(scan: fn(&Scanning)) -> Result<(), Errno> {
    let argument = scan as *mut c_void;
    // SAFETY: `run_first_scan` takes a `fn(&Scanning)` as its argument.
    let returned = unsafe { sys::rte_vdev_add_custom_scan(Some(run_first_scan), argument) };
    Errno::check(returned).map(|_| ())
}

/// The thunk of [`on_first_scan`]. There is one callback.
///
/// # Safety
/// `scan` is a `fn(&Scanning)` cast to a pointer, and the first call is made when EAL starts.
unsafe extern "C" fn run_first_scan(scan: *mut c_void) {
    static OVER: AtomicBool = AtomicBool::new(false);
    if OVER.swap(true, Ordering::Relaxed) {
        return guard("scan", (), || {
            turn::begins_elsewhere();
            fill_in_all();
        });
    }
    // SAFETY: a `fn(&Scanning)` by the caller's duty.
    let scan = unsafe { std::mem::transmute::<*mut c_void, fn(&Scanning)>(scan) };
    guard("scan", (), || scan(&Scanning(PhantomData)));
}
