# The next three times of cron expressions in UTC, by python3-croniter, as an oracle for
# test/t/041_cron_oracles.pl. Reads lines "seconds since 1970|expression", writes one line of
# three numbers for each.
import sys
from croniter import croniter

for line in sys.stdin:
    start, expression = line.rstrip("\n").split("|")
    times = croniter(expression, int(start))
    print(" ".join(str(int(times.get_next(float))) for _ in range(3)))
