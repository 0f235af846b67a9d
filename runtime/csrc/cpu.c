/* cpu.c - what this CPU and operating system can run, and the CPU's name. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

static char name[64], details[64], signature[128];
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    LEAF1_FMA = 1 << 12,
    LEAF1_OSXSAVE = 1 << 27,
    LEAF1_AVX = 1 << 28,
    LEAF7_AVX2 = 1 << 5,
    LEAF7_AVX512F = 1 << 16,
    LEAF7_AVX512DQ = 1 << 17,
    XCR0_YMM = 0x06, /* xmm and ymm state saved by the operating system */
    XCR0_ZMM = 0xE6, /* and mask registers and zmm */
};
#define LEAF7_AVX512VL (1U << 31)

/* Does `value` have all of `bits`? */
static bool has(unsigned value, unsigned bits)
{
    return (value & bits) == bits;
}

unsigned tw_cpu_isas(void)
{
    unsigned isas = 1U << TW_ISA_SCALAR;
    unsigned eax, ebx, ecx, edx, saved, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has(ecx, LEAF1_FMA | LEAF1_AVX | LEAF1_OSXSAVE)) {
        return isas;
    }
    /* The CPU's flags alone are not enough: an operating system or hypervisor may not keep the wide registers. */
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !has(saved, XCR0_YMM) || !has(ebx, LEAF7_AVX2)) {
        return isas;
    }
    isas |= 1U << TW_ISA_AVX2;
    if (has(saved, XCR0_ZMM) && has(ebx, LEAF7_AVX512F | LEAF7_AVX512DQ | LEAF7_AVX512VL)) {
        isas |= 1U << TW_ISA_AVX512;
    }
    return isas;
}

static void find_name(void)
{
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
        unsigned family = eax >> 8 & 15, model = (eax >> 4 & 15) | (eax >> 12 & 0xf0);
        snprintf(details, sizeof details, ", family %u model %u stepping %u",
                 family == 15 ? 15 + (eax >> 20 & 0xff) : family, model, eax & 15);
    }
    unsigned words[13] = {0}; /* twelve, and an end */
    for (unsigned i = 0; i < 3; i++) {
        unsigned *part = words + 4 * i;
        if (!__get_cpuid(0x80000002 + i, part, part + 1, part + 2, part + 3)) {
            return;
        }
    }
    snprintf(name, sizeof name, "%.48s", (const char *)words + strspn((const char *)words, " "));
    for (size_t end = strlen(name); end > 0 && name[end - 1] == ' '; end--) {
        name[end - 1] = '\0';
    }
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

/* From Linux's <asm/hwcap.h>, which not every C library's headers bring. */
enum { HAS_FP = 1 << 0, HAS_ASIMD = 1 << 1, HAS_CPUID = 1 << 11, HAS_FCMA = 1 << 14 };

unsigned tw_cpu_isas(void)
{
    unsigned long capabilities = getauxval(AT_HWCAP);
    unsigned isas = 1U << TW_ISA_SCALAR;
    if ((capabilities & (HAS_FP | HAS_ASIMD)) == (HAS_FP | HAS_ASIMD)) {
        isas |= 1U << TW_ISA_NEON;
        if (capabilities & HAS_FCMA) {
            isas |= 1U << TW_ISA_FCMA;
        }
    }
    return isas;
}

static void find_name(void)
{
    if (!(getauxval(AT_HWCAP) & HAS_CPUID)) { /* then reading MIDR_EL1 traps */
        return;
    }
    unsigned long midr;
    __asm__("mrs %0, MIDR_EL1" : "=r"(midr));
    unsigned implementer = midr >> 24 & 0xff, part = midr >> 4 & 0xfff;
    snprintf(details, sizeof details, ", variant %lu revision %lu", midr >> 20 & 15, midr & 15);
    static const struct {
        unsigned implementer, part;
        const char *name;
    } known[] = {
        {0x41, 0xd03, "Arm Cortex-A53"},  {0x41, 0xd08, "Arm Cortex-A72"},   {0x41, 0xd0b, "Arm Cortex-A76"},
        {0x41, 0xd0c, "Arm Neoverse N1"}, {0x41, 0xd40, "Arm Neoverse V1"},  {0x41, 0xd49, "Arm Neoverse N2"},
        {0x41, 0xd4f, "Arm Neoverse V2"}, {0x48, 0xd01, "HiSilicon TSV110"}, {0x46, 0x001, "Fujitsu A64FX"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].implementer == implementer && known[i].part == part) {
            snprintf(name, sizeof name, "%s", known[i].name);
            return;
        }
    }
    snprintf(name, sizeof name, "AArch64 implementer 0x%02x part 0x%03x", implementer, part);
}

#else
unsigned tw_cpu_isas(void)
{
    return 1U << TW_ISA_SCALAR;
}

static void find_name(void)
{
}
#endif

static void find(void)
{
    find_name();
    snprintf(signature, sizeof signature, "%s%s", name[0] ? name : "unknown", details);
}

const char *tw_cpu_name(void)
{
    pthread_once(&once, find);
    return name[0] ? name : "unknown";
}

const char *tw_cpu_signature(void)
{
    pthread_once(&once, find);
    return signature;
}
