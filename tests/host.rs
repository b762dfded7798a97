// SPDX-License-Identifier: BSD-3-Clause
//! `host` against the kernel that runs: each test in a network namespace of its own, with links that `ip` makes.
//!
//! Needs root and iproute2. Without the right to make a namespace a test says so and ends.

// Outside of the functions marked as tests too, what fails here fails a test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "stage/churn.rs"]
mod churn;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::thread;

use churn::Churn;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, getsockopt, sendto,
    setsockopt, socket, sockopt,
};
use vdev_netvsc::address::{IfIndex, IfName};
use vdev_netvsc::host::configuration::requests;
use vdev_netvsc::host::events::DRAIN_MAX_DATAGRAMS;
use vdev_netvsc::host::message::{Messages, build};
use vdev_netvsc::host::{Configuration, Drained, Dump, Error, Kernel, LinkEvent, Sysfs};
use vdev_netvsc::link::{Link, LinkTable, Parent, Unreadable};

/// Runs a story in a network namespace of its own.
fn in_namespace(story: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => story(),
        Err(Errno::EPERM) => eprintln!("skipped: only root can make a network namespace"),
        Err(errno) => panic!("cannot make a network namespace: {errno}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` with these arguments in the namespace of this thread and returns what it prints.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts `ip` with many commands.
fn spawn_ip_batch(commands: impl IntoIterator<Item = String>) -> Child {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2 is installed");
    let commands: Vec<String> = commands.into_iter().collect();
    child.stdin.take().unwrap().write_all(commands.join("\n").as_bytes()).unwrap();
    child
}

/// Runs many commands of `ip` at once.
fn ip_batch(commands: impl IntoIterator<Item = String>) {
    assert!(spawn_ip_batch(commands).wait().unwrap().success());
}

/// Makes two links that are each other's far end, and sets both up.
fn veth(name: &str, peer: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {peer} up"));
}

/// Sets a value of `/proc/sys/net`, which shows each thread its own namespace.
fn set_sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
}

fn name(text: &str) -> IfName {
    IfName::new(text.as_bytes()).unwrap()
}

/// The links of this thread's namespace.
fn links() -> Vec<Link> {
    let dump = Kernel::open().unwrap().links().unwrap();
    assert!(dump.consistent);
    dump.links
}

fn configuration(index: IfIndex) -> Option<Configuration> {
    Kernel::open().unwrap().configuration(index).unwrap()
}

fn link(text: &str) -> Link {
    links().into_iter().find(|link| link.name == name(text)).expect("the link is in the dump")
}

fn index(text: &str) -> IfIndex {
    link(text).index
}

/// Drains until nothing is left and returns all events; fails when some were lost.
fn events_of(kernel: &mut Kernel) -> Vec<LinkEvent> {
    let mut all = Vec::new();
    loop {
        match kernel.drain(|event| all.push(event)).unwrap() {
            Drained::Empty => return all,
            Drained::More => {}
            Drained::Overrun => panic!("events were lost"),
        }
    }
}

/// Gives a link another address and expects the event of it, among whatever the kernel has to say some time later.
fn expect_event_of(text: &str, kernel: &mut Kernel) {
    ip(&format!("link set {text} address 02:00:00:00:00:77"));
    let want = LinkEvent::Changed(link(text));
    let seen = events_of(kernel);
    assert!(seen.contains(&want), "{want:?} is in {seen:?}");
}

/// Drains until the loss of events is reported; fails when none were lost.
fn expect_overrun(kernel: &mut Kernel) {
    loop {
        match kernel.drain(|_| ()).unwrap() {
            Drained::Overrun => return,
            Drained::More => {}
            Drained::Empty => panic!("no events were lost"),
        }
    }
}

fn table_after(table: &mut LinkTable, events: Vec<LinkEvent>) {
    for event in events {
        match event {
            LinkEvent::Changed(link) => table.update(link),
            LinkEvent::Gone(index) => table.remove(index),
            LinkEvent::Addressed(..) => None,
        };
    }
}

/// Takes the value of a key out of one flat object of `ip -j`.
fn json<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = object.split_once(&format!("\"{key}\":"))?;
    Some(rest.split([',', '}']).next()?.trim_matches('"'))
}

/// What `ip` says of all links: index to name, address and name of the master.
fn links_of_ip() -> BTreeMap<u32, (String, Option<String>, Option<String>)> {
    let text = ip("-j link show");
    let objects = text.split("{\"ifindex\":").skip(1).map(|object| format!("{{\"ifindex\":{object}"));
    let owned = |object: &str, key| json(object, key).map(str::to_owned);
    objects
        .map(|object| {
            let object = object.as_str();
            let address = owned(object, "address").filter(|address| address != "00:00:00:00:00:00");
            let index = json(object, "ifindex").unwrap().parse().unwrap();
            (index, (owned(object, "ifname").unwrap(), address, owned(object, "master")))
        })
        .collect()
}

/// The same of a dump.
fn links_of_dump() -> BTreeMap<u32, (String, Option<String>, Option<String>)> {
    let links = links();
    let names: BTreeMap<IfIndex, String> = links.iter().map(|link| (link.index, link.name.to_string())).collect();
    let told = |link: &Link| {
        let master = link.master.and_then(|master| names.get(&master).cloned());
        (link.index.get(), (link.name.to_string(), link.mac.map(|mac| mac.to_string()), master))
    };
    links.iter().map(told).collect()
}

#[test]
fn a_dump_is_what_ip_shows() {
    in_namespace(|| {
        veth("v0", "v1");
        ip("link add br0 type bridge");
        ip("link set v0 master br0");
        ip("link add link v1 name mv0 type macvlan");
        assert_eq!(links_of_dump(), links_of_ip());
        let ethernet: Vec<bool> = ["lo", "v0", "br0", "mv0"].map(|name| link(name).ethernet).to_vec();
        assert_eq!(ethernet, [false, true, true, true]);
    });
}

#[test]
fn a_thousand_links_are_dumped() {
    in_namespace(|| {
        ip_batch((0..500).map(|i| format!("link add a{i} type veth peer name b{i}")));
        let links = links_of_dump();
        assert_eq!(links.len(), links_of_ip().len());
        assert_eq!(links, links_of_ip());
        assert!(links.len() >= 1001);
    });
}

#[test]
fn a_dump_amid_links_that_come_and_go_holds_what_stays_and_leaves_nothing_behind_that_goes() {
    in_namespace(|| {
        ip_batch((0..250).map(|i| format!("link add a{i} type veth peer name b{i}")));
        let stable: Vec<IfIndex> = links().iter().map(|link| link.index).collect();
        let mut kernel = Kernel::open().unwrap();
        let mut table = LinkTable::default();
        table.replace(kernel.links().unwrap().links);
        let churn = Churn::begin();
        let (mut tries, mut inconsistent) = (0, 0);
        while inconsistent < 4 {
            tries += 1;
            assert!(tries < 1000, "links come and go too slowly");
            let dump = kernel.links().unwrap();
            inconsistent += usize::from(!dump.consistent);
            if dump.consistent {
                let mut found: Vec<IfIndex> = dump.links.iter().map(|link| link.index).collect();
                found.retain(|index| stable.contains(index));
                assert_eq!(found, stable);
            }
            table.merge(dump.links);
            table_after(&mut table, events_of(&mut kernel));
        }
        drop(churn);
        table_after(&mut table, events_of(&mut kernel));
        let mut dumped = LinkTable::default();
        dumped.replace(links());
        assert_eq!(table, dumped);
    });
}

#[test]
fn every_question_goes_to_the_namespace_of_the_events() {
    in_namespace(|| {
        veth("v0", "v1");
        let v0 = index("v0");
        let mut kernel = Kernel::open().unwrap();
        let before = links();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert_eq!(links().len(), 1);
        assert_eq!(kernel.links().unwrap(), Dump { links: before, consistent: true });
        assert_eq!(kernel.configuration(v0).unwrap(), None, "there is such a link");
        ip("link set lo up");
        assert_eq!(events_of(&mut kernel), []);
    });
}

#[test]
fn what_is_left_of_an_answer_is_not_taken_for_the_next() {
    in_namespace(|| {
        veth("v0", "v1");
        ip_batch((0..5_000).map(|i| format!("route add 10.{}.{}.0/24 dev v1", i / 256, i % 256)));
        let (v0, v1) = (index("v0"), index("v1"));
        let mut kernel = Kernel::open().unwrap();
        for _ in 0..3 {
            // The first of many is found, and the rest not read.
            assert!(kernel.configuration(v1).unwrap().is_some());
            assert_eq!(kernel.links().unwrap().links, links());
            assert!(kernel.configuration(v1).unwrap().is_some());
            assert_eq!(kernel.configuration(v0).unwrap(), None);
        }
    });
}

#[test]
fn the_queue_of_events_is_as_long_as_asked_for_where_that_is_allowed() {
    in_namespace(|| {
        let kernel = Kernel::open().unwrap();
        // The kernel doubles what it grants (`net/core/sock.c`, `__sock_set_rcvbuf`).
        let granted = getsockopt(&kernel, sockopt::RcvBuf).unwrap();
        let free =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute).unwrap();
        match setsockopt(&free, sockopt::RcvBufForce, &(1 << 20)) {
            Ok(()) => assert_eq!(granted, 2 << 20),
            Err(errno) => eprintln!("skipped: {errno}"),
        }
    });
}

#[test]
fn a_message_larger_than_the_buffer_is_read_by_a_larger_one_and_overruns_the_events() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        veth("v0", "v1");
        let v0 = index("v0");
        ip_batch((0..350).map(|i| format!("link property add dev v0 altname {i:0>120}")));
        assert_eq!(link("v0").index, v0);
        assert_eq!(links_of_dump().len(), ip("-o link show").lines().count());
        expect_overrun(&mut kernel);
        expect_event_of("v1", &mut kernel);
    });
}

#[test]
fn what_happens_to_a_link_is_seen() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut seen = |command: &str| {
            ip(command);
            events_of(&mut kernel)
        };
        let changed = |events: Vec<LinkEvent>, want: &str| {
            let last = events.into_iter().rev().find_map(|event| match event {
                LinkEvent::Changed(link) if link.name == name(want) => Some(link),
                _ => None,
            });
            last.unwrap_or_else(|| panic!("{want} has changed"))
        };
        let v0 = changed(seen("link add v0 type veth peer name v1"), "v0");
        assert_eq!(v0, link("v0"));
        let renamed = changed(seen("link set v0 name eth)"), "eth)");
        assert_eq!(renamed, Link { name: name("eth)"), ..v0.clone() });
        let readdressed = changed(seen("link set eth) address 02:00:00:00:00:07"), "eth)");
        assert_eq!(readdressed.mac.unwrap().to_string(), "02:00:00:00:00:07");
        let bridge = changed(seen("link add br0 type bridge"), "br0");
        let enslaved = changed(seen("link set eth) master br0"), "eth)");
        assert_eq!(enslaved.master, Some(bridge.index));
        let released = seen("link set eth) nomaster");
        assert!(!released.iter().any(|event| matches!(event, LinkEvent::Gone(_))), "{released:?}");
        assert_eq!(changed(released, "eth)"), readdressed);
        assert!(seen("link del eth)").contains(&LinkEvent::Gone(v0.index)));
    });
}

#[test]
fn an_address_beyond_link_local_that_comes_is_told() {
    in_namespace(|| {
        veth("v0", "v1");
        let mut kernel = Kernel::open().unwrap();
        for address in ["169.254.7.1/16", "192.0.2.1/24", "2001:db8::1/64"] {
            ip(&format!("address add {address} dev v0"));
        }
        let mut seen = events_of(&mut kernel);
        seen.retain(|event| matches!(event, LinkEvent::Addressed(..)));
        // That of IPv6 is told again, once it is known to be nobody else's.
        seen.dedup();
        let address = |text: &str, prefix| {
            LinkEvent::Addressed(index("v0"), Configuration::Address(text.parse().unwrap(), prefix))
        };
        assert_eq!(seen, [address("192.0.2.1", 24), address("2001:db8::1", 64)]);
    });
}

#[test]
fn a_link_that_leaves_the_namespace_is_gone() {
    in_namespace(|| {
        veth("v0", "v1");
        let v0 = index("v0");
        let mut kernel = Kernel::open().unwrap();
        let mut holder = Command::new("unshare").args(["-n", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        // `unshare` has its namespace once the kernel takes the link into one that is not ours.
        let moved = || {
            ip(&format!("link set v0 netns {}", holder.id()));
            links().iter().all(|link| link.index != v0)
        };
        while !moved() {
            thread::yield_now();
        }
        assert!(events_of(&mut kernel).contains(&LinkEvent::Gone(v0)));
        drop(holder.stdin.take());
        holder.wait().unwrap();
    });
}

#[test]
fn a_table_that_follows_the_events_is_that_of_a_dump() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let mut table = LinkTable::default();
        table.replace(links());
        for round in 0..10 {
            ip_batch((0..10).map(|i| format!("link add a{round}x{i} type veth peer name b{round}x{i}")));
            ip_batch((0..5).map(|i| format!("link del a{round}x{i}")));
            ip_batch((5..10).map(|i| format!("link set a{round}x{i} name c{round}x{i}")));
            table_after(&mut table, events_of(&mut kernel));
            let mut dumped = LinkTable::default();
            dumped.replace(links());
            // That the first end of a veth has got the other is no event.
            let shown = |table: &LinkTable| -> Vec<Link> {
                table.iter().map(|link| Link { lower: None, ..link.clone() }).collect()
            };
            assert_eq!(shown(&table), shown(&dumped));
        }
    });
}

#[test]
fn lost_events_are_reported_when_nothing_more_can_be_lost_unseen() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        setsockopt(&kernel, sockopt::RcvBuf, &4096).unwrap();
        ip_batch((0..50).map(|i| format!("link add a{i} type veth peer name b{i}")));
        expect_overrun(&mut kernel);
        // The queue is empty, or this would be dropped without a word.
        expect_event_of("a0", &mut kernel);
    });
}

#[test]
fn a_storm_of_events_is_read_in_bounded_pieces() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        setsockopt(&kernel, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        veth("v0", "v1");
        ip_batch((0..DRAIN_MAX_DATAGRAMS).map(|i| format!("link set v0 alias {i}")));
        let mut count = 0;
        assert_eq!(kernel.drain(|_| count += 1).unwrap(), Drained::More);
        assert_eq!(count, DRAIN_MAX_DATAGRAMS);
        assert!(!events_of(&mut kernel).is_empty());
    });
}

#[test]
fn nobody_but_the_kernel_is_believed() {
    in_namespace(|| {
        let mut kernel = Kernel::open().unwrap();
        let to: NetlinkAddr = getsockname(kernel.as_fd().as_raw_fd()).unwrap();
        let forger =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute).unwrap();
        let mut header = [0_u8; 16];
        header[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        let forged = build(libc::RTM_DELLINK, 0, 0, &header, &[]);
        sendto(forger.as_raw_fd(), &forged, &to, MsgFlags::empty()).unwrap();
        ip("link set lo up");
        let mut seen = events_of(&mut kernel);
        // It gets its addresses as well.
        seen.retain(|event| !matches!(event, LinkEvent::Addressed(..)));
        assert!(matches!(&seen[..], [LinkEvent::Changed(link)] if link.name == name("lo")), "{seen:?}");
    });
}

#[test]
fn no_event_means_nothing_to_read() {
    in_namespace(|| {
        // Unlike others, lo has no carrier that the kernel notices some time later.
        ip("link set lo up");
        ip("address add 10.0.0.1/24 dev lo");
        let mut kernel = Kernel::open().unwrap();
        ip("address add 169.254.7.1/16 dev lo");
        ip("route add 10.9.0.0/16 via 10.0.0.2");
        ip("neighbour add 10.0.0.2 dev lo lladdr 02:00:00:00:00:02");
        assert_eq!(kernel.drain(|event| panic!("{event:?}")).unwrap(), Drained::Empty);
    });
}

/// A case of [`what_is_configured_on_a_link_is_found`]: what it is, what `ip` is told, what is to be found on `v0`.
type Configured = (&'static str, &'static [&'static str], &'static str);

#[test]
fn what_is_configured_on_a_link_is_found() {
    let cases: [Configured; 20] = [
        ("nothing", &[], ""),
        ("a link that is down", &["link set v0 down"], ""),
        ("IPv4 link-local", &["address add 169.254.1.2/16 dev v0"], ""),
        ("an MTU too small for IPv6", &["link set v0 mtu 1000"], ""),
        ("configuration of another link", &["address add 10.0.0.4/24 dev v1", "route add default via 10.0.0.1"], ""),
        ("multicast", &["route add 224.0.0.0/4 dev v0"], ""),
        ("an IPv4 address", &["address add 10.0.0.4/24 dev v0"], "address 10.0.0.4/24"),
        (
            "an IPv4 address of a link that is down",
            &["address add 10.0.0.4/24 dev v0", "link set v0 down"],
            "address 10.0.0.4/24",
        ),
        ("a point-to-point address", &["address add 10.0.0.4 peer 10.0.0.5 dev v0"], "address 10.0.0.4/32"),
        ("an IPv6 address", &["address add 2001:db8::4/64 dev v0"], "address 2001:db8::4/64"),
        (
            "link-local and another",
            &["address add 169.254.1.2/16 dev v0", "address add 10.0.0.4/24 dev v0"],
            "address 10.0.0.4/24",
        ),
        ("a route", &["route add 10.1.0.0/16 dev v0"], "route 10.1.0.0/16 in table 254"),
        ("a route in another table", &["route add 10.1.0.0/16 dev v0 table 100"], "route 10.1.0.0/16 in table 100"),
        ("a table beyond 8 bits", &["route add 10.1.0.0/16 dev v0 table 1000"], "route 10.1.0.0/16 in table 1000"),
        ("a default route", &["route add default dev v0"], "route 0.0.0.0/0 in table 254"),
        ("an IPv6 route", &["route add 2001:db8::/32 dev v0"], "route 2001:db8::/32 in table 254"),
        (
            "an IPv6 route in another table",
            &["route add 2001:db8::/32 dev v0 table 100"],
            "route 2001:db8::/32 in table 100",
        ),
        ("an IPv6 default route", &["-6 route add default via fe80::1 dev v0"], "route ::/0 in table 254"),
        (
            "a multipath route",
            &["route add 10.1.0.0/16 nexthop dev v1 nexthop dev v0"],
            "route 10.1.0.0/16 in table 254",
        ),
        (
            "an IPv6 multipath route",
            &["route add 2001:db8::/32 nexthop via fe80::1 dev v1 nexthop via fe80::1 dev v0"],
            "route 2001:db8::/32 in table 254",
        ),
    ];
    for (case, commands, want) in cases {
        in_namespace(move || {
            veth("v0", "v1");
            let v0 = index("v0");
            assert_eq!(configuration(v0), None, "{case}: before");
            for command in commands {
                ip(command);
            }
            let found = configuration(v0).map_or_else(String::new, |found| found.to_string());
            assert_eq!(found, want, "{case}");
        });
    }
}

#[test]
fn a_route_by_a_nexthop_object_is_found_even_when_it_names_no_link() {
    for compatible in ["1", "0"] {
        in_namespace(move || {
            veth("v0", "v1");
            set_sysctl("ipv4/nexthop_compat_mode", compatible);
            ip("nexthop add id 1 dev v0");
            ip("nexthop add id 2 dev v1");
            ip("nexthop add id 3 group 1/2");
            ip("route add 10.1.0.0/16 nhid 3");
            let dst: IpAddr = "10.1.0.0".parse().unwrap();
            let want = Configuration::Route { dst, prefix: 16, table: 254 };
            assert_eq!(configuration(index("v0")), Some(want), "compatible: {compatible}");
            assert_eq!(configuration(index("v1")), Some(want), "compatible: {compatible}");
            ip("link add v2 type veth peer name v3");
            assert_eq!(configuration(index("v2")), None);
        });
    }
}

#[test]
fn the_configuration_of_no_link_is_an_error() {
    in_namespace(|| {
        let error = Kernel::open().unwrap().configuration(IfIndex::new(4711).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
        assert_eq!(error.errno(), libc::ENODEV);
    });
}

/// Counts the messages and datagrams of the kernel's answer to a request.
fn cost_of(request: &[u8]) -> (usize, usize) {
    let socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    socket.set_netlink_get_strict_chk(true).unwrap();
    socket.send_to(request, &netlink_sys::SocketAddr::new(0, 0), 0).unwrap();
    let mut buffer = vec![0; 32 * 1024];
    let (mut messages, mut datagrams) = (0, 0);
    loop {
        let (length, _) = socket.recv_from(&mut buffer.as_mut_slice(), 0).unwrap();
        datagrams += 1;
        for message in Messages::new(&buffer[..length]) {
            let message = message.unwrap();
            if i32::from(message.kind) == libc::NLMSG_DONE {
                assert_eq!(message.payload, [0; 4]);
                return (messages, datagrams);
            }
            messages += 1;
        }
    }
}

#[test]
fn the_routes_of_other_links_do_not_reach_us() {
    in_namespace(|| {
        veth("v0", "v1");
        ip_batch((0..20_000).map(|i| format!("route add 10.{}.{}.0/24 dev v1", i / 256, i % 256)));
        let (v0, v1) = (index("v0"), index("v1"));
        assert_eq!(configuration(v0), None);
        for request in requests(v0) {
            let (list, (messages, datagrams)) = (request.list, cost_of(&request.message(1)));
            assert!(messages < 8 && datagrams <= 2, "{list}: {messages} messages in {datagrams} datagrams");
        }
        let found = configuration(v1).map(|found| found.to_string());
        assert_eq!(found.as_deref(), Some("route 10.0.0.0/24 in table 254"));
    });
}

#[test]
fn sysfs_tells_of_virtual_links_that_they_are() {
    in_namespace(|| {
        veth("v0", "v1");
        ip("link add br0 type bridge");
        let parent = |text: &str, index| Sysfs::default().parent(&name(text), index).unwrap();
        let v0 = index("v0");
        assert_eq!(parent("v0", v0), Parent::Unreadable(Unreadable::Elsewhere));
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).unwrap();
        if std::path::Path::new("/dev/net/tun").exists() {
            ip("tuntap add t0 mode tap");
        }
        let links = links();
        assert!(links.len() >= 4);
        for link in links {
            assert_eq!(parent(&link.name.to_string(), link.index), Parent::None, "{}", link.name);
        }
        ip("link set v0 down");
        ip("link set v0 name w0");
        assert_eq!((parent("v0", v0), parent("w0", v0)), (Parent::Unreadable(Unreadable::Elsewhere), Parent::None));
        ip("link del w0");
        assert_eq!(parent("w0", v0), Parent::Unreadable(Unreadable::Elsewhere));
    });
}

#[test]
fn sysfs_and_rtnetlink_tell_the_same_of_the_links_of_this_machine() {
    for link in links() {
        let read = Sysfs::default().parent(&link.name, link.index).unwrap();
        // Rtnetlink tells no parent before Linux 5.14, nor of a virtual link.
        let told = if link.parent == Parent::Unknown { read } else { link.parent };
        assert_eq!(read, told, "{}", link.name);
    }
}
