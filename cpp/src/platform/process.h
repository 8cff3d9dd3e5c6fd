// Processes by number.
#pragma once

#include <cstdint>

namespace tempra::platform {

[[nodiscard]] std::int64_t process_id();
// Also true for a process of another user.
[[nodiscard]] bool process_exists(std::int64_t id);

}  // namespace tempra::platform
