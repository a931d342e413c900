"""curator's part of ``benchmarks.engine``, run by a Python that has bespokelabs-curator; it prints one line of JSON.

Telemetry, its cache and its display are off, its request and token limits are raised out of the way. Where tiktoken
cannot download its table, one of the same size stands in for it: curator counts tokens before it sends.
"""

# mypy: ignore-errors
# (it runs in an environment of its own, whose packages mypy does not see)

import contextlib
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def measured(base_url: str, prompts: list[str], in_flight: int) -> dict[str, object]:
    import tiktoken

    try:
        tiktoken.get_encoding("cl100k_base")
    except Exception:  # noqa: BLE001  whatever the download fails with, the stand-in is used
        ranks = {bytes([byte]): byte for byte in range(256)}
        ranks |= {b"\xff" + number.to_bytes(3, "big"): 256 + number for number in range(100_000)}
        words = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s+"""
        stand_in = tiktoken.Encoding("stand-in", pat_str=words, mergeable_ranks=ranks, special_tokens={})
        tiktoken.get_encoding = lambda _: stand_in
    from bespokelabs import curator

    llm = curator.LLM(
        model_name="test-model",
        backend="openai",
        backend_params={
            "base_url": base_url,
            "api_key": "test-key",
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": in_flight,
        },
    )
    wall, cpu = time.perf_counter(), time.process_time()
    answers = llm(prompts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    answers = getattr(answers, "dataset", answers)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": wall,
        "cpu_s": cpu,
        "peak_mb": int(peak.split()[1]) / 1024,
        "answered": len(answers),
        "version": f"bespokelabs-curator {version('bespokelabs-curator')}",
    }


def bytes_below(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


if __name__ == "__main__":
    options = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {
            "TELEMETRY_ENABLED": "0",
            "CURATOR_DISABLE_CACHE": "1",
            "CURATOR_CACHE_DIR": cache,
            "CURATOR_DISABLE_RICH_DISPLAY": "1",
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        with contextlib.redirect_stdout(sys.stderr):
            before = bytes_below(Path(cache))
            result = measured(options["base_url"], options["prompts"], options["in_flight"])
            result["bytes"] = bytes_below(Path(cache)) - before
    print(json.dumps(result))
