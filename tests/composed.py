"""The configuration that a test wants, composed by Hydra once for each choice of options."""

import os
from copy import deepcopy
from functools import cache

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from runner import config
from runner.config import Config
from runner.folders import RESOURCES

_CONF = RESOURCES / "conf"


def composed(*overrides: str) -> Config:
    """The configuration with these overrides, as the environment stands.

    Hydra takes 0.1 s to compose, nearly all of it for the options' files. So a single value is put
    into a copy, in the way in which Hydra does it.
    """
    given = OverridesParser.create().parse_overrides(list(overrides))
    options = [override for override in given if (_CONF / override.key_or_group).is_dir()]
    whole = deepcopy(
        _chosen(os.environ.get("LLM_PROVIDER"), *(str(option.input_line) for option in options))
    )
    for override in given:
        if override not in options:
            key, added = override.key_or_group, override.is_add() or override.is_force_add()
            OmegaConf.update(whole, key, override.value(), force_add=added)
    return config.load(whole)


@cache
def _chosen(_: str | None, *options: str) -> DictConfig:
    """What the options say, with the environment's part left open, except for the LLM's name."""
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        return compose("config", overrides=list(options))
