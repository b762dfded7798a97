/* SPDX-License-Identifier: BSD-3-Clause */

/**
 * @file
 * Calls of the driver's plugin that fail: to be loaded before all else (LD_PRELOAD).
 *
 * It has a function in the place of each that the plugin imports and that can
 * fail. CALLS names them, as CALL(name) each, made of the plugin's own symbols
 * (tests/failing_calls.rs). A call whose return address lies in the plugin is
 * counted, and fails when that has been ordered; all others go through.
 *
 * The file /run/control has the orders and the counts, as words of 64 bits. An
 * alarm of the plugin's is set with a note of it, so that the test knows of how
 * many there are, and can have them fire at once.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/futex.h>

#define PLUGIN "librte_net_vdev_netvsc.so"
#define ALARMS_MAX 64
#define ATTEND_US 500
#define ROOM 4096

/** How a call fails: not done, done all the same, or done for one byte. */
enum manner { INSTEAD, AFTER, SHORT };

struct control {
	atomic_ullong armed; /* The call that fails, counted from 1; 0 for none. */
	atomic_ullong first, last; /* Of its calls since that was ordered. */
	atomic_llong returned;
	atomic_llong error;
	atomic_ullong manner;
	atomic_ullong fired; /* How often it has failed. */
	atomic_ullong place; /* Where in the plugin it did first. */
	atomic_ullong hasten; /* Alarms are to fire at once; 0 when that is done. */
	atomic_ullong pending; /* Alarms of the plugin's. */
	atomic_ullong counts[]; /* By call. */
};

typedef long function(long, long, long, long, long, long, long, long);

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define CALL(name) NUMBER_##name,
enum number { CALLS NUMBERS };
#undef CALL

#define CALL(name) #name,
static const char *const names[] = { CALLS };
#undef CALL

static function *reals[NUMBERS];
static struct control *control;
static atomic_uintptr_t begin, end;

static int
memalign_aligned(void **block, size_t alignment, size_t size)
{
	void *found = __libc_memalign(alignment, size);

	if (found == NULL)
		return ENOMEM;
	*block = found;
	return 0;
}

/** To look one of these up would take memory. */
static function *
allocator(const char *name)
{
	if (strcmp(name, "malloc") == 0)
		return (function *)(void *)__libc_malloc;
	if (strcmp(name, "calloc") == 0)
		return (function *)(void *)__libc_calloc;
	if (strcmp(name, "realloc") == 0)
		return (function *)(void *)__libc_realloc;
	if (strcmp(name, "posix_memalign") == 0)
		return (function *)(void *)memalign_aligned;
	return NULL;
}

static function *
real_of(enum number number)
{
	if (reals[number] == NULL)
		reals[number] = allocator(names[number]);
	if (reals[number] == NULL)
		*(void **)&reals[number] = dlsym(RTLD_NEXT, names[number]);
	return reals[number];
}

/* Who calls. */

static int
find_end(struct dl_phdr_info *object, size_t size, void *base)
{
	(void)size;
	if (object->dlpi_addr != (uintptr_t)base)
		return 0;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		uintptr_t last = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr + object->dlpi_phdr[i].p_memsz;

		if (object->dlpi_phdr[i].p_type == PT_LOAD && last > end)
			end = last;
	}
	return 1;
}

/** The first function of all that the plugin calls is one of DPDK's. */
static bool
is_plugins(enum number number, uintptr_t caller)
{
	Dl_info object;

	if (begin == 0 && strncmp(names[number], "rte_", 4) == 0 && dladdr((void *)caller, &object) != 0 &&
			strstr(object.dli_fname, PLUGIN) != NULL) {
		dl_iterate_phdr(find_end, object.dli_fbase);
		begin = (uintptr_t)object.dli_fbase;
	}
	return begin != 0 && caller >= begin && caller < end;
}

/* Alarms. */

struct alarm {
	atomic_bool set;
	void (*callback)(void *argument);
	void *argument;
};

static struct alarm alarms[ALARMS_MAX];

static void
fire(void *argument)
{
	struct alarm *alarm = argument;
	void (*callback)(void *) = alarm->callback;
	void *callback_argument = alarm->argument;

	alarm->set = false;
	control->pending--;
	callback(callback_argument);
}

static struct alarm *
note_alarm(long *args)
{
	for (struct alarm *alarm = alarms; alarm < &alarms[ALARMS_MAX]; alarm++) {
		if (atomic_exchange(&alarm->set, true))
			continue;
		alarm->callback = (void (*)(void *))args[1];
		alarm->argument = (void *)args[2];
		args[1] = (long)fire;
		args[2] = (long)alarm;
		control->pending++;
		return alarm;
	}
	abort();
}

static void *
attend(void *argument)
{
	int (*set)(uint64_t, void (*)(void *), void *) = NULL;
	int (*cancel)(void (*)(void *), void *) = NULL;

	for (;; usleep(ATTEND_US)) {
		if (control->hasten == 0)
			continue;
		*(void **)&set = dlsym(RTLD_NEXT, "rte_eal_alarm_set");
		*(void **)&cancel = dlsym(RTLD_NEXT, "rte_eal_alarm_cancel");
		for (struct alarm *alarm = alarms; alarm < &alarms[ALARMS_MAX]; alarm++)
			if (alarm->set && cancel(fire, alarm) == 1 && set(1, fire, alarm) != 0)
				abort();
		control->hasten = 0;
	}
	return argument;
}

/* The calls. */

/** Of the system calls without a function, those that wake a thread cannot be interrupted. */
static bool
can_fail(enum number number, const long *args)
{
	return strcmp(names[number], "syscall") != 0 ||
		(args[0] == SYS_futex && (args[2] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET);
}

static long
run(enum number number, long *args)
{
	struct alarm *alarm = NULL;
	long returned;

	if (strcmp(names[number], "rte_eal_alarm_set") == 0)
		alarm = note_alarm(args);
	returned = real_of(number)(args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7]);
	if (alarm != NULL && (int)returned != 0) {
		alarm->set = false;
		control->pending--;
	}
	return returned;
}

static long
call(enum number number, uintptr_t caller, long *args)
{
	unsigned long long count;
	int error = errno;
	bool ours = control != NULL && can_fail(number, args) && is_plugins(number, caller);

	errno = error;
	if (!ours)
		return real_of(number)(args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7]);
	count = ++control->counts[number];
	if (control->armed != number + 1ULL || count < control->first || count > control->last)
		return run(number, args);
	if (control->fired++ == 0)
		control->place = caller - begin;
	switch ((enum manner)control->manner) {
	case SHORT:
		args[2] = args[2] > 1 ? 1 : args[2];
		return run(number, args);
	case AFTER:
		run(number, args);
		break;
	case INSTEAD:
		break;
	}
	if (control->error != 0)
		errno = control->error;
	return control->returned;
}

#define CALL(name) \
	long failing_##name(long a, long b, long c, long d, long e, long f, long g, long h) __asm__(#name); \
	__attribute__((visibility("default"))) long \
	failing_##name(long a, long b, long c, long d, long e, long f, long g, long h) \
	{ \
		return call(NUMBER_##name, (uintptr_t)__builtin_return_address(0), \
				(long[]){ a, b, c, d, e, f, g, h }); \
	}
CALLS

__attribute__((constructor)) static void
prepare(void)
{
	pthread_t thread;
	int file = open("/run/control", O_RDWR | O_CLOEXEC);
	void *map;

	if (file < 0)
		return;
	map = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (map == MAP_FAILED)
		abort();
	for (enum number number = 0; number < NUMBERS; number++)
		real_of(number);
	control = map;
	if (pthread_create(&thread, NULL, attend, NULL) != 0)
		abort();
}
