// SPDX-License-Identifier: BSD-3-Clause
//! What can go wrong in the driver, made to go wrong: part of `src/eal/panic.rs` with the feature `faults`.
#![allow(clippy::panic, reason = "that is what it is for")]

use std::ffi::c_int;
use std::hint::black_box;

use crate::eal::guard;

/// Throws while it is dropped.
struct Throws;

impl Drop for Throws {
    fn drop(&mut self) {
        panic!("thrown by {}", black_box("a destructor"));
    }
}

/// Wants more memory than there can be while it is dropped.
struct Wants;

impl Drop for Wants {
    fn drop(&mut self) {
        want();
    }
}

fn want() {
    black_box(Vec::<u8>::with_capacity(isize::MAX as usize));
}

/// A function that may not be unwound.
extern "C" fn throw() {
    panic!("thrown on purpose");
}

/// Has the fault of this number happen behind a guard, as in a function that DPDK has called, and returns 1 when the guard
/// has stopped it.
#[unsafe(no_mangle)]
extern "C" fn vdev_netvsc_fault(number: c_int) -> c_int {
    guard("fault", 1, || {
        match number {
            1 => panic!("thrown {}", black_box("on purpose")),
            2 => {
                let _thrown_too = Throws;
                panic!("thrown on purpose");
            }
            3 => throw(),
            4 => want(),
            5 => {
                let _wanted_too = Wants;
                panic!("thrown on purpose");
            }
            _ => loop {
                black_box(Box::leak(Box::new([number; 16])));
            },
        }
        0
    })
}
