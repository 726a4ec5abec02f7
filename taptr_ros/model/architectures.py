"""Which configuration describes which network, and how both are written down."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from taptr_ros.errors import InvalidConfigError
from taptr_ros.model.config import ModelConfig
from taptr_ros.model.small_config import SmallConfig
from taptr_ros.model.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from taptr_ros.model.decoder import DecoderInput
    from taptr_ros.model.sampling import Form

T = TypeVar("T")

Config = ModelConfig | SmallConfig
"""The configuration of any network."""

ARCHITECTURES: dict[str, type[ModelConfig] | type[SmallConfig]] = {"taptrv3": ModelConfig, "small": SmallConfig}
"""Names of the architectures in model files. A configuration that names none is of the first."""


class Network(Protocol):
    """What backends and export use of a network; N points, D channels."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the parameters and buffers by name."""

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map an RGB image [height,width,3], 0..255, to its features, of shapes `Config.feature_shapes`."""

    def features(self, encoded: Sequence[Tensor]) -> Any:
        """Make what `encode` returned ready for being sampled by `init_queries` and `decode`."""

    def init_queries(self, features: Any, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return content [N,D], context [N,3,3,context_dim] and state [N,state_dim] of new points at `xy` [N,2]."""

    def decode(self, features: Any, tracks: DecoderInput) -> Any:
        """Find the tracks; the output has at least `state` [N,state_dim] and `content` [N,D]."""

    def estimates(self, output: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit coordinates [N,2], visibility [N] and confidence [N] of what `decode` returned."""

    def prepare_for_inference(self) -> Network:
        """Fold the norms, lay the convolutions out for speed and drop the gradients; returns self."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As in `torch.nn.Module`."""

    def to(self, device: Any) -> Network:
        """As in `torch.nn.Module`."""


def build_network(config: Config, form: Form = "grid") -> Network:
    """Return the network of `config` with random weights; `form` is that of `TaptrNetwork`."""
    if isinstance(config, SmallConfig):
        from taptr_ros.model.small_network import SmallNetwork

        return SmallNetwork(config)
    from taptr_ros.model.network import TaptrNetwork

    return TaptrNetwork(config, form)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values, for the header of a model file or a manifest."""
    architecture = next(name for name, kind in ARCHITECTURES.items() if isinstance(config, kind))
    return {"architecture": architecture, **dataclasses.asdict(config)}


def config_from_dict(fields: object) -> Config:
    """Parse what `config_to_dict` wrote; raises `InvalidConfigError` on anything else."""
    if not isinstance(fields, dict):
        raise InvalidConfigError("The model's config is not a JSON object; export or convert the model again.")
    fields = dict(fields)
    architecture = fields.pop("architecture", next(iter(ARCHITECTURES)))
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise InvalidConfigError(
            f"The model's architecture is {architecture!r}, not one of {', '.join(ARCHITECTURES)}; "
            "another version of taptr_ros made it."
        )
    kind = ARCHITECTURES[architecture]
    if "tuning" in fields:
        fields["tuning"] = _from_fields(Tuning, fields["tuning"])
    return _from_fields(kind, fields)


def _from_fields(kind: type[T], fields: Any) -> T:
    """Return the dataclass `kind` with these fields; raises `InvalidConfigError` for those that it does not have."""
    if not isinstance(fields, dict):
        raise InvalidConfigError(f"The model's {kind.__name__} is {fields!r:.80}; use its entries by name.")
    known = {field.name for field in dataclasses.fields(cast(Any, kind))}
    if unknown := sorted(set(fields) - known):
        raise InvalidConfigError(
            f"The model's config has unknown entries {', '.join(unknown)}; another version of taptr_ros made it."
        )
    return kind(**fields)


def config_to_json(config: Config) -> str:
    """Return the configuration as a JSON object."""
    return json.dumps(config_to_dict(config), sort_keys=True)


def config_from_json(text: str) -> Config:
    """Parse what `config_to_json` wrote; raises `InvalidConfigError` on anything else."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidConfigError(
            f"The model's config is not valid JSON ({error}); export or convert it again."
        ) from error
    return config_from_dict(fields)
