// The only file that knows Python. It converts and forwards; it computes nothing.
//
// Arrays come as NumPy's own; bfloat16, which no protocol names, comes as uint16 with a flag.
// Shapes and kinds are looked at here as far as memory safety needs it. What the caller could not
// have meant is left to Python's checks: the functions that score a loss then return None.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>

#include "build_info.h"
#include "exact_sum.h"
#include "floating_point.h"
#include "instruction_sets.h"
#include "kernels.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using crossent::Elements;
using crossent::Labels;
using crossent::Number;
using crossent::Reduction;
using crossent::Rows;
using crossent::SoftmaxTask;

using In = nb::ndarray<nb::ro>;
using Out = nb::ndarray<>;
using Doubles = nb::ndarray<const double, nb::c_contig>;
using DoublesOut = nb::ndarray<double, nb::c_contig>;
using Strided = nb::ndarray<const double>;
using Upstream = std::variant<double, Doubles>;  // of the reduced value, or of every row

// Below, giving the lock away costs more than the others gain.
constexpr std::int64_t kWorthUnlocking = 1 << 15;

struct Unlocked {
    explicit Unlocked(std::int64_t elements) {
        if (elements > kWorthUnlocking) released.emplace();
    }
    std::optional<nb::gil_scoped_release> released;
    crossent::FloatingPointState state;
};

const crossent::Kernels& kernels() {
    const crossent::Kernels* chosen = crossent::chosen_kernels();
    if (chosen == nullptr) throw std::runtime_error("this processor has no native kernels");
    return *chosen;
}

template <class Array>
Number number_of(const Array& array, bool is_bfloat16) {
    const nb::dlpack::dtype type = array.dtype();
    const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
    if (is_bfloat16) return Number::bfloat16;
    const int size = type.bits / 8;
    if (code == nb::dlpack::dtype_code::Float) {
        return size == 2 ? Number::float16 : size == 4 ? Number::float32 : Number::float64;
    }
    if (code == nb::dlpack::dtype_code::Bool) return Number::boolean;
    const bool is_signed = code == nb::dlpack::dtype_code::Int;
    switch (size) {
        case 1:
            return is_signed ? Number::int8 : Number::uint8;
        case 2:
            return is_signed ? Number::int16 : Number::uint16;
        case 4:
            return is_signed ? Number::int32 : Number::uint32;
        default:
            return is_signed ? Number::int64 : Number::uint64;
    }
}

bool is_float(Number number) {
    return number == Number::float32 || number == Number::float64 || number == Number::float16 ||
           number == Number::bfloat16;
}

template <class Array>
char* bytes_of(const Array& array) {
    return static_cast<char*>(const_cast<void*>(static_cast<const void*>(array.data())));
}

template <class Array>
Rows rows_of(const Array& array, Number number, bool has_class_axis) {
    Rows rows;
    rows.data = bytes_of(array);
    rows.number = number;
    const std::int64_t size = crossent::size_of(number);
    const std::size_t axes = array.ndim() - (has_class_axis ? 1 : 0);
    rows.dimensions = static_cast<int>(axes);
    for (std::size_t d = 0; d < axes; ++d) {
        rows.shape[d] = static_cast<std::int64_t>(array.shape(d));
        rows.strides[d] = array.stride(d) * size;
    }
    rows.class_stride = has_class_axis ? array.stride(axes) * size : 0;
    return rows;
}

template <class A, class B>
bool same_shape(const A& a, const B& b, std::size_t axes) {
    if (a.ndim() < axes || b.ndim() < axes) return false;
    for (std::size_t d = 0; d < axes; ++d) {
        if (a.shape(d) != b.shape(d)) return false;
    }
    return true;
}

void need(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

SoftmaxTask task_of(const In& logits, bool is_bfloat16) {
    need(logits.ndim() >= 1 && logits.ndim() < Rows::kMaxDimensions, "logits: too many axes");
    SoftmaxTask task;
    const Number number = number_of(logits, is_bfloat16);
    need(is_float(number), "logits: not floats");
    task.logits = rows_of(logits, number, true);
    task.classes = static_cast<std::int64_t>(logits.shape(logits.ndim() - 1));
    task.rows = 1;
    for (int d = 0; d < task.logits.dimensions; ++d) task.rows *= task.logits.shape[d];
    return task;
}

// Labels as class ids or as a distribution; false if they are neither by shape and kind.
bool set_labels(SoftmaxTask& task, const In& logits, const In& labels, bool is_bfloat16) {
    const std::size_t axes = logits.ndim();
    const Number number = number_of(labels, is_bfloat16);
    if (labels.ndim() == axes && same_shape(labels, logits, axes)) {
        // One class: integers of that shape may be ids.
        if (task.classes == 1 && !is_float(number)) return false;
        task.label_kind = Labels::distribution;
        task.labels = rows_of(labels, number, true);
        return true;
    }
    if (labels.ndim() != axes - 1 || !same_shape(labels, logits, axes - 1)) return false;
    if (is_float(number) || number == Number::boolean) return false;
    task.label_kind = Labels::ids;
    task.labels = rows_of(labels, number, false);
    return true;
}

bool set_class_weight(SoftmaxTask& task, const std::optional<Doubles>& weight) {
    if (!weight) return true;
    if (weight->ndim() != 1 || static_cast<std::int64_t>(weight->shape(0)) != task.classes) {
        return false;
    }
    task.class_weight = weight->data();
    return true;
}

void set_gradient(SoftmaxTask& task, const In& logits, const Out& gradient, Number number) {
    need(gradient.ndim() == logits.ndim() && same_shape(gradient, logits, logits.ndim()),
         "gradient: not the shape of the logits");
    task.gradient = rows_of(gradient, number, true);
    need(crossent::size_of(number) * 8 == gradient.dtype().bits, "gradient: another dtype");
}

const double* rows_or_null(const std::optional<Doubles>& values, const SoftmaxTask& task,
                           const char* what) {
    if (!values) return nullptr;
    need(static_cast<std::int64_t>(values->size()) == task.rows, what);
    return values->data();
}

std::optional<Reduction> reduction_of(const std::string& name) {
    if (name == "none") return Reduction::none;
    if (name == "sum") return Reduction::sum;
    if (name == "mean") return Reduction::mean;
    if (name == "mean_all") return Reduction::mean_all;
    return std::nullopt;
}

std::optional<double> softmax_loss(const In& logits, bool logits_bfloat16, const In& labels,
                                   bool labels_bfloat16, std::optional<Doubles> class_weight,
                                   std::optional<Strided> sample_weight, double label_smoothing,
                                   std::optional<std::int64_t> ignore_index, double temperature,
                                   std::optional<double> softcap, double z_loss,
                                   const std::string& reduction, std::optional<double> normalizer,
                                   std::optional<Upstream> upstream, std::optional<Out> losses,
                                   std::optional<Out> gradient) {
    SoftmaxTask task = task_of(logits, logits_bfloat16);
    const std::optional<Reduction> reduced = reduction_of(reduction);
    if (!reduced || task.classes == 0 || !set_labels(task, logits, labels, labels_bfloat16) ||
        !set_class_weight(task, class_weight)) {
        return std::nullopt;
    }
    const bool options_fit = label_smoothing >= 0 && label_smoothing <= 1 && temperature > 0 &&
                             std::isfinite(temperature) && z_loss >= 0 && std::isfinite(z_loss) &&
                             (!softcap || (*softcap > 0 && std::isfinite(*softcap)));
    const bool is_soft = task.label_kind == Labels::distribution;
    if (!options_fit || (is_soft && ignore_index) || (*reduced == Reduction::none && normalizer)) {
        return std::nullopt;
    }
    task.smoothing = label_smoothing;
    task.temperature = temperature;
    task.softcap = softcap.value_or(0);
    task.z_loss = z_loss;
    task.has_ignored = ignore_index.has_value();
    task.ignored = ignore_index.value_or(0);
    if (sample_weight) {
        const std::size_t axes = logits.ndim() - 1;
        if (sample_weight->ndim() != axes || !same_shape(*sample_weight, logits, axes)) {
            return std::nullopt;
        }
        task.sample_weight = bytes_of(*sample_weight);
        for (std::size_t d = 0; d < axes; ++d) {
            task.sample_weight_strides[d] = sample_weight->stride(d) * 8;
        }
    }
    if (losses) {
        const bool is_wide = task.logits.number == Number::float64;
        need(static_cast<std::int64_t>(losses->size()) == task.rows &&
                 losses->dtype().bits == (is_wide ? 64 : 32),
             "losses: another shape or dtype");
        task.losses = losses->data();
    }
    need(*reduced != Reduction::none || losses.has_value(), "losses: absent");
    if (gradient) {
        task.with_gradient = true;
        set_gradient(task, logits, *gradient, task.logits.number);
        if (upstream && upstream->index() == 0) task.upstream = std::get<double>(*upstream);
        if (upstream && upstream->index() == 1) {
            const Doubles& each = std::get<Doubles>(*upstream);
            need(static_cast<std::int64_t>(each.size()) == task.rows, "upstream: another shape");
            task.upstream_rows = each.data();
        }
    }
    const crossent::Kernels& chosen = kernels();
    double value = 0;
    bool regular;
    {
        Unlocked unlocked(task.rows * task.classes);
        regular = crossent::softmax_loss(chosen.softmax, task, *reduced,
                                         normalizer ? &*normalizer : nullptr, &value);
    }
    return regular ? std::optional<double>(value) : std::nullopt;
}

SoftmaxTask checked_task(const In& logits, bool logits_bfloat16, const std::optional<In>& labels,
                         bool labels_bfloat16, const std::optional<Doubles>& class_weight,
                         double temperature, std::optional<double> softcap) {
    SoftmaxTask task = task_of(logits, logits_bfloat16);
    if (labels) {
        const Number number = number_of(*labels, labels_bfloat16);
        const bool is_soft = labels->ndim() == logits.ndim();
        need(same_shape(*labels, logits, logits.ndim() - (is_soft ? 0 : 1)),
             "labels: another shape");
        task.label_kind = is_soft ? Labels::distribution : Labels::ids;
        task.labels = rows_of(*labels, number, is_soft);
    }
    need(set_class_weight(task, class_weight), "class_weight: another shape");
    task.temperature = temperature;
    task.softcap = softcap.value_or(0);
    return task;
}

void run(const SoftmaxTask& task) {
    const crossent::Kernels& chosen = kernels();
    Unlocked unlocked(task.rows * task.classes);
    crossent::run(chosen.softmax, task);
}

void row_statistics(const In& logits, bool logits_bfloat16, std::optional<In> labels,
                    bool labels_bfloat16, std::optional<Doubles> class_weight, bool with_mean,
                    double temperature, std::optional<double> softcap, DoublesOut out) {
    SoftmaxTask task = checked_task(logits, logits_bfloat16, labels, labels_bfloat16, class_weight,
                                    temperature, softcap);
    task.with_mean = with_mean;
    need(static_cast<std::int64_t>(out.size()) == 7 * task.rows, "out: another shape");
    task.statistics = out.data();
    run(task);
}

void row_gradient(std::optional<Doubles> log_sum, std::optional<Doubles> label_gap,
                  std::optional<Doubles> nll, std::optional<Doubles> mean_gap, const In& logits,
                  bool logits_bfloat16, std::optional<In> labels, bool labels_bfloat16,
                  std::optional<Doubles> class_weight, double temperature,
                  std::optional<double> softcap, Out out) {
    SoftmaxTask task = checked_task(logits, logits_bfloat16, labels, labels_bfloat16, class_weight,
                                    temperature, softcap);
    const char* fault = "upstream: another shape";
    task.by_log_sum = rows_or_null(log_sum, task, fault);
    task.by_label_gap = rows_or_null(label_gap, task, fault);
    task.by_nll = rows_or_null(nll, task, fault);
    task.by_mean_gap = rows_or_null(mean_gap, task, fault);
    task.with_mean = mean_gap.has_value();
    task.with_gradient = true;
    set_gradient(task, logits, out, task.logits.number);
    run(task);
}

void softmax(const In& logits, bool logits_bfloat16, double temperature,
             std::optional<double> softcap, bool log, Out out) {
    SoftmaxTask task = checked_task(logits, logits_bfloat16, std::nullopt, false, std::nullopt,
                                    temperature, softcap);
    const Number number = number_of(out, false);
    const bool fits = number == Number::float64 ||
                      (number == Number::float32 && task.logits.number != Number::float64);
    need(fits, "out: another dtype");
    set_gradient(task, logits, out, number);
    task.as_probabilities = !log;
    task.with_gradient = !log;
    task.with_log_softmax = log;
    run(task);
}

void log_sum_exp(const In& logits, bool logits_bfloat16, Out out) {
    SoftmaxTask task =
        checked_task(logits, logits_bfloat16, std::nullopt, false, std::nullopt, 1, std::nullopt);
    const bool is_wide = task.logits.number == Number::float64;
    need(static_cast<std::int64_t>(out.size()) == task.rows &&
             out.dtype().bits == (is_wide ? 64 : 32),
         "out: another shape or dtype");
    task.losses = out.data();
    task.is_log_sum_exp = true;
    run(task);
}

template <class Array>
Elements elements_of(const Array& array, Number number) {
    Elements elements;
    elements.data = bytes_of(array);
    elements.number = number;
    for (std::size_t d = 0; d < array.ndim(); ++d) {
        elements.strides[d] = array.stride(d) * crossent::size_of(number);
    }
    return elements;
}

std::optional<double> sigmoid_loss(const In& logits, bool logits_bfloat16, const In& labels,
                                   bool labels_bfloat16, std::optional<Strided> pos_weight,
                                   std::optional<Strided> sample_weight, double label_smoothing,
                                   std::optional<std::int64_t> ignore_value,
                                   const std::string& reduction, std::optional<double> normalizer,
                                   std::optional<Upstream> upstream, std::optional<Out> losses,
                                   std::optional<Out> gradient) {
    const std::size_t axes = logits.ndim();
    const Number number = number_of(logits, logits_bfloat16);
    const std::optional<Reduction> reduced = reduction_of(reduction);
    if (!reduced || axes > Elements::kMaxDimensions || labels.ndim() != axes ||
        !same_shape(labels, logits, axes) || !(label_smoothing >= 0 && label_smoothing <= 1) ||
        (*reduced == Reduction::none && normalizer)) {
        return std::nullopt;
    }
    need(is_float(number), "logits: not floats");
    crossent::SigmoidTask task;
    task.dimensions = static_cast<int>(axes);
    std::int64_t count = 1;
    for (std::size_t d = 0; d < axes; ++d) {
        task.shape[d] = static_cast<std::int64_t>(logits.shape(d));
        count *= task.shape[d];
    }
    task.logits = elements_of(logits, number);
    task.labels = elements_of(labels, number_of(labels, labels_bfloat16));
    task.label_smoothing = label_smoothing;
    task.has_ignored = ignore_value.has_value();
    task.ignored = ignore_value.value_or(0);
    if (pos_weight) {  // a scalar, or one per label of the last axis
        const bool is_scalar = pos_weight->size() == 1;
        if (!is_scalar && (pos_weight->ndim() != 1 || axes == 0 ||
                           pos_weight->shape(0) != logits.shape(axes - 1))) {
            return std::nullopt;
        }
        task.pos_weight.data = bytes_of(*pos_weight);
        if (!is_scalar) task.pos_weight.strides[axes - 1] = pos_weight->stride(0) * 8;
    }
    if (sample_weight) {
        if (sample_weight->ndim() != axes || !same_shape(*sample_weight, logits, axes)) {
            return std::nullopt;
        }
        task.sample_weight = elements_of(*sample_weight, Number::float64);
    }
    task.reduction = *reduced;
    task.normalizer = normalizer ? &*normalizer : nullptr;
    if (losses) {
        need(static_cast<std::int64_t>(losses->size()) == count &&
                 losses->dtype().bits == (number == Number::float64 ? 64 : 32),
             "losses: another shape or dtype");
        task.losses = losses->data();
    }
    if (gradient) {
        need(gradient->ndim() == axes && same_shape(*gradient, logits, axes) &&
                 gradient->dtype().bits == crossent::size_of(number) * 8,
             "gradient: another shape or dtype");
        task.gradient = elements_of(*gradient, number);
        if (upstream && upstream->index() == 0) task.upstream = std::get<double>(*upstream);
        if (upstream && upstream->index() == 1) {
            const Doubles& each = std::get<Doubles>(*upstream);
            need(each.ndim() == axes && same_shape(each, logits, axes), "upstream: another shape");
            task.upstream_each = elements_of(each, Number::float64);
        }
    }
    const crossent::Kernels& chosen = kernels();
    double value = 0;
    bool regular;
    {
        Unlocked unlocked(count);
        regular = crossent::sigmoid_loss(chosen.elementwise, task, &value);
    }
    return regular ? std::optional<double>(value) : std::nullopt;
}

void elementwise(const std::string& name, const In& x, bool x_bfloat16, const Out& out) {
    crossent::FunctionTask task;
    const Number number = number_of(x, x_bfloat16);
    need(is_float(number) && x.ndim() <= Elements::kMaxDimensions, "x: not floats");
    need(name == "sigmoid" || name == "log_sigmoid" || name == "softplus", "name: unknown");
    task.function = name == "sigmoid"       ? crossent::Function::sigmoid
                    : name == "log_sigmoid" ? crossent::Function::log_sigmoid
                                            : crossent::Function::softplus;
    const bool is_wide = number == Number::float64;
    need(out.ndim() == x.ndim() && same_shape(out, x, x.ndim()) &&
             out.dtype().bits == (is_wide ? 64 : 32),
         "out: another shape or dtype");
    task.dimensions = static_cast<int>(x.ndim());
    std::int64_t count = 1;
    for (std::size_t d = 0; d < x.ndim(); ++d) {
        task.shape[d] = static_cast<std::int64_t>(x.shape(d));
        count *= task.shape[d];
    }
    task.x = elements_of(x, number);
    task.result = elements_of(out, is_wide ? Number::float64 : Number::float32);
    const crossent::Kernels& chosen = kernels();
    Unlocked unlocked(count);
    crossent::elementwise(chosen.elementwise, task);
}

double exact_sum(const In& values, std::optional<double> divisor) {
    const Number number = number_of(values, false);
    need(values.ndim() == 1 && (number == Number::float32 || number == Number::float64),
         "values: not a vector of float32 or float64");
    crossent::ExactSum sum;
    const auto count = static_cast<std::int64_t>(values.shape(0));
    Unlocked unlocked(count);
    if (number == Number::float32) {
        add(sum, static_cast<const float*>(values.data()), count, values.stride(0));
        return divisor ? quotient_to_float(sum, *divisor) : rounded_to_float(sum);
    }
    add(sum, static_cast<const double*>(values.data()), count, values.stride(0));
    return divisor ? quotient_to_double(sum, *divisor) : rounded_to_double(sum);
}

nb::typed<nb::dict, nb::str, nb::str> build_info() {
    nb::dict info;
    info["version"] = CROSSENT_VERSION;
    info["compiler"] = CROSSENT_COMPILER;
    info["flags"] = CROSSENT_FLAGS;
    info["nanobind"] = CROSSENT_NANOBIND;
    return nb::borrow<nb::typed<nb::dict, nb::str, nb::str>>(info);
}

std::optional<std::string> instruction_set() {
    if (crossent::chosen_kernels() == nullptr) return std::nullopt;
    return crossent::chosen_instruction_set();
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "The native core: kernels on arrays, and what this processor can run.";

    module.def("build_info", &build_info,
               "Version, compiler, flags and nanobind mode that this module was built with.");
    module.def("supported_instruction_sets", &crossent::supported_instruction_sets,
               "Instruction sets that this processor runs, least first.");
    module.def("chosen_instruction_set", &crossent::chosen_instruction_set,
               "The best supported instruction set, capped by the variable CROSSENT_MAX_ISA.\n\n"
               "Raises ValueError when the variable names no instruction set.");
    module.def("instruction_set", &instruction_set,
               "The instruction set whose kernels run, settled at the first call; None where this "
               "processor has none.\n\n"
               "Raises ValueError when CROSSENT_MAX_ISA names no instruction set.");
    module.def("get_num_threads", &crossent::max_threads, "How many threads a call may use.");
    module.def("set_num_threads", &crossent::set_max_threads, "threads"_a,
               "For the whole process; 0 goes back to what the environment says.");
    module.def(
        "softmax_loss", &softmax_loss, "logits"_a, "logits_bfloat16"_a, "labels"_a,
        "labels_bfloat16"_a, "class_weight"_a.none(), "sample_weight"_a.none(), "label_smoothing"_a,
        "ignore_index"_a.none(), "temperature"_a, "softcap"_a.none(), "z_loss"_a, "reduction"_a,
        "normalizer"_a.none(), "upstream"_a.none(), "losses"_a.none(), "gradient"_a.none(),
        "The softmax cross-entropy, reduced, and its gradient; the class axis is the last.\n\n"
        "None, with nothing written that matters, where an argument is not what the loss "
        "allows.");
    module.def("row_statistics", &row_statistics, "logits"_a, "logits_bfloat16"_a,
               "labels"_a.none(), "labels_bfloat16"_a, "class_weight"_a.none(), "with_mean"_a,
               "temperature"_a, "softcap"_a.none(), "out"_a,
               "The seven statistics of each row, of labels that are checked already.");
    module.def("row_gradient", &row_gradient, "log_sum"_a.none(), "label_gap"_a.none(),
               "nll"_a.none(), "mean_gap"_a.none(), "logits"_a, "logits_bfloat16"_a,
               "labels"_a.none(), "labels_bfloat16"_a, "class_weight"_a.none(), "temperature"_a,
               "softcap"_a.none(), "out"_a,
               "Gradient in the logits of the statistics, times one coefficient each per row.");
    module.def("softmax", &softmax, "logits"_a, "logits_bfloat16"_a, "temperature"_a,
               "softcap"_a.none(), "log"_a, "out"_a, "Softmax of each row, or its logarithm.");
    module.def("log_sum_exp", &log_sum_exp, "logits"_a, "logits_bfloat16"_a, "out"_a,
               "Log-sum-exp of each row.");
    module.def("sigmoid_loss", &sigmoid_loss, "logits"_a, "logits_bfloat16"_a, "labels"_a,
               "labels_bfloat16"_a, "pos_weight"_a.none(), "sample_weight"_a.none(),
               "label_smoothing"_a, "ignore_value"_a.none(), "reduction"_a, "normalizer"_a.none(),
               "upstream"_a.none(), "losses"_a.none(), "gradient"_a.none(),
               "The sigmoid cross-entropy, reduced, and its gradient. None as in softmax_loss.");
    module.def("elementwise", &elementwise, "name"_a, "x"_a, "x_bfloat16"_a, "out"_a,
               "sigmoid, log_sigmoid or softplus of every element.");
    module.def("exact_sum", &exact_sum, "values"_a, "divisor"_a.none(),
               "Sum of a vector, over the divisor if there is one, rounded once to its dtype.");
}
