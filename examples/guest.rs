// SPDX-License-Identifier: BSD-3-Clause
//! The stories of both stages, each in a guest of its own, with this driver and with the C driver; a table says how it
//! went. It fails when a story fails with this driver.
//!
//! ```text
//! guest            the two stories that no other test can tell, with this driver
//! guest all        every story, with both drivers
//! guest <words>    the stories whose names hold one of these
//! ```
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../tests/stage/mod.rs"]
mod stage;
#[path = "../tests/stories/mod.rs"]
mod stories;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{App, Driver, Guest, MAC, Place, expect_answer, panic_text, wait_for};
use stories::ONE;

/// Guests that run at the same time. A guest has one CPU.
const AT_ONCE: usize = 2;

/// The default fallback with packets, and what failsafe makes of a VF at another address.
const SHORT: [&str; 2] = ["a_port_is_up_on_the_fallback", "a_vf_comes_at_another_address_after_it_was_in_use"];

/// Debian 11, whose kernel 5.10 does not name parents in rtnetlink: that came with 5.14.
const OLD: &str = "guest-bullseye";

/// A story and the image that it plays with.
#[derive(Clone, Copy)]
struct Story {
    name: &'static str,
    image: &'static str,
    tell: fn(&mut Guest),
}

macro_rules! list {
    ($($name:ident)*) => {
        const BOTH: &[Story] =
            &[$(Story { name: stringify!($name), image: "guest", tell: |guest| stories::$name(guest) }),*];
    };
}

for_each_story!(list);

/// Those that need a kernel of a certain age.
const ALONE: &[Story] = &[
    Story { name: "rtnetlink_tells_what_device_a_link_sits_on", image: "guest", tell: rtnetlink_tells },
    Story { name: "sysfs_tells_it_with_an_older_kernel", image: OLD, tell: sysfs_tells },
    Story {
        name: "a_vf_comes_at_another_address_with_an_older_kernel",
        image: OLD,
        tell: |guest| stories::a_vf_comes_at_another_address_after_it_was_in_use(guest),
    },
];

fn rtnetlink_tells(guest: &mut Guest) {
    assert_eq!(looks_into_sysfs(guest), 0, "looks into /sys/class/net");
}

fn sysfs_tells(guest: &mut Guest) {
    assert!(looks_into_sysfs(guest) > 0, "nobody else tells");
}

/// How often an application looks into the folders of links while a VF comes and goes, by what strace sees.
fn looks_into_sysfs(guest: &mut Guest) -> usize {
    const TRACE: &str = "/run/trace";
    guest.netvsc_appears("eth1", MAC);
    let command = App::command_with_plugin(&[], &[&stories::eth1(guest)]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "--seccomp-bpf", "--trace=%file", "-o", TRACE]);
    strace.arg(command.get_program()).args(command.get_args());
    let mut app = App::up(strace);
    app.ok(&format!("start {}", stories::FAILSAFE));
    expect_answer("eth1p", MAC);
    let looks = |guest: &Guest| -> usize {
        guest.shell(&format!("grep -c /sys/class/net {TRACE}; true")).trim().parse().unwrap()
    };
    let before = looks(guest);
    assert!(guest.shell(&format!("wc -l <{TRACE}")).trim() != "0", "strace sees nothing");
    guest.vf_appears("vf0", ONE, MAC);
    app.expect_port(ONE);
    expect_answer("vf0p", MAC);
    guest.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    let looks = looks(guest) - before;
    stories::note(format!("{before} looks into /sys/class/net at start, {looks} while a VF came and went"));
    looks
}

/// How a story went.
struct Outcome {
    story: &'static str,
    driver: Driver,
    /// What it failed of.
    result: Result<(), String>,
    took: Duration,
    notes: Vec<String>,
}

impl Outcome {
    fn print(&self) {
        let name = match self.driver {
            Driver::Ours => "ours",
            Driver::C => "C",
        };
        let seconds = self.took.as_secs_f64();
        match &self.result {
            Ok(()) => println!("  {name:4}  passes, {seconds:.1} s with boot"),
            Err(why) => println!("  {name:4}  FAILS, {seconds:.1} s with boot: {why}"),
        }
        for note in &self.notes {
            println!("          {note}");
        }
    }
}

thread_local! {
    /// What the last panic of this thread said.
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

fn play(story: Story, driver: Driver) -> Outcome {
    let begin = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| (story.tell)(&mut Guest::boot_with(driver, story.image, "", &[]))));
    let result = played.map_err(|_| WHY.take());
    Outcome { story: story.name, driver, result, took: begin.elapsed(), notes: stories::take_notes() }
}

/// Guests end with who made them, however that ends: here processes of this program, by these signals, and one whose
/// parent is killed.
fn guests_end_with_their_makers() {
    // A shell has what it starts in the background ignore SIGINT, and that is inherited.
    const MAKER: &str = r#"exec env --default-signal "$0" hold"#;
    const PARENT: &str = r#""$0" hold; exit"#;
    let ends = [(MAKER, Signal::SIGKILL), (MAKER, Signal::SIGINT), (MAKER, Signal::SIGTERM), (PARENT, Signal::SIGKILL)];
    let makers = ends.map(|(script, signal)| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(std::env::current_exe().unwrap());
        (script, signal, shell.stdout(Stdio::piped()).spawn().expect("sh"))
    });
    for (script, signal, mut maker) in makers {
        let mut line = String::new();
        BufReader::new(maker.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // A process that has ended has none, also when nobody has waited for it yet.
        let command = format!("/proc/{}/cmdline", line.trim());
        let alive = || std::fs::read(&command).is_ok_and(|command| !command.is_empty());
        assert!(alive());
        kill(Pid::from_raw(maker.id() as i32), signal).unwrap();
        wait_for(&format!("the guest ends after {signal} for: {script}"), || (!alive()).then_some(()));
        maker.wait().unwrap();
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if words == ["hold"] {
        let guest = Guest::boot(Driver::Ours);
        println!("{}", guest.pid());
        loop {
            std::thread::park();
        }
    }
    std::panic::set_hook(Box::new(|info| {
        let text = panic_text(info.payload());
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        WHY.set(text.lines().collect::<Vec<_>>().join("; ") + &place.unwrap_or_default());
    }));

    let begin = Instant::now();
    let all = words == ["all"];
    let wanted = |name: &str| match words.as_slice() {
        [] => SHORT.contains(&name),
        words => all || words.iter().any(|word| name.contains(word.as_str())),
    };
    let drivers: &[Driver] = if words.is_empty() { &[Driver::Ours] } else { &[Driver::Ours, Driver::C] };
    let stories: Vec<Story> = BOTH.iter().chain(ALONE).copied().filter(|story| wanted(story.name)).collect();
    let work = stories.iter().flat_map(|&story| drivers.iter().map(move |&driver| (story, driver)));
    let work: Mutex<VecDeque<(Story, Driver)>> = Mutex::new(work.collect());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((story, driver)) = { work.lock().unwrap().pop_front() } {
                    // A stage lasts as long as its thread.
                    let outcome = std::thread::scope(|scope| scope.spawn(|| play(story, driver)).join().unwrap());
                    eprintln!(
                        "{driver:?}: {}: {}",
                        story.name,
                        if outcome.result.is_ok() { "passes" } else { "FAILS" }
                    );
                    done.lock().unwrap().push(outcome);
                }
            });
        }
    });
    // From here on a panic fails this program, and is to be seen.
    _ = std::panic::take_hook();
    guests_end_with_their_makers();

    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|outcome| outcome.driver != Driver::Ours);
    for Story { name, .. } in stories {
        println!("{}", name.replace('_', " "));
        for outcome in done.iter().filter(|outcome| outcome.story == name) {
            outcome.print();
        }
    }
    let passed = |driver| done.iter().filter(|outcome| outcome.driver == driver && outcome.result.is_ok()).count();
    let played = |driver| done.iter().filter(|outcome| outcome.driver == driver).count();
    for &driver in drivers {
        println!("{driver:?}: {} of {} stories pass", passed(driver), played(driver));
    }
    println!("{:.0} s in all", begin.elapsed().as_secs_f64());
    let good = played(Driver::Ours) > 0 && passed(Driver::Ours) == played(Driver::Ours);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
