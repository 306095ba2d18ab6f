"""Split AI/ML operation (TS 23.482 8.14) in the SDK: `node` runs parts of models, `pipeline` sends inputs through them.

Nodes need onnxruntime (extra `split`); who only uses a pipeline does not.
"""
