# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
#
# For a script that consists of steps, to be sourced from the top of the project:
#
#   begin <name> <seconds>       says how long it took last time, or takes about
#   step <what> <command> ...    runs a command
#   install <set> ...            a step as well: what packages.sh installs
#   skip <what>                  in the place of a step: it is left out, which is told at the end
#   leave_out <what>             only the latter
#   finish                       says how long it took, and what was left out
#
# Each step says which of how many it is. What it says is shown and kept in build/<name>.log, and where it says nothing a
# line each eight seconds tells that it goes on. The script ends with the first step that fails, with its status.
#
# A step runs in namespaces, of which nothing is left when it ends or the script does, however that ends. Packages are
# installed outside of them: a signal waits until that is done.

# What the terminal and the log get from a step.
# shellcheck disable=SC2016 # It is Perl's.
watched='
	my ($name, $begin, $last) = (shift, time, "\n");
	open my $log, ">>", "build/$name.log" or die "build/$name.log: $!";
	$SIG{INT} = $SIG{TERM} = $SIG{HUP} = "IGNORE";
	while (1) {
		vec(my $ready = "", fileno(STDIN), 1) = 1;
		my $text;
		if (select $ready, undef, undef, 8) {
			sysread STDIN, $text, 65536 or last;
			$last = substr $text, -1;
		} else {
			$text = sprintf "%s      ... %d s\n", $last eq "\n" ? "" : "\n", time - $begin;
			$last = "\n";
		}
		syswrite $_, $text for *STDOUT, $log;
	}'

say() {
	echo "$*"
	echo "$*" >>"build/$steps_name.log"
}

duration() {
	if [ "$1" -lt 60 ]; then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

begin() {
	steps_name=$1
	if [ "$(id -u)" != 0 ]; then
		echo "make $steps_name: needs root" >&2
		exit 1
	fi
	steps_all=$(grep -cE '^	*(step|install) ' "$0")
	steps_done=0
	left_out=
	steps_began=$(date +%s)
	# What a command that was killed has left there.
	rm -rf "build/tmp.$steps_name"
	mkdir -p "build/tmp.$steps_name"
	TMPDIR=$PWD/build/tmp.$steps_name
	# One for the driver, its tests and all else.
	CARGO_TARGET_DIR=$PWD/build/cargo
	export TMPDIR CARGO_TARGET_DIR
	: >"build/$steps_name.log"
	if [ -f "build/$steps_name.took" ]; then
		say "make $steps_name: $steps_all steps, took $(duration "$(cat "build/$steps_name.took")") last time"
	else
		say "make $steps_name: $steps_all steps, takes about $(duration "$2") on two idle cores"
	fi
}

# Runs a command as a step: its name, the command.
watch() {
	steps_done=$((steps_done + 1))
	say "[$steps_done/$steps_all] $1"
	shift
	rm -f "$TMPDIR/output"
	mkfifo "$TMPDIR/output"
	perl -e "$watched" "$steps_name" <"$TMPDIR/output" &
	steps_status=0
	"$@" >"$TMPDIR/output" 2>&1 || steps_status=$?
	wait $!
	if [ "$steps_status" != 0 ]; then
		say "make $steps_name: step $steps_done of $steps_all has failed, see build/$steps_name.log"
		exit "$steps_status"
	fi
}

step() {
	steps_what=$1
	shift
	watch "$steps_what" setpriv --pdeathsig KILL unshare --mount --propagation private --pid --mount-proc --fork --kill-child "$@"
}

install() {
	trap 'exit 1' HUP INT TERM
	watch "packages that are missing" tools/packages.sh "$@"
	trap - HUP INT TERM
}

skip() {
	steps_done=$((steps_done + 1))
	say "[$steps_done/$steps_all] left out: $1"
	leave_out "$1"
}

leave_out() {
	left_out="$left_out
left out: $*"
}

finish() {
	rm -rf "$TMPDIR"
	steps_took=$(($(date +%s) - steps_began))
	echo "$steps_took" >"build/$steps_name.took"
	say "make $steps_name: passed in $(duration "$steps_took")$left_out"
}
