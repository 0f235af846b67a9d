/* scalar.c - alpha and beta of the four types. */
#include <string.h>

#include "internal.h"

bool tw_scalar_is(int dtype, const tw_scalar *value, double real)
{
    switch (dtype) {
    case TW_S:
        return value->s == (float)real;
    case TW_D:
        return value->d == real;
    case TW_C:
        return value->c[0] == (float)real && value->c[1] == 0;
    default:
        return value->z[0] == real && value->z[1] == 0;
    }
}

tw_scalar tw_scalar_at(int dtype, const void *value)
{
    tw_scalar scalar = {.z = {0, 0}};
    memcpy(&scalar, value, (size_t)tw_element_bytes(dtype));
    return scalar;
}
