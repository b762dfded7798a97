// SPDX-License-Identifier: BSD-3-Clause
//! The scripts of the model (`src/manager/model`), played among real links and a real EAL: `tests/scripts` has ten
//! histories of 100 moves each. At each rest all has to be as the model promises.
//!
//! `MODEL_WRITE=tests/scripts cargo test --lib random_histories` writes such scripts; `REPLAY=<file>` has the ignored
//! test play another. What has no counterpart here is left out and counted, such as a move of one thread.
//!
//! The application does what `tests/churn.rs` does for DPDK's sake: it closes ports whose interface is gone, and neither
//! closes nor removes while a VF is on its way out.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use stage::{App, PCI, Stage, expect_answer, ip, ip_batch, wait_for};

/// All is right so long after the last move. What failed before is tried again after as long as it failed, at most.
const SOON: Duration = Duration::from_secs(5);

/// After so long the interrupt thread has heard of what happened.
const SETTLED: Duration = Duration::from_millis(20);

struct Link {
    index: u32,
    name: String,
    mac: String,
    up: bool,
    kind: Kind,
    /// Its MAC was changed, so that whose VF it is may depend on when that was seen; or its function went before it.
    unsure: bool,
    /// All names and MACs that it had, as in a selector.
    selectors: BTreeSet<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    NetVsc,
    /// On the function with this address.
    Vf(String),
    Other,
}

struct Function {
    gone: bool,
    pmd: String,
    /// Since when its PMD has done something wrong.
    spoiled: Option<Instant>,
}

/// A failsafe port, as the driver's log tells.
struct Port {
    /// Of its link.
    index: u32,
    /// The name that the link had when the port was made, and the MAC.
    made_on: String,
    first_mac: String,
    configured: bool,
    started: bool,
    orphaned: bool,
    /// Its VF at this address went, and failsafe did not hear of that and holds it: the port was not configured, or the VF
    /// has another MAC.
    stale: Option<String>,
}

/// A port's name, the port, its link, and its VF with the address.
type Live<'a> = (&'a String, &'a Port, &'a Link, Option<(&'a Link, &'a str)>);

struct Replay {
    stage: Stage,
    app: App,
    links: Vec<Link>,
    functions: BTreeMap<String, Function>,
    /// The selectors of each that may need a port, such as `iface=eth0`.
    instances: BTreeMap<String, Vec<String>>,
    ports: BTreeMap<String, Port>,
    /// Links on which a port was begun.
    begun: BTreeSet<u32>,
    /// How much of the log is read.
    read: usize,
    /// What was checked, and the moves that were left out.
    counts: BTreeMap<String, u32>,
}

/// The MAC that the model gives a letter.
fn mac(letter: &str) -> String {
    format!("00:15:5d:00:00:{:02x}", letter.as_bytes()[0])
}

impl Replay {
    fn new() -> Self {
        let stage = Stage::new();
        let mut app = App::start(&[]);
        // Failsafe removes a VF under a burst that does not get on (docs/design.md).
        app.ok("hurry");
        Self {
            stage,
            app,
            links: Vec::new(),
            functions: BTreeMap::new(),
            instances: BTreeMap::new(),
            ports: BTreeMap::new(),
            begun: BTreeSet::new(),
            read: 0,
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Plays a move. One that is senseless now does nothing.
    fn play(&mut self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        match *words.as_slice() {
            ["netvsc", name, "appears", letter] => {
                self.link_appears(name, letter, Kind::NetVsc, |stage, mac| stage.netvsc_appears(name, mac));
            }
            ["other", name, "appears", letter] => {
                self.link_appears(name, letter, Kind::Other, |stage, mac| stage.link_appears(name, mac));
            }
            ["vf", name, "appears", letter, "at", address] => self.vf_appears(name, letter, address),
            ["link", name, what @ ("goes" | "up" | "down" | "renamed" | "mac"), ref more @ ..] => {
                if let Some(at) = self.links.iter().position(|link| link.name == name) {
                    self.play_link(at, what, more);
                }
            }
            ["function", address, "unplugged"] => {
                let known = self.functions.get_mut(address);
                if known.is_some_and(|function| !std::mem::replace(&mut function.gone, true)) {
                    fs::remove_dir_all(format!("{PCI}/{address}")).unwrap();
                    let on = self.links.iter_mut().filter(|link| link.kind == Kind::Vf(address.to_owned()));
                    on.for_each(|link| link.unsure = true);
                }
            }
            ["function", address, "pmd", pmd @ ("makes" | "fails" | "fails-once" | "no-port")] => {
                if let Some(function) = self.functions.get_mut(address) {
                    function.pmd = pmd.to_owned();
                    if pmd != "makes" {
                        function.spoiled.get_or_insert_with(Instant::now);
                    }
                    self.spoil(address);
                }
            }
            ["probe", instance, "all"] => self.probe(instance, None),
            ["probe", instance, "iface", name] => self.probe(instance, Some(format!("iface={name}"))),
            ["probe", instance, "mac", letter] => self.probe(instance, Some(format!("mac={}", mac(letter)))),
            ["remove", instance] => self.remove(instance),
            ["port", id, what @ ("configured" | "started" | "stopped" | "closed")] => {
                self.play_port(&format!("net_failsafe_vsc{id}"), what);
            }
            ["wait", time] => sleep(Duration::from_millis(time.parse().unwrap())),
            ["rest"] => self.rest(),
            ["interrupt" | "application" | "fault", ..]
            | ["lock" | "kernel" | "sysfs" | "dpdk", _, ..]
            | ["function", _, "probed" | "removed" | "owned" | "disowned" | "closed" | "pmd" | "driver" | "verbs", ..]
            | ["port", _, "busy" | "free" | "fallback", ..]
            // Nothing can be enslaved to a veth.
            | ["link", _, "master" | "configured" | "bare", ..] => {
                let what = words.get(2).filter(|_| ["function", "port", "link"].contains(&words[0]));
                self.count(&format!("left out: {}", what.unwrap_or(&words[0])));
            }
            _ => panic!("no such move: {text}"),
        }
        self.close_orphans();
    }

    fn link_appears(&mut self, name: &str, letter: &str, kind: Kind, appear: impl FnOnce(&mut Stage, &str) -> u32) {
        if self.links.iter().all(|link| link.name != name) {
            let mac = mac(letter);
            let index = appear(&mut self.stage, &mac);
            let selectors = [format!("iface={name}"), format!("mac={mac}")].into();
            self.links.push(Link { index, name: name.to_owned(), mac, up: true, kind, unsure: false, selectors });
        }
    }

    fn vf_appears(&mut self, name: &str, letter: &str, address: &str) {
        if self.links.iter().all(|link| link.name != name) {
            let new = || Function { gone: false, pmd: "makes".to_owned(), spoiled: None };
            self.functions.entry(address.to_owned()).or_insert_with(new).gone = false;
            self.stage.function_appears(address, "test_vf");
            self.spoil(address);
            let kind = Kind::Vf(address.to_owned());
            self.link_appears(name, letter, kind, |stage, mac| stage.vf_appears(name, address, mac));
        }
    }

    /// Tells the stand-in PMD what to do.
    fn spoil(&self, address: &str) {
        let function = &self.functions[address];
        let what = match &*function.pmd {
            "fails" => Some(("refuse", "1000\n")),
            "fails-once" => Some(("refuse", "1\n")),
            "no-port" => Some(("portless", "")),
            _ => None,
        };
        for file in ["refuse", "portless"] {
            let _ = fs::remove_file(format!("{PCI}/{address}/{file}"));
        }
        if let Some((file, text)) = what.filter(|_| !function.gone) {
            self.stage.spoil(address, file, text);
        }
    }

    fn play_link(&mut self, at: usize, what: &str, more: &[&str]) {
        let taken = more.first().is_some_and(|new| self.links.iter().any(|link| link.name == *new));
        let link = &mut self.links[at];
        let name = link.name.clone();
        // Where its function shows it, as long as that is there.
        let shown = match &link.kind {
            Kind::Vf(address) => {
                Some(address).filter(|address| fs::exists(format!("{PCI}/{address}/net/{name}")).unwrap())
            }
            _ => None,
        };
        match (what, more) {
            ("goes", []) => {
                match shown {
                    Some(address) => self.stage.netdevice_goes(&name, address),
                    None => self.stage.link_goes(&name),
                }
                self.links.remove(at);
            }
            ("up" | "down", []) => {
                ip(&format!("link set {name} {what}"));
                link.up = what == "up";
            }
            ("renamed", [new]) if !taken => {
                match shown {
                    Some(address) => self.stage.rename_vf(&name, new, address),
                    None => self.stage.rename(&name, new),
                }
                // Its wire as well, as another may get the old name.
                ip_batch(&format!("link set {name}p down\nlink set {name}p name {new}p\nlink set {new}p up\n"));
                if !link.up {
                    ip(&format!("link set {new} down"));
                }
                link.name = (*new).to_owned();
                link.selectors.insert(format!("iface={new}"));
            }
            ("mac", [letter]) => {
                link.unsure |= link.mac != mac(letter);
                link.mac = mac(letter);
                ip(&format!("link set {name} address {}", link.mac));
                link.selectors.insert(format!("mac={}", link.mac));
            }
            _ => {}
        }
    }

    fn probe(&mut self, instance: &str, selector: Option<String>) {
        if self.instances.contains_key(instance) {
            return;
        }
        self.settle();
        let all = self.links.iter().filter(|link| link.kind == Kind::NetVsc);
        let meant: Vec<&Link> = match &selector {
            Some(selector) => self.meant(selector).into_iter().collect(),
            None => all.collect(),
        };
        // What has a port already is not taken.
        let free = meant.iter().filter(|link| !self.begun.contains(&link.index));
        let wanted = free.map(|link| selector.clone().unwrap_or(format!("mac={}", link.mac))).collect();
        let is_there = selector.is_none() || !meant.is_empty();
        let arguments = selector.iter().map(|selector| format!("{selector},")).collect::<String>();
        let reply = self.app.send(&format!("attach {} {arguments}fallback=af_packet,queues=1", device(instance)));
        assert_eq!(reply == "ok", is_there, "{instance} {selector:?}: {reply}");
        if is_there {
            self.instances.insert(instance.to_owned(), wanted);
        }
    }

    fn remove(&mut self, instance: &str) {
        if self.instances.remove(instance).is_some() {
            self.settle();
            self.app.ok(&format!("detach {}", device(instance)));
        }
    }

    fn play_port(&mut self, name: &str, what: &str) {
        self.settle();
        let Some(port) = self.ports.get(name) else { return };
        // net_af_packet takes its interface by the name that it had.
        if what == "started" && self.link(port.index).is_none_or(|link| link.name != port.made_on) {
            return self.count("left out: a port is started on a link with a new name");
        }
        let command = match what {
            "configured" => "configure",
            "started" => "start",
            _ => "stop",
        };
        // It may be started already, or not yet.
        let done = self.app.send(&format!("{command} {name}")) == "ok";
        let port = self.ports.get_mut(name).unwrap();
        match what {
            "configured" | "started" if done => {
                port.configured = true;
                port.started |= what == "started";
            }
            "stopped" if done => port.started = false,
            "closed" => {
                self.app.ok(&format!("close {name}"));
                self.read_log();
                self.ports.remove(name);
            }
            _ => {}
        }
    }

    /// The port of a VF that is gone, and that nobody holds who did not hear of that.
    fn left_over(&mut self) -> Option<String> {
        let there = self.app.ports();
        let live = self.live();
        let any_unsure = self.links.iter().any(|link| link.unsure);
        let is_held = |port: &&String| {
            let of = live.iter().any(|(.., vf)| vf.is_some_and(|(_, at)| at == *port));
            of || any_unsure && self.links_on(port).next().is_some()
        };
        let stale = self.ports.values().any(|port| port.stale.is_some());
        there.into_iter().find(|port| !stale && self.functions.contains_key(port) && !is_held(&port))
    }

    /// Waits until no VF is on its way out.
    fn settle(&mut self) {
        sleep(SETTLED);
        let begin = Instant::now();
        while let Some(port) = self.left_over() {
            assert!(begin.elapsed() < SOON, "{port} is left over");
            self.close_orphans();
        }
        self.close_orphans();
    }

    fn close_orphans(&mut self) {
        self.read_log();
        let orphans: Vec<String> =
            self.ports.iter().filter(|(_, port)| port.orphaned).map(|(name, _)| name.clone()).collect();
        if !orphans.is_empty() {
            sleep(SETTLED);
        }
        for name in orphans {
            self.app.send(&format!("stop {name}"));
            // Failsafe may be unable to stop it right now.
            if self.app.send(&format!("close {name}")) == "ok" {
                self.ports.remove(&name);
            }
        }
    }

    fn read_log(&mut self) {
        let more = self.app.log_from(self.read);
        let whole = more.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        for line in more[..whole].lines() {
            // net_failsafe_vsc0 (eth1, ifindex 5): made
            let Some(line) = line.strip_prefix("net_vdev_netvsc: net_failsafe_") else { continue };
            let Some((id, rest)) = line.split_once(" (") else { continue };
            let Some((index, what)) = rest.split_once(", ifindex ").and_then(|(_, rest)| rest.split_once("): ")) else {
                continue;
            };
            let (name, index) = (format!("net_failsafe_{id}"), index.parse().unwrap());
            if what.starts_with("making it with") {
                self.begun.insert(index);
            } else if what == "made" {
                let first_mac = self.link(index).map(|link| link.mac.clone()).unwrap_or_default();
                let made_on = rest.split_once(',').unwrap().0.to_owned();
                let (configured, started, orphaned, stale) = (false, false, false, None);
                self.ports.insert(name, Port { index, made_on, first_mac, configured, started, orphaned, stale });
            } else if what.starts_with("closed") {
                self.ports.remove(&name);
                self.begun.remove(&index);
                // Unless the application closed it and the link is gone, nobody wants one any more.
                if let Some(link) = self.links.iter().find(|link| link.index == index) {
                    let wanted = self.instances.values_mut();
                    wanted.for_each(|wanted| wanted.retain(|selector| !link.selectors.contains(selector)));
                }
            } else if let Some(port) = self.ports.get_mut(&name) {
                port.orphaned |= what.starts_with("the interface is gone");
                // VF vf0 at 0000:01:00.0 went
                let went = what.strip_suffix(" went").and_then(|vf| vf.rsplit_once(' '));
                if let Some((_, address)) = went {
                    let unsure = self.links.iter().any(|link| link.unsure && link.kind == Kind::Vf(address.to_owned()));
                    if !port.configured || unsure {
                        port.stale = Some(address.to_owned());
                    }
                }
            }
        }
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn links_on(&self, address: &str) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| matches!(&link.kind, Kind::Vf(at) if at == address))
    }

    /// The link that a selector means now.
    fn meant(&self, selector: &str) -> Option<&Link> {
        let (_, value) = selector.split_once('=').unwrap();
        let mut netvsc = self.links.iter().filter(|link| link.kind == Kind::NetVsc);
        netvsc.find(|link| [&link.name, &link.mac].iter().any(|own| *own == value))
    }

    /// The ports whose link is there.
    fn live(&self) -> Vec<Live<'_>> {
        let vf_of = |port: &Port, link: &Link| {
            let on_pci = || {
                self.links.iter().filter_map(|vf| match &vf.kind {
                    Kind::Vf(address) => Some((vf, address.as_str())),
                    _ => None,
                })
            };
            on_pci().find(|(vf, _)| vf.mac == link.mac).or_else(|| on_pci().find(|(vf, _)| vf.mac == port.first_mac))
        };
        let live = self.ports.iter().filter_map(|(name, port)| Some((name, port, self.link(port.index)?)));
        live.map(|(name, port, link)| (name, port, link, vf_of(port, link))).collect()
    }

    /// Whether a function's only netdevice is the VF of one port only, up, and can be attached.
    fn is_clear(&self, address: &str) -> bool {
        let on: Vec<&Link> = self.links_on(address).collect();
        let live = self.live();
        let claims: Vec<_> = live.iter().filter(|(.., vf)| vf.is_some_and(|(_, at)| at == address)).collect();
        let function = &self.functions[address];
        let stale = self.ports.values().any(|port| port.stale.as_deref() == Some(address));
        match (&on[..], &claims[..]) {
            ([vf], [(_, _, link, _)]) => {
                vf.up && !vf.unsure && !link.unsure && !function.gone && function.pmd == "makes" && !stale
            }
            _ => false,
        }
    }

    /// What is not as it should be.
    fn wrong(&mut self) -> Option<String> {
        self.read_log();
        let there = self.app.ports();
        for port in self.ports.values_mut() {
            port.stale.take_if(|address| !there.contains(address));
        }
        let served = |index| self.ports.values().any(|port| port.index == index);
        for selector in self.instances.values().flatten() {
            // A place may be taken by the link that it meant once.
            let is_taken = self.links.iter().any(|link| link.selectors.contains(selector) && served(link.index));
            if let Some(link) = self.meant(selector).filter(|_| !is_taken) {
                return Some(format!("{} has no port, and {selector} means it", link.name));
            }
        }
        let live = self.live();
        for (name, port, _, vf) in live {
            if !there.contains(name) {
                return Some(format!("{name} is not there"));
            }
            let is_there = |address: &str| there.iter().any(|port| port == address);
            let due = vf.filter(|(_, address)| port.stale.is_none() && self.is_clear(address) && !is_there(address));
            if let Some((vf, address)) = due {
                return Some(format!("{} at {address} is not attached, and is the VF of {name}", vf.name));
            }
        }
        self.left_over().map(|port| format!("{port} is left over"))
    }

    /// Nothing more happens, and what failed once fails no more.
    fn rest(&mut self) {
        let once: Vec<String> =
            self.functions.iter().filter(|(_, it)| it.pmd == "fails-once").map(|(at, _)| at.clone()).collect();
        for address in once {
            self.functions.get_mut(&address).unwrap().pmd = "makes".to_owned();
            self.spoil(&address);
        }
        let (begin, spoiled) = (Instant::now(), self.functions.values().filter_map(|function| function.spoiled));
        let patience = SOON + spoiled.map(|since| begin - since).max().unwrap_or_default();
        while let Some(wrong) = self.wrong() {
            assert!(begin.elapsed() < patience, "after {:?} at rest: {wrong}", begin.elapsed());
            self.close_orphans();
            sleep(Duration::from_millis(5));
        }
        self.frames_flow();
        assert!(begin.elapsed() < patience, "frames flow after {:?}", begin.elapsed());
        for function in self.functions.values_mut().filter(|function| function.pmd == "makes") {
            function.spoiled = None;
        }
        self.count("rests");
    }

    /// Frames go both ways by the VF of each port that is started, or by its fallback.
    fn frames_flow(&mut self) {
        let there = self.app.ports();
        let unclear: Vec<&String> =
            there.iter().filter(|port| self.functions.contains_key(*port) && !self.is_clear(port)).collect();
        let mut seen = Vec::new();
        for (_, port, link, vf) in self.live() {
            if !port.started {
                continue;
            }
            if let Some((vf, _)) = vf.filter(|(_, address)| port.stale.is_none() && self.is_clear(address)) {
                expect_answer(&format!("{}p", vf.name), &link.mac);
                seen.push("frames by a VF");
            } else if unclear.is_empty() && link.up {
                expect_answer(&format!("{}p", link.name), &link.mac);
                seen.push("frames by a fallback");
            }
        }
        seen.into_iter().for_each(|what| self.count(what));
    }

    fn end(mut self) {
        self.rest();
        for instance in self.instances.keys().cloned().collect::<Vec<_>>() {
            self.remove(&instance);
        }
        wait_for("all ports are closed", || {
            self.close_orphans();
            self.app.ports().is_empty().then_some(())
        });
        println!("{:?}", self.counts);
        assert!(self.app.cleanup().success());
    }
}

fn device(instance: &str) -> String {
    format!("net_vdev_netvsc_{instance}")
}

fn replay(script: &str) {
    let mut replay = Replay::new();
    for (line, text) in script.lines().enumerate().filter(|(_, text)| !text.is_empty()) {
        // A test that fails shows it.
        eprintln!("{}: {text}", line + 1);
        replay.play(text);
    }
    replay.end();
}

macro_rules! scripts {
    ($($number:literal $name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(include_str!(concat!("scripts/", $number, ".txt")));
        })*
    };
}

scripts! {
    127 history_127
    212 history_212
    347 history_347
    417 history_417
    1047 history_1047
    1180 history_1180
    1206 history_1206
    2073 history_2073
    2089 history_2089
    2283 history_2283
}

/// Seldom in a random history: a VF's PMD fails once, and nothing else happens.
#[test]
fn a_vf_whose_pmd_fails_once() {
    replay(include_str!("scripts/once.txt"));
}

#[test]
#[ignore = "plays the script that REPLAY names"]
fn a_script_that_is_named() {
    replay(&fs::read_to_string(std::env::var("REPLAY").expect("REPLAY")).unwrap());
}
