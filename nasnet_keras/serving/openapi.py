"""What is served, in the words of OpenAPI: for one model, with its own inputs and outputs."""

from urllib.parse import quote

KINDS = {"float32": {"type": "number"}, "uint8": {"type": "integer", "minimum": 0, "maximum": 255}}
# Of a SavedModel's outputs, as `google.protobuf` names them; NaN and infinity become null.
OUTPUTS = {"DT_STRING": {"type": "string"}, "DT_FLOAT": {"type": ["number", "null"]}}
FILE = {"type": "string", "contentMediaType": "application/octet-stream", "minLength": 1}
BASE64 = {
    "type": "object",
    "properties": {"b64": {"type": "string", "description": "an image file in base64", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
ERRORS = {
    400: "the request is wrong; the text says where",
    401: "the key is missing, or another one",
    404: "no such model, version or address",
    405: "the address takes no such method",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is compressed",
    421: "the server has no such name as `Host` says",
    503: "the model is loading, or the queue is full: try again after `Retry-After` seconds",
}


def description(name, servable, limits, access):
    """The OpenAPI 3.1 document of a server, as a dict.

    Args:
        name: the model's name in addresses.
        servable: the `servable.Servable` that is served.
        limits: a `limits.Limits`.
        access: an `access.Access`.
    """
    codes = [code for code in ERRORS if code not in (401, 421)]
    codes += [401] if access.key else []
    codes += [421] if access.hosts is not None else []
    model = f"/v1/models/{quote(name)}"
    version = f"{model}/versions/{servable.version}"
    predict = {
        "summary": "Classes of images",
        "requestBody": _requests(servable, limits),
        "responses": {"200": _json("a prediction for each row", _answers(servable)), **_errors(codes)},
    }
    state = {
        "summary": "Which versions there are, and in which state",
        "responses": _object("states", codes),
    }
    signatures = {"summary": "The signatures", "responses": _object("signatures", codes)}
    health = {
        "summary": "Whether predictions are given",
        "responses": _object("yes", codes) | {"503": _json("not yet", {"type": "object"})},
    }
    metrics = {"200": {"description": "metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    paths = {
        f"{model}:predict": {"post": predict},
        f"{version}:predict": {"post": predict},
        model: {"get": state},
        version: {"get": state},
        f"{model}/metadata": {"get": signatures},
        f"{version}/metadata": {"get": signatures},
        "/healthz": {"get": health},
        "/livez": {"get": {"summary": "Whether the process answers", "responses": _object("yes", codes)}},
        "/metrics": {"get": {"summary": "Prometheus' metrics", "responses": metrics | _errors(codes)}},
        "/openapi.json": {"get": {"summary": "This description", "responses": _object("this", codes)}},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": f"nasnet-keras serve: {name}", "version": str(servable.version)},
        "paths": paths,
        "components": {"schemas": {"Error": _object_of({"error": {"type": "string"}})}},
    }
    if access.key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for what in access.open:
            for address in {"health": ("/healthz", "/livez"), "metrics": ("/metrics",)}[what]:
                paths[address]["get"]["security"] = []
    return document


def _requests(servable, limits):
    forms, files = [], False
    for name, specs in servable.signatures.items():
        rows = {key: _row(spec) for key, spec in specs.items()}
        files |= [spec.kind for spec in specs.values()] == ["string"]
        instance, inputs = _object_of(rows), _object_of({key: _rows(row, limits) for key, row in rows.items()})
        if len(rows) == 1:
            (row,) = rows.values()
            instance, inputs = {"anyOf": [row, instance]}, {"anyOf": [_rows(row, limits), inputs]}
        signature = {"signature_name": {"const": name}}
        for key, value in (("instances", _rows(instance, limits)), ("inputs", inputs)):
            forms.append({"type": "object", "properties": {**signature, key: value}, "required": [key]})
            if name != "serving_default":
                forms[-1]["required"].append("signature_name")
    content = {"application/json": {"schema": {"anyOf": forms}}}
    if files:
        form = _object_of({"image": _rows(FILE, limits)})
        content |= {"multipart/form-data": {"schema": form}}
        content |= {kind: {"schema": FILE} for kind in ("image/*", "application/octet-stream")}
    return {"required": True, "content": content}


def _answers(servable):
    """Of each signature in row form and in column form: an output by itself where there is one alone."""
    forms = []
    for signature in servable.metadata.values():
        rows = {key: _output(key, output) for key, output in signature.get("outputs", {}).items()}
        columns = {key: {"type": "array", "items": row} for key, row in rows.items()}
        row, column = _object_of(rows), _object_of(columns)
        if len(rows) == 1:
            (row,), (column,) = rows.values(), columns.values()
        forms += [_object_of({"predictions": {"type": "array", "items": row}}), _object_of({"outputs": column})]
    return {"anyOf": forms}


def _row(spec):
    """One row of an input."""
    return BASE64 if spec.kind == "string" else _nested(KINDS[spec.kind], spec.shape)


def _output(key, output):
    """One row of an output; what is called `…_bytes` is sent in base64."""
    sizes = [int(dimension["size"]) for dimension in output["tensor_shape"]["dim"][1:]]
    value = BASE64 if key.endswith("_bytes") else OUTPUTS.get(output["dtype"], {})
    return _nested(value, [None if size < 0 else size for size in sizes])


def _nested(value, shape):
    for size in reversed(shape):
        value = {"type": "array", "items": value, **({} if size is None else {"minItems": size, "maxItems": size})}
    return value


def _rows(row, limits):
    return {"type": "array", "items": row, "minItems": 1, "maxItems": limits.queue}


def _object_of(properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def _object(what, codes):
    return {"200": _json(what, {"type": "object"}), **_errors(codes)}


def _json(what, schema):
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _errors(codes):
    schema = {"$ref": "#/components/schemas/Error"}
    return {str(code): _json(ERRORS[code], schema) for code in codes}
