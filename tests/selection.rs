// SPDX-License-Identifier: BSD-3-Clause
//! Which interfaces an instance takes, and what it leaves alone.

// Outside of the functions marked as tests too, what fails here fails a test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use stage::{App, BUILD, Churn, MAC, Stage, ip, ip_batch, run, wait_for};

const FAILSAFE: &str = "net_failsafe_vsc0";
const VF: &str = "0000:01:00.0";
const OTHER_VF: &str = "0000:02:00.0";

/// The address of the n-th NetVSC netdevice; the first one's is [`MAC`].
fn mac(number: usize) -> String {
    format!("00:15:5d:00:00:{number:02x}")
}

/// Has the kernel run IPv6 on a netdevice, and waits until that has its link-local address.
fn run_ipv6(name: &str) {
    fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0").unwrap();
    wait_for(&format!("link-local address of {name}"), || {
        ip(&format!("-6 addr show dev {name}")).contains("fe80:").then_some(())
    });
}

/// NetVSC netdevices, what somebody configured on each by `ip`, and how the driver calls that.
const CONFIGURED: [(&str, &str, Option<&str>); 19] = [
    ("nothing", "", None),
    ("address4", "addr add 192.0.2.1/24 dev address4", Some("address 192.0.2.1/24")),
    ("peer4", "addr add 192.0.2.2 peer 192.0.2.3/32 dev peer4", Some("address 192.0.2.2/32")),
    ("linklocal4", "addr add 169.254.7.1/16 dev linklocal4", None),
    ("route4", "route add 198.51.100.0/24 dev route4", Some("route 198.51.100.0/24 in table 254")),
    ("host4", "route add 203.0.113.1/32 dev host4", Some("route 203.0.113.1/32 in table 254")),
    ("default4", "route add default dev default4", Some("route 0.0.0.0/0 in table 254")),
    ("table4", "route add default dev table4 table 100", Some("route 0.0.0.0/0 in table 100")),
    ("bigtable4", "route add 10.0.0.0/8 dev bigtable4 table 70000", Some("route 10.0.0.0/8 in table 70000")),
    ("hop4a", "", Some("route 198.18.0.0/15 in table 254")),
    ("hop4b", "route add 198.18.0.0/15 nexthop dev hop4a nexthop dev hop4b", Some("route 198.18.0.0/15 in table 254")),
    ("multicast4", "route add 239.0.0.0/8 dev multicast4", None),
    ("linklocal6", "-6 route show", None),
    ("address6", "addr add 2001:db8::1/64 dev address6 nodad", Some("address 2001:db8::1/64")),
    ("private6", "addr add fd00::1/64 dev private6 nodad", Some("address fd00::1/64")),
    ("route6", "-6 route add 2001:db8:1::/48 dev route6", Some("route 2001:db8:1::/48 in table 254")),
    ("default6", "-6 route add default dev default6", Some("route ::/0 in table 254")),
    ("table6", "-6 route add 2001:db8:2::/48 dev table6 table 100", Some("route 2001:db8:2::/48 in table 100")),
    ("multicast6", "-6 route add ff05::/16 dev multicast6 table 100", None),
];

fn configured_stage() -> Stage {
    let mut stage = Stage::new();
    for (number, (name, _, _)) in CONFIGURED.into_iter().enumerate() {
        stage.netvsc_appears(name, &mac(number));
        if name.contains('6') {
            run_ipv6(name);
        }
    }
    for (_, command, _) in CONFIGURED.into_iter().filter(|(_, command, _)| !command.is_empty()) {
        ip(command);
    }
    stage
}

#[test]
fn an_instance_without_names_takes_the_netvsc_links_on_which_nothing_is_configured() {
    let mut stage = configured_stage();
    stage.link_appears("plain", "02:00:00:00:00:01");
    stage.vf_appears("pci", VF, "02:00:00:00:00:02");
    let mut app = App::start_saying("warning", &["--vdev=net_vdev_netvsc0,fallback=af_packet"]);
    let free = CONFIGURED.into_iter().filter(|(_, _, configured)| configured.is_none());
    let mut free: Vec<&str> = free.map(|(name, ..)| name).collect();
    free.sort_unstable();
    assert_eq!(app.served(), free);
    assert!(app.said().is_empty(), "skipped silently: {:?}", app.said());
}

#[test]
fn an_interface_that_is_named_is_taken_with_a_warning_of_its_address() {
    let _stage = configured_stage();
    let mut app = App::start_saying("warning", &[]);
    for (number, (name, _, configured)) in CONFIGURED.into_iter().enumerate() {
        let said = app.said().len();
        app.ok(&format!("attach net_vdev_netvsc0 iface={name},fallback=af_packet"));
        assert_eq!(app.served(), [name]);
        app.ok("detach net_vdev_netvsc0");
        let index = 101 + number;
        let line = |what| {
            format!(
                "net_vdev_netvsc0: {name} (ifindex {index}) has {what}, at which the kernel may no longer be reached; taking \
                 it, as it was named"
            )
        };
        let address = configured.filter(|what| what.starts_with("address"));
        let lines: Vec<String> = address.into_iter().map(line).collect();
        assert_eq!(app.said()[said..], lines, "{name}");
    }
}

#[test]
fn what_one_instance_has_another_leaves_alone() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", &mac(1));
    stage.netvsc_appears("eth2", &mac(2));
    stage.netvsc_appears("eth3", &mac(3));
    let mut app = App::start_saying(
        "warning",
        &[
            "--vdev=net_vdev_netvsc0,iface=eth1,iface=eth2,fallback=af_packet",
            "--vdev=net_vdev_netvsc1,fallback=af_packet",
        ],
    );
    assert_eq!(app.served(), ["eth1", "eth2", "eth3"]);
    assert!(app.said().is_empty(), "{:?}", app.said());

    app.ok("attach net_vdev_netvsc2 iface=eth3,mac=00:15:5d:00:00:01,fallback=af_packet");
    app.ok("attach net_vdev_netvsc3 fallback=af_packet");
    assert_eq!(app.served(), ["eth1", "eth2", "eth3"]);
    let lines = [
        "net_vdev_netvsc2: eth3 (ifindex 103) has a port already, skipping",
        "net_vdev_netvsc2: eth1 (ifindex 101) has a port already, skipping",
    ];
    assert_eq!(app.said(), lines);

    for (instance, left) in [(2, &["eth1", "eth2", "eth3"][..]), (0, &["eth3"]), (3, &["eth3"]), (1, &[])] {
        app.ok(&format!("detach net_vdev_netvsc{instance}"));
        assert_eq!(app.served(), left, "without instance {instance}");
    }
}

#[test]
fn an_interface_named_twice_gets_one_port() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying(
        "warning",
        &[&format!("--vdev=net_vdev_netvsc0,iface=eth1,mac={MAC},iface=eth1,fallback=af_packet")],
    );
    assert_eq!(app.served(), ["eth1"]);
    assert_eq!(app.said(), ["net_vdev_netvsc0: eth1 (ifindex 101) has a port already, skipping"; 2]);
}

#[test]
fn a_mac_names_the_netvsc_link_and_not_its_vf() {
    let mut stage = Stage::new();
    stage.vf_appears("vf0", VF, MAC);
    stage.link_appears("bond", MAC);
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", &mac(2));
    let mut app = App::start(&[]);
    for force in [0, 1] {
        app.ok(&format!("attach net_vdev_netvsc0 mac={MAC},force={force},fallback=af_packet"));
        assert_eq!(app.served(), ["eth1"], "force={force}");
        app.ok("detach net_vdev_netvsc0");
    }
}

#[test]
fn a_plain_interface_is_taken_by_force_with_its_vf() {
    let mut stage = Stage::new();
    stage.link_appears("plain", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=plain,force=1,fallback=af_packet"]);
    assert_eq!(app.served(), ["plain"]);
    stage.vf_appears("vf0", VF, MAC);
    app.expect_port(VF);
}

#[test]
fn force_takes_what_is_named_and_nothing_else() {
    let mut stage = Stage::new();
    stage.link_appears("plain", MAC);
    stage.netvsc_appears("eth1", &mac(1));
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,force=1,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
}

/// Names that the kernel allows and that would mean something else inside failsafe's arguments.
const STRANGE: [&str; 6] = ["lan0)", "a),exec(cmd", "a=b", "x,y", "a(b", "[x]"];

#[test]
fn interfaces_whose_names_mean_something_to_failsafe_are_refused_and_cost_the_others_nothing() {
    let mut stage = Stage::new();
    for (number, name) in STRANGE.into_iter().enumerate() {
        stage.netvsc_appears(name, &mac(0x10 + number));
    }
    stage.netvsc_appears("eth1", MAC);
    stage.link_appears("lan0", "02:00:00:00:00:01");
    let mut app = App::start_saying("error", &["--vdev=net_vdev_netvsc0,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
    assert_eq!(app.ports(), ["net_af_packet_vsc0", FAILSAFE]);
    let line = |(number, name)| {
        format!(
            "net_vdev_netvsc0: {name} (ifindex {}) has a name that cannot be passed to failsafe: rename it, without \
             white space or any of , ( ) = [ ] / :",
            101 + number
        )
    };
    let lines: Vec<String> = STRANGE.into_iter().enumerate().map(line).collect();
    assert_eq!(app.said(), lines);

    // Each link changes, and one that is good comes: the bad ones are not told again.
    for name in STRANGE {
        ip(&format!("link set {name} mtu 1400"));
    }
    stage.vf_appears("vf0", VF, MAC);
    app.expect_port(VF);
    assert_eq!(app.said(), lines);
    assert_eq!(app.served(), ["eth1"]);
}

#[test]
fn a_mac_that_names_an_interface_with_such_a_name_gets_no_port() {
    let mut stage = Stage::new();
    stage.netvsc_appears("lan0)", MAC);
    stage.netvsc_appears("eth1", &mac(2));
    stage.link_appears("lan0", "02:00:00:00:00:01");
    let mut app = App::start_saying("error", &[]);
    let line = "net_vdev_netvsc0: lan0) (ifindex 101) has a name that cannot be passed to failsafe: rename it, without \
                white space or any of , ( ) = [ ] / :";

    app.ok(&format!("attach net_vdev_netvsc0 mac={MAC},iface=eth1,fallback=af_packet"));
    assert_eq!(app.served(), ["eth1"]);
    assert_eq!(app.said(), [line]);
    app.ok("detach net_vdev_netvsc0");

    // The instance lives, for the name may be mended.
    app.ok(&format!("attach net_vdev_netvsc0 mac={MAC},fallback=af_packet"));
    assert!(app.ports().is_empty(), "{:?}", app.ports());
    assert_eq!(app.said(), [line; 2]);
}

#[test]
fn an_interface_that_gets_a_good_name_as_told_is_taken_then() {
    let mut stage = Stage::new();
    stage.netvsc_appears("lan0)", MAC);
    stage.netvsc_appears("eth1", &mac(2));
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0,mac={MAC},iface=eth1,fallback=af_packet")]);
    assert_eq!(app.served(), ["eth1"]);
    stage.rename("lan0)", "lan0");
    wait_for("a port on lan0", || (app.served() == ["eth1", "lan0"]).then_some(()));
}

#[test]
fn of_twelve_ports_the_second_is_closed_and_made_again_under_an_id_that_is_free() {
    let mut stage = Stage::new();
    let names: Vec<String> = (0..12).map(|number| format!("eth{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        stage.netvsc_appears(name, &mac(number));
    }
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,fallback=af_packet"]);
    let interface = |app: &mut App, id: usize| {
        let port = format!("net_failsafe_vsc{id}");
        let devargs = app.has_port(&port).then(|| app.devargs(&port).unwrap());
        devargs.map(|text| text.strip_suffix(')').unwrap().rsplit_once('=').unwrap().1.to_owned())
    };
    let close = |app: &mut App, id: usize| {
        app.ok(&format!("stop net_failsafe_vsc{id}"));
        app.ok(&format!("close net_failsafe_vsc{id}"));
        app.expect_log(&format!("net_failsafe_vsc{id} (eth{id}, ifindex {}): closed by the application", 101 + id));
    };
    for (id, name) in names.iter().enumerate() {
        assert_eq!(interface(&mut app, id).as_ref(), Some(name));
    }

    close(&mut app, 1);
    app.ok("attach net_vdev_netvsc1 iface=eth1,fallback=af_packet");
    assert_eq!(interface(&mut app, 1), None, "1 is the beginning of 10 and 11");
    assert_eq!(interface(&mut app, 12).as_deref(), Some("eth1"), "the lowest that is free");
    assert_eq!(interface(&mut app, 10).as_deref(), Some("eth10"));
    assert!(app.has_port("net_af_packet_vsc12") && !app.has_port("net_af_packet_vsc1"));

    app.ok("detach net_vdev_netvsc1");
    close(&mut app, 10);
    close(&mut app, 11);
    app.ok("attach net_vdev_netvsc1 iface=eth1,iface=eth10,iface=eth11,fallback=af_packet");
    assert_eq!(interface(&mut app, 1).as_deref(), Some("eth1"), "free again, and its empty device is no hindrance");
    let interfaces: Vec<String> = (0..12).filter_map(|id| interface(&mut app, id)).collect();
    assert_eq!(interfaces, names);
}

#[test]
fn a_port_closed_by_the_application_can_be_had_again_at_once() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying("warning", &["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    app.ok(&format!("stop {FAILSAFE}"));
    app.ok(&format!("close {FAILSAFE}"));
    app.ok("attach net_vdev_netvsc1 iface=eth1,fallback=af_packet");
    assert_eq!(app.served(), ["eth1"], "{:?}", app.said());
}

#[test]
fn a_vf_that_is_there_already_is_attached_while_the_port_is_made() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", VF, MAC);
    // failsafe's poll comes too late to help. EAL attaches the VF itself first, or is told not to.
    let instance = "net_vdev_netvsc0,iface=eth1,fallback=af_packet,hotplug_poll=60000";
    let owned = [format!("{VF}:1"), "net_af_packet_vsc0:1".to_owned(), format!("{FAILSAFE}:0")];
    let ports = |app: &mut App| {
        let ports = app.ok("ports");
        let mut ports: Vec<String> =
            ports.split_whitespace().map(|port| port.split_once(':').unwrap().1.to_owned()).collect();
        ports.sort();
        ports
    };
    for options in [&[][..], &["-b", VF]] {
        let vdev = format!("--vdev={instance}");
        let mut arguments = vec![vdev.as_str()];
        arguments.extend(options);
        let mut app = App::start(&arguments);
        assert_eq!(ports(&mut app), owned, "at start with {options:?}");
        app.ok("detach net_vdev_netvsc0");
        assert!(app.ports().is_empty(), "{:?}", app.ports());
        app.ok(&format!("attach {}", instance.replacen(',', " ", 1)));
        assert_eq!(ports(&mut app), owned, "at run time with {options:?}");
    }
}

#[test]
fn of_two_vfs_that_fit_equally_well_the_one_with_the_lower_index_is_taken() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[]);
    stage.vf_appears("vf0", OTHER_VF, MAC);
    stage.vf_appears("vf1", VF, MAC);
    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
    app.ok(&format!("start {FAILSAFE}"));
    assert!(app.has_port(OTHER_VF), "{:?}", app.ports());
    let warning = "net_failsafe_vsc0 (eth1, ifindex 101): two VFs fit equally well, taking vf0 and not ifindex 103";
    let warned = |app: &App| app.said().iter().filter(|line| line.contains(warning)).count();
    assert_eq!(warned(&app), 1, "{:?}", app.said());

    // Everything changes, and it is said no more.
    for name in ["vf0", "vf1", "eth1"] {
        ip(&format!("link set {name} mtu 1400"));
    }
    stage.rename("eth1", "lan1");
    app.expect_log("renamed lan1");
    assert_eq!(warned(&app), 1);
    assert!(!app.has_port(VF));

    stage.vf_goes("vf0", OTHER_VF);
    app.expect_port(VF);
}

#[test]
fn with_virtio_standby_the_vf_is_found_from_the_master_and_from_the_standby() {
    let mut stage = Stage::new();
    stage.master_appears("failover", MAC);
    stage.link_appears("standby", MAC);
    stage.vf_appears("vf0", VF, MAC);
    for name in ["standby", "vf0"] {
        ip(&format!("link set {name} master failover"));
    }
    let mut app = App::start(&["-b", VF]);
    for (selector, taken) in
        [("iface=failover", "failover"), ("iface=standby", "standby"), (&*format!("mac={MAC}"), "failover")]
    {
        app.ok(&format!("attach net_vdev_netvsc0 {selector},force=1,fallback=af_packet"));
        assert_eq!(app.served(), [taken], "{selector}");
        assert!(app.has_port(VF), "{selector}: {:?}", app.ports());
        app.ok("detach net_vdev_netvsc0");
    }
    // The address alone does not make the VF of a master: from it the VF is found also under another one.
    ip("link set vf0 address 02:00:00:00:00:99");
    app.ok("attach net_vdev_netvsc0 iface=failover,force=1,fallback=af_packet");
    assert!(app.has_port(VF), "{:?}", app.ports());
}

#[test]
fn an_instance_leaves_nothing_but_empty_devices() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", &mac(1));
    stage.netvsc_appears("eth2", &mac(2));
    let mut app = App::start(&[]);
    stage.vf_appears("vf0", VF, &mac(1));
    let before = descriptors(&app);
    assert!(app.ports().is_empty());
    for arguments in ["fallback=af_packet", "iface=eth1,iface=eth2,iface=eth3,fallback=af_packet", "fallback=tap"] {
        app.ok(&format!("attach net_vdev_netvsc0 {arguments}"));
        assert_eq!(app.served(), ["eth1", "eth2"], "{arguments}");
        assert!(app.has_port(VF), "{arguments}: {:?}", app.ports());
        assert_ne!(descriptors(&app), before, "{arguments}");
        app.ok("detach net_vdev_netvsc0");
        assert!(app.ports().is_empty(), "{arguments}: {:?}", app.ports());
        // EAL's interrupt thread makes its epoll anew when a source has gone, so that one may be missing for a moment.
        wait_for(&format!("open after {arguments} as before: {before:?}"), || {
            (descriptors(&app) == before).then_some(())
        });
        assert_eq!(app.devargs("net_vdev_netvsc0"), None);
    }
}

/// What the application holds open, sorted.
fn descriptors(app: &App) -> Vec<PathBuf> {
    let folder = fs::read_dir(format!("/proc/{}/fd", app.pid())).unwrap();
    // One may be closed before it is looked at.
    let mut files: Vec<PathBuf> = folder.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect();
    files.sort();
    files
}

/// Starts the application on what it takes for Hyper-V.
fn start_on_hyperv(arguments: &[&str]) -> App {
    let (program, library) = ("/run/app-on-hyperv", "/run/hyperv.so");
    if !fs::exists(program).unwrap() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hyperv.c");
        let flags = run("pkg-config", &["--cflags", "libdpdk"]);
        let mut compile: Vec<&str> = flags.split_whitespace().collect();
        compile.extend(["-shared", "-fPIC", "-o", library, source]);
        run("cc", &compile);
        fs::write(program, format!("#!/bin/sh\nLD_PRELOAD={library} exec {BUILD}/tests/app \"$@\"\n")).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let plugin = format!("{BUILD}/librte_net_vdev_netvsc.so");
    let mut all = vec!["-d", &plugin];
    all.extend(arguments);
    let app = App::launch(program, &all, true);
    app.expect_reply("ready");
    app
}

/// The instances that EAL knows.
fn instances(app: &mut App) -> Vec<String> {
    let vdevs = app.ok("vdevs");
    vdevs.split_whitespace().filter(|vdev| vdev.contains("vdev_netvsc")).map(str::to_owned).collect()
}

/// All plugins that the driver needs, and not the C driver: that one would add the same instance by itself.
const WITHOUT_C_DRIVER: [&str; 6] = ["bus_pci", "bus_vdev", "mempool_ring", "net_af_packet", "net_failsafe", "net_tap"];

#[test]
fn on_hyperv_an_instance_adds_itself_unless_the_user_named_one() {
    let mut stage = Stage::new();
    stage.only_plugins(&WITHOUT_C_DRIVER);
    stage.netvsc_appears("eth1", &mac(1));
    stage.netvsc_appears("eth2", &mac(2));
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &["net_vdev_netvsc"], &["eth1", "eth2"]),
        (&["--vdev=net_failsafe0,dev(net_af_packet0,iface=eth2)"], &["net_vdev_netvsc"], &["eth1", "eth2"]),
        (&["--vdev=net_vdev_netvsc0,iface=eth2"], &["net_vdev_netvsc0,iface=eth2"], &["eth2"]),
        (&["--vdev=net_vdev_netvsc_lan,iface=eth2"], &["net_vdev_netvsc_lan,iface=eth2"], &["eth2"]),
        (&["--vdev=eth_vdev_netvsc7,iface=eth2"], &["eth_vdev_netvsc7,iface=eth2"], &["eth2"]),
        (&["--vdev=net_vdev_netvsc0,ignore=1"], &["net_vdev_netvsc0,ignore=1"], &[]),
    ];
    for (arguments, want, served) in table {
        let mut app = start_on_hyperv(arguments);
        assert_eq!(instances(&mut app), want, "{arguments:?}");
        assert_eq!(app.served(), served, "{arguments:?}");
    }
    let mut app = App::start(&[]);
    assert!(instances(&mut app).is_empty() && app.ports().is_empty(), "without Hyper-V nothing adds itself");
}

#[test]
fn a_device_on_the_vmbus_tells_of_hyperv_where_cpuid_does_not() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vmbus_appears();
    let mut app = App::start(&[]);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
}

#[test]
fn the_instance_that_added_itself_stays_away_once_removed() {
    let mut stage = Stage::new();
    stage.only_plugins(&WITHOUT_C_DRIVER);
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_on_hyperv(&[]);
    assert_eq!(app.served(), ["eth1"]);
    app.ok("detach net_vdev_netvsc");
    app.ok("attach net_vdev_netvsc0 ignore=1");
    app.ok("detach net_vdev_netvsc0");
    app.ok("attach net_af_packet0 iface=eth1");
    assert!(instances(&mut app).is_empty(), "{:?}", instances(&mut app));
    assert_eq!(app.ports(), ["net_af_packet0"]);
}

#[test]
fn on_hyperv_beside_the_c_driver_there_is_one_instance_and_it_is_ours() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_on_hyperv(&[]);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
    assert!(app.devargs(FAILSAFE).unwrap().starts_with("hotplug_poll=100,"), "the C driver does not say that");
}

#[test]
fn a_port_is_made_and_gets_its_vf_while_other_links_come_and_go_all_the_time() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", VF, MAC);
    ip_batch(&(0..1000).map(|i| format!("link add a{i} type veth peer name b{i}\n")).collect::<String>());
    let _churn = Churn::begin();
    let mut app = App::start(&[]);
    let changed = |app: &App| app.logged("changed meanwhile").len();
    for _ in 0..100 {
        let before = changed(&app);
        app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
        assert_eq!(app.served(), ["eth1"]);
        app.ok(&format!("start {FAILSAFE}"));
        app.expect_port(VF);
        // At each of three tries.
        if changed(&app) >= before + 3 {
            return;
        }
        app.ok("detach net_vdev_netvsc0");
    }
    panic!("links come and go too slowly");
}

#[test]
fn an_interface_that_sysfs_does_not_tell_of_is_not_called_another() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let class = "/sys/class/net/eth1/device/class_id";
    fs::remove_file(class).unwrap();
    let refused = |app: &mut App, why: &str| {
        app.fails("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
        let want = format!("cannot tell whether eth1 is a NetVSC interface, as /sys/class/net does not tell: {why}");
        assert!(app.said().iter().any(|line| line.contains(&want)), "{:?}", app.said());
    };
    let mut app = App::start(&[]);
    refused(&mut app, "No such file or directory");
    std::os::unix::fs::symlink("class_id", class).unwrap();
    refused(&mut app, "Too many levels of symbolic links");
    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet,force=1");
    assert_eq!(app.served(), ["eth1"]);
}
