"""A method for each operation. Written by `clients/python/generate` from the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from . import models
from ._request import AsyncCaller, Caller, Request, new_key, quoted


class Operations(Caller):
    """Every operation of the server."""

    def clean_up_artifacts(self, body: models.ArtifactCleanup) -> models.ArtifactsCleanedUp:
        """Remove versions without an alias and deleted runs that are old, and uploads that broke off."""
        return self._call(Request[models.ArtifactsCleanedUp]("POST", "/api/v1/artifacts/cleanup", body=body))

    def list_audit(self, *, limit: int | None = None, cursor: str | None = None) -> models.AuditPage:
        """List who changed what, newest first."""
        return self._call(Request[models.AuditPage]("GET", "/api/v1/audit", query={"limit": limit, "cursor": cursor}))

    def submit_batch(
        self, body: models.BatchRequest, *, model_name: str | None = None, model_version: str | None = None
    ) -> models.BatchResponse:
        """Ask a model about many rows in the background."""
        return self._call(Request[models.BatchResponse](
            "POST", "/api/v1/batch", query={"model_name": model_name, "model_version": model_version}, body=body
        ))

    def list_canaries(self) -> models.CanaryPage:
        """List canaries, newest first."""
        return self._call(Request[models.CanaryPage]("GET", "/api/v1/canaries"))

    def start_canary(self, body: models.NewCanary) -> models.Canary:
        """Try other answers on some of the users. Requests that name an algorithm, weights or diversity take no
        part."""
        return self._call(Request[models.Canary]("POST", "/api/v1/canaries", body=body))

    def get_canary(self, name: str) -> models.Canary:
        """Read a canary: how far it is, what the gates say, what was decided on what evidence."""
        return self._call(Request[models.Canary]("GET", f"/api/v1/canaries/{quoted(name)}"))

    def promote_canary(self, name: str, body: models.CanaryEnd) -> models.Canary:
        """Give the candidate of an A/B test to everyone. A canary is promoted by its gates alone."""
        return self._call(Request[models.Canary]("POST", f"/api/v1/canaries/{quoted(name)}/promote", body=body))

    def roll_back_canary(self, name: str, body: models.CanaryEnd) -> models.Canary:
        """Give the candidate to nobody any more. Also a complete canary goes back, while it is the last that began."""
        return self._call(Request[models.Canary]("POST", f"/api/v1/canaries/{quoted(name)}/rollback", body=body))

    def list_dead_letters(self, *, limit: int | None = None, cursor: str | None = None) -> models.DeadLetterPage:
        """List what was refused, newest first."""
        return self._call(Request[models.DeadLetterPage](
            "GET", "/api/v1/dead-letters", query={"limit": limit, "cursor": cursor}
        ))

    def get_dead_letter(self, id: str) -> models.DeadLetter:
        """Read one refused thing."""
        return self._call(Request[models.DeadLetter]("GET", f"/api/v1/dead-letters/{quoted(id)}"))

    def delete_dead_letter(self, id: str) -> None:
        """Forget one refused thing."""
        return self._call(Request[None]("DELETE", f"/api/v1/dead-letters/{quoted(id)}"))

    def embed_texts(self, body: models.EmbedRequest) -> models.EmbedResponse:
        """Embed texts."""
        return self._call(Request[models.EmbedResponse]("POST", "/api/v1/embed", body=body))

    def embed_batch(self, body: models.EmbedRequest) -> models.EmbedResponse:
        """Embed texts, under the guide's other name: the answer is the same, and has the vectors."""
        return self._call(Request[models.EmbedResponse]("POST", "/api/v1/embed/batch", body=body))

    def list_reindex_jobs(self) -> list[models.ReindexJob]:
        """List re-index jobs, the newest first, at most 100."""
        return self._call(Request[list[models.ReindexJob]]("GET", "/api/v1/embed/jobs"))

    def get_reindex_job(self, id: str) -> models.ReindexJob:
        """Read a re-index job."""
        return self._call(Request[models.ReindexJob]("GET", f"/api/v1/embed/jobs/{quoted(id)}"))

    def list_embedding_models(self) -> list[models.EmbeddingModel]:
        """List the encoders."""
        return self._call(Request[list[models.EmbeddingModel]]("GET", "/api/v1/embed/models"))

    def reindex_embeddings(self) -> models.ReindexBegun:
        """Make all vectors again, of all tenants. Those that answer do so until the new ones are complete."""
        return self._call(Request[models.ReindexBegun]("POST", "/api/v1/embed/reindex"))

    def create_entity(self, body: models.NewEntity, *, idempotency_key: str | None = None) -> models.Entity:
        """Create an entity."""
        return self._call(Request[models.Entity](
            "POST", "/api/v1/entities", body=body, key=idempotency_key or new_key()
        ))

    def import_entities(self, body: models.EntityImport, *, idempotency_key: str | None = None) -> models.ImportResult:
        """Create or replace many entities."""
        return self._call(Request[models.ImportResult](
            "POST", "/api/v1/entities/bulk", body=body, key=idempotency_key or new_key()
        ))

    def get_entity(self, id: str, *, entity_type: str | None = None, tenant_id: str | None = None) -> models.Entity:
        """Read an entity."""
        return self._call(Request[models.Entity](
            "GET", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id}
        ))

    def replace_entity(
        self, id: str, body: models.EntityReplacement, *, entity_type: str | None = None, tenant_id: str | None = None,
        idempotency_key: str | None = None
    ) -> models.Entity:
        """Replace an entity."""
        return self._call(Request[models.Entity](
            "PUT", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            body=body, key=idempotency_key or new_key()
        ))

    def delete_entity(
        self, id: str, *, entity_type: str | None = None, tenant_id: str | None = None, idempotency_key: str | None =
        None
    ) -> None:
        """Delete an entity. It is never recommended again; what users did with it is kept."""
        return self._call(Request[None](
            "DELETE", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            key=idempotency_key or new_key()
        ))

    def patch_entity(
        self, id: str, body: models.EntityPatch, *, entity_type: str | None = None, tenant_id: str | None = None,
        idempotency_key: str | None = None
    ) -> models.Entity:
        """Change parts of an entity."""
        return self._call(Request[models.Entity](
            "PATCH", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            body=body, key=idempotency_key or new_key()
        ))

    def list_erasures(self, *, limit: int | None = None, cursor: str | None = None) -> models.ErasurePage:
        """List who was forgotten, newest first, without names."""
        return self._call(Request[models.ErasurePage](
            "GET", "/api/v1/erasures", query={"limit": limit, "cursor": cursor}
        ))

    def post_events(self, body: list[models.CloudEvent]) -> models.BatchResult:
        """Take events in. They are durable when this answers, and views show them."""
        return self._call(Request[models.BatchResult](
            "POST", "/api/v1/events", body=body, content_type="application/cloudevents-batch+json", repeatable=True
        ))

    def export_entities(
        self, *, entity_type: str | None = None, last_modified_after: str | None = None, tenant_id: str | None = None
    ) -> Iterator[models.Entity]:
        """Export the catalogue."""
        return self._rows(Request[models.Entity](
            "GET", "/api/v1/export/entities", query={"entity_type": entity_type, "last_modified_after":
            last_modified_after, "tenant_id": tenant_id, "format": "ndjson"}
        ))

    def export_interactions(
        self, *, start_date: str | None = None, end_date: str | None = None, tenant_id: str | None = None
    ) -> Iterator[models.Interaction]:
        """Export the interactions, in the order they arrived."""
        return self._rows(Request[models.Interaction](
            "GET", "/api/v1/export/interactions", query={"start_date": start_date, "end_date": end_date, "tenant_id":
            tenant_id, "format": "ndjson"}
        ))

    def export_users(self, *, tenant_id: str | None = None) -> Iterator[models.UserRow]:
        """Export the users."""
        return self._rows(Request[models.UserRow](
            "GET", "/api/v1/export/users", query={"tenant_id": tenant_id, "format": "ndjson"}
        ))

    def list_feature_sets(self) -> models.FeatureSets:
        """List feature sets."""
        return self._call(Request[models.FeatureSets]("GET", "/api/v1/feature-sets"))

    def get_feature_set(self, name: str) -> models.FeatureSet:
        """Get a feature set."""
        return self._call(Request[models.FeatureSet]("GET", f"/api/v1/feature-sets/{quoted(name)}"))

    def put_feature_set(self, name: str, body: models.NewFeatureSet) -> models.FeatureSet:
        """Make a feature set, or change it."""
        return self._call(Request[models.FeatureSet]("PUT", f"/api/v1/feature-sets/{quoted(name)}", body=body))

    def delete_features(self, name: str, entity: str) -> models.ForgottenFeatures:
        """Forget every row of an entity."""
        return self._call(Request[models.ForgottenFeatures](
            "DELETE", f"/api/v1/feature-sets/{quoted(name)}/entities/{quoted(entity)}"
        ))

    def read_features(
        self, name: str, *, entity: str | None = None, as_of: str | None = None, written_by: str | None = None,
        features: str | None = None
    ) -> models.EntityFeatures:
        """Read the features of an entity as of a time."""
        return self._call(Request[models.EntityFeatures](
            "GET", f"/api/v1/feature-sets/{quoted(name)}/features", query={"entity": entity, "as_of": as_of,
            "written_by": written_by, "features": features}
        ))

    def write_features(self, name: str, body: models.NewFeatureRows) -> models.FeatureRowOutcomes:
        """Write rows of features. The same rows may be sent again."""
        return self._call(Request[models.FeatureRowOutcomes](
            "POST", f"/api/v1/feature-sets/{quoted(name)}/features", body=body
        ))

    def read_features_of_many(self, name: str, body: models.FeatureMoments) -> models.EntityFeaturesList:
        """Read the features of many entities, each as of its time: the rows of a training. A request looks through a
        bounded number of kept rows; those of the question that are beyond have a `fault`, and are to be asked again
        with fewer at once."""
        return self._call(Request[models.EntityFeaturesList](
            "POST", f"/api/v1/feature-sets/{quoted(name)}/features/read", body=body
        ))

    def list_interaction_types(self) -> models.InteractionTypeList:
        """List the types."""
        return self._call(Request[models.InteractionTypeList]("GET", "/api/v1/interaction-types"))

    def register_interaction_type(self, body: models.NewInteractionType) -> models.InteractionType:
        """Register a type. One that exists is changed with PUT."""
        return self._call(Request[models.InteractionType]("POST", "/api/v1/interaction-types", body=body))

    def get_interaction_type(self, type: str) -> models.InteractionType:
        """Read a type."""
        return self._call(Request[models.InteractionType]("GET", f"/api/v1/interaction-types/{quoted(type)}"))

    def replace_interaction_type(self, type: str, body: models.InteractionTypeReplacement) -> models.InteractionType:
        """Change a type."""
        return self._call(Request[models.InteractionType](
            "PUT", f"/api/v1/interaction-types/{quoted(type)}", body=body
        ))

    def delete_interaction_type(self, type: str) -> None:
        """Delete a type: interactions of it are refused from then on."""
        return self._call(Request[None]("DELETE", f"/api/v1/interaction-types/{quoted(type)}"))

    def record_interaction(
        self, body: models.NewInteraction, *, idempotency_key: str | None = None
    ) -> models.Interaction:
        """Record an interaction. The next answer takes it into account."""
        return self._call(Request[models.Interaction](
            "POST", "/api/v1/interactions", body=body, key=idempotency_key or new_key()
        ))

    def import_interactions(
        self, body: models.InteractionImport, *, idempotency_key: str | None = None
    ) -> models.ImportResult:
        """Record many interactions."""
        return self._call(Request[models.ImportResult](
            "POST", "/api/v1/interactions/bulk", body=body, key=idempotency_key or new_key()
        ))

    def list_interactions_of_entity(
        self, id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None, entity_type:
        str | None = None, tenant_id: str | None = None
    ) -> list[models.Interaction]:
        """List what was done with an entity, newest arrival first."""
        return self._call(Request[list[models.Interaction]](
            "GET", f"/api/v1/interactions/entity/{quoted(id)}", query={"limit": limit, "offset": offset, "cursor":
            cursor, "entity_type": entity_type, "tenant_id": tenant_id}
        ))

    def list_interactions_of_user(
        self, id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None, entity_type:
        str | None = None, tenant_id: str | None = None
    ) -> list[models.Interaction]:
        """List what a user did, newest first."""
        return self._call(Request[list[models.Interaction]](
            "GET", f"/api/v1/interactions/user/{quoted(id)}", query={"limit": limit, "offset": offset, "cursor": cursor,
            "entity_type": entity_type, "tenant_id": tenant_id}
        ))

    def list_jobs(self, *, limit: int | None = None, cursor: str | None = None) -> models.InferenceJobs:
        """List jobs, the newest first."""
        return self._call(Request[models.InferenceJobs](
            "GET", "/api/v1/jobs", query={"limit": limit, "cursor": cursor}
        ))

    def get_job(self, id: str) -> models.InferenceJob:
        """Get a job, and how far it is."""
        return self._call(Request[models.InferenceJob]("GET", f"/api/v1/jobs/{quoted(id)}"))

    def cancel_job(self, id: str) -> models.InferenceJob:
        """Cancel a job; its results so far stay. A job that ended stays as it is."""
        return self._call(Request[models.InferenceJob]("POST", f"/api/v1/jobs/{quoted(id)}/cancel"))

    def get_job_results(self, id: str) -> Iterator[dict[str, Any]]:
        """Read the results of a job so far, a line for each row in the order of the rows."""
        return self._rows(Request[dict[str, Any]]("GET", f"/api/v1/jobs/{quoted(id)}/results"))

    def list_keys(self, *, limit: int | None = None, cursor: str | None = None) -> models.KeyList:
        """List the keys, also those that ended in the last 30 days."""
        return self._call(Request[models.KeyList]("GET", "/api/v1/keys", query={"limit": limit, "cursor": cursor}))

    def create_key(self, body: models.NewKey) -> models.KeyWithSecret:
        """Make a key."""
        return self._call(Request[models.KeyWithSecret]("POST", "/api/v1/keys", body=body))

    def revoke_key(self, id: str) -> None:
        """End a key for good."""
        return self._call(Request[None]("DELETE", f"/api/v1/keys/{quoted(id)}"))

    def rotate_key(self, id: str, body: models.KeyRotation) -> models.KeyWithSecret:
        """Give a key another secret; the one before works on for a while."""
        return self._call(Request[models.KeyWithSecret]("POST", f"/api/v1/keys/{quoted(id)}/rotate", body=body))

    def list_market_bars(
        self, instrument: str, *, interval: str | None = None, from_: str | None = None, to: str | None = None, market:
        str | None = None, limit: int | None = None, gaps: bool | None = None, downsample: int | None = None
    ) -> models.BarList:
        """Read the bars of an instrument."""
        return self._call(Request[models.BarList](
            "GET", f"/api/v1/market/bars/{quoted(instrument)}", query={"interval": interval, "from": from_, "to": to,
            "market": market, "limit": limit, "gaps": gaps, "downsample": downsample}
        ))

    def get_market_curve(
        self, name: str, *, as_of: str | None = None, interpolation: Literal["linear", "flat_forward",
        "monotone_convex", "pchip"] | None = None, horizon: str | None = None
    ) -> models.MarketCurve:
        """Read a curve, as of a time."""
        return self._call(Request[models.MarketCurve](
            "GET", f"/api/v1/market/curves/{quoted(name)}", query={"as_of": as_of, "interpolation": interpolation,
            "horizon": horizon}
        ))

    def list_market_curve_quotes(
        self, name: str, *, from_: str | None = None, to: str | None = None, limit: int | None = None, cursor: str |
        None = None
    ) -> models.CurveQuotesList:
        """List what was quoted of a curve, newest first."""
        return self._call(Request[models.CurveQuotesList](
            "GET", f"/api/v1/market/curves/{quoted(name)}/quotes", query={"from": from_, "to": to, "limit": limit,
            "cursor": cursor}
        ))

    def post_market_curve_quotes(self, name: str, body: models.NewCurveQuotes) -> models.CurveQuotes:
        """Take in what was quoted of a curve. It is durable when this answers, and the same sent again changes
        nothing."""
        return self._call(Request[models.CurveQuotes](
            "POST", f"/api/v1/market/curves/{quoted(name)}/quotes", body=body
        ))

    def list_market_dead_letters(
        self, *, stage: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketDeadLetterPage:
        """List what a stage refused, newest first."""
        return self._call(Request[models.MarketDeadLetterPage](
            "GET", "/api/v1/market/dead-letters", query={"stage": stage, "limit": limit, "cursor": cursor}
        ))

    def get_market_dead_letter(self, id: str) -> models.MarketDeadLetter:
        """Read what a stage refused."""
        return self._call(Request[models.MarketDeadLetter]("GET", f"/api/v1/market/dead-letters/{quoted(id)}"))

    def replay_market_dead_letter(self, id: str) -> models.MarketReplay:
        """Send what a stage refused through it again."""
        return self._call(Request[models.MarketReplay]("POST", f"/api/v1/market/dead-letters/{quoted(id)}/replay"))

    def export_market_rows(
        self, table: str, *, symbols: str | None = None, from_: str | None = None, to: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Export prices, quotes or bars."""
        return self._rows(Request[dict[str, Any]](
            "GET", f"/api/v1/market/export/{quoted(table)}", query={"symbols": symbols, "from": from_, "to": to,
            "format": "ndjson"}
        ))

    def list_instruments(
        self, *, prefix: str | None = None, market: str | None = None, commodity: str | None = None, region: str | None
        = None, limit: int | None = None, cursor: str | None = None
    ) -> models.InstrumentList:
        """List the instruments that ticks were taken in of."""
        return self._call(Request[models.InstrumentList](
            "GET", "/api/v1/market/instruments", query={"prefix": prefix, "market": market, "commodity": commodity,
            "region": region, "limit": limit, "cursor": cursor}
        ))

    def get_instrument(self, id: str) -> models.Instrument:
        """Read what an instrument is, and why."""
        return self._call(Request[models.Instrument]("GET", f"/api/v1/market/instruments/{quoted(id)}"))

    def list_market_prices(
        self, *, prefix: str | None = None, market: str | None = None, commodity: str | None = None, region: str | None
        = None, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketPriceList:
        """List the newest prices."""
        return self._call(Request[models.MarketPriceList](
            "GET", "/api/v1/market/prices", query={"prefix": prefix, "market": market, "commodity": commodity, "region":
            region, "limit": limit, "cursor": cursor}
        ))

    def get_market_price(self, instrument: str, *, as_of: str | None = None) -> models.MarketPrice:
        """Read the price of an instrument."""
        return self._call(Request[models.MarketPrice](
            "GET", f"/api/v1/market/prices/{quoted(instrument)}", query={"as_of": as_of}
        ))

    def list_market_projections(self) -> models.MarketProjectionList:
        """List the custom projections of the settings."""
        return self._call(Request[models.MarketProjectionList]("GET", "/api/v1/market/projections"))

    def list_market_projection_values(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketProjectionValues:
        """List what a custom projection has, the newest of each key."""
        return self._call(Request[models.MarketProjectionValues](
            "GET", f"/api/v1/market/projections/{quoted(name)}", query={"limit": limit, "cursor": cursor}
        ))

    def get_market_projection_value(self, name: str, key: str) -> models.MarketProjectionValue:
        """Read the newest that a custom projection has of a key."""
        return self._call(Request[models.MarketProjectionValue](
            "GET", f"/api/v1/market/projections/{quoted(name)}/{quoted(key)}"
        ))

    def get_market_spread(self, instrument: str, *, as_of: str | None = None) -> models.MarketSpread:
        """Read the spread of an instrument."""
        return self._call(Request[models.MarketSpread](
            "GET", f"/api/v1/market/spreads/{quoted(instrument)}", query={"as_of": as_of}
        ))

    def list_market_spreads(
        self, instrument: str, *, interval: str | None = None, from_: str | None = None, to: str | None = None, market:
        str | None = None, limit: int | None = None
    ) -> models.SpreadHistory:
        """Read the spreads of an instrument by interval."""
        return self._call(Request[models.SpreadHistory](
            "GET", f"/api/v1/market/spreads/{quoted(instrument)}/history", query={"interval": interval, "from": from_,
            "to": to, "market": market, "limit": limit}
        ))

    def list_market_statistics(
        self, instrument: str, *, interval: str | None = None, window: int | None = None, from_: str | None = None, to:
        str | None = None, market: str | None = None, limit: int | None = None
    ) -> models.WindowStatisticsList:
        """Read rolling statistics over the bars of an instrument."""
        return self._call(Request[models.WindowStatisticsList](
            "GET", f"/api/v1/market/statistics/{quoted(instrument)}", query={"interval": interval, "window": window,
            "from": from_, "to": to, "market": market, "limit": limit}
        ))

    def get_market_taxonomy(self) -> models.Taxonomy:
        """List the labels of the taxonomy."""
        return self._call(Request[models.Taxonomy]("GET", "/api/v1/market/taxonomy"))

    def classify_instrument(self, instrument_id: str) -> models.Instrument:
        """Say what an instrument of that name is, whether or not a tick of it came."""
        return self._call(Request[models.Instrument]("GET", f"/api/v1/market/taxonomy/{quoted(instrument_id)}"))

    def post_market_ticks(self, body: dict[str, Any]) -> models.Taken:
        """Take raw ticks in. They are durable when this answers; prices and bars show them within a second."""
        return self._call(Request[models.Taken]("POST", "/api/v1/market/ticks", body=body, repeatable=True))

    def validate_market_tick(self, body: dict[str, Any]) -> models.TickVerdict:
        """Say what would become of a raw tick, without storing it."""
        return self._call(Request[models.TickVerdict]("POST", "/api/v1/market/validate", body=body, repeatable=True))

    def list_models(self) -> list[models.ServedModel]:
        """List registered models by name, 1,000 at most."""
        return self._call(Request[list[models.ServedModel]]("GET", "/api/v1/models"))

    def get_model(self, name: str) -> models.ServedModel:
        """Get a registered model, and what of it answers here."""
        return self._call(Request[models.ServedModel]("GET", f"/api/v1/models/{quoted(name)}"))

    def get_model_accuracy(
        self, name: str, *, version: str | None = None, days: int | None = None
    ) -> models.ModelAccuracy:
        """Say how right a version of a model was, by what came true of the predictions that were kept."""
        return self._call(Request[models.ModelAccuracy](
            "GET", f"/api/v1/models/{quoted(name)}/accuracy", query={"version": version, "days": days}
        ))

    def list_model_canaries(self, name: str) -> models.ModelCanaryPage:
        """List canaries of a model, newest first."""
        return self._call(Request[models.ModelCanaryPage]("GET", f"/api/v1/models/{quoted(name)}/canaries"))

    def start_model_canary(self, name: str, body: models.NewModelCanary) -> models.ModelCanary:
        """Try another version of a model. Requests for its champion take part."""
        return self._call(Request[models.ModelCanary]("POST", f"/api/v1/models/{quoted(name)}/canaries", body=body))

    def get_model_canary(self, name: str, sequence: str) -> models.ModelCanary:
        """Read a canary of a model: how far it is, what the gates say, how far a shadow is off, what was decided on
        what evidence."""
        return self._call(Request[models.ModelCanary](
            "GET", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}"
        ))

    def promote_model_canary(self, name: str, sequence: str, body: models.ModelCanaryEnd) -> models.ModelCanary:
        """Make the candidate of an A/B test or a shadow the champion. A canary is promoted by its gates alone."""
        return self._call(Request[models.ModelCanary](
            "POST", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}/promote", body=body
        ))

    def roll_back_model_canary(self, name: str, sequence: str, body: models.ModelCanaryEnd) -> models.ModelCanary:
        """Give the candidate to nobody any more. Once it is the champion, the model's rollback moves that back."""
        return self._call(Request[models.ModelCanary](
            "POST", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}/rollback", body=body
        ))

    def get_model_drift(self, name: str, *, version: str | None = None) -> models.ModelDrift:
        """Say whether a version of a model drifts: its reference against what all servers were asked."""
        return self._call(Request[models.ModelDrift](
            "GET", f"/api/v1/models/{quoted(name)}/drift", query={"version": version}
        ))

    def list_model_history(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.ModelHistory:
        """List what was done to a model, newest first."""
        return self._call(Request[models.ModelHistory](
            "GET", f"/api/v1/models/{quoted(name)}/history", query={"limit": limit, "cursor": cursor}
        ))

    def promote_model(self, name: str, body: models.ModelPromotion) -> models.ModelAliases:
        """Point an alias of a model at a version."""
        return self._call(Request[models.ModelAliases]("POST", f"/api/v1/models/{quoted(name)}/promote", body=body))

    def rollback_model(self, name: str, body: models.ModelRollback) -> models.ModelAliases:
        """Point an alias of a model back at where it pointed before its last promotion."""
        return self._call(Request[models.ModelAliases]("POST", f"/api/v1/models/{quoted(name)}/rollback", body=body))

    def put_prediction_truths(self, name: str, body: models.PredictionTruths) -> models.PredictionTruthOutcomes:
        """Say what came true of predictions that were kept. The same truth may be sent again."""
        return self._call(Request[models.PredictionTruthOutcomes](
            "POST", f"/api/v1/models/{quoted(name)}/truths", body=body
        ))

    def list_model_versions(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.ModelVersionPage:
        """List the versions of a model, newest first."""
        return self._call(Request[models.ModelVersionPage](
            "GET", f"/api/v1/models/{quoted(name)}/versions", query={"limit": limit, "cursor": cursor}
        ))

    def predict_rows(self, body: models.PredictRequest) -> models.PredictResponse:
        """Ask a model about rows."""
        return self._call(Request[models.PredictResponse]("POST", "/api/v1/predict", body=body))

    def recommend_bought_together(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None, result_type: str | None = None
    ) -> models.Answer:
        """Recommend entities that are bought together with one."""
        return self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/bought-together/{quoted(id)}", query={"count": count, "algorithm":
            algorithm, "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type":
            entity_type, "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude":
            exclude, "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days,
            "cursor": cursor, "tenant_id": tenant_id, "result_type": result_type}
        ))

    def recommend_similar_entities(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None, result_type: str | None = None
    ) -> models.Answer:
        """Recommend entities like one."""
        return self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/entity/{quoted(id)}", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id, "result_type": result_type}
        ))

    def recommend_latest(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What is new."""
        return self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/latest", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    def recommend_popular(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What many chose."""
        return self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/popular", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    def recommend_for_session(self, body: models.SessionRequest) -> models.Answer:
        """Recommend entities for what someone did just now."""
        return self._call(Request[models.Answer]("POST", "/api/v1/recommendations/session", body=body))

    def find_similar_users(self, id: str, *, count: int | None = None) -> models.SimilarUsers:
        """Find users who are like one."""
        return self._call(Request[models.SimilarUsers](
            "GET", f"/api/v1/recommendations/similar-users/{quoted(id)}", query={"count": count}
        ))

    def recommend_trending(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What many choose lately."""
        return self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/trending", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    def recommend_for_user(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """Recommend entities for a user."""
        return self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/user/{quoted(id)}", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    def search_items(self, body: models.SearchRequest, *, tenant_id: str | None = None) -> models.SearchResponse:
        """Search items by words and by meaning."""
        return self._call(Request[models.SearchResponse](
            "POST", "/api/v1/search", query={"tenant_id": tenant_id}, body=body
        ))

    def learn_search_fusion(self, body: models.LearnFusionRequest) -> models.LearnedFusion:
        """Learn how much meaning is to count, on queries with what should be found for them. Nothing is kept: set what
        is answered in `search.fusion`, or send it with searches."""
        return self._call(Request[models.LearnedFusion]("POST", "/api/v1/search/fusion/learn", body=body))

    def put_search_item(self, body: models.NewSearchItem) -> models.SearchItemTaken:
        """Put an item."""
        return self._call(Request[models.SearchItemTaken]("POST", "/api/v1/search/index", body=body))

    def put_search_items(self, body: models.NewSearchItems) -> models.SearchItemsTaken:
        """Put several items."""
        return self._call(Request[models.SearchItemsTaken]("POST", "/api/v1/search/index/bulk", body=body))

    def rebuild_search_index(self) -> models.SearchRebuilt:
        """Build the index of words again from the log. The one before answers until the new one is whole."""
        return self._call(Request[models.SearchRebuilt]("POST", "/api/v1/search/index/rebuild"))

    def get_search_stats(self) -> models.SearchStats:
        """Read what the index holds."""
        return self._call(Request[models.SearchStats]("GET", "/api/v1/search/index/stats"))

    def delete_search_item(self, type: str, id: str) -> None:
        """Delete an item. One that is not there is deleted already."""
        return self._call(Request[None]("DELETE", f"/api/v1/search/index/{quoted(type)}/{quoted(id)}"))

    def get_user(self, id: str) -> models.User:
        """Read a user."""
        return self._call(Request[models.User]("GET", f"/api/v1/users/{quoted(id)}"))

    def replace_user(self, id: str, body: models.UserReplacement) -> models.User:
        """Describe a user, who is added where unknown."""
        return self._call(Request[models.User]("PUT", f"/api/v1/users/{quoted(id)}", body=body))

    def get_consent(self, id: str) -> models.Consent:
        """Read what a user agreed to."""
        return self._call(Request[models.Consent]("GET", f"/api/v1/users/{quoted(id)}/consent"))

    def put_consent(self, id: str, body: models.ConsentChange) -> models.Consent:
        """Change what a user agreed to. The next answer and the next training heed it."""
        return self._call(Request[models.Consent]("PUT", f"/api/v1/users/{quoted(id)}/consent", body=body))

    def erase_user_data(self, id: str) -> models.ErasureOutcome:
        """Forget a person: events, profile, consent, histories, states, dead letters; then checkpoints and models.
        Again is harmless. It cannot be undone."""
        return self._call(Request[models.ErasureOutcome]("DELETE", f"/api/v1/users/{quoted(id)}/data"))

    def export_user_data(self, id: str) -> models.PersonalData:
        """Export everything that is held of one person."""
        return self._call(Request[models.PersonalData]("GET", f"/api/v1/users/{quoted(id)}/data-export"))

    def list_webhook_deliveries(
        self, *, state: Literal["pending", "delivered", "dead"] | None = None, webhook_id: str | None = None, limit: int
        | None = None, cursor: str | None = None
    ) -> models.WebhookDeliveryPage:
        """List deliveries, newest first."""
        return self._call(Request[models.WebhookDeliveryPage](
            "GET", "/api/v1/webhook-deliveries", query={"state": state, "webhook_id": webhook_id, "limit": limit,
            "cursor": cursor}
        ))

    def replay_webhook_deliveries(self, body: models.WebhookReplay) -> models.WebhookReplayed:
        """Send dead deliveries again, the oldest first, 1,000 at most."""
        return self._call(Request[models.WebhookReplayed]("POST", "/api/v1/webhook-deliveries/replay", body=body))

    def get_webhook_delivery(self, id: str) -> models.WebhookDelivery:
        """Read a delivery."""
        return self._call(Request[models.WebhookDelivery]("GET", f"/api/v1/webhook-deliveries/{quoted(id)}"))

    def replay_webhook_delivery(self, id: str) -> models.WebhookDelivery:
        """Send a delivered or dead delivery again."""
        return self._call(Request[models.WebhookDelivery]("POST", f"/api/v1/webhook-deliveries/{quoted(id)}/replay"))

    def list_webhooks(self) -> models.WebhookList:
        """List the webhooks."""
        return self._call(Request[models.WebhookList]("GET", "/api/v1/webhooks"))

    def create_webhook(self, body: models.NewWebhook) -> models.WebhookWithSecret:
        """Make a webhook."""
        return self._call(Request[models.WebhookWithSecret]("POST", "/api/v1/webhooks", body=body))

    def get_webhook(self, id: str) -> models.Webhook:
        """Read a webhook."""
        return self._call(Request[models.Webhook]("GET", f"/api/v1/webhooks/{quoted(id)}"))

    def delete_webhook(self, id: str) -> None:
        """Remove a webhook."""
        return self._call(Request[None]("DELETE", f"/api/v1/webhooks/{quoted(id)}"))

    def update_webhook(self, id: str, body: models.WebhookChange) -> models.Webhook:
        """Change a webhook."""
        return self._call(Request[models.Webhook]("PATCH", f"/api/v1/webhooks/{quoted(id)}", body=body))

    def rotate_webhook_secret(self, id: str, body: models.WebhookRotation) -> models.WebhookWithSecret:
        """Give a webhook another secret; messages are signed with the one before too for a while."""
        return self._call(Request[models.WebhookWithSecret](
            "POST", f"/api/v1/webhooks/{quoted(id)}/rotate-secret", body=body
        ))

    def test_webhook(self, id: str) -> models.WebhookDelivery:
        """Send a webhook a message of the type `webhook.test`."""
        return self._call(Request[models.WebhookDelivery]("POST", f"/api/v1/webhooks/{quoted(id)}/test"))

    def reload_models(self) -> models.Reloaded:
        """Look now at where the aliases of models point, and try versions again that could not be served."""
        return self._call(Request[models.Reloaded]("POST", "/reload"))

    def create_embeddings(self, body: models.EmbeddingsRequest) -> models.Embeddings:
        """Embed texts, as OpenAI's clients ask."""
        return self._call(Request[models.Embeddings]("POST", "/v1/embeddings", body=body))

    def list_openai_models(self) -> models.ListedModels:
        """List the encoders, as OpenAI's clients ask."""
        return self._call(Request[models.ListedModels]("GET", "/v1/models"))

    def get_openai_model(self, id: str) -> models.ListedModel:
        """Get an encoder, as OpenAI's clients ask."""
        return self._call(Request[models.ListedModel]("GET", f"/v1/models/{quoted(id)}"))

    def get_inference_server(self) -> models.InferenceServer:
        """Say what the inference server is."""
        return self._call(Request[models.InferenceServer]("GET", "/v2"))

    def get_inference_model(self, name: str) -> models.InferenceModel:
        """Describe a model by its inputs and outputs."""
        return self._call(Request[models.InferenceModel]("GET", f"/v2/models/{quoted(name)}"))

    def infer_by_model(self, name: str, body: models.InferenceRequest) -> models.InferenceResponse:
        """Ask a model."""
        return self._call(Request[models.InferenceResponse]("POST", f"/v2/models/{quoted(name)}/infer", body=body))

    def get_inference_model_ready(self, name: str) -> models.InferenceReadiness:
        """Make a model ready, and say when it is."""
        return self._call(Request[models.InferenceReadiness]("GET", f"/v2/models/{quoted(name)}/ready"))

    def get_inference_model_version(self, name: str, version: str) -> models.InferenceModel:
        """Describe a version of a model by its inputs and outputs."""
        return self._call(Request[models.InferenceModel](
            "GET", f"/v2/models/{quoted(name)}/versions/{quoted(version)}"
        ))

    def infer_by_model_version(
        self, name: str, version: str, body: models.InferenceRequest
    ) -> models.InferenceResponse:
        """Ask a version of a model."""
        return self._call(Request[models.InferenceResponse](
            "POST", f"/v2/models/{quoted(name)}/versions/{quoted(version)}/infer", body=body
        ))

    def get_inference_model_version_ready(self, name: str, version: str) -> models.InferenceReadiness:
        """Make a version of a model ready, and say when it is."""
        return self._call(Request[models.InferenceReadiness](
            "GET", f"/v2/models/{quoted(name)}/versions/{quoted(version)}/ready"
        ))


class AsyncOperations(AsyncCaller):
    """Every operation of the server."""

    async def clean_up_artifacts(self, body: models.ArtifactCleanup) -> models.ArtifactsCleanedUp:
        """Remove versions without an alias and deleted runs that are old, and uploads that broke off."""
        return await self._call(Request[models.ArtifactsCleanedUp]("POST", "/api/v1/artifacts/cleanup", body=body))

    async def list_audit(self, *, limit: int | None = None, cursor: str | None = None) -> models.AuditPage:
        """List who changed what, newest first."""
        return await self._call(Request[models.AuditPage](
            "GET", "/api/v1/audit", query={"limit": limit, "cursor": cursor}
        ))

    async def submit_batch(
        self, body: models.BatchRequest, *, model_name: str | None = None, model_version: str | None = None
    ) -> models.BatchResponse:
        """Ask a model about many rows in the background."""
        return await self._call(Request[models.BatchResponse](
            "POST", "/api/v1/batch", query={"model_name": model_name, "model_version": model_version}, body=body
        ))

    async def list_canaries(self) -> models.CanaryPage:
        """List canaries, newest first."""
        return await self._call(Request[models.CanaryPage]("GET", "/api/v1/canaries"))

    async def start_canary(self, body: models.NewCanary) -> models.Canary:
        """Try other answers on some of the users. Requests that name an algorithm, weights or diversity take no
        part."""
        return await self._call(Request[models.Canary]("POST", "/api/v1/canaries", body=body))

    async def get_canary(self, name: str) -> models.Canary:
        """Read a canary: how far it is, what the gates say, what was decided on what evidence."""
        return await self._call(Request[models.Canary]("GET", f"/api/v1/canaries/{quoted(name)}"))

    async def promote_canary(self, name: str, body: models.CanaryEnd) -> models.Canary:
        """Give the candidate of an A/B test to everyone. A canary is promoted by its gates alone."""
        return await self._call(Request[models.Canary]("POST", f"/api/v1/canaries/{quoted(name)}/promote", body=body))

    async def roll_back_canary(self, name: str, body: models.CanaryEnd) -> models.Canary:
        """Give the candidate to nobody any more. Also a complete canary goes back, while it is the last that began."""
        return await self._call(Request[models.Canary]("POST", f"/api/v1/canaries/{quoted(name)}/rollback", body=body))

    async def list_dead_letters(self, *, limit: int | None = None, cursor: str | None = None) -> models.DeadLetterPage:
        """List what was refused, newest first."""
        return await self._call(Request[models.DeadLetterPage](
            "GET", "/api/v1/dead-letters", query={"limit": limit, "cursor": cursor}
        ))

    async def get_dead_letter(self, id: str) -> models.DeadLetter:
        """Read one refused thing."""
        return await self._call(Request[models.DeadLetter]("GET", f"/api/v1/dead-letters/{quoted(id)}"))

    async def delete_dead_letter(self, id: str) -> None:
        """Forget one refused thing."""
        return await self._call(Request[None]("DELETE", f"/api/v1/dead-letters/{quoted(id)}"))

    async def embed_texts(self, body: models.EmbedRequest) -> models.EmbedResponse:
        """Embed texts."""
        return await self._call(Request[models.EmbedResponse]("POST", "/api/v1/embed", body=body))

    async def embed_batch(self, body: models.EmbedRequest) -> models.EmbedResponse:
        """Embed texts, under the guide's other name: the answer is the same, and has the vectors."""
        return await self._call(Request[models.EmbedResponse]("POST", "/api/v1/embed/batch", body=body))

    async def list_reindex_jobs(self) -> list[models.ReindexJob]:
        """List re-index jobs, the newest first, at most 100."""
        return await self._call(Request[list[models.ReindexJob]]("GET", "/api/v1/embed/jobs"))

    async def get_reindex_job(self, id: str) -> models.ReindexJob:
        """Read a re-index job."""
        return await self._call(Request[models.ReindexJob]("GET", f"/api/v1/embed/jobs/{quoted(id)}"))

    async def list_embedding_models(self) -> list[models.EmbeddingModel]:
        """List the encoders."""
        return await self._call(Request[list[models.EmbeddingModel]]("GET", "/api/v1/embed/models"))

    async def reindex_embeddings(self) -> models.ReindexBegun:
        """Make all vectors again, of all tenants. Those that answer do so until the new ones are complete."""
        return await self._call(Request[models.ReindexBegun]("POST", "/api/v1/embed/reindex"))

    async def create_entity(self, body: models.NewEntity, *, idempotency_key: str | None = None) -> models.Entity:
        """Create an entity."""
        return await self._call(Request[models.Entity](
            "POST", "/api/v1/entities", body=body, key=idempotency_key or new_key()
        ))

    async def import_entities(
        self, body: models.EntityImport, *, idempotency_key: str | None = None
    ) -> models.ImportResult:
        """Create or replace many entities."""
        return await self._call(Request[models.ImportResult](
            "POST", "/api/v1/entities/bulk", body=body, key=idempotency_key or new_key()
        ))

    async def get_entity(
        self, id: str, *, entity_type: str | None = None, tenant_id: str | None = None
    ) -> models.Entity:
        """Read an entity."""
        return await self._call(Request[models.Entity](
            "GET", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id}
        ))

    async def replace_entity(
        self, id: str, body: models.EntityReplacement, *, entity_type: str | None = None, tenant_id: str | None = None,
        idempotency_key: str | None = None
    ) -> models.Entity:
        """Replace an entity."""
        return await self._call(Request[models.Entity](
            "PUT", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            body=body, key=idempotency_key or new_key()
        ))

    async def delete_entity(
        self, id: str, *, entity_type: str | None = None, tenant_id: str | None = None, idempotency_key: str | None =
        None
    ) -> None:
        """Delete an entity. It is never recommended again; what users did with it is kept."""
        return await self._call(Request[None](
            "DELETE", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            key=idempotency_key or new_key()
        ))

    async def patch_entity(
        self, id: str, body: models.EntityPatch, *, entity_type: str | None = None, tenant_id: str | None = None,
        idempotency_key: str | None = None
    ) -> models.Entity:
        """Change parts of an entity."""
        return await self._call(Request[models.Entity](
            "PATCH", f"/api/v1/entities/{quoted(id)}", query={"entity_type": entity_type, "tenant_id": tenant_id},
            body=body, key=idempotency_key or new_key()
        ))

    async def list_erasures(self, *, limit: int | None = None, cursor: str | None = None) -> models.ErasurePage:
        """List who was forgotten, newest first, without names."""
        return await self._call(Request[models.ErasurePage](
            "GET", "/api/v1/erasures", query={"limit": limit, "cursor": cursor}
        ))

    async def post_events(self, body: list[models.CloudEvent]) -> models.BatchResult:
        """Take events in. They are durable when this answers, and views show them."""
        return await self._call(Request[models.BatchResult](
            "POST", "/api/v1/events", body=body, content_type="application/cloudevents-batch+json", repeatable=True
        ))

    def export_entities(
        self, *, entity_type: str | None = None, last_modified_after: str | None = None, tenant_id: str | None = None
    ) -> AsyncIterator[models.Entity]:
        """Export the catalogue."""
        return self._rows(Request[models.Entity](
            "GET", "/api/v1/export/entities", query={"entity_type": entity_type, "last_modified_after":
            last_modified_after, "tenant_id": tenant_id, "format": "ndjson"}
        ))

    def export_interactions(
        self, *, start_date: str | None = None, end_date: str | None = None, tenant_id: str | None = None
    ) -> AsyncIterator[models.Interaction]:
        """Export the interactions, in the order they arrived."""
        return self._rows(Request[models.Interaction](
            "GET", "/api/v1/export/interactions", query={"start_date": start_date, "end_date": end_date, "tenant_id":
            tenant_id, "format": "ndjson"}
        ))

    def export_users(self, *, tenant_id: str | None = None) -> AsyncIterator[models.UserRow]:
        """Export the users."""
        return self._rows(Request[models.UserRow](
            "GET", "/api/v1/export/users", query={"tenant_id": tenant_id, "format": "ndjson"}
        ))

    async def list_feature_sets(self) -> models.FeatureSets:
        """List feature sets."""
        return await self._call(Request[models.FeatureSets]("GET", "/api/v1/feature-sets"))

    async def get_feature_set(self, name: str) -> models.FeatureSet:
        """Get a feature set."""
        return await self._call(Request[models.FeatureSet]("GET", f"/api/v1/feature-sets/{quoted(name)}"))

    async def put_feature_set(self, name: str, body: models.NewFeatureSet) -> models.FeatureSet:
        """Make a feature set, or change it."""
        return await self._call(Request[models.FeatureSet]("PUT", f"/api/v1/feature-sets/{quoted(name)}", body=body))

    async def delete_features(self, name: str, entity: str) -> models.ForgottenFeatures:
        """Forget every row of an entity."""
        return await self._call(Request[models.ForgottenFeatures](
            "DELETE", f"/api/v1/feature-sets/{quoted(name)}/entities/{quoted(entity)}"
        ))

    async def read_features(
        self, name: str, *, entity: str | None = None, as_of: str | None = None, written_by: str | None = None,
        features: str | None = None
    ) -> models.EntityFeatures:
        """Read the features of an entity as of a time."""
        return await self._call(Request[models.EntityFeatures](
            "GET", f"/api/v1/feature-sets/{quoted(name)}/features", query={"entity": entity, "as_of": as_of,
            "written_by": written_by, "features": features}
        ))

    async def write_features(self, name: str, body: models.NewFeatureRows) -> models.FeatureRowOutcomes:
        """Write rows of features. The same rows may be sent again."""
        return await self._call(Request[models.FeatureRowOutcomes](
            "POST", f"/api/v1/feature-sets/{quoted(name)}/features", body=body
        ))

    async def read_features_of_many(self, name: str, body: models.FeatureMoments) -> models.EntityFeaturesList:
        """Read the features of many entities, each as of its time: the rows of a training. A request looks through a
        bounded number of kept rows; those of the question that are beyond have a `fault`, and are to be asked again
        with fewer at once."""
        return await self._call(Request[models.EntityFeaturesList](
            "POST", f"/api/v1/feature-sets/{quoted(name)}/features/read", body=body
        ))

    async def list_interaction_types(self) -> models.InteractionTypeList:
        """List the types."""
        return await self._call(Request[models.InteractionTypeList]("GET", "/api/v1/interaction-types"))

    async def register_interaction_type(self, body: models.NewInteractionType) -> models.InteractionType:
        """Register a type. One that exists is changed with PUT."""
        return await self._call(Request[models.InteractionType]("POST", "/api/v1/interaction-types", body=body))

    async def get_interaction_type(self, type: str) -> models.InteractionType:
        """Read a type."""
        return await self._call(Request[models.InteractionType]("GET", f"/api/v1/interaction-types/{quoted(type)}"))

    async def replace_interaction_type(
        self, type: str, body: models.InteractionTypeReplacement
    ) -> models.InteractionType:
        """Change a type."""
        return await self._call(Request[models.InteractionType](
            "PUT", f"/api/v1/interaction-types/{quoted(type)}", body=body
        ))

    async def delete_interaction_type(self, type: str) -> None:
        """Delete a type: interactions of it are refused from then on."""
        return await self._call(Request[None]("DELETE", f"/api/v1/interaction-types/{quoted(type)}"))

    async def record_interaction(
        self, body: models.NewInteraction, *, idempotency_key: str | None = None
    ) -> models.Interaction:
        """Record an interaction. The next answer takes it into account."""
        return await self._call(Request[models.Interaction](
            "POST", "/api/v1/interactions", body=body, key=idempotency_key or new_key()
        ))

    async def import_interactions(
        self, body: models.InteractionImport, *, idempotency_key: str | None = None
    ) -> models.ImportResult:
        """Record many interactions."""
        return await self._call(Request[models.ImportResult](
            "POST", "/api/v1/interactions/bulk", body=body, key=idempotency_key or new_key()
        ))

    async def list_interactions_of_entity(
        self, id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None, entity_type:
        str | None = None, tenant_id: str | None = None
    ) -> list[models.Interaction]:
        """List what was done with an entity, newest arrival first."""
        return await self._call(Request[list[models.Interaction]](
            "GET", f"/api/v1/interactions/entity/{quoted(id)}", query={"limit": limit, "offset": offset, "cursor":
            cursor, "entity_type": entity_type, "tenant_id": tenant_id}
        ))

    async def list_interactions_of_user(
        self, id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None, entity_type:
        str | None = None, tenant_id: str | None = None
    ) -> list[models.Interaction]:
        """List what a user did, newest first."""
        return await self._call(Request[list[models.Interaction]](
            "GET", f"/api/v1/interactions/user/{quoted(id)}", query={"limit": limit, "offset": offset, "cursor": cursor,
            "entity_type": entity_type, "tenant_id": tenant_id}
        ))

    async def list_jobs(self, *, limit: int | None = None, cursor: str | None = None) -> models.InferenceJobs:
        """List jobs, the newest first."""
        return await self._call(Request[models.InferenceJobs](
            "GET", "/api/v1/jobs", query={"limit": limit, "cursor": cursor}
        ))

    async def get_job(self, id: str) -> models.InferenceJob:
        """Get a job, and how far it is."""
        return await self._call(Request[models.InferenceJob]("GET", f"/api/v1/jobs/{quoted(id)}"))

    async def cancel_job(self, id: str) -> models.InferenceJob:
        """Cancel a job; its results so far stay. A job that ended stays as it is."""
        return await self._call(Request[models.InferenceJob]("POST", f"/api/v1/jobs/{quoted(id)}/cancel"))

    def get_job_results(self, id: str) -> AsyncIterator[dict[str, Any]]:
        """Read the results of a job so far, a line for each row in the order of the rows."""
        return self._rows(Request[dict[str, Any]]("GET", f"/api/v1/jobs/{quoted(id)}/results"))

    async def list_keys(self, *, limit: int | None = None, cursor: str | None = None) -> models.KeyList:
        """List the keys, also those that ended in the last 30 days."""
        return await self._call(Request[models.KeyList](
            "GET", "/api/v1/keys", query={"limit": limit, "cursor": cursor}
        ))

    async def create_key(self, body: models.NewKey) -> models.KeyWithSecret:
        """Make a key."""
        return await self._call(Request[models.KeyWithSecret]("POST", "/api/v1/keys", body=body))

    async def revoke_key(self, id: str) -> None:
        """End a key for good."""
        return await self._call(Request[None]("DELETE", f"/api/v1/keys/{quoted(id)}"))

    async def rotate_key(self, id: str, body: models.KeyRotation) -> models.KeyWithSecret:
        """Give a key another secret; the one before works on for a while."""
        return await self._call(Request[models.KeyWithSecret]("POST", f"/api/v1/keys/{quoted(id)}/rotate", body=body))

    async def list_market_bars(
        self, instrument: str, *, interval: str | None = None, from_: str | None = None, to: str | None = None, market:
        str | None = None, limit: int | None = None, gaps: bool | None = None, downsample: int | None = None
    ) -> models.BarList:
        """Read the bars of an instrument."""
        return await self._call(Request[models.BarList](
            "GET", f"/api/v1/market/bars/{quoted(instrument)}", query={"interval": interval, "from": from_, "to": to,
            "market": market, "limit": limit, "gaps": gaps, "downsample": downsample}
        ))

    async def get_market_curve(
        self, name: str, *, as_of: str | None = None, interpolation: Literal["linear", "flat_forward",
        "monotone_convex", "pchip"] | None = None, horizon: str | None = None
    ) -> models.MarketCurve:
        """Read a curve, as of a time."""
        return await self._call(Request[models.MarketCurve](
            "GET", f"/api/v1/market/curves/{quoted(name)}", query={"as_of": as_of, "interpolation": interpolation,
            "horizon": horizon}
        ))

    async def list_market_curve_quotes(
        self, name: str, *, from_: str | None = None, to: str | None = None, limit: int | None = None, cursor: str |
        None = None
    ) -> models.CurveQuotesList:
        """List what was quoted of a curve, newest first."""
        return await self._call(Request[models.CurveQuotesList](
            "GET", f"/api/v1/market/curves/{quoted(name)}/quotes", query={"from": from_, "to": to, "limit": limit,
            "cursor": cursor}
        ))

    async def post_market_curve_quotes(self, name: str, body: models.NewCurveQuotes) -> models.CurveQuotes:
        """Take in what was quoted of a curve. It is durable when this answers, and the same sent again changes
        nothing."""
        return await self._call(Request[models.CurveQuotes](
            "POST", f"/api/v1/market/curves/{quoted(name)}/quotes", body=body
        ))

    async def list_market_dead_letters(
        self, *, stage: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketDeadLetterPage:
        """List what a stage refused, newest first."""
        return await self._call(Request[models.MarketDeadLetterPage](
            "GET", "/api/v1/market/dead-letters", query={"stage": stage, "limit": limit, "cursor": cursor}
        ))

    async def get_market_dead_letter(self, id: str) -> models.MarketDeadLetter:
        """Read what a stage refused."""
        return await self._call(Request[models.MarketDeadLetter]("GET", f"/api/v1/market/dead-letters/{quoted(id)}"))

    async def replay_market_dead_letter(self, id: str) -> models.MarketReplay:
        """Send what a stage refused through it again."""
        return await self._call(Request[models.MarketReplay](
            "POST", f"/api/v1/market/dead-letters/{quoted(id)}/replay"
        ))

    def export_market_rows(
        self, table: str, *, symbols: str | None = None, from_: str | None = None, to: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Export prices, quotes or bars."""
        return self._rows(Request[dict[str, Any]](
            "GET", f"/api/v1/market/export/{quoted(table)}", query={"symbols": symbols, "from": from_, "to": to,
            "format": "ndjson"}
        ))

    async def list_instruments(
        self, *, prefix: str | None = None, market: str | None = None, commodity: str | None = None, region: str | None
        = None, limit: int | None = None, cursor: str | None = None
    ) -> models.InstrumentList:
        """List the instruments that ticks were taken in of."""
        return await self._call(Request[models.InstrumentList](
            "GET", "/api/v1/market/instruments", query={"prefix": prefix, "market": market, "commodity": commodity,
            "region": region, "limit": limit, "cursor": cursor}
        ))

    async def get_instrument(self, id: str) -> models.Instrument:
        """Read what an instrument is, and why."""
        return await self._call(Request[models.Instrument]("GET", f"/api/v1/market/instruments/{quoted(id)}"))

    async def list_market_prices(
        self, *, prefix: str | None = None, market: str | None = None, commodity: str | None = None, region: str | None
        = None, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketPriceList:
        """List the newest prices."""
        return await self._call(Request[models.MarketPriceList](
            "GET", "/api/v1/market/prices", query={"prefix": prefix, "market": market, "commodity": commodity, "region":
            region, "limit": limit, "cursor": cursor}
        ))

    async def get_market_price(self, instrument: str, *, as_of: str | None = None) -> models.MarketPrice:
        """Read the price of an instrument."""
        return await self._call(Request[models.MarketPrice](
            "GET", f"/api/v1/market/prices/{quoted(instrument)}", query={"as_of": as_of}
        ))

    async def list_market_projections(self) -> models.MarketProjectionList:
        """List the custom projections of the settings."""
        return await self._call(Request[models.MarketProjectionList]("GET", "/api/v1/market/projections"))

    async def list_market_projection_values(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.MarketProjectionValues:
        """List what a custom projection has, the newest of each key."""
        return await self._call(Request[models.MarketProjectionValues](
            "GET", f"/api/v1/market/projections/{quoted(name)}", query={"limit": limit, "cursor": cursor}
        ))

    async def get_market_projection_value(self, name: str, key: str) -> models.MarketProjectionValue:
        """Read the newest that a custom projection has of a key."""
        return await self._call(Request[models.MarketProjectionValue](
            "GET", f"/api/v1/market/projections/{quoted(name)}/{quoted(key)}"
        ))

    async def get_market_spread(self, instrument: str, *, as_of: str | None = None) -> models.MarketSpread:
        """Read the spread of an instrument."""
        return await self._call(Request[models.MarketSpread](
            "GET", f"/api/v1/market/spreads/{quoted(instrument)}", query={"as_of": as_of}
        ))

    async def list_market_spreads(
        self, instrument: str, *, interval: str | None = None, from_: str | None = None, to: str | None = None, market:
        str | None = None, limit: int | None = None
    ) -> models.SpreadHistory:
        """Read the spreads of an instrument by interval."""
        return await self._call(Request[models.SpreadHistory](
            "GET", f"/api/v1/market/spreads/{quoted(instrument)}/history", query={"interval": interval, "from": from_,
            "to": to, "market": market, "limit": limit}
        ))

    async def list_market_statistics(
        self, instrument: str, *, interval: str | None = None, window: int | None = None, from_: str | None = None, to:
        str | None = None, market: str | None = None, limit: int | None = None
    ) -> models.WindowStatisticsList:
        """Read rolling statistics over the bars of an instrument."""
        return await self._call(Request[models.WindowStatisticsList](
            "GET", f"/api/v1/market/statistics/{quoted(instrument)}", query={"interval": interval, "window": window,
            "from": from_, "to": to, "market": market, "limit": limit}
        ))

    async def get_market_taxonomy(self) -> models.Taxonomy:
        """List the labels of the taxonomy."""
        return await self._call(Request[models.Taxonomy]("GET", "/api/v1/market/taxonomy"))

    async def classify_instrument(self, instrument_id: str) -> models.Instrument:
        """Say what an instrument of that name is, whether or not a tick of it came."""
        return await self._call(Request[models.Instrument]("GET", f"/api/v1/market/taxonomy/{quoted(instrument_id)}"))

    async def post_market_ticks(self, body: dict[str, Any]) -> models.Taken:
        """Take raw ticks in. They are durable when this answers; prices and bars show them within a second."""
        return await self._call(Request[models.Taken]("POST", "/api/v1/market/ticks", body=body, repeatable=True))

    async def validate_market_tick(self, body: dict[str, Any]) -> models.TickVerdict:
        """Say what would become of a raw tick, without storing it."""
        return await self._call(Request[models.TickVerdict](
            "POST", "/api/v1/market/validate", body=body, repeatable=True
        ))

    async def list_models(self) -> list[models.ServedModel]:
        """List registered models by name, 1,000 at most."""
        return await self._call(Request[list[models.ServedModel]]("GET", "/api/v1/models"))

    async def get_model(self, name: str) -> models.ServedModel:
        """Get a registered model, and what of it answers here."""
        return await self._call(Request[models.ServedModel]("GET", f"/api/v1/models/{quoted(name)}"))

    async def get_model_accuracy(
        self, name: str, *, version: str | None = None, days: int | None = None
    ) -> models.ModelAccuracy:
        """Say how right a version of a model was, by what came true of the predictions that were kept."""
        return await self._call(Request[models.ModelAccuracy](
            "GET", f"/api/v1/models/{quoted(name)}/accuracy", query={"version": version, "days": days}
        ))

    async def list_model_canaries(self, name: str) -> models.ModelCanaryPage:
        """List canaries of a model, newest first."""
        return await self._call(Request[models.ModelCanaryPage]("GET", f"/api/v1/models/{quoted(name)}/canaries"))

    async def start_model_canary(self, name: str, body: models.NewModelCanary) -> models.ModelCanary:
        """Try another version of a model. Requests for its champion take part."""
        return await self._call(Request[models.ModelCanary](
            "POST", f"/api/v1/models/{quoted(name)}/canaries", body=body
        ))

    async def get_model_canary(self, name: str, sequence: str) -> models.ModelCanary:
        """Read a canary of a model: how far it is, what the gates say, how far a shadow is off, what was decided on
        what evidence."""
        return await self._call(Request[models.ModelCanary](
            "GET", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}"
        ))

    async def promote_model_canary(self, name: str, sequence: str, body: models.ModelCanaryEnd) -> models.ModelCanary:
        """Make the candidate of an A/B test or a shadow the champion. A canary is promoted by its gates alone."""
        return await self._call(Request[models.ModelCanary](
            "POST", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}/promote", body=body
        ))

    async def roll_back_model_canary(self, name: str, sequence: str, body: models.ModelCanaryEnd) -> models.ModelCanary:
        """Give the candidate to nobody any more. Once it is the champion, the model's rollback moves that back."""
        return await self._call(Request[models.ModelCanary](
            "POST", f"/api/v1/models/{quoted(name)}/canaries/{quoted(sequence)}/rollback", body=body
        ))

    async def get_model_drift(self, name: str, *, version: str | None = None) -> models.ModelDrift:
        """Say whether a version of a model drifts: its reference against what all servers were asked."""
        return await self._call(Request[models.ModelDrift](
            "GET", f"/api/v1/models/{quoted(name)}/drift", query={"version": version}
        ))

    async def list_model_history(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.ModelHistory:
        """List what was done to a model, newest first."""
        return await self._call(Request[models.ModelHistory](
            "GET", f"/api/v1/models/{quoted(name)}/history", query={"limit": limit, "cursor": cursor}
        ))

    async def promote_model(self, name: str, body: models.ModelPromotion) -> models.ModelAliases:
        """Point an alias of a model at a version."""
        return await self._call(Request[models.ModelAliases](
            "POST", f"/api/v1/models/{quoted(name)}/promote", body=body
        ))

    async def rollback_model(self, name: str, body: models.ModelRollback) -> models.ModelAliases:
        """Point an alias of a model back at where it pointed before its last promotion."""
        return await self._call(Request[models.ModelAliases](
            "POST", f"/api/v1/models/{quoted(name)}/rollback", body=body
        ))

    async def put_prediction_truths(self, name: str, body: models.PredictionTruths) -> models.PredictionTruthOutcomes:
        """Say what came true of predictions that were kept. The same truth may be sent again."""
        return await self._call(Request[models.PredictionTruthOutcomes](
            "POST", f"/api/v1/models/{quoted(name)}/truths", body=body
        ))

    async def list_model_versions(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> models.ModelVersionPage:
        """List the versions of a model, newest first."""
        return await self._call(Request[models.ModelVersionPage](
            "GET", f"/api/v1/models/{quoted(name)}/versions", query={"limit": limit, "cursor": cursor}
        ))

    async def predict_rows(self, body: models.PredictRequest) -> models.PredictResponse:
        """Ask a model about rows."""
        return await self._call(Request[models.PredictResponse]("POST", "/api/v1/predict", body=body))

    async def recommend_bought_together(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None, result_type: str | None = None
    ) -> models.Answer:
        """Recommend entities that are bought together with one."""
        return await self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/bought-together/{quoted(id)}", query={"count": count, "algorithm":
            algorithm, "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type":
            entity_type, "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude":
            exclude, "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days,
            "cursor": cursor, "tenant_id": tenant_id, "result_type": result_type}
        ))

    async def recommend_similar_entities(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None, result_type: str | None = None
    ) -> models.Answer:
        """Recommend entities like one."""
        return await self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/entity/{quoted(id)}", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id, "result_type": result_type}
        ))

    async def recommend_latest(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What is new."""
        return await self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/latest", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    async def recommend_popular(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What many chose."""
        return await self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/popular", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    async def recommend_for_session(self, body: models.SessionRequest) -> models.Answer:
        """Recommend entities for what someone did just now."""
        return await self._call(Request[models.Answer]("POST", "/api/v1/recommendations/session", body=body))

    async def find_similar_users(self, id: str, *, count: int | None = None) -> models.SimilarUsers:
        """Find users who are like one."""
        return await self._call(Request[models.SimilarUsers](
            "GET", f"/api/v1/recommendations/similar-users/{quoted(id)}", query={"count": count}
        ))

    async def recommend_trending(
        self, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight: float | None
        = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None = None, query:
        str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None = None,
        diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days: int |
        None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """What many choose lately."""
        return await self._call(Request[models.Answer](
            "GET", "/api/v1/recommendations/trending", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    async def recommend_for_user(
        self, id: str, *, count: int | None = None, algorithm: models.Algorithm | None = None, collaborative_weight:
        float | None = None, content_weight: float | None = None, entity_type: str | None = None, filter: str | None =
        None, query: str | None = None, boost: str | None = None, exclude_seen: bool | None = None, exclude: str | None
        = None, diversity: float | None = None, attributes: str | None = None, explain: bool | None = None, window_days:
        int | None = None, cursor: str | None = None, tenant_id: str | None = None
    ) -> models.Answer:
        """Recommend entities for a user."""
        return await self._call(Request[models.Answer](
            "GET", f"/api/v1/recommendations/user/{quoted(id)}", query={"count": count, "algorithm": algorithm,
            "collaborative_weight": collaborative_weight, "content_weight": content_weight, "entity_type": entity_type,
            "filter": filter, "query": query, "boost": boost, "exclude_seen": exclude_seen, "exclude": exclude,
            "diversity": diversity, "attributes": attributes, "explain": explain, "window_days": window_days, "cursor":
            cursor, "tenant_id": tenant_id}
        ))

    async def search_items(self, body: models.SearchRequest, *, tenant_id: str | None = None) -> models.SearchResponse:
        """Search items by words and by meaning."""
        return await self._call(Request[models.SearchResponse](
            "POST", "/api/v1/search", query={"tenant_id": tenant_id}, body=body
        ))

    async def learn_search_fusion(self, body: models.LearnFusionRequest) -> models.LearnedFusion:
        """Learn how much meaning is to count, on queries with what should be found for them. Nothing is kept: set what
        is answered in `search.fusion`, or send it with searches."""
        return await self._call(Request[models.LearnedFusion]("POST", "/api/v1/search/fusion/learn", body=body))

    async def put_search_item(self, body: models.NewSearchItem) -> models.SearchItemTaken:
        """Put an item."""
        return await self._call(Request[models.SearchItemTaken]("POST", "/api/v1/search/index", body=body))

    async def put_search_items(self, body: models.NewSearchItems) -> models.SearchItemsTaken:
        """Put several items."""
        return await self._call(Request[models.SearchItemsTaken]("POST", "/api/v1/search/index/bulk", body=body))

    async def rebuild_search_index(self) -> models.SearchRebuilt:
        """Build the index of words again from the log. The one before answers until the new one is whole."""
        return await self._call(Request[models.SearchRebuilt]("POST", "/api/v1/search/index/rebuild"))

    async def get_search_stats(self) -> models.SearchStats:
        """Read what the index holds."""
        return await self._call(Request[models.SearchStats]("GET", "/api/v1/search/index/stats"))

    async def delete_search_item(self, type: str, id: str) -> None:
        """Delete an item. One that is not there is deleted already."""
        return await self._call(Request[None]("DELETE", f"/api/v1/search/index/{quoted(type)}/{quoted(id)}"))

    async def get_user(self, id: str) -> models.User:
        """Read a user."""
        return await self._call(Request[models.User]("GET", f"/api/v1/users/{quoted(id)}"))

    async def replace_user(self, id: str, body: models.UserReplacement) -> models.User:
        """Describe a user, who is added where unknown."""
        return await self._call(Request[models.User]("PUT", f"/api/v1/users/{quoted(id)}", body=body))

    async def get_consent(self, id: str) -> models.Consent:
        """Read what a user agreed to."""
        return await self._call(Request[models.Consent]("GET", f"/api/v1/users/{quoted(id)}/consent"))

    async def put_consent(self, id: str, body: models.ConsentChange) -> models.Consent:
        """Change what a user agreed to. The next answer and the next training heed it."""
        return await self._call(Request[models.Consent]("PUT", f"/api/v1/users/{quoted(id)}/consent", body=body))

    async def erase_user_data(self, id: str) -> models.ErasureOutcome:
        """Forget a person: events, profile, consent, histories, states, dead letters; then checkpoints and models.
        Again is harmless. It cannot be undone."""
        return await self._call(Request[models.ErasureOutcome]("DELETE", f"/api/v1/users/{quoted(id)}/data"))

    async def export_user_data(self, id: str) -> models.PersonalData:
        """Export everything that is held of one person."""
        return await self._call(Request[models.PersonalData]("GET", f"/api/v1/users/{quoted(id)}/data-export"))

    async def list_webhook_deliveries(
        self, *, state: Literal["pending", "delivered", "dead"] | None = None, webhook_id: str | None = None, limit: int
        | None = None, cursor: str | None = None
    ) -> models.WebhookDeliveryPage:
        """List deliveries, newest first."""
        return await self._call(Request[models.WebhookDeliveryPage](
            "GET", "/api/v1/webhook-deliveries", query={"state": state, "webhook_id": webhook_id, "limit": limit,
            "cursor": cursor}
        ))

    async def replay_webhook_deliveries(self, body: models.WebhookReplay) -> models.WebhookReplayed:
        """Send dead deliveries again, the oldest first, 1,000 at most."""
        return await self._call(Request[models.WebhookReplayed]("POST", "/api/v1/webhook-deliveries/replay", body=body))

    async def get_webhook_delivery(self, id: str) -> models.WebhookDelivery:
        """Read a delivery."""
        return await self._call(Request[models.WebhookDelivery]("GET", f"/api/v1/webhook-deliveries/{quoted(id)}"))

    async def replay_webhook_delivery(self, id: str) -> models.WebhookDelivery:
        """Send a delivered or dead delivery again."""
        return await self._call(Request[models.WebhookDelivery](
            "POST", f"/api/v1/webhook-deliveries/{quoted(id)}/replay"
        ))

    async def list_webhooks(self) -> models.WebhookList:
        """List the webhooks."""
        return await self._call(Request[models.WebhookList]("GET", "/api/v1/webhooks"))

    async def create_webhook(self, body: models.NewWebhook) -> models.WebhookWithSecret:
        """Make a webhook."""
        return await self._call(Request[models.WebhookWithSecret]("POST", "/api/v1/webhooks", body=body))

    async def get_webhook(self, id: str) -> models.Webhook:
        """Read a webhook."""
        return await self._call(Request[models.Webhook]("GET", f"/api/v1/webhooks/{quoted(id)}"))

    async def delete_webhook(self, id: str) -> None:
        """Remove a webhook."""
        return await self._call(Request[None]("DELETE", f"/api/v1/webhooks/{quoted(id)}"))

    async def update_webhook(self, id: str, body: models.WebhookChange) -> models.Webhook:
        """Change a webhook."""
        return await self._call(Request[models.Webhook]("PATCH", f"/api/v1/webhooks/{quoted(id)}", body=body))

    async def rotate_webhook_secret(self, id: str, body: models.WebhookRotation) -> models.WebhookWithSecret:
        """Give a webhook another secret; messages are signed with the one before too for a while."""
        return await self._call(Request[models.WebhookWithSecret](
            "POST", f"/api/v1/webhooks/{quoted(id)}/rotate-secret", body=body
        ))

    async def test_webhook(self, id: str) -> models.WebhookDelivery:
        """Send a webhook a message of the type `webhook.test`."""
        return await self._call(Request[models.WebhookDelivery]("POST", f"/api/v1/webhooks/{quoted(id)}/test"))

    async def reload_models(self) -> models.Reloaded:
        """Look now at where the aliases of models point, and try versions again that could not be served."""
        return await self._call(Request[models.Reloaded]("POST", "/reload"))

    async def create_embeddings(self, body: models.EmbeddingsRequest) -> models.Embeddings:
        """Embed texts, as OpenAI's clients ask."""
        return await self._call(Request[models.Embeddings]("POST", "/v1/embeddings", body=body))

    async def list_openai_models(self) -> models.ListedModels:
        """List the encoders, as OpenAI's clients ask."""
        return await self._call(Request[models.ListedModels]("GET", "/v1/models"))

    async def get_openai_model(self, id: str) -> models.ListedModel:
        """Get an encoder, as OpenAI's clients ask."""
        return await self._call(Request[models.ListedModel]("GET", f"/v1/models/{quoted(id)}"))

    async def get_inference_server(self) -> models.InferenceServer:
        """Say what the inference server is."""
        return await self._call(Request[models.InferenceServer]("GET", "/v2"))

    async def get_inference_model(self, name: str) -> models.InferenceModel:
        """Describe a model by its inputs and outputs."""
        return await self._call(Request[models.InferenceModel]("GET", f"/v2/models/{quoted(name)}"))

    async def infer_by_model(self, name: str, body: models.InferenceRequest) -> models.InferenceResponse:
        """Ask a model."""
        return await self._call(Request[models.InferenceResponse](
            "POST", f"/v2/models/{quoted(name)}/infer", body=body
        ))

    async def get_inference_model_ready(self, name: str) -> models.InferenceReadiness:
        """Make a model ready, and say when it is."""
        return await self._call(Request[models.InferenceReadiness]("GET", f"/v2/models/{quoted(name)}/ready"))

    async def get_inference_model_version(self, name: str, version: str) -> models.InferenceModel:
        """Describe a version of a model by its inputs and outputs."""
        return await self._call(Request[models.InferenceModel](
            "GET", f"/v2/models/{quoted(name)}/versions/{quoted(version)}"
        ))

    async def infer_by_model_version(
        self, name: str, version: str, body: models.InferenceRequest
    ) -> models.InferenceResponse:
        """Ask a version of a model."""
        return await self._call(Request[models.InferenceResponse](
            "POST", f"/v2/models/{quoted(name)}/versions/{quoted(version)}/infer", body=body
        ))

    async def get_inference_model_version_ready(self, name: str, version: str) -> models.InferenceReadiness:
        """Make a version of a model ready, and say when it is."""
        return await self._call(Request[models.InferenceReadiness](
            "GET", f"/v2/models/{quoted(name)}/versions/{quoted(version)}/ready"
        ))
