"""What tokens cost: the config's price, else the list's, else nobody knows."""

from __future__ import annotations

import pytest

from pipeline.engine.prices import Price, price_of
from pipeline.specs import ModelSpec
from tests.generation import config


def model(*assignments: str) -> ModelSpec:
    return config(*assignments).generation


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(2.5, 10.0, "x").cost(1_000_000, 100_000) == 3.5
    assert Price(2.5, 10.0, "x").to_json() == {"input_per_mtok": 2.5, "output_per_mtok": 10.0, "source": "x"}


@pytest.mark.parametrize(
    ("name", "provider"),
    [("gpt-4o", "openai"), ("gpt-4o-mini", "openai"), ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "together")],
)
def test_the_list_is_asked_for_a_million_as_for_one(name: str, provider: str) -> None:
    from genai_prices import Usage, calc_price

    found = price_of(model(f"generation.model={name}"))
    assert found is not None
    usage = Usage(input_tokens=1_000, output_tokens=1_000)
    listed = calc_price(usage, model_ref=name, provider_id=provider)
    assert found.cost(1_000, 1_000) == pytest.approx(float(listed.total_price))
    assert found.cost(1_000, 1_000) > 0
    assert found.source.startswith("genai-prices ")


def test_the_configs_price_wins() -> None:
    found = price_of(model("generation.price={input_per_mtok: 0, output_per_mtok: 3}"))
    assert found == Price(0.0, 3.0, "config")


@pytest.mark.parametrize(
    "assignment",
    ["generation.model=gpt-99-unheard-of", "generation.base_url=http://127.0.0.1:9/v1", "generation.endpoint=lab"],
)
def test_a_price_that_nobody_knows_is_none(assignment: str) -> None:
    assert price_of(model(assignment)) is None


def test_offline_is_free() -> None:
    rules = model("generation.provider=offline", "generation.model=rules-v1", "validation=null")
    assert price_of(rules) == Price(0.0, 0.0, "offline")


def test_the_usual_address_written_out_has_the_same_price() -> None:
    assert price_of(model("generation.base_url=https://api.openai.com/v1/")) == price_of(model())
