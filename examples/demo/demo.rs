// SPDX-License-Identifier: BSD-3-Clause
//! A VF comes, goes and comes back at another PCI address under a stock `dpdk-testpmd`, with a steady stream of packets.
//!
//! `make demo` runs it in namespaces of its own. Exit status 0 says that all of it happened.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a demonstration ends so")]

#[path = "../../tests/stage/mod.rs"]
mod stage;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use stage::{BUILD, Frame, MAC, Stage, Traffic};

/// Pause between two packets of the stream.
const GAP: Duration = Duration::from_millis(1);

/// How long each phase lasts once packets flow as it wants.
const PHASE: Duration = Duration::from_secs(3);

/// How long a change may take before the demonstration fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// When nothing has come back for so long, the rest is no longer under way.
const UNDER_WAY: Duration = Duration::from_millis(500);

const LOG: &str = "/run/testpmd.log";

/// The far end of the NetVSC interface's wire.
const FALLBACK: &str = "eth1p";

/// A part of the demonstration.
struct Phase {
    title: String,
    /// The first packet that was sent in it.
    first: u32,
    /// Packets that the kernel dropped as the application or this program did not take them in time.
    dropped: usize,
}

/// Packets sent in one phase, and by which way they came back.
struct Tally {
    sent: usize,
    by_fallback: usize,
    by_vf: usize,
}

impl Tally {
    fn of(packets: &[Frame]) -> Self {
        let back = |want: fn(usize) -> bool| packets.iter().filter(|packet| packet.back_by.is_some_and(want)).count();
        Self { sent: packets.len(), by_fallback: back(|wire| wire == 0), by_vf: back(|wire| wire > 0) }
    }

    fn missing(&self) -> usize {
        self.sent - self.by_fallback - self.by_vf
    }
}

struct Demo {
    stage: Stage,
    testpmd: Child,
    start: Instant,
    stream: Traffic,
    phases: Vec<Phase>,
}

impl Demo {
    fn new() -> Self {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let log = File::create(LOG).expect(LOG);
        // It ends with this process, however that ends; namespaces, mounts and files then go as well.
        let testpmd = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dpdk-testpmd"])
            .args(["--lcores", "0@0,1@1", "--no-huge", "-m", "256", "--no-shconf", "--no-telemetry"])
            .args(["-d", &format!("{BUILD}/librte_net_vdev_netvsc.so")])
            .args(["-d", &format!("{BUILD}/tests/librte_net_test_vf.so")])
            .arg("--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet")
            .args(["--", "--forward-mode=macswap", "--total-num-mbufs=4096"])
            .env("SYSFS_PCI_DEVICES", stage::PCI)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect(LOG))
            .stderr(log)
            .spawn()
            .expect("dpdk-testpmd, of the package dpdk-dev");
        let stream = Traffic::each(GAP, FALLBACK, MAC);
        Self { stage, testpmd, start: Instant::now(), stream, phases: Vec::new() }
    }

    fn say(&self, text: &str) {
        println!("{:9.3} s  {text}", self.start.elapsed().as_secs_f64());
    }

    fn begin(&mut self, title: &str) {
        let first = self.stream.sent();
        self.say(title);
        let dropped = self.settle(first);
        self.phases.push(Phase { title: title.to_owned(), first, dropped });
    }

    /// Waits until all packets of the last phase, those before `end`, are accounted for. Returns how many more were
    /// dropped: those are of the next phase.
    fn settle(&mut self, end: u32) -> usize {
        let begin = Instant::now();
        let (mut last, mut since) = (0, begin);
        loop {
            self.count_dropped();
            let Some(phase) = self.phases.last_mut() else { return 0 };
            let packets = &self.stream.frames()[phase.first as usize..end as usize];
            let missing = Tally::of(packets).missing();
            if missing != last {
                (last, since) = (missing, Instant::now());
            }
            // What was lost long before is not waited for.
            let recent = packets.partition_point(|packet| packet.sent + UNDER_WAY < begin);
            let awaited = Tally::of(&packets[recent..]).missing();
            if awaited == 0 || missing <= phase.dropped || since.elapsed() > UNDER_WAY {
                let more = phase.dropped.saturating_sub(missing);
                phase.dropped -= more;
                return more;
            }
            sleep(GAP);
        }
    }

    /// Asks the packet sockets at both ends of the wires, each of which tells a drop once.
    fn count_dropped(&mut self) {
        let dropped = self.stream.dropped() + stage::dropped_in(self.testpmd.id());
        if let Some(phase) = self.phases.last_mut() {
            phase.dropped += dropped as usize;
        }
    }

    /// Waits until a packet comes back by this wire after `since`, and returns how long after.
    fn until_back_by(&mut self, wire: &str, since: Instant) -> Result<Duration, String> {
        loop {
            if let Some(waited) = self.stream.back_by(wire, since) {
                return Ok(waited);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("no packet came back by {wire} within {PATIENCE:?}"));
            }
            if let Ok(Some(status)) = self.testpmd.try_wait() {
                return Err(format!("dpdk-testpmd ended: {status}"));
            }
            sleep(GAP);
        }
    }

    /// Lets the stream run for a phase, and tells each second how it goes.
    fn watch(&self) {
        let end = Instant::now() + PHASE;
        while Instant::now() < end {
            sleep(Duration::from_secs(1));
            if let Some(phase) = self.phases.last() {
                let Tally { sent, by_fallback, by_vf } = Tally::of(&self.stream.frames()[phase.first as usize..]);
                self.say(&format!("  {sent:5} sent  {by_fallback:5} back by the fallback  {by_vf:5} back by the VF"));
            }
        }
    }

    fn vf_comes(&mut self, name: &str, address: &str) -> Result<Duration, String> {
        self.stage.vf_appears(name, address, MAC);
        let appeared = Instant::now();
        let wire = format!("{name}p");
        self.stream.also_from(&wire);
        self.begin(&format!("VF {name} at {address} has appeared"));
        let waited = self.until_back_by(&wire, appeared)?;
        self.say(&format!("packets go by the VF, {} ms after it appeared", waited.as_millis()));
        // The host does so, too.
        self.stream.send_by(Some(&wire));
        self.watch();
        Ok(waited)
    }

    fn vf_goes(&mut self, name: &str, address: &str) -> Result<(), String> {
        // What was sent before has come back then, so that a loss belongs to this phase.
        self.begin(&format!("VF {name} at {address} goes"));
        self.count_dropped();
        self.stage.vf_goes(name, address);
        let gone = Instant::now();
        self.stream.send_by(None);
        let waited = self.until_back_by(FALLBACK, gone)?;
        self.say(&format!("packets go by the fallback, {} ms after it went", waited.as_millis()));
        self.watch();
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        // Until testpmd is up packets are lost, and not counted.
        self.until_back_by(FALLBACK, Instant::now())?;
        self.start = Instant::now();
        self.begin("port net_failsafe_vsc0 is up on the fallback");
        self.watch();
        let first = self.vf_comes("vf0", "0000:01:00.0")?;
        self.vf_goes("vf0", "0000:01:00.0")?;
        let second = self.vf_comes("vf1", "0000:02:00.0")?;
        self.finish(first, second)
    }

    fn finish(&mut self, first: Duration, second: Duration) -> Result<(), String> {
        self.stream.end().map_err(|_| "the stream ended early")?;
        self.settle(self.stream.sent());
        let packets = self.stream.frames();
        println!("\n{:46}{:>6}{:>13}{:>7}{:>9}{:>6}", "", "sent", "by fallback", "by VF", "dropped", "lost");
        let mut verdict = Ok(());
        let ends = self.phases.iter().skip(1).map(|next| next.first).chain([self.stream.sent()]);
        let mut all_dropped = 0;
        for (Phase { title, first, dropped }, end) in self.phases.iter().zip(ends) {
            let tally = Tally::of(&packets[*first as usize..end as usize]);
            let Tally { sent, by_fallback, by_vf } = tally;
            let lost = tally.missing().saturating_sub(*dropped);
            println!("{title:46}{sent:6}{by_fallback:13}{by_vf:7}{dropped:9}{lost:6}");
            all_dropped += dropped;
            // What is on its way by a VF that vanishes is lost; nothing else is.
            if lost > 0 && !title.ends_with("goes") {
                verdict = Err(format!("packets were lost: {title}"));
            }
        }
        if all_dropped > 0 {
            println!(
                "\ndropped by the kernel, as this machine was too busy to empty a packet socket in time: {all_dropped}"
            );
        }
        let (first, second) = (first.as_millis(), second.as_millis());
        println!("\nattach latency: {first} ms, at the other address {second} ms");
        if let Some(mut stdin) = self.testpmd.stdin.take() {
            stdin.write_all(b"\n").map_err(|error| format!("dpdk-testpmd: {error}"))?;
        }
        let status = self.testpmd.wait().map_err(|error| format!("dpdk-testpmd: {error}"))?;
        if status.success() { verdict } else { Err(format!("dpdk-testpmd ended: {status}")) }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.testpmd.kill();
        let _ = self.testpmd.wait();
    }
}

fn main() -> ExitCode {
    match Demo::new().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n--- dpdk-testpmd\n{}", std::fs::read_to_string(LOG).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}
