// What reading and writing token-bin files share.
#pragma once

#include "tempra/dtype.h"

namespace tempra::data {

// DtypeError unless u32 or u16.
void check_token_dtype(DType dtype);

}  // namespace tempra::data
