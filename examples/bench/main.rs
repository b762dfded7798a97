// SPDX-License-Identifier: BSD-3-Clause
//! This driver and the C driver side by side, on the same stock DPDK: `make bench`.
//!
//! ```text
//!   cargo run --release --example bench -- [figure…] [--pairs <n>] [--window <seconds>]
//! ```
//! Each figure is measured with the drivers in turn, A B A B …, in namespaces of its own; what it says is in
//! `docs/benchmarks.json`, where a run of some figures replaces theirs and leaves the others, and `report.py` makes
//! tables and plots of that.
//!
//! ```text
//!   posting  a VF's link appears -> its address can be read    latency.rs   stand-in for failsafe
//!   churn    the same, while links change that are no concern  latency.rs   stand-in for failsafe
//!   attach   a VF's link appears -> a packet is sent by it     latency.rs   real failsafe
//!   idle     the interrupt thread, nothing happening           cost.rs      real failsafe, stand-in with 32 ports
//!   poll     the same, with VF and without, by hotplug_poll       cost.rs      real failsafe
//!   calls    system calls of that thread                       cost.rs      as idle
//!   hold     how long that thread is held                      cost.rs      stand-in for failsafe
//!   probe    rte_eal_hotplug_add                               probe.rs     real failsafe, and stand-in
//!   memory   heap and RSS                                      memory.rs    stand-in for failsafe
//!   packets  what a packet costs by failsafe                 packets.rs   real failsafe
//!   loss     packets lost when a VF comes and goes             stream.rs    real failsafe
//! ```
//! A failsafe port takes two of the 32 ports that stock DPDK has room for, so 32 ports need the stand-in.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark ends so"
)]

mod cost;
mod field;
mod latency;
mod memory;
mod packets;
mod probe;
mod requests;
#[path = "../../tests/stage/mod.rs"]
mod stage;
mod stats;
mod stream;

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::{Map, Value, json};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// How often each driver has its turn.
    pub pairs: usize,
    /// How long something is watched in which nothing happens.
    pub window: Duration,
}

/// What `make bench` measures.
const FULL: Effort = Effort { pairs: 10, window: Duration::from_secs(30) };

/// What a figure is: rows for tables, and samples for plots.
pub struct Figure {
    /// How it was measured.
    pub text: String,
    /// Rows of [`stats::Row`].
    pub rows: Vec<Value>,
    /// What plots draw, by name.
    pub series: Vec<(&'static str, Value)>,
}

type Measure = fn(Effort) -> Figure;

const FIGURES: [(&str, Measure); 11] = [
    ("posting", latency::posting),
    ("attach", latency::attach),
    ("idle", cost::idle),
    ("poll", cost::poll),
    ("calls", cost::calls),
    ("hold", cost::hold),
    ("probe", probe::probe),
    ("churn", latency::churn),
    ("memory", memory::memory),
    ("packets", packets::packets),
    ("loss", stream::loss),
];

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.json");
const REPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bench/report.py");

fn main() -> ExitCode {
    let (mut effort, mut wanted) = (FULL, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|number| number.parse().ok()).filter(|&number| number > 0);
        match word.as_str() {
            "--pairs" => effort.pairs = number().expect("--pairs takes a number") as usize,
            "--window" => effort.window = Duration::from_secs(number().expect("--window takes seconds")),
            name if FIGURES.iter().any(|(figure, _)| *figure == name) => wanted.push(word),
            _ => {
                eprintln!("{word} is no figure: {}", FIGURES.map(|(figure, _)| figure).join(", "));
                return ExitCode::FAILURE;
            }
        }
    }
    for (name, measure) in FIGURES {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            println!("{name}");
            // A stage lasts as long as its thread.
            let Ok(mut figure) = std::thread::spawn(move || measure(effort)).join() else { return ExitCode::FAILURE };
            if effort.pairs < FULL.pairs || effort.window < FULL.window {
                let (pairs, window) = (effort.pairs, effort.window.as_secs());
                figure.text += &format!(" Less than `make bench` measures: --pairs {pairs} --window {window}.");
            }
            keep(name, figure);
        }
    }
    let reported = Command::new(REPORT).arg(RESULTS).status().expect(REPORT);
    if reported.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Puts a figure into the file of results.
fn keep(name: &str, figure: Figure) {
    for row in &figure.rows {
        println!("  {}", stats::line(row));
    }
    let mut results: Map<String, Value> =
        fs::read_to_string(RESULTS).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    results.insert("setting".into(), setting());
    results.insert("spread".into(), json!("the lowest and the highest of all turns"));
    let mut part = |key: &str, name: &str, value: Value| {
        let part = results.entry(key).or_insert_with(|| json!({}));
        part.as_object_mut().unwrap().insert(name.to_owned(), value);
    };
    part("figures", name, json!({ "text": figure.text, "rows": figure.rows }));
    for (series, values) in figure.series {
        part("series", series, values);
    }
    let text = serde_json::to_string(&results).unwrap();
    fs::write(RESULTS, text + "\n").expect(RESULTS);
}

/// What it was measured on.
fn setting() -> Value {
    let run = |program: &str, arguments: &[&str]| stage::run(program, arguments).trim().to_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cpu": cpu.trim_start_matches(['\t', ' ', ':']),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": run("uname", &["-r"]).split('-').next().unwrap_or_default(),
        "dpdk": run("pkg-config", &["--modversion", "libdpdk"]),
        "rustc": run("rustc", &["--version"]).split(' ').nth(1).unwrap_or_default(),
    })
}
