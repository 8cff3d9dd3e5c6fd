// Streams that are being captured into graphs, and the graphs: abi.h says what they promise.
#pragma once

#include "devices.h"

namespace tempra::cuda {

TempraCudaStatus capture_begin(void* stream) noexcept;
TempraCudaStatus capture_end(void* stream, void** graph) noexcept;
TempraCudaStatus graph_launch(void* graph, void* stream) noexcept;
TempraCudaStatus graph_destroy(void* graph) noexcept;

[[nodiscard]] bool is_captured(void* stream) noexcept;
[[nodiscard]] bool has_captured_stream(const DeviceState& device) noexcept;
// The status of `call`, which would have waited, or copied from or to the host.
TempraCudaStatus refuse_captured(const char* call) noexcept;

}  // namespace tempra::cuda
