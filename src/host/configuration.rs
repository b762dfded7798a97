// SPDX-License-Identifier: BSD-3-Clause
//! What somebody has configured on a link: an address or a route that a port made of the link would steal.
//!
//! What the kernel sets up by itself on every link that is up does not count: link-local addresses (`fe80::/10`,
//! `169.254.0.0/16`), the routes to them, and those to multicast (`ff00::/8`, `224.0.0.0/4`), whichever table they are
//! in: `local` holds `fe80::1/128`, `fe80::/128` (anycast) and `ff00::/8` of such a link.
//!
//! The kernel is asked to tell only of the link in question. It does since Linux 4.20 and marks its messages with
//! `NLM_F_DUMP_FILTERED`; older ones tell of all links and we sift. It finds addresses by their link. It looks at all
//! routes in either case, but hands out the few that matter: a router's routes elsewhere cost its walk, some 300 ns each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use libc::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTA_MULTIPATH, RTA_OIF, RTA_TABLE, RTM_F_CLONED, RTM_NEWADDR,
    RTM_NEWROUTE,
};

use super::message::{Message, attributes};
use super::netlink::{Request, Requests, TRIES, is_filtered};
use super::{Error, List};
use crate::address::IfIndex;

/// Something that is configured on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    /// An address and the length of its prefix.
    Address(IpAddr, u8),
    /// A route over the link.
    Route {
        /// Where it leads: unspecified, with a prefix of length 0, for a default route.
        dst: IpAddr,
        /// Length of the prefix of `dst`.
        prefix: u8,
        /// Table it is in; `ip route show table N` shows it.
        table: u32,
    },
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, prefix) => write!(f, "address {address}/{prefix}"),
            Self::Route { dst, prefix, table } => write!(f, "route {dst}/{prefix} in table {table}"),
        }
    }
}

/// Finds something that is configured on a link beyond what the kernel sets up by itself: of what these requests list,
/// the first.
///
/// An answer that finds something is left where it is; what is left of it is read away before the next request.
pub(super) fn find(
    kernel: &mut Requests,
    index: IfIndex,
    requests: &[Request],
) -> Result<Option<Configuration>, Error> {
    for request in requests {
        match (request.list, find_in(kernel, index, request)) {
            (_, Ok(None)) => {}
            (_, Ok(found)) => return Ok(found),
            // The link is gone, or has no addresses of this family at all: the routes will tell which.
            (List::Addresses, Err(error)) if error.errno() == libc::ENODEV => {}
            (_, Err(error)) if error.errno() == libc::ENODEV => return Err(Error::Gone { index }),
            (_, Err(error)) => return Err(error),
        }
    }
    Ok(None)
}

fn find_in(kernel: &mut Requests, index: IfIndex, request: &Request) -> Result<Option<Configuration>, Error> {
    for _ in 0..TRIES {
        let mut found = None;
        let whole = kernel.read(request, |message| {
            found = configuration_in(message, index);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // What was found is there, whatever else has changed.
        if whole || found.is_some() {
            return Ok(found);
        }
    }
    Err(Error::Inconsistent { list: request.list, tries: TRIES })
}

/// Lists the questions that the kernel is asked about a link, in their order: addresses, then routes, IPv4 before IPv6.
pub fn requests(index: IfIndex) -> [Request; 4] {
    let index = index.get().to_ne_bytes();
    // struct ifaddrmsg: family u8, prefix length u8, flags u8, scope u8, index u32.
    let addresses =
        |family| Request { list: List::Addresses, header: [[family, 0, 0, 0], index].concat(), attribute: None };
    // struct rtmsg starts with the family. The table stays 0, which stands for all.
    let routes = |family| Request {
        list: List::Routes,
        header: vec![family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        attribute: Some((RTA_OIF, index)),
    };
    [addresses(INET), addresses(INET6), routes(INET), routes(INET6)]
}

const INET: u8 = AF_INET as u8;
const INET6: u8 = AF_INET6 as u8;

/// Decodes an address or route message; `None` when it is about another link or about nothing that counts.
pub fn configuration_in(message: &Message<'_>, index: IfIndex) -> Option<Configuration> {
    match message.kind {
        RTM_NEWADDR => address(message).filter(|&(of, _)| of == index).map(|(_, address)| address),
        RTM_NEWROUTE => route_in(message, index),
        _ => None,
    }
}

/// Decodes an address message: which link has got which address; `None` when that does not count.
pub(super) fn address(message: &Message<'_>) -> Option<(IfIndex, Configuration)> {
    let (&[family, prefix, _, _, i0, i1, i2, i3], rest) = message.payload.split_first_chunk::<8>()?;
    let index = IfIndex::new(u32::from_ne_bytes([i0, i1, i2, i3]))?;
    let (mut local, mut address) = (None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            IFA_LOCAL => local = ip(family, value),
            IFA_ADDRESS => address = ip(family, value),
            _ => {}
        }
    }
    // Where both are told, IFA_ADDRESS is the other end of a point-to-point link.
    let address = local.or(address)?;
    (!LINK_LOCAL.contain(address, u8::MAX)).then_some((index, Configuration::Address(address, prefix)))
}

fn route_in(message: &Message<'_>, index: IfIndex) -> Option<Configuration> {
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, all u8; flags u32.
    let (&[family, prefix, _, _, table, _, _, _, f0, f1, f2, f3], rest) = message.payload.split_first_chunk::<12>()?;
    // Older kernels also list what the routes were used for, such as a path's MTU.
    if u32::from_ne_bytes([f0, f1, f2, f3]) & RTM_F_CLONED != 0 {
        return None;
    }
    let mut dst = match family {
        INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    // The table has 8 bits in the header, and all of them in the attribute.
    let mut table = u32::from(table);
    let (mut is_told, mut is_ours) = (false, false);
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => dst = ip(family, value)?,
            RTA_TABLE => table = value.try_into().map_or(table, u32::from_ne_bytes),
            RTA_OIF => {
                is_told = true;
                is_ours |= *value == index.get().to_ne_bytes();
            }
            RTA_MULTIPATH => {
                is_told = true;
                is_ours |= next_hops(value).any(|hop| hop == index.get());
            }
            _ => {}
        }
    }
    // A route by a nexthop object (RTA_NH_ID) may name no link (sysctl net.ipv4.nexthop_compat_mode). Kernels that know
    // such objects know how to filter.
    if !is_ours && (is_told || !is_filtered(message)) {
        return None;
    }
    let is_kernels_own = LINK_LOCAL.contain(dst, prefix) || MULTICAST.contain(dst, prefix);
    (!is_kernels_own).then_some(Configuration::Route { dst, prefix, table })
}

/// Iterates over the links of a multipath route: `struct rtnexthop` (length u16, flags u8, hops u8, ifindex i32), each
/// followed by attributes.
fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let &[l0, l1, _, _, i0, i1, i2, i3] = bytes.first_chunk()?;
        // A length below that of the header would not get on.
        let length = usize::from(u16::from_ne_bytes([l0, l1])).max(8).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(u32::from_ne_bytes([i0, i1, i2, i3]))
    })
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A range of IPv4 and one of IPv6, each as address and length of its prefix.
struct Ranges {
    v4: (Ipv4Addr, u8),
    v6: (Ipv6Addr, u8),
}

const LINK_LOCAL: Ranges =
    Ranges { v4: (Ipv4Addr::new(169, 254, 0, 0), 16), v6: (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10) };

const MULTICAST: Ranges =
    Ranges { v4: (Ipv4Addr::new(224, 0, 0, 0), 4), v6: (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8) };

impl Ranges {
    /// Tells whether all of `address/prefix` lies in the range of its family. A single address has any long prefix.
    fn contain(&self, address: IpAddr, prefix: u8) -> bool {
        match (address, self.v4, self.v6) {
            (IpAddr::V4(address), (base, length), _) => {
                prefix >= length && (address.to_bits() ^ base.to_bits()).leading_zeros() >= u32::from(length)
            }
            (IpAddr::V6(address), _, (base, length)) => {
                prefix >= length && (address.to_bits() ^ base.to_bits()).leading_zeros() >= u32::from(length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Messages, build};
    use super::*;
    use libc::{RTA_GATEWAY, RTM_NEWLINK};
    use netlink_packet_core::NLM_F_DUMP_FILTERED;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Attributes<'a> = &'a [(u16, &'a [u8])];

    /// What it is, the flags of the message, `struct rtmsg`, the attributes, what is to be found.
    type Case<'a> = (&'a str, u16, &'a [u8], Attributes<'a>, Option<Configuration>);

    const OURS: u32 = 7;
    const OTHER: u32 = 8;

    fn read(bytes: &[u8]) -> Option<Configuration> {
        let index = IfIndex::new(OURS).unwrap();
        Messages::new(bytes).find_map(|message| configuration_in(&message.unwrap(), index))
    }

    fn octets(text: &str) -> Vec<u8> {
        match text.parse().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    fn family(address: &str) -> u8 {
        if address.contains(':') { INET6 } else { INET }
    }

    /// An address message as IPv6 has it, with the address in one attribute.
    fn address(text: &str, prefix: u8, index: u32) -> Vec<u8> {
        let header = [[family(text), prefix, 0, 0], index.to_ne_bytes()].concat();
        build(RTM_NEWADDR, 0, 1, &header, &[(IFA_ADDRESS, &octets(text))])
    }

    fn rtmsg(family: u8, prefix: u8, table: u8) -> [u8; 12] {
        [family, prefix, 0, 0, table, 0, 0, 0, 0, 0, 0, 0]
    }

    /// A route message over one link.
    fn route(dst: &str, prefix: u8, index: u32) -> Vec<u8> {
        let attributes: [(u16, &[u8]); 2] = [(RTA_DST, &octets(dst)), (RTA_OIF, &index.to_ne_bytes())];
        build(RTM_NEWROUTE, 0, 1, &rtmsg(family(dst), prefix, 254), &attributes)
    }

    /// `struct rtnexthop` of each link, with a gateway each.
    fn hops(links: &[u32]) -> Vec<u8> {
        let [l0, l1] = 16_u16.to_ne_bytes();
        links
            .iter()
            .flat_map(|link| [[l0, l1, 0, 0], link.to_ne_bytes(), [8, 0, 5, 0], [10, 0, 0, 1]].concat())
            .collect()
    }

    #[test]
    fn only_what_the_kernel_does_not_set_up_by_itself_counts() {
        for (text, prefix, counts) in [
            ("10.0.0.4", 24, true),
            ("169.253.255.255", 16, true),
            ("169.254.0.1", 16, false),
            ("169.254.7.1", 8, false),
            ("2001:db8::1", 64, true),
            ("fd00::1", 64, true),
            ("fe7f::1", 64, true),
            ("fe80::1", 64, false),
            ("febf::1", 128, false),
            ("fec0::1", 64, true),
        ] {
            let want = counts.then(|| Configuration::Address(text.parse().unwrap(), prefix));
            assert_eq!(read(&address(text, prefix, OURS)), want, "{text}/{prefix}");
            assert_eq!(read(&address(text, prefix, OTHER)), None, "{text}/{prefix} of another link");
        }
        for (text, prefix, counts) in [
            ("0.0.0.0", 0, true),
            ("10.1.0.0", 16, true),
            ("169.254.0.0", 16, false),
            ("169.254.255.255", 32, false),
            ("169.254.0.0", 15, true),
            ("224.0.0.0", 4, false),
            ("239.1.2.3", 32, false),
            ("240.0.0.0", 4, true),
            ("224.0.0.0", 3, true),
            ("255.255.255.255", 32, true),
            ("::", 0, true),
            ("2001:db8::", 32, true),
            ("fe80::", 64, false),
            ("fe80::", 128, false),
            ("fe80::1", 128, false),
            ("fe80::", 9, true),
            ("ff00::", 8, false),
            ("ff02::1", 128, false),
            ("fe00::", 7, true),
        ] {
            let want = counts.then(|| Configuration::Route { dst: text.parse().unwrap(), prefix, table: 254 });
            assert_eq!(read(&route(text, prefix, OURS)), want, "{text}/{prefix}");
            assert_eq!(read(&route(text, prefix, OTHER)), None, "{text}/{prefix} over another link");
        }
    }

    #[test]
    fn a_point_to_point_address_is_our_end() {
        let header = [[INET, 32, 0, 0], OURS.to_ne_bytes()].concat();
        for attributes in [
            [(IFA_ADDRESS, octets("10.0.0.2")), (IFA_LOCAL, octets("10.0.0.1"))],
            [(IFA_LOCAL, octets("10.0.0.1")), (IFA_ADDRESS, octets("10.0.0.2"))],
        ] {
            let attributes = attributes.each_ref().map(|(kind, value)| (*kind, value.as_slice()));
            let want = Configuration::Address("10.0.0.1".parse().unwrap(), 32);
            assert_eq!(read(&build(RTM_NEWADDR, 0, 1, &header, &attributes)), Some(want));
        }
    }

    #[test]
    fn a_route_is_ours_by_its_link_or_one_of_its_next_hops_or_by_the_kernels_word() {
        let default = |table| Some(Configuration::Route { dst: "0.0.0.0".parse().unwrap(), prefix: 0, table });
        let header = rtmsg(INET, 0, 100);
        let cloned = [&header[..8], &RTM_F_CLONED.to_ne_bytes()].concat();
        let none: Attributes<'_> = &[];
        let ours: Attributes<'_> = &[(RTA_OIF, &OURS.to_ne_bytes())];
        let other: Attributes<'_> = &[(RTA_OIF, &OTHER.to_ne_bytes())];
        let big: Attributes<'_> = &[(RTA_OIF, &OURS.to_ne_bytes()), (RTA_TABLE, &1000_u32.to_ne_bytes())];
        let gateway: Attributes<'_> = &[(RTA_GATEWAY, &[10, 0, 0, 1])];
        let (one, two, not, cut) =
            (hops(&[OURS]), hops(&[OTHER, OURS]), hops(&[OTHER, OTHER]), &hops(&[OTHER, OURS])[..20]);
        let filtered = NLM_F_DUMP_FILTERED;
        let cases: [Case<'_>; 13] = [
            ("its link", 0, &header, ours, default(100)),
            ("its link, a table beyond 8 bits", 0, &header, big, default(1000)),
            ("another link", 0, &header, other, None),
            ("another link, though filtered", filtered, &header, other, None),
            ("its next hop", 0, &header, &[(RTA_MULTIPATH, &one)], default(100)),
            ("its second next hop", 0, &header, &[(RTA_MULTIPATH, &two)], default(100)),
            ("other next hops", 0, &header, &[(RTA_MULTIPATH, &not)], None),
            ("next hops cut short", 0, &header, &[(RTA_MULTIPATH, cut)], None),
            ("a nexthop object", filtered, &header, gateway, default(100)),
            ("a nexthop object, not filtered", 0, &header, gateway, None),
            ("no link", 0, &header, none, None),
            ("what a route was used for", 0, &cloned, ours, None),
            ("multicast routing", filtered, &rtmsg(128, 0, 254), ours, None),
        ];
        for (case, flags, header, attributes, want) in cases {
            assert_eq!(read(&build(RTM_NEWROUTE, flags, 1, header, attributes)), want, "{case}");
        }
        assert_eq!(read(&build(RTM_NEWLINK, 0, 1, &header, ours)), None, "no route at all");
    }

    #[test]
    fn a_configuration_reads_as_ip_shows_it() {
        let (v4, v6) = ("10.0.0.4".parse().unwrap(), "2001:db8::".parse().unwrap());
        assert_eq!(Configuration::Address(v4, 24).to_string(), "address 10.0.0.4/24");
        let route = Configuration::Route { dst: v6, prefix: 32, table: 254 };
        assert_eq!(route.to_string(), "route 2001:db8::/32 in table 254");
    }

    proptest! {
        #[test]
        fn any_bytes_decode(
            kind in prop_oneof![Just(RTM_NEWADDR), Just(RTM_NEWROUTE)], flags: u16,
            bytes in vec(any::<u8>(), 0..96), multipath in vec(any::<u8>(), 0..64),
        ) {
            let _ = read(&build(kind, flags, 1, &bytes, &[]));
            let _ = read(&build(kind, flags, 1, &rtmsg(INET, 0, 0), &[(RTA_MULTIPATH, &multipath)]));
        }

        #[test]
        fn every_next_hop_is_found(links in vec(any::<u32>(), 0..20)) {
            prop_assert_eq!(next_hops(&hops(&links)).collect::<Vec<_>>(), links);
        }
    }
}
