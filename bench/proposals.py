#!/usr/bin/env python3
"""What a proposal costs, against Optuna and BoTorch (pip install optuna botorch), in one run.

python3 bench/proposals.py [--program PARSIMONY] [--trials 100] [--peers tpe,gp,nsga2,random,botorch] [--problems ...]

Every side gets the same results of random configurations first, then proposes and is told by turns; the time is the
processor time of its process for `ask` and `tell`, one thread, the mean of the last proposals. Peers whose library is
missing are left out and named.
"""
import argparse, json, math, os, random, statistics, subprocess, sys, time

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
# one core for everything: a message between cores costs more than a random proposal, and not the same each time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

REAL = {"type": "float", "low": 0.0, "high": 1.0}


def zdt1(x):
    rest = 1 + 9 * sum(x[f"x{i}"] for i in range(1, 10)) / 9
    return [x["x0"], rest * (1 - math.sqrt(x["x0"] / rest))]


def dtlz2(x):
    rest = 1 + sum((x[f"x{i}"] - 0.5) ** 2 for i in range(2, 8))
    a, b = (x[f"x{i}"] * math.pi / 2 for i in (0, 1))
    return [rest * math.cos(a) * math.cos(b), rest * math.cos(a) * math.sin(b), rest * math.sin(a)]


def decoder(c):
    """Cost and loss of a decoder, four objectives."""
    mlp = c["ratio"] * (c.get("experts", 1) if c["ffn"] == "experts" else 1)
    size = c["layers"] * c["width"] ** 2 * (4 + 3 * mlp) * (1 - c.get("pruned", 0))
    work = c["layers"] * c["width"] ** 2 * (4 + 3 * c["ratio"] * c.get("chosen", 1)) + c.get("window", 4096) * c["width"]
    loss = 1.7 + 400 / size**0.34 + 0.4 * c.get("pruned", 0) ** 2 + {16: 0, 8: 0.01, 4: 0.08, 2: 0.8}[c["bits"]]
    loss += {"full": 0, "window": 0.05, "linear": 0.12}[c["attention"]] + (math.log10(c["rate"]) + 2.5) ** 2 / 9
    return [loss, math.log10(work), math.log10(size * c["bits"]), math.log10(work * (0.3 + c["bits"] / 16))]


def only(parent, *values):
    return [{"parent": parent, "in": list(values)}]


PROBLEMS = {
    "zdt1": (zdt1, 2, [{"name": f"x{i}", **REAL} for i in range(10)]),
    "dtlz2": (dtlz2, 3, [{"name": f"x{i}", **REAL} for i in range(8)]),
    "decoder": (decoder, 4, [
        {"name": "attention", "type": "categorical", "choices": ["full", "window", "linear"]},
        {"name": "window", "type": "int", "low": 64, "high": 2048, "log": True, "condition": only("attention", "window")},
        {"name": "layers", "type": "int", "low": 2, "high": 32},
        {"name": "width", "type": "int", "low": 64, "high": 2048, "log": True},
        {"name": "ffn", "type": "categorical", "choices": ["dense", "experts"]},
        {"name": "ratio", "type": "float", "low": 1.0, "high": 6.0},
        {"name": "experts", "type": "int", "low": 2, "high": 32, "log": True, "condition": only("ffn", "experts")},
        {"name": "chosen", "type": "int", "low": 1, "high": 2, "condition": only("ffn", "experts")},
        {"name": "prune", "type": "categorical", "choices": ["none", "structured"]},
        {"name": "pruned", "type": "float", "low": 0.05, "high": 0.8, "condition": only("prune", "structured")},
        {"name": "bits", "type": "categorical", "choices": [16, 8, 4, 2]},
        {"name": "rate", "type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    ]),
}


def is_active(parameter, config):
    return all(config.get(c["parent"]) in c["in"] for c in parameter.get("condition", []))


def draw(space, rng):
    config = {}
    for p in (p for p in space if is_active(p, config)):
        if p["type"] == "categorical":
            config[p["name"]] = rng.choice(p["choices"])
        else:
            low, high = p["low"], p["high"]
            at = math.exp(rng.uniform(math.log(low), math.log(high))) if p.get("log") else rng.uniform(low, high)
            config[p["name"]] = min(max(round(at), low), high) if p["type"] == "int" else at
    return config


class Ours:
    """The program, over its standard input and output."""

    def __init__(self, program, method, space, objectives, earlier):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.child = subprocess.Popen([program, "optimize"], bufsize=0, **pipes)
        names = [{"name": f"f{k}", "direction": "minimize"} for k in range(objectives)]
        earlier = [{"params": params, "values": values} for params, values in earlier]
        self.send(type="create", study="s", seed=0, space=space, objectives=names, method=method, earlier=earlier)

    def send(self, **message):
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        answer = json.loads(self.child.stdout.readline())
        return answer if answer["type"] != "error" else sys.exit(answer["message"])

    def ask(self):
        self.trial = self.send(type="ask", study="s", n=1)["trials"][0]
        return self.trial["params"]

    def tell(self, values):
        self.send(type="tell", study="s", results=[{"id": self.trial["id"], "status": "ok", "values": values}])

    def cpu_s(self):
        tasks = f"/proc/{self.child.pid}/task"
        return sum(int(open(f"{tasks}/{t}/schedstat").read().split()[0]) for t in os.listdir(tasks)) / 1e9

    def close(self):
        self.child.kill()


class Optuna:
    def __init__(self, sampler, space, objectives, earlier):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {"tpe": "TPESampler", "gp": "GPSampler", "nsga2": "NSGAIISampler", "random": "RandomSampler"}
        self.study = optuna.create_study(
            directions=["minimize"] * objectives, sampler=getattr(optuna.samplers, samplers[sampler])(seed=0)
        )
        self.space = space
        kinds = {"float": optuna.distributions.FloatDistribution, "int": optuna.distributions.IntDistribution}

        def distribution(p):
            if p["type"] == "categorical":
                return optuna.distributions.CategoricalDistribution(p["choices"])
            return kinds[p["type"]](p["low"], p["high"], log=p.get("log", False))

        distributions = {p["name"]: distribution(p) for p in space}
        self.study.add_trials([
            optuna.trial.create_trial(params=c, distributions={n: distributions[n] for n in c}, values=v)
            for c, v in earlier
        ])

    def ask(self):
        self.trial, config = self.study.ask(), {}
        for p in (p for p in self.space if is_active(p, config)):
            if p["type"] == "categorical":
                config[p["name"]] = self.trial.suggest_categorical(p["name"], p["choices"])
            else:
                suggest = getattr(self.trial, "suggest_" + p["type"])
                config[p["name"]] = suggest(p["name"], p["low"], p["high"], log=p.get("log", False))
        return config

    def tell(self, values):
        self.study.tell(self.trial, values)

    def cpu_s(self):
        return time.process_time()

    def close(self):
        pass


class BoTorch:
    """Log noisy expected hypervolume improvement as in its tutorial; spaces of real numbers only."""

    def __init__(self, space, objectives, earlier):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.names = [p["name"] for p in space]
        self.x = torch.tensor([[c[n] for n in self.names] for c, _ in earlier], dtype=torch.double)
        self.y = -torch.tensor([v for _, v in earlier], dtype=torch.double)
        self.reference = (self.y.min(0).values - 0.1 * (self.y.max(0).values - self.y.min(0).values)).tolist()

    def ask(self):
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import ModelListGP, SingleTaskGP
        from botorch.models.transforms.outcome import Standardize
        from botorch.optim import optimize_acqf
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import SumMarginalLogLikelihood

        columns = self.y.split(1, dim=-1)
        model = ModelListGP(*(SingleTaskGP(self.x, y, outcome_transform=Standardize(m=1)) for y in columns))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        improvement = qLogNoisyExpectedHypervolumeImprovement(
            model=model, ref_point=self.reference, X_baseline=self.x, prune_baseline=True,
            sampler=SobolQMCNormalSampler(sample_shape=torch.Size([128])),
        )
        bounds = torch.tensor([[0.0] * len(self.names), [1.0] * len(self.names)], dtype=torch.double)
        self.next, _ = optimize_acqf(improvement, bounds=bounds, q=1, num_restarts=10, raw_samples=512)
        return dict(zip(self.names, self.next[0].tolist()))

    def tell(self, values):
        import torch

        self.x = torch.cat([self.x, self.next])
        self.y = torch.cat([self.y, -torch.tensor([values], dtype=torch.double)])

    def cpu_s(self):
        return time.process_time()

    def close(self):
        pass


# which of our methods each peer stands against
AGAINST = {"tpe": "auto", "gp": "auto", "botorch": "auto", "nsga2": "nsga2", "random": "random"}


def cost_ms(make, evaluate, proposals):
    """Means of the asks, and of asks and tells together."""
    side, asks, tells = make(), [], []
    for _ in range(proposals + 1):
        start = side.cpu_s()
        config = side.ask()
        asked = side.cpu_s()
        values = evaluate(config)
        between = side.cpu_s()
        side.tell(values)
        asks.append(1e3 * (asked - start))
        tells.append(1e3 * (side.cpu_s() - between))
    side.close()
    # the first one also reads what it was given
    ask = statistics.mean(asks[1:])
    return ask, ask + statistics.mean(tells[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="parsimony")
    parser.add_argument("--trials", type=int, default=100, help="results before the proposals that are timed")
    parser.add_argument("--proposals", type=int, default=20, help="how many are timed")
    parser.add_argument("--peers", default="tpe,gp,botorch,nsga2,random")
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    options = parser.parse_args()
    print(f"processor ms for each proposal and its result, after {options.trials} trials")
    print(f"{'problem':9} {'peer':8} {'theirs':>10} {'ours':>10} {'ratio':>8}   method")
    for name in options.problems.split(","):
        evaluate, objectives, space = PROBLEMS[name]
        rng = random.Random(0)
        configs = [draw(space, rng) for _ in range(options.trials)]
        earlier = [(config, evaluate(config)) for config in configs]
        for peer in options.peers.split(","):
            if peer == "botorch" and any(p["type"] != "float" for p in space):
                continue
            method = AGAINST[peer]
            own = cost_ms(lambda: Ours(options.program, method, space, objectives, earlier), evaluate, options.proposals)
            make = (lambda: BoTorch(space, objectives, earlier)) if peer == "botorch" else (
                lambda: Optuna(peer, space, objectives, earlier))
            try:
                other = cost_ms(make, evaluate, min(options.proposals, 5) if peer in ("gp", "botorch") else options.proposals)
            except ImportError as missing:
                print(f"{name:9} {peer:8} left out: {missing}")
                continue
            print(f"{name:9} {peer:8} {other[1]:10.3f} {own[1]:10.3f} {other[1] / own[1]:8.1f}   {method}", flush=True)


if __name__ == "__main__":
    main()
