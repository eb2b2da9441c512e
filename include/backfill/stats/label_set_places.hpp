/* label_set_places.hpp - which label set has which place of the counters in shared memory.
 *
 * There are backfill.metrics_max_label_sets places, and one for each database's label set "other",
 * in which everything is counted that finds no place. Any producer can make label sets, by names
 * of tasks and queues. So when all places are in use, a new one takes the place of the one that has
 * counted nothing for the longest time: of a database that has more than its share of the places,
 * if its own has less; else of its own, if that was idle for backfill.metrics_idle_time. What the
 * old one had counted moves to "other", so that sums over label sets never run backwards.
 *
 * The functions are called with the lock of the counters held; those that change places, alone.
 * Counters are added to without it: a place's serial number tells a process that knew it whether it
 * is still that of the same label set. */
#pragma once

#include "backfill/shmem/shared_state.hpp"
#include "backfill/stats/job_counters.hpp"

namespace backfill::stats
{

inline constexpr std::size_t kMaxLabel = bgworker::kMaxTaskName - 1;
/* The low bits of JobCounters::occupancy: how many processes add to the counters now. */
inline constexpr int kUserBits = 20;

/* A label set of a database, with the hash by which it is searched. */
struct LabelSetKey {
    LabelSetKey(Oid in_database, const LabelSet &of_labels);
    static LabelSetKey other(Oid database);
    bool is_other() const;

    Oid database;
    LabelSet labels;
    uint64 hash;
};

struct LabelSetPlace {
    Oid database; /* InvalidOid: free */
    char task[kMaxLabel + 1];
    char queue[kMaxLabel + 1];
    char band[16];
    JobCounters counters;

    bool is_other() const;
};

/* Null makes an empty one. */
JobCountersRef ref_to(LabelSetPlace *place);

class LabelSetPlaces
{
  public:
    /* The memory that init() is given has room for count() places of kPlaceSize bytes. */
    static int count();
    static constexpr Size kPlaceSize = sizeof(LabelSetPlace) + sizeof(uint64);
    void init(void *memory);

    /* Those that are or were in use. */
    std::span<LabelSetPlace> all() { return {places_, static_cast<std::size_t>(end_)}; }

    bool has_room_for(const LabelSetKey &key) const;
    /* Null if it has no place. */
    LabelSetPlace *find(const LabelSetKey &key);
    /* A free place, now that of the label set; null if there is none. */
    LabelSetPlace *make(const LabelSetKey &key);
    LabelSetPlace *find_or_make_other(Oid database);

    /* Makes room for a label set of this database; false if none may lose its place. */
    bool make_room(TimestampTz now);
    /* Moves what it has counted to "other", and frees its place; false if that cannot be done now.
     */
    bool evict(LabelSetPlace &place);
    void free(LabelSetPlace &place);

    /* Another number when a label set has lost its place since; needs no lock. */
    uint64 version() { return pg_atomic_read_u64(&version_); }

  private:
    LabelSetPlace *least_recently_used(Oid database);
    bool end_occupancy(LabelSetPlace &place);

    int place_count_;
    int label_set_count_; /* how many places are for label sets other than "other" */
    int used_;            /* by such label sets */
    int end_;             /* no place from here on was ever used */
    uint64 last_serial_;  /* of a label set */
    pg_atomic_uint64 version_;
    LabelSetPlace *places_;
    uint64 *hashes_; /* of the keys, close together: a search reads these only */
};

} // namespace backfill::stats
