/* _arrays.h - arrays for cffi, which cannot pass Python objects: by address, read through the buffer protocol.
 *
 * Compiled into the cffi module. To pass three arrays' pointers, shapes, strides and types one by one takes longer than
 * a small product, 0.9 us; this takes 0.4 us.
 */
#ifndef TW_ARRAYS_H
#define TW_ARRAYS_H

#include <string.h>

#include <Python.h>

#include "_call.h"

/* Py_buffer and its two functions as they have been since 3.0; in the limited API since 3.11, so not in all headers. */
typedef struct {
    void *data;
    PyObject *owner;
    Py_ssize_t bytes, itemsize;
    int readonly, ndim;
    char *format;
    Py_ssize_t *shape, *strides, *suboffsets;
    void *internal;
} tw_buffer;

#if !defined(Py_LIMITED_API) || Py_LIMITED_API + 0 >= 0x030b0000
#define TW_BUFFER(buffer) ((Py_buffer *)(buffer))
#else
#define TW_BUFFER(buffer) (buffer)
int PyObject_GetBuffer(PyObject *object, tw_buffer *buffer, int flags);
void PyBuffer_Release(tw_buffer *buffer);
#endif

enum { TW_BUFFER_WRITABLE = 0x1, TW_BUFFER_FORMAT = 0x4, TW_BUFFER_STRIDES = 0x18 };

static inline int tw_kind_of_format(const char *format)
{
    bool is_complex = format[0] == 'Z';
    const char *real = format + is_complex;
    if (strcmp(real, "f") == 0) {
        return is_complex ? 'c' : 's';
    }
    return strcmp(real, "d") == 0 ? (is_complex ? 'z' : 'd') : 0;
}

/* With Python's lock held: 0, or -1 and nothing was done. */
static inline int tw_gemm_buffers(tw_call *p, PyObject *const objects[3])
{
    tw_matrix *const matrices[3] = {&p->a, &p->b, &p->c};
    tw_buffer buffers[3];
    int held = 0, status = -1;
    bool usable = true;
    for (; held < 3 && usable; held++) {
        tw_buffer *buffer = &buffers[held];
        int access = TW_BUFFER_STRIDES | TW_BUFFER_FORMAT | (held == 2 ? TW_BUFFER_WRITABLE : 0);
        if (PyObject_GetBuffer(objects[held], TW_BUFFER(buffer), access) < 0) {
            PyErr_Clear();
            break;
        }
        int kind = buffer->ndim == 2 && buffer->format ? tw_kind_of_format(buffer->format) : 0;
        uintptr_t reals = kind == 's' || kind == 'c' ? sizeof(float) : sizeof(double);
        usable = kind && (held == 0 || kind == p->kind) && (uintptr_t)buffer->data % reals == 0 &&
                 tw_see(matrices[held], buffer->data, buffer->shape, buffer->strides, buffer->itemsize);
        p->kind = kind;
    }
    if (held == 3 && usable && tw_arrange(p) && tw_apart(&p->c, &p->a) && tw_apart(&p->c, &p->b)) {
        if (tw_is_large(p)) {
            PyThreadState *state = PyEval_SaveThread();
            status = tw_multiply(p);
            PyEval_RestoreThread(state);
        } else {
            status = tw_multiply(p);
        }
    }
    while (held > 0) {
        PyBuffer_Release(TW_BUFFER(&buffers[--held]));
    }
    return status;
}

/* gemm of plain numpy arrays that are used where they lie, each given by id(), and operations 'N', 'T' or 'C'. 0, or
 * nothing was done: product.gemm knows what to do about it. The caller holds references to the arrays. */
static int tw_gemm_arrays_options(intptr_t a, intptr_t b, intptr_t out, int op_a, int op_b, double alpha, double beta)
{
    PyObject *const objects[3] = {(PyObject *)a, (PyObject *)b, (PyObject *)out};
    tw_call call = {.op_a = op_a, .op_b = op_b, .alpha = {alpha, 0}, .beta = {beta, 0}};
    PyGILState_STATE lock = PyGILState_Ensure(); /* cffi releases it for every call */
    int status = tw_gemm_buffers(&call, objects);
    PyGILState_Release(lock);
    return status;
}

static int tw_gemm_arrays(intptr_t a, intptr_t b, intptr_t out)
{
    return tw_gemm_arrays_options(a, b, out, 'N', 'N', 1, 0);
}

#endif
