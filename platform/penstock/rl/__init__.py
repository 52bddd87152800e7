"""RLlib around a workload's agent: the only place that imports ray.rllib. `learn` is the way in."""

from penstock.rl.driver import learn

__all__ = ["learn"]
