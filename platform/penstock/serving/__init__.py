"""One endpoint in front of every published model.

door       what every request passes first: its id, size of its head, and a last resort for errors
body       bytes from strangers -> the values of a request
routes     the paths, as an ASGI application that knows no Ray: it is given a way to call a model
gateway    that application under Ray Serve, with handles to the models
batching   many requests, one call of a predictor
deployment one published model under Ray Serve, which answers its own example before any request
server     starts and stops the whole
"""
