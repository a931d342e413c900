"""What tokens cost. A price that is not known is None, never 0; offline answers are free."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.providers import PROVIDERS
from pipeline.specs import ModelSpec
from tracker.fingerprint import Json


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, and where that is from."""

    input_per_mtok: float
    output_per_mtok: float
    source: str

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars for one answer."""
        return (prompt_tokens * self.input_per_mtok + completion_tokens * self.output_per_mtok) / 1e6

    def to_json(self) -> Json:
        return asdict(self)


def price_of(model: ModelSpec) -> Price | None:
    """The price of a resolved model's tokens: the config's, else the list's, else None.

    The list knows a provider's own service; behind another address the same model name has no known price.
    """
    if model.price is not None:
        return Price(model.price.input_per_mtok, model.price.output_per_mtok, "config")
    if model.provider == "offline":
        return Price(0.0, 0.0, "offline")
    if model.provider is None or model.endpoint != PROVIDERS[model.provider]["url"]:
        return None
    import importlib.metadata

    from genai_prices import Usage, calc_price

    try:
        one_input = calc_price(Usage(input_tokens=1), model_ref=model.model, provider_id=model.provider)
        one_output = calc_price(Usage(output_tokens=1), model_ref=model.model, provider_id=model.provider)
    except LookupError:
        return None
    version = importlib.metadata.version("genai-prices")
    return Price(float(one_input.total_price) * 1e6, float(one_output.total_price) * 1e6, f"genai-prices {version}")
