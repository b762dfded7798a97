// SPDX-License-Identifier: BSD-3-Clause
//! How netdevices and PCI functions are named: what the kernel and DPDK both speak of.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_when_sysfs_has_a_place_for_it() {
        for name in [&b"a"[..], b"eth0", b"123456789012345", b"...", b"a.b", b"\xff),(\n"] {
            assert_eq!(IfName::new(name).unwrap().as_bytes(), name);
        }
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0", b"1234567890123456"] {
            assert_eq!(IfName::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_told_of_them() {
        let name = IfName::new(b"\xffa\n").unwrap();
        let mac = MacAddr([0, 0x15, 0x5d, 0xab, 0, 1]);
        assert_eq!(format!("{name} {name:?} {mac} {mac:?}"), r"\xffa\n \xffa\n 00:15:5d:ab:00:01 00:15:5d:ab:00:01");
        let (index, pci) = (IfIndex::new(70).unwrap(), "7870:00:1f.7".parse::<PciAddr>().unwrap());
        assert_eq!(format!("{index} {} {pci} {pci:?}", index.get()), "70 70 7870:00:1f.7 7870:00:1f.7");
        assert_eq!(IfIndex::new(0), None);
    }

    #[test]
    fn a_pci_address_has_all_four_parts() {
        for text in ["0000:01:00.0", "ffff:ff:1f.7", "10000:00:00.1", "ffffffff:0a:10.2"] {
            assert_eq!(text.parse::<PciAddr>().unwrap().to_string(), text);
        }
        assert_eq!("ABCD:0E:00.0".parse::<PciAddr>().unwrap().to_string(), "abcd:0e:00.0");
        for text in [
            "",
            "01:00.0",
            "0000:01:00",
            "0000:01:00.",
            "000:01:00.0",
            "100000000:01:00.0",
            "0000:1:00.0",
            "0000:001:00.0",
            "0000:01:0.0",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:01:00.00",
            "+000:01:00.0",
            "0000:+1:00.0",
            "0000:01:00.+",
            "0000:0g:00.0",
        ] {
            assert_eq!(text.parse::<PciAddr>(), Err(NotPci), "{text}");
        }
    }
}
