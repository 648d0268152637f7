"""One lossless stream of what happens: a global cursor, topics, replay, and bounded memory."""
