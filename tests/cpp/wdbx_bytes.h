// Whole WDBX files as bytes, to be changed in one place at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "temporary_directory.h"
#include "tempra/data/token_block.h"
#include "tempra/data/wdbx.h"
#include "tempra/error.h"
#include "wdbx_checksums.h"

namespace tempra::data {

inline std::string golden_path(const std::string& name) {
    return std::string(TEMPRA_TEST_DATA) + "/wdbx/" + name;
}
inline std::string golden(const std::string& name) { return read_text(golden_path(name)); }

inline std::span<const std::byte> bytes_of(const std::string& text) {
    return std::as_bytes(std::span(text));
}

template <class Number>
void put(std::string& file, Number value) {
    file.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// The message of the FormatError that the file must give, or "" when it is accepted.
inline std::string error_of_file(const std::string& file, const WdbxReadOptions& options = {}) {
    // A copy of exactly this size on the heap, so that reading past the end is seen.
    const std::vector<char> exact(file.begin(), file.end());
    try {
        (void)parse_wdbx(std::as_bytes(std::span(exact)), "f", options);
    } catch (const FormatError& error) {
        return error.what();
    }
    return "";
}

// One token block with its header.
inline std::string token_block(const std::vector<std::uint32_t>& tokens,
                               const std::string& text = "") {
    std::string block(16, '\0');
    write_token_block_header(reinterpret_cast<std::byte*>(block.data()), std::ssize(tokens),
                             std::ssize(text));
    for (const std::uint32_t token : tokens) put(block, token);
    return block + text;
}

inline std::string record(std::uint64_t id, const std::vector<float>& vector,
                          const std::string& metadata) {
    std::string bytes;
    put(bytes, id);
    put(bytes, static_cast<std::uint32_t>(vector.size()));
    put(bytes, static_cast<std::uint32_t>(metadata.size()));
    for (const float value : vector) put(bytes, value);
    return bytes + metadata;
}

// A version 3 file of these sections, put together by the layout's description alone.
struct V3Section {
    std::uint16_t type = 0;
    std::string payload;
};
inline std::string make_v3(const std::vector<V3Section>& sections, std::uint64_t vector_count,
                           std::uint32_t dimension) {
    std::string file = "WDBX";
    put(file, std::uint16_t{3});
    put(file, std::uint16_t{7});
    put(file, std::uint16_t{80});
    put(file, static_cast<std::uint16_t>(sections.size()));
    put(file, std::uint32_t{0});
    put(file, std::uint64_t{80});
    put(file, static_cast<std::uint64_t>(32 * sections.size()));
    file.append(16, '\0');
    put(file, vector_count);
    put(file, dimension);
    file.append(20, '\0');
    std::uint64_t offset = 80 + 32 * sections.size();
    for (const V3Section& section : sections) {
        put(file, section.type);
        put(file, std::uint16_t{0});
        put(file, offset);
        put(file, static_cast<std::uint64_t>(section.payload.size()));
        file.append(12, '\0');
        offset += section.payload.size();
    }
    for (const V3Section& section : sections) file += section.payload;
    file += "END3";
    file.append(24, '\0');
    put(file, static_cast<std::uint32_t>(sections.size()));
    file.append(8, '\0');
    return repaired_v3(file);
}

// A version 2 file: flags, then the blocks as given.
inline std::string make_v2(std::uint8_t flags, std::uint64_t vector_count, std::uint32_t dimension,
                           const std::string& blocks) {
    std::string file = "WDBX";
    put(file, std::uint16_t{2});
    put(file, flags);
    file.append(17, '\0');
    put(file, vector_count);
    put(file, dimension);
    file.append(28, '\0');
    file += blocks;
    file.append("END\0", 4);
    file.append(28, '\0');
    return repaired_v2(file);
}
inline std::string name_block(const std::string& name) {
    std::string block;
    put(block, static_cast<std::uint16_t>(name.size()));
    return block + name;
}
inline std::string bloom_block(const std::string& payload) {
    std::string block("\x02\0\0\0", 4);
    put(block, static_cast<std::uint32_t>(payload.size()));
    return block + payload;
}
inline std::string vector_block(std::uint32_t count, const std::string& records) {
    std::string block("\x04\0\0\0", 4);
    put(block, count);
    put(block, static_cast<std::uint64_t>(records.size()));
    return block + records;
}
inline std::string numbers(const std::vector<std::uint32_t>& values) {
    std::string bytes;
    for (const std::uint32_t value : values) put(bytes, value);
    return bytes;
}
inline std::string index_block(const std::string& content) {
    return std::string("\x03\0\0\0", 4) + content;
}

}  // namespace tempra::data
