// Keeps the arithmetic what IEEE 754 says: stops a build with flags that break it, and puts aside a
// caller's settings that would. Include it in every source file.
//
// -ffast-math at link time pulls in start-up code that switches the whole process to
// flush-to-zero (1e-323 became 0.0 in the caller's own Python code), and -fassociative-math folds
// (x + magic) - magic to x, which turns a rounding step into nothing. Both can arrive unseen
// through CXXFLAGS, so the check is here and not in the build file.
#pragma once

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "crossent must be compiled without -ffast-math, -fassociative-math and -freciprocal-math"
#endif

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "crossent must be compiled without -ffinite-math-only: NaN and -inf are values here"
#endif

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <cstdint>
#else
#include <cfenv>
#endif

namespace crossent {

// Of internal linkage, against the usage in headers: files compiled for AVX would emit its
// functions with AVX's stmxcsr, and the linker might keep that copy for a processor without AVX.
namespace {

// While it lives, this thread rounds to nearest, keeps subnormals and traps nothing; then its
// registers, sticky flags too, are the caller's again. Threads of JAX and TensorFlow run with
// flush-to-zero (1e-12f * 1e-30f is 0 there), and a new thread inherits the register of its
// creator.
//
// The compiler does not know that arithmetic depends on these registers and may move it across:
// keep it behind a call through a pointer (a loop's body, a kernel table). The x87 register, for
// long double, is not touched: nothing here computes in it.
class FloatingPointState {
  public:
    FloatingPointState(const FloatingPointState&) = delete;
    FloatingPointState& operator=(const FloatingPointState&) = delete;

#if defined(__x86_64__)

    FloatingPointState() : mxcsr_(_mm_getcsr()) {
        constexpr unsigned sticky_flags = 0x3f;
        constexpr unsigned all_masked_nearest = 0x1f80;
        if ((mxcsr_ & ~sticky_flags) != all_masked_nearest) {
            _mm_setcsr(all_masked_nearest);
        }
    }

    ~FloatingPointState() {
        if (_mm_getcsr() != mxcsr_) {
            _mm_setcsr(mxcsr_);
        }
    }

  private:
    unsigned mxcsr_;

#elif defined(__aarch64__)

    // FPCR 0: nearest, no flushing (also of float16), no default NaN, no trap. The flags are in
    // FPSR.
    FloatingPointState() {
        asm volatile("mrs %0, fpcr" : "=r"(fpcr_));
        asm volatile("mrs %0, fpsr" : "=r"(fpsr_));
        if (fpcr_ != 0) {
            asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
        }
    }

    ~FloatingPointState() {
        if (fpcr_ != 0) {
            asm volatile("msr fpcr, %0" : : "r"(fpcr_));
        }
        asm volatile("msr fpsr, %0" : : "r"(fpsr_));
    }

  private:
    std::uint64_t fpcr_;
    std::uint64_t fpsr_;

#else

    FloatingPointState() {
        std::fegetenv(&environment_);
        std::fesetenv(FE_DFL_ENV);
    }

    ~FloatingPointState() { std::fesetenv(&environment_); }

  private:
    std::fenv_t environment_;

#endif
};

}  // namespace
}  // namespace crossent
