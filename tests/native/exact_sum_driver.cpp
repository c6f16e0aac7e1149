// Runs the exact sums for tests/test_exact_sum.py: commands and arrays come in on stdin as bytes,
// results go out on stdout as bytes, so that nothing is rounded on the way. A command is one letter
// and its arguments, each an int64 or a double.
#include <cfenv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "exact_sum.h"
#include "floating_point.h"

namespace {

crossent::ExactSum sums[8];

template <typename Value>
void read(Value* values, std::size_t count) {
    if (std::fread(values, sizeof(Value), count, stdin) != count) {
        std::fputs("the input ends within a command\n", stderr);
        std::exit(2);
    }
}

template <typename Value>
Value read_one() {
    Value value;
    read(&value, 1);
    return value;
}

template <typename Value>
void write(const Value* values, std::size_t count) {
    std::fwrite(values, sizeof(Value), count, stdout);
}

crossent::ExactSum& read_sum() { return sums[read_one<int64_t>() & 7]; }

template <typename Float>
void add_array() {
    crossent::ExactSum& sum = read_sum();
    const auto count = read_one<int64_t>();
    const auto stride = read_one<int64_t>();
    const auto first = read_one<int64_t>();
    std::vector<Float> memory(static_cast<std::size_t>(read_one<int64_t>()));
    read(memory.data(), memory.size());
    crossent::add(sum, memory.data() + first, count, stride);
}

void write_results() {
    const crossent::ExactSum& sum = read_sum();
    const auto divisor = read_one<double>();
    const float floats[] = {crossent::rounded_to_float(sum),
                            crossent::quotient_to_float(sum, divisor)};
    const double doubles[] = {crossent::rounded_to_double(sum),
                              crossent::quotient_to_double(sum, divisor)};
    write(floats, 2);
    write(doubles, 2);
}

// A divisor and an array: their quotient without an ExactSum to look at.
void write_quotient() {
    const auto divisor = read_one<double>();
    std::vector<float> values(static_cast<std::size_t>(read_one<int64_t>()));
    read(values.data(), values.size());
    const float result =
        crossent::quotient_to_float(values.data(), static_cast<int64_t>(values.size()), divisor);
    write(&result, 1);
}

// Rounds upward from now on and, as JAX's and TensorFlow's threads do, reads and writes subnormals
// as 0 where the processor is known to this program.
void make_environment_hostile() {
    std::fesetround(FE_UPWARD);
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

void obey(int letter) {
    switch (letter) {
        case 'f':
            return add_array<float>();
        case 'd':
            return add_array<double>();
        case 'm': {
            crossent::ExactSum& into = read_sum();
            return crossent::merge(into, read_sum());
        }
        case 'z':
            read_sum() = crossent::ExactSum{};
            return;
        case 'q':
            return write_quotient();
        case 'r':
            return write_results();
        case 's':
            return write(read_sum().digit, crossent::ExactSum::kDigits);
        case 'h':
            return make_environment_hostile();
        default:
            std::fprintf(stderr, "no command is called %d\n", letter);
            std::exit(2);
    }
}

}  // namespace

int main() {
    for (int letter = std::getchar(); letter != EOF; letter = std::getchar()) {
        obey(letter);
        std::fflush(stdout);
    }
}
