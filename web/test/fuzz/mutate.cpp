/* mutate.cpp - runs a driver of libFuzzer's without libFuzzer: the seeds with random changes, during
 * SECONDS. It does not see which code an input reaches, but any compiler can build it. Prints TAP; a
 * sanitizer ends it.
 *
 *   DRIVER_mutate SECONDS SEED SEEDS_DIRECTORY DICTIONARY */
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace
{

using Random = std::mt19937_64;

constexpr std::size_t kLongest = 4096;

std::string content_of(const std::filesystem::path &path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/* The words of a dictionary: "..." on lines of their own, with \xNN, \" and \\ in them. */
std::vector<std::string> words_of(const std::filesystem::path &path)
{
    std::vector<std::string> words;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.size() < 2 || line.front() != '"' || line.back() != '"')
            continue;
        std::string word;
        for (std::size_t i = 1; i + 1 < line.size(); i++) {
            if (line[i] != '\\')
                word += line[i];
            else if (line[++i] == 'x') {
                word += static_cast<char>(std::stoi(line.substr(i + 1, 2), nullptr, 16));
                i += 2;
            } else
                word += line[i];
        }
        words.push_back(word);
    }
    return words;
}

class Mutator
{
  public:
    Mutator(std::vector<std::string> seeds, std::vector<std::string> words, std::uint64_t seed)
        : seeds_(std::move(seeds)), words_(std::move(words)), random_(seed)
    {
    }

    std::string next()
    {
        std::string input = pick(seeds_);
        for (std::size_t changes = below(8); changes > 0; changes--)
            change(input);
        input.resize(std::min(input.size(), kLongest));
        return input;
    }

  private:
    std::size_t below(std::size_t limit) { return random_() % limit; }
    const std::string &pick(const std::vector<std::string> &from)
    {
        return from[below(from.size())];
    }

    void change(std::string &input)
    {
        const std::size_t at = below(input.size() + 1);
        switch (below(7)) {
        case 0:
            input.insert(at, pick(words_));
            break;
        case 1: {
            const std::string &word = pick(words_);
            input.replace(at, word.size(), word);
            break;
        }
        case 2:
            input.erase(at, below(1 + below(input.size() + 1)));
            break;
        case 3:
            input.insert(at, input.substr(below(input.size() + 1), below(200)));
            break;
        case 4: {
            const std::string &other = pick(seeds_);
            input.insert(at, other.substr(below(other.size() + 1)));
            break;
        }
        case 5:
            input.insert(at, 1, static_cast<char>(below(256)));
            break;
        default:
            if (at < input.size())
                input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        }
    }

    std::vector<std::string> seeds_;
    std::vector<std::string> words_;
    Random random_;
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    const std::chrono::duration<double> time(std::atof(argv[1]));
    const std::uint64_t seed = std::strtoull(argv[2], nullptr, 10);
    std::vector<std::string> seeds;
    for (const auto &entry : std::filesystem::directory_iterator(argv[3]))
        seeds.push_back(content_of(entry.path()));
    Mutator mutator(seeds, words_of(argv[4]), seed);
    std::printf("# seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    std::uint64_t inputs = 0;
    const auto start = std::chrono::steady_clock::now();
    while (inputs < 1000 || std::chrono::steady_clock::now() - start < time) {
        const std::string input = mutator.next();
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t *>(input.data()), input.size());
        inputs++;
    }
    std::printf("ok 1 - %llu inputs were read without a fault\n1..1\n",
                static_cast<unsigned long long>(inputs));
}
