"""Small C programs and libraries that meet the BLAS library at awkward moments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..support import Unavailable, miss, tool
from .entries import LIBRARY

CHECK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <tilewright_cblas.h>

enum { MOST = 40, THREADS = 8 };

/* Exact products of many shapes; returns how many are wrong. */
static long check(unsigned seed)
{
    long wrong = 0;
    float a[MOST * MOST], b[MOST * MOST], c[MOST * MOST];
    for (int round = 0; round < 60; round++) {
        int m = rand_r(&seed) % MOST + 1, n = rand_r(&seed) % MOST + 1, k = rand_r(&seed) % MOST + 1;
        for (int i = 0; i < MOST * MOST; i++) {
            a[i] = (float)(rand_r(&seed) % 9 - 4);
            b[i] = (float)(rand_r(&seed) % 9 - 4);
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, k, b, n, 0, c, n);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                float sum = 0;
                for (int p = 0; p < k; p++)
                    sum += a[i * k + p] * b[p * n + j];
                wrong += sum != c[i * n + j];
            }
    }
    return wrong;
}

static void *check_here(void *seed)
{
    return (void *)check((unsigned)(size_t)seed);
}

static long check_in_threads(void)
{
    pthread_t threads[THREADS];
    long wrong = 0;
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, check_here, (void *)i);
    for (size_t i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    return wrong;
}
"""


def compiled(text: str, output: Path, *options: str, link: bool = True) -> Path:
    """Compile C after `CHECK`; linked with the BLAS library, or left to find its functions where it is loaded."""
    try:
        compiler = tool("cc", "gcc", "clang", why="for a program that uses the BLAS library")
    except Unavailable as unavailable:
        miss(unavailable)
    source = output.with_suffix(".c")
    source.write_text(CHECK + text)
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    include = LIBRARY.parent.parent / "include"
    linked = [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"] if link else []
    command = [compiler, "-std=gnu11", "-O1", *warnings, f"-I{include}", str(source), "-o", str(output), *options]
    subprocess.run([*command, *linked, "-pthread", "-ldl"], check=True)
    return output


def ran(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
