"""What a model file is, read from its own bytes.

`detect` names the container, `identify` the model inside it, `embedded` shows what the file says about itself, `shards`
groups the parts of one model, `quantization` reads names. Everything here is synchronous and bounded (bytes, elements,
processor time), made to be called from worker threads on files that nobody has vouched for. Nothing here imports a
model library, loads a pickle, maps a file into memory, or knows about the index, jobs or the wire.
"""
