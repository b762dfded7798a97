// SPDX-License-Identifier: BSD-3-Clause
//! The field on which the drivers meet: a stage, its links, and applications that differ by their driver alone.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::requests::Requests;
use crate::stage::{self, App, MAC, PCI, Stage, ip_batch, parse_mac, wait_for};

/// Name of the first NetVSC interface.
pub const FIRST: &str = "n0";
/// Name, PCI address of its VF.
pub const VF: (&str, &str) = ("vf0", "0000:01:00.0");
/// Where the VF comes back.
pub const OTHER: (&str, &str) = ("vf1", "0000:02:00.0");

/// The address of a link that is nobody's VF.
const OTHER_MAC: &str = "00:15:5d:00:02:00";

/// Where the stand-in for failsafe, and the floor, tell what they read.
const POSTS: &str = "/run/posts";

/// Who tells failsafe where the VF is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Driver {
    Ours,
    C,
    /// Nobody: failsafe's ports are made by hand.
    None,
}

/// The two drivers, in the order of their turns.
pub const BOTH: [Driver; 2] = [Driver::Ours, Driver::C];
/// And the same ports without either.
pub const ALL: [Driver; 3] = [Driver::Ours, Driver::C, Driver::None];

/// What one driver had in each turn, by driver.
pub type Turns = HashMap<Driver, Vec<f64>>;

/// What a driver adds to what there is without one, turn by turn.
pub fn added(turns: &Turns, driver: Driver) -> Vec<f64> {
    turns[&driver].iter().zip(&turns[&Driver::None]).map(|(with, without)| with - without).collect()
}

/// Which failsafe an application has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failsafe {
    /// DPDK's, with net_af_packet in the place of net_tap, which the kernel may lack the parts for.
    Real,
    /// `failsafe.c`, which tells when it can read an address, and costs nothing.
    StandIn,
}

/// A stage with NetVSC interfaces, plugins and links that are nobody's concern.
pub struct Field {
    pub stage: Stage,
    pub requests: Requests,
    ports: usize,
    plugins: HashMap<&'static str, String>,
    /// Links that are no concern of the driver's.
    pub others: Vec<u32>,
    vfs: HashMap<&'static str, u32>,
}

impl Field {
    /// With NetVSC interfaces for so many ports, and so many other links.
    pub fn new(ports: usize, others: usize) -> Self {
        let mut stage = Stage::new();
        let plugin = |name: &'static str| {
            let source = format!("examples/bench/{name}.c");
            let libraries: &[&str] = match name {
                "failsafe" => &["-lrte_ethdev", "-lrte_bus_vdev", "-lrte_eal"],
                _ => &["-lrte_bus_vdev", "-lrte_eal"],
            };
            let options =
                [&["-shared", "-fPIC", "-DALLOW_INTERNAL_API", "-DALLOW_EXPERIMENTAL_API"], libraries].concat();
            (name, stage::compile(&source, &options))
        };
        let plugins = ["failsafe", "tap", "gap"].map(plugin).into();
        for port in 0..ports {
            stage.netvsc_appears(&format!("n{port}"), &mac(port));
        }
        let first = 10_000;
        let pair = |number: usize| {
            let index = first + 2 * number;
            format!(
                "link add o{number} index {index} up type veth peer name p{number} index {}\nlink set p{number} up\n",
                index + 1
            )
        };
        ip_batch(&(0..others / 2).map(pair).collect::<String>());
        let others = (first as u32..).take(others / 2 * 2).collect();
        fs::write(POSTS, "").unwrap();
        stage::run("mkfifo", &["/run/addresses"]);
        Self { stage, requests: Requests::new(), ports, plugins, others, vfs: HashMap::new() }
    }

    /// The command of an application with a port for each NetVSC interface.
    ///
    /// `poll_ms` is failsafe's `hotplug_poll`; the C driver leaves it as it is, which is 2000.
    fn command(&self, driver: Driver, failsafe: Failsafe, poll_ms: u32, more: &[&str]) -> Command {
        let mut command = self.bare_command(driver, failsafe);
        command.args(self.devices(driver, poll_ms).into_iter().map(|device| format!("--vdev={device}"))).args(more);
        if driver != Driver::None {
            return command;
        }
        // The other end of the pipe that failsafe's ports read is nobody's.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9<>/run/addresses; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell
    }

    /// The command of an application without devices.
    pub fn bare_command(&self, driver: Driver, failsafe: Failsafe) -> Command {
        let stand_in = if failsafe == Failsafe::StandIn { "failsafe" } else { "tap" };
        let last = ["-d", &self.plugins[stand_in], "-d", &self.plugins["gap"]];
        // As DPDK has it by default; failsafe says each time that it finds no VF.
        let quiet = &["--log-level=pmd.net.vdev_netvsc:notice", "--log-level=pmd.net.failsafe:1"];
        match driver {
            Driver::Ours => App::command_with_plugin(quiet, &last),
            Driver::C | Driver::None => App::command_without_plugin(quiet, &last),
        }
    }

    /// Devices, with their arguments, that make a port for each NetVSC interface: an instance each, as the C driver takes
    /// one interface only.
    pub fn devices(&self, driver: Driver, poll_ms: u32) -> Vec<String> {
        let device = |port| match driver {
            Driver::Ours => format!("net_vdev_netvsc{port},iface=n{port},hotplug_poll={poll_ms}"),
            Driver::C => format!("net_vdev_netvsc{port},iface=n{port}"),
            Driver::None => {
                format!("net_failsafe_vsc{port},hotplug_poll={poll_ms},fd(9),dev(net_tap_vsc{port},remote=n{port})")
            }
        };
        (0..self.ports).map(device).collect()
    }

    /// Starts it, and waits until its ports are there.
    pub fn app(&self, driver: Driver, failsafe: Failsafe, poll_ms: u32, more: &[&str]) -> App {
        let mut app = App::up(self.command(driver, failsafe, poll_ms, more));
        let want = if failsafe == Failsafe::Real { 2 * self.ports } else { self.ports };
        wait_for(&format!("{want} ports with {driver:?}"), || (app.ports().len() >= want).then_some(()));
        app
    }

    /// Makes a VF's link, which is up at once, and returns the time just before.
    pub fn vf_appears(&mut self, (name, address): (&'static str, &str)) -> Instant {
        self.make_vf(name, address, MAC)
    }

    /// Makes the VF's link with another MAC. To make a link takes the kernel half a millisecond, whoever listens; to give
    /// this one the VF's MAC, as [`Field::post`] does, takes next to nothing.
    pub fn vf_is_ready(&mut self, (name, address): (&'static str, &str)) {
        self.make_vf(name, address, OTHER_MAC);
    }

    fn make_vf(&mut self, name: &'static str, address: &str, mac: &str) -> Instant {
        let index = self.stage.vf_is_due(name, address);
        self.vfs.insert(name, index);
        self.requests.make_veth(name, index, parse_mac(mac))
    }

    /// Has the link become the VF, and returns how long it took until its address could be read, in milliseconds. It is
    /// the VF no more then.
    pub fn post(&self, (name, address): (&'static str, &str)) -> f64 {
        fs::write(POSTS, "").unwrap();
        let begin = self.requests.set_address(self.vfs[name], parse_mac(MAC));
        let time = wait_for("an address is posted", || {
            let posts = fs::read_to_string(POSTS).unwrap();
            let times = posts.lines().filter_map(|line| line.split_once(' '));
            let mut times = times.filter(|&(_, text)| text.starts_with(address)).map(|(time, _)| time.parse::<i64>());
            times.find_map(|time| time.ok().filter(|&time| time > begin))
        });
        self.requests.set_address(self.vfs[name], parse_mac(OTHER_MAC));
        (time - begin) as f64 / 1e6
    }

    /// Takes a VF away: its link, then its PCI function.
    pub fn vf_goes(&mut self, (name, address): (&'static str, &str)) {
        self.requests.delete(self.vfs[name]);
        fs::remove_dir_all(format!("{PCI}/{address}")).unwrap();
        fs::remove_dir_all(format!("/sys/class/net/{name}")).unwrap();
    }
}

fn mac(port: usize) -> String {
    // The first has that of the VF.
    if port == 0 { MAC.to_owned() } else { format!("00:15:5d:00:01:{port:02x}") }
}

/// A number below `limit` that no phase of anything follows.
pub fn random(limit: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % limit
}
