// SPDX-License-Identifier: BSD-3-Clause
//! Ethernet ports, as DPDK numbers and names them.

// UNSAFETY: calls DPDK with numbers and strings, and reads what it writes into places of ours.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Errno, guard, sys};
use crate::address::{MacAddr, PciAddr};

/// Number of an Ethernet port. It may be given to another port as soon as its port is gone.
pub type PortNumber = u16;

/// Returns the number of the port with this name.
// Not inlined, as that would be into many places.
#[inline(never)]
pub fn find(name: &CStr) -> Option<PortNumber> {
    let mut number = 0;
    // SAFETY: a NUL-terminated string and a place for the number.
    let returned = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut number) };
    (returned == 0).then_some(number)
}

/// Returns the name of a port, `None` when there is none of this number.
pub(super) fn name_of(port: PortNumber) -> Option<CString> {
    let mut name: [c_char; sys::RTE_ETH_NAME_MAX_LEN as usize] = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: a buffer of the size that rte_eth_dev_get_name_by_port asks for.
    let returned = unsafe { sys::rte_eth_dev_get_name_by_port(port, name.as_mut_ptr()) };
    if returned != 0 {
        return None;
    }
    // SAFETY: NUL-terminated by the call above, as it succeeded.
    unsafe { super::copy_cstr(name.as_ptr()) }
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
        names.extend(name_of(port));
        number = port.saturating_add(1);
    }
}

/// How many ports a process may have.
pub const MAX: u32 = sys::RTE_MAX_ETHPORTS;

/// How many queues are configured of the port with this name, to receive and to send; `None` when there is no such port.
///
/// On any thread: its driver is not asked. The memory stays when the port goes, while there is any [`Owner`].
pub fn queues(name: &CStr) -> Option<[u16; 2]> {
    // SAFETY: a NUL-terminated string.
    let device = unsafe { sys::rte_eth_dev_allocated(name.as_ptr()) };
    if device.is_null() {
        return None;
    }
    let data = super::ops::data_of(device)?;
    // SAFETY: the beginning of what all processes share of a port (tests/layout.c).
    let counts = unsafe { &raw const (*data).queue_counts };
    // SAFETY: as above; another thread may be changing it.
    Some(unsafe { counts.read_volatile() })
}

/// Tells whether there are so many that no other can be made.
pub fn all_taken() -> bool {
    names().len() >= MAX as usize
}

/// Who sits on a PCI function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// No Ethernet port, and no driver.
    Nobody,
    /// Ports that nobody owns, of which failsafe may take over one.
    Unowned {
        /// MAC of the one that failsafe would take ([`first_on`]).
        mac: Option<MacAddr>,
    },
    /// Ports that nobody owns but perhaps we, of which somebody has started the one that failsafe would take: failsafe
    /// could not configure it (`EBUSY`), and would fail with it.
    Started {
        /// MAC of that one.
        mac: Option<MacAddr>,
        /// Its number.
        port: PortNumber,
    },
    /// Ports that [`Owner`] holds for us, some of them at least, and nobody else: they are not handed over yet.
    Ours {
        /// MAC of the one that failsafe will take once they are released.
        mac: Option<MacAddr>,
    },
    /// A port that somebody else owns, such as a failsafe port; or a driver whose ports are gone and that is about to
    /// go, or never made one.
    Busy {
        /// The name of that owner.
        by: Option<String>,
    },
    /// DPDK does not tell: it has no memory for the answer, or a port goes at this moment.
    Untold(Errno),
}

/// Tells who sits on the PCI function at `address`. Without a PCI bus driver nobody can.
pub fn occupant(address: PciAddr) -> Occupant {
    ask_for_occupant(address).unwrap_or_else(Occupant::Untold)
}

fn ask_for_occupant(address: PciAddr) -> Result<Occupant, Errno> {
    // The cheaper question first, as a VF that has just appeared is nobody's.
    if find_probed(address).is_null() {
        // Most PMDs call a port as its device, and to find that takes no memory.
        let is_hidden = CString::new(address.to_string()).is_ok_and(|name| find(&name).is_some());
        return if is_hidden { Err(Errno(libc::ENOMEM)) } else { Ok(Occupant::Nobody) };
    }
    let (ports, ours) = (on_function(address)?, OWNER.get().copied());
    let owners = ports.iter().filter_map(|&(port, _)| owner(port).transpose()).collect::<Result<Vec<_>, _>>()?;
    if let Some(other) = owners.iter().find(|owner| Some(owner.id) != ours) {
        return Ok(Occupant::Busy { by: Some(owner_text(other)) });
    }
    let first = first_named(&ports, address);
    let mac = first.map(mac_of).transpose()?;
    let started = first.filter(|&port| is_started(port) == Some(true));
    if let Some(port) = started {
        return Ok(Occupant::Started { mac, port });
    }
    Ok(match (ports.is_empty(), owners.is_empty()) {
        (true, _) => Occupant::Busy { by: None },
        (_, true) => Occupant::Unowned { mac },
        (_, false) => Occupant::Ours { mac },
    })
}

/// Lists the ports on the PCI function at `address`, whoever owns them, in the order of their numbers.
///
/// # Errors
/// `ENOMEM`.
pub fn ports_on(address: PciAddr) -> Result<Vec<PortNumber>, Errno> {
    Ok(on_function(address)?.into_iter().map(|(port, _)| port).collect())
}

/// Finds the port that a failsafe would take over which reads `address`: the first of those whose device's name begins
/// so (`fs_ethdev_portid_get`). That name is the address; but before 22.11.8, 23.11.4 and 24.11.2 it is what the user
/// wrote after `-a`, such as `01:00.0`, and then failsafe finds none.
///
/// # Errors
/// `ENOMEM`.
pub fn first_on(address: PciAddr) -> Result<Option<PortNumber>, Errno> {
    Ok(first_named(&on_function(address)?, address))
}

fn first_named(ports: &[(PortNumber, *mut sys::rte_device)], address: PciAddr) -> Option<PortNumber> {
    let beginning = address.to_string();
    let is_named_so = |device: *mut sys::rte_device| {
        // SAFETY: the device of a port that the iterator has just found.
        let name = unsafe { sys::rte_dev_name(device) };
        // SAFETY: the name of a live device, a string that changes only when the bus is scanned.
        unsafe { super::copy_cstr(name) }.is_some_and(|name| name.to_bytes().starts_with(beginning.as_bytes()))
    };
    ports.iter().find(|&&(_, device)| is_named_so(device)).map(|&(port, _)| port)
}

/// Returns the MAC of a port. Every PMD of an Ethernet device sets one before its port is to be found.
fn mac_of(port: PortNumber) -> Result<MacAddr, Errno> {
    let mut mac = sys::rte_ether_addr::default();
    // SAFETY: takes any port number, and a place for the address.
    let returned = unsafe { sys::rte_eth_macaddr_get(port, &raw mut mac) };
    Errno::check(returned).map(|_| MacAddr(mac.addr_bytes))
}

/// As [`find_device`], but null as well when no driver has the device.
pub(super) fn find_probed(address: PciAddr) -> *mut sys::rte_device {
    let device = find_device(address);
    // SAFETY: null is told apart first; else a device of the bus.
    if device.is_null() || unsafe { sys::rte_dev_is_probed(device) } == 0 { ptr::null_mut() } else { device }
}

/// Finds the device at a PCI address, null when the bus has none, or when there is no memory to look for it.
pub(super) fn find_device(address: PciAddr) -> *mut sys::rte_device {
    let Ok(filter) = CString::new(format!("bus=pci,addr={address}")) else { return ptr::null_mut() };
    let bus = super::vdev::pci_bus();
    if bus.is_null() {
        return ptr::null_mut();
    }
    // As rte_dev_iterator_init makes it, which reads the text to find the bus and takes as long again as the search.
    let find = |_| {
        let mut iterator = sys::rte_dev_iterator { bus_str: filter.as_ptr(), bus, ..Default::default() };
        // SAFETY: an iterator over a bus of the list, whose string lives as long; it holds no memory of its own.
        unsafe { sys::rte_dev_iterator_next(&raw mut iterator) }
    };
    (0..ITERATOR_TRIES).map(find).find(|device| !device.is_null()).unwrap_or(ptr::null_mut())
}

/// A device of EAL's, to know its ports by. It may be gone by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device(*mut sys::rte_device);

// SAFETY: nobody reads through the pointer.
unsafe impl Send for Device {}

impl Device {
    /// The one at a PCI address. On the thread that hot-plugs: the list of the bus has no lock.
    pub(super) fn at(address: PciAddr) -> Self {
        Self(find_device(address))
    }

    /// Tells whether one was found.
    pub(super) fn is_found(self) -> bool {
        !self.0.is_null()
    }

    /// Tells, on any thread, whether `port` is the first on it, which is the one that failsafe would take.
    pub(super) fn has_first(self, port: PortNumber) -> bool {
        self.next_port(0) == Some(port)
    }

    /// Tells, on any thread and without memory, whether `port` sits on it.
    pub(super) fn has(self, port: PortNumber) -> bool {
        self.next_port(port) == Some(port)
    }

    fn next_port(self, from: PortNumber) -> Option<PortNumber> {
        // SAFETY: compares the pointer with those of the ports.
        let port = unsafe { sys::rte_eth_find_next_of(from, self.0) };
        self.is_found().then_some(port)
    }

    /// The device itself, to be read while one of its ports is there.
    pub(super) fn as_ptr(self) -> *mut sys::rte_device {
        self.0
    }

    /// Tells, without memory, whether a bus still has it. On the thread that hot-plugs.
    pub(super) fn is_on_bus(self) -> bool {
        // SAFETY: compares the pointer with those of the devices.
        let bus = unsafe { sys::rte_bus_find_by_device(self.0) };
        !bus.is_null()
    }
}

/// Tells whether `port` sits on the PCI function at `address`.
pub fn sits_on(port: PortNumber, address: PciAddr) -> bool {
    on_function(address).is_ok_and(|ports| ports.iter().any(|&(number, _)| number == port))
}

/// How often an iterator that DPDK has no memory for is asked for.
const ITERATOR_TRIES: u32 = 3;

/// Lists the ports on the PCI function at `address`, each with its device.
// Not inlined, as that would be into many places.
#[inline(never)]
fn on_function(address: PciAddr) -> Result<Vec<(PortNumber, *mut sys::rte_device)>, Errno> {
    let mut ports = Vec::new();
    let Ok(device) = CString::new(format!("pci:{address}")) else { return Ok(ports) };
    if !super::vdev::has_pci_bus() {
        return Ok(ports);
    }
    let mut iterator = sys::rte_dev_iterator::default();
    // SAFETY: a place for the iterator and a NUL-terminated string that lives as long as the iterator.
    let mut begin = || unsafe { sys::rte_eth_iterator_init(&raw mut iterator, device.as_ptr()) };
    if (0..ITERATOR_TRIES).all(|_| begin() != 0) {
        return Err(Errno(libc::ENOMEM));
    }
    loop {
        // SAFETY: initialized above and not run to its end; it then frees what it holds and returns RTE_MAX_ETHPORTS.
        let port = unsafe { sys::rte_eth_iterator_next(&raw mut iterator) };
        if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
            return Ok(ports);
        }
        ports.push((port, iterator.device));
    }
}

/// Tells who owns `port`, for a line of the log.
pub fn owner_name(port: PortNumber) -> Option<String> {
    owner(port).ok().flatten().as_ref().map(owner_text)
}

/// Tells whether the owner of `port` has this name, or may have it.
pub fn may_be_owned_by(port: PortNumber, name: &CStr) -> bool {
    owner(port).map_or(true, |owner| owner.is_some_and(|owner| owner_cstr(&owner).as_deref() == Some(name)))
}

/// Returns the owner of `port`, `None` when nobody owns it.
///
/// # Errors
/// `ENODEV` when the port goes at this moment; since 24.03 `ENOMEM`.
// Not inlined, as that would be into many places.
#[inline(never)]
fn owner(port: PortNumber) -> Result<Option<sys::rte_eth_dev_owner>, Errno> {
    if !is_valid(port) {
        return Ok(None);
    }
    let mut owner = sys::rte_eth_dev_owner::default();
    // SAFETY: a port that exists, and a place for the owner.
    Errno::check(unsafe { sys::rte_eth_dev_owner_get(port, &raw mut owner) })?;
    Ok((owner.id != u64::from(sys::RTE_ETH_DEV_NO_OWNER)).then_some(owner))
}

fn owner_cstr(owner: &sys::rte_eth_dev_owner) -> Option<CString> {
    // SAFETY: an array that rte_eth_dev_owner_get has NUL-terminated.
    unsafe { super::copy_cstr(owner.name.as_ptr()) }
}

fn owner_text(owner: &sys::rte_eth_dev_owner) -> String {
    owner_cstr(owner).unwrap_or_default().to_string_lossy().into_owned()
}

/// Tells whether a port exists. What asks for its owner reads through a null pointer, up to 22.11, when there never was
/// one of this number (`eth_dev_is_allocated`).
fn is_valid(port: PortNumber) -> bool {
    // SAFETY: takes any port number.
    unsafe { sys::rte_eth_dev_is_valid_port(port) != 0 }
}

/// A burst function, kept as a pointer: it is only copied.
pub(super) type Burst = *mut c_void;

/// The functions of a port that is not started: the last port is never used in practice.
pub(super) fn idle_bursts() -> Option<[Burst; 2]> {
    let slots = bursts(sys::RTE_MAX_ETHPORTS.saturating_sub(1) as PortNumber)?;
    Some(slots.map(|slot| slot.load(Ordering::Relaxed)))
}

/// Tells whether applications that poll the port reach its driver.
pub(crate) fn is_started(port: PortNumber) -> Option<bool> {
    let [receive, _] = bursts(port)?;
    Some(!idle_bursts()?.contains(&receive.load(Ordering::Acquire)))
}

/// The places from which applications take a port's burst functions.
pub(super) fn bursts(port: PortNumber) -> Option<[&'static AtomicPtr<c_void>; 2]> {
    if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
        return None;
    }
    let table = (&raw mut sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>();
    // SAFETY: the table has RTE_MAX_ETHPORTS entries.
    let entry = unsafe { table.add(usize::from(port)) };
    // SAFETY: the entry lives for ever.
    let receive = unsafe { &raw mut (*entry).rx_pkt_burst };
    // SAFETY: as above.
    let transmit = unsafe { &raw mut (*entry).tx_pkt_burst };
    // SAFETY: an aligned pointer to a function, which others read and write in one access.
    let receive = unsafe { AtomicPtr::from_ptr(receive.cast()) };
    // SAFETY: as above.
    let transmit = unsafe { AtomicPtr::from_ptr(transmit.cast()) };
    Some([receive, transmit])
}

/// Name under which the driver owns ports.
const OWNER_NAME: &CStr = c"net_vdev_netvsc";

/// Our id among the owners of ports, once there is one.
static OWNER: OnceLock<u64> = OnceLock::new();

/// We as the owner of ports: those of a VF that we have attached, until it is handed to failsafe. A port that somebody
/// owns is not found by an application that looks for free ones (`RTE_ETH_FOREACH_DEV`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    id: u64,
}

impl Owner {
    /// Returns the one of this process, made at the first call.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn ours() -> Result<Self, Errno> {
        if let Some(&id) = OWNER.get() {
            return Ok(Self { id });
        }
        let mut id = 0;
        // SAFETY: a place for the id.
        let returned = unsafe { sys::rte_eth_dev_owner_new(&raw mut id) };
        Errno::check(returned)?;
        // Of two threads that come here at once one has made an id in vain: they are 64 bits wide.
        Ok(Self { id: *OWNER.get_or_init(|| id) })
    }

    /// Tells whether we own `port`.
    ///
    /// # Errors
    /// When DPDK does not tell.
    pub fn holds(self, port: PortNumber) -> Result<bool, Errno> {
        Ok(owner(port)?.is_some_and(|owner| owner.id == self.id))
    }

    /// Takes a port that nobody owns, such as one that was released and that failsafe has not taken.
    ///
    /// # Errors
    /// `EPERM` when somebody owns it, `ENODEV` when there is no such port.
    pub fn take(self, port: PortNumber) -> Result<(), Errno> {
        if !is_valid(port) {
            return Err(Errno(libc::ENODEV));
        }
        // SAFETY: a port that exists.
        unsafe { self.take_allocated(port) }
    }

    /// As [`Owner::take`], also for a port that is about to exist, and that [`is_valid`] does not know of yet.
    ///
    /// # Safety
    /// The port is allocated: it exists, or it is that of [`Event::New`].
    pub(super) unsafe fn take_allocated(self, port: PortNumber) -> Result<(), Errno> {
        let mut owner = sys::rte_eth_dev_owner { id: self.id, ..Default::default() };
        for (to, from) in owner.name.iter_mut().zip(OWNER_NAME.to_bytes()) {
            *to = c_char::from_ne_bytes([*from]);
        }
        // SAFETY: an allocated port by the caller's duty; an owner with a name that ends in a NUL, which is copied.
        let returned = unsafe { sys::rte_eth_dev_owner_set(port, &raw const owner) };
        Errno::check(returned).map(|_| ())
    }

    /// Lets go of a port, which anybody may then take.
    ///
    /// # Errors
    /// `EPERM` when it is not ours.
    pub fn release(self, port: PortNumber) -> Result<(), Errno> {
        if !self.holds(port)? {
            return Err(Errno(libc::EPERM));
        }
        // SAFETY: a port that exists.
        let returned = unsafe { sys::rte_eth_dev_owner_unset(port, self.id) };
        Errno::check(returned).map(|_| ())
    }
}

/// `RTE_ETH_DEV_INTR_LSC` and `RTE_ETH_DEV_INTR_RMV`, which are macros of macros: a port tells of its link, of its removal.
const INTR_LSC: u32 = 1 << 1;
const INTR_RMV: u32 = 1 << 3;

/// Configures a port as failsafe configures a sub-device of its port `failsafe` (`fs_dev_configure`). Does nothing while
/// that one is not configured.
///
/// # Errors
/// What its driver returned, or `EINVAL` when it lacks what the failsafe port was configured with.
pub fn configure_like(port: PortNumber, failsafe: PortNumber) -> Result<(), Errno> {
    let (mut model, mut own) = (sys::rte_eth_dev_info::default(), sys::rte_eth_dev_info::default());
    // SAFETY: takes any port number, and a place for the answer.
    Errno::check(unsafe { sys::rte_eth_dev_info_get(failsafe, &raw mut model) })?;
    if model.nb_rx_queues == 0 && model.nb_tx_queues == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    Errno::check(unsafe { sys::rte_eth_dev_info_get(port, &raw mut own) })?;
    let mut conf = sys::rte_eth_conf::default();
    // SAFETY: as above.
    Errno::check(unsafe { sys::rte_eth_dev_conf_get(failsafe, &raw mut conf) })?;
    // SAFETY: null, or a place that lives as long as the port.
    let flags = unsafe { own.dev_flags.as_ref() }.copied().unwrap_or_default();
    let has = |flag: u32| u32::from(flags & flag != 0);
    conf.intr_conf.set_lsc(conf.intr_conf.lsc() & has(INTR_LSC));
    conf.intr_conf.set_rmv(has(INTR_RMV));
    let (receive, transmit) = (model.nb_rx_queues, model.nb_tx_queues);
    // SAFETY: takes any port number, and a configuration that it copies.
    Errno::check(unsafe { sys::rte_eth_dev_configure(port, receive, transmit, &raw const conf) }).map(|_| ())
}

/// Returns how many queues a port can have, to receive.
pub fn most_queues(port: PortNumber) -> Option<u16> {
    let mut infos = sys::rte_eth_dev_info::default();
    // SAFETY: takes any port number, and a place for the answer.
    let returned = unsafe { sys::rte_eth_dev_info_get(port, &raw mut infos) };
    (returned == 0).then_some(infos.max_rx_queues)
}

/// How often a port is told to stop and to close that does not at first.
const CLOSE_TRIES: u32 = 3;

/// Stops and closes a port, which is all that its owner may do with it.
///
/// # Errors
/// What its driver returned. The port may be gone all the same: look for its name.
pub fn stop_and_close(port: PortNumber) -> Result<(), Errno> {
    let mut outcome = Ok(());
    for _ in 0..CLOSE_TRIES {
        // SAFETY: takes any port number; does nothing to a stopped port.
        let stopped = unsafe { sys::rte_eth_dev_stop(port) };
        // SAFETY: takes any port number.
        let closed = unsafe { sys::rte_eth_dev_close(port) };
        outcome = Errno::check(stopped).and_then(|_| Errno::check(closed)).map(|_| ());
        if outcome.is_ok() || !is_valid(port) {
            break;
        }
    }
    outcome
}

/// What happens to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is about to exist (`RTE_ETH_EVENT_NEW`), on the thread that probes its device: it is allocated, and can be
    /// owned, but nothing that looks for ports finds it (`rte_eth_dev_probing_finish`).
    New,
    /// It is about to go (`RTE_ETH_EVENT_DESTROY`), on the thread that closes it; it still exists
    /// (`rte_eth_dev_release_port`).
    Destroy,
    /// Its device was taken away (`RTE_ETH_EVENT_INTR_RMV`), mostly on the interrupt thread; it still exists.
    Removal,
}

impl Event {
    fn kind(self) -> sys::rte_eth_event_type {
        match self {
            Self::New => sys::RTE_ETH_EVENT_NEW,
            Self::Destroy => sys::RTE_ETH_EVENT_DESTROY,
            Self::Removal => sys::RTE_ETH_EVENT_INTR_RMV,
        }
    }
}

/// What is called when something happens to a port. It may be unsafe to call with any number but that of an allocated
/// port, which that of an event is.
pub type Callback = unsafe fn(PortNumber);

/// Has `callback` called whenever `event` happens to any port, before those who register later.
///
/// # Errors
/// `ENOMEM`.
pub fn watch(event: Event, callback: Callback) -> Result<(), Errno> {
    let argument = callback as *mut c_void;
    // SAFETY: `notify` takes a `Callback` as its argument.
    let returned = unsafe { sys::rte_eth_dev_callback_register(ALL, event.kind(), Some(notify), argument) };
    Errno::check(returned).map(|_| ())
}

/// Ends what [`watch`] began.
///
/// # Errors
/// `EAGAIN` while the callback is running.
pub fn unwatch(event: Event, callback: Callback) -> Result<(), Errno> {
    let argument = callback as *mut c_void;
    // SAFETY: compares function and argument, calls nothing.
    let returned = unsafe { sys::rte_eth_dev_callback_unregister(ALL, event.kind(), Some(notify), argument) };
    Errno::check(returned).map(|_| ())
}

const ALL: PortNumber = sys::RTE_ETH_ALL as PortNumber;

/// The thunk of [`watch`].
///
/// # Safety
/// `callback` is a [`Callback`] cast to a pointer, and `port` is allocated.
unsafe extern "C" fn notify(
    port: PortNumber,
    _: sys::rte_eth_event_type,
    callback: *mut c_void,
    _: *mut c_void,
) -> c_int {
    // SAFETY: a `Callback` by the caller's duty.
    let callback = unsafe { std::mem::transmute::<*mut c_void, Callback>(callback) };
    // SAFETY: an allocated port by the caller's duty.
    guard("port event", (), || unsafe { callback(port) });
    0
}
