// exp(x - reference) of a vector as a sum of two terms, t + t p, with |p| small; and log1p.
//
// x = k ln2 / K + r with an integer k = K n + i: t = 2^(n + i/K) comes from a table of K entries
// and an addition to the exponent bits, and p = exp(r) - 1 is a short polynomial. x itself is
// reduced, not x - reference: that difference, rounded to float32, cost 62 ulp. Kept apart, t and t
// p sum with hardly a rounding: all of t's digits are right, and p adds 2^-24 |p| (test: confident
// rows).
//
// t is scaled by 2^kBias, so that what is far below the reference stays a normal number.
#pragma once

#include "simd.h"

namespace crossent {
namespace CROSSENT_ISA {

template <class V>
struct ExpFormat;

template <>
struct ExpFormat<Vf> {
    enum { MantissaBits = 23, ExponentBias = 127, Bias = 60 };
    // Beyond, x - reference is exact wherever exp of it is not 0 (Sterbenz).
    static constexpr float kLargestReduced = 700;
    // How far above the reference x may lie: 2^(60 + 44) times a block of terms is no overflow.
    static constexpr float kHeadroom = 30;
};

template <>
struct ExpFormat<Vd> {
    enum { MantissaBits = 52, ExponentBias = 1023, Bias = 500 };
    static constexpr double kLargestReduced = 4096;
    static constexpr double kHeadroom = 30;
};

// 2^(i/K) rounded to 9 bits, so that sums of like terms are exact, less i in the bits where
// exp_terms adds k = K n + i to make 2^n of it.
CROSSENT_INLINE Vf::vec exp_table(Vf) {
#if defined(__AVX512F__)
    static const float t[16] = {0x1.0p+0f,  0x1.fbp-1f, 0x1.f7p-1f, 0x1.f4p-1f,
                                0x1.fp-1f,  0x1.eep-1f, 0x1.ecp-1f, 0x1.ebp-1f,
                                0x1.eap-1f, 0x1.eap-1f, 0x1.ebp-1f, 0x1.ecp-1f,
                                0x1.efp-1f, 0x1.f2p-1f, 0x1.f6p-1f, 0x1.fap-1f};
    return Vf::load(t);
#elif defined(__AVX2__)
    static const float t[8] = {0x1.0p+0f,  0x1.f7p-1f, 0x1.fp-1f,  0x1.ecp-1f,
                               0x1.eap-1f, 0x1.ebp-1f, 0x1.efp-1f, 0x1.f6p-1f};
    return Vf::load(t);
#else
    static const float t[4] = {0x1.0p+0f, 0x1.fp-1f, 0x1.eap-1f, 0x1.efp-1f};
    return Vf::load(t);
#endif
}

// The logarithm of what that rounding lost.
CROSSENT_INLINE Vf::vec exp_table_rest(Vf) {
#if defined(__AVX512F__)
    static const float rest[16] = {0.0f,
                                   0x1.47ce9ep-10f,
                                   0x1.3f52aep-11f,
                                   -0x1.a661ecp-10f,
                                   0x1.789472p-10f,
                                   -0x1.1656aep-12f,
                                   -0x1.ca8cep-16f,
                                   -0x1.d57874p-11f,
                                   0x1.c00c4p-14f,
                                   0x1.766bd2p-13f,
                                   -0x1.01998ap-11f,
                                   0x1.6b3798p-11f,
                                   -0x1.188ff2p-10f,
                                   -0x1.d1989ap-11f,
                                   -0x1.13a2c6p-10f,
                                   0x1.3947dp-11f};
    return Vf::load(rest);
#elif defined(__AVX2__)
    static const float rest[8] = {
        0.0f,           0x1.3f52aep-11f,  0x1.789472p-10f,  -0x1.ca8cep-16f,
        0x1.c00c4p-14f, -0x1.01998ap-11f, -0x1.188ff2p-10f, -0x1.13a2c6p-10f};
    return Vf::load(rest);
#else
    static const float rest[4] = {0.0f, 0x1.789472p-10f, 0x1.c00c4p-14f, -0x1.188ff2p-10f};
    return Vf::load(rest);
#endif
}

CROSSENT_INLINE Vd::vec exp_table(Vd) {
#if defined(__AVX512F__)
    static const double t[8] = {0x1.0p+0,
                                0x1.f72b83c7d517bp-1,
                                0x1.f06fe0a31b715p-1,
                                0x1.ebfdad5362a27p-1,
                                0x1.ea09e667f3bcdp-1,
                                0x1.eace5422aa0dbp-1,
                                0x1.ee89f995ad3adp-1,
                                0x1.f5818dcfba487p-1};
    return Vd::load(t);
#else
    return Vd::set(1);
#endif
}

CROSSENT_INLINE Vd::vec exp_table_rest(Vd) { return Vd::set(0); }

// Adding it rounds to a multiple of 1/K, its last bit, and leaves the integer k in the low bits.
CROSSENT_INLINE float rounding_constant(Vf) { return float(3 << (22 - Vf::LogK)); }
CROSSENT_INLINE double rounding_constant(Vd) { return double(int64_t(3) << (51 - Vd::LogK)); }

// x - n ln2, to about 2^-30 (2^-60): ln2 in parts, the first of them short enough without an fma.
CROSSENT_INLINE Vf::vec reduced(Vf::vec n, Vf::vec x) {
#if defined(__FMA__) || defined(__aarch64__)
    return Vf::fnma(n, Vf::set(-0x1.05c610p-29f), Vf::fnma(n, Vf::set(0x1.62e430p-1f), x));
#else
    const Vf::vec r = Vf::fnma(n, Vf::set(0x1.0bep-15f), Vf::fnma(n, Vf::set(0x1.62ep-1f), x));
    return Vf::fnma(n, Vf::set(0x1.be8e7cp-27f), r);
#endif
}

CROSSENT_INLINE Vd::vec reduced(Vd::vec n, Vd::vec x) {
#if defined(__FMA__) || defined(__aarch64__)
    return Vd::fnma(n, Vd::set(0x1.abc9e3b39803fp-56),
                    Vd::fnma(n, Vd::set(0x1.62e42fefa39efp-1), x));
#else
    const Vd::vec r =
        Vd::fnma(n, Vd::set(0x1.9ef35793c6p-41), Vd::fnma(n, Vd::set(0x1.62e42fefa2p-1), x));
    return Vd::fnma(n, Vd::set(0x1.673007e5ed5e8p-81), r);
#endif
}

// exp(r) - 1 for |r| <= ln2 / (2 K). Taylor's coefficients, the last even or odd one moved so that
// it covers the first term left out: a r^m in place of r^(m+2)/(m+2)!, with a = 0.828 R^2 (from the
// best c in |y^2 - c y| on [0, R^2]), leaves 0.17 of that term's maximum.
CROSSENT_INLINE Vf::vec exp_minus_one(Vf::vec r) {
#if defined(__AVX512F__)  // R = 0.0236
    const Vf::vec q = Vf::fma(r, Vf::set(1 / 6.0f), Vf::set(0.50001925f));
#elif defined(__AVX2__)  // R = 0.0433
    const Vf::vec q =
        Vf::fma(r, Vf::fma(r, Vf::set(1 / 24.0f), Vf::set(0.166680815f)), Vf::set(0.5f));
#else                    // R = 0.0866
    Vf::vec q = Vf::fma(r, Vf::set(1 / 120.0f), Vf::set(0.04167530f));
    q = Vf::fma(r, q, Vf::set(1 / 6.0f));
    q = Vf::fma(r, q, Vf::set(0.5f));
#endif
    return Vf::fma(Vf::mul(r, r), q, r);
}

CROSSENT_INLINE Vd::vec exp_minus_one(Vd::vec r) {
#if defined(__AVX512F__)  // R = 0.0433
    Vd::vec q = Vd::set(1 / 40320.0);
#else  // R = 0.3466
    Vd::vec q = Vd::set(1 / 6227020800.0);
    q = Vd::fma(r, q, Vd::set(1 / 479001600.0));
    q = Vd::fma(r, q, Vd::set(1 / 39916800.0));
    q = Vd::fma(r, q, Vd::set(1 / 3628800.0));
    q = Vd::fma(r, q, Vd::set(1 / 362880.0));
    q = Vd::fma(r, q, Vd::set(1 / 40320.0));
#endif
    q = Vd::fma(r, q, Vd::set(1 / 5040.0));
    q = Vd::fma(r, q, Vd::set(1 / 720.0));
    q = Vd::fma(r, q, Vd::set(1 / 120.0));
    q = Vd::fma(r, q, Vd::set(1 / 24.0));
    q = Vd::fma(r, q, Vd::set(1 / 6.0));
    q = Vd::fma(r, q, Vd::set(0.5));
    return Vd::fma(Vd::mul(r, r), q, r);
}

// What exp(x - reference) is computed against. exp(reference) = exp(shift + whole ln2), exactly.
template <class V>
struct ExpReference {
    typename V::T shift;  // subtracted from x first: 0 unless the reference is large
    typename V::T whole;  // and then powers of two
};

template <class V>
CROSSENT_INLINE ExpReference<V> exp_reference(typename V::T reference) {
    typedef typename V::T T;
    if (reference > ExpFormat<V>::kLargestReduced || reference < -ExpFormat<V>::kLargestReduced) {
        return {reference, 0};
    }
    const T magic = V::K * rounding_constant(V());  // a last bit of 1
    return {0, (T(1.4426950408889634) * reference + magic) - magic};
}

template <class V>
struct ExpVectors {
    typename V::vec table, rest, shift, lowest;
};

// The table with the exponent of 2^(Bias - whole).
CROSSENT_INLINE Vf::vec table_for(Vf, float whole) {
    const int32_t exponent = ExpFormat<Vf>::Bias - int32_t(whole);
    return Vf::add_exponent<23>(exp_table(Vf()), Vf::set(float_of_bits(uint32_t(exponent))));
}

CROSSENT_INLINE Vd::vec table_for(Vd, double whole) {
    const int64_t exponent = ExpFormat<Vd>::Bias - int64_t(whole);
    return Vd::add_exponent<52>(exp_table(Vd()), Vd::set(double_of_bits(uint64_t(exponent))));
}

template <class V>
CROSSENT_INLINE ExpVectors<V> exp_vectors(ExpReference<V> reference) {
    typedef typename V::T T;
    // Here the exponent bits of t are 0 and so are its mantissa bits: what is lower gives exactly
    // 0.
    const T lowest = (reference.whole - (ExpFormat<V>::Bias + ExpFormat<V>::ExponentBias)) *
                     T(0.69314718055994530942);
    return {table_for(V(), reference.whole), exp_table_rest(V()), V::set(reference.shift),
            V::set(lowest)};
}

// t and p of exp(x - reference) 2^Bias = t + t p. NaN and +inf give a p of NaN, -inf a t of 0.
//
// Of several vectors, step by step: the steps of one vector wait for each other.
template <class V, bool shifted, int count>
CROSSENT_INLINE void exp_terms(const ExpVectors<V>& e, const typename V::vec* logits,
                               typename V::vec* t, typename V::vec* p) {
    typedef typename V::T T;
    enum { shift = ExpFormat<V>::MantissaBits - V::LogK };
    const typename V::vec magic = V::set(rounding_constant(V()));
    typename V::vec x[count], k[count];
    for (int j = 0; j < count; ++j) {
        x[j] = V::max(e.lowest, shifted ? V::sub(logits[j], e.shift) : logits[j]);
    }
    for (int j = 0; j < count; ++j) k[j] = V::fma(x[j], V::set(T(1.4426950408889634)), magic);
    for (int j = 0; j < count; ++j) x[j] = reduced(V::sub(k[j], magic), x[j]);
    for (int j = 0; j < count; ++j) {
        if (sizeof(T) == 4) x[j] = V::add(x[j], V::lookup(e.rest, k[j]));
        t[j] = V::template add_exponent<shift>(V::lookup(e.table, k[j]), k[j]);
    }
    for (int j = 0; j < count; ++j) p[j] = exp_minus_one(x[j]);
}

template <class V, bool shifted>
CROSSENT_INLINE void exp_terms(const ExpVectors<V>& e, typename V::vec x, typename V::vec* t,
                               typename V::vec* p) {
    exp_terms<V, shifted, 1>(e, &x, t, p);
}

// ---- log1p

template <int N>
CROSSENT_INLINE Vd::vec polynomial(const double (&c)[N], Vd::vec x) {
    Vd::vec y = Vd::set(c[N - 1]);
    for (int i = N - 2; i >= 0; --i) y = Vd::fma(x, y, Vd::set(c[i]));
    return y;
}

// 2 atanh(d / 2) = d + d^3 h(d^2) for d = 2 e / (2 + e) <= 2/3: h, minimax where it is weighted by
// d^2, to 2^-33 for float32 results and 2^-59.
static constexpr double kAtanhOfFloat[] = {0x1.5555585695380p-4, 0x1.9996a878039cep-7,
                                           0x1.250972400cbf4p-9, 0x1.b6d6a442ce4d6p-12,
                                           0x1.f1aee08c94b90p-14};
static constexpr double kAtanh[] = {
    0x1.5555555555535p-4,  0x1.99999999a0840p-7,  0x1.249249208575bp-9,  0x1.c71c741f8d195p-12,
    0x1.745cb39b50372p-14, 0x1.3b1de3263a10cp-16, 0x1.106768805a7ebp-18, 0x1.efdd84a4ec794p-21,
    0x1.559c49e6c98d0p-23, 0x1.5c8a5c7e66a4ap-24};

#if defined(__AVX512F__)
// log1p(e) / e on [0, 1], minimax: 2^-33. Eight quotients take as long as 32 multiplications.
static constexpr double kLog1pOfFloat[] = {
    0x1.fffffffefc945p-1, -0x1.fffffda6de553p-2, 0x1.5554e12d5cdddp-2, -0x1.ffee3ea7e3257p-3,
    0x1.98e3b10b32756p-3, -0x1.50f4759e25490p-3, 0x1.12f9c9b0244f6p-3, -0x1.9eb1cd33e7e79p-4,
    0x1.062d20d7b9d03p-4, -0x1.ee58dca1e957ap-6, 0x1.2990b6fa000a4p-7, -0x1.4fb3b7e525af0p-10};
#endif

template <bool is_double>
CROSSENT_INLINE Vd::vec log1p_of(Vd::vec e) {
#if defined(__AVX512F__)
    if (!is_double) return Vd::mul(e, polynomial(kLog1pOfFloat, e));
#endif
    // 2 e, not twice a quotient: e may be subnormal.
    const Vd::vec d = Vd::div(Vd::add(e, e), Vd::add(Vd::set(2), e)), w = Vd::mul(d, d);
    const Vd::vec h = is_double ? polynomial(kAtanh, w) : polynomial(kAtanhOfFloat, w);
    return Vd::fma(Vd::mul(d, w), h, d);
}

// The same for 0 <= x < 2^52, to the digits of a double: log1p(x) itself up to 1, above it with
// 1 + x = 2^k (1 + m).
CROSSENT_INLINE Vd::vec log1p_of_sum(Vd::vec x) {
    typedef int64_t integers __attribute__((vector_size(sizeof(Vd::vec))));
    const Vd::vec one = Vd::set(1), y = Vd::add(one, x);
    const integers bits = (integers)y, ones = (integers)one;
    const Vd::vec m = Vd::sub((Vd::vec)((bits & ((int64_t(1) << 52) - 1)) | ones), one);
    // The exponent's bits as the last ones of a double above 2^52.
    const Vd::vec above = (Vd::vec)((bits >> 52) | (integers)Vd::set(0x1p52));
    const Vd::vec k = Vd::sub(above, Vd::set(0x1p52 + 1023));
    const Vd::vec of_rest = log1p_of<true>(Vd::where_above(x, one, m, x));
    return Vd::fma(Vd::where_above(x, one, k, Vd::set(0)), Vd::set(0x1.62e42fefa39efp-1), of_rest);
}

}  // namespace CROSSENT_ISA
}  // namespace crossent
