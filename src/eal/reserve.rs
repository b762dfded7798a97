// SPDX-License-Identifier: BSD-3-Clause
//! Memory put aside for when there is none: what the driver needs to take in a VF, or to throw and to log that it could
//! not.
//!
//! It is the plugin's and the archive's allocator (feature `plugin`). These bring a runtime of their own, so that only
//! Rust code of the driver comes here; DPDK and the application ask malloc themselves. A Rust program that uses the crate
//! as a library keeps its own allocator.

// UNSAFETY: an allocator.
#![expect(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Size of a slot in bytes: the largest block that the reserve serves. All that the driver keeps for one link, one port
/// or one line of its log is smaller; the buffers for what the kernel tells are larger.
pub const SLOT_BYTES: usize = 1024;

/// Number of slots, one a bit of [`Slots::taken`]. One port whose VF comes and goes takes up less than 16 at a time.
const SLOTS: usize = u64::BITS as usize;

/// What malloc(3) aligns to on 64-bit machines, and the most that is asked for here.
const ALIGN: usize = 16;

#[cfg(feature = "plugin")]
#[global_allocator]
static GLOBAL: Reserve<std::alloc::System> = Reserve::new(std::alloc::System);

/// An allocator that hands out what `beneath` does, and slots of a reserve when that has nothing.
#[derive(Debug)]
pub struct Reserve<A> {
    beneath: A,
    slots: Slots,
}

impl<A> Reserve<A> {
    /// Makes one whose reserve is whole.
    pub const fn new(beneath: A) -> Self {
        Self { beneath, slots: Slots::new() }
    }

    /// Returns `block`. When that is null, returns a slot instead, if a free one is large enough.
    fn or_slot(&self, block: *mut u8, layout: Layout) -> *mut u8 {
        if !block.is_null() || layout.size() > SLOT_BYTES || layout.align() > ALIGN {
            return block;
        }
        self.slots.take()
    }
}

// SAFETY: a block is one of `beneath`, by that one's own word, or a slot: of enough bytes, aligned, and taken by nobody
// else until it is given back. Which of the two it is, its address tells. Nothing here unwinds.
//
// Not inlined, as that would be into a thousand places.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Reserve<A> {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duty is the same.
        let block = unsafe { self.beneath.alloc(layout) };
        self.or_slot(block, layout)
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duty is the same.
        let block = unsafe { self.beneath.alloc_zeroed(layout) };
        let found = self.or_slot(block, layout);
        if block.is_null() && !found.is_null() {
            // SAFETY: a slot of at least so many bytes that was just taken.
            unsafe { found.write_bytes(0, layout.size()) };
        }
        found
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.slots.have(block) {
            self.slots.give_back(block);
        } else {
            // SAFETY: no slot, so one of `beneath`; the caller's duty is the same.
            unsafe { self.beneath.dealloc(block, layout) };
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.slots.have(block) {
            // SAFETY: no slot, so one of `beneath`; the caller's duty is the same.
            let moved = unsafe { self.beneath.realloc(block, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        } else if size <= SLOT_BYTES {
            return block;
        }
        // SAFETY: the caller sees to it that the new size is not null and, with this alignment, is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not null, by the caller's duty.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both have at least so many bytes, and the second was not in use.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
            // SAFETY: a block of this allocator with this layout, by the caller's duty, which he has no more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

/// The reserve itself.
#[derive(Debug)]
#[repr(C, align(16))]
struct Slots {
    bytes: UnsafeCell<[[u8; SLOT_BYTES]; SLOTS]>,
    /// A bit for each slot that is in use.
    taken: AtomicU64,
}

// SAFETY: the bytes are only handed out, each slot to one at a time, as its bit says.
unsafe impl Sync for Slots {}

impl Slots {
    const fn new() -> Self {
        Self { bytes: UnsafeCell::new([[0; SLOT_BYTES]; SLOTS]), taken: AtomicU64::new(0) }
    }

    /// Hands out a slot, null when none is left.
    fn take(&self) -> *mut u8 {
        loop {
            let number = self.taken.load(Ordering::Relaxed).trailing_ones();
            let Some(bit) = 1_u64.checked_shl(number) else { return ptr::null_mut() };
            // What the last owner did with it is over, as he has given it back.
            if self.taken.fetch_or(bit, Ordering::Acquire) & bit == 0 {
                return self.bytes.get().cast::<u8>().wrapping_add(number as usize * SLOT_BYTES);
            }
        }
    }

    /// Tells whether a block is a slot.
    fn have(&self, block: *mut u8) -> bool {
        self.offset(block) < SLOTS * SLOT_BYTES
    }

    /// Takes a slot back, which nobody uses any more.
    fn give_back(&self, slot: *mut u8) {
        self.taken.fetch_and(!(1 << (self.offset(slot) / SLOT_BYTES)), Ordering::Release);
    }

    fn offset(&self, block: *mut u8) -> usize {
        block.addr().wrapping_sub(self.bytes.get().addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    /// Memory that runs short when it is told to.
    #[derive(Default)]
    struct Short(AtomicBool);

    // SAFETY: blocks of the system, or none.
    unsafe impl GlobalAlloc for Short {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if self.0.load(Ordering::Relaxed) {
                return ptr::null_mut();
            }
            // SAFETY: the caller's duty is the same.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the caller's duty is the same.
            unsafe { System.dealloc(block, layout) };
        }
    }

    /// A block of an allocator, with its layout.
    struct Block<'a>(&'a Reserve<Short>, *mut u8, Layout);

    impl<'a> Block<'a> {
        fn of(size: usize, align: usize, from: &'a Reserve<Short>) -> Option<Self> {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not null.
            let block = unsafe { from.alloc_zeroed(layout) };
            (!block.is_null()).then_some(Self(from, block, layout))
        }

        fn resize(&mut self, size: usize) -> bool {
            // SAFETY: a live block of this allocator, and the size is not null.
            let block = unsafe { self.0.realloc(self.1, self.2, size) };
            if !block.is_null() {
                self.1 = block;
                self.2 = Layout::from_size_align(size, self.2.align()).unwrap();
            }
            !block.is_null()
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: a live block that was zeroed, and that is written to by way of this value only.
            unsafe { std::slice::from_raw_parts_mut(self.1, self.2.size()) }
        }

        fn is_slot(&self) -> bool {
            self.0.slots.have(self.1)
        }
    }

    impl Drop for Block<'_> {
        fn drop(&mut self) {
            // SAFETY: a live block of this allocator with this layout.
            unsafe { self.0.dealloc(self.1, self.2) };
        }
    }

    fn reserve() -> Box<Reserve<Short>> {
        Box::new(Reserve::new(Short::default()))
    }

    #[test]
    fn there_are_64_slots_for_blocks_of_up_to_a_kibibyte_each_for_one_at_a_time() {
        let from = reserve();
        assert!(!Block::of(8, 8, &from).unwrap().is_slot(), "while there is memory the reserve stays whole");
        from.beneath.0.store(true, Ordering::Relaxed);
        assert!(Block::of(SLOT_BYTES + 1, 8, &from).is_none());
        assert!(Block::of(8, 2 * ALIGN, &from).is_none());
        let mut blocks: Vec<Block<'_>> = (0..SLOTS).map(|_| Block::of(SLOT_BYTES, ALIGN, &from).unwrap()).collect();
        assert!(blocks.iter().all(|block| block.is_slot() && block.1.addr() % ALIGN == 0));
        assert!(Block::of(1, 1, &from).is_none(), "used up");
        let apart: BTreeSet<usize> = blocks.iter().map(|block| block.1.addr()).collect();
        assert!(apart.len() == SLOTS && apart.iter().zip(apart.iter().skip(1)).all(|(a, b)| b - a >= SLOT_BYTES));
        blocks[5].bytes().fill(7);
        blocks.remove(5);
        let mut again = Block::of(100, 1, &from).unwrap();
        assert!(again.bytes().iter().all(|&byte| byte == 0), "zeroed, as asked");
    }

    #[test]
    fn a_block_keeps_what_it_holds_on_its_way_to_the_reserve_and_back() {
        let from = reserve();
        let mut block = Block::of(4, 4, &from).unwrap();
        block.bytes().copy_from_slice(b"text");
        from.beneath.0.store(true, Ordering::Relaxed);
        assert!(!block.resize(SLOT_BYTES + 1) && !block.is_slot());
        assert_eq!(block.bytes(), b"text", "what cannot grow stays as it was");
        assert!(block.resize(SLOT_BYTES) && block.is_slot());
        assert!(block.resize(8) && block.is_slot());
        assert!(!block.resize(SLOT_BYTES + 1));
        from.beneath.0.store(false, Ordering::Relaxed);
        assert!(block.resize(2 * SLOT_BYTES) && !block.is_slot());
        assert_eq!(&block.bytes()[..4], b"text");
        assert_eq!(from.slots.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_share_the_reserve() {
        let from = reserve();
        from.beneath.0.store(true, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let from = &from;
                scope.spawn(move || {
                    for _ in 0..5000 {
                        // Four times 16 are all that there are.
                        let mut blocks: Vec<_> = (0..16).map(|_| Block::of(64, 8, from).unwrap()).collect();
                        blocks.iter_mut().for_each(|block| block.bytes().fill(number));
                        assert!(blocks.iter_mut().all(|block| block.bytes().iter().all(|&byte| byte == number)));
                    }
                });
            }
        });
        assert_eq!(from.slots.taken.load(Ordering::Relaxed), 0);
    }
}
