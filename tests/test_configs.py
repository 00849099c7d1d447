"""Configurations in JSON: what is no value of a field is named, and nothing else is refused."""

import dataclasses
import json
from typing import Literal

import pytest

from aeot_jax import Config, SolverConfig
from aeot_jax.checkpoints import configs
from aeot_jax.storage.records import NewerError


@dataclasses.dataclass(frozen=True)
class Part:
    count: int
    share: float | None = None
    name: Literal["a", "b"] = "a"
    flag: bool = False


GOOD = {"count": (0, -3, 2**62), "share": (None, 1, 0.5, float("inf")), "name": "ab"}
BAD = {
    "count": (None, True, 1.0, "1", [], {}, 2**63),
    "share": (True, "0.5", [], {}, float("nan"), 10**400),
    "name": (None, "c", 1, ["a"], ""),
    "flag": (None, 0, 1, "true"),
}


@pytest.mark.parametrize("name", GOOD)
def test_values_of_the_type_are_taken(name):
    for value in GOOD[name]:
        tree = {"count": 1, name: value}
        found = configs.from_json(Part, tree, "part")
        assert found == Part(**{**tree, name: float(value) if name == "share" and value else value})
        assert isinstance(found.share, float | None)


@pytest.mark.parametrize("name", BAD)
def test_values_of_another_type_are_named(name):
    for value in BAD[name]:
        with pytest.raises(ValueError, match=rf"`part\.{name}` is .*, not "):
            configs.from_json(Part, {"count": 1, name: value}, "part")


@pytest.mark.parametrize("tree", [None, [], "x", 3])
def test_what_is_no_object_is_named(tree):
    with pytest.raises(ValueError, match=r"`part` is .*, not an object"):
        configs.from_json(Part, tree, "part")


def test_what_is_missing_has_its_default_or_is_named():
    assert configs.from_json(Part, {"count": 2}, "part") == Part(2)
    with pytest.raises(ValueError, match="`part` has no `count`"):
        configs.from_json(Part, {}, "part")
    with pytest.raises(ValueError, match="its configuration has no `extension`"):
        configs.config_from_json({"autoencoder": {}, "training": {}})


def test_an_option_that_is_not_known_is_of_another_version():
    tree = configs.config_to_json(Config())
    tree["solver"]["momentum"] = 0.9
    sentence = r"the option 'config\.solver\.momentum', which version .* wrote it \('7\.0'\)"
    with pytest.raises(NewerError, match=sentence):
        configs.config_from_json(tree, "7.0")


def test_every_configuration_survives_json():
    for config in (Config(), Config(source="ball", solver=SolverConfig(time_limit=9.0))):
        text = json.dumps(configs.config_to_json(config))
        assert configs.config_from_json(json.loads(text)) == config
