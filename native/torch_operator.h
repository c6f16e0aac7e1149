// The operators that torch.compile and torch.export record, as PyTorch calls them.
#pragma once

namespace crossent {

// Registers kernels for crossent::linear_loss, linear_loss_value and linear_loss_gradient on CPUs.
// Finds PyTorch's functions by a library that is linked to them. False where it lacks some.
bool register_torch_operators(const char* library);

}  // namespace crossent
