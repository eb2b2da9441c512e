/* own_settings.hpp - the settings of the launcher and the dispatchers.
 *
 * They look after the jobs of all roles, so no role's settings may reach them: what ALTER DATABASE
 * and ALTER ROLE ... SET say is for clients' sessions, and of the server's own settings some would
 * stop them (default_transaction_read_only), or let them wait for ever (lock_timeout). */
#pragma once

namespace backfill::bgworker::own_settings
{

/* Before the login: remembers what the server's configuration says. */
void remember_servers();
/* After the login: goes back to that, wherever the database's or the role's settings say something
 * else, and then to what these processes need. backfill's own settings stay as they are: a test
 * may set backfill.fake_now for one database. */
void take();
/* After the configuration has been read again: whether a value that take() went back to may be
 * an old one. A fresh process then has the new one. */
bool are_outdated();

} // namespace backfill::bgworker::own_settings
