/* version.hpp - the version of this program: that of the extension beside it in the tree. */
#pragma once

#include <string_view>

namespace backfill::web
{

constexpr std::string_view kVersion = BACKFILL_VERSION;

} // namespace backfill::web
