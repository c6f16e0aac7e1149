// The sigmoid family on contiguous elements, compiled once per instruction set.
//
// Everything is arithmetic on e = exp(-|x|) in [0, 1]. With a = 1 - z and b = r z, the factors of
// the two log-probabilities,
//
//     loss      near |x| + (a + b) log1p(e)              near = a, far = b for x >= 0, and
//     gradient  (near - far e) / (1 + e), times sign x   near = b, far = a for x < 0
//
// so no terms of opposite sign meet in the loss, and only two, neither of them rounded before, in
// the gradient: a sigmoid that is subtracted from its label has lost the digits of a near hit.
#pragma once

#include "elementwise.h"
#include "exponential.h"

namespace crossent {
namespace CROSSENT_ISA {

template <class X>
struct ResultOf {
    typedef float Number;
    enum { IsDouble = false, Width = Vf::W };
};
template <>
struct ResultOf<double> {
    typedef double Number;
    enum { IsDouble = true, Width = Vd::W };
};

// The processor's own prefetching stops at the end of a page: a page takes us 800 ns, and the way
// to its first lines took 1500 more.
CROSSENT_INLINE void prefetch(const void* p) {
    __builtin_prefetch((const void*)((uintptr_t)p + 4096));
}

// ---- exp(-|x|) and log1p of it

// (exp(r) - 1 - r) / r^2, minimax where it is weighted by r^2: to 2^-49 and 2^-51. 2^-32 is enough
// for a float32 loss, but not for its gradient, where near - far e may lose as many bits as x and z
// have: next to the logit that fits a label of 0.63 it was 100 ulp off. And the loss is to be the
// same number with a gradient and without.
#if defined(__AVX512F__)  // |r| <= ln2 / 16
static constexpr double kExpMinusOne[] = {0x1.0000000000145p-1, 0x1.55555548f84f6p-3,
                                          0x1.55555545ef770p-5, 0x1.1115b793a35edp-7,
                                          0x1.6c1d324a16515p-10};
#else  // |r| <= ln2 / 2
static constexpr double kExpMinusOne[] = {
    0x1.000000000000ep-1,  0x1.555555555060bp-3,  0x1.555555554ec93p-5,
    0x1.1111112600ac9p-7,  0x1.6c16c18a57630p-10, 0x1.a0198c59cee16p-13,
    0x1.a01989a379aacp-16, 0x1.72ea2007b1b6fp-19, 0x1.28bc1f4dfb941p-22};
#endif

// t and p of exp(x) = t + t p, for x <= 0. NaN gives a p of NaN.
template <bool is_double>
struct NegativeExp;

// Without the bias: below 2^-1022, where no float32 has digits left, t is 0.
template <>
struct NegativeExp<false> {
    ExpVectors<Vd> vectors = exp_vectors<Vd>({0, ExpFormat<Vd>::Bias});

    __attribute__((always_inline)) inline void terms(Vd::vec x, Vd::vec* t, Vd::vec* p) const {
        x = Vd::max(vectors.lowest, x);
        const Vd::vec magic = Vd::set(rounding_constant(Vd()));
        const Vd::vec k = Vd::fma(x, Vd::set(1.4426950408889634), magic);
        const Vd::vec r = Vd::fnma(Vd::sub(k, magic), Vd::set(0x1.62e42fefa39efp-1), x);
        *t = Vd::template add_exponent<52 - Vd::LogK>(Vd::lookup(vectors.table, k), k);
        *p = Vd::fma(Vd::mul(r, r), polynomial(kExpMinusOne, r), r);
    }
};

template <>
struct NegativeExp<true> {
    ExpVectors<Vd> vectors = exp_vectors<Vd>({0, 0});

    __attribute__((always_inline)) inline void terms(Vd::vec x, Vd::vec* t, Vd::vec* p) const {
        exp_terms<Vd, false>(vectors, x, t, p);
        *t = Vd::mul(*t, Vd::set(0x1p-500));  // out of the bias: exact, or rounded to a subnormal
    }
};

// ---- the loss

template <bool is_double, bool weighted, bool with_gradient>
CROSSENT_INLINE void sigmoid_terms(const NegativeExp<is_double>& exp, Vd::vec x, Vd::vec z,
                                   Vd::vec r, Vd::vec* loss, Vd::vec* gradient) {
    const Vd::vec zero = Vd::set(0), one = Vd::set(1);
    const Vd::vec a = Vd::sub(one, z), b = weighted ? Vd::mul(r, z) : z;
    const Vd::vec near = Vd::where_above(zero, x, b, a), far = Vd::where_above(zero, x, a, b);
    const Vd::vec down = minus_abs(x);
    Vd::vec t, p;
    exp.terms(down, &t, &p);
    const Vd::vec e = Vd::fma(t, p, t);

    Vd::vec tail = log1p_of<is_double>(e);
    if (weighted) tail = Vd::mul(tail, Vd::add(near, far));
    // An infinite logit on the side of its label costs 0, not 0 * inf; NaN is in the tail too.
    const Vd::vec linear = Vd::zero_where_equal(near, zero, Vd::mul(near, down));
    *loss = Vd::sub(tail, linear);

    if (with_gradient) {
        // t is 1 and p is exp(-|x|) - 1 near x = 0, where near - far may cancel.
        const Vd::vec part = Vd::mul(far, t);
        const Vd::vec rise = Vd::div(Vd::fnma(part, p, Vd::sub(near, part)), Vd::add(one, e));
        *gradient = Vd::where_above(zero, x, Vd::sub(zero, rise), rise);
    }
}

// Elements at an index of a tile: loads, computes and stores one step of them.
template <class X, class Z, bool weighted, bool with_gradient>
struct SigmoidStep {
    typedef typename ResultOf<X>::Number L;
    enum { IsDouble = ResultOf<X>::IsDouble, Width = ResultOf<X>::Width };

    const X* logits;
    const Z* labels;
    const double *pos_weight, *weight, *coefficients;
    L* losses;
    X* gradient;
    NegativeExp<IsDouble> exp;
    Vd::vec coefficient;

    __attribute__((always_inline)) inline void vector(int64_t i, Vd::vec* loss,
                                                      Vd::vec* slope) const {
        const Vd::vec zero = Vd::set(0);
        sigmoid_terms<IsDouble, weighted, with_gradient>(
            exp, Vd::load(logits + i), Vd::load(labels + i),
            weighted ? Vd::load(pos_weight + i) : zero, loss, slope);
        if (weighted) {
            const Vd::vec w = Vd::load(weight + i);
            *loss = Vd::zero_where_equal(w, zero, Vd::mul(w, *loss));
        }
        if (weighted && with_gradient) {
            const Vd::vec c = Vd::load(coefficients + i);
            *slope = Vd::zero_where_equal(c, zero, Vd::mul(c, *slope));
        } else if (with_gradient) {
            *slope = Vd::mul(coefficient, *slope);
        }
    }

    __attribute__((always_inline)) inline void run(int64_t i) const { step(i, logits); }

  private:
    __attribute__((always_inline)) inline void step(int64_t i, const double*) const {
        Vd::vec loss, slope;
        vector(i, &loss, &slope);
        Vd::store(losses + i, loss);
        if (with_gradient) Vd::store(gradient + i, slope);
    }

    template <class U>
    __attribute__((always_inline)) inline void step(int64_t i, const U*) const {
        Vd::vec low, high, low_slope, high_slope;
        vector(i, &low, &low_slope);
        vector(i + Vd::W, &high, &high_slope);
        Vf::store(losses + i, Vd::joined(low, high));
        if (with_gradient) Vf::store(gradient + i, Vd::joined(low_slope, high_slope));
    }
};

template <class X, class Z, bool weighted, bool with_gradient>
static void sigmoid_elements(const SigmoidTile& tile) {
    typedef SigmoidStep<X, Z, weighted, with_gradient> Step;
    Step step;
    step.logits = (const X*)tile.logits;
    step.labels = (const Z*)tile.labels;
    step.pos_weight = tile.pos_weight;
    step.weight = tile.weight;
    step.coefficients = tile.coefficients;
    step.losses = (typename Step::L*)tile.losses;
    step.gradient = (X*)tile.gradient;
    step.coefficient = Vd::set(tile.coefficient);
    int64_t i = 0;
    for (; i + Step::Width <= tile.count; i += Step::Width) {
        prefetch(step.logits + i);
        prefetch(step.labels + i);
        if (weighted) prefetch(step.weight + i);
        step.run(i);
    }
    if (i == tile.count) return;

    // The rest as a tile of one step, so that an element's bits do not depend on its place.
    const size_t rest = size_t(tile.count - i);
    X x[Step::Width] = {}, slopes[Step::Width];
    Z z[Step::Width] = {};
    typename Step::L losses[Step::Width];
    double r[Step::Width] = {}, w[Step::Width] = {}, c[Step::Width] = {};
    memcpy(x, step.logits + i, rest * sizeof *x);
    memcpy(z, step.labels + i, rest * sizeof *z);
    if (weighted) {
        memcpy(r, tile.pos_weight + i, rest * sizeof *r);
        memcpy(w, tile.weight + i, rest * sizeof *w);
        if (with_gradient) memcpy(c, tile.coefficients + i, rest * sizeof *c);
    }
    SigmoidTile last = tile;
    last.count = Step::Width;
    last.logits = x;
    last.labels = z;
    last.pos_weight = r;
    last.weight = w;
    last.coefficients = c;
    last.losses = losses;
    last.gradient = slopes;
    sigmoid_elements<X, Z, weighted, with_gradient>(last);
    memcpy(step.losses + i, losses, rest * sizeof *losses);
    if (with_gradient) memcpy(step.gradient + i, slopes, rest * sizeof *slopes);
}

template <class X, class Z>
static void sigmoid_elements_of(const SigmoidTile& tile) {
    const bool with_gradient = tile.gradient != nullptr;
    if (tile.pos_weight != nullptr) {
        return with_gradient ? sigmoid_elements<X, Z, true, true>(tile)
                             : sigmoid_elements<X, Z, true, false>(tile);
    }
    return with_gradient ? sigmoid_elements<X, Z, false, true>(tile)
                         : sigmoid_elements<X, Z, false, false>(tile);
}

static void sigmoid_tile(const SigmoidTile& tile) {
    switch (tile.number) {
        case Number::float64:
            return tile.float_labels ? sigmoid_elements_of<double, float>(tile)
                                     : sigmoid_elements_of<double, double>(tile);
        case Number::float16:
            return tile.float_labels ? sigmoid_elements_of<half_bits, float>(tile)
                                     : sigmoid_elements_of<half_bits, double>(tile);
        case Number::bfloat16:
            return tile.float_labels ? sigmoid_elements_of<bfloat_bits, float>(tile)
                                     : sigmoid_elements_of<bfloat_bits, double>(tile);
        default:
            return tile.float_labels ? sigmoid_elements_of<float, float>(tile)
                                     : sigmoid_elements_of<float, double>(tile);
    }
}

// ---- labels

enum { kLabels = 64 };  // converted at a time

template <class L>
CROSSENT_INLINE void widen_labels(const L* labels, int count, double* to) {
    for (int i = 0; i < count; ++i) to[i] = double(labels[i]);
}

template <class L>
CROSSENT_INLINE void widen_floats(const L* labels, int count, double* to) {
    int i = 0;
    for (; i + Vd::W <= count; i += Vd::W) Vd::store(to + i, Vd::load(labels + i));
    for (; i < count; ++i) to[i] = double(widened(labels[i]));
}

CROSSENT_INLINE void widen_labels(const float* labels, int count, double* to) {
    widen_floats(labels, count, to);
}
CROSSENT_INLINE void widen_labels(const bfloat_bits* labels, int count, double* to) {
    widen_floats(labels, count, to);
}

// float16 is a number of its own here: its bits have the type of uint16.
struct Half {
    half_bits bits;
};
CROSSENT_INLINE void widen_labels(const Half* labels, int count, double* to) {
    widen_floats((const half_bits*)labels, count, to);
}

// NumPy compares labels and the ignored number in the labels' own type: 2049 is 2048 in float16.
template <class L>
CROSSENT_INLINE double ignored_as(int64_t ignored, const L*) {
    return double(ignored);
}
CROSSENT_INLINE double ignored_as(int64_t ignored, const float*) { return float(ignored); }
CROSSENT_INLINE double ignored_as(int64_t ignored, const bfloat_bits*) {
    bfloat_bits nearest;
    narrow(float(ignored), &nearest);
    return widened(nearest);
}
CROSSENT_INLINE double ignored_as(int64_t ignored, const Half*) {
    half_bits nearest;
    narrow(float(ignored), &nearest);
    return widened(nearest);
}

template <class L, bool has_ignored>
static int64_t smoothed_labels(const LabelTile& tile) {
    const Vd::vec zero = Vd::set(0), one = Vd::set(1);
    const Vd::vec share = Vd::set(1 - tile.smoothing), rest = Vd::set(tile.smoothing / 2);
    const Vd::vec ignored = Vd::set(ignored_as(tile.ignored, (const L*)nullptr));
    Vd::vec fault = zero, number = zero;
    for (int64_t begin = 0; begin < tile.count; begin += kLabels) {
        const L* labels = (const L*)tile.labels + begin;
        for (size_t k = 0; k < kLabels * sizeof(L); k += 64) prefetch((const char*)labels + k);
        double wide[kLabels] = {};
        widen_labels(labels, tile.count - begin < kLabels ? int(tile.count - begin) : kLabels,
                     wide);
        for (int i = 0; i < kLabels; i += Vd::W) {
            Vd::vec z = Vd::load(wide + i);
            if (has_ignored) {
                const Vd::vec kept = Vd::zero_where_equal(z, ignored, one);
                z = Vd::zero_where_equal(z, ignored, z);
                number = Vd::add(number, kept);
                Vd::store(tile.kept + begin + i, kept);
            }
            // Not negative where z is in [0, 1]; then |y| - y is 0, and else above 0 or NaN.
            const Vd::vec y = Vd::mul(z, Vd::sub(one, z));
            fault = Vd::add(fault, Vd::sub(abs(y), y));
            Vd::store(tile.smoothed + begin + i, Vd::add(Vd::mul(z, share), rest));
        }
    }
    if (!(sum_of_lanes(fault) == 0)) return -1;
    if (!has_ignored) return tile.count;
    // What fills the last vectors up are zeros: kept, unless 0 is the ignored number.
    const int64_t padding = (tile.count + kLabels - 1) / kLabels * kLabels - tile.count;
    return int64_t(sum_of_lanes(number)) - (tile.ignored == 0 ? 0 : padding);
}

template <class L>
static int64_t labels_of(const LabelTile& tile) {
    return tile.has_ignored ? smoothed_labels<L, true>(tile) : smoothed_labels<L, false>(tile);
}

// Of the bits b of a number, b << 1 is its magnitude, in the order of the magnitudes, NaN above
// all; (b - 1) & b has a sign bit where b has one and is not -0.0. With a comparison for -0.0 in
// it, the loop was not turned into vectors and took as long as the loss.
template <class Bits>
CROSSENT_INLINE bool in_range(const void* labels, int64_t count, Bits one) {
    const Bits* bits = (const Bits*)labels;
    Bits highest = 0, negative = 0;
    for (int64_t i = 0; i < count; ++i) {
        const Bits magnitude = Bits(bits[i] << 1);
        highest = magnitude > highest ? magnitude : highest;
        negative |= (bits[i] - 1) & bits[i];
    }
    return highest <= Bits(one << 1) && negative >> (8 * sizeof(Bits) - 1) == 0;
}

static int64_t label_tile(const LabelTile& tile) {
    switch (tile.number) {
        case Number::float32:
            if (tile.smoothed != nullptr) return labels_of<float>(tile);
            return in_range<uint32_t>(tile.labels, tile.count, 0x3f800000) ? tile.count : -1;
        case Number::float64:
            if (tile.smoothed != nullptr) return labels_of<double>(tile);
            return in_range<uint64_t>(tile.labels, tile.count, 0x3ff0000000000000) ? tile.count
                                                                                   : -1;
        case Number::float16:
            return labels_of<Half>(tile);
        case Number::bfloat16:
            return labels_of<bfloat_bits>(tile);
        case Number::int8:
            return labels_of<int8_t>(tile);
        case Number::int16:
            return labels_of<int16_t>(tile);
        case Number::int32:
            return labels_of<int32_t>(tile);
        case Number::int64:
            return labels_of<int64_t>(tile);
        case Number::uint16:
            return labels_of<uint16_t>(tile);
        case Number::uint32:
            return labels_of<uint32_t>(tile);
        case Number::uint64:
            return labels_of<uint64_t>(tile);
        default:  // boolean too
            return labels_of<uint8_t>(tile);
    }
}

static bool weight_tile(const double* weights, int64_t count, double least) {
    const Vd::vec zero = Vd::set(0), one = Vd::set(1), bound = Vd::set(least);
    Vd::vec fault = zero;
    for (int64_t i = 0; i < count; i += Vd::W) {
        double last[Vd::W] = {};
        if (i + Vd::W > count) memcpy(last, weights + i, size_t(count - i) * sizeof *last);
        const Vd::vec w = Vd::load(i + Vd::W > count ? last : weights + i);
        const Vd::vec below = Vd::where_above(bound, w, one, zero);
        fault = Vd::add(fault, Vd::add(below, Vd::sub(w, w)));  // NaN unless w is finite
    }
    return sum_of_lanes(fault) == 0;
}

// ---- sigmoid, log-sigmoid, softplus

template <Function function, bool is_double>
CROSSENT_INLINE Vd::vec value_of(const NegativeExp<is_double>& exp, Vd::vec x) {
    const Vd::vec zero = Vd::set(0), one = Vd::set(1);
    Vd::vec t, p;
    exp.terms(minus_abs(x), &t, &p);
    const Vd::vec e = Vd::fma(t, p, t);
    if (function == Function::sigmoid) {
        return Vd::div(Vd::where_above(zero, x, e, one), Vd::add(one, e));
    }
    if (function == Function::softplus) {
        return Vd::add(Vd::where_above(x, zero, x, zero), log1p_of<is_double>(e));
    }
    return Vd::sub(Vd::where_above(zero, x, x, zero), log1p_of<is_double>(e));
}

template <Function function>
CROSSENT_INLINE void function_step(const NegativeExp<true>& exp, const double* x, double* to) {
    Vd::store(to, value_of<function>(exp, Vd::load(x)));
}

template <Function function, class X>
CROSSENT_INLINE void function_step(const NegativeExp<false>& exp, const X* x, float* to) {
    const Vd::vec low = value_of<function>(exp, Vd::load(x));
    Vf::store(to, Vd::joined(low, value_of<function>(exp, Vd::load(x + Vd::W))));
}

template <class X, Function function>
static void function_elements(const FunctionTile& tile) {
    typedef typename ResultOf<X>::Number R;
    enum { Width = ResultOf<X>::Width };
    const NegativeExp<ResultOf<X>::IsDouble> exp;
    const X* x = (const X*)tile.x;
    R* result = (R*)tile.result;
    int64_t i = 0;
    for (; i + Width <= tile.count; i += Width) {
        prefetch(x + i);
        function_step<function>(exp, x + i, result + i);
    }
    if (i == tile.count) return;

    const size_t rest = size_t(tile.count - i);
    X last[Width] = {};
    R results[Width];
    memcpy(last, x + i, rest * sizeof *x);
    function_elements<X, function>({function, Width, tile.number, last, results});
    memcpy(result + i, results, rest * sizeof *result);
}

template <class X>
static void function_elements_of(const FunctionTile& tile) {
    switch (tile.function) {
        case Function::sigmoid:
            return function_elements<X, Function::sigmoid>(tile);
        case Function::log_sigmoid:
            return function_elements<X, Function::log_sigmoid>(tile);
        case Function::softplus:
            return function_elements<X, Function::softplus>(tile);
    }
}

static void function_tile(const FunctionTile& tile) {
    switch (tile.number) {
        case Number::float64:
            return function_elements_of<double>(tile);
        case Number::float16:
            return function_elements_of<half_bits>(tile);
        case Number::bfloat16:
            return function_elements_of<bfloat_bits>(tile);
        default:
            return function_elements_of<float>(tile);
    }
}

// ---- sums

// Whether all magnitudes but 0 lie in [least, greatest]; these are given without a sign bit, moved
// up by one. Less 1, a 0 is the largest of all.
template <class Bits>
CROSSENT_INLINE bool all_within(const void* values, int64_t count, Bits least, Bits greatest) {
    const Bits* bits = (const Bits*)values;
    Bits highest = 0, lowest = Bits(-1);
    for (int64_t i = 0; i < count; ++i) {
        const Bits magnitude = Bits(bits[i] << 1), lower = Bits(magnitude - 1);
        highest = magnitude > highest ? magnitude : highest;
        lowest = lower < lowest ? lower : lowest;
    }
    return highest <= greatest && lowest >= least - 1;
}

// x as a multiple of a unit, 3/2 2^52 of which are `magic`, and what is left of it.
CROSSENT_INLINE Vd::vec split(Vd::vec magic, Vd::vec* x) {
    const Vd::vec whole = Vd::sub(Vd::add(*x, magic), magic);
    *x = Vd::sub(*x, whole);
    return whole;
}

// Three sums of parts of the values: multiples of 2^-30, of 2^-72 (of doubles only), and what is
// left. 1024 multiples of a unit, each below 2^42 units, add up to less than 2^53 and without any
// rounding; so does what is left if its last bit is above 2^-53 of the last unit. All that is so
// for zeros and magnitudes of [2^-51, 2^12], or [2^-64, 2^12] of doubles.
template <class R>
static void add_parts(const R* values, int64_t count, double* parts) {
    enum { Chains = 4, Width = Chains * Vd::W };  // an addition waits four cycles for another
    const Vd::vec coarse = Vd::set(0x1.8p22), fine = Vd::set(0x1.8p-20);
    Vd::vec high[Chains], middle[Chains], low[Chains];
    for (int k = 0; k < Chains; ++k) high[k] = middle[k] = low[k] = Vd::set(0);
    R last[Width] = {};
    for (int64_t i = 0; i < count; i += Width) {
        const R* from = values + i;
        if (i + Width > count) {
            memcpy(last, from, size_t(count - i) * sizeof *last);
            from = last;
        }
        for (int k = 0; k < Chains; ++k) {
            Vd::vec x = Vd::load(from + k * Vd::W);
            high[k] = Vd::add(high[k], split(coarse, &x));
            if (sizeof(R) == 8) middle[k] = Vd::add(middle[k], split(fine, &x));
            low[k] = Vd::add(low[k], x);
        }
    }
    for (int k = 1; k < Chains; ++k) {
        high[0] = Vd::add(high[0], high[k]);
        middle[0] = Vd::add(middle[0], middle[k]);
        low[0] = Vd::add(low[0], low[k]);
    }
    parts[0] = sum_of_lanes(high[0]);
    parts[1] = sum_of_lanes(middle[0]);
    parts[2] = sum_of_lanes(low[0]);
}

static bool parts_of_sum(Number number, const void* values, int64_t count, double* parts) {
    if (number == Number::float64) {
        const uint64_t least = uint64_t(1023 - 64) << 53, greatest = uint64_t(1023 + 12) << 53;
        if (!all_within(values, count, least, greatest)) return false;
        add_parts((const double*)values, count, parts);
    } else {
        const uint32_t least = uint32_t(127 - 51) << 24, greatest = uint32_t(127 + 12) << 24;
        if (!all_within(values, count, least, greatest)) return false;
        add_parts((const float*)values, count, parts);
    }
    return true;
}

// ---- memory

static void stream_bytes(void* to, const void* from, int64_t bytes) {
    char* target = (char*)to;
    const char* source = (const char*)from;
    int64_t head = int64_t(-(uintptr_t)target % sizeof(Vf::vec));
    if (head > bytes) head = bytes;
    memcpy(target, source, size_t(head));
    int64_t i = head;
    for (; i + int64_t(sizeof(Vf::vec)) <= bytes; i += sizeof(Vf::vec)) {
        Vf::stream((float*)(target + i), Vf::load((const float*)(source + i)));
    }
    memcpy(target + i, source + i, size_t(bytes - i));
}

static void end_streaming() { stream_done(); }

static constexpr ElementwiseKernels elementwise_kernels = {
    label_tile,   weight_tile,  sigmoid_tile, function_tile,
    parts_of_sum, stream_bytes, end_streaming};

}  // namespace CROSSENT_ISA
}  // namespace crossent
