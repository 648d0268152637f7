"""Pumas: the sidecar that finds, stores, verifies and searches AI models.

`app.py` builds the running program; every other package is one domain or one door to the outside.
"""

__version__ = "0.1.0"
