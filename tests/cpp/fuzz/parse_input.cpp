#include "fuzz/parse_input.h"

#include <cstdlib>
#include <string_view>
#include <vector>

#include "io/json_header.h"
#include "tempra/data/token_bin.h"
#include "tempra/error.h"
#include "tempra/io/safetensors.h"

namespace tempra::fuzz {

namespace {

// A violated property must stop the fuzzer.
void require(bool condition) {
    if (!condition) std::abort();
}

void read_any(io::JsonReader& reader) {
    switch (reader.peek()) {
        case io::JsonType::object:
            reader.begin_object();
            for (std::string key; reader.next_key(key);) {
                require(io::find_invalid_utf8(key) == std::string_view::npos);
                read_any(reader);
            }
            return;
        case io::JsonType::array:
            reader.begin_array();
            while (reader.next_element()) read_any(reader);
            return;
        case io::JsonType::string: {
            // What was decoded can be written and read again.
            const std::string text = reader.read_string();
            require(io::find_invalid_utf8(io::quoted_name(text)) == std::string_view::npos);
            std::string written;
            io::append_json_string(written, text);
            require(io::JsonReader(written, "written").read_string() == text);
            return;
        }
        case io::JsonType::number: (void)reader.read_number(); return;
        case io::JsonType::boolean: (void)reader.read_boolean(); return;
        case io::JsonType::null: reader.read_null(); return;
    }
}

template <class Read>
bool accepts(std::string_view text, const Read& read) {
    try {
        io::JsonReader reader(text, "input", {1 << 20, 16});
        read(reader);
        reader.finish();
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

}  // namespace

void parse_json_header(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const bool read = accepts(text, read_any);
    require(read == accepts(text, [](io::JsonReader& reader) { reader.skip_value(); }));
    // Readers of one type must refuse the others, not misread them.
    (void)accepts(text, [](io::JsonReader& reader) { (void)reader.read_integer(); });
    (void)accepts(text, [](io::JsonReader& reader) { (void)reader.read_boolean(); });
}

void parse_safetensors(const std::uint8_t* data, std::size_t size) {
    const auto bytes = static_cast<std::int64_t>(size);
    try {
        const io::SafetensorsIndex index = io::parse_safetensors(data, bytes, "input");
        require(index.data_offset >= 8 && index.data_offset <= bytes);
        std::int64_t expected = 0;
        for (const io::SafetensorsEntry& entry : index.entries) {
            require(entry.begin == expected);
            require(entry.end - entry.begin == entry.shape.numel() * size_of(entry.dtype));
            expected = entry.end;
        }
        require(expected == bytes - index.data_offset);
    } catch (const FormatError&) {
    }
}

void parse_token_bin(const std::uint8_t* data, std::size_t size) {
    for (const DType dtype : {DType::u32, DType::u16, DType::f32}) {
        try {
            const std::int64_t count =
                data::parse_token_bin(static_cast<std::int64_t>(size), dtype, "input");
            std::vector<std::uint32_t> tokens(static_cast<std::size_t>(count));
            data::copy_tokens(data, dtype, 0, tokens);
            if (count > 0) {
                std::uint32_t last = 0;
                data::copy_tokens(data, dtype, count - 1, {&last, 1});
                require(last == tokens.back());
            }
        } catch (const FormatError&) {
        } catch (const DtypeError&) {
            require(dtype == DType::f32);
        }
    }
}

}  // namespace tempra::fuzz
