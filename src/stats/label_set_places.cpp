/* label_set_places.cpp - see label_set_places.hpp. */
#include "backfill/stats/label_set_places.hpp"

#include "backfill/guc.hpp"

#include <algorithm>
#include <map>

extern "C" {
#include "common/hashfn.h"
}

namespace backfill::stats
{

namespace
{

constexpr std::string_view kOther = "other";

uint64 hash_text(std::string_view text, uint64 seed)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), seed);
}

uint64 hash_labels(Oid database, const LabelSet &labels)
{
    return hash_text(labels.task, hash_text(labels.queue, hash_text(labels.band, database)));
}

void copy_label(char *target, std::size_t size, std::string_view source)
{
    memcpy(target, source.data(), Min(source.size(), size - 1));
    target[Min(source.size(), size - 1)] = '\0';
}

bool is_other_set(const LabelSet &labels)
{
    return labels.task == kOther && labels.queue == kOther && labels.band == kOther;
}

} // namespace

LabelSetKey::LabelSetKey(Oid in_database, const LabelSet &of_labels)
    : database(in_database), labels(of_labels), hash(hash_labels(in_database, of_labels))
{
}

LabelSetKey LabelSetKey::other(Oid database)
{
    return {database, LabelSet{kOther, kOther, kOther}};
}

bool LabelSetKey::is_other() const
{
    return is_other_set(labels);
}

bool LabelSetPlace::is_other() const
{
    return is_other_set(LabelSet{task, queue, band});
}

JobCountersRef ref_to(LabelSetPlace *place)
{
    if (place == nullptr)
        return {};
    return {&place->counters, pg_atomic_read_u64(&place->counters.occupancy) >> kUserBits,
            place->is_other()};
}

int LabelSetPlaces::count()
{
    return guc::metrics_max_label_sets + bgworker::kMaxDatabases;
}

/* The memory is all zeros. */
void LabelSetPlaces::init(void *memory)
{
    place_count_ = count();
    label_set_count_ = guc::metrics_max_label_sets;
    places_ = static_cast<LabelSetPlace *>(memory);
    hashes_ = reinterpret_cast<uint64 *>(places_ + place_count_);
    pg_atomic_init_u64(&version_, 0);
    for (int i = 0; i < place_count_; i++) {
        JobCounters &counters = places_[i].counters;
        pg_atomic_init_u64(&counters.occupancy, 0);
        pg_atomic_init_u64(&counters.last_used, 0);
        for (pg_atomic_uint64 &value : counters.values)
            pg_atomic_init_u64(&value, 0);
    }
}

bool LabelSetPlaces::has_room_for(const LabelSetKey &key) const
{
    return used_ < label_set_count_ || key.is_other();
}

LabelSetPlace *LabelSetPlaces::find(const LabelSetKey &key)
{
    for (int i = 0; i < end_; i++) {
        LabelSetPlace &place = places_[i];
        if (hashes_[i] == key.hash && place.database == key.database &&
            key.labels.task == place.task && key.labels.queue == place.queue &&
            key.labels.band == place.band)
            return &place;
    }
    return nullptr;
}

LabelSetPlace *LabelSetPlaces::make(const LabelSetKey &key)
{
    if (!has_room_for(key))
        return nullptr;
    int free_place = 0;
    while (free_place < end_ && OidIsValid(places_[free_place].database))
        free_place++;
    if (free_place == place_count_)
        return nullptr;
    LabelSetPlace &place = places_[free_place];
    copy_label(place.task, sizeof(place.task), key.labels.task);
    copy_label(place.queue, sizeof(place.queue), key.labels.queue);
    copy_label(place.band, sizeof(place.band), key.labels.band);
    place.database = key.database;
    hashes_[free_place] = key.hash;
    /* Processes that still know the place as another's come meanwhile, and see that it is not. */
    pg_atomic_uint64 &occupancy = place.counters.occupancy;
    const uint64 old_serial = pg_atomic_read_u64(&occupancy) >> kUserBits;
    pg_atomic_fetch_add_u64(&occupancy,
                            static_cast<int64>((++last_serial_ - old_serial) << kUserBits));
    pg_atomic_write_u64(&place.counters.last_used, static_cast<uint64>(GetCurrentTimestamp()));
    end_ = Max(end_, free_place + 1);
    used_ += key.is_other() ? 0 : 1;
    return &place;
}

LabelSetPlace *LabelSetPlaces::find_or_make_other(Oid database)
{
    const LabelSetKey other = LabelSetKey::other(database);
    LabelSetPlace *place = find(other);
    return place != nullptr ? place : make(other);
}

bool LabelSetPlaces::make_room(TimestampTz now)
{
    std::map<Oid, int> places{{MyDatabaseId, 0}};
    for (const LabelSetPlace &place : all())
        if (OidIsValid(place.database) && !place.is_other())
            places[place.database]++;
    const auto most =
        std::max_element(places.begin(), places.end(), [](const auto &left, const auto &right) {
            return left.second < right.second;
        });
    /* The others have more than their share then, one of them at least. */
    const bool has_less = places[MyDatabaseId] < label_set_count_ / static_cast<int>(places.size());
    LabelSetPlace *place = least_recently_used(has_less ? most->first : MyDatabaseId);
    if (place == nullptr)
        return false;
    const int64 idle_us = guc::metrics_idle_time * INT64CONST(1000);
    const auto last_used = static_cast<TimestampTz>(pg_atomic_read_u64(&place->counters.last_used));
    return (has_less || now - last_used >= idle_us) && evict(*place);
}

bool LabelSetPlaces::evict(LabelSetPlace &place)
{
    LabelSetPlace *other = find_or_make_other(place.database);
    if (other == nullptr || !end_occupancy(place))
        return false;
    for (int i = 0; i < kJobCounterCount; i++)
        pg_atomic_fetch_add_u64(&other->counters.values[i],
                                static_cast<int64>(pg_atomic_read_u64(&place.counters.values[i])));
    free(place);
    return true;
}

void LabelSetPlaces::free(LabelSetPlace &place)
{
    used_ -= place.is_other() ? 0 : 1;
    place.database = InvalidOid;
    hashes_[&place - places_] = 0;
    for (pg_atomic_uint64 &value : place.counters.values)
        pg_atomic_write_u64(&value, 0);
    pg_atomic_fetch_add_u64(&version_, 1);
}

LabelSetPlace *LabelSetPlaces::least_recently_used(Oid database)
{
    LabelSetPlace *oldest = nullptr;
    for (LabelSetPlace &place : all())
        if (place.database == database && !place.is_other() &&
            (oldest == nullptr || pg_atomic_read_u64(&place.counters.last_used) <
                                      pg_atomic_read_u64(&oldest->counters.last_used)))
            oldest = &place;
    return oldest;
}

/* From here on no process adds to it for its label set. False: one does so right now. */
bool LabelSetPlaces::end_occupancy(LabelSetPlace &place)
{
    uint64 idle = pg_atomic_read_u64(&place.counters.occupancy) >> kUserBits << kUserBits;
    if (!pg_atomic_compare_exchange_u64(&place.counters.occupancy, &idle,
                                        (last_serial_ + 1) << kUserBits))
        return false;
    last_serial_++;
    return true;
}

} // namespace backfill::stats
