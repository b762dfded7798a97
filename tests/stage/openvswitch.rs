// SPDX-License-Identifier: BSD-3-Clause
//! Debian's Open vSwitch on the stage, with a database of its own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

use super::{App, wait_for};

/// Where it has its sockets, by default.
const FILES: &str = "/run/openvswitch";

/// `ovsdb-server` and `ovs-vswitchd`, which end with this value.
pub struct OpenVswitch {
    folder: String,
    daemon: Option<App>,
    _database: App,
}

impl OpenVswitch {
    /// Tells below which folder it is (`tests/openvswitch.sh`). What is not there yet comes by the network, which a stage
    /// does not have.
    pub fn folder() -> String {
        super::run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openvswitch.sh"), &[]).trim_end().to_owned()
    }

    /// Starts it, with what these commands have put into its database.
    pub fn start(folder: String, setup: &str) -> Self {
        fs::create_dir(FILES).unwrap();
        let (database, socket) = (format!("{FILES}/conf.db"), format!("{FILES}/db.sock"));
        let schema = format!("{folder}/usr/share/openvswitch/vswitch.ovsschema");
        super::run(&format!("{folder}/usr/bin/ovsdb-tool"), &["create", &database, &schema]);
        let mut server = Command::new(format!("{folder}/usr/sbin/ovsdb-server"));
        server.args([&format!("--remote=punix:{socket}"), &database]);
        let server = App::spawn(server);
        wait_for("the database", || fs::exists(&socket).unwrap().then_some(()));
        let mut switch = Self { folder, daemon: None, _database: server };
        switch.ok(&format!("ovs-vsctl --no-wait init\n{setup}"));
        switch.resume();
        switch
    }

    /// Starts `ovs-vswitchd` again.
    pub fn resume(&mut self) {
        let mut daemon = Command::new(format!("{}/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk", self.folder));
        // As an alternative of Debian's calls it, and ovs-appctl.
        daemon.arg0("ovs-vswitchd").arg("--pidfile");
        let daemon = self.daemon.insert(App::spawn(daemon));
        // A change is waited for until all that is in the database is set up.
        let change = format!("ovs-vsctl set Open_vSwitch . external_ids:process={}", daemon.pid());
        self.ok(&change);
    }

    /// Ends `ovs-vswitchd` by a signal.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        let daemon = self.daemon.take().expect("it runs");
        daemon.signal(signal);
        daemon.ended()
    }

    /// The running `ovs-vswitchd`.
    pub fn daemon(&mut self) -> &mut App {
        self.daemon.as_mut().expect("it runs")
    }

    /// Types commands, with those of Open vSwitch at hand, and returns what they say; `Err` when one fails.
    pub fn sh(&self, commands: &str) -> Result<String, String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{0}/usr/bin:{0}/usr/sbin:{path}", self.folder);
        // What is asked of a switch that has ended would wait for ever.
        let output = Command::new("timeout").args(["20", "sh", "-euc", commands]).env("PATH", path).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// As [`OpenVswitch::sh`], with commands that must succeed.
    pub fn ok(&self, commands: &str) -> String {
        self.sh(commands).unwrap_or_else(|error| panic!("{commands}: {error}"))
    }

    /// How many packets a port of the bridge has received and sent.
    pub fn counted(&self, port: &str) -> (u64, u64) {
        let text = self.ok(&format!("ovs-ofctl dump-ports br0 {port}"));
        let mut counts = text.split("pkts=").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap());
        (counts.next().unwrap(), counts.next().unwrap())
    }
}
