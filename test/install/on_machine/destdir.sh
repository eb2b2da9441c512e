#!/bin/bash
# Stages an installation with DESTDIR, as packagers do, and moves it into place.
source /src/backfill/test/install/on_machine/lib.sh

major=$(release_major)
must 'what it needs is installed' apt_install git make g++ libboost-dev "postgresql-$major" "postgresql-server-dev-$major"
must 'make install DESTDIR=' make -s -j"$(nproc)" install DESTDIR=/stage
is "$(files_of_ours)" '' 'nothing is installed elsewhere'
is "$(cd /stage && find . -type f | sed 's|/postgresql/[0-9]*/|/postgresql/N/|' | sort)" "$(
    printf '%s\n' ./usr/lib/postgresql/N/lib/backfill.so ./usr/share/postgresql/N/extension/backfill{,_router}.control \
        "./usr/share/postgresql/N/extension/backfill_router--$version.sql" \
        "./usr/share/postgresql/N/extension/backfill--$version.sql" \
        $(git ls-files 'sql/backfill--*.sql' | sed "/--$version.sql$/{/--.*--/!d}; s|^sql|./usr/share/postgresql/N/extension|") \
        $(cd share && printf './usr/share/postgresql/N/extension/%s\n' *) | sort
)" 'the stage has the library, the control files, the scripts and what is in share, and nothing else'
tar -C /stage -cf - . | tar -C / --no-overwrite-dir -xf -
must 'the library is preloaded' preload
job_runs 'a job runs'
done_testing
