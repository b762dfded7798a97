// SPDX-License-Identifier: BSD-3-Clause
//! Numbers that look random and follow from a seed (splitmix64), or that somebody else has chosen.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) enum Random {
    Seed(u64),
    /// Two bytes a number, as none needs more; 0 when none are left.
    Chosen(VecDeque<u8>),
}

impl Random {
    fn next(&mut self) -> u64 {
        let seed = match self {
            Self::Seed(seed) => seed,
            Self::Chosen(bytes) => {
                return [0, 8].map(|shift| u64::from(bytes.pop_front().unwrap_or(0)) << shift).iter().sum();
            }
        };
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = *seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Tells whether all that was chosen has been taken.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Chosen(bytes) if bytes.is_empty())
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(super) fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(self.below(all.len())) }
    }
}
