#!/bin/bash
# Building elsewhere than where the sources are, in a directory whose name is hard on shells, by another
# compiler. Prints TAP. To save time only two of the library's objects are compiled, one of each kind.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source test/lib/common.sh
source test/lib/tap.sh
scratch=$(mktemp -d "$TMPDIR/backfill-build.XXXXXX")
trap 'rm -rf -- "$scratch"' EXIT
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)
elsewhere="$scratch/Meine \"Projekte\" (1), Kurt's"
mkdir "$elsewhere"

# elsewhere ARGUMENT...: make, there.
elsewhere() { make -s -C "$elsewhere" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" "$@" 2>&1 </dev/null; }

# Those of released versions, and those that upgrade.
scripts_in_git() { git -c safe.directory='*' ls-files 'sql/backfill--*.sql' 2>/dev/null; }

compiler=(CC=gcc CXX=g++)
! command -v clang++ >/dev/null || compiler=(CC=clang CXX=clang++)
is "$(elsewhere "${compiler[@]}" COPT=-Werror src/core.o src/commit.o sql/backfill--$version.sql router/sql/backfill_router--$version.sql)" '' "make ${compiler[*]} there compiles without a word"
ok "$([[ -s $elsewhere/src/core.o && -s $elsewhere/src/commit.o ]] && echo yes)" 'what it is asked for is there'
ok "$(cat sql/install/*.sql | cmp -s - "$elsewhere/sql/backfill--$version.sql" && echo yes)" 'and the install script is whole'
ok "$(cat router/sql/install/*.sql | cmp -s - "$elsewhere/router/sql/backfill_router--$version.sql" && echo yes)" "and the router's"

plan=$(make -n -C "$elsewhere" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" install DESTDIR=/nowhere 2>&1)
missing=
for file in src/*.cpp src/*/*.cpp bgworker/*.cpp; do
    [[ $file == src/core/* || $file == src/commit/* || $plan == *"/$file"* ]] || missing+=" $file"
    [[ $plan == *" ${file%/*}.o"* ]] || missing+=" ${file%/*}.o"
done
is "$missing" '' 'all others would be compiled and linked'
is "$(sed -nE 's/.* (-g[^ ]*) .* -c .*/\1/p' <<<"$plan" | sort -u)" -g1 'with functions and lines for debuggers, and no more'
for file in backfill.control router/backfill_router.control share/* $(scripts_in_git); do
    [[ $plan == *"$BACKFILL_ROOT/$file "* || $plan == *"$BACKFILL_ROOT//$file "* ]] || missing+=" $file"
done
is "$missing" '' 'and what is not built would be installed from the sources'
removed=$(make -n -C "$elsewhere" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" uninstall DESTDIR=/nowhere 2>&1)
for file in backfill.so backfill.control backfill_router.control backfill--$version.sql backfill_router--$version.sql; do
    grep -qE "/${file//./\\.}('| |$)" <<<"$removed" || missing+=" $file"
done
is "$missing" '' 'make uninstall removes what is built, too'
ok "$([[ -f $(sed -nE 's/.*--version-script=([^ ]+).*/\1/p' <<<"$plan" | head -n 1) ]] && echo yes)" 'the linker finds the list of symbols'

# It can't be built for macOS here, but what would be run there can be seen.
link=$(make -n -C "$elsewhere" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" PORTNAME=darwin all 2>&1 | grep -- ' -o backfill\.')
like "$link" '* -lc++*' "the library is linked with macOS's C++ library there"
ok "$([[ -n $link && $link != *version-script* && $link != *stdc++* ]] && echo yes)" 'and with nothing that its linker does not know'

# The dashboard's program, where it is. Its driver's loop is the smallest of what is compiled.
mkdir -p "$elsewhere/web/test"
cp -r backfill.control "$elsewhere"
cp -r web/Makefile web/embed.sh web/page web/src "$elsewhere/web"
cp -r web/test/unit web/test/fuzz "$elsewhere/web/test"
plan=$(make -n -C "$elsewhere/web" all build/unit/run mutate 2>&1)
missing=
for file in web/src/*.cpp web/test/unit/*.cpp web/test/fuzz/*.cpp; do
    [[ $plan == *" ${file#web/}"* ]] || missing+=" $file"
done
is "$missing" '' 'all files of the program would be compiled there'
ok "$([[ $plan == *"-DBACKFILL_VERSION='\"$version\"'"* ]] && echo yes)" "with the extension's version"
is "$(make -s -C "$elsewhere/web" COPT=-Werror build/fuzz/mutate.o 2>&1)" '' 'and are'

# As PGXS's manual has it, in a directory below.
below=$scratch/sources/below
mkdir -p "$below" "$scratch/sources/router"
cp -r Makefile backfill.control src bgworker include share sql "$scratch/sources"
cp -r router/backfill_router.control router/sql "$scratch/sources/router"
find "$scratch/sources" \( -name '*.o' -o -name '*.d' -o -name '*.gch' -o -name "backfill*--$version.sql" \) -delete
is "$(make -s -C "$below" -f ../Makefile VPATH=.. PG_CONFIG="$PG_CONFIG" src/core.o sql/backfill--$version.sql 2>&1)" '' 'make -f ../Makefile VPATH=.. compiles'
ok "$([[ -s $below/src/core.o && ! -e $scratch/sources/src/core.o ]] && echo yes)" 'into its own directory'
ok "$(cat sql/install/*.sql | cmp -s - "$below/sql/backfill--$version.sql" && echo yes)" 'and makes the whole script'
plan=$(make -n -C "$below" -f ../Makefile VPATH=.. PG_CONFIG="$PG_CONFIG" all 2>&1)
link=$(grep -- ' -o backfill\.so ' <<<"$plan")
missing=
for file in src/*.cpp src/*/*.cpp bgworker/*.cpp; do
    [[ $file == src/core/* || $plan == *" ../$file"* ]] || missing+=" $file"
    [[ $link == *" ${file%/*}.o"* ]] || missing+=" ${file%/*}.o"
done
is "$missing" '' 'and it would compile and link all others'
ok "$([[ -f $below/$(sed -nE 's/.*--version-script=([^ ]+).*/\1/p' <<<"$link") ]] && echo yes)" 'with the list of symbols'

# The same bytes, whatever directory the sources are in.
for copy in one 'the other'; do
    mkdir "$scratch/$copy"
    cp -r Makefile backfill.control src bgworker include share "$scratch/$copy"
    find "$scratch/$copy" \( -name '*.o' -o -name '*.d' -o -name '*.gch' \) -delete
    is "$(make -s -C "$scratch/$copy" PG_CONFIG="$PG_CONFIG" src/core.o src/commit.o 2>&1)" '' "make in the directory \"$copy\""
done
for object in src/core.o src/commit.o; do
    ok "$(cmp -s "$scratch/one/$object" "$scratch/the other/$object" && echo yes)" "$object is the same, byte for byte, in both"
done

# A directory's files are compiled as one: also after one has come or gone, elsewhere, too.
echo 'int additional() { return 1; }' >"$scratch/sources/src/core/additional.cpp"
touch -d '2020-01-01' "$scratch/sources/src/core/additional.cpp"
is "$(make -s -C "$below" -f ../Makefile VPATH=.. PG_CONFIG="$PG_CONFIG" src/core.o 2>&1)" '' 'with a file more'
like "$(nm "$below/src/core.o")" '*additional*' 'it is compiled, too, although it is old'
rm "$scratch/sources/src/core/additional.cpp"
is "$(make -s -C "$below" -f ../Makefile VPATH=.. PG_CONFIG="$PG_CONFIG" src/core.o 2>&1)" '' 'and without it again'
like "$(nm "$below/src/core.o" | grep -c additional)" 0 'it is gone'

if git -C "$BACKFILL_ROOT" rev-parse HEAD >/dev/null 2>&1; then
    is "$(elsewhere dist)" '' 'make dist'
    files=$(python3 -m zipfile -l "$elsewhere/backfill-$version.zip")
    for file in Makefile META.json sql/backfill--$version.sql router/backfill_router.control router/sql/backfill_router--$version.sql $(scripts_in_git) src/module.cpp; do
        is "$(grep -cF "backfill-$version/$file " <<<"$files")" 1 "the archive has $file"
    done
else
    skip 'an archive is made of a repository'
fi

done_testing
