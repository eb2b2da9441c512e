/* deferred_events.cpp - see deferred_events.hpp. */
#include "backfill/call/deferred_events.hpp"

#include "backfill/call/running_job.hpp"
#include "backfill/pg/invalidation_flag.hpp"
#include "backfill/pg/subtransaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
}

namespace backfill::queue::deferred
{

namespace
{

/* A table with deferrable triggers. */
struct Table {
    Oid oid;
    bool has_users_trigger; /* one that is not a constraint's own */
};

pg::InvalidationFlag outdated;
bool ours = false;

/* All of the database. */
std::vector<Table> &known_tables()
{
    static std::vector<Table> tables;
    return tables;
}

void read_tables(std::vector<Table> &tables)
{
    Relation triggers = nullptr;
    SysScanDesc scan = nullptr;
    pg::call([&] {
        triggers = table_open(TriggerRelationId, AccessShareLock);
        scan = systable_beginscan(triggers, InvalidOid, false, nullptr, 0, nullptr);
    });
    for (;;) {
        Table found{InvalidOid, false};
        pg::call([&] {
            HeapTuple tuple;
            while (!OidIsValid(found.oid) && HeapTupleIsValid(tuple = systable_getnext(scan))) {
                const auto *trigger = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
                if (trigger->tgdeferrable)
                    found = {trigger->tgrelid, !trigger->tgisinternal};
            }
        });
        if (!OidIsValid(found.oid))
            break;
        tables.push_back(found);
    }
    pg::call([&] {
        systable_endscan(scan);
        table_close(triggers, AccessShareLock);
    });
    /* Of each table once: with a trigger of a user, if there is one. */
    std::sort(tables.begin(), tables.end(), [](const Table &a, const Table &b) {
        return std::tuple(a.oid, b.has_users_trigger) < std::tuple(b.oid, a.has_users_trigger);
    });
    tables.erase(std::unique(tables.begin(), tables.end(),
                             [](const Table &a, const Table &b) { return a.oid == b.oid; }),
                 tables.end());
}

const std::vector<Table> &tables()
{
    if (outdated.is_set()) {
        pg::InvalidationFlag::Reading reading(outdated);
        known_tables().clear();
        read_tables(known_tables());
        reading.note_success();
    }
    return known_tables();
}

bool is_pending(const Table &table)
{
    return pg::call([&] { return AfterTriggerPendingOnRel(table.oid); });
}

bool any_pending()
{
    return std::any_of(tables().begin(), tables().end(), is_pending);
}

} // namespace

bool triggers_of_users_pending()
{
    return std::any_of(tables().begin(), tables().end(), [](const Table &table) {
        return table.has_users_trigger && is_pending(table);
    });
}

void try_pending()
{
    if (!any_pending())
        return;
    const auto error = pg::in_subtransaction(
        [] {
            pg::call([] {
                ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);
                all_immediate->constraints = NIL;
                all_immediate->deferred = false;
                AfterTriggerSetState(all_immediate);
            });
        },
        pg::OnSuccess::kRollBack);
    if (error)
        throw core::ErrorInfo(*error);
}

bool all_ours()
{
    return ours;
}

void own_every_transaction()
{
    ours = true;
}

OwnedTransaction::OwnedTransaction() : before_(ours)
{
    begin();
}

void OwnedTransaction::begin()
{
    ours = !any_pending();
}

OwnedTransaction::~OwnedTransaction()
{
    ours = before_;
}

Trial::Trial() : possible_((ours && !is_running_job()) || !any_pending()) {}

void Trial::run() const
{
    if (possible_)
        try_pending();
}

void init()
{
    outdated.register_for_all_relations();
}

} // namespace backfill::queue::deferred
