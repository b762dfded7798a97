// SPDX-License-Identifier: BSD-3-Clause
//! A steady stream of numbered packets, through a VF that comes, goes and comes back at another address.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::field::{BOTH, Driver, FIRST, Failsafe, Field, OTHER, Turns, VF};
use crate::stage::{Frame, MAC, Traffic, expect_answer};
use crate::stats::{Row, median};
use crate::{Effort, Figure};

/// Pause between two packets.
const GAP: Duration = Duration::from_micros(500);
const BIN_S: f64 = 0.1;
/// How long a packet may be under way.
const UNDER_WAY_S: f64 = 0.2;

/// When things happen, in seconds.
const COMES: f64 = 2.0;
const GOES: f64 = 6.0;
const BACK: f64 = 8.0;
const ENDS: f64 = 14.0;

/// A packet of the stream: when it was sent, and whether it came back by a VF or by the fallback.
struct Packet {
    sent: f64,
    back_by_vf: Option<bool>,
}

/// Returns the packets, and when the VF was gone.
fn run(field: &mut Field, driver: Driver) -> (Vec<Packet>, f64) {
    let poll_ms = if driver == Driver::Ours { 100 } else { 2000 };
    let mut app = field.app(driver, Failsafe::Real, poll_ms, &[]);
    app.ok("start net_failsafe_vsc0");
    let far = format!("{FIRST}p");
    expect_answer(&far, MAC);
    let begin = Instant::now();
    let mut stream = Traffic::each(GAP, &far, MAC);
    let until = |seconds: f64| sleep(Duration::from_secs_f64(seconds).saturating_sub(begin.elapsed()));
    // Once the application sends by the VF, the host does.
    let comes = |field: &mut Field, vf: (&'static str, &'static str), patience: f64| {
        let appeared = field.vf_appears(vf);
        let wire = format!("{}p", vf.0);
        stream.also_from(&wire);
        while begin.elapsed().as_secs_f64() < patience {
            if stream.back_by(&wire, appeared).is_some() {
                stream.send_by(Some(&wire));
                return;
            }
            sleep(GAP);
        }
    };
    until(COMES);
    comes(field, VF, GOES);
    until(GOES);
    field.vf_goes(VF);
    let gone = begin.elapsed().as_secs_f64();
    stream.send_by(None);
    until(BACK);
    comes(field, OTHER, ENDS);
    until(ENDS);
    stream.end().unwrap();
    sleep(Duration::from_secs_f64(UNDER_WAY_S));
    let packet = |frame: Frame| Packet {
        sent: (frame.sent - begin).as_secs_f64(),
        back_by_vf: frame.back_by.map(|wire| wire > 0),
    };
    let packets = stream.frames().into_iter().map(packet).collect();
    app.kill();
    field.vf_goes(OTHER);
    (packets, gone)
}

/// How many packets that were sent from one time to another did not come back.
fn lost(packets: &[Packet], from: f64, to: f64) -> f64 {
    packets.iter().filter(|packet| (from..to).contains(&packet.sent) && packet.back_by_vf.is_none()).count() as f64
}

/// Counts packets by when they were sent: all, and those that came back by either way.
fn bins(packets: &[Packet]) -> Value {
    let count = |want: &dyn Fn(&Packet) -> bool| {
        let mut bins = vec![0u32; (ENDS / BIN_S) as usize];
        for packet in packets.iter().filter(|packet| want(packet)) {
            if let Some(bin) = bins.get_mut((packet.sent / BIN_S) as usize) {
                *bin += 1;
            }
        }
        bins
    };
    let by = |vf: bool| move |packet: &Packet| packet.back_by_vf == Some(vf);
    json!({ "sent": count(&|_| true), "vf": count(&by(true)), "fallback": count(&by(false)) })
}

pub fn loss(effort: Effort) -> Figure {
    let mut field = Field::new(1, 0);
    const WHAT: [(&str, bool); 4] = [
        ("packets lost while the VF comes", true),
        ("packets lost that were under way when it went", false),
        ("packets lost that were sent after it went", true),
        ("packets lost while it comes back at another address", true),
    ];
    let (mut turns, mut runs) = (WHAT.map(|_| Turns::new()), [Vec::new(), Vec::new()]);
    let mut rates = Vec::new();
    for _ in 0..effort.pairs {
        for (driver, runs) in BOTH.into_iter().zip(&mut runs) {
            let (packets, gone) = run(&mut field, driver);
            let times = [COMES, GOES - UNDER_WAY_S, gone, BACK, ENDS - UNDER_WAY_S];
            for (turns, (from, to)) in turns.iter_mut().zip(times.into_iter().zip(times.into_iter().skip(1))) {
                turns.entry(driver).or_default().push(lost(&packets, from, to));
            }
            runs.push(bins(&packets));
            rates.push((packets.len() as f64 / ENDS).round());
        }
    }
    let rows = WHAT.iter().zip(&turns).map(|((what, none), turns)| {
        let (ours, c) = (&turns[&Driver::Ours], &turns[&Driver::C]);
        let row = Row::new(*what, "packets").ours(ours).c(c);
        if *none { row.goal("none", ours.iter().all(|&lost| lost == 0.0)) } else { row }.done()
    });
    // The pause and the work that comes with each.
    let rate = median(&rates);
    let text = format!(
        "{rate:.0} numbered packets a second into the NetVSC interface, and into the VF once it is used, that the \
         application sends back, with DPDK's failsafe. The VF comes after {COMES} s, goes at {GOES} s, and is back at \
         another PCI address at {BACK} s; the stream ends at {ENDS} s."
    );
    let [ours, c] = runs;
    let marks = json!([[COMES, "VF comes"], [GOES, "VF goes"], [BACK, "VF is back at another address"]]);
    let series = json!({ "bin_s": BIN_S, "rate": rate, "marks": marks, "ours": ours, "c": c });
    Figure { text, rows: rows.collect(), series: vec![("timeline", series)] }
}
