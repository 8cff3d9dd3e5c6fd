// Where memory lives.
#pragma once

#include <cstdint>
#include <ostream>

namespace tempra {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
    DeviceType type = DeviceType::cpu;
    std::int16_t index = 0;

    friend constexpr bool operator==(const Device&, const Device&) = default;
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) {
    if (device.type == DeviceType::cpu) return out << "cpu";
    return out << "cuda:" << device.index;
}

}  // namespace tempra
