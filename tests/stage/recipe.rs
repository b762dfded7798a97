// SPDX-License-Identifier: BSD-3-Clause
//! The recipes of `docs/applications.md`, typed from there.

use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::App;

const PAGE: &str = include_str!("../../docs/applications.md");

/// The commands below a heading: block by block, as a shell reads them.
pub fn blocks(heading: &str) -> Vec<String> {
    let section = PAGE.split("\n## ").find_map(|section| section.strip_prefix(heading)).expect(heading);
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match (line.strip_prefix("    "), blocks.last_mut().unwrap()) {
            (Some(command), block) => block.push_str(&format!("{}\n", command.replace("build/", "/mnt/"))),
            (None, block) if !block.is_empty() => blocks.push(String::new()),
            (None, _) => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A network and mount namespace of its own, with sysfs as it is there.
pub fn namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare needs root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
    mount(Some(super::build().as_str()), super::BUILD, none, MsFlags::MS_BIND, none).expect("the build folder");
    mount(Some("stage"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("/sys");
    mount(Some("stage"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("/run");
    super::ip("link set lo up");
}

/// Types a block whose last command goes on until it is told to end.
pub fn begin(block: &str) -> App {
    let last = block.trim_end().replace("\\\n", " ").lines().count() - 1;
    let commands = block.replace("\\\n", " ");
    let commands = commands.lines().enumerate().map(|(number, command)| {
        let exec = if number == last { "exec " } else { "" };
        format!("{exec}{command}\n")
    });
    let mut command = Command::new("sh");
    command.args(["-euc", &commands.collect::<String>()]);
    App::spawn(command)
}
