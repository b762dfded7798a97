// SPDX-License-Identifier: BSD-3-Clause
//! Links that come and go all the time, as on a machine with many containers, but faster.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Makes and deletes links in the network namespace of the thread that began it, until this is dropped.
pub struct Churn([Child; 2]);

impl Churn {
    pub fn begin() -> Self {
        Self(["churn0", "churn1"].map(|name| {
            let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
            let mut stdin = child.stdin.take().expect("a pipe");
            let text = format!("link add {name} type bridge\nlink del {name}\n");
            // Ends with the child.
            thread::spawn(move || while stdin.write_all(text.as_bytes()).is_ok() {});
            child
        }))
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
