#!/bin/bash
# release.sh: what it refuses, and what it makes. The repository is a copy whose tests only say how they
# ended. Prints TAP.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source test/lib/common.sh
source test/lib/tap.sh
scratch=$(mktemp -d "$TMPDIR/backfill-release.XXXXXX")
trap 'rm -rf -- "$scratch"' EXIT
if ! command -v git >/dev/null; then
    skip 'git is not installed'
    done_testing
fi
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)
repo=$scratch/repo
export GIT_CONFIG_GLOBAL=$scratch/gitconfig GIT_CONFIG_NOSYSTEM=1 CALLS=$scratch/calls
printf '[user]\n\tname = a developer\n\temail = developer@backfill.invalid\n[init]\n\tdefaultBranch = main\n' >"$GIT_CONFIG_GLOBAL"

# A repository that can be released: the tree's files, dated, and a Makefile that has the tree's `dist`.
mkdir "$repo"
cp -r CHANGELOG.md META.json README.md Makefile backfill.control release.sh sql debian router docs "$repo"
mkdir -p "$repo/test"
cp -r test/lib "$repo/test"
upgrade=$(cd sql && echo backfill--*--"$version".sql)
cat sql/install/*.sql >"$repo/sql/backfill--$version.sql"
(cd "$repo/sql" && sha256sum "backfill--$version.sql" "$upgrade" >>frozen.sha256)
mv "$repo/Makefile" "$repo/Makefile.real"
cat >"$repo/Makefile" <<'MAKE'
test test-install test-matrix:
	@echo $@ >>$(CALLS); echo '12 passed, $(if $(filter $@,$(COUNTS_FAILURE)),1,0) failed'
dist:
	@$(MAKE) -s -f $(dir $(firstword $(MAKEFILE_LIST)))Makefile.real dist
.PHONY: test test-install test-matrix dist
MAKE
printf '/sql/backfill--*.sql\n/router/sql/backfill_router--*.sql\n/backfill-*.zip\n' >"$repo/.gitignore"
sed -i "1,/^## /s/^## $version.*/## $version (2026-01-31)/" "$repo/CHANGELOG.md"
sed -i '1s/UNRELEASED/unstable/' "$repo/debian/changelog"
git -C "$repo" init -q
git -C "$repo" add -f sql
commit() { git -C "$repo" add -A && git -C "$repo" commit -q -m "$1"; }
commit 'A tree to release'

release() { "$repo/release.sh" "$@" 2>&1 </dev/null; }
# What is there of a release: its tags and its archives.
made() { git -C "$repo" tag; (cd "$repo" && ls backfill-*.zip 2>/dev/null); }

like "$(release --dry-run "$version")" "*all checks passed; $version could be released" 'all checks pass'
is "$(paste -s -d ' ' "$CALLS")" 'test test-install test-matrix' 'all tests ran'
is "$(made)" '' 'a dry run makes nothing'

# refuses NAME PATTERN [COMMAND]: with what the command has done to the repository (committed unless it
# says so) nothing is released, and the message is as the pattern.
refuses() {
    local said status=0
    eval "${3:-:}"
    [[ -n ${uncommitted:-} ]] || commit "$1" >/dev/null
    said=$(release "${given:-$version}") || status=$?
    like "$status $said" "1 *$2*" "$1"
    is "$(made)" "${there:-}" '  and nothing is made'
    git -C "$repo" checkout -q -f main
    git -C "$repo" reset -q --hard start
    git -C "$repo" clean -q -fd
}
git -C "$repo" update-ref refs/heads/start HEAD
cd "$repo" || exit
given=1.2 refuses 'a version that is none' 'the version "1.2" is not of the form 1.2.3'
given=9.9.9 refuses 'a version that is not that of the tree' 'default_version in backfill.control says "'"$version"'", not "9.9.9"'
refuses 'another branch' 'the tree is on other; releases are made on main' 'git checkout -q -b other'
refuses 'no branch' 'the tree is on no branch' 'git checkout -q --detach'
uncommitted=yes refuses 'a change that is not committed' 'changes that are not committed: README.md' 'echo >>README.md'
uncommitted=yes refuses 'a file that is not committed' 'changes that are not committed: "a file"' 'touch "a file"'
refuses 'another version in backfill.control' 'default_version in backfill.control says "9.9.9"' "sed -i '/^default_version/s/$version/9.9.9/' backfill.control"
refuses 'another version in META.json' 'META.json says "9.9.9"' "sed -i '/^   \"version\"/s/\"[0-9.]*\",/\"9.9.9\",/' META.json"
refuses 'another version in CHANGELOG.md' 'the first heading of CHANGELOG.md says "9.9.9"' "sed -i 's/^## $version /## 9.9.9 /' CHANGELOG.md"
refuses 'no date in CHANGELOG.md' "does not end in the release's date" "sed -i 's/(2026-01-31)/(in development)/' CHANGELOG.md"
refuses 'another version in debian/changelog' 'debian/changelog says "9.9.9"' "sed -i '1s/($version-/(9.9.9-/' debian/changelog"
refuses 'packages that are not released' 'is not for unstable' "sed -i '1s/unstable/UNRELEASED/' debian/changelog"
refuses 'another version in backfill_router.control' 'default_version in router/backfill_router.control says "9.9.9"' "sed -i '/^default_version/s/$version/9.9.9/' router/backfill_router.control"
refuses 'an install script that is not in git' "sql/backfill--$version.sql is not in git" "git rm -q --cached sql/backfill--$version.sql"
refuses 'an install script that is not that of sql/install' "sql/backfill--$version.sql in git is not what make assembles" "echo '-- new' >>sql/install/90_privileges.sql"
refuses 'an install script that is not frozen' "sql/backfill--$version.sql is not frozen" "sed -i '/backfill--$version.sql/d' sql/frozen.sha256"
refuses 'no script that upgrades' "sql/$upgrade is not in git" "git rm -q 'sql/$upgrade'"
refuses 'a script that upgrades and is not frozen' "sql/$upgrade is not frozen" "sed -i '/$upgrade/d' sql/frozen.sha256"
for target in test test-install test-matrix; do
    refuses "make $target fails" "make $target did not pass" "sed -i 's/^\t@echo .@.*/&; [ \$@ != $target ]/' Makefile"
    refuses "make $target counts a failure" "make $target did not pass" "sed -i '1i COUNTS_FAILURE = $target' Makefile"
done
refuses 'no test ran' 'make test did not pass' "sed -i 's/12 passed/0 passed/' Makefile"
refuses 'tests that change the tree' 'changes that are not committed: left' "sed -i 's/^\t@echo/\t@touch left; echo/' Makefile"
refuses 'an archive that lacks a file' "which is not in the archive" "git rm -q --cached README.md; rm README.md"
git tag "v$version"
there=v$version refuses 'a version that is released' "the tag v$version is there already"
git tag -d "v$version" >/dev/null

like "$(release "$version")" "*v$version is tagged, and backfill-$version.zip made*" 'a release'
is "$(made | paste -s -d ' ')" "v$version backfill-$version.zip" 'makes the tag and the archive'
is "$(git cat-file -t "v$version")" tag 'an annotated tag'
is "$(git rev-parse "v$version^{commit}")" "$(git rev-parse main)" 'of what is committed'
is "$(git status --porcelain)" '' 'and leaves the tree as it was'
done_testing
