#!/usr/bin/env python3
"""What one operation costs: processor time, bytes between regions, bytes to clients, memory.

    whimbrel-node dev --data DIR                          # leave it running; three regions, fresh
    docs/performance/unit-costs.py --dev DIR [STEP]...    # steps: see --help

Processor time is user and system time of the regions' processes (/proc/PID/stat), for each call that
succeeded, above what they take at rest. On a busy machine all of it grows, by caches and hyperthreads: what counts is
how each compares with a post of the same run. Bytes between regions are those of the UDP datagrams on the loopback
interface, with their IP headers; counting them needs root, else they are left out. Standard library only.
"""

import argparse
import asyncio
import base64
import gzip
import json
import multiprocessing
import os
import random
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

STEPS = ["idle", "post", "wan", "calls", "token", "deliver", "streams"]
USERS, GROUPS = 64, 16
TICK = os.sysconf("SC_CLK_TCK")
WORDS = "the whimbrel is a wader that crosses oceans and flies straight through hurricanes on its way".split()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid):
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


class Wan:
    """Counts bytes of datagrams from and to the ports of the regions' links."""

    def __init__(self, ports):
        self.bytes = multiprocessing.Value("Q", 0)
        self.counts = os.geteuid() == 0 and hasattr(socket, "AF_PACKET")
        if self.counts:
            process = multiprocessing.Process(target=self.count, args=(set(ports),), daemon=True)
            process.start()

    def count(self, ports):
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        packets.bind(("lo", 0))
        head = bytearray(96)
        while True:
            # Says the whole size, and keeps the head only.
            size, address = packets.recvfrom_into(head, len(head), socket.MSG_TRUNC)
            # On the loopback interface each packet shows twice: going out, and coming in.
            if address[2] == socket.PACKET_OUTGOING or head[12:14] != b"\x08\x00" or head[23] != 17:
                continue
            ip = 14 + (head[14] & 15) * 4
            source, target = struct.unpack_from("!HH", head, ip)
            if source in ports or target in ports:
                with self.bytes.get_lock():
                    self.bytes.value += size - 14


class Cluster:
    def __init__(self, folder, whimbrel):
        self.folder, self.whimbrel = folder, whimbrel
        told = json.loads((folder / "dev.json").read_text())
        self.regions = {region["name"]: region for region in told["regions"]}
        self.names = list(self.regions)
        command = [whimbrel, "token", "--user", "bench", "--scope", "service", "--ttl", "1d", "--dev", str(folder)]
        self.token = subprocess.check_output(command, text=True).strip()
        self.wan = Wan(int(region["quic"].rsplit(":", 1)[1]) for region in told["regions"])

    def pids(self, name):
        return [node["pid"] for node in self.regions[name]["nodes"]]

    def cpu(self):
        return {name: sum(map(cpu_seconds, self.pids(name))) for name in self.names}

    def memory(self, name):
        return sum(map(resident_bytes, self.pids(name)))


class Line:
    """One connection that is kept."""

    async def open(self, cluster, region):
        url = urlsplit(cluster.regions[region]["url"])
        self.host, self.token = url.netloc, cluster.token
        self.reader, self.writer = await asyncio.open_connection(url.hostname, url.port)
        return self

    async def call(self, method, path, user=None, body=None, key=None, extra=""):
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Length: {len(data)}\r\n"
        )
        if user:
            head += f"Whimbrel-Act-As: {user}\r\n"
        if data:
            head += "Content-Type: application/json\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        self.writer.write((head + extra + "\r\n").encode() + data)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        if status == 101:
            return None
        length = re.search(rb"content-length: (\d+)", answer, re.I)
        content = await self.reader.readexactly(int(length[1]) if length else 0)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {content.decode()}")
        self.answer_bytes = len(answer) + len(content)
        cursor = re.search(rb"whimbrel-cursor: (\S+)", answer, re.I)
        self.cursor = cursor and cursor[1].decode()
        return content

    async def stream(self, user):
        key = base64.b64encode(random.randbytes(16)).decode()
        extra = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        await self.call("GET", "/v1/stream", user, extra=extra)

    async def listen(self, seen):
        """Reads frames and answers pings."""
        while True:
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            content = await self.reader.readexactly(size)
            if first & 15 == 9:
                self.writer.write(b"\x8a" + bytes([0x80 | size]) + bytes(4) + content)
            elif first & 15 == 1:
                seen[0] += 1
                seen[1] += size + 4
                self.last = content


class Measure:
    """Processor time and bytes between its start and its end."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.cpu = dict.fromkeys(cluster.names, 0.0)
        self.wan = self.seconds = self.count = 0

    def __enter__(self):
        self.began = (self.cluster.cpu(), self.cluster.wan.bytes.value, time.monotonic())
        return self

    def __exit__(self, *_):
        # What was accepted is applied elsewhere a little later.
        time.sleep(0.5)
        cpu, wan, at = self.began
        now = self.cluster.cpu()
        for name in self.cluster.names:
            self.cpu[name] += now[name] - cpu[name]
        self.wan += self.cluster.wan.bytes.value - wan
        self.seconds += time.monotonic() - at

    def each(self, idle):
        """Microseconds in each region and bytes between regions, above what goes on at rest."""
        cpu = {name: (self.cpu[name] - idle["cpu"][name] * self.seconds) / self.count * 1e6 for name in self.cpu}
        told = {f"{name}_cpu_us": round(us, 1) for name, us in cpu.items()}
        told["count"], told["a_second"] = self.count, round(self.count / self.seconds)
        if self.cluster.wan.counts:
            told["wan_bytes"] = round((self.wan - idle["wan"] * self.seconds) / self.count)
            told["wan_bytes_with_idle"] = round(self.wan / self.count)
        return told


class Bench:
    def __init__(self, cluster):
        self.cluster = cluster
        self.home, self.away = cluster.names[0], cluster.names[1]
        self.run = base64.b32encode(random.randbytes(5)).decode().lower()
        self.users = [f"cost-{self.run}-{n}" for n in range(USERS)]
        self.number = 0
        self.texts = random.Random(1)

    async def prepare(self):
        self.lines = [await Line().open(self.cluster, self.home) for _ in self.users]
        self.groups = []
        for group in range(GROUPS):
            members = self.users[group::GROUPS]
            body = {"kind": "group", "title": f"g{group}", "members": members[1:]}
            made = await self.lines[0].call("POST", "/v1/conversations", members[0], body, f"{self.run}-g{group}")
            self.groups.append(json.loads(made)["id"])
        self.posted = {group: [] for group in self.groups}

    def group(self, user):
        return self.groups[user % GROUPS]

    def text(self):
        length = self.texts.randint(80, 200)
        text = ""
        while len(text) < length:
            text += self.texts.choice(WORDS) + " "
        return text[:length]

    async def each(self, count, what, rate=None):
        """All connections at once, each with one call under way; or at even times."""
        began, started = time.monotonic(), 0

        async def work(user):
            nonlocal started
            while started < count:
                n = started
                started += 1
                if rate:
                    await asyncio.sleep(max(0, began + n / rate - time.monotonic()))
                await what(self.lines[user], user, n)

        await asyncio.gather(*(work(user) for user in range(USERS)))

    async def post(self, line, user, _n=0):
        self.number += 1
        path = f"/v1/conversations/{self.group(user)}/messages"
        answer = await line.call("POST", path, self.users[user], {"text": self.text()}, f"{self.run}-{self.number}")
        self.posted[self.group(user)].append((json.loads(answer)["id"], line.cursor))

    async def idle(self, seconds=10):
        await asyncio.sleep(2)
        with Measure(self.cluster) as at_rest:
            await asyncio.sleep(seconds)
        cpu = {name: spent / at_rest.seconds for name, spent in at_rest.cpu.items()}
        self.at_rest = {"cpu": cpu, "wan": at_rest.wan / at_rest.seconds}
        return {
            "cpu_ms_a_second": {name: round(spent * 1e3, 2) for name, spent in cpu.items()},
            "wan_bytes_a_second": round(self.at_rest["wan"]),
        }

    async def accept(self, *options, region=None):
        """`whimbrel bench accept`: its generator is thin, and its texts are those that --texts gives."""
        command = [self.cluster.whimbrel, "bench", "accept", "--json", "--warmup", "0s", *options]
        command += ["--dev", str(self.cluster.folder), "--region", region or self.home]
        run = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        return json.loads((await run.communicate())[0])

    async def step_post(self):
        told = {}
        for name, options in {
            "closed_64": ["--clients", "64", "--messages", "50000"],
            "closed_256": ["--clients", "256", "--messages", "50000"],
        }.items():
            with Measure(self.cluster) as it:
                accepted = await self.accept(*options)
            it.count = accepted["accepted"]
            told[name] = it.each(self.at_rest) | {"text_bytes": accepted["texts"]["mean_bytes"]}
        return told

    async def step_wan(self):
        """At even times: what is sent for each message, and what for each second."""
        told = {}
        for rate, regions in [(100, self.cluster.names[:1]), (300, None), (1_000, None), (2_000, None)]:
            regions = regions or self.cluster.names
            each = max(1, rate // len(regions))
            with Measure(self.cluster) as it:
                runs = (self.accept("--rate", str(each), "--messages", str(each * 15), region=name) for name in regions)
                it.count = sum(run["accepted"] for run in await asyncio.gather(*runs))
            told[f"{rate}_in_{len(regions)}"] = {
                "messages_a_second": round(it.count / it.seconds),
                "wan_bytes_a_second": round(it.wan / it.seconds),
                "cpu_ms_a_second": {name: round(cpu / it.seconds * 1e3, 1) for name, cpu in it.cpu.items()},
            }
        return told

    async def step_calls(self, kinds="post,marker,reaction,page", rounds=25):
        """Kinds of calls in turns, so that what else goes on meets them all alike."""
        kinds = {name: Measure(self.cluster) for name in kinds.split(",")}
        emoji, page, told = quote("\N{THUMBS UP SIGN}"), b"", {}

        async def mark(line, user, group, n):
            cursor = self.posted[group][n - 15][1]
            await line.call("PUT", f"/v1/conversations/{group}/read", self.users[user], {"cursor": cursor})

        async def react(line, user, group, n):
            message = self.posted[group][n - 15][0]
            path = f"/v1/conversations/{group}/messages/{message}/reactions/{emoji}"
            await line.call("PUT", path, self.users[user], {})

        async def read(line, user, group, _n):
            nonlocal page
            page = await line.call("GET", f"/v1/conversations/{group}/messages?limit=50", self.users[user])

        calls = {"post": lambda line, user, *_: self.post(line, user), "marker": mark, "reaction": react, "page": read}
        for _ in range(rounds):
            for group in self.posted.values():
                group.clear()
            # Users mark, in order, and react to the newest of this round; then nothing is unread.
            for name, it in kinds.items():

                async def work(user, line):
                    for n in range(15):
                        await calls[name](line, user, self.group(user), n)

                with it:
                    await asyncio.gather(*(work(user, line) for user, line in enumerate(self.lines)))
                it.count += 15 * USERS
                told[name] = {"answer_bytes": self.lines[0].answer_bytes}
        for name, it in kinds.items():
            each = it.each(self.at_rest)
            told[name] |= each
            for region in [self.home, self.away]:
                key = f"{region}_cpu_us"
                told[name][f"{region}_of_a_post"] = round(each[key] / told["post"][key], 2)
        if page:
            told["page"] |= {"messages": len(json.loads(page)["messages"])}
            told["page"]["gzip_share"] = round(len(gzip.compress(page, 6)) / len(page), 3)
        return told

    async def step_token(self, tokens=2_000):
        """A cheap call with a token that the node has not seen, and with one that it has."""
        command = [self.cluster.whimbrel, "token", "--ttl", "1d", "--dev", str(self.cluster.folder), "--user"]
        made = []
        for n in range(tokens):
            made.append(subprocess.check_output([*command, f"token-{self.run}-{n}"], text=True).strip())
        line = await Line().open(self.cluster, self.home)
        told = {}
        for name in ["new", "seen"]:
            with Measure(self.cluster) as it:
                for token in made:
                    line.token = token
                    await line.call("GET", "/v1/conversations?limit=1")
                it.count = tokens
            told[f"{name}_cpu_us"] = it.each(self.at_rest)[f"{self.home}_cpu_us"]
        return told

    async def step_deliver(self, rounds=10, posts=1_000):
        """Listeners in another region, in turns: none, one for each group, four for each."""
        kinds = {"none": 0, "one": GROUPS, "four": USERS}
        measures = {name: Measure(self.cluster) for name in kinds}
        for _ in range(rounds):
            for name, listeners in kinds.items():
                seen, lines, tasks = [0, 0], [], []
                for user in self.users[:listeners]:
                    line = await Line().open(self.cluster, self.away)
                    await line.stream(user)
                    lines.append(line)
                    tasks.append(asyncio.create_task(line.listen(seen)))
                await asyncio.sleep(0.5)
                with measures[name] as it:
                    await self.each(posts, self.post)
                    wanted, deadline = posts * listeners // GROUPS, time.monotonic() + 30
                    while seen[0] < wanted and time.monotonic() < deadline:
                        await asyncio.sleep(0.05)
                it.count += posts
                if seen[0] < wanted:
                    raise SystemExit(f"{seen[0]} of {wanted} events came in 30 s")
                for task, line in zip(tasks, lines):
                    task.cancel()
                    line.writer.close()
        told = {name: it.each(self.at_rest) for name, it in measures.items()}
        none, one, four = (told[name][f"{self.away}_cpu_us"] for name in kinds)
        post = told["none"][f"{self.home}_cpu_us"]
        event = json.loads(lines[0].last)
        return told | {
            "first_listener_of_a_post": round((one - none) / post, 3),
            "further_listener_of_a_post": round((four - one) / 3 / post, 3),
            "event_bytes": round(seen[1] / seen[0]),
            "token_bytes": len(event["token"]),
        }

    async def step_streams(self, streams=2_000, seconds=120):
        lines, tasks, seen = [], [], [0, 0]
        before = self.cluster.memory(self.home)
        opening = Measure(self.cluster)
        with opening:
            for n in range(streams):
                line = await Line().open(self.cluster, self.home)
                await line.stream(self.users[n % USERS])
                lines.append(line)
                tasks.append(asyncio.create_task(line.listen(seen)))
        opening.count = streams
        with Measure(self.cluster) as it:
            await asyncio.sleep(seconds)
        memory = self.cluster.memory(self.home) - before
        idle = self.at_rest["cpu"][self.home]
        lost = sum(task.done() for task in tasks)
        for task, line in zip(tasks, lines):
            task.cancel()
            line.writer.close()
        return {
            "streams": streams,
            "lost": lost,
            "memory_bytes": round(memory / streams),
            "open_cpu_us": round((opening.cpu[self.home] - idle * opening.seconds) / streams * 1e6, 1),
            "idle_cpu_us_a_second": round((it.cpu[self.home] / it.seconds - idle) / streams * 1e6, 2),
        }


async def main():
    beside = Path(__file__).resolve().parents[2] / "target/release/whimbrel"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = f"default: all of {' '.join(STEPS)}; calls:KIND,... of post, marker, reaction, page makes these only"
    parser.add_argument("steps", nargs="*", metavar="STEP", help=steps)
    parser.add_argument("--dev", type=Path, required=True, metavar="DIR", help="folder of a cluster that `dev` runs")
    parser.add_argument("--whimbrel", default=str(beside), metavar="PROGRAM", help=f"default: {beside}")
    args = parser.parse_args()
    wrong = {step.partition(":")[0] for step in args.steps} - set(STEPS)
    if wrong:
        parser.error(f"no step {', '.join(sorted(wrong))}; there are: {' '.join(STEPS)}")
    if not (args.dev / "dev.json").exists():
        parser.error(f"--dev {args.dev} has no dev.json: start `whimbrel-node dev --data {args.dev}` first")
    bench = Bench(Cluster(args.dev, args.whimbrel))
    await bench.prepare()
    # All others are above what goes on at rest.
    print(json.dumps({"idle": await bench.idle()}), flush=True)
    for step in args.steps or STEPS[1:]:
        name, _, kinds = step.partition(":")
        if name != "idle":
            measured = await getattr(bench, f"step_{name}")(*[kinds] if kinds else [])
            print(json.dumps({step: measured}), flush=True)


if __name__ == "__main__":
    # The load is one thread; without it the interpreter would wait for itself.
    sys.exit(asyncio.run(main()))
