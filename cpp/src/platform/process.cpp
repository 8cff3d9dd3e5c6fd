#include "platform/process.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace tempra::platform {

std::int64_t process_id() { return getpid(); }

bool process_exists(std::int64_t id) {
    return kill(static_cast<pid_t>(id), 0) == 0 || errno == EPERM;
}

}  // namespace tempra::platform
