// Makes the sizes and checksums of a WDBX file right again after it was changed, whatever else is
// wrong with it: for tests and fuzzers that must reach what lies behind the checksums.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "tempra/io/crc32.h"

namespace tempra::data {

template <class Number>
Number get(const std::string& file, size_t offset) {
    Number value;
    std::memcpy(&value, file.data() + offset, sizeof value);
    return value;
}

template <class Number>
void set(std::string& file, size_t offset, Number value) {
    std::memcpy(file.data() + offset, &value, sizeof value);
}

// 0 where there are no such bytes.
inline std::uint32_t crc32_of(const std::string& file, size_t begin, size_t size) {
    if (begin > file.size() || size > file.size() - begin) return 0;
    return io::crc32(file.data() + begin, static_cast<std::int64_t>(size));
}

inline std::string repaired_v3(std::string file) {
    if (file.size() < 120) return file;
    const size_t end = file.size() - 40;
    const size_t directory = get<std::uint64_t>(file, 16), size = get<std::uint64_t>(file, 24);
    const bool inside = directory <= end && size <= end - directory;
    for (size_t entry = 0; inside && entry + 32 <= size; entry += 32) {
        const size_t place = directory + entry;
        set(file, place + 20,
            crc32_of(file, get<std::uint64_t>(file, place + 4),
                     get<std::uint64_t>(file, place + 12)));
    }
    set(file, end + 4, crc32_of(file, 0, 80));
    set(file, end + 8, crc32_of(file, directory, size));
    set(file, end + 12, inside ? crc32_of(file, directory + size, end - directory - size) : 0);
    set(file, end + 16, crc32_of(file, 0, end));
    set(file, end + 20, static_cast<std::uint64_t>(end));
    return file;
}

inline std::string repaired_v2(std::string file) {
    if (file.size() < 96) return file;
    const size_t end = file.size() - 32;
    set(file, end + 4, crc32_of(file, 0, 64));
    set(file, end + 8, crc32_of(file, 64, end - 64));
    set(file, end + 12, crc32_of(file, 0, end));
    set(file, end + 16, static_cast<std::uint64_t>(end));
    return file;
}

}  // namespace tempra::data
