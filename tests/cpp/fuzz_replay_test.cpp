// Feeds every file of the fuzzers' corpora to its parser, so that each sanitizer build covers
// them, and also every shorter beginning of each file, in which most parsers' mistakes lie.
#include <gtest/gtest.h>

#include <functional>

#include "fuzz/parse_input.h"
#include "temporary_directory.h"

namespace tempra::fuzz {
namespace {

using Parse = std::function<void(const std::uint8_t*, std::size_t)>;

void replay(const std::string& name, const Parse& parse, int expected_files) {
    int files = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(TEMPRA_FUZZ_CORPUS) + "/" + name)) {
        const std::string text = read_text(entry.path().string());
        for (size_t size = 0; size <= text.size(); ++size) {
            // An exact copy on the heap, so that reading past the end is seen.
            const std::vector<std::uint8_t> bytes(text.begin(),
                                                  text.begin() + static_cast<std::ptrdiff_t>(size));
            parse(bytes.data(), bytes.size());
        }
        ++files;
    }
    EXPECT_GE(files, expected_files) << name;
}

TEST(FuzzReplay, AbiCheckpoint) { replay("abi_checkpoint", parse_abi_checkpoint, 5); }
TEST(FuzzReplay, InstructionRecords) {
    replay("instruction_records", parse_instruction_records, 20);
}
TEST(FuzzReplay, JsonReader) { replay("json_reader", parse_json_reader, 20); }
TEST(FuzzReplay, JsonRecords) { replay("json_records", parse_json_records, 20); }
TEST(FuzzReplay, Safetensors) { replay("safetensors", parse_safetensors, 20); }
TEST(FuzzReplay, TokenBin) { replay("token_bin", parse_token_bin, 5); }
TEST(FuzzReplay, TokenBinSidecar) { replay("token_bin_sidecar", parse_token_bin_sidecar, 10); }
TEST(FuzzReplay, TokenBlock) { replay("token_block", parse_token_block, 5); }
TEST(FuzzReplay, WdbxV2) { replay("wdbx_v2", parse_wdbx_v2, 20); }
TEST(FuzzReplay, WdbxV3) { replay("wdbx_v3", parse_wdbx_v3, 20); }

}  // namespace
}  // namespace tempra::fuzz
