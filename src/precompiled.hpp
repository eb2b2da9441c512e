/* precompiled.hpp - what every file but those of src/core begins with; see the Makefile. */
#include "backfill/pg/pg.hpp"
