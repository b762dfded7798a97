// SPDX-License-Identifier: BSD-3-Clause
//! The table of links, kept true by the kernel's events.

use log::{debug, error, warn};

use crate::host::{self, Drained, Events, LinkEvent, Sysfs};
use crate::link::{Change, IfIndex, LinkTable, Parent, PciAddr};

/// Every link of the network namespace, as the kernel says it is.
#[derive(Debug)]
pub(super) struct Links {
    table: LinkTable,
    events: Option<Events>,
    /// What events have changed since [`Links::take_changes`].
    changes: Vec<Change>,
    /// Events were lost, and the table is not true until it is dumped anew.
    outdated: bool,
    /// Some link's parent could not be read: whatever hangs on it is to be looked at again.
    unsettled: bool,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self { table: LinkTable::new(), events: None, changes: Vec::new(), outdated: false, unsettled: false }
    }

    pub(super) fn table(&self) -> &LinkTable {
        &self.table
    }

    /// Begins to listen, if that was not done before.
    ///
    /// # Errors
    /// When the kernel does not give its list of links.
    pub(super) fn listen(&mut self) -> Result<(), host::Error> {
        if self.events.is_none() {
            // The events first: what changes after the dump is then among them.
            let events = Events::open()?;
            self.table.replace(host::dump_links()?);
            self.events = Some(events);
        }
        Ok(())
    }

    /// Forgets the links and closes the events' socket.
    pub(super) fn stop(&mut self) {
        *self = Self::new();
    }

    /// The events' socket, for the interrupt thread to watch.
    pub(super) fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    /// Has whatever hangs on a link looked at again.
    pub(super) fn distrust(&mut self) {
        self.unsettled = true;
    }

    /// Tells whether the table is true, and nothing has to be looked at again.
    pub(super) fn is_settled(&self) -> bool {
        !self.outdated && !self.unsettled
    }

    /// Tells whether events were lost and no dump has made up for them: what the table says may be long over.
    pub(super) fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// Tells once whether something has to be looked at again.
    pub(super) fn take_unsettled(&mut self) -> bool {
        std::mem::take(&mut self.unsettled)
    }

    /// Returns what events have changed, once: whoever applied them, a rescan has to hear of it.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Applies the events that wait.
    pub(super) fn catch_up(&mut self) {
        let Self { table, events: Some(events), changes, .. } = self else { return };
        let drained = events.drain(|event| {
            changes.extend(match event {
                LinkEvent::Changed(link) => table.update(link),
                LinkEvent::Gone(index) => table.remove(index),
            });
        });
        self.drained(drained);
        if self.outdated {
            match host::dump_links() {
                Ok(dump) => {
                    self.changes.extend(self.table.replace(dump));
                    self.outdated = false;
                }
                // Tried again at the next look.
                Err(error) => warn!("after lost link events: {error}"),
            }
        }
    }

    /// Notes how far the reading of events came.
    pub(super) fn drained(&mut self, drained: Result<Drained, host::Error>) {
        match drained {
            Ok(Drained::Empty | Drained::More) => {}
            Ok(Drained::Overrun) => self.outdated = true,
            Err(error) => error!("{error}"),
        }
    }

    /// Takes these for all links there are.
    #[cfg(test)]
    pub(super) fn assume(&mut self, links: Vec<crate::link::Link>) {
        self.changes.extend(self.table.replace(links));
        self.outdated = false;
    }

    /// Asks sysfs about the links whose parent rtnetlink does not tell and a rule hangs on.
    pub(super) fn resolve(&mut self, unclear: impl FnOnce(&LinkTable) -> Vec<IfIndex>) {
        let sysfs = Sysfs::default();
        for index in unclear(&self.table) {
            let Some(link) = self.table.get(index) else { continue };
            let parent = sysfs.parent(&link.name, index).unwrap_or_else(|error| {
                debug!("{}: cannot read what device it sits on: {error}", link.name);
                Parent::Unknown
            });
            self.unsettled |= parent == Parent::Unknown;
            self.table.set_parent(index, parent);
        }
    }

    /// Asks sysfs, unless it has told already, for the kernel driver of a link on a PCI function.
    pub(super) fn resolve_driver(&mut self, index: IfIndex, function: PciAddr) {
        if self.table.get(index).is_some_and(|link| link.driver.is_none()) {
            if let Some(driver) = Sysfs::default().kernel_driver(function) {
                self.table.set_driver(index, driver);
            }
        }
    }
}
