# ALTER EXTENSION UPDATE makes of 0.1.0 what CREATE EXTENSION makes: the same objects with the same rights and
# comments. A statement that is left out of the script that upgrades is found. Roles that hold a bundle of
# rights hold the new one. Scripts and library of different versions give clear errors.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Installation;
use PostgreSQL::Test::Utils;
use Test::More;

my $first = '0.1.0'; # the version to upgrade from
my ($version) = slurp_file("$FindBin::RealBin/../../backfill.control") =~ /^default_version = '(.*)'/m;
my ($installation, $scripts) = make_installation('installation');
my $node = preloaded('upgrade', install_path => $installation, conf => "backfill.max_executors = 2\nbackfill.poll_interval = '50ms'\n");
is($node->safe_psql('postgres', q{SELECT setting || '/extension' FROM pg_config WHERE name = 'SHAREDIR'}), $scripts, 'the server reads scripts that this test may write');

my @scripts = ("backfill--$first--$version.sql");
sub write_script { my ($name, $text) = @_; unlink "$scripts/$name"; append_to_file("$scripts/$name", $text); return; }
sub new_database
{
	my ($db, $from) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION backfill' . (defined $from ? " VERSION '$from'" : ''));
	return;
}

# --- The catalogs ---

my $catalog = slurp_file("$FindBin::RealBin/../lib/catalog.sql");
# All facts, after some statements that are then undone.
sub facts
{
	my ($db, $statements) = @_;
	my ($code, $out, $err) = $node->psql($db, 'BEGIN;' . ($statements // '') . ";\n$catalog\nROLLBACK");
	return $code == 0 ? [ split /\n/, $out ] : $err;
}

# Facts that only one of two databases has: "- what is missing", "+ what is too much".
sub differences
{
	my ($expected, $got) = @_;
	return "failed: $got" if !ref $got;
	my %count;
	$count{$_}++ foreach @$expected;
	$count{$_}-- foreach @$got;
	return join "\n", map { ($count{$_} > 0 ? '- ' : '+ ') . (length > 500 ? substr($_, 0, 500) . ' ...' : $_) } sort grep { $count{$_} != 0 } keys %count;
}

new_database('fresh');
new_database('upgraded', $first);
is($node->safe_psql('upgraded', q{SELECT extversion FROM pg_extension WHERE extname = 'backfill'}), $first, "CREATE EXTENSION makes $first, too");
# Another superuser than the owner, whose new functions are open to a role.
$node->safe_psql('upgraded', q{CREATE ROLE dba SUPERUSER LOGIN; ALTER DEFAULT PRIVILEGES FOR ROLE dba GRANT EXECUTE ON FUNCTIONS TO PUBLIC});
$node->safe_psql('upgraded', 'ALTER EXTENSION backfill UPDATE', extra_params => [ '-U', 'dba' ]);
is($node->safe_psql('upgraded', q{SELECT extversion FROM pg_extension WHERE extname = 'backfill'}), $version, "ALTER EXTENSION makes $version of it");
my $fresh = facts('fresh');
cmp_ok(scalar(@$fresh), '>', 2000, 'a fresh extension has thousands of facts');
is(differences($fresh, facts('upgraded')), '', 'an upgraded one has the same');

# What the comparison sees: each of these, were it only in sql/install.
my %planted = (
	'a column' => [ 'ALTER TABLE backfill.task ADD COLUMN planted int', qr/^\+ table backfill\.task, column planted: type integer/m ],
	'a default' => [ 'ALTER TABLE backfill.task ALTER COLUMN priority SET DEFAULT 1', qr/^\+ .*task, column priority: .*default 1,/m ],
	'NOT NULL' => [ 'ALTER TABLE backfill.dead_letter ALTER COLUMN notes SET NOT NULL', qr/^\+ .*dead_letter, column notes: .*not null t/m ],
	'a type' => [ 'ALTER TABLE backfill.hook ALTER COLUMN search_path TYPE varchar', qr/^\+ table backfill\.hook, column search_path: type character varying/m ],
	'a collation' => [ 'ALTER TABLE backfill.hook ALTER COLUMN search_path TYPE text COLLATE "POSIX"', qr/^\+ table backfill\.hook, column search_path: type text, collation "POSIX"/m ],
	'a constraint' => [ 'ALTER TABLE backfill.queue ADD CONSTRAINT planted CHECK (places >= 0)', qr/^\+ table backfill\.queue: constraint planted/m ],
	'an index' => [ 'CREATE INDEX planted ON backfill.job (created_at)', qr/^\+ index backfill\.planted: definition/m ],
	'a table option' => [ 'ALTER TABLE backfill.job SET (fillfactor = 90)', qr/^\+ table backfill\.job: option fillfactor=90/m ],
	'the replica identity' => [ 'ALTER TABLE backfill.task REPLICA IDENTITY FULL', qr/^\+ table backfill\.task: .*replica identity f/m ],
	'a sequence' => [ 'ALTER SEQUENCE backfill.job_id_seq INCREMENT 2', qr/^\+ sequence backfill\.job_id_seq: .*increment 2/m ],
	'what a sequence belongs to' => [ 'ALTER SEQUENCE backfill.job_id_seq OWNED BY NONE', qr/^- sequence backfill\.job_id_seq: depends \(a\) on table column backfill\.job\.id/m ],
	'when a trigger fires' => [ 'ALTER TABLE backfill.task ENABLE REPLICA TRIGGER config_changed', qr/^\+ table backfill\.task: trigger .*enabled R/m ],
	'a view' => [ 'CREATE OR REPLACE VIEW backfill.tasks AS SELECT *, 1 AS planted FROM (' . $node->safe_psql('fresh', q{SELECT rtrim(pg_get_viewdef('backfill.tasks'), ';')}) . ') t', qr/^\+ view backfill\.tasks: columns .*, planted$/m ],
	'a function' => [ 'ALTER FUNCTION backfill.version() VOLATILE', qr/^\+ function backfill\.version\(\): /m ],
	'its rows' => [ 'ALTER FUNCTION backfill._workers() ROWS 11', qr/^\+ function backfill\._workers\(\): rows 11/m ],
	'its setting' => [ 'ALTER FUNCTION backfill.health(interval, bigint) SET work_mem = 1024', qr/^\+ function backfill\.health\(.*SET work_mem TO/m ],
	'SECURITY DEFINER' => [ 'ALTER FUNCTION backfill.health(interval, bigint) SECURITY INVOKER', qr/^\+ function backfill\.health\(/m ],
	'a comment' => [ q{COMMENT ON FUNCTION backfill.version() IS 'planted'}, qr/^\+ function backfill\.version\(\): comment planted/m ],
	'no comment' => [ 'COMMENT ON TABLE backfill.job IS NULL', qr/^- table backfill\.job: comment /m ],
	'a comment on a column' => [ q{COMMENT ON COLUMN backfill.job.id IS 'planted'}, qr/^\+ table backfill\.job: comment on column id planted/m ],
	'the comment on the extension' => [ q{COMMENT ON EXTENSION backfill IS 'planted'}, qr/^\+ extension: comment planted/m ],
	'a right' => [ 'GRANT SELECT ON backfill.tasks TO PUBLIC', qr/^\+ view backfill\.tasks: right SELECT for PUBLIC/m ],
	'a right to a function' => [ 'GRANT EXECUTE ON FUNCTION backfill.version() TO PUBLIC', qr/^\+ function backfill\.version\(\): right EXECUTE for PUBLIC/m ],
	'a right to a column' => [ 'GRANT SELECT (id) ON backfill.job TO PUBLIC', qr/^\+ table backfill\.job, column id: right SELECT for PUBLIC/m ],
	'a right to the schema' => [ 'GRANT USAGE ON SCHEMA backfill TO PUBLIC', qr/^\+ schema backfill: right USAGE for PUBLIC/m ],
	'an owner' => [ 'ALTER FUNCTION backfill.version() OWNER TO dba', qr/^\+ function backfill\.version\(\): owner dba/m ],
	'a function that is not a member' => [ 'ALTER EXTENSION backfill DROP FUNCTION backfill.version()', qr/^- function backfill\.version\(\): there, of the extension/m ],
	'a member that is too much' => [ 'CREATE DOMAIN planted AS int CHECK (VALUE > 0); ALTER EXTENSION backfill ADD DOMAIN planted', qr/^\+ type public\.planted: there, of the extension/m ],
	'what is dumped' => [ q{UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'backfill'}, qr/^- dumped: backfill\./m ],
	'an operator' => [ 'ALTER OPERATOR backfill.= (backfill.role, backfill.role) SET (RESTRICT = NONE)', qr/^\+ operator backfill\.=/m ],
);
for my $name (sort keys %planted)
{
	my ($statement, $pattern) = @{ $planted{$name} };
	like(differences($fresh, facts('fresh', $statement)), $pattern, "the comparison sees $name");
}

# --- Each statement of the script that upgrades is needed ---

# The statements of a script. Comments, strings and bodies of functions may have semicolons.
sub statements
{
	my ($text) = @_;
	$text =~ s/^\\echo.*\n//m;
	my @found = ('');
	while ($text =~ m{\G(--[^\n]*\n|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|(\$\w*\$).*?\g2|\bBEGIN ATOMIC\b.*?\nEND|;|.)}gs)
	{
		my $token = $1;
		next if $token =~ m{\A(?:--|/\*)};
		if ($token eq ';') { push @found, ''; }
		else { $found[-1] .= $token; }
	}
	return grep { /\S/ } map { s/^\s+|\s+$//gr } @found;
}

my $guard = qq{\\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \\quit\n};
my $script = "backfill--$first--$version.sql";
my $true_script = slurp_file("$scripts/$script");
my @statements = statements($true_script);
cmp_ok(scalar(@statements), '>', 3, 'the script has statements');
new_database('old', $first);
# A check of the library and what changes rows is not to be seen in catalogs.
my @seen = grep { $statements[$_] !~ /^(?:SELECT backfill\._check_library|INSERT|UPDATE|DELETE)\b/ } 0 .. $#statements;
my @unnoticed;
for my $left_out (@seen)
{
	write_script($script, $guard . join(";\n", @statements[ grep { $_ != $left_out } 0 .. $#statements ]) . ";\n");
	push @unnoticed, substr($statements[$left_out], 0, 200) if differences($fresh, facts('old', 'ALTER EXTENSION backfill UPDATE')) eq '';
}
is(join("\n", @unnoticed), '', 'each of its ' . @seen . ' statements is missed when it is left out');
write_script($script, $guard . join(";\n", @statements) . ";\n");
is(differences($fresh, facts('old', 'ALTER EXTENSION backfill UPDATE')), '', 'none, when none is left out');
write_script($script, $true_script);

# --- Rights go along ---

# A version that adds a function and a view to the bundles.
my ($bundle) = slurp_file("$FindBin::RealBin/../../sql/install/90_privileges.sql") =~ /(CREATE FUNCTION backfill\._bundle\(.*?\nEND;)/s;
my $in_bundles = $bundle =~ s/\bCREATE FUNCTION/CREATE OR REPLACE FUNCTION/r =~ s/,version\b/,version,planted/gr;
write_script("backfill--$version--99.0.0.sql", $guard . qq{
CREATE FUNCTION backfill.planted() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
CREATE VIEW backfill.planted_view AS SELECT 1 AS planted;
$in_bundles
SELECT backfill._after_upgrade();
});
new_database('rights', $first);
$node->safe_psql('rights', q{
	CREATE ROLE "a producer"; CREATE ROLE consumer; CREATE ROLE monitor; CREATE ROLE admin; CREATE ROLE curtailed; CREATE ROLE by_hand; CREATE ROLE nothing;
	SELECT backfill.grant_producer('"a producer"'), backfill.grant_consumer('consumer'), backfill.grant_monitor('monitor'), backfill.grant_admin('admin'),
		backfill.grant_producer('curtailed');
	REVOKE EXECUTE ON FUNCTION backfill.enqueue_many FROM curtailed;
	GRANT USAGE ON SCHEMA backfill TO by_hand; GRANT EXECUTE ON FUNCTION backfill.enqueue TO by_hand;
	GRANT EXECUTE ON FUNCTION backfill.version() TO PUBLIC;
});
my $rights = q{SELECT string_agg(r.rolname || CASE WHEN has_function_privilege(r.oid, 'backfill.planted()', 'EXECUTE') THEN ' calls' ELSE '' END
		|| CASE WHEN has_table_privilege(r.oid, 'backfill.planted_view', 'SELECT') THEN ' sees' ELSE '' END, ', ' ORDER BY rolname)
	FROM pg_roles r WHERE NOT rolsuper AND rolname !~ '^pg_'};
my $expected_rights = 'a producer calls, admin calls sees, by_hand, consumer calls, curtailed, monitor calls sees, nothing';
# After pg_upgrade there is no record of the rights that tables and views began with.
$node->safe_psql('rights', q{DELETE FROM pg_init_privs WHERE objoid = 'backfill.tasks'::regclass});
# In a subtransaction, as a migration tool may do it.
$node->safe_psql('rights', q{BEGIN; SAVEPOINT s; ALTER EXTENSION backfill UPDATE TO '99.0.0'; RELEASE s; COMMIT}, extra_params => [ '-U', 'dba' ]);
is($node->safe_psql('rights', $rights), $expected_rights, 'roles that hold a bundle have what is new in it, others do not');
is($node->safe_psql('rights', q{SELECT has_function_privilege('nothing', 'backfill.version()', 'EXECUTE')}), 't', 'what was granted to PUBLIC by hand stays');
is($node->safe_psql('rights', q{SELECT pg_get_userbyid(proowner) = pg_get_userbyid(extowner) FROM pg_proc, pg_extension WHERE proname = 'planted' AND extname = 'backfill'}), 't', 'new functions belong to the owner of the extension');

# A dump has all that was granted, before the update and by it.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ $node->installed_command('pg_dump'), '--schema-only', '-f', $dump, '-d', $node->connstr('rights') ], 'pg_dump');
like(slurp_file($dump), qr/^GRANT ALL ON FUNCTION backfill\.\Q$_\E TO "a producer";$/m, "the dump grants $_") for 'planted()', 'version()';
unlike(slurp_file($dump), qr/^REVOKE .*"a producer"/m, '... and revokes nothing');

like(slurp_file($dump), qr/^GRANT SELECT ON TABLE backfill\.tasks TO monitor;$/m, '... and what was granted on a view');

# A role that is refused makes no difference, nor does an update that changes nothing.
my (undef, undef, $error) = $node->psql('rights', 'SET ROLE admin; ALTER EXTENSION backfill UPDATE');
like($error, qr/must be owner of extension backfill/, 'a role that is not the owner may not update');
(undef, undef, $error) = $node->psql('rights', q{ALTER EXTENSION backfill UPDATE TO '99.0.0'});
like($error, qr/NOTICE:  version "99\.0\.0" of extension "backfill" is already installed/, 'an update that changes nothing');
is($node->safe_psql('rights', $rights), $expected_rights, '... changes no rights');
unlink "$scripts/backfill--$version--99.0.0.sql";

# --- Old scripts, new library ---

my $position = log_position($node);
$node->safe_psql('old', q{
	CREATE TABLE ran (note text);
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO ran VALUES (payload->>'note') $$;
	SELECT backfill.register_task('work', 'work(jsonb)', keep_history => '1 day'), backfill.register_task('outside');
	SELECT backfill.set_queue('limited', 2, 5, '1 s', 100), backfill.schedule('yearly', '@yearly', 'work'), backfill.set_retry_policy('mine', 4);
	SELECT backfill.enqueue('outside', queue_name => 'limited'), backfill.enqueue('outside', run_at => '2100-01-01');
	SELECT backfill.claim_jobs('a consumer', tasks => '{outside}');
	SELECT backfill.enqueue('work', '{"note": "dead"}') AS id \gset
	SELECT backfill.add_to_dlq(:id, 'planted'), backfill.enqueue('work', '{"note": "before the update"}', job_key => 'key');
});
$node->wait_for_log(qr/backfill runs no jobs in database "old": the extension has version \Q$first\E, the library \Q$version\E/);
like($node->safe_psql('old', q{SELECT backfill.why_not_running(id) FROM backfill.job WHERE job_key = 'key'}), qr{^version_mismatch: .*run ALTER EXTENSION backfill UPDATE}, 'why_not_running() says so');
like($node->safe_psql('old', q{SELECT status || ': ' || hint FROM backfill.health() WHERE check_name = 'version'}), qr/^critical: Run ALTER EXTENSION backfill UPDATE/, 'and health()');

# Every function, with NULLs and with what its arguments are without a value.
sub call_all
{
	my ($db) = @_;
	my @calls = split /\n/, $node->safe_psql($db, q{
		SELECT CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT ' END || p.oid::regproc || '(' || coalesce((
				SELECT string_agg(CASE n WHEN 0 THEN 'NULL::' || t::regtype ELSE CASE WHEN t = 'jsonb'::regtype THEN '''{}''' WHEN t IN ('text'::regtype, 'name'::regtype) THEN '''x''' WHEN typcategory = 'N' AND t <> 'regrole'::regtype THEN '1'
					WHEN typcategory = 'B' THEN 'true' WHEN typcategory = 'T' THEN '''1 s''' WHEN typcategory = 'D' THEN 'now()' ELSE 'NULL' END || '::' || t::regtype END, ', ' ORDER BY place)
				FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a (t, place) JOIN pg_type y ON y.oid = t), '') || ')'
		  FROM pg_proc p, generate_series(0, 1) n
		 WHERE p.pronamespace = 'backfill'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		   AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[]) AND p.proname NOT IN ('wait_for_jobs', 'await_job')
		UNION ALL
		SELECT 'TABLE ' || oid::regclass FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'v'
		 ORDER BY 1});
	my ($unclear, %codes) = ('');
	for my $call (@calls)
	{
		my ($code, undef, $err) = $node->psql($db, "\\set VERBOSITY verbose\nBEGIN;\nSET LOCAL statement_timeout = '60s';\n$call;\nROLLBACK");
		my ($sqlstate) = $err =~ /ERROR:  (\w{5})/;
		$codes{ $sqlstate // 'none' }++;
		# What the library misses: it has to say why.
		$unclear .= "$call: $err\n" if $code == 2 || ($sqlstate // '') =~ /^(?:XX|42P01|42703|42883|42804|0A000)/ && $err !~ /ALTER EXTENSION backfill UPDATE/;
	}
	note join ', ', map { "$_ $codes{$_}" } sort keys %codes;
	return (scalar(@calls), $unclear, $codes{none});
}
my ($calls, $unclear, $fine) = call_all('old');
cmp_ok($calls, '>', 200, 'every function is called twice, and every view read, of the old scripts with the new library');
cmp_ok($fine, '>', 60, 'many of the calls succeed');
is($unclear, '', 'no call crashes or gives an error that is unclear');

$node->safe_psql('old', 'ALTER EXTENSION backfill UPDATE');
wait_until($node, 'old', 'SELECT note FROM ran', 'the job that waited runs after the update', 'before the update');

# What the library misses it says.
for my $case (
	[ 'a column that it reads below SQL', 'ALTER TABLE backfill.task RENAME COLUMN savepoint_per_job TO planted', q{backfill.enqueue('work')} ],
	[ 'a column that it reads by SQL', 'ALTER TABLE backfill.task RENAME COLUMN registered_at TO planted', q{backfill.register_task('work', 'work(jsonb)')} ],
	[ 'a table', 'ALTER TABLE backfill.queue RENAME TO planted', q{backfill.enqueue('work')} ])
{
	my ($what, $statement, $call) = @$case;
	(undef, undef, $error) = $node->psql('fresh', "BEGIN; CREATE FUNCTION work(jsonb) RETURNS void LANGUAGE sql AS ''; $statement; SELECT $call; ROLLBACK");
	like($error, qr/HINT: .*ALTER EXTENSION backfill UPDATE/, "the error about $what names the update");
}

# --- New scripts, old library ---

# A version later than the library's stands for them.
write_script('backfill--99.0.0.sql', slurp_file("$scripts/backfill--$version.sql"));
write_script("backfill--$version--99.0.0.sql", $guard . "SELECT backfill._check_library();\nCREATE TABLE backfill.planted ();\n");
$node->safe_psql('postgres', 'CREATE DATABASE newer');
my $older = qr/ERROR:  the library of backfill that is loaded, \Q$version\E, is older than the scripts, 99\.0\.0\nHINT:  Restart the server/;
(undef, undef, $error) = $node->psql('newer', q{CREATE EXTENSION backfill VERSION '99.0.0'});
like($error, $older, 'CREATE EXTENSION with an older library names the restart');
is($node->safe_psql('newer', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill'}), 0, '... and leaves nothing');
(undef, undef, $error) = $node->psql('upgraded', q{ALTER EXTENSION backfill UPDATE TO '99.0.0'});
like($error, $older, 'and so does ALTER EXTENSION UPDATE');
is(differences($fresh, facts('upgraded')), '', '... and changes nothing');

$node->stop;
check_log($node);
done_testing();
