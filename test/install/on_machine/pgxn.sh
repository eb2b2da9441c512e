#!/bin/bash
# Installs the archive of `make dist` with PGXN's client, runs a job, uninstalls it.
source /src/backfill/test/install/on_machine/lib.sh

major=$(release_major)
must 'what it needs is installed' apt_install git make g++ libboost-dev "postgresql-$major" "postgresql-server-dev-$major" pgxnclient
must 'make dist' make -s dist
mkdir /elsewhere
mv "backfill-$version.zip" /elsewhere
cd /elsewhere || exit
rm -rf /usr/bin/git
must 'pgxn install, without git' env MAKEFLAGS="-j$(nproc)" pgxn install --yes "./backfill-$version.zip"
must 'the library is preloaded' preload
job_runs 'a job runs'
must 'the extension is dropped, and the server starts without the library' unload
try 'pgxn uninstall' pgxn uninstall --yes "./backfill-$version.zip"
is "$(files_of_ours)" '' 'no file is left'
done_testing
