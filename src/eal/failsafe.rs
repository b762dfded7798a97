// SPDX-License-Identifier: BSD-3-Clause
//! What failsafe does wrong when a VF goes, which ends its port or the process; put right from outside by [`Mends`].
//!
//! **Bursts.** While all sub-devices are started failsafe uses burst functions that check nothing. When one goes it
//! changes back to those that do, in `dev->rx_pkt_burst` (`failsafe_set_burst_fn`); but since 21.11 applications call
//! what `rte_eth_dev_start` copied into `rte_eth_fp_ops`, and so the unchecked ones go on, on queues that are freed: a
//! crash. So the checking ones are noted when a port is made ([`Mends::made`]) and put into `rte_eth_fp_ops` as soon as
//! the removal is heard of ([`Mends::device_removed`]).
//!
//! **Release.** `fs_dev_remove` closes the sub-device's port, which releases it, hot-removes its device, and releases
//! the port once more. Up to 23.07 the second release resets the bursts of port 0, whoever that is; from 23.11 on it
//! reads through a null pointer. It is left out when the hot-removal fails. So between the two, on the event of the
//! first release ([`Mends::port_goes`]), the device is hidden: it is made to look as if no driver had it. It is
//! hot-removed for good when failsafe is through ([`Mends::settle`]).
//!
//! **Closing.** When an application closes a failsafe port, the VF is taken off the PCI bus on that thread, and the
//! list of the bus has no lock. So after the event of that VF's port DPDK is left alone about PCI functions until the
//! failsafe port is closed, or for a while ([`Mends::is_quiet`]). And the interrupt thread stands still while one is
//! closed ([`Mends::made`]): a removal that waits there for failsafe's lock goes on with what is freed by then, and a
//! callback that is running cannot be unregistered and is called with a port that is gone.
//!
//! **Addresses.** Failsafe keeps the address of a VF that went, and a secondary that starts has the primary attach what is
//! there (`rte_pmd_failsafe_probe`): nothing, or a VF that has no MAC yet. So it is made to forget it, when the device is
//! hot-removed.
//!
//! **Links.** It takes in how the link of a sub-device is now (`fs_link_update`: 0 when that is news, -1 when not), and
//! passes the event on to the application when that was not 0 (`failsafe_eth_lsc_event_callback`): an application hears
//! only of events that change nothing. It calls that function by the table of the port, where one is put that says the
//! opposite ([`Mends::made`]). Nobody else looks at what it returns (`rte_eth_link_get`). And it stays registered when a
//! sub-device goes: the next one of that number tells a failsafe port that may be closed ([`Mends::port_goes`]).
//!
//! **Functions.** It calls functions of a fallback that its PMD may not have: see [`fallback`], which
//! [`Mends::expect`] and [`Mends::port_appeared`] call for fallbacks of ours.
//!
//! All were read in 22.11.11 and in the sources of 26.07; the first two were seen to end the port in 22.11.11. With a
//! failsafe that does not need them this file can go.

// UNSAFETY: reads and writes structs of DPDK's.
#![expect(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::alarm::{OnInterruptThread, Parked};
use super::ethdev::{self, Device, Occupant, Owner, PortNumber};
use super::ops::{Copies, Function};
use super::turn::Turn;
use super::{Errno, alarm, fallback, guard, ops, sys};
use crate::address::PciAddr;

/// How long a burst that is under way may take, on a core of its own.
const BURST: Duration = Duration::from_millis(1);

/// How long the closing of a failsafe port with its VF may take.
pub(crate) const QUIET: Duration = Duration::from_secs(2);

/// The mends of all failsafe ports of ours, which it knows by the names of their devices.
///
/// Its lock is held for a moment only, never while DPDK is entered, and nothing else is locked under it.
#[derive(Debug)]
pub struct Mends(Mutex<Record>);

/// What [`Mends`] keeps.
#[derive(Debug)]
struct Record {
    /// Failsafe's burst functions that mind a VF that went: the same for all its ports.
    bursts: Option<SafeBursts>,
    /// The PCI functions that were posted, each to which failsafe port last. Such a port holds one of its functions at
    /// most: often the last, and one before that as long as it has not let go of it. They are few, as a host gives a VF
    /// few addresses.
    lent: Vec<(PciAddr, CString)>,
    /// Their devices.
    devices: Vec<(PciAddr, Device)>,
    /// The fallbacks, each with its failsafe port.
    fallbacks: Vec<(CString, CString)>,
    /// Devices of VFs that failsafe lets go of right now.
    hidden: Vec<Hidden>,
    /// Until when DPDK is not asked about PCI functions.
    quiet_until: Option<Instant>,
}

impl Record {
    const fn new() -> Self {
        Self {
            bursts: None,
            lent: Vec::new(),
            devices: Vec::new(),
            fallbacks: Vec::new(),
            hidden: Vec::new(),
            quiet_until: None,
        }
    }

    /// What is posted to one port is no other's any more: nobody sat there.
    fn lend(&mut self, function: PciAddr, failsafe: &CStr) {
        self.lent.retain(|&(lent, _)| lent != function);
        self.lent.push((function, failsafe.to_owned()));
    }

    /// It may be made more than once, if it could not be at first.
    fn expect(&mut self, fallback: &CStr, failsafe: &CStr) {
        self.fallbacks.retain(|(_, holder)| holder.as_c_str() != failsafe);
        self.fallbacks.push((fallback.to_owned(), failsafe.to_owned()));
    }

    fn closed(&mut self, failsafe: &CStr) {
        self.lent.retain(|(_, holder)| holder.as_c_str() != failsafe);
        self.devices.retain(|(known, _)| self.lent.iter().any(|(lent, _)| lent == known));
        self.fallbacks.retain(|(_, holder)| holder.as_c_str() != failsafe);
        self.quiet_until = None;
    }

    fn keep_quiet(&mut self, now: Instant) {
        self.quiet_until = Some(now + QUIET);
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}

impl Mends {
    /// Nothing is lent, and nothing noted.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Record::new()))
    }

    /// No panic leaves a record half changed.
    // Not inlined, as that would be into many places.
    #[inline(never)]
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before that failsafe port is made, which makes this fallback then, or later, when it can be made.
    pub fn expect(&self, fallback: &CStr, failsafe: &CStr) {
        self.record().expect(fallback, failsafe);
        // Somebody may have made it already.
        fallback::complete(fallback);
    }

    /// To be called for each [`ethdev::Event::New`]: it may be a fallback.
    pub fn port_appeared(&self) {
        let fallbacks: Vec<CString> = self.record().fallbacks.iter().map(|(name, _)| name.clone()).collect();
        fallbacks.iter().for_each(|name| fallback::complete(name));
    }

    /// To be called when the failsafe port of this name was made, before anything else happens to it.
    pub fn made(&self, failsafe: &CStr) {
        replace_functions(failsafe);
        if self.record().bursts.is_none() {
            let bursts = SafeBursts::of(failsafe);
            self.record().bursts = bursts;
        }
    }

    /// To be called when the PCI function `function` is posted to that failsafe port, before it can read it. What was
    /// lent to a port that was not made after all does no harm.
    ///
    /// # Errors
    /// `ENOMEM`: its device is not found, by which its port is known as it goes.
    pub fn lend(&self, function: PciAddr, failsafe: &CStr) -> Result<(), Errno> {
        let device = Device::at(function);
        if !device.is_found() {
            return Err(Errno(libc::ENOMEM));
        }
        let mut record = self.record();
        record.lend(function, failsafe);
        // What was there before is gone.
        record.devices.retain(|&(known, other)| known != function && other != device);
        record.devices.push((function, device));
        Ok(())
    }

    /// Tells whether `port` sits on a function that was posted, or may be posted soon.
    pub fn is_on(&self, function: PciAddr, port: PortNumber) -> bool {
        self.device_of(function).map_or_else(|| ethdev::sits_on(port, function), |device| device.has(port))
    }

    /// The device of a function that was posted: to know it by that takes no memory.
    fn device_of(&self, function: PciAddr) -> Option<Device> {
        self.record().devices.iter().find(|&&(known, _)| known == function).map(|&(_, device)| device)
    }

    /// For an [`ethdev::Event::Destroy`]: tells whether that is the port which failsafe would take on a function that was
    /// posted.
    pub fn is_first_on(&self, function: PciAddr, port: PortNumber) -> bool {
        self.device_of(function).is_some_and(|device| device.has_first(port))
    }

    /// To be called when that failsafe port is gone, before another can be made with its name.
    pub fn closed(&self, failsafe: &CStr) {
        self.record().closed(failsafe);
    }

    /// To be called for each [`ethdev::Event::Removal`]. When that port is the VF of a failsafe port of ours, its
    /// application is made to call bursts that mind it, before failsafe frees what the others use; and one that is under
    /// way is waited for, as it goes on to the VF when its turn at the fallback brings nothing.
    pub fn device_removed(&self, port: PortNumber) {
        let (bursts, lent) = {
            let record = self.record();
            (record.bursts, record.lent.clone())
        };
        let Some(bursts) = bursts else { return };
        for (_, failsafe) in lent.iter().filter(|&&(function, _)| self.is_on(function, port)) {
            if ethdev::find(failsafe).is_some_and(|failsafe| bursts.install(failsafe)) {
                thread::sleep(BURST);
            }
        }
    }

    /// Ends what failsafe asked to be told of the link of a sub-device: it registers with its port and unregisters with the
    /// sub-device (`failsafe_eth_dev_unregister_callbacks`), of which nothing is found.
    fn forget_link(&self, port: PortNumber) {
        let Some(name) = ethdev::name_of(port) else { return };
        // SAFETY: a NUL-terminated string.
        let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
        if device.is_null() {
            return;
        }
        let of_link = |callback: &sys::netvsc_ethdev_callback| callback.event == sys::RTE_ETH_EVENT_INTR_LSC;
        let callbacks: Vec<_> = ops::callbacks_of(device).into_iter().filter(of_link).collect();
        if callbacks.is_empty() {
            return;
        }
        let failsafes: Vec<CString> = self.record().fallbacks.iter().map(|(_, failsafe)| failsafe.clone()).collect();
        for failsafe in failsafes {
            // SAFETY: a NUL-terminated string.
            let argument: *mut c_void = unsafe { sys::rte_eth_dev_allocated(failsafe.as_ptr()) }.cast();
            let is_its = |callback: &&sys::netvsc_ethdev_callback| !argument.is_null() && callback.argument == argument;
            for callback in callbacks.iter().filter(is_its) {
                // SAFETY: what is registered has that type.
                let function = unsafe { std::mem::transmute::<*mut c_void, sys::rte_eth_dev_cb_fn>(callback.function) };
                // SAFETY: compares function and argument, calls nothing.
                let returned =
                    unsafe { sys::rte_eth_dev_callback_unregister(port, callback.event, function, argument) };
                debug!("{failsafe:?}: no longer told of the link of {name:?}: {returned}");
            }
        }
    }

    /// To be called for each [`ethdev::Event::Destroy`]. A VF's port that failsafe lets go of is kept from being
    /// released twice. [`Mends::settle`] has to follow, once the callback is through that lets it go.
    pub fn port_goes(&self, port: PortNumber, now: Instant) {
        self.forget_link(port);
        // On the interrupt thread failsafe lets go of a VF; elsewhere, or while we close it there, somebody closes the failsafe
        // port, which releases the VF's once, and may be removing its device already: that is freed next.
        if CLOSING.get() {
            return;
        }
        if alarm::on_interrupt_thread() {
            // Once more, as the application may have been starting the failsafe port when the device was taken away.
            self.device_removed(port);
            let lent = self.record().lent.clone();
            let hide = |(function, holder)| Hidden::take(port, function, self.device_of(function)?, holder);
            if let Some(hidden) = lent.into_iter().find_map(hide) {
                self.record().hidden.push(hidden);
            }
        } else if ethdev::may_be_owned_by(port, OWNER) {
            self.record().keep_quiet(now);
        }
    }

    /// Hot-removes the devices that failsafe is through with. Does nothing while it is quiet.
    pub fn settle(&self, _: &OnInterruptThread, now: Instant) {
        self.remove_hidden(now);
    }

    /// Tells whether all devices that failsafe is through with were removed.
    pub fn are_settled(&self) -> bool {
        self.record().hidden.is_empty()
    }

    /// As [`Mends::settle`], for a thread that may go on to clean up the bus of such a device.
    pub fn settle_alone(&self, _: &Parked, now: Instant) {
        self.remove_hidden(now);
    }

    /// While the interrupt thread is in no callback of failsafe's.
    fn remove_hidden(&self, now: Instant) {
        let hidden = {
            let mut record = self.record();
            if record.is_quiet(now) {
                return;
            }
            std::mem::take(&mut record.hidden)
        };
        for mut device in hidden {
            forget_addresses(&device.holder);
            let Err(error) = device.remove() else { continue };
            // Such as a secondary that ends and does not answer. As long as it is hidden nobody attaches the VF.
            if !std::mem::replace(&mut device.refused, true) {
                warn!("cannot remove the device of a VF that went: {error}; trying again");
            }
            self.record().hidden.push(device);
        }
    }

    /// Tells whether DPDK is to be left alone about PCI functions: neither asked nor told to attach or detach one.
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.record().is_quiet(now)
    }

    /// Tells who sits on a PCI function, which failsafe does for as long as its device is hidden. `None` while it is
    /// quiet.
    pub fn occupant(&self, function: PciAddr, now: Instant) -> Option<Occupant> {
        {
            let record = self.record();
            if record.is_quiet(now) {
                return None;
            }
            if record.hidden.iter().any(|device| device.address == function) {
                return Some(Occupant::Busy { by: Some(OWNER.to_string_lossy().into_owned()) });
            }
        }
        Some(ethdev::occupant(function))
    }
}

/// Name under which failsafe owns its sub-devices (`drivers/net/failsafe/failsafe_private.h`, `FAILSAFE_OWNER_NAME`).
const OWNER: &CStr = c"Fail-safe";

/// Tells whether a failsafe port has what sits on a PCI function.
pub fn has(occupant: &Occupant) -> bool {
    matches!(occupant, Occupant::Busy { by: Some(by) } if by.as_bytes() == OWNER.to_bytes())
}

/// The burst functions of a failsafe port that check each sub-device before they call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SafeBursts {
    receive: ethdev::Burst,
    transmit: ethdev::Burst,
}

// SAFETY: addresses of functions, which every thread may call.
unsafe impl Send for SafeBursts {}

impl SafeBursts {
    /// Notes those of a failsafe port that was just made: it starts with them (`fs_eth_dev_create`). `None` when the
    /// application has started it meanwhile, which it may do as soon as it hears of the port: these may be the others.
    fn of(name: &CStr) -> Option<Self> {
        let port = ethdev::find(name)?;
        if ethdev::is_started(port)? {
            return None;
        }
        // SAFETY: a NUL-terminated string.
        let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
        // SAFETY: null, or a port that lives; its struct begins with these two, 22.11 to 26.07 (tests/layout.c).
        let bursts = unsafe { device.as_ref() }?;
        let safe = Self { receive: bursts.rx_pkt_burst, transmit: bursts.tx_pkt_burst };
        (!ethdev::is_started(port)?).then_some(safe)
    }

    /// Has applications that poll the port call these, if it is started, and stays away from one that is stopped or
    /// started at this moment. Returns whether others may be under way.
    fn install(self, port: PortNumber) -> bool {
        let (Some(bursts), Some(idle)) = (ethdev::bursts(port), ethdev::idle_bursts()) else { return false };
        let mut changed = false;
        for (slot, safe) in bursts.into_iter().zip([self.receive, self.transmit]) {
            let current = slot.load(Ordering::Relaxed);
            if !idle.contains(&current) && current != safe {
                changed |= slot.compare_exchange(current, safe, Ordering::Release, Ordering::Relaxed).is_ok();
            }
        }
        changed
    }
}

/// A function of failsafe's that has one of ours in its place.
struct Replaced(AtomicPtr<c_void>);

impl Replaced {
    const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Puts ours into its place in a table.
    fn by(&self, ours: *mut c_void, functions: &mut [Function], place: u32) {
        if let Some(slot) = functions.get_mut(place as usize) {
            self.0.store(slot.0, Ordering::Release);
            *slot = Function(ours);
        }
    }

    /// Returns failsafe's own, `None` when it has none.
    fn own(&self) -> Option<*mut c_void> {
        Some(self.0.load(Ordering::Acquire)).filter(|own| !own.is_null())
    }
}

thread_local! {
    /// This thread closes a failsafe port.
    static CLOSING: Cell<bool> = const { Cell::new(false) };
}

static CLOSE: Replaced = Replaced::new();
static LINK_UPDATE: Replaced = Replaced::new();

/// Has the interrupt thread stand still whenever this failsafe port is closed, by whomever, and its application hear when
/// its link changes.
fn replace_functions(name: &CStr) {
    static TABLES: Copies = Copies::new();
    // SAFETY: a NUL-terminated string.
    let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
    if device.is_null() {
        return;
    }
    let Some(table) = ops::of(device, name) else { return };
    TABLES.give(table, |copy| {
        CLOSE.by(close as *mut c_void, copy, sys::NETVSC_OP_DEV_CLOSE);
        LINK_UPDATE.by(update_link as *mut c_void, copy, sys::NETVSC_OP_LINK_UPDATE);
    });
}

/// `dev_close`.
///
/// # Safety
/// As ethdev calls it, for a port that was given to [`replace_functions`].
unsafe extern "C" fn close(device: *mut sys::netvsc_ethdev_head) -> c_int {
    type Close = unsafe extern "C" fn(*mut sys::netvsc_ethdev_head) -> c_int;
    guard("closing", -libc::EFAULT, || {
        let _parked = alarm::park_interrupt_thread(Duration::ZERO);
        let Some(own) = CLOSE.own() else { return -libc::ENODEV };
        // SAFETY: failsafe's function of that type.
        let own = unsafe { std::mem::transmute::<*mut c_void, Close>(own) };
        CLOSING.set(alarm::on_interrupt_thread());
        // SAFETY: what this was called with.
        let returned = unsafe { own(device) };
        CLOSING.set(false);
        returned
    })
}

/// `link_update`: not 0 when something is new.
///
/// # Safety
/// As [`close`].
unsafe extern "C" fn update_link(device: *mut sys::netvsc_ethdev_head, wait: c_int) -> c_int {
    type LinkUpdate = unsafe extern "C" fn(*mut sys::netvsc_ethdev_head, c_int) -> c_int;
    let Some(own) = LINK_UPDATE.own() else { return 0 };
    // SAFETY: failsafe's function of that type.
    let own = unsafe { std::mem::transmute::<*mut c_void, LinkUpdate>(own) };
    // SAFETY: what this was called with.
    c_int::from(unsafe { own(device, wait) } == 0)
}

/// Has a failsafe port forget the addresses of sub-devices that it does not have. While the interrupt thread is in no
/// callback of failsafe's.
fn forget_addresses(failsafe: &CStr) {
    // SAFETY: a NUL-terminated string.
    let port = unsafe { sys::rte_eth_dev_allocated(failsafe.as_ptr()) };
    if port.is_null() {
        return;
    }
    for sub in ops::subs_of(port) {
        // SAFETY: a sub-device of a port that lives.
        let state = unsafe { &raw const (*sub).state };
        // SAFETY: as above.
        if unsafe { state.read() } == sys::NETVSC_FAILSAFE_UNDEFINED as c_int {
            // SAFETY: as above.
            let name = unsafe { &raw mut (*sub).devargs.name };
            // SAFETY: an array that is not empty, which failsafe writes anew before it reads it (`fs_parse_device`).
            unsafe { name.cast::<c_char>().write(0) };
        }
    }
}

/// The device of a VF whose port failsafe is about to release twice, made to look as if no driver had it.
#[derive(Debug)]
struct Hidden {
    address: PciAddr,
    /// The failsafe port.
    holder: CString,
    device: Device,
    driver: *const c_void,
    /// Whether it could not be removed.
    refused: bool,
}

// SAFETY: the device belongs to EAL, and is looked up again before it is touched.
unsafe impl Send for Hidden {}

impl Hidden {
    /// Hides the device of `port` if that sits on the PCI function at `address`. Only for the event of a port that goes,
    /// on the interrupt thread.
    fn take(port: PortNumber, address: PciAddr, device: Device, holder: CString) -> Option<Self> {
        // Whoever else closes the port, such as a secondary or the application on this thread, releases it once.
        if !device.has(port) || !ethdev::may_be_owned_by(port, OWNER) {
            return None;
        }
        let head = device.as_ptr().cast::<sys::netvsc_device_head>();
        // SAFETY: the device of a port that still exists; its struct begins so, 22.11 to 26.07 (tests/layout.c).
        let driver = unsafe { &raw mut (*head).driver };
        // SAFETY: as above; on this thread nobody else looks at it meanwhile.
        let driver = unsafe { driver.replace(std::ptr::null()) };
        if driver.is_null() {
            return None;
        }
        Some(Self { address, holder, device, driver, refused: false })
    }

    /// Shows the device again and hot-removes it, once the callback that released its port is through: on the interrupt
    /// thread, or while that one is parked.
    ///
    /// # Errors
    /// What `rte_dev_remove` returned; the device is hidden again.
    fn remove(&self) -> Result<(), Errno> {
        let _turn = Turn::take();
        // Somebody may have removed it all the same.
        if !self.device.is_on_bus() {
            return Ok(());
        }
        let head = self.device.as_ptr().cast::<sys::netvsc_device_head>();
        // SAFETY: a live device of EAL's, as just seen.
        let driver = unsafe { &raw mut (*head).driver };
        // SAFETY: as above.
        if !unsafe { driver.read() }.is_null() {
            return Ok(());
        }
        // Those of other NICs, which its PMD may leave behind (`rte_eth_dev_pci_generic_remove`).
        let (ours, ports) = (Owner::ours()?, ethdev::ports_on(self.address)?);
        // SAFETY: as above.
        unsafe { driver.write(self.driver) };
        for port in ports.into_iter().filter(|&port| ours.holds(port) == Ok(true)) {
            if let Err(error) = ethdev::stop_and_close(port) {
                debug!("port {port} of {} is not closed: {error}", self.address);
            }
        }
        // SAFETY: a live device of EAL's, probed by that driver.
        let returned = unsafe { sys::rte_dev_remove(self.device.as_ptr()) };
        if returned < 0 && self.device.is_on_bus() {
            // SAFETY: a live device of EAL's, as just seen.
            unsafe { driver.write(std::ptr::null()) };
        }
        Errno::check(returned).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &CStr = c"net_failsafe_vsc0";
    const TWO: &CStr = c"net_failsafe_vsc1";

    fn function(bus: u8) -> PciAddr {
        format!("0000:{bus:02x}:00.0").parse().unwrap()
    }

    fn lent_to(record: &Record, failsafe: &CStr) -> Vec<PciAddr> {
        let held = record.lent.iter().filter(|(_, holder)| holder.as_c_str() == failsafe);
        held.map(|&(function, _)| function).collect()
    }

    #[test]
    fn a_function_is_lent_to_the_port_that_it_was_posted_to_last() {
        let mut record = Record::new();
        record.lend(function(1), ONE);
        record.lend(function(2), ONE);
        assert_eq!(lent_to(&record, ONE), [function(1), function(2)], "it may not have let go of the first");
        record.lend(function(1), TWO);
        assert_eq!(lent_to(&record, ONE), [function(2)]);
        assert_eq!(lent_to(&record, TWO), [function(1)]);
        record.closed(TWO);
        assert_eq!(lent_to(&record, ONE), [function(2)]);
        assert_eq!(lent_to(&record, TWO), []);
    }

    #[test]
    fn a_fallback_is_known_until_its_port_is_closed() {
        let mut record = Record::new();
        record.expect(c"net_tap_vsc0", ONE);
        record.expect(c"net_af_packet_vsc0", ONE);
        record.expect(c"net_tap_vsc1", TWO);
        assert_eq!(record.fallbacks.len(), 2, "one for each port");
        record.closed(ONE);
        assert_eq!(record.fallbacks, [(c"net_tap_vsc1".to_owned(), TWO.to_owned())]);
    }

    #[test]
    fn quiet_ends_by_itself_and_when_a_port_is_closed() {
        let mut record = Record::new();
        let now = Instant::now();
        assert!(!record.is_quiet(now));
        record.keep_quiet(now);
        assert!(record.is_quiet(now + QUIET / 2));
        assert!(!record.is_quiet(now + QUIET));
        record.closed(ONE);
        assert!(!record.is_quiet(now));
    }
}
