/* Powers of a Markov chain's 6 x 6 matrix by one plan, made once: cc plans.c $(pkg-config --cflags --libs tilewright) */
#include <stdio.h>
#include <tilewright.h>

enum { N = 6 };

int main(void)
{
    double step[N * N] = {0}, now[N * N] = {0}, next[N * N];
    for (int i = 0; i < N; i++) { /* stay, or move to a neighbour on a ring, rows add up to 1 */
        step[i * N + i] = 0.5;
        step[i * N + (i + 1) % N] = step[i * N + (i + N - 1) % N] = 0.25;
        now[i * N + i] = 1;
    }
    tw_gemm_plan *plan;
    if (tw_gemm_plan_create(&plan, 'd', TW_ROW_MAJOR, 'N', 'N', N, N, N, N, N, N) != TW_OK) {
        fprintf(stderr, "%s\n", tw_error_message());
        return 1;
    }
    for (int day = 0; day < 200; day++) {
        tw_gemm_execute(plan, now, step, next);
        for (int i = 0; i < N * N; i++) {
            now[i] = next[i];
        }
    }
    tw_gemm_plan_destroy(plan);
    printf("after 200 steps from state 0:");
    for (int j = 0; j < N; j++) {
        printf(" %.4f", now[j]);
    }
    printf("\n");
    return 0;
}
