/* about.c - what this library is and where it lies. */
#define _GNU_SOURCE /* dl_iterate_phdr: in libc itself on every Linux, unlike dladdr */
#include <link.h>
#include <pthread.h>
#include <stdio.h>

#include "internal.h"

const char *tw_version(void)
{
    return TW_VERSION;
}

const char *tw_compiler(void)
{
#if defined(__clang__)
    return __VERSION__; /* begins with its name */
#else
    return "GCC " __VERSION__;
#endif
}

static char path[4096];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Note the name of the object that this code lies in. */
static int note(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size, (void)unused;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        uintptr_t start = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr, here = (uintptr_t)&note;
        if (object->dlpi_phdr[i].p_type == PT_LOAD && here >= start && here - start < object->dlpi_phdr[i].p_memsz) {
            snprintf(path, sizeof path, "%s", object->dlpi_name);
            return 1;
        }
    }
    return 0;
}

static void find(void)
{
    dl_iterate_phdr(note, NULL);
}

const char *tw_library_path(void)
{
    pthread_once(&once, find);
    return path;
}
