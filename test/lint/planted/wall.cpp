/* What wall.query must find, and what it must let pass. Never built: run.sh --self-test reads
 * it. A line that ends in "finds: <rule>" breaks that rule, and no other line breaks any. */
#include "backfill/pg/owner_scope.hpp"
#include "backfill/pg/subtransaction.hpp"

namespace backfill::planted
{

/* Its destructor is the compiler's, and frees the string. */
struct Named {
    std::string name;
};

std::string global_name; // finds: global object with a destructor

Named make_named()
{
    return {};
}

/* --- Right --- */

char *guarded_copy(const char *text)
{
    const std::string copy(text);
    return pg::call([&] { return pstrdup(copy.c_str()); });
}

TimestampTz harmless_call()
{
    const std::string unrelated("x");
    return GetCurrentTimestamp();
}

void on_end(XactEvent, void *) noexcept {}

/* init... is plain. */
void init_something()
{
    RegisterXactCallback(on_end, nullptr);
}

/* --- PostgreSQL where C++ objects may be alive --- */

void ereport_over_string(const char *name)
{
    const std::string copy(name);
    ereport(ERROR, (errmsg("no %s", copy.c_str()))); // finds: PostgreSQL called outside of pg::call()
}

char *call_over_implicit_destructor()
{
    const Named named{"x"};
    return pstrdup(named.name.c_str()); // finds: PostgreSQL called outside of pg::call()
}

/* The caller may hold something. */
char *call_without_locals(const char *text)
{
    return pstrdup(text); // finds: PostgreSQL called outside of pg::call()
}

char *call_in_another_lambda(const char *text)
{
    const auto copy = [&] {
        return pstrdup(text); // finds: PostgreSQL called outside of pg::call()
    };
    return copy();
}

Datum detoast(Datum value)
{
    return PointerGetDatum(PG_DETOAST_DATUM(value)); // finds: PostgreSQL called outside of pg::call()
}

void unguarded_plain_function(Oid role)
{
    (void) pg::may_act_as(role, role); // finds: plain function called outside of pg::call()
}

void unguarded_plain_class(Oid owner)
{
    pg::OwnerScope scope(owner); // finds: plain class used outside of pg::call()
}

/* --- C++ where PostgreSQL may longjmp --- */

void string_in_call(const char *name)
{
    pg::call([&] {
        const std::string copy(name); // finds: object with a destructor in plain code
        (void) pstrdup(copy.c_str());
    });
}

void implicit_destructor_in_call()
{
    pg::call([] {
        const std::optional<Named> named; // finds: object with a destructor in plain code
        CHECK_FOR_INTERRUPTS();
    });
}

void temporary_in_call()
{
    pg::call([] {
        (void) pstrdup(make_named().name.c_str()); // finds: temporary with a destructor in plain code
    });
}

void throw_in_call()
{
    pg::call([] {
        throw 1; // finds: throw in plain code
    });
}

void fail_in_call()
{
    pg::call([] {
        fail(ERRCODE_INTERNAL_ERROR, {}); // finds: call of what throws in plain code finds: temporary with a destructor in plain code
    });
}

void call_in_call()
{
    pg::call([] {
        pg::call([] { CHECK_FOR_INTERRUPTS(); }); // finds: call of what throws in plain code
    });
}

void init_with_string()
{
    const std::string name("x"); // finds: object with a destructor in plain code
    RegisterXactCallback(on_end, nullptr);
}

/* --- Catching --- */

void ereport_in_catch()
{
    try {
        throw 1;
    } catch (int) {
        pg::call([] {
            ereport(ERROR, (errmsg("caught"))); // finds: ereport inside a catch block
        });
    }
}

void swallow()
{
    try {
        pg::call([] { CHECK_FOR_INTERRUPTS(); });
    } catch (const pg::Error &) { // finds: pg::Error caught by a function that does not abort
    }
}

void swallow_all()
{
    try {
        pg::call([] { CHECK_FOR_INTERRUPTS(); });
    } catch (...) { // finds: catch (...) outside of the boundary
    }
}

/* --- Callbacks, PG_TRY, memory --- */

void may_throw(XactEvent, void *) {}

void init_callback()
{
    RegisterXactCallback(may_throw, nullptr); // finds: callback that is not noexcept
}

void init_return_out_of_try()
{
    PG_TRY();
    {
        return; // finds: return out of PG_TRY
    }
    PG_CATCH();
    {
        PG_RE_THROW();
    }
    PG_END_TRY();
}

void allocate()
{
    int *number = new int; // finds: new
    delete number;         // finds: delete
}

} // namespace backfill::planted
