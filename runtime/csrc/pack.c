/* pack.c - packed operands that callers keep: their size, how they are made, what is checked before they are used. */
#include <sched.h>

#include "paths.h"

enum { VERSION = 2 };

static const char magic[8] = {'T', 'W', 'P', 'A', 'C', 'K', 'E', 'D'};

enum {
    ARGUMENT_LAYOUT = 2,
    ARGUMENT_OPERAND,
    ARGUMENT_TRANS,
    ARGUMENT_ROWS,
    ARGUMENT_COLUMNS,
    ARGUMENT_X = 8,
    ARGUMENT_LD
};

static uint64_t sum_of(const tw_packed_header *header)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325), words[sizeof *header / 8];
    memcpy(words, header, sizeof *header);
    for (size_t i = 0; i + 1 < sizeof *header / 8; i++) {
        sum = (sum ^ words[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

/* Check what is asked for and fill the header. A status. */
static int describe(const char *name, int dtype, int layout, int operand, int trans, int64_t rows, int64_t columns,
                    tw_packed_header *header, tw_operation *op)
{
    int type = tw_dtype_of(dtype), isa = tw_isa_current();
    if (isa < 0) {
        return TW_ERROR_ISA;
    }
    if (type < 0) {
        return tw_fail(TW_ERROR_TYPE, "%s: dtype is %d; it must be 's', 'd', 'c' or 'z'.", name, dtype);
    }
    isa = tw_isa_of_type(isa, type);
    if (layout != TW_ROW_MAJOR && layout != TW_COL_MAJOR) {
        return tw_fail(ARGUMENT_LAYOUT, "%s: layout is %d; it must be TW_ROW_MAJOR (101) or TW_COL_MAJOR (102).", name,
                       layout);
    }
    if (operand != 'A' && operand != 'B') {
        return tw_fail(ARGUMENT_OPERAND, "%s: operand is %d; it must be 'A' or 'B'.", name, operand);
    }
    if (!tw_operation_of(trans, type, op)) {
        return tw_fail(ARGUMENT_TRANS, "%s: trans is %d; it must be 'N', 'T', 'C' or 'R'.", name, trans);
    }
    if (rows < 0 || columns < 0) {
        return tw_fail(rows < 0 ? ARGUMENT_ROWS : ARGUMENT_COLUMNS, "%s: %s is %lld; it must be 0 or more.", name,
                       rows < 0 ? "rows" : "columns", (long long)(rows < 0 ? rows : columns));
    }
    int64_t element = tw_element_bytes(type);
    if (rows > 0 && columns > (INT64_MAX - (int64_t)sizeof *header) / element / rows) {
        return tw_fail(ARGUMENT_COLUMNS, "%s: %lld x %lld elements of %lld bytes are beyond what an address can hold.",
                       name, (long long)rows, (long long)columns, (long long)element);
    }
    int side = (operand == 'A') == (layout == TW_COL_MAJOR) ? TW_VECTOR_SIDE : TW_SCALAR_SIDE;
    *header = (tw_packed_header){
        .version = VERSION,
        .dtype = (uint8_t)tw_letters[type],
        .side = (uint8_t)side,
        .width = (uint16_t)tw_panel_width(isa, type, TW_VECTOR_SIDE),
        .lines = operand == 'A' ? rows : columns,
        .k = operand == 'A' ? columns : rows,
        .bytes = (int64_t)sizeof *header + rows * columns * element,
    };
    memcpy(header->magic, magic, sizeof magic);
    strncpy(header->isa, tw_isa_name(isa), sizeof header->isa - 1);
    header->sum = sum_of(header);
    return TW_OK;
}

int tw_pack_size(int dtype, int layout, int operand, int trans, int64_t rows, int64_t columns, int64_t *bytes)
{
    tw_packed_header header;
    tw_operation op;
    int status = describe("tw_pack_size", dtype, layout, operand, trans, rows, columns, &header, &op);
    if (status == TW_OK) {
        *bytes = header.bytes;
    }
    return status;
}

enum { TOGETHER = 4, STEPS = 1024, PATIENCE = 500 };

void tw_packing_begin(tw_packing *all, const tw_lines *source, int64_t width, void *panels)
{
    bool beside = source->line == tw_element_bytes(source->dtype); /* panels that lie side by side share cache lines */
    int64_t together = beside ? TOGETHER : 1, steps = beside || source->k == 0 ? source->k : STEPS;
    int64_t runs = (source->lines + together * width - 1) / (together * width),
            cuts = beside ? 1 : (source->k + STEPS - 1) / STEPS;
    *all = (tw_packing){.whole = *source,
                        .width = width,
                        .together = together,
                        .steps = steps,
                        .pieces = runs * cuts,
                        .cuts = cuts,
                        .panels = panels};
}

static void pack_piece(const tw_packing *all, int64_t piece)
{
    tw_lines some = all->whole;
    int64_t lines = all->together * all->width, first = piece / all->cuts * lines,
            step = piece % all->cuts * all->steps;
    int64_t left = some.lines - first, element = tw_element_bytes(some.dtype);
    some.at += first * some.line + step * some.step;
    some.lines = left < lines ? left : lines;
    char *to = all->panels + (first * some.k + step * some.lines) * element;
    some.k = some.k - step < all->steps ? some.k - step : all->steps;
    tw_pack_some(&some, all->width, to, all->around);
}

void tw_packing_join(tw_packing *all)
{
    for (int64_t piece; (piece = atomic_fetch_add_explicit(&all->next, 1, memory_order_relaxed)) < all->pieces;) {
        pack_piece(all, piece);
        atomic_fetch_add_explicit(&all->done, 1, memory_order_release);
    }
    for (int spin = 0; atomic_load_explicit(&all->done, memory_order_acquire) < all->pieces; spin++) {
        if (spin > PATIENCE) {
            sched_yield(); /* who is at the last piece may be waiting for this core */
        }
    }
}

static void join_task(void *context, int64_t task)
{
    (void)task;
    tw_packing_join(context);
}

void tw_pack_panels(const tw_lines *source, int64_t width, int threads, void *panels)
{
    tw_packing all;
    tw_packing_begin(&all, source, width, panels);
    all.around = source->lines * source->k * tw_element_bytes(source->dtype) > TW_FROM_MEMORY;
    tw_parallel(threads, threads < all.pieces ? threads : all.pieces, join_task, &all);
}

int tw_pack(int dtype, int layout, int operand, int trans, int64_t rows, int64_t columns, const void *alpha,
            const void *x, int64_t ld, void *packed)
{
    tw_packed_header header;
    tw_operation op;
    int status = describe("tw_pack", dtype, layout, operand, trans, rows, columns, &header, &op);
    if (status != TW_OK) {
        return status;
    }
    int type = tw_dtype_of(dtype);
    bool by_rows = (layout == TW_ROW_MAJOR) != op.trans; /* do the elements of a row of op(x) lie beside each other? */
    int64_t length = by_rows ? columns : rows, least = length > 1 ? length : 1, element = tw_element_bytes(type);
    if (ld < least || ld > INT64_MAX / 16) {
        return tw_fail(ARGUMENT_LD,
                       "tw_pack: ld is %lld but a %s as stored has %lld elements; ld must be at least %lld.",
                       (long long)ld, layout == TW_ROW_MAJOR ? "row" : "column", (long long)length, (long long)least);
    }
    bool any = rows > 0 && columns > 0;
    if (packed == NULL || (any && x == NULL)) {
        return tw_fail(packed == NULL ? ARGUMENT_LD + 1 : ARGUMENT_X, "tw_pack: %s is NULL but would be used.",
                       packed == NULL ? "packed" : "x");
    }
    tw_huge_pages(packed, header.bytes); /* it is read from end to end, again and again */
    memcpy(packed, &header, sizeof header);
    if (any) {
        tw_scalar factor = tw_alpha_at(type, alpha);
        bool beside = (operand == 'A') != by_rows; /* do its lines lie beside each other? */
        tw_lines source = {.dtype = type,
                           .conj = op.conj,
                           .at = x,
                           .line = beside ? element : ld * element,
                           .step = beside ? ld * element : element,
                           .lines = header.lines,
                           .k = header.k,
                           .alpha = tw_scalar_is(type, &factor, 1) ? NULL : &factor};
        int threads = header.bytes > 1 << 20 ? tw_threads_allowed() : 1;
        tw_pack_panels(&source, header.width, threads, (char *)packed + sizeof header);
    }
    return TW_OK;
}

/* Is it a header of ours, untouched? A status. */
static int check_header(const tw_packed_header *header, const char *name)
{
    if (memcmp(header->magic, magic, sizeof magic) != 0) {
        return tw_fail(TW_ERROR_PACKED, "%s is not a packed operand; tw_pack makes them.", name);
    }
    if (header->version != VERSION) {
        return tw_fail(TW_ERROR_PACKED,
                       "%s was packed by another version (format %u, this one reads %d); pack it again.", name,
                       (unsigned)header->version, VERSION);
    }
    if (header->sum != sum_of(header)) {
        return tw_fail(TW_ERROR_PACKED, "%s: the header was edited or damaged; pack the matrix again.", name);
    }
    return TW_OK;
}

int tw_packed_check(const void *packed, int64_t bytes)
{
    tw_packed_header header;
    if (packed == NULL || bytes < (int64_t)sizeof header) {
        return tw_fail(TW_ERROR_PACKED, "%lld bytes are not a packed operand: its header alone has %zu.",
                       (long long)bytes, sizeof header);
    }
    memcpy(&header, packed, sizeof header);
    int status = check_header(&header, "this");
    if (status != TW_OK) {
        return status;
    }
    if (bytes != header.bytes) {
        return tw_fail(TW_ERROR_PACKED, "a packed operand of %lld bytes is %s: here are %lld.", (long long)header.bytes,
                       bytes < header.bytes ? "cut off" : "followed by something else", (long long)bytes);
    }
    int dtype = tw_dtype_of(header.dtype), side = header.side;
    int64_t elements, panels;
    bool whole = dtype >= 0 && (side == TW_VECTOR_SIDE || side == TW_SCALAR_SIDE) && header.lines >= 0 &&
                 header.k >= 0 && !__builtin_mul_overflow(header.lines, header.k, &elements) &&
                 !__builtin_mul_overflow(elements, tw_element_bytes(dtype), &panels) &&
                 panels == header.bytes - (int64_t)sizeof header;
    for (int isa = 0; isa < TW_ISAS && whole; isa++) {
        if (strncmp(header.isa, tw_isa_name(isa), sizeof header.isa) == 0 && tw_isa_kernels(isa) &&
            tw_isa_supported(isa)) {
            if (header.width == tw_panel_width(isa, dtype, TW_VECTOR_SIDE)) {
                return TW_OK;
            }
            whole = false;
        }
    }
    if (!whole) {
        return tw_fail(TW_ERROR_PACKED,
                       "this header contradicts itself: %lld lines of %lld steps in %lld bytes, panels "
                       "%d wide; pack the matrix again.",
                       (long long)header.lines, (long long)header.k, (long long)header.bytes, header.width);
    }
    return tw_fail(TW_ERROR_PACKED, "packed for %.8s, which is not to be had here; pack the matrix again.", header.isa);
}

int tw_packed_fits(const void *packed, const char *name, int isa, int dtype, int side, int64_t lines, int64_t k)
{
    tw_packed_header header;
    isa = tw_isa_of_type(isa, dtype);
    memcpy(&header, packed, sizeof header);
    int status = check_header(&header, name);
    if (status != TW_OK) {
        return status;
    }
    if (header.dtype != tw_letters[dtype]) {
        return tw_fail(TW_ERROR_PACKED, "%s holds type '%c' but the plan is for '%c'.", name, header.dtype,
                       tw_letters[dtype]);
    }
    if (strncmp(header.isa, tw_isa_name(isa), sizeof header.isa) != 0) {
        return tw_fail(TW_ERROR_PACKED, "%s was packed for %.8s but the plan runs on %s; pack it again.", name,
                       header.isa, tw_isa_name(isa));
    }
    if (header.side != side) {
        return tw_fail(TW_ERROR_PACKED,
                       "%s was packed for the other side of the product (or the other layout); pack it "
                       "for this one.",
                       name);
    }
    if (header.lines != lines || header.k != k) {
        return tw_fail(TW_ERROR_PACKED, "%s has %lld lines of %lld steps but the plan takes %lld of %lld.", name,
                       (long long)header.lines, (long long)header.k, (long long)lines, (long long)k);
    }
    return TW_OK;
}
