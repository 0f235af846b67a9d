/* worker.c - calls kernels where a mistake cannot hide, and lives to tell.
 *
 *     worker LIBRARY SHARED_FILE
 *
 * Loads a library with a kernel table, prints it, then serves requests of three numbers on stdin: offset of an array of tw_call
 * in the shared memory, their count, and seconds a call may take; answers with one byte when the batch is done.
 *
 * Each call: the operands' images are copied between PROT_NONE pages, pushed against the end or the start, with NaN (0xFF) in
 * the rest; A, B, args and lanes are seen by the kernel through a read-only mapping; callee-saved registers hold canaries. A trap
 * is recorded with the operand and offset it hit, and the next call goes on. The image of C is copied back for the driver to judge. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "worker.h"

enum {
    GUARD = 1 << 20,  /* PROT_NONE on either side: wide enough for a stray leading dimension to be attributed */
    ARENA = 1 << 19,  /* room for one operand */
    MARGIN = 1 << 10, /* bytes of NaN kept around an operand on its open sides */
};

/* Sparse operands: columns this far apart, so that a 32-bit column offset wraps. Only the pages of the columns are mapped. */
#define SPARSE_LD ((UINT64_C(1) << 31) + 4096 + 64)
enum { SPARSE_COLUMNS = 64, SPARSE_BYTES = 8192 };

typedef struct arena {
    unsigned char *write; /* the worker's view */
    unsigned char *see;   /* the kernel's view, between guards; read-only but for C */
    unsigned char *base;  /* where the kernel's operand begins, in `see` */
    size_t length;        /* bytes from the operand's first to its last */
} arena;

static arena arenas[TW_OPERAND_COUNT];
static unsigned char *sparse[3];
static unsigned char *shared;
static const tw_kernel *kernels;
int tw_vector_bytes = 16;

/* The order of tw_after.saved in the trampoline of each architecture. */
#if defined(__x86_64__)
const char *const tw_saved_names[] = {"rbx", "rbp",   "r12",   "r13",       "r14", "r15",
                                      "rsp", "mxcsr", "x87cw", "direction", NULL};
#elif defined(__aarch64__)
const char *const tw_saved_names[] = {"x18", "x19", "x20", "x21", "x22", "x23",  "x24", "x25",
                                      "x26", "x27", "x28", "x29", "sp",  "d8",   "d9",  "d10",
                                      "d11", "d12", "d13", "d14", "d15", "fpcr", NULL};
#endif

/* The call in flight: read by the signal handlers. */
static sigjmp_buf escape;
static volatile sig_atomic_t armed;
static tw_call *volatile current;
static volatile int patience, waited;

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

/* The same memory twice: writable for the worker, and between guards for the kernel. */
static void open_arena(arena *arena, int protection)
{
    int file = memfd_create("arena", 0);
    if (file < 0 || ftruncate(file, ARENA)) {
        fail("memfd_create");
    }
    unsigned char *fence = mmap(NULL, ARENA + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    arena->write = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (fence == MAP_FAILED || arena->write == MAP_FAILED ||
        mmap(fence + GUARD, ARENA, protection, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
        fail("mmap");
    }
    close(file);
    arena->see = fence + GUARD;
    memset(arena->write, 0xFF, ARENA);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Put `length` bytes where `place` says, NaN around them, and say where the kernel finds them. */
static unsigned char *stage(arena *arena, const void *bytes, size_t length, uint32_t place, uint32_t shift)
{
    size_t at = place == TW_AT_START ? shift : ARENA - length - shift;
    size_t before = smaller(MARGIN, at), after = smaller(MARGIN, ARENA - at - length);
    memset(arena->write + at - before, 0xFF, before);
    memcpy(arena->write + at, bytes, length);
    memset(arena->write + at + length, 0xFF, after);
    arena->base = arena->see + at;
    arena->length = length;
    return arena->base;
}

static size_t span(const tw_operand *operand)
{
    return operand->rows == 0 || operand->cols == 0 ? 0 : (operand->cols - 1) * operand->image_ld + operand->rows;
}

static void map_sparse(void)
{
    for (int i = 0; i < 3; i++) {
        unsigned char *base = (unsigned char *)(UINT64_C(1) << 42) + (uint64_t)i * (UINT64_C(1) << 40);
        for (int j = 0; j < SPARSE_COLUMNS; j++) {
            unsigned char *page = (unsigned char *)((uintptr_t)(base + j * SPARSE_LD) & ~(uintptr_t)4095);
            int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
            if (mmap(page, SPARSE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0) != page) {
                fail("sparse mmap");
            }
        }
        sparse[i] = base;
    }
}

static unsigned char *place_operand(int which, const tw_operand *operand)
{
    arena *arena = &arenas[which];
    const unsigned char *image = shared + operand->image;
    if (operand->place == TW_ABSENT) {
        arena->base = arena->see + ARENA + GUARD / 2;
        arena->length = 0;
        return arena->base;
    }
    if (operand->place == TW_SPARSE) {
        if (!sparse[which]) {
            map_sparse();
        }
        for (uint32_t j = 0; j < operand->cols; j++) {
            memcpy(sparse[which] + j * SPARSE_LD, image + j * operand->image_ld, operand->rows);
        }
        return sparse[which];
    }
    return stage(arena, image, span(operand), operand->place, operand->shift);
}

/* The image of C becomes what the kernel left there; returns the damage bits for bytes written around it. */
static uint64_t collect_c(const tw_operand *operand)
{
    const arena *arena = &arenas[TW_OPERAND_C];
    unsigned char *image = shared + operand->image;
    if (operand->place == TW_SPARSE) {
        for (uint32_t j = 0; j < operand->cols; j++) {
            memcpy(image + j * operand->image_ld, sparse[TW_OPERAND_C] + j * SPARSE_LD, operand->rows);
        }
        return 0;
    }
    static unsigned char untouched[MARGIN];
    if (!untouched[0]) {
        memset(untouched, 0xFF, sizeof untouched);
    }
    memcpy(image, arena->base, arena->length);
    size_t at = (size_t)(arena->base - arena->see), end = at + arena->length;
    size_t before = smaller(MARGIN, at), after = smaller(MARGIN, ARENA - end);
    uint64_t damage = 0;
    if (memcmp(arena->base - before, untouched, before)) {
        damage |= UINT64_C(1) << 62;
    }
    if (memcmp(arena->see + end, untouched, after)) {
        damage |= UINT64_C(1) << 63;
    }
    return damage;
}

static uint64_t changed_registers(const tw_after *after)
{
    uint64_t damage = 0;
    int i = 0;
    for (; tw_saved_names[i]; i++) {
        damage |= (uint64_t)(after->saved[i] != TW_CANARY + (uint64_t)i) << i;
    }
    for (int v = 0; tw_vector_bytes > 16 && v < 16; v++) {
        for (int byte = 16; byte < tw_vector_bytes; byte++) {
            if (after->vectors[64 * v + byte]) {
                return damage | UINT64_C(1) << 61;
            }
        }
    }
    return damage;
}

static void run(tw_call *call)
{
    void *pointers[3];
    for (int i = 0; i < 3; i++) {
        pointers[i] = place_operand(i, &call->operands[i]);
    }
    uint32_t place = call->operands[TW_OPERAND_C].place == TW_AT_START ? TW_AT_START : TW_AT_END;
    tw_args args = call->args;
    args.lanes = NULL;
    if (call->has_lanes) { /* at the start of a page: no better aligned than its elements */
        args.lanes =
            stage(&arenas[TW_OPERAND_LANES], call->lanes, sizeof call->lanes, place, place == TW_AT_START ? 4 : 0);
    }
    const void *seen = stage(&arenas[TW_OPERAND_ARGS], &args, sizeof args, place, place == TW_AT_START ? 8 : 0);

    static tw_after after;
    current = call;
    call->trap = -2; /* what the driver finds if the worker dies of this call */
    waited = 0;
    if (sigsetjmp(escape, 0) == 0) {
        armed = 1;
        tw_guarded_call(kernels[call->kernel].run, pointers[0], pointers[1], pointers[2], seen, &after);
        armed = 0;
        call->trap = 0;
        call->damage = changed_registers(&after) | collect_c(&call->operands[TW_OPERAND_C]);
    }
    armed = 0;
}

/* Which operand's neighbourhood an address lies in. */
static void blame(tw_call *call, const unsigned char *address)
{
    call->operand = TW_OPERAND_COUNT;
    call->offset = (int64_t)(intptr_t)address;
    for (int i = 0; i < TW_OPERAND_COUNT; i++) {
        if (address >= arenas[i].see - GUARD && address < arenas[i].see + ARENA + GUARD) {
            call->operand = i;
            call->offset = address - arenas[i].base;
        }
    }
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!armed) { /* the worker's own mistake */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    armed = 0;
    current->trap = number;
    if (number == SIGSEGV || number == SIGBUS) {
        blame(current, info->si_addr);
    } else {
        current->operand = TW_OPERAND_COUNT;
    }
    siglongjmp(escape, 1);
}

static void on_tick(int number)
{
    (void)number;
    if (armed && ++waited > patience) {
        armed = 0;
        current->trap = -1;
        current->operand = TW_OPERAND_COUNT;
        siglongjmp(escape, 1);
    }
}

static void catch_signals(void)
{
    static unsigned char stack[1 << 16];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    if (sigaltstack(&alternative, NULL)) {
        fail("sigaltstack");
    }
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    const int traps[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < sizeof traps / sizeof *traps; i++) {
        sigaction(traps[i], &action, NULL);
    }
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESTART};
    sigaction(SIGALRM, &tick, NULL);
}

static void print_table(int count)
{
    printf("size %zu\n", sizeof(tw_call));
    printf("sparse %llu\n", (unsigned long long)SPARSE_LD);
    printf("saved");
    for (int i = 0; tw_saved_names[i]; i++) {
        printf(" %s", tw_saved_names[i]);
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    tw_vector_bytes = avx512 ? 64 : __builtin_cpu_supports("avx") ? 32 : 16;
    printf("\nisas scalar%s%s\n", avx2 ? " avx2" : "", avx512 ? " avx512" : "");
#else
    printf("\nisas scalar neon%s\n", getauxval(AT_HWCAP) >> 14 & 1 ? " fcma" : ""); /* HWCAP_FCMA of Linux */
#endif
    for (int i = 0; i < count; i++) {
        const tw_kernel *k = &kernels[i];
        printf("kernel %s %d %d %d %d %d %d %d %d %d\n", k->name, k->isa, k->dtype, k->mode, k->family, k->vector_dim,
               k->mask_span, k->paired, k->mr, k->nr);
    }
    printf("ready\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: worker LIBRARY SHARED_FILE\n");
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    const int *count = library ? dlsym(library, "tw_kernel_count") : NULL;
    kernels = library ? dlsym(library, "tw_kernels") : NULL;
    if (!kernels || !count) {
        fprintf(stderr, "worker: %s\n", dlerror());
        return 2;
    }
    int file = open(argv[2], O_RDWR);
    struct stat status;
    if (file < 0 || fstat(file, &status)) {
        fail(argv[2]);
    }
    shared = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) {
        fail("mmap");
    }
    for (int i = 0; i < TW_OPERAND_COUNT; i++) {
        open_arena(&arenas[i], i == TW_OPERAND_C ? PROT_READ | PROT_WRITE : PROT_READ);
    }
    catch_signals();
    print_table(*count);

    const struct itimerval ticking = {{0, 100000}, {0, 100000}}, quiet = {{0, 0}, {0, 0}};
    uint64_t request[3];
    while (fread(request, sizeof request, 1, stdin) == 1) {
        tw_call *calls = (tw_call *)(shared + request[0]);
        patience = (int)request[2] * 10;
        setitimer(ITIMER_REAL, &ticking, NULL);
        for (uint64_t i = 0; i < request[1]; i++) {
            run(&calls[i]);
        }
        setitimer(ITIMER_REAL, &quiet, NULL);
        putchar('.');
        fflush(stdout);
    }
    return 0;
}
