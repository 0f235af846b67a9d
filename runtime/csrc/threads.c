/* threads.c - the one pool of threads: started when first needed, asleep between calls, one caller at a time.
 *
 * A job is a number of tasks and a gate with seats. Workers that wake up take a seat each and then tasks, one after the
 * other; so does the caller. When no task is left to take, the caller closes the gate and waits for those inside alone:
 * a worker that the system has not woken yet delays nobody. A thread that finds the pool taken by another does its tasks by
 * itself, as does a task that comes back here. Nothing spins for longer than SPINS and nothing waits for a lock, so that
 * fork may happen anywhere; the child begins without workers.
 *
 * Where the caller has threads of another runtime (tw_set_team) they take the tasks instead.
 *
 * Who takes part notes the core it is on. Linux likes to wake a thread on the core of whoever wakes it, to share it for
 * milliseconds while another core sleeps: a worker that finds its core taken moves to one that is free. */
#define _GNU_SOURCE /* syscall, pthread_setname_np, sched_getcpu */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

enum {
    SPINS = 500,
    INSIDE = 0x7fff,
    SEAT = 0x8000,
    SEATS = INSIDE * SEAT, /* the gate: workers inside, seats that are free, and whether the caller sleeps */
};
#define ASLEEP 0x80000000u

typedef struct job {
    tw_task_fn run;
    void *context;
    int64_t tasks;
    int caller; /* the thread's number; workers use its cores */
} job;

static struct {
    _Alignas(64) atomic_uint turn; /* goes up with each job; workers sleep on it */
    _Alignas(64) atomic_uint gate;
    _Alignas(64) atomic_llong next; /* the first task nobody has taken */
    _Alignas(64) atomic_bool taken; /* by a caller; what follows is his */
    _Alignas(64) tw_core_set cores; /* those that threads of this job are on */
    int workers, wanted; /* that there are; no more could be made than there are while that many are wanted */
    job now;
} pool;

static __thread bool serial __attribute__((tls_model("initial-exec"))); /* this thread is at a task */

static __thread tw_team_fn team __attribute__((tls_model("initial-exec"))); /* whose threads this one's calls use */
static atomic_bool forked; /* another runtime's threads stayed with the parent, and it may not know */

/* ---- How many: TILEWRIGHT_NUM_THREADS, tw_set_num_threads, or the cores there are ---- */

static atomic_int setting; /* 0: as many as there are cores, not counted yet; -1: the environment's is none */
static char wish[64];      /* TILEWRIGHT_NUM_THREADS at load */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int refuse_wish(void)
{
    tw_fail(TW_ERROR_THREADS, "TILEWRIGHT_NUM_THREADS=%.40s: it must be a number of threads from 1 to %d, or unset.",
            wish, TW_MOST_THREADS);
    return -1;
}

static void child(void)
{
    pool.workers = pool.wanted = 0;
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.taken, false);
    atomic_store(&forked, true);
}

static void begin(void)
{
    const char *value = getenv("TILEWRIGHT_NUM_THREADS");
    snprintf(wish, sizeof wish, "%s", value ? value : "");
    if (wish[0]) {
        char *end;
        long number = strtol(wish, &end, 10);
        bool plain = wish[0] >= '0' && wish[0] <= '9' && *end == '\0';
        atomic_store(&setting, plain && number >= 1 && number <= TW_MOST_THREADS ? (int)number : -1);
        tw_tiler_alone(plain && number == 1);
    }
    pthread_atfork(NULL, NULL, child);
}

__attribute__((constructor)) static void load(void)
{
    pthread_once(&once, begin);
}

int tw_get_num_threads(void)
{
    load();
    int number = atomic_load_explicit(&setting, memory_order_relaxed);
    if (number == 0) {
        int counted = tw_cores();
        number = counted < TW_MOST_THREADS ? counted : TW_MOST_THREADS;
        int none = 0; /* another thread's choice, made meanwhile, stands */
        number = atomic_compare_exchange_strong(&setting, &none, number) ? number : none;
        tw_tiler_alone(number == 1);
    }
    return number > 0 ? number : refuse_wish();
}

int tw_set_num_threads(int threads)
{
    load(); /* or it would undo this */
    if (threads < 0 || threads > TW_MOST_THREADS) {
        return tw_fail(TW_ERROR_THREADS,
                       "tw_set_num_threads: %d threads; it must be 1 to %d, or 0 for as many as there are cores.",
                       threads, TW_MOST_THREADS);
    }
    atomic_store(&setting, threads);
    tw_tiler_alone(threads == 1);
    return TW_OK;
}

int tw_threads_allowed(void)
{
    if (serial) {
        return 1;
    }
    int number = tw_get_num_threads();
    return number > 0 ? number : 1;
}

/* What a thread must have to do, in nanoseconds: with two of them a call is worth 50000, which is where two threads begin to
 * be faster than one even if the second must be woken (`build.py bench threads`). */
_Atomic double tw_least_share = 25000;

double tw_thread_share(double nanoseconds)
{
    return nanoseconds >= 0 ? atomic_exchange(&tw_least_share, nanoseconds) : atomic_load(&tw_least_share);
}

int tw_threads_worth_of(double nanoseconds, double share)
{
    int allowed = tw_threads_allowed();
    return nanoseconds < share * allowed ? (int)(nanoseconds / share) : allowed;
}

/* ---- Work ---- */

static void sleep_on(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); /* returns at once if it is not that any more */
}

static void wake(atomic_uint *word, int sleepers)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, sleepers, NULL, NULL, 0);
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield does nothing on most cores */
#endif
}

static void take_tasks(const job *now, atomic_llong *next)
{
    for (int64_t task; (task = atomic_fetch_add_explicit(next, 1, memory_order_relaxed)) < now->tasks;) {
        now->run(now->context, task);
    }
}

/* Be the only one of this job on a core, if there are enough of them. */
static void settle(int caller)
{
    if (!tw_core_take(&pool.cores, sched_getcpu()) && tw_core_leave(&pool.cores, caller)) {
        tw_core_take(&pool.cores, sched_getcpu());
    }
}

/* Take a seat; while one is inside, the job stays. */
static bool enter(void)
{
    unsigned gate = atomic_load_explicit(&pool.gate, memory_order_relaxed);
    while (gate & SEATS) {
        if (atomic_compare_exchange_weak_explicit(&pool.gate, &gate, gate - SEAT + 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

static void *work(void *unused)
{
    (void)unused;
    serial = true;
    pthread_setname_np(pthread_self(), "tilewright");
    for (int spin = 0;;) {
        unsigned turn = atomic_load_explicit(&pool.turn, memory_order_acquire); /* before the gate, or one is missed */
        if (enter()) {
            settle(pool.now.caller);
            take_tasks(&pool.now, &pool.next);
            if (atomic_fetch_sub_explicit(&pool.gate, 1, memory_order_release) == (ASLEEP | 1)) {
                wake(&pool.gate, 1);
            }
            spin = 0;
        } else if (spin++ < SPINS) {
            relax();
        } else {
            sleep_on(&pool.turn, turn);
            spin = 0;
        }
    }
    return NULL;
}

/* Have so many workers if the system allows it. Signals are for the program's own threads. */
static int start(int workers)
{
    if (pool.workers < workers && pool.wanted != workers) {
        pool.wanted = workers;
        pthread_attr_t attributes;
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        if (pthread_attr_init(&attributes) == 0) {
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
            pthread_t thread;
            while (pool.workers < workers && pthread_create(&thread, &attributes, work, NULL) == 0) {
                pool.workers++;
            }
            pthread_attr_destroy(&attributes);
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return workers < pool.workers ? workers : pool.workers;
}

/* Close the gate and wait for those inside. */
static void finish(void)
{
    unsigned gate = atomic_fetch_and_explicit(&pool.gate, ~(unsigned)SEATS, memory_order_acquire) & ~(unsigned)SEATS;
    for (int spin = 0; gate & INSIDE; spin++) {
        relax();
        if (spin >= SPINS && (gate & ASLEEP || atomic_compare_exchange_strong(&pool.gate, &gate, gate | ASLEEP))) {
            sleep_on(&pool.gate, gate | ASLEEP);
        }
        gate = atomic_load_explicit(&pool.gate, memory_order_acquire);
    }
}

/* ---- Threads of another runtime ---- */

typedef struct lent_job {
    job now;
    atomic_llong next;
    atomic_int seats; /* a team is as large as it is; no more of it than were asked for do work */
} lent_job;

static void work_in_team(void *context)
{
    lent_job *lent = context;
    bool before = serial;
    if (atomic_fetch_sub_explicit(&lent->seats, 1, memory_order_relaxed) > 0) {
        serial = true;
        take_tasks(&lent->now, &lent->next);
        serial = before;
    }
}

tw_team_fn tw_set_team(tw_team_fn threads)
{
    tw_team_fn before = team;
    team = threads;
    return before;
}

void tw_parallel(int threads, int64_t tasks, tw_task_fn run, void *context)
{
    int workers = (int)(threads < tasks ? threads : tasks) - 1;
    if (workers > 0 && !serial && team != NULL && !atomic_load_explicit(&forked, memory_order_relaxed)) {
        lent_job lent = {.now = {run, context, tasks, 0}, .seats = workers + 1};
        team(work_in_team, &lent, 0, 0); /* of one size: where it varies libgomp ends threads and makes new ones */
        return;
    }
    if (workers > 0 && !serial && !atomic_exchange_explicit(&pool.taken, true, memory_order_acquire)) {
        workers = start(workers);
        pool.now = (job){run, context, tasks, 0};
        atomic_store_explicit(&pool.next, 0, memory_order_relaxed);
        serial = true;
        if (workers > 0) {
            pool.now.caller = (int)syscall(SYS_gettid);
            tw_core_none(&pool.cores);
            tw_core_take(&pool.cores, sched_getcpu());
            atomic_store_explicit(&pool.gate, (unsigned)workers * SEAT, memory_order_release);
            atomic_fetch_add_explicit(&pool.turn, 1, memory_order_release);
            wake(&pool.turn, workers);
        }
        take_tasks(&pool.now, &pool.next);
        finish();
        serial = false;
        atomic_store_explicit(&pool.gate, 0, memory_order_relaxed);
        atomic_store_explicit(&pool.taken, false, memory_order_release);
        return;
    }
    bool before = serial; /* as workers do them: what a task comes to does not depend on who runs it */
    serial = before || (threads > 1 && tasks > 1);
    for (int64_t task = 0; task < tasks; task++) {
        run(context, task);
    }
    serial = before;
}
