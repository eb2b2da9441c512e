/* datum.cpp - see datum.hpp. */
#include "backfill/pg/datum.hpp"

namespace backfill::pg
{

std::string_view to_view(Datum value)
{
    return call([&] {
        const text *detoasted = DatumGetTextPP(value);
        return std::string_view(VARDATA_ANY(detoasted), VARSIZE_ANY_EXHDR(detoasted));
    });
}

Datum from_text(std::string_view value)
{
    return call([&] {
        return PointerGetDatum(
            cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
    });
}

Datum from_texts(std::span<const std::string> values)
{
    std::vector<Datum> elements;
    for (const std::string &value : values)
        elements.push_back(from_text(value));
    return call([&] {
        return PointerGetDatum(construct_array(elements.data(), static_cast<int>(elements.size()),
                                               TEXTOID, -1, false, TYPALIGN_INT));
    });
}

std::string in_quotes(std::string_view value)
{
    return "\"" + std::string(value) + "\"";
}

std::string shortened(std::string_view value)
{
    constexpr std::size_t kShownBytes = 60;
    if (value.size() <= kShownBytes)
        return std::string(value);
    const int shown = call([&] {
        return pg_mbcliplen(value.data(), static_cast<int>(value.size()),
                            static_cast<int>(kShownBytes));
    });
    return std::string(value.substr(0, static_cast<std::size_t>(shown))) + "...";
}

std::string_view clipped(std::string_view text, std::size_t max_bytes)
{
    if (text.size() <= max_bytes)
        return text;
    /* No more than is needed is looked at; a character has at most four bytes. */
    const int length = static_cast<int>(Min(text.size(), max_bytes + 4));
    const int kept =
        call([&] { return pg_mbcliplen(text.data(), length, static_cast<int>(max_bytes)); });
    return text.substr(0, static_cast<std::size_t>(kept));
}

double approximate_days(const Interval &interval)
{
    return static_cast<double>(interval.month) * DAYS_PER_MONTH + interval.day +
           static_cast<double>(interval.time) / USECS_PER_DAY;
}

int64 to_microseconds(const Interval &interval)
{
    const int64 days = interval.month * static_cast<int64>(DAYS_PER_MONTH) + interval.day;
    int64 result;
    if (__builtin_mul_overflow(days, USECS_PER_DAY, &result) ||
        __builtin_add_overflow(result, interval.time, &result))
        return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
    return result;
}

Interval *from_microseconds(int64 microseconds)
{
    Interval *interval = call([] { return static_cast<Interval *>(palloc0(sizeof(Interval))); });
    interval->time = microseconds;
    return interval;
}

std::string to_text(const Interval &interval)
{
    return call([&] {
        return DatumGetCString(DirectFunctionCall1(interval_out, PointerGetDatum(&interval)));
    });
}

std::string role_name(Oid role)
{
    const char *name = call([&] { return GetUserNameFromId(role, true); });
    return name == nullptr ? std::string() : std::string(name);
}

std::optional<Arguments::Elements> Arguments::array(int n, Oid element_type) const
{
    if (is_null(n))
        return std::nullopt;
    Elements elements{};
    call([&] {
        int16 length;
        bool by_value;
        char alignment;
        get_typlenbyvalalign(element_type, &length, &by_value, &alignment);
        deconstruct_array(DatumGetArrayTypeP(datum(n)), element_type, length, by_value, alignment,
                          &elements.values, &elements.nulls, &elements.count);
    });
    return elements;
}

std::optional<std::vector<int64>> Arguments::int8_array(int n) const
{
    const auto elements = array(n, INT8OID);
    if (!elements)
        return std::nullopt;
    std::vector<int64> result;
    for (int i = 0; i < elements->count; i++)
        if (!elements->nulls[i])
            result.push_back(DatumGetInt64(elements->values[i]));
    return result;
}

Datum make_row(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls)
{
    return call([&] {
        TupleDesc columns = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &columns) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "return type must be a row type");
        /* PostgreSQL declares them writable but only reads them. */
        return HeapTupleGetDatum(heap_form_tuple(
            BlessTupleDesc(columns), const_cast<Datum *>(values), const_cast<bool *>(nulls)));
    });
}

ResultSet::ResultSet(FunctionCallInfo fcinfo)
    : result_(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo))
{
    call([&] {
        /* A set of a plain type has no row type for InitMaterializedSRF to look up. */
        TypeFuncClass kind = get_call_result_type(fcinfo, nullptr, nullptr);
        InitMaterializedSRF(fcinfo, kind == TYPEFUNC_SCALAR ? MAT_SRF_USE_EXPECTED_DESC : 0);
    });
}

void ResultSet::add(const Datum *values, const bool *nulls)
{
    /* PostgreSQL declares them writable but only reads them. */
    call([&] {
        tuplestore_putvalues(result_->setResult, result_->setDesc, const_cast<Datum *>(values),
                             const_cast<bool *>(nulls));
    });
}

} // namespace backfill::pg
