// SPDX-License-Identifier: BSD-3-Clause
//! A steady stream of numbered packets, through a VF that comes, goes and comes back at another address.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::field::{BOTH, Driver, FIRST, Failsafe, Field, OTHER, Turns, VF};
use crate::stage::{MAC, Wire, expect_answer, parse_mac};
use crate::stats::Row;
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Fallback,
    Vf,
}

/// A packet of the stream: when it was sent, and by which way it came back.
#[derive(Clone, Copy)]
struct Packet {
    sent: f64,
    back: Option<Way>,
}

struct Stream {
    begin: Instant,
    packets: Vec<Packet>,
    fallback: Wire,
    /// The far end of the VF's wire, while there is a VF.
    vf: Option<Wire>,
    /// Whether the host sends by the VF: it does once the application has.
    by_vf: bool,
    over: bool,
}

impl Stream {
    fn time(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    fn send(&mut self) {
        let number = self.packets.len() as u32;
        let wire = self.vf.as_ref().filter(|_| self.by_vf).unwrap_or(&self.fallback);
        let sent = self.time();
        if wire.try_send(parse_mac(MAC), number) {
            self.packets.push(Packet { sent, back: None });
        }
    }

    fn collect(&mut self) {
        let by_fallback = std::iter::from_fn(|| self.fallback.receive()).map(|number| (number, Way::Fallback));
        let by_vf = std::iter::from_fn(|| self.vf.as_ref()?.receive()).map(|number| (number, Way::Vf));
        for (number, way) in by_fallback.chain(by_vf).collect::<Vec<_>>() {
            self.by_vf |= way == Way::Vf;
            // Others were sent before the stream.
            if let Some(packet) = self.packets.get_mut(number as usize) {
                packet.back.get_or_insert(way);
            }
        }
    }
}

/// Returns the packets, and when the VF was gone.
fn run(field: &mut Field, driver: Driver) -> (Vec<Packet>, f64) {
    let poll_ms = if driver == Driver::Ours { 100 } else { 2000 };
    let mut app = field.app(driver, Failsafe::Real, poll_ms, &[]);
    app.ok("start net_failsafe_vsc0");
    let far = format!("{FIRST}p");
    expect_answer(&far, MAC);
    let begin = Instant::now();
    let fallback = Wire::at(&far);
    let stream = Mutex::new(Stream { begin, packets: Vec::new(), fallback, vf: None, by_vf: false, over: false });
    let mut gone = GOES;
    let until = |seconds: f64| sleep(Duration::from_secs_f64(seconds).saturating_sub(begin.elapsed()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                let mut stream = stream.lock().unwrap();
                if stream.over {
                    return;
                }
                stream.send();
                stream.collect();
                drop(stream);
                sleep((GAP * number).saturating_sub(begin.elapsed()));
            }
        });
        let comes = |field: &mut Field, vf: (&'static str, &'static str)| {
            field.vf_appears(vf);
            stream.lock().unwrap().vf = Some(Wire::at(&format!("{}p", vf.0)));
        };
        until(COMES);
        comes(field, VF);
        until(GOES);
        {
            // What came back until then is counted.
            let mut stream = stream.lock().unwrap();
            stream.collect();
            field.vf_goes(VF);
            gone = stream.time();
            (stream.vf, stream.by_vf) = (None, false);
        }
        until(BACK);
        comes(field, OTHER);
        until(ENDS);
        stream.lock().unwrap().over = true;
    });
    sleep(Duration::from_secs_f64(UNDER_WAY_S));
    let mut stream = stream.into_inner().unwrap();
    stream.collect();
    app.kill();
    field.vf_goes(OTHER);
    (stream.packets, gone)
}

/// How many packets that were sent from one time to another did not come back.
fn lost(packets: &[Packet], from: f64, to: f64) -> f64 {
    packets.iter().filter(|packet| (from..to).contains(&packet.sent) && packet.back.is_none()).count() as f64
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
    let by = |want| move |packet: &Packet| packet.back == Some(want);
    json!({ "sent": count(&|_| true), "vf": count(&by(Way::Vf)), "fallback": count(&by(Way::Fallback)) })
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
    for _ in 0..effort.pairs {
        for (driver, runs) in BOTH.into_iter().zip(&mut runs) {
            let (packets, gone) = run(&mut field, driver);
            let times = [COMES, GOES - UNDER_WAY_S, gone, BACK, ENDS - UNDER_WAY_S];
            for (turns, (from, to)) in turns.iter_mut().zip(times.into_iter().zip(times.into_iter().skip(1))) {
                turns.entry(driver).or_default().push(lost(&packets, from, to));
            }
            runs.push(bins(&packets));
        }
    }
    let rows = WHAT.iter().zip(&turns).map(|((what, none), turns)| {
        let (ours, c) = (&turns[&Driver::Ours], &turns[&Driver::C]);
        let row = Row::new(*what, "packets").ours(ours).c(c);
        if *none { row.goal("none", ours.iter().all(|&lost| lost == 0.0)) } else { row }.done()
    });
    let rate = 1.0 / GAP.as_secs_f64();
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
