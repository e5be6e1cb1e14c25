"""Make state dicts in the layouts of earlier models, for tests: from torch's own layers, with random weights."""

from typing import Any

from shared.families.libraries import library


def v5_nhits(features: int = 18, hidden: int = 128) -> dict[str, Any]:
    """20 tensors: ``stacks.{0-3}.{0,3}``, ``fc.{0,3}``."""
    nn = library("torch").nn
    stacks = [_block(nn, features if not number else hidden, hidden) for number in range(4)]
    return _named(nn, {"stacks": nn.ModuleList(stacks), "fc": _head(nn, hidden)})


def v5_patchtst(features: int = 18, width: int = 128) -> dict[str, Any]:
    """54 tensors: ``embedding``, ``transformer.layers.{0-3}``, ``fc.{0,3}``."""
    nn = library("torch").nn
    parts = {"embedding": nn.Linear(features, width), "transformer": _encoder(nn, width, 8, 4), "fc": _head(nn, width)}
    return _named(nn, parts)


def v3_transformer(features: int = 23, width: int = 128) -> dict[str, Any]:
    """An input layer, two encoder layers with GELU, a normalisation, three outputs."""
    nn = library("torch").nn
    encoder = _encoder(nn, width, 4, 2, feedforward=256, activation="gelu")
    parts = {"input_proj": nn.Linear(features, width), "encoder": encoder}
    return _named(nn, {**parts, "norm": nn.LayerNorm(width), "head": nn.Linear(width, 3)})


def v2_patches(features: int = 8, width: int = 128, steps: int = 128, patch: int = 16) -> dict[str, Any]:
    """Patches of a window, positions, three encoder layers, one output."""
    torch = library("torch")
    nn = torch.nn
    parts = {
        "patch_embed": nn.Linear(features * patch, width),
        "encoder": _encoder(nn, width, 4, 3, feedforward=256),
        "classifier": nn.Linear(width, 1),
    }
    found = _named(nn, parts)
    return {"pos_embed": torch.randn(1, steps // patch, width) * 0.02, **found}


def _named(nn: Any, parts: dict[str, Any]) -> dict[str, Any]:
    whole = nn.Module()
    for name, module in parts.items():
        setattr(whole, name, module)
    return {name: tensor.clone() for name, tensor in whole.state_dict().items()}


def _block(nn: Any, wide: int, hidden: int) -> Any:
    return nn.Sequential(
        nn.Linear(wide, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.1)
    )


def _head(nn: Any, wide: int) -> Any:
    return nn.Sequential(nn.Linear(wide, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 3))


def _encoder(nn: Any, width: int, heads: int, layers: int, feedforward: int = 512, activation: str = "relu") -> Any:
    layer = nn.TransformerEncoderLayer(width, heads, feedforward, activation=activation, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
