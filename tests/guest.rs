// SPDX-License-Identifier: BSD-3-Clause
//! The stories of both stages, in a guest.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;
mod stories;

use stage::{Driver, Guest};

#[test]
fn a_port_is_up_on_the_fallback() {
    stories::a_port_is_up_on_the_fallback(&mut Guest::boot(Driver::Ours));
}

#[test]
fn a_vf_goes_and_comes_back_at_another_address() {
    stories::a_vf_goes_and_comes_back_at_another_address(&mut Guest::boot(Driver::Ours));
}
