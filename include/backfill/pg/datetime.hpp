/* datetime.hpp - PostgreSQL's reader of dates and times.
 *
 * Not in pg.hpp, nor its version difference in compat.hpp: utils/datetime.h has global names such
 * as "days". */
#pragma once

#include "backfill/pg/pg.hpp"

extern "C" {
#include "utils/datetime.h"
}

namespace backfill::pg
{

/* DecodeDateTime(); raises nothing. */
inline int decode_datetime(char **fields, int *types, int count, int *kind, struct pg_tm *time,
                           fsec_t *fraction, int *zone)
{
#if PG_VERSION_NUM >= 160000
    DateTimeErrorExtra extra;
    return DecodeDateTime(fields, types, count, kind, time, fraction, zone, &extra);
#else
    return DecodeDateTime(fields, types, count, kind, time, fraction, zone);
#endif
}

} // namespace backfill::pg
