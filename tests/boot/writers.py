"""Applications that report usage: what they were answered is what the books must say."""

import threading
import time

from machine import Socket


class Writer(threading.Thread):
    """Reports one request after the other, each with a key. Where a connection ends before its answer it sends the same
    again, as the README tells every writer to. `each` makes a connection for every increment."""

    def __init__(self, path, name, each=False):
        super().__init__(daemon=True)
        self.path, self.who, self.each = path, name, each
        self.acknowledged = self.again = self.refused = 0
        self.slowest = 0.0
        self.failed = []
        self.stopping = False

    def run(self):
        connection = None
        while not self.stopping:
            key = f"{self.who}-{self.acknowledged}"
            begun = time.monotonic()
            while True:
                try:
                    if connection is None:
                        connection = Socket(self.path)
                    answer = connection.ask('{"dimension":"requests","quantity":1,"key":"%s"}' % key)
                    if answer.get("recorded") != "no":
                        break
                    # Told to come back: only where the index of keys is not open in time, on a machine that is very busy.
                    self.refused += 1
                    time.sleep(0.1)
                except (ConnectionResetError, BrokenPipeError, ConnectionError) as error:
                    if isinstance(error, ConnectionRefusedError):
                        self.failed.append(repr(error))
                        return
                    self.again += 1
                    connection = None
                except OSError as error:
                    self.failed.append(repr(error))
                    return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if not answer["ok"]:
                self.failed.append(str(answer))
                return
            self.acknowledged += 1
            if self.each:
                connection.close()
                connection = None
            time.sleep(0.002)


class Load:
    """Several of them, some with a connection that lasts."""

    total = 0

    def __init__(self, path, name):
        self.writers = [Writer(path, f"{name}-{n}", each=n % 2 == 0) for n in range(4)]
        for writer in self.writers:
            writer.start()

    def acknowledged(self):
        return sum(writer.acknowledged for writer in self.writers)

    def stop(self):
        """Ends them; what they have to say. Each acknowledged increment counts for the books."""
        for writer in self.writers:
            writer.stopping = True
        for writer in self.writers:
            writer.join()
        failed = [why for writer in self.writers for why in writer.failed]
        assert not failed, f"failed writes: {failed}"
        Load.total += self.acknowledged()
        again, refused = sum(w.again for w in self.writers), sum(w.refused for w in self.writers)
        told = f", {refused} told to come back" if refused else ""
        slowest = max(w.slowest for w in self.writers)
        return f"{self.acknowledged()} writes, none failed, {again} sent again{told}, the slowest took {slowest:.2f} s"
