/* claim_token.hpp - the number that a claim is known by.
 *
 * It counts claims, by a sequence. An asynchronous standby may be promoted without having heard of
 * the last of them, and its sequence then goes back. The promotion begins a new WAL timeline, so
 * the number of the timeline is part of the token: what the old primary issued is not issued again.
 *
 *   bits  0 - 34   the sequence (sql/install/20_tables.sql), which begins anew after 2^35 - 1
 *   bits 35 - 46   the timeline, its low bits
 *   bits 47 - 52   zero; for the number of a node
 *
 * So a token is exact in JSON, whose numbers are doubles. */
#pragma once

#include <cstdint>

namespace backfill::core
{

inline constexpr int kClaimCountBits = 35;
inline constexpr int kTimelineBits = 12;

constexpr std::int64_t claim_token(std::uint32_t timeline, std::int64_t count)
{
    const std::int64_t kept = timeline & ((1U << kTimelineBits) - 1);
    return count + (kept << kClaimCountBits);
}

} // namespace backfill::core
