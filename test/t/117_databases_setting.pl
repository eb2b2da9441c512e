# Which databases the launcher looks after: the list in backfill.databases, and no place for those
# that have no extension, or cannot be connected to.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('databases_setting');
for my $db ('MyDb', 'plain', 'two words')
{
	$node->safe_psql('postgres', qq{CREATE DATABASE "$db"});
	create_extension($node, $db);
}
my $served = q{SELECT coalesce(string_agg(datname, ',' ORDER BY datname COLLATE "C"), '') FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'};
sub serves
{
	my ($expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', $served, $name, $expected);
}
sub set_databases
{
	my ($value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET backfill.databases = $value");
	$node->reload;
	# The launcher looks when it has read the configuration, or once a minute.
	$node->safe_psql('postgres', q{CREATE DATABASE nudge; DROP DATABASE nudge});
	return;
}

serves('MyDb,plain,two words', 'all databases that are named are served');
set_databases(q{'MyDb'});
serves('MyDb', 'capital letters count');
set_databases(q{'plain, "two words"'});
serves('plain,two words', 'a name in quotes');
for my $bad ('bars,', 'this is not a list', '"bugs')
{
	my (undef, undef, $error) = $node->psql('postgres', "ALTER SYSTEM SET backfill.databases = '$bad'");
	like($error, qr/ERROR:  invalid value for parameter "backfill.databases": "\Q$bad\E"\nDETAIL:  It must be a list of database names/, "$bad is refused");
}
my $position = log_position($node);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET backfill.databases');
$node->append_conf('postgresql.conf', "backfill.databases = 'bars,'\n");
$node->reload;
ok($node->wait_for_log(qr/invalid value for parameter "backfill.databases": "bars,"/, $position), 'an invalid value in the file is refused');
serves('plain,two words', 'an invalid value leaves the old one in force');
$position = log_position($node);
$node->restart;
ok($node->wait_for_log(qr/WARNING: .*invalid value for parameter "backfill.databases": "bars,"/, $position), 'a server that starts with it says so');
wait_for_workers($node, 'launcher', undef, 1, 'the launcher runs');
is($node->safe_psql('plain', q{SELECT detail FROM backfill.health() WHERE check_name = 'dispatcher'}), 'backfill.databases does not name this database', 'health() says that no database is named');
serves('', 'an invalid value at the start stands for no database');
$node->append_conf('postgresql.conf', "backfill.databases = '*'\n");
$node->restart;
serves('MyDb,plain,two words', 'all databases are served again');

# --- Places in shared memory.

$node->safe_psql('postgres', "CREATE DATABASE empty$_") for 1 .. 4;
wait_until($node, 'plain', 'SELECT databases FROM backfill._server_state()', 'databases without the extension take no place', 3);
create_extension($node, 'empty3');
serves('MyDb,empty3,plain,two words', 'a database that gets the extension is served');
is($node->safe_psql('plain', 'SELECT databases FROM backfill._server_state()'), 4, 'a database that gets the extension has a place');
$node->safe_psql('empty3', 'DROP EXTENSION backfill');
wait_until($node, 'plain', 'SELECT databases FROM backfill._server_state()', 'until it is dropped', 3);

# --- A database that a DROP DATABASE has left behind is not to be connected to.

create_extension($node, 'empty1');
serves('MyDb,empty1,plain,two words', 'a database that gets the extension is served');
$position = log_position($node);
$node->safe_psql('postgres', q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'empty1'});
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher' AND datname = 'empty1'});
serves('MyDb,plain,two words', 'an invalid database is not served');
wait_until($node, 'plain', 'SELECT databases FROM backfill._server_state()', 'an invalid database has no place', 3);
$node->safe_psql('postgres', q{CREATE DATABASE nudge; DROP DATABASE nudge});
is(join("\n", log_lines($node, qr/FATAL: .*cannot connect to invalid database/, $position)), '', 'no worker tries to connect to an invalid database');

$node->stop;
check_log($node);
done_testing();
