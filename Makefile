# backfill: a PostgreSQL extension, built with PGXS.
#
#   make            build the library and assemble the install script
#   make install    put both where the server looks (PG_CONFIG chooses the server)
#   make setup      install the packages that the targets below need, build, install
#   make demo       set everything up and run the main job on a throwaway cluster
#   make test       set everything up and pass all tests
#   make bench      measure, beside other queues in the same run (MEASURES="drain wal": only these)
#   make lint       rules that the compiler does not know

PG_CONFIG ?= pg_config
EXTENSION = backfill
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)
MODULE_big = backfill
OBJS = $(patsubst %.cpp,%.o,$(sort $(wildcard src/*.cpp src/*/*.cpp bgworker/*.cpp)))
# Three quarters of a compilation are PostgreSQL's, Boost's and C++'s headers: they are compiled once.
# src/core must not see them.
PG_HEADER = src/precompiled.hpp
PG_OBJS = $(filter-out src/core/%,$(OBJS))
SCHEMA_SCRIPT = sql/backfill--$(EXTVERSION).sql
# share/ holds scripts that users run with psql; they are installed beside the other one.
DATA = $(SCHEMA_SCRIPT) $(sort $(wildcard share/*.sql))
EXTRA_CLEAN = $(SCHEMA_SCRIPT) $(OBJS:.o=.d) $(PG_HEADER).gch $(PG_HEADER).d .build-id results output_iso regression.diffs regression.out tmp_check

# No LLVM bitcode: inlining queue functions into queries is worth nothing.
override with_llvm := no
PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) -DBACKFILL_VERSION='"$(EXTVERSION)"'
# COPT holds extra flags, as in PostgreSQL's own build: make COPT=-Werror. The prefix map
# makes the library the same in whatever directory it is built. Following every variable through the
# optimizer for debuggers would take a fifth of the time.
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Wshadow -Wno-register -MMD -MP -fno-var-tracking-assignments -ffile-prefix-map=$(CURDIR)=. $(COPT)
SHLIB_LINK += -lstdc++ -Wl,--version-script=src/backfill.map

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=plpgsql --load-extension=backfill
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=backfill

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
-include $(OBJS:.o=.d)

# Nothing that was built for another server, or by another compiler, is used again.
.build-id: FORCE
	@id="$$($(PG_CONFIG) --version) $$($(PG_CONFIG) --includedir-server) $$($(CXX) --version | head -n 1)"; \
	[ "$$id" = "$$(cat $@ 2>/dev/null)" ] || printf '%s\n' "$$id" >$@
.PHONY: FORCE
FORCE:

$(OBJS): src/backfill.map backfill.control Makefile .build-id
$(PG_OBJS): $(PG_HEADER).gch
$(PG_OBJS): private override CXXFLAGS += -include $(PG_HEADER)
$(PG_HEADER).gch: $(PG_HEADER) backfill.control Makefile .build-id
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MF $(PG_HEADER).d -x c++-header -o $@ $<
-include $(PG_HEADER).d
$(SCHEMA_SCRIPT): $(sort $(wildcard sql/install/*.sql)) backfill.control
	cat $(sort $(wildcard sql/install/*.sql)) > $@
all: $(SCHEMA_SCRIPT)
else
all install:
	@echo 'No server development files were found; run "make setup" as root, or set PG_CONFIG.' >&2; exit 1
endif

# The scripts build and install by themselves what they need, after the packages are there.
export PG_CONFIG

.PHONY: setup demo test bench lint
setup:
	test/lib/setup.sh
	test/lib/run.sh build
demo:
	test/lib/setup.sh build demo
	test/lib/run.sh build
	demo/run.sh
test:
	test/lib/setup.sh build test
	test/lib/run.sh
bench:
	test/lib/setup.sh build bench
	test/lib/run.sh build
	bench/run.sh $(MEASURES)
lint:
	test/lint/run.sh

# The unit tests: src/core and nothing of the server, so its headers are not in reach.
UNIT_OBJS = $(patsubst %.cpp,tmp_check/unit/%.o,$(sort $(wildcard test/unit/*.cpp src/core/*.cpp)))
tmp_check/unit/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -g -O1 -Wall -Wextra -Wshadow $(COPT) -Iinclude -MMD -MP -c $< -o $@
tmp_check/unit/run: $(UNIT_OBJS)
	$(CXX) -o $@ $^
-include $(UNIT_OBJS:.o=.d)
