/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * A machine that has no packet sockets, such as one without the kernel module
 * af_packet: to be loaded before all else (LD_PRELOAD). It lasts as long as the
 * file /run/no-packets is there.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int
socket(int domain, int type, int protocol)
{
	static int (*real)(int, int, int);
	int error = errno;

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "socket");
	if (domain == AF_PACKET && access("/run/no-packets", F_OK) == 0) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	errno = error;
	return real(domain, type, protocol);
}
