#!/usr/bin/env python3
"""Draws the dashboards of terraform/modules/observability as pictures, without Grafana.

    docs/operations/render-dashboards.py --prometheus URL --region REGION --span MINUTES --to FOLDER

Asks Prometheus for each panel's query, as Grafana does, and writes one PNG a dashboard. To see after a change that
graphs show what their titles say, where no Grafana is at hand; thresholds, mappings and links are not drawn.
Needs matplotlib.
"""

import argparse
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt

DASHBOARDS = Path(__file__).parent / "../../terraform/modules/observability/dashboards"
COLUMNS = 3
# Grafana's panels are as wide as the screen; so many points fit.
POINTS = 240
# What Grafana takes for $__rate_interval at 15 s between scrapes.
RATE_INTERVAL = "1m"


def ask(prometheus, path, **query):
    """Series of a query: [(labels, [(second, value)])]."""
    try:
        with urlopen(f"{prometheus}/api/v1/{path}?{urlencode(query)}") as answer:
            result = json.load(answer)["data"]["result"]
    except HTTPError as error:
        sys.exit(f"Prometheus refuses {query['query']}: {error.read().decode()}")
    return [(one["metric"], one.get("values") or [one["value"]]) for one in result]


def legend(template, labels):
    return re.sub(r"{{\s*(\w+)\s*}}", lambda name: labels.get(name[1], ""), template or str(labels))


def draw(axes, panel, prometheus, region, span):
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    axes.set_title(f"{panel['title']} [{unit}]", fontsize=9)
    now = time.time()
    shown = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$region", region)
        if target.get("instant"):
            series = ask(prometheus, "query", query=query)
        else:
            series = ask(
                prometheus, "query_range", query=query, start=now - span, end=now, step=max(1, span / POINTS)
            )
        shown += [(legend(target.get("legendFormat"), labels), points) for labels, points in series]
    if not shown:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="grey")
    if panel["type"] == "stat":
        axes.axis("off")
        text = "\n".join(f"{name}: {float(points[-1][1]):g}" for name, points in shown)
        axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=13)
        return
    drawn_as = "steps-post" if panel["type"] == "state-timeline" else "default"
    for name, points in shown:
        times = [datetime.fromtimestamp(float(second)) for second, _ in points]
        values = [float(value) for _, value in points]
        axes.plot(times, values, label=name, drawstyle=drawn_as)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)
    axes.set_xlim(datetime.fromtimestamp(now - span), datetime.fromtimestamp(now))
    low, high = axes.get_ylim()
    axes.set_ylim(bottom=min(0, low), top=high + 0.1 * abs(high))
    if shown:
        axes.legend(fontsize=6, loc="upper left")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--prometheus", required=True, help="its address, as http://127.0.0.1:9090")
    arguments.add_argument("--region", required=True, help="what stands for the variable $region")
    arguments.add_argument("--span", type=float, default=15, help="minutes up to now (15)")
    arguments.add_argument("--to", type=Path, required=True, help="folder for the pictures")
    given = arguments.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    for path in sorted(DASHBOARDS.glob("*.json")):
        panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
        rows = -(-len(panels) // COLUMNS)
        figure, grid = plt.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 2.6 * rows), squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.axis("off")
        for axes, panel in zip(grid.flat, panels):
            # `$region` of dashboards over all regions is a pattern.
            region = ".*" if path.stem != "region" else given.region
            draw(axes, panel, given.prometheus, region, given.span * 60)
        figure.tight_layout()
        figure.savefig(given.to / f"{path.stem}.png", dpi=70)
        print(given.to / f"{path.stem}.png")


if __name__ == "__main__":
    main()
