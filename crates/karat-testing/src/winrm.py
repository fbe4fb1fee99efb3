"""A Windows machine's WinRM, as far as a test needs one: the protocol of MS-WSMV with its login, and
behind it not Windows but `sh`, and of PowerShell only what our own scripts that move files do.

    winrm.py FOLDER USER [WAY]     WAY: basic (as it is by itself), ntlm

Files of `C:/` lie in FOLDER/C. The password is what the file FOLDER/password holds. The first line
printed is the port. `GET /counts` tells how many requests there were of each kind.
"""

import base64
import hmac
import http.server
import json
import os
import re
import secrets
import struct
import subprocess
import sys
import threading
import time
import uuid
import xml.etree.ElementTree as xml
from xml.sax.saxutils import escape

ROOT, USER = sys.argv[1], sys.argv[2]
WAY = sys.argv[3] if len(sys.argv) > 3 else "basic"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
NAMES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
}
LARGEST = 153600
LOCK = threading.Lock()
SHELLS, COMMANDS, COUNTS = {}, {}, {}
AWAY = [0.0]


def password():
    with open(os.path.join(ROOT, "password"), encoding="utf-8") as file:
        return file.read()


def md4(data):
    """RFC 1320; OpenSSL 3 has it no longer."""
    mask = 0xFFFFFFFF
    turn = lambda x, n: ((x << n) | (x >> (32 - n))) & mask
    data = data + b"\x80" + b"\0" * ((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    rounds = [
        (lambda x, y, z: (x & y) | (~x & z), 0, (3, 7, 11, 19), list(range(16))),
        (lambda x, y, z: (x & y) | (x & z) | (y & z), 0x5A827999, (3, 5, 9, 13),
         [r + 4 * c for r in range(4) for c in range(4)]),
        (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, (3, 9, 11, 15),
         [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]),
    ]
    for block in range(0, len(data), 64):
        words = struct.unpack("<16I", data[block:block + 64])
        a, b, c, d = state
        for mix, add, turns, order in rounds:
            for step, index in enumerate(order):
                value = (a + mix(b, c, d) + words[index] + add) & mask
                a, b, c, d = d, turn(value, turns[step % 4]), b, c
        state = [(old + new) & mask for old, new in zip(state, (a, b, c, d))]
    return struct.pack("<4I", *state)


def buffer_of(message, at):
    length, _, offset = struct.unpack_from("<HHI", message, at)
    return message[offset:offset + length]


def challenge(own):
    """NTLM's second message, with the server's name and time."""
    name = "WINDOWS".encode("utf-16-le")
    now = int((time.time() + 11644473600) * 10_000_000)
    info = struct.pack("<HH", 1, len(name)) + name + struct.pack("<HHq", 7, 8, now) + b"\0" * 4
    flags = 0x00800000 | 0x00080000 | 0x00020000 | 0x00008000 | 0x00000200 | 0x00000004 | 1
    head = b"NTLMSSP\0" + struct.pack("<IHHII", 2, len(name), len(name), 56, flags) + own
    head += b"\0" * 8 + struct.pack("<HHI", len(info), len(info), 56 + len(name)) + b"\0" * 8
    return head + name + info


def proves(message, own):
    """Whether NTLM's third message proves the password."""
    response, domain, user = (buffer_of(message, at) for at in (20, 28, 36))
    if user.decode("utf-16-le").lower() != USER.lower() or len(response) < 44:
        return False
    key = md4(password().encode("utf-16-le"))
    key = hmac.new(key, user.decode("utf-16-le").upper().encode("utf-16-le") + domain, "md5")
    proof = hmac.new(key.digest(), own + response[16:], "md5").digest()
    return hmac.compare_digest(proof, response[:16])


def place(given):
    """Where a path of the machine lies here."""
    given = given.replace("$env:TEMP", "C:/Windows/Temp").replace("%TEMP%", "C:/Windows/Temp")
    given = given.replace("\\", "/")
    drive = re.match(r"([A-Za-z]):/*(.*)", given)
    parts = [drive[1].upper(), drive[2]] if drive else ["C/Users", USER, given]
    return os.path.normpath(os.path.join(ROOT, *parts))


class Failed(Exception):
    pass


class Command:
    """A command: what it prints is kept until somebody asks."""

    def __init__(self, line):
        self.ready = threading.Condition()
        self.pieces, self.code, self.input = [], None, b""
        self.process = self.work = None
        script = re.fullmatch(r"powershell(?:\.exe)? .*-EncodedCommand (\S+)", line.strip(), re.I | re.S)
        if script:
            self.start_script(base64.b64decode(script[1]).decode("utf-16-le"))
        elif re.match(r"shutdown\b.*/r", line):
            AWAY[0] = time.time() + 3
        else:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True)
            pipes = [threading.Thread(target=self.follow, args=(name, pipe)) for name, pipe in
                     (("stdout", self.process.stdout), ("stderr", self.process.stderr))]
            for pipe in pipes:
                pipe.start()
            threading.Thread(target=self.wait, args=(pipes,), daemon=True).start()

    def say(self, name, data):
        with self.ready:
            self.pieces.append((name, data))
            self.ready.notify_all()

    def end(self, code):
        with self.ready:
            if self.code is None:
                self.code = code
            self.ready.notify_all()

    def follow(self, name, pipe):
        while data := os.read(pipe.fileno(), 32768):
            self.say(name, data)

    def wait(self, pipes):
        code = self.process.wait()
        for pipe in pipes:
            pipe.join()
        self.end(code if code >= 0 else 0xC000013A)

    def start_script(self, script):
        at = re.search(r"\$at='([^']*)'", script)
        at = place(base64.b64decode(at[1]).decode()) if at else None
        if "process{" in script:
            self.work = lambda: self.receive(at)
        elif names := re.search(r"\$names=@\(([^)]*)\)", script):
            names = [place(base64.b64decode(n.strip("'")).decode()) for n in names[1].split(",")]
            self.run(lambda: [os.remove(name) for name in names if os.path.exists(name)])
        elif at is None:
            self.run(lambda: self.fail("it is no script that this machine knows"))
        else:
            folder = "$folder=$true" in script
            threading.Thread(target=lambda: self.run(lambda: self.send(at, folder)), daemon=True).start()

    def fail(self, why):
        raise Failed(why)

    def run(self, work):
        try:
            work()
            self.end(0)
        except (Failed, OSError) as error:
            text = f"<S S=\"Error\">{escape(str(error))}_x000D__x000A_</S><S S=\"Error\">At line:1</S>"
            space = "http://schemas.microsoft.com/powershell/2004/04"
            text = f"#< CLIXML\r\n<Objs Version=\"1.1.0.1\" xmlns=\"{space}\">{text}</Objs>"
            self.say("stderr", text.encode())
            self.end(1)

    def receive(self, at):
        file = part = to = None
        for line in self.input.decode().split("\r\n"):
            if not line or line[0] in "<>":
                if file:
                    file.close()
                    if os.path.isdir(to):
                        raise Failed(f"{to} is a folder")
                    os.replace(part, to)
                    file = None
                if not line:
                    continue
                name = base64.b64decode(line[1:]).decode()
                to = os.path.join(at, name) if name else at
                os.makedirs(to if line[0] == "<" else os.path.dirname(to), exist_ok=True)
                if line[0] == ">":
                    part = to + ".part"
                    file = open(part, "wb")
            else:
                file.write(base64.b64decode(line, validate=True))

    def send(self, at, folder):
        if not os.path.exists(at):
            raise Failed(f"{at} does not exist")
        if os.path.isdir(at) != folder:
            raise Failed(f"{at} is {'no' if folder else 'a'} folder")
        packed = lambda text: base64.b64encode(text.encode()).decode()
        line = lambda text: self.say("stdout", (text + "\r\n").encode())

        def one(path, name):
            line(">" + packed(name))
            with open(path, "rb") as file:
                while data := file.read(49152):
                    line(base64.b64encode(data).decode())

        if not folder:
            return one(at, "")
        for top, folders, files in os.walk(at):
            below = lambda name: os.path.relpath(os.path.join(top, name), at)
            for name in folders:
                line("<" + packed(below(name)))
            for name in files:
                one(os.path.join(top, name), below(name))

    def give(self, data, end):
        if self.work:
            self.input += data
            if end:
                self.run(self.work)
            return
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
            if end:
                self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            pass

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.end(0xC000013A)


class Fault(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    own = None
    asked = ""

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(COUNTS).encode())

    def lets_in(self):
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        offers = [("WWW-Authenticate", "Negotiate" if WAY == "ntlm" else 'Basic realm="WSMAN"')]
        if WAY == "basic" and kind == "Basic":
            given = base64.b64decode(value).decode()
            if given == f"{USER}:{password()}":
                return True
        if WAY == "ntlm" and kind == "Negotiate":
            message = base64.b64decode(value)
            if message[8] == 1:
                self.own = secrets.token_bytes(8)
                text = base64.b64encode(challenge(self.own)).decode()
                self.answer(401, headers=[("WWW-Authenticate", f"Negotiate {text}")])
                return False
            own, self.own = self.own, None
            if own and proves(message, own):
                return True
        self.answer(401, headers=offers)
        return False

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if time.time() < AWAY[0]:
            self.close_connection = True
            return
        if not self.lets_in():
            return
        try:
            if len(body) > LARGEST:
                raise Fault(2150858885, "The request is larger than MaxEnvelopeSize.")
            text = self.serve(xml.fromstring(body))
        except Fault as fault:
            text = (f"<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text "
                    f"xml:lang=\"en-US\">{escape(str(fault))}</s:Text></s:Reason><s:Detail>"
                    f"<f:WSManFault xmlns:f=\"http://schemas.microsoft.com/wbem/wsman/1/wsmanfault\" "
                    f"Code=\"{fault.code}\" Machine=\"h\"><f:Message>{escape(str(fault))}"
                    f"</f:Message></f:WSManFault></s:Detail></s:Fault>")
            self.answer(500, self.wrap("fault", text))
            return
        if text is None:
            self.close_connection = True
            return
        self.answer(200, self.wrap(*text))

    def wrap(self, action, body):
        spaces = " ".join(f'xmlns:{short}="{long}"' for short, long in NAMES.items())
        return (f"<s:Envelope xml:lang=\"en-US\" {spaces}><s:Header><a:Action>{action}</a:Action>"
                f"<a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
                f"<a:RelatesTo>{self.asked}</a:RelatesTo></s:Header><s:Body>{body}</s:Body>"
                f"</s:Envelope>").encode()

    def serve(self, top):
        find = lambda path: top.find(path, NAMES)
        action = find("s:Header/a:Action").text.strip()
        self.asked = escape(find("s:Header/a:MessageID").text)
        kind = action.rsplit("/", 1)[1]
        with LOCK:
            COUNTS[kind] = COUNTS.get(kind, 0) + 1
        if find("s:Header/w:ResourceURI").text.strip() != f"{SHELL}/cmd":
            raise Fault(2150858752, "The resource is not known.")
        if action == f"{TRANSFER}/Create":
            shell = str(uuid.uuid4()).upper()
            SHELLS[shell] = {}
            made = (f"<x:ResourceCreated xmlns:x=\"{TRANSFER}\"><a:ReferenceParameters>"
                    f"<w:ResourceURI>{SHELL}/cmd</w:ResourceURI><w:SelectorSet><w:Selector "
                    f"Name=\"ShellId\">{shell}</w:Selector></w:SelectorSet></a:ReferenceParameters>"
                    f"</x:ResourceCreated><rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId></rsp:Shell>")
            return (action + "Response", made)
        shell = find("s:Header/w:SelectorSet/w:Selector").text
        if shell not in SHELLS:
            raise Fault(2150858843, "The shell was not found on the server.")
        if action == f"{TRANSFER}/Delete":
            for command in SHELLS.pop(shell).values():
                command.kill()
            return (action + "Response", "")
        return (action + "Response", getattr(self, "on_" + kind.lower())(find, SHELLS[shell]))

    def on_command(self, find, shell):
        line = find("s:Body/rsp:CommandLine/rsp:Command").text
        more = [a.text or "" for a in find("s:Body/rsp:CommandLine").findall("rsp:Arguments", NAMES)]
        name = str(uuid.uuid4()).upper()
        shell[name] = Command(" ".join([line, *more]))
        return f"<rsp:CommandResponse><rsp:CommandId>{name}</rsp:CommandId></rsp:CommandResponse>"

    def on_send(self, find, shell):
        stream = find("s:Body/rsp:Send/rsp:Stream")
        end = stream.get("End", "").lower() in ("true", "1")
        self.known(shell, stream.get("CommandId")).give(base64.b64decode(stream.text or ""), end)
        return "<rsp:SendResponse/>"

    @staticmethod
    def known(shell, name):
        if name not in shell:
            raise Fault(2150859174, "The command is not known.")
        return shell[name]

    def on_receive(self, find, shell):
        name = find("s:Body/rsp:Receive/rsp:DesiredStream").get("CommandId")
        command = self.known(shell, name)
        # A real one waits for as long as the request says; this one has less patience.
        with command.ready:
            command.ready.wait_for(lambda: command.pieces or command.code is not None, 1)
            if time.time() < AWAY[0]:
                raise ConnectionAbortedError
            taken, room = [], LARGEST // 2
            while command.pieces and room > 0:
                stream, data = command.pieces.pop(0)
                if len(data) > room:
                    command.pieces.insert(0, (stream, data[room:]))
                    data = data[:room]
                room -= len(data)
                taken.append((stream, data))
            ended = command.code if not command.pieces else None
        if not taken and ended is None:
            raise Fault(2150858793, "The operation did not end in the time that was given for it.")
        text = "".join(
            f'<rsp:Stream Name="{stream}" CommandId="{name}">{base64.b64encode(data).decode()}</rsp:Stream>'
            for stream, data in taken)
        state = "Running" if ended is None else "Done"
        code = "" if ended is None else f"<rsp:ExitCode>{ended}</rsp:ExitCode>"
        return (f'<rsp:ReceiveResponse>{text}<rsp:CommandState CommandId="{name}" '
                f'State="{SHELL}/CommandState/{state}">{code}</rsp:CommandState></rsp:ReceiveResponse>')

    def on_signal(self, find, shell):
        # After the end of a command this is how clients forget it.
        self.known(shell, find("s:Body/rsp:Signal").get("CommandId")).kill()
        return "<rsp:SignalResponse/>"

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
