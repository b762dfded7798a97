// SPDX-License-Identifier: BSD-3-Clause
//! Guards what is pure against getting slower: instructions of decoder, table of links and pairing, counted by callgrind.
//!
//! ```text
//!   cargo run --release --example instructions            compares them with examples/instructions.tsv
//!   cargo run --release --example instructions -- write   writes there what this compiler makes
//! ```
//! Counts are exact, whatever else the machine does, but each compiler makes others: with one whose counts are not
//! written down, only a coarse limit holds.
//! What must not grow with the number of links is compared at 1,000 and at 4,000, whatever the compiler.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a check ends so")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::{fs, str};

use vdev_netvsc::address::{IfIndex, IfName, MacAddr};
use vdev_netvsc::args::{DevargsSafe, Selector};
use vdev_netvsc::host::decode::link_events;
use vdev_netvsc::link::{Link, LinkTable, Parent};
use vdev_netvsc::pairing::{Side, choose, concerns, netvsc_links, vf_of};

const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/instructions.tsv");

/// How much more, or less, is worth a word: with a compiler whose counts are written down, and with another, by the
/// highest of those. Rust 1.85, the oldest that will do, makes up to 2.7 times as many as 1.95.
const TOLERANCE: f64 = 0.10;
const TOLERANCE_OF_OTHERS: f64 = 0.50;

/// What must not grow with the number of links may do so as a tree does.
const GROWTH: f64 = 2.0;

/// A case, and what it does. Its name ends in the number of links where it is told with several.
const CASES: [(&str, fn()); 13] = [
    ("decode an event", decode),
    ("replace 1000", || replace(1000)),
    ("update at 1000", || update(1000)),
    ("update at 4000", || update(4000)),
    ("update that changes nothing at 1000", || update_nothing(1000)),
    ("update that changes nothing at 4000", || update_nothing(4000)),
    ("remove at 1000", || remove(1000)),
    ("remove at 4000", || remove(4000)),
    ("concerns", of_no_concern),
    ("choose by name among 1000", || choose_by_name(1000)),
    ("NetVSC links among 1000", || find_netvsc(1000)),
    ("VF among 1000", || find_vf(1000)),
    ("VF among 4000", || find_vf(4000)),
];

/// Those that must not grow: the beginnings of their names.
const FLAT: [&str; 3] = ["update at", "update that changes nothing at", "remove at"];

/// Only what happens in here is counted.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) {
    black_box(work());
}

fn decode() {
    let text = include_str!("../src/host/captures/virtio.hex");
    let hex: String = text.lines().filter(|line| !line.starts_with('#')).collect::<String>().split(' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let datagram: Vec<u8> = hex.as_bytes().chunks(2).map(byte).collect();
    assert_eq!(link_events(&datagram).filter_map(Result::ok).count(), 1);
    measured(|| link_events(black_box(&datagram)).count());
}

fn index(number: u32) -> IfIndex {
    IfIndex::new(number + 1).unwrap()
}

/// Links of a machine with many containers; the first is a NetVSC interface, the last its VF.
fn links(count: u32) -> Vec<Link> {
    let link = |number: u32| {
        let [_, high, mid, low] = number.to_be_bytes();
        let is_vf = number == count - 1;
        let parent = match number {
            0 => Parent::NetVsc,
            _ if is_vf => Parent::Pci("0001:00:02.0".parse().unwrap()),
            _ => Parent::None,
        };
        Link {
            index: index(number),
            name: IfName::new(format!("veth{number}").as_bytes()).unwrap(),
            ethernet: true,
            mac: Some(if is_vf { MacAddr([2, 0, 0, 0, 0, 0]) } else { MacAddr([2, 0, 0, high, mid, low]) }),
            permanent_mac: None,
            master: None,
            lower: None,
            parent,
            driver: None,
            up: true,
        }
    };
    (0..count).map(link).collect()
}

fn table(count: u32) -> LinkTable {
    let mut table = LinkTable::new();
    table.replace(links(count));
    table
}

fn replace(count: u32) {
    let (mut table, dump) = (table(count), links(count));
    measured(|| table.replace(dump));
}

fn update(count: u32) {
    let mut table = table(count);
    let link = Link { up: false, ..table.get(index(count / 2)).unwrap().clone() };
    measured(|| table.update(link).expect("a change"));
}

fn update_nothing(count: u32) {
    let mut table = table(count);
    let link = table.get(index(count / 2)).unwrap().clone();
    measured(|| assert_eq!(table.update(link), None));
}

fn remove(count: u32) {
    let mut table = table(count);
    measured(|| table.remove(index(count / 2)).expect("a change"));
}

fn of_no_concern() {
    let links = links(3);
    let side = Side::of(&links[0]);
    measured(|| assert!(!concerns(black_box(&links[1]), black_box(&side))));
}

fn choose_by_name(count: u32) {
    let table = table(count);
    let selector = Selector::Name(DevargsSafe::new(IfName::new(b"veth0").unwrap()).unwrap());
    measured(|| choose(&table, &selector, None, false).expect("the NetVSC interface"));
}

fn find_netvsc(count: u32) {
    let table = table(count);
    measured(|| assert_eq!(netvsc_links(&table).count(), 1));
}

fn find_vf(count: u32) {
    let table = table(count);
    let side = Side::of(table.get(index(0)).unwrap());
    measured(|| vf_of(&table, &side).expect("the VF"));
}

/// Counts the instructions of a case.
fn count(case: &str) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=instructions::measured*"])
        .arg(std::env::current_exe().unwrap())
        .arg(case)
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {said}");
    let count = said.lines().find_map(|line| line.split_once("Collected : ")).expect("a count").1;
    let count = count.trim().parse().expect("a count");
    assert!(count > 0, "{case}: nothing was counted");
    count
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc");
    String::from_utf8_lossy(&output.stdout).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Counts that are written down, by compiler and case.
type Written = BTreeMap<(String, String), u64>;

fn read() -> Written {
    let text = fs::read_to_string(COUNTS).expect(COUNTS);
    let count = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let mut part = || parts.next().expect(COUNTS);
        ((part(), part()), part().parse().expect(COUNTS))
    };
    text.lines().map(count).collect()
}

/// Compares counts with those that are written down, and returns what is wrong.
fn compare(counts: &BTreeMap<&str, u64>, written: &Written, compiler: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_known = written.keys().any(|(by, _)| by == compiler);
    let tolerance = if is_known { TOLERANCE } else { TOLERANCE_OF_OTHERS };
    for (case, &now) in counts {
        let alike = |by: &str, name: &str| name == *case && (by == compiler || !is_known);
        match written.iter().filter(|((by, name), _)| alike(by, name)).map(|(_, &count)| count).max() {
            None => wrong.push(format!("{case}: {now} instructions, and none are written down")),
            Some(before) => {
                let change = now as f64 / before as f64 - 1.0;
                if change > tolerance {
                    wrong.push(format!("{case}: {now} instructions, {:.0} % more than {before}", change * 100.0));
                } else if change < -tolerance && is_known {
                    wrong.push(format!("{case}: {now} instructions, fewer than {before}: write them down"));
                }
            }
        }
    }
    for beginning in FLAT {
        let [few, many] = [1000, 4000].map(|links| counts[format!("{beginning} {links}").as_str()]);
        if many as f64 > few as f64 * GROWTH {
            wrong.push(format!("{beginning}: {few} instructions with 1000 links, and {many} with 4000"));
        }
    }
    wrong
}

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("an unoptimized build has other counts: cargo run --release --example instructions");
        return ExitCode::FAILURE;
    }
    let word = std::env::args().nth(1);
    if let Some((_, work)) = CASES.iter().find(|(case, _)| Some(*case) == word.as_deref()) {
        work();
        return ExitCode::SUCCESS;
    }
    let counts: BTreeMap<&str, u64> = CASES.iter().map(|(case, _)| (*case, count(case))).collect();
    let compiler = compiler();
    println!("rustc {compiler}");
    for (case, _) in CASES {
        println!("{case}\t{}", counts[case]);
    }
    let mut written = read();
    if word.as_deref() == Some("write") {
        written.retain(|(by, _), _| *by != compiler);
        written.extend(counts.iter().map(|(case, &count)| ((compiler.clone(), (*case).to_owned()), count)));
        let line = |((by, case), count): (&(String, String), &u64)| format!("{by}\t{case}\t{count}\n");
        fs::write(COUNTS, written.iter().map(line).collect::<String>()).expect(COUNTS);
        return ExitCode::SUCCESS;
    }
    let wrong = compare(&counts, &written, &compiler);
    for line in &wrong {
        eprintln!("{line}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
