/* unpack.c - a packed operand back into the matrix that it was made from, bit for bit. */
#include "blocked.h"

int tw_unpack(const void *packed, int64_t bytes, void *x)
{
    int status = tw_packed_check(packed, bytes);
    if (status != TW_OK) {
        return status;
    }
    tw_packed_header header;
    memcpy(&header, packed, sizeof header);
    if (header.lines == 0 || header.k == 0) {
        return TW_OK;
    }
    if (x == NULL) {
        return tw_fail(3, "tw_unpack: x is NULL but would be used.");
    }
    int dtype = tw_dtype_of(header.dtype);
    int64_t element = tw_element_bytes(dtype), line = header.k * element, whole = header.width * line;
    const char *panels = tw_panels_of(packed);
    bool in_place = panels == x; /* a panel and its lines take the same bytes */
    char *copy = NULL;
    if (in_place && (copy = tw_workspace_take(whole)) == NULL) {
        return tw_fail(TW_ERROR_MEMORY, "tw_unpack: out of memory for a panel of %lld bytes.", (long long)whole);
    }
    for (int64_t first = 0; first < header.lines; first += header.width) {
        int64_t lines = header.lines - first < header.width ? header.lines - first : header.width;
        const char *panel = panels + first * line;
        if (in_place) {
            panel = memcpy(copy, panel, (size_t)(lines * line));
        }
        /* A panel of lines is a matrix of k lines, whose panel of that width has the first one's lines. */
        tw_lines turned = {
            .dtype = dtype, .at = panel, .line = lines * element, .step = element, .lines = header.k, .k = lines};
        tw_pack_some(&turned, header.k, (char *)x + first * line, false);
    }
    if (copy != NULL) {
        tw_workspace_give(copy);
    }
    return TW_OK;
}
