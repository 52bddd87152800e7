"""Trees of many games in flat arrays, searched together: the compiled parts.

Each node holds, for every action: the logit of the policy, how often it was tried, the sum of the values
found (through the eyes of the side to move there, -1 a loss, 1 a win), and the node it leads to. `started`
counts tries with those whose value is still awaited, at a root those of the plan under way; where nothing is
ever awaited it is `tried` itself. The choices are those of Gumbel AlphaZero (Danihelka, Guez, Schrittwieser
and Silver 2022, "Policy improvement by planning with Gumbel"): sigma(q) = (VISIT + most visits) * SCALE * q
(eq. 8), values completed by the mixed value of the untried (eq. 33), inside the tree the action whose share
of visits is furthest behind the improved policy (eq. 14).
"""

from __future__ import annotations

import numpy as np

from workloads.go.compiling import compiled

FAR = np.float32(-1e9)  # the logit of what may not be played
VISIT, SCALE = 50.0, 1.0  # the paper's, for values between 0 and 1
NOWHERE = -1


@compiled
def improve(logits, tried, total, value, out):
    """Logits of the improved policy of one node into `out` [A]: logits + sigma(completed q). `value`: the
    network's for the node."""
    most = 0.0
    count = 0.0
    top = np.float32(-np.inf)
    for a in range(len(logits)):
        count += tried[a]
        most = max(most, float(tried[a]))
        top = max(top, logits[a])
    mixed = float(value)
    if count > 0:
        share = 0.0
        weighed = 0.0
        for a in range(len(logits)):
            if tried[a] > 0:
                weight = np.exp(float(logits[a] - top)) + 1e-12
                share += weight
                weighed += weight * total[a] / tried[a]
        mixed = (value + count * weighed / share) / (1 + count)
    for a in range(len(logits)):
        if logits[a] <= FAR:
            out[a] = FAR
        else:
            q = total[a] / tried[a] if tried[a] > 0 else mixed
            out[a] = logits[a] + (VISIT + most) * SCALE * (q + 1) / 2


@compiled
def best_at_root(logits, tried, started, total, value, noise, wanted, work):
    """The action with the highest noise + improved logit among those started `wanted` times."""
    improve(logits, tried, total, value, work)
    best, found = np.float64(-np.inf), NOWHERE
    for a in range(len(logits)):
        if logits[a] > FAR and started[a] == wanted and work[a] + noise[a] > best:
            best, found = work[a] + noise[a], a
    return found


@compiled
def best_inside(logits, tried, started, total, value, work):
    improve(logits, tried, total, value, work)
    top = np.float32(-np.inf)
    count = 1.0
    for a in range(len(logits)):
        top = max(top, work[a])
        count += started[a]
    weights = 0.0
    for a in range(len(logits)):
        work[a] = np.exp(work[a] - top) if logits[a] > FAR else 0.0
        weights += work[a]
    best, found = np.float64(-np.inf), NOWHERE
    for a in range(len(logits)):
        if logits[a] > FAR:
            behind = work[a] / weights - started[a] / count
            if behind > best:
                best, found = behind, a
    return found


@compiled
def descend(logits, tried, started, total, child, value, roots, noise, wanted, path, moves, depth):
    """From each root [N] to an action that leads nowhere yet, or to a node where the game is done. Writes the
    nodes and actions on the way, int32 [N, deepest]; `depth` [N]: how many."""
    work = np.empty(logits.shape[1], np.float32)
    for tree in range(len(roots)):
        node = roots[tree]
        steps = 0
        while steps < path.shape[1]:
            if steps == 0:
                action = best_at_root(
                    logits[node],
                    tried[node],
                    started[node],
                    total[node],
                    value[node],
                    noise[tree],
                    wanted[tree],
                    work,
                )
            else:
                action = best_inside(logits[node], tried[node], started[node], total[node], value[node], work)
            if action == NOWHERE:  # the game is done here
                break
            path[tree, steps], moves[tree, steps] = node, action
            steps += 1
            node = child[node, action]
            if node == NOWHERE:
                break
        depth[tree] = steps


@compiled
def back_up(tried, total, path, moves, depth, found):
    """`found` [N]: the value at the end of each path, for the side to move there."""
    for tree in range(len(depth)):
        value = found[tree]
        for step in range(depth[tree] - 1, -1, -1):
            value = -value
            tried[path[tree, step], moves[tree, step]] += 1
            total[path[tree, step], moves[tree, step]] += value


@compiled
def conclude(logits, tried, started, total, value, roots, noise, improved, action):
    """Each root's improved logits, and of its actions started most the best by noise and improved logit."""
    for tree in range(len(roots)):
        root = roots[tree]
        improve(logits[root], tried[root], total[root], value[root], improved[tree])
        most = 0
        for a in range(logits.shape[1]):
            most = max(most, started[root, a])
        action[tree] = best_at_root(
            logits[root],
            tried[root],
            started[root],
            total[root],
            value[root],
            noise[tree],
            most,
            np.empty_like(improved[tree]),
        )
