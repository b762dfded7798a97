// SPDX-License-Identifier: BSD-3-Clause
//! Interfaces that somebody else uses, that are not what they seem, or not there yet.

// Outside of the functions marked as tests too, what fails here fails a test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use stage::{App, MAC, Stage, ip, run, wait_for};

const FAILSAFE: &str = "net_failsafe_vsc0";
const VF: &str = "0000:01:00.0";

/// The address of the n-th NetVSC netdevice; the first one's is [`MAC`].
fn mac(number: usize) -> String {
    format!("00:15:5d:00:00:{number:02x}")
}

/// NetVSC netdevices that somebody uses without an address of their own, and how the driver calls that.
const USED: [(&str, &str, &str); 5] = [
    ("bridged", "is enslaved to br0 (ifindex 106)", LESS),
    ("lower", "is the lower device of mv0 (ifindex 107)", LESS),
    ("leased", "has the VF vf0 (ifindex 108), which has address 192.0.2.9/24", UNREACHABLE),
    ("stacked", "has the VF vf1 (ifindex 109), which is the lower device of mv1 (ifindex 110)", LESS),
    ("addressed", "has address 192.0.2.1/24", UNREACHABLE),
];

const LESS: &str = "which may no longer get what comes in";
const UNREACHABLE: &str = "at which the kernel may no longer be reached";

fn used_stage() -> Stage {
    let mut stage = Stage::new();
    for (number, (name, ..)) in USED.into_iter().enumerate() {
        stage.netvsc_appears(name, &mac(number + 1));
    }
    stage.master_appears("br0", "02:00:00:00:00:01");
    ip("link set bridged master br0");
    stage.virtual_appears("mv0", "link lower type macvlan");
    stage.vf_appears("vf0", VF, &mac(3));
    ip("addr add 192.0.2.9/24 dev vf0");
    stage.vf_appears("vf1", "0000:02:00.0", &mac(4));
    stage.virtual_appears("mv1", "link vf1 type macvlan");
    ip("addr add 192.0.2.1/24 dev addressed");
    stage
}

fn skipped(name: &str, number: usize, what: &str) -> String {
    format!("net_vdev_netvsc0: {name} (ifindex {}) {what}, skipping", 101 + number)
}

/// Arguments of EAL that keep it from VFs until the driver attaches them.
const NO_VFS: [&str; 4] = ["-b", VF, "-b", "0000:02:00.0"];

#[test]
fn an_instance_without_names_leaves_alone_what_somebody_uses_and_says_so_once_each() {
    let mut stage = used_stage();
    stage.netvsc_appears("eth1", &mac(9));
    let mut app = App::start_saying("notice", &[&NO_VFS[..], &["--vdev=net_vdev_netvsc0,fallback=af_packet"]].concat());
    assert_eq!(app.served(), ["eth1"]);
    let lines: Vec<String> = app.said().into_iter().filter(|line| line.contains("skipping")).collect();
    let want: Vec<String> =
        USED.into_iter().enumerate().map(|(number, (name, what, _))| skipped(name, number, what)).collect();
    assert_eq!(lines, want);
}

#[test]
fn an_instance_that_takes_none_says_of_each_interface_why() {
    let _stage = used_stage();
    let app = App::start_saying("notice", &[&NO_VFS[..], &["--vdev=net_vdev_netvsc0,fallback=af_packet"]].concat());
    let mut want: Vec<String> =
        USED.into_iter().enumerate().map(|(number, (name, what, _))| skipped(name, number, what)).collect();
    want.push("net_vdev_netvsc0: no NetVSC interface to take".to_owned());
    // The far ends of the wires are not in the sysfs of this stage.
    let (said, last) =
        (app.said(), "as /sys shows another network namespace: mount that of this one (mount -t sysfs sysfs /sys)");
    assert_eq!(said[..want.len()], want);
    assert!(said.len() == want.len() + 1 && said[want.len()].ends_with(last), "{said:?}");
}

#[test]
fn an_interface_in_use_that_is_named_is_taken_with_a_warning_of_what_breaks() {
    let _stage = used_stage();
    let mut app = App::start_saying("warning", &NO_VFS);
    for (number, (name, what, breaks)) in USED.into_iter().enumerate() {
        let said = app.said().len();
        app.ok(&format!("attach net_vdev_netvsc0 iface={name},fallback=af_packet"));
        assert_eq!(app.served(), [name]);
        let index = 101 + number;
        let line = format!("net_vdev_netvsc0: {name} (ifindex {index}) {what}, {breaks}; taking it, as it was named");
        assert_eq!(app.said()[said..], [line]);
        app.ok("detach net_vdev_netvsc0");
    }
}

#[test]
fn an_interface_that_comes_back_in_use_is_not_taken_until_it_is_free() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.master_appears("br0", "02:00:00:00:00:01");
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
    app.ok(&format!("start {FAILSAFE}"));
    app.signal(nix::sys::signal::Signal::SIGSTOP);
    stage.link_goes("eth1");
    let index = stage.netvsc_appears("eth1", MAC);
    ip("link set eth1 master br0");
    app.signal(nix::sys::signal::Signal::SIGCONT);
    app.expect_log("in use");
    assert!(app.logged(&format!("ifindex {index}): made")).is_empty());
    ip("link set eth1 nomaster");
    app.expect_log(&format!("ifindex {index}): made"));
}

#[test]
fn force_takes_no_vf_of_a_netvsc_interface_and_warns_of_any_other() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", VF, MAC);
    stage.link_appears("plain", "02:00:00:00:00:02");
    let mut app = App::start_saying("warning", &["-b", VF]);
    assert_eq!(app.fails("attach net_vdev_netvsc0 iface=vf0,force=1,fallback=af_packet"), libc::ENODEV);
    assert_eq!(app.said(), ["net_vdev_netvsc0: iface=vf0: vf0 is the VF of eth1: use iface=eth1"]);
    app.ok("attach net_vdev_netvsc0 iface=eth1,iface=plain,force=1,fallback=af_packet");
    assert_eq!(app.served(), ["eth1", "plain"]);
    let line = "net_vdev_netvsc0: plain (ifindex 103) is not a NetVSC interface; taking it, as force=1 was given";
    assert_eq!(app.said()[1..], [line]);
}

#[test]
fn an_interface_that_is_named_at_start_and_not_there_yet_is_taken_when_it_comes() {
    let mut stage = Stage::new();
    let mut app =
        App::start_saying("notice", &["--vdev=net_vdev_netvsc0,iface=eth1,mac=00:15:5d:00:00:99,fallback=af_packet"]);
    assert!(app.ports().is_empty());
    let line = "net_vdev_netvsc0: iface=eth1: no such interface in this network namespace; \
                mac=00:15:5d:00:00:99: no such interface in this network namespace; taking them when they come";
    assert_eq!(app.said(), [line]);
    // As cloud-init renames it.
    stage.netvsc_appears("eth0", MAC);
    stage.rename("eth0", "eth1");
    app.expect_port(FAILSAFE);
    assert_eq!(app.served(), ["eth1"]);

    app.ok("detach net_vdev_netvsc0");
    assert_eq!(app.fails("attach net_vdev_netvsc0 iface=eth7"), libc::ENODEV, "at run time");
    assert_eq!(app.fails("attach net_vdev_netvsc1 iface=eth7"), libc::ENODEV, "at run time, by a new name");
}

#[test]
fn of_two_devices_of_one_name_the_one_that_eal_drops_is_told() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", &mac(2));
    let mut app = App::start_saying(
        "warning",
        &[
            "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet",
            "--vdev=net_vdev_netvsc1,ignore=1",
            "--vdev=net_vdev_netvsc0,iface=eth2,fallback=af_packet",
            "--vdev=net_vdev_netvsc0,iface=eth2,fallback=af_packet",
        ],
    );
    assert_eq!(app.served(), ["eth1"]);
    let line = "net_vdev_netvsc0: given by --vdev 3 times, of which EAL takes the first and drops the others: name each \
                device differently, or name several interfaces in one, as iface=eth1,iface=eth2";
    assert_eq!(app.said(), [line]);
}

/// Makes a wire that ends in an interface of which this sysfs does not know.
fn elsewhere(name: &str) {
    ip(&format!("link add {name} address {MAC} type veth peer name {name}p"));
}

#[test]
fn the_sysfs_of_another_network_namespace_or_none_is_said_to_be_so() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth9", &mac(9));
    elsewhere("eth1");
    let mut app = App::start_saying("warning", &[]);
    let mut refused = |why: &str| {
        let said = app.said().len();
        assert_eq!(app.fails("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet"), libc::ENODEV);
        let line = format!("net_vdev_netvsc0: iface=eth1: cannot tell whether eth1 is a NetVSC interface, as {why}");
        assert_eq!(app.said()[said..], [line]);
    };
    let mount = "mount that of this one (mount -t sysfs sysfs /sys), or add force=1 to take it all the same";
    refused(&format!("/sys shows another network namespace: {mount}"));
    run("mount", &["-t", "tmpfs", "none", "/sys/class"]);
    let mount = "mount it (mount -t sysfs sysfs /sys), or add force=1 to take it all the same";
    refused(&format!("there is no sysfs at /sys: {mount}"));
}

#[test]
fn an_interface_is_known_by_an_alternative_name_and_followed() {
    let mut stage = Stage::new();
    let index = stage.netvsc_appears("eth1", MAC);
    ip("link property add dev eth1 altname lan0 altname enx00155d000000_of_the_second_rack");
    let mut app = App::start_saying("notice", &["--vdev=net_vdev_netvsc0,iface=lan0,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
    let line = format!("net_vdev_netvsc0: lan0 is an alternative name of eth1 (ifindex {index})");
    assert!(app.said().contains(&line), "{:?}", app.said());
    app.ok(&format!("start {FAILSAFE}"));

    // The name goes with its interface, and comes back a while after that.
    stage.link_goes("eth1");
    app.expect_log("the interface is gone");
    let index = stage.netvsc_appears("eth1", MAC);
    std::thread::sleep(std::time::Duration::from_millis(200));
    ip("link property add dev eth1 altname lan0");
    app.expect_log(&format!("ifindex {index}): made"));

    app.ok("attach net_vdev_netvsc1 ignore=1");
    app.ok("detach net_vdev_netvsc0");
    let long = "attach net_vdev_netvsc0 iface=enx00155d000000_of_the_second_rack,fallback=af_packet";
    app.fails(long);
    ip("link property add dev eth1 altname enx00155d000000_of_the_second_rack");
    app.ok(long);
    assert_eq!(app.served(), ["eth1"]);
}

#[test]
fn an_address_that_comes_to_an_interface_that_is_served_is_warned_of_once() {
    let mut stage = Stage::new();
    let index = stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", &mac(2));
    stage.vf_appears("vf0", VF, MAC);
    let mut app = App::start_saying("warning", &["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    let line = |address: &str, on: &str| {
        format!(
            "{FAILSAFE} (eth1, ifindex {index}): {on} has got address {address}, at which the kernel may not be \
             reached: the port takes its frames; take it off, or give the port up"
        )
    };
    ip("addr add 169.254.7.1/16 dev eth1");
    ip("addr add 192.0.2.2/24 dev eth2");
    ip("addr add 192.0.2.1/24 dev vf0");
    wait_for("a warning", || (app.said() == [line("192.0.2.1/24", "vf0")]).then_some(()));
    for number in 3..9 {
        ip(&format!("addr add 192.0.2.{number}/24 dev eth1"));
    }
    ip("addr del 192.0.2.3/24 dev eth1");
    app.ok("attach net_vdev_netvsc1 iface=eth2,fallback=af_packet");
    ip("addr add 198.51.100.1/24 dev eth2");
    app.ok("detach net_vdev_netvsc1");
    let lines = app.said();
    assert_eq!(lines[..1], [line("192.0.2.1/24", "vf0")]);
    let at_probe = "net_vdev_netvsc1: eth2 (ifindex 102) has address 192.0.2.2/24";
    assert!(lines.len() == 2 && lines[1].starts_with(at_probe), "{lines:?}");
}
