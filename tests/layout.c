/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Are the structs of the layout headers in include, and those of tests/vf/driver_layout.h, DPDK's?
 *
 * Compiled with the headers of one DPDK release, whose rte_version.h says which of the two
 * layouts is compared. Each offset, size and type is a static assert: when one differs,
 * this does not compile. The program only tells what was compared.
 *
 * The caller gives the include folders: ours, DPDK's public headers, and those of its
 * private ones, in a source tree of the same release:
 *
 *   cc $(pkg-config --cflags libdpdk) -DALLOW_EXPERIMENTAL_API -DALLOW_INTERNAL_API \
 *           -Iinclude -Itests/vf -I$tree/drivers/bus/pci -I$tree/drivers/bus/vdev \
 *           -I$tree/drivers/net/failsafe -I$tree/lib/eal/include -I$tree/lib/eal/linux/include \
 *           -I$tree/lib/ethdev tests/layout.c -o layout && ./layout
 *
 * For a release that is not installed: -include rte_config.h, and the tree's config,
 * lib/eal/linux/include, lib/eal/<architecture>/include and lib/[a-z]*, with an
 * rte_build_config.h that meson made.
 */
#include <stddef.h>
#include <stdio.h>

#include <rte_version.h>

#include <bus_driver.h>
#include <bus_pci_driver.h>
#include <bus_vdev_driver.h>
#include <dev_driver.h>
#include <ethdev_driver.h>
#include <ethdev_private.h>
#include <failsafe_private.h>

/* Its functions are declared as DPDK's are, or this does not compile. */
#include "driver_layout.h"
#include "failsafe_layout.h"
#include "vdev_layout.h"

#if RTE_VERSION >= RTE_VERSION_NUM(26, 7, 0, 0)
#define OURS(name) struct netvsc_##name##_26_07
#define DEVICE_OFFSET NETVSC_VDEV_DEVICE_OFFSET_26_07
#define LIST_LINKS(STRUCT, TYPED)
#define BUS(TYPED) TYPED(driver, bus)
#else
#define OURS(name) struct netvsc_##name##_22_11
#define DEVICE_OFFSET NETVSC_VDEV_DEVICE_OFFSET_22_11
#define LIST_LINKS(STRUCT, TYPED) STRUCT(vdev_driver, next)
#define BUS(TYPED)
#endif

/* Every member, in order: STRUCT for one that is a struct of ours, TYPED for the rest. */
#define MEMBERS(STRUCT, TYPED) \
	STRUCT(driver, next) \
	TYPED(driver, name) \
	TYPED(driver, alias) \
	BUS(TYPED) \
	LIST_LINKS(STRUCT, TYPED) \
	STRUCT(vdev_driver, driver) \
	TYPED(vdev_driver, probe) \
	TYPED(vdev_driver, remove) \
	TYPED(vdev_driver, dma_map) \
	TYPED(vdev_driver, dma_unmap) \
	TYPED(vdev_driver, drv_flags)

#define MEMBER(type, member) (((type *)0)->member)

#define SAME_PLACE(name, member) \
	_Static_assert(offsetof(OURS(name), member) == offsetof(struct rte_##name, member), \
		"offset of rte_" #name "." #member); \
	_Static_assert(sizeof(MEMBER(OURS(name), member)) == \
			sizeof(MEMBER(struct rte_##name, member)), \
		"size of rte_" #name "." #member);

/* Compatible types are assignable both ways: a hook of ours is one of theirs. */
#define SAME_PLACE_AND_TYPE(name, member) \
	SAME_PLACE(name, member) \
	_Static_assert(__builtin_types_compatible_p( \
			__typeof__(MEMBER(OURS(name), member)), \
			__typeof__(MEMBER(struct rte_##name, member))), \
		"type of rte_" #name "." #member);

#define SAME_SIZE(name) \
	_Static_assert(sizeof(OURS(name)) == sizeof(struct rte_##name), "size of rte_" #name);

MEMBERS(SAME_PLACE, SAME_PLACE_AND_TYPE)
SAME_SIZE(driver)
SAME_SIZE(vdev_driver)
_Static_assert(DEVICE_OFFSET == offsetof(struct rte_vdev_device, device),
	"offset of rte_vdev_device.device");

_Static_assert(offsetof(struct rte_bus, next) == 0 &&
		sizeof(MEMBER(struct rte_bus, next)) == sizeof(struct netvsc_list_links),
	"the beginning of rte_bus");

#define SAME_HEAD(ours, theirs, member) \
	_Static_assert(offsetof(struct netvsc_##ours, member) == offsetof(struct theirs, member), \
		"offset of " #theirs "." #member);

#define HEADS(HEAD) \
	HEAD(device_head, rte_device, driver) \
	HEAD(ethdev_head, rte_eth_dev, rx_pkt_burst) \
	HEAD(ethdev_head, rte_eth_dev, tx_pkt_burst) \
	HEAD(ethdev_data_head, rte_eth_dev_data, name) \
	HEAD(ethdev_data_head, rte_eth_dev_data, dev_private) \
	HEAD(failsafe_head, fs_priv, subs) \
	HEAD(failsafe_head, fs_priv, subs_tail) \
	HEAD(failsafe_head, fs_priv, stats_accumulator) \
	HEAD(failsafe_sub, sub_device, devargs) \
	HEAD(failsafe_sub, sub_device, state) \
	HEAD(failsafe_sub, sub_device, sdev_port_id)

HEADS(SAME_HEAD)
_Static_assert(sizeof(struct netvsc_failsafe_sub) == sizeof(struct sub_device), "size of sub_device");
_Static_assert(sizeof(MEMBER(struct sub_device, state)) == sizeof(int), "size of sub_device.state");
_Static_assert(NETVSC_FAILSAFE_UNDEFINED == DEV_UNDEFINED && NETVSC_FAILSAFE_ACTIVE == DEV_ACTIVE && DEV_STARTED > DEV_ACTIVE, "enum dev_state");
/* Nothing but numbers of 64 bits. */
#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
#define STATS_BY_QUEUE 0
#else
#define STATS_BY_QUEUE (5 * RTE_ETHDEV_QUEUE_STAT_CNTRS)
#endif
_Static_assert(sizeof(struct rte_eth_stats) == (8 + STATS_BY_QUEUE) * sizeof(uint64_t), "size of rte_eth_stats");

/* Where the functions of a PMD are, in pointers. */
#if RTE_VERSION >= RTE_VERSION_NUM(24, 3, 0, 0)
#define DEV_OPS NETVSC_DEV_OPS_24_03
#define DEV_CALLBACKS NETVSC_DEV_CALLBACKS_24_03
#elif RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define DEV_OPS NETVSC_DEV_OPS_23_11
#define DEV_CALLBACKS NETVSC_DEV_CALLBACKS_22_11
#else
#define DEV_OPS NETVSC_DEV_OPS_22_11
#define DEV_CALLBACKS NETVSC_DEV_CALLBACKS_22_11
#endif

#if RTE_VERSION >= RTE_VERSION_NUM(26, 7, 0, 0)
#define OPS NETVSC_OPS_26_07
#elif RTE_VERSION >= RTE_VERSION_NUM(25, 3, 0, 0)
#define OPS NETVSC_OPS_25_03
#elif RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
#define OPS NETVSC_OPS_24_11
#elif RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define OPS NETVSC_OPS_23_11
#elif RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
#define OPS NETVSC_OPS_23_03
#else
#define OPS NETVSC_OPS_22_11
#endif

#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
#define RX_QUEUE_RELEASE NETVSC_OP_RX_QUEUE_RELEASE_24_11
#elif RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define RX_QUEUE_RELEASE NETVSC_OP_RX_QUEUE_RELEASE_23_11
#else
#define RX_QUEUE_RELEASE NETVSC_OP_RX_QUEUE_RELEASE_22_11
#endif

#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
#define STATS_GET NETVSC_OP_STATS_GET_24_11
#else
#define STATS_GET NETVSC_OP_STATS_GET_22_11
#endif

#define PLACES(PLACE) \
	PLACE(rte_eth_dev, data, DEV_OPS - 2) \
	PLACE(rte_eth_dev, dev_ops, DEV_OPS) \
	PLACE(rte_eth_dev, link_intr_cbs, DEV_OPS + DEV_CALLBACKS) \
	PLACE(eth_dev_ops, dev_start, NETVSC_OP_DEV_START) \
	PLACE(eth_dev_ops, dev_close, NETVSC_OP_DEV_CLOSE) \
	PLACE(eth_dev_ops, link_update, NETVSC_OP_LINK_UPDATE) \
	PLACE(eth_dev_ops, stats_get, STATS_GET) \
	PLACE(eth_dev_ops, dev_infos_get, STATS_GET + NETVSC_OP_DEV_INFOS_GET) \
	PLACE(eth_dev_ops, rx_queue_setup, RX_QUEUE_RELEASE - 1) \
	PLACE(eth_dev_ops, rx_queue_release, RX_QUEUE_RELEASE) \
	PLACE(eth_dev_ops, tx_queue_release, RX_QUEUE_RELEASE + NETVSC_OP_TX_QUEUE_RELEASE)

#define SAME_PLACE_IN_POINTERS(theirs, member, place) \
	_Static_assert(offsetof(struct theirs, member) == (place) * sizeof(void *), \
		"place of " #theirs "." #member);

PLACES(SAME_PLACE_IN_POINTERS)
_Static_assert(sizeof(struct eth_dev_ops) == OPS * sizeof(void *), "size of eth_dev_ops");
_Static_assert(offsetof(struct rte_eth_dev_callback, next) == 0 &&
		offsetof(struct netvsc_ethdev_callback, function) == offsetof(struct rte_eth_dev_callback, cb_fn) &&
		offsetof(struct netvsc_ethdev_callback, argument) == offsetof(struct rte_eth_dev_callback, cb_arg) &&
		offsetof(struct netvsc_ethdev_callback, event) == offsetof(struct rte_eth_dev_callback, event),
	"the beginning of rte_eth_dev_callback");
_Static_assert(offsetof(struct rte_eth_dev_data, name) == 0, "the beginning of rte_eth_dev_data");
_Static_assert(offsetof(struct netvsc_ethdev_data_head, queues) == offsetof(struct rte_eth_dev_data, rx_queues) &&
		offsetof(struct netvsc_ethdev_data_head, queue_counts) == offsetof(struct rte_eth_dev_data, nb_rx_queues) &&
		RTE_MAX_QUEUES_PER_PORT >= 16,
	"the receive queues of rte_eth_dev_data");

/* What tests/vf/driver_layout.h names: PLACE for structs of ours, pointers to them, and what DPDK has as bits. */
#define PMD_MEMBERS(PLACE, TYPED) \
	TYPED(rte_device, test_device, devargs) \
	TYPED(rte_device, test_device, name) \
	TYPED(rte_device, test_device, numa_node) \
	PLACE(rte_pci_device, test_pci_device, device) \
	PLACE(rte_pci_driver, test_pci_driver, driver) \
	TYPED(rte_pci_driver, test_pci_driver, probe) \
	TYPED(rte_pci_driver, test_pci_driver, remove) \
	TYPED(rte_pci_driver, test_pci_driver, id_table) \
	TYPED(rte_pci_driver, test_pci_driver, drv_flags) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, name) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, rx_queues) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, tx_queues) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, dev_private) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, dev_link) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, dev_conf) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, mac_addrs) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, port_id) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, dev_flags) \
	TYPED(rte_eth_dev_data, test_eth_dev_data, numa_node) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_configure) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_start) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_stop) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_set_link_up) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_set_link_down) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_close) \
	TYPED(eth_dev_ops, test_eth_dev_ops, link_update) \
	TYPED(eth_dev_ops, test_eth_dev_ops, is_removed) \
	TYPED(eth_dev_ops, test_eth_dev_ops, promiscuous_enable) \
	TYPED(eth_dev_ops, test_eth_dev_ops, promiscuous_disable) \
	TYPED(eth_dev_ops, test_eth_dev_ops, allmulticast_enable) \
	TYPED(eth_dev_ops, test_eth_dev_ops, allmulticast_disable) \
	TYPED(eth_dev_ops, test_eth_dev_ops, mac_addr_remove) \
	TYPED(eth_dev_ops, test_eth_dev_ops, mac_addr_add) \
	TYPED(eth_dev_ops, test_eth_dev_ops, mac_addr_set) \
	TYPED(eth_dev_ops, test_eth_dev_ops, set_mc_addr_list) \
	TYPED(eth_dev_ops, test_eth_dev_ops, mtu_set) \
	TYPED(eth_dev_ops, test_eth_dev_ops, stats_get) \
	TYPED(eth_dev_ops, test_eth_dev_ops, stats_reset) \
	TYPED(eth_dev_ops, test_eth_dev_ops, dev_infos_get) \
	TYPED(eth_dev_ops, test_eth_dev_ops, rx_queue_setup) \
	TYPED(eth_dev_ops, test_eth_dev_ops, rx_queue_release) \
	TYPED(eth_dev_ops, test_eth_dev_ops, tx_queue_setup) \
	TYPED(eth_dev_ops, test_eth_dev_ops, tx_queue_release) \
	TYPED(rte_eth_dev, test_eth_dev, rx_pkt_burst) \
	TYPED(rte_eth_dev, test_eth_dev, tx_pkt_burst) \
	PLACE(rte_eth_dev, test_eth_dev, data) \
	PLACE(rte_eth_dev, test_eth_dev, dev_ops) \
	PLACE(rte_eth_dev, test_eth_dev, device)

#define PMD_PLACE(theirs, ours, member) \
	_Static_assert(offsetof(struct ours, member) == offsetof(struct theirs, member), \
		"offset of " #theirs "." #member); \
	_Static_assert(sizeof(MEMBER(struct ours, member)) == sizeof(MEMBER(struct theirs, member)), \
		"size of " #theirs "." #member);

#define PMD_TYPED(theirs, ours, member) \
	PMD_PLACE(theirs, ours, member) \
	_Static_assert(__builtin_types_compatible_p(__typeof__(MEMBER(struct ours, member)), \
			__typeof__(MEMBER(struct theirs, member))), \
		"type of " #theirs "." #member);

PMD_MEMBERS(PMD_PLACE, PMD_TYPED)
_Static_assert(sizeof(struct test_device) == sizeof(struct rte_device), "size of rte_device");
_Static_assert(sizeof(struct test_pci_driver) == sizeof(struct rte_pci_driver), "size of rte_pci_driver");
/* ethdev looks at every function that a release knows of. */
_Static_assert(sizeof(struct test_eth_dev_ops) >= sizeof(struct eth_dev_ops), "size of eth_dev_ops");
_Static_assert(TEST_PCI_DRV_INTR_RMV == RTE_PCI_DRV_INTR_RMV, "RTE_PCI_DRV_INTR_RMV");

struct compared {
	const char *what;
	size_t bytes;
};

#define OFFSET_ROW(name, member) \
	{ "offset rte_" #name "." #member, offsetof(OURS(name), member) },
#define SIZE_ROW(name) \
	{ "size   rte_" #name, sizeof(OURS(name)) },

#define HEAD_ROW(ours, theirs, member) \
	{ "offset " #theirs "." #member, offsetof(struct netvsc_##ours, member) },

#define PLACE_ROW(theirs, member, place) \
	{ "offset " #theirs "." #member, (place) * sizeof(void *) },

#define PMD_ROW(theirs, ours, member) \
	{ "offset " #theirs "." #member, offsetof(struct ours, member) },

static const struct compared compared[] = {
	MEMBERS(OFFSET_ROW, OFFSET_ROW)
	{ "offset rte_vdev_device.device", DEVICE_OFFSET },
	SIZE_ROW(driver)
	SIZE_ROW(vdev_driver)
	HEADS(HEAD_ROW)
	PLACES(PLACE_ROW)
	{ "size   eth_dev_ops", OPS * sizeof(void *) },
	PMD_MEMBERS(PMD_ROW, PMD_ROW)
};

int
main(void)
{
	const size_t count = sizeof(compared) / sizeof(compared[0]);

	printf("DPDK %d.%02d\n", RTE_VER_YEAR, RTE_VER_MONTH);
	for (size_t i = 0; i < count; i++)
		printf("%-42s %4zu\n", compared[i].what, compared[i].bytes);
	printf("%zu compared\n", count);
	return 0;
}
