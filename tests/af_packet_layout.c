/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Are the structs of include/af_packet_layout.h DPDK's? It has them in a source file, which is compiled here, in a source
 * tree of the installed release. As with tests/layout.c this does not compile when one differs.
 */
#include <stddef.h>

#include <rte_eth_af_packet.c>

#include "af_packet_layout.h"

#define SAME_PLACE(ours, our_member, theirs, member) \
	_Static_assert(offsetof(struct ours, our_member) == offsetof(struct theirs, member), \
		"offset of " #theirs "." #member); \
	_Static_assert(sizeof(((struct ours *)0)->our_member) == sizeof(((struct theirs *)0)->member), \
		"size of " #theirs "." #member);

SAME_PLACE(netvsc_af_packet_port, frame_size, pmd_internals, req.tp_frame_size)
SAME_PLACE(netvsc_af_packet_queue, rd, pkt_rx_queue, rd)
SAME_PLACE(netvsc_af_packet_queue, framecount, pkt_rx_queue, framecount)
SAME_PLACE(netvsc_af_packet_queue, framenum, pkt_rx_queue, framenum)
SAME_PLACE(netvsc_af_packet_frame, start, iovec, iov_base)
_Static_assert(sizeof(struct netvsc_af_packet_frame) == sizeof(struct iovec), "size of iovec");
SAME_PLACE(netvsc_af_packet_header, status, tpacket2_hdr, tp_status)
SAME_PLACE(netvsc_af_packet_header, length, tpacket2_hdr, tp_len)
SAME_PLACE(netvsc_af_packet_header, there, tpacket2_hdr, tp_snaplen)
/* What of a frame is not for the packet, as eth_rx_queue_setup() reckons. */
_Static_assert(TPACKET2_HDRLEN - sizeof(struct sockaddr_ll) == 32, "TPACKET2_HDRLEN");
