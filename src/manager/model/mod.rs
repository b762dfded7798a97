// SPDX-License-Identifier: BSD-3-Clause
//! A model that checks the core of the driver: the real [`State`](super::state::State) among links, functions, EAL and
//! failsafe that are made up, in a time that is made up, through random histories.
//!
//! ```text
//!   here       histories: played, shrunk, told
//!     moves    what can happen: read, played, chosen
//!       check  what must hold after each, and at rest
//!       driver   the driver's own moves, on two threads that pause
//!       failsafe its state machine, as DPDK has it
//!       world    the kernel and EAL
//! ```
//! A history follows from its seed. One that fails is shrunk and told as a script, which `MODEL_SCRIPT=<file>` plays
//! again; `MODEL_SEED` plays the history of that seed, and `MODEL_STEPS` says how many moves are made in all, of seeds from there
//! on. `MODEL_WRITE=<folder>` writes the scripts of ten histories that `tests/replay.rs` can play, from `MODEL_SEED` on.

mod check;
mod driver;
mod failsafe;
mod moves;
mod random;
mod world;

use std::collections::BTreeMap;

use driver::Model;
use moves::Chooser;
use random::Random;

/// Moves of a history.
const HISTORY: usize = 200;

/// Plays a script. Returns after how many moves it broke, and what.
fn replay(script: &[String]) -> Option<(usize, String)> {
    let model = Model::new();
    for (position, text) in script.iter().enumerate() {
        moves::play(&model, text).unwrap_or_else(|| panic!("no such move: {text}"));
        model.calm.set(model.calm.get() && !moves::is_adverse(text));
        check::always(&model);
        if let Some(broken) = model.broken() {
            return Some((position + 1, broken));
        }
    }
    None
}

/// Makes the history that follows from numbers. Returns it up to where it broke, if it did. `counts` has what happened.
fn history(random: Random, counts: &mut BTreeMap<String, u64>) -> Option<Vec<String>> {
    let mut chooser = Chooser::new(random);
    let model = Model::new();
    let mut script = Vec::new();
    let mut over = false;
    while !over {
        over = script.len() + 1 == HISTORY || chooser.is_over();
        let text = if over { "rest".to_owned() } else { chooser.next(&model) };
        moves::play(&model, &text).unwrap_or_else(|| panic!("no such move: {text}"));
        model.calm.set(model.calm.get() && !moves::is_adverse(&text));
        script.push(text);
        check::always(&model);
        if model.broken().is_some() {
            return Some(script);
        }
    }
    for (what, count) in model.counts.borrow().iter() {
        *counts.entry(what.clone()).or_default() += count;
    }
    None
}

/// How many histories are written, the moves of one, and those from one rest to the next.
const WRITTEN: usize = 10;
const SHORT: usize = 100;
const ACT: usize = 20;

/// How often a VF is held at rest in one that is worth it.
const HELD: u64 = 8;

/// Writes the history of a seed, of moves that can be made on a stage, if it is worth it.
fn write(folder: &str, seed: u64) -> bool {
    let (mut chooser, model) = (Chooser::new(Random::Seed(seed)), Model::new());
    let mut script = Vec::new();
    for position in 1..=SHORT {
        let text = if position % ACT == 0 { "rest".to_owned() } else { chooser.next_on_stage(&model) };
        moves::play(&model, &text).unwrap_or_else(|| panic!("no such move: {text}"));
        script.push(text);
    }
    if replay(&script).is_some() {
        tell(&script, &format!("the history that MODEL_SEED={seed} writes"));
    }
    let worth = model.counts.borrow().get("a VF held at rest").is_some_and(|&held| held >= HELD);
    if worth {
        std::fs::write(format!("{folder}/{seed}.txt"), script.join("\n") + "\n").unwrap();
    }
    worth
}

/// What broke, whatever the addresses and names.
fn kind(broken: &str) -> String {
    broken.split(|c: char| !c.is_alphabetic() && c != ' ').next().unwrap_or_default().to_owned()
}

/// Leaves out what the same breaks without.
fn shrink(mut script: Vec<String>) -> Vec<String> {
    let same = replay(&script).map(|(_, broken)| kind(&broken));
    let mut size = script.len() / 2;
    while size > 0 {
        let mut begin = 0;
        while begin < script.len() {
            let mut shorter = script.clone();
            shorter.drain(begin..(begin + size).min(script.len()));
            match replay(&shorter) {
                Some((length, broken)) if Some(kind(&broken)) == same => {
                    shorter.truncate(length);
                    script = shorter;
                }
                _ => begin += size,
            }
        }
        size /= 2;
    }
    script
}

/// Ends the test, and tells the script.
fn tell(script: &[String], origin: &str) -> ! {
    let broken = replay(script).map_or("it does not break again".to_owned(), |(_, broken)| broken);
    panic!("{broken}\n{origin}\nthe script, for MODEL_SCRIPT=<file>:\n\n{}\n", script.join("\n"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Makes the history that bytes choose, which is to break nothing.
pub fn follow(bytes: &[u8]) {
    log::set_max_level(log::LevelFilter::Off);
    if let Some(script) = history(Random::Chosen(bytes.iter().copied().collect()), &mut BTreeMap::new()) {
        tell(&shrink(script), "a history that bytes chose");
    }
}

/// Plays a script that is to break nothing.
fn play(text: &str, origin: &str) {
    log::set_max_level(log::LevelFilter::Off);
    let script: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if replay(&script).is_some() {
        tell(&script, origin);
    }
}

#[test]
fn what_was_found_after_many_millions_of_moves_stays_mended() {
    let scripts = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/manager/model/found")).unwrap();
    let files: Vec<_> = scripts.map(|script| script.unwrap().path()).collect();
    assert!(!files.is_empty());
    files.iter().for_each(|file| play(&std::fs::read_to_string(file).unwrap(), &file.display().to_string()));
}

#[test]
fn what_the_fuzzer_has_chosen_breaks_nothing() {
    let files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/model")).unwrap().collect();
    assert!(!files.is_empty());
    files.into_iter().for_each(|file| follow(&std::fs::read(file.unwrap().path()).unwrap()));
}

#[test]
fn random_histories_break_nothing() {
    if let Ok(file) = std::env::var("MODEL_SCRIPT") {
        return play(&std::fs::read_to_string(file).unwrap(), "as the script says");
    }
    log::set_max_level(log::LevelFilter::Off);
    let (first, steps) = (number("MODEL_SEED"), number("MODEL_STEPS"));
    if let Ok(folder) = std::env::var("MODEL_WRITE") {
        let first = first.unwrap_or_default();
        let written = (first..).filter(|&seed| write(&folder, seed)).take(WRITTEN).count();
        return assert_eq!(written, WRITTEN);
    }
    let steps = steps.unwrap_or(if first.is_some() { 1 } else { 1_000_000 });
    let (first, count) = (first.unwrap_or_default(), steps.div_ceil(HISTORY as u64));
    let mut counts = BTreeMap::new();
    for seed in first..first + count {
        if let Some(script) = history(Random::Seed(seed), &mut counts) {
            let steps = (seed - first) * HISTORY as u64 + script.len() as u64;
            tell(&shrink(script), &format!("MODEL_SEED={seed}, after {steps} steps in all"));
        }
    }
    // With --nocapture.
    counts.iter().for_each(|(what, count)| println!("{count:10} {what}"));
}
