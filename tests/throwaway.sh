#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: throwaway.sh <command> [argument ...]
#
# Runs a command as if on a copy of this system: what it writes to /usr, /etc, /var and the build folder stays in memory
# and ends with it, and so do the processes that it leaves behind. Needs root.
#
# For the command, /mnt/<usr, etc, var or build>/was is the folder as it was, and .../changed holds all that has been
# written to it since. It may put its own files in /mnt.
set -eu

if [ "${1:-}" != --inside ]; then
	exec unshare --mount --propagation private --pid --fork --kill-child "$0" --inside "$@"
fi
shift

build=$(cd "$(dirname "$0")/.." && pwd)/build
mount -t proc proc /proc
mount -t tmpfs -o mode=755 memory /mnt
for folder in "$build" /usr /etc /var; do
	layers=/mnt/$(basename "$folder")
	mkdir "$layers" "$layers/was" "$layers/changed" "$layers/work" "$layers/is"
	mount --bind "$folder" "$layers/was"
	mount -t overlay -o "lowerdir=$layers/was,upperdir=$layers/changed,workdir=$layers/work" overlay "$layers/is"
	# What is mounted in it comes along: a container may have its /etc/resolv.conf so.
	findmnt --raw --noheadings --output TARGET | grep "^$folder/" | while read -r inner; do
		mount --bind "$inner" "$layers/is${inner#"$folder"}"
	done
	mount --move "$layers/is" "$folder"
done
exec "$@"
