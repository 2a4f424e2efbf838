#!/usr/bin/env python3
"""Searches a toy with two objectives, without any library: python3 examples/optimize.py [PROGRAM], by default parsimony."""
import json, subprocess, sys
program = sys.argv[1] if len(sys.argv) > 1 else "parsimony"
child = subprocess.Popen([program, "optimize"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

def send(**message):  # one message, one answer; a question about the cheap objective is answered on the way
    child.stdin.write(json.dumps(message, allow_nan=False) + "\n")
    answer = json.loads(child.stdout.readline())
    if answer["type"] == "cheap":
        return send(type="cheap_values", study="toy", values=[[size(config)] for config in answer["configs"]])
    return answer if answer["type"] != "error" else sys.exit(answer["message"])
def size(config):  # known beforehand
    return config["width"] * (2 if config["tied"] else 3)
def loss(config):  # stands for a training
    return 100 / config["width"] + (0 if config["tied"] else -0.3) + abs(config["rate"] - 0.01)
send(type="create", study="toy", seed=0, budget=40, space=[
    {"name": "width", "type": "int", "low": 16, "high": 512, "log": True},
    {"name": "rate", "type": "float", "low": 1e-4, "high": 1.0, "log": True},
    {"name": "tied", "type": "categorical", "choices": [True, False]},
], objectives=[{"name": "loss", "direction": "minimize"}, {"name": "size", "direction": "minimize", "cheap": True}])
for _ in range(40):
    for trial in send(type="ask", study="toy", n=1)["trials"]:
        values = [loss(trial["params"]), size(trial["params"])]
        send(type="tell", study="toy", results=[{"id": trial["id"], "status": "ok", "values": values}])
front = send(type="front", study="toy")
for trial in sorted(front["trials"], key=lambda t: t["values"]):
    print("loss {:.3f}  size {:5.0f}".format(*trial["values"]), trial["params"])
print(f"hypervolume {front['hypervolume']:.1f}")
send(type="bye")
