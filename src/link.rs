// SPDX-License-Identifier: BSD-3-Clause
//! One netdevice as the kernel describes it, and the table of all of them.
//!
//! Pure: nothing here asks the kernel. `host` fills the table, `pairing` reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Index of a netdevice, unique in its network namespace and never zero (`ifindex`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(NonZeroU32);

impl IfIndex {
    /// Takes a raw index; `None` for zero, which the kernel uses for "no netdevice".
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// Returns the raw index.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of no one: what the kernel shows for a netdevice without an address.
    pub const ZERO: Self = Self([0; 6]);
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Name of a netdevice: 1 to 15 bytes, not UTF-8 by law.
///
/// The kernel refuses `/`, `:` and white space (`net/core/dev.c`, `dev_valid_name`) and takes everything else, so a
/// name may hold what another syntax gives a meaning. [`fmt::Display`] escapes it for logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    len: u8,
    bytes: [u8; Self::MAX_BYTES],
}

impl IfName {
    /// Longest name in bytes: `IFNAMSIZ` of `linux/if.h` without its terminating NUL.
    pub const MAX_BYTES: usize = 15;

    /// Takes a name; `None` when it is empty, too long, or holds a NUL, a slash or is `.` or `..`.
    ///
    /// The slash and the dots matter here as the name becomes a part of a path in sysfs.
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&b| b == 0 || b == b'/') {
            return None;
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { len: u8::try_from(name.len()).ok()?, bytes })
    }

    /// Returns the name as the kernel has it.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Address of a PCI function.
///
/// The domain has 32 bits (`lib/pci/rte_pci.h`, `struct rte_pci_addr`): Azure's VFs and Intel's VMD make their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddr {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// What was taken for a PCI address is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PCI address")]
pub struct NotPci;

impl FromStr for PciAddr {
    type Err = NotPci;

    /// Reads the full form only, `domain:bus:device.function` in hexadecimal, as sysfs and rtnetlink name devices.
    fn from_str(text: &str) -> Result<Self, NotPci> {
        fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Result<u32, NotPci> {
            // from_str_radix takes a sign.
            if !digits.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(NotPci);
            }
            u32::from_str_radix(text, 16).map_err(|_| NotPci)
        }
        let (rest, function) = text.rsplit_once('.').ok_or(NotPci)?;
        let (rest, device) = rest.rsplit_once(':').ok_or(NotPci)?;
        let (domain, bus) = rest.rsplit_once(':').ok_or(NotPci)?;
        let narrow = |value: u32, max: u8| u8::try_from(value).ok().filter(|&v| v <= max).ok_or(NotPci);
        Ok(Self {
            domain: hex(domain, 4..=8)?,
            bus: narrow(hex(bus, 2..=2)?, 0xff)?,
            device: narrow(hex(device, 2..=2)?, 0x1f)?,
            function: narrow(hex(function, 1..=1)?, 7)?,
        })
    }
}

impl fmt::Display for PciAddr {
    /// Writes all four parts: failsafe compares device names by their first bytes and so needs the full form
    /// (`doc/guides/nics/fail_safe.rst`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl fmt::Debug for PciAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The device a link sits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nobody has told yet: rtnetlink names no parent before Linux 5.14, nor for a virtual link.
    Unknown,
    /// A virtual link: no device.
    None,
    /// A function on the PCI bus.
    Pci(PciAddr),
    /// A NetVSC device: its `class_id` is that of Hyper-V's synthetic network.
    NetVsc,
    /// A device on Hyper-V's VMBus whose class nobody has read yet.
    VmBus,
    /// Any other device.
    Other,
}

/// The kernel driver of a PCI function, as far as its PMD asks for something because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelDriver {
    /// Makes one netdevice of a function, and its PMD opens an ibverbs device (`drivers/net/mlx4`,
    /// `drivers/common/mlx5`).
    Mlx,
    /// Makes several netdevices of one function; its PMD tells them apart by `mac=` (`doc/guides/nics/mana.rst`), and
    /// opens an ibverbs device.
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
    /// The device it sits on.
    pub parent: Parent,
    /// The kernel driver of that, once somebody has asked for it.
    pub driver: Option<KernelDriver>,
    /// Whether somebody has set it up (`IFF_UP`).
    pub up: bool,
}

impl Link {
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
            if matches!(link.parent, Parent::Unknown | Parent::VmBus) && known.parent != Parent::Unknown {
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
        let gone: Vec<IfIndex> = {
            let present: std::collections::BTreeSet<IfIndex> = dump.iter().map(|link| link.index).collect();
            self.links.keys().filter(|index| !present.contains(index)).copied().collect()
        };
        let removed = gone.into_iter().filter_map(|index| self.remove(index)).collect::<Vec<_>>();
        removed.into_iter().chain(dump.into_iter().filter_map(|link| self.update(link))).collect()
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
