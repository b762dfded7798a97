/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * Memory that runs short: to be loaded before all else (LD_PRELOAD). While the
 * file /run/short is there, no block of just so many bytes is to be had: the
 * buffer of the driver's netlink sockets.
 */
#include <stddef.h>
#include <unistd.h>

#define BYTES (32 * 1024)

void *
calloc(size_t count, size_t size)
{
	extern void *__libc_calloc(size_t, size_t);

	if (count * size == BYTES && access("/run/short", F_OK) == 0)
		return NULL;
	return __libc_calloc(count, size);
}
