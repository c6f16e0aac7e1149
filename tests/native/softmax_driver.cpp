// Scenarios for the losses of the native core (native/softmax.h, native/elementwise.h), run under
// the sanitizers by tests/test_sanitizers.py.
//
// Every array ends where a page begins that nobody may touch, so that reads past its end show in
// any build: the sanitizers do not see streaming stores and other instructions without a type.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "calls.h"
#include "expect.h"
#include "instruction_sets.h"
#include "kernels.h"
#include "thread_pool.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes)
#endif

namespace {

using crossent::Elements;
using crossent::Labels;
using crossent::Number;
using crossent::Reduction;
using crossent::Rows;
using std::int64_t;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const crossent::Kernels& kernels() { return *crossent::chosen_kernels(); }

// ---- Arrays of exactly the size that they need

class Memory {
  public:
    explicit Memory(int64_t bytes) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const auto size = static_cast<std::size_t>(bytes);
        pages_ = (size + page - 1) / page * page;
        mapped_ = pages_ + page;
        void* map =
            mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        expect(map != MAP_FAILED, "there is memory");
        start_ = static_cast<char*>(map);
        expect(mprotect(start_ + pages_, page, PROT_NONE) == 0, "the last page is closed");
        begin = start_ + pages_ - size;
        ASAN_POISON_MEMORY_REGION(start_, pages_ - size);
        std::memset(begin, kUntouched, size);
    }
    Memory(const Memory&) = delete;
    ~Memory() {
        ASAN_UNPOISON_MEMORY_REGION(start_, pages_);
        munmap(start_, mapped_);
    }

    static constexpr char kUntouched = 0x5b;
    char* begin;

  private:
    char* start_;
    std::size_t pages_;
    std::size_t mapped_;
};

enum class Layout { rows, classes_first, swapped, reversed, gaps };
constexpr Layout kLayouts[] = {Layout::rows, Layout::classes_first, Layout::swapped,
                               Layout::reversed, Layout::gaps};

using Shape = std::array<int64_t, 3>;  // two axes of rows, and the classes

// Right where nothing has to be rounded.
std::uint16_t half_of(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) return 0x7e00;
    if (std::isinf(value)) return sign | 0x7c00;
    if (value == 0) return sign;
    int exponent;
    const double fraction = std::frexp(std::fabs(value), &exponent);
    return static_cast<std::uint16_t>(sign + ((exponent + 13) << 10) +
                                      static_cast<int>(fraction * 2048));
}

double number_of_half(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const double fraction = bits & 1023;
    const double magnitude = exponent == 31  ? (fraction != 0 ? kNan : kInfinity)
                             : exponent == 0 ? std::ldexp(fraction, -24)
                                             : std::ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <typename Item>
void put(char* at, Item item) {
    std::memcpy(at, &item, sizeof item);
}

template <typename Item>
Item get(const char* at) {
    Item item;
    std::memcpy(&item, at, sizeof item);
    return item;
}

struct Array {
    Number number;
    Shape shape;
    Shape strides;
    int64_t bytes;
    Memory memory;
    char* data;

    Array(Number number, Shape shape, Layout layout = Layout::rows)
        : number(number),
          shape(shape),
          strides(strides_of(size_of(number), shape, layout)),
          bytes(bytes_of()),
          memory(bytes),
          data(memory.begin +
               (layout == Layout::reversed && count() > 0 ? bytes - size_of(number) : 0)) {}

    static Shape strides_of(int64_t item, Shape shape, Layout layout) {
        const auto [a, b, n] = shape;
        switch (layout) {
            case Layout::classes_first:
                return {b * item, item, a * b * item};
            case Layout::swapped:
                return {n * item, a * n * item, item};
            case Layout::reversed:
                return {-b * n * item, -n * item, -item};
            case Layout::gaps:
                return {2 * b * n * item, 2 * n * item, 2 * item};
            default:
                return {b * n * item, n * item, item};
        }
    }

    int64_t bytes_of() const {
        if (count() == 0) return 0;
        int64_t span = size_of(number);
        for (int k = 0; k < 3; ++k) span += std::abs(strides[k]) * (shape[k] - 1);
        return span;
    }

    int64_t rows() const { return shape[0] * shape[1]; }
    int64_t count() const { return rows() * shape[2]; }

    char* at(int64_t row, int64_t j) const {
        return data + row / shape[1] * strides[0] + row % shape[1] * strides[1] + j * strides[2];
    }

    void set(int64_t row, int64_t j, double value) const {
        char* to = at(row, j);
        switch (number) {
            case Number::float64:
                return put(to, value);
            case Number::float32:
                return put(to, static_cast<float>(value));
            case Number::float16:
                return put(to, half_of(value));
            case Number::bfloat16: {
                std::uint32_t bits;
                const auto wide = static_cast<float>(value);
                std::memcpy(&bits, &wide, 4);
                return put(to, static_cast<std::uint16_t>(bits >> 16));
            }
            default: {
                const auto whole = static_cast<int64_t>(value);  // little-endian: its low bytes
                std::memcpy(to, &whole, static_cast<std::size_t>(size_of(number)));
            }
        }
    }

    double read(int64_t row, int64_t j) const {  // of floats
        const char* from = at(row, j);
        if (number == Number::float64) return get<double>(from);
        if (number == Number::float32) return get<float>(from);
        if (number == Number::float16) return number_of_half(get<std::uint16_t>(from));
        const std::uint32_t bits = std::uint32_t{get<std::uint16_t>(from)} << 16;
        float wide;
        std::memcpy(&wide, &bits, 4);
        return wide;
    }

    Rows as_rows() const {
        Rows seen;
        seen.data = data;
        seen.number = number;
        seen.class_stride = strides[2];
        seen.dimensions = 2;
        std::copy_n(shape.begin(), 2, seen.shape);
        std::copy_n(strides.begin(), 2, seen.strides);
        return seen;
    }

    Elements as_elements() const {
        Elements seen;
        seen.data = data;
        seen.number = number;
        std::copy_n(strides.begin(), 3, seen.strides);
        return seen;
    }

    std::vector<char> content() const { return {memory.begin, memory.begin + bytes}; }

    // Whether what lies between the elements is as it was.
    bool gaps_are_untouched(Layout layout) const {
        if (layout != Layout::gaps) return true;
        const int64_t item = size_of(number);
        for (int64_t i = 0; i < bytes; ++i) {
            if (i / item % 2 == 1 && memory.begin[i] != Memory::kUntouched) return false;
        }
        return true;
    }
};

// Numbers that every type holds: quarters in [-4, 4).
class Quarters {
  public:
    explicit Quarters(int64_t seed) : state_(static_cast<std::uint64_t>(seed) * 2 + 1) {}
    double next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<double>(static_cast<int64_t>(state_ >> 33) % 32 - 16) / 4;
    }

  private:
    std::uint64_t state_;
};

// ---- The softmax loss, and what it should be about

struct Options {
    const char* name;
    double smoothing = 0;
    bool class_weight = false;
    bool sample_weight = false;
    bool ignores = false;  // class ids only
    double temperature = 1;
    double softcap = 0;
    double z_loss = 0;
};

constexpr Options kOptions[] = {
    {"plain"},
    {"smoothing", 0.125},
    {"all smoothing", 1},
    {"class weights", 0, true},
    {"sample weights", 0, false, true},
    {"ignored", 0, false, false, true},
    {"temperature", 0, false, false, false, 0.75},
    {"softcap", 0, false, false, false, 1, 5},
    {"z-loss", 0, false, false, false, 1, 0, 0.001},
    {"all at once", 0.125, true, true, true, 2, 3, 0.001},
};

enum class Logits { finite, masked, rising, with_nan, with_infinity };
enum class Gradient { absent, apart, in_place };

struct Case {
    Shape shape = {1, 1, 1};
    Number number = Number::float32;
    Layout layout = Layout::rows;
    Number label_number = Number::int64;
    bool soft = false;
    Options options = kOptions[0];
    Logits logits = Logits::finite;
    Gradient gradient = Gradient::apart;
    Reduction reduction = Reduction::none;

    int64_t rows() const { return shape[0] * shape[1]; }
    int64_t classes() const { return shape[2]; }
    int64_t label(int64_t row) const { return (row * 7 + classes() / 2) % classes(); }
    bool is_ignored(int64_t row) const { return options.ignores && !soft && row % 3 == 1; }
    double share(int64_t row, int64_t j) const {
        const int64_t other = (label(row) + 1) % classes();
        if (!soft || !is_float(label_number) || other == label(row)) return j == label(row);
        return j == label(row) ? 0.75 : j == other ? 0.25 : 0;
    }
    double class_weight(int64_t j) const {
        return options.class_weight ? static_cast<double>(j % 4) / 2 : 1;
    }
    double sample_weight(int64_t row) const {
        return options.sample_weight ? static_cast<double>(row % 3) - 0.5 : 1;
    }

    double logit(int64_t row, int64_t j, Quarters& quarters) const {
        const double quarter = quarters.next();
        if (is_ignored(row)) return kNan;
        if (logits == Logits::masked && j % 5 == 1 && share(row, j) == 0) return -kInfinity;
        // So steep that blocks of a row need different references.
        if (logits == Logits::rising) return std::floor(static_cast<double>(j) / 16) * 8 - 128;
        if (logits == Logits::with_nan && row == 0 && j == classes() - 1) return kNan;
        if (logits == Logits::with_infinity && row == 0 && j == classes() / 2) return kInfinity;
        return quarter;
    }
};

struct Expected {
    double loss = 0;
    std::vector<double> gradient;
};

// The formulas themselves, in double.
Expected expected_row(const Case& c, const std::vector<double>& x, int64_t row) {
    const auto n = x.size();
    Expected expected;
    expected.gradient.resize(n);
    if (c.is_ignored(row)) return expected;
    const Options& o = c.options;
    std::vector<double> y(n), slope(n, 1);
    double peak = -kInfinity, sum = 0, unmasked = 0;
    for (std::size_t j = 0; j < n; ++j) {
        y[j] = x[j];
        if (o.softcap != 0 && std::isfinite(x[j])) {
            const double u = std::tanh(x[j] / o.softcap);
            y[j] = o.softcap * u;
            slope[j] = 1 - u * u;
        }
        y[j] /= o.temperature;
        peak = std::max(peak, y[j]);
        unmasked += y[j] > -kInfinity;
    }
    for (const double value : y) sum += std::exp(value - peak);
    const double lse = peak + std::log(sum);
    double nll = 0, target_sum = 0, mean = 0, mean_weight = 0;
    for (std::size_t j = 0; j < n; ++j) {
        const auto k = static_cast<int64_t>(j);
        const double t = c.share(row, k) * c.class_weight(k);
        if (t != 0) nll += t * (lse - y[j]);
        target_sum += t;
        if (y[j] > -kInfinity) {
            mean += c.class_weight(k) * (lse - y[j]) / unmasked;
            mean_weight += c.class_weight(k) / unmasked;
        }
    }
    const double keep = 1 - o.smoothing, weight = c.sample_weight(row);
    expected.loss = weight * (keep * nll + o.smoothing * mean + target_sum * o.z_loss * lse * lse);
    for (std::size_t j = 0; j < n; ++j) {
        const auto k = static_cast<int64_t>(j);
        const double p = std::exp(y[j] - lse);
        double g = keep * (target_sum * p - c.share(row, k) * c.class_weight(k)) +
                   target_sum * 2 * o.z_loss * lse * p;
        if (y[j] > -kInfinity) {
            g += o.smoothing * (mean_weight * p - c.class_weight(k) / unmasked);
        }
        expected.gradient[j] = weight * g / o.temperature * slope[j];
    }
    return expected;
}

bool is_close(double got, double want, double relative) {
    return std::fabs(got - want) <= relative * std::fabs(want) + 1e-4 * relative ||
           std::fabs(got - want) < 1e-6;
}

// Scores one case and returns all bits of what came out.
std::vector<char> score(const Case& c) {
    const int64_t rows = c.rows(), n = c.classes();
    const bool reduced = c.reduction != Reduction::none;  // then nothing is compared
    Array logits(c.number, c.shape, c.layout);
    Quarters quarters(rows + n);
    std::vector<std::vector<double>> x(static_cast<std::size_t>(rows));
    for (int64_t row = 0; row < rows; ++row) {
        auto& values = x[static_cast<std::size_t>(row)];
        for (int64_t j = 0; j < n; ++j) {
            logits.set(row, j, c.logit(row, j, quarters));
            if (!reduced) values.push_back(logits.read(row, j));
        }
    }
    Array labels(c.label_number, {c.shape[0], c.shape[1], c.soft ? n : 1},
                 c.soft ? c.layout : Layout::rows);
    constexpr int64_t ignored = -100;
    for (int64_t row = 0; row < rows; ++row) {
        if (c.soft) {
            for (int64_t j = 0; j < n; ++j) labels.set(row, j, c.share(row, j));
        } else {
            const int64_t id = c.is_ignored(row) ? ignored : c.label(row);
            labels.set(row, 0, static_cast<double>(id));
        }
    }
    Array class_weight(Number::float64, {1, 1, n});
    for (int64_t j = 0; j < n; ++j) class_weight.set(0, j, c.class_weight(j));
    Array sample_weight(Number::float64, {c.shape[0], c.shape[1], 1}, Layout::reversed);
    for (int64_t row = 0; row < rows; ++row) sample_weight.set(row, 0, c.sample_weight(row));
    const Number result = c.number == Number::float64 ? Number::float64 : Number::float32;
    Array losses(result, {1, 1, rows});
    Array apart(c.number, c.gradient == Gradient::apart ? c.shape : Shape{0, 0, 0}, c.layout);
    const Array& gradient = c.gradient == Gradient::in_place ? logits : apart;
    Array upstream(Number::float64, {1, 1, rows});
    for (int64_t row = 0; row < rows; ++row) upstream.set(0, row, 1);

    crossent::SoftmaxTask task;
    task.rows = rows;
    task.classes = n;
    task.logits = logits.as_rows();
    task.label_kind = c.soft ? Labels::distribution : Labels::ids;
    task.labels = labels.as_rows();
    if (c.options.class_weight) {
        task.class_weight = reinterpret_cast<const double*>(class_weight.data);
    }
    if (c.options.sample_weight) {
        task.sample_weight = sample_weight.data;
        std::copy_n(sample_weight.strides.begin(), 2, task.sample_weight_strides);
    }
    task.smoothing = c.options.smoothing;
    task.temperature = c.options.temperature;
    task.softcap = c.options.softcap;
    task.z_loss = c.options.z_loss;
    task.has_ignored = c.options.ignores && !c.soft;
    task.ignored = ignored;
    if (!reduced) task.losses = losses.data;
    if (c.gradient != Gradient::absent) {
        task.with_gradient = true;
        task.gradient = gradient.as_rows();
        if (!reduced) task.upstream_rows = reinterpret_cast<const double*>(upstream.data);
    }
    double value = -1;
    expect(softmax_loss(kernels().softmax, task, c.reduction, nullptr, &value),
           "the arguments are regular");

    expect(logits.gaps_are_untouched(c.layout), "nothing is written between the logits");
    expect(apart.gaps_are_untouched(c.layout), "nothing is written beside the gradient");
    for (int64_t row = 0; row < rows && !reduced; ++row) {
        const bool broken =
            row == 0 && (c.logits == Logits::with_nan || c.logits == Logits::with_infinity);
        const bool counts = !c.is_ignored(row) && c.sample_weight(row) != 0;
        const Expected expected = expected_row(c, x[static_cast<std::size_t>(row)], row);
        const double loss = losses.read(0, row);
        if (broken && counts) {
            expect(std::isnan(loss), "a row with NaN or +inf has no loss");
            continue;
        }
        expect(is_close(loss, expected.loss, 1e-5), "the loss of a row");
        for (int64_t j = 0; j < n && c.gradient != Gradient::absent; ++j) {
            expect(is_close(gradient.read(row, j), expected.gradient[static_cast<std::size_t>(j)],
                            size_of(c.number) == 2 ? 0x1p-7 : 1e-4),
                   "the gradient of a row");
        }
    }
    std::vector<char> bits = c.gradient == Gradient::absent ? losses.content() : gradient.content();
    const std::vector<char> of_losses = losses.content();
    bits.insert(bits.end(), of_losses.begin(), of_losses.end());
    bits.insert(bits.end(), reinterpret_cast<char*>(&value), reinterpret_cast<char*>(&value + 1));
    return bits;
}

constexpr Number kFloats[] = {Number::float16, Number::bfloat16, Number::float32, Number::float64};
constexpr Number kIntegers[] = {Number::int8,  Number::uint8,  Number::int16, Number::uint16,
                                Number::int32, Number::uint32, Number::int64, Number::uint64};
constexpr Reduction kReductions[] = {Reduction::none, Reduction::sum,  Reduction::none,
                                     Reduction::mean, Reduction::none, Reduction::mean_all};
constexpr int64_t kMostClasses = (1 << 18) + 1;  // longer than the parts that rows are summed in

void softmax_loss_of_every_shape() {
    int turn = 0;  // what is not a loop of its own takes turns
    for (const int64_t classes : {1, 2, 3, 10, 63, 64, 65, 100, 255, 256, 257, 1000}) {
        for (const Number number : kFloats) {
            for (const Layout layout : kLayouts) {
                for (const Options& options : kOptions) {
                    Case c;
                    c.shape = {turn % 7 == 0 ? 0 : 1 + turn % 2, turn % 4 + 1, classes};
                    c.number = number;
                    c.layout = layout;
                    c.options = options;
                    c.soft = turn % 2 == 1;
                    c.label_number = c.soft ? kFloats[turn / 2 % 4] : Number::int32;
                    c.reduction = kReductions[turn % 6];
                    c.gradient = Gradient(turn / 3 % 3);
                    score(c);
                    ++turn;
                }
            }
        }
    }
}

void softmax_loss_of_many_classes() {
    int turn = 0;
    for (const int64_t classes : {int64_t{5000}, kMostClasses}) {
        for (const Options& options : kOptions) {
            Case c;
            c.shape = {1, 2, classes};
            c.number = kFloats[turn % 4];
            c.layout = kLayouts[turn % 5];
            c.options = options;
            c.soft = turn % 2 == 0;
            c.label_number = c.soft ? kFloats[(turn + 1) % 4] : Number::uint32;
            c.label_number = c.options.ignores && !c.soft ? Number::int64 : c.label_number;
            c.gradient = Gradient(1 + turn / 2 % 2);
            score(c);
            ++turn;
        }
    }
}

void softmax_loss_of_every_logit() {
    int turn = 0;
    for (const Logits logits :
         {Logits::masked, Logits::rising, Logits::with_nan, Logits::with_infinity}) {
        for (const int64_t classes : {2, 10, 65, 300, 1000}) {
            for (const Number number : kFloats) {
                for (const bool soft : {false, true}) {
                    Case c;
                    c.shape = {1, 3, classes};
                    c.number = number;
                    c.logits = logits;
                    c.soft = soft;
                    c.label_number = soft ? number : Number::int16;
                    // Rising logits leave the smoothed and the softened losses nothing to compare.
                    c.options = kOptions[logits == Logits::rising ? 0 : turn % 10];
                    c.layout = kLayouts[turn % 5];
                    c.gradient = Gradient(turn % 3);
                    score(c);
                    ++turn;
                }
            }
        }
    }
}

void softmax_loss_of_every_label() {
    for (const int64_t classes : {2, 20, 100}) {
        for (const Layout layout : kLayouts) {
            Case c;
            c.shape = {2, 3, classes};
            c.layout = layout;
            for (const Number number : kIntegers) {
                c.label_number = number;
                for (const bool soft : {false, true}) {
                    c.soft = soft;
                    score(c);
                }
            }
            c.soft = true;
            c.label_number = Number::boolean;
            score(c);
        }
    }
}

// Elements that are worth several threads, and so many that their gradient, also in float16, goes
// past the caches.
constexpr int64_t kForThreads = 9 << 17, kForStreams = (9 << 20) / 4;

// These take ten seconds under ThreadSanitizer, and many times that beside other programs.
constexpr unsigned kSecondsToRunLarge = 600;

std::vector<Case> large_cases(int64_t elements) {
    std::vector<Case> cases;
    int turn = 0;
    for (const Number number : kFloats) {
        Case c;
        c.shape = {1, elements / size_of(number) * 2 / 1001, 1001};
        c.number = number;
        c.layout = turn == 1 ? Layout::classes_first : Layout::rows;
        c.options = kOptions[turn % 2 == 0 ? 0 : 5];
        c.gradient = turn == 3 ? Gradient::in_place : Gradient::apart;
        c.reduction = Reduction::mean;
        cases.push_back(c);
        ++turn;
    }
    return cases;
}

void softmax_threads_change_no_bit() {
    alarm(kSecondsToRunLarge);
    for (const Case& c : large_cases(kForStreams)) {
        crossent::set_max_threads(1);
        const std::vector<char> alone = score(c);
        for (const int threads : {2, 7}) {
            crossent::set_max_threads(threads);
            expect(score(c) == alone, "any number of threads gives the same bits");
        }
    }
}

// ---- Statistics, their gradient, and functions of rows

void row_statistics_and_gradients() {
    int turn = 0;
    for (const int64_t classes : {1, 2, 10, 64, 65, 100, 257, 1000}) {
        for (const Number number : kFloats) {
            for (const Layout layout : kLayouts) {
                Case c;
                c.shape = {2, 2, classes};
                c.soft = turn % 2 == 0;
                const int64_t rows = c.rows();
                Array logits(number, c.shape, layout);
                Array labels(c.soft ? Number::float64 : Number::uint8, {2, 2, c.soft ? classes : 1},
                             layout);
                Quarters quarters(classes);
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t j = 0; j < classes; ++j) {
                        logits.set(row, j, quarters.next());
                        if (c.soft) labels.set(row, j, c.share(row, j));
                    }
                    if (!c.soft) labels.set(row, 0, static_cast<double>(row % classes));
                }
                crossent::SoftmaxTask task;
                task.rows = rows;
                task.classes = classes;
                task.logits = logits.as_rows();
                task.label_kind = c.soft ? Labels::distribution : Labels::ids;
                task.labels = labels.as_rows();
                task.with_mean = turn % 3 == 0;
                task.temperature = turn % 5 == 0 ? 0.5 : 1;
                Array statistics(Number::float64, {1, 7, rows});
                task.statistics = reinterpret_cast<double*>(statistics.data);
                run(kernels().softmax, task);
                for (int64_t row = 0; row < rows; ++row) {
                    expect(statistics.read(1, row) >= 0, "log_sum is not negative");
                    expect(statistics.read(3, row) >= 0, "a loss is not negative");
                    expect(statistics.read(4, row) == 1, "the target sums to 1");
                }
                task.statistics = nullptr;
                Array upstream(Number::float64, {1, 4, rows});
                for (int64_t k = 0; k < 4 * rows; ++k) {
                    upstream.set(k / rows, k % rows, static_cast<double>(k % 3) - 1);
                }
                const auto* each = reinterpret_cast<const double*>(upstream.data);
                task.by_nll = turn % 4 == 0 ? nullptr : each;
                task.by_log_sum = each + rows;
                task.by_label_gap = each + 2 * rows;
                task.by_mean_gap = task.with_mean ? each + 3 * rows : nullptr;
                Array gradient(number, c.shape, layout);
                task.with_gradient = true;
                task.gradient = gradient.as_rows();
                run(kernels().softmax, task);
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t j = 0; j < classes; ++j) {
                        expect(std::isfinite(gradient.read(row, j)), "the gradient is finite");
                    }
                }
                expect(gradient.gaps_are_untouched(layout), "nothing is written beside it");
                ++turn;
            }
        }
    }
}

void probabilities_of_every_shape() {
    int turn = 0;
    for (const int64_t classes : {1, 2, 10, 63, 64, 65, 100, 255, 257, 1000, 5000}) {
        for (const Number number : kFloats) {
            for (const Layout layout : kLayouts) {
                const Shape shape = {2, turn % 3, classes};
                const int64_t rows = shape[0] * shape[1];
                Array logits(number, shape, layout);
                Quarters quarters(classes);
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t j = 0; j < classes; ++j) logits.set(row, j, quarters.next());
                }
                const bool is_wide = number == Number::float64 || turn % 2 == 0;
                Array out(is_wide ? Number::float64 : Number::float32, shape, layout);
                crossent::SoftmaxTask task;
                task.rows = rows;
                task.classes = classes;
                task.logits = logits.as_rows();
                task.gradient = out.as_rows();
                for (const bool is_log : {false, true}) {
                    // Only the logarithm is asked for with options.
                    task.softcap = is_log && turn % 4 == 0 ? 2 : 0;
                    task.as_probabilities = task.with_gradient = !is_log;
                    task.with_log_softmax = is_log;
                    run(kernels().softmax, task);
                    expect(out.gaps_are_untouched(layout), "nothing is written beside it");
                    for (int64_t row = 0; row < rows; ++row) {
                        double sum = 0;
                        for (int64_t j = 0; j < classes; ++j) {
                            const double p = out.read(row, j);
                            sum += is_log ? std::exp(p) : p;
                        }
                        expect(is_close(sum, 1, 1e-5), "probabilities sum to 1");
                    }
                }
                Array lse(number == Number::float64 ? Number::float64 : Number::float32,
                          {1, 1, rows});
                task = {};
                task.rows = rows;
                task.classes = classes;
                task.logits = logits.as_rows();
                task.losses = lse.data;
                task.is_log_sum_exp = true;
                run(kernels().softmax, task);
                for (int64_t row = 0; row < rows; ++row) {
                    double sum = 0;
                    for (int64_t j = 0; j < classes; ++j) sum += std::exp(logits.read(row, j));
                    expect(is_close(lse.read(0, row), std::log(sum), 1e-5), "log-sum-exp");
                }
                ++turn;
            }
        }
    }
}

// ---- Elementwise

struct SigmoidCase {
    Shape shape = {1, 1, 1};
    Number number = Number::float32;
    Layout layout = Layout::rows;
    Number label_number = Number::float32;
    int turn = 0;  // of the options, Gradient and Reduction
    Gradient gradient = Gradient::apart;
    Reduction reduction = Reduction::none;
};

std::vector<char> score(const SigmoidCase& c) {
    Array logits(c.number, c.shape, c.layout);
    Array labels(c.label_number, c.shape, c.layout);
    const int64_t rows = logits.rows(), n = c.shape[2];
    const bool ignores = c.turn % 5 == 0;
    Quarters quarters(n);
    std::vector<double> expected;
    const double smoothing = c.turn % 4 == 0 ? 0.25 : 0;
    const bool has_pos_weight = c.turn % 3 == 0, is_scalar = c.turn % 6 == 0;
    const bool has_sample_weight = c.turn % 2 == 1;
    Array pos_weight(Number::float64, {1, 1, is_scalar ? 1 : n});
    if (is_scalar || n > 0) {
        for (int64_t j = 0; j < pos_weight.shape[2]; ++j) pos_weight.set(0, j, 2);
    }
    Array sample_weight(Number::float64, c.shape, Layout::swapped);
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t j = 0; j < n; ++j) {
            const double label = is_float(c.label_number) && j % 3 == 2 ? 0.5 : j % 2 == 0;
            const bool skipped = ignores && label == 1;
            const double x = skipped ? kNan : quarters.next();
            logits.set(row, j, x);
            labels.set(row, j, label);
            sample_weight.set(row, j, 0.5);
            if (c.reduction != Reduction::none) continue;
            const double z = label * (1 - smoothing) + smoothing / 2;
            const double loss = (has_pos_weight ? 2 : 1) * z * std::log1p(std::exp(-x)) +
                                (1 - z) * (x + std::log1p(std::exp(-x)));
            expected.push_back(skipped ? 0 : (has_sample_weight ? 0.5 : 1) * loss);
        }
    }
    const Number result = c.number == Number::float64 ? Number::float64 : Number::float32;
    Array losses(result, {1, rows, n});
    Array apart(c.number, c.gradient == Gradient::apart ? c.shape : Shape{0, 0, 0}, c.layout);
    const Array& gradient = c.gradient == Gradient::in_place ? logits : apart;
    Array upstream(Number::float64, c.shape);
    for (int64_t k = 0; k < rows * n; ++k) upstream.set(k / n, k % n, 2);

    crossent::SigmoidTask task;
    task.dimensions = 3;
    std::copy_n(c.shape.begin(), 3, task.shape);
    task.logits = logits.as_elements();
    task.labels = labels.as_elements();
    task.label_smoothing = smoothing;
    task.has_ignored = ignores;
    task.ignored = 1;
    if (has_pos_weight) {
        task.pos_weight.data = pos_weight.data;
        task.pos_weight.strides[2] = is_scalar ? 0 : 8;
    }
    if (has_sample_weight) task.sample_weight = sample_weight.as_elements();
    task.reduction = c.reduction;
    if (c.reduction == Reduction::none) task.losses = losses.data;
    if (c.gradient != Gradient::absent) {
        task.gradient = gradient.as_elements();
        if (c.turn % 7 == 0) task.upstream_each = upstream.as_elements();
    }
    double value = -1;
    expect(sigmoid_loss(kernels().elementwise, task, &value), "the arguments are regular");
    expect(logits.gaps_are_untouched(c.layout), "nothing is written between the logits");
    expect(apart.gaps_are_untouched(c.layout), "nothing is written beside the gradient");
    for (int64_t k = 0; k < rows * n; ++k) {
        if (c.reduction == Reduction::none) {
            expect(is_close(losses.read(k / n, k % n), expected[static_cast<std::size_t>(k)], 1e-5),
                   "the loss of an element");
        }
        if (c.gradient != Gradient::absent) {
            expect(std::isfinite(gradient.read(k / n, k % n)), "the gradient is finite");
        }
    }
    std::vector<char> bits = gradient.content();
    const std::vector<char> of_losses = losses.content();
    bits.insert(bits.end(), of_losses.begin(), of_losses.end());
    bits.insert(bits.end(), reinterpret_cast<char*>(&value), reinterpret_cast<char*>(&value + 1));
    return bits;
}

void sigmoid_loss_of_every_shape() {
    int turn = 0;
    for (const int64_t count : {0, 1, 2, 3, 10, 63, 64, 65, 100, 257, 1025}) {
        for (const Number number : kFloats) {
            for (const Layout layout : kLayouts) {
                for (int i = 0; i < 14; ++i) {
                    SigmoidCase c;
                    c.shape = {turn % 2 + 1, turn % 3 + 1, count};
                    c.number = number;
                    c.layout = layout;
                    c.label_number = i < 4    ? kFloats[i]
                                     : i < 12 ? kIntegers[i - 4]
                                              : Number::boolean;
                    c.turn = turn;
                    c.gradient = Gradient(turn % 3);
                    c.reduction = kReductions[turn / 2 % 6];
                    score(c);
                    ++turn;
                }
            }
        }
    }
}

std::vector<SigmoidCase> large_sigmoid_cases(int64_t elements) {
    std::vector<SigmoidCase> cases;
    int turn = 0;
    for (const Number number : kFloats) {
        SigmoidCase c;
        c.shape = {2, elements / size_of(number) / 1001, 1001};
        c.number = number;
        c.layout = turn % 2 == 0 ? Layout::rows : Layout::swapped;
        c.turn = turn;
        c.label_number = kFloats[(turn + 1) % 4];
        c.gradient = turn == 3 ? Gradient::in_place : Gradient::apart;
        c.reduction = Reduction::mean;
        cases.push_back(c);
        ++turn;
    }
    return cases;
}

void sigmoid_threads_change_no_bit() {
    alarm(kSecondsToRunLarge);
    for (const SigmoidCase& c : large_sigmoid_cases(kForStreams)) {
        crossent::set_max_threads(1);
        const std::vector<char> alone = score(c);
        crossent::set_max_threads(7);
        expect(score(c) == alone, "any number of threads gives the same bits");
    }
}

void functions_of_every_shape() {
    for (const auto function : {crossent::Function::sigmoid, crossent::Function::log_sigmoid,
                                crossent::Function::softplus}) {
        for (const int64_t count : {0, 1, 2, 7, 63, 64, 65, 1023, 1025, 70000}) {
            for (const Number number : kFloats) {
                for (const Layout layout : kLayouts) {
                    const Shape shape = {1, count > 1025 ? 1 : 2, count};
                    Array x(number, shape, layout);
                    Quarters quarters(count);
                    for (int64_t k = 0; k < x.count(); ++k) {
                        x.set(k / count, k % count, k % 11 == 0 ? -kInfinity : quarters.next());
                    }
                    const bool is_wide = number == Number::float64;
                    Array result(is_wide ? Number::float64 : Number::float32, shape,
                                 count % 2 == 0 ? layout : Layout::rows);
                    crossent::FunctionTask task;
                    task.function = function;
                    task.dimensions = 3;
                    std::copy_n(shape.begin(), 3, task.shape);
                    task.x = x.as_elements();
                    task.result = result.as_elements();
                    elementwise(kernels().elementwise, task);
                    for (int64_t k = 0; k < x.count(); ++k) {
                        const double logit = x.read(k / count, k % count);
                        const double sigmoid = 1 / (1 + std::exp(-logit));
                        const double want = function == crossent::Function::sigmoid ? sigmoid
                                            : function == crossent::Function::softplus
                                                ? std::log1p(std::exp(logit))
                                                : -std::log1p(std::exp(-logit));
                        const double got = result.read(k / count, k % count);
                        expect(got == want || is_close(got, want, 1e-5), "the function's value");
                    }
                }
            }
        }
    }
}

// ---- Calls as the front ends make them (native/calls.h)

crossent::Array seen_by_a_front_end(const Array& array, int rank) {
    crossent::Array seen;
    seen.data = array.data;
    seen.number = array.number;
    seen.rank = rank;
    std::copy_n(array.shape.begin(), rank, seen.shape);
    std::copy_n(array.strides.begin(), rank, seen.strides);
    return seen;
}

// A call of either loss; its pointers lead to its own arrays.
struct Call : crossent::LossCall {
    crossent::Array own_logits, own_labels, own_weights, own_losses, own_gradient;

    Call(const Array& x, const Array& y, const Array& weights, int weight_axes, const Array& rows,
         const Array& slopes)
        : own_logits(seen_by_a_front_end(x, 3)),
          own_labels(seen_by_a_front_end(y, 3)),
          own_weights(seen_by_a_front_end(weights, weight_axes)),
          own_losses(seen_by_a_front_end(rows, 3)),
          own_gradient(seen_by_a_front_end(slopes, 3)) {
        logits = &own_logits;
        labels = &own_labels;
        sample_weight = &own_weights;
        losses = &own_losses;
        gradient = &own_gradient;
    }
    Call(const Call&) = delete;

    // Of labels that are invalid.
    void expect_nan(crossent::Answer (*loss)(const crossent::LossCall&, double*)) {
        double value = 0;
        expect(loss(*this, &value) == crossent::Answer::unusual, "invalid labels are noticed");
        invalid_is_nan = true;
        expect(loss(*this, &value) == crossent::Answer::ok, "invalid labels are NaN");
        expect(reduction == Reduction::none || std::isnan(value), "so is what they become");
    }
};

// Weights of every kind and rank; row 0 has labels that are no labels, which compiled programs
// get as NaN and the others as `unusual`. Row 1 has such labels too, and a weight of 0.
void calls_with_invalid_labels() {
    constexpr int64_t rows = 4, n = 5;
    int turn = 0;
    for (const Number number : kFloats) {
        for (const Layout layout : kLayouts) {
            for (int kind = 0; kind < 12; ++kind) {
                Case c;
                c.soft = kind < 4;
                c.label_number = c.soft ? kFloats[kind] : kIntegers[kind - 4];
                // The rows lie along either axis: their weights then have one axis, or two.
                c.shape = turn % 2 == 0 ? Shape{rows, 1, n} : Shape{1, rows, n};
                c.number = number;
                c.options.class_weight = turn % 3 == 0;
                Array logits(number, c.shape, layout), gradient(number, c.shape, layout);
                Array labels(c.label_number, {c.shape[0], c.shape[1], c.soft ? n : 1}, layout);
                Array weights(kFloats[turn % 4], {c.shape[0], c.shape[1], 1}, layout);
                Array class_weight(kFloats[turn / 2 % 4], {n, 1, 1}, layout);
                Array upstream(kFloats[turn / 3 % 4], {rows, 1, 1}, layout);
                Array losses(number == Number::float64 ? number : Number::float32, {1, 1, rows});
                Quarters quarters(turn);
                std::vector<std::vector<double>> x(rows);
                for (int64_t row = 0; row < rows; ++row) {
                    for (int64_t j = 0; j < n; ++j) {
                        x[row].push_back(quarters.next());
                        logits.set(row, j, x[row][j]);
                        if (c.soft) labels.set(row, j, row < 2 ? 1 : c.share(row, j));
                    }
                    if (!c.soft) labels.set(row, 0, row < 2 ? n : c.label(row));
                    weights.set(row, 0, row == 1 ? 0 : 0.5);
                    upstream.set(row, 0, 2);
                }
                for (int64_t j = 0; j < n; ++j) class_weight.set(j, 0, c.class_weight(j));
                const std::vector<char> given = labels.content();

                const auto class_weight_seen = seen_by_a_front_end(class_weight, 1);
                const auto upstream_seen = seen_by_a_front_end(upstream, 1);
                Call call(logits, labels, weights, turn % 2 == 0 ? 1 : 2, losses, gradient);
                if (c.options.class_weight) call.class_weight = &class_weight_seen;
                call.reduction = turn % 5 == 0 ? Reduction::sum : Reduction::none;
                const bool reduced = call.reduction != Reduction::none;
                if (!reduced) call.upstream_rows = &upstream_seen;
                call.expect_nan(crossent::softmax_loss);
                for (int64_t row = 0; row < rows; ++row) {
                    const Expected expected = expected_row(c, x[row], row);
                    for (int64_t j = 0; j < n; ++j) {
                        const double loss = losses.read(0, row), slope = gradient.read(row, j);
                        if (row == 0) {
                            expect(std::isnan(loss) && std::isnan(slope), "an invalid row is NaN");
                            continue;
                        }
                        const double weight = row == 1 ? 0 : 0.5, up = reduced ? 1 : 2;
                        expect(is_close(loss, weight * expected.loss, 1e-5), "the other losses");
                        expect(is_close(slope, up * weight * expected.gradient[j],
                                        size_of(number) == 2 ? 0x1p-7 : 1e-4),
                               "the other gradients");
                    }
                }
                expect(gradient.gaps_are_untouched(layout), "nothing is written beside it");
                expect(labels.content() == given, "the caller's labels stay");
                ++turn;
            }
        }
    }
}

// The same of elements: their first and second label is 2.
void sigmoid_calls_with_invalid_labels() {
    constexpr int64_t rows = 3, n = 4;
    int turn = 0;
    for (const Number number : kFloats) {
        for (const Layout layout : kLayouts) {
            for (int kind = 0; kind < 12; ++kind) {
                const Shape shape = {1, rows, n};
                const Number label_number = kind < 4 ? kFloats[kind] : kIntegers[kind - 4];
                Array logits(number, shape, layout), gradient(number, shape, layout);
                Array labels(label_number, shape, layout);
                Array weights(kFloats[turn % 4], shape, layout);
                Array pos_weight(kFloats[turn / 2 % 4], {turn % 2 == 0 ? 1 : n, 1, 1}, layout);
                Array losses(number == Number::float64 ? number : Number::float32, {1, 1, 12});
                Quarters quarters(turn);
                std::vector<double> x;
                for (int64_t k = 0; k < rows * n; ++k) {
                    x.push_back(quarters.next());
                    logits.set(k / n, k % n, x.back());
                    labels.set(k / n, k % n, k < 2 ? 2 : static_cast<double>(k % 2));
                    weights.set(k / n, k % n, k == 1 ? 0 : 0.5);
                }
                for (int64_t j = 0; j < pos_weight.shape[0]; ++j) pos_weight.set(j, 0, 2);

                const auto pos_weight_seen = seen_by_a_front_end(pos_weight, 1);
                Call call(logits, labels, weights, 3, losses, gradient);
                call.pos_weight = &pos_weight_seen;
                call.reduction = turn % 5 == 0 ? Reduction::mean : Reduction::none;
                call.expect_nan(crossent::sigmoid_loss);
                for (int64_t k = 0; k < rows * n; ++k) {
                    const double loss = losses.read(0, k), slope = gradient.read(k / n, k % n);
                    if (k == 0) {
                        expect(std::isnan(loss) && std::isnan(slope), "an invalid one is NaN");
                        continue;
                    }
                    const double weight = k == 1 ? 0 : 0.5, x_k = x[k];
                    const double want =
                        k % 2 == 1 ? 2 * std::log1p(std::exp(-x_k)) : std::log1p(std::exp(x_k));
                    expect(is_close(loss, weight * want, 1e-5), "the other losses");
                    expect(std::isfinite(slope) && (k != 1 || slope == 0), "the other gradients");
                }
                ++turn;
            }
        }
    }
}

// ---- Several callers at once

void concurrent_callers() {
    alarm(kSecondsToRunLarge);
    crossent::set_max_threads(3);
    const std::vector<Case> cases = large_cases(kForThreads);
    const std::vector<SigmoidCase> others = large_sigmoid_cases(kForThreads);
    const auto check = [&](std::size_t caller) {
        for (std::size_t i = 0; i < 2; ++i) {
            const Case& c = cases[(caller + 2 * i) % cases.size()];
            const SigmoidCase& other = others[(caller + 2 * i) % others.size()];
            expect(score(c) == score(c), "another caller changes nothing");
            expect(score(other) == score(other), "another caller changes nothing");
        }
    };
    std::vector<std::thread> callers;
    for (std::size_t caller = 0; caller < 3; ++caller) callers.emplace_back(check, caller);
    for (std::thread& caller : callers) caller.join();
}

void instruction_set() { std::puts(crossent::chosen_instruction_set().c_str()); }

}  // namespace

int main(int argc, char** argv) {
    static const Scenario scenarios[] = {
        {"softmax_loss_of_every_shape", softmax_loss_of_every_shape},
        {"softmax_loss_of_many_classes", softmax_loss_of_many_classes},
        {"softmax_loss_of_every_logit", softmax_loss_of_every_logit},
        {"softmax_loss_of_every_label", softmax_loss_of_every_label},
        {"softmax_threads_change_no_bit", softmax_threads_change_no_bit},
        {"row_statistics_and_gradients", row_statistics_and_gradients},
        {"probabilities_of_every_shape", probabilities_of_every_shape},
        {"sigmoid_loss_of_every_shape", sigmoid_loss_of_every_shape},
        {"sigmoid_threads_change_no_bit", sigmoid_threads_change_no_bit},
        {"functions_of_every_shape", functions_of_every_shape},
        {"calls_with_invalid_labels", calls_with_invalid_labels},
        {"sigmoid_calls_with_invalid_labels", sigmoid_calls_with_invalid_labels},
        {"concurrent_callers", concurrent_callers},
        {"instruction_set", instruction_set},
    };
    return run_named(scenarios, argc, argv);
}
