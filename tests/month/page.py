#!/usr/bin/env python3
"""Opens a report's page in a real Chromium and uses it: page.py BROWSER PAGE [SCREENSHOT.png].

Speaks the DevTools protocol over a pair of pipes. Says what is wrong and exits with 1.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile


class Browser:
    def __init__(self, program, profile):
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def pipes():
            # The numbers may be taken: out of the way first.
            one, two = os.dup(to_read), os.dup(to_write)
            os.dup2(one, 3)
            os.dup2(two, 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1280,900", "about:blank"]
        self.process = subprocess.Popen([program, *flags], preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.number, self.session, self.rest, self.events = 0, None, b"", []

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.back, 1 << 16)
            if not more:
                raise SystemExit("the browser ended")
            self.rest += more
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def call(self, method, **params):
        self.number += 1
        call = {"id": self.number, "method": method, "params": params}
        if self.session:
            call["sessionId"] = self.session
        os.write(self.to, json.dumps(call).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message())

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")


def main(program, page, picture):
    wrong = []

    def want(what, is_so):
        if not is_so:
            wrong.append(what)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            browser.call(f"{domain}.enable")
        browser.call("Page.navigate", url=page.resolve().as_uri())
        browser.wait("Page.loadEventFired")
        asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
        want(f"it asks for more than itself: {asked}", [u for u in asked if not u.startswith("file:")] == [] and len(asked) == 1)
        said = [e for e in browser.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
        want(f"the browser complains: {said}", not said)

        want("what AWS said ran as a script", browser.js("window.harmed") is None)
        want("what AWS said is not shown", browser.js("document.body.textContent.includes('<script>window.harmed=1</script>')"))
        browser.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.foreign = 1'}))")
        want("a script that is not its own runs", browser.js("window.foreign") is None)
        want("there are no plots", browser.js("document.querySelectorAll('svg[role=img]').length") >= 2)
        want("no outage is in the plots", browser.js("document.querySelectorAll('svg rect.outage').length") >= 1)
        want("no gap is in the plots", browser.js("document.querySelectorAll('svg rect.away').length") >= 1)
        want("it is wider than its window", browser.js("document.documentElement.scrollWidth <= innerWidth"))

        visible = "[...document.querySelectorAll('#differ tbody tr')].filter(row => !row.hidden)"
        every = browser.js(f"{visible}.length")
        search = "document.querySelector('input[data-for=differ]')"
        browser.js(f"{search}.value = 'CONFLICT requests'; {search}.dispatchEvent(new Event('input'))")
        hits = browser.js(f"{visible}.map(row => row.textContent)")
        want(f"the search finds {hits} of {every}", hits and len(hits) < every and all("conflict" in hit for hit in hits))
        count = browser.js("document.querySelector('output[data-for=differ]').textContent")
        want(f"it counts {count!r}", count == f"{len(hits)} of {every} rows")
        browser.js(f"{search}.value = ''; {search}.dispatchEvent(new Event('input'))")
        want("an empty search hides rows", browser.js(f"{visible}.length") == every)

        column = "[...document.querySelectorAll('#records tbody tr')].map(row => Number(row.cells[2].textContent.replace(/\\u202f/g, '')))"
        before = browser.js(column)
        button = "document.querySelectorAll('#records thead th')[2].querySelector('button')"
        browser.js(f"{button}.click()")
        want("units do not sort upwards", browser.js(column) == sorted(before) and before != sorted(before))
        browser.js(f"{button}.click()")
        want("units do not sort downwards", browser.js(column) == sorted(before, reverse=True))
        if picture:
            browser.js("scrollTo(0, 0)")
            for name, media in [("", "light"), ("-dark", "dark")]:
                browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": media}])
                shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True,
                                    clip={"x": 0, "y": 0, "width": 1280, "height": 3600, "scale": 0.75})
                picture.with_name(picture.stem + name + picture.suffix).write_bytes(base64.b64decode(shot["data"]))
            printed = browser.call("Page.printToPDF", printBackground=True)["data"]
            picture.with_suffix(".pdf").write_bytes(base64.b64decode(printed))
        browser.session = None
        browser.call("Browser.close")
        browser.process.wait(30)
    print("\n".join(wrong) or f"month: the page works in a browser, {len(before)} records in it")
    return 1 if wrong else 0


sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None))
