// SPDX-License-Identifier: BSD-3-Clause
//! Which links become ports, and which VF belongs to which port. Pure: all policy, no kernel and no EAL.
//!
//! A rule may hang on a fact that nobody has told yet ([`Parent::is_unknown`]). The `unclear_*` functions name the links to ask about; with these answered, the rules decide.

use std::fmt;

use crate::address::{IfIndex, IfName, MacAddr, PciAddr};
use crate::args::Selector;
use crate::link::{Link, LinkTable, Parent, Unreadable};

/// Why a link that the user named is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// There is none.
    #[error("no such interface in this network namespace")]
    Absent,
    /// It is no Ethernet link.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(IfName),
    /// It is not NetVSC, and `force=1` was not given.
    #[error("{0} is not a NetVSC interface: add force=1 to take it all the same")]
    NotNetVsc(IfName),
    /// What device it sits on cannot be read, and `force=1` was not given.
    #[error("cannot tell whether {name} is a NetVSC interface, as {why}, or add force=1 to take it all the same")]
    Unreadable {
        /// The link.
        name: IfName,
        /// Why nobody tells, and what to do.
        why: Unreadable,
    },
    /// It is the VF of a NetVSC link, which is what the user means.
    #[error("{vf} is the VF of {netvsc}: use iface={netvsc}")]
    IsVf {
        /// The link that was named.
        vf: IfName,
        /// The link to name.
        netvsc: IfName,
    },
}

/// Finds the link that a selector names; `alternative` is the one that has its name as an alternative one.
///
/// Of several with one address a NetVSC link goes first; else, with `force`, one that is neither enslaved to another of
/// them nor on the PCI bus: of KVM's three (failover master, standby, VF) the master. Then the lower index.
///
/// # Errors
/// [`Miss`].
pub fn choose(
    links: &LinkTable,
    selector: &Selector,
    alternative: Option<IfIndex>,
    force: bool,
) -> Result<IfIndex, Miss> {
    let named = named(links, selector, alternative);
    let among = |index: Option<IfIndex>| index.is_some_and(|index| named.iter().any(|link| link.index == index));
    let best = named
        .iter()
        .min_by_key(|link| (!link.ethernet, !link.is_netvsc(), among(link.master), link.is_on_pci(), link.index));
    let best = *best.ok_or(Miss::Absent)?;
    if !best.ethernet {
        return Err(Miss::NotEthernet(best.name));
    }
    if best.is_netvsc() {
        return Ok(best.index);
    }
    if let Some(netvsc) = netvsc_of(links, best) {
        return Err(Miss::IsVf { vf: best.name, netvsc: netvsc.name });
    }
    if force {
        return Ok(best.index);
    }
    if let Some(link) = named.iter().find(|link| link.ethernet && link.parent.is_unknown()) {
        return Err(Miss::Unreadable { name: link.name, why: why_unknown(link) });
    }
    Err(Miss::NotNetVsc(best.name))
}

fn why_unknown(link: &Link) -> Unreadable {
    // What tells of it is not there, if nothing else is known.
    if let Parent::Unreadable(why) = link.parent { why } else { Unreadable::Errno(libc::ENOENT) }
}

/// Links whose parent [`choose`] has to know.
pub fn unclear_for_choice(links: &LinkTable, selector: &Selector, alternative: Option<IfIndex>) -> Vec<IfIndex> {
    let named = named(links, selector, alternative);
    // A VF is told from other links by its NetVSC link, so that one counts too.
    let related = |link: &Link| named.iter().any(|named| fit(named, &Side::of(link)).is_some());
    let named_itself = |link: &Link| named.iter().any(|named| named.index == link.index);
    links
        .iter()
        .filter(|link| link.parent.is_unknown() && (named_itself(link) || related(link)))
        .map(|link| link.index)
        .collect()
}

/// All NetVSC links: what an instance takes that names none, as far as nothing is configured on them.
pub fn netvsc_links(links: &LinkTable) -> impl Iterator<Item = &Link> {
    links.iter().filter(|link| link.ethernet && link.is_netvsc())
}

/// Links whose parent [`netvsc_links`] has to know.
pub fn unclear_for_netvsc_links(links: &LinkTable) -> Vec<IfIndex> {
    unknown(links).map(|link| link.index).collect()
}

/// Finds a link of which nobody tells whether it is among [`netvsc_links`], how many more there are, and why.
pub fn untold(links: &LinkTable) -> Option<(IfName, usize, Unreadable)> {
    let mut unknown = unknown(links);
    let link = unknown.next()?;
    Some((link.name, unknown.count(), why_unknown(link)))
}

fn unknown(links: &LinkTable) -> impl Iterator<Item = &Link> {
    links.iter().filter(|link| link.ethernet && link.parent.is_unknown())
}

fn named<'a>(links: &'a LinkTable, selector: &Selector, alternative: Option<IfIndex>) -> Vec<&'a Link> {
    let mut named: Vec<&Link> = Vec::new();
    match selector {
        Selector::Name(name) => named.extend(links.iter().filter(|link| link.name == name.get())),
        Selector::Alternative(_) => {}
        Selector::Mac(mac) => named.extend(links.iter().filter(|link| link.mac == Some(*mac))),
    }
    if named.is_empty() {
        named.extend(alternative.and_then(|index| links.get(index)));
    }
    named
}

/// Tells whether a selector may be the alternative name of a link: no link has it as its name.
pub fn may_be_alternative(links: &LinkTable, selector: &Selector) -> bool {
    selector.name().is_some() && !links.iter().any(|link| names(selector, link))
}

/// Tells whether a selector names a link, other than by an alternative name.
pub fn names(selector: &Selector, link: &Link) -> bool {
    match selector {
        Selector::Name(name) => link.name == name.get(),
        Selector::Alternative(_) => false,
        Selector::Mac(mac) => link.mac == Some(*mac),
    }
}

/// The side of a pair that a port is made on: what its VF is recognized by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// The link.
    pub index: IfIndex,
    /// Its current address.
    pub mac: Option<MacAddr>,
    /// The address it had when its port was made: a new one changes nothing for the pair.
    pub first_mac: Option<MacAddr>,
}

impl Side {
    /// A link as it is now.
    pub fn of(link: &Link) -> Self {
        Self { index: link.index, mac: link.mac, first_mac: link.permanent_mac.or(link.mac) }
    }
}

/// How well a link fits as the VF of a side, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Enslaved,
    SameMac,
    SamePermanentMac,
    SameFirstMac,
}

impl Fit {
    /// What of it fits.
    fn name(self) -> &'static str {
        match self {
            Self::Enslaved => "master",
            Self::SameMac => "mac",
            Self::SamePermanentMac => "permanent_mac",
            Self::SameFirstMac => "first_mac",
        }
    }
}

fn fit(link: &Link, side: &Side) -> Option<Fit> {
    let same = |one: Option<MacAddr>, other: Option<MacAddr>| one.is_some() && one == other;
    if link.index == side.index || !link.ethernet || link.is_netvsc() {
        None
    } else if link.master == Some(side.index) {
        Some(Fit::Enslaved)
    } else if same(link.mac, side.mac) {
        Some(Fit::SameMac)
    } else if same(link.permanent_mac, side.mac) {
        Some(Fit::SamePermanentMac)
    } else if same(link.mac, side.first_mac) || same(link.permanent_mac, side.first_mac) {
        Some(Fit::SameFirstMac)
    } else {
        None
    }
}

/// Tells whether a link, as it is or was, may matter for the VF of a side.
pub fn concerns(link: &Link, side: &Side) -> bool {
    link.index == side.index || fit(link, side).is_some()
}

/// A link that is the VF of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vf {
    /// The link.
    pub index: IfIndex,
    /// Its PCI function.
    pub address: PciAddr,
    /// Another link that fits equally well and has the higher index.
    pub rival: Option<IfIndex>,
    /// What it is known by: `master`, `mac`, `permanent_mac` or `first_mac`.
    pub by: &'static str,
}

/// Finds the VF of a side: the best-fitting Ethernet link on the PCI bus, of equals the one with the lower index.
pub fn vf_of(links: &LinkTable, side: &Side) -> Option<Vf> {
    let mut found: Option<(Fit, Vf)> = None;
    // In the order of their index.
    let fitting = links.iter().filter_map(|link| match link.parent {
        Parent::Pci(address) => Some((fit(link, side)?, link.index, address)),
        _ => None,
    });
    for (fit, index, address) in fitting {
        match &mut found {
            Some((best, vf)) if fit == *best => vf.rival = vf.rival.or(Some(index)),
            Some((best, _)) if fit > *best => {}
            _ => found = Some((fit, Vf { index, address, rival: None, by: fit.name() })),
        }
    }
    found.map(|(_, vf)| vf)
}

/// Links whose parent [`vf_of`] has to know.
pub fn unclear_for_vf(links: &LinkTable, side: &Side) -> Vec<IfIndex> {
    let asks = |link: &&Link| link.parent.is_unknown() && fit(link, side).is_some();
    links.iter().filter(asks).map(|link| link.index).collect()
}

/// Finds the NetVSC link that a link is the VF of.
fn netvsc_of<'a>(links: &'a LinkTable, vf: &Link) -> Option<&'a Link> {
    if !vf.is_on_pci() {
        return None;
    }
    netvsc_links(links).find(|link| vf_of(links, &Side::of(link)).is_some_and(|found| found.index == vf.index))
}

/// What the kernel uses a link for, as the other links show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is enslaved to a bridge, a bond, a VRF: what comes in is that one's.
    Enslaved(IfIndex, Option<IfName>),
    /// Another link is stacked on it, such as a VLAN or a macvlan.
    Lower(IfIndex, IfName),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enslaved(index, Some(name)) => write!(f, "is enslaved to {name} (ifindex {index})"),
            Self::Enslaved(index, None) => write!(f, "is enslaved to ifindex {index}"),
            Self::Lower(index, name) => write!(f, "is the lower device of {name} (ifindex {index})"),
        }
    }
}

/// A link that a port may be made of, with its VF.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The link.
    pub link: &'a Link,
    /// Its VF, if it has one now.
    pub vf: Option<&'a Link>,
}

impl<'a> Pair<'a> {
    /// Finds the VF of a link.
    pub fn of(links: &'a LinkTable, link: &'a Link) -> Self {
        let vf = vf_of(links, &Side::of(link)).and_then(|vf| links.get(vf.index));
        Self { link, vf }
    }

    /// Finds what the kernel uses either of them for, and which one that is.
    pub fn used(&self, links: &LinkTable) -> Option<(&'a Link, Use)> {
        let of = |link: &'a Link, mate| use_of(links, link, mate).map(|used| (link, used));
        of(self.link, self.vf).or_else(|| of(self.vf?, Some(self.link)))
    }
}

/// Finds what the kernel uses a link for beside `mate`, the other one of a pair: a VF is enslaved to its NetVSC link, or
/// both to one master (`net/core/failover.c`).
fn use_of(links: &LinkTable, link: &Link, mate: Option<&Link>) -> Option<Use> {
    let is_the_pairs = |master: IfIndex| mate.is_some_and(|mate| mate.index == master || mate.master == Some(master));
    if let Some(master) = link.master.filter(|&master| !is_the_pairs(master)) {
        return Some(Use::Enslaved(master, links.get(master).map(|master| master.name)));
    }
    // Of a veth, each end names the other.
    let is_upper = |upper: &&Link| upper.lower == Some(link.index) && link.lower != Some(upper.index);
    links.iter().find(is_upper).map(|upper| Use::Lower(upper.index, upper.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::DevargsSafe;
    use proptest::prelude::*;

    const A: MacAddr = MacAddr([0, 0x15, 0x5d, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([0, 0x15, 0x5d, 0, 0, 0xb]);

    fn index(raw: u32) -> IfIndex {
        IfIndex::new(raw).unwrap()
    }

    fn pci_addr(raw: u32) -> PciAddr {
        format!("0000:{raw:02x}:00.0").parse().unwrap()
    }

    fn link(raw: u32, mac: MacAddr, parent: Parent) -> Link {
        let name = IfName::new(format!("if{raw}").as_bytes()).unwrap();
        Link::plain(index(raw), name, mac, parent)
    }

    fn netvsc(raw: u32, mac: MacAddr) -> Link {
        link(raw, mac, Parent::NetVsc)
    }

    fn pci(raw: u32, mac: MacAddr) -> Link {
        link(raw, mac, Parent::Pci(pci_addr(raw)))
    }

    fn enslaved(link: Link, master: u32) -> Link {
        Link { master: Some(index(master)), ..link }
    }

    fn permanent(link: Link, mac: MacAddr) -> Link {
        Link { permanent_mac: Some(mac), ..link }
    }

    fn table(links: impl IntoIterator<Item = Link>) -> LinkTable {
        let mut table = LinkTable::default();
        table.replace(links.into_iter().collect());
        table
    }

    fn by_name(raw: u32) -> Selector {
        let name = IfName::new(format!("if{raw}").as_bytes()).unwrap();
        Selector::Name(DevargsSafe::new(name).unwrap())
    }

    #[test]
    fn the_vf_of_link_2() {
        let table_of_cases: [(&str, Vec<Link>, Option<u32>); 10] = [
            ("none", vec![netvsc(2, A)], None),
            ("the one with its address", vec![netvsc(2, A), pci(5, A), pci(6, B)], Some(5)),
            (
                "the enslaved one even when another has the address",
                vec![netvsc(2, A), pci(5, A), enslaved(pci(7, B), 2)],
                Some(7),
            ),
            (
                "the one with the address before the one that has it as permanent address",
                vec![netvsc(2, A), permanent(pci(5, B), A), pci(6, A)],
                Some(6),
            ),
            ("the one that has it as permanent address", vec![netvsc(2, A), permanent(pci(5, B), A)], Some(5)),
            (
                "the one with the link's permanent address, after the link got another",
                vec![permanent(netvsc(2, B), A), pci(5, A)],
                Some(5),
            ),
            ("never a NetVSC link", vec![netvsc(2, A), netvsc(3, A)], None),
            ("never a virtual link", vec![netvsc(2, A), link(3, A, Parent::None)], None),
            ("never a link on another bus", vec![netvsc(2, A), link(3, A, Parent::Other)], None),
            ("of equals the lower index", vec![netvsc(2, A), pci(9, A), pci(5, A)], Some(5)),
        ];
        for (what, links, want) in table_of_cases {
            let links = table(links);
            let side = Side::of(links.get(index(2)).unwrap());
            assert_eq!(vf_of(&links, &side).map(|vf| vf.index), want.map(index), "{what}");
        }
    }

    #[test]
    fn two_that_fit_equally_well_are_rivals() {
        let links = table([netvsc(2, A), pci(5, A), pci(9, A), enslaved(pci(7, A), 2)]);
        let side = Side::of(links.get(index(2)).unwrap());
        assert_eq!(vf_of(&links, &side), Some(Vf { index: index(7), address: pci_addr(7), rival: None, by: "master" }));
        let links = table([netvsc(2, A), pci(5, A), pci(9, A)]);
        assert_eq!(vf_of(&links, &side).unwrap().rival, Some(index(9)));
    }

    #[test]
    fn with_virtio_standby_either_name_finds_the_vf() {
        let master = link(2, A, Parent::Other);
        let standby = enslaved(link(3, A, Parent::Other), 2);
        let vf = enslaved(pci(4, A), 2);
        let links = table([master, standby, vf]);
        for named in [2, 3] {
            assert_eq!(choose(&links, &by_name(named), None, true), Ok(index(named)));
            let side = Side::of(links.get(index(named)).unwrap());
            assert_eq!(vf_of(&links, &side).map(|vf| vf.index), Some(index(4)), "if{named}");
        }
        assert_eq!(choose(&links, &Selector::Mac(A), None, true), Ok(index(2)));
    }

    #[test]
    fn a_link_is_in_use_when_it_or_its_vf_is_enslaved_to_another_or_below_another() {
        let on = |lower: u32, link: Link| Link { lower: Some(index(lower)), ..link };
        let plain = |raw| link(raw, B, Parent::None);
        let master = Use::Enslaved(index(9), Some(IfName::new(b"if9").unwrap()));
        let upper = Use::Lower(index(9), IfName::new(b"if9").unwrap());
        type Case = (&'static str, Vec<Link>, Option<(u32, Use)>);
        let table_of_cases: [Case; 10] = [
            ("neither", vec![netvsc(2, A), enslaved(pci(5, A), 2)], None),
            ("a bridge's port", vec![enslaved(netvsc(2, A), 9), plain(9)], Some((2, master))),
            ("of a master unseen", vec![enslaved(netvsc(2, A), 9)], Some((2, Use::Enslaved(index(9), None)))),
            ("below a macvlan", vec![netvsc(2, A), on(2, plain(9))], Some((2, upper))),
            ("one end of a veth", vec![on(9, netvsc(2, A)), on(2, plain(9))], None),
            (
                "below a macvlan, and one end of a veth",
                vec![on(8, netvsc(2, A)), on(2, plain(8)), on(2, plain(9))],
                Some((2, upper)),
            ),
            ("its VF below a VLAN", vec![netvsc(2, A), enslaved(pci(5, A), 2), on(5, plain(9))], Some((5, upper))),
            ("its VF in a bond", vec![netvsc(2, A), enslaved(pci(5, A), 9), plain(9)], Some((5, master))),
            ("both with one master", vec![enslaved(netvsc(2, A), 9), enslaved(pci(5, A), 9), plain(9)], None),
            ("another's VF below a VLAN", vec![netvsc(2, A), pci(5, B), on(5, plain(9))], None),
        ];
        for (what, links, want) in table_of_cases {
            let links = table(links);
            let used = Pair::of(&links, links.get(index(2)).unwrap()).used(&links);
            assert_eq!(used.map(|(link, used)| (link.index.get(), used)), want, "{what}");
        }
        assert_eq!(master.to_string(), "is enslaved to if9 (ifindex 9)");
        assert_eq!(Use::Enslaved(index(9), None).to_string(), "is enslaved to ifindex 9");
        assert_eq!(upper.to_string(), "is the lower device of if9 (ifindex 9)");
    }

    #[test]
    fn named_links_that_are_not_taken() {
        let loopback = Link { ethernet: false, ..link(1, A, Parent::None) };
        let name = |raw: u32| IfName::new(format!("if{raw}").as_bytes()).unwrap();
        let links = table([loopback, netvsc(2, A), pci(5, A), pci(6, B), enslaved(pci(7, B), 2)]);
        let table_of_cases = [
            (by_name(99), false, Err(Miss::Absent)),
            (by_name(1), true, Err(Miss::NotEthernet(name(1)))),
            (by_name(2), false, Ok(index(2))),
            (by_name(6), false, Err(Miss::NotNetVsc(name(6)))),
            (by_name(6), true, Ok(index(6))),
            (by_name(7), false, Err(Miss::IsVf { vf: name(7), netvsc: name(2) })),
            (by_name(7), true, Err(Miss::IsVf { vf: name(7), netvsc: name(2) })),
            (Selector::Mac(A), false, Ok(index(2))),
            (Selector::Mac(MacAddr([2; 6])), true, Err(Miss::Absent)),
        ];
        for (selector, force, want) in table_of_cases {
            assert_eq!(choose(&links, &selector, None, force), want, "{selector} force={force}");
        }
        let message = choose(&links, &by_name(7), None, false).unwrap_err().to_string();
        assert_eq!(message, "if7 is the VF of if2: use iface=if2");
    }

    #[test]
    fn a_link_is_known_by_an_alternative_name_that_is_no_links_name() {
        let links = table([netvsc(2, A), netvsc(3, B), pci(5, A)]);
        let long = Selector::Alternative(crate::args::AltName::new(b"the_first_of_the_rack").unwrap());
        for (selector, alternative, want) in [
            (by_name(9), None, Err(Miss::Absent)),
            (by_name(9), Some(3), Ok(index(3))),
            (by_name(9), Some(4), Err(Miss::Absent)),
            (long, Some(3), Ok(index(3))),
            (by_name(2), Some(3), Ok(index(2))),
        ] {
            assert_eq!(choose(&links, &selector, alternative.map(index), false), want, "{selector} {alternative:?}");
        }
        assert!(may_be_alternative(&links, &by_name(9)) && may_be_alternative(&links, &long));
        assert!(!may_be_alternative(&links, &by_name(2)) && !may_be_alternative(&links, &Selector::Mac(A)));
    }

    #[test]
    fn a_link_that_nobody_can_tell_of_is_not_called_another() {
        let links = table([
            link(1, A, Parent::None),
            link(2, A, Parent::Unreadable(Unreadable::Errno(libc::EACCES))),
            link(3, B, Parent::Unknown),
            pci(5, B),
        ]);
        let unreadable = |raw: u32, errno| {
            let why = Unreadable::Errno(errno);
            Err(Miss::Unreadable { name: IfName::new(format!("if{raw}").as_bytes()).unwrap(), why })
        };
        for (selector, force, want) in [
            (by_name(2), false, unreadable(2, libc::EACCES)),
            (by_name(2), true, Ok(index(2))),
            (by_name(3), false, unreadable(3, libc::ENOENT)),
            (Selector::Mac(A), false, unreadable(2, libc::EACCES)),
            (Selector::Mac(B), false, unreadable(3, libc::ENOENT)),
            (Selector::Mac(B), true, Ok(index(3))),
        ] {
            assert_eq!(choose(&links, &selector, None, force), want, "{selector} force={force}");
        }
        let message = choose(&links, &by_name(2), None, false).unwrap_err().to_string();
        assert_eq!(
            message,
            "cannot tell whether if2 is a NetVSC interface, as /sys/class/net does not tell: Permission denied (os error \
             13): mount sysfs of this network namespace and make it readable, or add force=1 to take it all the same"
        );
    }

    #[test]
    fn only_what_a_rule_hangs_on_is_asked() {
        let unknown = |raw, mac| link(raw, mac, Parent::Unknown);
        let links =
            table([unknown(2, A), unknown(3, B), link(4, A, Parent::Unreadable(Unreadable::Errno(1))), pci(5, B)]);
        let side = Side::of(links.get(index(2)).unwrap());
        assert_eq!(unclear_for_vf(&links, &side), [index(4)]);
        assert_eq!(unclear_for_choice(&links, &by_name(2), None), [index(2), index(4)]);
        assert_eq!(unclear_for_choice(&links, &by_name(5), None), [index(3)]);
        assert_eq!(unclear_for_netvsc_links(&links), [2, 3, 4].map(index));
    }

    #[test]
    fn of_which_links_nobody_tells_whether_they_are_netvsc() {
        let name = |raw: u32| IfName::new(format!("if{raw}").as_bytes()).unwrap();
        let loopback = Link { ethernet: false, ..link(1, A, Parent::Unknown) };
        let links = table([
            loopback,
            netvsc(2, A),
            Link { ethernet: false, ..netvsc(3, A) },
            link(4, A, Parent::Unreadable(Unreadable::NotMounted)),
            link(5, A, Parent::Unknown),
            pci(6, A),
        ]);
        assert_eq!(untold(&links), Some((name(4), 1, Unreadable::NotMounted)));
        assert!(netvsc_links(&links).map(|link| link.index).eq([index(2)]));
        let links = table([link(5, A, Parent::Unknown)]);
        assert_eq!(untold(&links), Some((name(5), 0, Unreadable::Errno(libc::ENOENT))));
        assert_eq!(untold(&table([netvsc(2, A), pci(6, A)])), None);
    }

    #[test]
    fn a_link_concerns_a_side_that_is_its_own_or_that_it_resembles() {
        let side = Side { index: index(2), mac: Some(A), first_mac: Some(B) };
        let other = MacAddr([9; 6]);
        for (link, want) in [
            (netvsc(2, other), true),
            (netvsc(3, A), false),
            (pci(5, A), true),
            (pci(5, B), true),
            (permanent(pci(5, other), A), true),
            (permanent(pci(5, other), B), true),
            (enslaved(pci(5, other), 2), true),
            (enslaved(pci(5, other), 3), false),
            (Link { ethernet: false, ..pci(5, A) }, false),
        ] {
            assert_eq!(concerns(&link, &side), want, "{link:?}");
        }
        let unaddressed = Side { mac: None, first_mac: None, ..side };
        assert!(!concerns(&Link { mac: None, ..pci(5, A) }, &unaddressed), "no address is not the same address");
    }

    #[test]
    fn a_selector_names_a_link_by_name_or_address() {
        let link = netvsc(2, A);
        let long = Selector::Alternative(crate::args::AltName::new(b"the_first_of_the_rack").unwrap());
        for (selector, want) in [
            (by_name(2), true),
            (by_name(3), false),
            (Selector::Mac(A), true),
            (Selector::Mac(B), false),
            (long, false),
        ] {
            assert_eq!(names(&selector, &link), want, "{selector}");
        }
    }

    fn any_link() -> impl Strategy<Value = Link> {
        let mac = prop_oneof![Just(None), Just(Some(A)), Just(Some(B))];
        let parent = prop_oneof![
            Just(Parent::Unknown),
            Just(Parent::Unreadable(Unreadable::Errno(libc::EACCES))),
            Just(Parent::None),
            Just(Parent::NetVsc),
            Just(Parent::Other),
            (0u32..6).prop_map(|raw| Parent::Pci(pci_addr(raw))),
        ];
        let master = proptest::option::of((1u32..6).prop_map(index));
        (1u32..6, mac.clone(), mac, master, parent, any::<bool>()).prop_map(
            |(raw, mac, permanent_mac, master, parent, ethernet)| Link {
                mac,
                permanent_mac,
                master,
                ethernet,
                ..link(raw, A, parent)
            },
        )
    }

    proptest! {
        #[test]
        fn the_vf_never_is_the_link_itself_nor_netvsc_nor_off_the_pci_bus(links in proptest::collection::vec(any_link(), 0..6)) {
            let links = table(links);
            for link in links.iter() {
                if let Some(vf) = vf_of(&links, &Side::of(link)) {
                    let found = links.get(vf.index).unwrap();
                    prop_assert!(vf.index != link.index && found.ethernet && !found.is_netvsc());
                    prop_assert_eq!(found.parent, Parent::Pci(vf.address));
                    prop_assert!(concerns(found, &Side::of(link)));
                    prop_assert!(vf.rival.is_none_or(|rival| rival > vf.index));
                }
            }
        }

        #[test]
        fn a_choice_is_a_link_that_was_named(links in proptest::collection::vec(any_link(), 0..6), force: bool) {
            let links = table(links);
            for selector in [by_name(2), Selector::Mac(A)] {
                if let Ok(chosen) = choose(&links, &selector, None, force) {
                    let chosen = links.get(chosen).unwrap();
                    prop_assert!(chosen.ethernet && (force || chosen.is_netvsc()));
                    match selector {
                        Selector::Mac(mac) => prop_assert_eq!(chosen.mac, Some(mac)),
                        Selector::Name(name) => prop_assert_eq!(chosen.name, name.get()),
                        Selector::Alternative(_) => prop_assert!(false),
                    }
                }
            }
        }
    }
}
