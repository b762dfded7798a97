/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What failsafe keeps of a port in memory that all processes share, as far as it is read
 * or written here: drivers/net/failsafe/failsafe_private.h, which DPDK's build alone has.
 * The same in 22.11, 24.11, 25.11 and 26.07 but for what is inside struct rte_eth_stats,
 * which comes from DPDK's public headers; tests/layout.c compares.
 */
#ifndef FAILSAFE_LAYOUT_H
#define FAILSAFE_LAYOUT_H

#include <stdint.h>

#include <rte_devargs.h>
#include <rte_ethdev.h>
#include <rte_ether.h>

/* Of enum dev_state: the first, and the first that has a port which can be asked. */
#define NETVSC_FAILSAFE_UNDEFINED 0
#define NETVSC_FAILSAFE_ACTIVE 3

/*
 * What a fallback offers of RSS: of what failsafe does, if all sub-devices do (fs_dev_infos_get()), what VFs have in common
 * (ixgbevf has no fragments), as one that has less than the application asked for cannot be configured.
 */
static const uint64_t NETVSC_RSS = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
	RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
/* Not offered: a packet that needs two buffers is dropped (src/eal/queues.rs). */
static const uint64_t NETVSC_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;

/* struct sub_device. */
struct netvsc_failsafe_sub {
	struct netvsc_failsafe_sub *next;
	struct rte_devargs devargs;
	void *bus;
	void *dev;
	uint8_t sid;
	int state;
	struct rte_eth_stats snapshot;
	uint64_t snapshot_time;
	char *cmdline;
	char *fd_str;
	uint16_t fs_port_id;
	uint16_t sdev_port_id;
	unsigned int flags;
};

/* The beginning of struct fs_priv. */
struct netvsc_failsafe_head {
	void *data;
	struct netvsc_failsafe_sub *subs;
	uint8_t subs_head;
	uint8_t subs_tail;
	uint8_t subs_tx;
	uint8_t current_probed;
	void *flow_list[2];
	uint32_t nb_mac_addr;
	struct rte_ether_addr mac_addrs[128];
	uint32_t mac_addr_pool[128];
	uint32_t nb_mcast_addr;
	void *mcast_addrs;
	struct rte_eth_dev_owner my_owner;
	void *intr_handle;
	int state;
	struct rte_eth_stats stats_accumulator;
};

/* The beginning of struct rte_eth_dev_data: lib/ethdev/ethdev_driver.h. */
struct netvsc_ethdev_data_head {
	char name[RTE_ETH_NAME_MAX_LEN];
	void *queues[2];
	uint16_t queue_counts[2];
	uint16_t sriov[3];
	void *dev_private;
};

#endif /* FAILSAFE_LAYOUT_H */
