/* _planned.h - run_plan: a plan on arrays that are just what it was made for. Part of _fast.c.
 *
 * As gemm there, it knows no rule and no message: what it does not handle itself it leaves to Plan.__call__. */
#ifndef TW_PLANNED_H
#define TW_PLANNED_H

/* What plan.py writes about a plan, once: `_record` there. */
typedef struct {
    int64_t execute, plan; /* addresses */
    struct {
        int64_t rows, columns, ld;
    } shape[3];                   /* a, b, out */
    int64_t kind, packed, unlock; /* a letter; 'a', 'b' or 0; is it large enough to let other threads run? */
} planned;

/* The first element of an array that is as the plan has it; NULL where Python is to look at it. */
static char *as_planned(PyObject *object, int type, int64_t size, const planned *plan, int place, tw_matrix *seen)
{
    int64_t rows = plan->shape[place].rows, columns = plan->shape[place].columns, ld = plan->shape[place].ld;
    if (!see(object, type, size, seen) || seen->rows != rows || seen->columns != columns || seen->start == seen->end) {
        return NULL;
    }
    const intptr_t *strides = PyArray_STRIDES((PyArrayObject *)object);
    bool same = (rows == 1 || strides[0] == ld * size) && (columns == 1 || strides[1] == size);
    return same ? seen->start : NULL;
}

/* What a Packed holds: C checks what is in it. */
static char *panels_of(PyObject *object, PyObject *type)
{
    static PyObject *name;
    if ((PyObject *)Py_TYPE(object) != type ||
        (name == NULL && (name = PyUnicode_InternFromString("_bytes")) == NULL)) {
        return NULL;
    }
    PyObject *array = PyObject_GetAttr(object, name);
    if (array == NULL) {
        PyErr_Clear();
        return NULL;
    }
    char *panels = PyArray_CheckExact(array) ? PyArray_BYTES((PyArrayObject *)array) : NULL;
    Py_DECREF(array); /* the Packed has it as long as the caller has the Packed */
    return panels;
}

PyDoc_STRVAR(run_plan_doc, "run_plan($module, record, packed, a, b, out, alpha, beta, /)\n--\n\n"
                           "Run a plan if everything is as it mostly is; False, and nothing was done, otherwise.\n\n"
                           "`record` is what plan.py wrote about the plan, `packed` the type of packed operands.");

static PyObject *run_plan(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    planned plan;
    if (count != 7 || !PyBytes_Check(args[0]) || PyBytes_Size(args[0]) != (Py_ssize_t)sizeof plan) {
        PyErr_SetString(PyExc_TypeError, "run_plan: record, packed, a, b, out, alpha and beta are wanted.");
        return NULL;
    }
    memcpy(&plan, PyBytes_AsString(args[0]), sizeof plan);
    int type = plan.kind == 's'   ? NPY_FLOAT
               : plan.kind == 'd' ? NPY_DOUBLE
               : plan.kind == 'c' ? NPY_CFLOAT
                                  : NPY_CDOUBLE;
    int64_t size = plan.kind == 's' ? 4 : plan.kind == 'z' ? 16 : 8;
    bool is_complex = plan.kind == 'c' || plan.kind == 'z';
    double alpha[2] = {1, 0}, beta[2] = {0, 0};
    tw_matrix seen[3] = {{0}};
    char *start[3];
    for (int place = 0; place < 3; place++) {
        PyObject *object = args[2 + place];
        start[place] = place < 2 && plan.packed == "ab"[place]
                           ? panels_of(object, args[1])
                           : as_planned(object, type, size, &plan, place, &seen[place]);
        if (start[place] == NULL) {
            Py_RETURN_FALSE;
        }
    }
    if (!PyArray_CHKFLAGS((PyArrayObject *)args[4], NPY_ARRAY_WRITEABLE) || !tw_apart(&seen[2], &seen[0]) ||
        !tw_apart(&seen[2], &seen[1]) || !number(args[5], is_complex, alpha) || !number(args[6], is_complex, beta)) {
        Py_RETURN_FALSE;
    }
    bool narrow = plan.kind == 's' || plan.kind == 'c';
    float narrow_alpha[2] = {(float)alpha[0], (float)alpha[1]}, narrow_beta[2] = {(float)beta[0], (float)beta[1]};
    int (*execute)(const void *plan, const void *alpha, const void *a, const void *b, const void *beta, void *c);
    void *code = (void *)(intptr_t)plan.execute, *made = (void *)(intptr_t)plan.plan;
    memcpy(&execute, &code, sizeof code);
    const void *one = narrow ? (void *)narrow_alpha : (void *)alpha,
               *zero = narrow ? (void *)narrow_beta : (void *)beta;
    int status;
    if (plan.unlock) {
        Py_BEGIN_ALLOW_THREADS status = execute(made, one, start[0], start[1], zero, start[2]);
        Py_END_ALLOW_THREADS
    } else {
        status = execute(made, one, start[0], start[1], zero, start[2]);
    }
    return PyBool_FromLong(status == TW_OK); /* else nothing was written */
}

#endif
