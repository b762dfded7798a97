// SPDX-License-Identifier: BSD-3-Clause
//! Device arguments to [`Args`]. Pure: `eal::kvargs` splits the text, this decides what it means.
//!
//! The interface name given here ends up in failsafe's argument string, whose syntax has no quoting
//! (`drivers/net/failsafe/failsafe_args.c`), so a name is checked to mean nothing but itself there: [`DevargsSafe`].

use std::ffi::{CStr, CString};
use std::fmt;

use crate::address::{IfName, MacAddr};

/// Everything that `dpdk-pmdinfo.py` is to list, in the words of the C driver and in its order.
pub const KEYS: [&str; 7] = ["iface", "mac", "force", "ignore", "fallback", "hotplug_poll", "queues"];

/// How often failsafe looks for a missing sub-device unless the user says otherwise, in milliseconds.
///
/// Failsafe's own default of 2000 is what makes a VF wait two seconds; a look costs it a few microseconds.
pub const HOTPLUG_POLL_DEFAULT_MS: u32 = 100;
const HOTPLUG_POLL_MS: std::ops::RangeInclusive<u32> = 10..=60_000;

/// How many queues a port may have, each way: as many as `net_tap` has, for which nothing can be said otherwise
/// (`RTE_PMD_TAP_MAX_QUEUES`).
pub const QUEUES_MAX: u16 = 16;

/// One way in which the user names a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// `iface=`: the link with this name, or with this alternative name.
    Name(DevargsSafe),
    /// `iface=`, too long for any but an alternative name.
    Alternative(AltName),
    /// `mac=`: the link with this address.
    Mac(MacAddr),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "iface={}", name.get()),
            Self::Alternative(name) => write!(f, "iface={}", name.as_bytes().escape_ascii()),
            Self::Mac(mac) => write!(f, "mac={mac}"),
        }
    }
}

impl Selector {
    /// Returns the name, if it is one.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Name(name) => Some(name.0.as_bytes()),
            Self::Alternative(name) => Some(name.as_bytes()),
            Self::Mac(_) => None,
        }
    }
}

/// The PMD that drives the NetVSC netdevice itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// `net_tap` with `remote=`.
    #[default]
    Tap,
    /// `net_af_packet`.
    AfPacket,
}

/// The arguments of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// The links that the user names, in his order; none means every NetVSC link without configuration.
    pub selectors: Vec<Selector>,
    /// Whether a named link is taken even when it is not NetVSC.
    pub force: bool,
    /// Whether the instance does nothing, and by being there keeps the automatic one away.
    pub ignore: bool,
    /// The fallback of each port.
    pub fallback: Fallback,
    /// Failsafe's polling period in milliseconds, 10 to 60000.
    pub hotplug_poll_ms: u32,
    /// How many queues each port has at most, each way: 1 to [`QUEUES_MAX`].
    pub queues: u16,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            selectors: Vec::new(),
            force: false,
            ignore: false,
            fallback: Fallback::default(),
            hotplug_poll_ms: HOTPLUG_POLL_DEFAULT_MS,
            queues: QUEUES_MAX,
        }
    }
}

/// An argument that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no list of arguments.
    #[error("cannot read the arguments {0:?}: expected key=value[,key=value...], at most 32 of them")]
    Malformed(CString),
    /// There is no such argument.
    #[error("unknown argument {0:?}: expected one of {list}", list = KEYS.join(", "))]
    Unknown(CString),
    /// The argument has no value.
    #[error("argument {0} needs a value: {expected}", expected = expected(.0))]
    NoValue(&'static str),
    /// The value is not accepted.
    #[error("argument {key}={value:?}: {expected}", expected = expected(.key))]
    Value {
        /// The argument.
        key: &'static str,
        /// What the user gave.
        value: CString,
    },
}

fn expected(key: &str) -> &'static str {
    match key {
        "iface" => "expected an interface name of 1 to 127 bytes without white space or any of , ( ) = [ ] / :",
        "mac" => "expected an Ethernet address such as 00:15:5d:01:02:03",
        "fallback" => "expected tap or af_packet",
        "hotplug_poll" => "expected milliseconds from 10 to 60000",
        "queues" => "expected a number from 1 to 16",
        _ => "expected 0 or 1",
    }
}

impl Args {
    /// Reads the arguments of an instance; `split` is `rte_kvargs_parse`, `parse_mac` is `rte_ether_unformat_addr`.
    ///
    /// # Errors
    /// At the first argument that is unknown, has no value or a value that is not accepted.
    pub fn parse(
        text: &CStr,
        split: impl FnOnce(&CStr) -> Option<Vec<(CString, Option<CString>)>>,
        parse_mac: impl Fn(&CStr) -> Option<MacAddr>,
    ) -> Result<Self, Error> {
        // Of iface=a=b kvargs makes the pair a=b, and so an interface name would become another argument.
        for pair in text.to_bytes().split(|&b| b == b',') {
            let mut parts = pair.splitn(2, |&b| b == b'=');
            if let (Some(given), Some(value)) = (parts.next(), parts.next().filter(|value| value.contains(&b'='))) {
                let [given, value] = [given, value].map(|part| CString::new(part).unwrap_or_default());
                return Err(known(&given).map_or(Error::Unknown(given), |key| Error::Value { key, value }));
            }
        }
        let pairs = split(text).ok_or_else(|| Error::Malformed(text.to_owned()))?;
        let mut args = Self::default();
        for (given, value) in pairs {
            let key = known(&given).ok_or_else(|| Error::Unknown(given.clone()))?;
            let value = value.as_deref().ok_or(Error::NoValue(key))?;
            args.set(key, value, &parse_mac).ok_or_else(|| Error::Value { key, value: value.to_owned() })?;
        }
        Ok(args)
    }

    fn set(&mut self, key: &str, value: &CStr, parse_mac: impl Fn(&CStr) -> Option<MacAddr>) -> Option<()> {
        match key {
            "iface" => {
                let value = value.to_bytes();
                let short = IfName::new(value).and_then(DevargsSafe::new).map(Selector::Name);
                self.selectors.push(short.or_else(|| AltName::new(value).map(Selector::Alternative))?);
            }
            "mac" => self.selectors.push(Selector::Mac(parse_mac(value)?)),
            "force" => self.force = flag(value)?,
            "ignore" => self.ignore = flag(value)?,
            "fallback" => {
                self.fallback = match value.to_bytes() {
                    b"tap" => Fallback::Tap,
                    b"af_packet" => Fallback::AfPacket,
                    _ => return None,
                };
            }
            "hotplug_poll" => self.hotplug_poll_ms = number(value).filter(|ms| HOTPLUG_POLL_MS.contains(ms))?,
            "queues" => self.queues = number(value).filter(|queues| (1..=QUEUES_MAX).contains(queues))?,
            _ => return None,
        }
        Some(())
    }
}

fn known(given: &CStr) -> Option<&'static str> {
    KEYS.into_iter().find(|key| key.as_bytes() == given.to_bytes())
}

/// Digits only: `parse` would take a sign.
fn number<T: std::str::FromStr>(value: &CStr) -> Option<T> {
    value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

fn flag(value: &CStr) -> Option<bool> {
    match value.to_bytes() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// An interface name that means nothing but itself inside failsafe's argument string.
///
/// # Invariants
/// No byte has a meaning to failsafe (`,` `(` `)`), to kvargs (`,` `=` `[` `]`) or is refused by the fallback PMDs
/// (`/` `:` and white space; `drivers/net/tap/rte_eth_tap.c`, `is_valid_iface`), and none is a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevargsSafe(IfName);

fn is_safe(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| !b.is_ascii_control() && *b != b' ' && !b",()=[]/:".contains(b))
}

impl DevargsSafe {
    /// Takes the name when it can be carried safely.
    pub fn new(name: IfName) -> Option<Self> {
        is_safe(name.as_bytes()).then_some(Self(name))
    }

    /// Returns the name.
    pub fn get(&self) -> IfName {
        self.0
    }
}

/// An alternative name of a netdevice that is longer than a name can be, of bytes as in [`DevargsSafe`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AltName {
    len: u8,
    bytes: [u8; Self::MAX_BYTES],
}

impl AltName {
    /// Longest name in bytes: `ALTIFNAMSIZ` of `linux/if.h` without its terminating NUL.
    pub const MAX_BYTES: usize = 127;

    /// Takes a name; `None` when it is no longer than [`IfName::MAX_BYTES`], too long, or means something elsewhere.
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        let len = u8::try_from(name.len()).ok()?;
        (name.len() > IfName::MAX_BYTES && is_safe(name)).then_some(Self { len, bytes })
    }

    /// Returns the name as the kernel has it.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_bytes().escape_ascii(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eal::kvargs;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Args, Error> {
        Args::parse(&CString::new(text).unwrap(), |text| kvargs::parse(text).unwrap(), kvargs::parse_mac)
    }

    fn name(text: &str) -> Selector {
        Selector::Name(DevargsSafe::new(IfName::new(text.as_bytes()).unwrap()).unwrap())
    }

    fn long(text: &str) -> Selector {
        Selector::Alternative(AltName::new(text.as_bytes()).unwrap())
    }

    const MAC: Selector = Selector::Mac(MacAddr([0, 0x15, 0x5d, 1, 2, 0xff]));

    #[test]
    fn good_arguments() {
        let table = [
            ("", Args::default()),
            ("iface=eth1", Args { selectors: vec![name("eth1")], ..Args::default() }),
            ("iface=eth1,iface=lan.0", Args { selectors: vec![name("eth1"), name("lan.0")], ..Args::default() }),
            ("iface=1234567890123456", Args { selectors: vec![long("1234567890123456")], ..Args::default() }),
            ("iface=123456789012345", Args { selectors: vec![name("123456789012345")], ..Args::default() }),
            ("mac=00:15:5D:01:02:ff,iface=a", Args { selectors: vec![MAC, name("a")], ..Args::default() }),
            ("mac=0015:5d01:02ff", Args { selectors: vec![MAC], ..Args::default() }),
            ("force=1,ignore=1", Args { force: true, ignore: true, ..Args::default() }),
            ("force=1,force=0,ignore=0", Args::default()),
            ("fallback=af_packet", Args { fallback: Fallback::AfPacket, ..Args::default() }),
            ("fallback=tap,hotplug_poll=10", Args { hotplug_poll_ms: 10, ..Args::default() }),
            ("hotplug_poll=60000", Args { hotplug_poll_ms: 60_000, ..Args::default() }),
            ("queues=1", Args { queues: 1, ..Args::default() }),
            ("queues=4,queues=16", Args { queues: 16, ..Args::default() }),
        ];
        for (text, want) in table {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn refused_arguments_name_the_argument_the_value_and_what_is_accepted() {
        let table = [
            ("iface=", "argument iface=\"\": expected an interface name of 1 to 127 bytes"),
            ("iface=1234567890123456(", "argument iface=\"1234567890123456(\": expected an interface name"),
            ("iface=lan0)", "argument iface=\"lan0)\": expected"),
            ("iface=a(b", "argument iface=\"a(b\": expected"),
            ("iface=a b", "argument iface=\"a b\": expected"),
            ("iface=a=b", "argument iface=\"a=b\": expected"),
            ("iface=a=force=1", "argument iface=\"a=force=1\": expected"),
            ("iface=[a,b]", "argument iface=\"[a,b]\": expected"),
            ("iface=a]", "argument iface=\"a]\": expected"),
            ("iface=a/b", "argument iface=\"a/b\": expected"),
            ("iface=a:b", "argument iface=\"a:b\": expected"),
            ("iface=..", "argument iface=\"..\": expected"),
            ("mac=eth1", "argument mac=\"eth1\": expected an Ethernet address"),
            ("mac=", "argument mac=\"\": expected an Ethernet address"),
            ("force=2", "argument force=\"2\": expected 0 or 1"),
            ("force=yes", "argument force=\"yes\": expected 0 or 1"),
            ("ignore=", "argument ignore=\"\": expected 0 or 1"),
            ("fallback=af_xdp", "argument fallback=\"af_xdp\": expected tap or af_packet"),
            ("hotplug_poll=9", "argument hotplug_poll=\"9\": expected milliseconds from 10 to 60000"),
            ("hotplug_poll=60001", "argument hotplug_poll=\"60001\": expected milliseconds"),
            ("hotplug_poll=+100", "argument hotplug_poll=\"+100\": expected milliseconds"),
            ("hotplug_poll=0x64", "argument hotplug_poll=\"0x64\": expected milliseconds"),
            ("hotplug_poll=", "argument hotplug_poll=\"\": expected milliseconds"),
            ("queues=0", "argument queues=\"0\": expected a number from 1 to 16"),
            ("queues=17", "argument queues=\"17\": expected a number from 1 to 16"),
            ("queues=65537", "argument queues=\"65537\": expected a number from 1 to 16"),
            ("queues=x", "argument queues=\"x\": expected a number from 1 to 16"),
            ("queues=+4", "argument queues=\"+4\": expected a number from 1 to 16"),
            ("queues", "argument queues needs a value: expected a number from 1 to 16"),
            (
                "remote=eth1",
                "unknown argument \"remote\": expected one of iface, mac, force, ignore, fallback, hotplug_poll, queues",
            ),
            ("iface", "argument iface needs a value: expected an interface name"),
            ("iface=eth1,force", "argument force needs a value: expected 0 or 1"),
            ("ifac", "unknown argument \"ifac\""),
        ];
        for (text, want) in table {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.starts_with(want), "{text}: {message}");
        }
    }

    #[test]
    fn the_longest_names() {
        let names = [15, 16, 127, 128].map(|length| "a".repeat(length));
        let taken = names.each_ref().map(|name| parse(&format!("iface={name}")).ok().map(|args| args.selectors));
        let [short, alternative, longest, _] = &names;
        assert_eq!(taken, [Some(vec![name(short)]), Some(vec![long(alternative)]), Some(vec![long(longest)]), None]);
        assert_eq!(AltName::new(short.as_bytes()), None, "it may be a name");
    }

    #[test]
    fn a_selector_is_told_as_it_is_given() {
        let other = "a_name_that_is_longer";
        for (selector, told, name) in [
            (name("eth1"), "iface=eth1".to_owned(), Some("eth1")),
            (long(other), format!("iface={other}"), Some(other)),
            (MAC, "mac=00:15:5d:01:02:ff".to_owned(), None),
        ] {
            assert_eq!((selector.to_string(), selector.name()), (told, name.map(str::as_bytes)));
        }
        assert_eq!(format!("{:?}", AltName::new(other.as_bytes()).unwrap()), other);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_accepted_name_carries_syntax(text in "[ -~]{0,80}") {
            if let Ok(args) = parse(&text) {
                for name in args.selectors.iter().filter_map(Selector::name) {
                    prop_assert!(!name.is_empty() && name.len() <= AltName::MAX_BYTES);
                    prop_assert!(!name.iter().any(|b| b",()=[]/: ".contains(b)));
                }
                prop_assert!((10..=60_000).contains(&args.hotplug_poll_ms));
                prop_assert!((1..=16).contains(&args.queues));
            }
        }

        #[test]
        fn a_name_is_accepted_exactly_when_it_is_safe(bytes in proptest::collection::vec(1u8.., 1..=15)) {
            let safe = bytes.iter().all(|&b| b > b' ' && b != 0x7f && !b",()=[]/:".contains(&b));
            let accepted = IfName::new(&bytes).and_then(DevargsSafe::new).is_some();
            prop_assert_eq!(accepted, safe && bytes != b"." && bytes != b"..");
        }
    }
}
