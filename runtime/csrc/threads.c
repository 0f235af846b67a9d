/* threads.c - stands in until there is a pool: everything runs in the calling thread. */
#include "internal.h"

int tw_threads_allowed(void)
{
    return 1;
}

void tw_parallel(int threads, int64_t tasks, tw_task_fn run, void *context)
{
    (void)threads;
    for (int64_t task = 0; task < tasks; task++) {
        run(context, task);
    }
}
