// SPDX-License-Identifier: BSD-3-Clause
//! What a packet costs the core that moves it: by failsafe and without it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::field::FIRST;
use crate::stage::{BUILD, MAC, PCI, Stage};
use crate::stats::{Row, median};
use crate::{Effort, Figure};

/// How long packets are counted in one turn.
const COUNTED: Duration = Duration::from_secs(3);
/// Until testpmd has its ports, and moves packets as fast as it can.
const SETTLE: Duration = Duration::from_secs(2);

/// How many nanoseconds the busiest thread of a process has had a core.
fn busiest(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let had = |task: fs::DirEntry| -> Option<u64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.flatten().filter_map(had).max().unwrap()
}

/// Has testpmd move packets, and returns how many nanoseconds each takes of the core that does nothing else.
fn cost(vdev: &str, options: &[&str]) -> f64 {
    let mut testpmd = Command::new("dpdk-testpmd");
    testpmd.args(["--lcores", "0@0,1@1", "--no-telemetry", "--no-huge", "-m", "256", "--no-shconf"]);
    testpmd.args(["-d", &format!("{BUILD}/librte_net_vdev_netvsc.so"), vdev, "--", "-i", "--total-num-mbufs=4096"]);
    testpmd.args(options).env("SYSFS_PCI_DEVICES", PCI);
    testpmd.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut testpmd = testpmd.spawn().expect("dpdk-testpmd");
    let mut input = testpmd.stdin.take().unwrap();
    let mut tell = |command: &str| writeln!(input, "{command}").expect("testpmd has ended");
    sleep(SETTLE);
    tell("start tx_first 32");
    sleep(SETTLE);
    let begin = busiest(testpmd.id());
    tell("show port stats all");
    sleep(COUNTED);
    let took = busiest(testpmd.id()) - begin;
    tell("show port stats all");
    tell("stop");
    tell("quit");
    let output = testpmd.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (shown, _) = text.split_once("Telling cores to stop").unwrap_or_else(|| panic!("{text}"));
    let sent: Vec<f64> = shown
        .lines()
        .filter_map(|line| line.trim().strip_prefix("TX-packets:")?.split_whitespace().next()?.parse().ok())
        .collect();
    let [before, after] = sent[..] else { panic!("not one port: {text}") };
    assert!(after > before, "no packets: {text}");
    took as f64 / (after - before)
}

/// What a packet costs by each of these ports, which have their turns; the first is what the others are compared with.
fn rows(ports: &[(&str, &str)], effort: Effort, options: &[&str]) -> Vec<Value> {
    let mut costs = vec![Vec::new(); ports.len()];
    for _ in 0..effort.pairs {
        for ((_, vdev), costs) in ports.iter().zip(&mut costs) {
            costs.push(cost(&format!("--vdev={vdev}"), options));
        }
    }
    let row = |(&(what, _), turns): (&(&str, &str), &Vec<f64>)| {
        let row = Row::new(what, "ns").base("a packet", turns);
        if turns == &costs[0] {
            return row.done();
        }
        row.note(format!("{:.2} ns more, the median of all turns", median(&added(turns, &costs[0])))).done()
    };
    ports.iter().zip(&costs).map(row).collect()
}

fn added(with: &[f64], without: &[f64]) -> Vec<f64> {
    with.iter().zip(without).map(|(with, without)| with - without).collect()
}

pub fn packets(effort: Effort) -> Figure {
    let mut stage = Stage::new();
    stage.netvsc_appears(FIRST, MAC);
    let rings = [
        ("net_ring", "net_ring0"),
        ("failsafe over net_ring", "net_failsafe0,dev(net_ring0)"),
        ("the same, the VF's place empty", "net_failsafe0,dev(0000:0f:00.0),dev(net_ring0)"),
    ];
    let mut all = rows(&rings, effort, &["--forward-mode=io"]);
    let alone = format!("net_af_packet0,iface={FIRST}");
    let ours = format!("net_vdev_netvsc0,iface={FIRST},fallback=af_packet,queues=1");
    for bytes in ["64", "1500"] {
        let what = ["net_af_packet", "failsafe over net_af_packet"].map(|what| format!("{what}, {bytes} bytes"));
        let options = ["--forward-mode=txonly", &format!("--txpkts={bytes}")];
        all.extend(rows(&[(&what[0], &alone), (&what[1], &ours)], effort, &options));
    }
    let text = format!(
        "Time of the thread of dpdk-testpmd that moves packets and does nothing else, by schedstat, for {} s a turn: in bursts of 32 \
         through a ring and back, or sent into a veth by net_af_packet. With the VF's place empty failsafe looks at each burst whether its sub-devices are \
         there, as it does for an application whose VF went, until that starts the port anew.",
        COUNTED.as_secs()
    );
    Figure { text, rows: all, series: Vec::new() }
}
