#include "instruction_sets.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "floating_point.h"
#include "kernels.h"

namespace crossent {

// One table per instruction set, each from its own compilation of kernels.cpp.
#if defined(__x86_64__)
namespace x86_64_v2 {
extern const Kernels kernels;
}
namespace x86_64_v3 {
extern const Kernels kernels;
}
namespace x86_64_v4 {
extern const Kernels kernels;
}
#elif defined(__aarch64__)
namespace arm64 {
extern const Kernels kernels;
}
#endif

namespace {

#if defined(__x86_64__)

// The levels of the System V psABI. A level is asked for by the features that compilers as old as
// GCC 9 and Clang 10 can test; the ones left out (cx16, movbe, lzcnt, f16c) came to market in the
// same or an earlier processor of each maker. The compiler's run-time library asks the operating
// system too, whether it saves the wider registers.
const std::vector<std::string> kLevels = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"};

std::size_t supported_levels() {
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") &&
          __builtin_cpu_supports("popcnt"))) {
        return 1;
    }
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
          __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))) {
        return 2;
    }
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl"))) {
        return 3;
    }
    return 4;
}

#elif defined(__aarch64__)

const std::vector<std::string> kLevels = {"arm64"};
std::size_t supported_levels() { return 1; }

#else

const std::vector<std::string> kLevels = {"generic"};
std::size_t supported_levels() { return 1; }

#endif

std::string quoted_levels() {
    std::string names;
    for (const std::string& level : kLevels) {
        names += (names.empty() ? "\"" : ", \"") + level + "\"";
    }
    return names;
}

}  // namespace

std::vector<std::string> supported_instruction_sets() {
    const auto count = static_cast<std::ptrdiff_t>(supported_levels());
    return {kLevels.begin(), kLevels.begin() + count};
}

std::string chosen_instruction_set() {
    const std::vector<std::string> supported = supported_instruction_sets();
    const char* cap = std::getenv("CROSSENT_MAX_ISA");
    if (cap == nullptr || *cap == '\0') {
        return supported.back();
    }
    const auto named = std::find(kLevels.begin(), kLevels.end(), cap);
    if (named == kLevels.end()) {
        throw std::invalid_argument("CROSSENT_MAX_ISA must be one of " + quoted_levels() +
                                    "; got \"" + cap +
                                    "\". Unset it to use the best that this processor has.");
    }
    const auto position = static_cast<std::size_t>(named - kLevels.begin());
    return supported[std::min(position, supported.size() - 1)];
}

const Kernels* chosen_kernels() {
    static const Kernels* const chosen = []() -> const Kernels* {
        const std::string name = chosen_instruction_set();
#if defined(__x86_64__)
        if (name == "x86-64-v4") return &x86_64_v4::kernels;
        if (name == "x86-64-v3") return &x86_64_v3::kernels;
        if (name == "x86-64-v2") return &x86_64_v2::kernels;
#elif defined(__aarch64__)
        if (name == "arm64") return &arm64::kernels;
#endif
        return nullptr;
    }();
    return chosen;
}

}  // namespace crossent
