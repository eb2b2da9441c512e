# backfill.headers in the configuration file, which the postmaster reads, too: what is no JSON object is
# refused, nothing in it ends the server, and what only jsonb refuses is an error of the enqueue.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('headers_setting', conf => "backfill.max_executors = 0\n");
create_extension($node);
my $started = q{SELECT pg_postmaster_start_time()};
my $start = $node->safe_psql('postgres', $started);

# Sets it in the file, whether it may be or not, together with another setting that tells when it was read.
my $reads = 0;
sub configure
{
	(my $value = $_[0]) =~ s/\\/\\\\/g; # as a quoted string
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$reads++;
	open my $file, '>>:raw', $node->data_dir . '/postgresql.conf' or die $!;
	print $file "backfill.headers = '$value'\nbackfill.notify_interval = ${reads}s\n";
	close $file;
	$node->reload;
	wait_until($node, 'postgres', 'SHOW backfill.notify_interval', "reload $reads is over", "${reads}s");
	return;
}
my $enqueue = q{SELECT backfill.enqueue('t') AS id \gset
	SELECT coalesce(headers::text, 'none') FROM backfill.get_job(:id);};
sub enqueued { return $node->safe_psql('postgres', $_[0] // $enqueue); }

configure('{"ce-source": "/the/server", "ce-type": "\u00e9"}');
is(enqueued(), qq[{"ce-type": "\xc3\xa9", "ce-source": "/the/server"}], 'escapes are read where the database is known');
my $log = log_position($node);
for my $bad ('[1]', '{', '{"a": 1} x', '{"a":' x 200000, '{"a": "\uzzzz"}')
{
	configure($bad);
}
cmp_ok(scalar(log_lines($node, qr/invalid value for parameter "backfill.headers"/, $log)), '>=', 5, 'what is no object is refused');
like(enqueued(), qr{/the/server}, 'the last good value counts');
configure("{\"a\": \"\xff\"}");
like(($node->psql('postgres', q{SELECT backfill.enqueue('t')}))[2], qr/invalid byte sequence for encoding "UTF8"/, 'text of another encoding');
configure('{"a": "\u0000"}');
like(($node->psql('postgres', q{SELECT backfill.enqueue('t')}))[2], qr/\\u0000 cannot be converted to text/, 'text that jsonb cannot hold');
is(enqueued(qq{SET backfill.headers = '{"own": 1}';\n$enqueue}), '{"own": 1}', 'a session sets its own');
is($node->safe_psql('postgres', $started), $start, 'the server has not restarted');
$node->stop;
check_log($node);

# A session that sets it before it has the library.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nbackfill.headers = ''\n");
$node->start;
is(enqueued(qq{BEGIN; SET LOCAL backfill.headers = '{"early": 1}';\n$enqueue\nCOMMIT;\n$enqueue}), qq[{"early": 1}\nnone], 'a value from before counts');
$node->stop;
done_testing();
