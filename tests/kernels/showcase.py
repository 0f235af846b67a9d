"""A few kernels of each ISA that stand for the rest: golden files, compilers, determinism."""

SHOWCASE = [
    "gemm_d_nn_4x4__scalar",
    "gemm_c_cn_2x2__scalar",
    "gemm_s_nn_16x4__neon",
    "gemm_d_tn_4x4__neon",
    "gemm_z_nc_4x4__neon",
    "gemm_z_tn_3x3__neon_paired",
    "gemm_c_nc_4x3__fcma",
    "gemm_z_tn_2x3__fcma",
    "gemm_d_nn_12x4_yyy__avx2",
    "gemm_s_tn_4x4__avx2",
    "gemm_c_nt_4x3_ym__avx2",
    "gemm_s_nn_32x8_zz__avx512",
    "gemm_d_tt_4x12_zym__avx512",
    "gemm_z_nt_8x2_zzm__avx512",
]
