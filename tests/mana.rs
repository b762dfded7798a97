// SPDX-License-Identifier: BSD-3-Clause
//! Stories of PCI functions with several netdevices: those of MANA, which are left to the kernel, and those of which
//! failsafe could take another NIC's port.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::time::Duration;

use stage::{App, MAC, Mailbox, Stage, Traffic, exchange, expect_answer, ip, wait_for};

const FAILSAFE: &str = "net_failsafe_vsc0";
const INSTANCE: &str = "net_vdev_netvsc0";
const ONE: &str = "0000:01:00.0";
/// The ports that a PMD makes on that function.
const FIRST: &str = "0000:01:00.0_port1";
const SECOND: &str = "0000:01:00.0_port2";
const OTHER_MAC: &str = "00:15:5d:00:00:99";

/// A poll of failsafe's so rare that none happens in a story: what was posted stays in the mailbox.
const NO_POLL: &str = ",hotplug_poll=60000";

/// More than the driver waits before it tells what hinders a VF (`STUCK_AFTER`).
const HINDERED: Duration = Duration::from_secs(12);

/// What the one line on a VF of MANA's says.
const LEFT: &str = "is left to the kernel";

/// A stage with eth1.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage
}

/// Starts an application with an instance that names eth1, and starts its port.
fn start_eth1(eal: &[&str], more: &str) -> App {
    let eth1 = format!("--vdev={INSTANCE},iface=eth1,fallback=af_packet{more}");
    let arguments: Vec<&str> = eal.iter().copied().chain([eth1.as_str()]).collect();
    let mut app = App::start_saying("info", &arguments);
    app.ok(&format!("start {FAILSAFE}"));
    app
}

/// A function of this kernel driver comes with two netdevices, of which the older is that with `first`.
fn function_appears(stage: &mut Stage, driver: &str, first: &str, second: &str) {
    stage.function_appears(ONE, driver);
    for mac in [first, second] {
        stage.vf_appears(if mac == MAC { "vf0" } else { "other" }, ONE, mac);
    }
    // Both are there before a PMD is asked for ports.
    stage.verbs_appear(ONE);
}

/// The function goes with its two netdevices.
fn function_goes(stage: &Stage) {
    stage.link_goes("other");
    stage.vf_goes("vf0", ONE);
}

/// Frames go both ways by a wire.
fn expect_served(wire: &str, mac: &str) {
    expect_answer(wire, mac);
    assert_eq!(exchange(wire, mac, 20, &[wire]), [20], "frames by {wire}");
}

/// Ports on the function, each with whether somebody owns it, in the order of their numbers.
fn ports_on_function(app: &mut App) -> Vec<String> {
    let ports = app.ok("ports");
    let names = ports.split(' ').map(|port| port.split_once(':').unwrap().1);
    names.filter(|name| name.starts_with(ONE)).map(str::to_owned).collect()
}

/// The interrupt thread has nothing to do but its tick.
fn expect_rest(app: &App) {
    wait_for("six seconds with two ticks at most, and a few to spare", || {
        let before = app.wakeups();
        std::thread::sleep(Duration::from_secs(6));
        (app.wakeups() - before <= 5).then_some(())
    });
}

/// The stand-in for net_mana: what makes MANA what it is.
#[test]
fn the_port_of_a_vport_that_the_kernel_has_cannot_be_started() {
    let mut stage = stage();
    function_appears(&mut stage, "mana", OTHER_MAC, MAC);
    let mut app = App::start(&[]);
    assert_eq!(app.ports(), [FIRST, SECOND]);
    assert_eq!(app.fails(&format!("start {SECOND}")), libc::ENODEV);
    ip("link set vf0 down");
    app.ok(&format!("start {SECOND}"));
    app.quit();
    let mut app = App::start(&["-a", &format!("{ONE},mac={MAC}")]);
    assert_eq!(app.ports(), [SECOND], "that which mac= names");
}

#[test]
fn a_vf_of_mana_is_left_to_the_kernel_and_its_port_serves_on_the_fallback() {
    let mut stage = stage();
    let mut app = start_eth1(&[], "");
    let traffic = Traffic::each(Duration::from_millis(5), "eth1p", MAC);
    for coming in 1..=3 {
        function_appears(&mut stage, "mana", OTHER_MAC, MAC);
        wait_for("a line", || (app.logged(LEFT).len() == coming).then_some(()));
        // As udev and the kernel's netvsc do.
        stage.rename_vf("vf0", "enP1s0", ONE);
        ip("link set enP1s0 down");
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(app.ports(), ["net_af_packet_vsc0", FAILSAFE]);
        ip("link set enP1s0 up");
        stage.rename_vf("enP1s0", "vf0", ONE);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(app.logged(LEFT).len(), coming, "one each time that it comes");
        function_goes(&stage);
        wait_for("it is heard of", || (app.logged("went").len() == coming).then_some(()));
    }
    let line = app.logged(LEFT).remove(0);
    assert!(line.contains(&format!("VF vf0 at {ONE}")) && line.contains("docs/mana.md"), "{line}");
    assert_eq!(traffic.lost_since(0).len(), 0, "on the fallback");
    assert_eq!(app.logged("net_failsafe: ").len(), 0, "{}", app.log());
    expect_served("eth1p", MAC);
}

#[test]
fn a_vf_of_mana_that_is_there_first_is_left_to_the_kernel() {
    let mut stage = stage();
    function_appears(&mut stage, "mana", MAC, OTHER_MAC);
    let mut app = start_eth1(&["-b", ONE], NO_POLL);
    app.expect_log(LEFT);
    expect_rest(&app);
    assert_eq!(app.logged(LEFT).len(), 1);
    assert_eq!(app.ports(), ["net_af_packet_vsc0", FAILSAFE]);
    expect_served("eth1p", MAC);
}

#[test]
fn the_ports_that_eal_made_of_mana_are_not_taken() {
    for arguments in [ONE, &format!("{ONE},mac={MAC}")] {
        let mut stage = stage();
        function_appears(&mut stage, "mana", MAC, OTHER_MAC);
        let mut app = start_eth1(&["-a", arguments], NO_POLL);
        let mailbox = Mailbox::of(&mut app, FAILSAFE);
        app.expect_log(LEFT);
        expect_rest(&app);
        assert_eq!(mailbox.peek(), "");
        assert_eq!(app.logged(LEFT).len(), 1);
        let ports = ports_on_function(&mut app);
        assert!(!ports.is_empty() && ports.iter().all(|port| port.ends_with(":0")), "nobody's: {ports:?}");
        expect_served("eth1p", MAC);
    }
}

#[test]
fn of_two_netdevices_of_a_function_the_first_is_attached_and_the_other_looks_free_to_nobody() {
    let mut stage = stage();
    let mut app = start_eth1(&[], "");
    for _ in 0..3 {
        function_appears(&mut stage, "mlx4_core", MAC, OTHER_MAC);
        expect_served("vf0p", MAC);
        assert_eq!(ports_on_function(&mut app), [format!("{FIRST}:1"), format!("{SECOND}:1")]);
        function_goes(&stage);
        app.expect_no_port(FIRST);
        app.expect_no_port(SECOND);
        expect_served("eth1p", MAC);
    }
    assert!(app.cleanup().success());
}

#[test]
fn what_is_handed_over_is_the_port_that_failsafe_takes_and_no_other() {
    let mut stage = stage();
    let mut app = start_eth1(&[], NO_POLL);
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    function_appears(&mut stage, "mlx4_core", MAC, OTHER_MAC);
    mailbox.expect(&format!("{ONE}\n"));
    assert_eq!(ports_on_function(&mut app), [format!("{FIRST}:0"), format!("{SECOND}:1")]);
}

#[test]
fn a_function_whose_first_port_is_another_nics_is_not_attached() {
    let mut stage = stage();
    let app = start_eth1(&[], "");
    let traffic = Traffic::each(Duration::from_millis(5), "eth1p", MAC);
    function_appears(&mut stage, "mlx4_core", OTHER_MAC, MAC);
    app.expect_log(OTHER_MAC);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(app.logged(&format!("has the address {OTHER_MAC}")).len(), 1);
    assert_eq!(traffic.lost_since(0).len(), 0, "on the fallback");
    // The first is gone, and its own is the first that there is.
    stage.netdevice_goes("other", ONE);
    expect_served("vf0p", MAC);
}

#[test]
fn the_port_of_another_netdevice_of_the_function_is_not_taken() {
    let mut stage = stage();
    function_appears(&mut stage, "mlx4_core", OTHER_MAC, MAC);
    // EAL makes both.
    let mut app = start_eth1(&["-a", ONE], NO_POLL);
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    let why = format!("has the address {OTHER_MAC}");
    app.expect_log(&why);
    expect_rest(&app);
    assert_eq!(app.logged(&why).len(), 1);
    assert_eq!(mailbox.peek(), "");
    expect_served("eth1p", MAC);
    assert_eq!(ports_on_function(&mut app), [format!("{FIRST}:0"), format!("{SECOND}:0")], "nobody's");
    // Once it is gone, failsafe finds the port's own.
    app.ok(&format!("close {FIRST}"));
    mailbox.expect(&format!("{ONE}\n"));
}

#[test]
fn the_port_of_another_netdevice_of_the_function_is_not_taken_by_a_failsafe_that_polls() {
    let mut stage = stage();
    function_appears(&mut stage, "mlx4_core", OTHER_MAC, MAC);
    let mut app = start_eth1(&["-a", ONE], "");
    let traffic = Traffic::each(Duration::from_millis(5), "eth1p", MAC);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(traffic.lost_since(0).len(), 0, "on the fallback");
    assert_eq!(app.logged(&format!("has the address {OTHER_MAC}")).len(), 1);
    assert_eq!(app.logged("net_failsafe: ").len(), 0, "{}", app.log());
    assert!(ports_on_function(&mut app).contains(&format!("{FIRST}:0")), "nobody's");
}

#[test]
fn a_port_that_eal_made_first_is_taken_and_the_other_netdevices_is_left_alone() {
    let mut stage = stage();
    function_appears(&mut stage, "mlx4_core", MAC, OTHER_MAC);
    let mut app = start_eth1(&["-a", ONE], "");
    expect_served("vf0p", MAC);
    assert_eq!(ports_on_function(&mut app), [format!("{FIRST}:1"), format!("{SECOND}:0")]);
}

#[test]
fn what_was_posted_is_taken_back_when_failsafe_would_find_another_nics_port_there() {
    let mut stage = stage();
    function_appears(&mut stage, "mlx4_core", MAC, OTHER_MAC);
    let mut app = App::start(&["-a", ONE]);
    app.ok(&format!("own {FIRST}"));
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet{NO_POLL}"));
    app.ok(&format!("start {FAILSAFE}"));
    app.ok(&format!("disown {FIRST}"));
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    mailbox.expect(&format!("{ONE}\n"));
    // An application closes what it does not know to be wanted.
    app.ok(&format!("close {FIRST}"));
    assert_eq!(mailbox.peek(), "", "before failsafe can poll");
    app.expect_log(&format!("has the address {OTHER_MAC}"));
    expect_rest(&app);
    assert_eq!(mailbox.peek(), "");
    expect_served("eth1p", MAC);
}

#[test]
fn of_two_ports_whose_vfs_share_a_function_one_gets_its_own_and_the_other_says_who_has_it_and_rests() {
    let mut stage = stage();
    stage.netvsc_appears("eth2", OTHER_MAC);
    function_appears(&mut stage, "mlx4_core", MAC, OTHER_MAC);
    let mut app = start_eth1(&["-a", ONE], ",iface=eth2");
    app.ok("start net_failsafe_vsc1");
    expect_served("vf0p", MAC);
    expect_served("eth2p", OTHER_MAC);
    std::thread::sleep(HINDERED);
    let told = app.logged("net_vdev_netvsc: net_failsafe_vsc1");
    let told: Vec<&String> = told.iter().filter(|line| line.contains(&format!("VF other at {ONE} "))).collect();
    assert!(matches!(told[..], [line] if line.contains("net_failsafe_vsc0 (eth1")), "{told:?}");
    assert!(ports_on_function(&mut app).contains(&format!("{SECOND}:0")), "nobody's");
    expect_served("vf0p", MAC);
    expect_served("eth2p", OTHER_MAC);
}

#[test]
fn a_vf_whose_function_is_leaving_its_kernel_driver_is_not_taken() {
    let mut stage = stage();
    function_appears(&mut stage, "mana", MAC, OTHER_MAC);
    let mut app = App::start(&["-a", ONE]);
    // The kernel takes that away before the netdevices (`__device_release_driver`).
    stage.mend(ONE, "driver");
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet{NO_POLL}"));
    app.ok(&format!("start {FAILSAFE}"));
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    app.expect_log("sysfs does not tell its kernel driver");
    assert_eq!(mailbox.peek(), "");
    expect_rest(&app);
    assert_eq!(app.logged("is not attached").len(), 1);
    assert_eq!(ports_on_function(&mut app), [format!("{FIRST}:0"), format!("{SECOND}:0")], "nobody's");
}
