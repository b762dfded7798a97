// SPDX-License-Identifier: BSD-3-Clause
//! A VF comes, goes and comes back at another PCI address under a stock `dpdk-testpmd`, with a steady stream of packets.
//!
//! `make demo` runs it in namespaces of its own. Exit status 0 says that all of it happened.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "a demonstration ends so")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use stage::{BUILD, MAC, Stage, Wire, parse_mac};

/// Pause between two packets of the stream.
const GAP: Duration = Duration::from_millis(1);

/// How long each phase lasts once packets flow as it wants.
const PHASE: Duration = Duration::from_secs(3);

/// How long a change may take before the demonstration fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a packet may be under way.
const UNDER_WAY: Duration = Duration::from_millis(200);

const LOG: &str = "/run/testpmd.log";

/// Packets sent in one phase, and by which way they came back.
#[derive(Default, Clone)]
struct Tally {
    title: String,
    sent: u32,
    by_fallback: u32,
    by_vf: u32,
}

/// The stream as its thread and the demonstration see it.
#[derive(Default)]
struct Stream {
    /// The far end of the VF's wire, while there is a VF.
    vf: Option<Wire>,
    /// Whether the host sends by the VF.
    host_uses_vf: bool,
    /// The phase in which each packet was sent that has not come back.
    under_way: BTreeMap<u32, usize>,
    phases: Vec<Tally>,
    /// When a packet came back last, by the fallback and by the VF.
    last_back: [Option<Instant>; 2],
    over: bool,
}

impl Stream {
    fn send(&mut self, fallback: &Wire, number: u32) {
        let Some(phase) = self.phases.len().checked_sub(1) else { return };
        let mac = parse_mac(MAC);
        let by_vf = self.host_uses_vf && self.vf.as_ref().is_some_and(|vf| vf.try_send(mac, number));
        if by_vf || fallback.try_send(mac, number) {
            self.under_way.insert(number, phase);
            self.phases[phase].sent += 1;
        }
    }

    fn collect(&mut self, fallback: &Wire) {
        while let Some(number) = fallback.receive() {
            self.came_back(number, false);
        }
        while let Some(number) = self.vf.as_ref().and_then(Wire::receive) {
            self.came_back(number, true);
        }
    }

    fn came_back(&mut self, number: u32, by_vf: bool) {
        self.last_back[usize::from(by_vf)] = Some(Instant::now());
        let Some(phase) = self.under_way.remove(&number) else { return };
        let tally = &mut self.phases[phase];
        if by_vf { tally.by_vf += 1 } else { tally.by_fallback += 1 }
    }
}

struct Demo {
    stage: Stage,
    testpmd: Child,
    start: Instant,
    stream: Arc<Mutex<Stream>>,
    thread: Option<JoinHandle<()>>,
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
        let stream = Arc::<Mutex<Stream>>::default();
        let (shared, fallback) = (Arc::clone(&stream), Wire::at("eth1p"));
        let thread = spawn(move || {
            for number in 0.. {
                let mut stream = shared.lock().unwrap();
                if stream.over {
                    return;
                }
                stream.send(&fallback, number);
                stream.collect(&fallback);
                drop(stream);
                sleep(GAP);
            }
        });
        Self { stage, testpmd, start: Instant::now(), stream, thread: Some(thread) }
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap()
    }

    fn say(&self, text: &str) {
        println!("{:9.3} s  {text}", self.start.elapsed().as_secs_f64());
    }

    fn begin(&self, title: &str) {
        self.stream().phases.push(Tally { title: title.to_owned(), ..Tally::default() });
        self.say(title);
    }

    /// Waits until a packet comes back by the VF, or by the fallback, that did so after `since`.
    fn until_back_by(&mut self, vf: bool, since: Instant) -> Result<Duration, String> {
        loop {
            if let Some(last) = self.stream().last_back[usize::from(vf)].filter(|&last| last > since) {
                return Ok(last - since);
            }
            if since.elapsed() > PATIENCE {
                let path = if vf { "VF" } else { "fallback" };
                return Err(format!("no packet came back by the {path} within {PATIENCE:?}"));
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
            if let Some(Tally { sent, by_fallback, by_vf, .. }) = self.stream().phases.last() {
                self.say(&format!("  {sent:5} sent  {by_fallback:5} back by the fallback  {by_vf:5} back by the VF"));
            }
        }
    }

    fn vf_comes(&mut self, name: &str, address: &str) -> Result<Duration, String> {
        self.stage.vf_appears(name, address, MAC);
        let appeared = Instant::now();
        self.stream().vf = Some(Wire::at(&format!("{name}p")));
        self.begin(&format!("VF {name} at {address} has appeared"));
        let waited = self.until_back_by(true, appeared)?;
        self.say(&format!("packets go by the VF, {} ms after it appeared", waited.as_millis()));
        self.stream().host_uses_vf = true;
        self.watch();
        Ok(waited)
    }

    fn vf_goes(&mut self, name: &str, address: &str) -> Result<(), String> {
        self.begin(&format!("VF {name} at {address} goes"));
        // What was sent before has come back by now, so that a loss belongs to this phase.
        sleep(UNDER_WAY);
        self.stage.vf_goes(name, address);
        let gone = Instant::now();
        {
            let mut stream = self.stream();
            stream.host_uses_vf = false;
            stream.vf = None;
        }
        let waited = self.until_back_by(false, gone)?;
        self.say(&format!("packets go by the fallback, {} ms after it went", waited.as_millis()));
        self.watch();
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        // Until testpmd is up packets are lost, and not counted.
        let started = Instant::now();
        self.stream().phases.push(Tally::default());
        self.until_back_by(false, started)?;
        {
            let mut stream = self.stream();
            stream.phases.clear();
            stream.under_way.clear();
        }
        self.start = Instant::now();
        self.begin("port net_failsafe_vsc0 is up on the fallback");
        self.watch();
        let first = self.vf_comes("vf0", "0000:01:00.0")?;
        self.vf_goes("vf0", "0000:01:00.0")?;
        let second = self.vf_comes("vf1", "0000:02:00.0")?;
        self.finish(first, second)
    }

    fn finish(&mut self, first: Duration, second: Duration) -> Result<(), String> {
        let fallback = Wire::at("eth1p");
        self.stream().over = true;
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the stream ended early")?;
        }
        sleep(UNDER_WAY);
        let mut stream = self.stream();
        stream.collect(&fallback);
        println!("\n{:48}{:>6}{:>14}{:>8}{:>6}", "", "sent", "by fallback", "by VF", "lost");
        let mut verdict = Ok(());
        for (position, tally) in stream.phases.iter().enumerate() {
            let lost = stream.under_way.values().filter(|&&phase| phase == position).count();
            let Tally { title, sent, by_fallback, by_vf } = tally;
            println!("{title:48}{sent:6}{by_fallback:14}{by_vf:8}{lost:6}");
            // What is on its way by a VF that vanishes is lost; nothing else is.
            if lost > 0 && !title.ends_with("goes") {
                verdict = Err(format!("packets were lost: {title}"));
            }
        }
        drop(stream);
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
