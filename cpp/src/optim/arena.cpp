#include "tempra/arena.h"

#include <unordered_set>

#include "autograd/autograd_record.h"
#include "dispatch/select.h"
#include "memory/caching_pool.h"
#include "tempra/autograd.h"
#include "tempra/cuda.h"
#include "tempra/ops/creation.h"
#include "tempra/ops/layout.h"
#include "tensor/half_dtypes.h"

namespace tempra {

ParameterArena::ParameterArena(const std::vector<std::pair<std::string, Tensor>>& parameters,
                               std::optional<DType> low_precision) {
    TEMPRA_CHECK(ConfigError, !parameters.empty(), "arena: no parameters given");
    TEMPRA_CHECK(DtypeError, !low_precision || is_half(*low_precision),
                 "arena: a copy of dtype {} asked for; needs bf16 or f16", *low_precision);
    std::unordered_set<std::string> names;
    std::unordered_set<const void*> tensors;
    std::int64_t total = 0;
    for (const auto& [name, parameter] : parameters) {
        TEMPRA_CHECK(ConfigError, names.insert(name).second, "arena: two parameters are named {}",
                     name);
        TEMPRA_CHECK(
            ConfigError, tensors.insert(parameter.identity()).second,
            "arena: parameter {} is the same tensor as an earlier one; give tied parameters "
            "once",
            name);
        TEMPRA_CHECK(DtypeError, parameter.dtype() == DType::f32,
                     "arena: parameter {} has dtype {}; needs f32", name, parameter.dtype());
        TEMPRA_CHECK(Error, parameter.is_leaf(), "arena: parameter {} was computed by an operation",
                     name);
        if (parameter.device() != parameters[0].second.device()) {
            raise_mixed_devices("arena", parameters[0].second.device(), parameter.device());
        }
        segments_.push_back({name, total, parameter.numel()});
        total += parameter.numel();
    }
    const GradModeGuard off(false);
    const Device device = parameters[0].second.device();
    data_ = empty({total}, DType::f32, device);
    gradients_ = zeros({total}, DType::f32, device);
    if (low_precision) low_precision_copy_ = empty({total}, *low_precision, device);
    for (size_t i = 0; i < parameters.size(); ++i) {
        const Tensor& parameter = parameters[i].second;
        const Segment& segment = segments_[i];
        const Strides strides = contiguous_strides(parameter.sizes());
        copy_(TensorAccess::alias(data_, parameter.sizes(), strides, segment.offset), parameter);
        TensorAccess::rebind(parameter, TensorAccess::impl(data_).storage, segment.offset);
        AutogradRecord& record = autograd_record(parameter);
        record.arena = lifetime_;
        record.grad = TensorAccess::alias(gradients_, parameter.sizes(), strides, segment.offset);
        record.grad_is_unwritten = false;
        record.low_precision = Tensor();
        if (low_precision) {
            record.low_precision = TensorAccess::alias(low_precision_copy_, parameter.sizes(),
                                                       strides, segment.offset);
            copy_(record.low_precision, parameter);
            record.low_precision_version = parameter.version();
        }
        parameters_.push_back(parameter);
    }
    // What held the parameters until now is as large as the model and fits no activation.
    if (device.type == DeviceType::cpu) {
        pool_trim();
    } else {
        release_free_cuda_memory(device.index);
    }
}

void ParameterArena::check_parameters() const {
    for (size_t i = 0; i < parameters_.size(); ++i) {
        TEMPRA_CHECK(Error, autograd_record(parameters_[i]).arena.lock() == lifetime_,
                     "arena: parameter {} belongs to an optimizer that was made later; use that "
                     "one",
                     segments_[i].name);
    }
}

Tensor ParameterArena::gradients() const {
    for (const Tensor& parameter : parameters_) {
        AutogradRecord& record = autograd_record(parameter);
        if (record.arena.lock() == lifetime_) write_zero_gradient(record);
    }
    return gradients_;
}

// Whether a tensor outside of the arena and its parameters shows the gradients' bytes.
bool ParameterArena::gradients_are_held() const {
    const TensorImpl& all = TensorAccess::impl(gradients_);
    long own = 1;
    for (const Tensor& parameter : parameters_) {
        const AutogradRecord& record = autograd_record(parameter);
        if (record.arena.lock() != lifetime_) return true;
        const TensorImpl& part = TensorAccess::impl(record.grad);
        if (!part.unique() || part.storage.get() != all.storage.get()) return true;
        ++own;
    }
    return !all.unique() || all.storage->references() != own;
}

void ParameterArena::zero_gradients() {
    const GradModeGuard off(false);
    const bool lazily = gradients_.device().type == DeviceType::cpu && !gradients_are_held();
    if (!lazily) fill_(gradients_, 0);
    if (lazily) gradients_.bump_version();
    for (const Tensor& parameter : parameters_) {
        AutogradRecord& record = autograd_record(parameter);
        if (record.arena.lock() == lifetime_) record.grad_is_unwritten = lazily;
    }
}

void ParameterArena::refresh_low_precision_copy() {
    if (!low_precision_copy_.defined()) return;
    const GradModeGuard off(false);
    for (const Tensor& parameter : parameters_) {
        AutogradRecord& record = autograd_record(parameter);
        if (record.low_precision_version == parameter.version()) continue;
        copy_(record.low_precision, parameter);
        record.low_precision_version = parameter.version();
    }
}

void ParameterArena::mark_written(const std::vector<bool>& frozen, bool copy_is_current) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
        if (i < frozen.size() && frozen[i]) continue;
        Tensor& parameter = parameters_[i];
        parameter.bump_version();
        if (copy_is_current) {
            autograd_record(parameter).low_precision_version = parameter.version();
        }
    }
}

}  // namespace tempra
