"""Between a client and bertd, which seems to be of another protocol: rewrites its server id.
  proxy.py SOCKET BERTD_SOCKET ID     ID: the first bytes of the id, in hexadecimal"""
import re, socket, sys, threading


def pump(source, to, rewrite):
    while data := source.recv(65536):
        to.sendall(re.sub(rb"OK [0-9a-f]{32}", rewrite, data, count=1))
    to.shutdown(socket.SHUT_WR)


def main():
    path, bertd, mark = sys.argv[1:]

    def rewrite(found):
        return b"OK " + mark.encode() + found.group()[3 + len(mark):]

    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    while True:
        client, daemon = server.accept()[0], socket.socket(socket.AF_UNIX)
        daemon.connect(bertd)
        for ends in ((client, daemon), (daemon, client)):
            threading.Thread(target=pump, args=(*ends, rewrite), daemon=True).start()


main()
