/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef VDEV_NETVSC_H
#define VDEV_NETVSC_H

/* Made from the documentation in src/: see tests/header.rs. Changes here are lost. */

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Registers the driver `net_vdev_netvsc` with the bus of virtual devices, before `rte_eal_init`.
 *
 * A constructor of this library does so by itself. An application that links the static library calls this function
 * to have that library linked at all, when it does not name it between `--whole-archive` and `--no-whole-archive`.
 * Further calls do nothing. Not to be called by two threads at once, nor after `rte_eal_init`.
 */
void vdev_netvsc_register(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VDEV_NETVSC_H */
