/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a PMD on the PCI bus needs of DPDK and distributions do not install: the stand-in VF is compiled with this and
 * with DPDK's public headers, so that no DPDK source is wanted. include/vdev_layout.h does the same for the driver.
 *
 * Only what vf.c uses has a name; the rest keeps its place. RTE_VERSION of the public headers selects the layout; the
 * releases are those that tests/layout.c has compared with DPDK's own headers. The names of the structs are ours, so
 * that both can be read at once.
 */
#ifndef DRIVER_LAYOUT_H
#define DRIVER_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_pci.h>
#include <rte_version.h>

#include "vdev_layout.h"

#define SINCE(year, month) (RTE_VERSION >= RTE_VERSION_NUM(year, month, 0, 0))

#if !((SINCE(22, 11) && !SINCE(23, 3)) || (SINCE(24, 11) && !SINCE(26, 8)))
#error "the layout of this DPDK's drivers is not known here: compare it by tests/layout.c"
#endif

/* struct rte_driver */
#if SINCE(26, 7)
#define test_driver netvsc_driver_26_07
#else
#define test_driver netvsc_driver_22_11
#endif

/* struct rte_device: lib/eal/include/dev_driver.h. */
struct test_device {
	struct netvsc_list_links next;
	const char *name;
	const char *bus_info;
	const struct rte_driver *driver;
	const struct rte_bus *bus;
	int numa_node;
	struct rte_devargs *devargs;
};

/* The beginning of struct rte_pci_device: drivers/bus/pci/bus_pci_driver.h. */
struct test_pci_device {
#if !SINCE(26, 7)
	struct netvsc_list_links next;
#endif
	struct test_device device;
};

struct rte_pci_device;
struct rte_pci_driver;
typedef int test_pci_probe(struct rte_pci_driver *driver, struct rte_pci_device *device);
typedef int test_pci_remove(struct rte_pci_device *device);

/* struct rte_pci_driver: drivers/bus/pci/bus_pci_driver.h. */
struct test_pci_driver {
#if !SINCE(26, 7)
	struct netvsc_list_links next;
#endif
	struct test_driver driver;
	test_pci_probe *probe;
	test_pci_remove *remove;
	void *dma[2];
	const struct rte_pci_id *id_table; /* ends with a vendor of 0 */
	uint32_t drv_flags;
};

/* RTE_PCI_DRV_INTR_RMV: the same file. */
#define TEST_PCI_DRV_INTR_RMV 0x10

/* struct rte_eth_dev_data, up to numa_node: lib/ethdev/ethdev_driver.h. */
struct test_eth_dev_data {
	char name[RTE_ETH_NAME_MAX_LEN];
	void **rx_queues;
	void **tx_queues;
	uint16_t queue_counts[2];
	uint16_t sriov[3];
	void *dev_private;
	struct rte_eth_link dev_link;
	struct rte_eth_conf dev_conf;
	uint16_t mtu;
	uint32_t min_rx_buf_size;
	uint64_t rx_mbuf_alloc_failed;
	struct rte_ether_addr *mac_addrs;
	uint64_t mac_pool_sel[RTE_ETH_NUM_RECEIVE_MAC_ADDR];
	struct rte_ether_addr *hash_mac_addrs;
	uint16_t port_id;
	uint8_t states; /* Bits. */
	uint8_t queue_states[2][RTE_MAX_QUEUES_PER_PORT];
	uint32_t dev_flags;
	int numa_node;
};

/* The functions of a PMD: lib/ethdev/ethdev_driver.h. 0 is success, a negative errno a failure. */
typedef int test_eth_do(struct rte_eth_dev *dev);
typedef int test_eth_link_update(struct rte_eth_dev *dev, int wait);
typedef int test_eth_infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info);
typedef void test_eth_mac_remove(struct rte_eth_dev *dev, uint32_t index);
typedef int test_eth_mac_add(struct rte_eth_dev *dev, struct rte_ether_addr *mac, uint32_t index, uint32_t pool);
typedef int test_eth_mac_set(struct rte_eth_dev *dev, struct rte_ether_addr *mac);
typedef int test_eth_mc_list_set(struct rte_eth_dev *dev, struct rte_ether_addr *macs, uint32_t count);
typedef int test_eth_mtu_set(struct rte_eth_dev *dev, uint16_t mtu);
#if SINCE(25, 11)
struct eth_queue_stats;
typedef int test_eth_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats, struct eth_queue_stats *queues);
#else
typedef int test_eth_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats);
#endif
typedef int test_eth_rx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t descriptors, unsigned int socket,
		const struct rte_eth_rxconf *conf, struct rte_mempool *pool);
typedef int test_eth_tx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t descriptors, unsigned int socket,
		const struct rte_eth_txconf *conf);
typedef void test_eth_queue_release(struct rte_eth_dev *dev, uint16_t id);

/* struct eth_dev_ops: lib/ethdev/ethdev_driver.h. */
struct test_eth_dev_ops {
	test_eth_do *dev_configure;
	test_eth_do *dev_start;
	test_eth_do *dev_stop;
	test_eth_do *dev_set_link_up;
	test_eth_do *dev_set_link_down;
	test_eth_do *dev_close;
	void *reset;
	test_eth_link_update *link_update;
#if SINCE(24, 11)
	void *speed_lanes[3];
#endif
	test_eth_do *is_removed;
	test_eth_do *promiscuous_enable;
	test_eth_do *promiscuous_disable;
	test_eth_do *allmulticast_enable;
	test_eth_do *allmulticast_disable;
	test_eth_mac_remove *mac_addr_remove;
	test_eth_mac_add *mac_addr_add;
	test_eth_mac_set *mac_addr_set;
	test_eth_mc_list_set *set_mc_addr_list;
	test_eth_mtu_set *mtu_set;
	test_eth_stats_get *stats_get;
	test_eth_do *stats_reset;
	void *extended_stats[4];
	test_eth_infos_get *dev_infos_get;
#if SINCE(24, 11)
	void *infos_and_vlan[17]; /* One more: what mbufs a queue recycles. */
#else
	void *infos_and_vlan[16];
#endif
	test_eth_rx_queue_setup *rx_queue_setup;
	test_eth_queue_release *rx_queue_release;
	void *queue_interrupts[2];
	test_eth_tx_queue_setup *tx_queue_setup;
	test_eth_queue_release *tx_queue_release;
	void *rest[80]; /* At least as many as any release has; null is "not offered". */
};

/* struct rte_eth_dev, up to device: lib/ethdev/ethdev_driver.h. */
struct test_eth_dev {
	eth_rx_burst_t rx_pkt_burst;
	eth_tx_burst_t tx_pkt_burst;
#if SINCE(24, 11)
	void *other_bursts[7];
#else
	void *other_bursts[4];
#endif
	struct test_eth_dev_data *data;
	void *process_private;
	const struct test_eth_dev_ops *dev_ops;
#if SINCE(24, 11)
	const void *flow_fp_ops;
#endif
	struct test_device *device;
};

/* Exported by librte_ethdev and librte_bus_pci in version node INTERNAL, declared in the files named above. */
struct rte_eth_dev *rte_eth_dev_allocate(const char *name);
struct rte_eth_dev *rte_eth_dev_attach_secondary(const char *name);
struct rte_eth_dev *rte_eth_dev_get_by_name(const char *name);
void rte_eth_dev_probing_finish(struct rte_eth_dev *dev);
int rte_eth_dev_release_port(struct rte_eth_dev *dev);
int rte_eth_dev_callback_process(struct rte_eth_dev *dev, enum rte_eth_event_type event, void *result);
uint16_t rte_eth_pkt_burst_dummy(void *queue, struct rte_mbuf **mbufs, uint16_t count);
void rte_pci_register(struct rte_pci_driver *driver);
const char *rte_pci_get_sysfs_path(void);

#undef SINCE

#endif /* DRIVER_LAYOUT_H */
