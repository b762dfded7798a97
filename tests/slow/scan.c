/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A plugin that makes each scan of the bus of virtual devices take its time, and
 * so each hot-plug, at a point where it has yet to take the lock of the list.
 * It tells on stderr when one begins. The main thread's own are left alone.
 */

#include <stdio.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_common.h>

#define SCAN_US 50000

static void
scan(void *arg __rte_unused)
{
	if (gettid() == getpid())
		return;
	fputs("slow scan begins\n", stderr);
	usleep(SCAN_US);
}

RTE_INIT(slow_scan)
{
	rte_vdev_add_custom_scan(scan, NULL);
}
