/* poison.c - handlers that end their process or the server, called by test/t/080_poison.pl.
 * The test builds it with the headers of the server that it tests. */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/parallel.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(poison);

static int
deeper(volatile int depth)
{
	volatile char frame[4096];

	frame[0] = (char) depth;
	return deeper(depth + 1) + frame[0];
}

/* poison(how text) */
Datum
poison(PG_FUNCTION_ARGS)
{
	char	   *how = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strcmp(how, "segfault") == 0)
		*(volatile int *) 8 = 1;
	else if (strcmp(how, "stack") == 0)
		(void) deeper(0);
	else if (strcmp(how, "abort") == 0)
		abort();
	else if (strcmp(how, "kill") == 0)
		(void) kill(MyProcPid, SIGKILL);
	else if (strcmp(how, "quit") == 0)
		(void) kill(MyProcPid, SIGQUIT);
	else if (strcmp(how, "_exit") == 0)
		_exit(0);
	else if (strcmp(how, "exit") == 0)
		exit(0);
	else if (strcmp(how, "proc_exit") == 0)
		proc_exit(1);
	else if (strcmp(how, "fatal") == 0)
		ereport(FATAL, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("the poison works")));
	else if (strcmp(how, "memory") == 0)
		(void) MemoryContextAllocHuge(CurrentMemoryContext, MaxAllocHugeSize / 2);
	else
		elog(ERROR, "no such poison: %s", how);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(poison_late);

/* poison_late(payload jsonb): sends SIGTERM to its process and returns at once. */
Datum
poison_late(PG_FUNCTION_ARGS)
{
	(void) kill(MyProcPid, SIGTERM);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(poison_in_worker);

/* poison_in_worker(int) returns int: crashes if it runs in a parallel worker. */
Datum
poison_in_worker(PG_FUNCTION_ARGS)
{
	if (IsParallelWorker())
		*(volatile int *) 8 = 1;
	PG_RETURN_INT32(PG_GETARG_INT32(0));
}
