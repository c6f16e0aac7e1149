// The sigmoid loss and its gradient, and the sigmoid family of functions: one result per element.
#pragma once

#include <cstdint>

#include "arrays.h"
#include "floating_point.h"

namespace crossent {

// An array seen in the shape of its task; a stride of 0 broadcasts. No data: it is absent.
struct Elements {
    enum { kMaxDimensions = 32 };
    char* data = nullptr;
    Number number = Number::float64;
    std::int64_t strides[kMaxDimensions] = {0};  // in bytes
};

Elements elements_of(const Array& array);

struct SigmoidTask {
    int dimensions = 0;
    std::int64_t shape[Elements::kMaxDimensions] = {0};
    Elements logits;  // any float
    Elements labels;  // any number
    double label_smoothing = 0;
    bool has_ignored = false;
    std::int64_t ignored = 0;
    // float64 or absent, all three. Without `upstream_each`, `upstream` is that of every loss, or
    // of their reduction.
    Elements pos_weight;
    Elements sample_weight;
    Elements upstream_each;
    double upstream = 1;
    bool takes_any_weight = false;  // weights and normalizer are not checked
    Reduction reduction = Reduction::none;
    const double* normalizer = nullptr;
    void* losses = nullptr;  // in C order, float64 for float64 logits and else float32; or absent
    Elements gradient;       // of the logits' number, and may be the logits themselves; or absent
};

enum class Function : int { sigmoid, log_sigmoid, softplus };

struct FunctionTask {
    Function function = Function::sigmoid;
    int dimensions = 0;
    std::int64_t shape[Elements::kMaxDimensions] = {0};
    Elements x;       // any float
    Elements result;  // float64 for float64 x, else float32
};

// What the kernels of one instruction set are asked to do: a stretch of contiguous elements.

struct LabelTile {
    std::int64_t count;
    Number number;
    const void* labels;
    double smoothing;
    bool has_ignored;
    std::int64_t ignored;  // below 2^53, so that it is a double too
    // Written up to a multiple of 64 elements: labels as doubles, what is ignored as 0; and 1, or 0
    // where ignored. Without the first, floats and doubles are looked at only.
    double* smoothed;
    double* kept;
};

struct SigmoidTile {
    std::int64_t count;
    Number number;
    const void* logits;
    bool float_labels;
    const void* labels;          // floats or doubles, in [0, 1]
    const double* pos_weight;    // absent: no element has weights, and the next two are absent too
    const double* weight;        // of the loss; 0 gives 0 whatever the loss is
    const double* coefficients;  // of the gradient, likewise
    double coefficient;          // of every element where there are none of each
    void* losses;
    void* gradient;  // of the logits' number; or absent
};

struct FunctionTile {
    Function function;
    std::int64_t count;
    Number number;
    const void* x;
    void* result;
};

struct ElementwiseKernels {
    // How many labels are not ignored; -1 where one of these is not in [0, 1].
    std::int64_t (*labels)(const LabelTile& tile);
    // Whether all are finite and not below `least`.
    bool (*weights)(const double* weights, std::int64_t count, double least);
    void (*sigmoid_loss)(const SigmoidTile& tile);
    void (*function)(const FunctionTile& tile);
    // Three numbers whose sum is exactly that of at most 1024 floats or doubles; false: too wide a
    // range for that.
    bool (*parts_of_sum)(Number number, const void* values, std::int64_t count, double* parts);
    // Copies past the caches. Other threads see it after end_streaming, which waits for it.
    void (*stream)(void* to, const void* from, std::int64_t bytes);
    void (*end_streaming)();
};

// The loss of one call, with its reduction. False, with nothing written that matters, where a
// label, a weight or the normalizer is not what the losses allow: their checks then say what is
// wrong.
bool sigmoid_loss(const ElementwiseKernels& kernels, const SigmoidTask& task, double* value);

void elementwise(const ElementwiseKernels& kernels, const FunctionTask& task);

}  // namespace crossent
