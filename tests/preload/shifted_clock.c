/* Shifts the clock of a process, in whatever language it is read: preloaded by tests/preloads.py.

   SHIFTED_BY says by how many seconds; with SHIFTED_RANK, only the process of that rank is concerned.
   Only what tells the date is shifted. Waiting until a date, which callers reckon from the shifted
   clock, ends when it would on a machine whose clock is really wrong. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *rank = getenv("RANK"), *chosen = getenv("SHIFTED_RANK"), *by = getenv("SHIFTED_BY");
    if (chosen && (!rank || strcmp(rank, chosen) != 0)) return 0;
    return by ? atol(by) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}

/* A condition may also wait by the monotonic clock, which starts near zero. */
static clockid_t clock_of(const struct timespec *until) {
    return until->tv_sec > 1000000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
}

static struct timespec unshifted(const struct timespec *until) {
    struct timespec when = *until;
    if (clock_of(until) == CLOCK_REALTIME) when.tv_sec -= shift();
    return when;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec when = unshifted(until);
    return pthread_cond_clockwait(condition, mutex, clock_of(until), &when);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    struct timespec when = unshifted(until);
    return sem_clockwait(semaphore, CLOCK_REALTIME, &when);
}
