/* main.cpp - the unit tests' main(), by doctest. They cover src/core, which knows nothing
 * of the server; everything else is tested inside one. */
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
