// SPDX-License-Identifier: BSD-3-Clause
//! `tests/azure.sh` in a guest whose interfaces are as on Hyper-V: what it refuses to touch, what it finds, and that it
//! undoes what it did. `make guest` plays it.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use std::time::{Duration, Instant};

use stage::{BUILD, Driver, Hyperv, MAC, Place, neighbour_answers, wait_for};

const VF: &str = "0000:01:00.0";
const NEIGHBOUR: [u8; 4] = [10, 1, 0, 1];

/// How long the script may take for all of its stories.
const PATIENCE: Duration = Duration::from_secs(300);

/// A VM with eth1, its VF, and a neighbour on their network.
struct Vm {
    hyperv: Hyperv,
}

impl Vm {
    fn boot() -> Self {
        let mut hyperv = Hyperv::boot(Driver::Ours);
        hyperv.netvsc_appears("eth1", MAC);
        hyperv.vf_appears("vf0", VF, MAC);
        hyperv.expect_enslaved(VF, "eth1");
        for wire in ["eth1p", "vf0p"] {
            neighbour_answers(wire, NEIGHBOUR);
        }
        hyperv.0.shell("mkdir /run/bin && busybox --install -s /run/bin");
        for configured in [
            "address add 10.1.0.4/24 dev eth1",
            "address add 10.1.0.5/24 dev eth1",
            "route add 10.2.0.0/16 via 10.1.0.1",
            "route add 10.3.0.0/16 via 10.1.0.1 table 7",
        ] {
            hyperv.0.shell(&format!("ip {configured}"));
        }
        Self { hyperv }
    }

    /// Has sysfs show the VF's function as one of another kernel driver, with the interface `other` beside the VF if
    /// there is one.
    fn function_becomes(&self, driver: &str, other: Option<&str>) {
        let shell = |command: &str| self.hyperv.0.shell(command);
        shell(&format!("ln -s $(readlink -f /sys/bus/pci/devices/{VF}) /run/real"));
        shell("mkdir -p /run/net /run/function/net && mount -o bind /run/real/net /run/net");
        // What EAL's scan reads.
        shell(
            "for file in vendor device subsystem_vendor subsystem_device class numa_node resource; do \
             cat /run/real/$file >/run/function/$file; done",
        );
        shell(&format!("ln -s ../bus/pci /run/function/subsystem && ln -s ../drivers/{driver} /run/function/driver"));
        let nets = shell("ls /run/net");
        for net in nets.split_whitespace().chain(other) {
            shell(&format!("mkdir /run/function/net/{net}"));
        }
        shell("mount -o bind /run/function $(readlink /run/real)");
        for net in nets.split_whitespace() {
            shell(&format!("mount -o bind /run/net/{net} /run/real/net/{net}"));
        }
    }

    /// What is configured on eth1.
    fn configured(&self) -> String {
        self.hyperv.0.shell("ip address show dev eth1; ip route show table all dev eth1; tc qdisc show dev eth1")
    }

    /// The script as a command, with arguments.
    fn script(arguments: &str) -> String {
        format!(
            "PATH=/usr/bin:/usr/sbin:/run/bin dash {BUILD}/tests/azure.sh -d {BUILD}/librte_net_vdev_netvsc.so {arguments} \
             -- --lcores 0@0,1@0 --no-huge -m 128 -d {BUILD}/tests/librte_net_test_vf.so"
        )
    }

    /// Begins to run it.
    fn begin(&self, arguments: &str) {
        let script = Self::script(arguments);
        self.hyperv.0.shell(&format!(
            "( {script} >/tmp/said 2>&1 & echo $! >/tmp/script; wait $!; echo $? >/tmp/status ) </dev/null >/dev/null 2>&1 & true"
        ));
    }

    /// Waits until it has ended, and returns what it said and its exit status.
    fn end(&self) -> (String, String) {
        let deadline = Instant::now() + PATIENCE;
        while self.hyperv.0.shell("cat /tmp/status 2>/dev/null || true").is_empty() {
            assert!(Instant::now() < deadline, "{}", self.hyperv.0.shell("cat /tmp/said"));
            std::thread::sleep(Duration::from_millis(200));
        }
        let status = self.hyperv.0.shell("cat /tmp/status; rm /tmp/status");
        (self.hyperv.0.shell("cat /tmp/said"), status.trim_end().to_owned())
    }

    /// All is as it was before.
    fn expect_undone(&self, configured: &str) {
        assert_eq!(self.configured(), configured);
        self.hyperv.expect_enslaved(VF, "eth1");
        let left = self
            .hyperv
            .0
            .shell("pidof dpdk-testpmd ping arping; ls -d /sys/class/net/*tap* /tmp/tmp.* 2>/dev/null; true");
        assert_eq!(left, "");
    }
}

#[test]
#[ignore = "make guest plays it"]
fn its_stories_are_told_and_undone() {
    let vm = Vm::boot();
    let configured = vm.configured();
    vm.begin("-p 10.1.0.1");
    let (said, status) = vm.end();
    println!("{said}");
    assert_eq!(status, "0", "{said}");
    for story in ["port up on the fallback", "VF plugged ", "VF unplugged", "VF plugged again", "testpmd killed"] {
        assert!(said.lines().any(|line| line.starts_with(story)), "{story}: {said}");
    }
    vm.expect_undone(&configured);
}

/// The rows of the table that the script prints: story, sent, by fallback, by VF, lost.
fn rows(said: &str) -> Vec<(&str, [u32; 4])> {
    let row = |line| {
        let (story, numbers) = str::split_at_checked(line, 48)?;
        let numbers: Vec<u32> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        Some((story.trim_end(), numbers.try_into().ok()?))
    };
    said.lines().filter_map(row).collect()
}

#[test]
#[ignore = "make guest plays it"]
fn on_a_host_with_mana_the_port_goes_by_the_kernel_and_the_vf_stays_plugged_in() {
    let vm = Vm::boot();
    vm.function_becomes("mana", None);
    let (configured, vf) = (vm.configured(), vm.hyperv.0.shell("cat /run/net/*/ifindex"));
    vm.begin("-p 10.1.0.1");
    let (said, status) = vm.end();
    println!("{said}");
    assert_eq!(status, "0", "{said}");
    let mana =
        format!("the VF at {VF} is MANA's: the port goes by the kernel (docs/mana.md), and the VF stays plugged in");
    assert!(said.starts_with(&mana), "{said}");
    let want = [("port up on the fallback", [100, 100, 0, 0]), ("testpmd killed and started anew", [100, 100, 0, 0])];
    assert_eq!(rows(&said), want);
    assert_eq!(vm.hyperv.0.shell("cat /run/net/*/ifindex"), vf);
    vm.expect_undone(&configured);
}

#[test]
#[ignore = "make guest plays it"]
fn a_vf_whose_function_has_other_interfaces_stays_plugged_in() {
    let vm = Vm::boot();
    vm.function_becomes("vmxnet3", Some("other"));
    let (configured, vf) = (vm.configured(), vm.hyperv.0.shell("cat /run/net/*/ifindex"));
    vm.begin("-p 10.1.0.1");
    let (said, status) = vm.end();
    println!("{said}");
    assert_eq!(status, "0", "{said}");
    assert!(
        said.starts_with(&format!("the VF at {VF} has other interfaces as well, so it stays plugged in")),
        "{said}"
    );
    let stories: Vec<&str> = rows(&said).into_iter().map(|(story, _)| story).collect();
    assert_eq!(stories, ["port up on the fallback", "testpmd killed and started anew"]);
    assert_eq!(vm.hyperv.0.shell("cat /run/net/*/ifindex"), vf);
    assert_eq!(vm.configured(), configured);
}

#[test]
#[ignore = "make guest plays it"]
fn an_interruption_is_undone_also_while_the_vf_is_away() {
    let vm = Vm::boot();
    let configured = vm.configured();
    // Without -p the subnet's first address is asked by ARP.
    vm.begin("eth1");
    let shell = |command: &str| vm.hyperv.0.shell(command);
    wait_for("the script asks by ARP", || {
        assert!(!shell("pidof dash || true").is_empty(), "{}", shell("cat /tmp/said"));
        (!shell("pidof arping || true").is_empty()).then_some(())
    });
    assert_eq!(shell(&format!("ls -d /sys/bus/pci/devices/{VF} 2>/dev/null || true")), "", "the VF is away");
    assert_ne!(vm.configured(), configured);
    shell("kill $(cat /tmp/script)");
    let (said, status) = vm.end();
    assert_eq!(status, "1", "{said}");
    vm.expect_undone(&configured);
}

#[test]
#[ignore = "make guest plays it"]
fn it_refuses_what_it_must_not_touch_and_says_why() {
    let vm = Vm::boot();
    let shell = |command: &str| vm.hyperv.0.shell(command);
    let refused = |interface: &str, why: &str| {
        let configured = vm.configured();
        let said = shell(&format!("{} 2>&1 && false || true", Vm::script(interface)));
        assert!(said.starts_with(&format!("azure.sh: {why}")) && said.lines().count() == 1, "{interface}: {said}");
        assert_eq!(vm.configured(), configured);
    };
    refused("eth7", "there is no interface eth7");
    refused("eth0", "eth0 is left alone");
    let vf = shell(&format!("ls /sys/bus/pci/devices/{VF}/net"));
    let vf = vf.trim_end();
    refused(vf, &format!("{vf} is not a NetVSC interface"));
    refused("host4", "host4 is not a NetVSC interface");

    for table in ["main", "9"] {
        shell(&format!("ip route add default via 10.1.0.1 table {table}"));
        refused("eth1", "eth1 carries a default route");
        shell(&format!("ip route del default table {table}"));
    }

    shell("( nc -l -p 22 </dev/zero >/dev/null & ) 2>/dev/null");
    shell("( sleep 100 | nc 10.1.0.5 22 >/dev/null & ) 2>/dev/null");
    wait_for("a session", || shell("ss -Htn state established").contains("10.1.0.5:22").then_some(()));
    refused("eth1", "eth1 carries TCP connections to its address 10.1.0.");
    shell("killall nc; true");
    wait_for("no session", || shell("ss -Htn state established").is_empty().then_some(()));

    shell("tc qdisc add dev eth1 ingress");
    refused("eth1", "eth1 has queueing disciplines");
    shell("tc qdisc del dev eth1 ingress");

    shell("ip address flush dev eth1");
    refused("eth1", "eth1 has no IPv4 address");
    refused("-a 10.1.0.4 eth1", "10.1.0.4 is not an IPv4 address with its prefix's length");
}
