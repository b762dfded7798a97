// SPDX-License-Identifier: BSD-3-Clause
//! PCI functions are attached, owned and detached by the driver's own room for it, in an EAL in this very process.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]
#![allow(unsafe_code, reason = "starts EAL")]

mod stage;

use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::time::Duration;

use stage::{BUILD, MAC, PCI, Stage, parse_mac};
use vdev_netvsc::address::{MacAddr, PciAddr};
use vdev_netvsc::eal::ethdev::{self, Event, Occupant, Owner};
use vdev_netvsc::eal::{Errno, pci, vdev};
use vdev_netvsc::mailbox::Mailbox;

unsafe extern "C" {
    fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    fn rte_eal_cleanup() -> c_int;
    fn rte_eth_find_next_owned_by(port: u16, owner: u64) -> u64;
}

/// Starts EAL, which lives as long as the process.
fn start_eal(arguments: &[&str]) {
    // SAFETY: no other thread of this process asks for its environment.
    unsafe { std::env::set_var("SYSFS_PCI_DEVICES", PCI) };
    let vf = format!("{BUILD}/tests/librte_net_test_vf.so");
    let all = ["attach", "--lcores", "0@0", "--no-telemetry", "--no-huge", "-m", "64", "--no-shconf", "-d", &vf];
    let all = all.iter().chain(arguments).map(|argument| CString::new(*argument).unwrap().into_raw());
    let mut all: Vec<*mut c_char> = all.collect();
    // SAFETY: as many strings as it says, which are never freed.
    let taken = unsafe { rte_eal_init(all.len() as c_int, all.as_mut_ptr()) };
    assert!(taken >= 0, "EAL does not start");
}

/// An application that looks for ports that nobody owns finds one.
fn applications_find_one() -> bool {
    // SAFETY: takes any numbers.
    unsafe { rte_eth_find_next_owned_by(0, 0) < 32 }
}

fn function(text: &str) -> PciAddr {
    text.parse().unwrap()
}

/// One story, as a process has one EAL.
#[test]
fn a_function_is_attached_owned_handed_over_taken_back_and_detached() {
    let (one, mac) = (function("0000:01:00.0"), Some(MacAddr(parse_mac(MAC))));
    let mut stage = Stage::new();
    start_eal(&["-b", "0000:02:00.0", "-b", "03:00.0"]);
    let ours = Owner::ours().unwrap();
    assert_eq!(Owner::ours(), Ok(ours));
    ethdev::watch(Event::New, pci::port_appeared).unwrap();

    // Before it is there.
    assert_eq!(pci::attach(one), Err(Errno(libc::ENODEV)));
    assert_eq!(ethdev::occupant(one), Occupant::Nobody);
    assert_eq!(pci::detach(one), Ok(()));

    // Its port is ours from the beginning.
    stage.vf_appears("vf0", "0000:01:00.0", MAC);
    assert_eq!(pci::attach(one), Ok(()));
    assert_eq!(ethdev::occupant(one), Occupant::Ours { mac });
    let port = ethdev::first_on(one).unwrap().unwrap();
    assert_eq!(ethdev::ports_on(one), Ok(vec![port]));
    assert_eq!(ethdev::owner_name(port).as_deref(), Some("net_vdev_netvsc"));
    assert!(ours.holds(port) == Ok(true) && ethdev::may_be_owned_by(port, c"net_vdev_netvsc"));
    assert!(!applications_find_one());
    assert_eq!(pci::attach(one), Err(Errno(libc::EEXIST)));
    assert_eq!(ethdev::ports_on(one), Ok(vec![port]));

    // Handed over, and taken back.
    assert_eq!(ours.release(port), Ok(()));
    assert_eq!(ours.release(port), Err(Errno(libc::EPERM)));
    assert_eq!(ethdev::occupant(one), Occupant::Unowned { mac });
    assert!(applications_find_one());
    assert_eq!(pci::detach(one), Err(Errno(libc::EBUSY)), "it may be an application's");
    assert_eq!(ours.take(port), Ok(()));
    assert_eq!(ours.take(port), Err(Errno(libc::EPERM)));
    assert_eq!(pci::detach(one), Ok(()));
    assert_eq!(ethdev::occupant(one), Occupant::Nobody);
    assert_eq!(ours.take(port), Err(Errno(libc::ENODEV)));
    assert_eq!(ours.take(31), Err(Errno(libc::ENODEV)), "there never was one of this number");
    assert!(ours.holds(31) == Ok(false) && ethdev::owner_name(31).is_none());

    // An entry of -b in full does not keep it away, a short one does.
    stage.vf_appears("vf1", "0000:02:00.0", MAC);
    assert_eq!(pci::attach(function("0000:02:00.0")), Ok(()));
    assert_eq!(pci::detach(function("0000:02:00.0")), Ok(()));
    stage.vf_appears("vf2", "0000:03:00.0", MAC);
    assert_eq!(pci::attach(function("0000:03:00.0")), Err(Errno(libc::ENODEV)));

    // No PMD takes it.
    let four = function("0000:04:00.0");
    stage.function_appears("0000:04:00.0", "other");
    fs::write(format!("{PCI}/{four}/vendor"), "0x1234\n").unwrap();
    assert_eq!(pci::attach(four), Err(Errno(libc::ENOTSUP)));
    assert_eq!(ethdev::occupant(four), Occupant::Nobody);

    // Its PMD refuses it for now, as its netdevice is not there yet.
    let five = function("0000:05:00.0");
    stage.function_appears("0000:05:00.0", "test_vf");
    assert_eq!(pci::attach(five), Err(Errno(libc::ENODEV)));
    assert_eq!(ethdev::occupant(five), Occupant::Nobody);
    stage.vf_appears("vf5", "0000:05:00.0", MAC);
    assert_eq!(pci::attach(five), Ok(()));
    assert_eq!(ethdev::occupant(five), Occupant::Ours { mac });

    // It goes before failsafe has it: nothing but us removes it.
    stage.vf_goes("vf5", "0000:05:00.0");
    assert_eq!(ethdev::occupant(five), Occupant::Ours { mac });
    assert_eq!(pci::detach(five), Ok(()));
    assert_eq!(ethdev::occupant(five), Occupant::Nobody);

    // Failsafe leaves it to us until it is handed over, and takes it at its next poll.
    let mailbox = Mailbox::new().unwrap();
    stage.link_appears("eth1", MAC);
    let devargs = format!("hotplug_poll=20,fd({}),dev(net_af_packet_vsc0,iface=eth1)", mailbox.descriptor());
    vdev::add(c"net_failsafe_vsc0", &CString::new(devargs).unwrap()).unwrap();
    assert_eq!(pci::attach(one), Ok(()));
    mailbox.post(one).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ethdev::occupant(one), Occupant::Ours { mac });
    let port = ethdev::first_on(one).unwrap().unwrap();
    assert_eq!(ours.release(port), Ok(()));
    let failsafes = Occupant::Busy { by: Some("Fail-safe".to_owned()) };
    stage::wait_for("failsafe takes it", || (ethdev::occupant(one) == failsafes).then_some(()));
    assert_eq!(ethdev::first_on(one), Ok(Some(port)), "the same port, not hot-plugged");
    assert_eq!(pci::detach(one), Err(Errno(libc::EBUSY)));
    ethdev::stop_and_close(ethdev::find(c"net_failsafe_vsc0").unwrap()).unwrap();
    assert_eq!(ethdev::occupant(one), Occupant::Nobody, "failsafe takes it along");

    // Without the event it is free.
    ethdev::unwatch(Event::New, pci::port_appeared).unwrap();
    assert_eq!(pci::attach(one), Ok(()));
    assert_eq!(ethdev::occupant(one), Occupant::Unowned { mac });
    assert_eq!(ours.take(ethdev::first_on(one).unwrap().unwrap()), Ok(()));
    // SAFETY: nothing of EAL's is used after it.
    assert_eq!(unsafe { rte_eal_cleanup() }, 0, "one of ours is left");
}
