"""What a tenant sees of another's models, features, predictions, searches and remembered vectors, against the built binary.

Every endpoint of these parts is asked as `service-access` asks all of them, both ways round; the MLflow calls as
`models-registry` does. A search for words that only another tenant's item has finds nothing, by words and by meaning; and a
text whose vector one tenant had made is made again for the other, because who asks could tell from a cache what others sent.
"""

import json
import time

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import Server
from harness.tenants import CONFIG, Asker, Tenant, operations

from ._search import ENCODER, encoder
from .models_registry import Asker as MlflowAsker
from .models_registry import leaks
from .service_access import Checks, admin_key, by_another_tenant, plant_model

NAME = "models-tenants"
WHAT = f"models, features, predictions, search and the cache of {ENCODER} of one tenant, asked by another, both ways"
BAR = "nothing shown or changed; every endpoint of these parts asked"

PARTS = (
    "/api/v1/models", "/api/v1/feature-sets", "/api/v1/predict", "/api/v1/batch", "/api/v1/jobs", "/api/v1/search",
    "/api/v1/embed", "/v1/embeddings", "/v1/models", "/v2/",
)
TEXT = "the ferry to the island leaves at noon"
SECONDS_MAX = 60


def remembered(server):
    """How many texts were remembered."""
    with server.get("/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith("ml_cache_hits_total") and "embeddings" in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def post(tenant, path, body):
    found = tenant.as_admin("POST", path, json.dumps(body).encode())
    if found.status >= 300:
        raise CannotMeasure(f"{path}: {found.status} {found.text[:200]}")
    return json.loads(found.text)


def of_cache(server, owner, other):
    """Texts of one tenant that were remembered for the other; the owner's own must be, or nothing was tried."""
    embed = {"items": [{"text": TEXT}]}
    post(owner, "/api/v1/embed/batch", embed)
    before = remembered(server)
    post(owner, "/api/v1/embed/batch", embed)
    own = remembered(server) - before
    post(other, "/api/v1/embed/batch", embed)
    return own, remembered(server) - before - own


def of_search(owner, other):
    """Results of the other for what only the owner has, by words and by meaning; the owner's own must be found."""
    item = {"entity_type": "note", "entity_id": f"ferry-of-{owner.name}", "text": TEXT}
    post(owner, "/api/v1/search/index", item)
    end = time.monotonic() + SECONDS_MAX
    asked = {"query": TEXT, "semantic": True, "similarity_threshold": -1.0}
    while True:
        told = post(owner, "/api/v1/search", asked)
        if any(result["entity_id"] == item["entity_id"] for result in told["results"]) and not told.get("fallback"):
            break
        if time.monotonic() > end:
            raise CannotMeasure(f"the owner does not find its own: {json.dumps(told)[:300]}")
        time.sleep(0.2)
    found = post(other, "/api/v1/search", asked)["results"]
    return sum(result["entity_id"] == item["entity_id"] for result in found)


def measure(workbench):
    config = CONFIG + f'[search]\nmodel_path = "{encoder(workbench)}"\n'
    folder, settings = workbench.folder("data"), workbench.folder("settings") / "watershed.toml"
    settings.write_text(config)
    admins = {name: admin_key(workbench, settings, folder, name) for name in ("north", "south")}
    checks = Checks()
    with Server(workbench, folder, config) as server:
        asker = Asker(server.address)
        listed = [one for one in operations(server.get_json("/api/docs")) if one.path.startswith(PARTS)]
        north, south = (Tenant(asker, name, key) for name, key in admins.items())
        for tenant in (north, south):
            plant_model(tenant)
        by_another_tenant(checks, asker, listed, north, south)
        by_another_tenant(checks, asker, listed, south, north)
        leaked = leaks(MlflowAsker(server.address, admins["north"]), MlflowAsker(server.address, admins["south"]))
        own, foreign = of_cache(server, north, south)
        found = of_search(north, south) + of_search(south, north)
    asked = {str(one) for how, endpoints in checks.endpoints.items() if how.startswith("from another") for one in endpoints}
    figures = [
        Figure("checks that did not hold", len(checks.faults), at_most=0),
        Figure("checks", checks.made),
        Figure("endpoints asked", len(asked), at_least=len(listed), peer=len(listed), peer_name="of these parts"),
        Figure("MLflow calls that showed or changed another's", len(leaked), at_most=0),
        Figure("another's items found", found, at_most=0),
        Figure("vectors remembered for who sent the text", own, at_least=1),
        Figure("vectors remembered for another", foreign, at_most=0),
    ]
    return Measured(figures, [f"did not hold: {fault}" for fault in (checks.faults + leaked)[:20]])
