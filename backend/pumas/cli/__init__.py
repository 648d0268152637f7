"""The `pumas` command. Everything it does goes through `pumas.client`; only `serve` and `doctor` look at the root."""
