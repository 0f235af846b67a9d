/* pool.c - the thread pool driven hard: what test_threads.py compiles, plainly and with -fsanitize=thread, and runs.
 *
 * Its argument names the check; it says what was wrong and exits with 1. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* What the tiler makes of one thread is not this program's matter. */
void tw_tiler_alone(bool one_thread)
{
    (void)one_thread;
}

enum { TASKS = 1000, CALLERS = 6 };

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

typedef struct counts {
    int done[TASKS]; /* plain, so that a race is seen */
    int nested[TASKS];
    bool nest;
    atomic_int allowed;
} counts;

static void count_nested(void *context, int64_t task)
{
    ((counts *)context)->nested[task]++;
}

static void count(void *context, int64_t task)
{
    counts *c = context;
    c->done[task]++;
    if (tw_threads_allowed() != 1) {
        atomic_fetch_add(&c->allowed, 1);
    }
    if (c->nest && task == 3) {
        tw_parallel(4, TASKS, count_nested, c);
    }
}

static void call(counts *c, int threads, int tasks, bool nest)
{
    memset(c, 0, sizeof *c);
    c->nest = nest;
    tw_parallel(threads, tasks, count, c);
    for (int i = 0; i < TASKS; i++) {
        CHECK(c->done[i] == (i < tasks));
        CHECK(c->nested[i] == (nest && tasks > 3));
    }
}

/* Every task once, whatever the numbers; nested ones too. */
static void once(void)
{
    static counts c;
    for (int turn = 0; turn < 400; turn++) {
        int threads = turn % 9 - 1, tasks = turn % 7 == 0 ? TASKS : turn % 13;
        call(&c, threads, tasks, turn % 3 == 0);
        CHECK(threads < 2 || tasks < 2 || c.allowed == 0);
    }
    CHECK(tw_threads_allowed() == tw_get_num_threads()); /* and outside of tasks again as before */
}

static void meet(void *context, int64_t task)
{
    (void)task;
    atomic_int *here = context;
    atomic_fetch_add(here, 1);
    for (int wait = 0; atomic_load(here) < 4 && wait < 20000; wait++) {
        usleep(1000);
    }
}

/* Tasks do run at the same time: four that wait for each other. Again after sleep, and with more threads than before. */
static void together(void)
{
    for (int threads = 4; threads < 8; threads++) {
        atomic_int here = 0;
        tw_parallel(threads, 4, meet, &here);
        CHECK(here == 4);
        usleep(20000);
    }
}

typedef struct pair {
    atomic_int here, core[2];
} pair;

static void stand(void *context, int64_t task)
{
    pair *both = context;
    for (atomic_fetch_add(&both->here, 1); atomic_load(&both->here) < 2;) {
    }
    atomic_store(&both->core[task], sched_getcpu());
}

/* A worker that was asleep is not on its caller's core, where they would take turns while another core is idle; nor once
 * the caller has gone to the worker's. */
static void apart(void)
{
    cpu_set_t all, one;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    int together = 0, jobs = 0;
    for (int core = 0; core < CPU_SETSIZE && tw_cores() > 1 && jobs < 200; core++) {
        if (!CPU_ISSET(core, &all)) {
            continue;
        }
        for (int turn = 0; turn < 25; turn++, jobs++) {
            usleep(3000);
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            CHECK(sched_setaffinity(0, sizeof one, &one) == 0); /* so that this is where it wakes its worker */
            CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
            pair both = {0};
            tw_parallel(2, 2, stand, &both);
            together += both.core[0] == both.core[1];
        }
    }
    CHECK(together <= jobs / 4); /* others may push them about */
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    pair both = {0};
    tw_parallel(2, 2, stand, &both); /* a caller with one core, and a worker that knows of more: they still end */
}

static void *caller(void *number)
{
    counts *c = malloc(sizeof *c);
    CHECK(c != NULL);
    for (int turn = 0; turn < 300; turn++) {
        call(c, 1 + (turn + (int)(intptr_t)number) % 5, turn % 50, turn % 4 == 0);
    }
    free(c);
    return NULL;
}

/* Callers at once: none waits for another, none gets another's tasks. */
static void many(void)
{
    pthread_t threads[CALLERS];
    for (intptr_t i = 0; i < CALLERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, caller, (void *)i) == 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static atomic_bool stop;

static void *call_on(void *unused)
{
    (void)unused;
    static counts c;
    while (!atomic_load(&stop)) {
        call(&c, 3, 40, false);
    }
    return NULL;
}

/* Fork while another thread is within a call: the child has a pool that works. */
static void forked(void)
{
    static counts c;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_on, NULL) == 0);
    for (int turn = 0; turn < 60; turn++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(30); /* hanging is what is feared */
            for (int i = 0; i < 5; i++) {
                call(&c, 3, 100, i == 2);
            }
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

/* The system refuses threads: the work is done by fewer. */
static void refused(void)
{
    static counts c;
    struct rlimit none = {1 << 20, 1 << 20};
    CHECK(setrlimit(RLIMIT_AS, &none) == 0); /* no room for a stack */
    for (int turn = 0; turn < 20; turn++) {
        call(&c, 8, TASKS, true);
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* After a call nothing runs. */
static void idle(void)
{
    static counts c;
    for (int turn = 0; turn < 50; turn++) {
        call(&c, 4, TASKS, false);
    }
    struct timespec half = {0, 500000000};
    double before = cpu_seconds();
    nanosleep(&half, NULL);
    CHECK(cpu_seconds() - before < 0.05);
}

typedef struct member {
    void (*work)(void *);
    void *context;
} member;

static void *serve(void *self)
{
    ((member *)self)->work(((member *)self)->context);
    return NULL;
}

static atomic_int lent; /* times */

/* Another runtime, of six threads whatever is asked for. */
static void lend(void (*work)(void *), void *context, unsigned threads, unsigned flags)
{
    pthread_t others[5];
    member one = {work, context};
    atomic_fetch_add(&lent, 1);
    CHECK(flags == 0 && threads == 0);
    for (int i = 0; i < 5; i++) {
        CHECK(pthread_create(&others[i], NULL, serve, &one) == 0);
    }
    work(context);
    for (int i = 0; i < 5; i++) {
        pthread_join(others[i], NULL);
    }
}

/* How many are at tasks, and the most that were. */
static void crowd(void *context, int64_t task)
{
    (void)task;
    atomic_int *here = context;
    int now = atomic_fetch_add(&here[0], 1) + 1, most = atomic_load(&here[1]);
    while (now > most && !atomic_compare_exchange_weak(&here[1], &most, now)) {
    }
    usleep(1000);
    atomic_fetch_sub(&here[0], 1);
}

static void *call_without_team(void *c)
{
    call(c, 5, TASKS, true);
    return NULL;
}

/* Another runtime's threads: every task once, nested ones too, by no more of them than asked for; for this thread alone,
 * and not in a child of fork, which has none of them. */
static void team(void)
{
    static counts c;
    CHECK(tw_set_team(lend) == NULL);
    for (int turn = 0; turn < 100; turn++) {
        int threads = turn % 9 - 1, tasks = turn % 7 == 0 ? TASKS : turn % 13;
        atomic_store(&lent, 0);
        call(&c, threads, tasks, turn % 3 == 0);
        CHECK(threads < 2 || tasks < 2 || c.allowed == 0);
        if (threads > 1) { /* or nested ones find a team */
            CHECK(lent == (tasks > 1));
        }
    }
    CHECK(tw_threads_allowed() == tw_get_num_threads());
    atomic_int here = 0;
    tw_parallel(4, 4, meet, &here);
    CHECK(here == 4);
    atomic_int most[2] = {0};
    tw_parallel(3, 60, crowd, most);
    CHECK(most[0] == 0 && most[1] <= 3);
    atomic_store(&lent, 0);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, call_without_team, &c) == 0 && pthread_join(other, NULL) == 0);
    CHECK(lent == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        call(&c, 3, 100, true);
        _exit(lent != 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(tw_set_team(NULL) == lend);
    call(&c, 3, 100, false);
    CHECK(lent == 0);
}

/* Numbers of threads: what is none is refused and changes nothing. */
static void settings(void)
{
    CHECK(tw_get_num_threads() >= 1);
    CHECK(tw_set_num_threads(3) == TW_OK && tw_get_num_threads() == 3 && tw_threads_allowed() == 3);
    int wrong[] = {-1, -2147483647 - 1, TW_MOST_THREADS + 1, 2147483647};
    for (int i = 0; i < 4; i++) {
        CHECK(tw_set_num_threads(wrong[i]) == TW_ERROR_THREADS && tw_get_num_threads() == 3);
    }
    CHECK(tw_set_num_threads(0) == TW_OK && tw_get_num_threads() == tw_cores());
}

int main(int count_of, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } checks[] = {{"once", once}, {"together", together}, {"many", many},   {"forked", forked}, {"refused", refused},
                  {"idle", idle}, {"settings", settings}, {"apart", apart}, {"team", team}};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (count_of == 2 && strcmp(arguments[1], checks[i].name) == 0) {
            checks[i].run();
            return 0;
        }
    }
    fprintf(stderr, "no such check\n");
    return 2;
}
