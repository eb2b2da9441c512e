/* json5.cpp - see json5.hpp. */
#include "backfill/core/json5.hpp"

#include "backfill/core/syntax_error.hpp"

#include <cstdint>

namespace backfill::core
{

namespace
{

/* As many as jsonb takes without a deep stack. */
constexpr int kMaxDepth = 1000;

constexpr bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

constexpr int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Letters outside ASCII are bytes above 127; all of them may be part of a key. */
constexpr bool starts_key(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' ||
           static_cast<unsigned char>(c) > 127;
}

class Converter
{
  public:
    explicit Converter(std::string_view text) : text_(text) {}

    std::string run()
    {
        value(0);
        skip_space();
        if (at_ < text_.size())
            refuse("unexpected text after the value");
        return std::move(out_);
    }

  private:
    [[noreturn]] void refuse(const std::string &problem) const
    {
        throw SyntaxError{"invalid JSON5: " + problem,
                          "At character " + std::to_string(at_ + 1) + " of the payload.",
                          "The payload is an object like {to: \"a@b.c\", n: 1}."};
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool ended() const { return at_ >= text_.size(); }

    bool accept(std::string_view token)
    {
        if (text_.substr(at_, token.size()) != token)
            return false;
        at_ += token.size();
        return true;
    }

    void skip_space()
    {
        for (;;) {
            if (peek() == ' ' || (peek() >= '\t' && peek() <= '\r')) {
                at_++;
            } else if (accept("\xC2\xA0") || accept("\xEF\xBB\xBF")) {
                /* no-break space and byte order mark are white space, too */
            } else if (accept("//")) {
                while (!ended() && peek() != '\n' && peek() != '\r')
                    at_++;
            } else if (accept("/*")) {
                const std::size_t end = text_.find("*/", at_);
                if (end == std::string_view::npos)
                    refuse("a comment does not end");
                at_ = end + 2;
            } else {
                return;
            }
        }
    }

    void value(int depth)
    {
        if (depth > kMaxDepth)
            refuse("too deeply nested");
        skip_space();
        const char c = peek();
        if (c == '{')
            members('{', '}', depth);
        else if (c == '[')
            members('[', ']', depth);
        else if (c == '"' || c == '\'')
            string();
        else if (is_digit(c) || c == '+' || c == '-' || c == '.')
            number();
        else if (starts_key(c))
            word();
        else
            refuse(ended() ? "a value is missing" : "a value cannot begin like this");
    }

    /* An object or an array. */
    void members(char open, char close, int depth)
    {
        at_++;
        out_ += open;
        bool first = true;
        for (;;) {
            skip_space();
            if (peek() == close)
                break;
            if (!first) {
                if (!accept(","))
                    refuse(std::string("expected , or ") + close);
                skip_space();
                if (peek() == close) /* a trailing comma */
                    break;
                out_ += ',';
            }
            first = false;
            if (open == '{') {
                key();
                skip_space();
                if (!accept(":"))
                    refuse("expected : after a key");
                out_ += ':';
            }
            value(depth + 1);
        }
        at_++;
        out_ += close;
    }

    void key()
    {
        if (peek() == '"' || peek() == '\'') {
            string();
            return;
        }
        if (ended() || !(starts_key(peek()) || peek() == '\\'))
            refuse("a key is missing");
        out_ += '"';
        while (!ended() && (starts_key(peek()) || is_digit(peek()) || peek() == '\\')) {
            if (peek() == '\\') {
                at_++;
                if (!accept("u"))
                    refuse("a key may hold no other escape than \\u");
                unicode_escape(4);
            } else {
                out_ += text_[at_++];
            }
        }
        out_ += '"';
    }

    /* true, false, null; Infinity and NaN are words, too. */
    void word()
    {
        const std::size_t begin = at_;
        while (!ended() && (starts_key(peek()) || is_digit(peek())))
            at_++;
        const std::string_view found = text_.substr(begin, at_ - begin);
        if (found != "true" && found != "false" && found != "null") {
            at_ = begin;
            refuse(found == "Infinity" || found == "NaN"
                       ? std::string(found) + " cannot be stored as JSON"
                       : "a value cannot begin like this");
        }
        out_ += found;
    }

    void number()
    {
        if (peek() == '-')
            out_ += '-';
        if (peek() == '-' || peek() == '+')
            at_++;
        if (starts_key(peek()))
            refuse("a number is missing (Infinity and NaN cannot be stored as JSON)");
        if (accept("0x") || accept("0X")) {
            hexadecimal();
            return;
        }
        const std::size_t whole = digits();
        if (whole > 1 && text_[at_ - whole] == '0')
            refuse("a number must not begin with 0");
        out_ += whole > 0 ? text_.substr(at_ - whole, whole) : "0";
        if (accept(".")) {
            const std::size_t fraction = digits();
            if (whole == 0 && fraction == 0)
                refuse("a number needs a digit");
            if (fraction > 0) {
                out_ += '.';
                out_ += text_.substr(at_ - fraction, fraction);
            }
        } else if (whole == 0) {
            refuse("a number needs a digit");
        }
        if (accept("e") || accept("E")) {
            out_ += 'e';
            if (peek() == '-' || peek() == '+')
                out_ += text_[at_++];
            const std::size_t exponent = digits();
            if (exponent == 0)
                refuse("an exponent needs a digit");
            out_ += text_.substr(at_ - exponent, exponent);
        }
        if (starts_key(peek()))
            refuse("a number ends in something else");
    }

    std::size_t digits()
    {
        const std::size_t begin = at_;
        while (is_digit(peek()))
            at_++;
        return at_ - begin;
    }

    void hexadecimal()
    {
        std::uint64_t number = 0;
        const std::size_t begin = at_;
        for (; hex_value(peek()) >= 0; at_++) {
            if (number >> 60 != 0)
                refuse("a hexadecimal number is too large");
            number = number * 16 + static_cast<std::uint64_t>(hex_value(peek()));
        }
        if (at_ == begin || starts_key(peek()))
            refuse("a hexadecimal number needs digits");
        out_ += std::to_string(number);
    }

    void string()
    {
        const char quote = text_[at_++];
        out_ += '"';
        for (;;) {
            if (ended() || peek() == '\n' || peek() == '\r')
                refuse("a string does not end");
            const char c = text_[at_++];
            if (c == quote)
                break;
            if (c == '\\')
                escape();
            else
                character(c);
        }
        out_ += '"';
    }

    /* A character as a JSON string may hold it. */
    void character(char c)
    {
        constexpr const char *kHex = "0123456789abcdef";
        if (c == '"' || c == '\\') {
            out_ += '\\';
            out_ += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out_ += "\\u00";
            out_ += kHex[c >> 4 & 15];
            out_ += kHex[c & 15];
        } else {
            out_ += c;
        }
    }

    void escape()
    {
        if (ended())
            refuse("a string does not end");
        const char c = text_[at_++];
        switch (c) {
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't':
            out_ += '\\';
            out_ += c;
            break;
        case 'v':
            character('\v');
            break;
        case 'u':
            unicode_escape(4);
            break;
        case 'x':
            unicode_escape(2);
            break;
        case '\r': /* an escaped end of line continues the string */
            (void) accept("\n");
            break;
        case '\n':
            break;
        default:
            if (is_digit(c) && (c != '0' || is_digit(peek())))
                refuse("an escaped digit has no meaning");
            if (c == '0')
                refuse("jsonb cannot hold the character 0");
            character(c);
        }
    }

    /* \xHH or \uHHHH; the first two are read already. */
    void unicode_escape(int length)
    {
        out_ += "\\u";
        out_.append(static_cast<std::size_t>(4 - length), '0');
        int code = 0;
        for (int i = 0; i < length; i++, at_++) {
            if (hex_value(peek()) < 0)
                refuse("an escape needs " + std::to_string(length) + " hexadecimal digits");
            code = code * 16 + hex_value(peek());
            out_ += peek();
        }
        if (code == 0)
            refuse("jsonb cannot hold the character 0");
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::string out_;
};

} // namespace

std::string json5_to_json(std::string_view text)
{
    return Converter(text).run();
}

} // namespace backfill::core
