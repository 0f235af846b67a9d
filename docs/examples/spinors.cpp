// The Pauli matrices anticommute; complex products in C++, by both interfaces.
// c++ spinors.cpp $(pkg-config --cflags --libs tilewright tilewright_blas)
#include <array>
#include <complex>
#include <cstdio>
#include <stdexcept>
#include <tilewright.h>
#include <tilewright_cblas.h>

using Complex = std::complex<double>;
using Matrix = std::array<Complex, 4>; // 2 x 2, row-major

static Matrix product(const Matrix &a, const Matrix &b)
{
    Matrix c;
    const Complex one = 1, zero = 0;
    if (tw_zgemm(TW_ROW_MAJOR, 'N', 'N', 2, 2, 2, &one, a.data(), 2, b.data(), 2, &zero, c.data(), 2) != TW_OK) {
        throw std::runtime_error(tw_error_message());
    }
    return c;
}

int main()
{
    const Complex i(0, 1), one = 1;
    const Matrix x{0, 1, 1, 0}, y{0, -i, i, 0};
    Matrix sum = product(x, y);
    cblas_zgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 2, 2, 2, &one, y.data(), 2, x.data(), 2, &one, sum.data(),
                2);
    std::printf("x y + y x = %g %g %g %g\n", std::abs(sum[0]), std::abs(sum[1]), std::abs(sum[2]), std::abs(sum[3]));
    const Matrix z = product(x, y);
    std::printf("x y = i z: z = (%g, %g; %g, %g)\n", (z[0] / i).real(), std::abs(z[1]), std::abs(z[2]),
                (z[3] / i).real());
    return 0;
}
