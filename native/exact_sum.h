// Sums of floating-point numbers without any rounding, and quotients of them rounded once.
//
// The result is a function of the multiset of summands: threads, batches and their order cannot
// change a bit of it. Right under every rounding mode and with subnormals flushed to zero.
#pragma once

#include <cstdint>

namespace crossent {

// The sum over i of digit[i] * 2^(32 i - 1075), exact for 2^40 summands of any size. `ExactSum{}`
// is 0.
//
// 2^-1075 is half the least double, so that a double's exponent field is the position of its last
// bit; 2^40 of the greatest doubles stay below 2^(32 * 67 - 1075). Between calls every digit but
// the last is in [0, 2^32) and the last one bears the sign: equal sums have equal digits.
struct ExactSum {
    static constexpr int kDigits = 67;
    int64_t digit[kDigits] = {};
    bool nan = false;
    bool plus_infinity = false;
    bool minus_infinity = false;
};

// Adds values[0], values[stride], ..., `count` of them. The stride may be negative or 0.
void add(ExactSum& sum, const float* values, int64_t count, int64_t stride);
void add(ExactSum& sum, const double* values, int64_t count, int64_t stride);

void merge(ExactSum& into, const ExactSum& from);

// The nearest number, ties to even: beyond the greatest one an infinity, below the least one
// subnormals and 0. A zero is +0. Any NaN, or infinities of both signs, give NaN.
float rounded_to_float(const ExactSum& sum);
double rounded_to_double(const ExactSum& sum);

// The number nearest to sum / divisor, rounded once and as above. A divisor of 0, infinity or NaN
// gives what IEEE 754 division does.
float quotient_to_float(const ExactSum& sum, double divisor);
double quotient_to_double(const ExactSum& sum, double divisor);

// The same of these values, sooner where they are few: a sum in doubles may be exact.
float quotient_to_float(const float* values, int64_t count, double divisor);

}  // namespace crossent
