// Parsers must not allocate what a file merely claims to need: over every file of the fuzzers'
// corpora, and over files whose every four bytes in turn claim the most, the memory in use stays
// within a multiple of the file's own size.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <new>

#include "fuzz/parse_input.h"
#include "temporary_directory.h"

namespace {

// Bytes in use, and the most there were, of what this program's `new` hands out; the size of each
// block is kept in front of it.
std::int64_t bytes_in_use = 0;
std::int64_t most_in_use = 0;
constexpr std::size_t kFront = alignof(std::max_align_t);

void* allocate(std::size_t size) {
    auto* block = static_cast<std::size_t*>(std::malloc(size + kFront));
    if (block == nullptr) throw std::bad_alloc();
    *block = size;
    bytes_in_use += static_cast<std::int64_t>(size);
    if (bytes_in_use > most_in_use) most_in_use = bytes_in_use;
    return reinterpret_cast<char*>(block) + kFront;
}

void release(void* address) noexcept {
    if (address == nullptr) return;
    void* block = static_cast<char*>(address) - kFront;
    bytes_in_use -= static_cast<std::int64_t>(*static_cast<std::size_t*>(block));
    std::free(block);
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    try {
        return allocate(size);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* address) noexcept { release(address); }
void operator delete[](void* address) noexcept { release(address); }
void operator delete(void* address, std::size_t /*size*/) noexcept { release(address); }
void operator delete[](void* address, std::size_t /*size*/) noexcept { release(address); }

namespace tempra::fuzz {
namespace {

using Parse = std::function<void(const std::uint8_t*, std::size_t)>;

// Copies that the parse functions make, lists of what is found, error messages.
constexpr std::int64_t kPerByte = 40, kAlways = 32 << 10;

void expect_bounded(const std::string& name, const std::string& text, const Parse& parse) {
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    const std::int64_t before = bytes_in_use;
    most_in_use = before;
    parse(bytes.data(), bytes.size());
    const std::int64_t used = most_in_use - before;
    EXPECT_LE(used, kAlways + kPerByte * std::ssize(bytes)) << name << ", " << bytes.size();
}

void check(const std::string& format, const Parse& parse) {
    int files = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(TEMPRA_FUZZ_CORPUS) + "/" + format)) {
        const std::string text = read_text(entry.path().string());
        expect_bounded(entry.path().string(), text, parse);
        for (size_t place = 0; place + 4 <= text.size(); ++place) {
            std::string greedy = text;
            greedy.replace(place, 4, "\xFF\xFF\xFF\x3F");
            expect_bounded(entry.path().string(), greedy, parse);
        }
        ++files;
    }
    EXPECT_GT(files, 0);
}

TEST(AllocationBound, TheCountItselfWorks) {
    const std::int64_t before = bytes_in_use;
    most_in_use = before;
    { const std::vector<char> block(1 << 20); }
    EXPECT_GE(most_in_use - before, 1 << 20);
    EXPECT_EQ(bytes_in_use, before);
}

TEST(AllocationBound, AbiCheckpoint) { check("abi_checkpoint", parse_abi_checkpoint); }
TEST(AllocationBound, InstructionRecords) {
    check("instruction_records", parse_instruction_records);
}
TEST(AllocationBound, JsonReader) { check("json_reader", parse_json_reader); }
TEST(AllocationBound, JsonRecords) { check("json_records", parse_json_records); }
TEST(AllocationBound, Safetensors) { check("safetensors", parse_safetensors); }
TEST(AllocationBound, TokenBin) { check("token_bin", parse_token_bin); }
TEST(AllocationBound, TokenBinSidecar) { check("token_bin_sidecar", parse_token_bin_sidecar); }
TEST(AllocationBound, TokenBlock) { check("token_block", parse_token_block); }
TEST(AllocationBound, WdbxV2) { check("wdbx_v2", parse_wdbx_v2); }
TEST(AllocationBound, WdbxV3) { check("wdbx_v3", parse_wdbx_v3); }

}  // namespace
}  // namespace tempra::fuzz
