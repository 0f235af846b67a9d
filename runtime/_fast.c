/* _fast.c - calls from Python that cost almost nothing: gemm and plans where all is as it mostly is, and bound products.
 *
 * Optional: without it every call goes through cffi, with the same results and errors. gemm here knows no rule and no
 * message. What it does not handle itself (another kind of array or number, strides to copy, anything wrong) it hands,
 * untouched, to the Python function that it stands for (product.py).
 *
 * Limited API, so one file serves every CPython from 3.10 on; numpy's API as of 1.24, through the headers of numpy 2.
 */
#define Py_LIMITED_API 0x030a0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define NPY_NO_DEPRECATED_API NPY_1_24_API_VERSION
#define NPY_TARGET_VERSION NPY_1_24_API_VERSION
#include <numpy/arrayobject.h>

#include <stdlib.h>
#include <string.h>

#include "_call.h"

/* The vectorcall protocol is in the limited API since 3.12; 3.10 and 3.11, which will not change any more, have it just
 * so. */
#ifndef Py_TPFLAGS_HAVE_VECTORCALL
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames);
#endif

/* ---- gemm ---- */

enum argument { ARG_A, ARG_B, ARG_OUT, ARG_ALPHA, ARG_BETA, ARG_TRANS_A, ARG_TRANS_B, ARGUMENTS, POSITIONAL = 3 };

static const char *const argument_names[ARGUMENTS] = {"a", "b", "out", "alpha", "beta", "trans_a", "trans_b"};
static const char *const operation_names[3] = {"N", "T", "C"};

/* Interned, for the life of the process: a name that is not one of these very objects is Python's to judge. */
static PyObject *names[ARGUMENTS], *operations[3];

typedef struct {
    PyObject *python; /* the function that knows the rules; NULL before `accelerate` */
    PyMethodDef method;
    char *doc;
} module_state;

/* A plain array of one type as C takes it; false where Python is to look at it. */
static bool see(PyObject *object, int type, int64_t size, tw_matrix *seen)
{
    if (!PyArray_CheckExact(object)) {
        return false;
    }
    PyArrayObject *array = (PyArrayObject *)object;
    PyArray_Descr *descr = PyArray_DESCR(array);
    if (descr->type_num != type || !PyArray_ISNBO(descr->byteorder) || PyArray_NDIM(array) != 2 ||
        !PyArray_CHKFLAGS(array, NPY_ARRAY_ALIGNED)) {
        return false;
    }
    return tw_see(seen, PyArray_BYTES(array), PyArray_DIMS(array), PyArray_STRIDES(array), size);
}

/* A number as (real, imaginary); false where Python is to look at it. NULL: as it is. */
static bool number(PyObject *value, bool is_complex, double parts[2])
{
    if (value == NULL) {
        return true;
    }
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyFloat_Type || type == &PyDoubleArrType_Type) {
        parts[0] = PyFloat_AsDouble(value);
    } else if (type == &PyLong_Type) {
        parts[0] = PyLong_AsDouble(value);
        if (parts[0] == -1 && PyErr_Occurred()) { /* beyond a double */
            PyErr_Clear();
            return false;
        }
    } else if (is_complex && type == &PyComplex_Type) {
        parts[0] = PyComplex_RealAsDouble(value);
        parts[1] = PyComplex_ImagAsDouble(value);
        return true;
    } else {
        return false;
    }
    parts[1] = 0;
    return true;
}

/* 'N', 'T' or 'C'; 0 where Python is to look at it. */
static int operation(PyObject *value)
{
    if (value == NULL || value == operations[0]) {
        return 'N';
    }
    return value == operations[1] ? 'T' : value == operations[2] ? 'C' : 0;
}

/* Multiply if everything is as it mostly is: a new reference to the result. NULL, and nothing was done, otherwise. */
static PyObject *common_case(PyObject *const given[ARGUMENTS])
{
    if (given[ARG_A] == NULL || given[ARG_B] == NULL || !PyArray_CheckExact(given[ARG_A])) {
        return NULL;
    }
    int type = PyArray_DESCR((PyArrayObject *)given[ARG_A])->type_num;
    tw_call p = {.alpha = {1, 0}};
    p.kind = type == NPY_FLOAT     ? 's'
             : type == NPY_DOUBLE  ? 'd'
             : type == NPY_CFLOAT  ? 'c'
             : type == NPY_CDOUBLE ? 'z'
                                   : 0;
    int64_t size = p.kind == 's' ? 4 : p.kind == 'z' ? 16 : 8;
    bool is_complex = p.kind == 'c' || p.kind == 'z';
    p.op_a = operation(given[ARG_TRANS_A]);
    p.op_b = operation(given[ARG_TRANS_B]);
    if (!p.kind || !p.op_a || !p.op_b || !see(given[ARG_A], type, size, &p.a) || !see(given[ARG_B], type, size, &p.b) ||
        !number(given[ARG_ALPHA], is_complex, p.alpha) || !number(given[ARG_BETA], is_complex, p.beta)) {
        return NULL;
    }
    PyObject *out = given[ARG_OUT];
    bool is_new = out == NULL || out == Py_None;
    npy_intp shape[2] = {p.op_a == 'N' ? p.a.rows : p.a.columns, p.op_b == 'N' ? p.b.columns : p.b.rows};
    if (is_new) {
        if (!(p.beta[0] == 0 && p.beta[1] == 0)) {
            return NULL;
        }
        /* Its memory comes when nothing can be wrong any more. */
        p.c = (tw_matrix){.rows = shape[0], .columns = shape[1], .ld = shape[1] ? shape[1] : 1, .row_major = true};
    } else if (!see(out, type, size, &p.c) || !PyArray_CHKFLAGS((PyArrayObject *)out, NPY_ARRAY_WRITEABLE) ||
               !tw_apart(&p.c, &p.a) || !tw_apart(&p.c, &p.b)) {
        return NULL;
    }
    if (!tw_arrange(&p)) {
        return NULL;
    }
    if (is_new) {
        PyArray_Descr *descr = PyArray_DESCR((PyArrayObject *)given[ARG_A]);
        Py_INCREF(descr);
        out = PyArray_NewFromDescr(&PyArray_Type, descr, 2, shape, NULL, NULL, 0, NULL);
        if (out == NULL) {
            PyErr_Clear(); /* Python finds the same and says it */
            return NULL;
        }
        p.c.start = PyArray_BYTES((PyArrayObject *)out);
    } else {
        Py_INCREF(out);
    }
    int status;
    if (tw_is_large(&p)) {
        Py_BEGIN_ALLOW_THREADS status = tw_multiply(&p);
        Py_END_ALLOW_THREADS
    } else {
        status = tw_multiply(&p);
    }
    if (status != TW_OK) { /* nothing was written */
        Py_DECREF(out);
        return NULL;
    }
    return out;
}

/* The same call of the Python function. */
static PyObject *by_rules(PyObject *python, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *positional = PyTuple_New(count), *named = keywords ? PyDict_New() : NULL, *result = NULL;
    if (positional == NULL || (keywords && named == NULL)) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(positional, i, args[i]);
    }
    Py_ssize_t name_count = keywords ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; i < name_count; i++) {
        if (PyDict_SetItem(named, PyTuple_GetItem(keywords, i), args[count + i]) < 0) {
            goto done;
        }
    }
    result = PyObject_Call(python, positional, named);
done:
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

static PyObject *gemm(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *given[ARGUMENTS] = {NULL};
    bool known = count <= POSITIONAL;
    for (Py_ssize_t i = 0; known && i < count; i++) {
        given[i] = args[i];
    }
    Py_ssize_t name_count = keywords ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; known && i < name_count; i++) {
        PyObject *name = PyTuple_GetItem(keywords, i);
        int at = 0;
        while (at < ARGUMENTS && names[at] != name) {
            at++;
        }
        known = at < ARGUMENTS && given[at] == NULL;
        if (known) {
            given[at] = args[count + i];
        }
    }
    PyObject *result = known ? common_case(given) : NULL;
    if (result != NULL) {
        return result;
    }
    module_state *state = PyModule_GetState(module);
    return by_rules(state->python, args, count, keywords);
}

PyDoc_STRVAR(
    accelerate_doc,
    "accelerate($module, function, doc, home, /)\n--\n\n"
    "Return gemm as a C function that hands all but the common case to `function`.\n\n"
    "`doc` is its docstring, headed by its signature as C functions have it, `home` the module where it is found "
    "(by pickle, say). Once a module.");

static PyObject *accelerate(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *function;
    PyObject *home;
    const char *doc;
    if (!PyArg_ParseTuple(args, "OsU:accelerate", &function, &doc, &home)) {
        return NULL;
    }
    if (!PyCallable_Check(function) || state->python != NULL) {
        PyErr_SetString(PyExc_TypeError, state->python ? "accelerate: this was done before; it is for one function."
                                                       : "accelerate: function is not callable.");
        return NULL;
    }
    state->doc = strdup(doc);
    if (state->doc == NULL) {
        return PyErr_NoMemory();
    }
    Py_INCREF(function);
    state->python = function;
    state->method = (PyMethodDef){"gemm", (PyCFunction)(void (*)(void))gemm, METH_FASTCALL | METH_KEYWORDS, state->doc};
    return PyCFunction_NewEx(&state->method, module, home);
}

#include "_bound.h"
#include "_planned.h"

/* ---- The module ---- */

static int execute(PyObject *module)
{
    if (PyArray_ImportNumPyAPI() < 0) {
        return -1;
    }
    for (int i = 0; i < ARGUMENTS; i++) {
        if (names[i] == NULL && (names[i] = PyUnicode_InternFromString(argument_names[i])) == NULL) {
            return -1;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (operations[i] == NULL && (operations[i] = PyUnicode_InternFromString(operation_names[i])) == NULL) {
            return -1;
        }
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &bound_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int status = PyModule_AddObjectRef(module, "Bound", type);
    Py_DECREF(type);
    return status;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    if (state) {
        Py_VISIT(state->python);
    }
    return 0;
}

static void release(void *module)
{
    module_state *state = PyModule_GetState(module);
    if (state) {
        Py_CLEAR(state->python);
        free(state->doc);
        state->doc = NULL;
    }
}

static PyMethodDef functions[] = {
    {"accelerate", accelerate, METH_VARARGS, accelerate_doc},
    {"run_plan", (PyCFunction)(void (*)(void))run_plan, METH_FASTCALL, run_plan_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fast",
    .m_doc = "Calls that cost almost nothing; see _fast.c and _calls.py.",
    .m_size = sizeof(module_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__fast(void);
PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
