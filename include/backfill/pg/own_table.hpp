/* own_table.hpp - a table of the extension that is read or written below SQL.
 *
 * The library knows such a table's columns by name, type and whether they may be null. Where they
 * stand is looked up when the table is first opened and again after each change of it, so that
 * columns of an administrator's own, also dropped ones, do no harm; a column that is missing or of
 * another type is an error that names it.
 *
 * What goes to the table below SQL passes by everything that an INSERT or DELETE would do besides.
 * So that is done only while the table is plain: has no triggers, no CHECKs and the like. The
 * engine's own tables are; once an administrator adds something, their rows are written by SQL. */
#pragma once

#include "backfill/pg/guard.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::pg
{

/* The type of a column that is backfill.role, whose oid is not known beforehand. */
inline constexpr Oid kRoleColumn = InvalidOid;

struct OwnColumn {
    const char *name;
    Oid type;
    bool not_null;
};

class OwnTable
{
  public:
    static constexpr int kMaxColumns = 32;

    template <int N>
    constexpr OwnTable(const char *name, const OwnColumn (&columns)[N])
        : name_(name), columns_(columns), count_(N)
    {
        static_assert(N <= kMaxColumns);
    }

    /* Opens and locks it. Errors: Failure 55000 if the extension is not installed, or if the table
     * is not as the library knows it. */
    Relation open(LOCKMODE lock);
    /* Whether rows may go to the open table below SQL. */
    bool is_plain(Relation table)
    {
        if (stale_)
            look(table);
        return plain_;
    }

    /* The following need the table open. Those that are noexcept may run inside pg::call(). */
    const char *name() const noexcept { return name_; }
    int column_count() const noexcept { return count_; }
    const OwnColumn &column(int n) const noexcept { return columns_[n]; }
    AttrNumber attribute(int n) const noexcept { return attributes_[n]; }
    /* The library's columns of a row, in its order. */
    void take(const Datum *row_values, const bool *row_nulls, Datum *values,
              bool *nulls) const noexcept;
    /* A row of `width` columns that has these, and nulls where others are. */
    void spread(const Datum *values, const bool *nulls, int width, Datum *row_values,
                bool *row_nulls) const noexcept;
    /* The same out of a tuple; allocates, so it runs inside pg::call() only. */
    void deform(HeapTuple tuple, TupleDesc row_type, Datum *values, bool *nulls) const;

    /* Inserts a row: below SQL if the table is plain, else by INSERT, as the owner. */
    void insert(Relation table, const Datum *values, const bool *nulls);
    void insert_by_sql(const Datum *values, const bool *nulls) const;

  private:
    void join_known();
    void look(Relation table);
    static void on_relation_changed(Datum, Oid relation) noexcept;

    const char *name_;
    const OwnColumn *columns_;
    int count_;

    /* Plain data: a callback marks it as stale in the middle of anything. */
    bool stale_ = true;
    bool known_ = false;
    bool plain_ = false;
    bool in_order_ = false; /* the columns are the table's first ones */
    Oid oid_ = InvalidOid;
    OwnTable *next_ = nullptr;
    AttrNumber attributes_[kMaxColumns] = {};
};

/* Where rows go below SQL: a table and its indexes. Plain data; all its functions run inside
 * pg::call(), in memory that lives as long as it is open. */
struct InsertTarget {
    EState *state = nullptr;
    ResultRelInfo *relation = nullptr;

    void open(Relation table);
    void close();
    /* Of a row that has just gone to the table. */
    void add_index_entries(TupleTableSlot *slot);
};

/* All rows of the table, as a snapshot taken now sees them, in the current memory context. */
TableRows read_table(OwnTable &table);

} // namespace backfill::pg
