#include "elementwise.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "exact_sum.h"
#include "floating_point.h"
#include "memory_advice.h"
#include "thread_pool.h"

namespace crossent {
namespace {

using std::int64_t;

// Elements that are worked on together: their scratch stays in a first-level cache, and the sum of
// their losses is exact (ElementwiseKernels::parts_of_sum).
constexpr int64_t kTile = 1024;

// Elements that a thread takes at a time, some 30 us of work; and from how many on there is enough
// for several threads.
constexpr int64_t kChunk = 1 << 15;
constexpr int64_t kWorthThreads = 1 << 17;

// From this size on a gradient is written past the caches: it would push out what they hold.
constexpr int64_t kStreamedBytes = int64_t{4} << 20;

struct Shape {
    int dimensions = 0;
    int64_t sizes[Elements::kMaxDimensions] = {0};

    int64_t count() const {
        return std::accumulate(sizes, sizes + dimensions, int64_t{1}, std::multiplies<>());
    }
};

// ---- The memory of an array

struct Span {
    char* begin;
    char* end;
};

Span span_of(const Elements& array, const Shape& shape) {
    if (shape.count() == 0) {
        return {array.data, array.data};
    }
    Span span{array.data, array.data + size_of(array.number)};
    for (int k = 0; k < shape.dimensions; ++k) {
        const int64_t reach = array.strides[k] * (shape.sizes[k] - 1);
        (reach < 0 ? span.begin : span.end) += reach;
    }
    return span;
}

void expect_writing(const Elements& array, const Shape& shape) {
    const Span span = span_of(array, shape);
    advise_huge_pages(span.begin, static_cast<std::size_t>(span.end - span.begin));
}

// ---- An array as a sequence of elements

// The axes in the order of one array's memory, so that Fortran order is as good as C order.
struct Order {
    int axes[Elements::kMaxDimensions];
};

Order order_of(const Elements& array, const Shape& shape) {
    Order order;
    std::iota(order.axes, order.axes + shape.dimensions, 0);
    std::stable_sort(order.axes, order.axes + shape.dimensions, [&](int a, int b) {
        return std::abs(array.strides[a]) > std::abs(array.strides[b]);
    });
    return order;
}

// The elements of an array in a given order of its axes, neighbouring axes put together where they
// can be: one axis for contiguous memory, none for a number that is broadcast.
class Sequence {
  public:
    Sequence(const Elements& array, const Shape& shape, const Order& order)
        : data_(array.data), item_(size_of(array.number)) {
        for (int k = 0; k < shape.dimensions; ++k) {
            const int64_t size = shape.sizes[order.axes[k]];
            const int64_t stride = array.strides[order.axes[k]];
            if (size == 1) {
                continue;
            }
            if (axes_ > 0 && strides_[axes_ - 1] == stride * size) {
                sizes_[axes_ - 1] *= size;
                strides_[axes_ - 1] = stride;
            } else {
                sizes_[axes_] = size;
                strides_[axes_++] = stride;
            }
        }
        const bool is_aligned =
            reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::uintptr_t>(item_) == 0;
        is_contiguous_ = is_aligned && (axes_ == 0 || (axes_ == 1 && strides_[0] == item_));
        if (axes_ == 1 && strides_[0] == 0) {
            axes_ = 0;
        }
    }

    bool is_constant() const { return axes_ == 0; }
    bool is_contiguous() const { return is_contiguous_; }
    int64_t item() const { return item_; }
    char* at(int64_t index) const { return data_ + index * item_; }  // of contiguous elements

    void read(int64_t begin, int64_t count, void* to) const {
        auto* next = static_cast<char*>(to);
        runs(begin, count, [&](char* element, int64_t stride, int64_t length) {
            copy_items(next, item_, element, stride, length);
            next += length * item_;
        });
    }

    void write(int64_t begin, int64_t count, const void* from) const {
        auto* next = static_cast<const char*>(from);
        runs(begin, count, [&](char* element, int64_t stride, int64_t length) {
            copy_items(element, stride, next, item_, length);
            next += length * item_;
        });
    }

  private:
    template <typename Item>
    static void copy_strided(char* to, int64_t to_stride, const char* from, int64_t from_stride,
                             int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            std::memcpy(to + i * to_stride, from + i * from_stride, sizeof(Item));
        }
    }

    void copy_items(char* to, int64_t to_stride, const char* from, int64_t from_stride,
                    int64_t count) const {
        if (to_stride == item_ && from_stride == item_) {
            std::memcpy(to, from, static_cast<std::size_t>(count * item_));
        } else if (item_ == 1) {
            copy_strided<std::uint8_t>(to, to_stride, from, from_stride, count);
        } else if (item_ == 2) {
            copy_strided<std::uint16_t>(to, to_stride, from, from_stride, count);
        } else if (item_ == 4) {
            copy_strided<std::uint32_t>(to, to_stride, from, from_stride, count);
        } else {
            copy_strided<std::uint64_t>(to, to_stride, from, from_stride, count);
        }
    }

    // Calls `run` for each stretch of `count` elements from `begin` on along the last axis.
    template <typename Run>
    void runs(int64_t begin, int64_t count, Run run) const {
        if (axes_ == 0) {
            run(data_, 0, count);
            return;
        }
        int64_t place[Elements::kMaxDimensions];
        char* element = data_;
        for (int k = axes_ - 1; k >= 0; --k) {
            place[k] = begin % sizes_[k];
            begin /= sizes_[k];
            element += place[k] * strides_[k];
        }
        const int last = axes_ - 1;
        while (count > 0) {
            const int64_t length = std::min(count, sizes_[last] - place[last]);
            run(element, strides_[last], length);
            count -= length;
            place[last] += length;
            element += length * strides_[last];
            for (int k = last; k > 0 && place[k] == sizes_[k]; --k) {
                place[k] = 0;
                element += strides_[k - 1] - sizes_[k] * strides_[k];
                ++place[k - 1];
            }
        }
    }

    char* data_;
    int64_t item_;
    int axes_ = 0;
    int64_t sizes_[Elements::kMaxDimensions];
    int64_t strides_[Elements::kMaxDimensions];
    bool is_contiguous_;
};

// Memory of one tile of any numbers.
struct alignas(64) Tile {
    char bytes[kTile * 8];
    double* doubles() { return reinterpret_cast<double*>(bytes); }
};

// A sequence as contiguous memory, tile after tile.
class Reader {
  public:
    explicit Reader(const Sequence& sequence) : sequence_(sequence) {}

    const void* read(int64_t begin, int64_t count) {
        if (sequence_.is_contiguous()) {
            return sequence_.at(begin);
        }
        if (!is_filled_) {
            // A number that is broadcast fills the tile once and for all.
            is_filled_ = sequence_.is_constant();
            sequence_.read(begin, is_filled_ ? kTile : count, tile_.bytes);
        }
        return tile_.bytes;
    }

  private:
    const Sequence& sequence_;
    bool is_filled_ = false;
    Tile tile_;
};

// ---- Loops over chunks

int threads_for(int64_t count) { return count < kWorthThreads ? 1 : max_threads(); }

// Calls body(begin, end, worker) for every chunk.
template <typename Body>
void for_chunks(int64_t count, int threads, Body body) {
    const LoopBody call = [](void* context, int64_t begin, int64_t end, int worker) {
        (*static_cast<Body*>(context))(begin, end, worker);
    };
    parallel_for(count, kChunk, threads, call, &body);
}

// Calls body(begin, count) for every tile of a chunk.
template <typename Body>
void for_tiles(int64_t begin, int64_t end, Body body) {
    for (; begin < end; begin += kTile) {
        body(begin, std::min(kTile, end - begin));
    }
}

// The exact sum of one tile after the other. Adding a number to an ExactSum takes longer than
// adding up a tile, so the parts of several tiles wait for each other.
class TileSum {
  public:
    TileSum(const ElementwiseKernels& kernels, Number number, ExactSum& sum)
        : kernels_(kernels), number_(number), sum_(sum) {}
    TileSum(const TileSum&) = delete;
    ~TileSum() { add(sum_, parts_, waiting_, 1); }

    void add_tile(const void* values, int64_t count) {
        if (waiting_ + 3 > kMost) {
            add(sum_, parts_, waiting_, 1);
            waiting_ = 0;
        }
        if (kernels_.parts_of_sum(number_, values, count, parts_ + waiting_)) {
            waiting_ += 3;
        } else if (number_ == Number::float64) {
            add(sum_, static_cast<const double*>(values), count, 1);
        } else {
            add(sum_, static_cast<const float*>(values), count, 1);
        }
    }

  private:
    static constexpr int64_t kMost = 120;  // from 128 on `add` takes another, slower way

    const ElementwiseKernels& kernels_;
    Number number_;
    ExactSum& sum_;
    double parts_[kMost];
    int64_t waiting_ = 0;
};

ExactSum times(const ExactSum& sum, int64_t factor) {
    ExactSum product;
    for (int bit = 62; bit >= 0; --bit) {
        merge(product, ExactSum(product));
        if ((factor >> bit & 1) != 0) {
            merge(product, sum);
        }
    }
    return product;
}

// ---- The sigmoid loss

// What a thread has counted; on cache lines of its own.
struct alignas(64) Totals {
    ExactSum losses;
    ExactSum weights;
    int64_t kept = 0;
    bool is_irregular = false;
};

Totals merged(const std::vector<Totals>& parts) {
    Totals all;
    for (const Totals& part : parts) {
        merge(all.losses, part.losses);
        merge(all.weights, part.weights);
        all.kept += part.kept;
        all.is_irregular |= part.is_irregular;
    }
    return all;
}

const double kOne = 1;

// The array, or if it is absent ones.
Elements or_ones(const Elements& array) {
    if (array.data != nullptr) {
        return array;
    }
    Elements ones;
    ones.data = const_cast<char*>(reinterpret_cast<const char*>(&kOne));
    return ones;
}

struct SigmoidJob {
    const ElementwiseKernels& kernels;
    const SigmoidTask& task;
    Shape shape;
    Order order;
    int64_t count;
    int threads;
    Number result;           // of the losses
    double coefficient = 0;  // of the gradient: upstream over the denominator

    SigmoidJob(const ElementwiseKernels& kernels, const SigmoidTask& task, const Shape& shape)
        : kernels(kernels),
          task(task),
          shape(shape),
          order(order_of(task.logits, shape)),
          count(shape.count()),
          threads(threads_for(count)),
          result(task.logits.number == Number::float64 ? Number::float64 : Number::float32) {}

    Sequence sequence(const Elements& array) const { return Sequence(array, shape, order); }
};

// Labels as the kernels take them, tile after tile.
class LabelReader {
  public:
    explicit LabelReader(const SigmoidJob& job)
        : kernels_(job.kernels), sequence_(job.sequence(job.task.labels)), reader_(sequence_) {
        const Number number = job.task.labels.number;
        as_they_are_ = (number == Number::float32 || number == Number::float64) &&
                       job.task.label_smoothing == 0 && !job.task.has_ignored;
        tile_.number = number;
        tile_.smoothing = job.task.label_smoothing;
        tile_.has_ignored = job.task.has_ignored;
        tile_.ignored = job.task.ignored;
        tile_.smoothed = as_they_are_ ? nullptr : smoothed_.doubles();
        tile_.kept = kept_.doubles();
    }

    void read(int64_t begin, int64_t count) {
        tile_.count = count;
        tile_.labels = reader_.read(begin, count);
        if (!as_they_are_) {
            number_kept_ = kernels_.labels(tile_);
        }
    }

    // Of those last read, -1 where one is irregular. Labels that the loss takes as they are should
    // be counted after it: it has more to do while they come from memory.
    int64_t number_kept() const { return as_they_are_ ? kernels_.labels(tile_) : number_kept_; }

    bool are_floats() const { return as_they_are_ && tile_.number == Number::float32; }
    const void* values() { return as_they_are_ ? tile_.labels : smoothed_.doubles(); }
    const double* kept() { return kept_.doubles(); }

  private:
    const ElementwiseKernels& kernels_;
    Sequence sequence_;
    Reader reader_;
    LabelTile tile_;
    bool as_they_are_;
    int64_t number_kept_ = 0;
    Tile smoothed_;
    Tile kept_;
};

// Sample weights, 0 where ignored, tile after tile.
class WeightReader {
  public:
    explicit WeightReader(const SigmoidJob& job)
        : has_ignored_(job.task.has_ignored),
          sequence_(job.sequence(or_ones(job.task.sample_weight))),
          reader_(sequence_) {}

    const double* read(int64_t begin, int64_t count, const double* kept) {
        const auto* weights = static_cast<const double*>(reader_.read(begin, count));
        if (!has_ignored_) {
            return weights;
        }
        for (int64_t i = 0; i < count; ++i) {
            of_kept_.doubles()[i] = weights[i] * kept[i];
        }
        return of_kept_.doubles();
    }

  private:
    bool has_ignored_;
    Sequence sequence_;
    Reader reader_;
    Tile of_kept_;
};

// ---- What must be known before a gradient is written

bool overlap(const Elements& a, const Elements& b, const Shape& shape) {
    if (a.data == nullptr || b.data == nullptr) {
        return false;
    }
    const Span of_a = span_of(a, shape);
    const Span of_b = span_of(b, shape);
    return of_a.begin < of_b.end && of_b.begin < of_a.end;
}

bool same_elements(const Elements& a, const Elements& b, const Shape& shape) {
    for (int k = 0; k < shape.dimensions; ++k) {
        if (shape.sizes[k] > 1 && a.strides[k] != b.strides[k]) {
            return false;
        }
    }
    return a.data == b.data;
}

// Whether no number is read after the gradient has been written over it.
bool gradient_spoils_nothing(const SigmoidTask& task, const Shape& shape) {
    for (const Elements* other :
         {&task.labels, &task.pos_weight, &task.sample_weight, &task.upstream_each}) {
        if (overlap(task.gradient, *other, shape)) {
            return false;
        }
    }
    return !overlap(task.gradient, task.logits, shape) ||
           same_elements(task.gradient, task.logits, shape);
}

// Checks each number of an array of weights once, however it is broadcast, and adds up what its
// elements weigh together. False where one is not finite, or below `least`.
bool add_up(const SigmoidJob& job, const Elements& weights, double least, ExactSum* sum) {
    if (weights.data == nullptr) {
        return true;
    }
    Shape given = job.shape;
    int64_t copies = 1;
    for (int k = 0; k < given.dimensions; ++k) {
        if (weights.strides[k] == 0) {
            copies *= given.sizes[k];
            given.sizes[k] = 1;
        }
    }
    const Sequence sequence(weights, given, job.order);
    const int threads = threads_for(given.count());
    std::vector<Totals> totals(static_cast<std::size_t>(threads));
    for_chunks(given.count(), threads, [&](int64_t begin, int64_t end, int worker) {
        Reader reader(sequence);
        Totals& own = totals[static_cast<std::size_t>(worker)];
        TileSum total(job.kernels, Number::float64, own.weights);
        for_tiles(begin, end, [&](int64_t first, int64_t count) {
            const auto* numbers = static_cast<const double*>(reader.read(first, count));
            own.is_irregular |=
                !job.task.takes_any_weight && !job.kernels.weights(numbers, count, least);
            if (sum != nullptr) {
                total.add_tile(numbers, count);
            }
        });
    });
    const Totals all = merged(totals);
    if (sum != nullptr) {
        *sum = times(all.weights, copies);
    }
    return !all.is_irregular;
}

// Counts the kept elements and adds up their weights.
Totals look_at_labels(const SigmoidJob& job) {
    std::vector<Totals> totals(static_cast<std::size_t>(job.threads));
    for_chunks(job.count, job.threads, [&](int64_t begin, int64_t end, int worker) {
        LabelReader labels(job);
        WeightReader weights(job);
        Totals& own = totals[static_cast<std::size_t>(worker)];
        TileSum total(job.kernels, Number::float64, own.weights);
        for_tiles(begin, end, [&](int64_t first, int64_t count) {
            labels.read(first, count);
            const int64_t kept = labels.number_kept();
            own.is_irregular |= kept < 0;
            own.kept += kept;
            if (job.task.has_ignored && job.task.sample_weight.data != nullptr) {
                total.add_tile(weights.read(first, count, labels.kept()), count);
            }
        });
    });
    return merged(totals);
}

// What the sum is divided by. False where an argument is irregular.
bool find_denominator(const SigmoidJob& job, double* denominator) {
    const SigmoidTask& task = job.task;
    const bool is_mean = task.reduction == Reduction::mean && task.normalizer == nullptr;
    const bool is_mean_all = task.reduction == Reduction::mean_all && task.normalizer == nullptr;
    const bool is_weighted = is_mean && task.sample_weight.data != nullptr;
    const bool spoils_logits = overlap(task.gradient, task.logits, job.shape);

    ExactSum weights;
    if (!add_up(job, task.pos_weight, 0, nullptr) ||
        !add_up(job, task.sample_weight, std::numeric_limits<double>::lowest(),
                is_weighted && !task.has_ignored ? &weights : nullptr)) {
        return false;
    }
    int64_t kept = job.count;
    if (spoils_logits || (task.has_ignored && (is_mean || is_mean_all))) {
        const Totals totals = look_at_labels(job);
        if (totals.is_irregular) {
            return false;
        }
        if (task.has_ignored) {
            weights = totals.weights;
        }
        kept = totals.kept;
    }
    if (task.normalizer != nullptr) {
        *denominator = *task.normalizer;
        return task.takes_any_weight || job.kernels.weights(denominator, 1, 0);
    }
    *denominator = is_weighted              ? rounded_to_double(weights)
                   : is_mean || is_mean_all ? static_cast<double>(kept)
                                            : 1;
    return true;
}

// ---- The loss itself

Elements losses_of(const SigmoidJob& job) {
    Elements losses;
    losses.data = static_cast<char*>(job.task.losses);
    losses.number = job.result;
    int64_t stride = size_of(job.result);
    for (int k = job.shape.dimensions - 1; k >= 0; --k) {
        losses.strides[k] = stride;
        stride *= job.shape.sizes[k];
    }
    return losses;
}

class SigmoidPass {
  public:
    SigmoidPass(const SigmoidJob& job, bool is_weighted)
        : job_(job),
          is_weighted_(is_weighted),
          logits_(job.sequence(job.task.logits)),
          labels_(job),
          weights_(job),
          pos_weight_(job.sequence(or_ones(job.task.pos_weight))),
          upstream_(job.sequence(or_ones(job.task.upstream_each))),
          gradient_(job.sequence(job.task.gradient)),
          losses_(job.sequence(losses_of(job))),
          logit_reader_(logits_),
          pos_weight_reader_(pos_weight_),
          upstream_reader_(upstream_) {
        const bool with_gradient = job.task.gradient.data != nullptr;
        const bool direct = with_gradient && gradient_.is_contiguous();
        streams_ = direct && job.count * gradient_.item() > kStreamedBytes &&
                   job.task.gradient.data != job.task.logits.data;
        writes_gradient_ = with_gradient && (!direct || streams_);
        writes_losses_ = job.task.losses != nullptr && !losses_.is_contiguous();
    }

    void run(int64_t begin, int64_t end, Totals& totals) {
        TileSum sum(job_.kernels, job_.result, totals.losses);
        while (begin < end) {
            const int64_t count = tile_length(begin, end);
            totals.is_irregular |= !run_tile(begin, count, sum);
            begin += count;
        }
        if (streams_) {
            job_.kernels.end_streaming();  // waiting after each tile cost 0.2 ns an element
        }
    }

  private:
    // Streamed tiles end with a cache line: a line that is written in two parts is read in between.
    int64_t tile_length(int64_t begin, int64_t end) const {
        const int64_t count = std::min(kTile, end - begin);
        if (!streams_) {
            return count;
        }
        const auto address = reinterpret_cast<std::uintptr_t>(gradient_.at(begin + count));
        const int64_t over = static_cast<int64_t>(address % 64) / gradient_.item();
        return over < count ? count - over : count;
    }

    // Whether the labels are regular.
    bool run_tile(int64_t begin, int64_t count, TileSum& sum) {
        SigmoidTile tile{};
        tile.count = count;
        tile.number = job_.task.logits.number;
        tile.logits = logit_reader_.read(begin, count);
        labels_.read(begin, count);
        tile.float_labels = labels_.are_floats();
        tile.labels = labels_.values();
        tile.coefficient = job_.coefficient;
        if (is_weighted_) {
            add_weights(tile, begin);
        }
        tile.losses =
            job_.task.losses == nullptr || writes_losses_ ? loss_tile_.bytes : losses_.at(begin);
        if (job_.task.gradient.data != nullptr) {
            tile.gradient = writes_gradient_ ? gradient_tile_.bytes : gradient_.at(begin);
        }

        job_.kernels.sigmoid_loss(tile);
        if (job_.task.reduction != Reduction::none) {
            sum.add_tile(tile.losses, count);
        }
        if (writes_losses_) {
            losses_.write(begin, count, tile.losses);
        }
        if (streams_) {
            job_.kernels.stream(gradient_.at(begin), tile.gradient, count * gradient_.item());
        } else if (writes_gradient_) {
            gradient_.write(begin, count, tile.gradient);
        }
        return labels_.number_kept() >= 0;
    }

    void add_weights(SigmoidTile& tile, int64_t begin) {
        tile.pos_weight = static_cast<const double*>(pos_weight_reader_.read(begin, tile.count));
        tile.weight = weights_.read(begin, tile.count, labels_.kept());
        if (job_.task.gradient.data == nullptr) {
            return;
        }
        tile.coefficients = coefficients_.doubles();
        const auto* upstream = static_cast<const double*>(upstream_reader_.read(begin, tile.count));
        for (int64_t i = 0; i < tile.count; ++i) {
            const double coefficient = job_.coefficient * upstream[i] * tile.weight[i];
            coefficients_.doubles()[i] = tile.weight[i] == 0 ? 0 : coefficient;
        }
    }

    const SigmoidJob& job_;
    bool is_weighted_;
    bool streams_;
    bool writes_gradient_;  // from scratch
    bool writes_losses_;
    Sequence logits_;
    LabelReader labels_;
    WeightReader weights_;
    Sequence pos_weight_;
    Sequence upstream_;
    Sequence gradient_;
    Sequence losses_;
    Reader logit_reader_;
    Reader pos_weight_reader_;
    Reader upstream_reader_;
    Tile coefficients_;
    Tile loss_tile_;
    Tile gradient_tile_;
};

}  // namespace

Elements elements_of(const Array& array) {
    Elements elements;
    elements.data = static_cast<char*>(array.data);
    elements.number = array.number;
    std::copy_n(array.strides, array.rank, elements.strides);
    return elements;
}

bool sigmoid_loss(const ElementwiseKernels& kernels, const SigmoidTask& task, double* value) {
    Shape shape;
    shape.dimensions = task.dimensions;
    std::copy_n(task.shape, task.dimensions, shape.sizes);
    constexpr int64_t no_double = int64_t{1} << 53;
    if ((task.has_ignored && (task.ignored >= no_double || task.ignored <= -no_double)) ||
        !gradient_spoils_nothing(task, shape)) {
        return false;
    }
    SigmoidJob job(kernels, task, shape);
    double denominator = 0;
    if (!find_denominator(job, &denominator)) {
        return false;
    }
    job.coefficient = denominator == 0 ? 0 : task.upstream / denominator;

    if (task.losses != nullptr) {
        expect_writing(losses_of(job), shape);
    }
    if (task.gradient.data != nullptr && task.gradient.data != task.logits.data) {
        expect_writing(task.gradient, shape);
    }

    // A coefficient of 0 gives 0 whatever the logit is: so do those of each element only.
    const bool is_weighted = task.has_ignored || task.pos_weight.data != nullptr ||
                             task.sample_weight.data != nullptr ||
                             task.upstream_each.data != nullptr || job.coefficient == 0;
    std::vector<Totals> totals(static_cast<std::size_t>(job.threads));
    for_chunks(job.count, job.threads, [&](int64_t begin, int64_t end, int worker) {
        SigmoidPass(job, is_weighted).run(begin, end, totals[static_cast<std::size_t>(worker)]);
    });
    const Totals all = merged(totals);
    if (all.is_irregular) {
        return false;
    }
    if (task.reduction == Reduction::none || denominator == 0) {
        *value = 0;
    } else if (job.result == Number::float64) {
        *value = quotient_to_double(all.losses, denominator);
    } else {
        *value = quotient_to_float(all.losses, denominator);
    }
    return true;
}

void elementwise(const ElementwiseKernels& kernels, const FunctionTask& task) {
    Shape shape;
    shape.dimensions = task.dimensions;
    std::copy_n(task.shape, task.dimensions, shape.sizes);
    const Order order = order_of(task.x, shape);
    const Sequence x(task.x, shape, order);
    const Sequence result(task.result, shape, order);
    const int64_t count = shape.count();
    if (task.result.data != task.x.data) {
        expect_writing(task.result, shape);
    }
    for_chunks(count, threads_for(count), [&](int64_t begin, int64_t end, int) {
        Reader reader(x);
        Tile scratch;
        for_tiles(begin, end, [&](int64_t first, int64_t length) {
            void* to = result.is_contiguous() ? result.at(first) : scratch.bytes;
            kernels.function(
                {task.function, length, task.x.number, reader.read(first, length), to});
            if (!result.is_contiguous()) {
                result.write(first, length, to);
            }
        });
    });
}

}  // namespace crossent
