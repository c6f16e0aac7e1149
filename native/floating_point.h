// Refuses to compile under flags that break the arithmetic. Include it in every source file.
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
