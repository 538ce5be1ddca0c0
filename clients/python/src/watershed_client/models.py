"""What goes over the wire. Written by `clients/python/generate` from the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Algorithm: TypeAlias = Literal["hybrid", "collaborative", "content_based", "sequence", "trending", "popular", "latest"]


class Answer(TypedDict):
    """Ranked entities and where they come from."""

    algorithm: str
    """The algorithm that was asked for."""
    answer_id: str
    """Names this answer; send it back as `answer_id` with the interactions that follow from it."""
    canary: NotRequired[AnswerCanary | None]
    cold_start: bool
    """Whether too little is known of the user for a personal answer."""
    complete: bool
    """False when the filter or the boosters took so much work that not every entity could be looked at."""
    count: int
    """How many there are in this page."""
    fallback: NotRequired[str | None]
    """The first algorithm that answered in its place or filled the page, because that one had nothing more to say.
    There may be several, one behind the other: each result's reason tells its own."""
    generated_at: str
    """When it was made; for an answer from the cache that was a while ago."""
    model_version: NotRequired[int | None]
    """The version of the model; none where no model was needed."""
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""
    recommendations: list[Recommendation]
    """Best first."""
    search: NotRequired[AnswerSearch | None]
    user_id: NotRequired[str | None]
    """The user it is for."""
    without_consent: NotRequired[bool]
    """The user does not agree to personal answers: nothing that they did was looked at."""


class AnswerCanary(TypedDict):
    """The arm of a canary."""

    arm: str
    """`control` for what was served before, `candidate` for what is tried. A user stays in the candidate once there."""
    name: str
    """The canary."""


class AnswerSearch(TypedDict):
    """What a text found."""

    entities: int
    """How many of them are entities; only these can be recommended."""
    fallback: NotRequired[str | None]
    """What was not looked for although it should have been, and why."""
    found: int
    """How many items, at most 100."""


class ArmSettings(TypedDict):
    """How an arm answers requests that name no algorithm, no weights and no diversity of their own. What is missing is
    as without a canary."""

    algorithm: NotRequired[str | None]
    """The name of the algorithm."""
    collaborative_weight: NotRequired[float | None]
    """The share of collaborative sources in a hybrid, 0 to 1."""
    diversity: NotRequired[float | None]
    """How much variety counts against score, 0 to 1."""


class ArtifactCleanup(TypedDict):
    """What may go."""

    days: NotRequired[int]
    """Leave what is younger than so many days; 30 where missing."""
    dry_run: NotRequired[bool]
    """Tell what would be removed, and remove nothing."""


class ArtifactsCleanedUp(TypedDict):
    """What was removed, or would be."""

    dry_run: bool
    """Whether nothing was removed."""
    kept: list[KeptModelVersion]
    """Versions that are as old, and stay: what an alias points at, the newest of each model, and where a rollback would
    go to."""
    runs: list[str]
    """Runs that were deleted before, with their metrics and artifacts."""
    uploads: RemovedUploads
    versions: list[RemovedModelVersion]
    """Versions without an alias."""

AttributeValue: TypeAlias = "bool | float | str | list[str]"


class AuditEntry(TypedDict):
    """One entry."""

    action: str
    actor: str
    """The name of a credential, or `system:` and the part of Watershed."""
    at: str
    details: dict[str, str]
    hash: str
    """BLAKE3 over the entry as JSON with an empty `hash`."""
    previous: str
    """The hash of the entry before; empty for the first."""
    sequence: int
    """1 for the first."""
    subject: str


class AuditPage(TypedDict):
    """A page of entries, newest first."""

    entries: list[AuditEntry]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class Bar(TypedDict):
    """One bar."""

    bars: int
    """How many bars it was merged from."""
    close: NotRequired[float | None]
    high: NotRequired[float | None]
    interval_end: str
    interval_start: str
    low: NotRequired[float | None]
    market: str
    """In capitals; empty where nobody said."""
    open: NotRequired[float | None]
    revision: NotRequired[int | None]
    """How often it changed since it was first told; missing before, and where bars were merged."""
    state: str
    """`open` while it has trades that were not told on its topic yet, `closed`, or `gap`."""
    trade_count: int
    volume: NotRequired[float | None]
    vwap: NotRequired[float | None]
    """The mean price weighted by volume; missing without volume."""


class BarList(TypedDict):
    """Bars of an instrument, oldest first."""

    bars: list[Bar]
    instrument_id: str
    interval: str
    next_from: NotRequired[str | None]
    """Pass it as `from` to get the next page."""

BatchOrStream: TypeAlias = "BatchResult | StreamResult"


class BatchRequest(TypedDict):
    """Rows that a model is asked about in the background."""

    inputs: list[dict[str, Any]]
    """A value for each input of the model, by its name."""
    model_name: NotRequired[str | None]
    """The registered model; `runtime.default_model` where missing."""
    model_version: NotRequired[str | None]
    """A number, or an alias; `champion` where missing. `production` and `staging` stand for `champion` and `canary`."""


class BatchResponse(TypedDict):
    """A job that was taken."""

    job_id: str
    message: str
    status: str
    """`queued`."""


class BatchResult(TypedDict):
    """What became of a batch, an event each, in the order they were sent."""

    duplicates: int
    refused: int
    results: list[EventResult]
    stored: int


class Because(TypedDict):
    """A history item that a score rests on."""

    contribution: float
    """What it added."""
    entity_id: str
    """The entity that the user chose."""
    entity_type: str
    """Its type."""


class Problem(TypedDict):
    """The body of every error (RFC 9457)."""

    code: str
    """The stable code."""
    detail: str
    """What is wrong this time and what to do."""
    field: NotRequired[str | None]
    """The field or parameter it is about."""
    status: int
    """The HTTP status."""
    title: str
    """One sentence that fits every occurrence."""
    type: str
    """A name for the kind of problem, the same for every occurrence."""


class StreamResult(TypedDict):
    """What became of a stream of lines."""

    duplicates: int
    refused: int
    refused_lines: list[RefusedLine]
    """The first 1,000 refused lines. The newest 10,000 of a tenant are among the dead letters."""
    refused_lines_left_out: NotRequired[int]
    """Refused lines beyond those."""
    stored: int


class BrokenStream(Problem, StreamResult):
    """Why a stream ended before its end, and what became of the whole lines until then."""



class Canary(TypedDict):
    """A canary as it stands."""

    candidate: ArmSettings
    """What is tried."""
    control: ArmSettings
    """What was served before."""
    decisions: list[CanaryDecision]
    """Oldest first."""
    mode: CanaryMode
    name: str
    outcome_window_seconds: int
    """Seconds within which something that was shown must be chosen to count."""
    percent: int
    """Percent of the users that get the candidate."""
    plan: CanaryPlan
    """What its gates go by."""
    reading: NotRequired[CanaryReading | None]
    stage: CanaryStage
    started_at: str
    steps: list[int]


class CanaryComparison(TypedDict):
    """What an A/B test says of the outcome: the share that was lost. It holds at every look."""

    candidate: CanaryShare
    control: CanaryShare
    difference_lower: float
    """Where the candidate's share less the control's lies. It has 0 where the arms do not differ, and only there."""
    difference_upper: float
    """Its upper end. Below 0 the candidate is better."""
    differs: bool
    """Whether they do."""
    level: float
    """The arms differ at or below it: `false_alarm`."""
    p_value: float
    """Of both being the same."""


class CanaryDecision(TypedDict):
    """A decision, and what it rests on."""

    actor: NotRequired[str | None]
    """Who decided, where it was not the gates."""
    at: str
    evidence: NotRequired[CanaryReading | None]
    percent: int
    """Percent of the users that get the candidate since."""
    reason: str
    sequence: int
    stage: CanaryStage


class CanaryEnd(TypedDict):
    """Why."""

    reason: NotRequired[str]
    """For the audit."""


class CanaryGate(TypedDict):
    """What was seen of one gate."""

    candidate_count: int
    """How many of the candidate were looked at."""
    candidate_share: float
    """The share of them."""
    closed: bool
    """Whether it is closed."""
    control_count: int
    """How many of the control were looked at."""
    control_share: float
    """The share of them that failed, was slow, or was lost."""
    difference_lower: float
    """Where the candidate's share less the control's lies, at every look: above the tolerance where the gate is closed,
    and only there."""
    difference_upper: float
    """Its upper end."""
    gate: str
    """`errors`, `latency` or `loss`."""
    level: float
    """The gate closes at or below it."""
    p_value: float
    """Of the candidate being no worse; holds at every look."""

CanaryMode: TypeAlias = Literal["canary", "ab"]


class CanaryPage(TypedDict):
    """The canaries that are remembered, newest first."""

    canaries: list[Canary]
    """At most 50. The first says what is served."""


class CanaryPlan(TypedDict):
    """What the gates of a canary or an A/B test go by, as it was asked for."""

    false_alarm: float
    """The probability that a candidate which is no worse is rolled back, at most."""
    loss_margin: NotRequired[float | None]
    """The last step is taken only once it is certain that the loss is not larger by so much."""
    sample_min: int
    """Subjects with a known outcome that a step needs in each arm."""
    slow_ms: int
    """Milliseconds above which an answer is slow."""
    step_seconds_min: int
    """Seconds that a step takes at least."""
    tolerance_errors: float
    """How much larger the candidate's share of failed answers may be."""
    tolerance_latency: float
    """How much larger its share of slow answers may be."""
    tolerance_loss: float
    """How much larger its loss may be."""


class CanaryReading(TypedDict):
    """What the gates say."""

    comparison: NotRequired[CanaryComparison | None]
    gates: list[CanaryGate]
    since_step: int
    """How many of the candidate have a known outcome since the step began."""
    step_seconds: int
    """Seconds since the step began."""
    wait_reason: NotRequired[str | None]
    """The same in words, with how far it is."""
    waits_for: NotRequired[str | None]
    """`sample`, `time` or `margin` where it waits for that."""


class CanaryShare(TypedDict):
    """A share and where it lies, at every look."""

    lower: float
    share: float
    upper: float

CanaryStage: TypeAlias = Literal["running", "complete", "rolled_back"]


class CloudEvent(TypedDict):
    """A CloudEvent 1.0; attributes beside these are extensions."""

    data: NotRequired[Any]
    """What the event says; its type tells what that must be."""
    data_base64: NotRequired[str | None]
    """The same, where it is binary."""
    datacontenttype: NotRequired[str | None]
    """The media type of `data`."""
    dataschema: NotRequired[str | None]
    """The schema of `data`."""
    id: str
    """Unique within the source: sending it again stores nothing."""
    partitionkey: NotRequired[str | None]
    """Events with the same key stay in order."""
    source: str
    """Who made it, a URI reference."""
    specversion: Literal["1.0"]
    subject: NotRequired[str | None]
    """What it happened to."""
    tenantid: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    time: NotRequired[str | None]
    """When; the time of arrival where missing."""
    type: str
    """What happened."""


class Consent(TypedDict):
    """What a user agreed to. Who never said anything agrees to both."""

    personalisation: bool
    training: bool
    updated_at: NotRequired[str | None]
    """When the user last said so; missing for one who never did."""
    user_id: str


class ConsentChange(TypedDict):
    """What a user agrees to from now on. What is missing stays as it was."""

    personalisation: NotRequired[bool | None]
    """Answers may rest on what the user did. Without it they get what many choose."""
    training: NotRequired[bool | None]
    """Models may learn from what the user did."""


class CurveQuotes(TypedDict):
    """A set of quotes that is kept."""

    as_of: str
    curve: str
    frequency: int
    quotes: list[TenorQuote]
    revision: int
    """Higher for a set that came later."""


class CurveQuotesList(TypedDict):
    """Sets of quotes, newest first."""

    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""
    quotes: list[CurveQuotes]


class DeadLetter(TypedDict):
    """One refused thing."""

    body: str
    """What was sent, cut to 16 KiB."""
    code: str
    """The stable code of the reason."""
    event_id: NotRequired[str | None]
    """The event's id, where it had one."""
    id: str
    """Unique in the tenant."""
    reason: str
    """The reason."""
    refused_at: str
    """When it was refused."""
    stage: str
    """Where: `edge` or the topic of the log."""
    type: NotRequired[str | None]
    """The event's type, where it had one."""


class DeadLetterPage(TypedDict):
    """A page of refused things, newest first."""

    dead_letters: list[DeadLetter]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""

DeliveryState: TypeAlias = Literal["pending", "delivered", "dead"]


class EmbedItem(TypedDict):
    """One text."""

    id: NotRequired[str | None]
    """Not looked at."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    text: str
    """At most 262,144 bytes."""
    type: NotRequired[str | None]
    """Not looked at."""


class EmbedRequest(TypedDict):
    """What to embed."""

    batch_size: NotRequired[int | None]
    """Not looked at: batches are made by their tokens."""
    items: list[EmbedItem]
    """2,048 at most."""
    model: NotRequired[str | None]
    """The model, by its name or version; the one that searches are answered by where missing."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""


class EmbedResponse(TypedDict):
    """The vectors."""

    count: int
    latency_ms: float
    model_version: str
    truncated: NotRequired[list[int]]
    """The places of texts of which the model read the beginning only."""
    vectors: list[list[float]]


class Embedding(TypedDict):
    """One vector."""

    embedding: EmbeddingVector
    index: int
    object: str


class EmbeddingModel(TypedDict):
    """An encoder."""

    dimension: int
    max_length: int
    """Tokens of a text that it reads."""
    name: str
    version: str

EmbeddingVector: TypeAlias = "list[float] | str"


class Embeddings(TypedDict):
    """The vectors."""

    data: list[Embedding]
    model: str
    model_version: str
    object: str
    truncated: NotRequired[list[int]]
    """The places of texts of which the model read the beginning only."""
    usage: EmbeddingsUsage

EmbeddingsEncoding: TypeAlias = Literal["float", "base64"]

EmbeddingsInput: TypeAlias = "str | list[str]"


class EmbeddingsRequest(TypedDict):
    """What to embed, as OpenAI's API has it."""

    dimensions: NotRequired[int | None]
    """So many first numbers of each vector, of length 1 again, where the model says that it was trained for that
    (`matryoshka_dimensions` of its `config.json`); else all of them and nothing less."""
    encoding_format: NotRequired[EmbeddingsEncoding]
    """How vectors are written."""
    input: EmbeddingsInput
    """A text or up to 2,048; each at most 262,144 bytes. Of a text that the model does not read whole, the beginning
    counts, and the answer names it in `truncated`."""
    model: str
    """The model, by its name or version; the last step of the name is enough, or the name of the folder that it is
    in."""
    user: NotRequired[str | None]
    """Not looked at."""


class EmbeddingsUsage(TypedDict):
    """What it cost."""

    prompt_tokens: int
    """Tokens that were read."""
    total_tokens: int


class Entity(TypedDict):
    """An entity as it stands."""

    attributes: dict[str, AttributeValue]
    available_from: NotRequired[str | None]
    available_until: NotRequired[str | None]
    created_at: str
    entity_id: str
    entity_type: str
    hidden: bool
    tenant_id: str
    updated_at: str


class EntityFeatures(TypedDict):
    """What is known of an entity."""

    as_of: str
    entity: str
    fault: NotRequired[str | None]
    """Why this row was not read, where too many rows would have to be looked through; then nothing is told of its
    features."""
    missing: list[str]
    """Features of which nothing is known that is young enough."""
    values: dict[str, FeatureValue]
    """By feature."""


class EntityFeaturesList(TypedDict):
    """What is known, in the order of the question."""

    rows: list[EntityFeatures]


class EntityImport(TypedDict):
    """Entities to create or replace."""

    entities: list[NewEntity]
    """Up to 100,000."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""


class EntityPatch(TypedDict):
    """What changes. A missing field stays as it is; `null` clears (RFC 7396, one level deep)."""

    attributes: NotRequired[dict[str, AttributeValue | None] | None]
    available_from: NotRequired[str | None]
    """Not recommended before."""
    available_until: NotRequired[str | None]
    """Not recommended from then on."""
    hidden: NotRequired[bool | None]
    """Whether it is hidden."""


class EntityReplacement(TypedDict):
    """What an entity is from now on."""

    attributes: NotRequired[dict[str, AttributeValue]]
    """Replaces all attributes."""
    available_from: NotRequired[str | None]
    """Not recommended before."""
    available_until: NotRequired[str | None]
    """Not recommended from then on."""
    hidden: NotRequired[bool]
    """Never recommended while true."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""


class Erasure(TypedDict):
    """Someone who was forgotten, without a name."""

    asked_by: str
    """The name of the credential that asked for it."""
    at: str
    erasure_id: str
    keys_dropped: int
    """Keys that were dropped; what was sealed under them can be read by nobody."""
    status: Status
    unsealed_events: bool
    """Whether events of the person were in the log unsealed: they count no more, and stay until the log's retention
    ends."""


class ErasureOutcome(TypedDict):
    """What was done to forget a person."""

    dead_letters_removed: int
    """Dead letters that were removed because they named the person."""
    erasure_id: NotRequired[str | None]
    """Names the erasure in the list; missing where nothing was held of the person."""
    kept_answers_gone_within_secs: int
    """Kept answers are out of reach, and gone after so many seconds."""
    keys_dropped: int
    """Keys that were dropped; what was sealed under them can be read by nobody."""
    models_replaced_within_hours: int
    """Models that learned from the person are trained anew, and earlier versions removed, after so many hours."""
    removed_elsewhere: dict[str, int]
    """What others held and removed, by what it is: `feature_rows`."""
    unsealed_events: bool
    """Whether events of the person stay in the log unsealed until its retention ends. They count no more."""


class ErasurePage(TypedDict):
    """A page of erasures, newest first."""

    erasures: list[Erasure]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class EventResult(TypedDict):
    """What became of one event."""

    offset: NotRequired[int | None]
    """The place in the partition."""
    partition: NotRequired[int | None]
    """The partition of the log."""
    problem: NotRequired[Problem | None]
    status: str
    """`stored`, `duplicate` or `refused`."""


class Explanation(TypedDict):
    """What a score is made of."""

    boost: NotRequired[float]
    """What boosters added (the logarithm of their factors)."""
    sources: list[SourceShare]
    """What each source added."""


class FeatureMoment(TypedDict):
    """Whose features, and when."""

    as_of: NotRequired[str | None]
    """As of when; now where missing."""
    entity: str
    """The entity's id."""


class FeatureMoments(TypedDict):
    """Which features of whom, each as of its time."""

    features: NotRequired[list[str]]
    """The features; all of the set where missing."""
    rows: list[FeatureMoment]
    written_by: NotRequired[str | None]
    """Leave out what was written later than this."""


class FeatureRowOutcome(TypedDict):
    """What became of a row."""

    entity: str
    event_time: str
    outcome: str
    """`stored`; `duplicate` where the same is kept; `conflict` where another is, which stands; `refused`."""
    reason: NotRequired[str | None]


class FeatureRowOutcomes(TypedDict):
    """What became of rows, in their order."""

    outcomes: list[FeatureRowOutcome]


class FeatureSet(TypedDict):
    """A set of features."""

    created_at: str
    entity_type: str
    features: dict[str, str]
    """`number`, `text` or `boolean` of each."""
    name: str
    ttl_secs: int


class FeatureSets(TypedDict):
    """Feature sets."""

    feature_sets: list[FeatureSet]
    """By name."""


class FeatureValue(TypedDict):
    """A value, and since when it is so."""

    event_time: str
    value: Any


class ForgottenFeatures(TypedDict):
    """What was forgotten."""

    rows: int


class FusionQuality(TypedDict):
    """Mean nDCG@10 over the queries."""

    learned: float
    """Of the queries that the share was learned on."""
    learned_held_out: NotRequired[float | None]
    """Of queries that it was not learned on, each fifth by the share that the rest teaches: what to compare with the
    others. Missing with fewer than 10 queries."""
    meaning: float
    rrf: float
    words: float


class HistoryRow(TypedDict):
    """One thing that the person did, as answers know it. Its event may have left the log."""

    entity_id: str
    entity_type: str
    interaction_type: str
    timestamp: str
    weight: float


class ImportError(TypedDict):
    """A refused record."""

    index: int
    """Its place in the request, 0 for the first."""
    problem: Problem


class ImportResult(TypedDict):
    """What became of a bulk request."""

    errors: NotRequired[list[ImportError]]
    """The first 1,000 refused records."""
    failed: int
    job_id: str
    """Names the request in the log: its `Idempotency-Key`, else a new id."""
    processed: int
    status: str
    """`completed`, `partially_completed` or `failed`."""
    successful: int
    total_records: int


class InferenceInput(TypedDict):
    """An input."""

    data: NotRequired[list[Any] | None]
    """The values in row-major order, flat or in lists of lists; null for no value, where the model takes that."""
    datatype: Literal["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES"]
    name: str
    """As in the model's metadata."""
    parameters: NotRequired[dict[str, Any] | None]
    shape: list[int]
    """The length of each axis."""


class InferenceJob(TypedDict):
    """A job."""

    created_at: str
    ended_at: NotRequired[str | None]
    error: NotRequired[str | None]
    """Why it failed."""
    job_id: str
    model_name: str
    model_version: str
    """The version that answers all of it."""
    progress: float
    """From 0 to 1."""
    rows: int
    rows_done: int
    """Rows whose results can be read."""
    rows_failed: int
    """Of these, rows that the model refused; their results say why."""
    status: Literal["uploading", "queued", "running", "completed", "failed", "cancelled"]


class InferenceJobs(TypedDict):
    """A page of jobs."""

    jobs: list[InferenceJob]
    """The newest first."""
    next_cursor: NotRequired[str | None]
    """Where the next page begins."""


class InferenceModel(TypedDict):
    """A model, as the version that answers now describes itself."""

    batches: bool
    """Whether requests are put together."""
    inputs: list[InferenceTensor]
    name: str
    outputs: list[InferenceTensor]
    platform: str
    """What serves it, such as `onnx_tract`."""
    versions: list[str]
    """The version that answers."""


class InferenceOutput(TypedDict):
    """An output."""

    data: NotRequired[list[Any] | None]
    """The values in row-major order; missing where they stand behind the JSON."""
    datatype: str
    name: str
    parameters: NotRequired[dict[str, Any] | None]
    shape: list[int]


class InferenceReadiness(TypedDict):
    """Whether a model answers."""

    name: str
    ready: bool
    version: str


class InferenceRequest(TypedDict):
    """A request for an inference."""

    id: NotRequired[str | None]
    """Comes back in the answer."""
    inputs: list[InferenceInput]
    outputs: NotRequired[list[InferenceWantedOutput] | None]
    """The outputs that are wanted; all of them where missing."""
    parameters: NotRequired[dict[str, Any] | None]
    """`binary_data_output` asks for all values behind the JSON; `keep` to keep the prediction for its truth, which
    needs `write`; `subject` is who it is for, who stays in the same arm of a canary."""


class InferenceResponse(TypedDict):
    """An answer."""

    id: NotRequired[str | None]
    model_name: str
    model_version: str
    """The version that made it."""
    outputs: list[InferenceOutput]
    parameters: NotRequired[dict[str, Any] | None]
    """`prediction_id`, where the prediction is kept."""


class InferenceServer(TypedDict):
    """What the server is."""

    extensions: list[str]
    """Extensions of the protocol that it speaks."""
    name: str
    version: str


class InferenceTensor(TypedDict):
    """A tensor that a model takes or gives."""

    datatype: str
    name: str
    shape: list[int]
    """The length of each axis, -1 for any."""


class InferenceWantedOutput(TypedDict):
    """An output that is wanted."""

    name: str
    parameters: NotRequired[dict[str, Any] | None]
    """`binary_data` asks for the values behind the JSON."""


class Instrument(TypedDict):
    """What an instrument is."""

    alias_of: NotRequired[str | None]
    """The instrument that it is another name of."""
    commodity: InstrumentLabel
    confidence: float
    """From 0 to 1."""
    instrument_id: str
    method: str
    """`override`, `rules` or `fallback`."""
    product_tier: InstrumentLabel
    region: InstrumentLabel


class InstrumentLabel(TypedDict):
    """One label and why."""

    label: str
    """From the taxonomy, or `unknown`."""
    reason: str


class InstrumentList(TypedDict):
    """A page of instruments, in the order of their ids."""

    instruments: list[Instrument]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class Interaction(TypedDict):
    """A recorded interaction."""

    answer_id: NotRequired[str | None]
    entity_id: str
    entity_type: str
    id: str
    """The id of its event."""
    interaction_type: str
    metadata: NotRequired[dict[str, str]]
    tenant_id: str
    timestamp: str
    user_id: str
    weight: float
    """How much it says."""


class InteractionImport(TypedDict):
    """Interactions to record."""

    interactions: list[NewInteraction]
    """Up to 100,000."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""

InteractionKind: TypeAlias = "str | dict[str, float] | dict[str, str]"


class InteractionType(TypedDict):
    """A type of interaction."""

    description: NotRequired[str | None]
    interaction_type: str
    tenant_id: str
    weight: float


class InteractionTypeList(TypedDict):
    """Every type of the tenant."""

    interaction_types: list[InteractionType]
    total: int


class InteractionTypeReplacement(TypedDict):
    """What a type is from now on. Interactions recorded before count as they did when the model was trained last."""

    description: NotRequired[str | None]
    """For people, at most 1,000 bytes."""
    weight: float
    """How much one says, −1,000,000 to 1,000,000; negative for a dislike."""

Interpolation: TypeAlias = Literal["linear", "flat_forward", "monotone_convex", "pchip"]


class IntervalSpread(TypedDict):
    """What was quoted in an interval at a market."""

    crossed_count: int
    """Quotes whose bid is above their ask: in no figure."""
    interval_end: str
    interval_start: str
    last: NotRequired[float | None]
    """The last of them by event time."""
    last_mid_price: NotRequired[float | None]
    """The middle between its bid and its ask."""
    locked_count: int
    """Quotes whose bid is their ask: in no figure."""
    market: str
    """In capitals; empty where nobody said."""
    maximum: NotRequired[float | None]
    mean: NotRequired[float | None]
    """Of the spreads of quotes whose bid is below their ask; each counts once, however long it stood. Null without
    any."""
    mean_basis_points: NotRequired[float | None]
    """The mean in ten-thousandths of the middle. Null where the middle of one of them is zero or below."""
    minimum: NotRequired[float | None]
    one_sided_count: int
    """Quotes without a bid or without an ask: in no figure."""
    out_of_range_count: int
    """Quotes with a side beyond 9e9: in no figure."""
    quote_count: int
    """How many those are."""


class JudgedItem(TypedDict):
    """An item and how relevant it is."""

    entity_id: str
    entity_type: str
    grade: NotRequired[int]
    """Above 0 is relevant; 1 where missing."""


class JudgedSearch(TypedDict):
    """A query and what should be found for it."""

    judged: list[JudgedItem]
    """1,000 at most."""
    query: str
    """1 to 4,096 bytes."""


class KeptModelVersion(TypedDict):
    """A version that is old enough to be removed, and stays."""

    model: str
    reason: str
    """An alias points at it, a rollback would go to it, or it is the newest of its model."""
    version: int


class Key(TypedDict):
    """A key, without its secret."""

    created_at: str
    expires_at: NotRequired[str | None]
    id: str
    """Names the key."""
    last_used_at: NotRequired[str | None]
    """To about half a minute."""
    name: str
    permission: Literal["read", "write", "admin"]
    revoked_at: NotRequired[str | None]
    tenant_id: str


class KeyList(TypedDict):
    """A page of keys, oldest first."""

    keys: list[Key]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class KeyRotation(TypedDict):
    """For how long the secret before still works."""

    grace_secs: NotRequired[int | None]
    """Seconds; an hour where missing."""


class KeyWithSecret(Key):
    """A key with its secret, which is shown this once."""

    api_key: str
    """What callers send. It cannot be read again."""


class LearnFusionRequest(TypedDict):
    """What to learn from."""

    queries: list[JudgedSearch]
    """500 at most."""


class LearnedFusion(TypedDict):
    """What was learned."""

    fusion: SearchFusion
    """For requests, and for `search.fusion`."""
    ndcg_at_10: FusionQuality
    unknown_items: int
    """Relevant items that there are not, so that nothing was learned of them: look at their types and ids."""


class LetterRow(TypedDict):
    """A refused thing that names the person."""

    body: str
    id: str
    reason: str
    refused_at: str


class ListedModel(TypedDict):
    """An encoder, as OpenAI's API has it."""

    created: int
    """Seconds since 1970; 0, for nobody says when it was made."""
    id: str
    """The name that `/v1/embeddings` takes."""
    object: str
    owned_by: str


class ListedModels(TypedDict):
    """The encoders."""

    data: list[ListedModel]
    object: str


class MarketCurve(TypedDict):
    """A curve through quotes."""

    arbitrage: list[MarketCurveFault]
    """Empty where there is none."""
    as_of: str
    """When its quotes were quoted."""
    curve: str
    frequency: int
    interpolation: Interpolation
    last_term_years: float
    """The longest quoted term; beyond it the forward rate stays."""
    points: list[MarketCurvePoint]
    revision: int


class MarketCurveFault(TypedDict):
    """What would be free money."""

    from_years: float
    kind: str
    """`implied_negative_forward` where the quotes make it, `interpolated_negative_forward` where only the interpolation
    does."""
    rate: float
    """The forward rate."""
    until_years: float


class MarketCurvePoint(TypedDict):
    """One term of a curve. Zero and forward rates are continuously compounded; all are fractions of one."""

    discount: float
    """What one is worth now."""
    forward_rate: float
    """At that moment."""
    par_rate: float
    """At which a bond of that term costs what it pays back."""
    quoted_rate: NotRequired[float | None]
    """What was quoted; missing between quotes."""
    tenor: NotRequired[str | None]
    """As it was quoted; missing between quotes."""
    term_years: float
    zero_rate: float


class MarketDeadLetter(TypedDict):
    """One refused message."""

    code: str
    """The stable code of the reason."""
    event: NotRequired[Any]
    """The message as it came, with its event; none where it is too large."""
    event_id: str
    id: str
    """Names the letter."""
    occurred_at: str
    """When the message says that it happened, or came where it does not say."""
    offset: int
    partition: int
    reason: str
    """The reason, with the field."""
    stage: str
    """The stage that refused it."""
    topic: str
    """The topic of the message."""


class MarketDeadLetterPage(TypedDict):
    """A page of refused messages, newest first."""

    dead_letters: list[MarketDeadLetter]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class MarketPrice(TypedDict):
    """The price of an instrument."""

    ask_price: NotRequired[float | None]
    bid_price: NotRequired[float | None]
    """Of the newest quote, which may be of another time."""
    currency: str
    instrument_id: str
    market: str
    """In capitals; empty where nobody said."""
    occurred_at: str
    """When it happened."""
    price: float
    quality_flags: list[str]
    received_at: str
    """When it was taken in."""
    sequence: NotRequired[int | None]
    source_system: str
    tenant_id: str
    tick_id: str
    unit: str
    volume: NotRequired[float | None]


class MarketPriceList(TypedDict):
    """A page of prices, in the order of the instruments' ids."""

    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""
    prices: list[MarketPrice]


# A custom projection, as the settings have it.
MarketProjection = TypedDict(
    "MarketProjection",
    {
        "fields": "dict[str, str]",
        "from": "str",
        "key": "NotRequired[str | None]",
        "name": "str",
        "ttl_seconds": "NotRequired[int | None]",
        "when": "NotRequired[str | None]",
    },
)


class MarketProjectionList(TypedDict):
    """The custom projections of the settings."""

    projections: list[MarketProjection]


class MarketProjectionOrigin(TypedDict):
    """Where a value is from."""

    projection_id: str
    """The tick or the revision of a bar that it was made of."""


class MarketProjectionValue(TypedDict):
    """The newest that a projection has of a key, in the guide's form."""

    data: dict[str, Any]
    """The fields of the projection; one is missing where its expression names what the event does not have."""
    instrument_id: str
    """The instrument that it was made of."""
    key: str
    last_updated: str
    """When it happened; of a bar its end."""
    metadata: MarketProjectionOrigin
    projection_type: str
    """The name of the projection."""
    tenant_id: str


class MarketProjectionValues(TypedDict):
    """A page of values, in the order of their keys."""

    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""
    values: list[MarketProjectionValue]


class MarketReplay(TypedDict):
    """What became of a replay."""

    offset: int
    partition: int
    status: str
    """`stored`, or `duplicate` where it was replayed in the same millisecond."""


class MarketSpread(TypedDict):
    """The spread of a quote."""

    ask_price: NotRequired[float | None]
    """Null where nobody would sell."""
    bid_price: NotRequired[float | None]
    """Null where nobody would buy."""
    currency: str
    instrument_id: str
    market: str
    """In capitals; empty where nobody said."""
    mid_price: NotRequired[float | None]
    """Null where one of them is missing."""
    occurred_at: str
    """When it was quoted."""
    quality_flags: list[str]
    """Those of its tick, and `crossed`, `locked` or `one_sided` where the spread means nothing."""
    received_at: str
    """When it was taken in."""
    sequence: NotRequired[int | None]
    source_system: str
    spread: NotRequired[float | None]
    """The ask less the bid: zero where they are locked, below zero where they are crossed. Null where one is
    missing."""
    spread_basis_points: NotRequired[float | None]
    """The spread in ten-thousandths of the middle. Null where that is zero or below, as power prices may be."""
    tenant_id: str
    tick_id: str
    unit: str


class ModelAccuracy(TypedDict):
    """How right a version was."""

    days: list[PredictionDay]
    """Oldest first."""
    name: str
    outputs: list[PredictionErrors]
    """Over all of these days."""
    truth_hours: int
    """For so many hours after a prediction a truth is taken."""
    version: int


class ModelAliases(TypedDict):
    """Where the aliases of a model point now."""

    aliases: dict[str, int]
    """The version that each alias points at."""
    name: str


class ModelCanary(TypedDict):
    """A canary of a version as it stands."""

    candidate_version: int
    """The version that is tried."""
    control_version: int
    """The champion when it began."""
    decisions: list[ModelCanaryDecision]
    """Oldest first."""
    loss_scale: float
    """An absolute error of so much or more counts as a whole loss."""
    mode: ModelCanaryMode
    model: str
    outcome: ModelCanaryOutcome
    output: NotRequired[str | None]
    """The output whose loss counts; the first by name where missing."""
    percent: int
    """Percent of the subjects that get the candidate."""
    plan: NotRequired[CanaryPlan | None]
    reading: NotRequired[CanaryReading | None]
    sequence: int
    """1 for the model's first."""
    shadow: NotRequired[ModelShadow | None]
    stage: CanaryStage
    started_at: str
    steps: list[int]


class ModelCanaryDecision(TypedDict):
    """A decision, and what it rests on."""

    actor: NotRequired[str | None]
    """Who decided, where it was not the gates."""
    at: str
    evidence: NotRequired[CanaryReading | None]
    percent: int
    """Percent of the subjects that get the candidate since."""
    reason: str
    stage: CanaryStage


class ModelCanaryEnd(TypedDict):
    """Why."""

    reason: NotRequired[str]
    """For the audit."""

ModelCanaryMode: TypeAlias = Literal["canary", "ab", "shadow"]

ModelCanaryOutcome: TypeAlias = Literal["truth", "answer"]


class ModelCanaryPage(TypedDict):
    """The canaries of a model, newest first."""

    canaries: list[ModelCanary]
    """At most 50."""


class ModelChange(TypedDict):
    """One thing that was done to a model."""

    action: str
    """Such as `promoted`, `rolled_back`, `version_created`."""
    actor: str
    """The name of a credential, or `system:` and the part of Watershed."""
    alias: NotRequired[str | None]
    """The alias that moved."""
    at: str
    from_version: NotRequired[int | None]
    """The version that the alias pointed at."""
    reason: str
    """Why."""
    sequence: int
    """1 for the first."""
    to_version: NotRequired[int | None]
    """The version that it points at, or that was made or removed."""


class ModelDrift(TypedDict):
    """Whether a version drifts."""

    drifting: NotRequired[bool | None]
    """Whether the last comparison found drift; missing before the first."""
    fault: NotRequired[str | None]
    """Why it is not watched."""
    features: list[ModelDriftFeature]
    """Of the last comparison, by name."""
    level: NotRequired[float | None]
    """What an adjusted p-value is compared with in the last comparison."""
    looks: list[ModelDriftLook]
    """Newest first, 50 at most."""
    name: str
    reference_features: int
    """Features of its reference; none where it is not watched."""
    rows_min: int
    """Distinct rows below which nothing is compared."""
    rows_seen: int
    """Distinct rows that the next comparison has so far, 256 at most: of the window that goes on, and of those before
    it that had too few. What servers saw since they last wrote it, within `runtime.monitoring.flush_secs`, is not among
    them."""
    version: int
    window_ends: str
    """When the window that goes on ends. It is compared within three `runtime.monitoring.flush_secs` after."""
    window_secs: int
    """Seconds of a window."""


class ModelDriftFeature(TypedDict):
    """What the last comparison found of a feature."""

    adjusted_p_value: float
    """After Holm, over all features: it drifted where this is at most `level`."""
    count: int
    """Rows that had a value."""
    drifted: bool
    feature: str
    missing: int
    """Rows that had none."""
    p_value: NotRequired[float | None]
    population_stability_index: NotRequired[float | None]
    """For people; nothing is decided by it."""
    statistic: NotRequired[float | None]
    """The largest distance of both distribution functions (Kolmogorov and Smirnov)."""


class ModelDriftLook(TypedDict):
    """One comparison."""

    at: str
    begin: str
    """When its first window began."""
    drifted: list[str]
    """Features that drifted."""
    end: str
    """When its last window ended."""
    look: int
    """1 for the first."""
    rows: int
    """Of these, the sample that was compared."""
    seen: int
    """Rows that were asked."""


class ModelFile(TypedDict):
    """A file of a version."""

    path: str
    sha256: str
    """In hexadecimal digits."""
    size_bytes: int


class ModelHistory(TypedDict):
    """A page of changes, newest first."""

    changes: list[ModelChange]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""


class ModelLineage(TypedDict):
    """What a version was made from."""

    code_version: NotRequired[str | None]
    """The code: a commit or a release."""
    data: list[str]
    """The data sets, each as `name@digest`."""
    run_id: NotRequired[str]
    """The run that made it."""
    source: NotRequired[str | None]
    """The program."""


class ModelPromotion(TypedDict):
    """A promotion. Where neither `version` nor `run_id` is given, the `canary` is promoted, else the newest version."""

    alias: NotRequired[str | None]
    """The alias that moves, in place of a stage; `champion` where neither is given."""
    expected_version: NotRequired[int | None]
    """The version that the alias points at now, 0 for none. Where it points elsewhere, nothing happens and the answer
    is 409: another was first."""
    reason: NotRequired[str]
    """Why, for the history."""
    run_id: NotRequired[str | None]
    """The newest version that came from this run."""
    stage: NotRequired[str | None]
    """`Production` (the alias `champion`) or `Staging` (`canary`)."""
    version: NotRequired[int | None]
    """The version that is promoted."""


class ModelRollback(TypedDict):
    """A rollback."""

    alias: NotRequired[str | None]
    """The alias that goes back; `champion` where missing."""
    expected_version: NotRequired[int | None]
    """The version that it points at now. Where it points elsewhere, nothing happens and the answer is 409."""
    reason: NotRequired[str]
    """Why, for the history."""


class ModelShadow(TypedDict):
    """What a shadow said."""

    asked: NotRequired[int | None]
    """Requests that it was asked; missing once it ended."""
    compared: int
    """Answers, or rows of them, that were compared."""
    failed: NotRequired[int | None]
    """Of them, that it failed at."""
    mismatched: int
    """Of them, where one had an output that the other had not."""
    outputs: list[ShadowDifference]
    """By output; 64 values at most."""
    skipped: NotRequired[int | None]
    """Requests that it was not asked, because too many were under way."""


class ModelVersion(TypedDict):
    """One version."""

    aliases: list[str]
    checksum: str
    """Over all files."""
    created_at: str
    created_by: str
    description: str
    files: list[ModelFile]
    lineage: ModelLineage
    metrics: dict[str, float]
    """How good it was when it was made."""
    name: str
    signature: NotRequired[str | None]
    """What goes in and comes out, as the model says."""
    stage: str
    """`None`, `Staging`, `Production` or `Archived`."""
    tags: dict[str, str]
    version: int


class ModelVersionPage(TypedDict):
    """A page of versions, newest first."""

    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""
    versions: list[ModelVersion]


class NewCanary(TypedDict):
    """What is tried, on whom, and when it goes on or back. What is missing is as the schema says."""

    algorithm: NotRequired[Algorithm | None]
    collaborative_weight: NotRequired[float | None]
    """The share of collaborative sources in a hybrid that is tried."""
    diversity: NotRequired[float | None]
    """How much variety counts against score in what is tried."""
    false_alarm: NotRequired[float | None]
    """The probability that a candidate which is no worse is rolled back, at most; 0.05 where missing."""
    loss_margin: NotRequired[float | None]
    """Where given, all users get the candidate only once it is certain that its loss is not larger by so much."""
    mode: NotRequired[CanaryMode]
    """`canary` (where missing): the gates take it on and back. `ab`: an A/B test at the first of `steps` (50 where
    missing), which an operator ends; only the gates of errors and latency take it back."""
    name: NotRequired[str | None]
    """Letters, digits, `-`, `_` and `.`; made where missing."""
    outcome_window_seconds: NotRequired[int | None]
    """Seconds within which something that was shown must be chosen to count; a day where missing."""
    sample_min: NotRequired[int | None]
    """Users with a known outcome that a step needs in each arm; 100 where missing."""
    slow_ms: NotRequired[int | None]
    """Milliseconds above which an answer is slow; 100 where missing."""
    step_seconds_min: NotRequired[int | None]
    """Seconds that a step takes at least; 3,600 where missing."""
    steps: NotRequired[list[int] | None]
    """Percent of the users at each step, rising to 100; 10, 25, 50, 100 where missing."""
    tolerance_errors: NotRequired[float | None]
    """How much larger the candidate's share of failed answers may be; 0 where missing."""
    tolerance_latency: NotRequired[float | None]
    """How much larger its share of slow answers may be; 0 where missing."""
    tolerance_loss: NotRequired[float | None]
    """How much larger its share of answers of which nothing is chosen may be; 0 where missing."""


class NewCurveQuotes(TypedDict):
    """What was quoted at one time."""

    as_of: str
    """When; a set for the same time takes the place of the one before."""
    frequency: NotRequired[int]
    """How often a year coupons are paid, 1 to 12."""
    quotes: list[TenorQuote]
    """By rising term, 1 to 64."""


class NewEntity(TypedDict):
    """An entity to create."""

    attributes: NotRequired[dict[str, AttributeValue]]
    """Numbers, booleans, texts and lists of texts by name."""
    available_from: NotRequired[str | None]
    """Not recommended before."""
    available_until: NotRequired[str | None]
    """Not recommended from then on."""
    entity_id: str
    """Unique within its type, 1 to 255 bytes."""
    entity_type: NotRequired[str]
    """1 to 100 bytes; `item` where missing."""
    hidden: NotRequired[bool]
    """Never recommended while true."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""


class NewFeatureRow(TypedDict):
    """What an entity's features are from a time on."""

    entity: str
    """The entity's id."""
    event_time: str
    """From when on."""
    values: dict[str, Any]
    """By feature; those that are not named stay as they were."""


class NewFeatureRows(TypedDict):
    """Rows of features."""

    rows: list[NewFeatureRow]


class NewFeatureSet(TypedDict):
    """What a set is to be."""

    entity_type: str
    """What its entities are; a `user` who is forgotten is forgotten here too."""
    features: dict[str, Literal["number", "text", "boolean"]]
    ttl_secs: int
    """A value is not believed any more so long after its event time, in seconds."""


class NewInteraction(TypedDict):
    """What a user did."""

    answer_id: NotRequired[str | None]
    """The answer in which the entity was recommended."""
    entity_id: str
    """With what."""
    entity_type: NotRequired[str | None]
    """Its type; where missing, that of the one entity with this id, or `item` where there is none."""
    interaction_type: InteractionKind
    """A registered name, `{"rating": 4.5}`, or `{"custom": "name"}`, which registers the name with weight 1."""
    metadata: NotRequired[dict[str, str]]
    """Kept and given back."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    timestamp: NotRequired[str | None]
    """When; now where missing."""
    user_id: str
    """Who."""
    weight: NotRequired[float | None]
    """In place of the type's weight."""


class NewInteractionType(TypedDict):
    """A type to register."""

    description: NotRequired[str | None]
    """For people, at most 1,000 bytes."""
    interaction_type: str
    """1 to 100 bytes."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    weight: float
    """How much one says, −1,000,000 to 1,000,000; negative for a dislike."""


class NewKey(TypedDict):
    """What the key shall be."""

    expires_at: NotRequired[str | None]
    """When it stops to work; never where missing."""
    name: str
    """For people, 1 to 100 bytes."""
    permission: Literal["read", "write", "admin"]


class NewModelCanary(TypedDict):
    """What is tried, on how many, and when it goes on or back. What is missing is as the schema says."""

    false_alarm: NotRequired[float | None]
    """The probability that a candidate which is no worse is rolled back, at most; 0.05 where missing."""
    loss_margin: NotRequired[float | None]
    """Where given, all get the candidate only once it is certain that its loss is not larger by so much."""
    loss_scale: NotRequired[float | None]
    """An absolute error of so much or more counts as a whole loss; 1 where missing."""
    mode: NotRequired[ModelCanaryMode]
    """`canary` (where missing): the gates take it on and back. `ab`: an A/B test at the first of `steps` (50 where
    missing), which an operator ends. `shadow`: the version is asked too and not heard, for the first of `steps` (100
    where missing)."""
    outcome: NotRequired[ModelCanaryOutcome]
    """What a loss is; `truth` where missing."""
    output: NotRequired[str | None]
    """The output whose loss counts; the first by name where missing."""
    sample_min: NotRequired[int | None]
    """Answers with a known outcome that a step needs in each arm; 100 where missing."""
    slow_ms: NotRequired[int | None]
    """Milliseconds above which an answer is slow; 120 where missing."""
    step_seconds_min: NotRequired[int | None]
    """Seconds that a step takes at least; 3,600 where missing."""
    steps: NotRequired[list[int] | None]
    """Percent of the subjects at each step, rising to 100; 10, 25, 50, 100 where missing."""
    tolerance_errors: NotRequired[float | None]
    """How much larger the candidate's share of failed answers may be; 0 where missing."""
    tolerance_latency: NotRequired[float | None]
    """How much larger its share of slow answers may be; 0 where missing."""
    tolerance_loss: NotRequired[float | None]
    """How much larger its mean loss may be; 0 where missing."""
    version: str
    """The version that is tried: a number, or an alias."""


class NewSearchItem(TypedDict):
    """What can be found from now on, in place of what was there before."""

    entity_id: str
    """Unique within its type, 1 to 255 bytes."""
    entity_type: str
    """What kind of thing it is, 1 to 200 bytes."""
    metadata: NotRequired[dict[str, Any]]
    """Given back with it; strings, numbers and booleans can be asked for."""
    tags: NotRequired[list[str]]
    """What it can be asked for."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    text: str
    """What it is found by, at most 262,144 bytes. An encoder reads its beginning, as far as the model reads."""


class NewSearchItems(TypedDict):
    """Several items."""

    items: list[NewSearchItem]
    """1,000 at most; where one is refused, none is taken."""


class NewWebhook(TypedDict):
    """What the webhook shall be."""

    active: NotRequired[bool]
    """Whether messages are sent; true where missing."""
    description: NotRequired[str]
    """For people, at most 500 bytes."""
    events: list[WebhookEvent]
    """What it wants to hear of."""
    url: str
    """Where messages go: `https://`, and a public address unless the settings allow others."""


class PersistenceErrors(TypedDict):
    """Persistence beside the predictions of the same values."""

    count: int
    mae: float
    model_mae: float
    """Of the predictions of these values."""
    model_rmse: float
    rmse: float


class PersonalData(TypedDict):
    """Everything that is held of one person."""

    dead_letters: list[LetterRow]
    events: list[dict[str, Any]]
    """Every event about the person, as it was sent (CloudEvents), in the order of arrival."""
    format: str
    """`watershed.person.v1`."""
    generated_at: str
    manifest: list[str]
    """What is not in here, and why."""
    profile: NotRequired[Profile | None]
    tenant_id: str
    user_id: str


class PredictRequest(TypedDict):
    """Rows that a model is asked about."""

    experiment_id: NotRequired[str | None]
    """Experiments are not answered here."""
    inputs: list[dict[str, Any]]
    """A value for each input of the model, by its name. Null, or none, is no value, where the model takes that."""
    keep: NotRequired[bool]
    """Whether the prediction is kept, so that its truth may be told later; needs `write`."""
    model_name: NotRequired[str | None]
    """The registered model; `runtime.default_model` where missing."""
    model_version: NotRequired[str | None]
    """A number, or an alias; `champion` where missing. `production` and `staging` stand for `champion` and `canary`."""
    session_id: NotRequired[str | None]
    """Stands for `user_id` where that is missing."""
    user_id: NotRequired[str | None]
    """Who it is for: they stay in the same arm of a canary."""


class PredictResponse(TypedDict):
    """Predictions."""

    latency_ms: float
    model_name: str
    model_version: str
    """The version that answered."""
    prediction_id: NotRequired[str | None]
    """Where it is kept: what its truth is told under."""
    predictions: list[Any]
    """One for each row that the model gives: the value of its output, or an object where it has several."""
    routing_metadata: PredictRouting


class PredictRouting(TypedDict):
    """How the version was chosen."""

    arm: NotRequired[str | None]
    """`control` or `candidate`, where a canary or an A/B test of the model runs."""
    asked: str
    """The alias or the number that was asked for."""


class PredictionDay(TypedDict):
    """A day."""

    day: str
    """The UTC day of the predictions."""
    outputs: list[PredictionErrors]


class PredictionErrors(TypedDict):
    """How far values were from what came true."""

    bias: float
    """The mean of errors: above 0 where predictions were too large."""
    count: int
    """Values whose truth is known."""
    mae: float
    """The mean of absolute errors."""
    output: str
    persistence: NotRequired[PersistenceErrors | None]
    rmse: float
    """The root of the mean of squared errors."""


class PredictionTruth(TypedDict):
    """What came true of a prediction."""

    prediction_id: str
    """As the prediction was answered with it."""
    values: dict[str, list[float | None]]
    """By output: as many values as the prediction had, in row-major order, null where it is not known yet."""


class PredictionTruthOutcome(TypedDict):
    """What became of a truth."""

    joined_values: int
    """Values that were joined."""
    outcome: str
    """`joined`; `duplicate` where all of it was known; `conflict` where another value is known, which stands; `unknown`
    id; `late`; `refused`."""
    prediction_id: str
    reason: NotRequired[str | None]


class PredictionTruthOutcomes(TypedDict):
    """What became of truths, in their order."""

    outcomes: list[PredictionTruthOutcome]


class PredictionTruths(TypedDict):
    """Truths."""

    truths: list[PredictionTruth]


class Profile(TypedDict):
    """What is known of the person now."""

    attributes: dict[str, AttributeValue]
    created_at: str
    history: list[HistoryRow]
    """What answers rest on."""
    personalisation: bool
    training: bool


class RecommendOptions(TypedDict):
    """What to recommend, and how."""

    algorithm: NotRequired[Algorithm | None]
    attributes: NotRequired[str | None]
    """Attributes to return: names separated by commas, or `*`."""
    boost: NotRequired[str | None]
    """CEL expressions for the factor by which an entity's odds grow, separated by `;` outside of strings. A factor
    below one millionth counts as one millionth, zero and what is below zero too, and one above a million as a million;
    where an expression gives no number, or NaN, or an infinite one, its factor is 1."""
    collaborative_weight: NotRequired[float | None]
    """The share of collaborative sources in a hybrid, in place of the learned blend. Refused with any other
    algorithm."""
    content_weight: NotRequired[float | None]
    """The share of content in a hybrid. Refused with any other algorithm."""
    count: NotRequired[int | None]
    """How many, 1 to 100; 10 where missing."""
    cursor: NotRequired[str | None]
    """Where an earlier page ended. Whatever changes in between, the last 1,000 results are not repeated, and nothing is
    passed over because something else moved."""
    diversity: NotRequired[float | None]
    """How much variety counts against score, 0 to 1. Refused with `trending`, `popular` and `latest`, and for what is
    bought together."""
    entity_type: NotRequired[str | None]
    """Only entities of this type. Where the address names an entity: the type of that one, which may be left out where
    only one type has an entity of that id; what is recommended is then for `result_type` to say."""
    exclude: NotRequired[str | None]
    """Ids to leave out, separated by commas."""
    exclude_seen: NotRequired[bool | None]
    """Leave out what the user or the session touched already; true where missing. Refused where nobody in particular
    asks."""
    explain: NotRequired[bool | None]
    """Tell what each score is made of."""
    filter: NotRequired[str | None]
    """Only entities of which this CEL expression is true. It sees `id`, `type` and `attributes`."""
    query: NotRequired[str | None]
    """Only entities that search finds for this text, of the best 100 items of its index. What it says counts too: it
    raises the odds of the one in place k 101/k-fold. What the algorithm knows nothing of comes behind, by search alone,
    but not of what is like an entity or bought with it. Needs a server that searches."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    window_days: NotRequired[int | None]
    """The window of `trending`, 1 to 31 days. Refused with any other algorithm."""


class Recommendation(TypedDict):
    """One ranked entity."""

    attributes: NotRequired[dict[str, AttributeValue] | None]
    """The attributes that were asked for."""
    entity_id: str
    """The entity."""
    entity_type: str
    """Its type."""
    explanation: NotRequired[Explanation | None]
    reason: str
    """What its place rests on most."""
    score: float
    """Higher is better; comparable within one answer only, and there among what one algorithm gave."""


class RefusedLine(TypedDict):
    """A refused line of a stream."""

    line: int
    """1 for the first."""
    problem: Problem


class ReindexBegun(TypedDict):
    """A job that was begun."""

    job_id: str
    message: str
    status: str


class ReindexJob(TypedDict):
    """A re-index job."""

    begun_at: str
    completed_at: NotRequired[str | None]
    """When there first was a vector of every item."""
    job_id: str
    model: str
    model_version: str
    progress: float
    """The part of all changes of items that is in, 0 to 1."""
    status: str
    """`making`; `serving`, when its vectors answer; `superseded`, when others do in their place; `removing`, when its
    vectors are taken away. When they are gone, so is the job."""
    superseded_at: NotRequired[str | None]
    """When it was found that others answer in its place; its vectors go `search.former_vectors_keep_secs` later."""
    updated_at: str
    """When a server last wrote how far it is."""


class Reloaded(TypedDict):
    """What answers on this server."""

    models: list[ReloadedModel]
    """By name and alias; those that somebody asked this server for lately."""
    status: str
    """`reloaded`, or `degraded` where a version does not answer."""


class ReloadedModel(TypedDict):
    """What answers for an alias that somebody asked for lately."""

    alias: str
    fault: NotRequired[str | None]
    """Why the version that the alias points at does not."""
    name: str
    serving_version: NotRequired[int | None]
    """The version that answers, where it is in memory."""


class RemovedModelVersion(TypedDict):
    """A version that was removed, or would be."""

    bytes: int
    model: str
    version: int


class RemovedUploads(TypedDict):
    """Uploads that broke off and that no file names."""

    bytes: int
    uploads: int


class SearchExplanation(TypedDict):
    """Where a score comes from."""

    bm25: NotRequired[float | None]
    """The BM25 score."""
    cosine: NotRequired[float | None]
    """The cosine to the query."""
    lexical: NotRequired[float | None]
    """What words gave of the score."""
    rerank: NotRequired[float | None]
    """What the cross-encoder says, where `rerank` asked it: then it is the score, and the rest says how the candidate
    was found."""
    semantic: NotRequired[float | None]
    """What meaning gave of the score."""
    words: list[SearchWord]
    """What each word adds to the BM25 score."""


class SearchFacets(TypedDict):
    """How many of what has a word of the query."""

    tags: dict[str, int]
    types: dict[str, int]


class SearchFilters(TypedDict):
    """What an item must have to be found."""

    metadata: NotRequired[dict[str, Any]]
    """Every one of these attributes: strings, numbers and booleans."""
    tags: NotRequired[list[str]]
    """Every one of these tags."""
    tenant_id: NotRequired[str | None]
    """Must be the credential's tenant where given."""
    type: NotRequired[SearchTypes | None]

SearchFusion: TypeAlias = "Literal[\"rrf\"] | Literal[\"weighted\"] | Literal[\"combsum\"] | dict[str, float]"


class SearchItemTaken(TypedDict):
    """What became of an item."""

    entity_id: str
    entity_type: str
    message: str
    status: str
    """`indexed` where searches show it; `stored` where they will."""


class SearchItemsTaken(TypedDict):
    """What became of several items."""

    count: int
    status: str
    """`indexed` where searches show them; `stored` where they will."""


class SearchRebuilt(TypedDict):
    """An index that is built again."""

    changes: int
    """Changes that were taken in."""
    fault: NotRequired[str | None]
    """Why it failed."""
    progress: float
    """The part of the log that was read, 0 to 1."""
    status: str
    """`rebuilt`; `rebuilding`, while it goes on; `failed`, where the index before answers on."""


class SearchRequest(TypedDict):
    """What is looked for."""

    explain: NotRequired[bool]
    """Whether to tell where each score comes from."""
    facets: NotRequired[bool]
    """Whether to count the types and tags of what has a word of the query."""
    filters: NotRequired[SearchFilters]
    """What may be found."""
    fusion: NotRequired[SearchFusion | None]
    highlight: NotRequired[bool]
    """Whether to show a piece of each text, or all of a short one, with what was found marked by `<em>`; the rest of it
    is escaped for HTML."""
    include_text: NotRequired[bool]
    """Whether results have their text; true where missing."""
    limit: NotRequired[int]
    """Results at most, 1 to 100."""
    query: str
    """In the words of who looks, 1 to 4,096 bytes."""
    rerank: NotRequired[int | None]
    """How many of the best a cross-encoder reads together with the query and puts in its own order, from `limit` to
    100. It takes time for each. Needs `search.rerank_model_path`."""
    semantic: NotRequired[bool]
    """Whether meaning counts too, and not words alone; true where missing."""
    similarity_threshold: NotRequired[float]
    """The least cosine of what is found by meaning, -1 to 1."""
    typo_tolerance: NotRequired[bool]
    """Whether words that no text has are taken for mistyped; true where missing."""


class SearchResponse(TypedDict):
    """What was found."""

    facets: NotRequired[SearchFacets | None]
    fallback: NotRequired[str | None]
    """Why meaning did not count although it was asked for."""
    latency_ms: float
    model_version: NotRequired[str | None]
    """The version of the model that meaning was understood by."""
    query: str
    rerank_model_version: NotRequired[str | None]
    """The version of the cross-encoder that put the results in order."""
    results: list[SearchResult]
    """Best first."""
    semantic: bool
    """Whether meaning counted."""
    total: int
    """How many items have a word of the query, or results if those are more."""


class SearchResult(TypedDict):
    """One result."""

    entity_id: str
    entity_type: str
    explanation: NotRequired[SearchExplanation | None]
    highlight: NotRequired[str | None]
    """A piece of the text, escaped, with what was found in `<em>`."""
    metadata: dict[str, Any]
    score: float
    """Higher is better."""
    tags: list[str]
    text: NotRequired[str | None]
    """Missing where `include_text` is false."""


class SearchStats(TypedDict):
    """What an index holds."""

    has_all_vectors: NotRequired[bool | None]
    """Whether searches by meaning do; missing where there is no encoder."""
    is_current: bool
    """Whether searches by words show every change."""
    items: int
    """Items that can be found."""
    model: NotRequired[str | None]
    model_version: NotRequired[str | None]
    rebuild: NotRequired[SearchRebuilt | None]
    segments: int
    """Segments that they are in."""
    terms: int
    """Words of all their texts, each as often as it stands there."""
    vectors: NotRequired[int | None]
    """Items with a vector; missing where there is no encoder."""

SearchTypes: TypeAlias = "str | list[str]"


class SearchWord(TypedDict):
    """What a word adds to the score by words."""

    documents: int
    """How many texts have the commonest of them."""
    frequency: float
    """How often they come, weighted."""
    inverse_document_frequency: float
    """How much the word tells."""
    length: int
    """How many terms the text has, rounded if it is long."""
    score: float
    """What it adds."""
    terms: list[str]
    """The terms of the text that stand for the word."""


class ServedModel(TypedDict):
    """A registered model."""

    aliases: dict[str, int]
    """The version that each alias points at."""
    created_at: str
    description: NotRequired[str]
    fault: NotRequired[str | None]
    """Why the version of `champion` does not answer here."""
    name: str
    serving_version: NotRequired[int | None]
    """The version that answers for `champion` here, where it is in memory."""
    stage: str
    """The stage of that version."""
    version: int
    """The one that the alias `champion` points at, else the newest; 0 where there is none."""


class SessionInteraction(TypedDict):
    """One thing that someone did."""

    entity_id: str
    """With what."""
    entity_type: NotRequired[str | None]
    """Its type; where missing, that of the one entity with this id."""
    interaction_type: NotRequired[InteractionKind]
    """What they did; `view` where missing."""
    timestamp: NotRequired[str | None]
    """When."""
    weight: NotRequired[float | None]
    """In place of the type's weight."""


class SessionRequest(TypedDict):
    """What someone did just now, whoever they are."""

    interactions: list[SessionInteraction]
    """Oldest first, up to 1,000. Nothing of it is kept; what would be refused as an interaction is refused here."""
    options: NotRequired[RecommendOptions]
    """What to recommend, and how."""


class ShadowDifference(TypedDict):
    """How far a shadow's output is from what was served."""

    count: int
    """Values that were compared."""
    equal: int
    """Of them, equal to the bit."""
    largest_absolute: float
    """The largest absolute difference."""
    mean: float
    """The mean of shadow less served."""
    mean_absolute: float
    """The mean absolute difference."""
    output: str
    """The output, and the place in it where it has several values."""
    p95_absolute: float
    """95 % of absolute differences are at or below it; at most twice too large."""
    unlike: int
    """Of them, where one was no number, or another text."""


class SimilarUser(TypedDict):
    """A user who is like another."""

    in_common: int
    """Entities that both chose."""
    score: float
    """The cosine of the angle between the two users' tastes."""
    user_id: str
    """The user."""


class SimilarUsers(TypedDict):
    """Users who are like one."""

    answer_id: str
    """Names this answer."""
    generated_at: str
    """When."""
    model_version: NotRequired[int | None]
    """The version of the model."""
    user_id: str
    """The user."""
    users: list[SimilarUser]
    """Nearest first."""
    without_consent: NotRequired[bool]
    """The user does not agree to personal answers: there are none."""


class SourceShare(TypedDict):
    """What one source added to a score."""

    because: NotRequired[list[Because]]
    """The history items that its score rests on most, with what each added to `raw`."""
    contribution: float
    """What it added to the final score."""
    raw: float
    """Its score, in its own unit."""
    source: str
    """The source."""


class SpreadHistory(TypedDict):
    """Spreads of an instrument, oldest first. Where nobody quoted there is no line."""

    instrument_id: str
    interval: str
    next_from: NotRequired[str | None]
    """Pass it as `from` to get the next page. It is there too where an answer ends because it read as many quotes as it
    may."""
    spreads: list[IntervalSpread]

Status: TypeAlias = Literal["begun", "forgotten", "complete"]

Taken: TypeAlias = "EventResult | BatchResult | StreamResult"


class Taxonomy(TypedDict):
    """The labels that there are."""

    commodity: list[str]
    product_tier: list[str]
    region: list[str]
    rules: int
    """How many rules there are for names."""


class TenorQuote(TypedDict):
    """One quoted tenor."""

    rate: float
    """The par rate, a fraction of one: 0.05 is five percent."""
    tenor: str
    """A number of days, weeks, months or years."""


class TickFault(TypedDict):
    """Why a message would be a dead letter."""

    code: str
    """The stable code."""
    message: str
    """With the field."""
    stage: str
    """The stage that would refuse it."""


class TickVerdict(TypedDict):
    """What would become of a message."""

    errors: list[TickFault]
    """Why it would be a dead letter."""
    feed: NotRequired[str | None]
    """The feed that reads it (`market.feeds`); none where the mapping does."""
    quality_flags: list[str]
    """The guide's flags; empty where it is no tick."""
    tick: NotRequired[dict[str, Any] | None]
    """The tick, as the topic of enriched ticks would have it; none where it is no tick."""
    valid: bool
    """Whether it would become a price, a quote or part of a bar."""


class User(TypedDict):
    """What is known of a user."""

    attributes: dict[str, AttributeValue]
    created_at: str
    interactions: int
    """How many interactions are recorded."""
    tenant_id: str
    user_id: str


class UserReplacement(TypedDict):
    """What is known of a user from now on."""

    attributes: NotRequired[dict[str, AttributeValue]]
    """Replaces all attributes."""


class UserRow(TypedDict):
    """A user in an export."""

    attributes: dict[str, AttributeValue]
    created_at: str
    interactions: int
    tenant_id: str
    user_id: str


class Webhook(TypedDict):
    """A webhook, without its secret."""

    active: bool
    created_at: str
    description: str
    events: list[WebhookEvent]
    id: str
    """Names the webhook."""
    previous_secret_until: NotRequired[str | None]
    """Until when messages are signed with the secret before too, since the last rotation; missing without one."""
    updated_at: str
    url: str


class WebhookChange(TypedDict):
    """What shall be different; what is missing stays."""

    active: NotRequired[bool | None]
    """Whether messages are sent. What is pending when a webhook is switched off becomes a dead letter."""
    description: NotRequired[str | None]
    """For people, at most 500 bytes."""
    events: NotRequired[list[WebhookEvent] | None]
    """What it wants to hear of."""
    url: NotRequired[str | None]
    """Where messages go."""


class WebhookDelivery(TypedDict):
    """One message to one webhook."""

    attempts: int
    """Attempts since it was made or replayed."""
    body: str
    """What is sent: a CloudEvent as JSON text."""
    created_at: str
    due_at: NotRequired[str | None]
    """When it is sent next, while it is pending."""
    event_id: str
    """The id of the event, the same for every webhook and attempt."""
    finished_at: NotRequired[str | None]
    """When it was delivered or given up."""
    id: str
    """Names the delivery; receivers get it as `Watershed-Delivery`."""
    last_error: NotRequired[str | None]
    """Why the last attempt failed."""
    last_status: NotRequired[int | None]
    """What the receiver answered last."""
    state: DeliveryState
    type: str
    """The type of the event."""
    webhook_id: str


class WebhookDeliveryPage(TypedDict):
    """A page of deliveries, newest first."""

    deliveries: list[WebhookDelivery]
    next_cursor: NotRequired[str | None]
    """Pass it as `cursor` to get the next page."""

WebhookEvent: TypeAlias = Literal["model.updated", "trending.changed", "canary.decided", "errors.threshold"]


class WebhookList(TypedDict):
    """Webhooks, oldest first."""

    webhooks: list[Webhook]


class WebhookReplay(TypedDict):
    """Which dead letters are sent again."""

    webhook_id: NotRequired[str | None]
    """Only those to this webhook; all of the tenant where missing."""


class WebhookReplayed(TypedDict):
    """How many are sent again."""

    more: bool
    """Whether dead letters are left; ask again for the next."""
    replayed: int


class WebhookRotation(TypedDict):
    """How long the secret before signs on."""

    grace_secs: NotRequired[int | None]
    """Seconds in which messages are signed with the secret before too; a day where missing, 0 for not at all."""


class WebhookWithSecret(Webhook):
    """A webhook with its secret, which is shown this once."""

    secret: str
    """What messages are signed with: `Watershed-Signature: t=UNIX,v1=HEX`, where `v1` is HMAC-SHA256 under this text
    over `t`, a full stop and the body. For a while after a rotation there is a second `v1`, under the secret before. It
    cannot be read again."""


class WindowStatistics(TypedDict):
    """A bar, and the window that ends with it."""

    bars: int
    """Bars of the window; fewer than asked for where the history begins."""
    change: str
    """What changes those are: `logarithm` of the quotient where every price of the window is positive, else
    `difference`, in the unit of the price."""
    close: float
    """The closing price of the bar."""
    interval_end: str
    interval_start: str
    market: str
    """In capitals; empty where nobody said."""
    maximum: float
    mean: float
    """Of the closing prices."""
    minimum: float
    revision: NotRequired[int | None]
    """How often the bar changed since it was first told; missing before."""
    standard_deviation: NotRequired[float | None]
    """Of the sample; missing of one bar."""
    state: str
    """`open` while the bar has trades that were not told on its topic yet, or `closed`."""
    volatility: NotRequired[float | None]
    """The standard deviation of the changes from bar to bar, for one step; missing of fewer than two changes."""
    window_start: str
    """When the first bar of the window begins: gaps are not filled, so that a window may span any time."""
    z_score: NotRequired[float | None]
    """How many deviations the closing price is from the mean; missing without one."""


class WindowStatisticsList(TypedDict):
    """Statistics of the bars of an instrument, oldest first."""

    instrument_id: str
    interval: str
    next_from: NotRequired[str | None]
    """Pass it as `from` to get the next page."""
    statistics: list[WindowStatistics]
    window: int
    """Bars of a window."""
