"""Tenants of one server, with keys and tokens good and bad, and what the OpenAPI document says can be asked.

It refuses to guess: an address whose id nothing was planted for cannot be asked, and is told. To plant for a new kind
of thing: a line in `PLANTED`; its id is read from the list that its address begins with.
"""

import base64
import dataclasses
import hashlib
import hmac
import http.client
import json
import time

PERMISSIONS = ("read", "write", "admin")
SECRET = "bench-secret-of-more-than-thirty-two-bytes"
CONFIG = f'[auth.jwt]\nsecret = "{SECRET}"\n'

# Whose things are asked for by names that their makers choose.
MODELS = ("/api/v1/models", "/v2/models")
# What is asked besides, so that an answer which goes on ends.
QUERIES = dict.fromkeys(("/api/v1/market/stream", "/ws/prices"), "?from=earliest&follow=false")
# Method, path and body; `MARK` is the tenant's own word, `TENANT` its name.
PLANTED = [
    ("POST", "/api/2.0/mlflow/registered-models/create", {"name": "model-of-TENANT", "description": "MARK"}),
    ("PUT", "/api/v1/users/ada", {"attributes": {"mark": "MARK"}}),
    ("POST", "/api/v1/entities", {"entity_id": "film-1", "entity_type": "film", "attributes": {"mark": "MARK"}}),
    ("POST", "/api/v1/entities", {"entity_id": "MARK-film", "entity_type": "film", "attributes": {"mark": "MARK"}}),
    ("POST", "/api/v1/interactions", {"user_id": "ada", "entity_id": "MARK-film", "entity_type": "film",
                                      "interaction_type": "view"}),
    ("POST", "/api/v1/interactions", {"user_id": "ada", "entity_id": "film-1", "entity_type": "film",
                                      "interaction_type": "view"}),
    ("POST", "/api/v1/interactions", {"user_id": "MARK-user", "entity_id": "film-1", "entity_type": "film",
                                      "interaction_type": "view"}),
    ("POST", "/api/v1/interaction-types", {"interaction_type": "share", "weight": 1.5, "description": "MARK"}),
    ("PUT", "/api/v1/feature-sets/people", {"entity_type": "item", "features": {"age": "number", "town": "text"},
                                            "ttl_secs": 86400}),
    ("POST", "/api/v1/feature-sets/people/features", {"rows": [
        {"entity": "ada", "event_time": "2026-01-31T12:00:00Z", "values": {"town": "MARK"}}]}),
    ("POST", "/api/v1/keys", {"name": "MARK", "permission": "read"}),
    ("POST", "/api/v1/webhooks", {"url": "https://MARK.example.com/", "events": ["model.updated"]}),
    ("POST", "/api/v1/webhooks/{id}/test", None),
    ("POST", "/api/v1/market/ticks", {"source_system": "MARK", "market": "MISO", "symbol": "MISO_INDIANA_HUB",
                                      "timestamp": "2024-01-01T00:00:00Z", "price": 31.2, "bid": 31.1,
                                      "ask": 31.3}),
    ("POST", "/api/v1/market/curves/UST/quotes", {"as_of": "2024-01-01T00:00:00Z", "quotes": [
        {"tenor": "1y", "rate": 0.05}, {"tenor": "2y", "rate": 0.04}]}),
    # Not a number, and so a dead letter of the stage.
    ("POST", "/api/v1/market/ticks", {"source_system": "MARK", "symbol": "MARK", "timestamp": "2024-01-01T00:00:00Z",
                                      "price": "NaN"}),
    # Refused, and so a dead letter.
    ("POST", "/api/v1/events", {"specversion": "1.0", "id": "MARK", "source": "/MARK",
                                "type": "recommend.user.put.v1", "data": {"nobody": "MARK"}}),
]


@dataclasses.dataclass
class Reply:
    status: int
    text: str

    def is_problem(self, status, *names):
        return self.status == status and any(f'"{name}"' in self.text for name in names)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of the document."""

    method: str
    path: str
    parameters: tuple
    content_type: str | None
    body: bytes | None

    def __str__(self):
        return f"{self.method} {self.path}"

    @property
    def collection(self):
        """The list that an id of this address is in; none where the document has an example of the id."""
        named = dict(self.parameters)
        return self.path.split("/{")[0] if "{" in self.path and None in named.values() else None

    def filled(self, identity=None):
        """The path as it is asked."""
        path = self.path
        for name, example in self.parameters:
            path = path.replace("{" + name + "}", str(example or identity))
        return path + QUERIES.get(self.path, "")


def operations(document):
    """Every operation of the document, with its own examples."""
    schemas = document["components"]["schemas"]
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = [one for one in operation.get("parameters", []) if one["in"] == "path"]
            names = tuple((one["name"], one.get("example")) for one in parameters)
            kind, body = None, None
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                named = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
                body = json.dumps(content.get("example", schemas.get(named, {}).get("example"))).encode()
                break
            found.append(Operation(method.upper(), path, names, kind, body))
    return found


class Asker:
    """Asks one server, on one connection, and counts."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self.asked = 0

    def ask(self, method, path, body=None, kind="application/json", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if body is not None:
            headers["content-type"] = kind
        self.connection.request(method, path, body=body, headers=headers)
        answer = self.connection.getresponse()
        self.asked += 1
        return Reply(answer.status, answer.read().decode())

    def ask_for(self, operation, identity=None, **headers):
        return self.ask(operation.method, operation.filled(identity), operation.body, operation.content_type, **headers)


class Tenant:
    """A tenant with a key of each permission and something of each kind."""

    def __init__(self, asker, name, admin):
        self.asker, self.name, self.mark = asker, name, f"mark-of-{name}"
        self.keys = {"admin": admin}
        for permission in PERMISSIONS[:-1]:
            self.keys[permission] = self.made({"name": permission, "permission": permission})["api_key"]
        self.plant()

    def made(self, body):
        """A new key."""
        return json.loads(self.as_admin("POST", "/api/v1/keys", json.dumps(body).encode()).text)

    def as_admin(self, method, path, body=None, kind="application/json"):
        return self.asker.ask(method, path, body, kind, x_api_key=self.keys["admin"])

    def plant(self):
        for method, path, body in PLANTED:
            path = path.replace("{id}", self.identity(path.split("/{")[0]) or "") if "{" in path else path
            body = body and json.dumps(body).replace("MARK", self.mark).replace("TENANT", self.name).encode()
            kind = "application/cloudevents+json" if path == "/api/v1/events" else "application/json"
            self.as_admin(method, path, body, kind)

    def identity(self, collection):
        """The id of this tenant's newest thing in a list; none where it has none."""
        if collection in MODELS:
            return f"model-of-{self.name}"
        listed = json.loads(self.as_admin("GET", collection).text)
        parts = listed.values() if isinstance(listed, dict) else [listed]
        things = next((part for part in parts if isinstance(part, list)), [])
        return things[-1].get("id") or things[-1]["job_id"] if things else None

    def token(self, secret=SECRET, seconds=600, algorithm="HS256"):
        """A token of an administrator of this tenant."""
        claims = {"sub": "bench", "tenant_id": self.name, "roles": ["admin"], "exp": int(time.time()) + seconds}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": algorithm, "typ": "JWT"}, claims))
        if algorithm == "none":
            return signed + "."
        return f"{signed}.{_base64(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"

    def bad_credentials(self):
        """What proves nothing, by name: headers to send."""
        admin = self.keys["admin"]
        revoked = self.made({"name": "revoked", "permission": "admin"})
        self.as_admin("DELETE", f"/api/v1/keys/{revoked['id']}")
        bearer = lambda token: {"authorization": f"Bearer {token}"}  # noqa: E731
        return {
            "no credential": {},
            "an unknown key": {"x_api_key": "unknown-key-0123456789"},
            "a forged key": {"x_api_key": admin[:-1] + ("1" if admin[-1] == "0" else "0")},
            "a revoked key": {"x_api_key": revoked["api_key"]},
            "an expired token": bearer(self.token(seconds=-600)),
            "a token without a signature": bearer(self.token(algorithm="none")),
            "a token under another secret": bearer(self.token(secret="another-secret-of-thirty-two-bytes-")),
        }


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
