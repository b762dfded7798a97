// SPDX-License-Identifier: BSD-3-Clause
//! Stories on Hyper-V, as far as a guest that is not on it can tell them: NetVSC netdevices on a bus named `vmbus`, to
//! which the guest's kernel enslaves VFs. No `force=1`. `make guest` plays them.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;
#[allow(dead_code, reason = "the others play in examples/guest.rs")]
mod stories;

use stage::{App, BUILD, Driver, Hyperv, MAC, Place, exchange, expect_answer, wait_for};
use stories::{FAILSAFE, ONE, TWO};

const OTHER_MAC: &str = "00:15:5d:00:00:02";

/// A guest with the NetVSC interface eth1.
fn hyperv() -> Hyperv {
    let mut hyperv = Hyperv::boot(Driver::Ours);
    hyperv.netvsc_appears("eth1", MAC);
    hyperv
}

/// The instances that EAL knows.
fn instances(app: &mut App) -> Vec<String> {
    let vdevs = app.ok("vdevs");
    vdevs.split_whitespace().filter(|vdev| vdev.contains("vdev_netvsc")).map(str::to_owned).collect()
}

/// All of some frames sent into a wire come back on it.
fn expect_all_back(wire: &str) {
    assert_eq!(exchange(wire, MAC, 50, &[wire]), [50], "frames by {wire}");
}

/// The VF is attached, and frames go both ways by it.
fn expect_attached(app: &mut App, name: &str, address: &str) {
    app.expect_port(address);
    expect_answer(&format!("{name}p"), MAC);
    expect_all_back(&format!("{name}p"));
}

/// The VF is no part of the port any more, and frames go both ways by eth1.
fn expect_fallback(app: &mut App, address: &str) {
    app.expect_no_port(address);
    expect_all_back("eth1p");
}

/// The port carries frames by eth1, by a VF, by eth1 again, and by the VF in another slot.
fn expect_a_life(hyperv: &mut Hyperv, app: &mut App) {
    app.ok(&format!("start {FAILSAFE}"));
    expect_all_back("eth1p");
    for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
        hyperv.vf_appears(name, address, MAC);
        hyperv.expect_enslaved(address, "eth1");
        expect_attached(app, name, address);
        hyperv.vf_goes(name, address);
        expect_fallback(app, address);
    }
}

#[test]
#[ignore = "make guest plays it"]
fn an_enslaved_vf_comes_goes_and_comes_back_in_another_slot_under_a_named_interface() {
    let mut hyperv = hyperv();
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}

#[test]
#[ignore = "make guest plays it"]
fn the_vmbus_brings_an_instance_by_itself() {
    let mut hyperv = hyperv();
    let mut app = App::start(&[]);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}

#[test]
#[ignore = "make guest plays it"]
fn no_frame_is_lost_as_an_enslaved_vf_comes_to_another_slot() {
    stories::a_vf_comes_at_another_address_after_it_was_in_use(&mut Hyperv::boot(Driver::Ours));
    for note in stories::take_notes() {
        println!("{note}");
    }
}

#[test]
#[ignore = "make guest plays it"]
fn an_enslaved_vf_is_there_before_the_application() {
    let mut hyperv = hyperv();
    hyperv.vf_appears("vf0", ONE, MAC);
    hyperv.expect_enslaved(ONE, "eth1");
    let mut app = App::start(&[]);
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf0", ONE);
    hyperv.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
#[ignore = "make guest plays it"]
fn what_an_instance_takes_without_a_name_with_one_and_when_told_to_ignore() {
    let mut hyperv = hyperv();
    hyperv.netvsc_appears("eth2", OTHER_MAC);
    hyperv.vf_appears("vf0", ONE, MAC);
    hyperv.expect_enslaved(ONE, "eth1");
    hyperv.0.shell("ip addr add 10.1.0.4/24 dev eth2");
    let mac = format!("net_vdev_netvsc0,mac={MAC}");
    let table: [(&str, &[&str]); 5] = [
        // eth2 is configured.
        ("net_vdev_netvsc0", &["eth1"]),
        ("net_vdev_netvsc0,iface=eth2", &["eth2"]),
        // The host's NIC, the NetVSC interface and the VF have it.
        (&mac, &["eth1"]),
        ("net_vdev_netvsc0,ignore=1", &[]),
        // The host's NIC.
        ("net_vdev_netvsc0,iface=host4", &[]),
    ];
    for (vdev, served) in table {
        let mut app = App::start(&[&format!("--vdev={vdev}")]);
        assert_eq!(app.served(), served, "{vdev}");
        app.quit();
    }
}

/// NetVSC interfaces as hosts use them, what puts each to use (`@` is the interface), and how the driver calls that.
const USED: [(&str, &str, &str); 6] = [
    ("vlanned", "add link @ name vlan5 type vlan id 5", "is the lower device of vlan5"),
    ("bonded", "add bond1 type bond mode active-backup", "is enslaved to bond1"),
    ("teamed", "add team1 type team", "is enslaved to team1"),
    ("routed", "add vrf1 type vrf table 7", "is enslaved to vrf1"),
    ("shared", "add link @ name ipvlan1 type ipvlan mode l2", "is the lower device of ipvlan1"),
    ("paired", "add link @ name vlan6 type vlan id 6", "is the lower device of vlan6"),
];

#[test]
#[ignore = "make guest plays it"]
fn what_a_vlan_a_bond_or_a_vrf_uses_is_left_alone_unless_it_is_named() {
    let mut hyperv = Hyperv::boot(Driver::Ours);
    hyperv.0.shell("modprobe -a 8021q bonding ipvlan team vrf");
    let mac = |number: usize| format!("00:15:5d:00:01:{number:02x}");
    for (number, (name, ..)) in USED.into_iter().enumerate() {
        hyperv.netvsc_appears(name, &mac(number));
    }
    hyperv.netvsc_appears("eth1", MAC);
    hyperv.vf_appears("vf0", ONE, &mac(5));
    hyperv.expect_enslaved(ONE, "paired");
    let shell = |command: String| hyperv.0.shell(&command).trim_end().to_owned();
    let vf = shell(format!("ls /sys/bus/pci/devices/{ONE}/net"));
    let labelled = |name: &str| format!("{name} (ifindex {})", shell(format!("cat /sys/class/net/{name}/ifindex")));
    let uses = USED.map(|(name, link, what)| {
        shell(format!("ip link {}", link.replace('@', if name == "paired" { &vf } else { name })));
        let upper = what.rsplit(' ').next().unwrap();
        if what.contains("enslaved") {
            shell(format!("ip link set {name} down && ip link set {name} master {upper}"));
        }
        shell(format!("ip link set {name} up && ip link set {upper} up"));
        // A VRF's own address says nothing of its ports.
        shell(format!("ip addr add 10.{}.0.4/24 dev {upper}", shell(format!("cat /sys/class/net/{upper}/ifindex"))));
        let used = what.replace(upper, &labelled(upper));
        if name == "paired" { format!("has the VF {}, which {used}", labelled(&vf)) } else { used }
    });

    let mut app = App::start_saying("notice", &["-b", ONE]);
    let skipped =
        |((name, ..), what): ((&str, _, _), &String)| format!("net_vdev_netvsc: {} {what}, skipping", labelled(name));
    let want: Vec<String> = USED.into_iter().zip(&uses).map(skipped).collect();
    let said: Vec<String> = app.said().into_iter().filter(|line| line.contains("skipping")).collect();
    assert_eq!(said, want);
    assert_eq!(app.served(), ["eth1"]);
    app.quit();

    let mut app = App::start_saying("warning", &["-b", ONE, "--vdev=net_vdev_netvsc,ignore=1"]);
    for (number, ((name, ..), what)) in USED.into_iter().zip(&uses).enumerate() {
        let said = app.said().len();
        app.ok(&format!("attach net_vdev_netvsc0 iface={name}"));
        assert_eq!(app.served(), [name]);
        let breaks = "which may no longer get what comes in; taking it, as it was named";
        assert_eq!(app.said()[said..], [format!("net_vdev_netvsc0: {} {what}, {breaks}", labelled(name))]);
        app.ok(&format!("start {FAILSAFE}"));
        let wire = if name == "paired" { "vf0p".to_owned() } else { format!("{name}p") };
        expect_answer(&wire, &mac(number));
        app.ok("detach net_vdev_netvsc0");
    }
}

#[test]
#[ignore = "make guest plays it"]
fn an_address_that_comes_to_an_interface_that_is_served_is_warned_of_once() {
    let hyperv = hyperv();
    let app = App::start_saying("warning", &[]);
    let index = hyperv.0.shell("cat /sys/class/net/eth1/ifindex");
    let line = format!(
        "{FAILSAFE} (eth1, ifindex {}): eth1 has got address 10.1.0.4/24, at which the kernel may not be reached: the \
         port takes its frames; take it off, or give the port up",
        index.trim_end()
    );
    hyperv.0.shell("ip addr add 10.1.0.4/24 dev eth1");
    wait_for("a warning", || (app.said() == [line.clone()]).then_some(()));
    hyperv.0.shell("ip addr add 10.1.0.5/24 dev eth1 && ip addr del 10.1.0.4/24 dev eth1");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(app.said(), [line], "also after a tick");
}

#[test]
#[ignore = "make guest plays it"]
fn cpuid_alone_brings_an_instance_and_neither_brings_none() {
    let mut hyperv = hyperv();
    // The bus is hidden; its devices are not.
    hyperv.0.shell("mount -t tmpfs none /sys/bus/vmbus");
    let mut app = App::start(&[]);
    assert!(instances(&mut app).is_empty() && app.ports().is_empty(), "{:?}", app.ports());
    app.quit();
    let mut command = App::command_with_plugin(&[], &[]);
    command.env("LD_PRELOAD", format!("{BUILD}/tests/libhyperv.so"));
    let mut app = App::up(command);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}
