/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * Link events for which the kernel has no memory: to be loaded before all else
 * (LD_PRELOAD). While the file /run/deaf is there, nothing can be received from a
 * netlink socket that is a member of a group, and what is queued there stays.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <linux/netlink.h>

static bool
hears_events(int fd)
{
	struct sockaddr_nl address = { 0 };
	socklen_t size = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
		address.nl_family == AF_NETLINK && address.nl_groups != 0;
}

ssize_t
recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *restrict from, socklen_t *restrict length)
{
	static ssize_t (*real)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
	int error = errno;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "recvfrom");
	if (access("/run/deaf", F_OK) == 0 && hears_events(fd)) {
		errno = ENOMEM;
		return -1;
	}
	errno = error;
	return real(fd, buffer, size, flags, from, length);
}
