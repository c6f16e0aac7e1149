// What every front end asks of the kernels: arrays by pointer, shape and strides, options as plain
// values. Knows no library and no Python.
#pragma once

#include <cstdint>
#include <string_view>

#include "arrays.h"

namespace crossent {

// `unusual`: an argument is not what the losses allow (labels out of range, weights not finite,
// options or shapes that do not fit). The caller's checks say what is wrong; nothing that matters
// was written.
enum class Answer : int { ok, unusual };

// One softmax or sigmoid cross-entropy; absent arrays are null. Rows are the logits without their
// last axis, which is that of the classes; of the sigmoid loss every element is a row.
struct LossCall {
    const Array* logits = nullptr;  // any float
    // Integer ids of the rows' shape, or a distribution of the logits'. A last axis of 1 may follow
    // ids (of more classes than one); of the sigmoid loss it may follow or be missing.
    const Array* labels = nullptr;
    const Array* class_weight = nullptr;   // softmax, any number: one per class
    const Array* pos_weight = nullptr;     // sigmoid, any number: one, or one per last index
    const Array* sample_weight = nullptr;  // any number: broadcast to the rows from the first axis
    double label_smoothing = 0;
    bool has_ignored = false;
    std::int64_t ignored = 0;
    double temperature = 1;
    bool has_softcap = false;
    double softcap = 0;
    double z_loss = 0;
    Reduction reduction = Reduction::mean;
    const double* normalizer = nullptr;
    double upstream = 1;                   // of the reduced value, or of every row
    const Array* upstream_rows = nullptr;  // any number, of each row: in place of `upstream`
    const Array* losses = nullptr;         // C order; float64 for float64 logits, else float32
    const Array* gradient = nullptr;       // shape and number of the logits, or the logits
    // For compiled programs, which cannot raise. Rows whose labels are invalid become NaN in
    // losses and gradient, and so does the value; a weight of 0 still makes them 0. Weights and
    // normalizer flow through the arithmetic, whatever they are.
    bool invalid_is_nan = false;
};

// Both throw std::invalid_argument where losses or gradient do not fit in shape or number,
// std::bad_alloc, and std::runtime_error on a processor without kernels.
Answer softmax_loss(const LossCall& call, double* value);
Answer sigmoid_loss(const LossCall& call, double* value);

// By the name that the losses take; false for any other.
bool set_reduction(LossCall& call, std::string_view name);

// For front ends whose classes may be on any axis of the logits: moves it to the end of all arrays
// of the logits' rank. False where there is no such axis. The gradient may be null.
bool put_classes_last(std::int64_t axis, Array& logits, Array& labels, Array* gradient);

// The one element of an array, of any number; and a float32 or float64 one, rounded once.
double to_double(const Array& scalar);
void write_value(const Array& scalar, double value);

}  // namespace crossent
