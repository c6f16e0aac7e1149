#include "softmax.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <vector>

#include "exact_sum.h"
#include "floating_point.h"
#include "memory_advice.h"
#include "thread_pool.h"

namespace crossent {
namespace {

// About 100 microseconds of one thread's work: below, waking another one costs more than it gives.
constexpr std::int64_t kWorthThreads = 1 << 18;
// Rows are handed out in pieces of at least this many elements.
constexpr std::int64_t kGrainElements = 1 << 16;
// Above, a result will not be in cache when it is read.
constexpr std::int64_t kStreamBytes = 64 << 20;
constexpr std::size_t kKeptScratch = 16 << 20;
// What a row costs beside its elements, counted in elements.
constexpr std::int64_t kRowElements = 32;

Scratch& thread_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

std::int64_t grain_of(const Rows& rows, std::int64_t count, std::int64_t elements) {
    std::int64_t grain = kGrainElements / std::max<std::int64_t>(elements, 1);
    // Strided rows are read in tiles of 16, which share lines of the cache.
    const bool strided = rows.class_stride != size_of(rows.number);
    grain = grain > 16 || strided ? std::max<std::int64_t>(grain - grain % 16, 16) : grain;
    return std::clamp<std::int64_t>(grain, 1, std::max<std::int64_t>(count, 1));
}

int threads_for(std::int64_t rows, std::int64_t classes) {
    return rows * std::max<std::int64_t>(classes, 1) < kWorthThreads ? 1 : max_threads();
}

struct Loop {
    const SoftmaxKernels& kernels;
    const SoftmaxTask& task;
    std::atomic<bool> no_memory{false}, invalid_labels{false};
};

void rows_body(void* context, std::int64_t begin, std::int64_t end, int) {
    Loop& loop = *static_cast<Loop*>(context);
    const Outcome outcome = loop.kernels.rows(loop.task, begin, end, thread_scratch());
    if (outcome == Outcome::no_memory) loop.no_memory = true;
    if (outcome == Outcome::invalid_labels) loop.invalid_labels = true;
}

void labels_body(void* context, std::int64_t begin, std::int64_t end, int) {
    Loop& loop = *static_cast<Loop*>(context);
    if (!loop.kernels.labels(loop.task, begin, end, loop.task.row_weight))
        loop.invalid_labels = true;
}

// The first and last byte of an array; nothing of it lies outside.
void extent(const Rows& rows, std::int64_t classes, char** begin, char** end) {
    char *low = rows.data, *high = rows.data + size_of(rows.number);
    const auto reach = [&](std::int64_t count, std::int64_t stride) {
        const std::int64_t span = (count - 1) * stride;
        (span < 0 ? low : high) += span;
    };
    reach(classes, rows.class_stride);
    for (int d = 0; d < rows.dimensions; ++d) reach(rows.shape[d], rows.strides[d]);
    *begin = low;
    *end = high;
}

bool overlap(const Rows& a, const Rows& b, std::int64_t classes) {
    char *a_begin, *a_end, *b_begin, *b_end;
    extent(a, classes, &a_begin, &a_end);
    extent(b, classes, &b_begin, &b_end);
    return a_begin < b_end && b_begin < a_end;
}

// Joins axes that all arrays step through alike: an address is then one product.
void collapse(SoftmaxTask& task) {
    Rows* const arrays[] = {&task.logits, &task.labels, &task.gradient};
    Rows& shape = task.logits;
    for (Rows* array : arrays) {  // absent ones stand still
        if (array->data == nullptr) std::fill_n(array->strides, shape.dimensions, 0);
    }
    int kept = 0;
    for (int d = 0; d < shape.dimensions; ++d) {
        const std::int64_t count = shape.shape[d];
        if (count == 1) continue;
        bool joins = kept > 0;
        for (const Rows* array : arrays) {
            joins = joins && array->strides[kept - 1] == count * array->strides[d];
        }
        joins =
            joins && task.sample_weight_strides[kept - 1] == count * task.sample_weight_strides[d];
        const int to = joins ? kept - 1 : kept++;
        const std::int64_t joined = joins ? shape.shape[to] * count : count;
        for (Rows* array : arrays) {
            array->shape[to] = joined;
            array->strides[to] = array->strides[d];
        }
        task.sample_weight_strides[to] = task.sample_weight_strides[d];
    }
    if (kept == 0) {
        for (Rows* array : arrays) {
            array->shape[0] = 1;
            array->strides[0] = 0;
        }
        task.sample_weight_strides[0] = 0;
        kept = 1;
    }
    for (Rows* array : arrays) array->dimensions = kept;
}

double weight_at(const SoftmaxTask& task, std::int64_t row) {
    const char* at = task.sample_weight;
    for (int d = task.logits.dimensions - 1; d >= 0; --d) {
        at += row % task.logits.shape[d] * task.sample_weight_strides[d];
        row /= task.logits.shape[d];
    }
    return *reinterpret_cast<const double*>(at);
}

bool finite_weights(const SoftmaxTask& task) {
    if (task.class_weight != nullptr) {
        for (std::int64_t j = 0; j < task.classes; ++j) {
            if (!(task.class_weight[j] >= 0 && std::isfinite(task.class_weight[j]))) return false;
        }
    }
    if (task.sample_weight != nullptr) {
        for (std::int64_t i = 0; i < task.rows; ++i) {
            if (!std::isfinite(weight_at(task, i))) return false;
        }
    }
    return true;
}

bool fits(const double* normalizer) {
    return normalizer == nullptr || (*normalizer >= 0 && std::isfinite(*normalizer));
}

// What "mean" divides by: the sum of sample_weight * w over the kept rows; "mean_all": their
// number.
double denominator(const SoftmaxTask& task, Reduction reduction, bool has_row_weight,
                   const std::vector<double>& row_weight, std::int64_t ignored) {
    if (reduction == Reduction::mean_all || (!has_row_weight && task.sample_weight == nullptr)) {
        return static_cast<double>(task.rows - ignored);
    }
    // A product of two weights is rounded as in the losses, their sum is not.
    ExactSum sum;
    std::vector<double> products(static_cast<std::size_t>(std::min<std::int64_t>(task.rows, 4096)));
    for (std::int64_t begin = 0; begin < task.rows; begin += 4096) {
        const std::int64_t count = std::min<std::int64_t>(4096, task.rows - begin);
        for (std::int64_t i = 0; i < count; ++i) {
            const double w = row_weight[static_cast<std::size_t>(begin + i)];
            products[static_cast<std::size_t>(i)] =
                task.sample_weight ? w * weight_at(task, begin + i) : w;
        }
        add(sum, products.data(), count, 1);
    }
    return rounded_to_double(sum);
}

std::int64_t ignored_rows(const SoftmaxTask& task, const std::vector<double>& row_weight) {
    if (!task.has_ignored) return 0;
    // A row weight of 0 may also be a class weight of 0: such a row is kept. And so is one of a
    // weight below, which a compiled program does not refuse.
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < task.rows; ++i) {
        const double weight = row_weight[static_cast<std::size_t>(i)];
        count += weight == 0 && std::signbit(weight);
    }
    return count;
}

}  // namespace

Rows& Rows::operator=(const Rows& other) {
    data = other.data;
    number = other.number;
    class_stride = other.class_stride;
    dimensions = other.dimensions;
    std::copy_n(other.shape, dimensions, shape);
    std::copy_n(other.strides, dimensions, strides);
    return *this;
}

Rows rows_of(const Array& array, bool has_class_axis) {
    Rows rows;
    rows.data = static_cast<char*>(array.data);
    rows.number = array.number;
    rows.dimensions = array.rank - (has_class_axis ? 1 : 0);
    for (int d = 0; d < rows.dimensions; ++d) {
        rows.shape[d] = array.shape[d];
        rows.strides[d] = array.strides[d];
    }
    rows.class_stride = has_class_axis ? array.strides[rows.dimensions] : 0;
    return rows;
}

Scratch::~Scratch() { std::free(memory_); }

char* Scratch::reserve(std::size_t bytes) {
    if (bytes > bytes_ || (bytes_ > kKeptScratch && bytes <= kKeptScratch)) {
        std::free(memory_);
        bytes_ = (bytes + 63) / 64 * 64;
        memory_ = static_cast<char*>(std::aligned_alloc(64, std::max<std::size_t>(bytes_, 64)));
        if (memory_ == nullptr) bytes_ = 0;
    }
    return memory_;
}

bool run(const SoftmaxKernels& kernels, SoftmaxTask task) {
    if (task.rows == 0 || task.classes == 0) return true;
    collapse(task);
    if (task.with_gradient || task.with_log_softmax) {
        const std::int64_t bytes = task.rows * task.classes * size_of(task.gradient.number);
        char *begin, *end;
        extent(task.gradient, task.classes, &begin, &end);
        const bool in_place = overlap(task.gradient, task.logits, task.classes);
        task.stream_gradient = bytes > kStreamBytes && !in_place &&
                               task.gradient.class_stride == size_of(task.gradient.number);
        if (!in_place) advise_huge_pages(begin, static_cast<std::size_t>(end - begin));
    }
    Loop loop{kernels, task};
    const std::int64_t elements = task.classes + kRowElements;
    parallel_for(task.rows, grain_of(task.logits, task.rows, elements),
                 threads_for(task.rows, elements), rows_body, &loop);
    if (loop.no_memory) throw std::bad_alloc();
    return !loop.invalid_labels;
}

bool softmax_loss(const SoftmaxKernels& kernels, SoftmaxTask task, Reduction reduction,
                  const double* normalizer, double* value) {
    collapse(task);
    if (!task.takes_any_weight && !(finite_weights(task) && fits(normalizer))) return false;
    const bool soft = task.label_kind == Labels::distribution;
    const bool has_row_weight = soft || task.class_weight != nullptr;
    const bool mean = reduction == Reduction::mean && normalizer == nullptr;
    std::vector<double> row_weight;
    if ((mean && has_row_weight) || task.has_ignored || (mean && task.sample_weight != nullptr)) {
        row_weight.resize(static_cast<std::size_t>(task.rows));
    }
    task.row_weight = row_weight.empty() ? nullptr : row_weight.data();
    const bool is_wide = task.logits.number == Number::float64;
    alignas(double) char few[512];  // spares short losses a malloc
    std::vector<char> rows;
    if (task.losses == nullptr) {
        const std::size_t bytes = static_cast<std::size_t>(task.rows) * (is_wide ? 8 : 4);
        if (bytes > sizeof few) rows.resize(bytes);
        task.losses = bytes > sizeof few ? rows.data() : few;
    }
    task.is_loss = true;
    task.with_mean = task.smoothing != 0;
    // Before a gradient is written, maybe over the logits, all labels must have been seen, and the
    // sum of the weights that it is divided by. A loss alone looks at its labels as it reads them.
    task.checks_labels = soft && !task.with_gradient;
    if (task.checks_labels) {
        if (!run(kernels, task)) return false;
    } else {
        Loop loop{kernels, task};
        const std::int64_t label_size = soft ? task.classes : 1;
        parallel_for(task.rows, grain_of(task.labels, task.rows, label_size),
                     threads_for(task.rows, label_size), labels_body, &loop);
        if (loop.invalid_labels) return false;
    }
    double divisor = 1;
    bool divides = false;
    if (normalizer != nullptr) {
        divisor = *normalizer;
        divides = true;
    } else if (reduction == Reduction::mean || reduction == Reduction::mean_all) {
        divisor = denominator(task, reduction, has_row_weight, row_weight,
                              ignored_rows(task, row_weight));
        divides = true;
    }
    if (divides) task.upstream = divisor == 0 ? 0 : task.upstream / divisor;
    if (!task.checks_labels) run(kernels, task);
    *value = 0;
    if (reduction == Reduction::none || (divides && divisor == 0)) return true;
    if (is_wide) {
        ExactSum sum;
        add(sum, static_cast<const double*>(task.losses), task.rows, 1);
        *value = quotient_to_double(sum, divisor);
    } else {
        *value = quotient_to_float(static_cast<const float*>(task.losses), task.rows, divisor);
    }
    return true;
}

}  // namespace crossent
