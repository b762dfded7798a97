/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * To be loaded before all else (LD_PRELOAD): makes each hot-removal take its
 * time, but for those of the main thread, and so does the application before it
 * ends. Who has a device removed by another thread then sees it happen after all
 * buses were cleaned up.
 */

#include <dlfcn.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>

#define REMOVE_US 50000

int
rte_dev_remove(struct rte_device *dev)
{
	int (*real)(struct rte_device *) = dlsym(RTLD_NEXT, "rte_dev_remove");

	if (gettid() != getpid())
		usleep(REMOVE_US);
	return real(dev);
}

int
rte_eal_cleanup(void)
{
	int (*real)(void) = dlsym(RTLD_NEXT, "rte_eal_cleanup");
	int ret = real();

	usleep(4 * REMOVE_US);
	return ret;
}
