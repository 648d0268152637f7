"""Searching the hub, asked of a real sidecar: what an answer costs that is known, and how often the hub is asked."""

from __future__ import annotations

import statistics
import time

import sidecar as running
from bench.table import Row, Run
from fixtures.hub import Hub, HubContent, Repo

QUANTS = ("Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_XS", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16")


def bench_hub(run: Run) -> list[Row]:
    """25 results of repositories with 15 files each, cold once and then warm; one of them looked at again and again."""
    calls = run.pick(full=300, quick=100, tiny=5)
    with Hub(make_content()) as hub:
        root = run.folder / "root"
        root.mkdir()
        sidecar = running.start(root, env=hub.env(home=run.folder / "home"))
        try:
            ask = {"query": "lumen", "limit": 25}
            found = sidecar.result("search_hf_models", ask)
            if len(found["models"]) != 25:
                raise AssertionError(f"{len(found['models'])} of 25 models were found")
            cold = len(hub.requests)
            health = [_took(sidecar, "health_check", {}) for _ in range(calls)]
            warm = [_took(sidecar, "search_hf_models", ask) for _ in range(calls)]
            show = {"repo_id": found["models"][0]["repoId"], "card": False}
            sidecar.result("get_hf_model", show)
            shown = [_took(sidecar, "get_hf_model", show) for _ in range(calls)]
            asked = len(hub.requests) - cold
        finally:
            sidecar.close()
    limit = run.pick(full=2.0, quick=2.0, tiny=1000.0)
    return [
        Row("hub: requests for a cold search", cold, "", at_most=1),
        Row("hub: warm search of 25, median", statistics.median(warm) * 1000, "ms", at_most=limit),
        Row("hub: the same without the call itself (health_check)", _more(warm, health) * 1000, "ms", at_most=limit),
        Row("hub: warm repository of 15 files, median", statistics.median(shown) * 1000, "ms"),
        Row("hub: requests for all that was warm, and one repository", asked, "", at_most=1),
    ]


def make_content() -> HubContent:
    """Thirty repositories that a search finds, as publishers of quantisations make them."""
    repos: list[Repo] = []
    for number in range(30):
        repo = Repo(
            f"works{number}/Lumen-{number}B-Instruct-GGUF",
            "text-generation",
            "gguf",
            "apache-2.0",
            tags=("gguf", "llama", "conversational", "en"),
            downloads=1000 - number,
        )
        names = [f"Lumen-{number}B-Instruct-{quant}.gguf" for quant in QUANTS]
        repo.commit({name: name.encode() for name in (*names, "README.md", "config.json", ".gitattributes")})
        repos.append(repo)
    return HubContent.of(*repos)


def _took(sidecar: running.Sidecar, method: str, params: dict[str, object]) -> float:
    began = time.perf_counter()
    sidecar.result(method, params)
    return time.perf_counter() - began


def _more(times: list[float], than: list[float]) -> float:
    return max(0.0, statistics.median(times) - statistics.median(than))
