/* libxsmm.c - Debian has LIBXSMM as an archive only: linked with this it is a library that can be loaded. */
#include <libxsmm_version.h>

const char *bench_libxsmm_version(void)
{
    return LIBXSMM_CONFIG_VERSION;
}
