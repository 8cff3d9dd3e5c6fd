#include "tempra/data/abi_checkpoint.h"

#include <gtest/gtest.h>

#include "wdbx_bytes.h"

namespace tempra::data {
namespace {

std::vector<float> floats(std::span<const std::byte> bytes) {
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

std::string error_of_checkpoint(const std::string& file) {
    const std::vector<char> exact(file.begin(), file.end());
    return error_of<FormatError>(
        [&] { (void)parse_abi_checkpoint(std::as_bytes(std::span(exact)), "f"); });
}

TEST(AbiCheckpoint, WeightsOfTheOriginalProgram) {
    const AbiCheckpointFile file(golden_path("abic.ckpt"));
    const AbiCheckpoint& found = file.contents();
    EXPECT_FALSE(found.has_moments);
    EXPECT_EQ(found.step, 42U);
    EXPECT_EQ(found.timestamp, 1700000000U);
    EXPECT_EQ(floats(found.weights), (std::vector<float>{0.5F, -1.25F, 3.0e-8F, 65504.0F}));
    EXPECT_TRUE(found.first_moments.empty());
}

TEST(AbiCheckpoint, TrainerStateOfTheOriginalProgram) {
    const AbiCheckpointFile file(golden_path("ablc.ckpt"));
    const AbiCheckpoint& found = file.contents();
    EXPECT_TRUE(found.has_moments);
    EXPECT_EQ(found.step, 7U);
    EXPECT_EQ(found.epoch, 2U);
    EXPECT_EQ(found.tokens_processed, 12345678901U);
    EXPECT_EQ(found.timestamp, 0U);
    EXPECT_EQ(floats(found.weights), (std::vector<float>{0.5F, -1.25F, 3.0e-8F, 65504.0F}));
    EXPECT_EQ(floats(found.first_moments), (std::vector<float>{0.1F, 0.2F, -0.3F, 0.0F}));
    EXPECT_EQ(floats(found.second_moments), (std::vector<float>{0.01F, 0.02F, 0.03F, 1.0e-12F}));
}

TEST(AbiCheckpoint, WrongMagicOrVersion) {
    for (const std::string name : {"abic.ckpt", "ablc.ckpt"}) {
        std::string file = golden(name);
        set(file, 4, std::uint16_t{2});
        EXPECT_EQ(error_of_checkpoint(file), "f: UnsupportedVersion: version 2, 1 is known");
        file[2] = 'X';
        EXPECT_EQ(error_of_checkpoint(file), "f: InvalidFormat: begins with neither ABIC nor ABLC");
    }
}

TEST(AbiCheckpoint, EveryShorterFile) {
    for (const std::string name : {"abic.ckpt", "ablc.ckpt"}) {
        const std::string file = golden(name);
        for (size_t size = 0; size < file.size(); ++size) {
            EXPECT_NE(error_of_checkpoint(file.substr(0, size)).find("f: EndOfData: "),
                      std::string::npos)
                << name << " " << size;
        }
    }
    EXPECT_EQ(error_of_checkpoint(golden("abic.ckpt").substr(0, 41)),
              "f: EndOfData: 4 weights need 16 bytes, 15 are left");
    EXPECT_EQ(error_of_checkpoint(golden("ablc.ckpt").substr(0, 77)),
              "f: EndOfData: 4 first moments need 16 bytes, 15 are left");
    EXPECT_EQ(error_of_checkpoint(golden("ablc.ckpt").substr(0, 93)),
              "f: EndOfData: 4 second moments need 16 bytes, 15 are left");
}

TEST(AbiCheckpoint, BytesAfterTheLastArray) {
    EXPECT_EQ(error_of_checkpoint(golden("abic.ckpt") + "x"),
              "f: InvalidFormat: 1 bytes after the last array, where the file is to end");
    EXPECT_EQ(error_of_checkpoint(golden("ablc.ckpt") + "1234"),
              "f: InvalidFormat: 4 bytes after the last array, where the file is to end");
}

// 4 * count would be small in 32 bits.
TEST(AbiCheckpoint, CountsAreNotTrusted) {
    std::string file = golden("abic.ckpt");
    set(file, 22, std::uint32_t{0x40000004});
    EXPECT_EQ(error_of_checkpoint(file),
              "f: EndOfData: 1073741828 weights need 4294967312 bytes, 16 are left");
}

}  // namespace
}  // namespace tempra::data
