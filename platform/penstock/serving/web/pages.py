"""The page at /docs: every model with a command that works. One file, no script, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment

from penstock.serving.served import Served

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Penstock</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow: auto; padding: .8rem; border: 1px solid #8885; border-radius: .4rem; font-size: .85rem; }
code, pre { font-family: ui-monospace, monospace; }
td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top; }
</style></head><body>
<h1>Penstock</h1>
<p>{{ models | length }} model{{ "" if models | length == 1 else "s" }} behind one endpoint.
The same as data: <a href="openapi.json">openapi.json</a>, <a href="v1/models">v1/models</a>.
Errors are <code>application/problem+json</code>.</p>
{% for model in models %}
<h2 id="{{ model.name }}">{{ model.name }}@{{ model.version }}</h2>
<p>{{ model.summary }}</p>
<pre>curl {{ model.url }} -H 'Content-Type: application/json' -d '{{ model.curl }}'</pre>
{% for kind in model.kinds %}
<pre>curl {{ model.url }} -H 'Content-Type: {{ kind }}' --data-binary @FILE</pre>
{% endfor %}
<table><tr><th>field</th><th>type</th><th></th></tr>
{% for field in model.fields %}
<tr><td><code>{{ field.name }}</code></td><td>{{ field.type }}</td><td>{{ field.description }}</td></tr>
{% endfor %}</table>
{% endfor %}
</body></html>
"""


def docs(models: Sequence[Served], base: str) -> str:
    """HTML; `base`: the URL by which the reader came."""
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(models=[_view(model, base) for model in models])


def _view(model: Served, base: str) -> dict[str, Any]:
    properties = model.workload.request.model_json_schema().get("properties", {})
    return {
        "name": model.name,
        "version": model.version,
        "url": f"{base}/v1/models/{model.name}/predict",
        "summary": model.workload.summary,
        # in the shell's single quotes, a quote is written '\''
        "curl": json.dumps(model.example).replace("'", "'\\''"),
        "kinds": sorted({kind for field in model.media.values() for kind in field.types}),
        "fields": [
            {
                "name": name,
                "type": field.get("contentMediaType") or field.get("type", ""),
                "description": field.get("description", ""),
            }
            for name, field in properties.items()
        ],
    }
