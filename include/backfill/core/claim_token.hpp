/* claim_token.hpp - the number that a claim is known by.
 *
 * It counts claims, by a sequence. An asynchronous standby may be promoted without having heard of
 * the last of them, and its sequence then goes back. The promotion begins a new WAL timeline, so
 * the number of the timeline is part of the token: what the old primary issued is not issued again.
 *
 *   bits  0 - 34   the low bits of the sequence (sql/install/20_tables.sql)
 *   bits 35 - 46   the timeline, its low bits
 *   bits 47 - 52   the same bits of the sequence: the number of a node, which is what it began with
 *
 * So a token is exact in JSON, whose numbers are doubles. */
#pragma once

#include <cstdint>

namespace backfill::core
{

inline constexpr int kClaimCountBits = 35;
inline constexpr int kTimelineBits = 12;
inline constexpr int kNodeShift = kClaimCountBits + kTimelineBits;

constexpr std::int64_t claim_token(std::uint32_t timeline, std::int64_t count)
{
    const std::int64_t kept = timeline & ((1U << kTimelineBits) - 1);
    const std::int64_t low = count & ((std::int64_t{1} << kClaimCountBits) - 1);
    const std::int64_t node = count >> kNodeShift << kNodeShift;
    return node + (kept << kClaimCountBits) + low;
}

} // namespace backfill::core
