// SPDX-License-Identifier: BSD-3-Clause
//! The recipes of `docs/applications.md`, typed from there.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use stage::{App, HugePages};

const PAGE: &str = include_str!("../docs/applications.md");

/// The commands below a heading: block by block, as a shell reads them.
fn blocks(heading: &str) -> Vec<String> {
    let section = PAGE.split("\n## ").find_map(|section| section.strip_prefix(heading)).expect(heading);
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match (line.strip_prefix("    "), blocks.last_mut().unwrap()) {
            (Some(command), block) => block.push_str(&format!("{}\n", command.replace("build/", "/mnt/"))),
            (None, block) if !block.is_empty() => blocks.push(String::new()),
            (None, _) => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A network and mount namespace of its own, with sysfs as it is there.
fn namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare needs root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some(stage::build().as_str()), stage::BUILD, none, MsFlags::MS_BIND, none).expect("the build folder");
    mount(Some("stage"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("/sys");
    mount(Some("stage"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("/run");
    stage::ip("link set lo up");
}

/// Types a block whose last command goes on until it is told to end.
fn begin(block: &str) -> App {
    let last = block.trim_end().replace("\\\n", " ").lines().count() - 1;
    let commands = block.replace("\\\n", " ");
    let commands = commands.lines().enumerate().map(|(number, command)| {
        let exec = if number == last { "exec " } else { "" };
        format!("{exec}{command}\n")
    });
    let mut command = Command::new("sh");
    command.args(["-euc", &commands.collect::<String>()]);
    App::spawn(command)
}

fn end(mut testpmd: App) {
    testpmd.tell("");
    assert!(testpmd.ended().success());
}

fn expect_pings(ping: &str) {
    stage::wait_for("echoes", || {
        Command::new("sh").args(["-euc", ping]).output().unwrap().status.success().then_some(())
    });
}

#[test]
fn a_pair_of_veth_stands_in_for_a_netvsc_interface() {
    namespaces();
    let [testpmd, ping] = blocks("Without a NetVSC interface").try_into().unwrap();
    let testpmd = begin(&testpmd);
    expect_pings(&ping);
    end(testpmd);
}

#[test]
fn secondaries_look_and_capture() {
    namespaces();
    let pages = HugePages::mount();
    let [pair, ping] = blocks("Without a NetVSC interface").try_into().unwrap();
    let (pair, _) = pair.split_once("dpdk-testpmd").unwrap();
    stage::run("sh", &["-euc", pair]);
    let [testpmd, proc_info, pdump] = blocks("Secondary processes").try_into().unwrap();
    let testpmd = begin(&testpmd);
    expect_pings(&ping);
    for _ in 0..2 {
        let shown = stage::run("sh", &["-euc", &proc_info]);
        assert!(shown.contains("NIC statistics for port 0"), "{shown}");
        expect_pings(&ping);
    }
    let capture = begin(&pdump);
    stage::wait_for("pdump captures", || {
        expect_pings(&ping);
        std::fs::metadata("/run/received.pcap").is_ok_and(|file| file.len() > 300).then_some(())
    });
    // `timeout` tells how.
    assert_eq!(capture.ended().code(), Some(124));
    expect_pings(&ping);
    end(testpmd);
    drop(pages);
}
