// SPDX-License-Identifier: BSD-3-Clause
//! What must hold whatever bytes come from outside: from the kernel, and from the user. Called by the fuzzer with bytes
//! that it makes up, and by `tests/corpus.rs` with those that it has kept.
#![allow(dead_code, reason = "each target calls one")]

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use vdev_netvsc::address::{IfIndex, IfName, PciAddr};
use vdev_netvsc::args::{Args, QUEUES_MAX};
use vdev_netvsc::eal::kvargs;
use vdev_netvsc::host::configuration::configuration_in;
use vdev_netvsc::host::decode::{LinkEvent, link_events, mtu};
use vdev_netvsc::host::message::Messages;
use vdev_netvsc::host::sysfs::Sysfs;
use vdev_netvsc::link::{KernelDriver, Parent};

/// Bytes as of a datagram of rtnetlink: each event is of a message in it, an error is the last, and what was read before
/// the end of a datagram does not depend on the rest.
pub fn events(data: &[u8]) {
    let all: Vec<_> = link_events(data).collect();
    assert!(all.len() <= data.len() / 16 + 1);
    assert!(all.iter().rev().skip(1).all(Result::is_ok));
    for event in all.iter().flatten() {
        if let LinkEvent::Changed(link) = event {
            assert_eq!(IfName::new(link.name.as_bytes()), Some(link.name));
        }
    }
    let half: Vec<_> = link_events(&data[..data.len() / 2]).map_while(Result::ok).collect();
    assert!(half.iter().eq(all.iter().flatten().take(half.len())));
    let index = IfIndex::new(1).unwrap();
    for message in Messages::new(data).flatten() {
        mtu(&message);
        configuration_in(&message, index);
    }
}

/// Bytes as of the arguments of an instance, by DPDK's own parser: what is accepted is within its limits and means nothing
/// else to failsafe, and what is refused is told in one line.
pub fn arguments(data: &[u8]) {
    let text = data.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = CString::new(text).unwrap();
    let split = |text: &_| kvargs::parse(text).unwrap();
    match Args::parse(&text, split, kvargs::parse_mac) {
        Ok(args) => {
            assert!((1..=QUEUES_MAX).contains(&args.queues) && (10..=60_000).contains(&args.hotplug_poll_ms));
            for name in args.selectors.iter().filter_map(|selector| selector.name()) {
                let means_more = |byte: &u8| byte.is_ascii_control() || b" ,()=[]/:".contains(byte);
                assert!((1..=127).contains(&name.len()) && !name.iter().any(means_more), "{name:?}");
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
}

/// Texts as of sysfs, with zeros between: the name of a device, its bus, its class, the number of a link, and the kernel
/// driver of a PCI function. Nothing is taken for a NetVSC device, a PCI function or a known driver but what is one.
pub fn sysfs(data: &[u8]) {
    let mut texts = data.split(|&byte| byte == 0);
    let mut next = || texts.next().unwrap_or_default();
    let [device, bus, class, index, driver] = [next(), next(), next(), next(), next()];
    // The kernel has no other names.
    let is_name =
        |text: &[u8]| (1..200).contains(&text.len()) && !text.contains(&b'/') && text != b"." && text != b"..";
    if !is_name(device) {
        return;
    }
    let root = std::env::temp_dir().join(format!("vdev_netvsc-sysfs-{}", std::process::id()));
    let (link, folder) = (root.join("class/net/eth1"), root.join("devices").join(OsStr::from_bytes(device)));
    let function: PciAddr = "0000:01:00.0".parse().unwrap();
    let pci = root.join("bus/pci/devices").join(function.to_string());
    for folder in [&link, &folder, &pci] {
        fs::create_dir_all(folder).unwrap();
    }
    symlink(&folder, link.join("device")).unwrap();
    fs::write(link.join("ifindex"), index).unwrap();
    fs::write(folder.join("class_id"), class).unwrap();
    for (place, target) in [(folder.join("subsystem"), bus), (pci.join("driver"), driver)] {
        if is_name(target) {
            symlink(OsStr::from_bytes(target), place).unwrap();
        }
    }
    let sysfs = Sysfs::at(&root);
    match sysfs.parent(&IfName::new(b"eth1").unwrap(), IfIndex::new(7).unwrap()).unwrap() {
        Parent::NetVsc => assert!(bus == b"vmbus" && class.starts_with(b"{f8615163-df3e-46c5-913f-f2d2f965ed0e}")),
        Parent::Pci(address) => {
            assert!(bus == b"pci");
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        _ => {}
    }
    match sysfs.kernel_driver(function).unwrap() {
        Some(KernelDriver::Mlx) => assert!([&b"mlx4_core"[..], b"mlx5_core"].contains(&driver)),
        Some(KernelDriver::Mana) => assert_eq!(driver, b"mana"),
        _ => {}
    }
    assert!(!sysfs.has_verbs(function).unwrap());
    fs::remove_dir_all(&root).unwrap();
}
