#!/usr/bin/env python3
"""What adapting all weights buys over adapting few of them: one classifier, brought to an easy task and to a hard one.

python3 bench/adapting.py [--program PARSIMONY] [--method full,lora,..] [--tokens N] [--seeds N]

The base knows ListOps of two levels. Each method is given the same texts of two more tasks: two levels with longer lists, and four
levels, of which the base has not seen the like. Peak memory of the process and estimated energy are those of adapting to the hard
task, without the base's own training. Rates are each method's usual ones, the same for both tasks.
"""
import argparse, itertools, json, subprocess, tempfile
from pathlib import Path

SHAPE = dict(kind="encoder", context=40, layers=4, width=128, heads=4)
BASE = dict(corpus="listops", max_depth=2, max_args=4, min_length=4, max_length=24)
TASKS = {
    "easy": dict(corpus="listops", max_depth=2, max_args=6, min_length=4, max_length=40),
    "hard": dict(corpus="listops", max_depth=4, max_args=4, min_length=4, max_length=40),
}
METHODS = {
    "none": dict(fine_tune="none"),
    "full": dict(fine_tune="full", learning_rate=1e-3),
    "full layerwise": dict(fine_tune="full", learning_rate=1e-3, layerwise_lr_decay=0.7),
    "full badam": dict(fine_tune="full", optimizer="badam", learning_rate=1e-3),
    "full lomo": dict(fine_tune="full", optimizer="lomo", learning_rate=1e-1),
    "full mezo": dict(fine_tune="full", optimizer="mezo", learning_rate=1e-4),
    "lora": dict(fine_tune="lora", lora_targets="all", learning_rate=2e-3),
    "qlora": dict(fine_tune="lora", lora_targets="all", base_bits=4, learning_rate=2e-3),
    "adapter": dict(fine_tune="adapter", learning_rate=2e-3),
    "ia3": dict(fine_tune="ia3", learning_rate=1e-2),
    "mask bias": dict(fine_tune="mask", mask="bias", learning_rate=1e-2),
    "mask fisher": dict(fine_tune="mask", mask="fisher", learning_rate=2e-3),
    "mask layer_subset": dict(fine_tune="mask", mask="layer_subset", learning_rate=1e-3),
}  # fmt: skip


def settings(values):
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def measure(program, data, fixed, seed, out, base=None):
    config = out.with_suffix(".toml")
    start = f"[base]\npath = {json.dumps(str(base))}\n" if base else ""
    config.write_text("[data]\n" + settings(data) + start + "[fixed]\n" + settings(fixed))
    command = [program, "measure", str(config), "--json", "--seed", str(seed), "--out", str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{config.read_text()}{run.stderr.strip().splitlines()[-1]}")
    return {name: row["value"] for name, row in json.loads(run.stdout.splitlines()[-1])["metrics"].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/parsimony")
    parser.add_argument("--method", default=",".join(METHODS))
    parser.add_argument("--tokens", type=int, default=200_000, help="of each adaptation")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folders = (folder / str(number) for number in itertools.count())
        fixed = SHAPE | dict(batch=32, learning_rate=2e-3, tokens=1_000_000)
        known = measure(options.program, BASE, fixed, 0, folder / "base")["accuracy"]
        print(f"base: accuracy {known:.3f} on its own task; each method: {options.tokens} tokens, mean of {options.seeds} seeds\n")
        print("| method | " + " | ".join(f"{task}: accuracy" for task in TASKS) + " | hard: peak memory, MiB | hard: energy, J (estimated) |")
        print("|---|" + "---:|" * (len(TASKS) + 2))
        for method in options.method.split(","):
            cells, rows = [], {}
            for task, data in TASKS.items():
                fixed = dict(context=40, batch=32, tokens=options.tokens) | METHODS[method]
                seeds = range(options.seeds)
                at = [measure(options.program, data, fixed, seed, next(folders), folder / "base") for seed in seeds]
                rows = {name: sum(row.get(name, 0.0) for row in at) / len(at) for name in at[0]}
                cells.append(f"{rows['accuracy']:.3f}")
            memory, energy = rows.get("training_peak_memory_bytes"), rows.get("training_energy_j")
            cells += [f"{memory / 2**20:.1f}" if memory else "", f"{energy:.0f}" if energy else ""]
            print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
