// SPDX-License-Identifier: BSD-3-Clause
//! The table of links as far as the kernel has told of it, and what is not sure in it.

use super::facts::{Answers, Questions};
use super::small_map::SmallMap;
use crate::address::IfIndex;
use crate::host::Dump;
use crate::link::{Change, KernelDriver, Link, LinkTable, Parent};

/// How often in a row sysfs is asked about a link that it does not know: one that has come is there within
/// milliseconds, and one of another network namespace never is.
const ASKS_MAX: u32 = 10;

/// Every link of the network namespace, as the kernel says it is.
#[derive(Debug)]
pub(super) struct Links {
    table: LinkTable,
    /// Links of which an event may have been lost since the kernel last spoke of them.
    unsure: SmallMap<IfIndex, ()>,
    /// Events were lost, and the kernel has not listed all links since.
    lost: bool,
    /// The kernel's last list changed while it was read, so that a link may be missing.
    inexact: bool,
    /// How often in a row sysfs did not tell of a link.
    asks: SmallMap<IfIndex, u32>,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self { table: LinkTable::new(), unsure: SmallMap::new(), lost: true, inexact: false, asks: SmallMap::new() }
    }

    pub(super) fn table(&self) -> &LinkTable {
        &self.table
    }

    /// Takes a link as the kernel says it is.
    pub(super) fn update(&mut self, link: Link) -> Option<Change> {
        self.heard_of(link.index);
        self.table.update(link)
    }

    /// Forgets a link that is gone.
    pub(super) fn remove(&mut self, index: IfIndex) -> Option<Change> {
        self.heard_of(index);
        self.table.remove(index)
    }

    fn heard_of(&mut self, index: IfIndex) {
        self.unsure.remove(&index);
        self.asks.remove(&index);
    }

    /// Notes that events were lost: what the table says may be long over.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.unsure = SmallMap::new();
        for link in self.table.iter() {
            self.unsure.insert(link.index, ());
        }
    }

    /// Tells whether the kernel has to list all links; `patient` when that can wait if a list is only not exact.
    pub(super) fn need_dump(&self, patient: bool) -> bool {
        self.lost || (self.inexact && !patient)
    }

    /// Takes the kernel's list of all links.
    pub(super) fn replace(&mut self, dump: Dump) -> Vec<Change> {
        self.lost = false;
        self.inexact = !dump.consistent;
        if dump.consistent {
            self.unsure = SmallMap::new();
            self.table.replace(dump.links)
        } else {
            for link in &dump.links {
                self.unsure.remove(&link.index);
            }
            self.table.merge(dump.links)
        }
    }

    /// Tells whether no event of a link was lost since the kernel last spoke of it.
    pub(super) fn is_sure(&self, index: IfIndex) -> bool {
        !self.unsure.contains_key(&index)
    }

    /// Tells whether the table is known to be all that the kernel has.
    pub(super) fn is_exact(&self) -> bool {
        !self.lost && !self.inexact
    }

    /// Has sysfs asked about all links again that it did not tell of.
    pub(super) fn ask_anew(&mut self) {
        self.asks = SmallMap::new();
    }

    /// Asks for the parents of these links, as far as that has not been answered. Returns whether anything has to be
    /// asked.
    pub(super) fn ask(
        &mut self,
        unclear: impl FnOnce(&LinkTable) -> Vec<IfIndex>,
        answers: &Answers,
        questions: &mut Questions,
    ) -> bool {
        let mut asks = false;
        for index in unclear(&self.table) {
            let tries = self.asks.get(&index).copied().unwrap_or_default();
            let Some(link) = self.table.get(index) else { continue };
            if !answers.parents.contains_key(&index) && tries < ASKS_MAX {
                if questions.parents.insert_new(index, link.name) {
                    self.asks.insert(index, tries.saturating_add(1));
                }
                asks = true;
            }
        }
        asks
    }

    /// Takes what sysfs says of a link's parent. Returns whether it is to be asked again.
    pub(super) fn set_parent(&mut self, index: IfIndex, parent: Parent) -> bool {
        if !parent.is_unknown() {
            self.asks.remove(&index);
        } else if self.table.get(index).is_none_or(|link| !link.parent.is_unknown()) {
            // Another thread has been told meanwhile.
            return false;
        }
        self.table.set_parent(index, parent);
        // An event may have come since it was asked.
        parent.is_unknown() && self.asks.get(&index).is_none_or(|&asks| asks < ASKS_MAX)
    }

    /// Takes what sysfs says of the kernel driver of a link's PCI function.
    pub(super) fn set_driver(&mut self, index: IfIndex, driver: KernelDriver) {
        self.table.set_driver(index, driver);
    }
}
