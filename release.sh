#!/bin/bash
# Makes a release of what is committed: checks everything, then makes the tag vVERSION and the archive
# for PGXN. It pushes and uploads nothing.
#
#   release.sh VERSION             e.g. release.sh 0.2.0, or make release VERSION=0.2.0
#   release.sh --dry-run VERSION   all checks, but no tag and no archive (make release VERSION=0.2.0 DRY_RUN=1)
#
# What it takes: the branch main without changes, the same version in backfill.control, META.json,
# debian/changelog and CHANGELOG.md, the latter two with the date of the release; its install script, and
# the script that upgrades to it from the version before, frozen in git; and then `make test`,
# `make test-install` and `make test-matrix`, which take hours and need root. The tag is signed if git
# has a key to sign with (user.signingKey).
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/test/lib/common.sh"
cd "$BACKFILL_ROOT"

dry_run=''
if [[ ${1:-} == --dry-run ]]; then
    dry_run=yes
    shift
fi
(($# == 1)) || die "usage: release.sh [--dry-run] VERSION"
version=$1
tag=v$version
[[ $version =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]] || die "the version \"$version\" is not of the form 1.2.3"

problems=0
problem() {
    warn "error: $*"
    problems=$((problems + 1))
}
stop_if_problems() { ((problems == 0)) || die "$1 has not been released"; }

# same WHERE WHAT IT IS: the version there must be that of the release.
same() { [[ $2 == "$version" ]] || problem "$1 says \"$2\", not \"$version\""; }

check_repository() {
    local branch changes
    branch=$(git symbolic-ref -q --short HEAD) || branch='no branch'
    [[ $branch == main ]] || problem "the tree is on $branch; releases are made on main"
    changes=$(git status --porcelain)
    [[ -z $changes ]] || problem "the tree has changes that are not committed: $(head -n 5 <<<"$changes" | cut -c 4- | paste -s -d ' ')"
    ! git rev-parse -q --verify "refs/tags/$tag" >/dev/null || problem "the tag $tag is there already; a released version never changes"
}

check_versions() {
    local heading entry
    same 'default_version in backfill.control' "$(sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)"
    same 'default_version in router/backfill_router.control' "$(sed -n "s/^default_version = '\(.*\)'/\1/p" router/backfill_router.control)"
    same 'META.json' "$(python3 -c 'import json; print(json.load(open("META.json")).get("version"))')"
    heading=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
    same 'the first heading of CHANGELOG.md' "${heading%% *}"
    [[ $heading =~ \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$ ]] || problem "the first heading of CHANGELOG.md, \"$heading\", does not end in the release's date, (2027-01-31)"
    entry=$(head -n 1 debian/changelog)
    same 'the first entry of debian/changelog' "$(sed -nE 's/^backfill \((.*)-[^-]*\) .*/\1/p' <<<"$entry")"
    [[ $entry == *') unstable; '* ]] || problem "the first entry of debian/changelog, \"$entry\", is not for unstable"
}

# A script of the release must be in git, and must not change from now on.
check_frozen() {
    local script=$1
    if ! git cat-file -e "HEAD:sql/$script" 2>/dev/null; then
        problem "sql/$script is not in git: git add -f sql/$script"
    elif ! grep -qF -- "  $script" sql/frozen.sha256; then
        problem "sql/$script is not frozen: (cd sql && sha256sum $script >>frozen.sha256)"
    fi
}

check_scripts() {
    local before
    check_frozen "backfill--$version.sql"
    git show "HEAD:sql/backfill--$version.sql" 2>/dev/null | cmp -s - <(cat sql/install/*.sql) ||
        problem "sql/backfill--$version.sql in git is not what make assembles from sql/install"
    before=$(sed -nE 's/^[0-9a-f]+  backfill--([0-9.]+)\.sql$/\1/p' sql/frozen.sha256 | grep -vxF -- "$version" | sort -V | tail -n 1)
    [[ -z $before ]] || check_frozen "backfill--$before--$version.sql"
}

# Run the tests of a target: they must end well, and say that there were some.
check_tests() {
    local log counts status=0
    log=$(mktemp "$TMPDIR/backfill-release.XXXXXX")
    say "make $1"
    make "$1" 2>&1 </dev/null | tee "$log" || status=$?
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | tail -n 1)
    rm -f "$log"
    if ((status != 0)) || [[ ! $counts =~ ^[1-9][0-9]*\ 0$ ]]; then
        problem "make $1 did not pass"
    fi
}

# What is to be uploaded, made and checked; sets `archive`.
make_archive() {
    local dir found
    dir=$(mktemp -d "$TMPDIR/backfill-release.XXXXXX")
    # shellcheck disable=SC2064 # now
    trap "rm -rf -- '$dir'" EXIT
    archive=$dir/backfill-$version.zip
    if ! found=$(make -s -C "$dir" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" dist 2>&1 && python3 test/lib/check_archive.py "$archive"); then
        problem "the archive: ${found:-make dist has failed}"
    fi
}

check_repository
check_versions
check_scripts
stop_if_problems "$version"
for target in test test-install test-matrix; do
    check_tests "$target"
    stop_if_problems "$version"
done
check_repository # the tests must not have changed it
make_archive
stop_if_problems "$version"
if [[ -n $dry_run ]]; then
    say "all checks passed; $version could be released"
    exit
fi
kind=--sign
if [[ -z $(git config user.signingKey) ]]; then
    warn "git has no key to sign with (user.signingKey): the tag $tag is annotated, not signed"
    kind=--annotate
fi
git tag "$kind" -m "backfill $version" "$tag"
mv -- "$archive" .
say "$tag is tagged, and backfill-$version.zip made. What is left: git push origin main $tag; upload the archive to PGXN."
