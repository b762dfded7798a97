// SPDX-License-Identifier: BSD-3-Clause
//! How soon after a VF's link appears its address can be read, and a packet is sent by it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::field::{BOTH, Driver, FIRST, Failsafe, Field, Turns, VF, random};
use crate::requests::Requests;
use crate::stage::{self, MAC, Traffic, expect_answer};
use crate::stats::{Row, median, quantile, ratios};
use crate::{Effort, Figure};

/// What a driver's turns have in them: a C driver that looks once a second needs all phases of that second.
const SAMPLES_PER_TURN: usize = 20;
const PERIOD_MS: u64 = 1000;

/// The VF's PCI function is there before its link; EAL would have its PMD take it.
const NOT_BY_EAL: [&str; 2] = ["-b", VF.1];

/// How often failsafe looks by itself: its phase is another one.
const LONGEST_POLL_MS: u64 = 2000;

/// Links that are changed each second, without a concern for the driver.
const CHURN_PER_SECOND: u32 = 1000;

/// A bare listener, in C: the floor.
struct Floor {
    child: Child,
    /// It ends with its input.
    _input: ChildStdin,
}

impl Floor {
    fn start() -> Self {
        let program = stage::compile("examples/bench/floor.c", &["-pthread"]);
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let input = child.stdin.take().unwrap();
        Self { child, _input: input }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a VF appear and go so many times, and returns how long each took to be posted, in milliseconds.
///
/// The time before each is random, and so that each part of a second has its turn, in an order by chance.
fn posts(field: &Field, samples: usize) -> Vec<f64> {
    let begin = Instant::now();
    let part = PERIOD_MS / samples as u64;
    let mut parts: Vec<u64> = (0..samples as u64).collect();
    parts.sort_by_cached_key(|_| random(u64::MAX));
    let sample = |wanted: u64| {
        let at = wanted * part + random(part);
        let phase = begin.elapsed().as_millis() as u64 % PERIOD_MS;
        sleep(Duration::from_millis((at + PERIOD_MS - phase) % PERIOD_MS));
        field.post(VF)
    };
    parts.into_iter().map(sample).collect()
}

pub fn posting(effort: Effort) -> Figure {
    let mut field = Field::new(1, 0);
    field.vf_is_ready(VF);
    let (mut ours, mut c, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        for driver in BOTH {
            let _app = field.app(driver, Failsafe::StandIn, 2000, &NOT_BY_EAL);
            let turn = posts(&field, SAMPLES_PER_TURN);
            if driver == Driver::Ours { ours.push(turn) } else { c.push(turn) }
        }
        let _floor = Floor::start();
        floor.push(posts(&field, SAMPLES_PER_TURN));
    }
    let medians = |turns: &[Vec<f64>]| turns.iter().map(|turn| median(turn)).collect::<Vec<_>>();
    let (mid, mid_c, mid_floor) = (medians(&ours), medians(&c), medians(&floor));
    let (all, all_c, all_floor) = (ours.concat(), c.concat(), floor.concat());
    let p99 = |samples: &[f64]| [quantile(samples, 0.99)];
    let to_floor = ratios(&mid_floor, &mid, 0.0);
    let to_c = ratios(&mid, &mid_c, 0.0);
    let rows = vec![
        Row::new("posting latency, median", "ms")
            .ours(&mid)
            .c(&mid_c)
            .base("floor", &mid_floor)
            .ratio(&mid, &mid_c, 0.0)
            .goal("median ≤ 0.3 ms, ratio ≥ 1,500", median(&all) <= 0.3 && median(&to_c) >= 1500.0)
            .done(),
        Row::new("posting latency, 99th percentile of all", "ms")
            .ours(&p99(&all))
            .c(&p99(&all_c))
            .base("floor", &p99(&all_floor))
            .goal("≤ 1 ms", p99(&all)[0] <= 1.0)
            .done(),
        Row::new("posting latency to that of the floor", "×")
            .ours(&to_floor)
            .goal("≤ 3", median(&to_floor) <= 3.0)
            .done(),
    ];
    let text = format!(
        "From the request that gives the VF's MAC to a link, which is up and had it before, to a reader of the pipe that failsafe would read: a \
         stand-in for failsafe stamps each line as it comes. This driver attaches the VF before, which is in its time, and the \
         C driver leaves that to failsafe. {} appearances a driver, at phases spread over a second. The floor is a bare \
         C program that listens to the same rtnetlink group and writes a line into a pipe.",
        effort.pairs * SAMPLES_PER_TURN
    );
    Figure { text, rows, series: vec![("posting", json!({ "ours": all, "c": all_c, "floor": all_floor }))] }
}

/// Has the VF appear under a fresh application that sends back what comes by the fallback, and returns how long it took
/// until something was sent by the VF, in milliseconds.
///
/// A fresh one, as a port of stock failsafe does not survive a VF's removal with the C driver.
fn attached(field: &mut Field, driver: Driver, poll_ms: u32) -> f64 {
    let mut app = field.app(driver, Failsafe::Real, poll_ms, &[]);
    app.ok("start net_failsafe_vsc0");
    let far = format!("{FIRST}p");
    expect_answer(&far, MAC);
    let traffic = Traffic::into(&far, MAC);
    sleep(Duration::from_millis(random(LONGEST_POLL_MS)));
    let begin = field.vf_appears(VF);
    let wire = format!("{}p", VF.0);
    traffic.also_from(&wire);
    let took = traffic.expect_back_by(&wire, begin);
    drop(traffic);
    app.kill();
    field.vf_goes(VF);
    took.as_secs_f64() * 1e3
}

pub fn attach(effort: Effort) -> Figure {
    /// So that ten turns have sixty: failsafe's poll comes at any phase, and a median of thirty is 10 ms off by chance.
    const SAMPLES: usize = 6;
    let mut field = Field::new(1, 0);
    let cases = [(Driver::Ours, 100), (Driver::C, 2000), (Driver::Ours, 10)];
    let mut turns: [Vec<Vec<f64>>; 3] = Default::default();
    for _ in 0..effort.pairs {
        for (turns, (driver, poll_ms)) in turns.iter_mut().zip(cases) {
            turns.push((0..SAMPLES).map(|_| attached(&mut field, driver, poll_ms)).collect());
        }
    }
    let [ours, c, quick] = turns.each_ref().map(|turns| turns.iter().map(|turn| median(turn)).collect::<Vec<_>>());
    let [all, all_c, all_quick] = turns.map(|turns| turns.concat());
    let worst = |samples: &[f64]| [quantile(samples, 1.0)];
    let good = |ours: &[f64], c: &[f64]| median(ours) <= 60.0 && median(&ratios(ours, c, 0.0)) >= 30.0;
    let row = |what: &str, ours: &[f64]| {
        let goal = "median ≤ 60 ms, ratio ≥ 30";
        Row::new(what, "ms").ours(ours).c(&c).ratio(ours, &c, 0.0).goal(goal, good(ours, &c)).done()
    };
    let last = |what: &str, all: &[f64]| {
        let worst = worst(all);
        Row::new(what, "ms").ours(&worst).c(&[quantile(&all_c, 1.0)]).goal("≤ 150 ms", worst[0] <= 150.0).done()
    };
    let rows = vec![
        row("attach latency, median", &ours),
        last("attach latency, worst", &all),
        row("attach latency with hotplug_poll=10, median", &quick),
        last("attach latency with hotplug_poll=10, worst", &all_quick),
    ];
    let text = format!(
        "From the request that makes the VF's link, up, to the first packet that leaves by it: DPDK's failsafe, a stand-in \
         for the VF's PMD, a stream of packets into the NetVSC interface that the application sends back. {} times a \
         driver, at random phases of two seconds, each with a fresh application. failsafe looks each 100 ms, as this driver \
         has it by default, or each 2 s, as with the C driver, which has no argument for that.",
        effort.pairs * SAMPLES
    );
    let series = json!({ "ours": all, "c": all_c, "ours, hotplug_poll=10": all_quick });
    Figure { text, rows, series: vec![("attach", series)] }
}

/// Changes links at a steady rate until it is told to end, and returns how many a second it came to.
fn churn_until(others: &[u32], end: &AtomicBool) -> f64 {
    let requests = Requests::new();
    let (begin, period) = (Instant::now(), Duration::from_secs(1) / CHURN_PER_SECOND);
    let mut count = 0;
    while !end.load(Ordering::Relaxed) {
        let at = others[count as usize % others.len()];
        requests.touch(&[at], count);
        count += 1;
        sleep((begin + period * count).saturating_duration_since(Instant::now()));
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

pub fn churn(effort: Effort) -> Figure {
    /// How long a turn lasts.
    const LASTS: Duration = Duration::from_secs(20);
    let mut field = Field::new(1, 100);
    field.vf_is_ready(VF);
    let (mut shares, mut late) = (Turns::new(), Vec::new());
    let (mut late_c, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        for driver in BOTH {
            let app = field.app(driver, Failsafe::StandIn, 2000, &NOT_BY_EAL);
            let others = field.others.clone();
            let end = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let churn = scope.spawn(|| churn_until(&others, &end));
                let (begin, spent) = (Instant::now(), app.interrupt_time());
                while begin.elapsed() < LASTS {
                    let took = posts(&field, 1);
                    if driver == Driver::Ours { late.extend(took) } else { late_c.extend(took) }
                }
                let share = (app.interrupt_time() - spent).as_secs_f64() / begin.elapsed().as_secs_f64();
                shares.entry(driver).or_default().push(share * 100.0);
                end.store(true, Ordering::Relaxed);
                rates.push(churn.join().unwrap());
            });
        }
    }
    let (ours, c) = (&shares[&Driver::Ours], &shares[&Driver::C]);
    let p99 = |samples: &[f64]| [quantile(samples, 0.99)];
    let rows = vec![
        Row::new("interrupt thread during churn", "% of a core")
            .ours(ours)
            .c(c)
            .goal("< 5 %", median(ours) < 5.0)
            .note("the C driver does not listen: it looks at all links once a second, here 103")
            .done(),
        Row::new("posting latency during churn, median", "ms").ours(&[median(&late)]).c(&[median(&late_c)]).done(),
        Row::new("posting latency during churn, 99th percentile", "ms")
            .ours(&p99(&late))
            .c(&p99(&late_c))
            .goal("≤ 10 ms", p99(&late)[0] <= 10.0)
            .done(),
    ];
    let text = format!(
        "{:.0} times a second a link changes that is no concern of the driver's (its alias), for {} s a turn; meanwhile a \
         VF appears and goes, {} times with this driver.",
        median(&rates),
        LASTS.as_secs(),
        late.len()
    );
    Figure { text, rows, series: Vec::<(&'static str, Value)>::new() }
}
