// The only file that knows Python. It converts and forwards; it computes nothing.
//
// Arrays come as NumPy's own; bfloat16, which no protocol names, comes as uint16 with a flag.
// Shapes and kinds are looked at here, and for the losses in calls.cpp, as far as memory safety
// needs it. What the caller could not have meant is left to Python's checks: the functions that
// score a loss then return None.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>

#include "build_info.h"
#include "calls.h"
#include "exact_sum.h"
#include "floating_point.h"
#include "instruction_sets.h"
#include "kernels.h"
#include "thread_pool.h"
#include "torch_operator.h"
#include "xla_ffi.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using crossent::Array;
using crossent::Labels;
using crossent::LossCall;
using crossent::Number;
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

std::optional<Number> number_of(nb::dlpack::dtype type) {
    using Code = nb::dlpack::dtype_code;
    const auto code = static_cast<Code>(type.code);
    const int bits = type.bits;
    if (type.lanes != 1) return std::nullopt;
    if (code == Code::Bool && bits == 8) return Number::boolean;
    if (code == Code::Bfloat && bits == 16) return Number::bfloat16;
    if (code == Code::Float) {
        if (bits == 16) return Number::float16;
        if (bits == 32) return Number::float32;
        if (bits == 64) return Number::float64;
    }
    if (code == Code::Int || code == Code::UInt) {
        const bool is_signed = code == Code::Int;
        if (bits == 8) return is_signed ? Number::int8 : Number::uint8;
        if (bits == 16) return is_signed ? Number::int16 : Number::uint16;
        if (bits == 32) return is_signed ? Number::int32 : Number::uint32;
        if (bits == 64) return is_signed ? Number::int64 : Number::uint64;
    }
    return std::nullopt;
}

void need(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

template <class Given>
Array array_of(const Given& given, bool is_bfloat16 = false) {
    need(given.ndim() <= Array::kMaxRank, "array: too many axes");
    need(!is_bfloat16 || given.dtype().bits == 16, "array: not the bits of bfloat16");
    Array array;
    array.data = const_cast<void*>(static_cast<const void*>(given.data()));
    const std::optional<Number> number = number_of(given.dtype());
    need(number.has_value(), "array: a dtype of no kernel");
    array.number = is_bfloat16 ? Number::bfloat16 : *number;
    array.rank = static_cast<int>(given.ndim());
    const std::int64_t size = crossent::size_of(array.number);
    for (int d = 0; d < array.rank; ++d) {
        array.shape[d] = static_cast<std::int64_t>(given.shape(d));
        array.strides[d] = given.stride(d) * size;
    }
    return array;
}

SoftmaxTask task_of(const Array& logits) {
    need(logits.rank >= 1 && logits.rank < Rows::kMaxDimensions, "logits: too many axes");
    need(is_float(logits.number), "logits: not floats");
    SoftmaxTask task;
    task.logits = rows_of(logits, true);
    task.classes = logits.shape[logits.rank - 1];
    task.rows = 1;
    for (int d = 0; d < task.logits.dimensions; ++d) task.rows *= task.logits.shape[d];
    return task;
}

void set_gradient(SoftmaxTask& task, const Array& logits, const Array& gradient) {
    need(gradient.rank == logits.rank && same_shape(gradient, logits, logits.rank),
         "gradient: not the shape of the logits");
    task.gradient = rows_of(gradient, true);
}

const double* rows_or_null(const std::optional<Doubles>& values, const SoftmaxTask& task,
                           const char* what) {
    if (!values) return nullptr;
    need(static_cast<std::int64_t>(values->size()) == task.rows, what);
    return values->data();
}

using Loss = crossent::Answer (*)(const LossCall&, double*);

std::optional<double> answer_of(Loss loss, const LossCall& call) {
    double value = 0;
    const Unlocked unlocked(count_of(*call.logits));
    const bool is_usual = loss(call, &value) == crossent::Answer::ok;
    return is_usual ? std::optional<double>(value) : std::nullopt;
}

// The arrays of a call, which refers to them.
struct Arrays {
    Array logits, labels, weight, sample_weight, upstream, losses, gradient;
};

void set_results(LossCall& call, Arrays& arrays, const std::optional<Upstream>& upstream,
                 const std::optional<Out>& losses, const std::optional<Out>& gradient,
                 bool is_bfloat16) {
    if (losses) call.losses = &(arrays.losses = array_of(*losses));
    if (gradient) call.gradient = &(arrays.gradient = array_of(*gradient, is_bfloat16));
    if (upstream && upstream->index() == 0) call.upstream = std::get<double>(*upstream);
    if (upstream && upstream->index() == 1) {
        call.upstream_rows = &(arrays.upstream = array_of(std::get<Doubles>(*upstream)));
    }
}

std::optional<double> softmax_loss(const In& logits, bool logits_bfloat16, const In& labels,
                                   bool labels_bfloat16, std::optional<Doubles> class_weight,
                                   std::optional<Strided> sample_weight, double label_smoothing,
                                   std::optional<std::int64_t> ignore_index, double temperature,
                                   std::optional<double> softcap, double z_loss,
                                   const std::string& reduction, std::optional<double> normalizer,
                                   std::optional<Upstream> upstream, std::optional<Out> losses,
                                   std::optional<Out> gradient) {
    LossCall call;
    Arrays arrays;
    if (!crossent::set_reduction(call, reduction)) return std::nullopt;
    call.logits = &(arrays.logits = array_of(logits, logits_bfloat16));
    call.labels = &(arrays.labels = array_of(labels, labels_bfloat16));
    if (class_weight) call.class_weight = &(arrays.weight = array_of(*class_weight));
    if (sample_weight) call.sample_weight = &(arrays.sample_weight = array_of(*sample_weight));
    call.label_smoothing = label_smoothing;
    call.has_ignored = ignore_index.has_value();
    call.ignored = ignore_index.value_or(0);
    call.temperature = temperature;
    call.has_softcap = softcap.has_value();
    call.softcap = softcap.value_or(0);
    call.z_loss = z_loss;
    call.normalizer = normalizer ? &*normalizer : nullptr;
    set_results(call, arrays, upstream, losses, gradient, logits_bfloat16);
    return answer_of(crossent::softmax_loss, call);
}

SoftmaxTask checked_task(const Array& logits, const std::optional<In>& labels, bool labels_bfloat16,
                         const std::optional<Doubles>& class_weight, double temperature,
                         std::optional<double> softcap) {
    SoftmaxTask task = task_of(logits);
    if (labels) {
        const Array rows = array_of(*labels, labels_bfloat16);
        const bool is_soft = rows.rank == logits.rank;
        need(same_shape(rows, logits, logits.rank - (is_soft ? 0 : 1)), "labels: another shape");
        task.label_kind = is_soft ? Labels::distribution : Labels::ids;
        task.labels = rows_of(rows, is_soft);
    }
    if (class_weight) {
        need(class_weight->ndim() == 1 &&
                 static_cast<std::int64_t>(class_weight->shape(0)) == task.classes,
             "class_weight: another shape");
        task.class_weight = class_weight->data();
    }
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
    SoftmaxTask task = checked_task(array_of(logits, logits_bfloat16), labels, labels_bfloat16,
                                    class_weight, temperature, softcap);
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
    const Array x = array_of(logits, logits_bfloat16), gradient = array_of(out, logits_bfloat16);
    SoftmaxTask task = checked_task(x, labels, labels_bfloat16, class_weight, temperature, softcap);
    const char* fault = "upstream: another shape";
    task.by_log_sum = rows_or_null(log_sum, task, fault);
    task.by_label_gap = rows_or_null(label_gap, task, fault);
    task.by_nll = rows_or_null(nll, task, fault);
    task.by_mean_gap = rows_or_null(mean_gap, task, fault);
    task.with_mean = mean_gap.has_value();
    task.with_gradient = true;
    need(gradient.number == x.number, "gradient: another dtype");
    set_gradient(task, x, gradient);
    run(task);
}

void softmax(const In& logits, bool logits_bfloat16, double temperature,
             std::optional<double> softcap, bool log, Out out) {
    const Array x = array_of(logits, logits_bfloat16), result = array_of(out);
    SoftmaxTask task = checked_task(x, std::nullopt, false, std::nullopt, temperature, softcap);
    need(result.number == Number::float64 ||
             (result.number == Number::float32 && x.number != Number::float64),
         "out: another dtype");
    set_gradient(task, x, result);
    task.as_probabilities = !log;
    task.with_gradient = !log;
    task.with_log_softmax = log;
    run(task);
}

Number result_number(const Array& logits) {
    return logits.number == Number::float64 ? Number::float64 : Number::float32;
}

void log_sum_exp(const In& logits, bool logits_bfloat16, Out out) {
    const Array x = array_of(logits, logits_bfloat16), result = array_of(out);
    SoftmaxTask task = checked_task(x, std::nullopt, false, std::nullopt, 1, std::nullopt);
    need(
        count_of(result) == task.rows && is_contiguous(result) && result.number == result_number(x),
        "out: another shape or dtype");
    task.losses = result.data;
    task.is_log_sum_exp = true;
    run(task);
}

std::optional<double> sigmoid_loss(const In& logits, bool logits_bfloat16, const In& labels,
                                   bool labels_bfloat16, std::optional<Strided> pos_weight,
                                   std::optional<Strided> sample_weight, double label_smoothing,
                                   std::optional<std::int64_t> ignore_value,
                                   const std::string& reduction, std::optional<double> normalizer,
                                   std::optional<Upstream> upstream, std::optional<Out> losses,
                                   std::optional<Out> gradient) {
    LossCall call;
    Arrays arrays;
    if (!crossent::set_reduction(call, reduction)) return std::nullopt;
    call.logits = &(arrays.logits = array_of(logits, logits_bfloat16));
    call.labels = &(arrays.labels = array_of(labels, labels_bfloat16));
    if (pos_weight) call.pos_weight = &(arrays.weight = array_of(*pos_weight));
    if (sample_weight) call.sample_weight = &(arrays.sample_weight = array_of(*sample_weight));
    call.label_smoothing = label_smoothing;
    call.has_ignored = ignore_value.has_value();
    call.ignored = ignore_value.value_or(0);
    call.normalizer = normalizer ? &*normalizer : nullptr;
    set_results(call, arrays, upstream, losses, gradient, logits_bfloat16);
    return answer_of(crossent::sigmoid_loss, call);
}

// ---- the losses of tensors, which come without NumPy's protocol: it costs more than a short loss

// How a library describes its tensors to C: the table DLPackExchangeAPI of DLPack 1, as far as it
// is needed here.
struct Exchange {
    std::uint32_t major, minor;  // of DLPack
    const void* older;
    const void *allocate, *export_tensor, *import_tensor;
    int (*describe)(void* object, nb::dlpack::dltensor* description);
};

constexpr char kExchangeName[] = "dlpack_exchange_api";

const Exchange* exchange_of(nb::handle capsule) {
    if (capsule.is_none()) return nullptr;
    const void* table = PyCapsule_GetPointer(capsule.ptr(), kExchangeName);
    if (table == nullptr) throw nb::python_error();
    return static_cast<const Exchange*>(table);
}

nb::object tensor_exchange(nb::handle type) {
    nb::object capsule = nb::getattr(type, "__dlpack_c_exchange_api__", nb::none());
    if (!PyCapsule_IsValid(capsule.ptr(), kExchangeName)) return nb::none();
    const Exchange* exchange = exchange_of(capsule);
    return exchange->major == 1 && exchange->describe != nullptr ? capsule : nb::none();
}

std::int64_t integer_of(nb::handle tuple, int index) {
    PyObject* item = PyTuple_GetItem(tuple.ptr(), index);  // borrowed
    const long long value = item == nullptr ? -1 : PyLong_AsLongLong(item);
    if (value == -1 && PyErr_Occurred() != nullptr) throw nb::python_error();
    return value;
}

// Of address, number, shape and strides.
Array array_at(nb::handle place) {
    const auto data = static_cast<std::uintptr_t>(integer_of(place, 0));
    const std::int64_t number = integer_of(place, 1);
    need(PyTuple_Size(place.ptr()) == 4, "array: not address, number, shape and strides");
    const nb::handle shape = PyTuple_GetItem(place.ptr(), 2);
    const nb::handle strides = PyTuple_GetItem(place.ptr(), 3);
    need(number >= 0 && number <= static_cast<int>(Number::uint64), "number: unknown");
    const Py_ssize_t rank = PyTuple_Size(shape.ptr());
    if (rank < 0) throw nb::python_error();
    need(rank <= Array::kMaxRank, "array: too many axes");
    Array array;
    array.data = reinterpret_cast<void*>(data);
    array.number = static_cast<Number>(number);
    array.rank = static_cast<int>(rank);
    for (int d = 0; d < array.rank; ++d) {
        array.shape[d] = integer_of(shape, d);
        need(array.shape[d] >= 0, "shape: negative");
    }
    const Py_ssize_t count = PyTuple_Size(strides.ptr());
    if (count < 0) throw nb::python_error();
    need(count == rank, "strides: not as many as axes");
    const std::int64_t size = crossent::size_of(array.number);
    for (int d = 0; d < array.rank; ++d) array.strides[d] = integer_of(strides, d) * size;
    return array;
}

// Tensors as arrays.
struct Reader {
    const Exchange* exchange;
    bool has_failed = false;  // on one that is not in memory as the kernels know it

    const Array* operator()(nb::handle given, Array& array) {
        if (given.is_none()) return nullptr;
        if (PyTuple_Check(given.ptr())) {
            array = array_at(given);
        } else if (!described(given, array)) {
            has_failed = true;
        }
        return &array;
    }

    bool described(nb::handle tensor, Array& array) const {
        need(exchange != nullptr, "exchange: none, and no place");
        nb::dlpack::dltensor found;
        if (exchange->describe(tensor.ptr(), &found) != 0) {
            PyErr_Clear();  // sparse, say: the caller's checks know what to tell
            return false;
        }
        const std::optional<Number> number = number_of(found.dtype);
        if (found.device.device_type != nb::device::cpu::value || !number ||
            found.ndim > Array::kMaxRank) {
            return false;
        }
        array.data = static_cast<char*>(found.data) + found.byte_offset;
        array.number = *number;
        array.rank = found.ndim;
        const std::int64_t size = crossent::size_of(*number);
        for (int d = 0; d < found.ndim; ++d) {
            array.shape[d] = found.shape[d];
            if (found.strides != nullptr) array.strides[d] = found.strides[d] * size;
        }
        if (found.strides == nullptr) set_contiguous(array);   // as DLPack has it
        return found.data != nullptr || count_of(array) == 0;  // zeros may have no memory
    }
};

std::optional<double> linear_loss_at(nb::handle exchange, nb::handle logits, nb::handle labels,
                                     nb::handle weight, nb::handle sample_weight,
                                     nb::handle upstream_rows, nb::handle result, nb::handle losses,
                                     nb::handle gradient, bool is_softmax, std::int64_t axis,
                                     double label_smoothing,
                                     std::optional<std::int64_t> ignore_index, double temperature,
                                     std::optional<double> softcap, double z_loss,
                                     const char* reduction, std::optional<double> normalizer,
                                     double upstream, bool invalid_is_nan, int threads) {
    crossent::follow_threads(threads);
    LossCall call;
    Arrays arrays;
    Reader read{exchange_of(exchange)};
    call.logits = read(logits, arrays.logits);
    call.labels = read(labels, arrays.labels);
    (is_softmax ? call.class_weight : call.pos_weight) = read(weight, arrays.weight);
    call.sample_weight = read(sample_weight, arrays.sample_weight);
    call.upstream_rows = read(upstream_rows, arrays.upstream);
    Array number;
    const Array* to = read(result, number);
    call.losses = read(losses, arrays.losses);
    call.gradient = read(gradient, arrays.gradient);
    if (read.has_failed || !crossent::set_reduction(call, reduction)) return std::nullopt;
    if (!is_float(arrays.logits.number)) return std::nullopt;
    Array* into = call.gradient == nullptr ? nullptr : &arrays.gradient;
    if (is_softmax && !crossent::put_classes_last(axis, arrays.logits, arrays.labels, into)) {
        return std::nullopt;
    }
    call.label_smoothing = label_smoothing;
    call.has_ignored = ignore_index.has_value();
    call.ignored = ignore_index.value_or(0);
    call.temperature = temperature;
    call.has_softcap = softcap.has_value();
    call.softcap = softcap.value_or(0);
    call.z_loss = z_loss;
    call.normalizer = normalizer ? &*normalizer : nullptr;
    call.upstream = upstream;
    call.invalid_is_nan = invalid_is_nan;
    constexpr Loss of_softmax = crossent::softmax_loss, of_sigmoid = crossent::sigmoid_loss;
    const std::optional<double> value = answer_of(is_softmax ? of_softmax : of_sigmoid, call);
    if (value && to != nullptr) {
        need(to->rank == 0 && (to->number == Number::float32 || to->number == Number::float64),
             "result: not one float32 or float64");
        crossent::write_value(*to, *value);
    }
    return value;
}

void elementwise(const std::string& name, const In& x, bool x_bfloat16, const Out& out) {
    crossent::FunctionTask task;
    const Array from = array_of(x, x_bfloat16), to = array_of(out);
    need(is_float(from.number), "x: not floats");
    need(name == "sigmoid" || name == "log_sigmoid" || name == "softplus", "name: unknown");
    task.function = name == "sigmoid"       ? crossent::Function::sigmoid
                    : name == "log_sigmoid" ? crossent::Function::log_sigmoid
                                            : crossent::Function::softplus;
    need(
        to.rank == from.rank && same_shape(to, from, from.rank) && to.number == result_number(from),
        "out: another shape or dtype");
    task.dimensions = from.rank;
    std::copy_n(from.shape, from.rank, task.shape);
    task.x = elements_of(from);
    task.result = elements_of(to);
    const crossent::Kernels& chosen = kernels();
    Unlocked unlocked(count_of(from));
    crossent::elementwise(chosen.elementwise, task);
}

double exact_sum(const In& values, std::optional<double> divisor) {
    const std::optional<Number> number = number_of(values.dtype());
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

nb::typed<nb::dict, nb::str, nb::object> xla_ffi_handlers() {
    nb::dict handlers;
    for (const crossent::XlaHandler* each = crossent::xla_handlers(); each->name != nullptr;
         ++each) {
        handlers[each->name] = nb::capsule(reinterpret_cast<const void*>(each->function));
    }
    return nb::borrow<nb::typed<nb::dict, nb::str, nb::object>>(handlers);
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
    module.def("xla_ffi_handlers", &xla_ffi_handlers,
               "The losses as XLA calls them: handlers by the names to register them under.");
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
    module.def("tensor_exchange", &tensor_exchange, "type"_a,
               "What linear_loss_at reads tensors of this type by; None where there is nothing.");
    module.def(
        "linear_loss_at", &linear_loss_at, "exchange"_a.none(), "logits"_a, "labels"_a,
        "weight"_a.none(), "sample_weight"_a.none(), "upstream_rows"_a.none(), "result"_a.none(),
        "losses"_a.none(), "gradient"_a.none(), "is_softmax"_a, "axis"_a, "label_smoothing"_a,
        "ignore_index"_a.none(), "temperature"_a, "softcap"_a.none(), "z_loss"_a, "reduction"_a,
        "normalizer"_a.none(), "upstream"_a, "invalid_is_nan"_a, "threads"_a,
        "softmax_loss or sigmoid_loss of tensors, the results too.\n\n"
        "A tensor is read by the exchange, or is a tuple of address, number, shape and "
        "strides in elements. A number is its place in float32, float64, float16, bfloat16, "
        "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64. The value "
        "goes to the result too; losses are in C order. With invalid_is_nan rows whose "
        "labels are invalid become NaN, and so does "
        "the value. None as in softmax_loss, also for tensors that no kernel reads. threads as in "
        "follow_threads.");
    module.def("register_torch_operators", &crossent::register_torch_operators, "library"_a,
               "Kernels for the operators of compiled programs; False where the PyTorch that this "
               "library is linked to has no C interface for them.");
    module.def("follow_threads", &crossent::follow_threads, "threads"_a,
               "set_num_threads where the number is another than at the last call.");
    module.def("elementwise", &elementwise, "name"_a, "x"_a, "x_bfloat16"_a, "out"_a,
               "sigmoid, log_sigmoid or softplus of every element.");
    module.def("exact_sum", &exact_sum, "values"_a, "divisor"_a.none(),
               "Sum of a vector, over the divisor if there is one, rounded once to its dtype.");
}
