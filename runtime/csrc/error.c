/* error.c - why the calling thread's last failing call failed. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static _Thread_local char message[512] = "no error";

int tw_fail(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

const char *tw_error_message(void)
{
    return message;
}
