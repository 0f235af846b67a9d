/* A thousand rotations of one triangle by BLAS's names: cc rotations.c $(pkg-config --cflags --libs tilewright_blas) -lm */
#include <math.h>
#include <stdio.h>
#include <tilewright_cblas.h>

enum { COUNT = 1000 };

int main(void)
{
    static float turns[COUNT][2][2], turned[COUNT][2][3];
    const float triangle[2][3] = {{1, 0, -1}, {0, 1, 0}}; /* a corner a column */
    for (int i = 0; i < COUNT; i++) {
        float angle = 6.2831853f * (float)i / COUNT;
        turns[i][0][0] = turns[i][1][1] = cosf(angle);
        turns[i][1][0] = sinf(angle);
        turns[i][0][1] = -sinf(angle);
    }
    cblas_sgemm_batch_strided(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 3, 2, 1, &turns[0][0][0], 2, 4,
                              &triangle[0][0], 3, 0, 0, &turned[0][0][0], 3, 6, COUNT);
    float one[2][3];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 3, 2, 1, &turns[COUNT / 4][0][0], 2, &triangle[0][0], 3,
                0, &one[0][0], 3);
    printf("a quarter turn: (%.0f, %.0f) (%.0f, %.0f), in the batch (%.0f, %.0f) (%.0f, %.0f)\n", one[0][0], one[1][0],
           one[0][1], one[1][1], turned[COUNT / 4][0][0], turned[COUNT / 4][1][0], turned[COUNT / 4][0][1],
           turned[COUNT / 4][1][1]);
    return 0;
}
