# backfill: a PostgreSQL extension, built with PGXS.
#
#   make               build the library and assemble the install script
#   make install       put both where the server looks (PG_CONFIG chooses the server)
#   make setup         install the packages that the targets below need, build, install
#   make demo          set everything up and run the main job on a throwaway cluster
#   make web           build backfill-web, the dashboard (web/Makefile installs it)
#   make page          build the page of the dashboard, which is in git, from web/ui
#   make web-demo      the dashboard on a throwaway cluster with work that goes on, until Ctrl-C
#   make web-pictures  take the pictures of docs/pictures, of that
#   make test          set everything up and pass all tests
#   make fuzz          half an hour each of hostile calls, of hostile handlers and of sqlsmith (FUZZ_SECONDS=1800)
#   make sanitize      the SQL tests and the fuzz drivers under sanitizers, in a server with assertions
#   make bench         measure, beside other queues in the same run (MEASURES="drain wal": only these)
#   make lint          rules that the compiler does not know
#   make installcheck  the SQL tests, on a running server that has the library preloaded, no executors and an external clock
#   make dist          an archive of what is committed, as PGXN takes it
#   make test-install  each way to install, in fresh machines (root; SUITE=trixie, WAYS="apt docker": only these)
#   make test-ha       three servers under Patroni: a switchover, crashes, and a ledger that must balance
#   make test-matrix   demo and test in fresh machines of three Debian releases (root; SUITES=sid: only this one;
#                      CONDITIONS="no-headers german umask load": any of these)
#   make release       check everything and tag VERSION=1.2.3 (DRY_RUN=1: only check)
#   make help          this list

PG_CONFIG ?= pg_config
# Where the sources are: "." unless this is built in a directory of its own, by
# make -f /path/to/Makefile, or make -f ../Makefile VPATH=..
TOP := $(or $(VPATH),$(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST)))))
# Files of the sources, named from there: $(call files_in_top,PATTERNS)
files_in_top = $(patsubst $(TOP)/%,%,$(sort $(wildcard $(addprefix $(TOP)/,$(1)))))

EXTENSION = backfill
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(TOP)/backfill.control)
MODULE_big = backfill
SOURCES := $(call files_in_top,src/*.cpp src/*/*.cpp bgworker/*.cpp)
# All files of a directory are compiled as one, which saves a third of the time: most of a compilation are headers.
OBJS = $(sort $(patsubst %/,%.o,$(dir $(SOURCES))))
# $(call files_of,src/api.o), named from the sources' directory; $(call paths_of,src/api.o), from here.
files_of = $(foreach file,$(SOURCES),$(if $(filter $(1:.o=/),$(dir $(file))),$(file)))
paths_of = $(if $(filter-out .,$(TOP)),$(addprefix $(TOP)/,$(call files_of,$(1))),$(call files_of,$(1)))
# PostgreSQL's, Boost's and C++'s headers are compiled once, and so are the headers of ours that two
# thirds of the files need. src/core must not see them.
PG_HEADER = src/precompiled.hpp
PG_OBJS = $(filter-out src/core.o,$(OBJS))
SCHEMA_SCRIPT = sql/backfill--$(EXTVERSION).sql
# The router, an extension of SQL and PL/Proxy of the same version (docs/scale-out.md).
ROUTER_SCRIPT = router/sql/backfill_router--$(EXTVERSION).sql
DATA_built = $(SCHEMA_SCRIPT) $(ROUTER_SCRIPT)
# The scripts of released versions and those that upgrade, all of them in git; scripts that users run with
# psql, and what Prometheus and Grafana read: they are installed beside it.
DATA = $(filter-out $(SCHEMA_SCRIPT),$(call files_in_top,sql/backfill--*.sql)) router/backfill_router.control $(call files_in_top,share/*)
EXTRA_CLEAN = $(OBJS:.o=.d) $(PG_HEADER).gch $(PG_HEADER).d .build-id results output_iso regression.diffs regression.out tmp_check $(EXTENSION)-*.zip

# No LLVM bitcode: inlining queue functions into queries is worth nothing.
override with_llvm := no
PG_CPPFLAGS = -I$(TOP)/include -isystem $(shell $(PG_CONFIG) --includedir-server) -DBACKFILL_VERSION='"$(EXTVERSION)"'
# The prefix map makes the library the same in whatever directory it is built; a directory's name may
# hold spaces and worse. Clang does not know some flags of the server's, which gcc has chosen.
shell_quoted = '$(subst ','\'',$(1))'
REPRODUCIBLE = -ffile-prefix-map=$(call shell_quoted,$(CURDIR))=. $(if $(filter-out .,$(TOP)),-ffile-prefix-map=$(TOP)/=)
IS_CLANG := $(shell $(CXX) --version 2>/dev/null | grep clang)
# Functions and lines for debuggers; their variables too, as in Debian's packages, would take a third more
# of the time. COPT holds extra flags, as in PostgreSQL's own build: make COPT=-Werror.
DEBUG_INFO ?= -g1
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Wshadow -Wno-register -MMD -MP $(if $(IS_CLANG),-Wno-unknown-warning-option -Wno-deprecated-volatile) $(DEBUG_INFO) $(REPRODUCIBLE) $(COPT)
# Where clang is the system's compiler its C++ library has another name. What others may see of the library
# is told to linkers of ELF files only: that of macOS does not know the list, and two libraries that have a
# symbol of the same name do not meet there.
CXX_LIBRARY = $(if $(filter darwin freebsd openbsd,$(PORTNAME)),-lc++,-lstdc++)
VERSION_SCRIPT = -Wl,--version-script=$(TOP)/src/backfill.map
SHLIB_LINK += $(CXX_LIBRARY) $(if $(filter linux freebsd netbsd openbsd,$(PORTNAME)),$(VERSION_SCRIPT))

REGRESS = $(patsubst test/sql/%.sql,%,$(call files_in_top,test/sql/*.sql))
REGRESS_OPTS = --inputdir=$(TOP)/test --load-extension=plpgsql --load-extension=backfill
ISOLATION = $(patsubst test/specs/%.spec,%,$(call files_in_top,test/specs/*.spec))
ISOLATION_OPTS = --inputdir=$(TOP)/test --outputdir=. --load-extension=backfill

# Debian has pgxs.mk and pg_config in the client's package, and the headers in one of their own.
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
SERVER_HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h
ifneq ($(and $(wildcard $(PGXS)),$(wildcard $(SERVER_HEADER))),)
include $(PGXS)
-include $(OBJS:.o=.d)

# PGXS searches the sources' directory for whatever is needed: also for objects that were built there.
override VPATH :=
srcdir := $(TOP)
vpath %.cpp $(TOP)
vpath %.hpp $(TOP)
vpath %.map $(TOP)
vpath %.control $(TOP)
vpath Makefile $(TOP)

# Nothing that was built for another server, by another compiler, or of other files is used again.
.build-id: FORCE
	@id="$$($(PG_CONFIG) --version) $$($(PG_CONFIG) --includedir-server) $$($(CXX) --version | head -n 1) $(SOURCES)"; \
	[ "$$id" = "$$(cat $@ 2>/dev/null)" ] || printf '%s\n' "$$id" >$@
.PHONY: FORCE
FORCE:

# A build in a directory of its own has to make the directories of its files.
ifneq ($(TOP),.)
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

$(foreach object,$(OBJS),$(eval $(object): $(call files_of,$(object))))
$(OBJS): src/backfill.map backfill.control Makefile .build-id
	printf '#include "%s"\n' $(call paths_of,$@) | $(CXX) $(CXXFLAGS) $(CPPFLAGS) -MF $(@:.o=.d) -MT $@ -x c++ -c -o $@ -
	@printf '%s:\n' $(firstword $(call paths_of,$@)) >>$(@:.o=.d) # -MP leaves it out: make must do without it when it is gone
$(PG_OBJS): $(PG_HEADER).gch
$(PG_OBJS): private override CXXFLAGS += -include $(PG_HEADER)
$(PG_HEADER).gch: $(PG_HEADER) backfill.control Makefile .build-id
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MF $(PG_HEADER).d -x c++-header -o $@ $<
-include $(PG_HEADER).d

installcheck: server-for-installcheck
server-for-installcheck:
	@PG_CONFIG=$(call shell_quoted,$(PG_CONFIG)) $(TOP)/test/lib/installcheck.sh
	@[ -e expected ] || ln -s $(TOP)/expected expected
# PGXS has a recipe for it, which says something else.
check: no-check
no-check:
	@echo '"make test" runs all tests on throwaway servers, "make installcheck" the SQL tests on a running one.' >&2; exit 1
.PHONY: server-for-installcheck no-check
else
all install installcheck check:
	@$(TOP)/test/lib/setup.sh explain
endif

$(SCHEMA_SCRIPT): $(sort $(wildcard $(TOP)/sql/install/*.sql)) $(TOP)/backfill.control
	@mkdir -p $(@D)
	cat $(filter %.sql,$^) > $@
$(ROUTER_SCRIPT): $(sort $(wildcard $(TOP)/router/sql/install/*.sql)) $(TOP)/backfill.control
	@mkdir -p $(@D)
	cat $(filter %.sql,$^) > $@

# The scripts build and install by themselves what they need, after the packages are there.
export PG_CONFIG

.PHONY: setup demo web page web-demo web-pictures test fuzz sanitize bench lint test-install test-ha test-matrix release dist help
setup:
	$(TOP)/test/lib/setup.sh
	$(TOP)/test/lib/run.sh build
demo:
	$(TOP)/test/lib/setup.sh build demo
	$(TOP)/test/lib/run.sh build
	$(TOP)/demo/run.sh
web:
	$(TOP)/test/lib/setup.sh build web
	$(MAKE) -j"$$(nproc)" -C $(TOP)/web all
page:
	$(TOP)/test/lib/setup.sh build page
	$(MAKE) -C $(TOP)/web page
web-demo:
	$(TOP)/test/lib/setup.sh build web
	$(TOP)/test/lib/run.sh build
	$(MAKE) -s -j"$$(nproc)" -C $(TOP)/web all
	$(TOP)/web/demo.sh
web-pictures:
	$(TOP)/test/lib/setup.sh build web test
	$(TOP)/test/lib/run.sh build
	$(MAKE) -s -j"$$(nproc)" -C $(TOP)/web all
	$(TOP)/web/demo.sh node pictures.mjs
test:
	$(TOP)/test/lib/setup.sh build web test
	$(TOP)/test/lib/run.sh
fuzz:
	$(TOP)/test/lib/setup.sh build web test fuzz
	FUZZ_SECONDS=$${FUZZ_SECONDS:-1800} $(TOP)/test/lib/run.sh fuzz
sanitize:
	$(TOP)/test/lib/setup.sh build test fuzz
	$(TOP)/test/lib/sanitize.sh
bench:
	$(TOP)/test/lib/setup.sh build bench
	$(TOP)/test/lib/run.sh build
	$(TOP)/bench/run.sh $(MEASURES)
lint:
	$(TOP)/test/lint/run.sh
test-install:
	$(TOP)/test/install/run.sh $(WAYS)
test-ha:
	$(TOP)/test/lib/setup.sh build ha
	$(TOP)/test/ha/patroni.sh
test-matrix:
	$(TOP)/test/install/matrix.sh $(SUITES)
release:
	$(TOP)/release.sh $(if $(DRY_RUN),--dry-run) $(VERSION)

# With the install scripts, which META.json names; git does not hold the router's, nor the other before a release.
ARCHIVE = $(EXTENSION)-$(EXTVERSION)
dist: $(SCHEMA_SCRIPT) $(ROUTER_SCRIPT)
	@set -- --prefix=$(ARCHIVE)/router/sql/ --add-file=$(call shell_quoted,$(abspath $(ROUTER_SCRIPT))); \
	git -C $(TOP) cat-file -e HEAD:$(SCHEMA_SCRIPT) 2>/dev/null || \
		set -- "$$@" --prefix=$(ARCHIVE)/sql/ --add-file=$(call shell_quoted,$(abspath $(SCHEMA_SCRIPT))); \
	git -C $(TOP) archive "$$@" --prefix=$(ARCHIVE)/ --output=$(call shell_quoted,$(CURDIR))/$(ARCHIVE).zip HEAD

help:
	@sed -n 's/^#   //p' $(TOP)/Makefile

# The unit tests: src/core and nothing of the server, so its headers are not in reach.
UNIT_OBJS = $(patsubst %.cpp,tmp_check/unit/%.o,$(call files_in_top,test/unit/*.cpp src/core/*.cpp))
tmp_check/unit/%.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -g -O1 -Wall -Wextra -Wshadow $(COPT) -I$(TOP)/include -MMD -MP -c $< -o $@
tmp_check/unit/run: $(UNIT_OBJS)
	$(CXX) -o $@ $^
-include $(UNIT_OBJS:.o=.d)
