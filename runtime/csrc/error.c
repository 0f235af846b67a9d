/* error.c - why the calling thread's last failing call failed.
 *
 * Kept by pthread key, not as a thread-local variable: those of this library must stay few bytes (gemm.c). */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

enum { ROOM = 512 };

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool made;

static void make_key(void)
{
    made = pthread_key_create(&key, free) == 0;
}

/* This thread's message; NULL: no memory for one. */
static char *message(void)
{
    pthread_once(&once, make_key);
    char *text = made ? pthread_getspecific(key) : NULL;
    if (text == NULL && made && (text = malloc(ROOM)) != NULL) {
        snprintf(text, ROOM, "no error");
        if (pthread_setspecific(key, text) != 0) {
            free(text);
            text = NULL;
        }
    }
    return text;
}

int tw_fail(int status, const char *format, ...)
{
    char *text = message();
    if (text != NULL) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, ROOM, format, arguments);
        va_end(arguments);
    }
    return status;
}

const char *tw_error_message(void)
{
    const char *text = message();
    return text ? text : "out of memory, even for this message";
}
