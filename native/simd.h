// Vectors of one instruction set: the widest that the file is compiled for.
//
// Included by the kernels only, which are compiled once per instruction set (CMakeLists.txt). All
// is static or in the namespace CROSSENT_ISA, so that the linker can never hand an AVX-512 copy of
// a function to an older processor; tests/test_native_symbols.py looks at the symbols.
//
//   Vf  floats,  Vf::W lanes        Vd  doubles, Vd::W lanes (half as many)
//
// max(a, b) returns b where either is NaN: max(limit, x) lets a NaN in x through, max(x, peak)
// leaves it out of the peak. lookup(table, k) reads entry (k mod K): the integer is in the low bits
// of k. Doubles in short vectors have K = 1, and a longer polynomial instead.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "floating_point.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef CROSSENT_ISA
#error "CROSSENT_ISA names the namespace of this instruction set"
#endif

#define CROSSENT_INLINE static inline __attribute__((always_inline))
#define CROSSENT_MEMBER inline __attribute__((always_inline))

namespace crossent {
namespace CROSSENT_ISA {

typedef uint16_t half_bits;  // float16
struct bfloat_bits {
    uint16_t bits;
};

// ---- one number

CROSSENT_INLINE float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

CROSSENT_INLINE double double_of_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

CROSSENT_INLINE uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

CROSSENT_INLINE float widened(float x) { return x; }
CROSSENT_INLINE double widened(double x) { return x; }
CROSSENT_INLINE float widened(bfloat_bits x) { return float_of_bits(uint32_t(x.bits) << 16); }

CROSSENT_INLINE void narrow(float x, float* to) { *to = x; }
CROSSENT_INLINE void narrow(double x, double* to) { *to = x; }

CROSSENT_INLINE void narrow(float x, bfloat_bits* to) {
    const uint32_t bits = bits_of_float(x);
    // To nearest, ties to even; a NaN keeps its quiet bit and must not carry into infinity.
    to->bits =
        x != x ? uint16_t(bits >> 16 | 0x40) : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#if defined(__aarch64__)

// One instruction each.
CROSSENT_INLINE float widened(half_bits x) {
    __fp16 half;
    memcpy(&half, &x, sizeof half);
    return half;
}

CROSSENT_INLINE void narrow(float x, half_bits* to) {
    const __fp16 half = x;
    memcpy(to, &half, sizeof half);
}

#else

CROSSENT_INLINE float widened(half_bits x) {
    const uint32_t sign = uint32_t(x & 0x8000) << 16, rest = x & 0x7fff;
    if (rest >= 0x7c00) {  // infinity or NaN
        return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    }
    // The exponent is corrected by a multiplication, which also normalises subnormals.
    const float magnitude = float_of_bits(rest << 13) * 0x1p112f;
    return float_of_bits(sign | bits_of_float(magnitude));
}

CROSSENT_INLINE void narrow(float x, half_bits* to) {
    const uint32_t bits = bits_of_float(x), rest = bits & 0x7fffffff;
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    if (rest > 0x7f800000) {
        *to = uint16_t(sign | 0x7e00);
    } else if (rest >= 0x477ff000) {  // 65520 and above round to infinity
        *to = uint16_t(sign | 0x7c00);
    } else if (rest < 0x38800000) {  // below 2^-14: the adder rounds to multiples of 2^-24
        *to = uint16_t(sign | (bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000));
    } else {
        *to = uint16_t(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
    }
}

#endif

// ---- vectors

#if defined(__AVX512F__)

struct Vf {
    typedef float T;
    typedef __m512 vec;
    enum { W = 16, K = 16, LogK = 4 };
    CROSSENT_INLINE vec set(float x) { return _mm512_set1_ps(x); }
    CROSSENT_INLINE vec load(const float* p) { return _mm512_loadu_ps(p); }
    CROSSENT_INLINE vec load(const half_bits* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
    }
    CROSSENT_INLINE vec load(const bfloat_bits* p) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    CROSSENT_INLINE void store(float* p, vec x) { _mm512_storeu_ps(p, x); }
    CROSSENT_INLINE void store(half_bits* p, vec x) {
        _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    CROSSENT_INLINE void store(bfloat_bits* p, vec x) {
        _mm256_storeu_si256((__m256i*)p, rounded_to_bfloat(x));
    }
    CROSSENT_INLINE void stream(float* p, vec x) { _mm512_stream_ps(p, x); }
    CROSSENT_INLINE void stream(half_bits* p, vec x) {
        _mm256_stream_si256((__m256i*)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    CROSSENT_INLINE void stream(bfloat_bits* p, vec x) {
        _mm256_stream_si256((__m256i*)p, rounded_to_bfloat(x));
    }
    CROSSENT_INLINE vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
    CROSSENT_INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
    CROSSENT_INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
    CROSSENT_INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
    CROSSENT_INLINE bool any_above(vec a, vec b) {
        return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
    }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) {
        return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
    }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) {
        return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
    }
    // where a == b: 0, else x
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), x);
    }
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        return _mm512_permutexvar_ps(_mm512_castps_si512(k), table);
    }
    // The bits of a float, plus (integer in the low bits of k) << shift.
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return _mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(k), shift)));
    }

  private:
    CROSSENT_INLINE __m256i rounded_to_bfloat(vec x) {
        const __m512i bits = _mm512_castps_si512(x);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        const __m512i nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
        const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        const __m512i rounded = _mm512_mask_mov_epi32(up, is_nan, nan);
        return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
    }
};

struct Vd {
    typedef double T;
    typedef __m512d vec;
    enum { W = 8, K = 8, LogK = 3 };
    CROSSENT_INLINE vec set(double x) { return _mm512_set1_pd(x); }
    CROSSENT_INLINE vec load(const double* p) { return _mm512_loadu_pd(p); }
    CROSSENT_INLINE vec load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
    CROSSENT_INLINE vec load(const half_bits* p) {
        return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
    }
    CROSSENT_INLINE vec load(const bfloat_bits* p) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
        return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
    CROSSENT_INLINE void store(double* p, vec x) { _mm512_storeu_pd(p, x); }
    CROSSENT_INLINE void store(float* p, vec x) { _mm256_storeu_ps(p, _mm512_cvtpd_ps(x)); }
    CROSSENT_INLINE void stream(double* p, vec x) { _mm512_stream_pd(p, x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return _mm512_max_pd(a, b); }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return _mm512_fnmadd_pd(a, b, c); }
    CROSSENT_INLINE vec mul(vec a, vec b) { return _mm512_mul_pd(a, b); }
    CROSSENT_INLINE vec add(vec a, vec b) { return _mm512_add_pd(a, b); }
    CROSSENT_INLINE vec sub(vec a, vec b) { return _mm512_sub_pd(a, b); }
    CROSSENT_INLINE vec div(vec a, vec b) { return _mm512_div_pd(a, b); }
    CROSSENT_INLINE bool any_above(vec a, vec b) {
        return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ) != 0;
    }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) {
        return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ);
    }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) {
        return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
    }
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) {
        return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ), x);
    }
    // where a > b (false for NaN): x, else y
    CROSSENT_INLINE vec where_above(vec a, vec b, vec x, vec y) {
        return _mm512_mask_mov_pd(y, _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ), x);
    }
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        return _mm512_permutexvar_pd(_mm512_castpd_si512(k), table);
    }
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return _mm512_castsi512_pd(_mm512_add_epi64(
            _mm512_castpd_si512(a), _mm512_slli_epi64(_mm512_castpd_si512(k), shift)));
    }
    CROSSENT_INLINE vec low_half(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
    CROSSENT_INLINE vec high_half(__m512 x) {
        return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    }
    CROSSENT_INLINE __m512 joined(vec low, vec high) {
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)),
                                  _mm512_cvtpd_ps(high), 1);
    }
};

CROSSENT_INLINE void stream_done() { _mm_sfence(); }

#elif defined(__AVX2__) && defined(__FMA__)

struct Vf {
    typedef float T;
    typedef __m256 vec;
    enum { W = 8, K = 8, LogK = 3 };
    CROSSENT_INLINE vec set(float x) { return _mm256_set1_ps(x); }
    CROSSENT_INLINE vec load(const float* p) { return _mm256_loadu_ps(p); }
    CROSSENT_INLINE vec load(const half_bits* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
    }
    CROSSENT_INLINE vec load(const bfloat_bits* p) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    CROSSENT_INLINE void store(float* p, vec x) { _mm256_storeu_ps(p, x); }
    CROSSENT_INLINE void store(half_bits* p, vec x) {
        _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    CROSSENT_INLINE void store(bfloat_bits* p, vec x) {
        _mm_storeu_si128((__m128i*)p, rounded_to_bfloat(x));
    }
    CROSSENT_INLINE void stream(float* p, vec x) { _mm256_stream_ps(p, x); }
    CROSSENT_INLINE void stream(half_bits* p, vec x) {
        _mm_stream_si128((__m128i*)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    CROSSENT_INLINE void stream(bfloat_bits* p, vec x) {
        _mm_stream_si128((__m128i*)p, rounded_to_bfloat(x));
    }
    CROSSENT_INLINE vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
    CROSSENT_INLINE vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
    CROSSENT_INLINE vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
    CROSSENT_INLINE vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
    CROSSENT_INLINE bool any_above(vec a, vec b) { return lanes_above(a, b) != 0; }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) {
        return unsigned(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
    }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) {
        return unsigned(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
    }
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) {
        return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ), x);
    }
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        return _mm256_permutevar8x32_ps(table, _mm256_castps_si256(k));
    }
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(k), shift)));
    }

  private:
    CROSSENT_INLINE __m128i rounded_to_bfloat(vec x) {
        const __m256i bits = _mm256_castps_si256(x);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
        const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
        const __m256i rounded = _mm256_castps_si256(
            _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(nan), is_nan));
        const __m256i high = _mm256_srli_epi32(rounded, 16);
        return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    }
};

struct Vd {
    typedef double T;
    typedef __m256d vec;
    enum { W = 4, K = 1, LogK = 0 };
    CROSSENT_INLINE vec set(double x) { return _mm256_set1_pd(x); }
    CROSSENT_INLINE vec load(const double* p) { return _mm256_loadu_pd(p); }
    CROSSENT_INLINE vec load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
    CROSSENT_INLINE vec load(const half_bits* p) {
        return _mm256_cvtps_pd(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p)));
    }
    CROSSENT_INLINE vec load(const bfloat_bits* p) {
        const __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p));
        return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(wide, 16)));
    }
    CROSSENT_INLINE void store(double* p, vec x) { _mm256_storeu_pd(p, x); }
    CROSSENT_INLINE void store(float* p, vec x) { _mm_storeu_ps(p, _mm256_cvtpd_ps(x)); }
    CROSSENT_INLINE void stream(double* p, vec x) { _mm256_stream_pd(p, x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return _mm256_max_pd(a, b); }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return _mm256_fnmadd_pd(a, b, c); }
    CROSSENT_INLINE vec mul(vec a, vec b) { return _mm256_mul_pd(a, b); }
    CROSSENT_INLINE vec add(vec a, vec b) { return _mm256_add_pd(a, b); }
    CROSSENT_INLINE vec sub(vec a, vec b) { return _mm256_sub_pd(a, b); }
    CROSSENT_INLINE vec div(vec a, vec b) { return _mm256_div_pd(a, b); }
    CROSSENT_INLINE bool any_above(vec a, vec b) { return lanes_above(a, b) != 0; }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) {
        return unsigned(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)));
    }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) {
        return unsigned(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_GT_OQ)));
    }
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) {
        return _mm256_and_pd(_mm256_cmp_pd(a, b, _CMP_NEQ_UQ), x);
    }
    CROSSENT_INLINE vec where_above(vec a, vec b, vec x, vec y) {
        return _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_GT_OQ));
    }
    CROSSENT_INLINE vec lookup(vec table, vec) { return table; }
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return _mm256_castsi256_pd(_mm256_add_epi64(
            _mm256_castpd_si256(a), _mm256_slli_epi64(_mm256_castpd_si256(k), shift)));
    }
    CROSSENT_INLINE vec low_half(__m256 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
    CROSSENT_INLINE vec high_half(__m256 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
    CROSSENT_INLINE __m256 joined(vec low, vec high) {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)),
                                    _mm256_cvtpd_ps(high), 1);
    }
};

CROSSENT_INLINE void stream_done() { _mm_sfence(); }

#else

// 16 bytes in GCC's and Clang's vector extensions: x86-64-v2, arm64, and any other processor.
typedef float floats4 __attribute__((vector_size(16)));
typedef double doubles2 __attribute__((vector_size(16)));
typedef int32_t ints4 __attribute__((vector_size(16)));
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef int64_t ints2 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

struct Vf {
    typedef float T;
    typedef floats4 vec;
    enum { W = 4, K = 4, LogK = 2 };
    CROSSENT_INLINE vec set(float x) { return (vec){x, x, x, x}; }
    CROSSENT_INLINE vec load(const float* p) {
        vec x;
        memcpy(&x, p, sizeof x);
        return x;
    }
    CROSSENT_INLINE vec load(const bfloat_bits* p) {
        return (vec){widened(p[0]), widened(p[1]), widened(p[2]), widened(p[3])};
    }
    CROSSENT_INLINE void store(float* p, vec x) { memcpy(p, &x, sizeof x); }
    template <class U>
    CROSSENT_INLINE void store(U* p, vec x) {
        for (int i = 0; i < W; ++i) narrow(x[i], p + i);
    }
#if defined(__SSE2__)
    CROSSENT_INLINE void stream(float* p, vec x) { _mm_stream_ps(p, (__m128)x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return (vec)_mm_max_ps((__m128)a, (__m128)b); }
#else
    CROSSENT_INLINE void stream(float* p, vec x) { store(p, x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
#endif
    template <class U>
    CROSSENT_INLINE void stream(U* p, vec x) {
        store(p, x);
    }
#if defined(__aarch64__)
    CROSSENT_INLINE vec load(const half_bits* p) {
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    }
    CROSSENT_INLINE void store(half_bits* p, vec x) {
        vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
    }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
#else
    CROSSENT_INLINE vec load(const half_bits* p) {
        return (vec){widened(p[0]), widened(p[1]), widened(p[2]), widened(p[3])};
    }
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return c - a * b; }
#endif
    CROSSENT_INLINE vec mul(vec a, vec b) { return a * b; }
    CROSSENT_INLINE vec add(vec a, vec b) { return a + b; }
    CROSSENT_INLINE vec sub(vec a, vec b) { return a - b; }
    CROSSENT_INLINE unsigned mask(ints4 m) {
        return unsigned((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8));
    }
    CROSSENT_INLINE bool any_above(vec a, vec b) { return mask(a > b) != 0; }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) { return mask(a == b); }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) { return mask(a > b); }
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) { return (vec)((ints4)x & (a != b)); }
    // By bytes: number i of the table is its bytes 4 i to 4 i + 3.
#if defined(__SSSE3__)
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        const words4 places = {0, 0x04040404, 0x08080808, 0x0c0c0c0c};
        const __m128i first = _mm_shuffle_epi8((__m128i)(((words4)k & 3) << 2), (__m128i)places);
        return (vec)_mm_shuffle_epi8((__m128i)table, (__m128i)((words4)first + 0x03020100));
    }
#elif defined(__aarch64__)
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        const words4 bytes = ((words4)k & 3) * 0x04040404 + 0x03020100;
        return (vec)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)bytes);
    }
#else
    CROSSENT_INLINE vec lookup(vec table, vec k) {
        const words4 i = (words4)k & 3;
        return (vec){table[i[0]], table[i[1]], table[i[2]], table[i[3]]};
    }
#endif
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return (vec)((words4)a + ((words4)k << shift));
    }
};

struct Vd {
    typedef double T;
    typedef doubles2 vec;
    enum { W = 2, K = 1, LogK = 0 };
    CROSSENT_INLINE vec set(double x) { return (vec){x, x}; }
    CROSSENT_INLINE vec load(const double* p) {
        vec x;
        memcpy(&x, p, sizeof x);
        return x;
    }
    template <class U>
    CROSSENT_INLINE vec load(const U* p) {
        return (vec){double(widened(p[0])), double(widened(p[1]))};
    }
    CROSSENT_INLINE void store(double* p, vec x) { memcpy(p, &x, sizeof x); }
    CROSSENT_INLINE void store(float* p, vec x) {
        p[0] = float(x[0]);
        p[1] = float(x[1]);
    }
#if defined(__SSE2__)
    CROSSENT_INLINE void stream(double* p, vec x) { _mm_stream_pd(p, (__m128d)x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return (vec)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
    CROSSENT_INLINE void stream(double* p, vec x) { store(p, x); }
    CROSSENT_INLINE vec max(vec a, vec b) { return a > b ? a : b; }
#endif
#if defined(__aarch64__)
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return vfmsq_f64(c, a, b); }
#else
    CROSSENT_INLINE vec fma(vec a, vec b, vec c) { return a * b + c; }
    CROSSENT_INLINE vec fnma(vec a, vec b, vec c) { return c - a * b; }
#endif
    CROSSENT_INLINE vec mul(vec a, vec b) { return a * b; }
    CROSSENT_INLINE vec add(vec a, vec b) { return a + b; }
    CROSSENT_INLINE vec sub(vec a, vec b) { return a - b; }
    CROSSENT_INLINE vec div(vec a, vec b) { return a / b; }
    CROSSENT_INLINE unsigned mask(ints2 m) { return unsigned((m[0] & 1) | (m[1] & 2)); }
    CROSSENT_INLINE bool any_above(vec a, vec b) { return mask(a > b) != 0; }
    CROSSENT_INLINE unsigned equal_lanes(vec a, vec b) { return mask(a == b); }
    CROSSENT_INLINE unsigned lanes_above(vec a, vec b) { return mask(a > b); }
    CROSSENT_INLINE vec zero_where_equal(vec a, vec b, vec x) { return (vec)((ints2)x & (a != b)); }
    CROSSENT_INLINE vec where_above(vec a, vec b, vec x, vec y) {
        const ints2 above = a > b;
        return (vec)(((ints2)x & above) | ((ints2)y & ~above));
    }
    CROSSENT_INLINE vec lookup(vec table, vec) { return table; }
    template <int shift>
    CROSSENT_INLINE vec add_exponent(vec a, vec k) {
        return (vec)((words2)a + ((words2)k << shift));
    }
    CROSSENT_INLINE vec low_half(floats4 x) { return (vec){x[0], x[1]}; }
    CROSSENT_INLINE vec high_half(floats4 x) { return (vec){x[2], x[3]}; }
    CROSSENT_INLINE floats4 joined(vec low, vec high) {
        return (floats4){float(low[0]), float(low[1]), float(high[0]), float(high[1])};
    }
};

CROSSENT_INLINE void stream_done() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif

// ---- signs

typedef int64_t sign_bits __attribute__((vector_size(sizeof(Vd::vec))));
CROSSENT_INLINE Vd::vec minus_abs(Vd::vec x) { return (Vd::vec)((sign_bits)x | INT64_MIN); }
CROSSENT_INLINE Vd::vec abs(Vd::vec x) { return (Vd::vec)((sign_bits)x & INT64_MAX); }
CROSSENT_INLINE Vd::vec with_sign_of(Vd::vec sign, Vd::vec magnitude) {
    return (Vd::vec)(((sign_bits)sign & INT64_MIN) | (sign_bits)magnitude);
}

// ---- all lanes of a vector

template <class V>
CROSSENT_INLINE typename V::T highest_of(typename V::vec x) {
    typename V::T lanes[V::W];
    V::store(lanes, x);
    for (int n = V::W / 2; n > 0; n /= 2) {
        for (int i = 0; i < n; ++i) lanes[i] = lanes[i + n] > lanes[i] ? lanes[i + n] : lanes[i];
    }
    return lanes[0];
}

CROSSENT_INLINE float highest(Vf::vec x) { return highest_of<Vf>(x); }
CROSSENT_INLINE double highest(Vd::vec x) { return highest_of<Vd>(x); }

CROSSENT_INLINE double sum_of_lanes(Vd::vec x) {
    double lanes[Vd::W];
    Vd::store(lanes, x);
    // Pairwise, in an order of its own: the same for every call.
    for (int n = Vd::W / 2; n > 0; n /= 2) {
        for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
    }
    return lanes[0];
}

}  // namespace CROSSENT_ISA
}  // namespace crossent
