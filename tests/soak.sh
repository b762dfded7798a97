#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: soak.sh [minutes]
#
# Has the churn of tests/churn.rs go on for so long, an hour by default, in rounds of a minute, each with a seed of its own;
# SEED is the first. Goes on after a round that failed, of which build/soak keeps the log and, where gdb is and cores are
# written to the current folder, the core and who was where. Needs root.
set -eu
cd "$(dirname "$0")/.."

minutes=${1:-60}
first=${SEED:-1}
kept=build/soak
failed=0

cargo test --quiet --locked --no-run --test churn
ulimit -c unlimited
mkdir -p "$kept"
seed=$first
while [ "$seed" -lt $((first + minutes)) ]; do
	log=$kept/$seed.log
	if CHURN_SEED=$seed CHURN_SECONDS=60 cargo test --quiet --locked --test churn -- --nocapture >"$log" 2>&1; then
		grep "^seed" "$log"
		rm "$log"
	else
		failed=$((failed + 1))
		echo "seed $seed failed: $log"
		if [ -f core ]; then
			mv core "$kept/$seed.core"
			gdb -q -batch -iex "set solib-search-path $PWD/build:$PWD/build/tests" -ex "thread apply all bt" \
				build/tests/app "$kept/$seed.core" >"$kept/$seed.txt" 2>&1 || true
		fi
	fi
	seed=$((seed + 1))
done
echo "$failed of $minutes rounds failed"
[ "$failed" = 0 ]
