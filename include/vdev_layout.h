/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver of DPDK's vdev bus needs and distributions do not install.
 *
 * Since DPDK 22.11 the headers that describe a driver belong to DPDK's own build
 * (installed only with enable_driver_sdk), so the structs are written down here, in
 * both layouts there are:
 *
 *   _22_11   22.11 up to 26.03   the list links come first
 *   _26_07   26.07 and later     the bus keeps the lists: driver and device come first
 *
 * 25.11, 26.03 and 26.07 share one soname, so one plugin can meet both; it asks
 * rte_version() which of the two to hand to rte_vdev_register(). The names are ours:
 * this header can be read beside DPDK's, and tests/layout.c compares the two.
 *
 * Of struct rte_device and struct rte_eth_dev only the beginning is given, which is the
 * same in all releases: for everything else there are accessors that DPDK exports
 * (rte_dev_name(), rte_dev_devargs(), ...).
 */
#ifndef VDEV_LAYOUT_H
#define VDEV_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

struct rte_bus;
struct rte_vdev_device;
struct rte_vdev_driver;

/* RTE_TAILQ_ENTRY(): lib/eal/include/rte_tailq.h, sys/queue.h. Zero until registered. */
struct netvsc_list_links {
	void *next;
	void **previous;
};

/*
 * The hooks: drivers/bus/vdev/bus_vdev_driver.h, 22.11.11 and 26.07.
 * 0 is success, a negative errno a failure. 26.07 takes a positive result of probe as
 * "not mine" and asks the next driver.
 */
typedef int netvsc_vdev_probe(struct rte_vdev_device *vdev);
typedef int netvsc_vdev_remove(struct rte_vdev_device *vdev);
typedef int netvsc_vdev_dma_map(struct rte_vdev_device *vdev, void *addr,
				uint64_t iova, size_t len);
typedef int netvsc_vdev_dma_unmap(struct rte_vdev_device *vdev, void *addr,
				  uint64_t iova, size_t len);

/*
 * Bytes from a struct rte_vdev_device to the struct rte_device inside it:
 * drivers/bus/vdev/bus_vdev_driver.h, 22.11.11 (after the list links) and 26.07
 * (the only member).
 */
enum {
	NETVSC_VDEV_DEVICE_OFFSET_22_11 = sizeof(struct netvsc_list_links),
	NETVSC_VDEV_DEVICE_OFFSET_26_07 = 0,
};

/* struct rte_driver: lib/eal/include/dev_driver.h, 22.11.11. */
struct netvsc_driver_22_11 {
	struct netvsc_list_links next;
	const char *name;
	const char *alias;
};

/* struct rte_vdev_driver: drivers/bus/vdev/bus_vdev_driver.h, 22.11.11. */
struct netvsc_vdev_driver_22_11 {
	struct netvsc_list_links next;
	struct netvsc_driver_22_11 driver;
	netvsc_vdev_probe *probe;
	netvsc_vdev_remove *remove;
	netvsc_vdev_dma_map *dma_map;
	netvsc_vdev_dma_unmap *dma_unmap;
	uint32_t drv_flags;
};

/* struct rte_driver: lib/eal/include/dev_driver.h, 26.07. */
struct netvsc_driver_26_07 {
	struct netvsc_list_links next;
	const char *name;
	const char *alias;
	const struct rte_bus *bus; /* filled in by rte_vdev_register() */
};

/* struct rte_vdev_driver: drivers/bus/vdev/bus_vdev_driver.h, 26.07. */
struct netvsc_vdev_driver_26_07 {
	struct netvsc_driver_26_07 driver;
	netvsc_vdev_probe *probe;
	netvsc_vdev_remove *remove;
	netvsc_vdev_dma_map *dma_map;
	netvsc_vdev_dma_unmap *dma_unmap;
	uint32_t drv_flags;
};

/*
 * Exported by librte_bus_vdev in version node INTERNAL, 22.11.11 and 26.07, and
 * declared only in bus_vdev_driver.h. The driver must outlive its registration.
 */
void rte_vdev_register(struct rte_vdev_driver *driver);
void rte_vdev_unregister(struct rte_vdev_driver *driver);

/* The beginning of struct rte_device: lib/eal/include/dev_driver.h, 22.11.11 and 26.07. */
struct netvsc_device_head {
	struct netvsc_list_links next;
	const char *name;
	const char *bus_info;
	const void *driver; /* null while no driver has it */
};

/* The beginning of struct rte_eth_dev: lib/ethdev/ethdev_driver.h, 22.11.11 and 26.07. */
struct netvsc_ethdev_head {
	void *rx_pkt_burst; /* functions */
	void *tx_pkt_burst;
};

/* The beginning of struct rte_eth_dev_callback, who is told of an event: lib/ethdev/ethdev_private.h, 22.11.11 and 26.07. */
struct netvsc_ethdev_callback {
	struct netvsc_list_links next;
	void *function;
	void *argument;
	void *answer;
	unsigned int event;
};

/*
 * Where struct rte_eth_dev has its dev_ops, how many functions struct eth_dev_ops has, and the places of some of them:
 * lib/ethdev/ethdev_driver.h. Counted in pointers, as there is nothing else before them. Each number is that of the
 * release in its name and of those after it, up to the next one with another. Two places before dev_ops there is a
 * pointer to struct rte_eth_dev_data, which begins with the name of the port.
 */
enum {
	NETVSC_DEV_OPS_22_11 = 8,
	NETVSC_DEV_OPS_23_11 = 10,
	NETVSC_DEV_OPS_24_03 = 11,

	/* From there on: the list of callbacks. */
	NETVSC_DEV_CALLBACKS_22_11 = 3,
	NETVSC_DEV_CALLBACKS_24_03 = 4,

	NETVSC_OPS_22_11 = 113,
	NETVSC_OPS_23_03 = 115,
	NETVSC_OPS_23_11 = 116,
	NETVSC_OPS_24_11 = 121,
	NETVSC_OPS_25_03 = 124,
	NETVSC_OPS_26_07 = 125,

	NETVSC_OP_DEV_START = 1,
	NETVSC_OP_DEV_CLOSE = 5,
	NETVSC_OP_LINK_UPDATE = 7,
	NETVSC_OP_STATS_GET_22_11 = 18,
	NETVSC_OP_STATS_GET_24_11 = 21,
	/* From there on. */
	NETVSC_OP_DEV_INFOS_GET = 6,
	/* The one before sets a queue up. */
	NETVSC_OP_RX_QUEUE_RELEASE_22_11 = 42,
	NETVSC_OP_RX_QUEUE_RELEASE_23_11 = 43,
	NETVSC_OP_RX_QUEUE_RELEASE_24_11 = 46,
	/* From there on. */
	NETVSC_OP_TX_QUEUE_RELEASE = 4,
};

/*
 * The numbers, written out, so that neither a slip above nor a reader with other ideas
 * of a C layout (bindgen) goes unnoticed. A 32-bit target has others.
 */
#ifdef __LP64__
#define NETVSC_AT(type, member, offset) \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member)
#define NETVSC_SIZE(type, size) \
	_Static_assert(sizeof(struct type) == (size), #type)

NETVSC_SIZE(netvsc_list_links, 16);

_Static_assert(NETVSC_VDEV_DEVICE_OFFSET_22_11 == 16, "rte_vdev_device.device");
_Static_assert(NETVSC_VDEV_DEVICE_OFFSET_26_07 == 0, "rte_vdev_device.device");

NETVSC_AT(netvsc_driver_22_11, next, 0);
NETVSC_AT(netvsc_driver_22_11, name, 16);
NETVSC_AT(netvsc_driver_22_11, alias, 24);
NETVSC_SIZE(netvsc_driver_22_11, 32);

NETVSC_AT(netvsc_vdev_driver_22_11, next, 0);
NETVSC_AT(netvsc_vdev_driver_22_11, driver, 16);
NETVSC_AT(netvsc_vdev_driver_22_11, probe, 48);
NETVSC_AT(netvsc_vdev_driver_22_11, remove, 56);
NETVSC_AT(netvsc_vdev_driver_22_11, dma_map, 64);
NETVSC_AT(netvsc_vdev_driver_22_11, dma_unmap, 72);
NETVSC_AT(netvsc_vdev_driver_22_11, drv_flags, 80);
NETVSC_SIZE(netvsc_vdev_driver_22_11, 88);

NETVSC_AT(netvsc_driver_26_07, next, 0);
NETVSC_AT(netvsc_driver_26_07, name, 16);
NETVSC_AT(netvsc_driver_26_07, alias, 24);
NETVSC_AT(netvsc_driver_26_07, bus, 32);
NETVSC_SIZE(netvsc_driver_26_07, 40);

NETVSC_AT(netvsc_vdev_driver_26_07, driver, 0);
NETVSC_AT(netvsc_vdev_driver_26_07, probe, 40);
NETVSC_AT(netvsc_vdev_driver_26_07, remove, 48);
NETVSC_AT(netvsc_vdev_driver_26_07, dma_map, 56);
NETVSC_AT(netvsc_vdev_driver_26_07, dma_unmap, 64);
NETVSC_AT(netvsc_vdev_driver_26_07, drv_flags, 72);
NETVSC_SIZE(netvsc_vdev_driver_26_07, 80);

NETVSC_AT(netvsc_device_head, driver, 32);
NETVSC_AT(netvsc_ethdev_head, tx_pkt_burst, 8);

#undef NETVSC_AT
#undef NETVSC_SIZE
#endif /* __LP64__ */

#endif /* VDEV_LAYOUT_H */
