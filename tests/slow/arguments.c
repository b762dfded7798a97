/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * To be loaded before all else (LD_PRELOAD): makes each look at EAL's list of
 * device arguments take its time, and tells on stderr of two threads that are at
 * it at once, as a bus does when it scans. That list has no lock.
 */

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <rte_devargs.h>

#define LOOK_US 2000

struct rte_devargs *
rte_devargs_next(const char *busname, const struct rte_devargs *start)
{
	struct rte_devargs *(*real)(const char *, const struct rte_devargs *) =
		dlsym(RTLD_NEXT, "rte_devargs_next");
	static atomic_int at_it;
	struct rte_devargs *next;

	if (atomic_fetch_add(&at_it, 1) > 0)
		fputs("two threads at the list of device arguments\n", stderr);
	usleep(LOOK_US);
	next = real(busname, start);
	atomic_fetch_sub(&at_it, 1);
	return next;
}
