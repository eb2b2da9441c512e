# A PostgreSQL installation of the test's own, whose extension scripts it may write: those of backfill are
# copies, all else is the server's. PostgreSQL finds its directories by where its programs are, so those are
# copied, too, and everything stands to everything else as it does in the server's installation.
package Installation;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Basename qw(basename);
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;

our @EXPORT = qw(make_installation);

sub entries { return glob("$_[0]/*"); }

# A directory of links to all there is in another one, but for the names that match: of those copies.
sub imitate
{
	my ($from, $to, $copied) = @_;
	make_path($to);
	for my $entry (entries($from))
	{
		my $new = "$to/" . basename($entry);
		next if -e $new;
		if (-f $entry && basename($entry) =~ $copied)
		{
			copy($entry, $new) or die "could not copy $entry: $!";
			chmod((stat $entry)[2] & oct(755), $new) or die "could not chmod $new: $!";
		}
		else { symlink($entry, $new) or die "could not make $new: $!"; }
	}
	return;
}

# Returns where it is, as new_server(install_path => ...) wants it, and where its extension scripts are.
sub make_installation
{
	my ($name) = @_;
	my %dir;
	for my $kind ('bindir', 'sharedir', 'pkglibdir')
	{
		chomp($dir{$kind} = `pg_config --$kind`);
		$dir{$kind} =~ s{/+$}{};
	}
	# The part of the paths that all three have in common is another one here.
	my ($common) = "$dir{bindir}/\n$dir{sharedir}/\n$dir{pkglibdir}/" =~ m{^(.*/).*\n\1.*\n\1};
	my $root = PostgreSQL::Test::Utils::tempdir($name);
	my %own = map { $_ => "$root/" . substr($dir{$_}, length $common) } keys %dir;
	imitate("$dir{sharedir}/extension", "$own{sharedir}/extension", qr/^backfill/);
	imitate($dir{sharedir}, $own{sharedir}, qr/^$/);
	imitate($dir{pkglibdir}, $own{pkglibdir}, qr/^backfill/);
	imitate($dir{bindir}, $own{bindir}, qr/./);
	return ($own{bindir} =~ s{/bin$}{}r, "$own{sharedir}/extension");
}

1;
