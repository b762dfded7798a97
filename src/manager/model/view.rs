// SPDX-License-Identifier: BSD-3-Clause
//! What the model sees of the state beyond what it tells the driver.

use super::{Instance, Place, Serial, State};
use crate::address::{IfIndex, PciAddr};
use crate::args::Selector;
use crate::link::{Link, LinkTable};
use crate::pairing::Side;
use crate::port::{Phase, PortId};

/// A port, as the state holds it.
#[derive(Debug)]
pub(in crate::manager) struct PortView {
    pub(in crate::manager) id: PortId,
    pub(in crate::manager) serial: Serial,
    pub(in crate::manager) side: Side,
    pub(in crate::manager) phase: Phase,
    pub(in crate::manager) orphaned: bool,
    /// The link of its VF, and the function.
    pub(in crate::manager) vf: Option<(IfIndex, PciAddr)>,
    /// What lies in its mailbox.
    pub(in crate::manager) mailbox: String,
}

/// A link that an instance wants and that has no port.
#[derive(Debug)]
pub(in crate::manager) struct OpenView {
    pub(in crate::manager) selector: Selector,
    pub(in crate::manager) named: bool,
    pub(in crate::manager) force: bool,
    pub(in crate::manager) pci: Option<bool>,
    /// It is looked at again when its time comes.
    pub(in crate::manager) put_off: bool,
}

impl State {
    /// All ports.
    pub(in crate::manager) fn view(&self) -> Vec<PortView> {
        let view = |held: &super::Held| PortView {
            id: held.port.id,
            serial: held.serial,
            side: held.port.side(),
            phase: held.port.phase,
            orphaned: held.port.orphaned,
            vf: held.port.vf().map(|vf| (vf.index, vf.address)),
            mailbox: held.port.peek_mailbox(),
        };
        self.ports.values().map(view).collect()
    }

    /// Reads the mailbox of a port as failsafe does.
    pub(in crate::manager) fn read_mailbox(&self, id: PortId) -> String {
        self.ports.get(&id).map(|held| held.port.read_mailbox()).unwrap_or_default()
    }

    /// Whether it knows of the links that there are, as they are, and of no others.
    pub(in crate::manager) fn knows_all(&self, truth: &LinkTable) -> bool {
        let known = |link: &Link| {
            self.links.table().get(link.index).is_some_and(|known| (known.name, known.mac) == (link.name, link.mac))
        };
        truth.iter().all(known) && self.links.table().iter().count() == truth.iter().count()
    }

    /// The links that are wanted and have no port.
    pub(in crate::manager) fn view_open(&self) -> Vec<OpenView> {
        let of = |instance: &Instance| {
            let open = instance.wanted.iter().filter(|wanted| matches!(wanted.place, Place::Open { .. }));
            let view = |wanted: &super::Wanted| OpenView {
                selector: wanted.selector,
                named: instance.named,
                force: instance.force,
                pci: wanted.pci,
                put_off: matches!(wanted.place, Place::Open { not_before: Some(_) }),
            };
            open.map(view).collect::<Vec<_>>()
        };
        self.instances.values().flat_map(of).collect()
    }

    /// Whether the link of a port's VF is known to be there.
    pub(in crate::manager) fn is_sure_of_vf(&self, id: PortId) -> bool {
        let vf = self.ports.get(&id).and_then(|held| held.port.vf());
        vf.is_some_and(|vf| self.links.is_sure(vf.index))
    }

    /// Whether a function is to be detached.
    pub(in crate::manager) fn is_leaving(&self, function: PciAddr) -> bool {
        self.to_detach.contains(&function) || self.detaching.contains(&function)
    }
}
