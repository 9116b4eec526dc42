#!/usr/bin/python3
"""Judges files with ONNX's own checker, full shape inference included: check_onnx.py [FILE | --same A B]...

--same A B: whether B has A's operators, attributes and constants, to the bit. Exits with 77 where python3-onnx is not
installed."""

import sys

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError:
    sys.exit(77)


def bits(tensor):
    array = numpy_helper.to_array(tensor)
    return str(array.dtype), array.shape, array.tobytes()


def essence(model):
    """What decides the outputs: everything but names of nodes, documentation and the way numbers are stored."""

    def value(attribute):
        found = helper.get_attribute_value(attribute)
        return bits(found) if isinstance(found, onnx.TensorProto) else found

    graph = model.graph
    constants = {t.name: bits(t) for t in graph.initializer}
    nodes = sorted(
        (list(n.output), n.op_type, n.domain, list(n.input), sorted((a.name, value(a)) for a in n.attribute))
        for n in graph.node)
    inputs = [i.SerializeToString() for i in graph.input if i.name not in constants]
    outputs = [o.SerializeToString() for o in graph.output]
    return nodes, constants, inputs, outputs, sorted((o.domain, o.version) for o in model.opset_import)


def main():
    arguments = iter(sys.argv[1:])
    for name in arguments:
        if name == "--same":
            pair = next(arguments), next(arguments)
            a, b = (essence(onnx.load(name)) for name in pair)
            if a != b:
                sys.exit("{} and {} do not compute the same".format(*pair))
        else:
            onnx.checker.check_model(name, full_check=True)


main()
