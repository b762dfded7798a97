/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * net_test_vf: a stand-in for the PMD of an SR-IOV VF.
 *
 * It drives a PCI device the way mlx5 does: the kernel driver stays bound, and
 * the driver works on the netdevice which that made. Where mlx5 has ibverbs
 * queues, this has an AF_PACKET socket. When the netdevice goes away,
 * RTE_ETH_EVENT_INTR_RMV is raised, once, on the EAL interrupt thread, and
 * when it loses or gets its carrier RTE_ETH_EVENT_INTR_LSC.
 *
 * The netdevice is the oldest one under <PCI devices>/<address>/net/,
 * where <PCI devices> is what the PCI bus scans: /sys/bus/pci/devices, or the
 * folder that the environment variable SYSFS_PCI_DEVICES names. It must be up:
 * like mlx5, this does not raise it.
 *
 * A function whose kernel driver is called mana is driven as net_mana does:
 * each of its netdevices is a port of its own, or those that mac= names
 * (mana_pci_probe), and a hot-removal leaves ports that live, as it looks for
 * one with the name of the device (mana_pci_remove,
 * rte_eth_dev_pci_generic_remove). A port cannot be started while its
 * netdevice is up: that one has the vPort, which only one can have
 * (mana_cfg_vport in the kernel, EBUSY; mana_dev_start, ENODEV).
 *
 * One whose kernel driver is called mlx4_core is driven as net_mlx4 does: each
 * of its netdevices is a port, and a hot-removal closes them all
 * (mlx4_pci_probe, mlx4_pci_remove).
 *
 * What is wrong with it for now, files in the function's folder say:
 *
 *   refuse          how many probes fail yet: as mlx5 without its ibverbs device
 *   stuck           a probe does not come to its end while this is there: a host
 *                   that is slow to answer
 *   portless        a probe makes no port and succeeds: one that is not of Ethernet
 *   unconfigurable  it cannot be configured: mlx5_dev_configure
 *   unstartable     it cannot be started: mlx5, when no more memory may be
 *                   locked (mlx5_rxq_start, mlx5_trigger.c)
 *
 * With RSS the kernel spreads flows over the queues; without it, as with mlx5
 * (mlx5_ctrl_flow), all packets come in on queue 0.
 *
 * Unlike with mlx5 the kernel stack sees the received packets too, and addresses
 * are not filtered beyond what the netdevice does.
 */

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>

#define RTE_LOG_DEFAULT_LOGTYPE pmd.net.test_vf

#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_interrupts.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_string_fns.h>

#include "driver_layout.h"

#ifndef PACKET_IGNORE_OUTGOING /* Linux 4.20 */
#define PACKET_IGNORE_OUTGOING 23
#endif

/* How often it is looked whether a probe is stuck yet. */
#define VF_STUCK_US 10000

#define VF_QUEUES 16
#define VF_MACS 16
#define VF_NETDEVS 8
#define VF_FRAME_MAX 9728

/** No vendor has this id: it stands for a device in a made-up PCI tree. */
#define VF_FAKE_VENDOR 0x7e57
#define VF_FAKE_DEVICE 0x0001
/** What QEMU offers as e.g. a second NIC, to play the VF in a guest. */
#define VF_VMXNET3_VENDOR 0x15ad
#define VF_VMXNET3_DEVICE 0x07b0

RTE_LOG_REGISTER_DEFAULT(vf_logtype, NOTICE)

#define VF_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_ ## level, vf_logtype, "net_test_vf: " fmt "\n", ##__VA_ARGS__)

/** Waits for the end of one netdevice. May outlive the port by one callback. */
struct vf_watch {
	struct rte_intr_handle *intr; /* Holds the rtnetlink socket. */
	struct rte_eth_dev *dev; /* Stays where it is when the port ends. */
	int ifindex;
	uint16_t port_id;
	bool gone;
};

struct vf_queue {
	struct vf *vf;
	int socket; /* AF_PACKET; Rx only; open from start to stop, else -1. */
	struct rte_mempool *pool; /* Rx only. */
	uint64_t packets;
	uint64_t bytes;
	uint64_t errors;
	uint64_t no_mbuf; /* Rx only. */
};

struct vf {
	char address[PCI_PRI_STR_SIZE];
	char ifname[IF_NAMESIZE];
	int ifindex;
	bool started;
	bool vlan_strip;
	bool rss;
	bool is_mana;
	bool is_mlx4;
	uint16_t port_id;
	struct vf_watch *watch;
	struct rte_ether_addr macs[VF_MACS];
	struct vf_queue rx[VF_QUEUES];
	struct vf_queue tx[VF_QUEUES];
};

/* What is wrong with it. */

static void
vf_path(char *path, const char *address, const char *file)
{
	snprintf(path, PATH_MAX, "%s/%s/%s", rte_pci_get_sysfs_path(), address, file);
}

/** Tells if a file in the PCI function's folder says so. */
static bool
vf_is_told(const char *address, const char *what)
{
	char path[PATH_MAX];

	vf_path(path, address, what);
	return access(path, F_OK) == 0;
}

/** Tells if this probe is one that has to fail, and counts it. */
static bool
vf_refuses(const char *address)
{
	unsigned int left = 0;
	char path[PATH_MAX];
	FILE *file;

	vf_path(path, address, "refuse");
	file = fopen(path, "r+");
	if (file == NULL)
		return false;
	if (fscanf(file, "%u", &left) == 1 && left > 0) {
		rewind(file);
		fprintf(file, "%u\n", left - 1);
	}
	fclose(file);
	return left > 0;
}

/* The netdevice's end. */

static bool
vf_netdev_exists(int ifindex)
{
	char name[IF_NAMESIZE];

	return if_indextoname(ifindex, name) != NULL;
}

static struct test_eth_dev_data *
vf_data(struct rte_eth_dev *dev)
{
	return ((struct test_eth_dev *)dev)->data;
}

/** Asks the kernel about a netdevice. */
static int
vf_ask_netdev(unsigned long question, const char *ifname, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret = -1;

	strlcpy(request->ifr_name, ifname, sizeof(request->ifr_name));
	if (fd >= 0) {
		ret = ioctl(fd, question, request);
		close(fd);
	}
	return ret == 0 ? 0 : -ENODEV;
}

/** Takes in how the link is; -1 when it is as before. */
static int
vf_link_update(struct rte_eth_dev *dev, int wait __rte_unused)
{
	const struct vf *vf = vf_data(dev)->dev_private;
	char name[IF_NAMESIZE];
	struct ifreq request = { 0 };
	bool carrier = if_indextoname(vf->ifindex, name) != NULL &&
		vf_ask_netdev(SIOCGIFFLAGS, name, &request) == 0 &&
		(request.ifr_flags & IFF_RUNNING) != 0;
	struct rte_eth_link link = {
		.link_speed = RTE_ETH_SPEED_NUM_25G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_AUTONEG,
		.link_status = vf->started && carrier ? RTE_ETH_LINK_UP : RTE_ETH_LINK_DOWN,
	};

	if (memcmp(&vf_data(dev)->dev_link, &link, sizeof(link)) == 0)
		return -1;
	vf_data(dev)->dev_link = link;
	return 0;
}

/** Tells if a message says that the netdevice is deleted (not just out of a bridge). */
static bool
vf_is_dellink(const struct nlmsghdr *msg, int ifindex)
{
	const struct ifinfomsg *info = NLMSG_DATA(msg);

	return msg->nlmsg_type == RTM_DELLINK &&
		msg->nlmsg_len >= NLMSG_LENGTH(sizeof(*info)) &&
		info->ifi_family == AF_UNSPEC && info->ifi_index == ifindex;
}

/** Reads all there is, as EAL calls again for as long as anything is left. */
static bool
vf_watch_drain(const struct vf_watch *watch)
{
	union {
		struct nlmsghdr align;
		char bytes[32 * 1024];
	} buf;
	bool gone = false;

	for (;;) {
		ssize_t size = recv(rte_intr_fd_get(watch->intr), &buf, sizeof(buf), 0);
		int left = size;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) { /* Events were lost. */
			gone |= !vf_netdev_exists(watch->ifindex);
			continue;
		}
		if (size <= 0)
			return gone;
		for (struct nlmsghdr *msg = &buf.align; NLMSG_OK(msg, (unsigned int)left);
				msg = NLMSG_NEXT(msg, left))
			gone |= vf_is_dellink(msg, watch->ifindex);
	}
}

static void
vf_watch_event(void *arg)
{
	struct vf_watch *watch = arg;

	if (!vf_watch_drain(watch)) {
		if (vf_data(watch->dev)->dev_private != NULL && !watch->gone &&
				vf_link_update(watch->dev, 0) == 0 &&
				vf_data(watch->dev)->dev_conf.intr_conf.lsc)
			rte_eth_dev_callback_process(watch->dev, RTE_ETH_EVENT_INTR_LSC, NULL);
		return;
	}
	if (watch->gone)
		return;
	watch->gone = true;
	VF_LOG(NOTICE, "port %u: netdevice %d is gone", watch->port_id, watch->ifindex);
	rte_eth_dev_callback_process(watch->dev, RTE_ETH_EVENT_INTR_RMV, NULL);
}

static void
vf_watch_free(struct rte_intr_handle *intr __rte_unused, void *arg)
{
	struct vf_watch *watch = arg;

	if (rte_intr_fd_get(watch->intr) >= 0)
		close(rte_intr_fd_get(watch->intr));
	rte_intr_instance_free(watch->intr);
	free(watch);
}

static void
vf_watch_stop(struct vf_watch *watch)
{
	int ret;

	/*
	 * A callback that is running may wait for a lock of our caller
	 * (failsafe's), so do not wait for it: it frees the watch when it ends.
	 */
	do {
		ret = rte_intr_callback_unregister(watch->intr, vf_watch_event, watch);
		if (ret != -EAGAIN) {
			vf_watch_free(watch->intr, watch);
			return;
		}
		ret = rte_intr_callback_unregister_pending(watch->intr, vf_watch_event,
				watch, vf_watch_free);
	} while (ret == -EAGAIN);
}

static struct vf_watch *
vf_watch_start(struct rte_eth_dev *dev, uint16_t port_id, int ifindex)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct vf_watch *watch = calloc(1, sizeof(*watch));
	int fd;

	if (watch == NULL)
		return NULL;
	watch->dev = dev;
	watch->port_id = port_id;
	watch->ifindex = ifindex;
	watch->intr = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	if (watch->intr == NULL) {
		free(watch);
		return NULL;
	}
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	/* EXT: other types have EAL read from the socket first. */
	if (rte_intr_fd_set(watch->intr, fd) != 0 ||
			rte_intr_type_set(watch->intr, RTE_INTR_HANDLE_EXT) != 0 ||
			fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
			rte_intr_callback_register(watch->intr, vf_watch_event, watch) != 0) {
		vf_watch_free(watch->intr, watch);
		return NULL;
	}
	return watch;
}

/* Packets. */

/** Takes the VLAN tag, which the kernel hands over beside the packet. */
static void
vf_rx_vlan(const struct vf *vf, struct msghdr *msg, struct rte_mbuf **mbuf)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	struct tpacket_auxdata aux;

	if (cmsg == NULL || cmsg->cmsg_level != SOL_PACKET || cmsg->cmsg_type != PACKET_AUXDATA)
		return;
	memcpy(&aux, CMSG_DATA(cmsg), sizeof(aux));
	if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
		return;
	(*mbuf)->vlan_tci = aux.tp_vlan_tci;
	(*mbuf)->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
	if (!vf->vlan_strip)
		rte_vlan_insert(mbuf);
}

static uint16_t
vf_rx_burst(void *arg, struct rte_mbuf **mbufs, uint16_t count)
{
	struct vf_queue *queue = arg;
	const struct vf *vf = queue->vf;
	uint16_t received = 0;

	while (queue->socket >= 0 && received < count) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		} control;
		struct iovec iov;
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(queue->pool);
		ssize_t size;

		if (mbuf == NULL) {
			queue->no_mbuf++;
			break;
		}
		iov.iov_base = rte_pktmbuf_mtod(mbuf, void *);
		iov.iov_len = rte_pktmbuf_tailroom(mbuf);
		size = recvmsg(queue->socket, &msg, MSG_DONTWAIT | MSG_TRUNC);
		if (size <= 0) { /* None there, or the netdevice is down or gone. */
			rte_pktmbuf_free(mbuf);
			break;
		}
		if ((size_t)size > iov.iov_len) {
			queue->errors++;
			rte_pktmbuf_free(mbuf);
			continue;
		}
		mbuf->pkt_len = mbuf->data_len = size;
		mbuf->port = vf->port_id;
		vf_rx_vlan(vf, &msg, &mbuf);
		queue->packets++;
		queue->bytes += size;
		mbufs[received++] = mbuf;
	}
	return received;
}

static uint16_t
vf_tx_burst(void *arg, struct rte_mbuf **mbufs, uint16_t count)
{
	struct vf_queue *queue = arg;
	char copy[VF_FRAME_MAX];
	uint16_t i;

	for (i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = mbufs[i];
		const void *frame = NULL;
		ssize_t sent = -1;

		if ((mbuf->ol_flags & RTE_MBUF_F_TX_VLAN) == 0 || rte_vlan_insert(&mbuf) == 0) {
			if (mbuf->pkt_len <= sizeof(copy))
				frame = rte_pktmbuf_read(mbuf, 0, mbuf->pkt_len, copy);
			mbufs[i] = mbuf;
		}
		if (frame != NULL)
			sent = send(queue->vf->rx[0].socket, frame, mbuf->pkt_len, MSG_DONTWAIT);
		if (frame != NULL && sent < 0 && errno == EAGAIN)
			break; /* The send buffer is full, as a ring would be. */
		if (sent < 0) {
			queue->errors++;
		} else {
			queue->packets++;
			queue->bytes += sent;
		}
		rte_pktmbuf_free(mbuf);
	}
	return i;
}

/* ethdev operations. */

static int
vf_stop(struct rte_eth_dev *dev)
{
	struct vf *vf = vf_data(dev)->dev_private;

	for (int i = 0; i < VF_QUEUES; i++) {
		if (vf->rx[i].socket >= 0)
			close(vf->rx[i].socket);
		vf->rx[i].socket = -1;
	}
	vf->started = false;
	vf_data(dev)->dev_link.link_status = RTE_ETH_LINK_DOWN;
	return 0;
}

/** Tells if the kernel has the vPort. */
static bool
vf_vport_is_taken(const struct vf *vf)
{
	char name[IF_NAMESIZE];
	struct ifreq request = { 0 };

	return vf->is_mana && if_indextoname(vf->ifindex, name) != NULL &&
		vf_ask_netdev(SIOCGIFFLAGS, name, &request) == 0 &&
		(request.ifr_flags & IFF_UP) != 0;
}

/** Tells if a netdevice is one of a pair in a namespace, which is never unplugged. */
static bool
vf_is_veth(const struct vf *vf)
{
	char name[IF_NAMESIZE];
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request = { .ifr_data = (char *)&info };

	return if_indextoname(vf->ifindex, name) != NULL &&
		vf_ask_netdev(SIOCETHTOOL, name, &request) == 0 &&
		strcmp(info.driver, "veth") == 0;
}

/** Opens the socket of a queue, which shares flows with those of the others. */
static int
vf_open(struct vf *vf, struct vf_queue *queue, bool shares)
{
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = vf->ifindex,
	};
	/* Not the number that af_packet takes, of the process and the netdevice. */
	const int fanout = ((getpid() ^ vf->ifindex ^ 0x8000) & 0xffff) | PACKET_FANOUT_HASH << 16;
	const int on = 1;
	const int room = 4 << 20;

	/* Protocol 0 receives nothing before it is bound to the one netdevice. */
	queue->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (queue->socket < 0 ||
			/* The usual 200 KiB hold 280 small frames: what comes while a busy machine looks away. */
			setsockopt(queue->socket, SOL_SOCKET, SO_RCVBUFFORCE,
				&room, sizeof(room)) != 0 ||
			setsockopt(queue->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING,
				&on, sizeof(on)) != 0 ||
			/*
			 * As hardware would: after a carrier has come, a queueing
			 * discipline drops all frames and says that they were sent,
			 * until the kernel's linkwatch has its turn, which may take
			 * seconds on a busy machine. Not where the netdevice may be
			 * unplugged: the kernel, which picks a queue then, may divide
			 * by the number of those that are left (packet_direct_xmit,
			 * seen in 6.1).
			 */
			(vf_is_veth(vf) && setsockopt(queue->socket, SOL_PACKET,
				PACKET_QDISC_BYPASS, &on, sizeof(on)) != 0) ||
			setsockopt(queue->socket, SOL_PACKET, PACKET_AUXDATA,
				&on, sizeof(on)) != 0 ||
			bind(queue->socket, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
			(shares && setsockopt(queue->socket, SOL_PACKET, PACKET_FANOUT,
				&fanout, sizeof(fanout)) != 0))
		return -errno;
	return 0;
}

static int
vf_start(struct rte_eth_dev *dev)
{
	struct vf *vf = vf_data(dev)->dev_private;
	const int sockets = vf->rss ? vf_data(dev)->queue_counts[0] : 1;
	int ret;

	if (vf_is_told(vf->address, "unstartable")) {
		VF_LOG(ERR, "%s: cannot be started", vf_data(dev)->name);
		return -ENOMEM;
	}
	if (vf_vport_is_taken(vf)) {
		VF_LOG(ERR, "%s: failed to start tx queues %d: the vPort of %s is in use",
			vf_data(dev)->name, -ENODEV, vf->ifname);
		return -ENODEV;
	}
	for (int i = 0; i < sockets; i++) {
		ret = vf_open(vf, &vf->rx[i], sockets > 1);
		if (ret != 0) {
			VF_LOG(ERR, "%s (%s): cannot open a packet socket: %s",
				vf_data(dev)->name, vf->ifname, strerror(-ret));
			vf_stop(dev);
			return ret;
		}
	}
	vf->started = true;
	vf_link_update(dev, 0);
	return 0;
}

static int
vf_configure(struct rte_eth_dev *dev)
{
	struct vf *vf = vf_data(dev)->dev_private;

	if (vf_is_told(vf->address, "unconfigurable")) {
		VF_LOG(ERR, "%s: cannot be configured", vf_data(dev)->name);
		return -ENOMEM;
	}
	vf->vlan_strip = vf_data(dev)->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	vf->rss = (vf_data(dev)->dev_conf.rxmode.mq_mode & RTE_ETH_MQ_RX_RSS_FLAG) != 0 &&
		vf_data(dev)->dev_conf.rx_adv_conf.rss_conf.rss_hf != 0;
	return 0;
}

static int
vf_close(struct rte_eth_dev *dev)
{
	struct vf *vf = vf_data(dev)->dev_private;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY || vf == NULL)
		return 0;
	vf_stop(dev);
	if (vf->watch != NULL)
		vf_watch_stop(vf->watch);
	vf->watch = NULL;
	vf_data(dev)->mac_addrs = NULL; /* Part of dev_private, which ethdev frees. */
	return 0;
}

static int
vf_is_removed(struct rte_eth_dev *dev)
{
	const struct vf *vf = vf_data(dev)->dev_private;

	return !vf_netdev_exists(vf->ifindex);
}

/** What failsafe offers is what all its sub-devices have: not less than af_packet here. */
static int
vf_infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	const struct vf *vf = vf_data(dev)->dev_private;

	info->if_index = vf->ifindex;
	info->max_mac_addrs = VF_MACS;
	info->max_rx_pktlen = VF_FRAME_MAX;
	info->max_mtu = VF_FRAME_MAX - RTE_ETHER_HDR_LEN - RTE_ETHER_CRC_LEN;
	info->max_rx_queues = VF_QUEUES;
	info->max_tx_queues = VF_QUEUES;
	info->rx_offload_capa = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	info->flow_type_rss_offloads = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
	info->speed_capa = RTE_ETH_LINK_SPEED_25G;
	return 0;
}

static int
vf_rx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t descriptors __rte_unused,
		unsigned int socket __rte_unused, const struct rte_eth_rxconf *conf __rte_unused,
		struct rte_mempool *pool)
{
	struct vf *vf = vf_data(dev)->dev_private;

	vf->rx[id].vf = vf;
	vf->rx[id].pool = pool;
	vf_data(dev)->rx_queues[id] = &vf->rx[id];
	return 0;
}

static int
vf_tx_queue_setup(struct rte_eth_dev *dev, uint16_t id, uint16_t descriptors __rte_unused,
		unsigned int socket __rte_unused, const struct rte_eth_txconf *conf __rte_unused)
{
	struct vf *vf = vf_data(dev)->dev_private;

	vf->tx[id].vf = vf;
	vf_data(dev)->tx_queues[id] = &vf->tx[id];
	return 0;
}

static void
vf_queue_release(struct rte_eth_dev *dev __rte_unused, uint16_t id __rte_unused)
{
}

static int
vf_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats
#if RTE_VERSION >= RTE_VERSION_NUM(25, 11, 0, 0)
		, struct eth_queue_stats *queues __rte_unused
#endif
		)
{
	const struct vf *vf = vf_data(dev)->dev_private;

	for (int i = 0; i < VF_QUEUES; i++) {
		stats->ipackets += vf->rx[i].packets;
		stats->ibytes += vf->rx[i].bytes;
		stats->ierrors += vf->rx[i].errors;
		stats->rx_nombuf += vf->rx[i].no_mbuf;
		stats->opackets += vf->tx[i].packets;
		stats->obytes += vf->tx[i].bytes;
		stats->oerrors += vf->tx[i].errors;
	}
	return 0;
}

static void
vf_queue_stats_reset(struct vf_queue *queue)
{
	queue->packets = queue->bytes = queue->errors = queue->no_mbuf = 0;
}

static int
vf_stats_reset(struct rte_eth_dev *dev)
{
	struct vf *vf = vf_data(dev)->dev_private;

	for (int i = 0; i < VF_QUEUES; i++) {
		vf_queue_stats_reset(&vf->rx[i]);
		vf_queue_stats_reset(&vf->tx[i]);
	}
	return 0;
}

/* Settings that are accepted and change nothing. */

static int
vf_accept(struct rte_eth_dev *dev __rte_unused)
{
	return 0;
}

static int
vf_mtu_set(struct rte_eth_dev *dev __rte_unused, uint16_t mtu __rte_unused)
{
	return 0;
}

static int
vf_mac_set(struct rte_eth_dev *dev __rte_unused, struct rte_ether_addr *mac __rte_unused)
{
	return 0;
}

static int
vf_mac_add(struct rte_eth_dev *dev __rte_unused, struct rte_ether_addr *mac __rte_unused,
		uint32_t index __rte_unused, uint32_t pool __rte_unused)
{
	return 0;
}

static void
vf_mac_remove(struct rte_eth_dev *dev __rte_unused, uint32_t index __rte_unused)
{
}

static int
vf_mc_addr_list_set(struct rte_eth_dev *dev __rte_unused,
		struct rte_ether_addr *macs __rte_unused, uint32_t count __rte_unused)
{
	return 0;
}

static const struct test_eth_dev_ops vf_ops = {
	.allmulticast_disable = vf_accept,
	.allmulticast_enable = vf_accept,
	.dev_close = vf_close,
	.dev_configure = vf_configure,
	.dev_infos_get = vf_infos_get,
	.dev_set_link_down = vf_accept,
	.dev_set_link_up = vf_accept,
	.dev_start = vf_start,
	.dev_stop = vf_stop,
	.is_removed = vf_is_removed,
	.link_update = vf_link_update,
	.mac_addr_add = vf_mac_add,
	.mac_addr_remove = vf_mac_remove,
	.mac_addr_set = vf_mac_set,
	.mtu_set = vf_mtu_set,
	.promiscuous_disable = vf_accept,
	.promiscuous_enable = vf_accept,
	.rx_queue_release = vf_queue_release,
	.rx_queue_setup = vf_rx_queue_setup,
	.set_mc_addr_list = vf_mc_addr_list_set,
	.stats_get = vf_stats_get,
	.stats_reset = vf_stats_reset,
	.tx_queue_release = vf_queue_release,
	.tx_queue_setup = vf_tx_queue_setup,
};

/* The PCI device. */

/** A netdevice that the kernel driver of a PCI device made. */
struct vf_netdev {
	char name[IF_NAMESIZE];
	int index;
};

static int
vf_compare_netdevs(const void *one, const void *other)
{
	return ((const struct vf_netdev *)one)->index - ((const struct vf_netdev *)other)->index;
}

/** Finds the netdevices of a PCI device, the oldest first, and returns how many there are. */
static unsigned int
vf_find_netdevs(const char *address, struct vf_netdev netdevs[VF_NETDEVS])
{
	unsigned int count = 0;
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	vf_path(path, address, "net");
	dir = opendir(path);
	while (dir != NULL && count < VF_NETDEVS && (entry = readdir(dir)) != NULL) {
		strlcpy(netdevs[count].name, entry->d_name, sizeof(netdevs[count].name));
		netdevs[count].index = if_nametoindex(entry->d_name); /* 0 for "." and ".." */
		count += netdevs[count].index != 0;
	}
	if (dir != NULL)
		closedir(dir);
	if (count == 0)
		VF_LOG(ERR, "%s: no netdevice of %s exists", address, path);
	qsort(netdevs, count, sizeof(netdevs[0]), vf_compare_netdevs);
	return count;
}

static int
vf_read_mac(const char *ifname, struct rte_ether_addr *mac)
{
	struct ifreq request = { 0 };
	int ret = vf_ask_netdev(SIOCGIFHWADDR, ifname, &request);

	memcpy(mac, request.ifr_hwaddr.sa_data, sizeof(*mac));
	return ret;
}

/** Tells if the kernel driver of a PCI function has this name. */
static bool
vf_is_driven_by(const char *address, const char *name)
{
	char path[PATH_MAX], driver[PATH_MAX];
	const char *last;
	ssize_t length;

	vf_path(path, address, "driver");
	length = readlink(path, driver, sizeof(driver) - 1);
	driver[length < 0 ? 0 : length] = '\0';
	last = strrchr(driver, '/');
	return last != NULL && strcmp(last + 1, name) == 0;
}

static int
vf_init(struct rte_eth_dev *dev, const char *address, const struct vf_netdev *netdev)
{
	struct test_eth_dev *self = (struct test_eth_dev *)dev;
	struct vf *vf = self->data->dev_private;

	self->dev_ops = &vf_ops;
	self->rx_pkt_burst = rte_eth_pkt_burst_dummy;
	self->tx_pkt_burst = rte_eth_pkt_burst_dummy;
	/* The descriptors are the primary process's: others can look, not move packets. */
	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;

	for (int i = 0; i < VF_QUEUES; i++)
		vf->rx[i].socket = -1;
	vf->port_id = self->data->port_id;
	vf->ifindex = netdev->index;
	strlcpy(vf->ifname, netdev->name, sizeof(vf->ifname));
	strlcpy(vf->address, address, sizeof(vf->address));
	vf->is_mana = vf_is_driven_by(address, "mana");
	vf->is_mlx4 = vf_is_driven_by(address, "mlx4_core");
	vf->watch = vf_watch_start(dev, vf->port_id, vf->ifindex);
	if (vf->watch == NULL) {
		VF_LOG(ERR, "%s: cannot watch netdevice %s", address, vf->ifname);
		return -EIO;
	}
	/* Only now, as the netdevice may have gone before the watch began. */
	if (vf_read_mac(vf->ifname, &vf->macs[0]) != 0) {
		VF_LOG(ERR, "%s: netdevice %s is gone", address, vf->ifname);
		vf_close(dev);
		return -ENODEV;
	}
	self->rx_pkt_burst = vf_rx_burst;
	self->tx_pkt_burst = vf_tx_burst;
	self->data->mac_addrs = vf->macs;
	VF_LOG(NOTICE, "%s: drives %s (ifindex %d) as port %u",
		address, vf->ifname, vf->ifindex, vf->port_id);
	return 0;
}

/** Makes a port; in a secondary process finds the primary's. */
static struct rte_eth_dev *
vf_allocate(const char *name)
{
	struct rte_eth_dev *dev;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return rte_eth_dev_attach_secondary(name);
	dev = rte_eth_dev_allocate(name);
	if (dev == NULL)
		return NULL;
	vf_data(dev)->dev_private = rte_zmalloc(name, sizeof(struct vf), 0);
	if (vf_data(dev)->dev_private == NULL) {
		rte_eth_dev_release_port(dev);
		return NULL;
	}
	vf_data(dev)->dev_flags = RTE_ETH_DEV_INTR_RMV | RTE_ETH_DEV_INTR_LSC;
	return dev;
}

/** Makes the port of a netdevice; in a secondary process that is not looked at. */
static int
vf_probe_port(struct test_device *device, const char *name, const struct vf_netdev *netdev)
{
	struct rte_eth_dev *dev = vf_allocate(name);
	int ret;

	if (dev == NULL)
		return -ENOMEM;
	((struct test_eth_dev *)dev)->device = device;
	if (rte_eal_process_type() == RTE_PROC_PRIMARY)
		vf_data(dev)->numa_node = device->numa_node;
	ret = vf_init(dev, device->name, netdev);
	if (ret != 0)
		rte_eth_dev_release_port(dev);
	else
		rte_eth_dev_probing_finish(dev);
	return ret;
}

/** Tells if the arguments of a device want this netdevice: all, when none is named. */
static bool
vf_wants(const struct rte_devargs *devargs, const struct vf_netdev *netdev)
{
	const char *args = devargs == NULL || devargs->args == NULL ? "" : devargs->args;
	char text[RTE_ETHER_ADDR_FMT_SIZE];
	struct rte_ether_addr mac;

	if (strstr(args, "mac=") == NULL)
		return true;
	if (vf_read_mac(netdev->name, &mac) != 0)
		return false;
	rte_ether_format_addr(text, sizeof(text), &mac);
	return strcasestr(args, text) != NULL;
}

/** Makes a port of each netdevice that is wanted. */
static int
vf_probe_all(struct test_device *device, const struct vf_netdev *netdevs, unsigned int count)
{
	unsigned int made = 0;

	for (unsigned int i = 0; i < count; i++) {
		char name[RTE_ETH_NAME_MAX_LEN];

		snprintf(name, sizeof(name), "%s_port%u", device->name, i + 1);
		if (vf_wants(device->devargs, &netdevs[i]))
			made += vf_probe_port(device, name, &netdevs[i]) == 0;
	}
	return made > 0 ? 0 : -ENODEV;
}

static int
vf_probe(struct rte_pci_driver *driver __rte_unused, struct rte_pci_device *pci)
{
	struct test_device *device = &((struct test_pci_device *)pci)->device;
	struct vf_netdev netdevs[VF_NETDEVS] = { 0 };
	unsigned int count;

	/* The primary's. */
	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return vf_probe_port(device, device->name, NULL);
	while (vf_is_told(device->name, "stuck"))
		usleep(VF_STUCK_US);
	if (vf_refuses(device->name)) {
		VF_LOG(ERR, "%s: no ibverbs device", device->name);
		return -ENODEV;
	}
	if (vf_is_told(device->name, "portless"))
		return 0;
	count = vf_find_netdevs(device->name, netdevs);
	if (count == 0)
		return -ENODEV;
	if (vf_is_driven_by(device->name, "mana") || vf_is_driven_by(device->name, "mlx4_core"))
		return vf_probe_all(device, netdevs, count);
	return vf_probe_port(device, device->name, &netdevs[0]);
}

static int
vf_remove(struct rte_pci_device *pci)
{
	struct test_device *device = &((struct test_pci_device *)pci)->device;
	struct rte_eth_dev *dev = rte_eth_dev_get_by_name(device->name);
	uint16_t port;

	RTE_ETH_FOREACH_DEV_OF(port, (struct rte_device *)device) {
		char name[RTE_ETH_NAME_MAX_LEN];
		struct rte_eth_dev *own;
		struct vf *vf;

		rte_eth_dev_get_name_by_port(port, name);
		own = rte_eth_dev_get_by_name(name);
		/* In a secondary it has no name any more when the primary has closed it. */
		vf = own == NULL ? NULL : vf_data(own)->dev_private;
		if (vf != NULL && vf->is_mlx4)
			rte_eth_dev_close(port);
	}
	/* Closing a port ends it too. */
	if (dev == NULL)
		return 0;
	vf_close(dev);
	return rte_eth_dev_release_port(dev);
}

#define VF_ID(vendor, device) { RTE_CLASS_ANY_ID, vendor, device, RTE_PCI_ANY_ID, RTE_PCI_ANY_ID }

static const struct rte_pci_id vf_ids[] = {
	VF_ID(VF_FAKE_VENDOR, VF_FAKE_DEVICE),
	VF_ID(VF_VMXNET3_VENDOR, VF_VMXNET3_DEVICE),
	{ .vendor_id = 0 },
};

static struct test_pci_driver vf_driver = {
	.driver.name = "net_test_vf",
	.probe = vf_probe,
	.remove = vf_remove,
	.id_table = vf_ids,
	.drv_flags = TEST_PCI_DRV_INTR_RMV, /* No mapping: the kernel driver stays. */
};

RTE_INIT(vf_register)
{
	rte_pci_register((struct rte_pci_driver *)&vf_driver);
}
