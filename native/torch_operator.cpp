// The losses as PyTorch operators, on its stable C interface: a compiled program comes here without
// Python, which would take longer than a short loss. The only file that knows PyTorch.
//
//   linear_loss(arguments...) -> loss
//   linear_loss_value(arguments...) -> loss
//   linear_loss_gradient(upstream, arguments...) -> gradient
//
// _torch_native.py defines them, and says which arguments. They cannot ask back: labels that are
// not allowed make their rows NaN.
#include "torch_operator.h"

#include <dlfcn.h>

#include <cstring>
#include <new>
#include <stdexcept>

#include "arrays.h"
#include "calls.h"
#include "floating_point.h"
#include "thread_pool.h"
#include "torch_c_api.h"

namespace crossent {
namespace {

using std::int64_t;

// The interface as of PyTorch 2.10.
constexpr uint64_t kVersion = uint64_t{2} << 56 | uint64_t{10} << 48;

struct Torch {
    decltype(&aoti_torch_library_init_impl) library_init_impl;
    decltype(&torch_library_impl) library_impl;
    decltype(&torch_call_dispatcher) call_dispatcher;
    decltype(&aoti_torch_get_dim) get_dim;
    decltype(&aoti_torch_get_sizes) get_sizes;
    decltype(&aoti_torch_get_strides) get_strides;
    decltype(&aoti_torch_get_dtype) get_dtype;
    decltype(&torch_get_const_data_ptr) get_const_data_ptr;
    decltype(&torch_get_mutable_data_ptr) get_mutable_data_ptr;
    decltype(&aoti_torch_empty_strided) empty_strided;
    decltype(&aoti_torch_new_tensor_handle) new_tensor_handle;
    decltype(&aoti_torch_delete_tensor_object) delete_tensor_object;
    decltype(&torch_string_c_str) string_c_str;
    decltype(&torch_delete_string) delete_string;
    decltype(&torch_get_num_threads) get_num_threads;
    int32_t cpu;
    enum { kNumbers = 13 };
    int32_t dtypes[kNumbers];  // by Number
} torch;

// PyTorch's functions write down what went wrong; and it takes exceptions from operators.
void need(AOTITorchError error) {
    if (error != 0) throw std::runtime_error("crossent: a function of PyTorch failed");
}

class Tensor {
  public:
    Tensor() = default;
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
    ~Tensor() {
        if (handle_ != nullptr) torch.delete_tensor_object(handle_);
    }
    AtenTensorHandle get() const { return handle_; }
    AtenTensorHandle* receive() { return &handle_; }
    StableIValue release() {
        const auto value = reinterpret_cast<StableIValue>(handle_);
        handle_ = nullptr;
        return value;
    }

  private:
    AtenTensorHandle handle_ = nullptr;
};

// The arguments of an operator, which are taken off the stack one by one.
class Arguments {
  public:
    explicit Arguments(const StableIValue* stack) : next_(stack) {}

    void take(Tensor& tensor) { *tensor.receive() = reinterpret_cast<AtenTensorHandle>(*next_++); }
    void take(bool& value) { value = (*next_++ & 255) != 0; }
    void take(int64_t& value) { value = static_cast<int64_t>(*next_++); }
    void take(double& value) { std::memcpy(&value, next_++, sizeof value); }
    // The name of a reduction.
    void take(LossCall& call) {
        const auto handle = reinterpret_cast<StringHandle>(*next_++);
        const char* name = nullptr;
        const bool is_known = torch.string_c_str(handle, &name) == 0 && set_reduction(call, name);
        torch.delete_string(handle);
        if (!is_known) throw std::runtime_error("crossent: an unknown reduction");
    }
    // Whether there is one.
    template <class T>
    bool take_optional(T& value) {
        const auto* given = reinterpret_cast<StableIValue*>(*next_++);
        if (given == nullptr) return false;
        Arguments(given).take(value);
        delete given;
        return true;
    }

  private:
    const StableIValue* next_;
};

void describe(const Tensor& tensor, const void* data, Array& array) {
    int64_t rank = 0, *sizes = nullptr, *strides = nullptr;
    int32_t dtype = 0;
    need(torch.get_dim(tensor.get(), &rank));
    need(torch.get_sizes(tensor.get(), &sizes));
    need(torch.get_strides(tensor.get(), &strides));
    need(torch.get_dtype(tensor.get(), &dtype));
    int number = 0;
    while (number < Torch::kNumbers && torch.dtypes[number] != dtype) ++number;
    if (number == Torch::kNumbers || rank > Array::kMaxRank) {
        throw std::runtime_error("crossent: a tensor of a dtype or rank of no kernel");
    }
    array.data = const_cast<void*>(data);
    array.number = static_cast<Number>(number);
    array.rank = static_cast<int>(rank);
    const int64_t size = size_of(array.number);
    for (int d = 0; d < array.rank; ++d) {
        array.shape[d] = sizes[d];
        array.strides[d] = strides[d] * size;
    }
}

const Array* input(const Tensor& tensor, Array& array) {
    if (tensor.get() == nullptr) return nullptr;
    const void* data = nullptr;
    need(torch.get_const_data_ptr(tensor.get(), &data));
    describe(tensor, data, array);
    return &array;
}

void output(const Tensor& tensor, Array& array) {
    void* data = nullptr;
    need(torch.get_mutable_data_ptr(tensor.get(), &data));
    describe(tensor, data, array);
}

void allocate(Number number, int rank, const int64_t* shape, Tensor& tensor) {
    int64_t strides[Array::kMaxRank], stride = 1;
    for (int d = rank - 1; d >= 0; --d) {
        strides[d] = stride;
        stride *= shape[d] > 1 ? shape[d] : 1;
    }
    need(torch.empty_strided(rank, shape, strides, torch.dtypes[static_cast<int>(number)],
                             torch.cpu, 0, tensor.receive()));
}

void allocate_like(const Tensor& other, const Array& array, Tensor& tensor) {
    if (is_contiguous(array)) return allocate(array.number, array.rank, array.shape, tensor);
    Tensor again;
    need(torch.new_tensor_handle(other.get(), again.receive()));
    StableIValue stack[6] = {again.release()};  // and no dtype, layout, device, pinning and format
    need(torch.call_dispatcher("aten::empty_like", "", stack, kVersion));
    *tensor.receive() = reinterpret_cast<AtenTensorHandle>(stack[0]);
}

// One call of a loss: what an operator is given, and the arrays that the call refers to.
class Call {
  public:
    // Takes everything off the stack before anything can fail.
    Call(const StableIValue* stack, bool has_upstream) {
        Arguments arguments(stack);
        if (has_upstream) arguments.take(upstream_);
        arguments.take(logits_);
        arguments.take(labels_);
        arguments.take_optional(weight_);
        arguments.take_optional(sample_weight_);
        const bool has_normalizer = arguments.take_optional(normalizer_);
        arguments.take(is_softmax_);
        arguments.take(axis_);
        arguments.take(call_.label_smoothing);
        call_.has_ignored = arguments.take_optional(call_.ignored);
        arguments.take(call_.temperature);
        call_.has_softcap = arguments.take_optional(call_.softcap);
        arguments.take(call_.z_loss);
        arguments.take(call_);

        call_.logits = input(logits_, logits_array_);
        call_.labels = input(labels_, labels_array_);
        const Array* weight = input(weight_, weight_array_);
        (is_softmax_ ? call_.class_weight : call_.pos_weight) = weight;
        call_.sample_weight = input(sample_weight_, sample_weight_array_);
        if (has_normalizer) {
            number_ = scalar(normalizer_);
            call_.normalizer = &number_;
        }
        call_.invalid_is_nan = true;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    StableIValue loss() {
        Tensor result;
        if (call_.reduction == Reduction::none) {
            allocate_losses(result);
            run();
        } else {
            allocate(losses_number(), 0, nullptr, result);
            Array to;
            output(result, to);
            write_value(to, run());
        }
        return result.release();
    }

    StableIValue gradient() {
        Tensor result, losses;
        allocate_like(logits_, logits_array_, result);
        output(result, gradient_array_);
        call_.gradient = &gradient_array_;
        if (call_.reduction == Reduction::none) {
            call_.upstream_rows = input(upstream_, upstream_array_);
            allocate_losses(losses);  // the kernel wants a place for them
        } else {
            call_.upstream = scalar(upstream_);
        }
        run();
        return result.release();
    }

  private:
    static double scalar(const Tensor& tensor) {
        Array array;
        input(tensor, array);
        if (array.rank != 0) throw std::runtime_error("crossent: not one number");
        return to_double(array);
    }

    Number losses_number() const {
        return logits_array_.number == Number::float64 ? Number::float64 : Number::float32;
    }

    void allocate_losses(Tensor& tensor) {
        int64_t shape[Array::kMaxRank];
        const int64_t rank = logits_array_.rank;
        const int64_t classes = !is_softmax_ ? rank : axis_ < 0 ? axis_ + rank : axis_;
        int axes = 0;
        for (int d = 0; d < rank; ++d) {
            if (d != classes) shape[axes++] = logits_array_.shape[d];
        }
        allocate(losses_number(), axes, shape, tensor);
        output(tensor, losses_array_);
        call_.losses = &losses_array_;
    }

    double run() {
        uint32_t threads = 0;
        need(torch.get_num_threads(&threads));
        follow_threads(static_cast<int>(threads));
        Array* into = call_.gradient == nullptr ? nullptr : &gradient_array_;
        double value = 0;
        const bool is_done =
            is_float(logits_array_.number) &&
            (!is_softmax_ || put_classes_last(axis_, logits_array_, labels_array_, into)) &&
            (is_softmax_ ? softmax_loss : sigmoid_loss)(call_, &value) == Answer::ok;
        if (!is_done) {
            throw std::runtime_error(
                "crossent: a kernel refuses what was compiled for it; please report it");
        }
        return value;
    }

    LossCall call_;
    bool is_softmax_ = true;
    int64_t axis_ = -1;
    double number_ = 0;
    Tensor upstream_, logits_, labels_, weight_, sample_weight_, normalizer_;
    Array upstream_array_, logits_array_, labels_array_, weight_array_, sample_weight_array_;
    Array losses_array_, gradient_array_;
};

void linear_loss(StableIValue* stack, uint64_t, uint64_t) {
    const FloatingPointState state;
    stack[0] = Call(stack, false).loss();
}

void linear_loss_gradient(StableIValue* stack, uint64_t, uint64_t) {
    const FloatingPointState state;
    stack[0] = Call(stack, true).gradient();
}

template <class Function>
bool find(void* library, const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(library, name));
    return function != nullptr;
}

bool find_dtypes(void* library) {
    constexpr const char* names[Torch::kNumbers] = {
        "aoti_torch_dtype_float32",  "aoti_torch_dtype_float64", "aoti_torch_dtype_float16",
        "aoti_torch_dtype_bfloat16", "aoti_torch_dtype_bool",    "aoti_torch_dtype_int8",
        "aoti_torch_dtype_int16",    "aoti_torch_dtype_int32",   "aoti_torch_dtype_int64",
        "aoti_torch_dtype_uint8",    "aoti_torch_dtype_uint16",  "aoti_torch_dtype_uint32",
        "aoti_torch_dtype_uint64",
    };
    for (int number = 0; number < Torch::kNumbers; ++number) {
        int32_t (*dtype)() = nullptr;
        if (!find(library, names[number], dtype)) return false;
        torch.dtypes[number] = dtype();
    }
    return true;
}

bool find_all(void* library) {
    decltype(&aoti_torch_device_type_cpu) cpu = nullptr;
    const bool found =
        find(library, "aoti_torch_library_init_impl", torch.library_init_impl) &&
        find(library, "torch_library_impl", torch.library_impl) &&
        find(library, "torch_call_dispatcher", torch.call_dispatcher) &&
        find(library, "aoti_torch_get_dim", torch.get_dim) &&
        find(library, "aoti_torch_get_sizes", torch.get_sizes) &&
        find(library, "aoti_torch_get_strides", torch.get_strides) &&
        find(library, "aoti_torch_get_dtype", torch.get_dtype) &&
        find(library, "torch_get_const_data_ptr", torch.get_const_data_ptr) &&
        find(library, "torch_get_mutable_data_ptr", torch.get_mutable_data_ptr) &&
        find(library, "aoti_torch_empty_strided", torch.empty_strided) &&
        find(library, "aoti_torch_new_tensor_handle", torch.new_tensor_handle) &&
        find(library, "aoti_torch_delete_tensor_object", torch.delete_tensor_object) &&
        find(library, "torch_string_c_str", torch.string_c_str) &&
        find(library, "torch_delete_string", torch.delete_string) &&
        find(library, "torch_get_num_threads", torch.get_num_threads) &&
        find(library, "aoti_torch_device_type_cpu", cpu) && find_dtypes(library);
    if (found) torch.cpu = cpu();
    return found;
}

}  // namespace

bool register_torch_operators(const char* library) {
    void* loaded = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (loaded == nullptr || !find_all(loaded)) return false;
    TorchLibraryHandle operators = nullptr;  // for as long as the process lives
    need(torch.library_init_impl("crossent", "CPU", "crossent", 0, &operators));
    need(torch.library_impl(operators, "linear_loss", &linear_loss, kVersion));
    need(torch.library_impl(operators, "linear_loss_value", &linear_loss, kVersion));
    need(torch.library_impl(operators, "linear_loss_gradient", &linear_loss_gradient, kVersion));
    return true;
}

}  // namespace crossent
