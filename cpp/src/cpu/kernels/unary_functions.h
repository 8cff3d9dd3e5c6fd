// The unary functions and their derivatives as loops over contiguous runs.
#pragma once

#include "dispatch/kernel_table.h"
#include "kernels/strided_loop.h"

namespace tempra::cpu::TEMPRA_ISA {

// out = f(x); null where the dtype has no such function.
BlockFunction unary_function(UnaryOp op, DType dtype);

// out = g f'; operands: out, then the input x or the output y (derivative_uses_output), then g.
BlockFunction derivative_function(UnaryOp op, DType dtype);

}  // namespace tempra::cpu::TEMPRA_ISA
