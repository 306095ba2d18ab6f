"""Split AI/ML operation (TS 23.482 8.14): a neural network cut into parts that run on several nodes, one after another.

`joining` makes one ONNX model of those of several stages, `cutting` cuts it, `planner` decides which part runs where,
`nodes` speaks with the nodes, and `execution` measures, plans, deploys and keeps looking. Nothing here knows the APIs
or the stores of pipelines.
"""
