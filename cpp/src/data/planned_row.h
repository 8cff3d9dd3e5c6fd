// Appends a row of a packing plan to a batch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "tempra/data/batch.h"
#include "tempra/data/sequence_packer.h"
#include "tempra/data/token_stream.h"

namespace tempra::data {

// document_of(i) is the stream's number of the plan's document i.
template <class DocumentOf>
void append_planned_row(const PackingPlan& plan, std::int64_t row, const TokenStream& stream,
                        const DocumentOf& document_of, std::optional<std::int32_t> pad_token,
                        BatchWriter& batch) {
    // Pieces between asking for where a document lies and using it.
    constexpr size_t kPlacesAhead = 8;
    const std::int64_t before = batch.tokens();
    const auto last = static_cast<size_t>(plan.row_offsets[static_cast<size_t>(row) + 1]);
    for (auto i = static_cast<size_t>(plan.row_offsets[static_cast<size_t>(row)]); i < last; ++i) {
        if (i + kPlacesAhead < plan.pieces.size()) {
            stream.prefetch_place(document_of(plan.pieces[i + kPlacesAhead].document));
        }
        const PackedPiece piece = plan.pieces[i];
        const auto [start, whole] = stream.document(document_of(piece.document));
        // Only one policy is at work in a plan.
        const std::int64_t kept =
            plan.counts.truncated > 0 ? std::min(whole, plan.capacity) : whole;
        const std::int64_t begin = plan.begin(i);
        batch.add_sequence(stream, start + begin, piece.length, begin + piece.length < kept);
    }
    if (pad_token) batch.add_padding(plan.capacity - (batch.tokens() - before), *pad_token);
}

}  // namespace tempra::data
