/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A stand-in for net_failsafe that tells when an address can be read: it has no
 * sub-devices and does nothing on the interrupt thread. Of its arguments it takes
 * fd(N). A thread of its own waits for all these descriptors, reads each as soon
 * as there is something, and tells of it (posts.h).
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_dev.h>
#include <rte_ethdev.h>

#include "../../tests/vf/driver_layout.h"
#include "posts.h"

static struct rte_ether_addr mac = { .addr_bytes = { 2, 0, 0, 0, 0, 1 } };
/** By port; one end of a pipe last, which wakes the thread. */
static struct pollfd fds[RTE_MAX_ETHPORTS + 1];
static int wake = -1;

static void *
watch(void *arg __rte_unused)
{
	int posts = posts_open();
	cpu_set_t cpus;

	/* EAL has bound whoever started this to one. */
	memset(&cpus, 0xff, sizeof(cpus));
	sched_setaffinity(0, sizeof(cpus), &cpus);
	while (poll(fds, RTE_DIM(fds), -1) > 0) {
		char byte;

		for (unsigned int i = 0; i < RTE_MAX_ETHPORTS; i++)
			if (fds[i].revents & POLLIN)
				posts_read(posts, fds[i].fd);
		if (fds[RTE_MAX_ETHPORTS].revents != 0 && read(fds[RTE_MAX_ETHPORTS].fd, &byte, 1) < 0)
			break;
	}
	return NULL;
}

/** Has the thread wait for a descriptor, or with -1 for none, on behalf of a port. */
static int
set_fd(uint16_t port, int fd)
{
	int ends[2];
	pthread_t thread;

	if (wake < 0) {
		for (unsigned int i = 0; i < RTE_MAX_ETHPORTS; i++)
			fds[i].fd = -1;
		if (pipe(ends) != 0)
			return -errno;
		fds[RTE_MAX_ETHPORTS] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
		wake = ends[1];
		if (pthread_create(&thread, NULL, watch, NULL) != 0)
			return -ENOMEM;
	}
	fds[port] = (struct pollfd){ .fd = fd, .events = POLLIN };
	return write(wake, "", 1) == 1 ? 0 : -errno;
}

static int
port_infos_get(struct rte_eth_dev *dev __rte_unused, struct rte_eth_dev_info *info)
{
	info->max_mac_addrs = 1;
	return 0;
}

static int
port_stop(struct rte_eth_dev *dev __rte_unused)
{
	return 0;
}

static int
port_close(struct rte_eth_dev *dev)
{
	struct test_eth_dev_data *data = ((struct test_eth_dev *)dev)->data;

	data->mac_addrs = NULL;
	return set_fd(data->port_id, -1);
}

static const struct test_eth_dev_ops ops = {
	.dev_close = port_close,
	.dev_infos_get = port_infos_get,
	.dev_stop = port_stop,
};

static struct test_device *
device_of(struct rte_vdev_device *vdev)
{
	return (struct test_device *)((char *)vdev + NETVSC_VDEV_DEVICE_OFFSET_22_11);
}

static int
probe(struct rte_vdev_device *vdev)
{
	struct test_device *device = device_of(vdev);
	const char *fd = strstr(device->devargs->args, "fd(");
	struct test_eth_dev *self;
	struct rte_eth_dev *dev;

	if (fd == NULL)
		return -EINVAL;
	dev = rte_eth_dev_allocate(device->name);
	if (dev == NULL)
		return -ENOMEM;
	self = (struct test_eth_dev *)dev;
	self->device = device;
	self->dev_ops = &ops;
	self->rx_pkt_burst = rte_eth_pkt_burst_dummy;
	self->tx_pkt_burst = rte_eth_pkt_burst_dummy;
	self->data->mac_addrs = &mac;
	rte_eth_dev_probing_finish(dev);
	return set_fd(self->data->port_id, dup(atoi(fd + strlen("fd("))));
}

static int
remove_port(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *dev = rte_eth_dev_get_by_name(device_of(vdev)->name);

	if (dev != NULL) {
		port_close(dev);
		rte_eth_dev_release_port(dev);
	}
	return 0;
}

static struct netvsc_vdev_driver_22_11 driver = {
	.driver.name = "net_failsafe",
	.probe = probe,
	.remove = remove_port,
};

RTE_INIT(failsafe)
{
	rte_vdev_register((struct rte_vdev_driver *)&driver);
}
