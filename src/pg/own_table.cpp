/* own_table.cpp - see own_table.hpp. */
#include "backfill/pg/own_table.hpp"

#include "backfill/pg/role.hpp"

namespace backfill::pg
{

namespace
{

/* All tables that have been opened; one callback serves them. */
OwnTable *known_tables = nullptr;

/* Where the column stands; 0: nowhere. It is tried first where it was created. */
AttrNumber find_attribute(TupleDesc row_type, int expected, const char *name)
{
    const auto is_it = [&](int i) {
        const Form_pg_attribute attribute = TupleDescAttr(row_type, i);
        return !attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0;
    };
    if (expected < row_type->natts && is_it(expected))
        return static_cast<AttrNumber>(expected + 1);
    for (int i = 0; i < row_type->natts; i++)
        if (is_it(i))
            return static_cast<AttrNumber>(i + 1);
    return InvalidAttrNumber;
}

/* A column that an INSERT that does not name it leaves null, and may. */
bool stays_null(Form_pg_attribute attribute)
{
    return attribute->attisdropped ||
           (!attribute->attnotnull && !attribute->atthasdef && attribute->attidentity == '\0' &&
            get_typtype(attribute->atttypid) != TYPTYPE_DOMAIN);
}

/* Such an index calls functions, which have rights and need a snapshot. */
bool has_expression_index(Relation table)
{
    bool found = false;
    List *indexes = RelationGetIndexList(table);
    ListCell *cell;
    foreach (cell, indexes) {
        HeapTuple index = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
        if (!HeapTupleIsValid(index))
            continue;
        found = found || !heap_attisnull(index, Anum_pg_index_indexprs, nullptr);
        ReleaseSysCache(index);
    }
    list_free(indexes);
    return found;
}

/* Whether nothing but its columns and indexes is to be seen to when a row comes or goes. */
bool is_bare(Relation table)
{
    const TupleConstr *constraints = RelationGetDescr(table)->constr;
    return table->trigdesc == nullptr && table->rd_rules == nullptr &&
           !table->rd_rel->relispartition && !table->rd_rel->relforcerowsecurity &&
           /* A published table is then no target of DELETE. */
           table->rd_rel->relreplident != REPLICA_IDENTITY_NOTHING &&
           (constraints == nullptr ||
            (constraints->num_check == 0 && !constraints->has_generated_stored)) &&
           !has_expression_index(table);
}

Oid type_of(const OwnColumn &column)
{
    return column.type == kRoleColumn ? role_type() : column.type;
}

[[noreturn]] void refuse(const char *table, const std::string &what)
{
    fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
         "table backfill." + std::string(table) + " is not as the library knows it", what,
         "Undo the ALTER TABLE that has changed it; or, after an update of the extension, restart "
         "the server and run ALTER EXTENSION backfill UPDATE.");
}

} // namespace

void OwnTable::on_relation_changed(Datum, Oid relation) noexcept
{
    for (OwnTable *table = known_tables; table != nullptr; table = table->next_)
        if (relation == InvalidOid || relation == table->oid_)
            table->stale_ = true;
}

Relation OwnTable::open(LOCKMODE lock)
{
    Relation table = open_table(name_, lock);
    if (stale_ || RelationGetRelid(table) != oid_)
        look(table);
    return table;
}

/* From now on it hears of changes of tables. */
void OwnTable::join_known()
{
    if (known_)
        return;
    if (known_tables == nullptr)
        call([] {
            CacheRegisterRelcacheCallback(&OwnTable::on_relation_changed, static_cast<Datum>(0));
        });
    next_ = known_tables;
    known_tables = this;
    known_ = true;
}

void OwnTable::look(Relation table)
{
    join_known();
    /* First: a change that arrives while we look marks it again. */
    stale_ = false;
    oid_ = RelationGetRelid(table);
    struct StaleUnlessSeen {
        OwnTable &table;
        bool seen = false;
        ~StaleUnlessSeen()
        {
            if (!seen)
                table.stale_ = true;
        }
    } look{*this};

    if (table->rd_rel->relkind != RELKIND_RELATION ||
        table->rd_tableam != GetHeapamTableAmRoutine())
        refuse(name_, "It must be an ordinary table with the access method heap.");
    TupleDesc row_type = RelationGetDescr(table);
    bool ours[MaxHeapAttributeNumber] = {};
    bool plain = true;
    in_order_ = true;
    for (int i = 0; i < count_; i++) {
        const OwnColumn &column = columns_[i];
        const auto quoted = [&] { return "Column \"" + std::string(column.name) + "\""; };
        const AttrNumber number = find_attribute(row_type, i, column.name);
        if (number == InvalidAttrNumber)
            refuse(name_, quoted() + " is missing.");
        const Form_pg_attribute attribute = TupleDescAttr(row_type, number - 1);
        const Oid type = type_of(column);
        if (attribute->atttypid != type)
            refuse(name_,
                   quoted() + " has type " + call([&] {
                       return static_cast<const char *>(format_type_be(attribute->atttypid));
                   }) + ", not " +
                       call([&] { return static_cast<const char *>(format_type_be(type)); }) + ".");
        if (column.not_null && !attribute->attnotnull)
            refuse(name_, quoted() + " may be null.");
        /* An administrator wants to have more of it than we: SQL will say so. */
        plain = plain && attribute->attnotnull == column.not_null;
        attributes_[i] = number;
        in_order_ = in_order_ && number == i + 1;
        ours[number - 1] = true;
    }
    plain = plain && call([&] {
                bool bare = is_bare(table);
                for (int i = 0; i < row_type->natts; i++)
                    bare = bare && (ours[i] || stays_null(TupleDescAttr(row_type, i)));
                return bare;
            });
    plain_ = plain;
    look.seen = true;
}

void OwnTable::take(const Datum *row_values, const bool *row_nulls, Datum *values,
                    bool *nulls) const noexcept
{
    for (int i = 0; i < count_; i++) {
        values[i] = row_values[attributes_[i] - 1];
        nulls[i] = row_nulls[attributes_[i] - 1];
    }
}

void OwnTable::spread(const Datum *values, const bool *nulls, int width, Datum *row_values,
                      bool *row_nulls) const noexcept
{
    if (!in_order_ || width != count_)
        for (int i = 0; i < width; i++) {
            row_values[i] = 0;
            row_nulls[i] = true;
        }
    for (int i = 0; i < count_; i++) {
        row_values[attributes_[i] - 1] = values[i];
        row_nulls[attributes_[i] - 1] = nulls[i];
    }
}

void OwnTable::deform(HeapTuple tuple, TupleDesc row_type, Datum *values, bool *nulls) const
{
    if (in_order_ && row_type->natts == count_) {
        heap_deform_tuple(tuple, row_type, values, nulls);
        return;
    }
    const auto width = static_cast<Size>(row_type->natts);
    auto *row_values = static_cast<Datum *>(palloc(sizeof(Datum) * width));
    auto *row_nulls = static_cast<bool *>(palloc(sizeof(bool) * width));
    heap_deform_tuple(tuple, row_type, row_values, row_nulls);
    take(row_values, row_nulls, values, nulls);
    pfree(row_values);
    pfree(row_nulls);
}

void OwnTable::insert(Relation table, const Datum *values, const bool *nulls)
{
    if (!is_plain(table)) {
        insert_by_sql(values, nulls);
        return;
    }
    call([&] {
        InsertTarget target;
        target.open(table);
        TupleTableSlot *slot = table_slot_create(table, nullptr);
        spread(values, nulls, RelationGetDescr(table)->natts, slot->tts_values, slot->tts_isnull);
        ExecStoreVirtualTuple(slot);
        table_tuple_insert(table, slot, GetCurrentCommandId(true), 0, nullptr);
        target.add_index_entries(slot);
        ExecDropSingleTupleTableSlot(slot);
        target.close();
    });
}

void OwnTable::insert_by_sql(const Datum *values, const bool *nulls) const
{
    std::string columns;
    std::string places;
    std::vector<Param> params;
    for (int i = 0; i < count_; i++) {
        columns += (i == 0 ? "" : ", ") + std::string(columns_[i].name);
        places += (i == 0 ? "$" : ", $") + std::to_string(i + 1);
        params.push_back({type_of(columns_[i]), values[i], nulls[i]});
    }
    const std::string sql =
        "INSERT INTO backfill." + std::string(name_) + " (" + columns + ") VALUES (" + places + ")";
    (void) execute_as_owner(sql.c_str(), params);
}

void InsertTarget::open(Relation table)
{
    state = CreateExecutorState();
    relation = makeNode(ResultRelInfo);
    InitResultRelInfo(relation, table, 1, nullptr, 0);
    ExecOpenIndices(relation, false);
}

void InsertTarget::close()
{
    ExecCloseIndices(relation);
    FreeExecutorState(state);
    relation = nullptr;
    state = nullptr;
}

void InsertTarget::add_index_entries(TupleTableSlot *slot)
{
    list_free(insert_index_entries(relation, slot, state));
    ResetPerTupleExprContext(state);
}

TableRows read_table(OwnTable &own)
{
    Relation table = own.open(AccessShareLock);
    TableRows result{};
    call([&] {
        TupleDesc columns = RelationGetDescr(table);
        TupleTableSlot *slot = table_slot_create(table, nullptr);
        PushActiveSnapshot(GetLatestSnapshot());
        TableScanDesc scan = table_beginscan(table, GetActiveSnapshot(), 0, nullptr);
        List *tuples = NIL;
        while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
            tuples = lappend(tuples, with_own_values(ExecCopySlotHeapTuple(slot), columns));
        table_endscan(scan);
        PopActiveSnapshot();
        ExecDropSingleTupleTableSlot(slot);

        result.rows = static_cast<TableRow *>(palloc(sizeof(TableRow) * (list_length(tuples) + 1)));
        ListCell *cell;
        foreach (cell, tuples) {
            TableRow &row = result.rows[result.count++];
            const auto width = static_cast<Size>(own.column_count());
            row.values = static_cast<Datum *>(palloc(sizeof(Datum) * width));
            row.nulls = static_cast<bool *>(palloc(sizeof(bool) * width));
            own.deform(static_cast<HeapTuple>(lfirst(cell)), columns, row.values, row.nulls);
        }
        table_close(table, AccessShareLock);
    });
    return result;
}

} // namespace backfill::pg
