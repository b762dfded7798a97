/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A DPDK application that has the driver linked in. It starts EAL with its
 * arguments, prints the names of the ports that are there then, and cleans up.
 *
 * With REGISTER it calls the driver by name; else the driver's constructor has
 * to do, and the archive to be linked whole.
 */

#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>

#ifdef REGISTER
#include <vdev_netvsc.h>
#endif

int
main(int argc, char **argv)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	uint16_t port;

	/* Logs go elsewhere than the names. */
	rte_openlog_stream(stderr);
#ifdef REGISTER
	vdev_netvsc_register();
#endif
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "rte_eal_init: %s\n", rte_strerror(rte_errno));
		return EXIT_FAILURE;
	}
	for (port = rte_eth_find_next(0); port < RTE_MAX_ETHPORTS;
			port = rte_eth_find_next(port + 1))
		if (rte_eth_dev_get_name_by_port(port, name) == 0)
			printf("%s\n", name);
	return rte_eal_cleanup() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
