// SPDX-License-Identifier: BSD-3-Clause
//! Every call that the plugin makes fails: each function's n-th, once or for as long as the failure lasts, for all n, in
//! each phase of a port's life. `make faults` plays all of it, and `docs/reliability.md` says what came of that; without it,
//! each call fails once as a VF comes and goes.
//!
//! A case is one failure in one phase. Many are played in one application, one after another: each begins and ends in the
//! same state. After each the application lives, has told of it in ten lines at most, of which one names the cause when
//! something was refused or came late, has its ports, descriptors and alarms as before, and within two seconds after the
//! failure is over, port and VF are right.
//!
//! `FAULTS_PHASE` and `FAULTS_CALL` choose phases and calls by parts of their names, with commas between, `FAULTS_SEED` the
//! order.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[path = "failing/list.rs"]
mod list;
mod stage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use list::{CALLS, Failure, LEFT_OUT, Manner, SAFE};
use stage::{App, MAC, Random, Stage, Wire, panic_text, parse_mac, run, wait_within};

const INSTANCE: &str = "net_vdev_netvsc0";
const SECOND: &str = "net_vdev_netvsc1";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";
const SECOND_MAC: &str = "00:15:5d:00:00:02";

/// What is right has to be so within this time after a failure is over, beside what it takes without one on a machine that
/// is busy with other things.
const RIGHT: Duration = Duration::from_secs(2);

/// What comes later than this, or is refused, has its cause in the log.
const PROMPT: Duration = Duration::from_millis(800);

/// How long a failure lasts that is not over at once.
const LASTS: Duration = Duration::from_millis(300);

/// No kernel interrupts a call for ever, nor says for ever that messages were lost, and whoever tries again need not stop:
/// so often in a row.
const INTERRUPTED: u64 = 100;

const LINES_MAX: usize = 10;

/// Applications that play at a time: most of what a case takes is waiting.
const PLAYERS: usize = 4;

/// What happens while a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Start,
    Probe,
    SecondProbe,
    VfComes,
    VfGoes,
    VfMoves,
    NetVscGoes,
    NetVscComes,
    Idle,
    Removal,
    Cleanup,
}

const PHASES: [(Phase, &str); 11] = [
    (Phase::Start, "start"),
    (Phase::Probe, "probe"),
    (Phase::SecondProbe, "second probe"),
    (Phase::VfComes, "VF comes"),
    (Phase::VfGoes, "VF goes"),
    (Phase::VfMoves, "VF comes back elsewhere"),
    (Phase::NetVscGoes, "NetVSC goes"),
    (Phase::NetVscComes, "NetVSC comes back"),
    (Phase::Idle, "idle"),
    (Phase::Removal, "removal"),
    (Phase::Cleanup, "cleanup"),
];

impl Phase {
    fn name(self) -> &'static str {
        PHASES.iter().find(|(phase, _)| *phase == self).unwrap().1
    }
}

/// Cases that differ in which call of a function fails.
#[derive(Debug, Clone, Copy)]
struct Series {
    phase: Phase,
    /// Place in [`CALLS`].
    call: usize,
    failure: Failure,
    lasts: bool,
}

impl Series {
    fn name(&self) -> String {
        let Failure { manner, errno, error, .. } = self.failure;
        let how = match manner {
            Manner::Instead if errno == 0 && error == 0 => "returns nothing".to_owned(),
            Manner::Instead if errno != 0 => format!("fails with {}", text_of(errno)),
            Manner::Instead => format!("fails with {}", text_of(error)),
            Manner::After => format!("fails with {} and is done", text_of(error)),
            Manner::Short => "comes back short".to_owned(),
        };
        let lasts = if self.lasts { "from there on" } else { "once" };
        format!("{}: {} {how}, {lasts}", self.phase.name(), CALLS[self.call].0)
    }
}

fn text_of(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os").next().unwrap().to_owned()
}

/// The orders to `failing/calls.c`, and its counts: words of 64 bits, as they are there.
struct Control(File);

impl Control {
    const ARMED: usize = 0;
    const FIRED: usize = 6;
    const PLACE: usize = 7;
    const HASTEN: usize = 8;
    const PENDING: usize = 9;
    const COUNTS: usize = 10;

    fn new() -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open("/run/control").unwrap();
        file.set_len(4096).unwrap();
        Self(file)
    }

    fn get(&self, word: usize) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, word as u64 * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, word: usize, value: u64) {
        self.0.write_all_at(&value.to_ne_bytes(), word as u64 * 8).unwrap();
    }

    fn arm(&self, series: &Series, n: u64) {
        for call in 0..CALLS.len() {
            self.set(Self::COUNTS + call, 0);
        }
        let Failure { manner, returned, errno, error } = series.failure;
        let last = match (series.lasts, error) {
            (false, _) => n,
            (true, libc::EINTR) => n + INTERRUPTED - 1,
            (true, libc::ENOBUFS) if CALLS[series.call].0 == "recvfrom" => n + INTERRUPTED - 1,
            (true, _) => u64::MAX,
        };
        let words = [n, last, returned as u64, errno as u64, manner as u64, 0, 0];
        for (place, word) in words.into_iter().enumerate() {
            self.set(Self::ARMED + 1 + place, word);
        }
        self.set(Self::ARMED, series.call as u64 + 1);
    }

    fn disarm(&self) {
        self.set(Self::ARMED, 0);
    }

    fn fired(&self) -> bool {
        self.get(Self::FIRED) > 0
    }

    fn pending(&self) -> u64 {
        self.get(Self::PENDING)
    }

    /// Has all alarms fire at once.
    fn hasten(&self) {
        self.set(Self::HASTEN, 1);
        until(RIGHT, || self.get(Self::HASTEN) == 0);
    }
}

fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_within(patience, || condition().then_some(())).is_some()
}

/// Tells whether a frame comes back that is sent into a wire.
fn answers(name: &str, mac: &str) -> bool {
    let Some(wire) = Wire::try_at(name) else { return false };
    if !wire.try_send(parse_mac(mac), 1) {
        return false;
    }
    until(Duration::from_millis(15), || wire.receive().is_some())
}

/// What an application holds.
#[derive(Debug, Clone, PartialEq)]
struct Traces {
    descriptors: usize,
    ports: Vec<String>,
    alarms: u64,
}

/// An application, and the machine that it is on.
struct Scene {
    stage: Stage,
    control: Control,
    app: App,
    /// The failsafe port on eth1.
    port: String,
    /// Where its log was as the case began.
    begin: usize,
    /// What was refused, and what for.
    refused: Option<String>,
    /// How long the phase took without a failure.
    usual: Duration,
    /// That the kernel cannot be listened to, which is told once a minute at most, and when.
    deaf: Vec<(Instant, String)>,
}

impl Scene {
    fn command(preload: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = App::command_with_plugin(&["--log-level=pmd.net.vdev_netvsc:notice"], arguments);
        command.env("LD_PRELOAD", preload);
        command
    }

    /// `arm` is called before the application starts.
    fn new(preload: &str, arguments: &[&str], vf: bool, arm: impl FnOnce(&Control)) -> Self {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        stage.netvsc_appears("eth2", SECOND_MAC);
        if vf {
            Self::plug(&mut stage, "vf0", ONE);
        }
        let control = Control::new();
        arm(&control);
        let blocked = ["-b", ONE, "-b", TWO];
        let app = App::up(Self::command(preload, &[&blocked, arguments].concat()));
        Self {
            stage,
            control,
            app,
            port: String::new(),
            begin: 0,
            refused: None,
            usual: Duration::ZERO,
            deaf: Vec::new(),
        }
    }

    /// Has a VF appear whose PMD needs an ibverbs device, as mlx5 does.
    fn plug(stage: &mut Stage, name: &str, address: &str) {
        stage.function_appears(address, "mlx5_core");
        stage.verbs_appear(address);
        stage.vf_appears(name, address, MAC);
    }

    fn vf_appears(&mut self, name: &str, address: &str) {
        Self::plug(&mut self.stage, name, address);
    }

    fn attach(&mut self, instance: &str, link: &str) -> bool {
        let reply =
            self.app.send(&format!("attach {instance} iface={link},fallback=af_packet,queues=2,hotplug_poll=10"));
        self.heed(&reply)
    }

    fn detach(&mut self, instance: &str) -> bool {
        let reply = self.app.send(&format!("detach {instance}"));
        self.heed(&reply)
    }

    fn heed(&mut self, reply: &str) -> bool {
        if !reply.starts_with("ok") {
            self.refused.get_or_insert_with(|| reply.to_owned());
        }
        reply.starts_with("ok")
    }

    /// Finds the port on a link.
    fn find(&mut self, link: &str) -> Option<String> {
        let ports = self.app.ports();
        ports
            .into_iter()
            .filter(|name| name.starts_with("net_failsafe_"))
            .find(|name| self.app.devargs(name).is_some_and(|devargs| devargs.ends_with(&format!("={link})"))))
    }

    /// Starts the port on eth1, once it is there.
    fn start(&mut self) -> bool {
        let Some(port) = self.find("eth1") else { return false };
        if !self.app.send(&format!("start {port}")).starts_with("ok") {
            return false;
        }
        self.port = port;
        true
    }

    /// Tells whether the VF is the port's, and nothing else is.
    fn has_vf(&mut self, name: &str, address: &str) -> bool {
        self.app.has_port(address) && answers(&format!("{name}p"), MAC)
    }

    fn on_fallback(&mut self) -> bool {
        !self.app.has_port(ONE) && !self.app.has_port(TWO) && answers("eth1p", MAC)
    }

    fn traces(&mut self) -> Traces {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.app.pid())).unwrap().count();
        Traces { descriptors, ports: self.app.ports(), alarms: self.control.pending() }
    }

    /// Lines that it has logged since the case began.
    fn lines(&self) -> Vec<String> {
        self.app.log_from(self.begin).lines().map(str::to_owned).collect()
    }

    /// Where all of a phase's cases begin and end.
    fn home(&mut self, phase: Phase) -> Result<Traces, String> {
        if !matches!(phase, Phase::Probe | Phase::Removal) {
            assert!(self.attach(INSTANCE, "eth1"));
            assert!(until(RIGHT, || self.start()));
        }
        // What is made once, and stays.
        self.warm_up(phase)?;
        self.settle(phase)
    }

    fn warm_up(&mut self, phase: Phase) -> Result<(), String> {
        for _ in 0..2 {
            self.prepare(phase)?;
            let begin = Instant::now();
            self.play(phase);
            let right = until(5 * RIGHT, || self.is_right(phase));
            if !right || self.refused.is_some() {
                return Err(format!("{}, without a failure: not right, {:?}", phase.name(), self.refused));
            }
            self.usual = self.usual.max(begin.elapsed());
            self.undo(phase)?;
        }
        Ok(())
    }

    /// Waits until nothing moves.
    fn settle(&mut self, phase: Phase) -> Result<Traces, String> {
        let alarms = u64::from(!matches!(phase, Phase::Probe | Phase::Removal));
        let mut last = None;
        let mut same = 0;
        let settled = until(2 * RIGHT, || {
            if self.control.pending() != alarms {
                self.control.hasten();
            }
            let traces = self.traces();
            same = if last.as_ref() == Some(&traces) { same + 1 } else { 0 };
            last = Some(traces);
            same >= 3 && self.control.pending() == alarms
        });
        if settled { Ok(last.unwrap()) } else { Err(format!("does not settle: {last:?}")) }
    }

    /// Has what a phase begins with.
    fn prepare(&mut self, phase: Phase) -> Result<(), String> {
        let fine = match phase {
            Phase::Probe => {
                self.vf_appears("vf0", ONE);
                true
            }
            Phase::Removal => {
                self.vf_appears("vf0", ONE);
                self.attach(INSTANCE, "eth1")
                    && until(RIGHT, || self.start())
                    && until(RIGHT, || self.has_vf("vf0", ONE))
            }
            Phase::VfGoes | Phase::VfMoves | Phase::Idle => {
                self.vf_appears("vf0", ONE);
                until(2 * RIGHT, || self.has_vf("vf0", ONE))
            }
            Phase::NetVscComes => {
                self.stage.link_goes("eth1");
                self.close_port()
            }
            _ => true,
        };
        if fine { Ok(()) } else { Err(format!("cannot be prepared: {:?}", self.refused)) }
    }

    fn close_port(&mut self) -> bool {
        let port = std::mem::take(&mut self.port);
        self.app.send(&format!("stop {port}"));
        until(RIGHT, || self.app.send(&format!("close {port}")).starts_with("ok") || !self.app.has_port(&port))
    }

    fn play(&mut self, phase: Phase) {
        match phase {
            Phase::Probe => {
                self.attach(INSTANCE, "eth1");
            }
            Phase::SecondProbe => {
                self.attach(SECOND, "eth2");
            }
            Phase::VfComes => {
                self.vf_appears("vf0", ONE);
            }
            Phase::VfGoes => self.stage.vf_goes("vf0", ONE),
            Phase::VfMoves => {
                self.stage.vf_goes("vf0", ONE);
                self.vf_appears("vf1", TWO);
            }
            Phase::NetVscGoes => self.stage.link_goes("eth1"),
            Phase::NetVscComes => {
                self.stage.netvsc_appears("eth1", MAC);
            }
            Phase::Idle => {
                for _ in 0..3 {
                    self.control.hasten();
                    thread::sleep(Duration::from_millis(10));
                }
            }
            Phase::Removal => {
                self.detach(INSTANCE);
            }
            Phase::Start | Phase::Cleanup => unreachable!(),
        }
    }

    /// Tells whether port and VF are as they have to be after a phase. What was refused is asked for once more when the
    /// failure is over.
    fn is_right(&mut self, phase: Phase) -> bool {
        match phase {
            Phase::Probe => (self.port_of_eth1() || self.start()) && self.has_vf("vf0", ONE),
            Phase::SecondProbe => {
                let Some(port) = self.find("eth2") else { return false };
                self.app.send(&format!("start {port}"));
                answers("eth2p", SECOND_MAC) && answers("eth1p", MAC)
            }
            Phase::VfComes | Phase::Idle => self.has_vf("vf0", ONE),
            Phase::VfGoes => self.on_fallback(),
            Phase::VfMoves => !self.app.has_port(ONE) && self.has_vf("vf1", TWO),
            Phase::NetVscGoes => self.lines().iter().any(|line| line.contains("the interface is gone")),
            Phase::NetVscComes => (self.port_of_eth1() || self.start()) && answers("eth1p", MAC),
            Phase::Removal => self.app.ports().is_empty(),
            Phase::Start | Phase::Cleanup => unreachable!(),
        }
    }

    /// Tells whether the port on eth1 is the one that was started.
    fn port_of_eth1(&mut self) -> bool {
        self.find("eth1").is_some_and(|port| port == self.port)
    }

    /// Brings the phase's beginning back.
    fn undo(&mut self, phase: Phase) -> Result<(), String> {
        let fine = match phase {
            Phase::Probe => {
                let detached = self.detach(INSTANCE);
                self.port.clear();
                self.stage.vf_goes("vf0", ONE);
                detached
            }
            Phase::Removal => {
                self.port.clear();
                self.stage.vf_goes("vf0", ONE);
                true
            }
            Phase::SecondProbe => self.detach(SECOND),
            Phase::VfComes | Phase::Idle => {
                self.stage.vf_goes("vf0", ONE);
                until(2 * RIGHT, || self.on_fallback())
            }
            Phase::VfGoes => true,
            Phase::VfMoves => {
                self.stage.vf_goes("vf1", TWO);
                until(2 * RIGHT, || self.on_fallback())
            }
            Phase::NetVscGoes => {
                let closed = self.close_port();
                self.stage.netvsc_appears("eth1", MAC);
                self.port.clear();
                closed && until(2 * RIGHT, || (self.port_of_eth1() || self.start()) && answers("eth1p", MAC))
            }
            Phase::NetVscComes => true,
            Phase::Start | Phase::Cleanup => unreachable!(),
        };
        if fine { Ok(()) } else { Err(format!("cannot be undone: {:?}", self.refused)) }
    }

    /// Plays a case. Returns whether the call came.
    fn case(&mut self, series: &Series, n: u64, home: &Traces) -> Result<bool, String> {
        let phase = series.phase;
        self.refused = None;
        self.prepare(phase)?;
        self.begin = self.app.log().len();
        self.control.arm(series, n);
        let begin = Instant::now();
        self.play(phase);
        let patience = if series.lasts { LASTS } else { PROMPT + 3 * self.usual };
        let mut right = until(patience, || self.is_right(phase));
        // What lasts shows only with time.
        if series.lasts && self.control.fired() {
            thread::sleep(LASTS.saturating_sub(begin.elapsed()));
            right = right && self.is_right(phase);
        }
        let fired = self.control.fired();
        self.control.disarm();
        // What has failed for long is tried less often: after as long again at most.
        let lasted = if series.lasts { begin.elapsed() } else { Duration::ZERO };
        right = right
            || (self.refused.is_none()
                && until((PROMPT + 3 * self.usual).saturating_sub(begin.elapsed()), || self.is_right(phase)));
        if !fired && !right && !until(RIGHT, || self.is_right(phase)) {
            return Err(format!("not right, and the call did not come: {:?}", self.refused));
        }
        self.judge(series, right || !fired, lasted)?;
        self.undo(phase)?;
        self.expect_traces(phase, home)?;
        Ok(fired)
    }

    /// The failure is over.
    fn judge(&mut self, series: &Series, prompt: bool, lasted: Duration) -> Result<(), String> {
        let phase = series.phase;
        let refused = self.refused.take();
        if let (Some(_), false) = (&refused, prompt) {
            // Whoever asked for it asks once more.
            self.play(phase);
        }
        if !until(RIGHT + 3 * self.usual + lasted, || self.is_right(phase)) {
            return Err(format!(
                "not right {RIGHT:?} after the failure is over; refused: {refused:?}, {:?}",
                self.refused
            ));
        }
        let lines = self.lines();
        let told: Vec<&String> = lines.iter().filter(|line| line.starts_with("net_vdev_netvsc: ")).collect();
        if told.len() > LINES_MAX || lines.len() > 3 * LINES_MAX {
            return Err(format!("{} lines of the driver, {} of all", told.len(), lines.len()));
        }
        let deaf = told.iter().filter(|line| line.contains("VFs are followed again"));
        self.deaf.extend(deaf.map(|line| (Instant::now(), (*line).clone())));
        self.deaf.retain(|(then, _)| then.elapsed() < Duration::from_secs(60));
        let told: Vec<&String> = told.into_iter().chain(self.deaf.iter().map(|(_, line)| line)).collect();
        if (refused.is_some() || !prompt) && !is_named(&series.failure, &told) {
            return Err(format!("no line names the cause of what was refused or came late: {refused:?}"));
        }
        Ok(())
    }

    fn expect_traces(&mut self, phase: Phase, home: &Traces) -> Result<(), String> {
        let mut last = None;
        let same = until(RIGHT, || {
            if self.control.pending() != home.alarms {
                self.control.hasten();
            }
            let traces = self.traces();
            // A port that is made anew may have another name.
            let count = |traces: &Traces| (traces.descriptors, traces.ports.len(), traces.alarms);
            let is_anew = matches!(phase, Phase::NetVscGoes | Phase::NetVscComes);
            let same = traces == *home || (is_anew && count(&traces) == count(home));
            last = Some(traces);
            same
        });
        if same { Ok(()) } else { Err(format!("left over: {last:?} and not {home:?}")) }
    }
}

/// Tells whether the driver says what failed.
fn is_named(failure: &Failure, told: &[&String]) -> bool {
    let mut texts = vec!["out of memory".to_owned()];
    if failure.error != 0 {
        texts.push(text_of(failure.error));
    }
    told.iter().any(|line| texts.iter().any(|text| line.to_lowercase().contains(&text.to_lowercase())))
}

/// How a case ended.
enum End {
    /// The call did not come.
    NotCalled,
    Good,
    Bad(String),
}

/// A player's application, as long as its cases end well.
struct Player {
    preload: String,
    scene: Option<(Phase, Scene, Traces)>,
}

impl Player {
    fn play(&mut self, series: &Series, n: u64) -> End {
        match series.phase {
            Phase::Start => start(&self.preload, series, n),
            Phase::Cleanup => cleanup(&self.preload, series, n),
            _ => self.play_in_scene(series, n),
        }
    }

    fn play_in_scene(&mut self, series: &Series, n: u64) -> End {
        if self.scene.as_ref().is_none_or(|(phase, ..)| *phase != series.phase) {
            self.scene = None;
            let mut scene = Scene::new(&self.preload, &[], false, |_| {});
            let home = scene.home(series.phase).unwrap();
            self.scene = Some((series.phase, scene, home));
        }
        let (_, mut scene, home) = self.scene.take().unwrap();
        let played = catch_unwind(AssertUnwindSafe(|| scene.case(series, n, &home)));
        let why = match played {
            Ok(Ok(called)) => {
                self.scene = Some((series.phase, scene, home));
                return if called { End::Good } else { End::NotCalled };
            }
            Ok(Err(why)) => why,
            Err(panic) => panic_text(panic.as_ref()).to_owned(),
        };
        End::Bad(describe(&mut scene, &why))
    }
}

fn describe(scene: &mut Scene, why: &str) -> String {
    let ended = scene.app.has_ended().map(|status| format!(" (ended: {status})")).unwrap_or_default();
    let place = scene.control.get(Control::PLACE);
    let lines: Vec<String> = scene.lines().into_iter().take(30).map(|line| format!("\n        {line}")).collect();
    format!("{why}{ended}, called at {place:#x}{}", lines.concat())
}

/// The application starts with an instance.
fn start(preload: &str, series: &Series, n: u64) -> End {
    let arguments = ["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet,queues=2,hotplug_poll=10"];
    let begin = Instant::now();
    let scene = catch_unwind(|| Scene::new(preload, &arguments, true, |control| control.arm(series, n)));
    let mut scene = match scene {
        Ok(scene) => scene,
        Err(panic) => {
            let log = fs::read_dir("/run").unwrap().flatten().map(|entry| entry.path());
            let log = log.filter(|path| path.extension().is_some_and(|end| end == "log")).max();
            let log = log.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
            return End::Bad(format!("{}\n{log}", panic_text(panic.as_ref())));
        }
    };
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut right = until(if series.lasts { LASTS } else { PROMPT }, || scene.is_right(Phase::Probe));
        let fired = scene.control.fired();
        scene.control.disarm();
        if scene.app.ports().is_empty() {
            scene.refused = Some("at start".to_owned());
        } else {
            right = right || until(2 * PROMPT, || scene.is_right(Phase::Probe));
        }
        scene.judge(&Series { phase: Phase::Probe, ..*series }, right, begin.elapsed())?;
        if !scene.detach(INSTANCE) || !until(RIGHT, || scene.app.ports().is_empty()) {
            return Err(format!("left over: {:?}", scene.app.ports()));
        }
        Ok(fired)
    }));
    match played {
        Ok(Ok(true)) => End::Good,
        Ok(Ok(false)) => End::NotCalled,
        Ok(Err(why)) => End::Bad(describe(&mut scene, &why)),
        Err(panic) => End::Bad(describe(&mut scene, panic_text(panic.as_ref()))),
    }
}

/// The application cleans up EAL, with the port and its VF.
fn cleanup(preload: &str, series: &Series, n: u64) -> End {
    let arguments = ["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet,queues=2,hotplug_poll=10"];
    let mut scene = Scene::new(preload, &arguments, true, |_| {});
    let ready = until(2 * RIGHT, || scene.port_of_eth1() || scene.start());
    assert!(ready && until(2 * RIGHT, || scene.has_vf("vf0", ONE)), "a VF as the application starts");
    scene.begin = scene.app.log().len();
    scene.control.arm(series, n);
    scene.app.tell("cleanup");
    let mut status = None;
    until(5 * RIGHT, || {
        status = scene.app.has_ended();
        status.is_some()
    });
    let lines = scene.lines();
    let told = lines.iter().filter(|line| line.starts_with("net_vdev_netvsc: ")).count();
    match status {
        Some(status) if !status.success() => End::Bad(describe(&mut scene, &format!("cleanup: {status}"))),
        None => End::Bad(describe(&mut scene, "cleanup does not end")),
        _ if told > LINES_MAX => End::Bad(describe(&mut scene, &format!("{told} lines"))),
        _ if scene.control.fired() => End::Good,
        _ => End::NotCalled,
    }
}

/// A random order.
fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut random = Random(seed);
    for last in (1..list.len()).rev() {
        list.swap(last, (random.next() % (last as u64 + 1)) as usize);
    }
}

/// What came of the cases, by phase and call.
#[derive(Default)]
struct Results {
    cases: BTreeMap<(Phase, &'static str, bool), usize>,
    bad: BTreeMap<(Phase, &'static str, bool), usize>,
    all: usize,
    told: Vec<String>,
    called: BTreeSet<&'static str>,
}

/// What kind of call it is.
fn kind(call: &str) -> &'static str {
    match call {
        "malloc" | "calloc" | "realloc" | "posix_memalign" => "allocations",
        call if call.starts_with("rte_") => "DPDK's functions",
        _ => "system calls",
    }
}

const KINDS: [&str; 3] = ["system calls", "allocations", "DPDK's functions"];

impl Results {
    fn add(&mut self, series: &Series, n: u64, end: &End) {
        let key = (series.phase, kind(CALLS[series.call].0), series.lasts);
        if !matches!(end, End::NotCalled) {
            *self.cases.entry(key).or_default() += 1;
            self.all += 1;
            self.called.insert(CALLS[series.call].0);
            if self.all % 200 == 0 {
                println!("{} cases, {} bad", self.all, self.told.len());
            }
        }
        if let End::Bad(why) = end {
            *self.bad.entry(key).or_default() += 1;
            let text = format!("BAD {}, number {n}: {why}", series.name());
            println!("{text}");
            self.told.push(text);
        }
    }

    fn print(&self, took: Duration) {
        let count = |of: &BTreeMap<(Phase, &'static str, bool), usize>, phase, kind, lasts| {
            of.get(&(phase, kind, lasts)).copied().unwrap_or_default()
        };
        println!("\n{:<26}{}", "", KINDS.map(|kind| format!("{kind:>24}")).concat());
        println!("{:<26}{}", "cases (bad)", format!("{:>12}{:>12}", "once", "lasting").repeat(3));
        for (phase, name) in PHASES {
            let row = KINDS.map(|kind| {
                [false, true]
                    .map(|lasts| {
                        let (cases, bad) =
                            (count(&self.cases, phase, kind, lasts), count(&self.bad, phase, kind, lasts));
                        format!("{:>12}", format!("{cases} ({bad})"))
                    })
                    .concat()
            });
            println!("{name:<26}{}", row.concat());
        }
        println!("{} cases, {} bad, in {} s", self.all, self.told.len(), took.as_secs());
    }
}

/// Compiles the library that has calls fail.
fn preload() -> String {
    let calls: String = CALLS.map(|(name, _)| format!(" CALL({name})")).concat();
    let output = format!("{}/calls-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/failing/calls.c");
    let define = format!("-DCALLS={calls}");
    let mut arguments = vec!["-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", &define, "-shared", "-fPIC"];
    arguments.extend(["-o", &output, source, "-Wl,--no-as-needed", "-lrte_bus_vdev", "-lrte_ethdev", "-lpthread"]);
    run("cc", &arguments);
    output
}

/// Plays all cases of these series, and returns what came of them.
fn play(series: Vec<Series>, all: bool) -> Results {
    let preload = preload();
    let (queue, results) = (Mutex::new(VecDeque::from(series)), Mutex::new(Results::default()));
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                let mut player = Player { preload: preload.clone(), scene: None };
                loop {
                    let Some(series) = queue.lock().unwrap().pop_front() else { return };
                    let (mut n, mut missed) = (1, 0);
                    // How many there are differs from time to time.
                    while missed < if all { 2 } else { 1 } {
                        let end = player.play(&series, n);
                        missed = if matches!(end, End::NotCalled) { missed + 1 } else { 0 };
                        results.lock().unwrap().add(&series, n, &end);
                        n += 1;
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    results.print(begin.elapsed());
    let _ = fs::remove_file(preload);
    results
}

fn chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |parts| parts.split(',').any(|part| name.contains(part)))
}

/// All series of these phases; of each call the first failure only, and that once, unless `all` are wanted.
fn series(phases: impl Fn(Phase) -> bool, all: bool) -> Vec<Series> {
    let mut list = Vec::new();
    let seed = std::env::var("FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for (phase, _) in PHASES.into_iter().filter(|&(phase, name)| phases(phase) && chosen("FAULTS_PHASE", name)) {
        let mut of_phase = Vec::new();
        for (call, (_, failures)) in CALLS.iter().enumerate().filter(|(_, (call, _))| chosen("FAULTS_CALL", call)) {
            for &failure in failures.iter().take(if all { usize::MAX } else { 1 }) {
                for lasts in [false, true].into_iter().take(if all { 2 } else { 1 }) {
                    of_phase.push(Series { phase, call, failure, lasts });
                }
            }
        }
        of_phase.retain(|series| !LEFT_OUT.iter().any(|(name, _)| *name == series.name()));
        shuffle(&mut of_phase, seed);
        list.extend(of_phase);
    }
    list
}

#[test]
fn every_call_is_known_to_fail_or_not_to() {
    let plugin = format!("{}/librte_net_vdev_netvsc.so", stage::build());
    let symbols = run("nm", &["-D", "--undefined-only", &plugin]);
    let imported: BTreeSet<&str> =
        symbols.lines().filter_map(|line| line.split_whitespace().last()?.split('@').next()).collect();
    let known: BTreeSet<&str> = CALLS.iter().map(|(name, _)| *name).chain(SAFE.iter().map(|(name, _)| *name)).collect();
    let unknown: Vec<_> = imported.difference(&known).collect();
    assert!(unknown.is_empty(), "neither made to fail nor said to be unable to (tests/failing/list.rs): {unknown:?}");
    // One Rust calls clock_nanosleep where another calls nanosleep, and DPDK has named one function anew in 23.03.
    let alternative = |name: &str| name.ends_with("nanosleep") || name.starts_with("rte_tel_data_add_dict_u");
    let gone: Vec<_> = known.difference(&imported).filter(|name| !alternative(name)).collect();
    assert!(gone.is_empty(), "not called any more: {gone:?}");
}

#[test]
fn each_call_fails_once_as_a_vf_comes_and_goes() {
    let results = play(series(|phase| matches!(phase, Phase::VfComes | Phase::VfGoes), false), false);
    assert!(results.told.is_empty(), "{}", results.told.join("\n"));
    assert!(results.all >= 100, "{} cases", results.all);
}

#[test]
#[ignore = "make faults"]
fn each_call_fails_in_each_phase() {
    let results = play(series(|_| true, true), true);
    let uncalled: Vec<_> = CALLS.iter().map(|(name, _)| *name).filter(|name| !results.called.contains(name)).collect();
    println!("called in no phase: {}", uncalled.join(", "));
    assert!(results.told.is_empty(), "{} bad", results.told.len());
}
