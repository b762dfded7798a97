// SPDX-License-Identifier: BSD-3-Clause
//! Memory that processes on the stage share.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::mount::{MsFlags, mount, umount};

const FOLDER: &str = "/run/hugepages";
const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// How many pages of 2 MiB a primary process and its secondaries need.
const NEEDED: u32 = 85;

/// Held by the test that uses hugepages: their number is the machine's, and what one test sets another would undo.
static TURN: Mutex<()> = Mutex::new(());

/// A folder of hugepages. The kernel has as many as before when this value ends.
pub struct HugePages {
    before: Option<String>,
    _turn: MutexGuard<'static, ()>,
}

impl HugePages {
    /// Mounts it, and has the kernel set pages aside when it has too few.
    pub fn mount() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pages = Self { before: None, _turn: turn };
        let free = Self::free();
        if free < NEEDED {
            let before = fs::read_to_string(COUNT).expect("this kernel has no hugepages");
            let wanted = before.trim().parse::<u32>().unwrap() + NEEDED - free;
            fs::write(COUNT, wanted.to_string()).expect(COUNT);
            pages.before = Some(before);
        }
        assert!(Self::free() >= NEEDED, "this machine has no memory for {NEEDED} hugepages of 2 MiB");
        fs::create_dir_all(FOLDER).unwrap();
        let options = Some("pagesize=2M");
        mount(Some("stage"), FOLDER, Some("hugetlbfs"), MsFlags::empty(), options).expect("hugetlbfs");
        pages
    }

    /// Where it is.
    pub fn folder(&self) -> &'static str {
        FOLDER
    }

    fn free() -> u32 {
        let text = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
        text.expect("this kernel has no hugepages of 2 MiB").trim().parse().unwrap()
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // Its files keep their pages.
        let _ = umount(FOLDER);
        if let Some(before) = &self.before {
            let _ = fs::write(COUNT, before);
        }
    }
}
