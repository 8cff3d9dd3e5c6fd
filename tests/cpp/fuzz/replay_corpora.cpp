// Feeds the files below one folder, corpus/FORMAT/*, to the parser of their format; the program
// that line coverage is measured with. Exit status 0 unless a parser fails.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/parse_input.h"

namespace {

void replay(const std::filesystem::path& folder,
            void (*parse)(const std::uint8_t* data, std::size_t size)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::vector<char> text{std::istreambuf_iterator<char>(file), {}};
        const std::vector<std::uint8_t> bytes(text.begin(), text.end());
        parse(bytes.data(), bytes.size());
    }
}

}  // namespace

int main(int argument_count, char** arguments) {
    if (argument_count != 2) return EXIT_FAILURE;
    const std::filesystem::path corpora = arguments[1];
    replay(corpora / "abi_checkpoint", tempra::fuzz::parse_abi_checkpoint);
    replay(corpora / "instruction_records", tempra::fuzz::parse_instruction_records);
    replay(corpora / "json_reader", tempra::fuzz::parse_json_reader);
    replay(corpora / "json_records", tempra::fuzz::parse_json_records);
    replay(corpora / "safetensors", tempra::fuzz::parse_safetensors);
    replay(corpora / "token_bin", tempra::fuzz::parse_token_bin);
    replay(corpora / "token_bin_sidecar", tempra::fuzz::parse_token_bin_sidecar);
    replay(corpora / "token_block", tempra::fuzz::parse_token_block);
    replay(corpora / "wdbx_v2", tempra::fuzz::parse_wdbx_v2);
    replay(corpora / "wdbx_v3", tempra::fuzz::parse_wdbx_v3);
    return EXIT_SUCCESS;
}
