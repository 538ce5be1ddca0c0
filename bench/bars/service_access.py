"""Every endpoint of the served OpenAPI document, asked by who may not: without a credential that proves anything, with
too little permission, and by another tenant, both ways round.

The list comes from the running server, so that a new endpoint is asked too. What it needs follows from its method,
unless its path is in the table below; where nothing was planted for its id, the row does not hold. Two tenants have
things of the same names and of their own: what one reads must not have the other's mark or ids, and after all that one
wrote, what the other reads must be what it was.
"""

import json
import time

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import Server
from harness.tenants import CONFIG, PERMISSIONS, Asker, Reply, Tenant, operations

from . import _onnx

NAME = "service-access"
WHAT = "every endpoint unauthenticated, unauthorised and from another tenant, against the built binary"
BAR = "every endpoint, both ways"

ADMINISTRATORS = (
    "/api/v1/artifacts/cleanup",
    "/api/v1/audit",
    "/api/v1/dead-letters",
    "/api/v1/embed/reindex",
    "/api/v1/erasures",
    "/api/v1/keys",
    "/api/v1/market/dead-letters",
    "/api/v1/search/index/rebuild",
    "/api/v1/webhook",
    "/reload",
)
# Moving what serves is for administrators, looking at it for everybody; so is all that is held of a person.
BY_ADMINISTRATORS = ("/promote", "/rollback", "/data", "/data-export", "/entities/{entity}")
# They write nothing.
READ_BY_POST = (
    "/api/v1/recommendations/session",
    "/api/v1/market/validate",
    "/api/v1/search",
    "/api/v1/embed",
    "/api/v1/embed/batch",
    "/api/v1/search/fusion/learn",
    "/v1/embeddings",
    "/api/v1/predict",
    "/api/v1/feature-sets/{name}/features/read",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
)
# Of the operator's tenant alone; not in the document.
OPERATORS = ("/api/config", "/debug/pprof/profile?seconds=1")
# Work for all tenants, which the operator's administrators begin: it shows nothing of a tenant.
OF_ALL_TENANTS = ("/api/v1/embed/reindex", "/api/v1/embed/jobs")
JOB_SECONDS_MAX = 60
# What time alone changes: of an answer, of a key that its owner uses, of a webhook that is sent meanwhile.
PASSING = (
    "answer_id", "generated_at", "score", "last_used_at", "serving_version",
    "state", "attempts", "due_at", "finished_at", "last_status", "last_error",
)


def needed(operation):
    if operation.path.startswith(ADMINISTRATORS) or operation.path.endswith(BY_ADMINISTRATORS):
        return "admin"
    if operation.path.endswith("/canaries") and operation.method == "POST":
        return "admin"
    return "read" if operation.method == "GET" or operation.path in READ_BY_POST else "write"


class Checks:
    """How many were made, of which endpoints, and what did not hold."""

    def __init__(self):
        self.made, self.faults, self.endpoints = 0, [], {}

    def that(self, what, operation, holds, found):
        self.made += 1
        self.endpoints.setdefault(what, set()).add(str(operation))
        if not holds:
            self.faults.append(f"{what}: {operation}: {found.status} {found.text[:200]}")


def unauthenticated(checks, asker, listed, tenant):
    bad = tenant.bad_credentials()
    for operation in listed:
        identity = operation.collection and tenant.identity(operation.collection)
        for name, headers in bad.items():
            found = asker.ask_for(operation, identity, **headers)
            holds = found.is_problem(401, "AUTH_ERROR") and tenant.mark not in found.text
            checks.that(f"without a credential ({name})", operation, holds, found)
    for path in OPERATORS:
        for name, headers in bad.items():
            found = asker.ask("GET", path, **headers)
            checks.that("the operator's, without a credential", path, found.status in (401, 404), found)


def unauthorised(checks, asker, listed, tenant):
    """With every permission: those below what is needed are refused, the others are not."""
    for operation in listed:
        if operation.path.startswith(OF_ALL_TENANTS):
            of_all_tenants(checks, asker, operation, tenant)
            continue
        identity = operation.collection and tenant.identity(operation.collection)
        has_one = identity or not operation.collection
        checks.that("has something to ask for", operation, has_one, Reply(0, "nothing was planted for it"))
        for permission in PERMISSIONS:
            found = asker.ask_for(operation, identity, x_api_key=tenant.keys[permission])
            if PERMISSIONS.index(permission) < PERMISSIONS.index(needed(operation)):
                checks.that("with too little permission", operation, found.is_problem(403, "PERMISSION_DENIED"), found)
            else:
                holds = found.status not in (401, 403) and found.status < 500
                checks.that("with enough permission", operation, holds, found)
        # What was deleted is there again for the next.
        tenant.plant()


def of_all_tenants(checks, asker, operation, tenant):
    """Nobody but the operator begins it; who may read may look."""
    for permission in PERMISSIONS:
        found = asker.ask_for(operation, "none", x_api_key=tenant.keys[permission])
        if operation.method == "GET":
            checks.that("with enough permission", operation, found.status in (200, 404), found)
        else:
            checks.that("with enough permission", operation, found.is_problem(403, "PERMISSION_DENIED"), found)


def plant_model(tenant):
    """A model that answers, and a job that asked it."""
    mlflow, name = "/api/2.0/mlflow", f"model-of-{tenant.name}"

    def ask(path, body, kind="application/json"):
        method = "PUT" if isinstance(body, bytes) else "POST"
        found = tenant.as_admin(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), kind)
        if found.status >= 300:
            raise CannotMeasure(f"{path}: {found.status} {found.text[:200]}")
        return json.loads(found.text or "{}")

    run = ask(f"{mlflow}/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    file = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/model/model.onnx"
    ask(file, _onnx.perceptron((2, 2), 1), "application/octet-stream")
    ask(f"{mlflow}/model-versions/create", {"name": name, "source": f"runs:/{run}/model", "run_id": run})
    ask(f"/api/v1/models/{name}/promote", {"version": 1})
    job = ask("/api/v1/batch", {"model_name": name, "inputs": [{"x": [1.0, 2.0]}]})["job_id"]
    end = time.monotonic() + JOB_SECONDS_MAX
    while json.loads(tenant.as_admin("GET", f"/api/v1/jobs/{job}").text)["status"] != "completed":
        if time.monotonic() > end:
            raise CannotMeasure("a job of one row does not end")
        time.sleep(0.1)


def by_another_tenant(checks, asker, listed, owner, other):
    before = reads(listed, owner)
    key = {"x_api_key": other.keys["admin"]}
    credentials = {
        "its key": key,
        "its token": {"authorization": f"Bearer {other.token()}"},
        "its key beside a header that names the tenant": {**key, "x_tenant_id": owner.name},
    }
    owned = [one for one in listed if one.collection and not one.path.startswith(OF_ALL_TENANTS)]
    identities = {one.collection: owner.identity(one.collection) for one in owned}
    for operation in listed:
        identity = identities.get(operation.collection)
        for how, headers in credentials.items():
            found = asker.ask_for(operation, identity, **headers)
            is_hidden = owner.mark not in found.text and found.status < 500
            if identity is not None:
                # To delete what is not there is fine; whether it still is, is looked at below.
                is_hidden = is_hidden and found.status in ((204, 404) if operation.method == "DELETE" else (404,))
            checks.that(f"from another tenant ({how})", operation, is_hidden, found)
    for path in OPERATORS:
        found = asker.ask("GET", path, x_api_key=other.keys["admin"])
        checks.that("the operator's, from another tenant", path, found.status in (403, 404), found)
    after = reads(listed, owner)
    for operation, found in after.items():
        is_same = stored(found.text) == stored(before[operation].text)
        checks.that("unchanged by another tenant", operation, is_same, found)


def reads(listed, tenant):
    """What the tenant reads everywhere, by operation."""
    found = {}
    for operation in listed:
        if operation.method == "GET" and not operation.path.startswith(OF_ALL_TENANTS):
            identity = operation.collection and tenant.identity(operation.collection)
            found[operation] = tenant.as_admin("GET", operation.filled(identity))
    return found


def stored(text):
    """Without what time alone changes."""
    def kept(value):
        if isinstance(value, dict):
            return {name: kept(part) for name, part in value.items() if name not in PASSING}
        return [kept(part) for part in value] if isinstance(value, list) else value

    try:
        return kept(json.loads(text))
    except ValueError:
        # When a stream of events is to be asked again is drawn for each.
        return [line for line in text.splitlines() if not line.startswith("retry:") and "retry_ms" not in line]


def admin_key(workbench, config, folder, name):
    common = ["--config", config, "--data-dir", folder]
    made = workbench.watershed(*common, "keys", "create", "--name", name, "--permission", "admin", "--tenant", name)
    return made.strip()


def measure(workbench):
    folder, settings = workbench.folder("data"), workbench.folder("settings") / "watershed.toml"
    settings.write_text(CONFIG)
    admins = {name: admin_key(workbench, settings, folder, name) for name in ("north", "south", "spare")}
    checks = Checks()
    with Server(workbench, folder, CONFIG) as server:
        asker = Asker(server.address)
        listed = operations(server.get_json("/api/docs"))
        north, south, spare = (Tenant(asker, name, key) for name, key in admins.items())
        for tenant in (north, south, spare):
            plant_model(tenant)
        good = asker.ask("GET", "/api/v1/export/users", authorization=f"Bearer {north.token()}")
        checks.that("a good token", "GET /api/v1/export/users", good.status == 200 and north.mark in good.text, good)
        unauthenticated(checks, asker, listed, north)
        unauthorised(checks, asker, listed, spare)
        by_another_tenant(checks, asker, listed, north, south)
        by_another_tenant(checks, asker, listed, south, north)
    document = {"peer": len(listed), "peer_name": "endpoints in the served document"}
    asked_of_all = ("without a credential", "with enough permission", "from another tenant")
    names = [name for name in checks.endpoints if name.startswith(asked_of_all)]
    figures = [Figure("checks that did not hold", len(checks.faults), at_most=0), Figure("checks", checks.made)]
    for name in names:
        asked = len(checks.endpoints[name])
        figures.append(Figure(f"endpoints asked {name}", asked, at_least=len(listed), **document))
    return Measured(figures, [f"did not hold: {fault}" for fault in checks.faults[:20]])
