"""Canaries of recommendations over HTTP: a bad one goes back by itself within its first two steps, a good one arrives.

Beside it the gates alone, over many rollouts of candidates that are as good as the control: how many are taken back for
nothing, and how many a t-test would take back that is looked at as often.

Users of the tenant each like one kind of item, and choose of what they are shown what is of it, as a seeded draw says. The
server knows what they chose before, and `collaborative` and the hybrid find their kind. The planted bad candidate is `latest`:
the newest items are of a kind that nobody likes, so that its list is no better than a random one. Both arms are asked by the
same code, which never looks at the arm.
"""

import json
import random
import time
import urllib.error
import urllib.request

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server
from harness.workbench import ROOT

NAME = "models-canary"
WHAT = "canaries of recommendations against users with tastes: a planted bad candidate, a good one; the evidence is printed"
BAR = "the bad one goes back by itself within its first two steps; the good one reaches 100 %; <= 5 % of healthy ones go back"

KINDS = 8
ITEMS_PER_KIND = 30
STEPS = [10, 25, 50, 100]
WINDOW_SECONDS = 2
SETTINGS = """
[recommend.training]
blend_users = 200
[recommend.training.algorithms]
sequence = false
"""


class Shop:
    """Users with tastes, and a server that recommends to them."""

    def __init__(self, server, users, seed):
        self.server, self.users, self.random = server, users, random.Random(seed)
        self.arms, self.moved_back = {}, 0

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"x-api-key": KEY, "content-type": "application/json"}
        request = urllib.request.Request(f"http://{self.server.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise CannotMeasure(f"{method} {path}: {error.code} {error.read()[:300]}") from error

    def taste(self, user):
        return user % KINDS

    def chance(self, user, item):
        """That the user chooses an item when it is shown."""
        return 0.15 if item.startswith(f"k{self.taste(user)}-") else 0.01

    def visit(self, canary, user):
        """One request, and what follows from it."""
        answer = self.ask("GET", f"/api/v1/recommendations/user/user-{user}?count=5&exclude_seen=false")
        arm = (answer.get("canary") or {}).get("arm")
        if arm is not None:
            self.moved_back += self.arms.get((canary, user)) == "candidate" and arm == "control"
            self.arms[canary, user] = arm
        for line in answer["recommendations"]:
            if self.random.random() < self.chance(user, line["entity_id"]):
                self.ask("POST", "/api/v1/interactions", {
                    "user_id": f"user-{user}", "entity_id": line["entity_id"], "interaction_type": "click",
                    "answer_id": answer["answer_id"],
                })
                break

    def canary(self, name, algorithm, sample, minutes):
        """Starts a canary and lets users come in turns until it ends; returns how it stands then."""
        self.ask("POST", "/api/v1/canaries", {
            "name": name, "algorithm": algorithm, "steps": STEPS, "sample_min": sample, "step_seconds_min": 1,
            "outcome_window_seconds": WINDOW_SECONDS, "slow_ms": 1000,
        })
        end, order = time.monotonic() + minutes * 60, list(range(self.users))
        while time.monotonic() < end:
            self.random.shuffle(order)
            for number, user in enumerate(order):
                self.visit(name, user)
                if number % 100 == 0:
                    state = self.ask("GET", f"/api/v1/canaries/{name}")
                    if state["stage"] != "running":
                        return state
            time.sleep(WINDOW_SECONDS + 2)
            state = self.ask("GET", f"/api/v1/canaries/{name}")
            if state["stage"] != "running":
                return state
        return state

    def told(self, wanted):
        """Entries of the audit about both canaries, given some seconds to be as many as wanted."""
        for _ in range(20):
            entries = self.ask("GET", "/api/v1/audit?limit=100")["entries"]
            count = sum(entry["subject"] in ("bad", "good") for entry in entries)
            if count >= wanted:
                break
            time.sleep(0.5)
        return count


def fill(workbench, folder, users, seed):
    """What users chose before, mostly of their kind, and a model that learned from it."""
    draw, rows = random.Random(seed), ["user_id,entity_id,timestamp"]
    for user in range(users):
        for number in range(12):
            kind = user % KINDS if draw.random() < 0.85 else draw.randrange(KINDS)
            rows.append(f"user-{user},k{kind}-{draw.randrange(ITEMS_PER_KIND)},{1_700_000_000 + 60 * (user * 12 + number)}")
    path = workbench.folder("import") / "interactions.csv"
    path.write_text("\n".join(rows) + "\n")
    mapping = "user_id=user_id,entity_id=entity_id,timestamp=timestamp"
    workbench.watershed("--data-dir", folder, "import", path, "--format", "csv", "--map", mapping)
    workbench.watershed("--data-dir", folder, "train", "--fast")


def alarms(workbench):
    """Rollouts by the gates alone, and a peer's judgement of the same looks."""
    told = workbench.run_json([workbench.binary("bench-canary")] + (["--quick"] if workbench.quick else []))
    looks = workbench.folder("looks") / "looks.json"
    looks.write_text(json.dumps(told["looks"]))
    peer = workbench.run_json([workbench.python(), ROOT / "bench" / "peers" / "scipy_peeking.py", looks])
    t_test = f"scipy {peer['version']}, Welch's t at 5 %, at every look"
    at_most, bad = told["false_alarm"], f"bad for {told['harm']:.0%} of users"
    return [
        Figure(
            "healthy: rollouts taken back", told["healthy_rolled_back"], at_most=at_most, peer=peer["alarmed"], peer_name=t_test
        ),
        Figure("healthy: by the first page in each arm, where later ones are chosen less", told["healthy_rolled_back_by_arm"]),
        Figure("healthy: rollouts that reached everyone", told["healthy_completed"], at_least=1 - at_most),
        Figure("healthy: by a t-test that is looked at once", peer["alarmed_at_the_end"]),
        Figure(f"{bad}: rollouts taken back", told["bad_rolled_back"], at_least=0.95),
        Figure(f"{bad}: of all, within two steps", told["bad_within_two_steps"]),
        Figure(f"{bad}: users who met it, median", told["bad_users_median"]),
    ]


def said(name, state):
    """Every decision of a canary in words."""
    return [
        f"{name}: {one['stage']} {one['percent']} % by {one.get('actor', 'the gates')}: {one['reason']}"
        for one in state["decisions"]
    ] or [f"{name}: nothing was decided, {json.dumps(state.get('reading'))[:300]}"]


def measure(workbench):
    users, sample, minutes = workbench.pick((3000, 100, 20), (800, 30, 5))
    figures = alarms(workbench)
    folder = workbench.folder("data")
    fill(workbench, folder, users, seed=1)
    with Server(workbench, folder, SETTINGS) as server:
        shop = Shop(server, users, seed=2)
        for number in range(ITEMS_PER_KIND):
            shop.ask("POST", "/api/v1/entities", {"entity_id": f"new-{number}", "attributes": {"kind": "new"}})
        bad = shop.canary("bad", "latest", sample, minutes)
        # What is decided is in the log: a server that was killed knows it when it is started again.
        server.kill()
        server.start()
        kept = shop.ask("GET", "/api/v1/canaries/bad") == bad
        good = shop.canary("good", "collaborative", sample, minutes)
        wanted = 2 + len(bad["decisions"]) + len(good["decisions"])
        told = shop.told(wanted)
    steps_of_bad = 1 + sum(one["stage"] == "running" for one in bad["decisions"])
    gates = [one for one in bad["decisions"] if one.get("actor") is None and one["stage"] == "rolled_back"]
    percents = [one["percent"] for one in good["decisions"]]
    figures += [
        Figure("bad: rolled back by the gates", len(gates), at_least=1),
        Figure("bad: step at which it was", steps_of_bad, at_most=2),
        Figure("good: percent that it reached", good["percent"], "%", at_least=100),
        Figure("good: steps in the order of the plan", int(percents == STEPS[1:]), at_least=1),
        Figure("users who left the candidate before it ended", shop.moved_back, at_most=0),
        Figure("the same after a restart", int(kept), at_least=1),
        Figure("decisions and starts that are not once in the audit", abs(told - wanted), at_most=0),
    ]
    if gates:
        loss = next(gate for gate in gates[0]["evidence"]["gates"] if gate["gate"] == "loss")
        figures += [
            Figure("bad: users of the candidate until then", loss["candidate_count"]),
            Figure("bad: share that chose nothing", loss["candidate_share"], peer=loss["control_share"], peer_name="control"),
            Figure("bad: p of its being no worse", loss["p_value"], peer=loss["level"], peer_name="level of the gate"),
        ]
    return Measured(figures, said("bad", bad) + said("good", good))
