# Each function of the extension that only reads works on a hot standby, and so does each view; each
# that writes is refused there with SQLSTATE 25006, whatever it would have found to do.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# What each gives: an expression per function, by its name and types. The job 1 is ready, 2 is
# scheduled, 3 is leased under token 1, 5 has no attempts left, and dead letter 1 has a key.
my %reads = (
	'backoff_delay(integer,integer,interval,interval,double precision,double precision)' => q{backfill.backoff_delay(1, 5, '1 s', '1 min', 2, 0)},
	'backoff_delay(integer,text)' => q{backfill.backoff_delay(1, 'default')},
	'classify_error(text,text,text)' => q{backfill.classify_error('22000', 'x', 'work')},
	'cron_next(text,text,timestamp with time zone)' => q{backfill.cron_next('* * * * *')},
	'dlq_stats()' => q{backfill.dlq_stats()},
	'dlq_groups(timestamp with time zone,timestamp with time zone)' => q{backfill.dlq_groups()},
	'find_dlq_ids(integer,text,text,text,text,timestamp with time zone,timestamp with time zone,text)' => q{backfill.find_dlq_ids(10)},
	'find_job_ids(integer,text,jsonb,text,integer,integer,text,text)' => q{backfill.find_job_ids(10, state => 'ready')},
	'get_dlq_job(bigint)' => q{backfill.get_dlq_job(1)},
	'get_job(bigint)' => q{backfill.get_job(1)},
	'health(interval,bigint)' => q{backfill.health()},
	'init_dlq()' => q{backfill.init_dlq()}, # does nothing
	'job_details(bigint)' => q{backfill.job_details(1)},
	'list_dlq(text,text,text,text,timestamp with time zone,timestamp with time zone,text,text,integer)' => q{backfill.list_dlq(task_identifier => 'work')},
	'list_history(text,text,text,text,timestamp with time zone,timestamp with time zone,text,integer)' => q{backfill.list_history()},
	'list_jobs(text,jsonb,text,integer,integer,text,text,text,integer)' => q{backfill.list_jobs('work', cursor => backfill.list_jobs("limit" => 1) ->> 'next')},
	'list_queues(text,text,integer)' => q{backfill.list_queues()},
	'list_schedules()' => q{backfill.list_schedules()},
	'list_tasks(text,boolean,text,integer)' => q{backfill.list_tasks(problem_only => true)},
	'overview()' => q{backfill.overview()},
	'queue_details(text)' => q{backfill.queue_details('bulk')},
	'list_audit(text,text,text,timestamp with time zone,timestamp with time zone,text,integer)' => q{backfill.list_audit()},
	'list_dlq_jobs(text,text,timestamp with time zone,timestamp with time zone,integer,integer)' => q{backfill.list_dlq_jobs('work')},
	'metrics(text)' => q{backfill.metrics()},
	'priority(text)' => q{backfill.priority('EMERGENCY')},
	'priority_band(integer)' => q{backfill.priority_band(0)},
	'prometheus_metrics(text)' => q{backfill.prometheus_metrics()},
	'release_stale_queue_locks(interval)' => q{backfill.release_stale_queue_locks()}, # does nothing
	'version()' => q{backfill.version()},
	'why_not_running(bigint)' => q{backfill.why_not_running(1)},
);
my %writes = (
	'add_cron_schedule(text)' => q{backfill.add_cron_schedule('* * * * * work')},
	'add_job(text,json,text,timestamp with time zone,integer,text,integer,text[],text)' => q{backfill.add_job('work')},
	'add_jobs(backfill.job_spec[],boolean)' => q{backfill.add_jobs(ARRAY[('work', NULL, NULL, NULL, NULL, NULL, NULL, NULL)::backfill.job_spec])},
	'add_to_dlq(bigint,text,jsonb)' => q{backfill.add_to_dlq(1, 'no')},
	'cancel_job(bigint)' => q{backfill.cancel_job(1)},
	'claim_jobs(text,integer,text[],text[],interval)' => q{backfill.claim_jobs('w')},
	'cleanup_dlq(interval,text,text)' => q{backfill.cleanup_dlq('0 s')},
	'cleanup_permanently_failed_jobs()' => q{backfill.cleanup_permanently_failed_jobs()},
	'complete_jobs(bigint[])' => q{backfill.complete_jobs('{1}')},
	'complete_jobs(bigint[],bigint)' => q{backfill.complete_jobs('{3}', 1)},
	'cron_tick()' => q{backfill.cron_tick()},
	'delete_dlq_by_job_key(text)' => q{backfill.delete_dlq_by_job_key('dead')},
	'delete_dlq_jobs(bigint[])' => q{backfill.delete_dlq_jobs('{1}')},
	'delete_dlq_job(bigint)' => q{backfill.delete_dlq_job(1)},
	'delete_queue(text)' => q{backfill.delete_queue('q')},
	'enqueue(text,jsonb,text,integer,timestamp with time zone,integer,text,text,text,interval,jsonb)' => q{backfill.enqueue('work')},
	(map { ("$_(text,jsonb,text)" => "backfill.$_('work')") }
		  qw(enqueue_bulk enqueue_bulk_with_retries enqueue_critical enqueue_emergency enqueue_fast enqueue_fast_with_retries)),
	'enqueue_jobs(jsonb)' => q{backfill.enqueue_jobs('[{"task_identifier": "work"}]')},
	'enqueue_many(text,jsonb[],text,integer,timestamp with time zone,integer,text,interval,jsonb)' => q{backfill.enqueue_many('work', '{1}')},
	'enqueue_via_outbox(text,jsonb,text,integer,timestamp with time zone,integer,text,text,text,interval,jsonb)' => q{backfill.enqueue_via_outbox('work')},
	'enqueue_serial(text,jsonb,text,text)' => q{backfill.enqueue_serial('work', '1', 'q')},
	'fail_job(bigint,bigint,text,boolean)' => q{backfill.fail_job(3, 1, 'no')},
	'fail_jobs(bigint[],text)' => q{backfill.fail_jobs('{1}', 'no')},
	'force_unlock_workers(text[])' => q{backfill.force_unlock_workers('{w}')},
	(map { ("$_(regrole)" => "backfill.$_('guest')") } qw(grant_admin grant_consumer grant_monitor)),
	'grant_producer(regrole,text[])' => q{backfill.grant_producer('guest')},
	'heartbeat(bigint,interval)' => q{backfill.heartbeat(1)},
	'pause_queue(text)' => q{backfill.pause_queue('q')},
	'permanently_fail_jobs(bigint[],text)' => q{backfill.permanently_fail_jobs('{1}')},
	'process_failed_jobs()' => q{backfill.process_failed_jobs()},
	'register_hook(text,regprocedure,text,regrole)' => q{backfill.register_hook('job_start', 'watch(jsonb)')},
	'register_task(text,regprocedure,text,integer,integer,text,interval,regrole,text,interval,boolean)' => q{backfill.register_task('another')},
	'release_jobs(bigint[],bigint)' => q{backfill.release_jobs('{3}', 1)},
	'release_stale_job_locks(interval)' => q{backfill.release_stale_job_locks('0 s')},
	'remove_job(text)' => q{backfill.remove_job('key')},
	'requeue_dlq_job(bigint,jsonb,text)' => q{backfill.requeue_dlq_job(1)},
	'requeue_dlq_jobs(text,text,timestamp with time zone,timestamp with time zone,text)' => q{backfill.requeue_dlq_jobs('work')},
	'requeue_dlq_jobs(bigint[],text)' => q{backfill.requeue_dlq_jobs('{1}'::bigint[])},
	'reschedule_jobs(bigint[],timestamp with time zone,integer,integer,integer)' => q{backfill.reschedule_jobs('{1}', now())},
	'resume_queue(text)' => q{backfill.resume_queue('q')},
	'schedule(text,text,text,jsonb,text,integer,integer,text,text,text,interval,text,interval,integer,text)' => q{backfill.schedule('s', '@daily', 'work')},
	'schedule_crontab(text)' => q{backfill.schedule_crontab('* * * * * work')},
	'set_outbox(text)' => q{backfill.set_outbox('cluster')},
	'set_queue(text,integer,integer,interval,integer)' => q{backfill.set_queue('q', 1)},
	'set_retry_policy(text,integer,interval,interval,double precision,double precision)' => q{backfill.set_retry_policy('mine')},
	'snooze_job(bigint,bigint,interval)' => q{backfill.snooze_job(3, 1, '1 s')},
	'startup_cleanup()' => q{backfill.startup_cleanup()},
	'unregister_hook(text,regprocedure,text)' => q{backfill.unregister_hook('job_fail', 'watch(jsonb)'::regprocedure)},
	'unregister_hook(text,text,text)' => q{backfill.unregister_hook('job_fail', 'watch'::text)},
	'unregister_task(text)' => q{backfill.unregister_task('work')},
	'unschedule(text)' => q{backfill.unschedule('hourly')},
	'update_job(bigint,jsonb,text,integer,timestamp with time zone,integer,text,interval,jsonb)' => q{backfill.update_job(1, '2')},
	'update_dlq_job(bigint,jsonb,text)' => q{backfill.update_dlq_job(1, '2')},
);
# Said by a handler: there is none, as on a primary outside of a job.
my %in_jobs = (
	'current_job()' => q{backfill.current_job()},
	'discard(text)' => q{backfill.discard('x')},
	'set_progress(double precision,text)' => q{backfill.set_progress(1)},
	'set_result(jsonb)' => q{backfill.set_result('1')},
	'snooze(interval)' => q{backfill.snooze('1 s')},
);
my %procedures = (
	'process_available_jobs(integer,text[],bigint)' => [ q{backfill.process_available_jobs()}, '25006' ],
	'await_job(bigint,interval,text,jsonb)' => [ q{backfill.await_job(1, '0 s', NULL, NULL)}, '' ],
	'wait_for_jobs(interval,text[],text[],boolean)' => [ q{backfill.wait_for_jobs('0 s')}, '25006' ], # for jobs that it could claim
);

# Nothing on the primary changes what the calls are about, however long the test takes.
my $primary = preloaded('primary', init => { allows_streaming => 1 },
	conf => "backfill.max_executors = 0\nbackfill.cron_clock = external\nbackfill.dlq_processor_interval = '1d'\n");
create_extension($primary);
$primary->safe_psql(
	'postgres', q{
	CREATE ROLE guest;
	CREATE EXTENSION dblink;
	CREATE SERVER cluster FOREIGN DATA WRAPPER dblink_fdw;
	CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT backfill.register_task('work'), backfill.set_queue('q', 2), backfill.register_hook('job_fail', 'watch(jsonb)');
	SELECT backfill.enqueue('work', '1', job_key => 'key', priority => 1);
	SELECT backfill.enqueue('work', '2', run_at => now() + interval '1 day');
	SELECT backfill.enqueue('work', '3');
	SELECT id, claim_token FROM backfill.claim_jobs('w');
	SELECT backfill.enqueue('work', '4', job_key => 'dead', priority => 2) AS id \gset
	SELECT backfill.add_to_dlq(:id, 'no');
	SELECT backfill.schedule('hourly', '@hourly', 'work');
	SELECT backfill.enqueue('work', '5', max_attempts => 1);
	UPDATE backfill.job SET attempts = 1 WHERE id = 5;
});
is($primary->safe_psql('postgres', q{SELECT string_agg(id || ' ' || state, ', ' ORDER BY id) FROM backfill.jobs}), '1 ready, 2 scheduled, 3 leased, 5 ready', 'the jobs are as the calls say');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my %all = (%reads, %writes, %in_jobs, %procedures);
is( $standby->safe_psql(
		'postgres', q{
	SET search_path = pg_catalog;
	SELECT replace(p.oid::regprocedure::text, 'backfill.', '') FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'backfill')
	 WHERE p.pronamespace = 'backfill'::regnamespace AND p.proname NOT LIKE '\_%' ORDER BY p.oid::regprocedure::text COLLATE "C"}),
	join("\n", sort map { s/backfill\.(?=job_spec)//r } keys %all), 'this test has a call of each function');

# The SQLSTATE that the statement is refused with; empty if it works.
sub sqlstate
{
	my ($statement) = @_;
	my ($code, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\nSET lock_timeout = '60s';\n$statement;");
	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $code == 0 ? '' : $err;
}
is(sqlstate("SELECT * FROM $reads{$_}"), '', "$_ works") for sort keys %reads;
is(sqlstate("SELECT * FROM $writes{$_}"), '25006', "$_ is refused") for sort keys %writes;
is(sqlstate("SELECT * FROM $in_jobs{$_}"), '55000', "$_ is for handlers") for sort keys %in_jobs;
is(sqlstate("CALL $procedures{$_}[0]"), $procedures{$_}[1], $procedures{$_}[1] eq '' ? "$_ works" : "$_ is refused") for sort keys %procedures;
is(sqlstate("SELECT * FROM $_"), '', "view $_ works")
  for split /\n/, $standby->safe_psql('postgres', q{SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'v' ORDER BY 1});
is($standby->safe_psql('postgres', 'SELECT backfill.why_not_running(1)') =~ s/:.*//sr, 'standby', 'a job says that it is on a standby');

$standby->stop;
$primary->stop;
check_log($standby);
done_testing();
