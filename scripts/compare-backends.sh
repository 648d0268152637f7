#!/usr/bin/env bash
# Ask both backends the same and compare every reply and every file: see --help.
exec "$(dirname "$0")/../launcher" compare "$@"
