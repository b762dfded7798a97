// SPDX-License-Identifier: BSD-3-Clause
//! The bytes of a link message (`RTM_NEWLINK`, `RTM_DELLINK`) become a [`Link`].
//!
//! Pure. Of the kernel's some sixty attributes of a link this reads the few that decide something and skips the rest
//! unseen, so that no new or odd attribute makes a link vanish. An attribute that does not read as what it should be
//! counts as absent; only a link without index or name is no link.
//!
//! Not every link message is about a link: when a bridge takes or loses a port, the kernel sends an `RTM_NEWLINK` or
//! **`RTM_DELLINK` of family `AF_BRIDGE`** to the very group of the links (`net/bridge/br_netlink.c`, `br_ifinfo_notify`),
//! with the index of a link that is well and alive. Only family `AF_UNSPEC` speaks of links as such.

use std::str;

use libc::{
    AF_UNSPEC, ARPHRD_ETHER, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_MASTER, IFLA_MTU,
    IFLA_PARENT_DEV_BUS_NAME, IFLA_PARENT_DEV_NAME, IFLA_PERM_ADDRESS, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK,
};

use super::configuration::{Configuration, address};
use super::message::{Malformed, Message, Messages, attributes};
use crate::address::{IfIndex, IfName, MacAddr};
use crate::link::{Link, Parent};

/// What happened to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new, or something about it is; this is how it is now.
    Changed(Link),
    /// It is no more, or no more in this network namespace.
    Gone(IfIndex),
    /// It has got an address beyond link-local, or that one was told anew.
    Addressed(IfIndex, Configuration),
}

/// Iterates over what a datagram says about links, and skips what it says about anything else.
///
/// The last item is an error when the datagram cannot be read to its end.
pub fn link_events(datagram: &[u8]) -> impl Iterator<Item = Result<LinkEvent, Malformed>> {
    let event = |message: Message<'_>| match message.kind {
        RTM_NEWADDR => address(&message).map(|(index, address)| LinkEvent::Addressed(index, address)),
        _ => link_event(&message),
    };
    Messages::new(datagram).filter_map(move |message| message.map(event).transpose())
}

/// Decodes a message; `None` when it says nothing about a link.
pub fn link_event(message: &Message<'_>) -> Option<LinkEvent> {
    // struct ifinfomsg: family u8, padding u8, type u16, index i32, flags u32, change u32.
    let (&[family, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..], rest) = message.payload.split_first_chunk::<16>()?;
    if i32::from(family) != AF_UNSPEC {
        return None;
    }
    let index = IfIndex::new(u32::from_ne_bytes([i0, i1, i2, i3]))?;
    match message.kind {
        RTM_NEWLINK => {
            let up = u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP as u32 != 0;
            link(index, u16::from_ne_bytes([t0, t1]), up, rest).map(LinkEvent::Changed)
        }
        RTM_DELLINK => Some(LinkEvent::Gone(index)),
        _ => None,
    }
}

/// Finds the MTU in what a message says of a link.
pub fn mtu(message: &Message<'_>) -> Option<u32> {
    let (_, rest) = message.payload.split_first_chunk::<16>()?;
    let value = attributes(rest).find_map(|(kind, value)| (kind == IFLA_MTU).then_some(value))?;
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn link(index: IfIndex, hardware: u16, up: bool, bytes: &[u8]) -> Option<Link> {
    let (mut name, mut mac, mut permanent_mac, mut master) = (None, None, None, None);
    let (mut lower, mut elsewhere) = (None, false);
    let (mut bus, mut device) = (None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            IFLA_IFNAME => name = IfName::new(text(value)),
            IFLA_ADDRESS => mac = mac_of(value),
            IFLA_PERM_ADDRESS => permanent_mac = mac_of(value),
            IFLA_MASTER => master = index_of(value),
            IFLA_LINK => lower = index_of(value),
            // The index is one of that namespace then.
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_PARENT_DEV_BUS_NAME => bus = Some(text(value)),
            IFLA_PARENT_DEV_NAME => device = Some(text(value)),
            _ => {}
        }
    }
    let ethernet = hardware == ARPHRD_ETHER;
    let parent = parent(bus, device);
    let lower = lower.filter(|_| !elsewhere);
    Some(Link { index, name: name?, ethernet, mac, permanent_mac, master, lower, parent, driver: None, up })
}

/// What the kernel says of the parent device, both parts since Linux 5.14.
fn parent(bus: Option<&[u8]>, device: Option<&[u8]>) -> Parent {
    match (bus, device) {
        (Some(b"vmbus"), _) => Parent::NetVsc,
        (Some(b"pci"), Some(device)) => {
            str::from_utf8(device).ok().and_then(|name| name.parse().ok()).map_or(Parent::Other, Parent::Pci)
        }
        // Older kernels name no parent, newer ones none of a virtual link: only sysfs can tell these two apart.
        (None, None) => Parent::Unknown,
        _ => Parent::Other,
    }
}

fn index_of(value: &[u8]) -> Option<IfIndex> {
    value.try_into().ok().map(u32::from_ne_bytes).and_then(IfIndex::new)
}

/// Takes an Ethernet address; one of zeros is what the kernel shows for "none".
fn mac_of(value: &[u8]) -> Option<MacAddr> {
    value.try_into().ok().map(MacAddr).filter(|&mac| mac != MacAddr::ZERO)
}

/// Takes a string up to its NUL, which older kernels left out here and there.
fn text(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::message::build;
    use super::*;
    use libc::{AF_BRIDGE, AF_INET6};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    type Attributes<'a> = Vec<(u16, &'a [u8])>;

    const INDEX: u32 = 3;
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    fn ifindex(raw: u32) -> IfIndex {
        IfIndex::new(raw).unwrap()
    }

    fn ifinfomsg(family: i32, hardware: u16, index: u32) -> Vec<u8> {
        let mut header = vec![u8::try_from(family).unwrap(), 0];
        header.extend_from_slice(&hardware.to_ne_bytes());
        header.extend_from_slice(&index.to_ne_bytes());
        header.resize(16, 0);
        header
    }

    fn events(datagram: &[u8]) -> Vec<LinkEvent> {
        link_events(datagram).collect::<Result<_, _>>().unwrap()
    }

    fn plain(index: u32, name: &str, mac: [u8; 6]) -> Link {
        let name = IfName::new(name.as_bytes()).unwrap();
        Link { up: false, ..Link::plain(ifindex(index), name, MacAddr(mac), Parent::Unknown) }
    }

    /// Reads captured datagrams, each a paragraph of hexadecimal bytes; lines that start with `#` tell how it came to be.
    fn captured(text: &str) -> Vec<LinkEvent> {
        let bytes = |paragraph: &str| {
            let lines = paragraph.lines().filter(|line| !line.starts_with('#'));
            lines.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>()
        };
        text.split("\n\n").flat_map(|paragraph| events(&bytes(paragraph))).collect()
    }

    // The captures are of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn what_a_kernel_sent_is_read_as_ip_shows_it() {
        use LinkEvent::{Changed, Gone};
        let on = |lower, link: Link| Link { lower: IfIndex::new(lower), ..link };
        let v0 = on(2, plain(3, "v0", [2, 0, 0, 0, 0, 1]));
        let v1_alone = plain(2, "v1", [2, 0, 0, 0, 0, 2]);
        let v1 = on(3, v1_alone.clone());
        let br0 = plain(4, "br0", [2, 0, 0, 0, 0, 3]);
        let mv0 = on(2, plain(5, "mv0", [2, 0, 0, 0, 0, 4]));
        let mut eth0 = Link { parent: Parent::Other, up: true, ..plain(4, "eth0", [2, 0xfc, 0, 0, 0, 1]) };
        eth0.permanent_mac = eth0.mac;
        let port = Link { master: Some(br0.index), ..v0.clone() };
        for (capture, text, want) in [
            ("veth", include_str!("captures/veth.hex"), vec![Changed(v1_alone.clone()), Changed(v0.clone())]),
            (
                "enslaved",
                include_str!("captures/enslaved.hex"),
                vec![Changed(port.clone()), Changed(port.clone()), Changed(br0.clone())],
            ),
            // Among these is an RTM_DELLINK of v0, sent by the bridge.
            ("released", include_str!("captures/released.hex"), vec![Changed(port), Changed(v0.clone()), Changed(br0)]),
            ("macvlan", include_str!("captures/macvlan.hex"), vec![Changed(v1), Changed(mv0.clone())]),
            (
                "deleted",
                include_str!("captures/deleted.hex"),
                vec![Gone(v0.index), Gone(mv0.index), Gone(v1_alone.index)],
            ),
            ("virtio", include_str!("captures/virtio.hex"), vec![Changed(eth0)]),
        ] {
            assert_eq!(captured(text), want, "{capture}");
        }
    }

    #[test]
    fn an_odd_attribute_counts_as_absent() {
        let name: (u16, &[u8]) = (IFLA_IFNAME, b"eth0\0");
        let bare = Link { mac: None, ..plain(INDEX, "eth0", MAC.0) };
        let pci = Parent::Pci("0001:02:03.4".parse().unwrap());
        let bus = IFLA_PARENT_DEV_BUS_NAME;
        let device = IFLA_PARENT_DEV_NAME;
        let cases: [(&str, Attributes<'_>, Link); 20] = [
            ("only a name", vec![], bare.clone()),
            ("a MAC", vec![(IFLA_ADDRESS, &MAC.0)], Link { mac: Some(MAC), ..bare.clone() }),
            ("a MAC of zeros", vec![(IFLA_ADDRESS, &[0; 6])], bare.clone()),
            ("a MAC of IPoIB", vec![(IFLA_ADDRESS, &[1; 20])], bare.clone()),
            ("no MAC", vec![(IFLA_ADDRESS, &[])], bare.clone()),
            ("a permanent MAC", vec![(IFLA_PERM_ADDRESS, &MAC.0)], Link { permanent_mac: Some(MAC), ..bare.clone() }),
            ("a master", vec![(IFLA_MASTER, &[9; 4])], Link { master: IfIndex::new(0x0909_0909), ..bare.clone() }),
            ("no master", vec![(IFLA_MASTER, &[0; 4])], bare.clone()),
            ("a lower device", vec![(IFLA_LINK, &[9; 4])], Link { lower: IfIndex::new(0x0909_0909), ..bare.clone() }),
            ("no lower device", vec![(IFLA_LINK, &[0; 4])], bare.clone()),
            ("one of another namespace", vec![(IFLA_LINK, &[9; 4]), (IFLA_LINK_NETNSID, &[1; 4])], bare.clone()),
            ("half a master", vec![(IFLA_MASTER, &[9; 2])], bare.clone()),
            ("VMBus", vec![(bus, b"vmbus\0"), (device, b"f8b3\0")], Link { parent: Parent::NetVsc, ..bare.clone() }),
            ("PCI", vec![(bus, b"pci\0"), (device, b"0001:02:03.4\0")], Link { parent: pci, ..bare.clone() }),
            ("PCI, device first", vec![(device, b"0001:02:03.4"), (bus, b"pci")], Link { parent: pci, ..bare.clone() }),
            (
                "PCI, odd device",
                vec![(bus, b"pci\0"), (device, b"\xff\0")],
                Link { parent: Parent::Other, ..bare.clone() },
            ),
            (
                "a longer bus",
                vec![(bus, b"pcie\0"), (device, b"0001:02:03.4\0")],
                Link { parent: Parent::Other, ..bare.clone() },
            ),
            (
                "virtio",
                vec![(bus, b"virtio\0"), (device, b"virtio2\0")],
                Link { parent: Parent::Other, ..bare.clone() },
            ),
            ("no bus", vec![(device, b"0001:02:03.4\0")], Link { parent: Parent::Other, ..bare.clone() }),
            ("what we do not read", vec![(60, b"news"), (61 | 0x8000, b"more")], bare.clone()),
        ];
        for (case, mut attributes, want) in cases {
            attributes.push(name);
            let message = build(RTM_NEWLINK, 0, 0, &ifinfomsg(AF_UNSPEC, ARPHRD_ETHER, INDEX), &attributes);
            assert_eq!(events(&message), [LinkEvent::Changed(want)], "{case}");
        }
    }

    #[test]
    fn what_is_no_link_is_skipped_and_the_link_after_it_is_not() {
        let named: &[(u16, &[u8])] = &[(IFLA_IFNAME, b"eth0\0")];
        let header = |family| ifinfomsg(family, ARPHRD_ETHER, INDEX);
        let gone = build(RTM_DELLINK, 0, 0, &ifinfomsg(AF_UNSPEC, ARPHRD_ETHER, 4), &[]);
        for (case, message) in [
            ("a port left its bridge", build(RTM_DELLINK, 0, 0, &header(AF_BRIDGE), named)),
            ("a port joined a bridge", build(RTM_NEWLINK, 0, 0, &header(AF_BRIDGE), named)),
            ("IPv6 parameters", build(RTM_NEWLINK, 0, 0, &header(AF_INET6), named)),
            ("no index", build(RTM_NEWLINK, 0, 0, &ifinfomsg(AF_UNSPEC, ARPHRD_ETHER, 0), named)),
            ("no name", build(RTM_NEWLINK, 0, 0, &header(AF_UNSPEC), &[])),
            ("a path for a name", build(RTM_NEWLINK, 0, 0, &header(AF_UNSPEC), &[(IFLA_IFNAME, b"../a\0")])),
            ("an endless name", build(RTM_NEWLINK, 0, 0, &header(AF_UNSPEC), &[(IFLA_IFNAME, &[b'a'; 16])])),
            ("half a header", build(RTM_NEWLINK, 0, 0, &[0; 12], &[])),
            ("another message", build(libc::RTM_NEWROUTE, 0, 0, &header(AF_UNSPEC), named)),
        ] {
            let datagram = [message, gone.clone()].concat();
            assert_eq!(events(&datagram), [LinkEvent::Gone(ifindex(4))], "{case}");
        }
    }

    #[test]
    fn a_link_keeps_what_stands_before_a_broken_attribute() {
        let mut message = build(
            RTM_NEWLINK,
            0,
            0,
            &ifinfomsg(AF_UNSPEC, ARPHRD_ETHER, INDEX),
            &[(IFLA_IFNAME, b"eth0\0"), (IFLA_MASTER, &7_u32.to_ne_bytes()), (22, b"wraps")],
        );
        let at = message.len() - 12;
        message[at..at + 2].copy_from_slice(&2_u16.to_ne_bytes());
        let want = Link { mac: None, master: IfIndex::new(7), ..plain(INDEX, "eth0", MAC.0) };
        assert_eq!(events(&message), [LinkEvent::Changed(want)]);
    }

    #[test]
    fn an_address_that_comes_is_told_with_its_link_unless_it_is_link_local() {
        let header = |family: i32| [[u8::try_from(family).unwrap(), 24, 0, 0], INDEX.to_ne_bytes()].concat();
        let address = |text: &[u8; 4]| {
            build(RTM_NEWADDR, 0, 0, &header(libc::AF_INET), &[(libc::IFA_ADDRESS, text), (libc::IFA_LOCAL, text)])
        };
        let datagram = [address(&[169, 254, 7, 1]), address(&[192, 0, 2, 1])].concat();
        let want = Configuration::Address("192.0.2.1".parse().unwrap(), 24);
        assert_eq!(events(&datagram), [LinkEvent::Addressed(ifindex(INDEX), want)]);
    }

    #[test]
    fn a_link_that_is_no_ethernet_is_told_apart() {
        let message =
            build(RTM_NEWLINK, 0, 0, &ifinfomsg(AF_UNSPEC, libc::ARPHRD_LOOPBACK, 1), &[(IFLA_IFNAME, b"lo\0")]);
        let want = Link { ethernet: false, mac: None, ..plain(1, "lo", MAC.0) };
        assert_eq!(events(&message), [LinkEvent::Changed(want)]);
    }

    /// Says of a link what the kernel would.
    fn encode(link: &Link) -> Vec<u8> {
        let hardware = if link.ethernet { ARPHRD_ETHER } else { libc::ARPHRD_INFINIBAND };
        let [master, lower] = [link.master, link.lower].map(|index| index.map(|index| index.get().to_ne_bytes()));
        let (bus, device) = match link.parent {
            Parent::Pci(address) => (Some("pci"), Some(address.to_string())),
            Parent::NetVsc => (Some("vmbus"), Some("f8b3781a-1e82-4818-a1c3-63d806ec15bb".to_owned())),
            Parent::Other => (Some("platform"), Some("ffc02000.ethernet".to_owned())),
            _ => (None, None),
        };
        let mut attributes: Attributes<'_> = vec![(IFLA_IFNAME, link.name.as_bytes()), (13, &[0; 4])];
        attributes.extend(link.mac.as_ref().map(|mac| (IFLA_ADDRESS, mac.0.as_slice())));
        attributes.extend(master.as_ref().map(|master| (IFLA_MASTER, master.as_slice())));
        attributes.extend(lower.as_ref().map(|lower| (IFLA_LINK, lower.as_slice())));
        attributes.extend(link.permanent_mac.as_ref().map(|mac| (IFLA_PERM_ADDRESS, mac.0.as_slice())));
        attributes.extend(device.as_ref().map(|device| (IFLA_PARENT_DEV_NAME, device.as_bytes())));
        attributes.extend(bus.map(|bus| (IFLA_PARENT_DEV_BUS_NAME, bus.as_bytes())));
        let mut header = ifinfomsg(AF_UNSPEC, hardware, link.index.get());
        header[8..12].copy_from_slice(&(if link.up { IFF_UP as u32 } else { 0 }).to_ne_bytes());
        build(RTM_NEWLINK, 0, 0, &header, &attributes)
    }

    prop_compose! {
        fn any_link()(
            index in 1..=u32::MAX,
            name in vec(any::<u8>(), 1..=IfName::MAX_BYTES).prop_filter_map("not a name", |name| IfName::new(&name)),
            ethernet: bool,
            mac in option::of(any::<[u8; 6]>().prop_filter("zero is none", |mac| *mac != [0; 6])),
            permanent_mac in option::of(any::<[u8; 6]>().prop_filter("zero is none", |mac| *mac != [0; 6])),
            master in option::of(1..=u32::MAX),
            lower in option::of(1..=u32::MAX),
            parent in prop_oneof![
                Just(Parent::Unknown), Just(Parent::NetVsc), Just(Parent::Other),
                (any::<u32>(), any::<u8>(), 0..32_u8, 0..8_u8).prop_map(|(domain, bus, device, function)| {
                    Parent::Pci(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}").parse().unwrap())
                }),
            ],
            up: bool,
        ) -> Link {
            Link {
                index: ifindex(index), name, ethernet, mac: mac.map(MacAddr), permanent_mac: permanent_mac.map(MacAddr),
                master: master.and_then(IfIndex::new), lower: lower.and_then(IfIndex::new), parent, driver: None, up,
            }
        }
    }

    proptest! {
        #[test]
        fn what_the_kernel_would_say_is_read_as_it_is(links in vec(any_link(), 0..6)) {
            let datagram: Vec<u8> = links.iter().flat_map(encode).collect();
            prop_assert_eq!(events(&datagram), links.into_iter().map(LinkEvent::Changed).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_decode(bytes in vec(any::<u8>(), 0..512)) {
            prop_assert!(link_events(&bytes).count() <= bytes.len() / 16 + 1);
        }

        #[test]
        fn a_link_with_any_bytes_changed_decodes(link in any_link(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut datagram = encode(&link);
            for (at, byte) in changes {
                let at = at.index(datagram.len());
                datagram[at] = byte;
            }
            prop_assert!(link_events(&datagram).count() <= datagram.len() / 16 + 1);
        }
    }
}
