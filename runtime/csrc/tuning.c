/* tuning.c - what a kernel costs: times measured on this machine where there are any, else the defaults it was built with.
 *
 * Times come from a file that `build.py tune` (runtime/tuning.py) leaves in TILEWRIGHT_TUNING, or $XDG_DATA_HOME/tilewright, or
 * ~/.local/share/tilewright, named after this machine. It is read once, when the first plan is made:
 *
 *     tilewright tuning 2
 *     machine AMD EPYC, family 26 model 2 stepping 1, L1d 48K, L1i 32K, L2 1024K, L3 32768K
 *     kernels 0123456789abcdef 3128                       digest and number of the kernels timed
 *     4210 6101 12004 41777                               a line a kernel, in the table's order: picoseconds for
 *     -                                                   k = 1, 4, 16, 64; "-": not timed; "!": computes wrong
 *     14400 15010                                         a kernel on panels: 64 steps, from the second cache and from memory
 *     packing avx512                                      then 32 lines, for s d c z, an operand across or along k, in a cache
 *     400000 133000 131000 ...                            or memory, one thread or all: picoseconds for 1000 elements, to pack
 *     -                                                   it and, for 1, 2, 4 ... 256 lines of the other, where it lies and packed
 *     end 0123456789abcdef                                FNV-1a of all bytes before this line
 *
 * A file that is cut off, damaged, another machine's or other kernels' is refused as a whole and the defaults are used;
 * tw_tuning_status names it and says why. Threads that come first together each read it; one result is kept. No lock that
 * a fork could leave held. */
#define _GNU_SOURCE /* secure_getenv */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocked.h"

enum {
    FORMAT = 3,
    STEPS = TW_COST_STEPS,
    MOST_BYTES = 1 << 22,
    GROUPS = TW_ISAS * TW_DTYPES * TW_MODES,
    USES = TW_DTYPES * 2 * TW_PLACES * 2,
    USE_NUMBERS = 1 + 2 * TW_USES
};

static const int steps[STEPS] = {1, 4, 16, 64};
static const float never = 1e9F;     /* nanoseconds: what a kernel that computes wrong costs */
static const float cycle = 1 / 3.0F; /* nanoseconds a cycle of the defaults is taken for, absent any measurement */

/* What a file says. */
typedef struct content {
    int uses_isa; /* -1: packing was not measured */
    int64_t uses[USES][USE_NUMBERS];
    float times[][STEPS]; /* of each kernel; on panels: by place, and nothing */
} content;

typedef struct costs {
    int measured; /* kernels with a time of their own */
    int uses_isa;
    tw_use_cost uses[USES];
    char status[768];
    tw_cost_line lines[][STEPS - 1]; /* by kernel: a line from steps[i] to steps[i + 1]; the last one goes on */
} costs;

static _Atomic(costs *) loaded;
static char wish[4096]; /* TILEWRIGHT_TUNING, or the user's folder, as found at load; "": there is none */

__attribute__((constructor)) static void choose(void)
{
    const char *named = secure_getenv("TILEWRIGHT_TUNING"), *data = secure_getenv("XDG_DATA_HOME"),
               *home = secure_getenv("HOME");
    if (named && named[0]) {
        snprintf(wish, sizeof wish, "%s", named);
    } else if (data && data[0] == '/') {
        snprintf(wish, sizeof wish, "%s/tilewright", data);
    } else if (home && home[0] == '/') {
        snprintf(wish, sizeof wish, "%s/.local/share/tilewright", home);
    }
}

static uint64_t fnv(const char *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

const char *tw_kernels_digest(void)
{
    return tw_kernel_digest;
}

/* ---- Which machine ---- */

static char machine[256];
static char path[sizeof wish + 64];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* At most size - 1 bytes of a file, up to its first line's end; how many. */
static size_t first_line(const char *name, char *text, size_t size)
{
    int file = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? 0 : read(file, text, size - 1);
    if (file >= 0) {
        close(file);
    }
    size_t length = got > 0 ? (size_t)got : 0;
    text[length] = '\0';
    length = strcspn(text, "\n");
    text[length] = '\0';
    return length;
}

static void find_machine(void)
{
    size_t length = (size_t)snprintf(machine, sizeof machine, "%s", tw_cpu_signature());
    for (int i = 0; i < 8; i++) {
        char name[80], level[8], type[24], size[24];
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (first_line(name, size, sizeof size) == 0) {
            break;
        }
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        first_line(name, level, sizeof level);
        snprintf(name, sizeof name, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        first_line(name, type, sizeof type);
        length += (size_t)snprintf(machine + length, sizeof machine - length, ", L%s%s %s", level,
                                   type[0] == 'D'   ? "d"
                                   : type[0] == 'I' ? "i"
                                                    : "",
                                   size);
        if (length >= sizeof machine) {
            break;
        }
    }
    for (char *at = machine; *at; at++) { /* it is a line of the file */
        *at = *at >= ' ' && *at <= '~' ? *at : '?';
    }
    if (wish[0] && strcmp(wish, "off") != 0) {
        snprintf(path, sizeof path, "%s/%016llx.tuning", wish, (unsigned long long)fnv(machine, strlen(machine)));
    }
}

const char *tw_machine(void)
{
    pthread_once(&once, find_machine);
    return machine;
}

const char *tw_tuning_path(void)
{
    pthread_once(&once, find_machine);
    return path;
}

/* ---- Reading ---- */

typedef struct reader {
    const char *at, *end;
} reader;

/* Go past `word` if it is next. */
static bool skip(reader *r, const char *word)
{
    size_t length = strlen(word);
    bool there = (size_t)(r->end - r->at) >= length && memcmp(r->at, word, length) == 0;
    r->at += there ? length : 0;
    return there;
}

/* The next decimal number, of at most 10 digits; -1: there is none. */
static int64_t number(reader *r)
{
    int64_t value = 0;
    int digits = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9' && digits < 11) {
        value = value * 10 + (*r->at++ - '0');
        digits++;
    }
    return digits > 0 && digits < 11 ? value : -1;
}

static bool on_panels(const tw_kernel *kernel)
{
    return kernel->family == TW_PACKED;
}

/* One kernel's line: its nanoseconds, or what stands for them; false: it is no such line. */
static bool times_of(reader *r, int count, float times[STEPS])
{
    times[0] = 0;
    if (skip(r, "-\n")) {
        return true;
    }
    if (skip(r, "!\n")) {
        times[0] = never;
        return true;
    }
    for (int i = 0; i < count; i++) {
        int64_t picoseconds = number(r);
        if (picoseconds <= 0 || !skip(r, i < count - 1 ? " " : "\n")) {
            return false;
        }
        times[i] = (float)picoseconds / 1000;
    }
    return true;
}

/* What packing takes; false: these are no such lines. */
static bool uses_of(reader *r, content *found)
{
    if (!skip(r, "packing ")) {
        return false;
    }
    found->uses_isa = -1;
    if (skip(r, "-\n")) {
        return true;
    }
    for (int isa = 0; isa < TW_ISAS && found->uses_isa < 0; isa++) {
        reader before = *r;
        if (skip(r, tw_isa_name(isa)) && skip(r, "\n")) {
            found->uses_isa = isa;
        } else {
            *r = before;
        }
    }
    for (int i = 0; i < USES && found->uses_isa >= 0; i++) {
        found->uses[i][0] = 0;
        for (int j = 0; j < USE_NUMBERS && !(j == 0 && skip(r, "-\n")); j++) {
            found->uses[i][j] = number(r);
            if (found->uses[i][j] <= 0 || !skip(r, j < USE_NUMBERS - 1 ? " " : "\n")) {
                return false;
            }
        }
    }
    return found->uses_isa >= 0;
}

static content *new_content(void)
{
    return calloc(1, sizeof(content) + (size_t)(tw_kernel_count + 1) * STEPS * sizeof(float));
}

/* All that a file's content says; TW_OK, or why it is refused, where `name` stands for the file. */
static int read_content(const char *text, size_t length, const char *name, content *into)
{
    static const char tail[] = "end 0123456789abcdef\n";
    reader r = {text, text + length};
    if (!skip(&r, "tilewright tuning ")) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: it does not begin as a tuning file does.", name);
    }
    int64_t format = number(&r);
    if (format != FORMAT) {
        return tw_fail(TW_ERROR_TUNING, "%s is stale: its format is %lld, this library reads %d.", name,
                       (long long)format, FORMAT);
    }
    size_t body = length - (sizeof tail - 1);
    char sum[sizeof tail];
    if (length < sizeof tail + 20 || (snprintf(sum, sizeof sum, "end %016llx\n", (unsigned long long)fnv(text, body)),
                                      memcmp(sum, text + body, sizeof tail - 1) != 0)) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: its checksum is missing or does not match (%zu bytes).", name,
                       length);
    }
    r.end = text + body;
    if (!skip(&r, "\nmachine ")) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: it names no machine.", name);
    }
    const char *line_end = memchr(r.at, '\n', (size_t)(r.end - r.at));
    size_t own = strlen(tw_machine()), found = line_end ? (size_t)(line_end - r.at) : 0;
    if (found != own || memcmp(r.at, machine, own) != 0) {
        return tw_fail(TW_ERROR_TUNING, "%s is foreign: it is of %.*s; this machine is %s.", name,
                       (int)(found < 200 ? found : 200), r.at, machine);
    }
    r.at += own + 1;
    size_t digest = strlen(tw_kernel_digest);
    if (!skip(&r, "kernels ") || (size_t)(r.end - r.at) < digest) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: it names no kernels.", name);
    }
    if (!skip(&r, tw_kernel_digest)) {
        return tw_fail(TW_ERROR_TUNING, "%s is stale: its kernels are %.*s, this library's %s; run build.py tune.",
                       name, (int)digest, r.at, tw_kernel_digest);
    }
    if (!skip(&r, " ") || number(&r) != tw_kernel_count || !skip(&r, "\n")) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: this library has %d kernels.", name, tw_kernel_count);
    }
    for (int i = 0; i < tw_kernel_count; i++) {
        if (!times_of(&r, on_panels(&tw_kernels[i]) ? TW_PLACES : STEPS, into->times[i])) {
            return tw_fail(TW_ERROR_TUNING, "%s is corrupt: the line of kernel %s.", name, tw_kernels[i].name);
        }
    }
    if (!uses_of(&r, into)) {
        return tw_fail(TW_ERROR_TUNING, "%s is corrupt: what follows the last kernel is not what packing takes.", name);
    }
    return r.at == r.end ? TW_OK : tw_fail(TW_ERROR_TUNING, "%s is corrupt: it goes on after its end.", name);
}

int tw_tuning_check(const void *text, int64_t length)
{
    if (text == NULL || length < 0) {
        return tw_fail(TW_ERROR_TUNING, "tw_tuning_check: there is nothing to check.");
    }
    content *unused = new_content();
    if (unused == NULL) {
        return tw_fail(TW_ERROR_MEMORY, "tw_tuning_check: out of memory.");
    }
    int status = read_content(text, (size_t)length, "the text", unused);
    free(unused);
    return status;
}

/* The file's text, to be freed; NULL, with the reason in `why`, where there is none. */
static char *text_of(const char *name, size_t *length, char *why, size_t size)
{
    /* Not to wait where the name is a pipe's. */
    int file = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) {
        int error = errno;
        snprintf(why, size, error == ENOENT ? "there is no %s; build.py tune makes it" : "%s cannot be read", name);
        if (file >= 0) {
            close(file);
        }
        return NULL;
    }
    char *text = NULL;
    if (!S_ISREG(about.st_mode) || about.st_size > MOST_BYTES) {
        snprintf(why, size, "%s is %s", name, S_ISREG(about.st_mode) ? "corrupt: it is too large" : "no file");
    } else if ((text = malloc((size_t)about.st_size + 1)) == NULL) {
        snprintf(why, size, "memory was short");
    } else {
        *length = 0;
        ssize_t got = 1;
        while (*length < (size_t)about.st_size && got > 0) {
            got = read(file, text + *length, (size_t)about.st_size - *length);
            *length += got > 0 ? (size_t)got : 0;
            got = got < 0 && errno == EINTR ? 1 : got;
        }
    }
    close(file);
    return text;
}

/* ---- What kernels cost ---- */

static int group_of(const tw_kernel *kernel)
{
    return (kernel->isa * TW_DTYPES + kernel->dtype) * TW_MODES + kernel->mode;
}

static float default_at(int kernel, int k)
{
    return tw_kernel_costs[kernel].call + (float)k * tw_kernel_costs[kernel].step;
}

static bool is_timed(const float *times)
{
    return times[0] > 0 && times[0] < never;
}

/* A tile takes no longer than a larger one of the same vectors; where it seems to, other work disturbed its timing. The
 * table has larger tiles first, those of one vector size together. */
static void smooth(float (*times)[STEPS])
{
    for (int i = 1; i < tw_kernel_count; i++) {
        const tw_kernel *kernel = &tw_kernels[i];
        for (int j = i - 1; j >= 0 && is_timed(times[i]) && !on_panels(kernel); j--) {
            const tw_kernel *other = &tw_kernels[j];
            bool along = kernel->vector_dim == 0;
            if (group_of(other) != group_of(kernel) || other->vector_dim != kernel->vector_dim ||
                (along ? other->mr != kernel->mr : other->nr != kernel->nr)) {
                break;
            }
            if (other->mask_span == kernel->mask_span && other->reassociates == kernel->reassociates &&
                (along ? other->nr >= kernel->nr : other->mr >= kernel->mr) && is_timed(times[j])) {
                for (int step = 0; step < STEPS; step++) {
                    times[i][step] = times[j][step] < times[i][step] ? times[j][step] : times[i][step];
                }
                break;
            }
        }
    }
}

/* Lines through the points; where a kernel has none, its default, scaled as those of its group measure beside theirs. */
static void draw_lines(costs *into, float (*times)[STEPS])
{
    double measured[GROUPS] = {0}, expected[GROUPS] = {0};
    for (int i = 0; i < tw_kernel_count && times; i++) {
        if (is_timed(times[i]) && on_panels(&tw_kernels[i])) {
            into->measured++;
        } else if (is_timed(times[i])) {
            int group = group_of(&tw_kernels[i]);
            for (int step = 0; step < STEPS; step++) { /* in units of the default: each kernel counts the same */
                measured[group] += (double)(times[i][step] / default_at(i, steps[step]));
                expected[group] += 1;
            }
            into->measured++;
        }
    }
    for (int i = 0; i < tw_kernel_count; i++) {
        int group = group_of(&tw_kernels[i]);
        float scale = expected[group] > 0 ? (float)(measured[group] / expected[group]) : cycle;
        float at[STEPS];
        if (on_panels(&tw_kernels[i])) {
            for (int place = 0; place < TW_PLACES; place++) { /* where others have pieces of k */
                float whole = !times || times[i][0] <= 0 ? cycle * default_at(i, 64)
                              : times[i][0] < never      ? times[i][place]
                                                         : never;
                into->lines[i][place] = (tw_cost_line){0, whole / 64};
            }
            continue;
        }
        for (int step = 0; step < STEPS; step++) {
            bool timed = times && times[i][0] > 0;
            at[step] = !timed ? scale * default_at(i, steps[step]) : times[i][0] < never ? times[i][step] : never;
        }
        for (int step = 0; step + 1 < STEPS; step++) {
            float slope = (at[step + 1] - at[step]) / (float)(steps[step + 1] - steps[step]);
            slope = slope > 0 ? slope : 0; /* noise: more steps never cost less */
            into->lines[i][step] = (tw_cost_line){at[step] - slope * (float)steps[step], slope};
        }
    }
}

static void take_uses(costs *into, const content *said)
{
    into->uses_isa = said ? said->uses_isa : -1;
    for (int i = 0; i < USES && into->uses_isa >= 0; i++) {
        tw_use_cost *cost = &into->uses[i];
        cost->packing = (double)said->uses[i][0] * 1e-6;
        for (int j = 0; j < TW_USES; j++) {
            cost->lies[j] = (double)said->uses[i][1 + 2 * j] * 1e-6;
            cost->packed[j] = (double)said->uses[i][2 + 2 * j] * 1e-6;
        }
    }
}

/* The costs, read if they were not; NULL: memory is short. */
static const costs *all(void)
{
    costs *found = atomic_load_explicit(&loaded, memory_order_acquire);
    if (found != NULL) {
        return found;
    }
    costs *mine = calloc(1, sizeof *mine + (size_t)tw_kernel_count * sizeof mine->lines[0]);
    if (mine == NULL) {
        return NULL;
    }
    const char *name = tw_tuning_path();
    content *said = NULL;
    char why[sizeof mine->status - 32] = "";
    size_t length;
    char *text = name[0] ? text_of(name, &length, why, sizeof why) : NULL;
    if (name[0] == '\0') {
        snprintf(why, sizeof why, wish[0] ? "TILEWRIGHT_TUNING=off" : "no folder for tuning files: HOME is not set");
    }
    if (text != NULL) {
        said = new_content();
        if (said == NULL) {
            snprintf(why, sizeof why, "memory was short");
        } else if (read_content(text, length, name, said) != TW_OK) {
            snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, tw_error_message());
            free(said);
            said = NULL;
        }
    }
    if (said != NULL) {
        smooth(said->times);
    }
    draw_lines(mine, said ? said->times : NULL);
    take_uses(mine, said);
    if (said != NULL) {
        snprintf(mine->status, sizeof mine->status, "measured: %d of %d kernels, %.600s", mine->measured,
                 tw_kernel_count, name);
    } else {
        snprintf(mine->status, sizeof mine->status, "defaults: %s", why);
    }
    free(text);
    free(said);
    if (!atomic_compare_exchange_strong(&loaded, &found, mine)) {
        free(mine);
        return found;
    }
    return mine;
}

const char *tw_tuning_status(void)
{
    const costs *found = all();
    return found ? found->status : "defaults: memory was short";
}

void tw_tuning_renew(void)
{
    atomic_store(&loaded, NULL); /* the old ones may be in use: they stay */
    tw_panel_kernels_forget();
}

float tw_panel_cost(const tw_kernel *kernel, int place)
{
    const costs *found = all();
    return found ? 64 * found->lines[kernel - tw_kernels][place].step : 0;
}

bool tw_use_cost_of(int isa, int dtype, bool along_k, int place, bool threads, tw_use_cost *cost)
{
    const costs *found = all();
    int index = ((dtype * 2 + along_k) * TW_PLACES + place) * 2 + threads;
    bool known = found != NULL && found->uses_isa == isa && found->uses[index].packing > 0;
    if (known) {
        *cost = found->uses[index];
    }
    return known;
}

tw_cost_line tw_cost_near(const tw_kernel *kernel, int64_t k)
{
    const costs *found = all();
    /* Kernels from elsewhere (specialised ones, sizes alone in tests) have no costs: their area's. */
    if ((uintptr_t)kernel < (uintptr_t)tw_kernels || (uintptr_t)kernel >= (uintptr_t)(tw_kernels + tw_kernel_count)) {
        float work = cycle * (float)(kernel->mr * kernel->nr);
        return (tw_cost_line){2 + work, work / 8};
    }
    int64_t index = kernel - tw_kernels;
    if (found == NULL) {
        return (tw_cost_line){cycle * tw_kernel_costs[index].call, cycle * tw_kernel_costs[index].step};
    }
    int piece = 0; /* of a kernel on panels: out of the second cache */
    while (!on_panels(kernel) && piece < STEPS - 2 && k >= steps[piece + 1]) {
        piece++;
    }
    return found->lines[index][piece];
}

double tw_kernel_cost(const char *name, int64_t k)
{
    const tw_kernel *kernel = tw_find_kernel(name);
    if (kernel == NULL || k < 0) {
        tw_fail(TW_ERROR_KERNEL, "tw_kernel_cost: no kernel is called %.80s, or k is below 0.", name);
        return -1;
    }
    return (double)tw_cost_near(kernel, k).call + (double)k * (double)tw_cost_near(kernel, k).step;
}
