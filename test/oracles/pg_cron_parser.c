/* pg_cron_parser.c - pg_cron's own parser as an oracle of test/t/041_cron_oracles.pl.
 *
 *   pg_cron_next(expression, after, legacy) returns the first minute after a given one, in
 *   UTC, in which pg_cron would start a job; NULL if it does not take the expression, or if
 *   there is no such minute within ten years.
 *
 * It finds the parser in the loaded library and tries one minute after the other. The struct
 * is what the parser returns; `legacy` is true for pg_cron before 1.5, where it is 4 bytes
 * longer. */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include <stdlib.h>
#include <time.h>

PG_MODULE_MAGIC;

typedef struct CronSets {
	unsigned char minute[8];
	unsigned char hour[3];
	unsigned char day[4];
	unsigned char month[2];
	unsigned char weekday[1];
	int flags;
} CronSets;

enum { DAY_STAR = 1, WEEKDAY_STAR = 2, REBOOT = 4, LAST_DAY = 32 };

static bool has(const unsigned char *set, int bit)
{
	return (set[bit / 8] >> (bit % 8) & 1) != 0;
}

static bool is_due(const CronSets *sets, time_t at)
{
	struct tm now = *gmtime(&at);
	time_t tomorrow_at = at + SECS_PER_DAY;
	struct tm tomorrow = *gmtime(&tomorrow_at);
	bool day = has(sets->day, now.tm_mday - 1);
	bool weekday = has(sets->weekday, now.tm_wday);

	if (sets->flags & LAST_DAY)
		day = tomorrow.tm_mday == 1;
	return has(sets->minute, now.tm_min) && has(sets->hour, now.tm_hour) &&
		has(sets->month, now.tm_mon) &&
		(sets->flags & (DAY_STAR | WEEKDAY_STAR) ? day && weekday : day || weekday);
}

PG_FUNCTION_INFO_V1(pg_cron_next);
Datum pg_cron_next(PG_FUNCTION_ARGS)
{
	char *(*parse)(char *) = (char *(*) (char *))
		load_external_function("$libdir/pg_cron", "parse_cron_entry", true, NULL);
	char *entry = parse(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	time_t at = timestamptz_to_time_t(PG_GETARG_TIMESTAMPTZ(1)) / 60 * 60;
	time_t last = at + (time_t) 10 * 366 * SECS_PER_DAY;
	CronSets sets;

	if (entry == NULL)
		PG_RETURN_NULL();
	memcpy(&sets, entry + (PG_GETARG_BOOL(2) ? 32 : 28), sizeof sets);
	free(entry);
	if (sets.flags & REBOOT)
		PG_RETURN_NULL();
	for (at += 60; at <= last; at += 60)
		if (is_due(&sets, at))
			PG_RETURN_TIMESTAMPTZ(time_t_to_timestamptz(at));
	PG_RETURN_NULL();
}
