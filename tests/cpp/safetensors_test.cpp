#include "tempra/io/safetensors.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "platform/files.h"
#include "temporary_directory.h"
#include "tempra/io/crc32.h"

namespace tempra::io {
namespace {

// File bytes: length, header, data.
std::string file_bytes(const std::string& header, const std::string& data) {
    const std::uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + header + data;
}

SafetensorsIndex parse(const std::string& bytes) {
    // An exact copy on the heap, so that reading past the end is seen by AddressSanitizer.
    const std::vector<char> copy(bytes.begin(), bytes.end());
    return parse_safetensors(copy.data(), std::ssize(copy), "f");
}

std::string error_in(const std::string& header, const std::string& data = "") {
    return error_of<FormatError>([&] { (void)parse(file_bytes(header, data)); });
}

std::string tensor(const std::string& rest) { return R"({"t":{)" + rest + "}}"; }

TEST(ParseSafetensors, ReadsTensorsInOrderOfTheirData) {
    const std::string header = R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},)"
                               R"("__metadata__":{"format":"pt"},)"
                               R"("a":{"data_offsets":[0,2],"shape":[],"dtype":"BF16"},)"
                               R"("empty":{"dtype":"I64","shape":[3,0],"data_offsets":[10,10]}}  )";
    const SafetensorsIndex index = parse(file_bytes(header, std::string(10, 'x')));
    ASSERT_EQ(index.entries.size(), 3U);
    EXPECT_EQ(index.entries[0].name, "a");
    EXPECT_EQ(index.entries[0].shape, Shape());
    EXPECT_EQ(index.entries[0].dtype, DType::bf16);
    EXPECT_EQ(index.entries[1].name, "b");
    EXPECT_EQ(index.entries[1].begin, 2);
    EXPECT_EQ(index.entries[1].end, 10);
    EXPECT_EQ(index.entries[2].shape, Shape({3, 0}));
    EXPECT_EQ(index.metadata.at("format"), "pt");
    EXPECT_EQ(index.data_offset, 8 + std::ssize(header));
    EXPECT_TRUE(parse(file_bytes("{}", "")).entries.empty());
}

TEST(ParseSafetensors, RefusesBrokenFraming) {
    const auto error = [](const std::string& bytes) {
        return error_of<FormatError>([&] { (void)parse(bytes); });
    };
    EXPECT_EQ(error(""), "f: 0 bytes are too few for a safetensors file");
    EXPECT_EQ(error("1234567"), "f: 7 bytes are too few for a safetensors file");
    EXPECT_EQ(error(std::string(8, '\0')),
              "f: the header does not begin with '{'; not a safetensors file?");
    EXPECT_EQ(
        error(std::string(16, '\xFF')),
        "f: a header of 18446744073709551615 bytes announced, at most 100000000 are allowed; not a "
        "safetensors file?");
    EXPECT_EQ(error(file_bytes("{}", "").substr(0, 9)),
              "f: a header of 2 bytes announced, the file has 1 left; the file is cut short");
    EXPECT_EQ(error(file_bytes(" {}", "")),
              "f: the header does not begin with '{'; not a safetensors file?");
    EXPECT_EQ(error(file_bytes("{}x", "")), "f: JSON, byte 2: text after the end of the value");
    EXPECT_EQ(error(file_bytes("{\"\xff\"", "")), "f: JSON, byte 2: invalid UTF-8");
    std::string announced = file_bytes("{}", "");
    const std::uint64_t over = 100'000'001;
    std::memcpy(announced.data(), &over, 8);
    EXPECT_NE(error(announced).find("at most 100000000"), std::string::npos);
}

TEST(ParseSafetensors, RefusesBadEntriesNamingTheTensor) {
    EXPECT_EQ(error_in(R"({"t":1})"), "f: tensor \"t\": an object is needed");
    EXPECT_EQ(error_in(tensor(R"("shape":[],"data_offsets":[0,4])")),
              "f: tensor \"t\": \"dtype\" is missing");
    EXPECT_EQ(error_in(tensor(R"("dtype":"F32","data_offsets":[0,4])")),
              "f: tensor \"t\": \"shape\" is missing");
    EXPECT_EQ(error_in(tensor(R"("dtype":"F32","shape":[])")),
              "f: tensor \"t\": \"data_offsets\" is missing");
    EXPECT_EQ(error_in(tensor(R"("dtype":"F32","shape":[],"data_offsets":[0,4],"x":0)")),
              "f: tensor \"t\": unknown key \"x\"");
    EXPECT_EQ(error_in(tensor(R"("dtype":"F8_E4M3")")),
              "f: tensor \"t\": unsupported dtype \"F8_E4M3\"; F64 F32 F16 BF16 I64 I32 U32 U16 U8 "
              "and BOOL "
              "can be read");
    EXPECT_NE(error_in(tensor(R"("dtype":"I16")")).find("unsupported dtype \"I16\""),
              std::string::npos);
    EXPECT_NE(error_in(tensor(R"("dtype":"f32")")).find("unknown dtype \"f32\""),
              std::string::npos);
    EXPECT_EQ(error_in(tensor(R"("shape":[2,-1])")),
              "f: tensor \"t\": negative size -1 in its shape");
    EXPECT_EQ(error_in(tensor(R"("shape":[1,1,1,1,1,1,1,1,1])")),
              "f: tensor \"t\": more than 8 dimensions");
    EXPECT_NE(error_in(tensor(R"("shape":[1.5])")).find("an integer of at most 63 bits"),
              std::string::npos);
    EXPECT_EQ(error_in(tensor(R"("data_offsets":[0,1,2])")),
              "f: tensor \"t\": more than two data_offsets");
    for (const char* offsets : {"[]", "[0]", "[-1,3]", "[4,0]"}) {
        EXPECT_EQ(error_in(tensor(std::string(R"("data_offsets":)") + offsets)),
                  "f: tensor \"t\": data_offsets must be [begin, end] with 0 <= begin <= end");
    }
    EXPECT_EQ(error_in(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])")),
              "f: tensor \"t\": f32 of shape [2] needs 8 bytes, data_offsets give 4");
    EXPECT_NE(error_in(R"({"__metadata__":{"a":1}})").find("a string expected"), std::string::npos);
    EXPECT_NE(error_in(R"({"t":{},"t":{}})").find("\"dtype\" is missing"), std::string::npos);
    EXPECT_NE(error_in(R"({"__metadata__":{"a":"1","a":"2"}})").find("appears twice"),
              std::string::npos);
}

TEST(ParseSafetensors, SizesDoNotWrap) {
    for (const char* shape :
         {"[4611686018427387904,4]", "[9223372036854775807,9223372036854775807]",
          "[4294967296,4294967296]", "[4611686018427387904,4,0]"}) {
        EXPECT_NE(error_in(tensor(std::string(R"("dtype":"F32","shape":)") + shape +
                                  R"(,"data_offsets":[0,0])"))
                      .find("overflows"),
                  std::string::npos)
            << shape;
    }
    EXPECT_NE(
        error_in(
            tensor(
                R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])"))
            .find("the file is cut short"),
        std::string::npos);
    EXPECT_NE(error_in(tensor(R"("data_offsets":[0,18446744073709551615])")).find("63 bits"),
              std::string::npos);
}

std::string two(const std::string& first, const std::string& second) {
    const auto entry = [](const std::string& range) {
        const size_t comma = range.find(',');
        const int bytes = std::stoi(range.substr(comma + 1)) - std::stoi(range.substr(0, comma));
        return R"({"dtype":"U8","shape":[)" + std::to_string(bytes) + R"(],"data_offsets":[)" +
               range + "]}";
    };
    return R"({"a":)" + entry(first) + R"(,"b":)" + entry(second) + "}";
}

TEST(ParseSafetensors, RangesMustTileTheData) {
    EXPECT_EQ(parse(file_bytes(two("0,2", "2,4"), "1234")).entries.size(), 2U);
    EXPECT_EQ(parse(file_bytes(two("2,4", "0,2"), "1234")).entries[0].name, "b");
    EXPECT_EQ(error_in(two("0,2", "3,4"), "1234"),
              "f: tensor \"b\": its data begins at byte 3, leaving a hole after the previous "
              "tensor's end at 2");
    EXPECT_EQ(error_in(two("1,2", "2,4"), "1234"),
              "f: tensor \"a\": its data begins at byte 1, leaving a hole after the previous "
              "tensor's end at 0");
    EXPECT_EQ(error_in(two("0,3", "2,4"), "1234"),
              "f: tensor \"b\": its data begins at byte 2, before the previous tensor's end at 3");
    EXPECT_EQ(error_in(two("0,2", "0,2"), "12"),
              "f: tensor \"b\": its data begins at byte 0, before the previous tensor's end at 2");
    EXPECT_EQ(error_in(two("0,2", "2,4"), "123"),
              "f: tensor \"b\": its data ends at byte 4 of a data section of 3 bytes; the file is "
              "cut short");
    EXPECT_EQ(error_in(two("0,2", "2,4"), "12345"),
              "f: 1 bytes after the last tensor belong to none");
    EXPECT_EQ(error_in("{}", "1"), "f: 1 bytes after the last tensor belong to none");
}

// --- files ----------------------------------------------------------------------------------

class SafetensorsFileTest : public ::testing::Test {
  protected:
    void TearDown() override { platform::set_write_fault({}); }
    TemporaryDirectory folder_;
    std::string path_ = folder_ / "m.safetensors";
};

TEST_F(SafetensorsFileTest, RoundTripOfEveryDtype) {
    const DType dtypes[] = {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64,
                            DType::i32, DType::u32,  DType::u16, DType::u8,  DType::boolean};
    std::string bytes(240, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
    std::vector<SafetensorsInput> inputs;
    for (const DType dtype : dtypes)
        inputs.push_back({name_of(dtype), dtype, {2, 3, 5}, bytes.data(), {}});
    inputs.push_back({"scalar", DType::f32, {}, bytes.data(), {}});
    inputs.push_back({"empty", DType::f32, {0, 4}, nullptr, {}});
    inputs.push_back({"na\"me \u00e9\n", DType::u8, {3}, bytes.data(), {}});
    const WrittenFile written =
        write_safetensors(path_, inputs, {{"format", "pt"}, {"k\t", "v\\"}});
    const std::string raw = read_text(path_);
    EXPECT_EQ(written.bytes, std::ssize(raw));
    EXPECT_EQ(written.crc32, crc32(raw.data(), std::ssize(raw)));

    const SafetensorsFile file(path_);
    EXPECT_EQ(file.path(), path_);
    EXPECT_EQ(file.entries().size(), inputs.size());
    EXPECT_EQ(file.metadata(),
              (std::map<std::string, std::string>{{"format", "pt"}, {"k\t", "v\\"}}));
    for (const SafetensorsInput& input : inputs) {
        const SafetensorsEntry& entry = file.at(input.name);
        EXPECT_EQ(entry.dtype, input.dtype);
        EXPECT_EQ(entry.shape, input.shape);
        const auto data = file.data(entry);
        EXPECT_EQ(std::ssize(data), input.shape.numel() * size_of(input.dtype));
        EXPECT_TRUE(data.empty() || std::memcmp(data.data(), bytes.data(), data.size()) == 0);
    }
    EXPECT_EQ(file.find("nope"), nullptr);
    EXPECT_EQ(error_of<FormatError>([&] { (void)file.at("nope"); }),
              path_ + ": no tensor \"nope\" among its 13");
    SafetensorsFile first(path_);
    const SafetensorsFile moved(std::move(first));
    EXPECT_NE(moved.find("f32"), nullptr);
}

// The bytes that the safetensors library 0.5 writes for the same tensors.
TEST_F(SafetensorsFileTest, ExactBytesWideDtypesFirstThenNames) {
    const std::uint8_t flags[2] = {1, 0};
    const float values[2] = {1.0F, 2.0F};
    const std::int64_t number = 7;
    write_safetensors(path_, {{"z", DType::boolean, {2}, flags, {}},
                              {"b", DType::f32, {1}, values + 1, {}},
                              {"a", DType::f32, {1, 1}, values, {}},
                              {"y", DType::i64, {}, &number, {}}});
    std::string header = R"({"y":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                         R"("a":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},)"
                         R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
                         R"("z":{"dtype":"BOOL","shape":[2],"data_offsets":[16,18]}})";
    while (header.size() % 8 != 0) header += ' ';
    std::string data(18, '\0');
    std::memcpy(data.data(), &number, 8);
    std::memcpy(data.data() + 8, values, 8);
    std::memcpy(data.data() + 16, flags, 2);
    EXPECT_EQ(read_text(path_), file_bytes(header, data));
}

TEST_F(SafetensorsFileTest, DataMayBeProducedPieceByPiece) {
    const auto produce = [](std::int64_t pieces) {
        return [pieces](const ByteSink& sink) {
            for (std::int64_t i = 0; i < pieces; ++i) {
                const std::vector<std::uint8_t> piece(1000, static_cast<std::uint8_t>(i));
                sink(piece.data(), 1000);
            }
        };
    };
    write_safetensors(path_, {{"t", DType::u8, {5, 1000}, nullptr, produce(5)}});
    const SafetensorsFile file(path_);
    EXPECT_EQ(static_cast<int>(file.data(file.at("t"))[4999]), 4);
    EXPECT_EQ(error_of<FormatError>([&] {
                  write_safetensors(path_, {{"t", DType::u8, {5000}, nullptr, produce(4)}});
              }),
              "write " + path_ + ": tensor \"t\": 4000 of 5000 bytes produced");
    EXPECT_EQ(error_of<FormatError>([&] {
                  write_safetensors(path_, {{"t", DType::u8, {5000}, nullptr, produce(6)}});
              }),
              "write " + path_ + ": tensor \"t\": more than its 5000 bytes produced");
    EXPECT_EQ(folder_.names().size(), 1U);
    EXPECT_NO_THROW(SafetensorsFile{path_});
}

TEST_F(SafetensorsFileTest, BadInputIsRefusedBeforeAnythingIsWritten) {
    const float value = 0.0F;
    const auto error = [&](const std::vector<SafetensorsInput>& inputs,
                           const std::map<std::string, std::string>& metadata = {}) {
        const std::string message =
            error_of<FormatError>([&] { write_safetensors(path_, inputs, metadata); });
        EXPECT_TRUE(folder_.names().empty());
        EXPECT_TRUE(message.starts_with("write " + path_ + ": "));
        return message.substr(path_.size() + 8);
    };
    EXPECT_EQ(error({{"t", DType::f32, {}, &value, {}}, {"t", DType::u8, {1}, &value, {}}}),
              "tensor \"t\": given twice");
    EXPECT_EQ(error({{"__metadata__", DType::f32, {}, &value, {}}}),
              "tensor \"__metadata__\": this name is reserved");
    EXPECT_EQ(error({{"a\xff", DType::f32, {}, &value, {}}}),
              "tensor \"a\"...: the name is not valid UTF-8");
    EXPECT_EQ(error({{"t", DType::f32, {-1}, &value, {}}}),
              "tensor \"t\": shape [-1] is negative or overflows");
    const std::int64_t huge = std::numeric_limits<std::int64_t>::max() / 4;
    EXPECT_EQ(error({{"t", DType::f64, {huge}, &value, {}}}),
              format("tensor \"t\": shape [{}] is negative or overflows", huge));
    EXPECT_EQ(error({{"t", DType::f32, {huge}, &value, {}}, {"u", DType::u8, {8}, &value, {}}}),
              "tensor \"u\": the file's size overflows");
    EXPECT_EQ(error({{"t", DType::f32, {1}, nullptr, {}}}), "tensor \"t\": no data given");
    EXPECT_EQ(error({}, {{"k", "\xff"}}), "metadata \"k\" is not valid UTF-8");
}

TEST_F(SafetensorsFileTest, EveryFailingOperationLeavesTheOldFileLoadable) {
    const std::vector<float> old_values(10, 1.0F), new_values(2'000'000, 2.0F);
    const std::vector<SafetensorsInput> old_file = {{"t", DType::f32, {10}, old_values.data(), {}}};
    const std::vector<SafetensorsInput> new_file = {
        {"s", DType::f32, {10}, new_values.data(), {}},
        {"t", DType::f32, {2'000'000}, new_values.data(), {}}};
    for (const bool persistent : {false, true}) {
        int failures = 0;
        for (int operation = 1;; ++operation) {
            platform::set_write_fault({});
            write_safetensors(path_, old_file);
            platform::set_write_fault({operation, ENOSPC, true, persistent});
            bool failed = false;
            try {
                write_safetensors(path_, new_file);
            } catch (const IoError& error) {
                failed = true;
                EXPECT_NE(std::string(error.what()).find("No space left on device"),
                          std::string::npos);
            }
            const std::int64_t operations = platform::write_operation_count();
            platform::set_write_fault({});
            EXPECT_EQ(folder_.names(), std::vector<std::string>{"m.safetensors"});
            const SafetensorsFile file(path_);
            if (!failed) {
                EXPECT_EQ(operations, operation - 1);
                EXPECT_EQ(file.entries().size(), 2U);
                break;
            }
            ++failures;
            // After the rename (only the folder's sync is left) the new file is there, whole.
            const bool renamed = file.entries().size() == 2;
            EXPECT_TRUE(!renamed || operation == 7) << operation;
        }
        // create, header and small tensor, large tensor, sync, close, rename, folder
        EXPECT_EQ(failures, 7);
    }
}

}  // namespace
}  // namespace tempra::io
