"""One endpoint in front of every published model.

server     starts and stops the whole; following: whether an endpoint has got to a version
front      what every path to a model shares; attempts, memory: second chances, what was answered lately
body       bytes from strangers -> the values of a request; limits, problems, metrics
served     a model as the front knows it; example, calls: what it is tried with, the seam to what runs it
versions/  which version answers what, and when another takes its place
web/       the paths, what every request passes first, keys, the page, other protocols
on_ray/    gateways, replicas, slots and batches under Ray Serve; HAProxy
"""
