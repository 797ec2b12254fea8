"""Who may connect to the endpoint. Imports no jax: the command line is checked with it before that is loaded."""

from __future__ import annotations

import ipaddress
import os

from ml_collections import config_dict


def api_key(config: config_dict.ConfigDict) -> str:
    """The API key that clients must send, from the environment variable that serve.key_env names; "" for none.

    Raises ValueError if the variable is not set, or if there is no key although other machines can connect
    (serve.host).
    """
    c = config.serve
    if c.key_env:
        if not os.environ.get(c.key_env):
            raise ValueError(f"serve.key_env: the environment variable {c.key_env} is not set")
        return os.environ[c.key_env]
    try:
        local = c.host == "localhost" or ipaddress.ip_address(c.host).is_loopback
    except ValueError:  # a host name, not an address
        local = False
    if not local:
        raise ValueError(
            f"serve.host = {c.host!r} lets other machines connect: set serve.key_env to the name of the environment "
            "variable that holds an API key"
        )
    return ""
