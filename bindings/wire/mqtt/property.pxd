# C types for Cython, of the functions that every PUBLISH goes through (docs/adr/0012-compiled-modules.md).
cimport cython


@cython.locals(value=Py_ssize_t, shift=Py_ssize_t, byte=Py_ssize_t)
cpdef tuple read_varint(bytes buffer, Py_ssize_t pos)


@cython.locals(start=Py_ssize_t, end=Py_ssize_t, text=str)
cpdef tuple read_text(bytes buffer, Py_ssize_t pos)


@cython.locals(length=Py_ssize_t, stop=Py_ssize_t, block=bytes, text=str, values=list, names=tuple)
cpdef tuple read_properties(bytes buffer, Py_ssize_t pos, Py_ssize_t end, place)


@cython.locals(
    length=Py_ssize_t, pos=Py_ssize_t, start=Py_ssize_t, middle=Py_ssize_t, begin=Py_ssize_t,
    name=str, value=str, found=dict, values=list, names=tuple, marks=list, others=list,
    known=Py_ssize_t, count=Py_ssize_t, user=Py_ssize_t,
)
cpdef tuple _read_one_by_one(bytes block, str text, place)


cpdef Py_ssize_t _read_property(bytes buffer, Py_ssize_t pos, place, dict found) except -1


cpdef bytes write_varint(Py_ssize_t value)


@cython.locals(encoded=bytes)
cpdef bytes write_text(str text)


cpdef bytes write_binary(bytes data)


@cython.locals(parts=list, block=bytes)
cpdef bytes write_properties(properties, user=*)
