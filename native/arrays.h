// Arrays as every part of the native core sees them: memory, a kind of number, shape and strides.
#pragma once

#include <cstdint>

namespace crossent {

enum class Number : int {
    float32,
    float64,
    float16,
    bfloat16,
    boolean,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
};

std::int64_t size_of(Number number);
bool is_float(Number number);

// How the losses of a call become one number.
enum class Reduction : int { none, sum, mean, mean_all };

// Of shape and strides only the first `rank` count; the others are left as they are, because
// filling six arrays of a call in would cost more than a short loss.
struct Array {
    enum { kMaxRank = 32 };
    void* data = nullptr;
    Number number = Number::float32;
    int rank = 0;
    std::int64_t shape[kMaxRank];
    std::int64_t strides[kMaxRank];  // in bytes; all of them multiples of the number's size
};

// Fills in the strides of C order.
void set_contiguous(Array& array);

bool is_contiguous(const Array& array);
std::int64_t count_of(const Array& array);

// Whether both have these leading axes.
bool same_shape(const Array& a, const Array& b, int axes);

}  // namespace crossent
