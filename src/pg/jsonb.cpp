/* jsonb.cpp - see jsonb.hpp. */
#include "backfill/pg/jsonb.hpp"

extern "C" {
#include "utils/datetime.h"
#include "utils/json.h"
}

namespace backfill::pg
{

namespace
{

JsonbValue string_value(std::string_view text)
{
    JsonbValue value;
    value.type = jbvString;
    value.val.string.val = const_cast<char *>(text.data());
    value.val.string.len = static_cast<int>(text.size());
    return value;
}

} // namespace

JsonbObject::JsonbObject()
{
    call([&] { (void) pushJsonbValue(&state_, WJB_BEGIN_OBJECT, nullptr); });
}

void JsonbObject::add_key(std::string_view key)
{
    call([&] {
        JsonbValue value = string_value(key);
        (void) pushJsonbValue(&state_, WJB_KEY, &value);
    });
}

void JsonbObject::add_text(std::string_view key, std::string_view value)
{
    if (value.empty())
        return;
    add_key(key);
    call([&] {
        char *copy = pnstrdup(value.data(), value.size());
        JsonbValue item = string_value({copy, value.size()});
        (void) pushJsonbValue(&state_, WJB_VALUE, &item);
    });
}

void JsonbObject::add_integer(std::string_view key, int64 value)
{
    add_key(key);
    call([&] {
        JsonbValue item;
        item.type = jbvNumeric;
        item.val.numeric = int64_to_numeric(value);
        (void) pushJsonbValue(&state_, WJB_VALUE, &item);
    });
}

void JsonbObject::add_jsonb(std::string_view key, Datum value)
{
    add_key(key);
    call([&] {
        JsonbValue item;
        JsonbToJsonbValue(DatumGetJsonbP(value), &item);
        if (item.type == jbvArray && item.val.array.rawScalar)
            item = item.val.array.elems[0];
        else if (item.type == jbvBinary && JsonContainerIsScalar(item.val.binary.data))
            (void) JsonbExtractScalar(item.val.binary.data, &item);
        (void) pushJsonbValue(&state_, WJB_VALUE, &item);
    });
}

void JsonbObject::add_timestamp(std::string_view key, TimestampTz value)
{
    char text[MAXDATELEN + 1];
    call([&] {
        (void) JsonEncodeDateTime(text, TimestampTzGetDatum(value), TIMESTAMPTZOID, nullptr);
    });
    add_text(key, text);
}

Datum JsonbObject::finish()
{
    return call([&] {
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state_, WJB_END_OBJECT, nullptr)));
    });
}

bool is_object(Datum value)
{
    return call([&] { return JB_ROOT_IS_OBJECT(DatumGetJsonbP(value)) != 0; });
}

std::string to_json_text(Datum value)
{
    return call([&] {
        Jsonb *json = DatumGetJsonbP(value);
        return JsonbToCString(nullptr, &json->root, VARSIZE(json));
    });
}

namespace
{

Size size_of(const JsonbValue &value)
{
    switch (value.type) {
    case jbvString:
        return static_cast<Size>(value.val.string.len);
    case jbvNumeric:
        return VARSIZE_ANY(value.val.numeric);
    case jbvBinary:
        return static_cast<Size>(value.val.binary.len);
    default:
        return 0;
    }
}

} // namespace

Datum without_large_members(Datum object, Size largest)
{
    return call([&] {
        Jsonb *json = DatumGetJsonbP(object);
        if (VARSIZE(json) <= largest || !JB_ROOT_IS_OBJECT(json))
            return JsonbPGetDatum(json);
        JsonbParseState *state = nullptr;
        const auto push_omission = [&](Size bytes) {
            JsonbValue key = string_value("omitted_bytes");
            JsonbValue count;
            count.type = jbvNumeric;
            count.val.numeric = int64_to_numeric(static_cast<int64>(bytes));
            (void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
            (void) pushJsonbValue(&state, WJB_KEY, &key);
            (void) pushJsonbValue(&state, WJB_VALUE, &count);
            (void) pushJsonbValue(&state, WJB_END_OBJECT, nullptr);
        };
        JsonbIterator *members = JsonbIteratorInit(&json->root);
        JsonbValue value;
        (void) JsonbIteratorNext(&members, &value, true); /* the object begins */
        (void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, nullptr);
        while (JsonbIteratorNext(&members, &value, true) == WJB_KEY) {
            (void) pushJsonbValue(&state, WJB_KEY, &value);
            (void) JsonbIteratorNext(&members, &value, true);
            if (size_of(value) > largest)
                push_omission(size_of(value));
            else
                (void) pushJsonbValue(&state, WJB_VALUE, &value);
        }
        return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, nullptr)));
    });
}

std::optional<Datum> get_jsonb(Datum object, const char *key)
{
    bool found = false;
    const Datum member = call([&]() -> Datum {
        Jsonb *value = DatumGetJsonbP(object);
        if (!JB_ROOT_IS_OBJECT(value))
            return 0;
        JsonbValue *item =
            getKeyJsonValueFromContainer(&value->root, key, static_cast<int>(strlen(key)), nullptr);
        found = item != nullptr;
        return found ? JsonbPGetDatum(JsonbValueToJsonb(item)) : 0;
    });
    return found ? std::optional(member) : std::nullopt;
}

std::optional<std::string> get_text(Datum object, const char *key)
{
    const auto member = get_jsonb(object, key);
    if (!member)
        return std::nullopt;
    const char *text = call([&]() -> const char * {
        JsonbValue scalar;
        Jsonb *value = DatumGetJsonbP(*member);
        if (JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, &scalar)) {
            if (scalar.type == jbvNull)
                return nullptr;
            if (scalar.type == jbvString)
                return pnstrdup(scalar.val.string.val, static_cast<Size>(scalar.val.string.len));
        }
        return JsonbToCString(nullptr, &value->root, VARSIZE(value));
    });
    return text == nullptr ? std::nullopt : std::optional<std::string>(text);
}

Datum error_to_jsonb(const core::ErrorInfo &error)
{
    JsonbObject object;
    object.add_text("sqlstate", error.sqlstate);
    object.add_text("message", error.message);
    object.add_text("detail", error.detail);
    object.add_text("hint", error.hint);
    object.add_text("context", error.context);
    return object.finish();
}

} // namespace backfill::pg
