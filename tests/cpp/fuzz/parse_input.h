// The functions under fuzzing, one per format. Each takes any bytes: a FormatError is a correct
// answer, a crash, a sanitizer report or another exception is a bug. Shared by the libFuzzer
// targets and by the test that replays their corpora.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tempra::fuzz {

// A violated property must stop the fuzzer.
void require(bool condition);

void parse_abi_checkpoint(const std::uint8_t* data, std::size_t size);
// The first two bytes choose the format and where the file is cut into the pieces that it is read
// in.
void parse_instruction_records(const std::uint8_t* data, std::size_t size);
void parse_json_reader(const std::uint8_t* data, std::size_t size);
// The first byte chooses the longest record, the second where the file is cut.
void parse_json_records(const std::uint8_t* data, std::size_t size);
void parse_safetensors(const std::uint8_t* data, std::size_t size);
void parse_token_bin(const std::uint8_t* data, std::size_t size);
void parse_token_bin_sidecar(const std::uint8_t* data, std::size_t size);
void parse_token_block(const std::uint8_t* data, std::size_t size);
// Each file is parsed as it is and with its sizes and checksums repaired.
void parse_wdbx_v2(const std::uint8_t* data, std::size_t size);
void parse_wdbx_v3(const std::uint8_t* data, std::size_t size);

}  // namespace tempra::fuzz
