// SPDX-License-Identifier: BSD-3-Clause
//! What the EAL interrupt thread, on which all alarms and link interrupts run, is kept busy with.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::field::{ALL, Driver, Failsafe, Field, Turns, VF, added, random};
use crate::stage::App;
use crate::stats::{Row, median, quantile, ratios, spread};
use crate::{Effort, Figure};

/// failsafe's own period, which the C driver leaves as it is.
const POLL_MS: u32 = 2000;

/// That of this driver.
pub const DEFAULT_POLL_MS: u32 = 100;

/// How long an application is left alone before it is watched.
const SETTLE: Duration = Duration::from_secs(3);

/// What is less cannot be told from nothing, in µs of CPU per second.
const LEAST_US: f64 = 1.0;

const LINKS: [usize; 4] = [10, 100, 1000, 4000];
const PORTS: [usize; 3] = [1, 8, 32];

/// DPDK's failsafe, as long as there is room.
fn failsafe(ports: usize) -> Failsafe {
    if ports > 8 { Failsafe::StandIn } else { Failsafe::Real }
}

/// Time of the interrupt thread on a CPU while nothing happens, in µs per second.
fn idle_cost(app: &App, window: Duration) -> f64 {
    let before = app.interrupt_time();
    sleep(window);
    (app.interrupt_time() - before).as_secs_f64() * 1e6 / window.as_secs_f64()
}

/// How many system calls the interrupt thread makes in a second while nothing happens.
fn idle_calls(app: &App, window: Duration) -> f64 {
    let trace = format!("/run/trace-{}", app.pid());
    let mut strace = Command::new("strace");
    strace.args(["-q", "-o", &trace, "-p", &app.interrupt_id().to_string()]).stdin(Stdio::null());
    let mut strace = strace.spawn().expect("strace");
    // It has to find its way in first, and out afterwards.
    sleep(Duration::from_secs(1));
    let count = || fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains('(')).count();
    let before = count();
    sleep(window);
    let calls = count() - before;
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGTERM).unwrap();
    strace.wait().unwrap();
    calls as f64 / window.as_secs_f64()
}

/// Does something for each cell at the same time, each in namespaces of its own. They wait for each other at the barrier.
fn side_by_side<C: Copy + Send, T: Send>(cells: &[C], work: impl Fn(C, &Barrier) -> T + Sync) -> Vec<T> {
    let (barrier, work) = (&Barrier::new(cells.len()), &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = cells.iter().map(|&cell| scope.spawn(move || work(cell, barrier))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Watches applications with so many ports, beside so many links; the drivers have their turns. The values are by cell.
fn watch(effort: Effort, cells: &[(usize, usize)], measure: impl Fn(&App, Duration) -> f64 + Sync) -> Vec<Turns> {
    side_by_side(cells, |(ports, links), together| {
        let field = Field::new(ports, links);
        let mut turns = Turns::new();
        for _ in 0..effort.pairs {
            for driver in ALL {
                let app = field.app(driver, failsafe(ports), POLL_MS, &[]);
                sleep(SETTLE);
                together.wait();
                turns.entry(driver).or_default().push(measure(&app, effort.window));
                together.wait();
            }
        }
        turns
    })
}

pub fn idle(effort: Effort) -> Figure {
    // The C driver with 32 ports at 4,000 links takes a core by itself.
    let cells = |ports: &[usize]| ports.iter().flat_map(|&n| LINKS.map(|links| (n, links))).collect::<Vec<_>>();
    let (few, many) = (cells(&PORTS[..2]), cells(&PORTS[2..]));
    let mut turns = watch(effort, &few, idle_cost);
    turns.extend(watch(effort, &many, idle_cost));
    let cells: Vec<_> = few.into_iter().chain(many).zip(turns).collect();
    let cell = |ports, links| &cells.iter().find(|(cell, _)| *cell == (ports, links)).unwrap().1;
    let mut rows = Vec::new();
    for ((ports, links), turns) in &cells {
        let (ours, c) = (added(turns, Driver::Ours), added(turns, Driver::C));
        let ratio = median(&ratios(&ours, &c, LEAST_US));
        let row = Row::new(format!("idle cost, {links} links × {ports} ports"), "µs of CPU per second")
            .ours(&ours)
            .c(&c)
            .base("no driver", &turns[&Driver::None])
            .ratio(&ours, &c, LEAST_US);
        let row = if (*ports, *links) == (8, 1000) { row.goal("ratio ≥ 500", ratio >= 500.0) } else { row };
        rows.push(row.done());
    }
    for ports in PORTS {
        let growth = |driver: Driver| ratios(&cell(ports, 10)[&driver], &cell(ports, 4000)[&driver], 0.0);
        let (ours, c) = (growth(Driver::Ours), growth(Driver::C));
        let row = Row::new(format!("interrupt thread at 4,000 links to that at 10, {ports} ports"), "×");
        let row = row.ours(&ours).c(&c);
        // The stand-in costs nothing.
        let row = if failsafe(ports) == Failsafe::Real { row.base("no driver", &growth(Driver::None)) } else { row };
        rows.push(row.goal("≤ 1.1", median(&ours) <= 1.1).done());
    }
    let by_ports = |driver: Driver| {
        let line = |ports| {
            let values = LINKS.map(|links| spread(&added(cell(ports, links), driver)));
            (ports.to_string(), json!(values))
        };
        Value::Object(PORTS.map(line).into_iter().collect())
    };
    let series = json!({
        "links": LINKS, "ports": PORTS, "unit": "µs of CPU per second",
        "ours": by_ports(Driver::Ours), "c": by_ports(Driver::C),
    });
    let text = format!(
        "schedstat of the interrupt thread over {} s in which nothing happens, less what the same failsafe ports cost that \
         were made by hand, with no driver and the same hotplug_poll ({POLL_MS} ms). The links are beside those of the \
         ports. 32 ports are those of a stand-in for failsafe, as stock DPDK has room for 16 failsafe ports. Cells of 1 and \
         8 ports were watched at the same time, in namespaces of their own; those of 32 likewise.",
        effort.window.as_secs()
    );
    Figure { text, rows, series: vec![("idle", series)] }
}

pub fn calls(effort: Effort) -> Figure {
    let cells = PORTS.map(|ports| (ports, 1000));
    let turns = watch(effort, &cells, idle_calls);
    let row = |((ports, links), turns): (&(usize, usize), &Turns)| {
        let (ours, c) = (added(turns, Driver::Ours), added(turns, Driver::C));
        let most = 2.0 * *ports as f64;
        Row::new(format!("system calls when idle, {links} links × {ports} ports"), "per second")
            .ours(&ours)
            .c(&c)
            .base("no driver", &turns[&Driver::None])
            .ratio(&ours, &c, 1.0 / effort.window.as_secs_f64())
            .goal(format!("≤ {most}"), median(&ours) <= most)
            .done()
    };
    let rows = cells.iter().zip(&turns).map(row).collect();
    let text = format!(
        "Counted by strace over {} s, less those of the same failsafe ports without a driver. The goal is two per port.",
        effort.window.as_secs()
    );
    Figure { text, rows, series: Vec::new() }
}

pub fn poll(effort: Effort) -> Figure {
    const POLLS_MS: [u32; 5] = [10, 20, 50, 100, 2000];
    const PORT: &str = "net_failsafe_vsc0";
    /// What a port may cost while its VF is there: a thousandth of a core.
    const MOST_US: f64 = 1000.0;
    // The C driver leaves the poll as failsafe has it.
    let mut cells = POLLS_MS.map(|poll_ms| (Driver::Ours, poll_ms)).to_vec();
    cells.push((Driver::C, POLL_MS));
    let turns = side_by_side(&cells, |(driver, poll_ms), together| {
        let mut field = Field::new(1, 0);
        let (mut missing, mut there) = (Vec::new(), Vec::new());
        for _ in 0..effort.pairs {
            let mut app = field.app(driver, Failsafe::Real, poll_ms, &[]);
            app.ok(&format!("configure {PORT}"));
            for (turns, has_vf) in [(&mut missing, false), (&mut there, true)] {
                if has_vf {
                    field.vf_appears(VF);
                    app.expect_port(VF.1);
                }
                sleep(SETTLE);
                together.wait();
                turns.push(idle_cost(&app, effort.window));
                together.wait();
            }
            app.kill();
            field.vf_goes(VF);
        }
        [missing, there]
    });
    let (ours, c) = turns.split_at(POLLS_MS.len());
    let row = |(poll_ms, turns): (&u32, &[Vec<f64>; 2]), which: usize| {
        let what = ["missing", "there"][which];
        let row = Row::new(format!("hotplug_poll={poll_ms}, VF {what}"), "µs of CPU per second").ours(&turns[which]);
        let row = if *poll_ms == POLL_MS { row.c(&c[0][which]) } else { row };
        let is_default = *poll_ms == DEFAULT_POLL_MS && what == "there";
        if is_default { row.goal("< 1,000", median(&turns[which]) < MOST_US).done() } else { row.done() }
    };
    let rows = [0, 1].iter().flat_map(|&which| POLLS_MS.iter().zip(ours).map(move |cell| row(cell, which)));
    let text = format!(
        "What the interrupt thread is busy with over {} s, a port that is configured: failsafe looks into its mailbox while \
         its VF is missing, and only at its own state while the VF is there. This driver's default is {DEFAULT_POLL_MS} ms, \
         the C driver leaves it at {POLL_MS} ms.",
        effort.window.as_secs()
    );
    Figure { text, rows: rows.collect(), series: Vec::new() }
}

pub fn hold(effort: Effort) -> Figure {
    const GAP: &str = "/run/gap";
    /// A C driver that looks once a second is seen to look while a VF comes, and goes.
    const STAYS: Duration = Duration::from_millis(2500);
    let mut field = Field::new(8, 1000);
    let mut turns = Turns::new();
    for _ in 0..effort.pairs {
        for driver in ALL {
            let _app = field.app(driver, Failsafe::StandIn, POLL_MS, &["--vdev=bench_gap0"]);
            sleep(SETTLE);
            fs::write(GAP, 0u64.to_ne_bytes()).unwrap();
            for _ in 0..2 {
                sleep(Duration::from_millis(random(1000)));
                field.vf_appears(VF);
                sleep(STAYS);
                field.vf_goes(VF);
                sleep(STAYS);
            }
            let longest = u64::from_ne_bytes(fs::read(GAP).unwrap().try_into().unwrap());
            turns.entry(driver).or_default().push(longest as f64 / 1e6);
        }
    }
    let (ours, c) = (added(&turns, Driver::Ours), added(&turns, Driver::C));
    let ratio = ratios(&ours, &c, 0.01);
    let rows = vec![
        Row::new("longest hold of the interrupt thread, 1,000 links × 8 ports", "ms over no driver")
            .ours(&ours)
            .c(&c)
            .base("no driver", &turns[&Driver::None])
            .ratio(&ours, &c, 0.01)
            .goal("≤ 2 ms, ratio ≥ 50", median(&ours) <= 2.0 && median(&ratio) >= 50.0)
            .note("a difference below 0.01 ms counts as that")
            .done(),
        Row::new("the longest of all", "ms")
            .ours(&[quantile(&turns[&Driver::Ours], 1.0)])
            .c(&[quantile(&turns[&Driver::C], 1.0)])
            .base("no driver", &[quantile(&turns[&Driver::None], 1.0)])
            .done(),
    ];
    let text =
        "The longest time from one alarm of 1 ms to the next, on the interrupt thread, while a VF comes and goes \
                twice, with a stand-in for failsafe: what failsafe does there is not the drivers'."
            .to_owned();
    Figure { text, rows, series: Vec::new() }
}
