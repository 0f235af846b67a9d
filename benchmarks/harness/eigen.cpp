// eigen.cpp - Eigen's products of one type (-DTYPE=...), to be called by pointer: Maps of any size in all four modes, and
// Maps of the sizes in EIGEN_SIZES known to the compiler. Everything dense and row-major.
#include <Eigen/Core>
#include <complex>
#include <cstring>

namespace
{

template <typename T, int Rows, int Cols>
using Stored = Eigen::Matrix<T, Rows, Cols, (Cols == 1 && Rows != 1) ? Eigen::ColMajor : Eigen::RowMajor>;
template <typename T, int Rows, int Cols> using In = Eigen::Map<const Stored<T, Rows, Cols>>;
template <typename T, int Rows, int Cols> using Out = Eigen::Map<Stored<T, Rows, Cols>>;

template <typename T, int Size, bool TransA, bool TransB>
void product(const void *va, const void *vb, void *vc, int m, int n, int k)
{
    const T *a = static_cast<const T *>(va), *b = static_cast<const T *>(vb);
    Out<T, Size, Size> c(static_cast<T *>(vc), m, n);
    In<T, Size, Size> left(a, TransA ? k : m, TransA ? m : k), right(b, TransB ? n : k, TransB ? k : n);
    if constexpr (TransA && TransB)
        c.noalias() = left.transpose() * right.transpose();
    else if constexpr (TransA)
        c.noalias() = left.transpose() * right;
    else if constexpr (TransB)
        c.noalias() = left * right.transpose();
    else
        c.noalias() = left * right;
}

using Function = void (*)(const void *, const void *, void *, int, int, int);

template <int Size> Function of_mode(bool ta, bool tb)
{
    if (ta)
        return tb ? product<TYPE, Size, true, true> : product<TYPE, Size, true, false>;
    return tb ? product<TYPE, Size, false, true> : product<TYPE, Size, false, false>;
}

} // namespace

extern "C" {
// The product of one mode; size 0: of any sizes. Null where that fixed size was not compiled.
Function bench_eigen(int size, int transa, int transb);
const char *bench_eigen_version();
}

Function bench_eigen(int size, int transa, int transb)
{
    const bool ta = transa == 'T', tb = transb == 'T';
    switch (size) {
    case 0:
        return of_mode<Eigen::Dynamic>(ta, tb);
#define FIXED(n)                                                                                                       \
    case n:                                                                                                            \
        return of_mode<n>(ta, tb);
        EIGEN_SIZES
    default:
        return nullptr;
    }
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
const char *bench_eigen_version()
{
    return TEXT(EIGEN_WORLD_VERSION) "." TEXT(EIGEN_MAJOR_VERSION) "." TEXT(EIGEN_MINOR_VERSION);
}
