"""Where in a network a node sits, from its ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

Values = Sequence[float]


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: tools that leave nodes out do it by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def take_bytes(model: onnx.ModelProto, gain: Values, offset: Values) -> None:
    """Have the model take pixels as bytes, and make of them what it took before.

    The input keeps its name and shape and becomes uint8; the model sees pixel * gain + offset, one
    value of each a plane.
    """
    graph = model.graph
    name = graph.input[0].name
    inner = f"{name} as float"
    for node in graph.node:
        node.input[:] = [inner if given == name else given for given in node.input]
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    nodes = [onnx.helper.make_node("Cast", [name], [inner], inner, to=onnx.TensorProto.FLOAT)]
    for kind, values, neutral in (("Mul", gain, 1.0), ("Add", offset, 0.0)):
        if any(value != neutral for value in values):
            constant = np.asarray(values, np.float32).reshape(1, len(values), 1, 1)
            label = f"{name} {kind}"
            graph.initializer.append(onnx.numpy_helper.from_array(constant, label))
            before = f"{inner} before {kind}"
            nodes[-1].output[0] = before
            nodes.append(onnx.helper.make_node(kind, [before, label], [inner], label))
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)


def after_last_convolution(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes from which no convolution is reached: decoding and what joins the heads.

    Names the nodes.
    """
    name_nodes(model)
    needed: set[str] = set()
    tail = []
    for node in reversed(model.graph.node):  # a graph is sorted: inputs come first
        if node.op_type == "Conv" or needed.intersection(node.output):
            needed.update(node.input)
        else:
            tail.append(node)
    return tail[::-1]


def convolutions(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int]]:
    """Each convolution with the stride of its output: input width / width of its output.

    Names the nodes. Raises ValueError where the input's or an output's width is not in the graph.
    """
    name_nodes(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    input_width = shapes[model.graph.input[0].name][-1]
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        width = (shapes.get(node.output[0]) or [0])[-1]
        if not width or not input_width:
            raise ValueError(f"the width of '{node.output[0]}' is not known: use a static shape")
        found.append((node, max(1, input_width // width)))
    return found


def prediction_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that write the predictions: no other one comes after them."""
    name_nodes(model)
    reaching: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" and not reaching.intersection(node.output):
            found.append(node.name)
        if node.op_type == "Conv" or reaching.intersection(node.output):
            reaching.update(node.input)
    return found[::-1]
