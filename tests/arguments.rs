// SPDX-License-Identifier: BSD-3-Clause
//! Device arguments, as an application and its user meet them: what each does, and what is said of those refused.

// Outside of the functions marked as tests too, what fails here fails a test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use std::fs;
use std::process::Command;

use stage::{App, BUILD, MAC, PLUGINS, Stage};

const OTHER_MAC: &str = "00:15:5d:00:00:ab";
const VF: &str = "0000:01:00.0";

const NAME: &str = "expected an interface name of 1 to 127 bytes without white space or any of , ( ) = [ ] / :";
const ADDRESS: &str = "expected an Ethernet address such as 00:15:5d:01:02:03";
const FLAG: &str = "expected 0 or 1";
const FALLBACK: &str = "expected tap or af_packet";
const POLL: &str = "expected milliseconds from 10 to 60000";
const QUEUES: &str = "expected a number from 1 to 16";
const KEYS: &str = "expected one of iface, mac, force, ignore, fallback, hotplug_poll, queues";

/// Arguments of an instance, what the one line that refuses them calls it, and what that line says is accepted.
const REFUSED: [(&str, &str, &str); 56] = [
    ("iface=", "argument iface=\"\"", NAME),
    ("iface=1234567890123456[", "argument iface=\"1234567890123456[\"", NAME),
    ("iface=lan0)", "argument iface=\"lan0)\"", NAME),
    ("iface=a(b", "argument iface=\"a(b\"", NAME),
    ("iface=a),exec(b", "argument iface=\"a)\"", NAME),
    ("iface=a=b", "argument iface=\"a=b\"", NAME),
    ("iface=a=force=1", "argument iface=\"a=force=1\"", NAME),
    ("iface=[a,b]", "argument iface=\"[a,b]\"", NAME),
    ("iface=a[b]", "argument iface=\"a[b]\"", NAME),
    ("iface=a]", "argument iface=\"a]\"", NAME),
    ("iface=a/b", "argument iface=\"a/b\"", NAME),
    ("iface=a:b", "argument iface=\"a:b\"", NAME),
    ("iface=a b", "argument iface=\"a b\"", NAME),
    ("iface=a\tb", "argument iface=\"a\\tb\"", NAME),
    ("iface=a\u{7f}", "argument iface=\"a\\x7f\"", NAME),
    ("iface=.", "argument iface=\".\"", NAME),
    ("iface=..", "argument iface=\"..\"", NAME),
    ("iface=eth1,iface=", "argument iface=\"\"", NAME),
    ("mac=", "argument mac=\"\"", ADDRESS),
    ("mac=eth1", "argument mac=\"eth1\"", ADDRESS),
    ("mac=00:15:5d:00:00", "argument mac=\"00:15:5d:00:00\"", ADDRESS),
    ("mac=00:15:5d:00:00:01:02", "argument mac=\"00:15:5d:00:00:01:02\"", ADDRESS),
    ("mac=00:15:5d:00:00:0g", "argument mac=\"00:15:5d:00:00:0g\"", ADDRESS),
    ("mac=0015:5d00", "argument mac=\"0015:5d00\"", ADDRESS),
    ("iface=eth1,force=", "argument force=\"\"", FLAG),
    ("iface=eth1,force=2", "argument force=\"2\"", FLAG),
    ("iface=eth1,force=-1", "argument force=\"-1\"", FLAG),
    ("iface=eth1,force=01", "argument force=\"01\"", FLAG),
    ("iface=eth1,force=yes", "argument force=\"yes\"", FLAG),
    ("ignore=", "argument ignore=\"\"", FLAG),
    ("ignore=2", "argument ignore=\"2\"", FLAG),
    ("ignore=1,force=true", "argument force=\"true\"", FLAG),
    ("iface=eth1,fallback=", "argument fallback=\"\"", FALLBACK),
    ("iface=eth1,fallback=TAP", "argument fallback=\"TAP\"", FALLBACK),
    ("iface=eth1,fallback=net_tap", "argument fallback=\"net_tap\"", FALLBACK),
    ("iface=eth1,hotplug_poll=", "argument hotplug_poll=\"\"", POLL),
    ("iface=eth1,hotplug_poll=0", "argument hotplug_poll=\"0\"", POLL),
    ("iface=eth1,hotplug_poll=9", "argument hotplug_poll=\"9\"", POLL),
    ("iface=eth1,hotplug_poll=60001", "argument hotplug_poll=\"60001\"", POLL),
    ("iface=eth1,hotplug_poll=4294967396", "argument hotplug_poll=\"4294967396\"", POLL),
    ("iface=eth1,hotplug_poll=+100", "argument hotplug_poll=\"+100\"", POLL),
    ("iface=eth1,hotplug_poll=0x64", "argument hotplug_poll=\"0x64\"", POLL),
    ("iface=eth1,hotplug_poll=1e2", "argument hotplug_poll=\"1e2\"", POLL),
    ("iface=eth1,queues=", "argument queues=\"\"", QUEUES),
    ("iface=eth1,queues=0", "argument queues=\"0\"", QUEUES),
    ("iface=eth1,queues=17", "argument queues=\"17\"", QUEUES),
    ("iface=eth1,queues=65537", "argument queues=\"65537\"", QUEUES),
    ("iface=eth1,queues=x", "argument queues=\"x\"", QUEUES),
    ("remote=eth1", "unknown argument \"remote\"", KEYS),
    ("iface=eth1,IFACE=eth1", "unknown argument \"IFACE\"", KEYS),
    ("iface", "argument iface needs a value", NAME),
    ("mac", "argument mac needs a value", ADDRESS),
    ("iface=eth1,force", "argument force needs a value", FLAG),
    ("ignore", "argument ignore needs a value", FLAG),
    ("iface=eth1,fallback", "argument fallback needs a value", FALLBACK),
    ("iface=eth1,hotplug_poll", "argument hotplug_poll needs a value", POLL),
];

#[test]
fn what_is_refused_costs_one_line_and_nothing_else() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying("error", &[]);
    let before = app.count();
    for (said, (arguments, what, accepted)) in REFUSED.into_iter().enumerate() {
        assert_eq!(app.fails(&format!("attach net_vdev_netvsc0 {arguments}")), libc::EINVAL, "{arguments}");
        assert_eq!(app.said()[said..], [format!("net_vdev_netvsc0: {what}: {accepted}")], "{arguments}");
        assert_eq!(app.count(), before, "descriptors and ports after {arguments}");
        assert_eq!(app.devargs("net_failsafe_vsc0"), None, "a virtual device after {arguments}");
    }
    // Short, as EAL itself refuses more than 127 bytes at a hot-plug from 24.11.8 on.
    let too_many = ["a"; 33].join(",");
    assert_eq!(app.fails(&format!("attach net_vdev_netvsc0 {too_many}")), libc::EINVAL);
    let line = format!(
        "net_vdev_netvsc0: cannot read the arguments {too_many:?}: expected key=value[,key=value...], at most 32 of them"
    );
    assert_eq!(app.said()[REFUSED.len()..], [line]);

    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
    assert_eq!(app.served(), ["eth1"], "good arguments are taken after all these");
    assert_eq!(app.said().len(), REFUSED.len() + 1);
}

#[test]
fn what_each_argument_does_is_seen_in_what_failsafe_is_given() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("lan.0-a_b~{s}", "00:15:5d:00:00:02");
    stage.netvsc_appears("eth2", OTHER_MAC);
    stage.link_appears("plain", "02:00:00:00:00:03");
    let mut app = App::start(&[]);
    // Arguments, how failsafe polls, the fallbacks in the order of ports.
    let table: [(&str, u32, &[&str]); 20] = [
        (
            "",
            100,
            &[
                "net_af_packet_vsc0,qpairs=16,iface=eth1",
                "net_af_packet_vsc1,qpairs=16,iface=lan.0-a_b~{s}",
                "net_af_packet_vsc2,qpairs=16,iface=eth2",
            ],
        ),
        ("iface=eth1", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=lan.0-a_b~{s}", 100, &["net_af_packet_vsc0,qpairs=16,iface=lan.0-a_b~{s}"]),
        (
            "iface=eth2,iface=eth1",
            100,
            &["net_af_packet_vsc0,qpairs=16,iface=eth2", "net_af_packet_vsc1,qpairs=16,iface=eth1"],
        ),
        ("mac=00:15:5d:00:00:ab", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth2"]),
        ("mac=00:15:5D:00:00:AB", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth2"]),
        ("mac=00:15:5d:00:00:aB", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth2"]),
        ("mac=0015:5d00:00ab", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth2"]),
        ("mac=0015:5D00:00AB", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth2"]),
        (
            "mac=00:15:5d:00:00:01,iface=eth2",
            100,
            &["net_af_packet_vsc0,qpairs=16,iface=eth1", "net_af_packet_vsc1,qpairs=16,iface=eth2"],
        ),
        ("iface=eth1,force=0", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=eth1,force=1", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=plain,force=1", 100, &["net_af_packet_vsc0,qpairs=16,iface=plain"]),
        ("mac=02:00:00:00:00:03,force=1", 100, &["net_af_packet_vsc0,qpairs=16,iface=plain"]),
        ("iface=eth1,ignore=0", 100, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=eth1,hotplug_poll=10", 10, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=eth1,hotplug_poll=60000", 60_000, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
        ("iface=eth1,queues=1", 100, &["net_af_packet_vsc0,qpairs=1,iface=eth1"]),
        ("iface=eth1,queues=07", 100, &["net_af_packet_vsc0,qpairs=7,iface=eth1"]),
        ("fallback=tap,iface=eth1,hotplug_poll=0250", 250, &["net_af_packet_vsc0,qpairs=16,iface=eth1"]),
    ];
    for (arguments, poll, fallbacks) in table {
        let separator = if arguments.is_empty() { "" } else { "," };
        app.ok(&format!("attach net_vdev_netvsc0 {arguments}{separator}fallback=af_packet"));
        for (id, fallback) in fallbacks.iter().enumerate() {
            let devargs = app.devargs(&format!("net_failsafe_vsc{id}"));
            let (given, rest) = split_descriptor(&devargs.expect(arguments));
            assert_eq!(
                (given.as_str(), rest.as_str()),
                (&*format!("hotplug_poll={poll}"), &*format!("dev({fallback})"))
            );
            let mac = app.ok(&format!("mac net_failsafe_vsc{id}"));
            let link = fallback.rsplit_once('=').unwrap().1;
            let want = match link {
                "eth1" => MAC,
                "eth2" => OTHER_MAC,
                "plain" => "02:00:00:00:00:03",
                _ => "00:15:5d:00:00:02",
            };
            assert_eq!(mac.to_lowercase(), want, "{arguments}: the address of the port on {link}");
        }
        // Each with its fallback.
        assert_eq!(app.ports().len(), 2 * fallbacks.len(), "{arguments}: {:?}", app.ports());
        app.ok("detach net_vdev_netvsc0");
        assert!(app.ports().is_empty(), "{arguments}");
    }
}

/// Splits failsafe's arguments around `fd(<N>)`.
fn split_descriptor(devargs: &str) -> (String, String) {
    let (before, rest) = devargs.split_once(",fd(").unwrap_or_else(|| panic!("no descriptor in {devargs}"));
    let (descriptor, after) = rest.split_once("),").unwrap_or_else(|| panic!("no descriptor in {devargs}"));
    assert!(descriptor.parse::<u32>().is_ok(), "{devargs}");
    (before.to_owned(), after.to_owned())
}

#[test]
fn an_instance_to_ignore_does_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying("warning", &["--vdev=net_vdev_netvsc0,ignore=1"]);
    let before = app.count();
    app.ok("attach net_vdev_netvsc1 iface=eth1,ignore=1");
    app.ok("attach net_vdev_netvsc2 iface=nowhere,ignore=1,fallback=af_packet");
    assert_eq!(app.count(), before);
    assert_eq!(before.1, 0, "ports");
    for id in 0..3 {
        app.ok(&format!("detach net_vdev_netvsc{id}"));
    }
    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
    assert_eq!(app.served(), ["eth1"], "it can still be served");
    assert!(app.said().is_empty(), "{:?}", app.said());
}

#[test]
fn the_default_fallback_is_tap_and_what_it_lacks_is_told() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying("error", &["--vdev=net_vdev_netvsc0,iface=eth1"]);
    let (poll, fallback) = split_descriptor(&app.devargs("net_failsafe_vsc0").unwrap());
    assert_eq!((poll.as_str(), fallback.as_str()), ("hotplug_poll=100", "dev(net_tap_vsc0,remote=eth1)"));
    assert!(app.has_port("net_failsafe_vsc0"));
    if app.has_port("net_tap_vsc0") {
        assert!(app.said().is_empty(), "tap works here: {:?}", app.said());
    } else {
        let advice = "net_failsafe_vsc0 (eth1, ifindex 101): net_tap_vsc0 did not come up on eth1: it needs \
                      /dev/net/tun and the kernel modules tun, sch_multiq, sch_ingress, cls_flower, act_mirred, \
                      act_skbedit; load them, or use fallback=af_packet; failsafe tries again every 100 ms";
        assert_eq!(app.said(), [advice]);
    }
    app.ok("detach net_vdev_netvsc0");
    assert!(app.ports().is_empty());
}

#[test]
fn any_suffix_and_the_alias_name_the_driver() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=eth_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
    app.ok("detach eth_vdev_netvsc0");
    for name in ["net_vdev_netvsc", "net_vdev_netvsc0", "net_vdev_netvsc4711", "net_vdev_netvsc_lan", "eth_vdev_netvsc"]
    {
        assert!(app.served().is_empty(), "before {name}");
        app.ok(&format!("attach {name} iface=eth1,fallback=af_packet"));
        assert_eq!(app.served(), ["eth1"], "{name}");
        app.ok(&format!("detach {name}"));
    }
}

#[test]
fn an_instance_that_fails_at_start_does_not_stop_the_application() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start_saying(
        "error",
        &[
            "--vdev=net_vdev_netvsc0,iface=lo",
            "--vdev=net_vdev_netvsc1,force=maybe",
            "--vdev=net_vdev_netvsc2,iface=eth1,fallback=af_packet",
        ],
    );
    assert_eq!(app.served(), ["eth1"]);
    let told = |instance: &str| app.said().iter().any(|line| line.starts_with(&format!("{instance}: ")));
    assert_eq!(["net_vdev_netvsc0", "net_vdev_netvsc1", "net_vdev_netvsc2"].map(told), [true, true, false]);
}

#[test]
fn named_interfaces_that_are_not_taken() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.link_appears("plain", "02:00:00:00:00:02");
    stage.vf_appears("vf0", VF, MAC);
    stage.vf_appears("pci0", "0000:02:00.0", "02:00:00:00:00:03");
    let mut app = App::start_saying("warning", &["-b", VF, "-b", "0000:02:00.0"]);
    let before = app.count();
    let table = [
        ("iface=nowhere", "no such interface in this network namespace"),
        ("mac=02:00:00:00:00:99", "no such interface in this network namespace"),
        ("iface=lo", "lo is not an Ethernet interface"),
        ("iface=plain", "plain is not a NetVSC interface: add force=1 to take it all the same"),
        ("mac=02:00:00:00:00:02", "plain is not a NetVSC interface: add force=1 to take it all the same"),
        ("iface=pci0", "pci0 is not a NetVSC interface: add force=1 to take it all the same"),
        ("iface=vf0", "vf0 is the VF of eth1: use iface=eth1"),
    ];
    let mut seen = 0;
    for (argument, why) in table {
        assert_eq!(app.fails(&format!("attach net_vdev_netvsc0 {argument}")), libc::ENODEV, "{argument}");
        assert_eq!(app.said()[seen..], [format!("net_vdev_netvsc0: {argument}: {why}")]);
        assert_eq!(app.count(), before, "descriptors and ports after {argument}");
        seen += 1;
    }
    for (argument, why) in table {
        app.ok(&format!("attach net_vdev_netvsc0 {argument},iface=eth1,fallback=af_packet"));
        assert_eq!(app.served(), ["eth1"], "{argument} beside a good one");
        let line = format!("net_vdev_netvsc0: {argument}: {why}; going on with the others");
        assert_eq!(app.said()[seen..], [line]);
        app.ok("detach net_vdev_netvsc0");
        seen += 1;
    }
}

#[test]
fn a_named_interface_that_comes_later_is_taken_then() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,iface=eth2,fallback=af_packet"]);
    assert_eq!(app.served(), ["eth1"]);
    stage.netvsc_appears("eth2", OTHER_MAC);
    app.expect_port("net_failsafe_vsc1");
    assert_eq!(app.served(), ["eth1", "eth2"]);
}

#[test]
fn a_pmd_that_is_missing_is_named_and_loaded_as_told() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let base = ["bus_pci", "bus_vdev", "mempool_ring"];
    stage.only_plugins(&base);
    // What is loaded by -d, the argument, and what is missing.
    let table: [(&[&str], &str, Option<&str>); 5] = [
        (&[], "fallback=af_packet", Some("net_failsafe")),
        (&["net_failsafe"], "fallback=tap", Some("net_tap")),
        (&["net_failsafe"], "fallback=af_packet", Some("net_af_packet")),
        (&["net_failsafe", "net_tap"], "fallback=af_packet", Some("net_af_packet")),
        (&["net_failsafe", "net_af_packet"], "fallback=af_packet", None),
    ];
    for (loaded, fallback, missing) in table {
        let files: Vec<String> = loaded.iter().map(|name| format!("{PLUGINS}/librte_{name}.so")).collect();
        let mut options = Vec::new();
        for file in &files {
            options.extend(["-d", file]);
        }
        let mut app = App::start_saying("error", &options);
        let before = app.count();
        let attach = format!("attach net_vdev_netvsc0 iface=eth1,{fallback}");
        match missing {
            Some(name) => {
                assert_eq!(app.fails(&attach), libc::EOPNOTSUPP, "{loaded:?} {fallback}");
                let line = format!(
                    "net_vdev_netvsc0: {name} is not in this build: load it with -d librte_{name}.so, or link it into \
                     the application"
                );
                assert_eq!(app.said(), [line], "{loaded:?} {fallback}");
                assert_eq!(app.count(), before, "{loaded:?} {fallback}");
            }
            None => {
                app.ok(&attach);
                assert_eq!(app.ports(), ["net_af_packet_vsc0", "net_failsafe_vsc0"]);
            }
        }
    }
}

#[test]
fn ours_serves_beside_the_c_driver() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    let maps = fs::read_to_string(format!("/proc/{}/maps", app.pid())).unwrap();
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        files.filter(|file| file.contains("librte_net_vdev_netvsc")).partition(|file| file.starts_with(BUILD));
    assert!(!ours.is_empty() && !theirs.is_empty(), "both are loaded: {ours:?} {theirs:?}");

    // The C driver knows neither argument, and leaves its ports behind.
    assert!(app.devargs("net_failsafe_vsc0").unwrap().starts_with("hotplug_poll=100,"));
    assert_eq!(app.ports(), ["net_af_packet_vsc0", "net_failsafe_vsc0"]);
    app.ok("detach net_vdev_netvsc0");
    assert!(app.ports().is_empty(), "{:?}", app.ports());
}

#[test]
fn pmdinfo_lists_it_as_the_c_driver_and_the_new_arguments() {
    let _stage = Stage::new();
    // By Debian's own interpreter, as that is where the package puts its module.
    let has_module = Command::new("/usr/bin/python3").args(["-c", "import elftools"]).status();
    assert!(has_module.is_ok_and(|status| status.success()), "install python3-pyelftools: dpdk-pmdinfo.py needs it");
    let plugin = format!("{BUILD}/librte_net_vdev_netvsc.so");
    let listed = stage::run("/usr/bin/python3", &["/usr/bin/dpdk-pmdinfo.py", &plugin]);
    let want = r#"[
  {
    "name": "net_vdev_netvsc",
    "params": "iface=<string> mac=<string> force=<int> ignore=<int> fallback=tap|af_packet hotplug_poll=<int> queues=<int>"
  }
]"#;
    assert_eq!(listed.trim_end(), want);
}
