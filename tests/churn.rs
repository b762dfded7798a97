// SPDX-License-Identifier: BSD-3-Clause
//! Random churn: instances come and go, and their links and VFs, while frames flow. `make soak` has it go on for long.
//!
//! `CHURN_SECONDS` says for how long, `CHURN_SEED` with which sequence: threads race, so that a seed does not bring a
//! crash back for sure. `CHURN_SLOW=1` has hot-plugs of the interrupt thread take 50 ms longer. One thread of the application hot-plugs, as DPDK is not made for two; EAL's interrupt thread is
//! the other that does.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stage::{App, Place, Random, Stage, Wire, expect_answer, parse_mac};

const SECONDS: u64 = 20;

/// Pairs of an instance and its link. The first one's link stays.
const PAIRS: u32 = 4;

/// One step of either thread is at most so long after the one before.
const PAUSE_MS: u32 = 60;

/// After so long the interrupt thread has heard of what happened.
const SETTLED: Duration = Duration::from_millis(20);

fn mac(n: u32) -> String {
    format!("00:15:5d:00:00:{n:02x}")
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// Chance, from a seed.
struct Chance(Random);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    fn below(&mut self, end: u32) -> u32 {
        ((self.0.next() >> 32) % u64::from(end)) as u32
    }

    fn pause(&mut self) {
        thread::sleep(Duration::from_millis(u64::from(self.below(PAUSE_MS))));
    }
}

/// What the application does, on its one control thread.
struct Control {
    app: App,
    attached: [bool; PAIRS as usize],
    /// The failsafe ports, each with its pair, as the driver's log tells: a port that the interrupt thread closes right
    /// now is not to be asked.
    ports: BTreeMap<String, u32>,
    /// Those of them whose interface is gone.
    orphans: BTreeSet<String>,
    /// How much of the log is read.
    read: usize,
    counts: [u32; 3],
}

impl Control {
    fn step(&mut self, random: &mut Chance, still: &Mutex<()>) {
        let n = random.below(PAIRS);
        self.close_orphans(still);
        if random.below(3) == 0 {
            self.start_all();
        } else if self.attached[n as usize] {
            self.detach(n);
        } else {
            self.attach(n);
        }
    }

    fn attach(&mut self, n: u32) {
        let reply =
            self.app.send(&format!("attach net_vdev_netvsc{n} mac={},fallback=af_packet,queues={}", mac(n), n + 1));
        // ENODEV: its link is not there right now.
        assert!(reply == "ok" || reply.starts_with(&format!("error {} ", libc::ENODEV)), "attach {n}: {reply}");
        self.attached[n as usize] = reply == "ok";
        self.counts[0] += u32::from(reply == "ok");
    }

    /// A port is not to be taken away from under a burst.
    fn detach(&mut self, n: u32) {
        for port in self.ports_of(|pair| pair == n) {
            self.app.send(&format!("stop {port}"));
        }
        self.app.ok(&format!("detach net_vdev_netvsc{n}"));
        self.attached[n as usize] = false;
        self.counts[1] += 1;
    }

    /// Closes the ports whose interface is gone, as the log tells to. Not while a VF goes: failsafe, which hears of that on
    /// the interrupt thread, goes on with a port that is freed (`failsafe_eth_rmv_event_callback`).
    fn close_orphans(&mut self, still: &Mutex<()>) {
        self.read_log();
        if self.orphans.is_empty() {
            return;
        }
        let _still = still.lock().unwrap();
        thread::sleep(SETTLED);
        for port in self.orphans.clone() {
            self.app.send(&format!("stop {port}"));
            // Failsafe may be unable to stop it right now; or it is closed, and a VF that vanished was not.
            if self.app.send(&format!("close {port}")) == "ok" || !self.app.has_port(&port) {
                self.orphans.remove(&port);
                self.ports.remove(&port);
            }
        }
    }

    fn start_all(&mut self) {
        let attached = self.attached;
        for port in self.ports_of(|pair| attached[pair as usize]) {
            // One that runs already refuses, and one whose link is gone.
            self.counts[2] += u32::from(self.app.send(&format!("start {port}")) == "ok");
        }
    }

    fn ports_of(&mut self, is_meant: impl Fn(u32) -> bool) -> Vec<String> {
        self.read_log();
        self.ports.iter().filter(|&(_, &pair)| is_meant(pair)).map(|(port, _)| port.clone()).collect()
    }

    fn read_log(&mut self) {
        let more = self.app.log_from(self.read);
        let whole = more.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        for line in more[..whole].lines() {
            // net_failsafe_vsc0 (eth1, ifindex 5): made
            let Some(line) = line.strip_prefix("net_vdev_netvsc: ") else { continue };
            let Some((port, rest)) = line.split_once(" (eth") else { continue };
            if rest.ends_with("): made") {
                self.ports.insert(port.to_owned(), rest[..1].parse().unwrap());
            } else if rest.ends_with("): closed") {
                self.ports.remove(port);
                self.orphans.remove(port);
            } else if rest.contains("): the interface is gone") {
                self.orphans.insert(port.to_owned());
            }
        }
    }
}

/// What happens to the machine.
struct Machine {
    stage: Stage,
    links: [bool; PAIRS as usize],
    vfs: [bool; PAIRS as usize],
    counts: [u32; 5],
}

impl Machine {
    fn step(&mut self, random: &mut Chance) {
        let n = random.below(PAIRS);
        let at = n as usize;
        let (link, vf, function) = (format!("eth{n}"), format!("vf{n}"), format!("0000:0{}:00.0", n + 1));
        let what = match (random.below(3), self.links[at], self.vfs[at]) {
            (0, true, _) if n > 0 => {
                self.stage.netvsc_goes(&link);
                self.links[at] = false;
                0
            }
            (0, false, _) => {
                self.stage.netvsc_appears(&link, &mac(n));
                self.links[at] = true;
                1
            }
            (_, _, false) => {
                self.stage.vf_appears(&vf, &function, &mac(n));
                self.vfs[at] = true;
                2
            }
            (1, _, true) => {
                self.stage.vf_goes(&vf, &function);
                self.vfs[at] = false;
                3
            }
            (_, _, true) => {
                Place::vf_vanishes(&mut self.stage, &vf, &function);
                self.vfs[at] = false;
                4
            }
        };
        self.counts[what] += 1;
    }

    /// All links are there, and no VF.
    fn settle(&mut self) {
        for n in 0..PAIRS {
            if !std::mem::replace(&mut self.links[n as usize], true) {
                self.stage.netvsc_appears(&format!("eth{n}"), &mac(n));
            }
            if std::mem::take(&mut self.vfs[n as usize]) {
                self.stage.vf_goes(&format!("vf{n}"), &format!("0000:0{}:00.0", n + 1));
            }
        }
    }
}

/// Sends frames into all wires that there are. Returns how many.
fn send_frames(over: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        for n in 0..PAIRS {
            for name in [format!("eth{n}p"), format!("vf{n}p")] {
                if let Some(wire) = Wire::try_at(&name) {
                    sent += (0..16).map(|number| u32::from(wire.try_send(parse_mac(&mac(n)), number))).sum::<u32>();
                }
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    sent
}

#[test]
fn churn() {
    let (seed, seconds) = (number("CHURN_SEED", 1), number("CHURN_SECONDS", SECONDS));
    let mut machine = Machine {
        stage: Stage::new(),
        links: [false; PAIRS as usize],
        vfs: [false; PAIRS as usize],
        counts: Default::default(),
    };
    machine.settle();
    let slow = stage::compile("tests/slow/scan.c", &["-shared", "-fPIC", "-lrte_bus_vdev"]);
    let arguments: &[&str] = if number("CHURN_SLOW", 0) == 0 { &[] } else { &["-d", &slow] };
    let mut app = App::start(arguments);
    // Failsafe removes a VF under a burst that does not get on (docs/design.md).
    app.ok("hurry");
    let mut control = Control {
        app,
        attached: [false; PAIRS as usize],
        ports: BTreeMap::new(),
        orphans: BTreeSet::new(),
        read: 0,
        counts: Default::default(),
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let over = AtomicBool::new(false);
    // Held while something happens to the machine.
    let still = Mutex::new(());
    thread::scope(|scope| {
        let events = scope.spawn(|| {
            let mut random = Chance::new(seed);
            while Instant::now() < end && !over.load(Ordering::Relaxed) {
                let guard = still.lock();
                machine.step(&mut random);
                drop(guard);
                random.pause();
            }
            machine.counts
        });
        let frames = scope.spawn(|| send_frames(&over));
        let mut random = Chance::new(!seed);
        let steps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < end {
                control.step(&mut random, &still);
                random.pause();
            }
        }));
        over.store(true, Ordering::Relaxed);
        let (events, frames) = (events.join().unwrap(), frames.join().unwrap());
        println!(
            "seed {seed}: attached, detached, started {:?}; links gone, made, VFs came, went, vanished {events:?}; {frames} \
             frames",
            control.counts
        );
        steps.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    // What is left of it serves.
    machine.settle();
    for n in 0..PAIRS {
        if control.attached[n as usize] {
            control.detach(n);
        }
    }
    stage::wait_for("all ports are closed", || control.app.ports().is_empty().then_some(()));
    control.app.expect_no_alarm();
    for n in 0..PAIRS {
        control.attach(n);
    }
    stage::wait_for("all ports", || (control.ports_of(|_| true).len() == PAIRS as usize).then_some(()));
    control.start_all();
    for n in 0..PAIRS {
        expect_answer(&format!("eth{n}p"), &mac(n));
    }
    assert!(control.app.cleanup().success());
}
