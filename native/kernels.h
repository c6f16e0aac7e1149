// The kernels of one instruction set, and which one this processor runs.
#pragma once

#include "elementwise.h"
#include "softmax.h"

namespace crossent {

struct Kernels {
    SoftmaxKernels softmax;
    ElementwiseKernels elementwise;
};

// Of the best instruction set that this processor has and CROSSENT_MAX_ISA allows, as it was at the
// first call; null where none is compiled for it. Throws std::invalid_argument for a variable that
// names no instruction set.
const Kernels* chosen_kernels();

}  // namespace crossent
