// Emulated device memory may be touched only while one of these lives: host code that follows a
// device pointer ends with a segmentation fault, as on a machine with a GPU.
#pragma once

namespace tempra::cuda::emulation {

void open_device_memory();
void close_device_memory();

class DeviceAccess {
  public:
    DeviceAccess() { open_device_memory(); }
    ~DeviceAccess() { close_device_memory(); }
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace tempra::cuda::emulation
