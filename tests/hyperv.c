/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * To be preloaded: has DPDK believe that it runs on Hyper-V, which it asks CPUID.
 */

#include <rte_hypervisor.h>

enum rte_hypervisor
rte_hypervisor_get(void)
{
	return RTE_HYPERVISOR_HYPERV;
}
