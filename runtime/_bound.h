/* _bound.h - the type Bound: a C function with its argument, called from Python without arguments. Part of _fast.c. */
#ifndef TW_BOUND_H
#define TW_BOUND_H

typedef struct {
    PyObject_HEAD vectorcallfunc vectorcall;
    int (*function)(void *argument);
    void *argument;
    PyObject *keep, *result, *failed;
    bool unlock;
} bound;

static PyObject *bound_run(bound *self)
{
    int status;
    if (self->unlock) {
        Py_INCREF(self); /* another thread may drop what its caller holds */
        Py_BEGIN_ALLOW_THREADS status = self->function(self->argument);
        Py_END_ALLOW_THREADS Py_DECREF(self);
    } else {
        status = self->function(self->argument);
    }
    if (status != 0) {
        if (self->failed != Py_None) {
            return PyObject_CallFunction(self->failed, "i", status);
        }
        PyErr_Format(PyExc_RuntimeError, "Bound: the function returned status %d.", status);
        return NULL;
    }
    Py_INCREF(self->result);
    return self->result;
}

static PyObject *bound_vectorcall(PyObject *self, PyObject *const *Py_UNUSED(args), size_t count, PyObject *keywords)
{
    if ((count << 1) != 0 || (keywords && PyTuple_Size(keywords))) { /* the highest bit is a flag */
        PyErr_SetString(PyExc_TypeError, "Bound: it is called without arguments; all of them are bound.");
        return NULL;
    }
    return bound_run((bound *)self);
}

static PyObject *bound_call(PyObject *self, PyObject *args, PyObject *keywords)
{
    size_t count = (size_t)PyTuple_Size(args) + (keywords ? (size_t)PyDict_Size(keywords) : 0);
    return bound_vectorcall(self, NULL, count, NULL);
}

static PyObject *bound_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *fields[] = {"function", "argument", "keep", "result", "failed", "unlock", NULL};
    PyObject *function, *argument, *keep, *result = Py_None, *failed = Py_None;
    int unlock = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!O|OOp:Bound", fields, &PyLong_Type, &function, &PyLong_Type,
                                     &argument, &keep, &result, &failed, &unlock)) {
        return NULL;
    }
    void *code = PyLong_AsVoidPtr(function), *data = PyErr_Occurred() ? NULL : PyLong_AsVoidPtr(argument);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (code == NULL || (failed != Py_None && !PyCallable_Check(failed))) {
        PyErr_SetString(PyExc_ValueError, code ? "Bound: failed is neither None nor callable."
                                               : "Bound: function is 0; it must be the address of a C function.");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    bound *self = (bound *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = bound_vectorcall;
    memcpy(&self->function, &code, sizeof code); /* ISO C has no cast from an object pointer to a function's */
    self->argument = data;
    Py_INCREF(keep);
    Py_INCREF(result);
    Py_INCREF(failed);
    self->keep = keep;
    self->result = result;
    self->failed = failed;
    self->unlock = unlock;
    return (PyObject *)self;
}

static int bound_traverse(PyObject *object, visitproc visit, void *arg)
{
    bound *self = (bound *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->keep);
    Py_VISIT(self->result);
    Py_VISIT(self->failed);
    return 0;
}

/* No tp_clear: an object that can be called must keep what it points at. A cycle through `keep` is broken elsewhere. */
static void bound_dealloc(PyObject *object)
{
    bound *self = (bound *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF(self->keep);
    Py_XDECREF(self->result);
    Py_XDECREF(self->failed);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(bound_doc,
             "Bound(function, argument, keep, result=None, failed=None, unlock=False)\n--\n\n"
             "A C function with its argument: a call without arguments, and nothing is looked at.\n\n"
             "Parameters\n----------\n"
             "function : int\n    Address of an ``int function(void *)`` that returns 0, or a status.\n"
             "argument : int\n    What it is called with: mostly the address of a struct.\n"
             "keep : object\n    Referred to as long as this lives: the arrays and the memory of the struct.\n"
             "result : object\n    What a call returns, where the status is 0.\n"
             "failed : function(status), optional\n    Called for any other status, to raise; else RuntimeError.\n"
             "unlock : bool\n    Release Python's lock during the call: some 40 ns, right for large products.");

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(bound, vectorcall), READONLY, NULL},
    {"keep", T_OBJECT, offsetof(bound, keep), READONLY, "What is kept alive."},
    {"result", T_OBJECT, offsetof(bound, result), READONLY, "What a call returns."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_new, bound_new},
    {Py_tp_call, bound_call},
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_members, bound_members},
    {Py_tp_doc, (void *)bound_doc},
    {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "tilewright.runtime._fast.Bound",
    .basicsize = sizeof(bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bound_slots,
};

#endif
