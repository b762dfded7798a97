/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A plugin that tells how long the interrupt thread is held: with the device
 * bench_gap0 an alarm of 1 ms follows the next, and the longest time from one to
 * the next, in nanoseconds, is the number in the file /run/gap. Whoever writes
 * a zero there begins anew.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_common.h>

#include <vdev_layout.h>

#define GAP "/run/gap"
#define PERIOD_US 1000

static atomic_uint_least64_t *longest;
static uint64_t last;

static void
ring(void *arg)
{
	struct timespec time;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &time);
	now = time.tv_sec * 1000000000ULL + time.tv_nsec;
	if (last != 0 && now - last > *longest)
		*longest = now - last;
	last = now;
	rte_eal_alarm_set(PERIOD_US, ring, arg);
}

static int
probe(struct rte_vdev_device *vdev __rte_unused)
{
	int fd = open(GAP, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*longest)) != 0)
		return -errno;
	longest = mmap(NULL, sizeof(*longest), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return longest == MAP_FAILED ? -errno : rte_eal_alarm_set(PERIOD_US, ring, NULL);
}

static int
end(struct rte_vdev_device *vdev __rte_unused)
{
	return 0;
}

static struct netvsc_vdev_driver_22_11 driver = {
	.driver.name = "bench_gap",
	.probe = probe,
	.remove = end,
};

RTE_INIT(gap)
{
	rte_vdev_register((struct rte_vdev_driver *)&driver);
}
