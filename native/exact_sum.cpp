#include "exact_sum.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "floating_point.h"

namespace crossent {
namespace {

constexpr int kUnitExponent = -1075;

template <typename Float>
struct Format;

template <>
struct Format<float> {
    using Bits = uint32_t;
    static constexpr int kFractionBits = 23;
    static constexpr int kExponentMask = 0xff;
    static constexpr int kLeastExponent = -149;
};

template <>
struct Format<double> {
    using Bits = uint64_t;
    static constexpr int kFractionBits = 52;
    static constexpr int kExponentMask = 0x7ff;
    static constexpr int kLeastExponent = -1074;
};

template <typename Float>
struct Fields {
    typename Format<Float>::Bits fraction;
    int exponent;
    bool negative;

    bool is_finite() const { return exponent != Format<Float>::kExponentMask; }
    uint64_t significand() const {
        return static_cast<uint64_t>(exponent != 0) << Format<Float>::kFractionBits | fraction;
    }
};

template <typename Float>
typename Format<Float>::Bits bits_of(Float value) {
    typename Format<Float>::Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

template <typename Float>
Fields<Float> fields_of(Float value) {
    using Bits = typename Format<Float>::Bits;
    constexpr int fraction_bits = Format<Float>::kFractionBits;
    const Bits bits = bits_of(value);
    return {bits & ((Bits{1} << fraction_bits) - 1),
            static_cast<int>(bits >> fraction_bits) & Format<Float>::kExponentMask,
            bits >> (8 * sizeof bits - 1) != 0};
}

// Position in the sum of the last bit of a significand. Subnormals have the scale of exponent 1.
// Not written with std::max: that became a branch, and doubles with random zeros among them took
// 2.3 times as long.
template <typename Float>
int position_of(int exponent) {
    const int scale = exponent + static_cast<int>(exponent == 0);
    return scale - 1 + Format<Float>::kLeastExponent - kUnitExponent;
}

void add_special(ExactSum& sum, bool negative, uint64_t fraction) {
    if (fraction != 0) {
        sum.nan = true;
    } else if (negative) {
        sum.minus_infinity = true;
    } else {
        sum.plus_infinity = true;
    }
}

// Each digit changes by less than 2^32, so `carry` must run before 2^31 of these.
void add_integer(ExactSum& sum, uint64_t magnitude, int position, bool negative) {
    int64_t* digit = sum.digit + position / 32;
    const int shift = position % 32;
    const uint64_t low = magnitude << shift;
    const uint64_t high = magnitude >> (63 - shift) >> 1;  // a shift by 64 would be undefined
    const int64_t sign = negative ? -1 : 1;
    digit[0] += sign * static_cast<int64_t>(low & 0xffffffff);
    digit[1] += sign * static_cast<int64_t>(low >> 32);
    digit[2] += sign * static_cast<int64_t>(high);
}

void carry(ExactSum& sum) {
    for (int i = 0; i + 1 < ExactSum::kDigits; ++i) {
        const int64_t over = sum.digit[i] >> 32;  // rounds down, so the digit that stays is >= 0
        sum.digit[i] &= 0xffffffff;
        sum.digit[i + 1] += over;
    }
}

template <typename Float>
void add_one(ExactSum& sum, Float value) {
    const Fields<Float> fields = fields_of(value);
    if (fields.is_finite()) {
        add_integer(sum, fields.significand(), position_of<Float>(fields.exponent),
                    fields.negative);
    } else {
        add_special(sum, fields.negative, fields.fraction);
    }
}

constexpr int64_t kBlock = 1 << 10;
constexpr int64_t kStretch = 1 << 15;
constexpr int64_t kRun = 1 << 30;  // values before a carry

// The sum of at most kBlock floats, if they are of similar size.
//
// Let l and h be the least and the greatest exponent field, without zeros. All partial sums, in
// any order, are multiples of 2^(l - 150) below 2^10 * 2^(h - 126). For h - l <= 19 that is 53
// bits: doubles hold them all and nothing is ever rounded. Infinities and NaN give the right
// special value by themselves. Subnormals are left to the integers because the processor may have
// been told to read them as 0.
bool similar_sum(const float* values, int64_t count, double* sum) {
    int32_t greatest = 0;
    int32_t least = 0x7fffffff;
    for (int64_t i = 0; i < count; ++i) {
        const auto magnitude = static_cast<int32_t>(bits_of(values[i]) & 0x7fffffff);
        greatest = std::max(greatest, magnitude);
        // Less one, a zero becomes the greatest of all. A power of two seems to have the exponent
        // below its own, which errs on the safe side.
        least = std::min(least, (magnitude - 1) & 0x7fffffff);
    }
    const int least_exponent = least >> 23;
    const int greatest_exponent = greatest >> 23;
    if (least_exponent == 0 || greatest_exponent - least_exponent > 19) {
        return false;
    }

    // Eight chains, because one addition waits four cycles for the one before it.
    double lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (int k = 0; k < 8; ++k) {
            lanes[k] += values[i + k];
        }
    }
    for (; i < count; ++i) {
        lanes[0] += values[i];
    }
    *sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    return true;
}

// Adds at most kStretch floats of any size: one bin for each sign and exponent.
void add_binned(ExactSum& sum, const float* values, int64_t count) {
    // A bin counts its values from bit 44 on, and sums their fractions below: 2^15 * 2^23 < 2^44.
    constexpr uint64_t one = uint64_t{1} << 44;
    // Two tables, because neighbours often share a bin and would wait for each other's store.
    uint64_t bins[2][512] = {};
    const auto put = [](uint64_t* table, uint32_t bits) {
        table[bits >> 23] += one | (bits & 0x7fffff);
    };
    int64_t pair = 0;
    for (; pair + 2 <= count; pair += 2) {
        put(bins[0], bits_of(values[pair]));
        put(bins[1], bits_of(values[pair + 1]));
    }
    if (pair < count) {
        put(bins[0], bits_of(values[pair]));
    }
    for (int i = 0; i < 512; ++i) {
        const uint64_t bin = bins[0][i] + bins[1][i];
        const uint64_t members = bin / one;
        const uint64_t fractions = bin % one;
        const int exponent = i & 0xff;
        const bool negative = i >= 256;
        if (members == 0) {
            continue;
        }
        if (exponent == 0xff) {
            add_special(sum, negative, fractions);
        } else {
            const uint64_t hidden_bits = exponent != 0 ? members << 23 : 0;
            add_integer(sum, hidden_bits + fractions, position_of<float>(exponent), negative);
        }
    }
}

template <typename Float>
void add_each(ExactSum& sum, const Float* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        add_one(sum, values[i]);
    }
}

void add_run(ExactSum& sum, const float* values, int64_t count) {
    while (count > 0) {
        int64_t done = std::min(count, kBlock);
        double some;
        if (similar_sum(values, done, &some)) {
            add_one(sum, some);
        } else {
            // Data of wide range is so throughout as a rule: try again only a stretch later.
            done = std::min(count, kStretch);
            // The tables take as long as 250 single values.
            done < 256 ? add_each(sum, values, done) : add_binned(sum, values, done);
        }
        values += done;
        count -= done;
    }
}

void add_run(ExactSum& sum, const double* values, int64_t count) { add_each(sum, values, count); }

template <typename Float>
void add_values(ExactSum& sum, const Float* values, int64_t count, int64_t stride) {
    Float gathered[kBlock];
    const int64_t longest_run = stride == 1 ? kRun : kBlock;
    for (int64_t start = 0; start < count; start += longest_run) {
        const int64_t some = std::min(count - start, longest_run);
        if (stride == 1) {
            add_run(sum, values + start, some);
        } else {
            for (int64_t i = 0; i < some; ++i) {
                gathered[i] = values[(start + i) * stride];
            }
            add_run(sum, gathered, some);
        }
        carry(sum);
    }
}

// The Float nearest to (significand + something in [0, 1)) * 2^exponent; `inexact` says that the
// something is not 0. The significand is in [2^53, 2^63), so that it holds the bit to round by.
template <typename Float>
Float nearest(bool negative, uint64_t significand, int exponent, bool inexact) {
    using Bits = typename Format<Float>::Bits;
    constexpr int fraction_bits = Format<Float>::kFractionBits;
    const int leading = 63 - __builtin_clzll(significand);
    const int last_exponent =
        std::max(exponent + leading - fraction_bits, Format<Float>::kLeastExponent);
    const int dropped = last_exponent - exponent;
    uint64_t kept = 0;
    if (dropped < 64) {  // else there is less than half of the least number
        const uint64_t half = uint64_t{1} << (dropped - 1);
        kept = significand >> dropped;
        const bool above_half = inexact || (significand & (half - 1)) != 0;
        kept += (significand & half) != 0 && (above_half || kept % 2 != 0);
    }
    // The hidden bit of `kept` adds 1 to the exponent field, and so does a carry out of rounding.
    const auto field = static_cast<uint64_t>(last_exponent - Format<Float>::kLeastExponent);
    constexpr uint64_t infinity = uint64_t{Format<Float>::kExponentMask} << fraction_bits;
    auto bits = static_cast<Bits>(std::min((field << fraction_bits) + kept, infinity));
    if (negative && bits != 0) {
        bits |= Bits{1} << (8 * sizeof bits - 1);
    }
    Float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

ExactSum negated(const ExactSum& sum) {
    ExactSum result;
    for (int i = 0; i < ExactSum::kDigits; ++i) {
        result.digit[i] = -sum.digit[i];
    }
    carry(result);
    return result;
}

// The sum itself where it is 0, infinite or NaN; else 1 or -1.
double kind_of(const ExactSum& sum) {
    if (sum.nan || (sum.plus_infinity && sum.minus_infinity)) {
        return NAN;
    }
    if (sum.plus_infinity || sum.minus_infinity) {
        return sum.plus_infinity ? INFINITY : -INFINITY;
    }
    if (sum.digit[ExactSum::kDigits - 1] < 0) {
        return -1;
    }
    return std::any_of(sum.digit, sum.digit + ExactSum::kDigits, [](int64_t d) { return d != 0; });
}

template <typename Float>
Float quotient(const ExactSum& sum, double divisor) {
    const double kind = kind_of(sum);
    const Fields<double> fields = fields_of(divisor);
    const uint64_t m = fields.significand();
    if (!std::isfinite(kind) || !fields.is_finite() || m == 0) {
        const double special = kind / divisor;
        return special == 0 ? Float{0} : static_cast<Float>(special);
    }
    if (kind == 0) {
        return 0;  // not 0 / divisor: a subnormal divisor may count as 0 here
    }

    const ExactSum magnitude = kind < 0 ? negated(sum) : sum;
    int top = ExactSum::kDigits - 1;
    while (magnitude.digit[top] == 0) {
        --top;
    }
    int bottom = 0;
    while (magnitude.digit[bottom] == 0) {
        ++bottom;
    }
    const auto byte = [&magnitude](int k) {
        return k < 0 ? 0 : static_cast<uint64_t>(magnitude.digit[k / 4]) >> (8 * (k % 4)) & 0xff;
    };
    // Long division byte by byte, with zeros behind the last byte of the sum. The remainder stays
    // below m < 2^53; the quotient stops between 2^53 and 2^61.
    int k = 4 * (top + 1);
    uint64_t quotient = 0;
    uint64_t remainder = 0;
    while (quotient < uint64_t{1} << 53) {
        --k;
        remainder = remainder << 8 | byte(k);
        quotient = quotient << 8 | remainder / m;
        remainder %= m;
    }
    bool inexact = remainder != 0;
    for (int below = 4 * bottom; below < k && !inexact; ++below) {
        inexact = byte(below) != 0;
    }
    const int exponent = 8 * k - position_of<double>(fields.exponent);
    return nearest<Float>((kind < 0) != fields.negative, quotient, exponent, inexact);
}

}  // namespace

void add(ExactSum& sum, const float* values, int64_t count, int64_t stride) {
    add_values(sum, values, count, stride);
}

void add(ExactSum& sum, const double* values, int64_t count, int64_t stride) {
    add_values(sum, values, count, stride);
}

void merge(ExactSum& into, const ExactSum& from) {
    for (int i = 0; i < ExactSum::kDigits; ++i) {
        into.digit[i] += from.digit[i];
    }
    carry(into);
    into.nan |= from.nan;
    into.plus_infinity |= from.plus_infinity;
    into.minus_infinity |= from.minus_infinity;
}

float rounded_to_float(const ExactSum& sum) { return quotient<float>(sum, 1.0); }
double rounded_to_double(const ExactSum& sum) { return quotient<double>(sum, 1.0); }
float quotient_to_float(const ExactSum& sum, double divisor) {
    return quotient<float>(sum, divisor);
}
double quotient_to_double(const ExactSum& sum, double divisor) {
    return quotient<double>(sum, divisor);
}

float quotient_to_float(const float* values, int64_t count, double divisor) {
    double sum;
    if (count <= kBlock && similar_sum(values, count, &sum)) {
        // One rounding of the quotient cannot carry it over a double, and so not over the number
        // halfway between two floats; unless it lands there, the float nearest to it is the one
        // nearest to the quotient itself.
        const Fields<double> fields = fields_of(sum / divisor);
        constexpr int below = Format<double>::kFractionBits - Format<float>::kFractionBits;
        constexpr uint64_t half = uint64_t{1} << (below - 1);
        const bool is_normal = fields.exponent > 1023 - 127 && fields.exponent < 1023 + 127;
        if (is_normal && (fields.fraction & (2 * half - 1)) != half) {
            const int exponent = position_of<double>(fields.exponent) + kUnitExponent;
            return nearest<float>(fields.negative, fields.significand() << 1, exponent - 1, false);
        }
    }
    ExactSum all;
    add(all, values, count, 1);
    return quotient_to_float(all, divisor);
}

}  // namespace crossent
