// SPDX-License-Identifier: BSD-3-Clause
//! Makes the Rust face of the installed DPDK's headers, and names the DPDK libraries that the driver calls.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// Every function of DPDK that the driver calls, by exact name.
const FUNCTIONS: &[&str] = &[
    "rte_bus_find",
    "rte_bus_find_by_device",
    "rte_bus_find_by_name",
    "rte_dev_devargs",
    "rte_dev_is_probed",
    "rte_dev_iterator_next",
    "rte_dev_name",
    "rte_dev_remove",
    "rte_devargs_add",
    "rte_devargs_next",
    "rte_devargs_parse",
    "rte_devargs_reset",
    "rte_eal_alarm_set",
    "rte_eal_hotplug_add",
    "rte_eal_hotplug_remove",
    "rte_eal_process_type",
    "rte_eth_dev_callback_register",
    "rte_eth_dev_callback_unregister",
    "rte_eth_dev_close",
    "rte_eth_dev_conf_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_is_valid_port",
    "rte_eth_dev_owner_get",
    "rte_eth_dev_owner_new",
    "rte_eth_dev_owner_set",
    "rte_eth_dev_owner_unset",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_find_next_of",
    "rte_eth_iterator_cleanup",
    "rte_eth_iterator_init",
    "rte_eth_iterator_next",
    "rte_eth_macaddr_get",
    "rte_eth_stats_get",
    "rte_ether_unformat_addr",
    "rte_hypervisor_get",
    "rte_intr_callback_register",
    "rte_intr_callback_unregister",
    "rte_intr_fd_set",
    "rte_intr_instance_alloc",
    "rte_intr_instance_free",
    "rte_intr_type_set",
    "rte_kvargs_free",
    "rte_kvargs_parse",
    "rte_log",
    "rte_log_can_log",
    "rte_log_register_type_and_pick_level",
    "rte_strerror",
    "rte_tel_data_add_array_int",
    "rte_tel_data_add_dict_string",
    "rte_tel_data_add_dict_u64",
    "rte_tel_data_add_dict_uint",
    "rte_tel_data_start_array",
    "rte_tel_data_start_dict",
    "rte_telemetry_register_cmd",
    "rte_thread_is_intr",
    "rte_vdev_add_custom_scan",
    "rte_vdev_uninit",
    "rte_version",
];

/// Types that no function above brings along: the private structs of the headers in `include`.
const TYPES: &[&str] = &[
    "netvsc_af_packet_port",
    "netvsc_af_packet_queue",
    "netvsc_device_head",
    "netvsc_ethdev_callback",
    "netvsc_ethdev_data_head",
    "netvsc_ethdev_head",
    "netvsc_failsafe_head",
    "netvsc_vdev_driver_22_11",
    "netvsc_vdev_driver_26_07",
    "rte_mempool",
    "rte_mempool_cache",
    "rte_pktmbuf_pool_private",
];

/// Constants of DPDK's headers, and the table by which applications call PMDs.
const CONSTANTS: &[&str] = &[
    "NETVSC_DEV_OPS_.*",
    "NETVSC_FAILSAFE_.*",
    "NETVSC_OPS?_.*",
    "NETVSC_RSS",
    "NETVSC_SCATTER",
    "NETVSC_VDEV_DEVICE_OFFSET_.*",
    "RTE_ETH_ALL",
    "RTE_ETH_DEV_NO_OWNER",
    "RTE_ETH_NAME_MAX_LEN",
    "RTE_LOG_.*",
    "RTE_MAX_ETHPORTS",
    "RTE_MAX_LCORE",
    "RTE_PKTMBUF_HEADROOM",
    "rte_eth_fp_ops",
];

/// Libraries that hold those functions. The linker drops what a DPDK release keeps elsewhere.
const LIBRARIES: &[&str] = &["rte_ethdev", "rte_net", "rte_kvargs", "rte_bus_vdev", "rte_telemetry", "rte_eal"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=include/af_packet_layout.h");
    println!("cargo:rerun-if-changed=include/failsafe_layout.h");
    println!("cargo:rerun-if-changed=include/vdev_layout.h");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");

    // In its own tree that DPDK is meant and no other, which meson calls so.
    let in_tree = cfg!(feature = "in-tree");
    let package = if in_tree { "libdpdk-uninstalled" } else { "libdpdk" };
    let flags = pkg_config(&["--cflags", package])?;
    let mut builder = bindgen::Builder::default()
        .header_contents(
            "dpdk.h",
            "#include <rte_alarm.h>\n#include <rte_bus.h>\n#include <rte_bus_vdev.h>\n#include <rte_dev.h>\n\
             #include <rte_devargs.h>\n#include <rte_eal.h>\n#include <rte_ethdev.h>\n#include <rte_ether.h>\n\
             #include <rte_hypervisor.h>\n#include <rte_interrupts.h>\n#include <rte_kvargs.h>\n#include <rte_log.h>\n\
             #include <rte_mbuf.h>\n#include <rte_mempool.h>\n#include <rte_telemetry.h>\n#include <rte_version.h>\n\
             #include \"af_packet_layout.h\"\n#include \"failsafe_layout.h\"\n#include \"vdev_layout.h\"\n",
        )
        .clang_args(flags.split_whitespace())
        .clang_arg("-Iinclude")
        // Some calls are still marked experimental in 22.11; the mark is a compiler attribute only.
        .clang_arg("-DALLOW_EXPERIMENTAL_API")
        // rust-version in Cargo.toml.
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|error| error.to_string())?)
        // Another DPDK's headers are other bindings.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    builder.generate()?.write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("dpdk.rs"))?;

    // What adds a number to a reply has had another name since 23.03.
    println!("cargo:rustc-check-cfg=cfg(telemetry_uint)");
    if Command::new("pkg-config").args(["--atleast-version=23.03", package]).status().is_ok_and(|s| s.success()) {
        println!("cargo:rustc-cfg=telemetry_uint");
    }
    if in_tree {
        return Ok(());
    }
    println!("cargo:rustc-link-search=native={}", pkg_config(&["--variable=libdir", "libdpdk"])?);
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    // The log functions have a library of their own since 23.11.
    if Command::new("pkg-config").args(["--atleast-version=23.11", "libdpdk"]).status().is_ok_and(|s| s.success()) {
        println!("cargo:rustc-link-lib=dylib=rte_log");
    }
    Ok(())
}

fn pkg_config(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new("pkg-config").args(arguments).output().map_err(|error| format!("pkg-config: {error}"))?;
    if !output.status.success() {
        return Err(format!("no DPDK: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
