// The only file that knows Python. It converts and forwards; it computes nothing.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "build_info.h"
#include "floating_point.h"
#include "instruction_sets.h"

namespace nb = nanobind;

namespace {

nb::typed<nb::dict, nb::str, nb::str> build_info() {
    nb::dict info;
    info["version"] = CROSSENT_VERSION;
    info["compiler"] = CROSSENT_COMPILER;
    info["flags"] = CROSSENT_FLAGS;
    info["nanobind"] = CROSSENT_NANOBIND;
    return nb::borrow<nb::typed<nb::dict, nb::str, nb::str>>(info);
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "The native core: what it was built with and what this processor can run.";

    module.def("build_info", &build_info,
               "Version, compiler, flags and nanobind mode that this module was built with.");
    module.def("supported_instruction_sets", &crossent::supported_instruction_sets,
               "Instruction sets that this processor runs, least first.");
    module.def("chosen_instruction_set", &crossent::chosen_instruction_set,
               "The best supported instruction set, capped by the variable CROSSENT_MAX_ISA.\n\n"
               "Raises ValueError when the variable names no instruction set.");
}
