#include "calls.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "floating_point.h"
#include "kernels.h"

namespace crossent {
namespace {

using std::int64_t;

const Kernels& kernels() {
    const Kernels* chosen = chosen_kernels();
    if (chosen == nullptr) throw std::runtime_error("this processor has no native kernels");
    return *chosen;
}

void need(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

// ---- numbers of any kind

// Of the leading axes, counted in C order.
char* address(const Array& array, int axes, int64_t index) {
    auto* at = static_cast<char*>(array.data);
    for (int d = axes - 1; d > 0; --d) {
        at += index % array.shape[d] * array.strides[d];
        index /= array.shape[d];
    }
    return axes == 0 ? at : at + index * array.strides[0];
}

struct Float16 {
    std::uint16_t bits;
    explicit operator double() const {
        const int exponent = bits >> 10 & 31, digits = bits & 1023;
        const double size = exponent == 31  ? (digits == 0 ? INFINITY : NAN)
                            : exponent == 0 ? std::ldexp(digits, -24)
                                            : std::ldexp(1024 + digits, exponent - 25);
        return bits >> 15 != 0 ? -size : size;
    }
};

struct Bfloat16 {
    std::uint16_t bits;
    explicit operator double() const {
        const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
        float number;
        std::memcpy(&number, &wide, sizeof number);
        return number;
    }
};

// Calls visit(T()) with the type of that number.
template <class Visit>
void with_type(Number number, Visit visit) {
    switch (number) {
        case Number::float32:
            return visit(float());
        case Number::float64:
            return visit(double());
        case Number::float16:
            return visit(Float16());
        case Number::bfloat16:
            return visit(Bfloat16());
        case Number::boolean:
        case Number::uint8:
            return visit(std::uint8_t());
        case Number::int8:
            return visit(std::int8_t());
        case Number::int16:
            return visit(std::int16_t());
        case Number::int32:
            return visit(std::int32_t());
        case Number::int64:
            return visit(std::int64_t());
        case Number::uint16:
            return visit(std::uint16_t());
        case Number::uint32:
            return visit(std::uint32_t());
        case Number::uint64:
            return visit(std::uint64_t());
    }
}

void put(Float16* to, double value) {  // 0, 1 or NaN
    to->bits = value != value ? 0x7e00 : value == 1 ? 0x3c00 : 0;
}
void put(Bfloat16* to, double value) {
    to->bits = value != value ? 0x7fc0 : value == 1 ? 0x3f80 : 0;
}
template <class T>
void put(T* to, double value) {
    *to = static_cast<T>(value);
}

// Writes 0, 1 or, to floats, NaN.
void write(char* at, Number number, double value) {
    with_type(number, [&](auto one) {
        put(&one, value);
        std::memcpy(at, &one, sizeof one);
    });
}

// In C order.
void read(const Array& array, double* to) {
    const int64_t count = count_of(array);
    const bool packed = is_contiguous(array);
    with_type(array.number, [&](auto one) {
        const auto* numbers = static_cast<const char*>(array.data);
        for (int64_t i = 0; i < count; ++i) {
            const char* at = packed ? numbers + i * static_cast<int64_t>(sizeof one)
                                    : address(array, array.rank, i);
            std::memcpy(&one, at, sizeof one);
            to[i] = static_cast<double>(one);
        }
    });
}

// The first and last byte of an array that is not empty; nothing of it lies outside.
void extent(const Array& array, const char** begin, const char** end) {
    *begin = *end = static_cast<const char*>(array.data);
    for (int d = 0; d < array.rank; ++d) {
        const int64_t span = (array.shape[d] - 1) * array.strides[d];
        (span < 0 ? *begin : *end) += span;
    }
    *end += size_of(array.number);
}

bool overlap(const Array& a, const Array& b) {
    if (count_of(a) == 0 || count_of(b) == 0) return false;
    const char *a_begin, *a_end, *b_begin, *b_end;
    extent(a, &a_begin, &a_end);
    extent(b, &b_begin, &b_end);
    return a_begin < b_end && b_begin < a_end;
}

// Whether a gradient overwrites what other rows are still computed from: in place of the logits it
// meets whatever else has their memory.
bool is_overwritten(const LossCall& call, const Array& read) {
    return call.gradient != nullptr && overlap(*call.gradient, read);
}

// The same in doubles, which may go to `memory`. What is broadcast stays so.
Array as_doubles(const LossCall& call, const Array& array, std::vector<double>& memory) {
    if (array.number == Number::float64 && !is_overwritten(call, array)) return array;
    Array once = array;
    for (int d = 0; d < array.rank; ++d) {
        if (array.strides[d] == 0 && array.shape[d] > 0) once.shape[d] = 1;  // no memory, no number
    }
    memory.resize(static_cast<std::size_t>(count_of(once)));
    read(once, memory.data());
    Array wide = once;
    wide.data = memory.data();
    wide.number = Number::float64;
    set_contiguous(wide);
    for (int d = 0; d < array.rank; ++d) {
        wide.shape[d] = array.shape[d];
        if (array.strides[d] == 0) wide.strides[d] = 0;
    }
    return wide;
}

const double* as_packed_doubles(const LossCall& call, const Array& array,
                                std::vector<double>& memory) {
    if (array.number == Number::float64 && is_contiguous(array) && !is_overwritten(call, array)) {
        return static_cast<const double*>(array.data);
    }
    memory.resize(static_cast<std::size_t>(count_of(array)));
    read(array, memory.data());
    return memory.data();
}

Array copy(const Array& array, std::vector<char>& memory) {
    const int64_t count = count_of(array), size = size_of(array.number);
    memory.resize(static_cast<std::size_t>(count * size));
    for (int64_t i = 0; i < count; ++i) {
        std::memcpy(memory.data() + i * size, address(array, array.rank, i),
                    static_cast<std::size_t>(size));
    }
    Array own = array;
    own.data = memory.data();
    set_contiguous(own);
    return own;
}

// ---- what both losses ask of a call

// Broadcasts from the first axis on: axes that are missing behind, and those of 1, repeat.
bool broadcast(Array& array, const Array& to, int axes) {
    if (array.rank > axes) return false;
    for (int d = 0; d < axes; ++d) {
        const int64_t given = d < array.rank ? array.shape[d] : 1;
        if (given != to.shape[d] && given != 1) return false;
        if (given == 1) array.strides[d] = 0;
        array.shape[d] = to.shape[d];
    }
    array.rank = axes;
    return true;
}

bool smoothing_fits(const LossCall& call) {
    return call.label_smoothing >= 0 && call.label_smoothing <= 1;
}

void need_losses(const LossCall& call, int64_t rows) {
    if (call.losses == nullptr) return;
    const bool is_wide = call.logits->number == Number::float64;
    need(count_of(*call.losses) == rows && is_contiguous(*call.losses) &&
             call.losses->number == (is_wide ? Number::float64 : Number::float32),
         "losses: another shape or dtype");
}

void need_gradient(const LossCall& call) {
    const Array &gradient = *call.gradient, &logits = *call.logits;
    need(gradient.rank == logits.rank && same_shape(gradient, logits, logits.rank) &&
             gradient.number == logits.number,
         "gradient: another shape or dtype");
}

// ---- rows whose labels are invalid

// A label that is valid and not ignored.
double valid_label(const LossCall& call) { return call.has_ignored && call.ignored == 0 ? 1 : 0; }

// Makes these rows NaN where they weigh something. `axes`: of the rows in the logits.
void spoil(const LossCall& call, const std::vector<int64_t>& rows, const Array* sample_weight,
           int axes, double* value) {
    const Array& logits = *call.logits;
    for (const int64_t row : rows) {
        if (sample_weight != nullptr) {
            double weight;
            std::memcpy(&weight, address(*sample_weight, axes, row), sizeof weight);
            if (weight == 0) continue;
        }
        if (call.reduction != Reduction::none) *value = NAN;
        if (call.losses != nullptr) {
            const Number number = call.losses->number;
            write(static_cast<char*>(call.losses->data) + row * size_of(number), number, NAN);
        }
        if (call.gradient == nullptr) continue;
        char* at = address(*call.gradient, axes, row);
        const bool has_classes = axes < logits.rank;
        for (int64_t j = 0; j < (has_classes ? logits.shape[axes] : 1); ++j) {
            write(at + (has_classes ? j * call.gradient->strides[axes] : 0), logits.number, NAN);
        }
    }
}

// ---- the softmax loss

// Labels as class ids or as a distribution; false if they are neither by shape and kind.
bool set_labels(SoftmaxTask& task, const Array& logits, Array& labels) {
    const int axes = logits.rank;
    if (labels.rank == axes && same_shape(labels, logits, axes)) {
        // One class: integers of that shape may be ids.
        if (task.classes == 1 && !is_float(labels.number)) return false;
        task.label_kind = Labels::distribution;
        task.labels = rows_of(labels, true);
        return true;
    }
    if (labels.rank == axes && labels.shape[axes - 1] == 1) --labels.rank;
    if (labels.rank != axes - 1 || !same_shape(labels, logits, axes - 1)) return false;
    if (is_float(labels.number) || labels.number == Number::boolean) return false;
    task.label_kind = Labels::ids;
    task.labels = rows_of(labels, false);
    return true;
}

std::vector<int64_t> invalid_rows(const SoftmaxKernels& kernels, SoftmaxTask task) {
    task.class_weight = nullptr;
    std::vector<int64_t> invalid;
    for (int64_t i = 0; i < task.rows; ++i) {
        if (!kernels.labels(task, i, i + 1, nullptr)) invalid.push_back(i);
    }
    return invalid;
}

// Puts a valid label in the place of each invalid one.
void repair(const LossCall& call, const std::vector<int64_t>& rows, SoftmaxTask& task,
            const Array& labels) {
    const bool is_soft = task.label_kind == Labels::distribution;
    task.labels = rows_of(labels, is_soft);
    const int axes = is_soft ? labels.rank - 1 : labels.rank;
    for (const int64_t row : rows) {
        char* at = address(labels, axes, row);
        if (is_soft) {
            for (int64_t j = 0; j < task.classes; ++j) {
                write(at + j * task.labels.class_stride, labels.number, j == 0 ? 1 : 0);
            }
        } else {
            write(at, labels.number, task.classes == 1 ? 0 : valid_label(call));
        }
    }
}

// Not inlined: the arithmetic must not move out of the floating-point state that is set around it.
__attribute__((noinline)) Answer softmax_loss_of(const LossCall& call, double* value) {
    const Array& logits = *call.logits;
    need(logits.rank >= 1 && logits.rank < Rows::kMaxDimensions, "logits: too many axes");
    need(is_float(logits.number), "logits: not floats");
    const int axes = logits.rank - 1;
    SoftmaxTask task;
    task.logits = rows_of(logits, true);
    task.classes = logits.shape[axes];
    task.rows = 1;
    for (int d = 0; d < axes; ++d) task.rows *= logits.shape[d];

    std::vector<char> label_memory;
    Array labels = *call.labels;
    if (is_overwritten(call, labels)) labels = copy(labels, label_memory);
    if (task.classes == 0 || !set_labels(task, logits, labels)) return Answer::unusual;
    const bool is_soft = task.label_kind == Labels::distribution;
    const bool options_fit =
        smoothing_fits(call) && call.temperature > 0 && std::isfinite(call.temperature) &&
        call.z_loss >= 0 && std::isfinite(call.z_loss) &&
        (!call.has_softcap || (call.softcap > 0 && std::isfinite(call.softcap)));
    if (!options_fit || (is_soft && call.has_ignored) ||
        (call.reduction == Reduction::none && call.normalizer != nullptr)) {
        return Answer::unusual;
    }
    task.smoothing = call.label_smoothing;
    task.temperature = call.temperature;
    task.softcap = call.has_softcap ? call.softcap : 0;
    task.z_loss = call.z_loss;
    task.has_ignored = call.has_ignored;
    task.ignored = call.ignored;
    task.takes_any_weight = call.invalid_is_nan;

    std::vector<double> class_memory, sample_memory, upstream_memory;
    if (call.class_weight != nullptr) {
        const Array& weight = *call.class_weight;
        if (weight.rank != 1 || weight.shape[0] != task.classes) return Answer::unusual;
        task.class_weight = as_packed_doubles(call, weight, class_memory);
    }
    Array sample_weight;
    if (call.sample_weight != nullptr) {
        sample_weight = as_doubles(call, *call.sample_weight, sample_memory);
        if (!broadcast(sample_weight, logits, axes)) return Answer::unusual;
        task.sample_weight = static_cast<const char*>(sample_weight.data);
        std::copy_n(sample_weight.strides, axes, task.sample_weight_strides);
    }
    need_losses(call, task.rows);
    need(call.reduction != Reduction::none || call.losses != nullptr || task.rows == 0,
         "losses: absent");
    if (call.losses != nullptr) task.losses = call.losses->data;
    if (call.gradient != nullptr) {
        need_gradient(call);
        task.with_gradient = true;
        task.gradient = rows_of(*call.gradient, true);
        task.upstream = call.upstream;
        if (call.upstream_rows != nullptr) {
            need(count_of(*call.upstream_rows) == task.rows, "upstream: another shape");
            task.upstream = 1;
            task.upstream_rows = as_packed_doubles(call, *call.upstream_rows, upstream_memory);
        }
    }
    const SoftmaxKernels& chosen = kernels().softmax;
    const auto run = [&] {
        return softmax_loss(chosen, task, call.reduction, call.normalizer, value);
    };
    if (run()) return Answer::ok;
    if (!call.invalid_is_nan) return Answer::unusual;
    const std::vector<int64_t> invalid = invalid_rows(chosen, task);
    std::vector<char> repaired_memory;
    repair(call, invalid, task, copy(labels, repaired_memory));
    if (!run()) return Answer::unusual;
    spoil(call, invalid, call.sample_weight != nullptr ? &sample_weight : nullptr, axes, value);
    return Answer::ok;
}

// ---- the sigmoid loss

// Gives the labels the rank of the logits: a last axis of 1 may be missing, or be too much.
bool align(Array& labels, const Array& logits) {
    const int axes = logits.rank;
    if (labels.rank == axes + 1 && labels.shape[axes] == 1) labels.rank = axes;
    if (labels.rank == axes - 1 && logits.shape[axes - 1] == 1) {
        labels.shape[axes - 1] = 1;
        labels.strides[axes - 1] = size_of(labels.number);
        labels.rank = axes;
    }
    return labels.rank == axes && same_shape(labels, logits, axes);
}

std::vector<int64_t> invalid_elements(const ElementwiseKernels& kernels, const LossCall& call,
                                      const Array& labels) {
    alignas(64) double smoothed[64], kept[64];
    LabelTile tile{};
    tile.count = 1;
    tile.number = labels.number;
    tile.smoothing = call.label_smoothing;
    tile.has_ignored = call.has_ignored;
    tile.ignored = call.ignored;
    tile.smoothed = smoothed;
    tile.kept = kept;
    std::vector<int64_t> invalid;
    for (int64_t i = 0; i < count_of(labels); ++i) {
        tile.labels = address(labels, labels.rank, i);
        if (kernels.labels(tile) < 0) invalid.push_back(i);
    }
    return invalid;
}

// Not inlined, as above.
__attribute__((noinline)) Answer sigmoid_loss_of(const LossCall& call, double* value) {
    const Array& logits = *call.logits;
    const int axes = logits.rank;
    need(is_float(logits.number), "logits: not floats");
    if (call.labels->rank >= Array::kMaxRank || axes >= Array::kMaxRank) return Answer::unusual;
    std::vector<char> label_memory;
    Array labels = *call.labels;
    if (is_overwritten(call, labels)) labels = copy(labels, label_memory);
    if (!align(labels, logits) || !smoothing_fits(call) ||
        (call.reduction == Reduction::none && call.normalizer != nullptr)) {
        return Answer::unusual;
    }
    SigmoidTask task;
    task.dimensions = axes;
    std::copy_n(logits.shape, axes, task.shape);
    task.logits = elements_of(logits);
    task.labels = elements_of(labels);
    task.label_smoothing = call.label_smoothing;
    task.has_ignored = call.has_ignored;
    task.ignored = call.ignored;
    task.takes_any_weight = call.invalid_is_nan;

    std::vector<double> pos_memory, sample_memory, upstream_memory;
    if (call.pos_weight != nullptr) {  // a scalar, or one per label of the last axis
        const Array& weight = *call.pos_weight;
        const bool is_scalar = weight.rank <= 1 && count_of(weight) == 1;
        if (!is_scalar &&
            (weight.rank != 1 || axes == 0 || weight.shape[0] != logits.shape[axes - 1])) {
            return Answer::unusual;
        }
        const Array wide = as_doubles(call, weight, pos_memory);
        task.pos_weight.data = static_cast<char*>(wide.data);
        if (!is_scalar) task.pos_weight.strides[axes - 1] = wide.strides[0];
    }
    Array sample_weight;
    if (call.sample_weight != nullptr) {
        sample_weight = as_doubles(call, *call.sample_weight, sample_memory);
        if (!broadcast(sample_weight, logits, axes)) return Answer::unusual;
        task.sample_weight = elements_of(sample_weight);
    }
    task.reduction = call.reduction;
    task.normalizer = call.normalizer;
    need_losses(call, count_of(logits));
    if (call.losses != nullptr) task.losses = call.losses->data;
    if (call.gradient != nullptr) {
        need_gradient(call);
        task.gradient = elements_of(*call.gradient);
        task.upstream = call.upstream;
        if (call.upstream_rows != nullptr) {
            const Array& each = *call.upstream_rows;
            need(each.rank == axes && same_shape(each, logits, axes), "upstream: another shape");
            task.upstream = 1;
            task.upstream_each = elements_of(as_doubles(call, each, upstream_memory));
        }
    }
    const ElementwiseKernels& chosen = kernels().elementwise;
    if (sigmoid_loss(chosen, task, value)) return Answer::ok;
    if (!call.invalid_is_nan) return Answer::unusual;
    const std::vector<int64_t> invalid = invalid_elements(chosen, call, labels);
    std::vector<char> repaired_memory;
    const Array repaired = copy(labels, repaired_memory);
    task.labels = elements_of(repaired);
    for (const int64_t i : invalid) {
        write(address(repaired, axes, i), labels.number, valid_label(call));
    }
    if (!sigmoid_loss(chosen, task, value)) return Answer::unusual;
    spoil(call, invalid, call.sample_weight != nullptr ? &sample_weight : nullptr, axes, value);
    return Answer::ok;
}

}  // namespace

bool set_reduction(LossCall& call, std::string_view name) {
    if (name == "none") {
        call.reduction = Reduction::none;
    } else if (name == "sum") {
        call.reduction = Reduction::sum;
    } else if (name == "mean") {
        call.reduction = Reduction::mean;
    } else if (name == "mean_all") {
        call.reduction = Reduction::mean_all;
    } else {
        return false;
    }
    return true;
}

bool put_classes_last(int64_t axis, Array& logits, Array& labels, Array* gradient) {
    const int rank = logits.rank;
    if (rank == 0 || rank >= Rows::kMaxDimensions || axis < -rank || axis >= rank) return false;
    const int classes = static_cast<int>(axis < 0 ? axis + rank : axis);
    for (Array* array : {&logits, &labels, gradient}) {
        if (array == nullptr || array->rank != rank) continue;
        std::rotate(array->shape + classes, array->shape + classes + 1, array->shape + rank);
        std::rotate(array->strides + classes, array->strides + classes + 1, array->strides + rank);
    }
    return true;
}

double to_double(const Array& scalar) {
    double number = 0;
    read(scalar, &number);
    return number;
}

void write_value(const Array& scalar, double value) {
    if (scalar.number == Number::float64) {
        *static_cast<double*>(scalar.data) = value;
    } else {
        *static_cast<float*>(scalar.data) = static_cast<float>(value);
    }
}

Answer softmax_loss(const LossCall& call, double* value) {
    const FloatingPointState state;
    return softmax_loss_of(call, value);
}

Answer sigmoid_loss(const LossCall& call, double* value) {
    const FloatingPointState state;
    return sigmoid_loss_of(call, value);
}

}  // namespace crossent
