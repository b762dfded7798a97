/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * Has a fault happen in the driver (tests/faults/faults.rs), and tells by its exit
 * status what came of it. Of memory there is no more to be had than it has.
 */
#include <stdlib.h>
#include <sys/resource.h>

int vdev_netvsc_fault(int number);

int
main(int argc, char **argv)
{
	const struct rlimit none = { 0, 0 };

	if (argc != 2 || setrlimit(RLIMIT_CORE, &none) != 0 || setrlimit(RLIMIT_AS, &none) != 0)
		return 2;
	return vdev_netvsc_fault(atoi(argv[1]));
}
