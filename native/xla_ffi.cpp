// The losses as XLA calls them on CPUs, for JAX and for TensorFlow's `jit_compile`.
//
// Operands: logits, labels, and those of class_weight (softmax) or pos_weight (sigmoid),
// sample_weight, normalizer and upstream (one number, or one for each row) that the attribute
// `operands` names, in that order. Results: the reduced value, or the losses of the rows, and where
// a second result is asked for the gradient in the logits, times upstream. A compiled program
// cannot raise: rows with invalid labels become NaN.
//
// Every array begins with the same `groups` axes, what jax.vmap has put in front: each group is a
// call of its own, with its own value.
#include "xla_ffi.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

#include "calls.h"
#include "floating_point.h"

namespace crossent {
namespace {

using std::int64_t;

xla::Error* error(const xla::CallFrame& frame, xla::ErrorCode code, const char* message) {
    xla::ErrorArguments arguments{};
    arguments.struct_size = offsetof(xla::ErrorArguments, code) + sizeof arguments.code;
    arguments.message = message;
    arguments.code = code;
    return frame.api->create_error(&arguments);
}

bool number_of(xla::DataType type, Number& number) {
    switch (type) {
        case xla::DataType::boolean:
            return number = Number::boolean, true;
        case xla::DataType::int8:
            return number = Number::int8, true;
        case xla::DataType::int16:
            return number = Number::int16, true;
        case xla::DataType::int32:
            return number = Number::int32, true;
        case xla::DataType::int64:
            return number = Number::int64, true;
        case xla::DataType::uint8:
            return number = Number::uint8, true;
        case xla::DataType::uint16:
            return number = Number::uint16, true;
        case xla::DataType::uint32:
            return number = Number::uint32, true;
        case xla::DataType::uint64:
            return number = Number::uint64, true;
        case xla::DataType::float16:
            return number = Number::float16, true;
        case xla::DataType::float32:
            return number = Number::float32, true;
        case xla::DataType::float64:
            return number = Number::float64, true;
        case xla::DataType::bfloat16:
            return number = Number::bfloat16, true;
    }
    return false;
}

// An operand or result: the array of one group, and how far it is to the next one's.
struct Grouped {
    Array array;
    int64_t groups = 1;
    int64_t step = 0;  // bytes

    bool read(const xla::Buffer& buffer, int64_t group_axes) {
        if (buffer.rank < group_axes || buffer.rank > Array::kMaxRank ||
            !number_of(buffer.type, array.number)) {
            return false;
        }
        array.data = buffer.data;
        array.rank = static_cast<int>(buffer.rank - group_axes);
        for (int64_t d = 0; d < group_axes; ++d) groups *= buffer.shape[d];
        std::copy_n(buffer.shape + group_axes, array.rank, array.shape);
        set_contiguous(array);
        step = size_of(array.number);
        for (int d = 0; d < array.rank; ++d) step *= array.shape[d];
        return true;
    }

    // To the next group.
    void advance() { array.data = static_cast<char*>(array.data) + step; }
};

// Attributes of one call by name; a missing one keeps what it is given. XLA sorts them: those that
// are asked for in alphabetical order are found at once.
class Options {
  public:
    explicit Options(const xla::Attributes& attributes) : attributes_(attributes) {}

    bool read(const char* name, double& value) {
        const xla::Scalar* scalar = find(name);
        if (scalar == nullptr || scalar->type != xla::DataType::float64) return false;
        std::memcpy(&value, scalar->value, sizeof value);
        return true;
    }

    bool read(const char* name, int64_t& value) {
        const xla::Scalar* scalar = find(name);
        if (scalar == nullptr || scalar->type != xla::DataType::int64) return false;
        std::memcpy(&value, scalar->value, sizeof value);
        return true;
    }

  private:
    const xla::Scalar* find(const char* name) {
        const std::size_t size = std::strlen(name);
        for (int64_t left = attributes_.size; left > 0; --left) {
            const int64_t i = next_;
            next_ = i + 1 < attributes_.size ? i + 1 : 0;
            const xla::Name& found = *attributes_.names[i];
            if (found.size == size && std::memcmp(found.data, name, size) == 0 &&
                attributes_.types[i] == xla::AttributeType::scalar) {
                return static_cast<const xla::Scalar*>(attributes_.values[i]);
            }
        }
        return nullptr;
    }

    const xla::Attributes& attributes_;
    int64_t next_ = 0;
};

// Bits of the attribute `operands`.
enum Operands : int64_t {
    has_class_weight = 1,
    has_sample_weight = 2,
    has_normalizer = 4,
    has_upstream = 8
};

bool is_scalar(const Array& array) {
    return array.rank == 0 && (array.number == Number::float64 || array.number == Number::float32 ||
                               array.number == Number::int32);
}

using Loss = Answer (*)(const LossCall&, double*);

constexpr char kUnfit[] = "crossent: operands, results or attributes do not fit each other";

// Whether the call's parts fit each other, as the Python side passes them; then all groups ran.
bool run(const xla::CallFrame& frame, Loss loss, bool is_softmax) {
    Options options(frame.attributes);
    LossCall call;
    int64_t groups = 0, axis = 0, reduction = 0, operands = 0, has_ignored = 0;
    const bool complete =
        options.read("axis", axis) && options.read("groups", groups) &&
        options.read("has_ignored", has_ignored) && options.read("ignored", call.ignored) &&
        options.read("label_smoothing", call.label_smoothing) &&
        options.read("operands", operands) && options.read("reduction", reduction) &&
        options.read("softcap", call.softcap) && options.read("temperature", call.temperature) &&
        options.read("z_loss", call.z_loss);
    if (!complete || reduction < 0 || reduction > static_cast<int>(Reduction::mean_all))
        return false;
    call.has_ignored = has_ignored != 0;
    call.has_softcap = call.softcap > 0;
    call.reduction = static_cast<Reduction>(reduction);
    call.invalid_is_nan = true;

    enum { kLogits, kLabels, kClassWeight, kSampleWeight, kNormalizer, kUpstream, kOperands };
    Grouped arrays[kOperands];
    const bool present[kOperands] = {true,
                                     true,
                                     (operands & has_class_weight) != 0,
                                     (operands & has_sample_weight) != 0,
                                     (operands & has_normalizer) != 0,
                                     (operands & has_upstream) != 0};
    int64_t next = 0;
    for (int i = 0; i < kOperands; ++i) {
        if (!present[i]) continue;
        if (next == frame.arguments.size) return false;
        if (!arrays[i].read(*frame.arguments.values[next++], groups)) return false;
    }
    Grouped result, gradient;
    const int64_t results = frame.results.size;
    if (next != frame.arguments.size || results < 1 || results > 2) return false;
    if (!result.read(*frame.results.values[0], groups)) return false;
    if (results == 2 && !gradient.read(*frame.results.values[1], groups)) return false;
    if (present[kNormalizer] && !is_scalar(arrays[kNormalizer].array)) return false;
    const Array& upstream = arrays[kUpstream].array;
    const bool of_rows = present[kUpstream] && upstream.rank > 0;
    if (present[kUpstream] && !of_rows && !is_scalar(upstream)) return false;

    Array& logits = arrays[kLogits].array;
    Array& labels = arrays[kLabels].array;
    Array* into = results == 2 ? &gradient.array : nullptr;
    if (is_softmax && (axis < 0 || !put_classes_last(axis, logits, labels, into))) return false;
    const bool is_wide = logits.number == Number::float64;
    if (result.array.number != (is_wide ? Number::float64 : Number::float32)) return false;
    const bool is_reduced = call.reduction != Reduction::none;
    if (is_reduced && result.array.rank != 0) return false;

    call.logits = &logits;
    call.labels = &labels;
    const Array* weights = present[kClassWeight] ? &arrays[kClassWeight].array : nullptr;
    (is_softmax ? call.class_weight : call.pos_weight) = weights;
    call.sample_weight = present[kSampleWeight] ? &arrays[kSampleWeight].array : nullptr;
    call.upstream_rows = of_rows ? &upstream : nullptr;
    call.losses = is_reduced ? nullptr : &result.array;
    call.gradient = into;

    for (int64_t g = 0; g < arrays[kLogits].groups; ++g) {
        double normalizer = 1, value = 0;
        if (present[kNormalizer]) {
            normalizer = to_double(arrays[kNormalizer].array);
            call.normalizer = &normalizer;
        }
        if (present[kUpstream] && !of_rows) call.upstream = to_double(upstream);
        if (loss(call, &value) != Answer::ok) return false;
        if (is_reduced) write_value(result.array, value);
        for (Grouped& array : arrays) array.advance();
        result.advance();
        gradient.advance();
    }
    return true;
}

// XLA asks for the version of every handler when JAX registers it, and not at a loss's call.
bool answers_metadata(const xla::CallFrame& frame) {
    const xla::Extension* extension = frame.extensions;
    if (extension == nullptr || extension->type != xla::ExtensionType::metadata) return false;
    xla::Metadata& metadata = *reinterpret_cast<const xla::MetadataExtension*>(extension)->metadata;
    metadata.api_version.major_version = xla::kMajorVersion;
    metadata.api_version.minor_version = xla::kMinorVersion;
    metadata.traits = 0;
    return true;
}

template <Loss loss, bool is_softmax>
xla::Error* handle(xla::CallFrame* frame) {
    if (answers_metadata(*frame)) return nullptr;
    if (frame->stage != xla::Stage::execute) return nullptr;
    // XLA's threads flush subnormals to zero.
    const FloatingPointState state;
    try {
        if (run(*frame, loss, is_softmax)) return nullptr;
        return error(*frame, xla::ErrorCode::invalid_argument, kUnfit);
    } catch (const std::bad_alloc&) {
        return error(*frame, xla::ErrorCode::resource_exhausted, "crossent: out of memory");
    } catch (const std::exception& fault) {
        return error(*frame, xla::ErrorCode::invalid_argument, fault.what());
    }
}

constexpr XlaHandler kHandlers[] = {
    {"crossent_softmax_loss", &handle<softmax_loss, true>},
    {"crossent_sigmoid_loss", &handle<sigmoid_loss, false>},
    {nullptr, nullptr},
};

}  // namespace

const XlaHandler* xla_handlers() { return kHandlers; }

bool register_xla_handlers(const xla::Api& api) {
    const xla::ApiVersion& version = api.api_version;
    if (version.major_version != xla::kMajorVersion ||
        version.minor_version != xla::kRegisteringMinor) {
        return false;
    }
    for (const XlaHandler* each = kHandlers; each->name != nullptr; ++each) {
        xla::RegisterArguments arguments{};
        arguments.struct_size = offsetof(xla::RegisterArguments, traits) + sizeof arguments.traits;
        arguments.name = {each->name, std::strlen(each->name)};
        arguments.platform = {"Host", 4};
        arguments.bundle.execute = each->function;
        if (api.register_handler(&arguments) != nullptr) return false;
    }
    return true;
}

}  // namespace crossent
