#include "fused/parameter_access.h"

#include <utility>

#include "autograd/autograd_record.h"
#include "tempra/autograd.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"

namespace tempra {

Tensor parameter_for(const Tensor& parameter, DType dtype) {
    const GradModeGuard off(false);
    if (parameter.dtype() == dtype) return parameter.detach();
    if (is_half(dtype) && has_autograd_record(parameter)) {
        AutogradRecord& record = autograd_record(parameter);
        if (record.low_precision.defined() && record.low_precision.dtype() == dtype) {
            if (record.low_precision_version != parameter.version()) {
                copy_(record.low_precision, parameter);
                record.low_precision_version = parameter.version();
            }
            return record.low_precision;
        }
    }
    const bool rounded_by_kernels = dtype == DType::bf16 && parameter.dtype() == DType::f32 &&
                                    parameter.device().type == DeviceType::cpu;
    if (rounded_by_kernels) return parameter.detach();
    return cast(parameter, dtype);
}

bool lie_side_by_side(std::span<const Tensor> tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) {
        if (!tensors[i].is_contiguous() || tensors[i].dtype() != tensors[0].dtype()) return false;
        if (i == 0) continue;
        const char* previous_end = tensors[i - 1].data_as<const char>() + tensors[i - 1].bytes();
        if (TensorAccess::impl(tensors[i]).storage != TensorAccess::impl(tensors[0]).storage ||
            tensors[i].data_as<const char>() != previous_end) {
            return false;
        }
    }
    return true;
}

Tensor joined(std::span<const Tensor> tensors) {
    const GradModeGuard off(false);
    if (tensors.size() == 1) return tensors[0];
    if (!lie_side_by_side(tensors)) return concatenate({tensors.begin(), tensors.end()}, 0);
    Shape sizes = tensors[0].sizes();
    for (const Tensor& tensor : tensors.subspan(1)) sizes[0] += tensor.size(0);
    return TensorAccess::alias(tensors[0], sizes, contiguous_strides(sizes),
                               TensorAccess::impl(tensors[0]).offset);
}
TensorView transposed(const Tensor& matrix) {
    TensorView view = matrix.view();
    std::swap(view.sizes[0], view.sizes[1]);
    std::swap(view.strides[0], view.strides[1]);
    return view;
}

}  // namespace tempra
