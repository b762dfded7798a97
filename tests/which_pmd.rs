// SPDX-License-Identifier: BSD-3-Clause
//! `tools/which-pmd.sh`, which says whether `net_vdev_netvsc` or `net_netvsc` is to take an interface, on the stage.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stage::{MAC, NET, PCI, Stage};

const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";
const OTHER_MAC: &str = "00:15:5d:00:00:99";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/which-pmd.sh");
const NO_VF: &str = "net_vdev_netvsc: eth1 has no VF right now, and this driver serves with any or none";

/// A stage with eth1.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage
}

/// A function of MANA's comes with two netdevices, of which the second is eth1's VF.
fn mana_appears(stage: &mut Stage) {
    stage.function_appears(ONE, "mana");
    stage.vf_appears("other", ONE, OTHER_MAC);
    stage.vf_appears("vf0", ONE, MAC);
}

/// What the script says, with its exit status.
fn which_pmd(arguments: &[&str]) -> (i32, String) {
    let output = Command::new("sh").arg(SCRIPT).args(arguments).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    (output.status.code().unwrap(), said.trim_end().to_owned())
}

fn expect_pmd(arguments: &[&str], status: i32, said: &str) {
    assert_eq!(which_pmd(arguments), (status, said.to_owned()), "{arguments:?}");
}

#[test]
fn it_says_which_pmd_is_to_take_an_interface() {
    let mut stage = stage();
    expect_pmd(&["eth1"], 0, NO_VF);

    stage.function_appears(ONE, "mlx5_core");
    stage.vf_appears("vf0", ONE, MAC);
    let mlx5 = format!("net_vdev_netvsc: vf0, the VF of eth1 at {ONE}, is that of mlx5_core");
    expect_pmd(&["eth1"], 0, &mlx5);
    // That of another NIC does not matter.
    stage.function_appears(TWO, "other");
    stage.vf_appears("other", TWO, OTHER_MAC);
    expect_pmd(&["eth1"], 0, &mlx5);
    // The one that is enslaved comes first, whatever its address.
    symlink("../eth1", format!("{NET}/other/master")).unwrap();
    expect_pmd(&["eth1"], 0, &format!("net_vdev_netvsc: other, the VF of eth1 at {TWO}, is that of other"));
    stage.vf_goes("other", TWO);
    stage.vf_goes("vf0", ONE);

    mana_appears(&mut stage);
    expect_pmd(&["-w", "100", "eth1"], 3, &format!("net_netvsc: vf0, the VF of eth1 at {ONE}, is MANA's"));
    stage.netdevice_goes("vf0", ONE);
    let early = format!("net_netvsc: this host has MANA, at {ONE}; eth1 has no VF right now");
    expect_pmd(&["eth1"], 3, &early);
    // Nor has it a driver yet.
    fs::remove_file(format!("{PCI}/{ONE}/driver")).unwrap();
    fs::write(format!("{PCI}/{ONE}/vendor"), "0x1414\n").unwrap();
    fs::write(format!("{PCI}/{ONE}/device"), "0x00ba\n").unwrap();
    expect_pmd(&["eth1"], 3, &early);
    stage.vf_goes("other", ONE);

    // Another sysfs.
    stage.function_appears(ONE, "mlx5_core");
    stage.vf_appears("vf0", ONE, MAC);
    symlink("/sys", "/run/sysfs").unwrap();
    expect_pmd(&["-s", "/run/sysfs", "eth1"], 0, &mlx5);
}

#[test]
fn it_waits_for_a_vf() {
    let mut stage = stage();
    let begin = Instant::now();
    expect_pmd(&["-w", "2", "eth1"], 0, NO_VF);
    assert!(begin.elapsed() >= Duration::from_secs(2));
    let mut waiting = Command::new("sh").args([SCRIPT, "-w", "100", "eth1"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(waiting.try_wait().unwrap(), None);
    mana_appears(&mut stage);
    assert_eq!(waiting.wait().unwrap().code(), Some(3));
}

#[test]
fn it_knows_what_uio_hv_generic_has() {
    const UUID: &str = "000d3a7b-1234-000d-3a7b-1234000d3a7b";
    stage().vmbus_appears();
    let vmbus = format!("/sys/bus/vmbus/devices/{UUID}");
    fs::create_dir_all(format!("{vmbus}/net/eth1")).unwrap();
    symlink("../../../../bus/vmbus/drivers/hv_netvsc", format!("{vmbus}/driver")).unwrap();
    expect_pmd(&[UUID], 0, NO_VF);
    fs::remove_file(format!("{vmbus}/driver")).unwrap();
    fs::remove_dir_all(format!("{vmbus}/net")).unwrap();
    assert_eq!(which_pmd(&[UUID]).0, 1, "no driver has it");
    symlink("../../../../bus/vmbus/drivers/uio_hv_generic", format!("{vmbus}/driver")).unwrap();
    expect_pmd(&[UUID], 3, &format!("net_netvsc: uio_hv_generic has {UUID} already"));
}

#[test]
fn it_refuses_what_it_cannot_tell() {
    let mut stage = stage();
    stage.vf_appears("vf0", ONE, MAC);
    for (arguments, status, said) in [
        (&["eth7"][..], 1, "there is no interface eth7"),
        (&["vf0"], 1, "vf0 is not a NetVSC interface"),
        (&["lo"], 1, "there is no interface lo"),
        (&[], 2, "usage"),
        (&["eth1", "eth2"], 2, "usage"),
        (&["-w", "soon", "eth1"], 2, "soon is no number"),
        (&["../eth1"], 2, "../eth1 is no name"),
    ] {
        let (got, text) = which_pmd(arguments);
        assert_eq!(got, status, "{arguments:?}: {text}");
        assert!(text.starts_with(&format!("which-pmd.sh: {said}")), "{arguments:?}: {text}");
    }
}
