/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver as this tree's buses and tools know one. What it does is in the crate,
 * rust/, which this file calls; and what the crate takes for granted of this tree's
 * private structs is asserted here.
 */
#include <stddef.h>

#include <bus_driver.h>
#include <bus_vdev_driver.h>
#include <dev_driver.h>
#include <ethdev_driver.h>
#include <rte_common.h>

#include "vdev_layout.h"

/* rust/src/eal/vdev.rs and rust/src/eal/failsafe.rs */
static_assert(offsetof(struct rte_bus, next) == 0 &&
		sizeof(((struct rte_bus *)0)->next) == sizeof(struct netvsc_list_links),
	"struct rte_bus begins with its links");
static_assert(offsetof(struct rte_device, driver) == offsetof(struct netvsc_device_head, driver),
	"place of rte_device.driver");
static_assert(offsetof(struct rte_eth_dev, rx_pkt_burst) ==
		offsetof(struct netvsc_ethdev_head, rx_pkt_burst),
	"place of rte_eth_dev.rx_pkt_burst");
static_assert(offsetof(struct rte_eth_dev, tx_pkt_burst) ==
		offsetof(struct netvsc_ethdev_head, tx_pkt_burst),
	"place of rte_eth_dev.tx_pkt_burst");

/* rust/src/driver.rs */
void vdev_netvsc_init(void);
int vdev_netvsc_probe(const char *name, const char *args);
int vdev_netvsc_remove(const char *name);

static int
probe(struct rte_vdev_device *vdev)
{
	return vdev_netvsc_probe(rte_vdev_device_name(vdev), rte_vdev_device_args(vdev));
}

static int
remove_instance(struct rte_vdev_device *vdev)
{
	return vdev_netvsc_remove(rte_vdev_device_name(vdev));
}

static struct rte_vdev_driver vdev_netvsc = {
	.probe = probe,
	.remove = remove_instance,
};

RTE_INIT(init)
{
	vdev_netvsc_init();
}

RTE_PMD_REGISTER_VDEV(net_vdev_netvsc, vdev_netvsc);
RTE_PMD_REGISTER_ALIAS(net_vdev_netvsc, eth_vdev_netvsc);
RTE_PMD_REGISTER_PARAM_STRING(net_vdev_netvsc,
	"iface=<string> "
	"mac=<string> "
	"force=<int> "
	"ignore=<int> "
	"fallback=tap|af_packet "
	"hotplug_poll=<int> "
	"queues=<int>");
