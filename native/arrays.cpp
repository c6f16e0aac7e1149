#include "arrays.h"

#include "floating_point.h"

namespace crossent {

std::int64_t size_of(Number number) {
    switch (number) {
        case Number::boolean:
        case Number::int8:
        case Number::uint8:
            return 1;
        case Number::float16:
        case Number::bfloat16:
        case Number::int16:
        case Number::uint16:
            return 2;
        case Number::float32:
        case Number::int32:
        case Number::uint32:
            return 4;
        default:
            return 8;
    }
}

bool is_float(Number number) {
    return number == Number::float32 || number == Number::float64 || number == Number::float16 ||
           number == Number::bfloat16;
}

void set_contiguous(Array& array) {
    std::int64_t stride = size_of(array.number);
    for (int d = array.rank - 1; d >= 0; --d) {
        array.strides[d] = stride;
        stride *= array.shape[d];
    }
}

bool is_contiguous(const Array& array) {
    std::int64_t stride = size_of(array.number);
    bool in_order = true;
    for (int d = array.rank - 1; d >= 0; --d) {
        if (array.shape[d] == 0) return true;
        in_order = in_order && (array.shape[d] == 1 || array.strides[d] == stride);
        stride *= array.shape[d];
    }
    return in_order;
}

std::int64_t count_of(const Array& array) {
    std::int64_t count = 1;
    for (int d = 0; d < array.rank; ++d) count *= array.shape[d];
    return count;
}

bool same_shape(const Array& a, const Array& b, int axes) {
    if (a.rank < axes || b.rank < axes) return false;
    for (int d = 0; d < axes; ++d) {
        if (a.shape[d] != b.shape[d]) return false;
    }
    return true;
}

}  // namespace crossent
