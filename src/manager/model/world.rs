// SPDX-License-Identifier: BSD-3-Clause
//! The world around the driver: links, sysfs and the kernel's events; PCI functions and their ports in EAL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CString;

use crate::address::{IfIndex, IfName, MacAddr, PciAddr};
use crate::args::Selector;
use crate::eal::Errno;
use crate::eal::ethdev::Occupant;
use crate::host::{Drained, Dump, LinkEvent};
use crate::link::{KernelDriver, Link, LinkTable, Parent};
use crate::port::PortId;

use super::failsafe::Failsafe;

/// Events that the kernel keeps for us; the real queue is longer, and overruns as well.
const QUEUE_MAX: usize = 6;

/// As `host::events::DRAIN_MAX_DATAGRAMS`, but small.
const DRAIN_MAX: usize = 4;

/// Who owns a port in EAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Ours,
    Failsafe(PortId),
    Application,
}

/// The MAC of a netdevice that is no port's.
pub(super) const OTHER: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);

/// A port on a PCI function.
#[derive(Debug)]
pub(super) struct EthPort {
    pub(super) owner: Owner,
    pub(super) mac: MacAddr,
    /// Somebody has configured it, and so hears of its removal (`intr_conf.rmv`).
    pub(super) configured: bool,
}

/// What the PMD of a function does when it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pmd {
    Makes,
    Fails,
    FailsOnce,
    NoPort,
    OtherMac,
    /// Makes another netdevice's port as well, the VF's first.
    Two,
    /// The other's first.
    OtherFirst,
}

/// A PCI function, and the device that EAL has of it.
#[derive(Debug)]
pub(super) struct Function {
    /// The hardware is gone. EAL's device stays until it is removed.
    pub(super) gone: bool,
    pub(super) mac: MacAddr,
    pub(super) driver: KernelDriver,
    pub(super) verbs: bool,
    pub(super) pmd: Pmd,
    /// A PMD has it; with the ports that it made, the lowest number first.
    pub(super) device: Option<Vec<EthPort>>,
    /// The device is hidden (`eal::failsafe`), and taken away with the next rescan.
    pub(super) hidden: bool,
    /// An application took or closed the port.
    pub(super) meddled: bool,
    /// An application took the port as its own or removed the device, and answers for it until the hardware goes.
    pub(super) taken: bool,
}

impl Function {
    /// The one that failsafe would take.
    pub(super) fn port(&self) -> Option<&EthPort> {
        self.device.as_ref()?.first()
    }

    pub(super) fn port_mut(&mut self) -> Option<&mut EthPort> {
        self.device.as_mut()?.first_mut()
    }

    pub(super) fn ports_mut(&mut self) -> impl Iterator<Item = &mut EthPort> {
        self.device.iter_mut().flatten()
    }

    /// Whether its PMD opens an ibverbs device.
    fn needs_verbs(&self) -> bool {
        self.driver == KernelDriver::Mlx
    }

    /// Whether it gets a port of its own first when it is attached.
    pub(super) fn can_be_attached(&self) -> bool {
        let makes = matches!(self.pmd, Pmd::Makes | Pmd::FailsOnce | Pmd::Two);
        makes && !self.gone && (self.verbs || !self.needs_verbs())
    }
}

/// Everything but the driver.
#[derive(Debug, Default)]
pub(super) struct World {
    links: BTreeMap<IfIndex, Link>,
    next_index: u32,
    /// Links on which something is configured.
    pub(super) configured: BTreeSet<IfIndex>,
    /// Alternative names.
    alternatives: BTreeMap<IfName, IfIndex>,
    /// rtnetlink names no parent devices (before Linux 5.14).
    pub(super) old_kernel: bool,
    /// How often sysfs still tells nothing.
    pub(super) sysfs_fails: u32,
    /// How often the socket of events still fails.
    pub(super) socket_fails: u32,
    /// The link that the next list leaves out, as other links change meanwhile.
    pub(super) list_misses: Option<IfName>,
    /// Each list leaves out some link.
    pub(super) unsteady: bool,
    lists: usize,
    /// How often something changed that a probe looks at.
    pub(super) changes: u64,
    /// The events that are queued for the driver's socket, if it has one.
    queue: Option<VecDeque<LinkEvent>>,
    /// The queue was full: nothing more is queued until it was read empty.
    congested: bool,
    /// The next read says so (`ENOBUFS`).
    told_congested: bool,
    /// The reader knows, and has not come to the end.
    reader_lost: bool,
    pub(super) functions: BTreeMap<PciAddr, Function>,
    pub(super) failsafes: BTreeMap<PortId, Failsafe>,
    /// Virtual devices whose port is closed, and that are on their bus still.
    pub(super) shells: BTreeSet<PortId>,
    /// How often DPDK still refuses to make a port.
    pub(super) refuses: u32,
    /// How often a shell still cannot be removed.
    pub(super) keeps_shell: u32,
}

/// The kernel: links and their events.
impl World {
    pub(super) fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.values().find(|link| link.name == *name)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// All links as they truly are.
    pub(super) fn truth(&self) -> LinkTable {
        let mut table = LinkTable::new();
        table.replace(self.links.values().cloned().collect());
        table
    }

    pub(super) fn add_link(&mut self, name: IfName, mac: MacAddr, parent: Parent) {
        if self.link(&name).is_some() {
            return;
        }
        self.next_index += 1;
        let Some(index) = IfIndex::new(self.next_index) else { return };
        self.links.insert(index, Link::plain(index, name, mac, parent));
        self.tell(index);
    }

    pub(super) fn change_link(&mut self, name: &IfName, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.values_mut().find(|link| link.name == *name) {
            let index = link.index;
            change(link);
            self.tell(index);
        }
    }

    pub(super) fn remove_link(&mut self, name: &IfName) {
        if let Some(index) = self.link(name).map(|link| link.index) {
            self.links.remove(&index);
            self.configured.remove(&index);
            self.alternatives.retain(|_, called| *called != index);
            self.queue_event(LinkEvent::Gone(index));
        }
    }

    /// Gives a link an alternative name (`net/core/rtnetlink.c`, `rtnl_linkprop`).
    pub(super) fn call(&mut self, name: &IfName, alternative: IfName) {
        let free = self.link(&alternative).is_none() && !self.alternatives.contains_key(&alternative);
        if let Some(index) = self.link(name).map(|link| link.index).filter(|_| free) {
            self.alternatives.insert(alternative, index);
            self.tell(index);
        }
    }

    /// The link with a selector's name as an alternative one.
    pub(super) fn alternative(&self, selector: &Selector) -> Option<IfIndex> {
        self.alternatives.get(&IfName::new(selector.name()?)?).copied()
    }

    /// A link as rtnetlink shows it.
    fn shown(&self, link: &Link) -> Link {
        let parent = match link.parent {
            Parent::Pci(address) if !self.old_kernel => Parent::Pci(address),
            Parent::NetVsc if !self.old_kernel => Parent::NetVsc,
            _ => Parent::Unknown,
        };
        Link { parent, ..link.clone() }
    }

    fn tell(&mut self, index: IfIndex) {
        if let Some(link) = self.links.get(&index) {
            let event = LinkEvent::Changed(self.shown(link));
            self.queue_event(event);
        }
    }

    /// net/netlink/af_netlink.c: `netlink_overrun`.
    fn queue_event(&mut self, event: LinkEvent) {
        self.changes += 1;
        let Some(queue) = &mut self.queue else { return };
        if queue.len() < QUEUE_MAX && !self.congested {
            queue.push_back(event);
        } else {
            self.overrun();
        }
    }

    pub(super) fn overrun(&mut self) {
        if self.queue.is_some() && !std::mem::replace(&mut self.congested, true) {
            self.told_congested = true;
        }
    }

    /// Whether the socket of events can be read.
    pub(super) fn is_readable(&self) -> bool {
        self.told_congested || self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    pub(super) fn open_socket(&mut self) {
        self.queue = Some(VecDeque::new());
        (self.congested, self.told_congested, self.reader_lost) = (false, false, false);
    }

    pub(super) fn close_socket(&mut self) {
        self.queue = None;
        (self.congested, self.told_congested, self.reader_lost) = (false, false, false);
    }

    /// As `host::events::Events::drain`. `None` when the socket fails.
    pub(super) fn drain(&mut self, mut apply: impl FnMut(LinkEvent)) -> Option<Drained> {
        if self.socket_fails > 0 {
            self.changes += 1;
            self.socket_fails -= 1;
            return None;
        }
        for _ in 0..DRAIN_MAX {
            if std::mem::take(&mut self.told_congested) {
                self.reader_lost = true;
                continue;
            }
            let event = self.queue.as_mut().and_then(VecDeque::pop_front);
            // net/netlink/af_netlink.c: `netlink_rcv_wake`.
            if self.queue.as_ref().is_none_or(VecDeque::is_empty) {
                self.congested = false;
            }
            match event {
                Some(event) if !self.reader_lost => apply(event),
                Some(_) => {}
                None if std::mem::take(&mut self.reader_lost) => return Some(Drained::Overrun),
                None => return Some(Drained::Empty),
            }
        }
        Some(Drained::More)
    }

    pub(super) fn dump(&mut self) -> Dump {
        self.lists += 1;
        let some = self.links.values().nth(self.lists % self.links.len().max(1)).filter(|_| self.unsteady);
        let missed = some.map(|link| link.name).or(self.list_misses.take());
        self.changes += u64::from(missed.is_some());
        let links = self.links.values().filter(|link| Some(link.name) != missed);
        Dump { links: links.map(|link| self.shown(link)).collect(), consistent: missed.is_none() }
    }

    fn sysfs_tells(&mut self) -> bool {
        let tells = self.sysfs_fails == 0;
        self.changes += u64::from(!tells);
        self.sysfs_fails = self.sysfs_fails.saturating_sub(1);
        tells
    }

    pub(super) fn parent(&mut self, name: IfName, index: IfIndex) -> Parent {
        let tells = self.sysfs_tells();
        let link = self.links.get(&index).filter(|link| tells && link.name == name);
        link.map_or(Parent::Unknown, |link| link.parent)
    }

    pub(super) fn kernel_driver(&mut self, function: PciAddr) -> Option<KernelDriver> {
        let tells = self.sysfs_tells();
        let known = self.functions.get(&function).filter(|known| !known.gone);
        known.filter(|_| tells).map(|known| known.driver)
    }

    pub(super) fn has_verbs(&self, function: PciAddr) -> bool {
        self.functions.get(&function).is_some_and(|known| known.verbs && !known.gone)
    }
}

/// EAL: functions and ports.
impl World {
    /// Makes a function, or the one that was there come back, whose netdevices the kernel has taken away before. One that
    /// has a netdevice gets another: its PMD drives the oldest.
    pub(super) fn plug(&mut self, address: PciAddr, mac: MacAddr) {
        if self.functions.get(&address).is_some_and(|function| function.gone) {
            let on_it = self.links.values().filter(|link| link.parent == Parent::Pci(address));
            let names: Vec<_> = on_it.map(|link| link.name).collect();
            names.iter().for_each(|name| self.remove_link(name));
        }
        let has_netdevice = self.links.values().any(|link| link.parent == Parent::Pci(address));
        let function = self.functions.entry(address).or_insert(Function {
            gone: false,
            mac,
            driver: KernelDriver::Other,
            verbs: true,
            pmd: Pmd::Makes,
            device: None,
            hidden: false,
            meddled: false,
            taken: false,
        });
        if !has_netdevice {
            (function.gone, function.mac, function.taken) = (false, mac, false);
        }
    }

    /// As `eal::failsafe::Mends::occupant` when it is not quiet.
    pub(super) fn occupant(&self, address: PciAddr) -> Occupant {
        let failsafe = || Occupant::Busy { by: Some("Fail-safe".to_owned()) };
        let Some(function) = self.functions.get(&address) else { return Occupant::Nobody };
        if function.hidden {
            return failsafe();
        }
        let Some(ports) = &function.device else { return Occupant::Nobody };
        let owned = ports.iter().map(|port| port.owner).filter(|&owner| owner != Owner::Nobody);
        let mac = ports.first().map(|port| port.mac);
        match owned.clone().find(|&owner| owner != Owner::Ours) {
            Some(Owner::Failsafe(_)) => failsafe(),
            Some(_) => Occupant::Busy { by: Some("application".to_owned()) },
            None if ports.is_empty() => Occupant::Busy { by: None },
            None if owned.count() == 0 => Occupant::Unowned { mac },
            None => Occupant::Ours { mac },
        }
    }

    /// The port that failsafe finds by an address (`fs_ethdev_portid_get`).
    pub(super) fn port(&mut self, address: PciAddr) -> Option<&mut EthPort> {
        self.functions.get_mut(&address)?.port_mut()
    }

    /// `rte_eal_hotplug_add`, for whoever owns the port then.
    pub(super) fn attach(&mut self, address: PciAddr, owner: Owner) -> Result<(), Errno> {
        let function = self.functions.get_mut(&address).ok_or(Errno(libc::ENODEV))?;
        if function.device.is_some() {
            return Err(Errno(libc::EEXIST));
        }
        if function.gone {
            return Err(Errno(libc::ENODEV));
        }
        if function.needs_verbs() && !function.verbs {
            return Err(Errno(libc::ENOENT));
        }
        let macs = match function.pmd {
            Pmd::Fails => return Err(Errno(libc::EIO)),
            Pmd::FailsOnce => {
                function.pmd = Pmd::Makes;
                return Err(Errno(libc::EIO));
            }
            Pmd::NoPort => vec![],
            Pmd::OtherMac => vec![OTHER],
            Pmd::Makes => vec![function.mac],
            Pmd::Two => vec![function.mac, OTHER],
            Pmd::OtherFirst => vec![OTHER, function.mac],
        };
        function.device = Some(macs.into_iter().map(|mac| EthPort { owner, mac, configured: false }).collect());
        function.meddled = false;
        Ok(())
    }

    /// Names of the Ethernet ports.
    pub(super) fn names(&self) -> Vec<CString> {
        self.failsafes.keys().map(|id| id.failsafe_name()).collect()
    }
}
