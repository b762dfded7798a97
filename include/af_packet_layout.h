/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The beginnings of what net_af_packet keeps of a port and of a receive queue, as far as they are read or written here:
 * drivers/net/af_packet/rte_eth_af_packet.c, the same in 22.11 to 26.07. tests/af_packet_layout.c compares.
 */
#ifndef AF_PACKET_LAYOUT_H
#define AF_PACKET_LAYOUT_H

#include <stdint.h>

#include <rte_ether.h>

/* struct pmd_internals. */
struct netvsc_af_packet_port {
	unsigned int nb_queues;
	int if_index;
	char *if_name;
	struct rte_ether_addr eth_addr;
	uint32_t block_size; /* struct tpacket_req */
	uint32_t block_nr;
	uint32_t frame_size;
};

/* The beginning of struct tpacket2_hdr: linux/if_packet.h. */
struct netvsc_af_packet_header {
	uint32_t status;
	uint32_t length; /* Of the packet. */
	uint32_t there; /* What is there of it. */
};

/* A struct iovec. */
struct netvsc_af_packet_frame {
	struct netvsc_af_packet_header *start;
	uint64_t size;
};

/* struct pkt_rx_queue. */
struct netvsc_af_packet_queue {
	int sockfd;
	struct netvsc_af_packet_frame *rd;
	uint8_t *map;
	unsigned int framecount;
	unsigned int framenum;
};

#endif /* AF_PACKET_LAYOUT_H */
