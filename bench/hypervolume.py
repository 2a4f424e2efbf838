#!/usr/bin/env python3
"""Hypervolume and ranking against moocore (pip install moocore), in one run: python3 bench/hypervolume.py [PROGRAM]

PROGRAM is parsimony by default. Both sides get points of the same kinds (a part of a sphere, which no point of it
dominates; uniform ones for the ranking); a time is the middle of many. Ratios above 1 mean that parsimony is faster.
"""
import csv, io, statistics, subprocess, sys, time

import moocore
import numpy as np

ROUNDS = 3  # of both sides, taking turns
STEADY_S = 0.2


def ours(program):
    command = [program, "bench", "search", "--only", "speed", "--methods", "random", "--format", "csv"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = csv.DictReader(io.StringIO(run.stdout))
    return {
        (row["measure"], int(row["subject"].split()[0]), int(row["size"])): float(row["value"])
        for row in rows
        if row["measure"] in ("hypervolume", "ranking") and row["statistic"] == "cpu_ms"
    }


def middle_ms(work):
    times, begun = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < STEADY_S:
        at = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - at))
    return statistics.median(times)


def theirs(measure, objectives, size):
    points = np.random.default_rng(1).random((size, objectives))
    if measure == "ranking":
        return middle_ms(lambda: moocore.pareto_rank(points))
    points /= np.linalg.norm(points, axis=1)[:, None]
    return middle_ms(lambda: moocore.hypervolume(points, ref=[1.1] * objectives))


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "parsimony"
    rounds = []
    for _ in range(ROUNDS):
        own = ours(program)
        rounds.append({key: (ms, theirs(*key)) for key, ms in own.items()})
    print(f"{'':24} {'parsimony ms':>12} {'moocore ms':>12} {'ratio':>7}   moocore {moocore.__version__}")
    for key in rounds[0]:
        own, other = (statistics.median(r[key][side] for r in rounds) for side in (0, 1))
        print(f"{key[0]:11} {key[1]} x {key[2]:<8} {own:12.4f} {other:12.4f} {other / own:7.2f}")


if __name__ == "__main__":
    main()
