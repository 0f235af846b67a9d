/* cores.c - how many cores this process may use, by its affinity and what its control group allows; and which are taken. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

/* Cores in the affinity mask of the calling thread. */
static int allowed(void)
{
    for (int cores = CPU_SETSIZE; cores <= 1 << 20; cores *= 2) { /* the kernel's mask may be longer than glibc's */
        cpu_set_t *set = CPU_ALLOC(cores);
        size_t size = CPU_ALLOC_SIZE(cores);
        if (set == NULL) {
            break;
        }
        int failed = sched_getaffinity(0, size, set) ? errno : 0, count = failed ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count > 0) {
            return count;
        }
        if (failed != EINVAL) {
            break;
        }
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < INT_MAX ? (int)online : 1;
}

/* Read "quota period" or "quota" from one file, and the period from another if need be; cores they make, or 0. */
static double quota(const char *path, const char *period_path)
{
    double limit = 0, period = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    int found = fscanf(file, "%lf %lf", &limit, &period);
    fclose(file);
    if (found == 1 && period_path != NULL && (file = fopen(period_path, "re")) != NULL) {
        found += fscanf(file, "%lf", &period) == 1;
        fclose(file);
    }
    return found == 2 && limit > 0 && period > 0 ? limit / period : 0; /* "max", -1: none */
}

static double least(double limit, double found)
{
    return found > 0 && (limit == 0 || found < limit) ? found : limit;
}

/* What control groups below the folder `groups` allow the process whose groups the file `own` lists: the least of its own
 * and those it lies in (version 2); a container's (version 1). 0: no limit. */
static double granted(const char *groups, const char *own)
{
    char line[PATH_MAX], path[3 * PATH_MAX], period[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/cpu/cpu.cfs_quota_us", groups);
    snprintf(period, sizeof period, "%s/cpu/cpu.cfs_period_us", groups);
    double limit = least(0, quota(path, period));
    FILE *file = fopen(own, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::/", 4) != 0) {
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        for (char *end = line + strlen(line); end != NULL; end = strrchr(line + 3, '/')) {
            *end = '\0';
            snprintf(path, sizeof path, "%s%s/cpu.max", groups, line + 3);
            limit = least(limit, quota(path, NULL));
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return limit;
}

int tw_cores(void)
{
    int cores = allowed();
    double limit = granted("/sys/fs/cgroup", "/proc/self/cgroup");
    if (limit <= 0 || limit >= cores) {
        return cores;
    }
    int whole = (int)limit;
    return limit > whole ? whole + 1 : whole;
}

/* ---- Which of them are taken ---- */

void tw_core_none(tw_core_set *set)
{
    for (int i = 0; i < TW_MOST_CORES / 64; i++) {
        atomic_store_explicit(&set->words[i], 0, memory_order_relaxed);
    }
}

bool tw_core_take(tw_core_set *set, int core)
{
    if (core < 0 || core >= TW_MOST_CORES) {
        return true;
    }
    unsigned long long bit = 1ULL << core % 64;
    return !(atomic_fetch_or_explicit(&set->words[core / 64], bit, memory_order_relaxed) & bit);
}

bool tw_core_leave(const tw_core_set *taken, int owner)
{
    cpu_set_t cores;
    if (sched_getaffinity(owner, sizeof cores, &cores) != 0) { /* more cores than are known here */
        return false;
    }
    for (int core = 0; core < CPU_SETSIZE && core < TW_MOST_CORES; core++) {
        if (atomic_load_explicit(&taken->words[core / 64], memory_order_relaxed) >> core % 64 & 1) {
            CPU_CLR(core, &cores);
        }
    }
    return CPU_COUNT(&cores) > 0 && sched_setaffinity(0, sizeof cores, &cores) == 0;
}
