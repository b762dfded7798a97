// SPDX-License-Identifier: BSD-3-Clause
//! One netdevice as the kernel describes it, and the table of all of them.
//!
//! Pure: nothing here asks the kernel. `host` fills the table, `pairing` reads it.

use std::collections::BTreeMap;
use std::{fmt, io};

use crate::address::{IfIndex, IfName, MacAddr, PciAddr};

/// The device a link sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nobody has told yet: rtnetlink names no parent before Linux 5.14, nor for a virtual link.
    Unknown,
    /// Sysfs was asked and does not tell.
    Unreadable(Unreadable),
    /// A virtual link: no device.
    None,
    /// A function on the PCI bus.
    Pci(PciAddr),
    /// A NetVSC device: one on Hyper-V's VMBus, on which Linux has no other netdevices (`drivers/net/hyperv`).
    NetVsc,
    /// Any other device.
    Other,
}

impl Parent {
    /// Tells whether nobody has told anything of it yet.
    pub fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown | Self::Unreadable(_))
    }
}

/// Why sysfs does not tell of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It cannot be read, for a reason that this errno says.
    Errno(i32),
    /// None is mounted.
    NotMounted,
    /// It has no link of this name and index: it shows another network namespace, or the link goes or gets another name.
    Elsewhere,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => {
                let error = io::Error::from_raw_os_error(*errno);
                write!(
                    f,
                    "/sys/class/net does not tell: {error}: mount sysfs of this network namespace and make it readable"
                )
            }
            Self::NotMounted => f.write_str("there is no sysfs at /sys: mount it (mount -t sysfs sysfs /sys)"),
            Self::Elsewhere => {
                f.write_str("/sys shows another network namespace: mount that of this one (mount -t sysfs sysfs /sys)")
            }
        }
    }
}

/// The kernel driver of a PCI function, as far as something hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelDriver {
    /// Makes one netdevice of a function, and its PMD opens an ibverbs device (`drivers/net/mlx4`,
    /// `drivers/common/mlx5`).
    Mlx,
    /// Makes several netdevices of one function, none of which its PMD can drive while it is up (`mana_cfg_vport`).
    Mana,
    /// Any other.
    Other,
}

impl KernelDriver {
    /// Takes the name that sysfs has for it.
    pub fn of_name(name: &[u8]) -> Self {
        match name {
            b"mlx4_core" | b"mlx5_core" => Self::Mlx,
            b"mana" => Self::Mana,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for KernelDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mlx => "mlx",
            Self::Mana => "mana",
            Self::Other => "other",
        })
    }
}

/// One netdevice as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index; a link is the same link as long as this is.
    pub index: IfIndex,
    /// Current name.
    pub name: IfName,
    /// Whether it is an Ethernet link (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// Current address, `None` when it has none or one of another size.
    pub mac: Option<MacAddr>,
    /// Address its hardware was made with, where the kernel knows one.
    pub permanent_mac: Option<MacAddr>,
    /// The link it is enslaved to (`IFLA_MASTER`).
    pub master: Option<IfIndex>,
    /// The link of this network namespace that it is stacked on (`IFLA_LINK`): that of a VLAN or a macvlan; of a veth,
    /// its other end.
    pub lower: Option<IfIndex>,
    /// The device it sits on.
    pub parent: Parent,
    /// The kernel driver of that, once somebody has asked for it.
    pub driver: Option<KernelDriver>,
    /// Whether somebody has set it up (`IFF_UP`).
    pub up: bool,
}

impl Link {
    /// An Ethernet link that is up, with nothing else to it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn plain(index: IfIndex, name: IfName, mac: MacAddr, parent: Parent) -> Self {
        Self {
            index,
            name,
            ethernet: true,
            mac: Some(mac),
            permanent_mac: None,
            master: None,
            lower: None,
            parent,
            driver: None,
            up: true,
        }
    }

    /// Tells whether this is a NetVSC netdevice.
    pub fn is_netvsc(&self) -> bool {
        self.parent == Parent::NetVsc
    }

    /// Tells whether it sits on the PCI bus.
    pub fn is_on_pci(&self) -> bool {
        matches!(self.parent, Parent::Pci(_))
    }
}

/// What an event changed in a [`LinkTable`]: the link before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The link as it was, `None` when it is new.
    pub before: Option<Link>,
    /// The link as it is, `None` when it is gone.
    pub after: Option<Link>,
}

/// Every link of the network namespace, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkTable {
    links: BTreeMap<IfIndex, Link>,
}

impl LinkTable {
    /// Makes an empty table.
    pub const fn new() -> Self {
        Self { links: BTreeMap::new() }
    }

    /// Returns the link with this index.
    pub fn get(&self, index: IfIndex) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Iterates over all links in the order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Takes what the kernel says of a link; `None` when it says nothing new.
    ///
    /// What is known of its parent stays when the kernel does not name one, and so does the driver: a link never changes
    /// its device.
    pub fn update(&mut self, mut link: Link) -> Option<Change> {
        let before = self.links.get(&link.index).cloned();
        if let Some(known) = &before {
            if link.parent == Parent::Unknown {
                link.parent = known.parent;
            }
            link.driver = known.driver;
            if *known == link {
                return None;
            }
        }
        self.links.insert(link.index, link.clone());
        Some(Change { before, after: Some(link) })
    }

    /// Forgets a link; `None` when it was not known.
    pub fn remove(&mut self, index: IfIndex) -> Option<Change> {
        self.links.remove(&index).map(|link| Change { before: Some(link), after: None })
    }

    /// Takes a full dump in place of the table and returns what differs.
    pub fn replace(&mut self, dump: Vec<Link>) -> Vec<Change> {
        let mut present: Vec<IfIndex> = dump.iter().map(|link| link.index).collect();
        present.sort_unstable();
        let is_gone = |index: &&IfIndex| present.binary_search(index).is_err();
        let gone: Vec<IfIndex> = self.links.keys().filter(is_gone).copied().collect();
        let mut changes: Vec<Change> = gone.into_iter().filter_map(|index| self.remove(index)).collect();
        changes.extend(self.merge(dump));
        changes
    }

    /// Takes a dump that may not be full and returns what differs: a link that is not in it stays.
    pub fn merge(&mut self, dump: Vec<Link>) -> Vec<Change> {
        dump.into_iter().filter_map(|link| self.update(link)).collect()
    }

    /// Notes which device a link sits on, once somebody has told.
    pub fn set_parent(&mut self, index: IfIndex, parent: Parent) {
        if let Some(link) = self.links.get_mut(&index) {
            link.parent = parent;
        }
    }

    /// Notes the kernel driver of the device that a link sits on.
    pub fn set_driver(&mut self, index: IfIndex, driver: KernelDriver) {
        if let Some(link) = self.links.get_mut(&index) {
            link.driver = Some(driver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_links() -> impl Strategy<Value = Vec<Link>> {
        let parent = prop_oneof![
            Just(Parent::Unknown),
            Just(Parent::Unreadable(Unreadable::Errno(13))),
            Just(Parent::NetVsc),
            Just(Parent::Other)
        ];
        let link = (1..9_u32, parent, any::<bool>()).prop_map(|(index, parent, up)| Link {
            index: IfIndex::new(index).unwrap(),
            name: IfName::new(format!("if{index}").as_bytes()).unwrap(),
            ethernet: true,
            mac: None,
            permanent_mac: None,
            master: None,
            lower: None,
            parent,
            driver: None,
            up,
        });
        proptest::collection::vec(link, 0..9)
    }

    fn table(links: &[Link]) -> LinkTable {
        let mut table = LinkTable::new();
        table.replace(links.to_vec());
        table
    }

    fn indices<'a>(links: impl IntoIterator<Item = &'a Link>) -> BTreeSet<IfIndex> {
        links.into_iter().map(|link| link.index).collect()
    }

    fn link(index: u32, parent: Parent) -> Link {
        let name = IfName::new(format!("if{index}").as_bytes()).unwrap();
        Link::plain(IfIndex::new(index).unwrap(), name, MacAddr([2; 6]), parent)
    }

    #[test]
    fn what_is_known_of_its_device_stays_when_the_kernel_does_not_name_that() {
        let heard = link(2, Parent::Unknown);
        let mut table = table(std::slice::from_ref(&heard));
        let pci = Parent::Pci("0000:01:00.0".parse().unwrap());
        table.set_parent(heard.index, pci);
        table.set_driver(heard.index, KernelDriver::Mlx);
        let known = Link { parent: pci, driver: Some(KernelDriver::Mlx), ..heard.clone() };
        assert_eq!(table.get(heard.index), Some(&known));
        assert_eq!(table.update(heard.clone()), None, "nothing new");
        let down = Link { up: false, ..known.clone() };
        let change = Change { before: Some(known), after: Some(down.clone()) };
        assert_eq!(table.update(Link { up: false, ..heard.clone() }), Some(change));
        let other = Link { parent: Parent::Other, ..down.clone() };
        let change = Change { before: Some(down), after: Some(other.clone()) };
        assert_eq!(table.update(Link { parent: Parent::Other, up: false, ..heard }), Some(change));
        let change = Change { before: Some(other), after: None };
        assert_eq!((table.remove(change.before.as_ref().unwrap().index), table), (Some(change), LinkTable::new()));
    }

    #[test]
    fn a_full_dump_tells_what_went_what_came_and_what_is_different() {
        let [a, b, c, d] = [2, 3, 4, 5].map(|index| link(index, Parent::Other));
        let mut table = table(&[a.clone(), b.clone(), c.clone()]);
        let down = Link { up: false, ..c.clone() };
        let changes = table.replace(vec![d.clone(), b.clone(), down.clone()]);
        let want = [(Some(a), None), (None, Some(d.clone())), (Some(c), Some(down.clone()))];
        assert_eq!(changes, want.map(|(before, after)| Change { before, after }));
        assert!(table.iter().eq([&b, &down, &d]));
    }

    #[test]
    fn parents_and_kernel_drivers() {
        let pci = Parent::Pci("0000:01:00.0".parse().unwrap());
        let unreadable = Parent::Unreadable(Unreadable::NotMounted);
        // Whether it is unknown, on the PCI bus, NetVSC.
        for (parent, want) in [
            (Parent::Unknown, (true, false, false)),
            (unreadable, (true, false, false)),
            (Parent::None, (false, false, false)),
            (pci, (false, true, false)),
            (Parent::NetVsc, (false, false, true)),
            (Parent::Other, (false, false, false)),
        ] {
            let link = link(2, parent);
            assert_eq!((parent.is_unknown(), link.is_on_pci(), link.is_netvsc()), want, "{parent:?}");
        }
        for (name, want) in [
            ("mlx4_core", KernelDriver::Mlx),
            ("mlx5_core", KernelDriver::Mlx),
            ("mana", KernelDriver::Mana),
            ("mana_ib", KernelDriver::Other),
            ("ixgbevf", KernelDriver::Other),
        ] {
            assert_eq!(KernelDriver::of_name(name.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn why_sysfs_does_not_tell_is_said_with_what_to_do() {
        for (why, parts) in [
            (Unreadable::Errno(libc::EACCES), ["Permission denied", "make it readable"]),
            (Unreadable::NotMounted, ["no sysfs at /sys", "mount it"]),
            (Unreadable::Elsewhere, ["another network namespace", "mount that of this one"]),
        ] {
            let text = why.to_string();
            assert!(parts.into_iter().all(|part| text.contains(part)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_dump_that_is_not_full_takes_no_link_away(before in any_links(), dump in any_links()) {
            let (mut merged, mut replaced) = (table(&before), table(&before));
            let changes = merged.merge(dump.clone());
            prop_assert!(changes.iter().all(|change| change.after.is_some()));
            prop_assert_eq!(indices(merged.iter()), indices(before.iter().chain(&dump)));
            // What it holds is taken as of a full one.
            replaced.replace(dump.clone());
            prop_assert_eq!(indices(replaced.iter()), indices(&dump));
            for link in replaced.iter() {
                prop_assert_eq!(merged.get(link.index), Some(link));
            }
            // And the next full one makes up for it.
            merged.replace(dump);
            prop_assert_eq!(merged, replaced);
        }
    }
}
