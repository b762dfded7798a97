// SPDX-License-Identifier: BSD-3-Clause
//! What the plugin calls, and how each of it fails by its manual page or by DPDK's contract.

use libc::{
    EACCES, EADDRINUSE, EAGAIN, EBUSY, EINTR, EINVAL, EIO, EMFILE, ENFILE, ENOBUFS, ENODEV, ENOMEM, ENOPROTOOPT,
    ENOTSUP, EPERM, ETIMEDOUT,
};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing is done.
    Instead,
    /// It is done, and an error returned all the same.
    After,
    /// One byte is read.
    Short,
}

/// A failure of a call.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub manner: Manner,
    pub returned: i64,
    /// 0 where the function leaves it alone.
    pub errno: i32,
    /// What the log calls it, when it is told.
    pub error: i32,
}

/// `-1` and `errno`.
const fn minus(errno: i32) -> Failure {
    Failure { manner: Manner::Instead, returned: -1, errno, error: errno }
}

/// The negative errno, as DPDK returns it.
const fn negative(error: i32) -> Failure {
    Failure { manner: Manner::Instead, returned: -(error as i64), errno: 0, error }
}

/// A null pointer and `errno`.
const fn null(errno: i32) -> Failure {
    Failure { manner: Manner::Instead, returned: 0, errno, error: errno }
}

const fn after(failure: Failure) -> Failure {
    Failure { manner: Manner::After, ..failure }
}

/// -1, which is EPERM in DPDK's way.
const ONE_LESS: Failure = negative(EPERM);

/// A null pointer, for lack of memory, and no errno.
const NOTHING: Failure = Failure { errno: 0, ..null(ENOMEM) };

/// An answer that is not there yet, for which the driver waits.
const LATE: Failure = Failure { error: ETIMEDOUT, ..minus(EAGAIN) };

const SHORT: Failure = Failure { manner: Manner::Short, returned: 0, errno: 0, error: 0 };

/// Each call that can fail, and how. The first failure of each is the one of `make check`.
pub const CALLS: [(&str, &[Failure]); 56] = [
    ("bind", &[minus(ENOMEM), minus(EADDRINUSE)]),
    ("calloc", &[null(ENOMEM)]),
    ("close", &[after(minus(EIO)), after(minus(EINTR))]),
    ("fcntl", &[minus(EMFILE)]),
    ("getsockname", &[minus(ENOBUFS)]),
    ("ioctl", &[minus(ENOMEM)]),
    ("malloc", &[null(ENOMEM)]),
    ("nanosleep", &[minus(EINTR)]),
    ("open64", &[minus(EMFILE), minus(ENFILE), minus(EACCES), minus(ENOMEM), minus(EINTR)]),
    ("opendir", &[null(EMFILE), null(EACCES), null(ENOMEM)]),
    ("pipe2", &[minus(EMFILE), minus(ENFILE)]),
    ("poll", &[minus(ENOMEM), minus(EINTR)]),
    ("posix_memalign", &[Failure { returned: ENOMEM as i64, ..negative(ENOMEM) }]),
    ("read", &[minus(EIO), minus(EINTR), SHORT]),
    ("readdir64", &[null(EIO)]),
    ("readlink", &[minus(ENOMEM), minus(EACCES), minus(EIO)]),
    ("realloc", &[null(ENOMEM)]),
    ("recvfrom", &[minus(ENOBUFS), minus(ENOMEM), minus(EINTR), LATE]),
    ("rte_dev_iterator_next", &[NOTHING]),
    ("rte_dev_remove", &[negative(EBUSY), negative(ENOMEM)]),
    ("rte_devargs_add", &[negative(ENOMEM)]),
    ("rte_devargs_parse", &[negative(ENOMEM)]),
    ("rte_eal_alarm_set", &[negative(ENOMEM), after(ONE_LESS)]),
    ("rte_eal_hotplug_add", &[negative(ENOMEM), negative(ENODEV), negative(EIO), ONE_LESS]),
    ("rte_eal_hotplug_remove", &[negative(EBUSY), negative(ENOMEM)]),
    ("rte_eth_dev_callback_register", &[negative(ENOMEM)]),
    ("rte_eth_dev_callback_unregister", &[negative(EAGAIN)]),
    ("rte_eth_dev_close", &[after(negative(EIO)), negative(EINVAL)]),
    ("rte_eth_dev_conf_get", &[negative(ENODEV)]),
    ("rte_eth_dev_configure", &[negative(ENOMEM), negative(EBUSY)]),
    ("rte_eth_dev_info_get", &[negative(EIO), negative(ENOTSUP)]),
    ("rte_eth_dev_owner_get", &[negative(ENODEV)]),
    ("rte_eth_dev_owner_new", &[negative(ENOMEM)]),
    ("rte_eth_dev_owner_set", &[negative(ENOMEM), negative(EPERM)]),
    ("rte_eth_dev_owner_unset", &[negative(ENOMEM), negative(EPERM)]),
    ("rte_eth_dev_stop", &[negative(EIO), after(negative(EIO))]),
    ("rte_eth_iterator_init", &[negative(ENOMEM)]),
    ("rte_eth_macaddr_get", &[negative(ENODEV)]),
    ("rte_intr_callback_register", &[negative(ENOMEM), negative(EINVAL)]),
    ("rte_intr_callback_unregister", &[negative(EAGAIN)]),
    ("rte_intr_fd_set", &[negative(EINVAL)]),
    ("rte_intr_instance_alloc", &[NOTHING]),
    ("rte_intr_type_set", &[negative(EINVAL)]),
    ("rte_kvargs_parse", &[NOTHING]),
    ("rte_log_register_type_and_pick_level", &[negative(ENOMEM)]),
    ("rte_telemetry_register_cmd", &[negative(ENOMEM)]),
    ("rte_vdev_add_custom_scan", &[ONE_LESS]),
    ("rte_vdev_uninit", &[negative(EBUSY)]),
    ("sendto", &[minus(ENOBUFS), minus(EINTR), minus(ENOMEM), minus(EAGAIN)]),
    ("setsockopt", &[minus(EPERM), minus(ENOPROTOOPT)]),
    ("socket", &[minus(EMFILE), minus(ENFILE), minus(ENOBUFS), minus(EACCES)]),
    ("stat64", &[minus(ENOMEM), minus(EACCES)]),
    ("statx", &[minus(ENOMEM), minus(EACCES)]),
    ("syscall", &[minus(EINTR)]),
    ("clock_nanosleep", &[Failure { returned: EINTR as i64, ..negative(EINTR) }]),
    ("write", &[minus(EAGAIN), minus(EINTR)]),
];

/// Why telemetry's part needs no failure.
const PART: &str = "fills in an answer to telemetry, which lacks that part then";

/// Those that cannot fail, and why.
pub const SAFE: [(&str, &str); 63] = [
    ("_ITM_deregisterTMCloneTable", "called by no code of the driver"),
    ("_ITM_registerTMCloneTable", "called by no code of the driver"),
    ("_Unwind_DeleteException", "Rust's own unwinding"),
    ("_Unwind_GetDataRelBase", "Rust's own unwinding"),
    ("_Unwind_GetIPInfo", "Rust's own unwinding"),
    ("_Unwind_GetLanguageSpecificData", "Rust's own unwinding"),
    ("_Unwind_GetRegionStart", "Rust's own unwinding"),
    ("_Unwind_GetTextRelBase", "Rust's own unwinding"),
    ("_Unwind_RaiseException", "Rust's own unwinding"),
    ("_Unwind_Resume", "Rust's own unwinding"),
    ("_Unwind_SetGR", "Rust's own unwinding"),
    ("_Unwind_SetIP", "Rust's own unwinding"),
    ("__cxa_finalize", "the end of the library"),
    ("__errno_location", "returns an address"),
    ("__gmon_start__", "called by no code of the driver"),
    ("__tls_get_addr", "returns an address, or ends the process"),
    ("__xpg_strerror_r", "a text for a number, cut to the buffer"),
    ("abort", "does not return"),
    ("bcmp", "compares"),
    ("clock_gettime", "fails for unknown clocks only"),
    ("closedir", "fails for what is not open only"),
    ("dirfd", "reads a field"),
    ("free", "returns nothing"),
    ("memcmp", "compares"),
    ("memcpy", "copies"),
    ("memmove", "copies"),
    ("memset", "writes"),
    ("rte_bus_find_by_device", "walks lists: nothing is no failure but the answer"),
    ("rte_bus_find", "walks a list: nothing is no failure but the answer"),
    ("rte_bus_find_by_name", "walks a list: nothing is no failure but the answer"),
    ("rte_bus_unregister", "returns nothing"),
    ("rte_dev_devargs", "reads a field"),
    ("rte_dev_is_probed", "reads a field"),
    ("rte_dev_name", "reads a field"),
    ("rte_devargs_next", "walks a list: nothing is its end"),
    ("rte_devargs_reset", "returns nothing"),
    ("rte_eal_process_type", "reads a field"),
    ("rte_eth_dev_allocated", "walks an array: nothing is no failure but the answer"),
    ("rte_eth_dev_get_name_by_port", "fails for a port that is not there only: no failure but the answer"),
    ("rte_eth_dev_get_port_by_name", "walks an array: nothing is no failure but the answer"),
    ("rte_eth_dev_is_valid_port", "answers yes or no"),
    ("rte_eth_find_next", "walks an array: the greatest number is its end"),
    ("rte_eth_find_next_of", "walks an array: the greatest number is its end"),
    ("rte_eth_fp_ops", "no function"),
    ("rte_eth_iterator_next", "walks an array: the greatest number is its end"),
    ("rte_eth_stats_get", "called in secondary processes only"),
    ("rte_ether_unformat_addr", "fails for what is no address only"),
    ("rte_hypervisor_get", "asks the CPU"),
    ("rte_intr_instance_free", "returns nothing"),
    ("rte_kvargs_free", "returns nothing"),
    ("rte_log", "its result tells of nothing that could be done"),
    ("rte_log_can_log", "answers yes or no"),
    ("rte_strerror", "a text for a number"),
    ("rte_tel_data_add_array_int", PART),
    ("rte_tel_data_add_dict_string", PART),
    ("rte_tel_data_add_dict_u64", PART),
    ("rte_tel_data_add_dict_uint", PART),
    ("rte_tel_data_start_array", PART),
    ("rte_tel_data_start_dict", PART),
    ("rte_thread_is_intr", "answers yes or no"),
    ("rte_vdev_register", "returns nothing"),
    ("rte_version", "returns a text"),
    ("strlen", "counts"),
];

/// What is not played, as a part of the name of its cases, and why.
pub const LEFT_OUT: [(&str, &str); 2] = [
    (
        "cleanup: rte_eth_dev_close fails with Invalid argument, from there on",
        "rte_eal_cleanup frees the devices of a port that is never closed, and failsafe ends there",
    ),
    (
        "cleanup: rte_eth_dev_stop fails with Input/output error, from there on",
        "as above, for a port that is never stopped",
    ),
];
