"""Many clients at once, and clients that hold or send too much: what they cost the database, others and memory.

LOAD_ROUNDS=2000 repeats the traffic for about an hour (5). Everything stays on this machine."""

import os
import resource
import selectors
import socket
import statistics
import threading
import time

from harness import *

ROUNDS = int(os.environ.get("LOAD_ROUNDS", "5"))
IDLE, SLOW, LARGE = 2000, 100, 20
GIGABYTE = 1 << 30


def statements_of_program():
    """How many statements the roles have sent, which the server's log has."""
    with open(f"{SOCKET_DIR}/server.log", encoding="utf-8", errors="replace") as log:
        return sum(" LOG:  " in line and ("execute " in line or "statement: " in line) and "postgres@" not in line for line in log)


def log_statements(on):
    sql(f"ALTER SYSTEM SET log_statement = '{'all' if on else 'none'}'")
    sql("SELECT pg_reload_conf()")
    until(lambda: value("SHOW log_statement") == ("all" if on else "none"), "the setting is known")


def listener(client, source=None):
    """A tab's stream, as a socket that has read the reply's head."""
    connection = from_address(client.program, source)
    connection.sendall(f"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the stream says {head[:100]!r}")
    return connection


def from_address(program, source=None):
    """A connection, from another of this machine's addresses: the program bounds those of one."""
    return socket.create_connection(("127.0.0.1", program.port), timeout=DEADLINE, source_address=(source, 0) if source else None)


def samples_until(tabs, wanted):
    """Reads all streams until each has brought that number of samples."""
    deadline = time.monotonic() + DEADLINE
    missing = len(tabs)
    with selectors.DefaultSelector() as selector:
        for tab in tabs:
            selector.register(tab, selectors.EVENT_READ, [0, b""])
        while missing:
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited in vain: {wanted} samples in each of {len(tabs)} tabs")
            for key, _ in selector.select(1):
                state = key.data
                received = state[1] + key.fileobj.recv(1 << 20)
                seen = state[0] + received.count(b"event: sample\n")
                missing -= state[0] < wanted <= seen
                state[:] = seen, received[received.rfind(b"\n") + 1:]


def cost_of(tabs, samples=20):
    """How many statements the samples take, from one to another."""
    samples_until(tabs, 1)
    before = statements_of_program()
    samples_until(tabs, samples)
    return statements_of_program() - before


def test_tabs():
    """Open tabs cost the database what one costs; with none it is asked nothing."""
    with Program() as program:
        clients = [program.login(role) for role in ("admin", "monitor") for _ in range(8)]
        log_statements(True)
        tabs = [listener(clients[0])]
        one = cost_of(tabs)
        tabs += [listener(clients[i % len(clients)]) for i in range(199)]
        many = cost_of(tabs)
        ok(one >= 20, "each sample is read from the database")
        # Roles that may read errors see other checks of health than those that may not.
        ok(many <= one * 1.25, f"20 samples for 200 tabs of 16 sessions take {many} statements, and for one tab {one}")
        for tab in tabs:
            tab.close()
        until(lambda: web_connections() == 0, "the connections are closed")
        quiet = statements_of_program()
        for _ in range(300):
            program.request("GET", "/healthz")
        equal((web_connections(), statements_of_program() - quiet), (0, 0), "with no tab the database is asked nothing")
        log_statements(False)


class Slow:
    """Clients that send a byte per second of a request that never ends."""

    def __init__(self, program, count):
        self.program, self.count, self.sent, self.renewed = program, count, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        head = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 100000
        clients = {}
        while not self.ended.wait(1):
            while len(clients) < self.count:
                clients[from_address(self.program, "127.0.0.3")] = 0
                self.renewed += 1
            for client, at in list(clients.items()):
                try:
                    client.send(head[at:at + 1])
                    clients[client] = at + 1
                    self.sent += 1
                except OSError:
                    client.close()
                    del clients[client]
        for client in clients:
            client.close()

    def stop(self):
        self.ended.set()
        self.thread.join()


def send_large(program, headers, results):
    """Sends a gigabyte, until the program closes; adds what was sent and what it said."""
    sent, said = 0, b""
    with from_address(program, "127.0.0.4") as connection:
        try:
            connection.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + headers + b"\r\n\r\n")
            while sent < GIGABYTE:
                sent += connection.send(b"x" * 65536)
        except OSError:
            pass
        try:
            said = connection.recv(4096)
        except OSError:
            pass
    results.append((sent, said[9:12]))


def latencies(client, calls=200):
    """The times of calls, each of which has to succeed, in milliseconds."""
    times = []
    failed = 0
    for _ in range(calls):
        started = time.monotonic()
        failed += client.get("/queues").status != 200
        times.append((time.monotonic() - started) * 1000)
    return times, failed


def answered_clients(program, count):
    """Connections that have had an answer, and keep theirs open."""
    clients = [from_address(program, "127.0.0.2") for _ in range(count)]
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for client in clients:
        if b" 200 " not in client.recv(4096):
            raise RuntimeError("an idle client was not answered")
        client.setblocking(False)
    return clients


def is_open(client):
    """Whether the program has not closed a connection that has nothing to read."""
    try:
        return client.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def idle_clients(program, count):
    """That number of them at once: on a slow machine the program closes the first ones before the last one is answered, and others take their place."""
    clients = set()
    def all_are_open():
        gone = {client for client in clients if not is_open(client)}
        for client in gone:
            client.close()
        clients.difference_update(gone)
        clients.update(answered_clients(program, min(count - len(clients), 200)))
        return len(clients) == count and all(map(is_open, clients))
    until(all_are_open, f"{count} idle clients are connected")
    return clients


def test_bad_clients():
    """Idle clients, slow ones and those that send too much neither stop nor slow others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Program("--max-connections-per-address", "2500") as program:
        client = program.login("admin")
        alone, _ = latencies(client)
        idle = idle_clients(program, IDLE)
        ok(len(os.listdir(f"/proc/{program.process.pid}/fd")) > IDLE, f"{IDLE} idle clients are connected")
        slow = Slow(program, SLOW)
        until(lambda: slow.sent >= SLOW, "the slow clients send")
        results = []
        large = [threading.Thread(target=send_large, args=(program, headers, results))
                 for headers in (f"Content-Length: {GIGABYTE}".encode(),
                                 b"Transfer-Encoding: chunked\r\n\r\n40000000",
                                 f"Content-Length: {GIGABYTE}\r\nCookie: {client.cookie}".encode(),
                                 f"Transfer-Encoding: chunked\r\nCookie: {client.cookie}\r\n\r\n40000000".encode())
                 for _ in range(LARGE // 4)]
        for thread in large:
            thread.start()
        beside, failed = latencies(client)
        for thread in large:
            thread.join()
        more, failed_more = latencies(client)
        print(f"# a call takes {statistics.median(alone):.1f} ms alone, {statistics.median(beside):.1f} beside {IDLE} idle, {SLOW} slow "
              f"and {LARGE} large clients, {statistics.median(more):.1f} beside the first two (medians of 200; "
              f"at most {max(alone):.0f}, {max(beside):.0f}, {max(more):.0f})", flush=True)
        equal(failed + failed_more, 0, "400 calls beside them are answered")
        equal(len(results), LARGE, "all that send a gigabyte have ended")
        ok(max(sent for sent, _ in results) < 32 << 20, f"none was let send more than its connection holds: {max(results)}")
        ok({said for _, said in results} <= {b"401", b"413", b""}, f"they were told: {sorted({said for _, said in results})}")
        print(f"# the slow clients have sent {slow.sent} bytes over {slow.renewed} connections", flush=True)
        slow.stop()
        for each in idle:
            each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_of(program):
    """What the process holds, in kB."""
    with open(f"/proc/{program.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def traffic(program, clients):
    """A little of everything: logins, pages, changes, errors, streams, connections that break off."""
    for client in clients:
        for path in ("/jobs", "/queues", "/dlq", "/dlq/groups", "/overview", "/history", "/audit?limit=5", "/nosuch", "/jobs/x"):
            client.get(path)
        job = client.post("/jobs", {"task_identifier": "load", "payload": {"text": "x" * 5000}}).json.get("id")
        client.post(f"/jobs/{job}/cancel")
    other = program.login("admin")
    other.call("POST", "/logout")
    tabs = [listener(clients[0]) for _ in range(5)]
    samples_until(tabs, 1)
    for tab in tabs:
        tab.close()
    for data in (b"GET / HTTP/1.1\r\nHost:", b"\0" * 3000, b"GET /assets/app.css HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        program.raw(data)
    program.request("GET", "/", headers={"X-Filler": "x" * 3000})


def test_memory():
    """Traffic that is repeated does not take more and more memory."""
    with Program() as program:
        clients = [program.login("admin") for _ in range(5)]
        held = []
        for _ in range(ROUNDS):
            for _ in range(5):
                traffic(program, clients)
            held.append(memory_of(program))
        shown = held if len(held) <= 12 else held[::max(1, len(held) // 12)]
        print(f"# memory after each of {ROUNDS} rounds, in kB: {shown}", flush=True)
        # What is kept of the last hour's samples grows to a limit; that is a few hundred kB.
        ok(held[-1] - held[len(held) // 2] < 4096, f"it holds {held[len(held) // 2]} kB half-way and {held[-1]} kB at the end")


if __name__ == "__main__":
    run(globals())
