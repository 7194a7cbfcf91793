#!/usr/bin/python3 -IS
# fairway cni plugin: hands what the runtime says to Fairway's agent, and its answer back. Written by `fairway cni install`.
#
# The same as shim.pl, for machines without Perl. It imports nothing that is not built in until it has to: a runtime
# starts it for every container. What it says to the agent: net/cni/wire.py in Fairway.
import _socket
import posix
import sys

SOCKET = "@SOCKET@"
PENDING = "@PENDING@"
SECONDS = 60.0  # for the agent to answer in


def main():
    environment = posix.environ
    command = environment.get(b"CNI_COMMAND", b"").decode(errors="replace")
    stdin = sys.stdin.buffer.read()
    if command == "VERSION":
        answer('{"cniVersion":"%s","supportedVersions":[@VERSIONS@]}' % version(stdin), 0)
    wanted = [(k, v) for k, v in environment.items() if k.startswith(b"CNI_") or k == b"TRACEPARENT"]
    request = b"".join(k + b"=" + v + b"\0" for k, v in wanted) + b"\0" + stdin
    head, _, body = ask(request).partition(b"\n")
    words = head.split()
    if len(words) == 2 and words[0].isdigit() and words[1] == str(len(body)).encode():
        posix.write(1, body)
        posix._exit(int(words[0]))
    if command == "DEL":
        for name in (b"CNI_CONTAINERID", b"CNI_IFNAME"):
            if not environment.get(name):
                fail(stdin, 4, name.decode() + " is not set", "")
        try:
            journal(request)
        except OSError as error:
            fail(stdin, 11, "the agent is down, and the deletion could not be noted for it", str(error))
        posix._exit(0)
    code = 50 if command == "STATUS" else 11
    fail(stdin, code, "Fairway's agent does not answer at " + SOCKET, "start it: fairway agent")


def ask(request):
    """The agent's answer; short or empty if the agent is down, or ends before it has answered."""
    answer = b""
    try:
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        agent.settimeout(SECONDS)
        agent.connect(SOCKET)
        agent.sendall(request)
        agent.shutdown(_socket.SHUT_WR)
        while piece := agent.recv(65536):
            answer += piece
    except OSError:
        pass
    return answer


def journal(request):
    """Note a deletion durably for the agent that comes."""
    import time

    try:
        posix.mkdir(PENDING, 0o700)
    except FileExistsError:
        pass
    name = "%s/%d.%d" % (PENDING, time.time(), posix.getpid())
    try:
        file = posix.open(name + ".new", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600)
        if posix.write(file, request) != len(request):
            raise OSError("written in part")
        posix.fsync(file)
        posix.rename(name + ".new", name)
    except OSError:
        try:
            posix.unlink(name + ".new")
        except FileNotFoundError:
            pass
        raise
    folder = posix.open(PENDING, posix.O_RDONLY)
    posix.fsync(folder)


def version(stdin):
    _, _, rest = stdin.partition(b'"cniVersion"')
    found = rest.split(b'"')[1].decode(errors="replace") if rest.count(b'"') > 1 else ""
    return found if found and not found.strip("0123456789.") else "1.0.0"


def fail(stdin, code, message, details):
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (message, details)]
    answer('{"cniVersion":"%s","code":%d,"msg":"%s","details":"%s"}' % (version(stdin), code, *quoted), 1)


def answer(text, code):
    posix.write(1, text.encode() + b"\n")
    posix._exit(code)


if __name__ == "__main__":
    main()
