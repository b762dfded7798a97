// SPDX-License-Identifier: BSD-3-Clause
//! Examples of DPDK's own source (`tests/dpdk-example.sh`) with the driver, by the fallback and by VFs that come and go.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use stage::recipe::{begin, blocks, namespaces};
use stage::{App, BUILD, HugePages, PCI, Stage, ip, run, wait_for};

/// How many addresses each neighbour has: flows between two of them come by several queues.
const ADDRESSES: usize = 16;

/// Compiles an example, and returns where it is on the stage.
fn example(name: &str) -> String {
    let program = run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dpdk-example.sh"), &[name]);
    program.trim_end().replace(&stage::build(), BUILD)
}

fn mac(number: usize) -> String {
    format!("00:15:5d:00:00:{number:02x}")
}

/// Address of the neighbour of the port with this id, who is called after it.
fn neighbour_mac(id: usize) -> String {
    format!("02:00:00:00:01:{id:02x}")
}

/// Two NetVSC NICs, which become the ports 0 and 2. At the far ends of their wires, and of those of their VFs, sits a
/// switch as the host has it, each in a network namespace `far<port>`, which has the addresses 198.18.<port>.1 and so on.
struct Pair {
    stage: Stage,
}

impl Pair {
    const IDS: [usize; 2] = [0, 2];

    /// Frames from the one to the other are sent to what `to` says of the port that they are to come out of.
    fn new(to: fn(usize) -> String) -> Self {
        let mut stage = Stage::new();
        for id in Self::IDS {
            stage.netvsc_appears(&format!("eth{id}"), &mac(id));
            let (far, other) = (format!("far{id}"), 2 - id);
            let mut lines = format!("link add lan address {} type bridge\nlink set lan up\n", neighbour_mac(id));
            for number in 1..=ADDRESSES {
                lines.push_str(&format!("addr add 198.18.{id}.{number}/24 dev lan\n"));
            }
            lines.push_str(&format!("route add 198.18.{other}.0/24 dev lan\n"));
            for number in 1..=ADDRESSES {
                lines.push_str(&format!("neigh add 198.18.{other}.{number} lladdr {} dev lan\n", to(other)));
            }
            let path = format!("/run/{far}");
            std::fs::write(&path, lines).unwrap();
            ip(&format!("netns add {far}"));
            ip(&format!("-n {far} -batch {path}"));
            Self::plug(&format!("eth{id}p"), id);
        }
        Self { stage }
    }

    /// Puts a netdevice into the host's switch.
    fn plug(name: &str, id: usize) {
        ip(&format!("link set {name} netns far{id}"));
        ip(&format!("-n far{id} link set {name} master lan up"));
    }

    /// Both NICs get a VF, the one at bus number `bus`, the other at the next.
    fn vfs_appear(&mut self, bus: usize) {
        for (number, id) in Self::IDS.into_iter().enumerate() {
            let name = format!("vf{id}");
            self.stage.vf_appears(&name, &address(bus + number), &mac(id));
            Self::plug(&format!("{name}p"), id);
        }
    }

    fn vfs_go(&mut self, bus: usize) {
        for (number, id) in Self::IDS.into_iter().enumerate() {
            self.stage.vf_goes(&format!("vf{id}"), &address(bus + number));
        }
    }
}

/// How many frames the host's switch has received from a netdevice.
fn received_from(name: &str, id: usize) -> u64 {
    let text = ip(&format!("-n far{id} -s -s link show dev {name}p"));
    let line = text.lines().skip_while(|line| !line.trim_start().starts_with("RX:")).nth(1).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Pings from each address of the one neighbour to another of the other, and returns how many were answered.
fn pings() -> usize {
    let pings: Vec<_> = (1..=ADDRESSES)
        .map(|number| {
            let mut ping = Command::new("ip");
            ping.args(["netns", "exec", "far0", "ping", "-q", "-c", "1", "-W", "2", "-I"]);
            ping.args([&format!("198.18.0.{number}"), &format!("198.18.2.{number}")]);
            ping.stdout(Stdio::null()).spawn().expect("ping")
        })
        .collect();
    pings.into_iter().map(|mut ping| ping.wait().unwrap()).filter(|status| status.success()).count()
}

/// All pings are answered, soon.
fn expect_pings() {
    wait_for("all pings are answered", || (pings() == ADDRESSES).then_some(()));
}

/// All pings are answered, and by the VFs.
fn expect_pings_by_vfs() {
    wait_for("all pings are answered by the VFs", || {
        let before = Pair::IDS.map(|id| received_from(&format!("vf{id}"), id));
        let all = pings() == ADDRESSES;
        let after = Pair::IDS.map(|id| received_from(&format!("vf{id}"), id));
        let by_vfs = before.iter().zip(after).all(|(before, after)| after >= before + ADDRESSES as u64);
        (all && by_vfs).then_some(())
    });
}

fn address(bus: usize) -> String {
    format!("0000:{bus:02x}:00.0")
}

/// The options for EAL that all examples get.
fn command(program: &str, options: &[&str]) -> Command {
    let mut command = Command::new("stdbuf");
    // What an example says is read from a pipe.
    command.args(["-oL", program, "--no-telemetry", "-d", &format!("{BUILD}/tests/librte_net_test_vf.so")]);
    command.args(["-d", &format!("{BUILD}/librte_net_vdev_netvsc.so")]);
    command.args(options).env("SYSFS_PCI_DEVICES", PCI);
    command
}

const VDEV: &str = "--vdev=net_vdev_netvsc0,iface=eth0,iface=eth2,fallback=af_packet";

#[test]
fn l3fwd_is_typed_from_the_page() {
    example("l3fwd");
    namespaces();
    let [pairs, l3fwd, ping] = blocks("l3fwd").try_into().unwrap();
    run("sh", &["-euc", &pairs]);
    let mut l3fwd = begin(&l3fwd);
    wait_for("pings are answered", || {
        Command::new("sh").args(["-c", &ping]).output().unwrap().status.success().then_some(())
    });
    assert!(l3fwd.has_ended().is_none());
    l3fwd.signal(Signal::SIGINT);
    assert!(l3fwd.ended().success());
}

#[test]
fn l3fwd_forwards_by_several_queues() {
    let program = example("l3fwd");
    for queues in [2, 4] {
        // It is a router, to which frames are sent.
        let mut pair = Pair::new(|port| mac(2 - port));
        let cores: Vec<String> = (0..queues).map(|core| format!("{core}@0")).collect();
        let of_port = |port| (0..queues).map(move |queue| format!("({port},{queue},{queue})"));
        let config: Vec<String> = Pair::IDS.into_iter().flat_map(of_port).collect();
        let mut command = command(&program, &["--lcores", &cores.join(","), "--no-huge", "-m", "512", VDEV]);
        command.args(["--", "-p", "5", "--parse-ptype", "--config", &config.join(",")]);
        for id in Pair::IDS {
            command.arg(format!("--eth-dest={id},{}", neighbour_mac(id)));
        }
        let mut l3fwd = App::spawn(command);
        expect_pings();
        for bus in [1, 3] {
            pair.vfs_appear(bus);
            expect_pings_by_vfs();
            pair.vfs_go(bus);
            expect_pings();
        }
        pair.vfs_appear(1);
        expect_pings_by_vfs();
        assert!(l3fwd.has_ended().is_none());
        l3fwd.signal(Signal::SIGINT);
        assert!(l3fwd.ended().success(), "{queues} queues");
    }
}

#[test]
fn symmetric_mp_runs_in_two_processes_and_the_primary_forwards_its_share() {
    let program = example("multi_process/symmetric_mp");
    let mut pair = Pair::new(neighbour_mac);
    let pages = HugePages::mount();
    let process = |number: &str, kind: &str| {
        let kind = format!("--proc-type={kind}");
        let options = ["--lcores=0@0", &kind, "--file-prefix=smp", "--huge-dir", pages.folder(), "-m", "160", VDEV];
        let mut command = command(&program, &options);
        command.args(["--", "-p", "5", "--num-procs=2", &format!("--proc-id={number}")]);
        let app = App::spawn(command);
        app.expect_said(&format!("using queue {number}"));
        app
    };
    // What comes by the queue of the secondary is nobody's: net_af_packet moves nothing there, nor does the stand-in VF.
    let expect_some_pings = || wait_for("pings are answered", || (pings() > 0).then_some(()));
    // A VF that is there at the start has a number before its port.
    let mut primary = process("0", "primary");
    expect_some_pings();
    for bus in [1, 3] {
        let mut secondary = process("1", "secondary");
        expect_some_pings();
        pair.vfs_appear(bus);
        expect_some_pings();
        pair.vfs_go(bus);
        expect_some_pings();
        assert!(secondary.has_ended().is_none() && primary.has_ended().is_none());
        secondary.signal(Signal::SIGTERM);
        assert!(secondary.ended().success());
        expect_some_pings();
    }
    primary.signal(Signal::SIGTERM);
    assert!(primary.ended().success());
}

/// It wants ports with the numbers 0 and 1: the second of ours has 2, as what is below the first has 1.
#[test]
fn link_status_interrupt_hears_of_the_link() {
    let program = example("link_status_interrupt");
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", &mac(1));
    ip("netns add far1");
    // It writes these addresses into what it forwards to the ports 0 and 1.
    ip("-n far1 link add lan address 02:00:00:00:00:01 type bridge");
    ip("-n far1 addr add 198.18.1.2/24 dev lan");
    ip("-n far1 link set lan up");
    Pair::plug("eth1p", 1);
    let options =
        ["--lcores=0@0", "--no-huge", "-m", "256", &address(1), "--vdev=net_tap0,iface=lsi0,mac=02:00:00:00:00:00"];
    let mut command = command(&program, &options);
    command.args(["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet", "--", "-p", "3", "-q", "2", "-T", "0"]);
    let mut app = App::spawn(command);
    app.expect_said("Checking link status");
    ip("addr add 198.18.1.1/24 dev lsi0");
    ip("link set lsi0 up");
    let ping = || run("sh", &["-c", "ping -q -c 1 -W 1 198.18.1.2 >/dev/null && echo answered || true"]);
    wait_for("a ping is answered", || ping().contains("answered").then_some(()));
    stage.vf_appears("vf0", &address(1), &mac(1));
    Pair::plug("vf0p", 1);
    wait_for("the VF sends", || (ping().contains("answered") && received_from("vf0", 1) > 0).then_some(()));
    for status in ["down", "up"] {
        ip(&format!("-n far1 link set vf0p {status}"));
        app.expect_said("LSC interrupt");
        app.expect_said(&format!("Port 1 Link {status}"));
    }
    wait_for("a ping is answered", || ping().contains("answered").then_some(()));
    stage.vf_goes("vf0", &address(1));
    wait_for("a ping is answered", || ping().contains("answered").then_some(()));
    assert!(app.has_ended().is_none());
    app.kill();
}
