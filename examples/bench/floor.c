/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * The least that a driver has to do: it listens for links, as a driver does, and
 * writes a line into a pipe when one has the VF's MAC and is up. A thread waits for
 * the pipe and tells of it (posts.h), as the stand-in for net_failsafe does. It says
 * "ready" when it listens, and ends with its input.
 */

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "posts.h"

#define POST "0000:01:00.0\n"

static int ends[2];

static void *
stamp(void *arg)
{
	int posts = posts_open();
	struct pollfd pipe_end = { .fd = ends[0], .events = POLLIN };

	while (poll(&pipe_end, 1, -1) > 0 && posts_read(posts, ends[0]))
		;
	return arg;
}

/** Tells whether a message is about the VF. */
static bool
is_vf(const struct nlmsghdr *message)
{
	static const unsigned char mac[] = { 0x00, 0x15, 0x5d, 0x00, 0x00, 0x01 };
	const struct ifinfomsg *info = NLMSG_DATA(message);
	const struct rtattr *attribute = IFLA_RTA(info);
	int left = IFLA_PAYLOAD(message);

	if (message->nlmsg_type != RTM_NEWLINK || !(info->ifi_flags & IFF_UP))
		return false;
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == IFLA_ADDRESS)
			return memcmp(RTA_DATA(attribute), mac, sizeof(mac)) == 0;
	return false;
}

static void
listen_on(int socket)
{
	static char buffer[32768];
	ssize_t size;

	while ((size = recv(socket, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0 || errno == EINTR) {
		const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;

		for (; NLMSG_OK(message, size); message = NLMSG_NEXT(message, size))
			if (is_vf(message) && write(ends[1], POST, strlen(POST)) < 0)
				perror("pipe");
	}
}

int
main(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int links = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct pollfd fds[2] = { { .fd = links, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	pthread_t thread;

	if (links < 0 || bind(links, (struct sockaddr *)&address, sizeof(address)) != 0 || pipe(ends) != 0 ||
			pthread_create(&thread, NULL, stamp, NULL) != 0) {
		perror("floor");
		return EXIT_FAILURE;
	}
	puts("ready");
	fflush(stdout);
	while (poll(fds, 2, -1) > 0 && fds[1].revents == 0)
		listen_on(links);
	return EXIT_SUCCESS;
}
