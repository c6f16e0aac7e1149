// Which instruction sets this processor runs, and which one the kernels may use.
#pragma once

#include <string>
#include <vector>

namespace crossent {

// The sets this processor and its operating system support, least first; never empty.
std::vector<std::string> supported_instruction_sets();

// The best supported set, or the one named by CROSSENT_MAX_ISA if that is lower. The variable caps:
// naming a set that this processor lacks leaves the best one it has.
// Throws std::invalid_argument when the variable holds a name that is no instruction set.
std::string chosen_instruction_set();

}  // namespace crossent
