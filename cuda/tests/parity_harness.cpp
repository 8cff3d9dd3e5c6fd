#include "parity_harness.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "dispatch/select.h"

namespace tempra::cuda::parity {

namespace {

std::mt19937& engine() {
    static std::mt19937 generator(20);
    return generator;
}

float draw(Values values) {
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> unit(-0.95F, 0.95F);
    switch (values) {
        case Values::normal: return normal(engine());
        case Values::positive: return std::abs(normal(engine())) + 0.05F;
        case Values::unit: return unit(engine());
        case Values::zero: return 0;
    }
    return 0;
}

void write_element(void* to, DType dtype, float value) {
    const auto put = [to](auto element) { std::memcpy(to, &element, sizeof(element)); };
    switch (dtype) {
        case DType::f32: put(value); break;
        case DType::bf16: put(bfloat16::from_float(value)); break;
        case DType::f16: put(float16::from_float(value)); break;
        case DType::f64: put(static_cast<double>(value)); break;
        case DType::i64: put(static_cast<std::int64_t>(value * 10)); break;
        case DType::i32: put(static_cast<std::int32_t>(value * 10)); break;
        case DType::boolean: put(static_cast<std::uint8_t>(value > 0)); break;
        default: put(static_cast<std::uint8_t>(0)); break;
    }
}

// As a double; meaningful for floating dtypes.
double read_element(const std::byte* from, DType dtype) {
    const auto get = [from]<class T>(T element) {
        std::memcpy(&element, from, sizeof(element));
        return element;
    };
    switch (dtype) {
        case DType::f32: return static_cast<double>(get(0.0F));
        case DType::bf16: return static_cast<double>(get(bfloat16{}).to_float());
        case DType::f16: return static_cast<double>(get(float16{}).to_float());
        case DType::f64: return get(0.0);
        default: return 0;
    }
}

// The number of the first element that differs and how, "" when none does; `worst` is the largest
// |got - want| / max(1, |want|) seen.
std::string compare(const Operand& want, const std::vector<std::byte>& got, Tolerance tolerance,
                    double& worst) {
    const DType dtype = want.view.dtype;
    const auto size = static_cast<std::size_t>(size_of(dtype));
    std::string first;
    for (std::size_t at = 0; at + size <= want.bytes.size(); at += size) {
        if (std::memcmp(&want.bytes[at], &got[at], size) == 0) continue;
        const double a = read_element(&got[at], dtype), b = read_element(&want.bytes[at], dtype);
        bool near = false;
        if (is_floating(dtype)) {
            near = (std::isnan(a) && std::isnan(b)) || a == b ||
                   std::abs(a - b) <= tolerance.absolute + tolerance.relative * std::abs(b);
            if (tolerance.relative == 0 && tolerance.absolute == 0)
                near = std::isnan(a) && std::isnan(b);
            const double error = std::abs(a - b) / std::max(1.0, std::abs(b));
            if (std::isfinite(error)) worst = std::max(worst, error);
        }
        if (near || !first.empty()) continue;
        char text[160];
        std::snprintf(text, sizeof(text), "element %zu is %.9g, the CPU's is %.9g", at / size, a,
                      b);
        first = text;
    }
    return first;
}

// The same numbers in another floating dtype.
Operand converted(const Operand& operand, DType from, DType to) {
    if (operand.view.dtype != from || !operand.view.present()) return operand;
    Operand result = operand;
    result.view.dtype = to;
    const auto step = static_cast<std::size_t>(size_of(from));
    const auto other = static_cast<std::size_t>(size_of(to));
    result.bytes.assign(operand.bytes.size() / step * other, std::byte{});
    for (std::size_t i = 0; i < operand.bytes.size() / step; ++i) {
        write_element(&result.bytes[i * other], to,
                      static_cast<float>(read_element(&operand.bytes[i * step], from)));
    }
    return result;
}

bool has_float16(const std::vector<Operand>& operands) {
    return std::any_of(operands.begin(), operands.end(), [](const Operand& operand) {
        return operand.view.present() && operand.view.dtype == DType::f16;
    });
}

// Device copies of the operands, given back at the end.
class DeviceOperands {
  public:
    DeviceOperands(Backend& backend, const std::vector<Operand>& operands)
        : backend_(backend), operands_(operands) {
        for (const Operand& operand : operands) {
            TensorView view = operand.view;
            view.device = {DeviceType::cuda, 0};
            const auto bytes = static_cast<std::int64_t>(operand.bytes.size());
            if (view.present() && problem.empty()) {
                problem = backend.allocate(bytes, &view.data);
                if (problem.empty())
                    problem = backend.upload(view.data, operand.bytes.data(), bytes);
            }
            views.push_back(view);
        }
    }
    DeviceOperands(const DeviceOperands&) = delete;
    DeviceOperands& operator=(const DeviceOperands&) = delete;
    ~DeviceOperands() {
        for (const TensorView& view : views) {
            if (view.data != nullptr) backend_.release(view.data);
        }
    }

    std::vector<std::vector<std::byte>> download() {
        std::vector<std::vector<std::byte>> all;
        for (std::size_t i = 0; i < operands_.size(); ++i) {
            all.emplace_back(operands_[i].bytes.size());
            if (!views[i].present() || !problem.empty()) continue;
            problem = backend_.download(all[i].data(), views[i].data,
                                        static_cast<std::int64_t>(all[i].size()));
        }
        if (problem.empty()) problem = backend_.synchronize();
        return all;
    }

    Views views;
    std::string problem;

  private:
    Backend& backend_;
    const std::vector<Operand>& operands_;
};

// Runs on the backend; the operands afterwards.
std::vector<std::vector<std::byte>> run(Backend& backend, const std::vector<Operand>& operands,
                                        const Call& call, std::string& problem) {
    DeviceOperands device(backend, operands);
    problem = device.problem;
    if (!problem.empty()) return {};
    const KernelStatus status = call(backend.kernels(), backend.context(), device.views);
    if (status != kKernelOk) {
        problem = "status " + std::to_string(status) + ": " + backend.last_error();
        return {};
    }
    std::vector<std::vector<std::byte>> after = device.download();
    problem = device.problem;
    return after;
}

}  // namespace

Operand strided(DType dtype, std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
                Values values) {
    Operand operand;
    operand.view.dtype = dtype;
    operand.view.dimensions = static_cast<std::int32_t>(sizes.size());
    std::int64_t reach = 1;
    for (std::size_t d = 0; d < sizes.size(); ++d) {
        operand.view.sizes[d] = sizes[d];
        operand.view.strides[d] = strides[d];
        reach += (sizes[d] - 1) * strides[d];
    }
    const std::int64_t size = size_of(dtype);
    operand.bytes.resize(static_cast<std::size_t>(reach * size));
    for (std::int64_t i = 0; i < reach; ++i) {
        write_element(&operand.bytes[static_cast<std::size_t>(i * size)], dtype, draw(values));
    }
    return operand;
}

Operand tensor(DType dtype, std::vector<std::int64_t> sizes, Values values) {
    std::vector<std::int64_t> strides(sizes.size());
    std::int64_t stride = 1;
    for (std::size_t d = sizes.size(); d-- > 0;) {
        strides[d] = stride;
        stride *= sizes[d];
    }
    return strided(dtype, std::move(sizes), std::move(strides), values);
}

Operand indices(DType dtype, std::int64_t count, std::int64_t limit) {
    Operand operand = tensor(dtype, {count}, Values::zero);
    for (std::int64_t i = 0; i < count; ++i) {
        const auto index = static_cast<std::int64_t>(engine()()) % limit;
        // Little-endian: the low bytes of either width.
        std::memcpy(&operand.bytes[static_cast<std::size_t>(i * size_of(dtype))], &index,
                    static_cast<std::size_t>(size_of(dtype)));
    }
    return operand;
}

Operand raw(const void* data, std::size_t bytes) {
    Operand operand = tensor(DType::u8, {static_cast<std::int64_t>(bytes)}, Values::zero);
    std::memcpy(operand.bytes.data(), data, bytes);
    return operand;
}

Operand raw_floats(const void* data, std::size_t bytes) {
    Operand operand = tensor(DType::f32, {static_cast<std::int64_t>(bytes / 4)}, Values::zero);
    std::memcpy(operand.bytes.data(), data, operand.bytes.size());
    return operand;
}

bool Suite::is_wanted(const std::string& name) const {
    return only_.empty() || std::any_of(only_.begin(), only_.end(), [&](const std::string& part) {
               return name.find(part) != std::string::npos;
           });
}

void Suite::check(const std::string& name, const std::vector<Operand>& operands,
                  Tolerance tolerance, const Call& call) {
    if (!is_wanted(name)) return;
    if (has_float16(operands) && backend_.context().stream == nullptr) return;
    std::vector<Operand> host = operands;
    Views views;
    for (Operand& operand : host) {
        operand = converted(operand, DType::f16, DType::f32);
        views.push_back(operand.view);
        if (operand.view.present()) views.back().data = operand.bytes.data();
    }
    const KernelStatus status = call(cpu_kernel_table(cpu::Isa::baseline), {}, views);
    if (status != kKernelOk) {
        report(name, "the CPU's kernel gives status " + std::to_string(status), 0);
        return;
    }
    for (std::size_t i = 0; i < host.size(); ++i) {
        if (operands[i].view.dtype == DType::f16)
            host[i] = converted(host[i], DType::f32, DType::f16);
    }
    double worst = 0;
    std::string problem;
    const auto once = run(backend_, operands, call, problem);
    for (std::size_t i = 0; i < host.size() && problem.empty(); ++i) {
        problem = compare(host[i], once[i], tolerance, worst);
        if (!problem.empty()) problem = "operand " + std::to_string(i) + ": " + problem;
    }
    if (problem.empty() && run(backend_, operands, call, problem) != once && problem.empty()) {
        problem = "a second run differs from the first";
    }
    report(name, problem, worst);
}

void Suite::check_fault(const std::string& name, const std::vector<Operand>& operands,
                        const std::string& part, const Call& call) {
    if (!is_wanted(name)) return;
    std::string problem;
    static_cast<void>(run(backend_, operands, call, problem));
    if (problem.find(part) != std::string::npos) {
        problem.clear();
    } else {
        problem = "'" + problem + "' was reported, not '" + part + "'";
    }
    report(name, problem, 0);
}

void Suite::report(const std::string& name, const std::string& problem, double worst) {
    ++cases_;
    failures_ += problem.empty() ? 0 : 1;
    std::printf("%-64s %-8s %9.2e  %s\n", name.c_str(), problem.empty() ? "ok" : "MISMATCH", worst,
                problem.c_str());
}

}  // namespace tempra::cuda::parity
