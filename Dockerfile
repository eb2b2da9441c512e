# PostgreSQL's official image with backfill in it: docker build --build-arg PG_MAJOR=18 -t backfill .
# The library still has to be preloaded: see compose.yaml.
ARG PG_MAJOR=17
FROM postgres:$PG_MAJOR
ARG PG_MAJOR

COPY . /tmp/backfill

# A newer package "locales" would throw away the locales that the image has made.
RUN apt-get update && \
    apt-mark hold locales && \
    apt-get install -y --no-install-recommends make g++ libboost-dev postgresql-server-dev-$PG_MAJOR && \
    cd /tmp/backfill && \
    make -j"$(nproc)" PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config && \
    make install PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config && \
    strip -g /usr/lib/postgresql/$PG_MAJOR/lib/backfill.so && \
    cd / && \
    rm -r /tmp/backfill && \
    apt-get purge -y --auto-remove make g++ libboost-dev postgresql-server-dev-$PG_MAJOR && \
    apt-mark unhold locales && \
    rm -rf /var/lib/apt/lists/*
