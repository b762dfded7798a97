/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * Another release of DPDK, as far as the driver can tell: to be loaded before all
 * else (LD_PRELOAD), with the text that rte_version() shall return in the
 * environment variable RELEASE.
 *
 * From 26.07 on it takes the object that the driver registers as that release
 * does (drivers/bus/vdev/vdev.c, lib/eal/common/eal_common_bus.c), by the second
 * layout of include/vdev_layout.h, and has the EAL that really runs, whose
 * release has the first layout, call it through a driver of its own. Other
 * drivers are let through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vdev_layout.h"

/* What 26.07 hands to the hooks: a struct rte_vdev_device is just a struct rte_device. */
#define DEVICE_BYTES 64
struct device {
	struct device *next;
	struct rte_vdev_device *real;
	union {
		struct netvsc_device_head head;
		unsigned char bytes[DEVICE_BYTES];
	} given;
};

static struct device *devices;
static struct netvsc_vdev_driver_26_07 *driver;
static struct netvsc_vdev_driver_22_11 between;

const char *rte_version(void);

const char *
rte_version(void)
{
	const char *release = getenv("RELEASE");

	return release == NULL ? "DPDK without RELEASE" : release;
}

static struct device *
device_of(struct rte_vdev_device *real)
{
	struct device *device = devices;

	while (device != NULL && device->real != real)
		device = device->next;
	return device;
}

static int
probe(struct rte_vdev_device *real)
{
	struct device *device = device_of(real);
	int ret;

	if (device == NULL) {
		device = calloc(1, sizeof(*device));
		if (device == NULL)
			abort();
		device->real = real;
		device->next = devices;
		devices = device;
	}
	memcpy(&device->given, (char *)real + NETVSC_VDEV_DEVICE_OFFSET_22_11, DEVICE_BYTES);
	/* Set before the hook is called, and taken back when that fails. */
	device->given.head.driver = (void *)&driver->driver;
	ret = driver->probe((struct rte_vdev_device *)&device->given);
	fprintf(stderr, "release: probe returned %d\n", ret);
	return ret;
}

static int
remove_device(struct rte_vdev_device *real)
{
	struct device *device = device_of(real);
	int ret;

	if (device == NULL)
		abort();
	ret = driver->remove((struct rte_vdev_device *)&device->given);
	fprintf(stderr, "release: remove returned %d\n", ret);
	return ret;
}

static int
is_the_driver(const void *caller)
{
	Dl_info info;

	/* The C driver has the same name, in DPDK's folder of plugins. */
	return dladdr(caller, &info) != 0 && strstr(info.dli_fname, "net_vdev_netvsc") != NULL &&
		strstr(info.dli_fname, "/dpdk/pmds-") == NULL;
}

void
rte_vdev_register(struct rte_vdev_driver *registered)
{
	void (*real)(void *) = (void (*)(void *))dlsym(RTLD_NEXT, "rte_vdev_register");
	unsigned int year = 0, month = 0;

	sscanf(rte_version(), "DPDK %u.%u", &year, &month);
	if (year * 100 + month < 2607 || !is_the_driver(__builtin_return_address(0))) {
		real(registered);
		return;
	}
	driver = (struct netvsc_vdev_driver_26_07 *)registered;
	if (driver->driver.next.next != NULL || driver->driver.next.previous != NULL ||
			driver->driver.bus != NULL || driver->probe == NULL ||
			driver->remove == NULL || driver->dma_map != NULL ||
			driver->dma_unmap != NULL || driver->drv_flags != 0) {
		fprintf(stderr, "release: not an object of the second layout\n");
		abort();
	}
	/* As rte_bus_add_driver() does; any pointer will do. */
	driver->driver.bus = (const struct rte_bus *)&between;
	fprintf(stderr, "release: registered %s, alias %s\n", driver->driver.name,
			driver->driver.alias);
	between.driver.name = driver->driver.name;
	between.driver.alias = driver->driver.alias;
	between.probe = probe;
	between.remove = remove_device;
	real(&between);
}
