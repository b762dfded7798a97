/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * How the stand-in for failsafe and the floor tell what they read: a line each in
 * the file /run/posts, CLOCK_MONOTONIC in nanoseconds and what was read.
 */
#ifndef POSTS_H
#define POSTS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static inline int
posts_open(void)
{
	return open("/run/posts", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/** Reads what is there and tells of it. There is nothing when whoever filled it has emptied it. */
static inline bool
posts_read(int posts, int fd)
{
	struct timespec now;
	char text[1024], line[1100];
	ssize_t size;
	int length;

	clock_gettime(CLOCK_MONOTONIC, &now);
	size = read(fd, text, sizeof(text));
	if (size <= 0)
		return false;
	length = snprintf(line, sizeof(line), "%lld %.*s",
			now.tv_sec * 1000000000LL + now.tv_nsec, (int)size, text);
	return write(posts, line, length) == length;
}

#endif /* POSTS_H */
