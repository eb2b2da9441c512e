/* claim_token_test.cpp - a token's parts do not touch each other. */
#include "backfill/core/claim_token.hpp"

#include <doctest/doctest.h>

#include <cstdint>

using backfill::core::claim_token;

namespace
{

constexpr std::int64_t kLastCount = (std::int64_t{1} << 35) - 1; /* then it begins anew */
constexpr std::int64_t kNode = std::int64_t{1} << 47;

} // namespace

TEST_CASE("a claim token is the count and the timeline")
{
    CHECK(claim_token(1, 1) == 34359738369);
    CHECK(claim_token(3, 1000) == 3 * 34359738368 + 1000);
}

TEST_CASE("of two claim tokens the later is greater, also after a promotion")
{
    CHECK(claim_token(1, 2) > claim_token(1, 1));
    CHECK(claim_token(2, 1) > claim_token(1, kLastCount));
    CHECK(claim_token(4095, 1) > claim_token(4094, kLastCount));
}

TEST_CASE("a claim token leaves room for a node, and is exact as a double")
{
    CHECK(claim_token(4095, kLastCount) == kNode - 1);
    CHECK(claim_token(0xFFFFFFFF, kLastCount) == kNode - 1);
    CHECK(claim_token(4096 + 7, 9) == claim_token(7, 9));
    /* A node's sequence begins at a multiple of 2^47. */
    CHECK(claim_token(2, 63 * kNode + 1) == 63 * kNode + claim_token(2, 1));
    CHECK(claim_token(2, 63 * kNode + kLastCount + 6) == 63 * kNode + claim_token(2, 5));
    const std::int64_t greatest = 63 * kNode + claim_token(4095, kLastCount);
    CHECK(greatest < std::int64_t{1} << 53);
    CHECK(static_cast<std::int64_t>(static_cast<double>(greatest)) == greatest);
}
