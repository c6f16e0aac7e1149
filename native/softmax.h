// Row statistics of logits, their gradient, and both in one pass: what the kernels are asked to do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arrays.h"
#include "floating_point.h"

namespace crossent {

// The rows of an array whose class axis may be any, seen class axis last; strides are in bytes.
//
// As in Array, only the first `dimensions` of shape and strides count, and are copied: the whole of
// three Rows, three times over, would cost a short loss a tenth of its time.
struct Rows {
    enum { kMaxDimensions = 32 };
    char* data = nullptr;
    Number number = Number::float32;
    std::int64_t class_stride = 0;
    int dimensions = 0;  // without the class axis; all arrays of a task have the same shape
    std::int64_t shape[kMaxDimensions];
    std::int64_t strides[kMaxDimensions];

    Rows() = default;
    Rows(const Rows& other) { *this = other; }
    Rows& operator=(const Rows& other);
};

// Of an array whose class axis, if it has one, is the last.
Rows rows_of(const Array& array, bool has_class_axis);

enum class Labels : int { none, ids, distribution };

struct SoftmaxTask {
    std::int64_t rows = 0, classes = 0;
    Rows logits;

    Labels label_kind = Labels::none;
    Rows labels;
    const double* class_weight = nullptr;  // one per class
    double temperature = 1;
    double softcap = 0;  // 0: none
    bool with_mean = false;

    // What becomes of the statistics: they are returned, or they are the loss.
    // In the order of crossent._row_stats.RowStatistics.
    double* statistics = nullptr;  // [7][rows]
    bool is_loss = false;
    double smoothing = 0, z_loss = 0;
    bool has_ignored = false;
    std::int64_t ignored = 0;
    bool takes_any_weight = false;  // weights and normalizer are not checked
    // Distributions without a gradient: looked at while they are read for the loss. The weights of
    // the rows, as SoftmaxKernels::labels gives them, or absent.
    bool checks_labels = false;
    double* row_weight = nullptr;
    const char* sample_weight = nullptr;  // doubles, broadcast to the rows by these strides
    std::int64_t sample_weight_strides[Rows::kMaxDimensions] = {0};
    void* losses = nullptr;  // [rows], float64 for float64 logits, else float32

    // Gradient in the logits: upstream coefficients of each row; absent is 0.
    bool with_gradient = false;
    Rows gradient;
    bool stream_gradient = false;  // larger than the caches, and not the logits themselves
    const double* by_log_sum = nullptr;
    const double* by_label_gap = nullptr;
    const double* by_nll = nullptr;
    const double* by_mean_gap = nullptr;
    // Of a loss: upstream of the reduced value over its denominator, or one number per row.
    double upstream = 1;
    const double* upstream_rows = nullptr;

    // Other results, in place of a gradient: softmax or log-softmax, float32 or float64.
    bool with_log_softmax = false;
    bool is_log_sum_exp = false;  // goes where losses go
    bool as_probabilities = false;
};

// Memory of one thread, 64-byte aligned; null where there is none left.
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch();
    char* reserve(std::size_t bytes);  // what was there may be gone

  private:
    char* memory_ = nullptr;
    std::size_t bytes_ = 0;
};

enum class Outcome : int { done, no_memory, invalid_labels };

struct SoftmaxKernels {
    Outcome (*rows)(const SoftmaxTask& task, std::int64_t begin, std::int64_t end,
                    Scratch& scratch);
    // Whether the labels of these rows are class ids or distributions; and the weights of the rows,
    // the sum of w_j q_j, -0.0 where ignored.
    bool (*labels)(const SoftmaxTask& task, std::int64_t begin, std::int64_t end,
                   double* row_weight);
};

// Runs the rows of a task on all threads. False where labels that it checks are no distributions.
// Throws std::bad_alloc.
bool run(const SoftmaxKernels& kernels, SoftmaxTask task);

// The loss of one call, with its reduction. False, with nothing written that matters, where a
// label, a weight or the normalizer is not what the losses allow: their checks then say what is
// wrong.
bool softmax_loss(const SoftmaxKernels& kernels, SoftmaxTask task, Reduction reduction,
                  const double* normalizer, double* value);

}  // namespace crossent
