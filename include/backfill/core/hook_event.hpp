/* hook_event.hpp - the moments at which users' hooks are called. */
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace backfill::core
{

enum class HookEvent {
    kBeforeJobSchedule,
    kBeforeJobRun,
    kAfterJobRun,
    kJobStart,
    kJobComplete,
    kJobFail,
    kJobPermanentlyFail,
    kWorkerStart,
    kWorkerShutdown,
    kCronTick,
    kCount
};
inline constexpr std::size_t kHookEventCount = static_cast<std::size_t>(HookEvent::kCount);

inline constexpr std::array<std::string_view, kHookEventCount> kHookEventNames = {
    "before_job_schedule", "before_job_run", "after_job_run",        "job_start",
    "job_complete",        "job_fail",       "job_permanently_fail", "worker_start",
    "worker_shutdown",     "cron_tick",
};

inline std::string_view hook_event_name(HookEvent event)
{
    return kHookEventNames[static_cast<std::size_t>(event)];
}

inline std::optional<HookEvent> hook_event_from_name(std::string_view name)
{
    for (std::size_t i = 0; i < kHookEventCount; i++)
        if (kHookEventNames[i] == name)
            return static_cast<HookEvent>(i);
    return std::nullopt;
}

} // namespace backfill::core
