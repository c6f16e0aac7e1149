// The losses as TensorFlow ops, on its C API. The only file that knows TensorFlow.
//
//   CrossentSoftmaxLoss(logits, labels, weights..., computed) -> loss
//   CrossentSoftmaxLossWithGradient(logits, labels, weights...) -> loss, gradient
//   CrossentSoftmaxLossGradient(logits, labels, weights..., upstream, computed) -> gradient
//
// and the same of the sigmoid loss. Only the first and the last are differentiated. Where a
// gradient will be wanted, the second computes it beside the loss, and hands both to the first as
// `computed`, which passes them on: so no op whose derivative is asked for has the gradient as an
// output, and TensorFlow makes no zeros of its size for it. The weights are lists of no or one
// tensor each.
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <new>
#include <string>

#include "arrays.h"
#include "calls.h"
#include "floating_point.h"
#include "memory_advice.h"
#include "tensorflow_c_api.h"
#include "thread_pool.h"
#include "xla_ffi.h"

namespace {

using crossent::Answer;
using crossent::Array;
using crossent::LossCall;
using crossent::Number;
using crossent::Reduction;
using std::int64_t;

class Status {
  public:
    Status() : status_(TF_NewStatus()) {}
    Status(const Status&) = delete;
    Status& operator=(const Status&) = delete;
    ~Status() { TF_DeleteStatus(status_); }
    operator TF_Status*() const { return status_; }
    bool ok() const { return TF_GetCode(status_) == TF_OK; }

  private:
    TF_Status* status_;
};

struct Failure {
    TF_Code code;
    std::string message;
};

void need(const Status& status) {
    if (!status.ok()) throw Failure{TF_GetCode(status), TF_Message(status)};
}

void fail(TF_OpKernelConstruction* context, TF_Status* status) {
    TF_OpKernelConstruction_Failure(context, status);
}
void fail(TF_OpKernelContext* context, TF_Status* status) {
    TF_OpKernelContext_Failure(context, status);
}

// No exception may reach TensorFlow; and its threads flush subnormals to zero.
template <class Context, class Body>
void guarded(Context* context, Body body) noexcept {
    const crossent::FloatingPointState state;
    const Status status;
    try {
        return body();
    } catch (const Failure& failure) {
        TF_SetStatus(status, failure.code, failure.message.c_str());
    } catch (const std::bad_alloc&) {
        TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "crossent: no memory left");
    } catch (const std::exception& error) {
        TF_SetStatus(status, TF_INTERNAL, error.what());
    }
    fail(context, status);
}

// ---- tensors

class Tensor {
  public:
    Tensor() = default;
    explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
    ~Tensor() { release(); }
    TF_Tensor* get() const { return tensor_; }
    TF_Tensor** receive() { return &tensor_; }
    void release() {
        if (tensor_ != nullptr) TF_DeleteTensor(tensor_);
        tensor_ = nullptr;
    }

  private:
    TF_Tensor* tensor_ = nullptr;
};

struct Kind {
    TF_DataType type;
    Number number;
};

constexpr Kind kKinds[] = {
    {TF_FLOAT, Number::float32}, {TF_DOUBLE, Number::float64},    {TF_HALF, Number::float16},
    {TF_BOOL, Number::boolean},  {TF_BFLOAT16, Number::bfloat16}, {TF_INT8, Number::int8},
    {TF_INT16, Number::int16},   {TF_INT32, Number::int32},       {TF_INT64, Number::int64},
    {TF_UINT8, Number::uint8},   {TF_UINT16, Number::uint16},     {TF_UINT32, Number::uint32},
    {TF_UINT64, Number::uint64},
};

Array array_of(const TF_Tensor* tensor) {
    Array array;
    const TF_DataType type = TF_TensorType(tensor);
    const Kind* kind = std::begin(kKinds);
    while (kind != std::end(kKinds) && kind->type != type) ++kind;
    const int rank = TF_NumDims(tensor);
    if (kind == std::end(kKinds) || rank > Array::kMaxRank) {
        throw Failure{TF_INVALID_ARGUMENT, "crossent: a tensor of this dtype or rank is not taken"};
    }
    array.data = TF_TensorData(tensor);
    array.number = kind->number;
    array.rank = rank;
    for (int d = 0; d < rank; ++d) array.shape[d] = TF_Dim(tensor, d);
    crossent::set_contiguous(array);
    return array;
}

void move_last(Array& array, int axis) {
    const int64_t length = array.shape[axis], stride = array.strides[axis];
    for (int d = axis; d < array.rank - 1; ++d) {
        array.shape[d] = array.shape[d + 1];
        array.strides[d] = array.strides[d + 1];
    }
    array.shape[array.rank - 1] = length;
    array.strides[array.rank - 1] = stride;
}

std::size_t bytes_of(const Array& array) {
    return static_cast<std::size_t>(crossent::count_of(array) * crossent::size_of(array.number));
}

double number_at(const Array& array) {
    if (array.rank != 0) throw Failure{TF_INVALID_ARGUMENT, "crossent: not one number"};
    if (array.number == Number::float64) return *static_cast<const double*>(array.data);
    if (array.number == Number::float32) {
        return static_cast<double>(*static_cast<const float*>(array.data));
    }
    throw Failure{TF_INVALID_ARGUMENT, "crossent: a number must be float32 or float64"};
}

Array allocate(TF_OpKernelContext* context, int output, TF_DataType type, const int64_t* shape,
               int rank) {
    Array array;
    array.number = type == TF_DOUBLE ? Number::float64 : Number::float32;
    for (const Kind& kind : kKinds) {
        if (kind.type == type) array.number = kind.number;
    }
    array.rank = rank;
    for (int d = 0; d < rank; ++d) array.shape[d] = shape[d];
    crossent::set_contiguous(array);
    const Status status;
    const Tensor tensor(
        TF_AllocateOutput(context, output, type, shape, rank, bytes_of(array), status));
    need(status);
    array.data = TF_TensorData(tensor.get());  // the context keeps it
    return array;
}

// ---- attributes

enum class Family { softmax, sigmoid };
enum class Role { loss, loss_with_gradient, gradient };

// What a node of a graph, or a call, fixes.
struct Attributes {
    LossCall options;  // without arrays
    int64_t axis = -1;
    bool has_factor = false;  // class_weight, or pos_weight of the sigmoid loss
    bool has_sample_weight = false;
    bool has_normalizer = false;
};

int64_t integer(TF_OpKernelConstruction* context, const char* name) {
    const Status status;
    int64_t value = 0;
    TF_OpKernelConstruction_GetAttrInt64(context, name, &value, status);
    need(status);
    return value;
}

// TensorFlow's own float attributes are float32, which has no 0.1 of a float64.
double number(TF_OpKernelConstruction* context, const char* name) {
    const int64_t bits = integer(context, name);
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

bool boolean(TF_OpKernelConstruction* context, const char* name) {
    const Status status;
    unsigned char value = 0;
    TF_OpKernelConstruction_GetAttrBool(context, name, &value, status);
    need(status);
    return value != 0;
}

bool is_given(TF_OpKernelConstruction* context, const char* list_of_types) {
    const Status status;
    int32_t length = 0, bytes = 0;
    TF_OpKernelConstruction_GetAttrSize(context, list_of_types, &length, &bytes, status);
    need(status);
    if (length > 1) throw Failure{TF_INVALID_ARGUMENT, "crossent: several weights of one kind"};
    return length == 1;
}

void read_reduction(TF_OpKernelConstruction* context, LossCall& options) {
    const Status status;
    char name[16] = "";
    TF_OpKernelConstruction_GetAttrString(context, "reduction", name, sizeof name - 1, status);
    need(status);
    if (!crossent::set_reduction(options, name)) {
        throw Failure{TF_INVALID_ARGUMENT, "crossent: an unknown reduction"};
    }
}

template <Family family>
void* create(TF_OpKernelConstruction* context) {
    auto* attributes = new (std::nothrow) Attributes;
    guarded(context, [&] {
        if (attributes == nullptr) throw std::bad_alloc();
        LossCall& options = attributes->options;
        options.label_smoothing = number(context, "label_smoothing_bits");
        options.has_ignored = boolean(context, "has_ignored");
        options.ignored = integer(context, "ignored");
        read_reduction(context, options);
        options.invalid_is_nan = boolean(context, "invalid_is_nan");
        attributes->has_sample_weight = is_given(context, "Tsample_weight");
        attributes->has_normalizer = is_given(context, "Tnormalizer");
        if (family == Family::sigmoid) {
            attributes->has_factor = is_given(context, "Tpos_weight");
            return;
        }
        attributes->has_factor = is_given(context, "Tclass_weight");
        attributes->axis = integer(context, "axis");
        options.temperature = number(context, "temperature_bits");
        options.softcap = number(context, "softcap_bits");
        options.has_softcap = options.softcap != 0;
        options.z_loss = number(context, "z_loss_bits");
    });
    return attributes;
}

void destroy(void* kernel) { delete static_cast<Attributes*>(kernel); }

// ---- one call

// The inputs that all three ops begin with, and the call that they make.
template <Family family>
class Inputs {
  public:
    Inputs(const Attributes& attributes, TF_OpKernelContext* context)
        : call_(attributes.options), context_(context) {
        logits_ = next(logits_tensor_);
        labels_ = next(labels_tensor_);
        for (int d = 0; d < logits_.rank; ++d) shape_[d] = logits_.shape[d];
        if (family == Family::softmax) {
            const int64_t rank = logits_.rank;
            const int64_t axis = attributes.axis + (attributes.axis < 0 ? rank : 0);
            if (axis < 0 || axis >= rank) {
                throw Failure{TF_INVALID_ARGUMENT, "crossent: logits lack the class axis"};
            }
            axis_ = static_cast<int>(axis);
            move_last(logits_, axis_);
            if (labels_.rank == logits_.rank) move_last(labels_, axis_);
        }
        call_.logits = &logits_;
        call_.labels = &labels_;
        if (attributes.has_factor) {
            factor_ = next(factor_tensor_);
            (family == Family::softmax ? call_.class_weight : call_.pos_weight) = &factor_;
        }
        if (attributes.has_sample_weight) {
            sample_weight_ = next(sample_weight_tensor_);
            call_.sample_weight = &sample_weight_;
        }
        if (attributes.has_normalizer) {
            Tensor tensor;
            normalizer_ = number_at(next(tensor));
            call_.normalizer = &normalizer_;
        }
    }

    // The input after those.
    Array next(Tensor& tensor) {
        const Status status;
        TF_GetInput(context_, inputs_++, tensor.receive(), status);
        need(status);
        return array_of(tensor.get());
    }
    bool has_next() const { return inputs_ < TF_NumInputs(context_); }
    int next_index() const { return inputs_; }

    LossCall& call() { return call_; }
    Number logits_number() const { return logits_.number; }
    const int64_t* logits_shape() const { return shape_; }

    void allocate_losses() {
        const bool is_wide = logits_.number == Number::float64;
        // Of the shape of the rows: the logits' with the classes last, or every element's.
        const int rank = logits_.rank - (family == Family::softmax ? 1 : 0);
        losses_ = allocate(context_, 0, is_wide ? TF_DOUBLE : TF_FLOAT, logits_.shape, rank);
        call_.losses = &losses_;
    }

    void allocate_gradient(int output) {
        const TF_DataType type = TF_TensorType(logits_tensor_.get());
        gradient_ = allocate(context_, output, type, shape_, logits_.rank);
        if (family == Family::softmax) move_last(gradient_, axis_);
        call_.gradient = &gradient_;
    }

    double run() {
        double value = 0;
        const Answer answer =
            family == Family::softmax ? softmax_loss(call_, &value) : sigmoid_loss(call_, &value);
        if (answer == Answer::ok) return value;
        throw Failure{TF_INVALID_ARGUMENT,
                      "crossent: labels, weights or shapes are not what the loss allows. Call the "
                      "loss outside of tf.function: it will say which."};
    }

  private:
    LossCall call_;
    TF_OpKernelContext* context_;
    int inputs_ = 0, axis_ = 0;
    int64_t shape_[Array::kMaxRank];
    Tensor logits_tensor_, labels_tensor_, factor_tensor_, sample_weight_tensor_;
    Array logits_, labels_, factor_, sample_weight_, losses_, gradient_;
    double normalizer_ = 0;
};

void write_value(TF_OpKernelContext* context, Number logits, double value) {
    const bool is_wide = logits == Number::float64;
    crossent::write_value(allocate(context, 0, is_wide ? TF_DOUBLE : TF_FLOAT, nullptr, 0), value);
}

// One input as an output, without a copy.
void pass_on(TF_OpKernelContext* context, int input) {
    const Status status;
    Tensor tensor;
    TF_GetInput(context, input, tensor.receive(), status);
    need(status);
    TF_SetOutput(context, 0, tensor.get(), status);
    need(status);
}

// ---- a saved gradient times the upstream one

struct Scaling {
    const void* from;
    void* to;
    double factor;
    bool is_wide;
};

void scale(void* context, int64_t begin, int64_t end, int) {
    const auto& scaling = *static_cast<const Scaling*>(context);
    if (scaling.is_wide) {
        const auto* from = static_cast<const double*>(scaling.from);
        auto* to = static_cast<double*>(scaling.to);
        for (int64_t i = begin; i < end; ++i) to[i] = from[i] * scaling.factor;
        return;
    }
    const auto* from = static_cast<const float*>(scaling.from);
    auto* to = static_cast<float*>(scaling.to);
    const auto factor = static_cast<float>(scaling.factor);
    for (int64_t i = begin; i < end; ++i) to[i] = from[i] * factor;
}

// Into a new tensor, or into the saved one where nobody else holds it: then no backward pass can
// come again.
void scaled(TF_OpKernelContext* context, int input, const Array& saved, const int64_t* shape,
            double factor) {
    const Status status;
    int forwarded = -1;
    const Tensor output(TF_ForwardInputOrAllocateOutput(context, &input, 1, 0, shape, saved.rank,
                                                        &forwarded, status));
    need(status);
    void* to = TF_TensorData(output.get());
    if (forwarded < 0) crossent::advise_huge_pages(to, bytes_of(saved));
    Scaling scaling{saved.data, to, factor, saved.number == Number::float64};
    constexpr int64_t grain = 1 << 15;  // as long as waking a thread takes, and more
    crossent::parallel_for(crossent::count_of(saved), grain, crossent::max_threads(), scale,
                           &scaling);
}

// ---- the three ops

template <Family family>
void compute_loss(void* kernel, TF_OpKernelContext* context) {
    guarded(context, [&] {
        Inputs<family> inputs(*static_cast<const Attributes*>(kernel), context);
        if (inputs.has_next()) return pass_on(context, inputs.next_index());
        const bool is_reduced = inputs.call().reduction != Reduction::none;
        if (!is_reduced) inputs.allocate_losses();
        const double value = inputs.run();
        if (is_reduced) write_value(context, inputs.logits_number(), value);
    });
}

template <Family family>
void compute_loss_with_gradient(void* kernel, TF_OpKernelContext* context) {
    guarded(context, [&] {
        Inputs<family> inputs(*static_cast<const Attributes*>(kernel), context);
        const bool is_reduced = inputs.call().reduction != Reduction::none;
        if (!is_reduced) inputs.allocate_losses();
        inputs.allocate_gradient(1);
        const double value = inputs.run();
        if (is_reduced) write_value(context, inputs.logits_number(), value);
    });
}

template <Family family>
void compute_gradient(void* kernel, TF_OpKernelContext* context) {
    guarded(context, [&] {
        Inputs<family> inputs(*static_cast<const Attributes*>(kernel), context);
        Tensor upstream_tensor;
        const Array upstream = inputs.next(upstream_tensor);
        LossCall& call = inputs.call();
        if (call.reduction == Reduction::none) {
            call.upstream_rows = &upstream;
            call.reduction = Reduction::sum;  // which needs no memory for the losses
        } else {
            call.upstream = number_at(upstream);
            if (inputs.has_next()) {
                const int index = inputs.next_index();
                if (call.upstream == 1) return pass_on(context, index);
                const Number number = inputs.logits_number();
                // Half precision is rounded once: never a rounded gradient times something.
                if (number == Number::float32 || number == Number::float64) {
                    Tensor tensor;
                    const Array saved = inputs.next(tensor);
                    // Another hold on it, and TensorFlow would not let it be overwritten.
                    tensor.release();
                    return scaled(context, index, saved, inputs.logits_shape(), call.upstream);
                }
            }
        }
        inputs.allocate_gradient(0);
        inputs.run();
    });
}

// ---- what is registered at load

// Shapes: a gradient has that of the logits. The C API hides from these functions whether a loss is
// reduced, so Python says what shape that has.
template <int gradient>
void infer_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
    TF_ShapeInferenceContextSetUnknownShape(context, status);
    if (gradient < 0 || TF_GetCode(status) != TF_OK) return;
    TF_ShapeHandle* shape = TF_NewShapeHandle();
    TF_ShapeInferenceContextGetInput(context, 0, shape, status);
    if (TF_GetCode(status) == TF_OK) {
        TF_ShapeInferenceContextSetOutput(context, gradient, shape, status);
    }
    TF_DeleteShapeHandle(shape);
}

constexpr const char* kFloats = "{half, bfloat16, float, double}";
constexpr const char* kNumbers =
    "{half, bfloat16, float, double, bool, int8, int16, int32, int64, uint8, uint16, uint32, "
    "uint64}";

struct Op {
    const char* name;
    Family family;
    Role role;
    void (*shapes)(TF_ShapeInferenceContext*, TF_Status*);
    void* (*create)(TF_OpKernelConstruction*);
    void (*compute)(void*, TF_OpKernelContext*);
};

const Op kOps[] = {
    {"CrossentSoftmaxLoss", Family::softmax, Role::loss, infer_shapes<-1>, create<Family::softmax>,
     compute_loss<Family::softmax>},
    {"CrossentSoftmaxLossWithGradient", Family::softmax, Role::loss_with_gradient, infer_shapes<1>,
     create<Family::softmax>, compute_loss_with_gradient<Family::softmax>},
    {"CrossentSoftmaxLossGradient", Family::softmax, Role::gradient, infer_shapes<0>,
     create<Family::softmax>, compute_gradient<Family::softmax>},
    {"CrossentSigmoidLoss", Family::sigmoid, Role::loss, infer_shapes<-1>, create<Family::sigmoid>,
     compute_loss<Family::sigmoid>},
    {"CrossentSigmoidLossWithGradient", Family::sigmoid, Role::loss_with_gradient, infer_shapes<1>,
     create<Family::sigmoid>, compute_loss_with_gradient<Family::sigmoid>},
    {"CrossentSigmoidLossGradient", Family::sigmoid, Role::gradient, infer_shapes<0>,
     create<Family::sigmoid>, compute_gradient<Family::sigmoid>},
};

class Definition {
  public:
    explicit Definition(const char* name) : builder_(TF_NewOpDefinitionBuilder(name)) {}
    Definition& attribute(const std::string& spec) {
        TF_OpDefinitionBuilderAddAttr(builder_, spec.c_str());
        return *this;
    }
    Definition& input(const char* spec) {
        TF_OpDefinitionBuilderAddInput(builder_, spec);
        return *this;
    }
    Definition& output(const char* spec) {
        TF_OpDefinitionBuilderAddOutput(builder_, spec);
        return *this;
    }
    Definition& list_input(const std::string& name) {
        attribute("T" + name + ": list(" + kNumbers + ") >= 0");
        return input((name + ": T" + name).c_str());
    }
    TF_OpDefinitionBuilder* builder() const { return builder_; }

  private:
    TF_OpDefinitionBuilder* builder_;  // registering takes it
};

void define(const Op& op, TF_Status* status) {
    const bool is_softmax = op.family == Family::softmax;
    Definition definition(op.name);
    definition.attribute(std::string("T: ") + kFloats).attribute(std::string("L: ") + kNumbers);
    definition.input("logits: T").input("labels: L");
    definition.list_input(is_softmax ? "class_weight" : "pos_weight");
    definition.list_input("sample_weight").list_input("normalizer");
    if (op.role == Role::gradient) {
        definition.attribute("U: {float, double}").input("upstream: U");
    }
    if (op.role != Role::loss_with_gradient) definition.list_input("computed");
    if (op.role != Role::gradient) definition.attribute("R: {float, double}").output("loss: R");
    if (op.role != Role::loss) definition.output("gradient: T");
    // The bits of float64 numbers.
    definition.attribute("label_smoothing_bits: int = 0");
    definition.attribute("has_ignored: bool = false").attribute("ignored: int = 0");
    definition.attribute("reduction: {'none', 'sum', 'mean', 'mean_all'} = 'mean'");
    definition.attribute("invalid_is_nan: bool = true");
    if (is_softmax) {
        definition.attribute("axis: int = -1");
        definition.attribute("temperature_bits: int = 4607182418800017408");  // of 1
        definition.attribute("softcap_bits: int = 0");                        // none
        definition.attribute("z_loss_bits: int = 0");
    }
    TF_OpDefinitionBuilderSetShapeInferenceFunction(definition.builder(), op.shapes);
    TF_RegisterOpDefinition(definition.builder(), status);
}

// Runs while `tf.load_op_library` opens this file. TensorFlow reports what is wrong with an op when
// it is used.
__attribute__((constructor)) void register_ops() {
    for (const Op& op : kOps) {
        const Status status;
        define(op, status);
        if (!status.ok()) return;
        TF_KernelBuilder* builder =
            TF_NewKernelBuilder(op.name, "CPU", op.create, op.compute, destroy);
        TF_RegisterKernelBuilder(op.name, builder, status);
        if (!status.ok()) return;
    }
}

}  // namespace

// For Python, which has looked up the interface of the XLA that TensorFlow brings along.
extern "C" __attribute__((visibility("default"))) int crossent_register_xla_handlers(
    const crossent::xla::Api* api) {
    return crossent::register_xla_handlers(*api);
}
