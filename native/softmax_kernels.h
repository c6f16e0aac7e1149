// The softmax family on rows: one function, rows(), compiled once per instruction set.
//
// A row goes through these steps while it is in cache, the logits being read from memory once:
//   sum_part     peak, where it is, and S without it; the exponentials stay in scratch
//   label and mean statistics, in double
//   losses, and the coefficients of the gradient
//   gradient     exponentials times a coefficient, plus what label and mean add
// Short rows whose labels are class ids do so several at a time, each in a lane (LaneWorker).
#pragma once

#include "exponential.h"
#include "softmax.h"

namespace crossent {
namespace CROSSENT_ISA {
// Members of class templates would be weak symbols otherwise.
namespace {

enum {
    kBlockVectors = 16,
    kSums = 2,
    kLaneTerms = kBlockVectors / kSums,  // what is added to one lane
    // Rows above are summed in parts of this length, and their exponentials computed again.
    kPart = 1 << 18,
    kShort = 192,
    kPrefetchBytes = 4096,
    kSoonBytes = 1024,
};

// ---- scratch memory of one row

template <class V>
struct Blocks {             // what is kept of each block of kBlockVectors vectors
    typename V::vec* high;  // sums of t, lane by lane: kSums of them
    typename V::vec* rest;  // sums of t p, likewise
    typename V::vec* peak;  // highest so far
    ExpReference<V>* reference;
};

CROSSENT_INLINE int64_t rounded_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Allocator {  // hands out 64-byte aligned pieces; from address 0 on it only counts
    uintptr_t next;
    template <class T>
    CROSSENT_MEMBER T* take(int64_t count) {
        T* piece = (T*)next;
        next += uintptr_t(rounded_up(count * int64_t(sizeof(T))));
        return piece;
    }
};

template <class V>
struct RowScratch {
    typedef typename V::T T;
    Blocks<V> blocks;
    T* exponentials;
    T* target;      // t_j, for a distribution
    double* wide;   // transformed logits
    double* slope;  // their derivative
};

// ---- sum of a part

template <class X>
struct WideOf {
    typedef float T;
};
template <>
struct WideOf<double> {
    typedef double T;
};

// A row as vectors of doubles, the last one filled up.
template <class U>
struct Padded {
    const U* row;
    int64_t whole;
    U last[Vd::W];

    CROSSENT_MEMBER Padded(const U* row, int64_t n, double padding)
        : row(row), whole(n - n % Vd::W) {
        for (int k = 0; k < Vd::W; ++k) {
            if (whole + k < n) {
                last[k] = row[whole + k];
            } else {
                narrow(typename WideOf<U>::T(padding), &last[k]);
            }
        }
    }
    CROSSENT_MEMBER Vd::vec at(int64_t i) const { return Vd::load(i < whole ? row + i : last); }
};

// A block as fours of vectors: those of the row itself, but the last of them filled up with -inf.
template <class V, class X>
struct BlockOf {
    enum { kFour = 4 * V::W };
    const X* fours[kBlockVectors / 4];  // null: nothing left
    X last[kFour];

    CROSSENT_MEMBER void open(const X* x, int64_t count) {
        for (int f = 0; f < kBlockVectors / 4; ++f, x += kFour, count -= kFour) {
            fours[f] = count >= kFour ? x : count > 0 ? filled_up(x, count) : nullptr;
        }
    }

  private:
    const X* filled_up(const X* x, int64_t count) {
        memcpy(last, x, size_t(count) * sizeof(X));
        for (int64_t i = count; i < kFour; ++i) narrow(typename WideOf<X>::T(-INFINITY), &last[i]);
        return last;
    }
};

// From memory on into the second cache, beyond the page at whose end the processor's own
// prefetching stops, and from there into the first. Straight into the first from so far, lines wait
// for its few buffers: a sweep of 2048x32000 took about a tenth longer.
CROSSENT_INLINE void prefetch_logits(const void* x) {
    __builtin_prefetch((const char*)x + kSoonBytes);
    __builtin_prefetch((const char*)x + kPrefetchBytes, 0, 2);
}

// Sums of t and of t p over a block, lane by lane, and the highest logits so far.
template <class V, class X, bool shifted, bool keep>
CROSSENT_INLINE void sum_block(const ExpVectors<V>& e, const BlockOf<V, X>& block,
                               typename V::vec* peak, typename V::vec* high, typename V::vec* rest,
                               typename V::T* kept) {
    typedef typename V::vec vec;
    vec m = *peak;
#pragma GCC unroll 2
    for (int k = 0; k < kSums; ++k) {
        vec tp_sum = V::set(0);
        // Equal terms make 3 t, 5 t, 7 t one after the other, and round alike in every lane: pairs
        // of pairs make 2 t and 4 t, which are exact.
        const auto four = [&](int f) __attribute__((always_inline)) {
            const X* const x = block.fours[f];
            if (x == nullptr) return V::set(0);
            vec logits[4], t[4], p[4];
            for (int j = 0; j < 4; ++j) {
                if (j * V::W * sizeof(X) % 64 == 0) prefetch_logits(x + j * V::W);
                logits[j] = V::load(x + j * V::W);
                m = V::max(logits[j], m);
            }
            exp_terms<V, shifted, 4>(e, logits, t, p);
            for (int j = 0; j < 4; ++j) {
                tp_sum = V::fma(t[j], p[j], tp_sum);
                if (keep) V::store(kept + (4 * f + j) * V::W, V::fma(t[j], p[j], t[j]));
            }
            return V::add(V::add(t[0], t[1]), V::add(t[2], t[3]));
        };
        static_assert(kLaneTerms == 8, "two fours are added");
        const vec first = four(2 * k);
        high[k] = V::add(first, four(2 * k + 1));
        rest[k] = tp_sum;
    }
    *peak = m;
}

template <class V, class X, bool keep>
static __attribute__((noinline)) int64_t sum_blocks(const X* x, int64_t n, const Blocks<V>& blocks,
                                                    typename V::T* kept) {
    typedef typename V::T T;
    typedef typename V::vec vec;
    const int64_t length = kBlockVectors * V::W, count = (n + length - 1) / length;
    vec peak = V::set(T(-INFINITY));
    ExpReference<V> reference = {0, 0};
    ExpVectors<V> e;
    vec limit = peak;  // no reference yet
    for (int64_t b = 0; b < count; ++b) {
        BlockOf<V, X> block;
        block.open(x + b * length, n - b * length);
        T* kept_block = keep ? kept + b * length : nullptr;
        if (b == 0) {
            // The first block's peak is looked up, so that it need not be summed twice.
            for (const X* four : block.fours) {
                for (int j = 0; four != nullptr && j < 4; ++j) {
                    peak = V::max(V::load(four + j * V::W), peak);
                }
            }
            e = exp_vectors<V>(reference);
        }
        for (;;) {
            if (V::any_above(peak, limit)) {  // the first peak, or one far above the reference
                const T highest_now = highest(peak);
                reference = exp_reference<V>(highest_now);
                e = exp_vectors<V>(reference);
                limit = V::set(highest_now + ExpFormat<V>::kHeadroom);
            }
            if (reference.shift != 0) {
                sum_block<V, X, true, keep>(e, block, &peak, &blocks.high[kSums * b],
                                            &blocks.rest[kSums * b], kept_block);
            } else {
                sum_block<V, X, false, keep>(e, block, &peak, &blocks.high[kSums * b],
                                             &blocks.rest[kSums * b], kept_block);
            }
            if (!V::any_above(peak, limit)) break;
        }
        blocks.peak[b] = peak;
        blocks.reference[b] = reference;
    }
    return count;
}

// exp(a - b), of which only the rounding of a - b to a double could cost digits (two-sum).
CROSSENT_INLINE double exp_of_difference(double a, double b, double small) {
    const double distance = a - b, back = distance - a;
    const double lost = (a - (distance - back)) - (b + back) + small;
    const double power = exp(distance);
    return power + power * lost;
}

template <class V>
CROSSENT_INLINE double unbias() {
    return ExpFormat<V>::Bias == 60 ? 0x1p-60 : 0x1p-500;
}

// exp(reference - peak): what turns sums of a block, unbiased, into units of exp(peak).
template <class V>
CROSSENT_INLINE double power_of(ExpReference<V> reference, double peak, double fraction = 1) {
    if (double(reference.shift) == peak && reference.whole == 0) return 1;
    const double whole = double(reference.whole) * fraction;
    if (whole == 0)
        return exp_of_difference(double(reference.shift) * fraction, peak * fraction, 0);
    // A reference has whole powers of 2 or a shift, never both; this product is exact.
    return exp_of_difference(whole * 0x1.62e42fefa2p-1, peak * fraction,
                             whole * 0x1.9ef35793c7673p-41);
}

// Sums in double, lane by lane. Compensated where float64 results hang on them: thousands of equal
// terms, added one after the other, drift by hundreds of ulp.
template <bool compensated>
struct LaneSums {
    Vd::vec sum = Vd::set(0), lost = Vd::set(0);

    CROSSENT_MEMBER void add(Vd::vec x) {
        if (!compensated) {
            sum = Vd::add(sum, x);
            return;
        }
        const Vd::vec next = Vd::add(sum, x), back = Vd::sub(next, sum);  // two-sum
        lost = Vd::add(lost, Vd::add(Vd::sub(sum, Vd::sub(next, back)), Vd::sub(x, back)));
        sum = next;
    }
    CROSSENT_MEMBER double total() const {
        const double all = sum_of_lanes(sum);
        const double rest = compensated ? sum_of_lanes(lost) : 0;
        return rest == rest ? all + rest : all;  // beside an infinity nothing is lost
    }
};

// Halves are widened on their way from memory.
CROSSENT_INLINE Vd::vec wide(const Vf::vec* x) {
    const float* const lanes = (const float*)x;
    return Vd::add(Vd::load(lanes), Vd::load(lanes + Vd::W));
}
CROSSENT_INLINE Vd::vec wide(const Vd::vec* x) { return *x; }

struct BlockSums {
    double all, largest;  // sums of t + t p; the largest lane's t
};

template <class V>
static __attribute__((noinline)) BlockSums sums_of_blocks(const Blocks<V>& blocks, int64_t count,
                                                          double peak) {
    BlockSums sums = {0, 0};
    for (int64_t b = 0; b < count;) {
        const ExpReference<V> reference = blocks.reference[b];
        LaneSums<sizeof(typename V::T) == 8> sum;
        typename V::vec top = V::set(0);
        for (; b < count && blocks.reference[b].shift == reference.shift &&
               blocks.reference[b].whole == reference.whole;
             ++b) {
            for (int64_t k = kSums * b; k < kSums * (b + 1); ++k) {
                sum.add(Vd::add(wide(&blocks.high[k]), wide(&blocks.rest[k])));
                top = V::max(blocks.high[k], top);
            }
        }
        // In this order: far below the peak both factors are tiny.
        const double power = power_of<V>(reference, peak);
        const double largest = double(highest(top)) * unbias<V>() * power;
        sums.all += sum.total() * unbias<V>() * power;
        sums.largest = largest > sums.largest ? largest : sums.largest;
    }
    return sums;
}

// exp(x - peak) in double, times 2^Bias: the difference is exact for float32 and narrower, and for
// float64 what it lost is added again (two-sum).
template <bool wide>
CROSSENT_INLINE Vd::vec exp_of_gap(const ExpVectors<Vd>& e, Vd::vec x, Vd::vec peak) {
    const Vd::vec gap = Vd::sub(x, peak);
    Vd::vec t, p;
    exp_terms<Vd, false>(e, gap, &t, &p);
    if (wide) {
        const Vd::vec back = Vd::sub(gap, x);
        const Vd::vec lost = Vd::sub(Vd::sub(x, Vd::sub(gap, back)), Vd::add(peak, back));
        // -inf - peak loses nothing; inf - inf in the formula is no loss either.
        const Vd::vec kept = Vd::zero_where_equal(gap, Vd::set(-INFINITY), lost);
        p = Vd::add(p, Vd::fma(kept, p, kept));
    }
    return Vd::fma(t, p, t);
}

// Logits that were added to some lanes, and the sum of exp(x - peak) over them in double. They are
// collected first: one lane after the other, each would wait for its own exponentials.
struct Lanes {
    enum { kMost = 32 * kLaneTerms };
    double logits[kMost + Vd::W];
    int count = 0;

    // `without` is left out.
    template <class V, class X>
    CROSSENT_MEMBER void take(const X* x, int64_t n, int64_t sums, int lane, int64_t without) {
        const int64_t first = sums * (kLaneTerms * V::W) + lane;
        for (int i = 0; i < kLaneTerms; ++i) {
            const int64_t at = first + int64_t(i) * V::W;
            if (at < n && at != without) logits[count++] = double(widened(x[at]));
        }
    }
    CROSSENT_MEMBER bool is_full() const { return count > kMost - kLaneTerms; }
    template <bool wide>
    CROSSENT_MEMBER double sum(double peak) {
        for (int i = 0; i < Vd::W; ++i) logits[count + i] = -INFINITY;
        const ExpVectors<Vd> e = exp_vectors<Vd>({0, 0});
        Vd::vec total = Vd::set(0);
        for (int i = 0; i < count; i += Vd::W) {
            total = Vd::add(total, exp_of_gap<wide>(e, Vd::load(logits + i), Vd::set(peak)));
        }
        count = 0;
        return sum_of_lanes(total) * 0x1p-500;
    }
};

template <class V>
CROSSENT_INLINE void clear_lane(typename V::vec* sums, int lane) {
    // Written without reading the vector, which would wait for a lane that was stored before.
    const typename V::T zero = 0;
    memcpy((char*)sums + lane * sizeof zero, &zero, sizeof zero);
}

// Where the peak stands: the first of equal ones.
template <class V, class X>
CROSSENT_INLINE int64_t owner_of(const X* x, int64_t n, const Blocks<V>& blocks,
                                 typename V::T peak) {
    const typename V::vec sought = V::set(peak);
    int64_t b = 0;
    while (V::equal_lanes(blocks.peak[b], sought) == 0) ++b;
    int64_t i = b * kBlockVectors * V::W;
    for (; i + V::W <= n; i += V::W) {
        const unsigned lanes = V::equal_lanes(V::load(x + i), sought);
        if (lanes != 0) return i + __builtin_ctz(lanes);
    }
    while (i < n && widened(x[i]) != peak) ++i;
    return i;
}

struct Part {
    double peak;
    double rest;    // S: sum of exp(x - peak) over all but the owner of the peak
    int64_t owner;  // -1 where all are -inf
    bool broken;    // holds NaN or +inf
};

// t is exact, but every addition to a lane rounds to float32. That does not show where many lanes
// of like size meet. A lane with a good part of S is summed again in double: beside it, nll =
// log1p(S) of a row whose label is the peak would lose a digit. The label is not asked, so that S
// has the same bits whatever the labels are.
template <class V, class X>
static __attribute__((noinline)) double refined(const X* x, int64_t n, const Blocks<V>& blocks,
                                                int64_t count, int64_t owner, double peak,
                                                double own, double least) {
    double exact = own;
    Lanes lanes_again;
    ExpReference<V> reference = {0, 0};
    double scale = 0;
    for (int64_t b = 0; b < count; ++b) {
        const ExpReference<V> now = blocks.reference[b];
        if (b == 0 || now.shift != reference.shift || now.whole != reference.whole) {
            reference = now;
            scale = unbias<V>() * power_of<V>(reference, peak);
        }
        const double bound = least / scale;  // infinite where the block is far below the peak
        const typename V::T as_float = typename V::T(bound < 1e38 ? bound : 1e38);
        for (int64_t k = kSums * b; k < kSums * (b + 1); ++k) {
            unsigned lanes = V::lanes_above(blocks.high[k], V::set(as_float));
            for (; lanes != 0; lanes &= lanes - 1) {
                const int lane = __builtin_ctz(lanes);
                if (lanes_again.is_full()) exact += lanes_again.sum<false>(peak);
                lanes_again.take<V, X>(x, n, k, lane, owner);
                clear_lane<V>(&blocks.high[k], lane);
                clear_lane<V>(&blocks.rest[k], lane);
            }
        }
    }
    return exact + lanes_again.sum<false>(peak) + sums_of_blocks<V>(blocks, count, peak).all;
}

// From 7 - lane on: 0 in that lane, and 1 in the others.
alignas(64) static const
    double kAllButOne[2 * 8 - 1] = {1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1};

// Short rows are summed in double: what blocks, lanes and references cost would not pay.
template <class X>
static __attribute__((noinline)) Part sum_short(const X* x, int n, const Blocks<Vd>& blocks,
                                                double* kept) {
    double space[kShort + Vd::W];
    double* const terms = kept != nullptr ? kept : space;
    const Padded<X> row(x, n, -INFINITY);
    Vd::vec top = Vd::set(-INFINITY);
    for (int i = 0; i < n; i += Vd::W) top = Vd::max(row.at(i), top);
    const double peak = highest(top);
    Part part = {peak, 0, -1, !(peak < INFINITY)};
    if (part.broken) return part;
    if (!(peak > -INFINITY)) {
        for (int i = 0; i < n; ++i) part.broken = part.broken || widened(x[i]) != widened(x[i]);
        return part;
    }
    int owner = 0;
    while (widened(x[owner]) != peak) ++owner;
    const ExpVectors<Vd> e = exp_vectors<Vd>({0, 0});
    const Vd::vec peaks = Vd::set(peak);
    for (int i = 0; i < n; i += Vd::W) {
        Vd::store(terms + i, exp_of_gap<sizeof(X) == 8>(e, row.at(i), peaks));
    }
    const int lane = owner % Vd::W;
    LaneSums<sizeof(X) == 8> sum;
    for (int i = 0; i < n; i += Vd::W) {
        const Vd::vec all = Vd::load(terms + i);
        // Not a 0 in memory for the owner: the load would wait for it.
        sum.add(i == owner - lane ? Vd::mul(all, Vd::load(kAllButOne + 7 - lane)) : all);
    }
    for (int b = 0; b <= kShort / (kBlockVectors * Vd::W); ++b) blocks.reference[b] = {peak, 0};
    part.owner = owner;
    part.rest = sum.total() * 0x1p-500;
    part.broken = part.rest != part.rest;
    return part;
}

template <class V, class X>
CROSSENT_INLINE Part sum_part(const X* x, int64_t n, const Blocks<V>& blocks, typename V::T* kept) {
    typedef typename V::T T;
    if constexpr (sizeof(T) == 8) {
        if (n <= kShort) return sum_short<X>(x, int(n), blocks, kept);
    }
    const int64_t count = kept ? sum_blocks<V, X, true>(x, n, blocks, kept)
                               : sum_blocks<V, X, false>(x, n, blocks, nullptr);
    const T peak = highest(blocks.peak[count - 1]);
    Part part = {double(peak), 0, -1, false};
    if (!(peak < T(INFINITY))) {
        part.broken = true;
        return part;
    }
    if (peak > T(-INFINITY)) {
        part.owner = owner_of<V, X>(x, n, blocks, peak);
        // The owner's lane is summed again without it; a NaN beside it is found there too.
        const int64_t sums = part.owner / (kLaneTerms * V::W);
        const int lane = int(part.owner % V::W);
        Lanes lanes;
        lanes.take<V, X>(x, n, sums, lane, part.owner);
        const double own = lanes.sum<sizeof(X) == 8>(part.peak);
        clear_lane<V>(&blocks.high[sums], lane);
        clear_lane<V>(&blocks.rest[sums], lane);
        const BlockSums others = sums_of_blocks<V>(blocks, count, part.peak);
        part.rest = own + others.all;
        const double least = part.rest / 16;
        if (sizeof(T) == 4 && others.largest > least) {
            part.rest = refined<V, X>(x, n, blocks, count, part.owner, part.peak, own, least);
        }
    } else {
        part.rest = sums_of_blocks<V>(blocks, count, 0).all * 0;  // 0, or NaN beside -inf
    }
    part.broken = part.rest != part.rest;
    return part;
}

CROSSENT_INLINE Part merged(Part a, Part b) {
    if (a.broken || b.broken) return {NAN, NAN, -1, true};
    if (b.owner < 0) return a;
    if (a.owner < 0) return b;
    if (b.peak > a.peak) {
        const Part swapped = a;
        a = b;
        b = swapped;
    }
    a.rest += (1 + b.rest) * exp_of_difference(b.peak, a.peak, 0);
    return a;
}

// ---- what labels and means add

struct LabelPart {
    double gap, target_sum, largest, others;  // others: the target without its largest entry
    int64_t at;                               // of the largest
};

// The targets t_j: a distribution times class weights, if there are any.
template <class Q>
struct Targets {
    Padded<Q> shares;
    Padded<double> weights;
    bool has_weights;

    CROSSENT_MEMBER Targets(const Q* q, const double* weight, int64_t n)
        : shares(q, n, 0), weights(weight, weight ? n : 0, 0), has_weights(weight != nullptr) {}
    // Shares come from memory, which the processor's own prefetching leaves at the end of a page.
    CROSSENT_MEMBER void prefetch(int64_t i) const {
        __builtin_prefetch((const char*)(shares.row + i) + kPrefetchBytes);
    }
    CROSSENT_MEMBER Vd::vec at(int64_t i) const {
        return has_weights ? Vd::mul(shares.at(i), weights.at(i)) : shares.at(i);
    }
};

// The sum of w_j q_j of a distribution, added up vector by vector; the same for any layout.
struct DistributionWeight {
    Vd::vec sum = Vd::set(0), weighted = sum, highest_share = sum, lowest_negative = sum;

    template <class Q>
    CROSSENT_MEMBER void add(const Targets<Q>& targets, int64_t i) {
        const Vd::vec share = targets.shares.at(i);
        sum = Vd::add(sum, share);
        highest_share = Vd::max(share, highest_share);
        lowest_negative = Vd::max(Vd::sub(Vd::set(0), share), lowest_negative);
        if (targets.has_weights) weighted = Vd::fma(share, targets.weights.at(i), weighted);
    }

    // False if it is no distribution: entries in [0, 1] that sum to 1 but for what rounding them
    // to their dtype takes (crossent._checks.sum_tolerance).
    CROSSENT_MEMBER bool total(int64_t n, Number number, const double* weight,
                               double* result) const {
        const double epsilon = number == Number::bfloat16  ? 0x1p-7
                               : number == Number::float16 ? 0x1p-10
                                                           : 0x1p-23;
        const double allowed = epsilon * (4 + 2 * sqrt(double(n)));
        const double all = sum_of_lanes(sum), off = all > 1 ? all - 1 : 1 - all;
        *result = weight ? sum_of_lanes(weighted) : all;
        return highest(highest_share) <= 1 && !(highest(lowest_negative) > 0) &&
               off <= (allowed < 0.05 ? allowed : 0.05);
    }
};

// The first of the largest |t_j|.
template <class Q>
CROSSENT_INLINE int64_t place_of_largest(const Targets<Q>& targets, int64_t n) {
    enum { kStep = 64 * Vd::W };
    const Vd::vec zero = Vd::set(0);
    const auto size = [&](int64_t i) __attribute__((always_inline)) {
        const Vd::vec t = targets.at(i);
        return Vd::max(t, Vd::sub(zero, t));
    };
    Vd::vec top = zero, step = zero;  // of each lane the largest, and where the step with it begins
    for (int64_t begin = 0; begin < n; begin += kStep) {
        Vd::vec here = zero, there = zero;
        const int64_t end = begin + kStep < n ? begin + kStep : n;
        for (int64_t i = begin; i < end; i += 2 * Vd::W) {
            targets.prefetch(i);
            here = Vd::max(size(i), here);
            if (i + Vd::W < end) there = Vd::max(size(i + Vd::W), there);
        }
        here = Vd::max(there, here);
        step = Vd::where_above(here, top, Vd::set(double(begin)), step);
        top = Vd::max(here, top);
    }
    const Vd::vec sought = Vd::set(highest(top));
    const unsigned lanes = Vd::equal_lanes(top, sought);
    double steps[Vd::W];
    Vd::store(steps, step);
    int64_t first = n;
    for (int k = 0; k < Vd::W; ++k) {
        if ((lanes >> k & 1) != 0 && int64_t(steps[k]) < first) first = int64_t(steps[k]);
    }
    for (int64_t i = first; i < n; i += Vd::W) {
        const unsigned hit = Vd::equal_lanes(size(i), sought);
        // Beside NaN a largest target of 0 may be found in what pads the row.
        if (hit != 0) return i + __builtin_ctz(hit) < n ? i + __builtin_ctz(hit) : 0;
    }
    return 0;
}

// Of the gradient's passes `target` is written, and the largest target found; others look whether
// this is a distribution. What both give has the same bits.
template <class V, class Q, class X, bool with_gradient>
static __attribute__((noinline)) LabelPart label_part(const Q* q, const X* x, int64_t n,
                                                      const double* weight, double peak,
                                                      typename V::T* target,
                                                      DistributionWeight* distribution) {
    const Targets<Q> targets(q, weight, n);
    const Padded<X> logits(x, n, -INFINITY);
    const Vd::vec zero = Vd::set(0), peaks = Vd::set(peak);
    LabelPart part = {};
    if (with_gradient) part.at = place_of_largest(targets, n);
    LaneSums<sizeof(typename V::T) == 8> gap, sum, others;
    DistributionWeight found;
    for (int64_t i = 0; i < n; i += Vd::W) {
        if (!with_gradient) targets.prefetch(i);
        const Vd::vec t = targets.at(i);
        const Vd::vec product = Vd::mul(t, Vd::sub(logits.at(i), peaks));
        gap.add(Vd::zero_where_equal(t, zero, product));  // 0 * -inf = 0
        sum.add(t);
        if (!with_gradient) {
            found.add(targets, i);
            continue;
        }
        Vd::vec rest = t;
        if (part.at >= i && part.at < i + Vd::W) {
            double lanes[Vd::W];
            Vd::store(lanes, t);
            part.largest = lanes[part.at - i];
            lanes[part.at - i] = 0;
            rest = Vd::load(lanes);
        }
        others.add(rest);
        Vd::store(target + i, t);
    }
    part.gap = gap.total();
    part.others = others.total();
    part.target_sum = sum.total();
    if (!with_gradient) *distribution = found;
    return part;
}

struct MeanPart {
    double gap, weight;
    int64_t unmasked;
};

template <class X>
static __attribute__((noinline)) MeanPart mean_part(const X* x, int64_t n, const double* weight,
                                                    double peak) {
    const Padded<X> row(x, n, -INFINITY);
    const Padded<double> weights(weight, weight ? n : 0, 0);
    const Vd::vec masked = Vd::set(-INFINITY), peaks = Vd::set(peak), one = Vd::set(1);
    Vd::vec gap = Vd::set(0), count = gap, sum = gap;
    for (int64_t i = 0; i < n; i += Vd::W) {
        const Vd::vec logits = row.at(i);
        Vd::vec here = Vd::sub(logits, peaks);
        if (weight) {
            const Vd::vec w = weights.at(i);
            here = Vd::mul(here, w);
            // A weight of 0 keeps a gap that overflowed from becoming NaN.
            here = Vd::zero_where_equal(w, Vd::set(0), here);
            sum = Vd::add(sum, Vd::zero_where_equal(logits, masked, w));
        }
        gap = Vd::add(gap, Vd::zero_where_equal(logits, masked, here));
        count = Vd::add(count, Vd::zero_where_equal(logits, masked, one));
    }
    const double unmasked = sum_of_lanes(count);
    return {sum_of_lanes(gap) / unmasked, weight ? sum_of_lanes(sum) / unmasked : 1,
            int64_t(unmasked)};
}

// ---- gradient of a row

struct GradientTerms {
    double by_p;     // coefficient of p_j: g_nll t + g_log_sum
    double by_t;     // of t_j: g_label_gap - g_nll
    double by_mean;  // of w_j / unmasked
    double factor;   // 1 / temperature: what the terms above hold already
    // The entry with the largest target, where p_j - t_j would cancel.
    int64_t special;
    double special_value;
};

template <class V, class X>
struct GradientRow {
    typedef typename V::T T;
    const X* x;
    const T* exponentials;
    const T* target;       // null: no t_j but the special one's
    const double* weight;  // class weights of the mean's term
    const double* slope;
    int64_t n;
    bool masks;  // some logits are -inf, and their mean's term 0
    bool with_mean;
};

CROSSENT_INLINE void write(double value, float* to) { *to = float(value); }
CROSSENT_INLINE void write(double value, double* to) { *to = value; }
template <class O>
CROSSENT_INLINE void write(double value, O* to) {
    narrow(float(value), to);
}

CROSSENT_INLINE void put(Vd::vec x, double* to) { Vd::store(to, x); }
CROSSENT_INLINE void put(Vd::vec x, float* to) { Vd::store(to, x); }
template <class O>
CROSSENT_INLINE void put(Vd::vec x, O* to) {
    if constexpr (sizeof(Vf::vec) > 16) {  // they narrow a vector at once: here one half of it
        O twice[Vf::W];
        Vf::store(twice, Vd::joined(x, x));
        memcpy(to, twice, sizeof twice / 2);
    } else {
        float lanes[Vd::W];
        Vd::store(lanes, x);
        for (int i = 0; i < Vd::W; ++i) narrow(lanes[i], to + i);
    }
}
template <class O>
CROSSENT_INLINE void put(Vf::vec x, O* to) {
    Vf::store(to, x);
}
CROSSENT_INLINE void put(Vf::vec x, double* to) {
    Vd::store(to, Vd::low_half(x));
    Vd::store(to + Vd::W, Vd::high_half(x));
}
CROSSENT_INLINE void put_past_cache(Vf::vec x, double* to) { put(x, to); }
CROSSENT_INLINE void put_past_cache(Vd::vec x, double* to) { Vd::stream(to, x); }
template <class O>
CROSSENT_INLINE void put_past_cache(Vd::vec x, O* to) {
    put(x, to);
}
template <class O>
CROSSENT_INLINE void put_past_cache(Vf::vec x, O* to) {
    Vf::stream(to, x);
}

// A number times doubles, rounded to the lanes of the result.
CROSSENT_INLINE Vd::vec product(Vd, double x, const double* y) {
    return Vd::mul(Vd::set(x), Vd::load(y));
}
CROSSENT_INLINE Vf::vec product(Vf, double x, const double* y) {
    return Vd::joined(product(Vd(), x, y), product(Vd(), x, y + Vd::W));
}

// One vector of the gradient; c is the coefficient of its exponentials.
template <class V, class X, bool plain>
CROSSENT_INLINE typename V::vec gradient_vector(const GradientRow<V, X>& row,
                                                const GradientTerms& terms, int64_t i,
                                                typename V::vec c) {
    typedef typename V::vec vec;
    typedef typename V::T T;
    vec g = V::mul(V::load(row.exponentials + i), c);
    if (plain) return g;
    if (row.target) g = V::fma(V::set(T(terms.by_t)), V::load(row.target + i), g);
    if (row.with_mean) {
        const X* x = row.x + i;
        const double* weight = row.weight ? row.weight + i : nullptr;
        X last_x[V::W];
        double last_weight[V::W];
        if (i + V::W > row.n) {  // scratch is padded, the caller's arrays are not
            for (int k = 0; k < V::W; ++k) {
                const int64_t j = i + k < row.n ? k : row.n - 1 - i;
                last_x[k] = x[j];
                last_weight[k] = weight ? weight[j] : 0;
            }
            x = last_x;
            weight = weight ? last_weight : nullptr;
        }
        vec mean = weight ? product(V(), terms.by_mean, weight) : V::set(T(terms.by_mean));
        if (row.masks) mean = V::zero_where_equal(V::load(x), V::set(T(-INFINITY)), mean);
        g = V::add(g, mean);
    }
    if constexpr (sizeof(T) == 8) {  // what transformed logits are
        if (row.slope) g = V::mul(g, V::load(row.slope + i));
    }
    return g;
}

template <class V, class X, class O, bool plain>
static __attribute__((noinline)) void gradient_run(const GradientRow<V, X>& row,
                                                   const GradientTerms& terms, int64_t begin,
                                                   int64_t end, double coefficient, O* out,
                                                   bool stream, const char* ahead) {
    typedef typename V::T T;
    const typename V::vec c = V::set(T(coefficient));
    int64_t i = begin;
    if (stream && end - begin >= 2 * V::W) {
        // Streaming stores need an aligned address; the vector before it overlaps the next one.
        const uintptr_t align = V::W * sizeof(O);
        put(gradient_vector<V, X, plain>(row, terms, i, c), out + i);
        i += int64_t((align - uintptr_t(out + i) % align) % align / sizeof(O));
        for (; i + V::W <= end; i += V::W) {
            // The next row's first half comes while this one's gradient leaves.
            __builtin_prefetch(ahead + (i - begin) * int64_t(sizeof(X)) / 2, 0, 2);
            put_past_cache(gradient_vector<V, X, plain>(row, terms, i, c), out + i);
        }
    }
    for (; i + V::W <= end; i += V::W) put(gradient_vector<V, X, plain>(row, terms, i, c), out + i);
    if (i < end) {  // scratch is padded, the result is not
        O tail[V::W];
        put(gradient_vector<V, X, plain>(row, terms, i, c), tail);
        memcpy(out + i, tail, size_t(end - i) * sizeof(O));
    }
}

// Where the coefficient of the exponentials leaves their format: one entry at a time, in double.
template <class V, class X, class O>
static __attribute__((noinline)) void gradient_slowly(const GradientRow<V, X>& row,
                                                      const GradientTerms& terms, int64_t begin,
                                                      int64_t end, double root, double rest,
                                                      O* out) {
    for (int64_t i = begin; i < end; ++i) {
        // The root of the power, twice: where the block is far below the peak it leaves double.
        double g = double(row.exponentials[i]) * unbias<V>() * root * root;
        g = g / (1 + rest) * terms.by_p;
        if (row.target) g += terms.by_t * double(row.target[i]);
        if (row.with_mean && !(row.masks && double(widened(row.x[i])) == -INFINITY)) {
            g += terms.by_mean * (row.weight ? row.weight[i] : 1);
        }
        if (row.slope) g *= row.slope[i];
        write(g, out + i);
    }
}

template <class V, class X, class O>
CROSSENT_INLINE void gradient_of_part(const GradientRow<V, X>& row, const GradientTerms& terms,
                                      const Blocks<V>& blocks, double peak, double rest, O* out,
                                      bool stream, const char* ahead) {
    const int64_t length = kBlockVectors * V::W;
    const bool plain = !row.target && !row.with_mean && !row.slope;
    const double smallest = sizeof(typename V::T) == 4 ? 0x1p-120 : 0x1p-1000;
    for (int64_t begin = 0; begin < row.n;) {
        const ExpReference<V> reference = blocks.reference[begin / length];
        int64_t end = begin;
        for (; end < row.n && blocks.reference[end / length].shift == reference.shift &&
               blocks.reference[end / length].whole == reference.whole;
             end += length) {
        }
        end = end < row.n ? end : row.n;
        const double power = power_of<V>(reference, peak) / (1 + rest);
        const double c = power * terms.by_p * unbias<V>();
        const double size = c < 0 ? -c : c;
        if (terms.by_p != 0 && !(size >= smallest && size <= 1 / smallest)) {
            gradient_slowly<V, X, O>(row, terms, begin, end, power_of<V>(reference, peak, 0.5),
                                     rest, out);
        } else if (plain) {
            gradient_run<V, X, O, true>(row, terms, begin, end, c, out, stream, ahead);
        } else {
            gradient_run<V, X, O, false>(row, terms, begin, end, c, out, stream, ahead);
        }
        begin = end;
    }
}

template <class O>
static __attribute__((noinline)) void fill(O* out, int64_t n, float value) {
    O one;
    narrow(value, &one);
    for (int64_t i = 0; i < n; ++i) out[i] = one;
}
static __attribute__((noinline)) void fill(double* out, int64_t n, double value) {
    for (int64_t i = 0; i < n; ++i) out[i] = value;
}

// ---- transformed logits

// No infinity: times 0 it is 0.
CROSSENT_INLINE double reciprocal(double x) {
    const double y = 1 / x;
    return y < 0x1p1022 ? y : 0x1p1022;
}

// softcap * tanh(x / softcap), and its slope. With e = exp(-2 |x| / softcap) = t + t p,
//
//     tanh = (1 - e) / (1 + e)       1 - e as (1 - t) - t p, which near 0, where t = 1, has all
//                                    digits, and farther out the table's rounding of t;
//          = 1 - 2 e / (1 + e)       from tanh = 1/2 on, where the quotient's roundings are small
//     slope = 1 - tanh^2 = e (1 + tanh)^2, without the cancellation
template <bool wide>
CROSSENT_INLINE Vd::vec capped(const ExpVectors<Vd>& vectors, Vd::vec x, double softcap,
                               Vd::vec* slope) {
    const Vd::vec one = Vd::set(1), down = minus_abs(x);
    // Of logits with half a double's digits a product with 2 / softcap has enough of them.
    const Vd::vec exponent = wide ? Vd::mul(Vd::set(2), Vd::div(down, Vd::set(softcap)))
                                  : Vd::mul(down, Vd::set(2 * reciprocal(softcap)));
    Vd::vec t, p;
    exp_terms<Vd, false>(vectors, exponent, &t, &p);
    t = Vd::mul(t, Vd::set(0x1p-500));  // out of the bias
    const Vd::vec e = Vd::fma(t, p, t);
    const Vd::vec third = Vd::set(1 / 3.0), twice = Vd::add(e, e);
    const Vd::vec rest = Vd::fnma(t, p, Vd::sub(one, t));
    const Vd::vec quotient = Vd::div(Vd::where_above(third, e, twice, rest), Vd::add(one, e));
    const Vd::vec tanh = Vd::where_above(third, e, Vd::sub(one, quotient), quotient);
    const Vd::vec rise = Vd::add(one, tanh);
    *slope = Vd::mul(e, Vd::mul(rise, rise));
    const Vd::vec y = with_sign_of(x, Vd::mul(Vd::set(softcap), tanh));
    // A mask stays one; +inf has no softmax, capped or not.
    return Vd::where_above(down, Vd::set(-INFINITY), y, x);
}

// Logits with softcap, then (x - peak) / temperature, in double; and the slope of the first, if
// there is one and anybody asks. Returns the peak that was subtracted.
template <class X>
static __attribute__((noinline)) double transformed(const X* x, int64_t n, double softcap,
                                                    double temperature, double* y, double* slope) {
    enum { wide = sizeof(X) == 8 };
    const Padded<X> row(x, n, -INFINITY);
    const ExpVectors<Vd> vectors = exp_vectors<Vd>({0, 0});
    Vd::vec top = Vd::set(-INFINITY);
    for (int64_t i = 0; i < n; i += Vd::W) {
        Vd::vec v = row.at(i), slopes;
        if (softcap != 0) {
            v = capped<wide>(vectors, v, softcap, &slopes);
            if (slope != nullptr) Vd::store(slope + i, slopes);
        }
        top = Vd::max(v, top);
        Vd::store(y + i, v);
    }
    const double peak = highest(top);
    // Without a temperature nothing needs be subtracted, nor can it from an infinite peak.
    if (temperature == 1 || !(peak > -INFINITY && peak < INFINITY)) return 0;
    const double factor = 1 / temperature;
    const bool divides = wide || !(factor < INFINITY);
    const Vd::vec peaks = Vd::set(peak), divisor = Vd::set(temperature), by = Vd::set(factor);
    for (int64_t i = 0; i < n; i += Vd::W) {
        const Vd::vec gap = Vd::sub(Vd::load(y + i), peaks);
        Vd::store(y + i, divides ? Vd::div(gap, divisor) : Vd::mul(gap, by));
    }
    return peak;
}

// ---- strided memory

CROSSENT_INLINE char* address(const Rows& rows, int64_t row) {
    if (rows.dimensions == 1) return rows.data + row * rows.strides[0];
    char* at = rows.data;
    for (int d = rows.dimensions - 1; d >= 0; --d) {
        at += row % rows.shape[d] * rows.strides[d];
        row /= rows.shape[d];
    }
    return at;
}

// How far it is from a row to the next one along the last of their axes, and where that one ends.
CROSSENT_INLINE int64_t step_of_rows(const Rows& rows) {
    return rows.dimensions == 0 ? 0 : rows.strides[rows.dimensions - 1];
}

CROSSENT_INLINE int64_t end_of_axis(const Rows& rows, int64_t row, int64_t end) {
    const int64_t length = rows.dimensions == 0 ? 1 : rows.shape[rows.dimensions - 1];
    const int64_t left = length - row % length;
    return left < end - row ? row + left : end;
}

CROSSENT_INLINE Rows sample_weights_of(const SoftmaxTask& task) {
    Rows weights;
    weights.data = (char*)task.sample_weight;
    weights.dimensions = task.logits.dimensions;
    for (int d = 0; d < weights.dimensions; ++d) {
        weights.shape[d] = task.logits.shape[d];
        weights.strides[d] = task.sample_weight_strides[d];
    }
    return weights;
}

template <class U>
static __attribute__((noinline)) void gather(const Rows& rows, int64_t begin, int count, int64_t n,
                                             U* to) {
    const char* from[16];
    for (int r = 0; r < count; ++r) from[r] = address(rows, begin + r);
    // Rows of a tile lie beside each other in memory: each line of the cache is read once.
    for (int64_t j = 0; j < n; ++j) {
        for (int r = 0; r < count; ++r) {
            memcpy(&to[r * n + j], from[r] + j * rows.class_stride, sizeof(U));
        }
    }
}

template <class U>
static __attribute__((noinline)) void scatter(const Rows& rows, int64_t begin, int count, int64_t n,
                                              const U* from) {
    char* to[16];
    for (int r = 0; r < count; ++r) to[r] = address(rows, begin + r);
    for (int64_t j = 0; j < n; ++j) {
        for (int r = 0; r < count; ++r) {
            memcpy(to[r] + j * rows.class_stride, &from[r * n + j], sizeof(U));
        }
    }
}

// ---- labels

CROSSENT_INLINE int64_t integer_at(const char* at, Number number) {
    switch (number) {
        case Number::boolean:
        case Number::uint8:
            return *(const uint8_t*)at;
        case Number::int8:
            return *(const int8_t*)at;
        case Number::int16:
            return *(const int16_t*)at;
        case Number::uint16:
            return *(const uint16_t*)at;
        case Number::int32:
            return *(const int32_t*)at;
        case Number::uint32:
            return *(const uint32_t*)at;
        case Number::int64:
            return *(const int64_t*)at;
        case Number::uint64:
            return int64_t(*(const uint64_t*)at);
        default:
            return 0;
    }
}

CROSSENT_INLINE double number_at(const char* at, Number number) {
    switch (number) {
        case Number::float32:
            return *(const float*)at;
        case Number::float64:
            return *(const double*)at;
        case Number::float16:
            return widened(*(const half_bits*)at);
        case Number::bfloat16:
            return widened(*(const bfloat_bits*)at);
        case Number::uint64:
            return double(*(const uint64_t*)at);
        default:
            return double(integer_at(at, number));
    }
}

template <class V, class X>
static LabelPart label_part_of(const SoftmaxTask& task, const char* q, const X* x, double peak,
                               typename V::T* target, double* wide, DistributionWeight* found) {
    const int64_t n = task.classes, stride = task.labels.class_stride;
    const Number number = task.labels.number;
    const auto part = [&](const auto* shares) {
        typedef decltype(+*shares) Q;
        return target
                   ? label_part<V, Q, X, true>(shares, x, n, task.class_weight, peak, target, found)
                   : label_part<V, Q, X, false>(shares, x, n, task.class_weight, peak, target,
                                                found);
    };
    if (number == Number::float32 && stride == 4) return part((const float*)q);
    if (number == Number::float64 && stride == 8) return part((const double*)q);
    for (int64_t j = 0; j < n; ++j) wide[j] = number_at(q + j * stride, number);
    return part((const double*)wide);
}

static __attribute__((noinline)) bool distribution_weight(const SoftmaxTask& task, const char* q,
                                                          double* result) {
    const Number number = task.labels.number;
    const int64_t n = task.classes, stride = task.labels.class_stride;
    DistributionWeight found;
    // `count` is a multiple of Vd::W in every piece but the last.
    const auto add = [&](const auto* shares, int64_t count, const double* weight)
                         __attribute__((always_inline)) {
                             typedef decltype(+*shares) Q;
                             const Targets<Q> targets(shares, weight, count);
                             for (int64_t i = 0; i < count; i += Vd::W) {
                                 targets.prefetch(i);
                                 found.add(targets, i);
                             }
                         };
    if (number == Number::float32 && stride == 4) {
        add((const float*)q, n, task.class_weight);
    } else if (number == Number::float64 && stride == 8) {
        add((const double*)q, n, task.class_weight);
    } else {
        enum { kPiece = 512 };
        double piece[kPiece];
        for (int64_t j = 0; j < n; j += kPiece) {
            const int64_t count = n - j < kPiece ? n - j : int64_t(kPiece);
            for (int64_t k = 0; k < count; ++k) piece[k] = number_at(q + (j + k) * stride, number);
            add((const double*)piece, count, task.class_weight ? task.class_weight + j : nullptr);
        }
    }
    return found.total(n, number, task.class_weight, result);
}

// ---- one row

struct RowStatistics {
    double peak, log_sum, label_gap, nll, target_sum, mean_gap, mean_weight;
};

// A row's loss without its weight, and the coefficients of its gradient with it.
struct RowLoss {
    double loss, g_nll, g_log_sum, g_mean;
};

CROSSENT_INLINE RowLoss loss_of(const SoftmaxTask& task, const RowStatistics& s, int64_t index,
                                double weight) {
    const double keep = 1 - task.smoothing, lse = s.peak + s.log_sum;
    double loss = task.smoothing == 0 ? s.nll : keep == 0 ? 0 : keep * s.nll;
    if (task.smoothing != 0) {
        loss = loss + task.smoothing * (s.mean_weight * s.log_sum - s.mean_gap);
    }
    if (task.z_loss != 0) {
        const double z = task.z_loss * lse * lse;
        loss = loss + (s.target_sum == 0 ? 0 : s.target_sum * z);
    }
    const double g = (task.upstream_rows ? task.upstream_rows[index] : task.upstream) * weight;
    RowLoss row = {loss, keep * g, task.smoothing * g * s.mean_weight, -task.smoothing * g};
    if (task.z_loss != 0) {  // in the order of the general way: z * lse * lse
        const double by_z = s.target_sum * g;
        row.g_log_sum += by_z * lse * task.z_loss + by_z * (task.z_loss * lse);
    }
    if (g == 0) row.g_log_sum = 0;  // not 0 times an infinite lse
    return row;
}

CROSSENT_INLINE void write_loss_of(const SoftmaxTask& task, int64_t index, double loss) {
    if (task.logits.number == Number::float64) {
        ((double*)task.losses)[index] = loss;
    } else {
        ((float*)task.losses)[index] = float(loss);
    }
}

template <class V, class X, class O>
struct Worker {
    typedef typename V::T T;
    const SoftmaxTask& task;
    RowScratch<V> scratch;
    double* label_row;
    DistributionWeight distribution;  // of the last row, where no gradient is asked for

    struct Found {
        RowStatistics statistics;
        double top;   // the peak of what the sums read
        double rest;  // S
        int64_t owner;
        bool broken;  // no softmax
        bool nan;     // and not because all classes are masked
        LabelPart label;
        MeanPart mean;
    };

    // Statistics of one row whose logits are contiguous; x is what the kernel reads, which the
    // transforms may have made.
    Found statistics_of(const X* x, double peak_before, const char* q) {
        const int64_t n = task.classes;
        Found found = {};
        int64_t id = -1;
        bool lost_label = false;
        if (task.label_kind == Labels::ids) {
            id = integer_at(q, task.labels.number);
            // Checked before, but another thread of the caller may have written there since.
            lost_label = uint64_t(id) >= uint64_t(n);
            if (lost_label) id = 0;
        }
        Part part = sum_part<V, X>(x, n < kPart ? n : int64_t(kPart), scratch.blocks,
                                   n <= kPart ? scratch.exponentials : nullptr);
        for (int64_t at = kPart; at < n; at += kPart) {
            const int64_t length = n - at < kPart ? n - at : int64_t(kPart);
            Part next = sum_part<V, X>(x + at, length, scratch.blocks, nullptr);
            if (next.owner >= 0) next.owner += at;
            part = merged(part, next);
        }
        found.nan = part.broken;
        found.broken = part.broken || part.owner < 0 || lost_label;
        found.top = part.peak;
        found.rest = part.rest;
        found.owner = part.owner;
        RowStatistics& s = found.statistics;
        s.peak = part.peak + peak_before / task.temperature;
        s.mean_weight = 1;
        s.log_sum = log1p(part.rest);
        s.target_sum = 1;
        if (task.label_kind == Labels::ids) {
            const double weight = task.class_weight ? task.class_weight[id] : 1;
            // Read last, when it is in cache.
            const double gap = id == part.owner ? 0 : double(widened(x[id])) - part.peak;
            found.label = {weight * gap, weight, weight, 0, id};
            if (weight == 0) found.label.gap = 0;
        } else if (task.label_kind == Labels::distribution) {
            found.label = label_part_of<V, X>(task, q, x, part.peak, scratch.target, label_row,
                                              &distribution);
        }
        if (task.label_kind != Labels::none) {
            s.target_sum = found.label.target_sum;
            s.label_gap = found.label.gap;
            s.nll = s.target_sum * s.log_sum - s.label_gap;
        }
        if (task.with_mean) {
            found.mean = mean_part<X>(x, n, task.class_weight, part.peak);
            s.mean_gap = found.mean.gap;
            s.mean_weight = found.mean.weight;
        }
        if (found.broken) {
            s.peak = s.log_sum = s.label_gap = s.nll = s.mean_gap = NAN;
        }
        return found;
    }

    void gradient_of(const X* x, const Found& found, double g_nll, double g_log_sum,
                     double g_label_gap, double g_mean, O* out, const char* ahead) {
        const int64_t n = task.classes;
        if (g_nll == 0 && g_log_sum == 0 && g_label_gap == 0 && g_mean == 0) {
            fill(out, n, 0);
            return;
        }
        if (found.broken) {
            fill(out, n, NAN);
            return;
        }
        const LabelPart& label = found.label;
        const double factor = task.as_probabilities ? 1 : 1 / task.temperature, top = found.top;
        GradientTerms terms = {};
        terms.factor = factor;
        terms.by_p = (g_nll * label.target_sum + g_log_sum) * factor;
        terms.by_t = (g_label_gap - g_nll) * factor;
        terms.by_mean = found.mean.unmasked > 0 ? g_mean * factor / double(found.mean.unmasked) : 0;
        GradientRow<V, X> row = {};
        row.x = x;
        row.exponentials = scratch.exponentials;
        row.target = task.label_kind == Labels::distribution ? scratch.target : nullptr;
        row.weight = task.class_weight;
        row.slope = scratch.slope;
        row.n = n;
        row.with_mean = task.with_mean && g_mean != 0;
        row.masks = row.with_mean && found.mean.unmasked < n;
        terms.special = task.label_kind == Labels::none ? found.owner : label.at;
        terms.special_value = special_entry(x, found, g_nll, g_log_sum, g_label_gap, row, terms);
        if (n <= kPart) {
            gradient_of_part<V, X, O>(row, terms, scratch.blocks, top, found.rest, out,
                                      task.stream_gradient, ahead);
        } else {
            for (int64_t at = 0; at < n; at += kPart) {
                const int64_t length = n - at < kPart ? n - at : int64_t(kPart);
                GradientRow<V, X> part = row;
                part.x = x + at;
                part.n = length;
                if (part.target) part.target += at;
                if (part.weight) part.weight += at;
                if (part.slope) part.slope += at;
                sum_blocks<V, X, true>(part.x, length, scratch.blocks, scratch.exponentials);
                gradient_of_part<V, X, O>(part, terms, scratch.blocks, top, found.rest, out + at,
                                          task.stream_gradient, ahead);
            }
        }
        if (task.stream_gradient) stream_done();
        write(terms.special_value, out + terms.special);
    }

    // t p_j - t_j where t_j is the largest target. As p_j -> 1 the difference of the two has no
    // digits left: p_j - 1 is formed from S, without the peak's own term.
    double special_entry(const X* x, const Found& found, double g_nll, double g_log_sum,
                         double g_label_gap, const GradientRow<V, X>& row,
                         const GradientTerms& terms) {
        const int64_t j = terms.special;
        const LabelPart& label = found.label;
        const double logit = double(widened(x[j]));
        const double log_p = (logit - found.top) - found.statistics.log_sum;
        const bool is_peak = j == found.owner;
        const double p = is_peak ? 1 / (1 + found.rest) : exp(log_p);
        // Beside the peak p <= 1/2: p - 1 has all digits of p.
        const double minus_one = is_peak ? -found.rest / (1 + found.rest) : p - 1;
        double g = g_nll * (label.largest * minus_one + label.others * p) + g_log_sum * p +
                   g_label_gap * label.largest;
        g *= terms.factor;
        if (row.with_mean && !(row.masks && logit == -INFINITY)) {
            g += terms.by_mean * (row.weight ? row.weight[j] : 1);
        }
        return row.slope ? g * row.slope[j] : g;
    }

    // x: the logits that the sums read; peak_before: what the transforms subtracted.
    void row(const X* x, double peak_before, int64_t index, const char* q, O* out,
             const char* ahead, double weight) {
        const Found found = statistics_of(x, peak_before, q);
        const RowStatistics& s = found.statistics;
        double g_nll = 0, g_log_sum = 0, g_label_gap = 0, g_mean = 0;
        if (task.is_loss) {
            const RowLoss row = loss_of(task, s, index, weight);
            write_loss(index, weight == 0 ? 0 : weight * (found.broken ? NAN : row.loss));
            g_nll = row.g_nll;
            g_log_sum = row.g_log_sum;
            g_mean = row.g_mean;
        } else {
            if (task.statistics) {
                const double all[] = {s.peak,       s.log_sum,  s.label_gap,  s.nll,
                                      s.target_sum, s.mean_gap, s.mean_weight};
                for (int k = 0; k < 7; ++k) task.statistics[k * task.rows + index] = all[k];
            }
            if (task.by_nll) g_nll = task.by_nll[index];
            if (task.by_log_sum) g_log_sum = task.by_log_sum[index];
            if (task.by_label_gap) g_label_gap = task.by_label_gap[index];
            if (task.by_mean_gap) g_mean = task.by_mean_gap[index];
        }
        if (task.is_log_sum_exp) {
            const bool nothing = found.owner < 0 && !found.nan;
            write_loss(index, nothing ? -INFINITY : s.peak + s.log_sum);
        }
        if (task.with_log_softmax) {
            log_softmax(x, found, out);
        } else if (task.as_probabilities) {  // the gradient of log_sum
            gradient_of(x, found, 0, 1, 0, 0, out, ahead);
        } else if (task.with_gradient) {
            gradient_of(x, found, g_nll, g_log_sum, g_label_gap, g_mean, out, ahead);
        }
    }

    void write_loss(int64_t index, double loss) { write_loss_of(task, index, loss); }

    void log_softmax(const X* x, const Found& found, O* out) {
        for (int64_t j = 0; j < task.classes; ++j) {
            const double gap = double(widened(x[j])) - found.top;
            write(found.broken ? NAN : gap - found.statistics.log_sum, out + j);
        }
    }
};

// ---- all rows of a range

// X0: what the logits are stored as; X: what the sums read (double after a transform).
template <class V, class X0, class X, class O>
static Outcome rows_as(const SoftmaxTask& task, int64_t begin, int64_t end, Scratch& memory) {
    typedef typename V::T T;
    const int64_t n = task.classes, padded = n + kBlockVectors * V::W;
    const int64_t part = (n < kPart ? n : int64_t(kPart)) + kBlockVectors * V::W;
    const int64_t blocks = part / (kBlockVectors * V::W) + 1 + kShort / (kBlockVectors * V::W);
    const bool transforms = task.softcap != 0 || task.temperature != 1;
    const bool outputs = task.with_gradient || task.with_log_softmax;
    const bool direct_in = task.logits.class_stride == int64_t(sizeof(X0)) || n == 1;
    const bool direct_out = !outputs || task.gradient.class_stride == int64_t(sizeof(O)) || n == 1;
    int64_t tile = (int64_t(1) << 18) / (n + 1);
    tile = direct_in && direct_out ? 1 : tile < 1 ? 1 : tile > 16 ? 16 : tile;

    Allocator use = {0};
    Worker<V, X, O> worker = {task, {}, nullptr, {}};
    X0* tile_in = nullptr;
    O* tile_out = nullptr;
    const auto lay_out = [&]() {
        worker.scratch.blocks.high = use.take<typename V::vec>(kSums * blocks);
        worker.scratch.blocks.rest = use.take<typename V::vec>(kSums * blocks);
        worker.scratch.blocks.peak = use.take<typename V::vec>(blocks);
        worker.scratch.blocks.reference = use.take<ExpReference<V>>(blocks);
        worker.scratch.exponentials = task.with_gradient ? use.take<T>(part) : nullptr;
        const bool soft = task.label_kind == Labels::distribution;
        worker.scratch.target = soft && task.with_gradient ? use.take<T>(padded) : nullptr;
        worker.label_row = soft ? use.take<double>(padded) : nullptr;
        worker.scratch.wide = transforms ? use.take<double>(padded) : nullptr;
        const bool slopes = task.softcap != 0 && task.with_gradient && !task.as_probabilities;
        worker.scratch.slope = slopes ? use.take<double>(padded) : nullptr;
        tile_in = direct_in ? nullptr : use.take<X0>(tile * n);
        tile_out = direct_out ? nullptr : use.take<O>(tile * n);
    };
    lay_out();
    char* start = memory.reserve(size_t(use.next));
    if (start == nullptr) return Outcome::no_memory;
    use.next = uintptr_t(start);
    lay_out();

    const Rows weights = sample_weights_of(task);
    double unused;
    const auto row_weight = [&](int64_t index) {
        return task.row_weight ? task.row_weight + index : &unused;
    };
    for (int64_t first = begin; first < end; first += tile) {
        const int count = int(end - first < tile ? end - first : tile);
        if (!direct_in) gather<X0>(task.logits, first, count, n, tile_in);
        for (int r = 0; r < count; ++r) {
            const int64_t index = first + r;
            const X0* logits = direct_in ? (const X0*)address(task.logits, index) : tile_in + r * n;
            O* out = !outputs     ? nullptr
                     : direct_out ? (O*)address(task.gradient, index)
                                  : tile_out + r * n;
            const char* q = task.label_kind == Labels::none ? nullptr : address(task.labels, index);
            double weight = 1;
            if (task.is_loss) {
                if (task.sample_weight) weight = *(const double*)address(weights, index);
                const bool skipped =
                    task.has_ignored && integer_at(q, task.labels.number) == task.ignored;
                if (skipped || weight == 0) {  // whatever its logits are
                    worker.write_loss(index, 0);
                    if (outputs) fill(out, n, 0);
                    if (task.checks_labels && !distribution_weight(task, q, row_weight(index))) {
                        return Outcome::invalid_labels;
                    }
                    continue;
                }
            }
            double peak = 0;
            const X* x = (const X*)logits;
            if (transforms) {
                peak = transformed<X0>(logits, n, task.softcap, task.temperature,
                                       worker.scratch.wide, worker.scratch.slope);
                x = (const X*)worker.scratch.wide;
            }
            worker.row(x, peak, index, q, out, (const char*)(logits + n), weight);
            if (task.checks_labels &&
                !worker.distribution.total(n, task.labels.number, task.class_weight,
                                           row_weight(index))) {
                return Outcome::invalid_labels;
            }
        }
        if (!direct_out) scatter<O>(task.gradient, first, count, n, tile_out);
    }
    return Outcome::done;
}

// ---- rows of few classes: a lane for each

// A row of two classes is a quarter of a vector, and its end, log1p and all, takes longer than its
// sum. So Vd::W rows go through every step together, class by class. Of losses of class ids that
// read no transformed logits: what people have many short rows of.
CROSSENT_INLINE bool is_for_lanes(const SoftmaxTask& task) {
    return task.is_loss && task.label_kind == Labels::ids && task.classes <= kShort &&
           task.softcap == 0 && task.temperature == 1;
}

// Rows along one axis, and the places of those that are lanes now.
struct LaneRows {
    char* next = nullptr;
    int64_t step = 0;
    char* at[Vd::W];
    bool beside = false;  // in memory, in the order of the lanes

    CROSSENT_MEMBER void begin(const Rows& rows, int64_t first) {
        next = address(rows, first);
        step = step_of_rows(rows);
    }
    CROSSENT_MEMBER void advance(int count, int64_t size) {
        // Lanes without a row have the first one again.
        for (int r = 0; r < Vd::W; ++r) at[r] = next + (r < count ? r * step : 0);
        beside = count == Vd::W && step == size;
        next += count * step;
    }
};

template <class X>
struct LaneWorker {
    const SoftmaxTask& task;
    LaneRows logits, labels, weights, gradient;
    bool is_zero[Vd::W];                             // a row without a gradient
    alignas(64) X lanes[kShort][Vd::W];              // of logits, then of the gradient
    alignas(64) double exponentials[kShort][Vd::W];  // exp(logit - peak) 2^500
    alignas(64) double peak[Vd::W], rest[Vd::W], log_sum[Vd::W], coefficient[Vd::W];
    // Of smoothed labels: what mean_part finds, and the coefficient of w_j / unmasked.
    alignas(64) double mean_gap[Vd::W], mean_weight[Vd::W], unmasked[Vd::W], by_mean[Vd::W];

    explicit CROSSENT_MEMBER LaneWorker(const SoftmaxTask& task) : task(task) {}

    // One class of all rows.
    CROSSENT_MEMBER Vd::vec logit(int64_t j) const {
        return Vd::load(logits.beside ? (const X*)(logits.at[0] + j * task.logits.class_stride)
                                      : lanes[j]);
    }

    void sums() {
        const int64_t n = task.classes;
        Vd::vec top = Vd::set(-INFINITY);
        for (int64_t j = 0, at = 0; j < n; ++j, at += task.logits.class_stride) {
            for (int r = 0; r < Vd::W && !logits.beside; ++r) {
                lanes[j][r] = *(const X*)(logits.at[r] + at);
            }
            top = Vd::max(logit(j), top);
        }
        const ExpVectors<Vd> e = exp_vectors<Vd>({0, 0});
        const Vd::vec one = Vd::set(1);
        // Two chains of sums, which would wait for each other.
        Vd::vec others[2] = {Vd::set(0), Vd::set(0)}, peaks[2] = {Vd::set(-1), Vd::set(0)};
        for (int64_t j = 0; j < n; ++j) {
            const Vd::vec x = logit(j), power = exp_of_gap<false>(e, x, top);
            Vd::store(exponentials[j], power);
            others[j % 2] = Vd::add(others[j % 2], Vd::zero_where_equal(x, top, power));
            const Vd::vec no_peak = Vd::zero_where_equal(x, top, one);
            peaks[j % 2] = Vd::add(peaks[j % 2], Vd::sub(one, no_peak));
        }
        const Vd::vec s =
            Vd::fma(Vd::add(others[0], others[1]), Vd::set(0x1p-500), Vd::add(peaks[0], peaks[1]));
        Vd::store(peak, top);
        Vd::store(rest, s);
        Vd::store(log_sum, log1p_of_sum(s));
        if (task.smoothing != 0) means(top);
    }

    void means(Vd::vec top) {
        const Vd::vec masked = Vd::set(-INFINITY), one = Vd::set(1);
        Vd::vec gap = Vd::set(0), weight = gap, count = gap;
        for (int64_t j = 0; j < task.classes; ++j) {
            const Vd::vec x = logit(j), w = weight_of(j);
            // A weight of 0 keeps a gap that overflowed from becoming NaN.
            Vd::vec here = Vd::zero_where_equal(w, Vd::set(0), Vd::mul(Vd::sub(x, top), w));
            gap = Vd::add(gap, Vd::zero_where_equal(x, masked, here));
            weight = Vd::add(weight, Vd::zero_where_equal(x, masked, w));
            count = Vd::add(count, Vd::zero_where_equal(x, masked, one));
        }
        Vd::store(mean_gap, Vd::div(gap, count));
        Vd::store(mean_weight, Vd::div(weight, count));
        Vd::store(unmasked, count);
    }

    CROSSENT_MEMBER Vd::vec weight_of(int64_t j) const {
        return Vd::set(task.class_weight ? task.class_weight[j] : 1);
    }

    void clear(int r) {
        coefficient[r] = by_mean[r] = 0;
        is_zero[r] = true;
    }

    // Writes the loss of a row. Of its gradient the lane's coefficient, and returns the entry of
    // the label, which cancels in the product: p - 1 is formed from S.
    double finish(int r, int64_t id, int64_t index, double weight) {
        // Checked before, but another thread of the caller may have written there since.
        const bool lost_label = uint64_t(id) >= uint64_t(task.classes);
        const X* x = (const X*)(logits.at[r] + (lost_label ? 0 : id) * task.logits.class_stride);
        const double gap = double(widened(*x)) - peak[r];
        const double w = task.class_weight && !lost_label ? task.class_weight[id] : 1;
        RowStatistics s = {};
        s.peak = peak[r];
        s.log_sum = log_sum[r];
        s.target_sum = w;
        s.nll = w * s.log_sum - (w == 0 ? 0 : w * gap);
        if (task.smoothing != 0) {
            s.mean_gap = mean_gap[r];
            s.mean_weight = mean_weight[r];
        }
        // Not finite, or nothing but -inf.
        const bool broken = lost_label || !(rest[r] < INFINITY) || !(peak[r] - peak[r] == 0);
        const RowLoss row = loss_of(task, s, index, weight);
        write_loss_of(task, index, broken ? NAN : weight * row.loss);
        if (!task.with_gradient) return 0;
        const bool none = row.g_nll == 0 && row.g_log_sum == 0 && row.g_mean == 0;
        is_zero[r] = none;
        by_mean[r] = none || row.g_mean == 0 ? 0 : row.g_mean / unmasked[r];
        const double share = 1 / (1 + rest[r]);
        const double p = lost_label ? 0 : exponentials[id][r] * 0x1p-500 * share;
        coefficient[r] = none     ? 0
                         : broken ? NAN
                                  : (row.g_nll * w + row.g_log_sum) * share * 0x1p-500;
        const double minus_one = gap == 0 ? -rest[r] * share : p - 1;
        const double of_mean = gap == -INFINITY ? 0 : by_mean[r] * w;
        return none ? 0 : broken ? NAN : row.g_nll * w * minus_one + row.g_log_sum * p + of_mean;
    }

    // The same for all rows at once, where each is a loss of weight 1; false if a label is lost.
    bool finish_plain(int count, int64_t first, int64_t* ids, double* of_labels) {
        alignas(64) double x[Vd::W], power[Vd::W];
        for (int r = 0; r < Vd::W; ++r) {
            const int64_t id = integer_at(labels.at[r], task.labels.number);
            if (uint64_t(id) >= uint64_t(task.classes)) return false;
            ids[r] = id;
            x[r] = double(widened(*(const X*)(logits.at[r] + id * task.logits.class_stride)));
            if (task.with_gradient) power[r] = exponentials[id][r];
            is_zero[r] = false;
        }
        const Vd::vec top = Vd::load(peak), s = Vd::load(rest), gap = Vd::sub(Vd::load(x), top);
        const Vd::vec poison = Vd::sub(top, top);  // NaN where the peak is no number
        const Vd::vec nll = Vd::add(Vd::sub(Vd::load(log_sum), gap), poison);
        float* losses = (float*)task.losses + first;
        if (count == Vd::W) {
            Vd::store(losses, nll);
        } else {
            Vd::store(x, nll);
            for (int r = 0; r < count; ++r) losses[r] = float(x[r]);
        }
        if (!task.with_gradient) return true;
        const Vd::vec g = Vd::add(Vd::set(task.upstream), poison), one = Vd::set(1);
        const Vd::vec share = Vd::div(one, Vd::add(one, s)), zero = Vd::set(0);
        const Vd::vec p = Vd::mul(Vd::mul(Vd::load(power), Vd::set(0x1p-500)), share);
        const Vd::vec of_peak = Vd::mul(Vd::sub(zero, s), share);
        const Vd::vec minus_one = Vd::where_above(zero, gap, Vd::sub(p, one), of_peak);
        Vd::store(coefficient, Vd::mul(Vd::mul(g, share), Vd::set(0x1p-500)));
        Vd::store(of_labels, Vd::mul(g, minus_one));
        return true;
    }

    void write_gradient(int count, const int64_t* ids, const double* of_labels) {
        const int64_t n = task.classes, stride = task.gradient.class_stride;
        const Vd::vec c = Vd::load(coefficient);
        for (int64_t j = 0; j < n; ++j) {
            Vd::vec g = Vd::mul(Vd::load(exponentials[j]), c);
            if (task.smoothing != 0) {
                const Vd::vec mean = Vd::mul(Vd::load(by_mean), weight_of(j));
                g = Vd::add(g, Vd::zero_where_equal(logit(j), Vd::set(-INFINITY), mean));
            }
            put(g, gradient.beside ? (X*)(gradient.at[0] + j * stride) : lanes[j]);
        }
        for (int r = 0; r < count; ++r) {
            char* to = gradient.at[r];
            if (!gradient.beside) {
                for (int64_t j = 0; j < n; ++j) *(X*)(to + j * stride) = lanes[j][r];
            }
            if (is_zero[r]) {  // not 0 times what is no number
                for (int64_t j = 0; j < n; ++j) write(0.0, (X*)(to + j * stride));
            }
            if (ids[r] >= 0) write(of_labels[r], (X*)(to + ids[r] * stride));
        }
    }
};

template <class X>
static void rows_in_lanes(const SoftmaxTask& task, int64_t begin, int64_t end) {
    LaneWorker<X> worker(task);
    const Rows weights = sample_weights_of(task);
    const bool plain = !task.class_weight && !task.sample_weight && !task.has_ignored &&
                       task.smoothing == 0 && task.z_loss == 0 && !task.upstream_rows &&
                       task.upstream != 0;
    int64_t stop = begin;  // of this axis
    for (int64_t first = begin; first < end;) {
        if (first == stop) {
            stop = end_of_axis(task.logits, first, end);
            worker.logits.begin(task.logits, first);
            worker.labels.begin(task.labels, first);
            if (task.sample_weight) worker.weights.begin(weights, first);
            if (task.with_gradient) worker.gradient.begin(task.gradient, first);
        }
        const int count = stop - first < Vd::W ? int(stop - first) : int(Vd::W);
        worker.logits.advance(count, sizeof(X));
        worker.labels.advance(count, 0);
        worker.weights.advance(count, 0);
        worker.gradient.advance(count, sizeof(X));
        worker.sums();
        int64_t ids[Vd::W];
        double of_labels[Vd::W];
        if (!plain || !worker.finish_plain(count, first, ids, of_labels)) {
            for (int r = count; r < Vd::W; ++r) worker.clear(r);
            for (int r = 0; r < count; ++r) {
                const int64_t id = integer_at(worker.labels.at[r], task.labels.number);
                const double weight = task.sample_weight ? *(const double*)worker.weights.at[r] : 1;
                worker.clear(r);
                ids[r] = -1;
                if ((task.has_ignored && id == task.ignored) || weight == 0) {
                    write_loss_of(task, first + r, 0);  // whatever its logits
                    continue;
                }
                of_labels[r] = worker.finish(r, id, first + r, weight);
                if (uint64_t(id) < uint64_t(task.classes)) ids[r] = id;
            }
        }
        if (task.with_gradient) worker.write_gradient(count, ids, of_labels);
        first += count;
    }
}

static bool softmax_labels(const SoftmaxTask& task, int64_t begin, int64_t end,
                           double* row_weight) {
    const Number number = task.labels.number;
    const int64_t step = step_of_rows(task.labels);
    for (int64_t row = begin; row < end;) {
        const char* q = address(task.labels, row);
        const int64_t stop = end_of_axis(task.labels, row, end);
        if (number == Number::int64 && task.label_kind == Labels::ids && row_weight == nullptr) {
            // Most labels: no branch, so that several are looked at together.
            bool valid = true;
            for (; row < stop; ++row, q += step) {
                const int64_t id = *(const int64_t*)q;
                const bool ignored = task.has_ignored && id == task.ignored;
                valid = valid & (ignored | (uint64_t(id) < uint64_t(task.classes)));
            }
            if (!valid) return false;
        }
        for (; row < stop; ++row, q += step) {
            double weight = 1;
            if (task.label_kind == Labels::distribution) {
                if (!distribution_weight(task, q, &weight)) return false;
            } else {
                const int64_t id = integer_at(q, number);
                if (number == Number::uint64 && id < 0) {
                    return false;  // 2^63 and more, which looks negative here
                } else if (task.has_ignored && id == task.ignored) {
                    weight = -0.0;  // its sign tells it from a class weight of 0
                } else if (id < 0 || id >= task.classes) {
                    return false;
                } else if (task.class_weight) {
                    weight = task.class_weight[id] + 0.0;  // which may be -0.0
                }
            }
            if (row_weight) row_weight[row] = weight;
        }
    }
    return true;
}

// X: what the logits are stored as, O: what the gradient or the probabilities are.
template <class X, class O>
static Outcome rows_of(const SoftmaxTask& task, int64_t begin, int64_t end, Scratch& memory) {
    if (task.softcap != 0 || task.temperature != 1) {
        return rows_as<Vd, X, double, O>(task, begin, end, memory);
    }
    if (is_for_lanes(task)) {
        rows_in_lanes<X>(task, begin, end);
        return Outcome::done;
    }
    // Probabilities in double need exponentials in double. All else has S from the same sums.
    const bool exact = task.as_probabilities && sizeof(O) == 8;
    return task.classes <= kShort || exact ? rows_as<Vd, X, X, O>(task, begin, end, memory)
                                           : rows_as<Vf, X, X, O>(task, begin, end, memory);
}

// The gradient has the logits' own number; probabilities and their logs may be wider.
template <class X>
static Outcome rows_from(const SoftmaxTask& task, int64_t begin, int64_t end, Scratch& memory) {
    if (task.as_probabilities || task.with_log_softmax) {
        return task.gradient.number == Number::float64
                   ? rows_of<X, double>(task, begin, end, memory)
                   : rows_of<X, float>(task, begin, end, memory);
    }
    return rows_of<X, X>(task, begin, end, memory);
}

static Outcome softmax_rows(const SoftmaxTask& task, int64_t begin, int64_t end, Scratch& memory) {
    switch (task.logits.number) {
        case Number::float64:
            return rows_as<Vd, double, double, double>(task, begin, end, memory);
        case Number::float32:
            return rows_from<float>(task, begin, end, memory);
        case Number::float16:
            return rows_from<half_bits>(task, begin, end, memory);
        case Number::bfloat16:
            return rows_from<bfloat_bits>(task, begin, end, memory);
        default:
            return Outcome::done;
    }
}

}  // namespace
}  // namespace CROSSENT_ISA
}  // namespace crossent
