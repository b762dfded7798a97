// SPDX-License-Identifier: BSD-3-Clause
//! The stories of both stages, in namespaces.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;
mod stories;

macro_rules! tests {
    ($($story:ident)*) => {
        $(#[test]
        fn $story() {
            stories::$story(&mut stage::Stage::new());
            for note in stories::take_notes() {
                println!("{note}");
            }
        })*
    };
}

for_each_story!(tests);
