// Scenarios for the class FloatingPointState, run by tests/test_thread_pool.py.
#include "floating_point.h"

#include <atomic>
#include <cfenv>
#include <initializer_list>
#include <thread>

#include "expect.h"
#include "thread_pool.h"

namespace {

// Volatile, and in variables of the function itself: else the compiler does the arithmetic, or
// moves it to where the registers are others. (GCC 12 forgets that a parameter is volatile when it
// puts the call inline.)
float product(float x, float y) {
    volatile float a = x;
    volatile float b = y;
    volatile float result = a * b;
    return result;
}

float sum(float x, float y) {
    volatile float a = x;
    volatile float b = y;
    volatile float result = a + b;
    return result;
}

float quotient(float x, float y) {
    volatile float a = x;
    volatile float b = y;
    volatile float result = a / b;
    return result;
}

// Round up, flush subnormals to zero and read them as zero: all that a caller can have set.
void spoil() {
    std::fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
    std::uint64_t fpcr;
    asm volatile("mrs %0, fpcr" : "=r"(fpcr));
    asm volatile("msr fpcr, %0" : : "r"(fpcr | std::uint64_t{1} << 24));
#endif
}

void expect_standard() {
    // Not fegetround, which on x86-64 reads the register of long double.
    expect(sum(1.0f, 1e-9f) == 1.0f, "1 + 1e-9 is 1");
    expect(product(1e-12f, 1e-30f) > 0.0f, "1e-12 * 1e-30 is a subnormal, not 0");
    expect(sum(1e-42f, 1e-42f) > 0.0f, "a subnormal counts as it is");
}

void expect_spoiled() {
    expect(sum(1.0f, 1e-9f) > 1.0f, "the caller rounds up");
#if defined(__x86_64__) || defined(__aarch64__)
    expect(product(1e-12f, 1e-30f) == 0.0f, "the caller flushes subnormals");
#endif
}

void in_force_and_restored() {
    spoil();
    expect_spoiled();
    {
        const crossent::FloatingPointState standard;
        expect_standard();
        {
            const crossent::FloatingPointState again;
            expect_standard();
        }
        expect_standard();
    }
    expect_spoiled();
}

void sticky_flags_are_the_callers() {
    for (const int raised : {0, FE_DIVBYZERO}) {
        std::feclearexcept(FE_ALL_EXCEPT);
        std::feraiseexcept(raised);
        {
            const crossent::FloatingPointState standard;
            quotient(1.0f, 3.0f);
            expect(std::fetestexcept(FE_INEXACT) != 0, "1 / 3 raises its flag");
        }
        expect(std::fetestexcept(FE_ALL_EXCEPT) == raised, "the flags are the caller's again");
        {
            const crossent::FloatingPointState standard;
            std::feclearexcept(FE_ALL_EXCEPT);
        }
        expect(std::fetestexcept(FE_ALL_EXCEPT) == raised, "and none of them is lost");
    }
}

// A caller may have asked for a signal at a division by zero.
void nothing_traps() {
#if defined(__GLIBC__)
    feenableexcept(FE_DIVBYZERO | FE_INVALID);
    const int trapping = fegetexcept();
    {
        const crossent::FloatingPointState standard;
        expect(quotient(1.0f, 0.0f) > 1e38f, "1 / 0 is infinite");
    }
    expect(fegetexcept() == trapping, "the caller's traps are on again");
#endif
}

// Workers are created by this spoiled thread, and inherit its settings.
void in_force_in_every_worker() {
    spoil();
    std::atomic<int> arrived{0};
    const auto body = [](void* context, std::int64_t, std::int64_t, int) {
        auto& arrived = *static_cast<std::atomic<int>*>(context);
        expect_standard();
        ++arrived;
        while (arrived < 3) {
            std::this_thread::yield();
        }
        spoil();  // what one piece of work leaves behind is not seen by the next
    };
    for (int round = 0; round < 3; ++round) {
        arrived = 0;
        crossent::parallel_for(3, 1, 3, body, &arrived);
        expect_spoiled();
    }
    arrived = 2;
    crossent::parallel_for(1, 1, 1, body, &arrived);
    expect_spoiled();
}

constexpr Scenario kScenarios[] = {
    {"in_force_and_restored", in_force_and_restored},
    {"sticky_flags_are_the_callers", sticky_flags_are_the_callers},
    {"nothing_traps", nothing_traps},
    {"in_force_in_every_worker", in_force_in_every_worker},
};

}  // namespace

int main(int argc, char** argv) { return run_named(kScenarios, argc, argv); }
