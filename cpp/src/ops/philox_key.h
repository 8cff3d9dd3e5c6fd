// Where the random numbers of one operation begin, as its kernel takes it.
#pragma once

#include "dispatch/kernel_table.h"
#include "tempra/random.h"

namespace tempra {

// Takes one ordinal of the generator, for an operation on `device`.
[[nodiscard]] PhiloxKey take_key(Generator& generator, Device device);

}  // namespace tempra
