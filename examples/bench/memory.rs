// SPDX-License-Identifier: BSD-3-Clause
//! What memory a driver adds.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::field::{ALL, Driver, Failsafe, Field, Turns, VF, added};
use crate::stats::{Row, median, quantile};
use crate::{Effort, Figure};

const MIB: f64 = 1024.0 * 1024.0;

/// An hour of a thousand events a second.
const EVENTS: u32 = 3_600_000;
/// So many in one request to the kernel.
const BATCH: usize = 100;
/// A VF comes and goes once in so many requests; it is gone at each look.
const VF_PERIOD: usize = 900;
/// How often memory is looked at meanwhile.
const LOOKS: u32 = 10;

pub fn memory(effort: Effort) -> Figure {
    let mut field = Field::new(32, 4000);
    let (mut heap, mut resident) = (Turns::new(), Turns::new());
    for _ in 0..effort.pairs {
        for driver in ALL {
            let mut app = field.app(driver, Failsafe::StandIn, 2000, &[]);
            sleep(Duration::from_secs(2));
            heap.entry(driver).or_default().push(app.heap_bytes() as f64 / MIB);
            resident.entry(driver).or_default().push(app.resident_bytes() as f64 / MIB);
        }
    }
    let row = |what: &str, turns: &Turns| {
        let (ours, c) = (added(turns, Driver::Ours), added(turns, Driver::C));
        Row::new(what, "MiB").ours(&ours).c(&c).goal("≤ 2 MiB", median(&ours) <= 2.0).done()
    };
    let mut rows =
        vec![row("heap added, 4,000 links × 32 ports", &heap), row("RSS added, 4,000 links × 32 ports", &resident)];

    let mut app = field.app(Driver::Ours, Failsafe::StandIn, 2000, &[]);
    let begin = Instant::now();
    let (mut heaps, mut sizes) = (Vec::new(), Vec::new());
    for look in 0..=LOOKS {
        if look > 0 {
            churn(&mut field, EVENTS / LOOKS);
            sleep(Duration::from_secs(2));
        }
        heaps.push(app.heap_bytes() as f64 / MIB);
        sizes.push(app.resident_bytes() as f64 / MIB);
    }
    // Buffers have their full size after the first events.
    let grown = |sizes: &[f64]| quantile(&sizes[2..], 1.0) - sizes[1];
    let growth = |what: &str, sizes: &[f64]| {
        let grown = grown(sizes);
        Row::new(what, "MiB").ours(&[grown]).goal("flat: < 0.1 MiB", grown < 0.1).done()
    };
    rows.push(growth("heap grown from the first tenth of 3,600,000 events to the last", &heaps));
    rows.push(growth("RSS grown from the first tenth of 3,600,000 events to the last", &sizes));
    let text = format!(
        "mallinfo2 and VmRSS of an application whose driver has 32 ports, of a stand-in for failsafe, less those of the same \
         without a driver; then an hour of 1,000 link events a second in {:.0} s, in which a VF comes and goes as well.",
        begin.elapsed().as_secs_f64()
    );
    Figure { text, rows, series: Vec::new() }
}

/// Changes links as fast as the kernel does it.
fn churn(field: &mut Field, events: u32) {
    for part in 0..events as usize / BATCH {
        let first = part * BATCH % field.others.len();
        field.requests.touch(&field.others[first..first + BATCH], part as u32);
        if part % VF_PERIOD == VF_PERIOD / 2 {
            field.vf_appears(VF);
        } else if part % VF_PERIOD == VF_PERIOD - 1 {
            field.vf_goes(VF);
        }
    }
}
