#!/usr/bin/env python3
"""Whether each attention learns what a trivial answer cannot: associative recall and ListOps, at scaled settings.

python3 bench/tasks.py [--program PARSIMONY] [--task recall_2,recall_4,listops] [--attention full,linear,..] [--seeds N]

Both tasks are generated, the published ListOps generator at small depth. An attention passes where the mean accuracy over the
seeds is above the trivial answer's by the margin that stands below, which was written down before the first run.
"""
import argparse, json, subprocess, tempfile
from pathlib import Path

MARGINS = {"recall_2": 0.10, "recall_4": 0.10, "listops": 0.10}
TASKS = {
    # two pairs, one question: what every attention should learn
    "recall_2": dict(
        data=dict(corpus="recall", pairs=2, queries=1, keys=8, values=8, train_examples=5_000),
        fixed=dict(context=5, layers=2, width=64, heads=2, batch=128, tokens=3_000_000, learning_rate=2e-3),
    ),
    # four pairs, four questions: what sets attentions apart
    "recall_4": dict(
        data=dict(corpus="recall", pairs=4, queries=4, keys=8, values=8, train_examples=100_000),
        fixed=dict(context=16, layers=2, width=64, heads=2, batch=64, tokens=6_000_000, learning_rate=1e-3),
    ),
    "listops": dict(
        data=dict(corpus="listops"),
        fixed=dict(context=64, layers=2, width=64, heads=2, batch=32, tokens=2_000_000, learning_rate=2e-3),
    ),
}
CASES = {
    "full": {}, "tiled": {}, "sliding_window": {}, "rwkv": {},
    "linear": {}, "linear relu": {}, "linear favor": {},
    "lsh": dict(lsh_buckets=8), "kde": dict(kde_samples=3),
    "aft full": {}, "aft local": {}, "aft simple": {}, "aft conv": {},
}  # fmt: skip
# how far an attention looks at once, where it has such a setting
REACH = {"sliding_window": "window", "aft local": "aft_window", "aft conv": "aft_window", "lsh": "lsh_chunk", "kde": "kde_leaf"}
WIDE = {"recall_2": 4, "recall_4": 8, "listops": 32}
NARROW = {"recall_2": 2, "recall_4": 4, "listops": 4}
FORMS = {"aft": "aft_variant", "linear": "linear_features"}


def settings(values):
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def measure(program, task, case, seed):
    name, _, form = case.partition(" ")
    fixed = TASKS[task]["fixed"] | {"attention": name} | ({FORMS[name]: form} if form else {}) | CASES[case]
    if case in REACH:
        fixed[REACH[case]] = (NARROW if name in ("lsh", "kde") else WIDE)[task]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "task.toml")
        config.write_text("[data]\n" + settings(TASKS[task]["data"]) + "[fixed]\n" + settings(fixed))
        command = [program, "measure", str(config), "--json", "--seed", str(seed)]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{case} on {task}: {run.stderr.strip().splitlines()[-1]}")
    answer = json.loads(run.stdout.splitlines()[-1])
    return answer["metrics"]["accuracy"]["value"], float(answer["provenance"]["trivial_accuracy"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="parsimony")
    parser.add_argument("--task", default=",".join(TASKS))
    parser.add_argument("--attention", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    for task in options.task.split(","):
        print(f"{task}: {TASKS[task]}; {options.seeds} seed(s); margin {MARGINS[task]}")
        for case in options.attention.split(","):
            scores = [measure(options.program, task, case, seed) for seed in range(options.seeds)]
            mean, trivial = (sum(column) / len(scores) for column in zip(*scores))
            verdict = "passes" if mean > trivial + MARGINS[task] else "FAILS"
            print(f"  {case:15} {mean:.3f} against {trivial:.3f}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
