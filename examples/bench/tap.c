/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A stand-in for net_tap, which needs parts of the kernel that not every machine
 * has: net_af_packet under that name, on the interface that remote= names. So both
 * drivers have the same fallback by their default.
 */

#include <errno.h>
#include <string.h>

#include <rte_common.h>
#include <rte_devargs.h>

#include "../../tests/vf/driver_layout.h"

static struct netvsc_vdev_driver_22_11 tap;

/** The drivers that were registered after this one hang on it. */
static const struct netvsc_vdev_driver_22_11 *
af_packet(void)
{
	const struct netvsc_vdev_driver_22_11 *driver = &tap;

	while (driver != NULL && strcmp(driver->driver.name, "net_af_packet") != 0)
		driver = driver->next.next;
	return driver;
}

static int
probe(struct rte_vdev_device *vdev)
{
	struct test_device *device = (struct test_device *)((char *)vdev + NETVSC_VDEV_DEVICE_OFFSET_22_11);
	char *args = device->devargs->data;

	/* Once: the device may be probed again with what is left here. */
	if (strncmp(args, "remote=", strlen("remote=")) == 0) {
		memmove(args, args + 1, strlen(args));
		memcpy(args, "iface=", strlen("iface="));
	}
	return af_packet() == NULL ? -ENOTSUP : af_packet()->probe(vdev);
}

static int
remove_port(struct rte_vdev_device *vdev)
{
	return af_packet() == NULL ? -ENOTSUP : af_packet()->remove(vdev);
}

static struct netvsc_vdev_driver_22_11 tap = {
	.driver.name = "net_tap",
	.probe = probe,
	.remove = remove_port,
};

RTE_INIT(stand_in_tap)
{
	rte_vdev_register((struct rte_vdev_driver *)&tap);
}
