/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A DPDK application that is told what to do on stdin, a command a line, and
 * answers each with a line on stdout: "ok …" or "error <errno> <text>".
 * All arguments are EAL's. It says "ready" when EAL is up, "failed <text>" when
 * that fails. Logs go to stderr. It is C and C++. With CAPTURE it may be asked to
 * let secondaries capture. With REGISTER it calls the
 * driver by name, which is linked in then; with SECOND a library in Rust,
 * tests/second/second.rs, is linked in as well.
 *
 *   attach <vdev> [<args>]         rte_eal_hotplug_add
 *   detach <vdev>                  rte_eal_hotplug_remove
 *   cycle <n> <vdev> [<args>]      n times both            ok <n>
 *   ports                          all, owned or not       ok <id>:<name>:<owned> …
 *   vdevs                          devargs of the vdev bus ok <name>[,<args>] …
 *   configure <port>               with a queue each way
 *   start <port>                   configure, start, and send back what it receives
 *   setup <port> <queues> <descriptors> <mtu>
 *                                  stop, and start like that, several queues with RSS
 *                                  where it is offered
 *   mtu <port> <mtu>               sets it
 *   mtu_of <port>                                          ok <mtu>
 *   most_queues <port>             as it offers            ok <n> each way
 *   call <what> <port>             a call of ethdev or of rte_flow
 *   stop <port>, close <port>
 *   leave                          close all ports that nobody owns
 *   stats <port>                   what was forwarded      ok rx=<n> tx=<n>
 *   counted <port>                 what the port counted   ok <received> <sent>
 *   look <n> <port>                n times: its statistics and its link
 *   queues <port>                  received, by queue      ok <n> …
 *   mac <port>                                             ok <address>
 *   link <port>                                            ok up|down <Mbit/s>
 *   own <port>, disown <port>      as an application named "app"
 *   free                           ports found free since  ok <port>:<longest, µs> …
 *                                  the last such command:
 *                                  looks from the first on
 *   hold <ms>                      EAL's interrupt thread, from now on
 *   events                         since ready, or since   ok <event>:<port> …
 *                                  the last such command;
 *                                  FOUND, FREE: in NEW it was
 *                                  found, nobody owned it
 *   second                         the second library's    ok <what it returns>
 *   count                                                  ok fds=<n> ports=<n>
 *   heap                           bytes of malloc in use  ok <n>
 *   hurry                          let nobody take the CPU from forwarding, as
 *                                  on a core of its own
 *   time <vdev> [<args>]           attach, and how long    ok <ns>
 *   capture                        let secondaries capture: rte_pdump_init
 *   cleanup [<port>]               rte_eal_cleanup with the ports as they are, and
 *                                  as soon as that one is gone; exit 0
 *   quit, or end of file           exit 0 without cleanup
 */

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#ifdef __cplusplus
#include <atomic>
using std::atomic_bool;
using std::atomic_uint;
using std::atomic_uint_least64_t;
#else
#include <stdatomic.h>
#endif

#ifdef CAPTURE
#include <rte_pdump.h>
#endif
#ifdef REGISTER
#include <vdev_netvsc.h>
#endif

#define MBUFS 4095
#define DESCRIPTORS 256
#define QUEUES_MAX 16
#define BURST 32
#define JUMBO_ROOM (10 * 1024 + RTE_PKTMBUF_HEADROOM)
#define IDLE_US 50
#define RETRY_US 1000
#define EVENTS_MAX 4096
#define FOUND_MAX 64
#define FIND_US 500
#define LINE_MAX_BYTES 4096

static FILE *replies;

static void __rte_format_printf(1, 2)
say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(replies, format, args);
	va_end(args);
}

/** Answers a command by the result of a DPDK function: 0, -errno, or -1 and rte_errno. */
static void
reply(int ret)
{
	int err = ret == -1 && rte_errno != 0 ? rte_errno : -ret;

	if (ret >= 0)
		say("ok\n");
	else
		say("error %d %s\n", err, rte_strerror(err));
}

/* Forwarding. */

struct forward {
	atomic_bool on;
	atomic_uint_least64_t rx;
	atomic_uint_least64_t tx;
	uint16_t queues;
	atomic_uint_least64_t by_queue[QUEUES_MAX];
};

static struct forward forwards[RTE_MAX_ETHPORTS];
static atomic_bool forward_end;
/** The port that is in a burst; RTE_MAX_ETHPORTS if none is. */
static atomic_uint forward_at = RTE_MAX_ETHPORTS;
static bool forward_runs;
static bool hurry;
static pthread_t forward_thread;
/** Held for a round over the ports, and by who takes one away. */
static pthread_mutex_t forward_lock = PTHREAD_MUTEX_INITIALIZER;

static void
swap_macs(struct rte_mbuf *mbuf)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
	struct rte_ether_addr src = eth->src_addr;

	eth->src_addr = eth->dst_addr;
	eth->dst_addr = src;
}

static bool
forward_burst(uint16_t port, uint16_t queue)
{
	struct rte_mbuf *mbufs[BURST];
	uint16_t received = rte_eth_rx_burst(port, queue, mbufs, BURST);
	uint16_t sent;

	if (received == 0)
		return false;
	for (uint16_t i = 0; i < received; i++)
		swap_macs(mbufs[i]);
	sent = rte_eth_tx_burst(port, queue, mbufs, received);
	rte_pktmbuf_free_bulk(&mbufs[sent], received - sent);
	forwards[port].rx += received;
	forwards[port].by_queue[queue] += received;
	forwards[port].tx += sent;
	return true;
}

/*
 * A thread unknown to EAL: rte_thread_register would end multi-process support,
 * and all it brings is a mempool cache.
 */
static void *
forward_loop(void *arg __rte_unused)
{
	while (!forward_end) {
		bool busy = false;

		pthread_mutex_lock(&forward_lock);
		for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; port++) {
			forward_at = port;
			for (uint16_t i = 0; forwards[port].on && i < forwards[port].queues; i++)
				busy |= forward_burst(port, i);
		}
		forward_at = RTE_MAX_ETHPORTS;
		pthread_mutex_unlock(&forward_lock);
		if (!busy)
			usleep(IDLE_US);
	}
	return NULL;
}

static int
forward_add(uint16_t port, uint16_t queues)
{
	const struct sched_param realtime = { .sched_priority = 1 };
	int err = 0;

	if (!forward_runs)
		err = pthread_create(&forward_thread, NULL, forward_loop, NULL);
	if (err != 0)
		return -err;
	if (!forward_runs && hurry)
		pthread_setschedparam(forward_thread, SCHED_RR, &realtime);
	forward_runs = true;
	forwards[port].rx = forwards[port].tx = 0;
	for (uint16_t i = 0; i < QUEUES_MAX; i++)
		forwards[port].by_queue[i] = 0;
	forwards[port].queues = queues;
	forwards[port].on = true;
	return 0;
}

static void
forward_remove(uint16_t port)
{
	pthread_mutex_lock(&forward_lock);
	forwards[port].on = false;
	pthread_mutex_unlock(&forward_lock);
}

static void
forward_finish(void)
{
	if (!forward_runs)
		return;
	forward_end = true;
	pthread_join(forward_thread, NULL);
	forward_runs = false;
}

/* Events. */

struct event {
	const char *what;
	uint16_t port;
	char name[RTE_ETH_NAME_MAX_LEN]; /* Empty if not known (yet). */
};

static struct event events[EVENTS_MAX];
static unsigned int event_count;
static pthread_mutex_t event_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *
event_name(enum rte_eth_event_type type)
{
	switch (type) {
	case RTE_ETH_EVENT_NEW: return "NEW";
	case RTE_ETH_EVENT_DESTROY: return "DESTROY";
	case RTE_ETH_EVENT_INTR_RMV: return "INTR_RMV";
	case RTE_ETH_EVENT_INTR_LSC: return "LSC";
	default: return "OTHER";
	}
}

/** A port has no name yet when it is NEW: it gets the one which it has later. */
static void
event_complete(uint16_t port)
{
	char name[RTE_ETH_NAME_MAX_LEN];

	if (!rte_eth_dev_is_valid_port(port) || rte_eth_dev_get_name_by_port(port, name) != 0)
		return;
	for (unsigned int i = 0; i < event_count; i++)
		if (events[i].port == port && events[i].name[0] == '\0')
			strcpy(events[i].name, name);
}

/** Tells if an application that looks for ports that nobody owns finds this one. */
static bool
is_found(uint16_t port)
{
	uint16_t found;

	RTE_ETH_FOREACH_DEV(found)
		if (found == port)
			return true;
	return false;
}

/** Tells if nobody owns a port that is NEW. */
static bool
is_free(uint16_t port)
{
	struct rte_eth_dev_owner owner = { .id = RTE_ETH_DEV_NO_OWNER };

	return rte_eth_dev_owner_get(port, &owner) == 0 && owner.id == RTE_ETH_DEV_NO_OWNER;
}

static int
on_event(uint16_t port, enum rte_eth_event_type type, void *arg __rte_unused,
		void *ret_param __rte_unused)
{
	/* The interrupt thread does not hold forward_lock, and the one who does may wait for it. */
	if (type == RTE_ETH_EVENT_DESTROY) {
		forwards[port].on = false;
		while (forward_at == port)
			usleep(IDLE_US);
	}

	pthread_mutex_lock(&event_lock);
	if (event_count < EVENTS_MAX)
		events[event_count++] = (struct event){ .what = event_name(type), .port = port };
	if (type == RTE_ETH_EVENT_NEW && is_found(port) && event_count < EVENTS_MAX)
		events[event_count++] = (struct event){ .what = "FOUND", .port = port };
	if (type == RTE_ETH_EVENT_NEW && is_free(port) && event_count < EVENTS_MAX)
		events[event_count++] = (struct event){ .what = "FREE", .port = port };
	event_complete(port);
	pthread_mutex_unlock(&event_lock);
	return 0;
}

static void
watch_events(void)
{
	static const enum rte_eth_event_type types[] = {
		RTE_ETH_EVENT_NEW, RTE_ETH_EVENT_DESTROY,
		RTE_ETH_EVENT_INTR_RMV, RTE_ETH_EVENT_INTR_LSC,
	};

	for (unsigned int i = 0; i < RTE_DIM(types); i++)
		rte_eth_dev_callback_register(RTE_ETH_ALL, types[i], on_event, NULL);
}

static void
do_events(char *args __rte_unused)
{
	pthread_mutex_lock(&event_lock);
	for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; port++)
		event_complete(port);
	say("ok");
	for (unsigned int i = 0; i < event_count; i++) {
		say(" %s:", events[i].what);
		if (events[i].name[0] != '\0')
			say("%s", events[i].name);
		else
			say("%u", events[i].port);
	}
	say("\n");
	event_count = 0;
	pthread_mutex_unlock(&event_lock);
}

/* Commands on vdevs. */

/** Cuts the first word off a line. */
static char *
next_word(char **line)
{
	static char none[1];
	char *word = strsep(line, " ");

	return word == NULL ? none : word;
}

static int
attach(const char *name, const char *args)
{
	return rte_eal_hotplug_add("vdev", name, args == NULL ? "" : args);
}

/**
 * Forwards nothing meanwhile: nobody may be inside a burst of a port that is freed.
 * Tries again as long as the interrupt thread is hot-plugging.
 */
static int
detach(const char *name)
{
	int ret;

	do {
		pthread_mutex_lock(&forward_lock);
		ret = rte_eal_hotplug_remove("vdev", name);
		pthread_mutex_unlock(&forward_lock);
	} while (ret == -EBUSY && usleep(RETRY_US) == 0);
	return ret;
}

static void
do_attach(char *args)
{
	char *name = next_word(&args);

	reply(attach(name, args));
}

static void
do_time(char *args)
{
	char *name = next_word(&args);
	struct timespec begin, end;
	int ret;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	ret = attach(name, args);
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (ret < 0)
		reply(ret);
	else
		say("ok %lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
}

static void
do_detach(char *args)
{
	reply(detach(next_word(&args)));
}

static void
do_cycle(char *args)
{
	unsigned long count = strtoul(next_word(&args), NULL, 10);
	char *name = next_word(&args);

	for (unsigned long i = 0; i < count; i++) {
		int ret = attach(name, args);

		if (ret >= 0)
			ret = detach(name);
		if (ret < 0) {
			reply(ret);
			return;
		}
	}
	say("ok %lu\n", count);
}

static void
do_vdevs(char *args __rte_unused)
{
	struct rte_devargs *devargs;

	say("ok");
	RTE_EAL_DEVARGS_FOREACH("vdev", devargs) {
		bool plain = devargs->args == NULL || devargs->args[0] == '\0';

		say(" %s%s%s", devargs->name, plain ? "" : ",", plain ? "" : devargs->args);
	}
	say("\n");
}

/* Commands on ports. */

#define FOREACH_PORT(port) \
	for (port = rte_eth_find_next(0); port < RTE_MAX_ETHPORTS; \
			port = rte_eth_find_next(port + 1))

static void
do_ports(char *args __rte_unused)
{
	uint16_t port;

	say("ok");
	FOREACH_PORT(port) {
		struct rte_eth_dev_owner owner = { .id = RTE_ETH_DEV_NO_OWNER };
		char name[RTE_ETH_NAME_MAX_LEN];

		/* It may go at any moment: failsafe works on another thread. */
		if (rte_eth_dev_get_name_by_port(port, name) != 0)
			continue;
		rte_eth_dev_owner_get(port, &owner);
		say(" %u:%s:%d", port, name, owner.id != RTE_ETH_DEV_NO_OWNER);
	}
	say("\n");
}

/** The pool of all ports, or of all with frames that fill no usual mbuf; NULL and rte_errno if there is no memory. */
static struct rte_mempool *
mbuf_pool(uint16_t mtu)
{
	static struct rte_mempool *pools[2];
	bool jumbo = mtu > RTE_ETHER_MTU;

	if (pools[jumbo] == NULL)
		pools[jumbo] = rte_pktmbuf_pool_create(jumbo ? "jumbo" : "app", MBUFS, 0, 0,
				jumbo ? JUMBO_ROOM : RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return pools[jumbo];
}

static int
configure(uint16_t port, uint16_t queues, uint16_t descriptors, uint16_t mtu)
{
	uint16_t rx_descriptors = descriptors, tx_descriptors = descriptors;
	struct rte_mempool *pool = mbuf_pool(mtu);
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;
	int ret;

	if (pool == NULL)
		return -rte_errno;
	if ((ret = rte_eth_dev_info_get(port, &info)) < 0)
		return ret;
	conf.intr_conf.lsc = (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
	conf.rxmode.mtu = mtu;
	if (queues > 1)
		conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
	if (conf.rx_adv_conf.rss_conf.rss_hf != 0)
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	if ((ret = rte_eth_dev_configure(port, queues, queues, &conf)) < 0 ||
			(ret = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx_descriptors,
				&tx_descriptors)) < 0)
		return ret;
	for (uint16_t i = 0; i < queues; i++)
		if ((ret = rte_eth_rx_queue_setup(port, i, rx_descriptors, SOCKET_ID_ANY,
					NULL, pool)) < 0 ||
				(ret = rte_eth_tx_queue_setup(port, i, tx_descriptors,
					SOCKET_ID_ANY, NULL)) < 0)
			return ret;
	return 0;
}

static void
do_configure(uint16_t port)
{
	reply(configure(port, 1, DESCRIPTORS, 0));
}

static int
start(uint16_t port, uint16_t queues, uint16_t descriptors, uint16_t mtu)
{
	int ret;

	if ((ret = configure(port, queues, descriptors, mtu)) < 0 ||
			(ret = rte_eth_dev_start(port)) < 0)
		return ret;
	return forward_add(port, queues);
}

static void
do_start(uint16_t port)
{
	reply(start(port, 1, DESCRIPTORS, 0));
}

static void
do_setup(char *args)
{
	const char *name = next_word(&args);
	unsigned long queues = strtoul(next_word(&args), NULL, 10);
	unsigned long descriptors = strtoul(next_word(&args), NULL, 10);
	unsigned long mtu = strtoul(next_word(&args), NULL, 10);
	uint16_t port;
	int ret;

	if (rte_eth_dev_get_port_by_name(name, &port) != 0 || queues > QUEUES_MAX) {
		reply(-ENODEV);
		return;
	}
	forward_remove(port);
	ret = rte_eth_dev_stop(port);
	reply(ret < 0 ? ret : start(port, queues, descriptors, mtu));
}

static void
do_mtu(char *args)
{
	const char *name = next_word(&args);
	uint16_t port;
	int ret = rte_eth_dev_get_port_by_name(name, &port);

	reply(ret < 0 ? ret : rte_eth_dev_set_mtu(port, strtoul(next_word(&args), NULL, 10)));
}

static void
do_mtu_of(uint16_t port)
{
	uint16_t mtu = 0;
	int ret = rte_eth_dev_get_mtu(port, &mtu);

	if (ret < 0)
		reply(ret);
	else
		say("ok %u\n", mtu);
}

static void
do_most_queues(uint16_t port)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret < 0)
		reply(ret);
	else
		say("ok %u %u\n", info.max_rx_queues, info.max_tx_queues);
}

static void
do_queues(uint16_t port)
{
	say("ok");
	for (uint16_t i = 0; i < forwards[port].queues; i++)
		say(" %" PRIuLEAST64, (uint_least64_t)forwards[port].by_queue[i]);
	say("\n");
}

/* Single calls, each with arguments that it accepts where it is offered. */

static struct rte_ether_addr call_mac = { .addr_bytes = { 0x00, 0x15, 0x5d, 0x77, 0x77, 0x77 } };

static int call_rx_setup(uint16_t port)
{
	return rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, mbuf_pool(0));
}

static int call_tx_setup(uint16_t port)
{
	return rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
}

static int call_configure(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };

	return rte_eth_dev_configure(port, 1, 1, &conf);
}

static int call_rx_start(uint16_t port) { return rte_eth_dev_rx_queue_start(port, 0); }
static int call_rx_stop(uint16_t port) { return rte_eth_dev_rx_queue_stop(port, 0); }
static int call_tx_start(uint16_t port) { return rte_eth_dev_tx_queue_start(port, 0); }
static int call_tx_stop(uint16_t port) { return rte_eth_dev_tx_queue_stop(port, 0); }
static int call_intr_enable(uint16_t port) { return rte_eth_dev_rx_intr_enable(port, 0); }
static int call_intr_disable(uint16_t port) { return rte_eth_dev_rx_intr_disable(port, 0); }
static int call_mtu(uint16_t port) { return rte_eth_dev_set_mtu(port, 1400); }
static int call_vlan_filter(uint16_t port) { return rte_eth_dev_vlan_filter(port, 7, 1); }
static int call_vlan_strip(uint16_t port) { return rte_eth_dev_set_vlan_offload(port, RTE_ETH_VLAN_STRIP_OFFLOAD); }
static int call_mac_add(uint16_t port) { return rte_eth_dev_mac_addr_add(port, &call_mac, 0); }
static int call_mac_remove(uint16_t port) { return rte_eth_dev_mac_addr_remove(port, &call_mac); }
static int call_mc_list(uint16_t port) { return rte_eth_dev_set_mc_addr_list(port, NULL, 0); }
static int call_ptypes(uint16_t port) { return rte_eth_dev_get_supported_ptypes(port, ~0u, NULL, 0); }
static int call_xstats(uint16_t port) { return rte_eth_xstats_get(port, NULL, 0); }
static int call_xstats_names(uint16_t port) { return rte_eth_xstats_get_names(port, NULL, 0); }

static int call_link(uint16_t port)
{
	struct rte_eth_link link;

	return rte_eth_link_get(port, &link);
}

static int call_stats(uint16_t port)
{
	struct rte_eth_stats stats;

	return rte_eth_stats_get(port, &stats);
}

static int call_infos(uint16_t port)
{
	struct rte_eth_dev_info info;

	return rte_eth_dev_info_get(port, &info);
}

/** As it is: another would be another port to those who send to it. */
static int call_mac_set(uint16_t port)
{
	struct rte_ether_addr mac;
	int ret = rte_eth_macaddr_get(port, &mac);

	return ret < 0 ? ret : rte_eth_dev_default_mac_addr_set(port, &mac);
}

static int call_flow_control_get(uint16_t port)
{
	struct rte_eth_fc_conf conf;

	memset(&conf, 0, sizeof(conf));
	return rte_eth_dev_flow_ctrl_get(port, &conf);
}

static int call_flow_control_set(uint16_t port)
{
	struct rte_eth_fc_conf conf;

	memset(&conf, 0, sizeof(conf));
	return rte_eth_dev_flow_ctrl_set(port, &conf);
}

static int call_rss(uint16_t port)
{
	struct rte_eth_rss_conf conf;

	memset(&conf, 0, sizeof(conf));
	return rte_eth_dev_rss_hash_update(port, &conf);
}

static int call_flow_create(uint16_t port)
{
	struct rte_flow_attr attributes;
	struct rte_flow_item pattern[2];
	struct rte_flow_action actions[2];
	struct rte_flow_error error;

	memset(&attributes, 0, sizeof(attributes));
	memset(pattern, 0, sizeof(pattern));
	memset(actions, 0, sizeof(actions));
	memset(&error, 0, sizeof(error));
	attributes.ingress = 1;
	pattern[0].type = RTE_FLOW_ITEM_TYPE_ETH;
	pattern[1].type = RTE_FLOW_ITEM_TYPE_END;
	actions[0].type = RTE_FLOW_ACTION_TYPE_DROP;
	actions[1].type = RTE_FLOW_ACTION_TYPE_END;
	return rte_flow_create(port, &attributes, pattern, actions, &error) == NULL ? -rte_errno : 0;
}

static int call_flow_flush(uint16_t port)
{
	struct rte_flow_error error;

	return rte_flow_flush(port, &error);
}

static int call_flow_isolate(uint16_t port)
{
	struct rte_flow_error error;

	return rte_flow_isolate(port, 0, &error);
}

static const struct {
	const char *name;
	int (*run_on)(uint16_t port);
} calls[] = {
	{ .name = "allmulticast_disable", .run_on = rte_eth_allmulticast_disable },
	{ .name = "allmulticast_enable", .run_on = rte_eth_allmulticast_enable },
	{ .name = "configure", .run_on = call_configure },
	{ .name = "flow_create", .run_on = call_flow_create },
	{ .name = "flow_ctrl_get", .run_on = call_flow_control_get },
	{ .name = "flow_ctrl_set", .run_on = call_flow_control_set },
	{ .name = "flow_flush", .run_on = call_flow_flush },
	{ .name = "flow_isolate", .run_on = call_flow_isolate },
	{ .name = "infos_get", .run_on = call_infos },
	{ .name = "link_get", .run_on = call_link },
	{ .name = "mac_addr_add", .run_on = call_mac_add },
	{ .name = "mac_addr_remove", .run_on = call_mac_remove },
	{ .name = "mac_addr_set", .run_on = call_mac_set },
	{ .name = "mc_addr_list_set", .run_on = call_mc_list },
	{ .name = "mtu_set", .run_on = call_mtu },
	{ .name = "promiscuous_disable", .run_on = rte_eth_promiscuous_disable },
	{ .name = "promiscuous_enable", .run_on = rte_eth_promiscuous_enable },
	{ .name = "ptypes_get", .run_on = call_ptypes },
	{ .name = "rss_hash_update", .run_on = call_rss },
	{ .name = "rx_intr_disable", .run_on = call_intr_disable },
	{ .name = "rx_intr_enable", .run_on = call_intr_enable },
	{ .name = "rx_queue_setup", .run_on = call_rx_setup },
	{ .name = "rx_queue_start", .run_on = call_rx_start },
	{ .name = "rx_queue_stop", .run_on = call_rx_stop },
	{ .name = "set_link_down", .run_on = rte_eth_dev_set_link_down },
	{ .name = "set_link_up", .run_on = rte_eth_dev_set_link_up },
	{ .name = "stats_get", .run_on = call_stats },
	{ .name = "stats_reset", .run_on = rte_eth_stats_reset },
	{ .name = "tx_queue_setup", .run_on = call_tx_setup },
	{ .name = "tx_queue_start", .run_on = call_tx_start },
	{ .name = "tx_queue_stop", .run_on = call_tx_stop },
	{ .name = "vlan_filter", .run_on = call_vlan_filter },
	{ .name = "vlan_strip", .run_on = call_vlan_strip },
	{ .name = "xstats_get", .run_on = call_xstats },
	{ .name = "xstats_get_names", .run_on = call_xstats_names },
	{ .name = "xstats_reset", .run_on = rte_eth_xstats_reset },
};

static void
do_call(char *args)
{
	const char *name = next_word(&args);
	uint16_t port;

	if (rte_eth_dev_get_port_by_name(next_word(&args), &port) != 0) {
		reply(-ENODEV);
		return;
	}
	for (unsigned int i = 0; i < RTE_DIM(calls); i++) {
		if (strcmp(calls[i].name, name) == 0) {
			reply(calls[i].run_on(port));
			return;
		}
	}
	reply(-ENOSYS);
}

static void
do_stop(uint16_t port)
{
	forward_remove(port);
	reply(rte_eth_dev_stop(port));
}

static void
do_close(uint16_t port)
{
	forward_remove(port);
	reply(rte_eth_dev_close(port));
}

static void
do_leave(char *args __rte_unused)
{
	uint16_t port;
	int ret = 0;

	RTE_ETH_FOREACH_DEV(port)
		ret = ret != 0 ? ret : rte_eth_dev_close(port);
	reply(ret);
}

static void
do_stats(uint16_t port)
{
	uint_least64_t rx = forwards[port].rx, tx = forwards[port].tx;

	say("ok rx=%" PRIuLEAST64 " tx=%" PRIuLEAST64 "\n", rx, tx);
}

static void
do_look(char *args)
{
	unsigned long count = strtoul(next_word(&args), NULL, 10);
	struct rte_eth_stats stats;
	struct rte_eth_link link;
	uint16_t port;
	int ret = rte_eth_dev_get_port_by_name(next_word(&args), &port);

	for (unsigned long i = 0; ret == 0 && i < count; i++) {
		ret = rte_eth_stats_get(port, &stats);
		if (ret == 0)
			ret = rte_eth_link_get_nowait(port, &link);
	}
	reply(ret);
}

static void
do_counted(uint16_t port)
{
	struct rte_eth_stats stats;
	int ret = rte_eth_stats_get(port, &stats);

	if (ret < 0)
		reply(ret);
	else
		say("ok %" PRIu64 " %" PRIu64 "\n", stats.ipackets, stats.opackets);
}

static void
do_mac(uint16_t port)
{
	char text[RTE_ETHER_ADDR_FMT_SIZE];
	struct rte_ether_addr mac;
	int ret = rte_eth_macaddr_get(port, &mac);

	if (ret < 0) {
		reply(ret);
		return;
	}
	rte_ether_format_addr(text, sizeof(text), &mac);
	say("ok %s\n", text);
}

static void
do_link(uint16_t port)
{
	struct rte_eth_link link;
	int ret = rte_eth_link_get_nowait(port, &link);

	if (ret < 0)
		reply(ret);
	else
		say("ok %s %u\n", link.link_status ? "up" : "down", link.link_speed);
}

/* Who owns a port. */

static struct rte_eth_dev_owner app_owner = { .id = RTE_ETH_DEV_NO_OWNER, .name = "app" };

static void
do_own(uint16_t port)
{
	int ret = 0;

	if (app_owner.id == RTE_ETH_DEV_NO_OWNER)
		ret = rte_eth_dev_owner_new(&app_owner.id);
	reply(ret < 0 ? ret : rte_eth_dev_owner_set(port, &app_owner));
}

static void
do_disown(uint16_t port)
{
	reply(rte_eth_dev_owner_unset(port, app_owner.id));
}

struct found {
	char name[RTE_ETH_NAME_MAX_LEN];
	uint64_t since; /* In µs; 0 when it was not found last. */
	uint64_t longest;
};

static struct found founds[FOUND_MAX];
static unsigned int found_count;
static pthread_mutex_t found_lock = PTHREAD_MUTEX_INITIALIZER;

static void
find_one(const char *name, uint64_t now, bool *seen)
{
	unsigned int i;

	for (i = 0; i < found_count && strcmp(founds[i].name, name) != 0; i++)
		;
	if (i == FOUND_MAX)
		return;
	if (i == found_count) {
		founds[i].since = founds[i].longest = 0;
		strcpy(founds[i].name, name);
		found_count++;
	}
	if (founds[i].since == 0)
		founds[i].since = now;
	founds[i].longest = RTE_MAX(founds[i].longest, now - founds[i].since);
	seen[i] = true;
}

/** Looks for ports that nobody owns, as an application does. */
static void
find_all(void)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	bool seen[FOUND_MAX] = { 0 };
	struct timespec time;
	uint16_t port;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &time);
	now = time.tv_sec * UINT64_C(1000000) + time.tv_nsec / 1000;
	pthread_mutex_lock(&found_lock);
	RTE_ETH_FOREACH_DEV(port)
		if (rte_eth_dev_get_name_by_port(port, name) == 0)
			find_one(name, now, seen);
	for (unsigned int i = 0; i < found_count; i++)
		if (!seen[i])
			founds[i].since = 0;
	pthread_mutex_unlock(&found_lock);
}

static void *
find_loop(void *arg __rte_unused)
{
	for (;;) {
		find_all();
		usleep(FIND_US);
	}
	return NULL;
}

static void
do_free(char *args __rte_unused)
{
	static pthread_t thread;
	static bool runs;
	int err = runs ? 0 : pthread_create(&thread, NULL, find_loop, NULL);

	if (err != 0) {
		reply(-err);
		return;
	}
	runs = true;
	pthread_mutex_lock(&found_lock);
	say("ok");
	for (unsigned int i = 0; i < found_count; i++)
		say(" %s:%" PRIu64, founds[i].name, founds[i].longest);
	say("\n");
	found_count = 0;
	pthread_mutex_unlock(&found_lock);
}

/* Commands on the process. */

#ifdef SECOND
#ifdef __cplusplus
extern "C"
#endif
int second_library(void);

static void
do_second(char *args __rte_unused)
{
	say("ok %d\n", second_library());
}
#endif

static void
do_count(char *args __rte_unused)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int fds = 0, ports = 0;
	struct dirent *entry;
	uint16_t port;

	if (dir == NULL) {
		reply(-errno);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		fds += entry->d_name[0] != '.';
	closedir(dir);
	FOREACH_PORT(port)
		ports++;
	say("ok fds=%u ports=%u\n", fds - 1, ports);
}

static atomic_bool holding;

static void
hold(void *arg)
{
	holding = true;
	usleep((uintptr_t)arg * 1000);
}

static void
do_hold(char *args)
{
	uintptr_t time = strtoul(args == NULL ? "" : args, NULL, 10);
	int ret;

	holding = false;
	ret = rte_eal_alarm_set(1, hold, (void *)time);
	while (ret == 0 && !holding)
		usleep(100);
	reply(ret);
}

#ifdef CAPTURE
static void
do_capture(char *args __rte_unused)
{
	reply(rte_pdump_init());
}
#endif

static void
do_heap(char *args __rte_unused)
{
	struct mallinfo2 info = mallinfo2();

	say("ok %zu\n", info.uordblks + info.hblkhd);
}

static void
do_hurry(char *args __rte_unused)
{
	hurry = true;
	say("ok\n");
}

static void
do_cleanup(char *args)
{
	uint16_t port;

	forward_finish();
	while (args != NULL && rte_eth_dev_get_port_by_name(args, &port) == 0)
		rte_pause();
	reply(rte_eal_cleanup());
	exit(EXIT_SUCCESS);
}

static void
do_quit(char *args __rte_unused)
{
	_exit(EXIT_SUCCESS);
}

static const struct {
	const char *name;
	void (*run)(char *args);
	void (*run_on)(uint16_t port);
} commands[] = {
	{ .name = "attach", .run = do_attach },
	{ .name = "call", .run = do_call },
#ifdef CAPTURE
	{ .name = "capture", .run = do_capture },
#endif
	{ .name = "cleanup", .run = do_cleanup },
	{ .name = "close", .run_on = do_close },
	{ .name = "configure", .run_on = do_configure },
	{ .name = "count", .run = do_count },
	{ .name = "counted", .run_on = do_counted },
	{ .name = "cycle", .run = do_cycle },
	{ .name = "detach", .run = do_detach },
	{ .name = "disown", .run_on = do_disown },
	{ .name = "events", .run = do_events },
	{ .name = "free", .run = do_free },
	{ .name = "heap", .run = do_heap },
	{ .name = "hold", .run = do_hold },
	{ .name = "hurry", .run = do_hurry },
	{ .name = "leave", .run = do_leave },
	{ .name = "link", .run_on = do_link },
	{ .name = "look", .run = do_look },
	{ .name = "mac", .run_on = do_mac },
	{ .name = "most_queues", .run_on = do_most_queues },
	{ .name = "mtu", .run = do_mtu },
	{ .name = "mtu_of", .run_on = do_mtu_of },
	{ .name = "own", .run_on = do_own },
	{ .name = "ports", .run = do_ports },
	{ .name = "queues", .run_on = do_queues },
	{ .name = "quit", .run = do_quit },
#ifdef SECOND
	{ .name = "second", .run = do_second },
#endif
	{ .name = "setup", .run = do_setup },
	{ .name = "start", .run_on = do_start },
	{ .name = "stats", .run_on = do_stats },
	{ .name = "stop", .run_on = do_stop },
	{ .name = "time", .run = do_time },
	{ .name = "vdevs", .run = do_vdevs },
};

static void
run(char *line)
{
	const char *name = next_word(&line);
	uint16_t port;

	for (unsigned int i = 0; i < RTE_DIM(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].run != NULL)
			commands[i].run(line);
		else if (rte_eth_dev_get_port_by_name(next_word(&line), &port) == 0)
			commands[i].run_on(port);
		else
			reply(-ENODEV);
		return;
	}
	reply(-ENOSYS);
}

int
main(int argc, char **argv)
{
	char line[LINE_MAX_BYTES];

	/* EAL logs and prints to stdout: keep that for the replies. */
	replies = fdopen(dup(STDOUT_FILENO), "w");
	if (replies == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
		perror("stdout");
		return EXIT_FAILURE;
	}
	setvbuf(replies, NULL, _IOLBF, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	rte_openlog_stream(stderr);

#ifdef REGISTER
	vdev_netvsc_register();
#endif
	if (rte_eal_init(argc, argv) < 0) {
		say("failed %s\n", rte_strerror(rte_errno));
		return EXIT_FAILURE;
	}
	watch_events();
	say("ready\n");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		run(line);
	}
	_exit(EXIT_SUCCESS);
}
