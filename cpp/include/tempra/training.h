// Whether this build trains. A library built with TEMPRA_ENABLE_TRAINING=OFF has tensors, forward
// operations and file I/O; whatever would train raises TrainingDisabled.
#pragma once

#include "tempra/error.h"

namespace tempra {

[[nodiscard]] constexpr bool is_enabled() { return TEMPRA_TRAINING != 0; }

inline void require_training(const char* operation) {
    TEMPRA_CHECK(TrainingDisabled, is_enabled(),
                 "{}: this library was built with TEMPRA_ENABLE_TRAINING=OFF; install a build with "
                 "training enabled",
                 operation);
}

}  // namespace tempra
