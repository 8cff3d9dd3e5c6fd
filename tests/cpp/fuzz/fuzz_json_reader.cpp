#include "fuzz/parse_input.h"

extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(
    const std::uint8_t* data, std::size_t size) {
    tempra::fuzz::parse_json_reader(data, size);
    return 0;
}
