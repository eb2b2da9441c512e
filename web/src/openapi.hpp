/* openapi.hpp - the description of the API, made from the table of routes. */
#pragma once

#include <string>

namespace backfill::web
{

/* JSON, OpenAPI 3.1. */
const std::string &openapi_document();

} // namespace backfill::web
