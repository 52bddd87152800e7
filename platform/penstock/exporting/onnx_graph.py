"""One network as an ONNX graph: torch's exporters around it, onnxruntime beneath it.

What a graph is called with is a list of arrays in the order of `Graph.inputs`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.errors import PenstockError
from penstock.graphs import Graph

OPSET = 20
RECORDED_OPSET = 17  # the last that the older exporter knows well
BATCH = "batch"

Arrays = list[NDArray[Any]]


def to_onnx(graph: Graph, example: Sequence[NDArray[Any]]) -> bytes:
    """The file of `graph`, derived with `example` as its input; PenstockError with the exporter's own reason
    where it cannot be."""
    inputs = tuple(torch.from_numpy(array) for array in example)
    moving = [words(shape) for shape in graph.inputs.values()]
    given: dict[str, Any] = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
    if graph.recorded:
        given |= {"dynamo": False, "opset_version": RECORDED_OPSET, "dynamic_axes": dynamic_axes(graph)}
    else:
        given |= {"dynamo": True, "opset_version": OPSET, "dynamic_shapes": tuple(moving)}
        given |= {"external_data": False, "verbose": False}
    file = io.BytesIO()
    try:
        with silence(), torch.no_grad():
            torch.onnx.export(graph.module, inputs, file, **given)  # type: ignore[arg-type]  # may be one
    except Exception as error:  # whatever a library's insides have to say
        raise PenstockError(f"torch's exporter: {last_line(error)}") from error
    return anonymous(file.getvalue())


def words(shape: Sequence[int | str]) -> dict[int, str]:
    """Axis -> its name, of the axes of any length."""
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}


def dynamic_axes(graph: Graph) -> dict[str, dict[int, str]]:
    """For the older exporter, which has to be told of outputs, too."""
    return {name: words(shape) for name, shape in [*graph.inputs.items(), *graph.outputs.items()]}


def last_line(error: BaseException) -> str:
    """The cause, without the exporter's manual around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """torch's exporters think aloud; and the fused Transformer layers of inference have no counterpart."""
    fused, disabled = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fused)


def anonymous(raw: bytes) -> bytes:
    """The graph without the paths and stack traces of the machine that made it."""
    import onnx

    model = onnx.load_model_from_string(raw)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]
    for part in (model, model.graph, *model.functions, *nodes, *values):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class Session:
    """A graph in onnxruntime on the CPU, one thread, called with tensors as the module is."""

    def __init__(self, graph: Graph, raw: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.graph = graph
        self.inner = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        taken = {one.name for one in self.inner.get_inputs()}
        self.taken = [name in taken for name in graph.inputs]  # what no operation reads is left out

    def run(self, inputs: Sequence[NDArray[Any]]) -> Arrays:
        named = zip(self.graph.inputs, inputs, self.taken, strict=True)
        return list(self.inner.run(list(self.graph.outputs), {name: one for name, one, in_ in named if in_}))

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """In place of the module's `forward`."""
        arrays = self.run([np.ascontiguousarray(tensor.detach().cpu().numpy()) for tensor in tensors])
        found = tuple(torch.from_numpy(array) for array in arrays)
        return found if len(found) > 1 else found[0]

    def described(self) -> dict[str, Any]:
        """Opset, inputs and outputs with dtype and shape, as the file has them."""

        def each(ends: Sequence[Any], shapes: Mapping[str, Sequence[int | str]]) -> list[dict[str, Any]]:
            there = {end.name: end for end in ends}
            return [
                {
                    "name": name,
                    "dtype": there[name].type.removeprefix("tensor(").removesuffix(")"),
                    "shape": [
                        known if isinstance(known, int) else said
                        for known, said in zip(there[name].shape, shape, strict=True)
                    ],
                }
                for name, shape in shapes.items()
                if name in there
            ]

        return {
            "opset": RECORDED_OPSET if self.graph.recorded else OPSET,
            "inputs": each(self.inner.get_inputs(), self.graph.inputs),
            "outputs": each(self.inner.get_outputs(), self.graph.outputs),
        }


def resized(graph: Graph, inputs: Sequence[NDArray[Any]], axis: str, size: int) -> Arrays:
    """The inputs with an axis of any length at `size`: cut, or gone round again."""
    made = []
    for array, shape in zip(inputs, graph.inputs.values(), strict=True):
        for place, name in words(shape).items():
            if name == axis:
                array = np.take(array, np.arange(size) % max(array.shape[place], 1), axis=place)
        made.append(np.ascontiguousarray(array))
    return made


def length(graph: Graph, inputs: Sequence[NDArray[Any]], axis: str) -> int:
    """Of an axis of any length."""
    return next(
        int(array.shape[place])
        for array, shape in zip(inputs, graph.inputs.values(), strict=True)
        for place, name in words(shape).items()
        if name == axis
    )


def axes(graph: Graph) -> list[str]:
    """The names of the axes of any length, each once."""
    return list(dict.fromkeys(name for shape in graph.inputs.values() for name in words(shape).values()))
