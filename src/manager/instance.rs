// SPDX-License-Identifier: BSD-3-Clause
//! One instance: which links it wants, and what has become of each.

use std::io;
use std::time::Instant;

use crate::address::{IfIndex, IfName};
use crate::args::Selector;
use crate::delivery::pause;
use crate::port::{Options, PortId};

/// Where a link that an instance wants stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Without a port: the link is not there, or DPDK refused the port and is asked again then.
    Open { not_before: Option<Instant> },
    /// Served by a port.
    Served(PortId),
    /// Not wanted any more: the application has closed the port, or another one serves the link.
    Closed,
}

/// A link that an instance wants, as the user named it or as it was found.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) selector: Selector,
    pub(super) place: Place,
    /// Whether the link it had sat on the PCI bus: one that does takes no other's place, as it may be that one's VF.
    pub(super) pci: Option<bool>,
    /// How often in a row DPDK refused the port.
    pub(super) failures: u32,
}

impl Wanted {
    pub(super) fn new(selector: Selector, place: Place) -> Self {
        Self { selector, place, pci: None, failures: 0 }
    }

    /// Notes that a link has come that it may be: it is not waited for any longer.
    pub(super) fn come(&mut self) {
        if let Place::Open { not_before } = &mut self.place {
            *not_before = None;
        }
    }

    /// Notes that its port could not be made, and waits longer each time before the next try.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.place = Place::Open { not_before: Some(now + pause(self.failures)) };
    }
}

/// One `--vdev=net_vdev_netvsc…` device.
#[derive(Debug)]
pub(super) struct Instance {
    /// Whether the user named its links; others are taken only while nothing is configured on them.
    pub(super) named: bool,
    /// Whether it takes named links that are not NetVSC.
    pub(super) force: bool,
    pub(super) options: Options,
    pub(super) wanted: Vec<Wanted>,
}

/// Why no port is begun on a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the interface is gone")]
    Gone,
    #[error(
        "{name} (ifindex {index}) has a name that cannot be passed to failsafe: rename it, without white space or \
         any of , ( ) = [ ] / :"
    )]
    Name { name: IfName, index: IfIndex },
    #[error("{name}: cannot make a pipe: {error}; trying again, after 60 s at most")]
    Pipe { name: IfName, error: io::Error },
}
