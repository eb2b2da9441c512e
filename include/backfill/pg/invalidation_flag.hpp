/* invalidation_flag.hpp - whether something cached must be read again, because what it was read
 * from has changed.
 *
 * PostgreSQL's callbacks set the flag, in the middle of anything, also inside a handler that
 * changes what is cached: so the flag is plain data, and what is cached is dropped only when it is
 * next asked for. A flag lives as long as the process. */
#pragma once

#include "backfill/pg/pg.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>

namespace backfill::pg
{

class InvalidationFlag
{
  public:
    /* --- Once per process, from _PG_init --- */

    /* A change of any relation sets it. */
    void register_for_all_relations();
    /* One of those that set_relations() names. */
    void register_for_relations();
    /* One in a cache of the system catalog, such as PROCOID. */
    void register_for_catalog(int cache);

    void set_relations(std::initializer_list<Oid> relations) noexcept
    {
        relations_.fill(InvalidOid);
        std::copy(relations.begin(), relations.end(), relations_.begin());
    }

    bool is_set() const noexcept { return is_set_; }
    void set() noexcept { is_set_ = true; }
    void clear() noexcept { is_set_ = false; }

    /* For the time in which something is read anew: clears the flag first, so that a change which
     * arrives meanwhile sets it again, and sets it unless note_success() was called. */
    class Reading
    {
      public:
        explicit Reading(InvalidationFlag &flag) noexcept : flag_(flag) { flag_.clear(); }
        ~Reading()
        {
            if (!succeeded_)
                flag_.set();
        }
        Reading(const Reading &) = delete;
        Reading &operator=(const Reading &) = delete;
        void note_success() noexcept { succeeded_ = true; }

      private:
        InvalidationFlag &flag_;
        bool succeeded_ = false;
    };

  private:
    static constexpr std::size_t kMaxRelations = 5;

    static void on_any_relation(Datum flag, Oid relation) noexcept;
    static void on_relation(Datum flag, Oid relation) noexcept;
    static void on_catalog(Datum flag, int cache, uint32 hash) noexcept;

    bool is_set_ = true;
    std::array<Oid, kMaxRelations> relations_{};
};

} // namespace backfill::pg
