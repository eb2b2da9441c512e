/* boost_parts.cpp - what of Boost is compiled once, instead of in each file. */
#include <utility>

#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
