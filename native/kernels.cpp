// Compiled once per instruction set, with CROSSENT_ISA its namespace; exports only the table.
#include "kernels.h"

#include "elementwise_kernels.h"
#include "floating_point.h"
#include "softmax_kernels.h"

namespace crossent {
namespace CROSSENT_ISA {

extern const Kernels kernels;
const Kernels kernels = {{softmax_rows, softmax_labels}, elementwise_kernels};

}  // namespace CROSSENT_ISA
}  // namespace crossent
