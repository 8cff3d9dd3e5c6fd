#include <span>
#include <string>
#include <vector>

#include "fuzz/parse_input.h"
#include "tempra/data/bloom_filter.h"
#include "tempra/data/token_block.h"
#include "tempra/data/wdbx.h"
#include "tempra/error.h"
#include "wdbx_checksums.h"

namespace tempra::fuzz {

namespace {

using Bytes = std::span<const std::byte>;

Bytes section_bytes(Bytes file, const data::WdbxSection& section) {
    require(section.offset >= 0 && section.length >= 0);
    require(section.offset + section.length <= std::ssize(file));
    return file.subspan(static_cast<std::size_t>(section.offset),
                        static_cast<std::size_t>(section.length));
}

// Records fill their section, in the order and number of their ids.
void walk_records(Bytes section, const data::IdRuns& ids) {
    data::WdbxRecordCursor cursor(section);
    data::WdbxRecord record;
    for (const data::IdRun& run : ids.runs()) {
        for (std::uint64_t id = run.first;; ++id) {
            require(cursor.next(record) && record.id == id);
            try {
                (void)data::parse_token_block(record.metadata, "record");
            } catch (const FormatError&) {
            }
            if (id == run.last) break;
        }
    }
    require(!cursor.next(record) && cursor.rest().empty());
    require(!ids.duplicate().has_value());
    require(ids.largest().has_value() == (ids.count() > 0));
}

void read_bloom_filter(Bytes section, const data::IdRuns& ids) {
    try {
        const data::BloomFilter filter = data::parse_bloom_filter(section, "bloom filter");
        std::vector<std::byte> changed(section.begin(), section.end());
        for (const data::IdRun& run : ids.runs()) {
            (void)filter.may_contain(run.first);
            data::insert_id(changed, run.first);
        }
        const data::BloomFilter complete = data::parse_bloom_filter(changed, "bloom filter");
        for (const data::IdRun& run : ids.runs()) require(complete.may_contain(run.first));
    } catch (const FormatError&) {
    }
}

void read_vector_index(Bytes section) {
    try {
        const data::WdbxVectorIndex index = data::parse_wdbx_vector_index(section, "index");
        require(index.begins.back() == index.neighbours.size());
        require(section.size() == 12 + 4 * (index.begins.size() - 1) + 4 * index.neighbours.size());
    } catch (const FormatError&) {
    }
}

// Whether the file was accepted; everything in it is looked at.
bool read_everything(const std::string& content, const data::WdbxReadOptions& options) {
    // Of exactly this size on the heap, so that reading past the end is seen.
    const std::vector<char> exact(content.begin(), content.end());
    const Bytes file = std::as_bytes(std::span(exact));
    try {
        const data::WdbxLayout layout = data::parse_wdbx(file, "input", options);
        for (const data::WdbxSection& section : layout.sections) {
            const Bytes bytes = section_bytes(file, section);
            if (section.type == data::wdbx_section::kBloomFilter) {
                read_bloom_filter(bytes, layout.ids);
            } else if (section.type == data::wdbx_section::kVectorIndex) {
                read_vector_index(bytes);
            }
        }
        walk_records(section_bytes(file, *layout.find(data::wdbx_section::kVectors)), layout.ids);
        if (layout.ids.count() > 0) {
            const auto size = data::bloom_filter_size(layout.ids.count(), "input");
            read_bloom_filter(data::make_bloom_filter(size), layout.ids);
        }
        return true;
    } catch (const FormatError&) {
        return false;
    }
}

// What is accepted with its checksums verified is accepted without.
bool read_both_ways(const std::string& content) {
    const bool accepted = read_everything(content, {});
    require(!accepted || read_everything(content, {.verify_checksums = false}));
    return accepted;
}

void parse_wdbx(const std::uint8_t* data, std::size_t size, std::string (*repair)(std::string)) {
    const std::string content(reinterpret_cast<const char*>(data), size);
    const std::string repaired = repair(content);
    (void)read_both_ways(repaired);
    if (repaired != content) (void)read_both_ways(content);
}

}  // namespace

void parse_wdbx_v2(const std::uint8_t* data, std::size_t size) {
    parse_wdbx(data, size, data::repaired_v2);
}

void parse_wdbx_v3(const std::uint8_t* data, std::size_t size) {
    parse_wdbx(data, size, data::repaired_v3);
}

}  // namespace tempra::fuzz
