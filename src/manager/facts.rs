// SPDX-License-Identifier: BSD-3-Clause
//! What the state has to know before it can decide, and what it was told.

use std::ffi::CString;

use super::small_map::SmallMap;
use super::state::Serial;
use crate::address::{IfIndex, IfName, PciAddr};
use crate::args::Selector;
use crate::eal::ethdev::Occupant;
use crate::link::{KernelDriver, Parent};
use crate::port::PortId;

/// What has to be asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Which device these links sit on (sysfs).
    pub(super) parents: SmallMap<IfIndex, IfName>,
    /// The kernel driver of the PCI function that a link sits on (sysfs).
    pub(super) drivers: SmallMap<IfIndex, PciAddr>,
    /// Whether these PCI functions have their ibverbs device (sysfs).
    pub(super) verbs: SmallMap<PciAddr, ()>,
    /// Whether something is configured on these links (rtnetlink).
    pub(super) configured: SmallMap<IfIndex, ()>,
    /// Which links have these names as alternative ones (rtnetlink).
    pub(super) alternatives: SmallMap<Selector, ()>,
    /// Who sits on these PCI functions (DPDK).
    pub(super) occupants: SmallMap<PciAddr, ()>,
    /// Whether these ports still have their failsafe port (DPDK).
    pub(super) alive: Vec<(Serial, PortId)>,
    /// The names of all Ethernet ports, as a port is to be made (DPDK).
    pub(super) names: bool,
}

impl Questions {
    pub(super) fn is_empty(&self) -> bool {
        let Self { parents, drivers, verbs, configured, alternatives, occupants, alive, names } = self;
        let dpdk = occupants.is_empty() && alive.is_empty() && !names;
        let links = parents.is_empty() && configured.is_empty() && alternatives.is_empty();
        dpdk && links && drivers.is_empty() && verbs.is_empty()
    }
}

/// What was answered, during one rescan.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// [`Parent::Unreadable`] when it could not be read.
    pub(super) parents: SmallMap<IfIndex, Parent>,
    /// `None` when it could not be read, or there is none.
    pub(super) drivers: SmallMap<IfIndex, Option<KernelDriver>>,
    pub(super) verbs: SmallMap<PciAddr, bool>,
    /// Whether it is, or may be.
    pub(super) configured: SmallMap<IfIndex, bool>,
    /// `None` when none has, or that could not be asked.
    pub(super) alternatives: SmallMap<Selector, Option<IfIndex>>,
    /// Something could not be asked.
    pub(super) unsettled: bool,
    pub(super) occupants: SmallMap<PciAddr, Occupant>,
    /// Those that have none any more, once that was asked.
    pub(super) gone: Option<Vec<Serial>>,
    pub(super) names: Option<Vec<CString>>,
}

impl Answers {
    /// Adds the answers to further questions.
    pub(super) fn extend(&mut self, more: Self) {
        self.parents.extend(more.parents);
        self.drivers.extend(more.drivers);
        self.verbs.extend(more.verbs);
        self.configured.extend(more.configured);
        self.alternatives.extend(more.alternatives);
        self.unsettled |= more.unsettled;
        self.occupants.extend(more.occupants);
        self.gone = more.gone.or(self.gone.take());
        self.names = more.names.or(self.names.take());
    }
    /// The link that has a selector's name as an alternative one, as far as that was asked.
    pub(super) fn alternative(&self, selector: &Selector) -> Option<IfIndex> {
        self.alternatives.get(selector).copied().flatten()
    }

    /// Forgets who sits where, as that has changed.
    pub(super) fn forget_occupants(&mut self) {
        self.occupants = SmallMap::new();
    }
}
