// SPDX-License-Identifier: BSD-3-Clause
//! The stories of both stages, in namespaces, as `make guest` plays them: no frame may be lost where none has to be, which
//! takes a machine that does nothing else.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;
mod stories;

macro_rules! tests {
    ($($story:ident)*) => {
        $(#[test]
        #[ignore = "make guest"]
        fn $story() {
            stories::$story(&mut stage::Stage::new());
            for note in stories::take_notes() {
                println!("{note}");
            }
        })*
    };
}

for_each_story!(tests);
