/* special.c - kernels for one size: those that ship, and those registered while the process runs.
 *
 * A plan asks once, when it is made. Nothing registered is ever taken back, so readers need no lock: they walk a list
 * that only grows at its head. */
#include <dlfcn.h>
#include <stdlib.h>

#include "internal.h"
#include "tiling.h"

enum { MOST_FITTING = 64 }; /* more kernels for one k than anybody has tiles of */

typedef struct node {
    const tw_special *kernels;
    int count;
    struct node *next;
} node;

static _Atomic(node *) registered;
static atomic_int registrations; /* a plan made while this changed may have missed some */

int tw_special_epoch(void)
{
    return atomic_load(&registrations);
}

static atomic_bool unused; /* tw_special_use(0), TILEWRIGHT_SPECIAL=off */

__attribute__((constructor)) static void read_environment(void)
{
    const char *value = getenv("TILEWRIGHT_SPECIAL");
    atomic_store(&unused, value != NULL && strcmp(value, "off") == 0);
}

int tw_special_use(int use)
{
    return !atomic_exchange(&unused, !use);
}

static const tw_special *at(int index)
{
    if (index < tw_special_count) {
        return index >= 0 ? &tw_specials[index] : NULL;
    }
    index -= tw_special_count;
    for (const node *n = atomic_load(&registered); n != NULL; n = n->next) {
        if (index < n->count) {
            return &n->kernels[index];
        }
        index -= n->count;
    }
    return NULL;
}

int tw_special_total(void)
{
    int total = tw_special_count;
    for (const node *n = atomic_load(&registered); n != NULL; n = n->next) {
        total += n->count;
    }
    return total;
}

const struct tw_special *tw_special_at(int index)
{
    return at(index);
}

const char *tw_special_name(int index)
{
    const tw_special *special = at(index);
    return special ? special->kernel.name : NULL;
}

static bool is_known(const char *name)
{
    const tw_special *special;
    for (int i = 0; (special = at(i)) != NULL; i++) {
        if (strcmp(special->kernel.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- Which of them do a product ---- */

static bool fits(const tw_special *special, const tw_form *form, int isa, int family)
{
    const tw_kernel *kernel = &special->kernel;
    int64_t element = tw_element_bytes(form->dtype);
    return kernel->isa == isa && kernel->family == family && kernel->dtype == form->dtype &&
           tw_mode_transposes_a(kernel->mode) == form->trans_a && tw_mode_transposes_b(kernel->mode) == form->trans_b &&
           special->k == form->k && (special->lda == 0 || special->lda * element == form->lda) &&
           (special->ldb == 0 || special->ldb * element == form->ldb) &&
           (special->ldc == 0 || special->ldc * element == form->ldc) &&
           tw_kernel_conjugates(kernel, form->conj_a, form->conj_b);
}

typedef struct fitting {
    const tw_special *kernels[MOST_FITTING];
    int count;
} fitting;

/* The latest registered first, those that ship last. */
static fitting find_fitting(const tw_form *form, int isa, int family)
{
    fitting found = {.count = 0};
    if (atomic_load_explicit(&unused, memory_order_relaxed)) {
        return found;
    }
    for (const node *n = atomic_load_explicit(&registered, memory_order_acquire); n != NULL; n = n->next) {
        for (int i = 0; i < n->count && found.count < MOST_FITTING; i++) {
            if (fits(&n->kernels[i], form, isa, family)) {
                found.kernels[found.count++] = &n->kernels[i];
            }
        }
    }
    for (int i = 0; i < tw_special_count && found.count < MOST_FITTING; i++) {
        if (fits(&tw_specials[i], form, isa, family)) {
            found.kernels[found.count++] = &tw_specials[i];
        }
    }
    return found;
}

/* The first that knows most leading dimensions, of those that compute several problems together, or of the others. */
static const tw_special *choose(const fitting *found, int64_t m, int64_t n, bool together)
{
    const tw_special *best = NULL;
    int most = -1;
    for (int i = 0; i < found->count; i++) {
        const tw_special *special = found->kernels[i];
        tw_reach reach = tw_kernel_reach(&special->kernel);
        int known = (special->lda > 0) + (special->ldb > 0) + (special->ldc > 0);
        if ((special->lanes > 1) == together && m >= reach.least_m && m <= reach.most_m && n >= reach.least_n &&
            n <= reach.most_n && known > most) {
            best = special;
            most = known;
        }
    }
    return best;
}

bool tw_special_whole(const tw_form *form, int isa, tw_command *command)
{
    fitting found = find_fitting(form, isa, TW_EXACT);
    const tw_special *whole = choose(&found, form->m, form->n, false);
    if (whole != NULL) {
        tw_tile tile = {&whole->kernel, 0, 0, (int)form->m, (int)form->n};
        *command = tw_command_of(form, &tile);
    }
    return whole != NULL;
}

tw_many tw_special_many(const tw_form *form, int isa)
{
    fitting found = find_fitting(form, isa, TW_BATCH);
    tw_many many = {.lanes = 0};
    for (int together = 0; together < 2; together++) {
        const tw_special *special = choose(&found, form->m, form->n, together);
        if (special != NULL) {
            tw_tile tile = {&special->kernel, 0, 0, (int)form->m, (int)form->n};
            *(together ? &many.across : &many.each) = tw_command_of(form, &tile);
            many.lanes = together ? special->lanes : 0;
        }
    }
    return many;
}

const tw_kernel *tw_special_column(int isa, int dtype, int64_t k)
{
    const tw_kernel *tallest = NULL;
    for (int i = 0; i < tw_special_count && !atomic_load_explicit(&unused, memory_order_relaxed); i++) {
        const tw_special *special = &tw_specials[i];
        const tw_kernel *kernel = &special->kernel;
        if (kernel->isa == isa && kernel->dtype == dtype && kernel->family == TW_BATCH && kernel->mode == TW_NN &&
            kernel->nr == 1 && special->k == k && kernel->mask_span == 0 && special->lanes == 1 && special->lda == 0 &&
            special->ldc == 0 && (tallest == NULL || kernel->mr > tallest->mr)) {
            tallest = kernel;
        }
    }
    return tallest;
}

const tw_kernel *tw_special_running(tw_kernel_fn run)
{
    const tw_special *special;
    for (int i = 0; run != NULL && (special = at(i)) != NULL; i++) {
        if (special->kernel.run == run) {
            return &special->kernel;
        }
    }
    return NULL;
}

bool tw_run_many(const tw_gemm_plan *plan, const tw_args *args, int64_t count, const void *a, int64_t stride_a,
                 const void *b, int64_t stride_b, void *c, int64_t stride_c)
{
    const tw_many *many = &plan->many;
    if (many->each.run == NULL || count < TW_MANY || args->k == 0) {
        return false;
    }
    int64_t start = 0;
    if (__builtin_expect(tw_verbose, 0)) {
        start = tw_trace_clock();
    }
    bool exchanged = plan->exchanged;
    const char *x = exchanged ? b : a, *y = exchanged ? a : b;
    char *z = c;
    tw_batch_args all = {.args = *args,
                         .stride_a = exchanged ? stride_b : stride_a,
                         .stride_b = exchanged ? stride_a : stride_b,
                         .stride_c = stride_c};
    int64_t together = many->across.run ? count - count % many->lanes : 0;
    if (together > 0) {
        all.count = together;
        tw_run_command(&many->across, x, y, z, &all.args);
    }
    if (together < count) {
        all.count = count - together;
        tw_run_command(&many->each, x + together * all.stride_a, y + together * all.stride_b, z + together * stride_c,
                       &all.args);
    }
    if (__builtin_expect(tw_verbose, 0)) {
        tw_trace(plan, count, tw_trace_clock() - start);
    }
    return true;
}

/* ---- Registration ---- */

static int refuse(const char *path, const char *why)
{
    return tw_fail(TW_ERROR_SPECIAL, "tw_special_load: %.300s: %s; make it again.", path, why);
}

/* Can this process run it, and is it what it says? NULL, or what is wrong. */
static const char *wrong_with(const tw_special *special)
{
    const tw_kernel *kernel = &special->kernel;
    if (kernel->name == NULL || kernel->run == NULL || (kernel->family != TW_EXACT && kernel->family != TW_BATCH) ||
        kernel->dtype >= TW_DTYPES || kernel->mode >= TW_MODES || kernel->mr < 1 || kernel->mr > TW_LARGEST ||
        kernel->nr < 1 || kernel->nr > TW_LARGEST || special->k < 1 || special->k > TW_MOST_EXACT ||
        special->lanes < 1) {
        return "holds what is no kernel of one size";
    }
    if (!tw_isa_supported(kernel->isa)) {
        return "is for an instruction set that this CPU lacks";
    }
    return tw_special_is_right(special) ? NULL : "holds a kernel that computes a wrong product";
}

int tw_special_load(const char *path)
{
    if (path == NULL) {
        return tw_fail(TW_ERROR_SPECIAL, "tw_special_load: path is NULL; it must name a shared library.");
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        return tw_fail(TW_ERROR_SPECIAL, "tw_special_load: %.300s", why ? why : path);
    }
    const tw_special_table *table = dlsym(library, "tw_specialised");
    if (table == NULL) {
        dlclose(library);
        return refuse(path, "has no table of kernels");
    }
    const char *why = strncmp(table->abi, tw_kernel_abi, sizeof table->abi) == 0 ? NULL : "is for another version";
    bool new = false;
    for (int i = 0; why == NULL && i < table->count; i++) {
        why = wrong_with(&table->kernels[i]);
        new = new || (why == NULL && !is_known(table->kernels[i].kernel.name));
    }
    if (why != NULL) {
        int status = refuse(path, why);
        dlclose(library);
        return status;
    }
    if (!new) {
        dlclose(library); /* all there; or this one, which is loaded already */
        return TW_OK;
    }
    node *mine = malloc(sizeof *mine);
    if (mine == NULL) {
        dlclose(library);
        return tw_fail(TW_ERROR_MEMORY, "tw_special_load: out of memory.");
    }
    *mine = (node){table->kernels, table->count, atomic_load(&registered)};
    while (!atomic_compare_exchange_weak(&registered, &mine->next, mine)) {
    }
    atomic_fetch_add(&registrations, 1);
    tw_cache_renew();
    return TW_OK;
}
