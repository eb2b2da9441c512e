/* main.cpp - the unit tests' main(), by doctest. */
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
