#!/bin/bash
# Builds Debian's packages twice, as two revisions and in two directories, and runs the tests that belong
# to them. Leaves the first revision in /out/1, the second in /out/2.
source /src/backfill/test/install/on_machine/lib.sh

# Everything runs as a user without rights, as on a build machine.
build() { runuser -u builder -- env -C "$1" DEB_BUILD_OPTIONS="parallel=$(nproc)${3:+ $3}" dpkg-buildpackage --no-sign "$2"; }

# unpack DIRECTORY: the source package's two parts.
unpack() {
    mkdir -p "$1"
    git archive --prefix="backfill-$version/" HEAD -- . ':(exclude)debian' | gzip -n >"$1/backfill_$version.orig.tar.gz"
    git archive --prefix="backfill-$version/" HEAD | tar -C "$1" -x
    # What the release does.
    sed -i '1s/UNRELEASED/unstable/' "$1/backfill-$version/debian/changelog"
}

must 'the tools are installed' apt_install build-essential git ca-certificates lintian autopkgtest
useradd --create-home builder
unpack /build/one
must 'what the packages need is installed' apt-get build-dep -y -qq "/build/one/backfill-$version"
unpack "/build/another"
revision=$(dpkg-parsechangelog --show-field Version)
{
    printf 'backfill (%s+again) unstable; urgency=medium\n\n  * Build again.\n\n' "$revision"
    printf ' -- %s\n\n' "$(sed -n 's/^ -- //p' debian/changelog | head -n 1)"
    cat "/build/one/backfill-$version/debian/changelog"
} >"/build/another/backfill-$version/debian/changelog"
chown -R builder: /build

if must 'source and packages are built, and pass the SQL tests' build "/build/one/backfill-$version" --build=full; then
    ok "$( (($(grep -cE 'All [0-9]+ tests passed' "$log") >= 2)) && echo yes)" 'the SQL tests ran, the ones of two sessions, too'
fi
cd /build/one || exit
findings=$(runuser -u builder -- lintian --no-tag-display-limit "backfill_${revision}_"*.changes 2>&1) || true
is "$(grep -E '^(E|W): ' <<<"$findings")" '' 'lintian finds no errors and nothing to warn of'
mkdir /out/1 /out/2
cp -- postgresql-*-backfill_*.deb /out/1

must 'a second revision is built' build "/build/another/backfill-$version" --build=binary nocheck
cp -- "/build/another"/postgresql-*-backfill_*.deb /out/2
# The version is in no file but Debian's changelog.
mkdir -p /unpacked/1 /unpacked/2
for package in /out/?/*.deb; do
    dpkg-deb -x "$package" "/unpacked/${package#/out/}"
done
for library in /unpacked/1/*/usr/lib/postgresql/*/lib/backfill.so; do
    again=(/unpacked/2/postgresql-*"${library#/unpacked/1/*.deb}")
    ok "$(cmp -s "$library" "${again[0]}" && echo yes)" "the library for ${library#/unpacked/1/*/usr/lib/} is the same, byte for byte, when it is built in another directory"
done

# Debian's way to test what is installed.
try 'autopkgtest passes' autopkgtest --no-built-binaries /out/1/*.deb /build/one/backfill-web_*.deb "/build/one/backfill-$version" -- null
ok "$(grep -qE '^installcheck +PASS' "$log" && echo yes)" 'it ran the SQL tests'
done_testing
