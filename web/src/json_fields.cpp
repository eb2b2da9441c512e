/* json_fields.cpp - see json_fields.hpp.
 *
 * nlohmann's parser calls a Collector for each token. The Collector keeps what stands directly in
 * the outermost value, and writes what is nested deeper into one text. */
#include "json_fields.hpp"

#include <nlohmann/json.hpp>

namespace backfill::web
{

namespace
{

using Json = nlohmann::json;
using JsonKind = JsonValue::Kind;

/* PostgreSQL reads JSON recursively. */
constexpr int kMaxDepth = 200;

std::string quote(const std::string &text)
{
    return Json(text).dump();
}

class Collector
{
  public:
    bool is_object = false;
    bool is_array = false;
    JsonFields fields;
    std::vector<JsonValue> elements;
    std::string problem;

    /* What nlohmann's parser calls. */
    bool null() { return scalar(JsonKind::null, "null", "null"); }
    bool boolean(bool value)
    {
        return scalar(JsonKind::boolean, value ? "true" : "false", value ? "true" : "false");
    }
    bool number_integer(Json::number_integer_t value) { return integer(std::to_string(value)); }
    bool number_unsigned(Json::number_unsigned_t value) { return integer(std::to_string(value)); }
    /* Also an integer that does not fit into 64 bits. */
    bool number_float(Json::number_float_t, const std::string &token)
    {
        return scalar(JsonKind::number, token, token);
    }
    bool string(std::string &value) { return scalar(JsonKind::string, value, quote(value)); }
    bool binary(Json::binary_t &) { return fail("there is no binary data in JSON"); }
    bool key(std::string &name)
    {
        if (depth_ == 1) {
            key_ = name;
            return !fields.contains(name) || fail("field \"" + name + "\" is given twice");
        }
        separate();
        text_ += quote(name) + ":";
        after_key_ = true;
        return true;
    }
    bool start_object(std::size_t) { return open('{'); }
    bool end_object() { return close('}', JsonKind::object); }
    bool start_array(std::size_t) { return open('['); }
    bool end_array() { return close(']', JsonKind::array); }
    bool parse_error(std::size_t position, const std::string &, const Json::exception &)
    {
        return fail("it is not valid JSON, at byte " + std::to_string(position));
    }

  private:
    int depth_ = 0;
    std::string key_;
    std::string text_;
    bool first_ = true;
    bool after_key_ = false;

    bool fail(std::string what)
    {
        if (problem.empty())
            problem = std::move(what);
        return false;
    }

    void separate()
    {
        if (!first_ && !after_key_)
            text_ += ',';
        first_ = false;
        after_key_ = false;
    }

    bool keep(JsonValue value)
    {
        if (is_object)
            fields.emplace(key_, std::move(value));
        else
            elements.push_back(std::move(value));
        return true;
    }

    bool integer(std::string token) { return scalar(JsonKind::integer, token, token); }

    bool scalar(JsonKind kind, const std::string &text, const std::string &json)
    {
        if (depth_ == 0)
            return fail("it is not an object");
        if (depth_ == 1)
            return keep({kind, text});
        separate();
        text_ += json;
        return true;
    }

    bool open(char bracket)
    {
        if (++depth_ > kMaxDepth)
            return fail("it is nested deeper than " + std::to_string(kMaxDepth) + " levels");
        if (depth_ == 1) {
            is_object = bracket == '{';
            is_array = !is_object;
            return true;
        }
        if (depth_ == 2)
            text_.clear();
        else
            separate();
        text_ += bracket;
        first_ = true;
        after_key_ = false;
        return true;
    }

    bool close(char bracket, JsonKind kind)
    {
        depth_--;
        if (depth_ == 0)
            return true;
        text_ += bracket;
        first_ = false;
        return depth_ > 1 || keep({kind, text_});
    }
};

} // namespace

std::string to_json(const JsonValue &value)
{
    return value.kind == JsonKind::string ? quote(value.text) : value.text;
}

std::variant<JsonFields, std::string> parse_object(std::string_view text)
{
    Collector collector;
    const bool parsed = Json::sax_parse(text.begin(), text.end(), &collector);
    if (!parsed || !collector.is_object)
        return collector.problem.empty() ? "it is not an object" : collector.problem;
    return std::move(collector.fields);
}

std::optional<std::vector<JsonValue>> parse_array(std::string_view text)
{
    Collector collector;
    if (!Json::sax_parse(text.begin(), text.end(), &collector) || !collector.is_array)
        return {};
    return std::move(collector.elements);
}

} // namespace backfill::web
