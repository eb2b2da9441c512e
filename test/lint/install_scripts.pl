#!/usr/bin/perl
# Prints what is unsafe in the install and upgrade scripts given as arguments. A session that runs CREATE
# or ALTER EXTENSION or calls one of our functions may have functions and operators of another role in its
# search_path, so
#   - every call and every relation is named with its schema,
#   - every function in SQL or PL/pgSQL runs under a pinned search_path, which is what
#     operators are looked up by. A procedure that commits cannot have one: it names its operators with their
#     schema, too. A router's functions that are inlined have none, because what is in BEGIN ATOMIC is looked
#     up only once,
#   - nothing is adopted that existed before: only plain CREATE. An upgrade script may replace: since 15
#     PostgreSQL refuses that for what does not belong to the extension.
use strict;
use warnings;

# What may stand before a parenthesis and is no function: words of SQL's grammar.
my %word = map { $_ => 1 } qw(
  and all any array as between by cast check coalesce conflict distinct execute exists extract filter from
  greatest in index insert into is join key least lateral limit not nullif offset on operator options or order over
  partition references return returning returns row rows select set some table then union unique using values
  when where with within);
# Types with a modifier.
$word{$_} = 1 foreach qw(numeric varchar char bit interval timestamp time);

my $found = 0;

sub complain
{
	my ($file, $text, $at, $what) = @_;
	my $line = 1 + (substr($text, 0, $at) =~ tr/\n//);
	print "$file:$line: $what\n";
	$found = 1;
	return;
}

# The same text with comments and the insides of '...' blanked, so that offsets stay. Bodies in
# $$...$$ are code, and stay.
sub code_only
{
	my ($text) = @_;
	my $blank = sub { (my $s = $_[0]) =~ s/[^\n]/ /g; return $s; };
	$text =~ s{(--[^\n]*|/\*.*?\*/|'(?:[^']|'')*')}{$blank->($1)}gse;
	return $text;
}

# Whether a script goes on with a procedure without a SET clause, in PL/pgSQL, that calls no operator by its bare name.
sub names_its_operators
{
	my ($body) = $_[0] =~ /^CREATE PROCEDURE [^\$]*\bLANGUAGE plpgsql\s+AS \$\$(.*?)\$\$;/s or return 0;
	$body =~ s/OPERATOR\(pg_catalog\.\S+\)|:=//g;
	return $body !~ m{[-+*/<>=~!@\#%^&|]|\b(?:LIKE|ILIKE|SIMILAR|IN|BETWEEN|DISTINCT)\b}i;
}

foreach my $file (@ARGV)
{
	open my $in, '<', $file or die "could not open $file: $!\n";
	my $text = do { local $/; <$in> };
	close $in;
	my $code = code_only($text);

	my $upgrades = $file =~ /--.*--/;
	while ($code =~ /\b(OR\s+REPLACE|IF\s+NOT\s+EXISTS(?!\s*\())\b/gi)
	{
		next if $upgrades && $1 =~ /^OR/i;
		complain($file, $text, $-[0], "\"$1\" adopts an object that another role may have made");
	}
	my $extension = $file =~ m{^router/} ? 'backfill_router' : 'backfill';
	my $guard = $upgrades ? "ALTER EXTENSION $extension UPDATE" : "CREATE EXTENSION $extension";
	while ($code =~ /^\\(?!echo Use "\Q$guard\E" to load this file\. \\quit$)/gm)
	{
		complain($file, $text, $-[0], 'psql command in an install script');
	}
	while ($code =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+([\w.]+)/gm)
	{
		my ($name, $at) = ($1, $-[0]);
		my ($head) = substr($code, $at) =~ /^(.*?)(?:\bAS\b\s*(?:\$|\s{2,}|'|,)|\bBEGIN ATOMIC\b|;)/s;
		complain($file, $text, $at, "$name has no pinned search_path")
		  unless $head =~ /\bLANGUAGE c\b/i
		  || $head =~ /SET search_path = pg_catalog, pg_temp\b/
		  || names_its_operators(substr($code, $at))
		  || ($extension eq 'backfill_router' && substr($code, $at + length $head) =~ /^BEGIN ATOMIC/);
		complain($file, $text, $at, "$name is not named with its schema") unless $name =~ /^backfill\./;
	}
	# A call: a name before a parenthesis. Lists of columns follow a name, too: of a table, a
	# common table expression, an alias or an index.
	while ($code =~ /(?<![\w.\$"%])([a-z_]\w*)\s*\(/gi)
	{
		my ($name, $at) = (lc $1, $-[0]);
		next if $word{$name};
		my $before = substr($code, 0, $at);
		next if $before =~ /(?:\b(?:AS|WITH|ORDINALITY|RECURSIVE|KEY|INTO|,\s*LATERAL)|\))\s*$/i;
		complain($file, $text, $at, "$name() is not named with its schema");
	}
	while ($code =~ /\b(?:(?:FROM|JOIN|UPDATE|REFERENCES|ON TABLE)\s+(?:ONLY\s+)?([a-z_]\w*)\b(?!\.|\s*\()|(?:INSERT\s+INTO|CREATE\s+(?:UNIQUE\s+)?(?:TABLE|VIEW|SEQUENCE))\s+([a-z_]\w*)\b(?!\.))/gi)
	{
		my ($name, $at) = (lc($1 // $2), $-[0]);
		# UPDATE OF names columns in a trigger, and FOR UPDATE OF or SKIP no table of their own.
		next if $word{$name} || $name =~ /^(?:if|of|public|skip)$/;
		# extract(epoch FROM x); IS DISTINCT FROM x.
		next if substr($code, 0, $-[0]) =~ /(?:\bextract\s*\(\s*\w+|\bDISTINCT)\s*$/i;
		# What WITH RECURSIVE defines is seen by the rest of the statement, itself included, before
		# any relation of that name is looked for.
		next if substr($code, 0, $at) =~ /\bWITH\s+RECURSIVE\s+\Q$name\E\b[^;]*\z/i;
		# The same for what WITH has defined before.
		next if substr($code, 0, $at) =~ /(?:\bWITH|\),)\s+\Q$name\E\s+AS\s+(?:MATERIALIZED\s+)?\([^;]*\z/i;
		complain($file, $text, $at, "relation $name is not named with its schema");
	}
}
exit $found;
